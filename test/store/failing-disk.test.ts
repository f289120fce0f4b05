/** What the laboratory of failing disks (test/lab/faults.ts) found in the store, each reduced to one case. */
import test from 'ava';
import { type DiskOperation, SimulatedDisk } from '../../src/storage/simulated-disk.ts';
import { checkStore } from '../../src/store/check.ts';
import { Store, type StoreOptions } from '../../src/store/store.ts';
import { key, put, read, write } from '../helpers/store-content.ts';

const OPTIONS: StoreOptions = {
  background: 'caller',
  settings: {
    commitIntervalMs: 3_600_000,
    checkpointIntervalMs: 3_600_000,
    checkpointDirtyBytes: 1024 * 1024,
  },
};

function newStore(options: StoreOptions = OPTIONS): { disk: SimulatedDisk; store: Store } {
  const disk = new SimulatedDisk();
  Store.initialize(disk, { segmentSize: 65536 });
  return { disk, store: Store.open(disk, options) };
}

function failing(errno: string, which: (operation: DiskOperation) => boolean) {
  return (operation: DiskOperation) => (which(operation) ? { errno } : undefined);
}

test('a store whose last sync fails is closed all the same', async (t) => {
  const { disk, store } = newStore();
  put(store, 1, 'one');
  disk.fault = failing('EIO', ({ kind }) => kind === 'sync');
  await t.throwsAsync(store.close(), { code: 'STORE_FAILED' });
  t.is(disk.openDevices, 0);
});

test('what could not be opened or made is let go of, whatever failed', async (t) => {
  const { disk, store } = newStore();
  put(store, 1, 'one');
  await store.commit();
  const killed = disk.clone();
  await store.close();
  for (const from of [disk, killed]) {
    let failures = 0;
    for (let at = 0; ; at++) {
      const copy = from.clone();
      copy.fault = failing('EIO', ({ index }) => index === at);
      let opened: Store;
      try {
        opened = Store.open(copy, OPTIONS);
      } catch {
        failures++;
        t.is(copy.openDevices, 0, `operation ${at}`);
        continue;
      }
      const isOver = copy.operations <= at;
      copy.fault = undefined;
      // A store whose list of free space cannot be read is open for reading, and says why when it is closed.
      const { failure } = opened;
      if (failure === undefined) await opened.close();
      else await t.throwsAsync(opened.close(), { is: failure });
      t.is(copy.openDevices, 0, `operation ${at}`);
      if (isOver) break;
    }
    t.true(failures > 10, `${failures}`);
  }
  for (let at = 0; ; at++) {
    const empty = new SimulatedDisk();
    empty.fault = failing('EIO', ({ index }) => index === at);
    try {
      Store.initialize(empty, { segmentSize: 65536 });
      if (empty.operations <= at) break;
    } catch {
      // It says that it failed; what it holds on to is the question here.
    }
    t.is(empty.openDevices, 0, `operation ${at}`);
  }
});

test('a state that recovery holds for a snapshot is not written twice', async (t) => {
  const { disk, store } = newStore();
  put(store, 1, 'then');
  await store.createSnapshot('s', '');
  const killed = disk.clone();
  await store.close();
  const again = Store.open(killed, OPTIONS);
  await again.checkpoint();
  t.deepEqual(checkStore(again).problems, []);
  await again.close();
});

test('a want of room for the sync of the control block is final, as every failed sync is', async (t) => {
  const { disk, store } = newStore();
  put(store, 1, 'one');
  disk.fault = failing('ENOSPC', ({ kind, name }) => kind === 'sync' && name === 'control');
  await t.throwsAsync(store.checkpoint(), { code: 'STORE_FAILED', message: /control block/ });
  disk.fault = undefined;
  t.throws(() => put(store, 2, 'two'), { code: 'STORE_FAILED', message: /no space/ });
  t.is(store.live.namespace.get(key(1))?.toString(), 'one');
  await t.throwsAsync(store.close(), { code: 'STORE_FAILED' });
  const again = Store.open(disk, OPTIONS);
  t.is(again.live.namespace.get(key(1))?.toString(), 'one');
  await again.close();
});

