/**
 * Canaries: disks that break one rule on which durability rests. The laboratory must notice each of them, or it would
 * not notice the same mistake in the engine.
 *
 * They stand between the engine and the simulated disk, and change what one kind of call does; the engine is not
 * touched.
 */
import { CONTROL_NAME, CONTROL_SLOT_SIZE } from '../../src/encoding/control.ts';
import type { Device, StorageDirectory } from '../../src/storage/device.ts';
import type { SimulatedDisk } from '../../src/storage/simulated-disk.ts';
import { DATA_NAME } from '../../src/store/initialize.ts';
import { WAL_DIRECTORY } from '../../src/wal/segment.ts';
import type { DiskView } from './crash-machine.ts';

/** Calls of a device that a canary changes. */
type DeviceChange = (device: Device) => Partial<Pick<Device, 'sync' | 'syncNow' | 'write'>>;

function isLog(name: string): boolean {
  return name.startsWith(`${WAL_DIRECTORY}/`);
}

/** A directory in which the devices of some names are changed. */
function withDevices(
  disk: SimulatedDisk,
  isChanged: (name: string) => boolean,
  change: DeviceChange,
): StorageDirectory {
  return changed<StorageDirectory>(disk, {
    open: (name, options) => {
      const device = disk.open(name, options);
      return isChanged(name) ? changed<Device>(device, change(device)) : device;
    },
  });
}

/** An object that does the same but for some methods. */
function changed<T extends object>(of: T, changes: Partial<T>): T {
  return new Proxy(of, {
    get(target, key) {
      const value: unknown = Reflect.get(key in changes ? changes : target, key);
      return typeof value === 'function' && !(key in changes) ? value.bind(target) : value;
    },
  });
}

const ignored = { sync: () => Promise.resolve(), syncNow: () => {} };

/** A sync that says it is done when it begins. */
const early: DeviceChange = (device) => ({
  sync: () => {
    device.sync().catch(() => {});
    return Promise.resolve();
  },
});

export const CANARIES: Readonly<Record<string, DiskView>> = {
  /** Data is not synced, neither for commits nor before a control slot names a checkpoint. */
  'no-data-sync': (disk) =>
    withDevices(
      disk,
      (name) => name === DATA_NAME,
      () => ignored,
    ),
  /** A checkpoint's pages may not have landed when the control slot is written. */
  'control-before-data': (disk) => withDevices(disk, (name) => name === DATA_NAME, early),
  /** A commit is reported before the log is on the disk. */
  'early-commit': (disk) => withDevices(disk, isLog, early),
  'no-log-sync': (disk) => withDevices(disk, isLog, () => ignored),
  /** The names of new segments are not durable. */
  'no-directory-sync': (disk) =>
    changed<StorageDirectory>(disk, {
      syncDirectory: (name) => {
        if (name !== WAL_DIRECTORY) disk.syncDirectory(name);
      },
    }),
  /** Pages that the durable control slot needs are given out before the other slot is durable. */
  'no-control-sync': (disk) =>
    withDevices(
      disk,
      (name) => name === CONTROL_NAME,
      () => ignored,
    ),
  /** The slot that is overwritten is the newest one. */
  'wrong-slot': (disk) =>
    withDevices(
      disk,
      (name) => name === CONTROL_NAME,
      (device) => ({
        write: (position, source, start, length) =>
          device.write(CONTROL_SLOT_SIZE - position, source, start, length),
      }),
    ),
};
