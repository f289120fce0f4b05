/**
 * Devices on a real file system that is nearly full: what the kernel does then is a short write, and ENOSPC only when
 * the rest is asked for.
 */
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import type { ExecutionContext } from 'ava';
import { LsnfsError } from '../../src/errors.ts';
import type { Device } from '../../src/storage/device.ts';
import { FileDirectory } from '../../src/storage/file-device.ts';
import { mountTest, sayWhySkipped } from '../helpers/mount-test.ts';
import { until } from '../helpers/waiting.ts';

sayWhySkipped();

const SIZE = 1024 * 1024;
const BLOCK = 4096;

/** A tmpfs of 1 MiB. */
function smallDisk(t: ExecutionContext): FileDirectory {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'lsnfs-small-'));
  t.teardown(() => fs.rmSync(directory, { recursive: true, force: true }));
  const mounted = spawnSync('mount', [
    '-t',
    'tmpfs',
    '-o',
    `size=${SIZE},mode=0700`,
    'lsnfs-test',
    directory,
  ]);
  t.is(mounted.status, 0, mounted.stderr.toString());
  t.teardown(() => spawnSync('umount', [directory]));
  return new FileDirectory(directory);
}

function pattern(length: number, salt: number): Buffer {
  return Buffer.from(Uint8Array.from({ length }, (_, i) => (i * 31 + (i >>> 8) + salt) & 0xff));
}

function content(device: Device): Buffer {
  const bytes = Buffer.alloc(device.size());
  device.read(0, bytes, 0, bytes.length);
  return bytes;
}

const WRITES: Record<string, (device: Device, position: number, bytes: Buffer) => void> = {
  'one buffer': (device, position, bytes) => device.write(position, bytes, 0, bytes.length),
  'a vector': (device, position, bytes) => {
    const pieces: Buffer[] = [];
    // Pieces that end where no block does.
    for (let at = 0; at < bytes.length; at += 5000) pieces.push(bytes.subarray(at, at + 5000));
    device.writeVector(position, pieces);
  },
};

for (const [how, write] of Object.entries(WRITES)) {
  mountTest(
    `a write of ${how} that does not fit says how far it came, and succeeds when there is room`,
    async (t) => {
      const directory = smallDisk(t);
      const other = directory.open('other', { create: true });
      other.write(0, pattern(300_000, 1), 0, 300_000);
      const device = directory.open('data', { create: true });
      const before = pattern(100 * BLOCK, 2);
      device.write(0, before, 0, before.length);
      const bytes = pattern(500_000, 3);
      const error = t.throws(() => write(device, before.length, bytes)) as LsnfsError;
      t.true(error instanceof LsnfsError);
      t.is(error.code, 'NO_SPACE');
      t.like(error.details, { operation: 'write', errno: 'ENOSPC' });
      t.is(directory.freeBytes(), 0);
      // All blocks that there were are used, and hold what they should.
      const { position } = error.details;
      t.is(position, device.size());
      t.true(
        device.size() > before.length && device.size() < before.length + bytes.length,
        `${device.size()}`,
      );
      t.deepEqual(content(device), Buffer.concat([before, bytes]).subarray(0, device.size()));
      t.throws(() => write(device, device.size(), bytes.subarray(0, BLOCK)), { code: 'NO_SPACE' });
      // What is there can be written over on a full disk, as a segment of the log is.
      device.write(BLOCK, bytes, 0, BLOCK);
      device.syncNow();
      other.close();
      directory.remove('other');
      // The kernel may give its blocks back a moment later.
      await until('there is room again', () => directory.freeBytes() >= 300_000);
      device.write(BLOCK, before, BLOCK, BLOCK);
      write(device, before.length, bytes);
      t.deepEqual(content(device), Buffer.concat([before, bytes]));
      device.close();
    },
  );
}
