/** The scan of a log: it tells what recovery would, goes on behind damage, and ends whatever the bytes are. */
import test from 'ava';
import { Database } from '../../src/plugin/database.ts';
import { MemoryDirectory } from '../../src/storage/memory-device.ts';
import { Store } from '../../src/store/store.ts';
import { LogReader } from '../../src/wal/reader.ts';
import { identifyLog, type LogStop, type ScanOptions, type ScanStep, scanLog } from '../../src/wal/scan.ts';
import { FIRST_LSN, listSegments, segmentName } from '../../src/wal/segment.ts';
import { Random, seedOf } from '../helpers/random.ts';

const SEGMENT_SIZE = 1024 * 1024;

interface Place {
  frameLsn: number;
  endLsn: number;
  checksum: number;
  previousChecksum: number;
}

type Step = Exclude<ScanStep, { kind: 'transaction' }> | ({ kind: 'transaction' } & Place);

/** Steps with what lasts of each transaction. */
function scan(directory: MemoryDirectory, options: ScanOptions): Step[] {
  const steps: Step[] = [];
  for (const step of scanLog(directory, options)) {
    if (step.kind !== 'transaction') steps.push(step);
    else {
      const { frameLsn, endLsn, checksum, previousChecksum } = step.transaction;
      steps.push({ kind: 'transaction', frameLsn, endLsn, checksum, previousChecksum });
    }
  }
  return steps;
}

const transactionsOf = (steps: readonly Step[]): Place[] =>
  steps.flatMap((step) => (step.kind === 'transaction' ? [step] : []));

/** Whether it is said of a damage, there or later, that the log was durable beyond it. */
const isProven = (steps: readonly Step[]): boolean =>
  steps.some((step) => step.kind === 'proof' || (step.kind === 'damage' && step.wasDurable));

/** A log of three segments and more, one transaction of which goes over two edges. */
async function makeLog(): Promise<{ directory: MemoryDirectory; options: ScanOptions; whole: Place[] }> {
  const directory = new MemoryDirectory();
  Store.initialize(directory, { segmentSize: SEGMENT_SIZE });
  const database = await Database.over(directory);
  for (let i = 0; i < 30; i++) await database.put(`/small-${i}`, Buffer.alloc(100 + 900 * i, i));
  await database.transaction((transaction) => {
    for (let i = 0; i < 420; i++) transaction.put(`/many/${i}`, Buffer.alloc(5000, i));
  });
  for (let i = 0; i < 30; i++) await database.put(`/more-${i}`, Buffer.alloc(3000, i));
  await database.snapshots.create('named');
  await database.close();
  const found = identifyLog(directory)!;
  const options = { storeId: found.storeId, segmentSize: found.segmentSize };
  const reader = new LogReader(directory, { ...options, from: FIRST_LSN });
  const whole: Place[] = [];
  for (const { frameLsn, endLsn, checksum, previousChecksum } of reader)
    whole.push({ frameLsn, endLsn, checksum, previousChecksum });
  reader.close();
  return { directory, options, whole };
}

const log = makeLog();

function change(directory: MemoryDirectory, lsn: number, bytes: Uint8Array): void {
  const index = Math.floor(lsn / SEGMENT_SIZE);
  const device = directory.open(segmentName(index, SEGMENT_SIZE));
  device.write(lsn % SEGMENT_SIZE, bytes, 0, Math.min(bytes.length, SEGMENT_SIZE - (lsn % SEGMENT_SIZE)));
  device.close();
}

function flip(directory: MemoryDirectory, lsn: number): void {
  const byte = new Uint8Array(1);
  const device = directory.open(segmentName(Math.floor(lsn / SEGMENT_SIZE), SEGMENT_SIZE));
  device.read(lsn % SEGMENT_SIZE, byte, 0, 1);
  device.close();
  change(directory, lsn, Uint8Array.of(byte[0]! ^ 0x10));
}

