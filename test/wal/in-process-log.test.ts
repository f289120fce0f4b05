import * as fs from 'node:fs';
import * as path from 'node:path';
import test from 'ava';
import { LsnfsError } from '../../src/errors.ts';
import type { StorageDirectory } from '../../src/storage/device.ts';
import { FileDirectory } from '../../src/storage/file-device.ts';
import { MemoryDirectory } from '../../src/storage/memory-device.ts';
import { InProcessLog } from '../../src/wal/in-process-log.ts';
import { FIRST_LSN, listSegments } from '../../src/wal/segment.ts';
import { SyncPace } from '../../src/wal/sync-pace.ts';
import { seedOf } from '../helpers/random.ts';
import {
  makeLog,
  randomFrom,
  randomPayload,
  readAll,
  recover,
  SEGMENT_SIZE,
  temporaryDirectory,
} from './log-fixture.ts';

function openMemoryLog(): { directory: MemoryDirectory; log: InProcessLog } {
  const directory = new MemoryDirectory();
  makeLog(directory);
  return { directory, log: new InProcessLog(recover(directory)) };
}

test('what is appended and synced is read back, over several lives and segments', async (t) => {
  const random = randomFrom(seedOf(t, 'log'));
  const temporary = temporaryDirectory();
  t.teardown(temporary.remove);
  for (const directory of [new MemoryDirectory(), new FileDirectory(temporary.path)] as StorageDirectory[]) {
    makeLog(directory);
    const expected: { payload: Uint8Array; endLsn: number; time: number }[] = [];
    let time = 1_000_000;
    for (let life = 0; life < 4; life++) {
      const log = new InProcessLog(recover(directory));
      t.is(log.lsn, expected.at(-1)?.endLsn ?? FIRST_LSN);
      t.is(log.durableLsn, log.lsn);
      for (let i = 0; i < 60; i++) {
        const size = random() < 0.1 ? random() * 300_000 : random() * 3000;
        const payload = randomPayload(random, 1 + Math.floor(size));
        time += 1;
        const endLsn = log.append(payload, payload.length, time);
        t.is(endLsn % 8, 0);
        expected.push({ payload, endLsn, time });
        if (random() < 0.1) {
          await log.sync(endLsn);
          t.true(log.durableLsn >= endLsn);
        }
        if (random() < 0.05) log.flushToFiles();
      }
      await log.close();
    }
    const { transactions, end } = readAll(directory);
    t.is(transactions.length, expected.length);
    let previousEnd = FIRST_LSN;
    transactions.forEach((transaction, i) => {
      t.is(transaction.startLsn, previousEnd);
      t.is(transaction.endLsn, expected[i]!.endLsn);
      t.is(transaction.timeMicroseconds, expected[i]!.time);
      t.is(Buffer.compare(transaction.payload, expected[i]!.payload), 0);
      t.true(transaction.durableLsn <= transaction.startLsn);
      previousEnd = transaction.endLsn;
    });
    t.is(end.kind, 'end');
    t.true(listSegments(directory, SEGMENT_SIZE).length > 3);
    // From any end of a transaction the same ones follow.
    for (let i = 0; i < expected.length; i += 17) {
      const rest = readAll(directory, { from: expected[i]!.endLsn });
      t.is(rest.transactions.length, expected.length - i - 1);
    }
    const half = expected[Math.floor(expected.length / 2)]!;
    t.is(readAll(directory, { limit: half.endLsn }).end.lsn, half.endLsn);
    t.is(readAll(directory, { limit: half.endLsn + 8 }).end.lsn, half.endLsn);
  }
});

test('times never go backwards', async (t) => {
  const { directory, log } = openMemoryLog();
  log.append(Uint8Array.of(1), 1, 5000);
  log.append(Uint8Array.of(2), 1, 4000);
  await log.close();
  const second = new InProcessLog(recover(directory));
  second.append(Uint8Array.of(3), 1, 10);
  await second.close();
  t.deepEqual(
    readAll(directory).transactions.map((transaction) => transaction.timeMicroseconds),
    [5000, 5000, 5000],
  );
});

