/** One suite for all devices: files, memory, and the simulated disk. */
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { LsnfsError } from '../../src/errors.ts';
import type { StorageDirectory } from '../../src/storage/device.ts';
import { FileDevice, FileDirectory } from '../../src/storage/file-device.ts';
import { MemoryDirectory } from '../../src/storage/memory-device.ts';
import { SimulatedDisk } from '../../src/storage/simulated-disk.ts';

const implementations: Record<string, (t: ExecutionContext) => StorageDirectory> = {
  file: (t) => {
    const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'lsnfs-test-'));
    t.teardown(() => fs.rmSync(directory, { recursive: true, force: true }));
    return new FileDirectory(directory);
  },
  memory: () => new MemoryDirectory(),
  simulated: () => new SimulatedDisk(),
};

function pattern(length: number, start = 0): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 31 + start) % 251);
}

for (const [name, open] of Object.entries(implementations)) {
  test(`${name}: what is written is read, at any position`, (t) => {
    const device = open(t).open('data', { create: true });
    const bytes = pattern(200_000);
    device.write(70_001, bytes, 0, bytes.length);
    t.is(device.size(), 270_001);
    const target = new Uint8Array(200_010);
    t.is(device.read(70_001, target, 10, 200_000), 200_000);
    t.deepEqual(target.subarray(10), bytes);
    t.deepEqual(target.subarray(0, 10), new Uint8Array(10));
    // The hole before it reads as zeros.
    const hole = new Uint8Array(100).fill(9);
    t.is(device.read(5, hole, 0, 100), 100);
    t.deepEqual(hole, new Uint8Array(100));
    // Parts of a source, over what is there.
    device.write(70_003, Uint8Array.of(0, 1, 2, 3, 4), 1, 3);
    t.is(device.read(70_001, target, 0, 6), 6);
    t.deepEqual(target.subarray(0, 6), Uint8Array.of(bytes[0]!, bytes[1]!, 1, 2, 3, bytes[5]!));
    device.close();
  });

  test(`${name}: reads past the end are short`, (t) => {
    const device = open(t).open('data', { create: true });
    const target = new Uint8Array(10);
    t.is(device.read(0, target, 0, 10), 0);
    device.write(0, pattern(7), 0, 7);
    t.is(device.read(0, target, 0, 10), 7);
    t.is(device.read(5, target, 0, 10), 2);
    t.is(device.read(7, target, 0, 10), 0);
    t.is(device.read(1000, target, 0, 10), 0);
    t.is(device.read(0, target, 0, 0), 0);
    device.close();
  });

  test(`${name}: vectors of any number and size`, (t) => {
    const device = open(t).open('data', { create: true });
    for (const [count, size] of [
      [1, 1],
      [3, 4096],
      [1500, 100],
      [2, 0],
      [0, 0],
    ] as const) {
      const sources = Array.from({ length: count }, (_, i) => pattern(size + (i % 3), i));
      const whole = Buffer.concat(sources);
      device.truncate(0);
      device.writeVector(13, sources);
      const target = new Uint8Array(whole.length);
      t.is(device.read(13, target, 0, whole.length), whole.length);
      t.is(Buffer.compare(target, whole), 0, `${count} of ${size}`);
    }
    device.close();
  });

  test(`${name}: truncate shrinks and grows with zeros`, (t) => {
    const device = open(t).open('data', { create: true });
    device.write(0, pattern(150_000, 1), 0, 150_000);
    for (const size of [140_000, 65_536, 65_535, 10, 0]) {
      device.truncate(size);
      t.is(device.size(), size);
      device.truncate(150_000);
      t.is(device.size(), 150_000);
      const target = new Uint8Array(150_000).fill(1);
      t.is(device.read(0, target, 0, 150_000), 150_000);
      t.true(target.subarray(size).every((byte) => byte === 0));
      t.deepEqual(target.subarray(0, size), pattern(150_000, 1).subarray(0, size));
    }
    device.close();
  });

  test(`${name}: all devices of one name are one file`, async (t) => {
    const directory = open(t);
    const writer = directory.open('data', { create: true });
    const reader = directory.open('data', { readOnly: true });
    writer.write(0, pattern(100), 0, 100);
    await writer.sync();
    writer.syncNow();
    const target = new Uint8Array(100);
    t.is(reader.read(0, target, 0, 100), 100);
    t.deepEqual(target, pattern(100));
    t.throws(() => reader.write(0, target, 0, 1), { instanceOf: LsnfsError, code: 'IO' });
    // The file outlives its name.
    directory.remove('data');
    t.false(directory.exists('data'));
    t.is(reader.read(0, target, 0, 100), 100);
    writer.close();
    reader.close();
  });

  test(`${name}: names`, (t) => {
    const directory = open(t);
    t.false(directory.exists('wal'));
    directory.makeDirectory('wal');
    directory.makeDirectory('wal');
    t.true(directory.exists('wal'));
    for (const file of ['b', 'wal/2', 'a', 'wal/1']) directory.open(file, { create: true }).close();
    t.deepEqual(directory.list(''), ['a', 'b']);
    t.deepEqual(directory.list('wal'), ['1', '2']);
    directory.rename('wal/2', 'wal/0');
    directory.rename('a', 'b');
    t.deepEqual(directory.list('wal'), ['0', '1']);
    t.deepEqual(directory.list(''), ['b']);
    directory.syncDirectory('');
    directory.syncDirectory('wal');
    t.true(directory.freeBytes() > 0);
    t.true(directory.totalBytes() >= directory.freeBytes());
  });

  test(`${name}: what is missing is an IO error that names it`, (t) => {
    const directory = open(t);
    for (const attempt of [
      () => directory.open('none'),
      () => directory.open('none/none', { create: true }),
      () => directory.remove('none'),
      () => directory.rename('none', 'other'),
      () => directory.list('none'),
      () => directory.syncDirectory('none'),
    ]) {
      const error = t.throws(attempt, { instanceOf: LsnfsError, code: 'IO', message: /none/ }) as LsnfsError;
      t.is(error.details.errno, 'ENOENT');
    }
  });
}

