import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { MessageChannel, type Worker } from 'node:worker_threads';
import test, { type ExecutionContext } from 'ava';
import { LsnfsError } from '../../src/errors.ts';
import type { Device } from '../../src/storage/device.ts';
import { FileDirectory } from '../../src/storage/file-device.ts';
import { listSegments } from '../../src/wal/segment.ts';
import type { Pace } from '../../src/wal/sync-pace.ts';
import { ThreadedLog, type ThreadedLogOptions } from '../../src/wal/threaded-log.ts';
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

function openLog(
  t: ExecutionContext,
  changes: Partial<ThreadedLogOptions> = {},
): { directory: FileDirectory; log: ThreadedLog; directoryPath: string } {
  const temporary = temporaryDirectory();
  t.teardown(temporary.remove);
  const directory = new FileDirectory(temporary.path);
  makeLog(directory);
  return {
    directory,
    log: new ThreadedLog({ ...recover(directory), ...changes }),
    directoryPath: temporary.path,
  };
}

/** Every sync that may be made in place is. */
const IN_PLACE: Pace = { isInPlace: true, note: () => {} };

/** A directory whose segments do something else when the store's thread syncs them; the writer has its own. */
class HookedDirectory extends FileDirectory {
  syncs = 0;
  private readonly beforeSync: () => void;

  constructor(directoryPath: string, beforeSync: () => void) {
    super(directoryPath);
    this.beforeSync = beforeSync;
  }

  override open(...[name, options]: Parameters<FileDirectory['open']>): Device {
    const device = super.open(name, options);
    if (!name.startsWith('wal/')) return device;
    const syncNow = device.syncNow.bind(device);
    device.syncNow = () => {
      this.beforeSync();
      this.syncs++;
      syncNow();
    };
    return device;
  }
}

/** Appends and has it synced in place, which the writer may be too busy to allow. */
function syncInPlace(log: ThreadedLog, payload: Uint8Array): boolean {
  const lsn = log.append(payload, payload.length, 1);
  return blockUntil(() => log.syncNow(lsn) && log.durableLsn === lsn);
}

/** Blocks this thread until something holds, as the store thread of a mount would between its requests. */
function blockUntil(what: () => boolean): boolean {
  const word = new Int32Array(new SharedArrayBuffer(4));
  for (let i = 0; i < 5000 && !what(); i++) Atomics.wait(word, 0, 0, 1);
  return what();
}

test('random transactions are read back, over several lives', async (t) => {
  const random = randomFrom(seedOf(t, 'log'));
  const temporary = temporaryDirectory();
  t.teardown(temporary.remove);
  const directory = new FileDirectory(temporary.path);
  makeLog(directory);
  const expected: Uint8Array[] = [];
  for (let life = 0; life < 3; life++) {
    const log = new ThreadedLog(recover(directory));
    for (let i = 0; i < 300; i++) {
      const payload = randomPayload(
        random,
        1 + Math.floor(random() < 0.05 ? random() * 600_000 : random() * 2000),
      );
      expected.push(payload);
      const lsn = log.append(payload, payload.length, i);
      if (random() < 0.1) {
        await log.sync(lsn);
        t.true(log.durableLsn >= lsn);
      }
      if (random() < 0.05) log.flushToFiles();
    }
    await log.close();
    t.is(log.durableLsn, log.lsn);
  }
  const { transactions, end } = readAll(directory);
  t.is(transactions.length, expected.length);
  transactions.forEach((transaction, i) => {
    t.is(Buffer.compare(transaction.payload, expected[i]!), 0);
  });
  t.is(end.kind, 'end');
});

test('a transaction larger than the ring goes through, and is read as flushed', async (t) => {
  const { directory, log } = openLog(t);
  const payload = randomPayload(randomFrom(3), 20_000_000);
  const end = log.append(payload, payload.length, 1);
  log.flushToFiles();
  const { transactions } = readAll(directory, { limit: end });
  t.is(transactions.length, 1);
  t.is(Buffer.compare(transactions[0]!.payload, payload), 0);
  await log.close();
  t.true(listSegments(directory, SEGMENT_SIZE).length >= 20);
});

