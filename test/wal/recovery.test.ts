import test from 'ava';
import {
  FRAME_HEADER_SIZE,
  FRAME_PAYLOAD_MAXIMUM,
  frameSize,
  SEGMENT_HEADER_SIZE,
} from '../../src/encoding/frame.ts';
import { LsnfsError } from '../../src/errors.ts';
import { MemoryDirectory } from '../../src/storage/memory-device.ts';
import { InProcessLog } from '../../src/wal/in-process-log.ts';
import { findTransactionEnd } from '../../src/wal/reader.ts';
import { FIRST_LSN, listSegments, segmentName } from '../../src/wal/segment.ts';
import { seedOf } from '../helpers/random.ts';
import {
  makeLog,
  randomFrom,
  randomPayload,
  readAll,
  readerOptions,
  recover,
  SEGMENT_SIZE,
} from './log-fixture.ts';

interface Written {
  directory: MemoryDirectory;
  payloads: Uint8Array[];
  ends: number[];
}

/** A log of these payloads, all of them written; `sync` says after which ones they are durable. */
async function write(
  payloads: Uint8Array[],
  sync: (index: number) => boolean = () => false,
): Promise<Written> {
  const directory = new MemoryDirectory();
  makeLog(directory);
  const log = new InProcessLog(recover(directory));
  const ends: number[] = [];
  for (const [i, payload] of payloads.entries()) {
    ends.push(log.append(payload, payload.length, 1000 + i));
    if (sync(i)) await log.sync(log.lsn);
  }
  await log.close();
  return { directory, payloads, ends };
}

/** Changes the log's bytes from `lsn` on, within one segment. */
function overwrite(directory: MemoryDirectory, lsn: number, bytes: Uint8Array): void {
  const index = Math.floor(lsn / SEGMENT_SIZE);
  const device = directory.open(segmentName(index, SEGMENT_SIZE));
  device.write(lsn - index * SEGMENT_SIZE, bytes, 0, bytes.length);
}

function bytesAt(directory: MemoryDirectory, lsn: number, length: number): Uint8Array {
  const index = Math.floor(lsn / SEGMENT_SIZE);
  const bytes = new Uint8Array(length);
  directory.open(segmentName(index, SEGMENT_SIZE)).read(lsn - index * SEGMENT_SIZE, bytes, 0, length);
  return bytes;
}

/** How many of the payloads a recovery finds; asserts that what it finds is a prefix. */
function prefixLength(
  t: { deepEqual(a: unknown, b: unknown): void },
  directory: MemoryDirectory,
  payloads: Uint8Array[],
): number {
  const { transactions } = readAll(directory);
  t.deepEqual(
    transactions.map((transaction) => Buffer.from(transaction.payload).toString('base64')),
    payloads.slice(0, transactions.length).map((payload) => Buffer.from(payload).toString('base64')),
  );
  return transactions.length;
}

const small = (count: number, length: number): Uint8Array[] =>
  Array.from({ length: count }, (_, i) => randomPayload(randomFrom(i + 1), length));

test('cut off or garbled at any byte of its last frames, the log ends before the damage and goes on from there', async (t) => {
  const { directory, payloads, ends } = await write(small(4, 45));
  const first = ends[1]!; // damage falls into the third and fourth transaction
  const zeros = new Uint8Array(ends[3]! - first);
  for (let at = first; at < ends[3]!; at++) {
    const whole = at < ends[2]! ? 2 : 3;
    for (const damage of ['zeros', 'flip', 'short'] as const) {
      const damaged = directory.clone();
      if (damage === 'zeros') overwrite(damaged, at, zeros.subarray(at - first));
      else if (damage === 'short') damaged.open(segmentName(0, SEGMENT_SIZE)).truncate(at);
      else
        overwrite(
          damaged,
          at,
          bytesAt(damaged, at, 1).map((byte) => byte ^ (1 << (at % 8))),
        );
      // Zeros in place of padding are no damage.
      const found = prefixLength(t, damaged, payloads);
      if (damage === 'zeros') t.true(found >= whole);
      else t.is(found, whole, `${damage} at ${at}`);
      if (at % 5 > 0) continue;
      const log = new InProcessLog(recover(damaged));
      t.is(log.lsn, ends[found - 1]!);
      const later = Uint8Array.of(1, 2, 3);
      log.append(later, 3, 1);
      await log.close();
      t.is(prefixLength(t, damaged, [...payloads.slice(0, found), later]), found + 1);
    }
  }
});