test('a transaction of tens of segments comes back whole', async (t) => {
  const { directory, log } = openMemoryLog();
  const payload = randomPayload(randomFrom(7), 24_000_001);
  log.append(Uint8Array.of(9), 1, 1);
  log.reserve(payload.length);
  const end = log.append(payload, payload.length, 2);
  log.append(Uint8Array.of(8), 1, 3);
  await log.sync(log.lsn);
  await log.close();
  const { transactions } = readAll(directory);
  t.is(transactions.length, 3);
  t.is(transactions[1]!.endLsn, end);
  t.is(Buffer.compare(transactions[1]!.payload, payload), 0);
  t.is(transactions[2]!.startLsn, end);
  t.is(readAll(directory, { from: end }).transactions.length, 1);
});

test('64 concurrent syncs share a few fdatasyncs', async (t) => {
  const { directory, log } = openMemoryLog();
  const before = directory.syncCount;
  for (let round = 0; round < 10; round++) {
    const waits: Promise<void>[] = [];
    for (let i = 0; i < 64; i++) {
      const lsn = log.append(Uint8Array.of(i), 1, i);
      waits.push(log.sync(lsn));
      if (i % 20 === 19) await Promise.resolve();
    }
    await Promise.all(waits);
    t.is(log.durableLsn, log.lsn);
  }
  t.true(directory.syncCount - before <= 30, `${directory.syncCount - before} syncs`);
  await log.close();
});

test('a group that begins while a sync is in flight does not claim the first to be durable too early', async (t) => {
  const { directory, log } = openMemoryLog();
  const first = log.append(Uint8Array.of(1), 1, 1);
  const firstDurable = log.sync(first);
  await Promise.resolve();
  const second = log.append(Uint8Array.of(2), 1, 2);
  t.true(log.durableLsn < first);
  await firstDurable;
  t.true(log.durableLsn >= first && log.durableLsn < second);
  await log.sync(second);
  t.is(log.durableLsn, second);
  t.is(directory.clone().exists('data'), true);
  await log.close();
});

test('the commit interval makes durable what nobody waits for', async (t) => {
  const directory = new MemoryDirectory();
  makeLog(directory);
  const log = new InProcessLog({ ...recover(directory), commitIntervalMs: 10 });
  const lsn = log.append(Uint8Array.of(1), 1, 1);
  t.true(log.durableLsn < lsn);
  await new Promise<void>((resolve) => {
    log.onDurable(lsn, (failure) => {
      t.is(failure, undefined);
      resolve();
    });
  });
  t.is(log.durableLsn, lsn);
  await log.close();
});

test('the data file is synced with the log only when it was noted', async (t) => {
  const { directory, log } = openMemoryLog();
  const synced: string[] = [];
  directory.fault = (operation, name) => {
    if (operation === 'sync') synced.push(name);
  };
  await log.sync(log.append(Uint8Array.of(1), 1, 1));
  t.false(synced.includes('data'));
  log.noteDataDirty();
  await log.sync(log.append(Uint8Array.of(1), 1, 1));
  t.true(synced.includes('data'));
  synced.length = 0;
  await log.sync(log.append(Uint8Array.of(1), 1, 1));
  t.false(synced.includes('data'));
  await log.syncData();
  t.deepEqual(synced.at(-1), 'data');
  await log.close();
});

/** A log that takes its files for real ones on a fast disk: after its first sync it syncs on this thread. */
function openInPlaceLog(): { directory: MemoryDirectory; log: InProcessLog } {
  const directory = new MemoryDirectory();
  makeLog(directory);
  const options = recover(directory);
  const dataDevice = Object.create(options.dataDevice, { descriptor: { value: 1 } });
  return { directory, log: new InProcessLog({ ...options, dataDevice }) };
}