test('concurrent syncs share groups', async (t) => {
  const { log } = openLog(t);
  const before = log.groupCount;
  for (let round = 0; round < 5; round++) {
    await Promise.all(Array.from({ length: 64 }, (_, i) => log.sync(log.append(Uint8Array.of(i), 1, i))));
  }
  t.is(log.durableLsn, log.lsn);
  t.true(log.groupCount - before < 100, `${log.groupCount - before} groups for 320 commits`);
  await log.close();
});

test('callbacks run in poll while the event loop stands still', async (t) => {
  const { log } = openLog(t);
  const lsn = log.append(Uint8Array.of(1), 1, 1);
  const called: string[] = [];
  log.onDurable(lsn, (failure) => called.push(failure === undefined ? 'durable' : 'failed'));
  log.onDataSynced((failure) => called.push(failure === undefined ? 'data' : 'failed'));
  log.requestSync(lsn);
  t.deepEqual(called, []);
  const done = blockUntil(() => {
    log.poll();
    return called.length === 2;
  });
  t.true(done);
  t.deepEqual([...called].sort(), ['data', 'durable']);
  // Many syncs of the data file, asked for while one runs, all end.
  let synced = 0;
  for (let i = 0; i < 50; i++) {
    log.onDataSynced(() => synced++);
    if (i % 10 === 0) blockUntil(() => true);
  }
  t.true(
    blockUntil(() => {
      log.poll();
      return synced === 50;
    }),
  );
  await log.close();
});

test('syncs in place and by the writer take turns, and all is there', async (t) => {
  const random = randomFrom(seedOf(t, 'turns'));
  const temporary = temporaryDirectory();
  t.teardown(temporary.remove);
  // The writer wakes all the time, and often while its part is borrowed.
  const pause = new Int32Array(new SharedArrayBuffer(4));
  const directory = new HookedDirectory(temporary.path, () => {
    if (random() < 0.2) Atomics.wait(pause, 0, 0, 3);
  });
  makeLog(directory);
  const expected: Uint8Array[] = [];
  let inPlace = 0;
  for (let life = 0; life < 2; life++) {
    const log = new ThreadedLog({ ...recover(directory), pace: IN_PLACE, commitIntervalMs: 2 });
    for (let i = 0; i < 400; i++) {
      const payload = randomPayload(random, 1 + Math.floor(random() * 9000));
      expected.push(payload);
      const lsn = log.append(payload, payload.length, i);
      const what = random();
      if (what < 0.6) {
        const before = directory.syncs;
        if (log.syncNow(lsn)) t.is(log.durableLsn, lsn);
        if (directory.syncs > before) inPlace++;
      } else if (what < 0.7) await log.sync(lsn);
      else if (what < 0.75) log.noteDataDirty();
      else if (what < 0.8) await log.syncData();
    }
    await log.close();
    t.is(log.durableLsn, log.lsn);
  }
  t.true(inPlace > 100, `${inPlace}`);
  const { transactions, end } = readAll(directory);
  t.is(end.kind, 'end');
  t.is(transactions.length, expected.length);
  transactions.forEach((transaction, i) => {
    t.is(Buffer.compare(transaction.payload, expected[i]!), 0);
  });
});

test('what follows a sync in place is durable after the commit interval', async (t) => {
  const { log } = openLog(t, { pace: IN_PLACE, commitIntervalMs: 40 });
  for (let i = 0; i < 5; i++) {
    t.true(syncInPlace(log, Uint8Array.of(1)));
    const start = performance.now();
    const lsn = log.append(Uint8Array.of(2), 1, 1);
    t.true(blockUntil(() => log.durableLsn >= lsn));
    // As old as the writer's sleep, at most: a machine that is busy gets some more.
    t.true(performance.now() - start < 400, `${performance.now() - start} ms`);
  }
  await log.close();
});

