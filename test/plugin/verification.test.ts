/** Checks and scrubs of stores that are open, and of stores that cannot be opened. */
import { mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { extentKey, namespaceKey } from '../../src/encoding/keys.ts';
import { LsnfsError } from '../../src/errors.ts';
import { Database, initialize, open, verifyClosedStore } from '../../src/index.ts';
import { type CheckPage, executeOperation } from '../../src/plugin/operations.ts';
import type { ScrubStatus } from '../../src/plugin/verification.ts';
import { MemoryDirectory } from '../../src/storage/memory-device.ts';
import { initializeStore } from '../../src/store/initialize.ts';
import { ROOT_INODE } from '../../src/vfs/file-system.ts';
import { Random, seedOf } from '../helpers/random.ts';
import { flip } from '../helpers/verifying.ts';

const PAGE = 4096;

/** A database in memory with a file of 3 MB, checkpointed often. */
async function inMemory(
  warn: (message: string) => void = () => {},
): Promise<{ directory: MemoryDirectory; database: Database }> {
  const directory = new MemoryDirectory('verified');
  initializeStore(directory, { segmentSize: 1024 * 1024 });
  const database = await Database.over(directory, {
    settings: { checkpointIntervalMs: 10, commitIntervalMs: 5 },
    warn,
  });
  await database.put('/dir/big', new Random(1).bytes(3_000_000));
  await database.put('/small', 'x'.repeat(3000));
  await database.store.checkpoint();
  return { directory, database };
}

/** The first page of a file of the root directory's "dir". */
function pageOf(database: Database, path: string): number {
  const { live } = database.store;
  const { inode } = database.stat(path)!;
  if (!live.inodes.find(extentKey(inode, 0))) throw new Error(`${path} has no extents`);
  return live.inodes.page.bytes.readUIntLE(live.inodes.valueStart, 6);
}

test('damage on disk is found although the pages are in memory', async (t) => {
  const { directory, database } = await inMemory();
  t.deepEqual((await database.check()).problems, []);
  t.true(database.store.live.namespace.find(namespaceKey(ROOT_INODE, Buffer.from('small'))));
  const { number } = database.store.live.namespace.page;
  const data = pageOf(database, '/dir/big') + 3;
  flip(directory, 'data', number * PAGE + 77);
  flip(directory, 'data', data * PAGE + 9);
  t.is(database.get('/small')?.toString(), 'x'.repeat(3000), 'the cache still has it');
  const report = await database.check();
  t.deepEqual(report.damages.map(({ page }) => page).sort(), [number, data].sort());
  t.true(report.damages.every(({ live }) => live));
  t.is(report.problems.length, 2);
  flip(directory, 'data', number * PAGE + 77);
  flip(directory, 'data', data * PAGE + 9);
  t.deepEqual((await database.check()).problems, []);
  await database.close();
});

test('checks and scrubs beside a writer, checkpoints and snapshots find nothing in a sound store', async (t) => {
  const random = new Random(seedOf(t, 'under load'));
  const { directory, database } = await inMemory();
  let checking = true;
  let transactions = 0;
  let checkpoints = 0;
  const write = async (): Promise<void> => {
    const names: string[] = [];
    let lsn = 0;
    while (checking) {
      await database.transaction((transaction) => {
        for (let i = 0; i < 5; i++) {
          const path = `/d${random.below(5)}/f${random.below(60)}`;
          if (random.below(4) === 0) transaction.delete(path);
          else transaction.put(path, random.bytes(random.below(3) === 0 ? 60_000 : 500));
        }
      });
      transactions++;
      if (random.below(10) === 0) {
        const name = `s${transactions}`;
        await database.snapshots.create(name);
        names.push(name);
      }
      if (names.length > 3) await database.snapshots.delete(names.shift()!);
      if (database.store.checkpointLsn !== lsn) checkpoints++;
      lsn = database.store.checkpointLsn;
    }
  };
  const writing = write();
  try {
    for (let round = 0; round < 6; round++) {
      const before = checkpoints;
      const scrub = await database.verifications.start('scrub', 64 * 1024 * 1024);
      const report = await database.check();
      t.deepEqual(report.problems, [], `round ${round}`);
      t.deepEqual(report.notes, []);
      t.deepEqual((await scrub.done).damages, []);
      // Others go on meanwhile, and what they free is not given out before the check has ended.
      while (checkpoints < before + 2) await new Promise((resolve) => setTimeout(resolve, 5));
    }
  } finally {
    checking = false;
    await writing;
  }
  t.true(transactions > 20);
  await database.close();
  const again = await Database.over(directory);
  t.deepEqual((await again.check()).problems, []);
  await again.close();
});

test('pages of superseded catalogs are not given out while they are held', async (t) => {
  const { database } = await inMemory();
  const { store } = database;
  const { freeSpace } = store.inspect();
  const hold = store.hold();
  const { rootPage } = store.inspect().control.checkpoint;
  const isFree = (page: number): boolean =>
    [...freeSpace.freeWithin(0, freeSpace.frontier)].some(
      (run) => page >= run.page && page < run.page + run.count,
    );
  let changes = 0;
  const change = async (): Promise<void> => {
    await database.put('/changing', `${changes++}`);
    await store.checkpoint();
  };
  for (let i = 0; i < 4; i++) await change();
  t.false(isFree(rootPage));
  hold.release();
  t.true(isFree(rootPage), 'given back when the hold ends');
  hold.release();
  await database.close();
});

test('a check belongs to who asked for it: its cursor ends it', async (t) => {
  const { database } = await inMemory();
  const first = (await executeOperation(database, 'check', {})) as CheckPage;
  t.is(first.report, null);
  t.is(first.running.kind, 'check');
  t.true(database.verifications.hasWork());
  await executeOperation(database, 'closeCursor', { cursor: first.cursor });
  t.false(database.verifications.hasWork());
  await t.throwsAsync(executeOperation(database, 'check', { cursor: first.cursor }), {
    code: 'INVALID_INPUT',
  });

  let page = (await executeOperation(database, 'check', {})) as CheckPage;
  while (page.report === null)
    page = (await executeOperation(database, 'check', { cursor: page.cursor })) as CheckPage;
  t.is(page.cursor, null);
  t.is(page.report.damageCount, 0);
  t.is(page.running.progress.phase, 'done');
  // So many at once, and no more.
  const asked = Array.from({ length: 10 }, () => executeOperation(database, 'check', {}));
  const refused = (await Promise.allSettled(asked)).filter((result) => result.status === 'rejected');
  t.true(refused.length > 0 && refused.length < asked.length);
  for (const { reason } of refused) t.like(reason, { code: 'EBUSY' });
  await t.throwsAsync(executeOperation(database, 'check', { cursor: 'x' }), { code: 'INVALID_INPUT' });
  await database.close();
  t.false(database.verifications.hasWork());
});

test('a scrub goes on by itself, is shown by status, logs each damage once, and can be stopped', async (t) => {
  const said: string[] = [];
  const { directory, database } = await inMemory((message) => said.push(message));
  const scrub = (args: object): Promise<ScrubStatus> =>
    executeOperation(database, 'scrub', { ...args }) as Promise<ScrubStatus>;
  const ended = async (): Promise<ScrubStatus> => {
    for (;;) {
      const status = await scrub({ action: 'status' });
      if (status.running === null) return status;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  };
  t.deepEqual((await database.status()).scrub, { running: null, last: null });
  const started = await scrub({ action: 'start', bytesPerSecond: 65_536 });
  t.is(started.running?.kind, 'scrub');
  t.is(started.running?.bytesPerSecond, 65_536);
  await t.throwsAsync(scrub({ action: 'start' }), { code: 'EBUSY' });
  t.truthy((await database.status()).scrub.running);
  t.like(await scrub({ action: 'stop' }), { running: null, last: null, stopped: true });
  t.like(await scrub({ action: 'stop' }), { stopped: false });

  const page = pageOf(database, '/dir/big') + 1;
  flip(directory, 'data', page * PAGE);
  for (let round = 0; round < 2; round++) {
    await scrub({ action: 'start', bytesPerSecond: 2 ** 30 });
    const { last } = await ended();
    t.is(last?.report.damageCount, 1);
    t.is(last?.report.damages[0]?.page, page);
    t.deepEqual(last?.report.damages[0]?.paths, ['/dir/big']);
  }
  t.is(said.filter((message) => message.includes('scrub found damage')).length, 1);
  t.regex(said.join('\n'), new RegExp(`page ${page} at offset ${page * PAGE}`));
  await t.throwsAsync(scrub({ action: 'start', bytesPerSecond: 5 }), { code: 'INVALID_INPUT' });
  await t.throwsAsync(scrub({ action: 'begin' }), { code: 'INVALID_INPUT' });
  await database.close();
  const again = await Database.over(directory);
  t.is((await again.status()).scrub.last?.damageCount, 1, 'the result outlives the process');
  await again.close();
});

test('closing a database ends what is running', async (t) => {
  const { database } = await inMemory();
  const job = await database.verifications.start('scrub', 65_536);
  await database.close();
  await t.throwsAsync(job.done, { code: 'EINTR', message: /being closed/ });
  await t.throwsAsync(database.verifications.start('check'), { instanceOf: LsnfsError });
});

async function onDisk(t: ExecutionContext): Promise<string> {
  const base = mkdtempSync(join(tmpdir(), 'lsnfs-verify-'));
  t.teardown(() => rmSync(base, { recursive: true, force: true }));
  const path = join(base, 'store');
  await initialize(path, { segmentSize: 1024 * 1024 });
  const database = await open(path);
  await database.put('/a/b/file', new Random(2).bytes(200_000));
  await database.close();
  return path;
}

test('a closed store is checked where it lies, and nothing is written', async (t) => {
  const path = await onDisk(t);
  const before = readFileSync(join(path, 'control'));
  const phases = new Set<string>();
  const report = await verifyClosedStore(path, { onProgress: ({ progress }) => phases.add(progress.phase) });
  t.is(report.damageCount, 0);
  t.true(phases.has('done'));
  t.deepEqual(readFileSync(join(path, 'control')), before);
  await t.throwsAsync(verifyClosedStore(join(path, 'wal')), { code: 'NO_STORE' });
  await t.throwsAsync(verifyClosedStore(join(path, 'nothing')), { code: 'NO_STORE' });
  const database = await open(path);
  await t.throwsAsync(verifyClosedStore(path), { code: 'STORE_IN_USE' });
  await database.close();
  const scrubbed = await verifyClosedStore(path, { kind: 'scrub', bytesPerSecond: 2 ** 30 });
  t.is(scrubbed.damageCount, 0);
  const opened = await open(path, { readOnly: true });
  t.is((await opened.status()).scrub.last?.damageCount, 0);
  t.deepEqual((await opened.check()).problems, []);
  await opened.close();
});

test('a store that cannot be opened is checked all the same', async (t) => {
  const path = await onDisk(t);
  const control = join(path, 'control');
  const whole = readFileSync(control);
  writeFileSync(
    control,
    whole.map((byte, at) => (at % 4096 === 30 ? byte ^ 1 : byte)),
  );
  await t.throwsAsync(open(path), { code: 'CORRUPT_CONTROL' });
  const report = await verifyClosedStore(path);
  t.is(report.damageCount, 2);
  t.true(report.versions >= 2);
  t.true(report.pages.inUse > 50);

  writeFileSync(control, whole);
  const data = join(path, 'data');
  truncateSync(data, statSync(data).size - 2 * PAGE);
  const short = await verifyClosedStore(path);
  t.true(short.damageCount > 0);
  truncateSync(data, 0);
  t.true((await verifyClosedStore(path)).damageCount > 0);
});
