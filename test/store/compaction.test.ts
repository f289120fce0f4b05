/**
 * Compaction against random histories: every state that is kept reads as before, the check counts every page, and a
 * file of which much is free gets shorter, once.
 */
import test from 'ava';
import { TREE } from '../../src/encoding/keys.ts';
import { History } from '../../src/history/history.ts';
import { MemoryDirectory } from '../../src/storage/memory-device.ts';
import { checkStore } from '../../src/store/check.ts';
import type { CompactionOutcome } from '../../src/store/compactor.ts';
import { Store } from '../../src/store/store.ts';
import { KeptHistory, PAGE_SIZE, POLICIES } from '../helpers/kept-history.ts';
import { Random, seedOf } from '../helpers/random.ts';
import { KEEP_NOTHING } from '../helpers/retention-settings.ts';
import { key, put, read, write } from '../helpers/store-content.ts';

/** Compacts while `meanwhile` is called between the turns of the event loop. */
async function compactWhile(
  store: Store,
  pinning: readonly number[],
  meanwhile: () => void,
): Promise<CompactionOutcome> {
  let outcome: CompactionOutcome | undefined;
  const done = store.compact({ pinning, fullSpeed: true, dryRun: false }).then((result) => {
    outcome = result;
  });
  while (outcome === undefined) {
    meanwhile();
    await Promise.race([done, new Promise((resolve) => setImmediate(resolve))]);
  }
  return outcome;
}

for (const [name, settings] of Object.entries(POLICIES)) {
  test(`random histories are compacted, kept by ${name}`, async (t) => {
    const run = new KeptHistory(t, seedOf(t, name), settings);
    const { random } = run;
    let moved = 0;
    for (let round = 0; round < 3; round++) {
      // Much that goes again, so that there is room.
      run.fill(800);
      for (let i = 0; i < 20; i++) await run.step();
      run.fill(0);
      await run.settle();
      for (let i = 0; i < 10; i++) run.change();
      const { store } = run;
      const pinning = random.below(2) === 0 ? [] : run.history.pinningVersions().map(({ lsn }) => lsn);
      const { moved: result } = await compactWhile(store, pinning, () => {
        if (random.below(3) === 0) run.change();
      });
      moved += result.pages;
      for (let i = 0; i < 10; i++) await run.step();
      await run.settle();
      run.verify();
    }
    t.log(`${moved} pages were moved`);
    await run.store.close();
  });
}

const SETTINGS = { ...KEEP_NOTHING, checkpointIntervalMs: 3_600_000 };

test('half of the file is free: it gets shorter; the second time nothing moves', async (t) => {
  const random = new Random(seedOf(t, 'half free'));
  const directory = new MemoryDirectory('memory');
  Store.initialize(directory);
  const store = Store.open(directory, { background: 'caller', settings: SETTINGS });
  const history = new History(store);
  const kept: { inode: number; bytes: Buffer }[] = [];
  for (let inode = 1; inode <= 400; inode++) {
    const bytes = Buffer.alloc((1 + random.below(24)) * PAGE_SIZE, random.below(256));
    write(store, inode, 0, bytes);
    put(store, inode, 'x'.repeat(500));
    if (inode % 2 === 0) kept.push({ inode, bytes });
    if (inode % 50 === 0) await store.checkpoint();
  }
  for (let inode = 1; inode <= 400; inode += 2) {
    store.live.begin();
    store.live.unmapData(inode, 0, 100);
    store.live.delete(TREE.namespace, key(inode));
    store.live.commit();
  }
  await store.collect(true);
  const before = store.statistics().pages;
  t.true(before.free > before.total / 3, `${before.free} of ${before.total}`);
  const pinning = (): number[] => history.pinningVersions().map(({ lsn }) => lsn);
  const preview = await store.compact({ pinning: pinning(), fullSpeed: true, dryRun: true });
  const done = await store.compact({ pinning: pinning(), fullSpeed: true, dryRun: false });
  t.is(done.cut, preview.cut);
  t.is(preview.moved.pages, 0);
  t.true(done.moved.pages >= done.movable && done.movable > 0, `${done.moved.pages} of ${done.movable}`);
  t.is(done.moved.left, 0);
  await store.collect(true);
  const after = store.statistics().pages;
  t.true(after.total < before.total - before.free / 2, `${before.total} to ${after.total} pages`);
  t.is(store.dataBytes, after.total * PAGE_SIZE);
  t.deepEqual(checkStore(store).problems, []);
  for (const { inode, bytes } of kept) t.true(read(store, inode, 0, bytes.length).equals(bytes), `${inode}`);
  const second = await store.compact({ pinning: pinning(), fullSpeed: true, dryRun: false });
  t.is(second.movable, 0);
  t.is(second.moved.pages, 0);
  await store.close();
});

test('what a snapshot holds stays, and is told by who holds it', async (t) => {
  const directory = new MemoryDirectory('memory');
  Store.initialize(directory);
  const store = Store.open(directory, { background: 'caller', settings: SETTINGS });
  const history = new History(store);
  for (let inode = 1; inode <= 100; inode++) write(store, inode, 0, Buffer.alloc(20 * PAGE_SIZE, inode));
  const snapshot = await history.createSnapshot('kept', '');
  store.live.begin();
  for (let inode = 1; inode <= 60; inode++) store.live.unmapData(inode, 0, 20);
  store.live.commit();
  await store.collect(true);
  const pinning = history.pinningVersions();
  t.deepEqual(
    pinning.map(({ lsn }) => lsn),
    [snapshot.lsn],
  );
  const none = await store.compact({ pinning: [snapshot.lsn], fullSpeed: true, dryRun: false });
  t.is(none.moved.pages, 0);
  await history.deleteSnapshot('kept');
  await store.collect(true);
  const some = await store.compact({ pinning: [], fullSpeed: true, dryRun: false });
  t.true(some.moved.pages > 0);
  await store.collect(true);
  t.true(store.statistics().pages.total < 1200, `${store.statistics().pages.total}`);
  for (let inode = 61; inode <= 100; inode++) {
    t.true(read(store, inode, 0, 20 * PAGE_SIZE).every((byte) => byte === inode));
  }
  t.deepEqual(checkStore(store).problems, []);
  await store.close();
});