test('who waits already has the writer sync, for all at once', async (t) => {
  const { log, directoryPath } = openLog(t, { pace: IN_PLACE });
  t.true(syncInPlace(log, Uint8Array.of(1)));
  const first = log.append(Uint8Array.of(2), 1, 1);
  const callbacks: unknown[] = [];
  log.onDurable(first, (failure) => callbacks.push(failure));
  t.false(log.syncNow(first), 'a callback waits');
  log.requestSync(first);
  t.true(
    blockUntil(() => {
      log.poll();
      return callbacks.length === 1;
    }),
  );
  t.deepEqual(callbacks, [undefined]);
  log.noteDataDirty();
  const data = log.append(Uint8Array.of(3), 1, 1);
  t.false(log.syncNow(data), 'the data file is to be synced');
  await log.sync(data);
  // A reply that waits, whether or not the writer has woken yet.
  const descriptor = fs.openSync(path.join(directoryPath, 'replies'), 'a');
  for (let i = 0; i < 200; i++) {
    const lsn = log.append(Uint8Array.of(i), 1, 1);
    log.writeWhenDurable(lsn, descriptor, Buffer.from('ok,'), Buffer.from('failed,'));
    log.syncNow(log.append(Uint8Array.of(i), 1, 1));
  }
  await log.sync(log.lsn);
  await log.close();
  t.is(fs.readFileSync(path.join(directoryPath, 'replies'), 'utf8'), 'ok,'.repeat(200));
  fs.closeSync(descriptor);
});

test('the writer makes segments in time while all is synced in place', async (t) => {
  const { directory, log } = openLog(t, { pace: IN_PLACE });
  const payload = randomPayload(randomFrom(5), 10_000);
  for (let i = 0; i < 500; i++) {
    const lsn = log.append(payload, payload.length, 1);
    if (!log.syncNow(lsn)) await log.sync(lsn);
  }
  // Segments that are left behind are not held open: their room is free once they are removed.
  t.true(listSegments(directory, SEGMENT_SIZE).length >= 5);
  t.true(log.trim(log.lsn) >= 4);
  await log.close();
  const open = fs.readdirSync('/proc/self/fd').map((name) => {
    try {
      return fs.readlinkSync(`/proc/self/fd/${name}`);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return ''; // that of the listing itself
      throw error;
    }
  });
  t.deepEqual(
    open.filter((name) => name.startsWith(`${directory.path}/wal`)),
    [],
  );
});

test('a sync in place that fails fails the log, for everybody and for ever', async (t) => {
  const temporary = temporaryDirectory();
  t.teardown(temporary.remove);
  let broken = false;
  const directory = new HookedDirectory(temporary.path, () => {
    if (broken) throw new LsnfsError('IO', 'the disk is gone', { operation: 'sync' });
  });
  makeLog(directory);
  // The writer wakes and looks around at short intervals: it must not make durable what has failed.
  const log = new ThreadedLog({ ...recover(directory), pace: IN_PLACE, commitIntervalMs: 2 });
  t.true(syncInPlace(log, Uint8Array.of(1)));
  const good = log.durableLsn;
  broken = true;
  let lsn = 0;
  t.true(
    blockUntil(() => {
      lsn = log.append(Uint8Array.of(2), 1, 1);
      t.false(log.syncNow(lsn) && log.durableLsn !== lsn);
      return log.failure !== undefined;
    }),
  );
  t.is(log.failure?.code, 'STORE_FAILED');
  t.regex(log.failure!.message, /the disk is gone/);
  const durable = log.durableLsn;
  t.true(durable >= good && durable < lsn);
  const file = path.join(temporary.path, 'replies');
  const descriptor = fs.openSync(file, 'a');
  log.writeWhenDurable(lsn, descriptor, Buffer.from('good,'), Buffer.from('failed,'));
  await t.throwsAsync(log.sync(lsn), { code: 'STORE_FAILED', message: /the disk is gone/ });
  await t.throwsAsync(log.syncData(), { code: 'STORE_FAILED', message: /the disk is gone/ });
  t.false(log.syncNow(lsn));
  t.throws(() => log.reserve(1), { code: 'STORE_FAILED' });
  await sleep(20);
  t.is(log.durableLsn, durable);
  await t.throwsAsync(log.close(), { code: 'STORE_FAILED' });
  t.is(fs.readFileSync(file, 'utf8'), 'failed,');
  fs.closeSync(descriptor);
});

