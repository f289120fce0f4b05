/**
 * The log for a program that has an event loop: everything on the caller's thread but the syncs.
 *
 * Transactions collect in a ring until a sync is wanted or the ring is full; then they are written to the segment
 * files in one go. At most one sync is in flight, of the segments and, if it was written to, of the data file in
 * parallel. Whoever asks for durability meanwhile waits for the next one, which begins as soon as the first ends:
 * so a group is everybody who asked while the disk was busy. A group begins in a microtask, so that all who
 * ask in one turn are in it.
 *
 * What nobody asks for is synced after `commitIntervalMs`, by a timer that does not keep the process alive.
 *
 * A sync goes through the thread pool, or, while the disk answers faster than that takes, is made in place (SyncPace).
 */
import * as fs from 'node:fs';
import { assert, LsnfsError, systemErrorCode } from '../errors.ts';
import type { Device } from '../storage/device.ts';
import { checkTransactionSize, FrameAppender, spaceNeeded } from './frame-appender.ts';
import { type DurabilityCallback, type Log, type LogOptions, logFailure, settled } from './log.ts';
import { removeSegments, SegmentFiles, segmentOfEnd } from './segment.ts';
import { SyncPace } from './sync-pace.ts';
import { prepareTail } from './tail.ts';

const RING_SIZE = 1024 * 1024;

interface Waiter {
  readonly lsn: number;
  readonly callback: DurabilityCallback;
}

export class InProcessLog implements Log {
  readonly segmentSize: number;
  private readonly options: LogOptions;
  private readonly ring = Buffer.alloc(RING_SIZE);
  private readonly segments: SegmentFiles;
  private readonly appender: FrameAppender;
  private firstSegment: number;
  /** Bytes of the log before it are in the segment files. */
  private written: number;
  private durable: number;
  /** A sync up to here was asked for. */
  private wanted: number;
  private dataDirty = false;
  /** A group is on its way: scheduled or in its syncs. */
  private running = false;
  private waiters: Waiter[] = [];
  private timer: NodeJS.Timeout | undefined;
  private failed: LsnfsError | undefined;
  private readonly pace: SyncPace;
  /** Syncs of the data file alone that are in flight. */
  private dataSyncs = 0;
  private idle: (() => void) | undefined;
  private closing: Promise<void> | undefined;

  /** Opens the log where recovery found its end. @throws LsnfsError; then nothing was appended. */
  constructor(options: LogOptions) {
    this.options = options;
    this.segmentSize = options.segmentSize;
    const { first, prepared } = prepareTail(options);
    this.firstSegment = first;
    this.segments = new SegmentFiles(options.directory, options.segmentSize, prepared, options.endLsn);
    this.written = options.endLsn;
    this.durable = options.endLsn;
    this.wanted = options.endLsn;
    this.pace = new SyncPace(options.dataDevice.descriptor >= 0);
    this.appender = new FrameAppender({
      storeId: options.storeId,
      segmentSize: options.segmentSize,
      endLsn: options.endLsn,
      previousChecksum: options.previousChecksum,
      lastTimeMicroseconds: options.lastTimeMicroseconds,
      ring: this.ring,
      waitForRoom: (position, bytes) => {
        if (position + bytes - this.written > RING_SIZE) this.makeRoom(position);
      },
    });
  }

  get lsn(): number {
    return this.appender.lsn;
  }
  get durableLsn(): number {
    return this.durable;
  }
  get failure(): LsnfsError | undefined {
    return this.failed;
  }
  get segmentCount(): number {
    return this.segments.prepared - this.firstSegment + 1;
  }

  reserve(bytes: number): void {
    this.check();
    checkTransactionSize(bytes);
    const end = this.appender.lsn + spaceNeeded(bytes, this.segmentSize);
    if (end > this.segments.preparedEnd) this.segments.prepare(Math.ceil(end / this.segmentSize) - 1);
  }