for (const [where, openLog] of [
  ['in the pool', openMemoryLog],
  ['in place', openInPlaceLog],
] as const) {
  test(`a failed sync (${where}) fails the log for ever, and every waiter hears of it`, async (t) => {
    const { directory, log } = openLog();
    const good = log.append(Uint8Array.of(1), 1, 1);
    await log.sync(good);
    directory.fault = (operation, name) => {
      if (operation === 'sync' && name.startsWith('wal/')) throw new LsnfsError('IO', 'the disk is on fire');
    };
    const lsn = log.append(Uint8Array.of(2), 1, 2);
    const waits = [log.sync(lsn), log.sync(lsn)];
    const errors = await Promise.all(waits.map((wait) => t.throwsAsync(wait)));
    for (const error of errors) t.like(error, { code: 'STORE_FAILED' });
    directory.fault = undefined;
    t.is(log.failure?.code, 'STORE_FAILED');
    t.is(log.durableLsn, good);
    t.throws(() => log.reserve(1), { code: 'STORE_FAILED' });
    // An operation that had begun goes on in memory, and hears of it when it wants to be durable.
    const never = log.append(Uint8Array.of(3), 1, 3);
    await t.throwsAsync(log.sync(never), { code: 'STORE_FAILED' });
    t.throws(() => log.reserve(10), { code: 'STORE_FAILED' });
    await t.throwsAsync(log.sync(lsn), { code: 'STORE_FAILED' });
    await t.notThrowsAsync(log.sync(good));
    await t.throwsAsync(log.close(), { code: 'STORE_FAILED' });
  });
}

test('syncs are made in place while they are short on the average', (t) => {
  const pace = new SyncPace(true);
  t.false(pace.isInPlace);
  pace.note(0.2);
  t.true(pace.isInPlace);
  for (let i = 0; i < 100; i++) pace.note(0.1);
  t.true(pace.isInPlace);
  // One that hangs: the next few go elsewhere.
  pace.note(30);
  t.false(pace.isInPlace);
  for (let i = 0; i < 20; i++) pace.note(0.1);
  t.true(pace.isInPlace);
  // A slow disk: never.
  for (let i = 0; i < 1000; i++) pace.note(4);
  t.false(pace.isInPlace);
  const never = new SyncPace(false);
  never.note(0.01);
  t.false(never.isInPlace);
});

test('a failed write fails the log', async (t) => {
  const { directory, log } = openMemoryLog();
  directory.fault = (operation, name) => {
    if (operation === 'write' && name.startsWith('wal/0')) throw new LsnfsError('IO', 'the disk is gone');
  };
  const lsn = log.append(Uint8Array.of(2), 1, 2);
  await t.throwsAsync(log.sync(lsn), { code: 'STORE_FAILED', message: /the disk is gone/ });
  await t.throwsAsync(log.close(), { code: 'STORE_FAILED' });
});

test('a full disk is met by reserve, leaves nothing behind, and is got over', async (t) => {
  const directory = new MemoryDirectory();
  makeLog(directory);
  const log = new InProcessLog(recover(directory));
  directory.capacity = 3 * SEGMENT_SIZE + SEGMENT_SIZE / 2;
  const payload = new Uint8Array(100_000);
  let appended = 0;
  const error = t.throws(
    () => {
      for (;;) {
        log.reserve(payload.length);
        log.append(payload, payload.length, 1);
        appended++;
      }
    },
    { instanceOf: LsnfsError, code: 'NO_SPACE' },
  );
  t.regex(error!.message, /bytes/);
  t.true(appended >= 20, `${appended}`);
  t.false(directory.exists('wal/preparing'));
  await log.sync(log.lsn);
  t.is(log.failure, undefined);
  t.throws(() => log.reserve(payload.length), { code: 'NO_SPACE' });
  log.append(Uint8Array.of(1), 1, 1); // what fits still goes
  directory.capacity = 20 * SEGMENT_SIZE;
  for (let i = 0; i < 30; i++) log.append(payload, payload.length, 1);
  await log.close();
  t.is(readAll(directory).transactions.length, appended + 31);
});