test('a slow disk is left to the writer', async (t) => {
  const temporary = temporaryDirectory();
  t.teardown(temporary.remove);
  const pause = new Int32Array(new SharedArrayBuffer(4));
  let slow = false;
  const directory = new HookedDirectory(temporary.path, () => {
    if (slow) Atomics.wait(pause, 0, 0, 300);
  });
  makeLog(directory);
  const noted: number[] = [];
  const pace: Pace = {
    get isInPlace() {
      return noted.length > 0 && noted.at(-1)! < 200;
    },
    note: (milliseconds) => noted.push(milliseconds),
  };
  const log = new ThreadedLog({ ...recover(directory), pace });
  const lsn = log.append(Uint8Array.of(1), 1, 1);
  t.false(log.syncNow(lsn), 'nobody knows the disk yet');
  await log.sync(lsn);
  const before = directory.syncs;
  t.true(syncInPlace(log, Uint8Array.of(2)));
  t.is(directory.syncs, before + 1);
  slow = true;
  t.true(syncInPlace(log, Uint8Array.of(3)));
  t.true(noted.at(-1)! >= 200);
  const next = log.append(Uint8Array.of(4), 1, 1);
  t.false(log.syncNow(next));
  t.is(directory.syncs, before + 2);
  await log.sync(next);
  await log.close();
});

test('the commit interval needs nobody', async (t) => {
  const { log } = openLog(t, { commitIntervalMs: 20 });
  for (let i = 0; i < 6; i++) {
    const lsn = log.append(Uint8Array.of(1), 1, 1);
    t.true(blockUntil(() => log.durableLsn >= lsn));
    // The next comes at once, or when the writer has long gone to sleep.
    if (i % 2 === 1) await sleep(60);
  }
  await log.close();
});

test('a message goes to the port when something is waited for', async (t) => {
  const channel = new MessageChannel();
  const { log } = openLog(t, { notifyPort: channel.port2 });
  const lsn = log.append(Uint8Array.of(1), 1, 1);
  const message = new Promise((resolve) => {
    channel.port1.once('message', resolve);
  });
  let called = false;
  log.onDurable(lsn, () => {
    called = true;
  });
  log.requestSync(lsn);
  t.is(await message, 'durable');
  t.false(called);
  log.poll();
  t.true(called);
  await log.close();
  channel.port1.close();
});

test('replies are written once each, after the sync, in any number', async (t) => {
  const { log, directoryPath } = openLog(t);
  const file = path.join(directoryPath, 'replies');
  const descriptor = fs.openSync(file, 'a');
  const count = 5000; // more than there are slots
  for (let i = 0; i < count; i++) {
    const lsn = log.append(Uint8Array.of(i), 1, 1);
    log.writeWhenDurable(lsn, descriptor, Buffer.from(`${i}\n`), Buffer.from('failed\n'));
  }
  t.true(blockUntil(() => log.durableLsn === log.lsn));
  await log.close();
  const numbers = fs.readFileSync(file, 'utf8').trim().split('\n').map(Number);
  t.deepEqual(
    numbers.toSorted((a, b) => a - b),
    Array.from({ length: count }, (_, i) => i),
  );
  t.is(log.repliesLost, 0);
  fs.closeSync(descriptor);
});

test('a reply that nobody takes is counted, and the log goes on', async (t) => {
  const { log, directoryPath } = openLog(t);
  const descriptor = fs.openSync(
    path.join(directoryPath, 'read-only'),
    fs.constants.O_RDONLY | fs.constants.O_CREAT,
  );
  log.writeWhenDurable(log.append(Uint8Array.of(1), 1, 1), descriptor, Buffer.from('x'), Buffer.from('y'));
  await log.sync(log.lsn);
  t.true(blockUntil(() => log.repliesLost === 1));
  t.is(log.failure, undefined);
  await log.close();
  fs.closeSync(descriptor);
});

