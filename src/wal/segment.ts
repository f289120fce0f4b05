/**
 * The segment files of the log: their names, and the writer's side of them.
 *
 * A segment is a file `wal/%016x`, named by its first LSN. It is made ahead of need: zeros are written over its
 * whole length to a file of another name, synced, and only then renamed, so that every file with the name of a
 * segment has its full size, its space is really there, and a sync while it fills changes no metadata. `prepared`
 * is the last segment that exists; the log promises space only up to its end. Segments are never overwritten once
 * they are full: what is older than anybody needs is removed (`removeSegments`).
 *
 * A segment that was made stays open until the log has passed it. So writing what was promised needs no new descriptor: a
 * process that has none left is told so when room is asked for, by an error that changes nothing, and the log goes on.
 */
import { SEGMENT_HEADER_SIZE } from '../encoding/frame.ts';
import { assert, LsnfsError } from '../errors.ts';
import type { Device, StorageDirectory } from '../storage/device.ts';

export const WAL_DIRECTORY = 'wal';
const PREPARING_NAME = `${WAL_DIRECTORY}/preparing`;
const NAME_PATTERN = /^[0-9a-f]{16}$/;
const ZEROS = Buffer.alloc(1024 * 1024);

/** LSN of a log without transactions: where the first frame will stand. */
export const FIRST_LSN = SEGMENT_HEADER_SIZE;

export function segmentName(index: number, segmentSize: number): string {
  return `${WAL_DIRECTORY}/${(index * segmentSize).toString(16).padStart(16, '0')}`;
}

/** The segment in which the frame that ends at `lsn` stands: at a boundary the one before it. */
export function segmentOfEnd(lsn: number, segmentSize: number): number {
  return lsn <= 0 ? 0 : Math.floor((lsn - 1) / segmentSize);
}

/** Indexes of the segment files that exist, ascending. Other files in the directory are not the log's. */
export function listSegments(directory: StorageDirectory, segmentSize: number): number[] {
  const indexes: number[] = [];
  for (const name of directory.list(WAL_DIRECTORY)) {
    if (!NAME_PATTERN.test(name)) continue;
    const firstLsn = Number.parseInt(name, 16);
    if (Number.isSafeInteger(firstLsn) && firstLsn % segmentSize === 0) indexes.push(firstLsn / segmentSize);
  }
  return indexes.sort((a, b) => a - b);
}

/**
 * Removes the segments all of whose LSNs lie before `lsn`, the oldest first and `most` at a time. Returns how many. That
 * they are gone is durable when no more are left to remove.
 */
export function removeSegments(
  directory: StorageDirectory,
  segmentSize: number,
  lsn: number,
  most = Number.POSITIVE_INFINITY,
): number {
  let removed = 0;
  let isMore = false;
  for (const index of listSegments(directory, segmentSize)) {
    if ((index + 1) * segmentSize > lsn) break;
    isMore = removed === most;
    if (isMore) break;
    directory.remove(segmentName(index, segmentSize));
    removed++;
  }
  if (removed > 0 && !isMore) directory.syncDirectory(WAL_DIRECTORY);
  return removed;
}

/**
 * Writes bytes of the log into segment files and makes the next ones. Not for more than one writer.
 * Devices that were written since the last sync are `takeUnsynced`; who takes them syncs them and gives them back.
 */
export class SegmentFiles {
  readonly segmentSize: number;
  /** Index of the last segment that exists. */
  prepared: number;
  private readonly directory: StorageDirectory;
  private current: Device | undefined;
  private currentIndex = -1;
  private unsynced: Device[] = [];
  /** The devices that the caller is syncing: none of them is closed before they are given back. */
  private readonly taken = new Set<Device>();
  /** The segments from the present one on that nothing was written to yet, open. */
  private readonly ahead = new Map<number, Device>();
  private preparing: Device | undefined;
  private preparedBytes = 0;
  /** The device of a sync that runs in the background: it must not be closed before that ends. */
  private syncing: Device | undefined;
  /** Whether a step failed: then nothing is tried ahead of need, until it is needed. */
  private stepFailed = false;

