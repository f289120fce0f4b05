/** The segment files of the log: which of them are open, and until when. */
import test from 'ava';
import type { Device } from '../../src/storage/device.ts';
import { MemoryDirectory } from '../../src/storage/memory-device.ts';
import { SegmentFiles, WAL_DIRECTORY } from '../../src/wal/segment.ts';

const SEGMENT_SIZE = 1024 * 1024;

/** Devices whose syncs end when the test says so, and that tell when they are closed. */
class SlowDirectory extends MemoryDirectory {
  readonly syncs: (() => void)[] = [];
  readonly closed = new Set<Device>();

  override open(name: string, options: { create?: boolean; readOnly?: boolean } = {}): Device {
    const device = super.open(name, options);
    const close = device.close.bind(device);
    device.sync = () => new Promise((resolve) => this.syncs.push(resolve));
    device.close = () => {
      this.closed.add(device);
      close();
    };
    return device;
  }
}

test('a segment that the caller syncs is not closed by what else happens', async (t) => {
  const directory = new SlowDirectory();
  directory.makeDirectory(WAL_DIRECTORY);
  const files = new SegmentFiles(directory, SEGMENT_SIZE, -1);
  const bytes = Buffer.alloc(100, 1);
  files.prepare(0);
  files.write(0, bytes, 0, bytes.length);
  // Made ahead of need, and needed before its sync in the background has ended.
  files.step(true);
  t.is(directory.syncs.length, 1);
  files.prepare(2);
  files.write(SEGMENT_SIZE, bytes, 0, bytes.length);
  files.write(2 * SEGMENT_SIZE, bytes, 0, bytes.length);
  const devices = files.takeUnsynced();
  t.is(devices.length, 3);
  directory.syncs[0]!();
  await new Promise((resolve) => setImmediate(resolve));
  files.prepare(3);
  files.write(3 * SEGMENT_SIZE, bytes, 0, bytes.length);
  t.deepEqual(
    devices.filter((device) => directory.closed.has(device)),
    [],
  );
  files.giveBack(devices);
  t.true(devices.every((device) => directory.closed.has(device)));
  files.close();
});