test('a failed sync of the data file fails the log: waiters, replies, and everything later', async (t) => {
  const temporary = temporaryDirectory();
  t.teardown(temporary.remove);
  const directory = new FileDirectory(temporary.path);
  makeLog(directory);
  const options = recover(directory);
  // A pipe cannot be synced: fdatasync says EINVAL.
  const fifo = path.join(temporary.path, 'fifo');
  execFileSync('mkfifo', [fifo]);
  const pipe = fs.openSync(fifo, 'r+');
  t.teardown(() => fs.closeSync(pipe));
  const dataDevice = Object.create(options.dataDevice, {
    descriptor: { value: pipe },
    syncNow: { value: () => undefined },
  }) as typeof options.dataDevice;
  const log = new ThreadedLog({ ...options, dataDevice });
  const good = log.append(Uint8Array.of(1), 1, 1);
  await log.sync(good);
  const file = path.join(temporary.path, 'replies');
  const descriptor = fs.openSync(file, 'a');
  log.noteDataDirty();
  const lsn = log.append(Uint8Array.of(2), 1, 2);
  const waits = [log.sync(lsn), log.sync(lsn), log.syncData()];
  log.writeWhenDurable(lsn, descriptor, Buffer.from('good'), Buffer.from('failed,'));
  for (const wait of waits) await t.throwsAsync(wait, { code: 'STORE_FAILED', message: /EINVAL/ });
  t.is((log.failure as LsnfsError).details.operation, 'sync');
  t.true(log.durableLsn < lsn);
  t.throws(() => log.reserve(1), { code: 'STORE_FAILED' });
  // An operation that had begun goes on in memory, and hears of it when it wants to be durable.
  const never = log.append(Uint8Array.of(3), 1, 3);
  await t.throwsAsync(log.sync(never), { code: 'STORE_FAILED' });
  t.throws(() => log.flushToFiles(), { code: 'STORE_FAILED' });
  log.writeWhenDurable(lsn, descriptor, Buffer.from('good'), Buffer.from('failed,'));
  await t.throwsAsync(log.close(), { code: 'STORE_FAILED' });
  t.is(fs.readFileSync(file, 'utf8'), 'failed,failed,');
  fs.closeSync(descriptor);
});

test('a failed write fails the log, also when the store waits for room in the ring', async (t) => {
  const { log, directoryPath } = openLog(t);
  log.append(Uint8Array.of(1), 1, 1);
  fs.renameSync(path.join(directoryPath, 'wal'), path.join(directoryPath, 'moved'));
  const payload = new Uint8Array(12_000_000);
  // Nobody waits for room for ever, and what is taken after the failure is never durable.
  for (let i = 0; i < 10; i++) log.append(payload, payload.length, 1);
  t.is(log.failure?.code, 'STORE_FAILED');
  t.throws(() => log.reserve(1), { code: 'STORE_FAILED' });
  await t.throwsAsync(log.sync(log.lsn), { code: 'STORE_FAILED' });
  await t.throwsAsync(log.close(), { code: 'STORE_FAILED' });
});

test('no space: reserve says so, what fits goes on, and room is found again', async (t) => {
  const temporary = temporaryDirectory();
  t.teardown(temporary.remove);
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', temporary.path], { stdio: 'pipe' });
  } catch {
    t.log('skipped: a small file system cannot be mounted here');
    t.pass();
    return;
  }
  let mounted = true;
  const unmount = (): void => {
    if (mounted) execFileSync('umount', ['-l', temporary.path]);
    mounted = false;
  };
  t.teardown(unmount);
  const directory = new FileDirectory(temporary.path);
  makeLog(directory);
  const log = new ThreadedLog(recover(directory));
  const payload = new Uint8Array(100_000);
  let appended = 0;
  const append = (): void => {
    log.reserve(payload.length);
    log.append(payload, payload.length, 1);
    appended++;
  };
  t.throws(
    () => {
      for (;;) append();
    },
    { code: 'NO_SPACE' },
  );
  t.true(appended >= 10);
  t.is(log.failure, undefined);
  await log.sync(log.append(Uint8Array.of(1), 1, 1));
  execFileSync('mount', ['-o', 'remount,size=20m', temporary.path]);
  for (let i = 0; i < 20; i++) append();
  await log.close();
  t.is(readAll(directory).transactions.length, appended + 1);
  unmount();
});