test('what stood behind a tail that was cut off never follows what is written in its place', async (t) => {
  const payloads = small(3, 100);
  const { directory, ends } = await write(payloads);
  const [a, b, c] = ends as [number, number, number];
  const oldC = bytesAt(directory, b, c - b);
  const oldB = bytesAt(directory, a, b - a);
  // The second transaction is torn; recovery cuts it off, and another of the same length takes its place.
  overwrite(directory, a, oldB.toReversed());
  const log = new InProcessLog(recover(directory));
  t.is(log.lsn, a);
  t.deepEqual(bytesAt(directory, b, c - b), new Uint8Array(c - b));
  const other = randomPayload(randomFrom(77), 100);
  t.is(log.append(other, 100, 1), b);
  await log.close();
  // As if the zeros had never reached the disk: the old third transaction stands where it stood.
  overwrite(directory, b, oldC);
  const { transactions, end } = readAll(directory);
  t.is(transactions.length, 2);
  t.deepEqual(transactions[1]!.payload, other);
  t.is(end.kind, 'torn');
  t.regex(end.reason, /follows a frame with checksum/);
});

test('a frame of another store, or inside the data of this one, is none of the log', async (t) => {
  const { directory, ends } = await write(small(2, 64));
  const other = { ...readerOptions(), storeId: new Uint8Array(16) };
  t.is(readAll(directory, other).transactions.length, 0);
  // A copy of the second frame as the payload of a third.
  const frame = bytesAt(directory, ends[0]!, ends[1]! - ends[0]!);
  const log = new InProcessLog(recover(directory));
  log.append(frame, frame.length, 1);
  await log.close();
  t.is(readAll(directory).transactions.length, 3);
  const start = ends[1]! + FRAME_HEADER_SIZE;
  t.is(readAll(directory, { from: start }).transactions.length, 0);
});

test('damage before what was durable is not taken for the end', async (t) => {
  const { directory, payloads, ends } = await write(small(6, 45), (i) => i === 2);
  for (let at = FIRST_LSN; at < ends[2]!; at++) {
    const damaged = directory.clone();
    overwrite(
      damaged,
      at,
      bytesAt(damaged, at, 1).map((byte) => byte ^ 0x10),
    );
    t.throws(() => readAll(damaged), { instanceOf: LsnfsError, code: 'CORRUPT_LOG' }, `at ${at}`);
  }
  // The tail may be torn: nothing says that it was durable.
  const torn = directory.clone();
  overwrite(torn, ends[3]! + 3, Uint8Array.of(1, 2, 3));
  t.is(prefixLength(t, torn, payloads), 4);
  // Unless somebody knows better.
  t.throws(() => readAll(torn, { knownDurableLsn: ends[4]! }), { code: 'CORRUPT_LOG' });
  t.is(readAll(torn, { knownDurableLsn: ends[3]! }).end.lsn, ends[3]!);
});

test('a missing segment in the middle is damage, a missing last one is the end', async (t) => {
  const { directory, payloads } = await write(small(20, 200_000), (i) => i % 3 === 0);
  const segments = listSegments(directory, SEGMENT_SIZE);
  const middle = directory.clone();
  middle.remove(segmentName(2, SEGMENT_SIZE));
  t.throws(() => readAll(middle), { code: 'CORRUPT_LOG' });
  const last = directory.clone();
  last.remove(segmentName(segments.at(-1)!, SEGMENT_SIZE));
  t.true(prefixLength(t, last, payloads) >= 15);
});

test('a transaction of several frames is there whole or not at all', async (t) => {
  const payloads = [...small(1, 10), randomPayload(randomFrom(5), 3_000_000), ...small(1, 20)];
  const { directory, ends } = await write(payloads);
  t.is(prefixLength(t, directory, payloads), 3);
  // Cut at the start of each of its frames, and a little behind it.
  let at = ends[0]!;
  let cuts = 0;
  while (at < ends[1]!) {
    if (at % SEGMENT_SIZE === 0) at += SEGMENT_HEADER_SIZE;
    for (const behind of [0, 20, FRAME_HEADER_SIZE + 5]) {
      const damaged = directory.clone();
      const index = Math.floor(at / SEGMENT_SIZE);
      for (const segment of listSegments(damaged, SEGMENT_SIZE)) {
        if (segment > index) damaged.remove(segmentName(segment, SEGMENT_SIZE));
      }
      overwrite(damaged, at + behind, new Uint8Array((index + 1) * SEGMENT_SIZE - at - behind));
      const { end } = readAll(damaged);
      t.is(prefixLength(t, damaged, payloads), 1);
      t.is(end.lsn, ends[0]!);
      const log = new InProcessLog(recover(damaged));
      log.append(Uint8Array.of(7), 1, 1);
      await log.close();
      t.is(prefixLength(t, damaged, [payloads[0]!, Uint8Array.of(7)]), 2);
      cuts++;
    }
    const room = SEGMENT_SIZE - (at % SEGMENT_SIZE) - FRAME_HEADER_SIZE;
    at += frameSize(Math.min(room, FRAME_PAYLOAD_MAXIMUM, ends[1]! - at));
  }
  t.true(cuts > 20);
});