  append(records: Uint8Array, length: number, timeMicroseconds: number): number {
    if (this.failed === undefined) this.reserve(length);
    const lsn = this.appender.append(records, length, timeMicroseconds, this.durable);
    if (this.failed !== undefined) return lsn;
    if (this.timer === undefined) this.startTimer();
    if (this.segments.wantsStep(lsn)) this.segments.step(true);
    return lsn;
  }

  private check(): void {
    if (this.failed !== undefined) throw this.failed;
    if (this.closing !== undefined) throw new LsnfsError('STORE_CLOSED', 'the log is closed');
  }

  private startTimer(): void {
    this.timer = setTimeout(() => {
      this.timer = undefined;
      this.requestSync(this.appender.lsn);
    }, this.options.commitIntervalMs);
    this.timer.unref();
  }

  noteDataDirty(): void {
    this.dataDirty = true;
  }

  sync(lsn: number): Promise<void> {
    if (lsn <= this.durable) return Promise.resolve();
    return settled((callback) => {
      this.onDurable(lsn, callback);
      this.requestSync(lsn);
    });
  }

  /** Only what is durable: a sync in place comes by itself (`SyncPace`), in a microtask. */
  syncNow(lsn: number): boolean {
    return lsn <= this.durable;
  }

  requestSync(lsn: number): void {
    assert(lsn <= this.appender.lsn, 'only what was appended can become durable');
    if (lsn > this.wanted) this.wanted = lsn;
    this.startGroup();
  }

  onDurable(lsn: number, callback: DurabilityCallback): void {
    assert(lsn <= this.appender.lsn, 'only what was appended can become durable');
    if (lsn <= this.durable) queueMicrotask(() => callback(undefined));
    else if (this.failed !== undefined) queueMicrotask(() => callback(this.failed));
    else this.waiters.push({ lsn, callback });
  }

  poll(): void {}

  writeWhenDurable(lsn: number, descriptor: number, bytes: Uint8Array, failureBytes: Uint8Array): void {
    if (lsn <= this.durable) {
      writeReply(descriptor, bytes);
      return;
    }
    const success = Uint8Array.from(bytes);
    const failed = Uint8Array.from(failureBytes);
    this.onDurable(lsn, (failure) => writeReply(descriptor, failure === undefined ? success : failed));
    this.requestSync(lsn);
  }

  private startGroup(): void {
    if (this.running || this.failed !== undefined || this.wanted <= this.durable) return;
    this.running = true;
    queueMicrotask(() => this.runGroup());
  }

  private runGroup(): void {
    const target = this.appender.lsn;
    try {
      this.writeOut(target);
    } catch (error) {
      this.endGroup(this.failed ?? asFailure(error));
      return;
    }
    const devices = this.segments.takeUnsynced();
    if (!this.dataDirty && this.pace.isInPlace) {
      this.syncInPlace(devices, target);
      return;
    }
    const start = performance.now();
    const syncs = devices.map((device) => device.sync());
    if (this.dataDirty) {
      this.dataDirty = false;
      syncs.push(this.options.dataDevice.sync());
    }
    // All of them end before anything else happens: no file is closed under a running sync.
    void Promise.allSettled(syncs).then((results) => {
      this.segments.giveBack(devices);
      this.pace.note(performance.now() - start);
      const rejected = results.find((result) => result.status === 'rejected');
      if (rejected === undefined) this.durable = target;
      this.endGroup(rejected === undefined ? undefined : asFailure(rejected.reason));
    });
  }

  /** On this thread, where the disk is faster than two hand-overs between threads are. */
  private syncInPlace(devices: readonly Device[], target: number): void {
    const start = performance.now();
    let failure: LsnfsError | undefined;
    try {
      for (const device of devices) device.syncNow();
      this.durable = target;
    } catch (error) {
      failure = asFailure(error);
    }
    this.segments.giveBack(devices);
    this.pace.note(performance.now() - start);
    // Not within the microtask of who asks: it may ask again, and the event loop has to turn.
    setImmediate(() => this.endGroup(failure));
  }

