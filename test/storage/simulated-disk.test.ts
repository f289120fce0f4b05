/** The simulated disk keeps its word: what is durable stays, what is not may go, and nothing else ever appears. */
import test from 'ava';
import { LsnfsError } from '../../src/errors.ts';
import type { Device, StorageDirectory } from '../../src/storage/device.ts';
import { type DiskOperation, SECTOR_SIZE, SimulatedDisk } from '../../src/storage/simulated-disk.ts';
import { Random, seedOf } from '../helpers/random.ts';

function content(disk: StorageDirectory, name: string): Buffer {
  const device = disk.open(name, { readOnly: true });
  const bytes = Buffer.alloc(device.size());
  device.read(0, bytes, 0, bytes.length);
  return bytes;
}

/** A file of one byte value with a durable name. */
function durableFile(disk: SimulatedDisk, name: string, size: number, value: number): Device {
  const device = disk.open(name, { create: true });
  device.write(0, Buffer.alloc(size, value), 0, size);
  device.syncNow();
  disk.syncDirectory('');
  return device;
}

test('what was synced survives every power cut, and the disk itself goes on', (t) => {
  const random = new Random(seedOf(t, 'cuts'));
  const disk = new SimulatedDisk();
  const device = durableFile(disk, 'a', 3000, 1);
  device.write(1000, Buffer.alloc(1000, 2), 0, 1000);
  for (let i = 0; i < 50; i++) {
    const image = content(
      disk.powerCut((limit) => random.below(limit)),
      'a',
    );
    t.is(image.length, 3000);
    t.deepEqual(image.subarray(0, 1000), Buffer.alloc(1000, 1));
    t.deepEqual(image.subarray(2000), Buffer.alloc(1000, 1));
  }
  t.is(content(disk, 'a')[1500], 2);
  device.syncNow();
  t.is(
    content(
      disk.powerCut((limit) => random.below(limit)),
      'a',
    )[1500],
    2,
  );
});

test('a power cut keeps a subset: sectors whole, old, new or garbage, in any order', (t) => {
  const random = new Random(seedOf(t, 'cuts'));
  const disk = new SimulatedDisk();
  const sectors = 16;
  const device = durableFile(disk, 'a', sectors * SECTOR_SIZE, 0);
  for (const value of [1, 2, 3]) {
    device.write(0, Buffer.alloc(sectors * SECTOR_SIZE, value), 0, sectors * SECTOR_SIZE);
  }
  const seen = new Set<number>();
  let mixed = 0;
  let garbled = 0;
  let reordered = 0;
  for (let i = 0; i < 400; i++) {
    const image = content(
      disk.powerCut((limit) => random.below(limit)),
      'a',
    );
    const values: number[] = [];
    for (let sector = 0; sector < sectors; sector++) {
      const bytes = image.subarray(sector * SECTOR_SIZE, (sector + 1) * SECTOR_SIZE);
      if (bytes.every((byte) => byte === bytes[0])) values.push(bytes[0]!);
      else garbled++;
    }
    for (const value of values) seen.add(value);
    if (new Set(values).size > 1) mixed++;
    // A sector of the third write beside one that has not even the first: no order was kept.
    if (values.includes(3) && values.includes(0)) reordered++;
  }
  t.deepEqual([...seen].sort(), [0, 1, 2, 3]);
  t.true(mixed > 20 && garbled > 20 && reordered > 20, `${mixed} ${garbled} ${reordered}`);
});

test('garbage stays within the bytes of the write', (t) => {
  const random = new Random(seedOf(t, 'cuts'));
  const disk = new SimulatedDisk();
  const device = durableFile(disk, 'a', 2048, 7);
  device.write(700, Buffer.alloc(600, 9), 0, 600);
  for (let i = 0; i < 300; i++) {
    const image = content(
      disk.powerCut((limit) => random.below(limit)),
      'a',
    );
    t.true(image.subarray(0, 700).every((byte) => byte === 7));
    t.true(image.subarray(1300).every((byte) => byte === 7));
  }
});

test('a file that grew has any size in between, and zeros where no data came', (t) => {
  const random = new Random(seedOf(t, 'cuts'));
  const disk = new SimulatedDisk();
  const device = durableFile(disk, 'a', 100, 1);
  for (let i = 1; i <= 4; i++) device.write(i * 1000, Buffer.alloc(1000, 2), 0, 1000);
  const sizes = new Set<number>();
  for (let i = 0; i < 300; i++) {
    const image = content(
      disk.powerCut((limit) => random.below(limit)),
      'a',
    );
    t.true(image.length >= 100 && image.length <= 5000);
    t.true(image.subarray(100, 1000).every((byte) => byte === 0));
    sizes.add(image.length);
  }
  t.true(sizes.has(100) && sizes.has(5000) && sizes.size > 20);
});

test('a shrinking truncate happens or not', (t) => {
  const random = new Random(seedOf(t, 'cuts'));
  const disk = new SimulatedDisk();
  const device = durableFile(disk, 'a', 1000, 1);
  device.truncate(300);
  device.truncate(600);
  const sizes = new Set<number>();
  for (let i = 0; i < 200; i++) {
    const image = content(
      disk.powerCut((limit) => random.below(limit)),
      'a',
    );
    sizes.add(image.length);
    const ones = image.findIndex((byte) => byte !== 1);
    t.true(ones === -1 ? image.length === 1000 || image.length === 300 : ones === 300);
  }
  t.true(sizes.has(1000) && sizes.has(300) && sizes.has(600));
});

