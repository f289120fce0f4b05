/**
 * A machine of the crash laboratory: a simulated disk and the store that runs on it. Nothing in it depends on the time
 * of day: its clock advances when it is told to.
 */
import type { PageSize } from '../../src/encoding/page.ts';
import type { StorageDirectory } from '../../src/storage/device.ts';
import type { SimulatedDisk } from '../../src/storage/simulated-disk.ts';
import { Store } from '../../src/store/store.ts';
import type { VfsOptions } from '../../src/vfs/core.ts';
import { LiveFileSystem } from '../../src/vfs/live-file-system.ts';
import { emptyStatistics } from '../helpers/vfs-fixture.ts';
import { type SteppedWriter, steppedLog } from './crash-writer.ts';

const HOUR_MS = 3_600_000;
const TICK_MICROSECONDS = 1009;

/** Microseconds since 1970, of nobody's world. */
export class LabClock {
  microseconds = 1_800_000_000_000_000;

  tick(): void {
    this.microseconds += TICK_MICROSECONDS;
  }
}

/** What a machine sees of its disk: the disk itself, or one that breaks a rule. */
export type DiskView = (disk: SimulatedDisk) => StorageDirectory;

export interface MachineOptions {
  readonly clock: LabClock;
  readonly view: DiskView;
  /** Whether the log has a writer as a mounted store's has. */
  readonly threaded?: boolean;
}

/** What is fixed when a store is made. */
export interface Layout {
  readonly pageSize: PageSize;
  readonly segmentSize: number;
}

export function initializeOn(disk: StorageDirectory, layout: Layout, clock: LabClock): void {
  Store.initialize(disk, {
    ...layout,
    storeId: Uint8Array.from({ length: 16 }, (_, i) => i + 1),
    createdAtMicroseconds: clock.microseconds,
  });
}

/** Lets everything run that waits for nothing but its turn. */
export function turn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}

export class Machine {
  readonly disk: SimulatedDisk;
  readonly store: Store;
  readonly vfsOptions: VfsOptions;
  /** Of a threaded log. */
  writer: SteppedWriter | undefined;
  /** Called when the file system reads its clock: at the beginning of each transaction of its own. */
  clockRead: (() => void) | undefined;

  /** Opens the store, which recovers. @throws whatever that throws */
  constructor(disk: SimulatedDisk, options: MachineOptions) {
    const { clock, view } = options;
    this.disk = disk;
    this.store = Store.open(view(disk), {
      background: 'caller',
      now: () => clock.microseconds,
      monotonicMs: () => clock.microseconds / 1000,
      ...(options.threaded === true && {
        openLog: steppedLog((writer) => {
          this.writer = writer;
        }),
      }),
      settings: { commitIntervalMs: HOUR_MS, checkpointIntervalMs: HOUR_MS },
    });
    this.vfsOptions = {
      atime: 'noatime',
      cachedInodes: 16,
      now: (time) => {
        this.clockRead?.();
        time.seconds = Math.floor(clock.microseconds / 1e6);
        time.nanoseconds = (clock.microseconds % 1e6) * 1000;
      },
      statistics: () => emptyStatistics(1e6, this.store.live.pageSize),
    };
  }

  /** The live file system; the caller removes the orphans. */
  mount(): LiveFileSystem {
    return new LiveFileSystem(this.store.live, this.vfsOptions);
  }

  /** The end of this machine; what waits for it is told so. */
  async turnOff(): Promise<void> {
    this.disk.turnOff();
    await this.store.log.close().catch(() => {});
  }
}