  private endGroup(failure: LsnfsError | undefined): void {
    this.running = false;
    if (failure !== undefined) this.failed ??= failure;
    const waiters = this.waiters;
    this.waiters = [];
    for (const waiter of waiters) {
      if (waiter.lsn <= this.durable) call(waiter.callback, undefined);
      else if (this.failed !== undefined) call(waiter.callback, this.failed);
      else this.waiters.push(waiter);
    }
    this.startGroup();
    this.checkIdle();
  }

  /** Makes room in the ring. A log that has failed writes nothing more: what is in its ring can be overwritten. */
  private makeRoom(end: number): void {
    try {
      this.writeOut(end);
    } catch (error) {
      if (error !== this.failed) throw error;
    }
  }

  /** Writes the ring's bytes before `end` to the segment files. A failure is the log's. */
  private writeOut(end: number): void {
    if (this.failed !== undefined) throw this.failed;
    try {
      while (this.written < end) {
        const at = this.written % RING_SIZE;
        const inSegment = this.written % this.segmentSize;
        const length = Math.min(end - this.written, RING_SIZE - at, this.segmentSize - inSegment);
        this.segments.write(this.written, this.ring, at, length);
        this.written += length;
      }
    } catch (error) {
      this.failed = asFailure(error);
      // Whoever waits is told, also when no group is on its way that would do it.
      if (!this.running) queueMicrotask(() => this.endGroup(this.failed));
      throw this.failed;
    }
  }

  syncData(): Promise<void> {
    return settled((callback) => this.onDataSynced(callback));
  }

  onDataSynced(callback: DurabilityCallback): void {
    if (this.failed !== undefined) {
      queueMicrotask(() => callback(this.failed));
      return;
    }
    this.dataSyncs++;
    this.options.dataDevice.sync().then(
      () => {
        this.dataSyncs--;
        call(callback, this.failed);
        this.checkIdle();
      },
      (error: unknown) => {
        this.dataSyncs--;
        this.failed ??= asFailure(error);
        call(callback, this.failed);
        if (!this.running) this.endGroup(this.failed);
        this.checkIdle();
      },
    );
  }

  trim(lsn: number, most?: number): number {
    const tailStart = segmentOfEnd(this.durable, this.segmentSize) * this.segmentSize;
    const removed = removeSegments(this.options.directory, this.segmentSize, Math.min(lsn, tailStart), most);
    this.firstSegment += removed;
    return removed;
  }

  flushToFiles(): void {
    this.writeOut(this.appender.lsn);
  }

  close(): Promise<void> {
    this.closing ??= this.finish();
    return this.closing;
  }

  private async finish(): Promise<void> {
    if (this.failed === undefined) {
      this.wanted = this.appender.lsn;
      this.startGroup();
    }
    while (this.running || this.dataSyncs > 0) {
      await new Promise<void>((resolve) => {
        this.idle = resolve;
      });
    }
    clearTimeout(this.timer);
    if (this.failed === undefined && this.dataDirty) {
      try {
        this.options.dataDevice.syncNow();
      } catch (error) {
        this.failed = asFailure(error);
      }
    }
    this.segments.close();
    if (this.failed !== undefined) throw this.failed;
  }

  private checkIdle(): void {
    if (this.running || this.dataSyncs > 0) return;
    this.idle?.();
    this.idle = undefined;
  }
}

/** Whatever went wrong while bytes were on their way to the disk, the log cannot go on. */
function asFailure(error: unknown): LsnfsError {
  if (error instanceof LsnfsError) return error.code === 'STORE_FAILED' ? error : logFailure(error);
  return logFailure(new LsnfsError('IO', String(error), {}, { cause: error }));
}

/** One waiter's bug must not keep the others from being told: it becomes an uncaught exception of its own. */
function call(callback: DurabilityCallback, failure: LsnfsError | undefined): void {
  try {
    callback(failure);
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}

/**
 * Sends a reply. ENOENT: the request was interrupted and needs none any more; ENODEV: the file system is not
 * mounted any more.
 */
export function writeReply(descriptor: number, bytes: Uint8Array): void {
  try {
    fs.writeSync(descriptor, bytes, 0, bytes.length);
  } catch (error) {
    const code = systemErrorCode(error);
    if (code !== 'ENOENT' && code !== 'ENODEV') throw error;
  }
}