test('names are durable once their directory was synced, each change is whole', (t) => {
  const random = new Random(seedOf(t, 'cuts'));
  const disk = new SimulatedDisk();
  durableFile(disk, 'old', 10, 1);
  const next = disk.open('next', { create: true });
  next.write(0, Buffer.alloc(20, 2), 0, 20);
  next.syncNow(); // the content, not the name
  disk.rename('next', 'old');
  disk.makeDirectory('sub');
  disk.open('sub/x', { create: true });
  const seen = new Set<string>();
  for (let i = 0; i < 200; i++) {
    const cut = disk.powerCut((limit) => random.below(limit));
    const names = cut.list('');
    t.true(names.includes('old'), 'a rename over a name never leaves it empty');
    const bytes = content(cut, 'old');
    t.deepEqual(bytes, bytes[0] === 1 ? Buffer.alloc(10, 1) : Buffer.alloc(20, 2));
    t.is(cut.exists('sub/x') && !cut.exists('sub'), false);
    seen.add(`${names.join()} ${bytes[0]} ${cut.exists('sub')} ${cut.exists('sub/x')}`);
  }
  t.true(seen.size >= 6, [...seen].join('\n'));
  disk.syncDirectory('');
  disk.syncDirectory('sub');
  for (let i = 0; i < 50; i++) {
    const cut = disk.powerCut((limit) => random.below(limit));
    t.deepEqual(cut.list(''), ['old']);
    t.is(content(cut, 'old')[0], 2);
    t.true(cut.exists('sub/x'));
  }
});

test('a sync covers what was written before it was called, and no more', async (t) => {
  const none = (): number => 0;
  const disk = new SimulatedDisk();
  disk.holdSyncs = true;
  const device = durableFile(disk, 'a', 10, 0);
  device.write(0, Buffer.alloc(2, 1), 0, 2);
  const first = device.sync();
  device.write(2, Buffer.alloc(2, 2), 0, 2);
  const second = device.sync();
  device.write(4, Buffer.alloc(2, 3), 0, 2);
  t.is(disk.syncsInFlight, 2);
  t.deepEqual([...content(disk.powerCut(none), 'a')], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
  disk.land(1);
  await second;
  t.deepEqual([...content(disk.powerCut(none), 'a')], [1, 1, 2, 2, 0, 0, 0, 0, 0, 0]);
  disk.land(0);
  await first;
  t.deepEqual([...content(disk.powerCut(none), 'a')], [1, 1, 2, 2, 0, 0, 0, 0, 0, 0]);
  t.is(disk.pendingCount, 1);
});

test('a failed sync drops what it covered, and the next one reports success', (t) => {
  const none = (): number => 0;
  const disk = new SimulatedDisk();
  const device = durableFile(disk, 'a', 10, 0);
  device.write(0, Buffer.alloc(2, 1), 0, 2);
  disk.fault = ({ kind }) => (kind === 'sync' ? { errno: 'EIO' } : undefined);
  const error = t.throws(() => device.syncNow(), { instanceOf: LsnfsError });
  t.is(error?.details.errno, 'EIO');
  disk.fault = undefined;
  device.syncNow();
  t.is(content(disk, 'a')[0], 1);
  t.is(content(disk.powerCut(none), 'a')[0], 0);
  disk.dropCaches();
  t.is(content(disk, 'a')[0], 0);
  device.write(0, Buffer.alloc(2, 1), 0, 2);
  device.syncNow();
  t.is(content(disk.powerCut(none), 'a')[0], 1);
});

test('a write can fail in its midst', (t) => {
  const disk = new SimulatedDisk({ capacity: 1000 });
  const device = durableFile(disk, 'a', 10, 0);
  disk.fault = ({ kind }) => (kind === 'write' ? { errno: 'EIO', written: 3 } : undefined);
  t.throws(() => device.write(0, Buffer.alloc(10, 1), 0, 10), { code: 'IO' });
  t.deepEqual([...content(disk, 'a')], [1, 1, 1, 0, 0, 0, 0, 0, 0, 0]);
  disk.fault = undefined;
  t.throws(() => device.write(900, Buffer.alloc(200, 1), 0, 200), { code: 'NO_SPACE' });
  t.is(device.size(), 1000);
});

test('a killed process leaves what it wrote, a machine that is off takes nothing', async (t) => {
  const none = (): number => 0;
  const disk = new SimulatedDisk();
  const device = durableFile(disk, 'a', 10, 0);
  device.write(0, Buffer.alloc(2, 1), 0, 2);
  const flying = device.sync();
  const next = disk.clone();
  disk.turnOff();
  await t.throwsAsync(flying, { code: 'IO' });
  t.throws(() => device.write(5, Buffer.alloc(1, 1), 0, 1), { code: 'IO' });
  t.is(content(next, 'a')[0], 1);
  t.is(content(next.powerCut(none), 'a')[0], 0);
});

test('the same calls make the same operations', (t) => {
  const run = (): DiskOperation[] => {
    const operations: DiskOperation[] = [];
    const disk = new SimulatedDisk();
    disk.watch = (operation) => operations.push(operation);
    const device = durableFile(disk, 'a', 600, 1);
    device.write(5, Buffer.alloc(10), 0, 10);
    device.syncNow();
    disk.rename('a', 'b');
    disk.remove('b');
    return operations;
  };
  const operations = run();
  t.deepEqual(operations, run());
  t.deepEqual(
    operations.map(({ kind }) => kind),
    ['open', 'write', 'sync', 'syncDirectory', 'write', 'sync', 'rename', 'remove'],
  );
  t.is(operations[4]!.position, 5);
});
