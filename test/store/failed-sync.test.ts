/**
 * After a failed sync the page cache holds what the disk does not, marked as clean. Whoever opens the store next reads it
 * from there, builds on it, and must not lose it to the next failure of the power.
 */
import test from 'ava';
import { type DiskOperation, SimulatedDisk } from '../../src/storage/simulated-disk.ts';
import { checkStore } from '../../src/store/check.ts';
import { Store } from '../../src/store/store.ts';
import { put } from '../helpers/store-content.ts';

const OPTIONS = { background: 'caller' as const };
/** A power cut that keeps nothing which is not durable. */
const nothing = (): number => 0;

function newStore(): { disk: SimulatedDisk; store: Store } {
  const disk = new SimulatedDisk();
  Store.initialize(disk, { segmentSize: 65536 });
  return { disk, store: Store.open(disk, OPTIONS) };
}

function keys(store: Store): string[] {
  return [...store.live.namespace.entries()].map(({ value }) => value.toString());
}

/** Fails every sync that `which` names, and ends the process. Returns the disk that the next one finds. */
async function failSyncs(
  disk: SimulatedDisk,
  store: Store,
  which: (operation: DiskOperation) => boolean,
  work: () => Promise<unknown>,
) {
  disk.fault = (operation) => (operation.kind === 'sync' && which(operation) ? { errno: 'EIO' } : undefined);
  await work().catch(() => {});
  disk.fault = undefined;
  const next = disk.clone();
  disk.turnOff();
  await store.close().catch(() => {});
  return next;
}

/** Opens the disk, commits once more, and opens what a power cut leaves of that. */
async function goOnAndCut(disk: SimulatedDisk): Promise<{ before: string[]; after: Store }> {
  const store = Store.open(disk, OPTIONS);
  const before = keys(store);
  put(store, 900, 'acknowledged');
  await store.commit();
  const cut = disk.powerCut(nothing);
  disk.turnOff();
  await store.close().catch(() => {});
  return { before, after: Store.open(cut, OPTIONS) };
}

test('the log is written again before anything is built on it', async (t) => {
  const { disk, store } = newStore();
  put(store, 1, 'one');
  await store.commit();
  // Over a segment boundary.
  for (let i = 2; i < 120; i++) put(store, i, 'x'.repeat(700));
  const next = await failSyncs(
    disk,
    store,
    ({ name }) => name.startsWith('wal/'),
    () => store.commit(),
  );
  const { before, after } = await goOnAndCut(next);
  t.true(before.length > 40, 'the cache still holds what the disk does not');
  t.deepEqual(keys(after), [...before, 'acknowledged']);
  await after.close();
});

test('file data past the log is written again before anything is built on it', async (t) => {
  const { disk, store } = newStore();
  put(store, 1, 'one');
  await store.commit();
  const bytes = Buffer.alloc(16 * 4096, 'd');
  store.live.begin();
  store.live.writeData(7, 0, bytes, 0, bytes.length);
  store.live.commit();
  const next = await failSyncs(
    disk,
    store,
    ({ name }) => name === 'data',
    () => store.commit(),
  );
  const { after } = await goOnAndCut(next);
  t.deepEqual(keys(after), ['one', 'acknowledged']);
  const read = Buffer.alloc(bytes.length);
  after.live.readData(7, 0, read, 0, read.length);
  t.deepEqual(read, bytes);
  await after.close();
});

test('a control slot is written again before the pages that it gave free are used', async (t) => {
  const { disk, store } = newStore();
  for (let round = 0; round < 4; round++) {
    for (let i = 0; i < 300; i++) put(store, i, `${round} ${'y'.repeat(30)}`);
    await store.checkpoint();
  }
  put(store, 1, 'last');
  const checkpoint = store.checkpointLsn;
  const next = await failSyncs(
    disk,
    store,
    ({ name }) => name === 'control',
    () => store.checkpoint(),
  );
  const again = Store.open(next, OPTIONS);
  t.true(again.checkpointLsn > checkpoint, 'the cache holds the slot');
  // Several checkpoints' worth of pages, but no slot of them reaches the disk: the platter keeps the first.
  const platter = next.powerCut(nothing);
  const opened = Store.open(platter, OPTIONS);
  t.is(opened.checkpointLsn, again.checkpointLsn, 'so did the disk, once the store was open');
  t.deepEqual(keys(opened), keys(again));
  await opened.checkpoint();
  t.deepEqual(checkStore(opened).problems, []);
  await opened.close();
  await again.close();
});

test('a store that fell back to the older slot writes the damaged one next', async (t) => {
  const { disk, store } = newStore();
  for (let round = 0; round < 3; round++) {
    put(store, round, `round ${round}`);
    await store.checkpoint();
  }
  const { rootPage } = store.inspect().control.checkpoint;
  const killed = disk.clone();
  disk.turnOff();
  await store.close().catch(() => {});
  const data = killed.open('data');
  data.write(rootPage * 4096 + 100, Buffer.alloc(8, 0xee), 0, 8);
  data.syncNow();
  const warnings: string[] = [];
  const slots: number[] = [];
  const fallen = Store.open(killed, { ...OPTIONS, warn: (message) => warnings.push(message) });
  t.regex(warnings.join('\n'), /newest checkpoint cannot be read/);
  const good = fallen.checkpointLsn;
  killed.watch = ({ kind, name, position }) => {
    if (kind === 'write' && name === 'control') slots.push(position);
  };
  put(fallen, 10, 'more');
  await fallen.checkpoint();
  t.is(slots.length, 1);
  const control = Buffer.alloc(8192);
  const device = killed.open('control', { readOnly: true });
  device.read(0, control, 0, control.length);
  // Tear what was written: the slot that the store was opened with must still be there.
  const torn = killed.clone();
  torn.open('control').write(slots[0]!, Buffer.alloc(100, 0xdd), 0, 100);
  const again = Store.open(torn, { ...OPTIONS, warn: () => {} });
  t.is(again.checkpointLsn, good);
  t.deepEqual(keys(again), keys(fallen));
  await again.close();
  await fallen.close();
});
