/**
 * A sync of the log on the store's own thread, while its writer sleeps.
 *
 * To wake the writer, to wait until it runs and to be woken by its reply takes as long as a sync of a fast disk. So when one
 * program alone waits for its fsyncs, the store writes and syncs the log itself. It borrows the writer's part for that: it
 * changes WRITER_STATE from a sleep to STATE_BORROWED, does what the writer would do with the words that are the
 * writer's, and puts the state back. A writer that wakes meanwhile waits for that, and goes on from what the words say. So
 * there is one writer at any moment, and never two syncs of one file.
 *
 * The segment is opened a second time: the writer's own file, with what Linux has to report of it, stays the
 * writer's. What fails is the log's failure, as if the writer had met it.
 *
 * Left to the writer: syncs of the data file, what crosses into another segment, everything when the disk is slow
 * (SyncPace), and one sync in a while, so that it gets to make the next segment in time.
 */
import { LsnfsError } from '../errors.ts';
import type { Device, StorageDirectory } from '../storage/device.ts';
import { segmentName, segmentOfEnd } from './segment.ts';
import {
  DATA_DIRTY,
  DURABLE,
  FAILED,
  GROUPS,
  lsnBefore,
  publishFailure,
  REPLY_HEAD,
  REPLY_TAIL,
  RING_SIZE,
  type SharedMemory,
  STATE_AWAITED,
  STATE_BORROWED,
  STATE_IDLE,
  STATE_WAITING,
  SYNC_MICROSECONDS,
  WRITER_STATE,
  WRITTEN,
} from './shared-memory.ts';
import type { Pace } from './sync-pace.ts';

/** After so many bytes of log it is the writer's turn: it makes segments at twice that pace, in pieces of 1 MiB. */
const WRITERS_TURN = 256 * 1024;

export interface SyncInPlaceOptions {
  readonly shared: SharedMemory;
  readonly directory: StorageDirectory;
  readonly segmentSize: number;
  readonly endLsn: number;
  readonly pace: Pace;
}

export class SyncInPlace {
  private readonly options: SyncInPlaceOptions;
  private readonly shared: SharedMemory;
  private segment = -1;
  private device: Device | undefined;
  /** Groups that the pace has heard of. */
  private groups = 0;
  /** Where the log ended at the writer's last turn. */
  private turn: number;

  constructor(options: SyncInPlaceOptions) {
    this.options = options;
    this.shared = options.shared;
    this.turn = options.endLsn;
  }

  /**
   * Makes the log, which is durable up to `durable`, durable up to its end, if that is to be done here. Returns whether it
   * is durable now. If it is not, either nothing was begun, or the log has failed.
   */
  sync(durable: number, end: number): boolean {
    const { shared } = this;
    const { pace, segmentSize } = this.options;
    const groups = shared.load(GROUPS);
    if (groups !== this.groups) {
      this.groups = groups;
      pace.note(shared.load(SYNC_MICROSECONDS) / 1000);
    }
    if (!pace.isInPlace || shared.load(FAILED) === 1 || shared.load(DATA_DIRTY) === 1) return false;
    if (shared.load(REPLY_HEAD) !== shared.load(REPLY_TAIL)) return false;
    const segment = segmentOfEnd(end, segmentSize);
    if (durable < segment * segmentSize) return false;
    if (end - this.turn > WRITERS_TURN) {
      this.turn = end;
      return false;
    }
    const device = this.open(segment);
    if (device === undefined) return false;
    const state = shared.load(WRITER_STATE);
    if (state !== STATE_WAITING && state !== STATE_IDLE) return false;
    if (Atomics.compareExchange(shared.words, WRITER_STATE, state, STATE_BORROWED) !== state) return false;
    try {
      const start = performance.now();
      this.writeOut(device, segment * segmentSize, end);
      device.syncNow();
      shared.store(DURABLE, end | 0);
      this.groups = (Atomics.add(shared.words, GROUPS, 1) + 1) | 0;
      pace.note(performance.now() - start);
      return true;
    } catch (error) {
      publishFailure(shared, error);
      return false;
    } finally {
      if (Atomics.exchange(shared.words, WRITER_STATE, state) === STATE_AWAITED) {
        Atomics.notify(shared.words, WRITER_STATE);
      }
    }
  }

  private writeOut(device: Device, segmentStart: number, end: number): void {
    const { shared } = this;
    let written = lsnBefore(end, shared.load(WRITTEN));
    while (written < end) {
      const at = written % RING_SIZE;
      const length = Math.min(end - written, RING_SIZE - at);
      device.write(written - segmentStart, shared.ring, at, length);
      written += length;
      shared.store(WRITTEN, written | 0);
    }
  }

  /** The segment, or undefined when it cannot be opened: the writer has it open already. */
  private open(segment: number): Device | undefined {
    if (segment === this.segment) return this.device;
    this.close();
    try {
      this.device = this.options.directory.open(segmentName(segment, this.options.segmentSize));
      this.segment = segment;
    } catch (error) {
      if (!(error instanceof LsnfsError)) throw error;
    }
    return this.device;
  }

  /** Lets go of a segment that lies whole before `lsn`, so that it can be removed. */
  trim(lsn: number): void {
    if (this.segment < segmentOfEnd(lsn, this.options.segmentSize)) this.close();
  }

  close(): void {
    const { device } = this;
    this.device = undefined;
    this.segment = -1;
    device?.close();
  }
}