test('a log goes from segment to segment with any rest', async (t) => {
  const directory = new MemoryDirectory();
  makeLog(directory);
  const log = new InProcessLog(recover(directory));
  const payloads: Uint8Array[] = [];
  const append = (length: number): void => {
    const payload = new Uint8Array(length).fill(payloads.length);
    payloads.push(payload);
    log.append(payload, length, 1);
  };
  for (let rest = 0; rest <= 640; rest += 8) {
    // Leaves exactly `rest` bytes of the segment, then goes on with a short or a long transaction.
    if (SEGMENT_SIZE - (log.lsn % SEGMENT_SIZE) < 10_000) append(20_000);
    while (SEGMENT_SIZE - (log.lsn % SEGMENT_SIZE) > 300_000) append(200_000);
    const room = SEGMENT_SIZE - (log.lsn % SEGMENT_SIZE);
    const first = Math.floor(room / 2);
    append(first - (first % 8) - FRAME_HEADER_SIZE);
    append(SEGMENT_SIZE - (log.lsn % SEGMENT_SIZE) - rest - FRAME_HEADER_SIZE);
    t.is((SEGMENT_SIZE - (log.lsn % SEGMENT_SIZE)) % SEGMENT_SIZE, rest);
    const from = log.lsn;
    append(rest % 16 === 0 ? 9 : 1000);
    append(5);
    await log.sync(log.lsn);
    t.is(readAll(directory, { from }).transactions.length, 2, `rest ${rest}`);
    log.trim(from);
  }
  await log.close();
});

test('recovery that fails or is killed at any step can be done again', async (t) => {
  const payloads = small(12, 150_000);
  const { directory, ends } = await write(payloads);
  // Torn in the middle of the second segment; two segments of stale log follow.
  const torn = ends.findIndex((end) => end > 1.5 * SEGMENT_SIZE);
  overwrite(directory, ends[torn]! + 10, Uint8Array.of(1));
  directory.open('wal/preparing', { create: true }).write(0, Uint8Array.of(1), 0, 1);
  let steps = 0;
  for (let failing = 0; ; failing++) {
    const attempt = directory.clone();
    const options = recover(attempt);
    let operations = 0;
    attempt.fault = (operation) => {
      if (operation !== 'open' && operation !== 'read' && operations++ === failing) {
        throw new LsnfsError('IO', 'killed here');
      }
    };
    let done = false;
    try {
      const log = new InProcessLog(options);
      done = true;
      attempt.fault = undefined;
      await log.close();
    } catch (error) {
      t.is((error as LsnfsError).message, 'killed here');
    }
    steps++;
    const survivor = attempt.clone();
    t.is(readAll(survivor).end.lsn, ends[torn]!);
    const log = new InProcessLog(recover(survivor));
    log.append(Uint8Array.of(5), 1, 1);
    await log.close();
    t.is(prefixLength(t, survivor, [...payloads.slice(0, torn + 1), Uint8Array.of(5)]), torn + 2);
    if (done) break;
  }
  t.true(steps > 5);
});

test('random damage ends the log cleanly or is an error, and never makes a transaction', async (t) => {
  const random = randomFrom(seedOf(t, 'log'));
  const payloads = Array.from({ length: 60 }, () => randomPayload(random, 1 + Math.floor(random() * 40_000)));
  const { directory, ends } = await write(payloads, (index) => index < 40 && random() < 0.2);
  // What comes after the last sync may be torn; damage before it is corruption.
  let torn = 0;
  let corrupt = 0;
  for (let round = 0; round < 150; round++) {
    const damaged = directory.clone();
    const changes = 1 + Math.floor(random() * 3);
    for (let i = 0; i < changes; i++) {
      const at = Math.floor(random() * ends.at(-1)!);
      const length = Math.min(1 + Math.floor(random() ** 4 * 5000), SEGMENT_SIZE - (at % SEGMENT_SIZE));
      overwrite(damaged, at, random() < 0.3 ? new Uint8Array(length) : randomPayload(random, length));
    }
    try {
      prefixLength(t, damaged, payloads);
      torn++;
    } catch (error) {
      if (!(error instanceof LsnfsError)) throw error;
      t.is(error.code, 'CORRUPT_LOG');
      corrupt++;
    }
  }
  t.true(torn > 0 && corrupt > 0, `${torn} torn, ${corrupt} corrupt`);
});

test('the last transaction at or before an LSN, or a time', async (t) => {
  const { directory, ends } = await write(small(20, 90_000));
  const find = (bound: { lsn?: number; timeMicroseconds?: number }): number =>
    findTransactionEnd(directory, readerOptions(), bound).lsn;
  t.is(find({ lsn: ends[7]! }), ends[7]!);
  t.is(find({ lsn: ends[7]! - 1 }), ends[6]!);
  t.is(find({ lsn: ends[7]! + 1 }), ends[7]!);
  t.is(find({ lsn: 0 }), FIRST_LSN);
  t.is(find({ timeMicroseconds: 1005 }), ends[5]!);
  t.is(find({ timeMicroseconds: 999 }), FIRST_LSN);
  t.is(find({ timeMicroseconds: 5000 }), ends[19]!);
  t.is(find({ lsn: ends[3]!, timeMicroseconds: 1005 }), ends[3]!);
});