for (const errno of ['EIO', 'EDQUOT']) {
  test(`${errno} amid a checkpoint: all that is live can be read, before and after`, async (t) => {
    let clockMs = 0;
    const { disk, store } = newStore({ ...OPTIONS, monotonicMs: () => clockMs });
    const content = (inode: number): Buffer => Buffer.alloc(7 * 4096, inode);
    for (let inode = 2; inode < 60; inode++) write(store, inode, 0, content(inode));
    await store.commit();
    let writes = 0;
    disk.fault = failing(errno, ({ kind, name }) => kind === 'write' && name === 'data' && ++writes === 2);
    const failed = await t.throwsAsync(store.checkpoint());
    disk.fault = undefined;
    t.is((failed as { code?: string }).code, errno === 'EIO' ? 'STORE_FAILED' : 'NO_SPACE');
    for (let inode = 2; inode < 60; inode++) t.deepEqual(read(store, inode, 0, 7 * 4096), content(inode));
    if (errno === 'EIO') {
      await t.throwsAsync(store.close(), { code: 'STORE_FAILED' });
      return;
    }
    t.is(store.failure, undefined);
    put(store, 1, 'on');
    clockMs += 1000;
    await store.checkpoint();
    t.deepEqual(checkStore(store).problems, []);
    await store.close();
  });
}

test('who works on a checkpoint in a hurry, and has no room for it, is told so, and nothing is lost of the state', async (t) => {
  let clockMs = 0;
  const { disk, store } = newStore({ ...OPTIONS, monotonicMs: () => clockMs });
  const content = (inode: number): Buffer => Buffer.alloc(7 * 4096, inode);
  disk.fault = failing('EDQUOT', ({ kind, name }) => kind === 'write' && name === 'data');
  let refused = 0;
  for (let inode = 2; inode < 130; inode++) {
    try {
      write(store, inode, 0, content(inode));
    } catch (error) {
      t.is((error as { code?: string }).code, 'NO_SPACE');
      refused++;
      write(store, inode, 0, content(inode));
    }
    clockMs += 10;
  }
  t.true(refused > 0);
  for (let inode = 2; inode < 130; inode++) t.deepEqual(read(store, inode, 0, 7 * 4096), content(inode));
  disk.fault = undefined;
  clockMs += 1000;
  await store.checkpoint();
  t.deepEqual(checkStore(store).problems, []);
  await store.close();
});

test('a log that fails amid an operation: it is seen, and never durable', async (t) => {
  const { disk, store } = newStore();
  const bytes = Buffer.alloc(7 * 4096, 'x');
  disk.fault = failing('EIO', ({ kind, name }) => kind === 'write' && /^wal\/0/.test(name));
  let written = 0;
  const error = t.throws(() => {
    // Until the ring is full, which is written out by whoever fills it.
    for (;;) {
      write(store, 2 + written, 0, bytes);
      written++;
    }
  });
  t.is((error as { code?: string }).code, 'STORE_FAILED');
  disk.fault = undefined;
  for (let i = 0; i < written; i++) t.deepEqual(read(store, 2 + i, 0, bytes.length), bytes);
  await t.throwsAsync(store.commit(), { code: 'STORE_FAILED' });
  await t.throwsAsync(store.close(), { code: 'STORE_FAILED' });
  t.is(disk.openDevices, 0);
});

test('the past can be read when the log has failed', async (t) => {
  const { disk, store } = newStore();
  put(store, 1, 'then');
  const lsn = await store.commit();
  put(store, 1, 'now');
  disk.fault = failing('EIO', ({ kind }) => kind === 'sync');
  await t.throwsAsync(store.commit());
  disk.fault = undefined;
  t.is(store.openState(lsn).namespace.get(key(1))?.toString(), 'then');
  await t.throwsAsync(store.close());
});