  /**
   * `prepared`: the last segment that exists, -1 for none. `endLsn`: where writing goes on.
   * @throws LsnfsError when the segments from there on cannot be opened.
   */
  constructor(directory: StorageDirectory, segmentSize: number, prepared: number, endLsn = 0) {
    this.directory = directory;
    this.segmentSize = segmentSize;
    this.prepared = prepared;
    try {
      for (let index = Math.floor(endLsn / segmentSize); index <= prepared; index++) {
        this.ahead.set(index, directory.open(segmentName(index, segmentSize)));
      }
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** The LSN up to which segments exist. */
  get preparedEnd(): number {
    return (this.prepared + 1) * this.segmentSize;
  }

  /** Writes source[start, start + length) at `lsn`; all of it in one segment. */
  write(lsn: number, source: Uint8Array, start: number, length: number): void {
    const index = Math.floor(lsn / this.segmentSize);
    if (index !== this.currentIndex || this.current === undefined) {
      const device = this.ahead.get(index);
      assert(device !== undefined, `segment ${index} was promised and is not open`);
      this.ahead.delete(index);
      const before = this.current;
      this.current = device;
      if (before !== undefined && !this.uses(before)) this.release(before);
      this.currentIndex = index;
    }
    if (this.unsynced.at(-1) !== this.current) this.unsynced.push(this.current);
    this.current.write(lsn - index * this.segmentSize, source, start, length);
  }

  /** The devices written since the last call; sync them, then `giveBack`. */
  takeUnsynced(): Device[] {
    const devices = this.unsynced;
    this.unsynced = [];
    for (const device of devices) this.taken.add(device);
    return devices;
  }

  /** Closes those of the taken devices that nothing is written to any more. */
  giveBack(devices: readonly Device[]): void {
    for (const device of devices) {
      this.taken.delete(device);
      if (!this.uses(device)) this.release(device);
    }
  }

  /** Whether the segment after the one in which `lsn` lies should be made (further): at twice the pace of the log. */
  wantsStep(lsn: number): boolean {
    const index = segmentOfEnd(lsn, this.segmentSize);
    if (this.prepared > index || this.stepFailed || this.syncing !== undefined) return false;
    return this.preparedBytes < 2 * (lsn - index * this.segmentSize);
  }

  /**
   * Makes 1 MiB more of the next segment. Its last sync runs in the background (for a thread with an event loop), or
   * each step syncs what it wrote (for one without). A failure is no error yet: the half-made file goes, nothing
   * more is tried ahead of need, and once the segment is needed `prepare` starts over and reports what it meets.
   */
  step(background: boolean): void {
    try {
      this.writeZeros(ZEROS.length);
      if (!background) this.preparing!.syncNow();
      if (this.preparedBytes < this.segmentSize) return;
      if (background) this.syncInBackground(this.preparing!);
      else this.finishPreparing();
    } catch (error) {
      this.stepFailed = true;
      this.abandonPreparing();
      if (!(error instanceof LsnfsError)) throw error;
    }
  }

  private syncInBackground(device: Device): void {
    const settle = (failed: boolean): void => {
      this.syncing = undefined;
      if (this.preparing !== device) {
        // `prepare` was faster and uses it, or nobody wants it any more.
        if (!this.uses(device)) device.close();
        return;
      }
      this.stepFailed = failed;
      try {
        if (failed) this.abandonPreparing();
        else this.finishPreparing();
      } catch (error) {
        this.stepFailed = true;
        this.abandonPreparing();
        if (!(error instanceof LsnfsError)) throw error;
      }
    };
    this.syncing = device;
    void device.sync().then(
      () => settle(false),
      () => settle(true),
    );
  }

  /**
   * Makes segments until the one with this index exists.
   * @throws LsnfsError NO_SPACE: then nothing half-made stays.
   */
  prepare(index: number): void {
    this.stepFailed = false;
    while (this.prepared < index) {
      const free = this.directory.freeBytes();
      const needed = (index - this.prepared) * this.segmentSize - this.preparedBytes;
      if (free < needed) {
        const message = `the log needs ${needed} bytes for new segments, and ${free} are free in ${this.directory.path}`;
        this.abandonPreparing();
        throw new LsnfsError('NO_SPACE', message, { needed, free });
      }
      try {
        while (this.preparedBytes < this.segmentSize) this.writeZeros(ZEROS.length);
        this.preparing!.syncNow();
        this.finishPreparing();
      } catch (error) {
        this.abandonPreparing();
        throw error;
      }
    }
  }

  private writeZeros(bytes: number): void {
    this.preparing ??= this.directory.open(PREPARING_NAME, { create: true });
    let left = Math.min(bytes, this.segmentSize - this.preparedBytes);
    while (left > 0) {
      const count = Math.min(left, ZEROS.length);
      this.preparing.write(this.preparedBytes, ZEROS, 0, count);
      this.preparedBytes += count;
      left -= count;
    }
  }

  /** The file is whole and synced: gives it its name. */
  private finishPreparing(): void {
    const name = segmentName(this.prepared + 1, this.segmentSize);
    this.directory.rename(PREPARING_NAME, name);
    this.directory.syncDirectory(WAL_DIRECTORY);
    this.preparing!.renamed(name);
    this.prepared++;
    this.ahead.set(this.prepared, this.preparing!);
    this.preparing = undefined;
    this.preparedBytes = 0;
  }

  private abandonPreparing(): void {
    const device = this.preparing;
    if (device === undefined) return;
    this.preparing = undefined;
    this.preparedBytes = 0;
    this.release(device);
    if (this.directory.exists(PREPARING_NAME)) this.directory.remove(PREPARING_NAME);
  }

  private uses(device: Device): boolean {
    return (
      device === this.current ||
      this.unsynced.includes(device) ||
      this.taken.has(device) ||
      [...this.ahead.values()].includes(device)
    );
  }

  /** Closes a device that is not used any more: at once, or when its sync in the background has ended. */
  private release(device: Device): void {
    if (device !== this.syncing) device.close();
  }

  /** Closes all files; none of them may be in a sync of the caller's. */
  close(): void {
    this.abandonPreparing();
    for (const device of this.unsynced) if (device !== this.current) device.close();
    this.unsynced = [];
    const ahead = [...this.ahead.values()];
    this.ahead.clear();
    for (const device of ahead) this.release(device);
    this.current?.close();
    this.current = undefined;
    this.currentIndex = -1;
  }
}

/** Removes what an interrupted `prepare` left. */
export function removeHalfMadeSegment(directory: StorageDirectory): void {
  if (directory.exists(PREPARING_NAME)) directory.remove(PREPARING_NAME);
}