test('file: modes are 0600 and 0700, and descriptors are not inherited', (t) => {
  const directory = implementations.file!(t) as FileDirectory;
  directory.makeDirectory('wal');
  const device = directory.open('wal/0', { create: true });
  t.is(fs.statSync(path.join(directory.path, 'wal')).mode & 0o777, 0o700);
  t.is(fs.statSync(path.join(directory.path, 'wal/0')).mode & 0o777, 0o600);
  const flags = /flags:\s*(\d+)/.exec(fs.readFileSync(`/proc/self/fdinfo/${device.descriptor}`, 'utf8'));
  t.not(Number.parseInt(flags![1]!, 8) & 0o2000000, 0);
  device.close();
  device.close();
  t.throws(() => device.read(0, new Uint8Array(1), 0, 1), { name: 'AssertionError' });
  t.throws(() => directory.open('../outside'), { name: 'AssertionError' });
});

test('file: a full device is NO_SPACE', (t) => {
  const device = new FileDevice('full', fs.openSync('/dev/full', 'r+'));
  const error = t.throws(() => device.write(0, pattern(10), 0, 10), { code: 'NO_SPACE' }) as LsnfsError;
  t.like(error.details, { operation: 'write', errno: 'ENOSPC', position: 0 });
  t.throws(() => device.writeVector(0, [pattern(10)]), { code: 'NO_SPACE' });
  device.close();
});

test('memory: the capacity bounds all files together', (t) => {
  const directory = new MemoryDirectory('memory', 1000);
  const device = directory.open('a', { create: true });
  device.write(0, pattern(600), 0, 600);
  const other = directory.open('b', { create: true });
  t.throws(() => other.write(0, pattern(600), 0, 600), { code: 'NO_SPACE' });
  t.is(other.size(), 0);
  device.truncate(100);
  other.write(0, pattern(600), 0, 600);
  t.is(directory.freeBytes(), 300);
  t.throws(() => other.truncate(2000), { code: 'NO_SPACE' });
});

test('memory: a clone is what another process would find', (t) => {
  const directory = new MemoryDirectory();
  const device = directory.open('a', { create: true });
  device.write(0, pattern(100), 0, 100);
  const copy = directory.clone();
  device.write(0, pattern(100, 5), 0, 100);
  const target = new Uint8Array(100);
  copy.open('a').read(0, target, 0, 100);
  t.deepEqual(target, pattern(100));
});
