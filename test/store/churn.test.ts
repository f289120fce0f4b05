/**
 * Churn: a snapshot every 100 ms, beside commits, deleted by a policy of the test's own or left to retention. Nothing may
 * grow with the time that passes: neither the pages in use, nor the catalog, nor what a commit costs. Only counts are
 * compared, of one simulated minute with another. LSNFS_LONG=1 makes it an hour.
 */
import test from 'ava';
import { History } from '../../src/history/history.ts';
import type { Device, StorageDirectory } from '../../src/storage/device.ts';
import { MemoryDirectory } from '../../src/storage/memory-device.ts';
import { checkStore } from '../../src/store/check.ts';
import { Store } from '../../src/store/store.ts';
import { Random, seedOf } from '../helpers/random.ts';
import { put, write } from '../helpers/store-content.ts';

const TICK_MS = 100;
const MINUTES = process.env.LSNFS_LONG === '1' ? 60 : 2;
/** In the short run what is called a minute is a part of one. */
const TICKS_PER_MINUTE = process.env.LSNFS_LONG === '1' ? 600 : 200;
const SNAPSHOTS_KEPT = 30;
const START_SECONDS = 1_800_000_000;

/** Storage that counts what is done to it. */
function counting(directory: MemoryDirectory, count: () => void): StorageDirectory {
  const counted = <T extends object>(of: T, names: readonly string[]): T =>
    new Proxy(of, {
      get(target, key) {
        const value: unknown = Reflect.get(target, key);
        if (typeof value !== 'function') return value;
        if (names.includes(String(key))) count();
        return key === 'open'
          ? (...args: unknown[]) =>
              counted<Device>(value.apply(target, args) as Device, [
                'write',
                'writeVector',
                'sync',
                'syncNow',
              ])
          : value.bind(target);
      },
    });
  return counted<StorageDirectory>(directory, ['remove', 'rename', 'syncDirectory']);
}

interface Minute {
  pagesInUse: number;
  rows: number;
  operations: number;
  segments: number;
}

test('snapshots all the time: nothing grows, and commits cost what they did', async (t) => {
  t.timeout(60 * 60_000);
  const random = new Random(seedOf(t, 'churn'));
  let ms = 0;
  let operations = 0;
  const directory = counting(new MemoryDirectory('memory'), () => {
    operations++;
  });
  const now = (): number => (START_SECONDS * 1000 + ms) * 1000;
  Store.initialize(directory, { segmentSize: 65_536, createdAtMicroseconds: now() });
  const store = Store.open(directory, {
    background: 'caller',
    now,
    monotonicMs: () => ms,
    settings: {
      keepWindowMs: 5000,
      minRetentionMs: 1000,
      keepHourly: 2,
      keepDaily: 2,
      keepWeekly: 1,
      keepMonthly: 1,
      checkpointIntervalMs: 1000,
    },
  });
  const history = new History(store);
  for (let number = 0; number < 2000; number++) put(store, number, '-'.repeat(100));
  for (let inode = 1; inode <= 20; inode++) write(store, inode, 0, Buffer.alloc(50 * 4096, 1));
  await store.checkpoint();
  const names: string[] = [];
  const minutes: Minute[] = [];
  for (let minute = 0; minute < MINUTES; minute++) {
    let highest = 0;
    operations = 0;
    for (let tick = 0; tick < TICKS_PER_MINUTE; tick++) {
      ms += TICK_MS;
      put(store, random.below(2000), `${tick} ${'-'.repeat(100)}`);
      write(store, 1 + random.below(20), random.below(50) * 4096, Buffer.alloc(4096, tick));
      const name = `s-${minute}-${tick}`;
      names.push(name);
      const done = [history.createSnapshot(name, '')];
      // Some at once, most when they are the oldest of too many.
      const doomed = random.below(10) === 0 ? random.below(names.length - 1) : 0;
      if (names.length > SNAPSHOTS_KEPT) await history.deleteSnapshot(names.splice(doomed, 1)[0]!);
      await Promise.all(done);
      for (let state = store.backgroundStep(1); state !== 'idle'; state = store.backgroundStep(1)) {
        if (state === 'wait') await store.commit();
        if (state === 'blocked') t.fail('it goes on');
      }
      const { pages } = store.statistics();
      highest = Math.max(highest, pages.total - pages.free);
    }
    const { catalog } = store.inspect();
    let rows = 0;
    for (const _row of catalog.versionRows()) rows++;
    for (const _row of catalog.lifetimeRows()) rows++;
    minutes.push({ pagesInUse: highest, rows, operations, segments: store.statistics().wal.segments });
  }
  t.log(JSON.stringify(minutes.slice(-3)));
  t.is(history.snapshots().length, SNAPSHOTS_KEPT);
  // The first minute fills the window, and the tree of file data takes its shape.
  const reference = minutes[0]!;
  for (const [minute, counts] of minutes.entries()) {
    for (const what of ['pagesInUse', 'rows', 'operations', 'segments'] as const) {
      const most = reference[what] * 1.3 + 16;
      t.true(
        counts[what] <= most,
        `${what} in minute ${minute}: ${counts[what]}, at first ${reference[what]}`,
      );
    }
  }
  t.true(store.versions().length < SNAPSHOTS_KEPT + 40, `${store.versions().length} versions`);
  t.deepEqual(checkStore(store).problems, []);
  await store.close();
});