test('trim removes whole segments before the given LSN, never the last', async (t) => {
  const { directory, log } = openMemoryLog();
  const payload = new Uint8Array(200_000);
  for (let i = 0; i < 30; i++) log.append(payload, payload.length, i);
  await log.sync(log.lsn);
  const before = log.segmentCount;
  t.is(before, listSegments(directory, SEGMENT_SIZE).length);
  t.is(log.trim(2 * SEGMENT_SIZE + 5), 2);
  t.is(log.segmentCount, before - 2);
  t.deepEqual(listSegments(directory, SEGMENT_SIZE)[0], 2);
  log.trim(Number.MAX_SAFE_INTEGER);
  t.is(log.segmentCount, listSegments(directory, SEGMENT_SIZE).length);
  const last = log.append(payload, payload.length, 100);
  await log.close();
  const oldest = listSegments(directory, SEGMENT_SIZE)[0]! * SEGMENT_SIZE;
  const { transactions, end } = readAll(directory, { from: oldest, skipPartial: true });
  t.is(end.lsn, last);
  t.true(transactions.length > 0 && transactions[0]!.startLsn > oldest);
});

test('a reply is written when its LSN is durable', async (t) => {
  const temporary = temporaryDirectory();
  t.teardown(temporary.remove);
  const { directory, log } = openMemoryLog();
  const file = path.join(temporary.path, 'replies');
  const descriptor = fs.openSync(file, 'w');
  const lsn = log.append(Uint8Array.of(1), 1, 1);
  log.writeWhenDurable(lsn, descriptor, Buffer.from('good '), Buffer.from('bad '));
  t.is(fs.readFileSync(file, 'utf8'), '');
  await log.sync(lsn);
  t.is(fs.readFileSync(file, 'utf8'), 'good ');
  log.writeWhenDurable(lsn, descriptor, Buffer.from('already '), Buffer.from('bad '));
  t.is(fs.readFileSync(file, 'utf8'), 'good already ');
  directory.fault = (operation) => {
    if (operation === 'sync') throw new LsnfsError('IO', 'no');
  };
  const lost = log.append(Uint8Array.of(1), 1, 1);
  log.writeWhenDurable(lost, descriptor, Buffer.from('good '), Buffer.from('bad '));
  await t.throwsAsync(log.sync(lost));
  t.is(fs.readFileSync(file, 'utf8'), 'good already bad ');
  fs.closeSync(descriptor);
  await t.throwsAsync(log.close());
});

test('without a descriptor left no room is promised; what was promised is written, and later the log goes on', async (t) => {
  const directory = new MemoryDirectory();
  makeLog(directory);
  let exhausted = false;
  const limited = new Proxy<StorageDirectory>(directory, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name);
      if (exhausted && (name === 'open' || name === 'syncDirectory')) {
        return () => {
          throw new LsnfsError('NO_DESCRIPTORS', 'none is left');
        };
      }
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
  const log = new InProcessLog({ ...recover(directory), directory: limited });
  const payload = Buffer.alloc(100_000, 'x');
  let appended = 0;
  const append = async (): Promise<void> => {
    const lsn = log.append(payload, payload.length, ++appended);
    if (appended % 3 === 0) await log.sync(lsn);
  };
  for (let round = 0; round < 3; round++) {
    for (let i = 0; i < 17; i++) await append();
    // Made, but nothing was written to them yet.
    log.reserve(2 * SEGMENT_SIZE);
    exhausted = true;
    const before = appended;
    const error = await t.throwsAsync<LsnfsError>(async () => {
      for (;;) await append();
    });
    t.is(error.code, 'NO_DESCRIPTORS');
    appended--;
    t.true(appended - before >= 20, `${appended - before} went into what was promised`);
    t.is(log.failure, undefined);
    exhausted = false;
  }
  await append();
  await log.close();
  const { transactions } = readAll(directory);
  t.is(transactions.length, appended);
  t.true(transactions.every((transaction) => Buffer.compare(transaction.payload, payload) === 0));
});
