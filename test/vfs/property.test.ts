/**
 * Random operations on a file system against a model in memory: on the fake state with frozen states, and on a
 * store with checkpoints, restarts and states by LSN.
 */
import test from 'ava';
import { MemoryDirectory } from '../../src/storage/memory-device.ts';
import { checkStore } from '../../src/store/check.ts';
import { Store } from '../../src/store/store.ts';
import { checkFileSystem } from '../../src/vfs/check.ts';
import type { VfsOptions } from '../../src/vfs/core.ts';
import { LiveFileSystem } from '../../src/vfs/live-file-system.ts';
import { PastFileSystem } from '../../src/vfs/past-file-system.ts';
import { FakeLiveState } from '../helpers/fake-live-state.ts';
import { Random, seedOf } from '../helpers/random.ts';
import { emptyStatistics } from '../helpers/vfs-fixture.ts';
import { type ModelNode, ModelRun, treeDifferences } from '../helpers/vfs-model.ts';

const OPTIONS: VfsOptions = {
  statistics: () => emptyStatistics(1e6),
  // A small cache: inodes are evicted all the time.
  cachedInodes: 64,
};

for (const pageSize of [4096, 16_384]) {
  test(`a file system does what the model does, page size ${pageSize}`, (t) => {
    const random = new Random(seedOf(t, `vfs ${pageSize}`));
    const state = new FakeLiveState({ pageSize });
    const fs = new LiveFileSystem(state, OPTIONS);
    const run = new ModelRun(fs, random);
    const frozen: { fs: PastFileSystem; root: ModelNode }[] = [];
    for (let i = 0; i < 2500; i++) {
      run.step();
      if (i % 250 === 0) {
        t.deepEqual(checkFileSystem(state), [], `step ${i}`);
        t.deepEqual(treeDifferences(fs, run.root), [], `step ${i}`);
        frozen.push({ fs: new PastFileSystem(state.freeze(), OPTIONS), root: run.root.clone() });
      }
    }
    run.closeAll();
    t.deepEqual(checkFileSystem(state), []);
    t.deepEqual(treeDifferences(fs, run.root), []);
    for (const past of frozen) t.deepEqual(treeDifferences(past.fs, past.root), []);
    t.is(fs.removeOrphans(), 0, 'nothing is left behind when all is closed');
  });
}

test('on a store: checkpoints, restarts, states by LSN', async (t) => {
  const random = new Random(seedOf(t, 'vfs store'));
  const directory = new MemoryDirectory('memory');
  Store.initialize(directory, { segmentSize: 1024 * 1024 });
  const options = { background: 'caller' as const };
  let store = Store.open(directory, options);
  let fs = new LiveFileSystem(store.live, OPTIONS);
  const run = new ModelRun(fs, random);
  const history: { lsn: number; root: ModelNode }[] = [];
  for (let i = 0; i < 2000; i++) {
    run.step();
    if (i % 3 === 0) store.backgroundStep(0);
    if (i % 100 === 50) history.push({ lsn: store.live.lsn, root: run.root.clone() });
    if (i % 200 === 199) {
      await store.checkpoint();
      t.deepEqual(checkStore(store).problems, [], `step ${i}`);
      t.deepEqual(checkFileSystem(store.live), [], `step ${i}`);
    }
    if (i % 500 === 499) {
      await store.commit();
      // A crash: handles are gone, and unlinked files that were open become orphans.
      if (random.below(2) === 0) await store.close();
      else await store.log.close();
      store = Store.open(directory, options);
      fs = new LiveFileSystem(store.live, OPTIONS);
      run.fs = fs;
      run.open.length = 0;
      fs.removeOrphans();
      t.deepEqual(checkFileSystem(store.live), [], `after restart at step ${i}`);
      t.deepEqual(treeDifferences(fs, run.root), [], `after restart at step ${i}`);
    }
  }
  run.closeAll();
  await store.checkpoint();
  t.deepEqual(checkFileSystem(store.live), []);
  t.deepEqual(treeDifferences(fs, run.root), []);
  for (const { lsn, root } of history) {
    const past = store.openState(lsn);
    t.deepEqual(checkFileSystem(past), [], `state at ${lsn}`);
    t.deepEqual(treeDifferences(new PastFileSystem(past, OPTIONS), root), [], `state at ${lsn}`);
  }
  t.deepEqual(checkStore(store).problems, []);
  await store.close();
});