test('a sound log: every transaction, then its end', async (t) => {
  const { directory, options, whole } = await log;
  const steps = scan(directory, options);
  t.deepEqual(
    transactionsOf(steps),
    whole.map((place) => ({ kind: 'transaction', ...place })),
  );
  t.true(
    whole.some(({ frameLsn, endLsn }) => endLsn - frameLsn > 2 * SEGMENT_SIZE),
    'one goes over two edges',
  );
  whole.forEach(({ previousChecksum }, index) => {
    if (index > 0 && whole[index]!.endLsn - whole[index]!.frameLsn < 100_000) {
      const before = whole[index - 1]!;
      t.is(previousChecksum, before.checksum, `the transaction at ${whole[index]!.frameLsn}`);
    }
  });
  t.is(steps.length, whole.length + 1);
  t.like(steps.at(-1), { kind: 'end', how: 'unwritten', lsn: whole.at(-1)!.endLsn });
});

test('bounds: from anywhere to anywhere', async (t) => {
  const { directory, options, whole } = await log;
  const random = new Random(seedOf(t, 'scan bounds'));
  const end = whole.at(-1)!.endLsn;
  for (let round = 0; round < 40; round++) {
    const from = random.below(end + 1000);
    const to = random.below(end + 1000);
    const steps = scan(directory, { ...options, from, to });
    const expected = whole.filter((place) => place.frameLsn >= from && place.endLsn <= to);
    t.deepEqual(
      transactionsOf(steps).map(({ frameLsn }) => frameLsn),
      expected.map(({ frameLsn }) => frameLsn),
      `${from} to ${to}`,
    );
    t.is(steps.at(-1)!.kind, 'end');
    const cut = whole.find((place) => place.frameLsn < from && from < place.endLsn);
    const partial = steps.find((step) => step.kind === 'partial');
    if (expected.length > 0) t.is(partial !== undefined, cut !== undefined, `${from} to ${to}`);
    if (partial !== undefined) t.like(partial, { from, to: cut!.endLsn });
  }
});

test('a flipped byte costs the transaction that it is in, and no other', async (t) => {
  const { directory, options, whole } = await log;
  const random = new Random(seedOf(t, 'scan flips'));
  const end = whole.at(-1)!.endLsn;
  for (let round = 0; round < 120; round++) {
    const lsn = round < 64 ? SEGMENT_SIZE + round : random.below(end);
    const copy = directory.clone();
    flip(copy, lsn);
    const steps = scan(copy, options);
    const found = transactionsOf(steps).map(({ frameLsn }) => frameLsn);
    const lost = whole.filter(({ frameLsn }) => !found.includes(frameLsn));
    t.true(lost.length <= 1, `byte ${lsn}`);
    for (const { frameLsn, endLsn } of lost) t.true(frameLsn <= lsn && lsn < endLsn, `byte ${lsn}`);
    const damage = steps.find((step) => step.kind === 'damage');
    if (lost.length > 0 && lost[0] !== whole.at(-1)) {
      t.is((damage as LogStop).lsn, lost[0]!.frameLsn, `byte ${lsn}`);
      t.true(isProven(steps), `byte ${lsn}`);
      t.true((damage as LogStop).stoppedAt <= lsn, `byte ${lsn}`);
    }
    t.is(steps.at(-1)!.kind, 'end');
  }
});

test('segments that are missing or short are named', async (t) => {
  const { directory, options, whole } = await log;
  const name = segmentName(1, SEGMENT_SIZE);
  for (const spoil of [
    (copy: MemoryDirectory) => copy.remove(name),
    (copy: MemoryDirectory) => copy.open(name).truncate(30),
    (copy: MemoryDirectory) => copy.open(name).truncate(0),
  ]) {
    const copy = directory.clone();
    spoil(copy);
    const steps = scan(copy, options);
    const damage = steps.find((step) => step.kind === 'damage') as LogStop;
    t.true(damage.reason.includes(`segment ${name} is missing or short`), damage.reason);
    t.true(isProven(steps));
    t.is(transactionsOf(steps).length, whole.length - 1, 'all but the one that goes over its edges');
  }
  const empty = directory.clone();
  for (const index of listSegments(empty, SEGMENT_SIZE)) empty.remove(segmentName(index, SEGMENT_SIZE));
  t.deepEqual(
    scan(empty, options).map((step) => step.kind),
    ['end'],
  );
});