test('a process that exits without closing is not held up, and loses nothing that was durable', (t) => {
  const temporary = temporaryDirectory();
  t.teardown(temporary.remove);
  const directory = new FileDirectory(temporary.path);
  makeLog(directory);
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
  const script = new URL(`./exit-without-close.${extension}`, import.meta.url).pathname;
  const output = execFileSync(process.execPath, [script, temporary.path], {
    timeout: 120_000,
    encoding: 'utf8',
  });
  const durable = Number(output);
  t.true(durable > 0);
  const { end } = readAll(directory);
  t.true(end.lsn >= durable);
});

test('a writer that dies without a word is a failure of the log, also for a thread that blocks', async (t) => {
  const { log, directoryPath } = openLog(t);
  const { worker } = (log as unknown as { writer: { worker: Worker } }).writer;
  log.append(Uint8Array.of(1), 1, 1);
  log.flushToFiles();
  const durable = log.durableLsn;
  void worker.terminate();
  const out = fs.openSync(path.join(directoryPath, 'replies'), 'w+');
  t.teardown(() => fs.closeSync(out));
  const lsn = log.append(Uint8Array.of(2), 1, 1);
  log.writeWhenDurable(lsn, out, Buffer.from('done'), Buffer.from('FAIL'));
  // The event loop does not turn: nothing tells of the end of the worker.
  const error = t.throws<LsnfsError>(() => log.flushToFiles());
  t.is(error.code, 'STORE_FAILED');
  t.regex(error.message, /writer thread is gone: it ended/);
  t.is(fs.readFileSync(path.join(directoryPath, 'replies'), 'utf8'), 'FAIL');
  t.true(log.durableLsn <= lsn && log.durableLsn >= durable);
  log.writeWhenDurable(lsn, out, Buffer.from('done'), Buffer.from('FAIL'));
  t.is(fs.readFileSync(path.join(directoryPath, 'replies'), 'utf8'), 'FAILFAIL');
  await t.throwsAsync(log.sync(lsn), { code: 'STORE_FAILED' });
  await t.throwsAsync(log.close(), { code: 'STORE_FAILED' });
});

test('a writer that dies while nobody looks is heard of by the event loop', async (t) => {
  const { log } = openLog(t);
  const lsn = log.append(Uint8Array.of(1), 1, 1);
  const waiting = log.sync(lsn);
  const { worker } = (log as unknown as { writer: { worker: Worker } }).writer;
  const told = new Promise((resolve) => {
    log.onDurable(log.append(Uint8Array.of(2), 1, 1), resolve);
  });
  await worker.terminate();
  await Promise.allSettled([waiting, told]);
  t.throws(() => log.reserve(1), { code: 'STORE_FAILED' });
  // An operation that had begun goes on in memory, and hears of it when it wants to be durable.
  const never = log.append(Uint8Array.of(3), 1, 1);
  await t.throwsAsync(log.sync(never), { code: 'STORE_FAILED' });
  await t.throwsAsync(log.close(), { code: 'STORE_FAILED' });
});

test('a writer that cannot open its segments is a failure that says so', async (t) => {
  const temporary = temporaryDirectory();
  t.teardown(temporary.remove);
  const directory = new FileDirectory(temporary.path);
  makeLog(directory);
  const options = recover(directory);
  // The log's end is prepared where the segment is; the writer looks for it elsewhere.
  const moved = new Proxy(directory, {
    get(target, name) {
      if (name === 'path') return path.join(temporary.path, 'gone');
      const value: unknown = Reflect.get(target, name);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
  const log = new ThreadedLog({ ...options, directory: moved });
  const error = t.throws<LsnfsError>(() => {
    log.append(Uint8Array.of(1), 1, 1);
    log.flushToFiles();
  });
  t.is(error.code, 'STORE_FAILED');
  t.regex(error.message, /open of .* failed: ENOENT/);
  await t.throwsAsync(log.close(), { code: 'STORE_FAILED' });
});