test('a tail that was being written is no damage; one that was durable is', async (t) => {
  const { directory, options, whole } = await log;
  const last = whole.at(-1)!;
  const copy = directory.clone();
  change(copy, last.endLsn - 8, Buffer.alloc(8, 0xee));
  t.like(scan(copy, options).at(-1), { kind: 'end', how: 'torn', lsn: last.frameLsn });
  const end = scan(copy, { ...options, knownDurableLsn: last.endLsn }).at(-1);
  t.like(end, { kind: 'end', how: 'damaged', stoppedAt: last.frameLsn });
});

test('any bytes: the scan ends, and gives nothing that was not in the log', async (t) => {
  const { directory, options, whole } = await log;
  const random = new Random(seedOf(t, 'scan of anything'));
  const known = new Map(whole.map((place) => [place.frameLsn, place]));
  const end = whole.at(-1)!.endLsn + 5000;
  for (let round = 0; round < 60; round++) {
    const copy = directory.clone();
    for (let count = 1 + random.below(6); count > 0; count--) {
      const at = random.below(end);
      const length = 1 + random.below(random.below(4) === 0 ? 300_000 : 600);
      switch (random.below(5)) {
        case 0:
          change(copy, at, random.bytes(length));
          break;
        case 1:
          change(copy, at, Buffer.alloc(length));
          break;
        case 2: {
          // A piece of the log where it does not belong, at any or at the right alignment.
          const source = directory.open(segmentName(random.below(3), SEGMENT_SIZE));
          const piece = Buffer.alloc(length);
          source.read(random.below(SEGMENT_SIZE / 8) * 8, piece, 0, length);
          change(copy, random.below(2) === 0 ? at : at & -8, piece);
          break;
        }
        case 3: {
          // Plausible headers, one after the other: own LSN and a length that fits.
          const bytes = Buffer.alloc(length);
          for (let i = 0; i + 48 <= length; i += 16) {
            bytes.writeUInt32LE(1 + random.below(200), i + 4);
            bytes.writeUInt32LE((at & -8) + i, i + 8);
          }
          change(copy, at & -8, bytes);
          break;
        }
        default: {
          const name = segmentName(random.below(3), SEGMENT_SIZE);
          if (copy.exists(name)) copy.open(name).truncate(random.below(SEGMENT_SIZE));
        }
      }
    }
    const before = random.below(end);
    const inUse = random.below(2) === 0;
    const steps = scan(copy, { ...options, inUse, ...(random.below(2) === 0 && { from: before }) });
    let position = 0;
    for (const place of transactionsOf(steps)) {
      t.deepEqual(place, { kind: 'transaction', ...known.get(place.frameLsn)! }, `round ${round}`);
      t.true(place.frameLsn >= position, `round ${round}`);
      position = place.endLsn;
    }
    t.is(steps.filter((step) => step.kind === 'end').length, 1);
  }
});

test('whose log it is, from a header that is sound', async (t) => {
  const { directory, options } = await log;
  const copy = directory.clone();
  change(copy, 20, Buffer.alloc(4, 0xff));
  t.like(identifyLog(copy), { segmentSize: SEGMENT_SIZE, segment: segmentName(1, SEGMENT_SIZE) });
  t.deepEqual(identifyLog(copy)!.storeId, options.storeId);
  for (const index of listSegments(copy, SEGMENT_SIZE)) flip(copy, index * SEGMENT_SIZE + 3);
  t.is(identifyLog(copy), undefined);
});
