/**
 * The log for a thread that never waits: a mount's store thread, which is nearly always in a blocking read of the
 * next request, so that its event loop does not turn.
 *
 * `append` lays the transaction out in a ring in shared memory and publishes where it ends; a writer thread
 * (writer.ts) does all the rest. This side blocks only where it must have an answer: when the ring or the reply
 * slots are full, when a segment is missing (`reserve`), and in `flushToFiles` and `close`.
 *
 * Durability is heard of by `poll` between requests; for a thread that sleeps the writer posts a message to
 * `notifyPort`, whose owner wakes it. Without such a port the message comes to this thread, whose event loop then
 * polls, so that promises work too.
 *
 * The writer may die without a word (its heap is full, say). That is the log's failure like any other: whoever blocks
 * here looks after it, by its thread in /proc; otherwise this thread's event loop hears of it. Replies that the writer
 * still had to send are then sent from here.
 */
import { existsSync } from 'node:fs';
import { type MessagePort, Worker } from 'node:worker_threads';
import { assert, LsnfsError } from '../errors.ts';
import { checkTransactionSize, FrameAppender, spaceNeeded } from './frame-appender.ts';
import { writeReply } from './in-process-log.ts';
import { type DurabilityCallback, type Log, type LogOptions, settled } from './log.ts';
import { sendReplies } from './replies.ts';
import { removeSegments, segmentOfEnd } from './segment.ts';
import {
  ANSWER,
  ANSWER_RESULT,
  APPENDED,
  AVAILABLE,
  CALL,
  CALL_ARGUMENT,
  CALL_CLOSE,
  CALL_FLUSH,
  CALL_KIND,
  CALL_PREPARE,
  DATA_DIRTY,
  DATA_SYNCS_DONE,
  DATA_SYNCS_WANTED,
  DURABLE,
  FAILED,
  GROUPS,
  getError,
  lsnBefore,
  NOTIFY_WANTED,
  PREPARED,
  PROGRESS,
  publishFailure,
  REPLIES_LOST,
  REPLY_BYTES_MAXIMUM,
  REPLY_HEAD,
  REPLY_SLOTS,
  REPLY_TAIL,
  RESULT_DONE,
  RING_BUSY,
  RING_SIZE,
  SharedMemory,
  SIGNAL,
  SLOT_BYTES,
  SLOT_DESCRIPTOR,
  SLOT_FAILURE_BYTES,
  SLOT_FAILURE_LENGTH,
  SLOT_LENGTH,
  SLOT_LSN,
  SLOT_SIZE,
  STATE_BUSY,
  STATE_IDLE,
  STORE_WAITS,
  SYNC_WANTED,
  WRITER_STATE,
  WRITER_THREAD,
  WRITTEN,
} from './shared-memory.ts';
import { SyncInPlace } from './sync-in-place.ts';
import { type Pace, SyncPace } from './sync-pace.ts';
import { prepareTail } from './tail.ts';
import type { WriterThreadData } from './writer-thread.ts';

/** A writer thread that does not run by then never will. */
const START_TIMEOUT_MS = 30_000;
/** Whoever blocks on the writer looks this often whether it is still there. */
const LIVENESS_MS = 1000;

export interface ThreadedLogOptions extends LogOptions {
  /** Gets a message when `poll` has something to do; without it this thread's event loop polls. */
  readonly notifyPort?: MessagePort;
  /** Where the writer runs. Default: in a thread. */
  readonly startWriter?: (start: WriterStart) => WriterRunner;
  /** When `syncNow` syncs. Default: by how long syncs take. */
  readonly pace?: Pace;
}

export interface WriterStart {
  readonly options: ThreadedLogOptions;
  readonly shared: SharedMemory;
  /** The last segment that exists. */
  readonly preparedSegment: number;
  /** Told that `poll` has something to do, when there is no `notifyPort`. */
  readonly progressed: () => void;
  /** Told when the writer has ended, with the reason if it was not asked to. */
  readonly ended: (error: Error | undefined) => void;
}

/** What runs the writer: its thread, or, in the crash laboratory, a scheduler on this one. */
export interface WriterRunner {
  /** Resolves after `ended`. */
  readonly exited: Promise<void>;
  /** Blocks until PROGRESS is not `progress`. Returns false when that takes long: somebody may have to look after it. */
  waitForProgress(progress: number): boolean;
  /** Whether the process waits for it. */
  ref(): void;
  unref(): void;
}

interface Waiter {
  /** An LSN, or the number of a sync of the data file. */
  readonly target: number;
  readonly callback: DurabilityCallback;
}

export class ThreadedLog implements Log {
  readonly segmentSize: number;
  private readonly options: ThreadedLogOptions;
  private readonly shared = new SharedMemory();
  private readonly appender: FrameAppender;
  private readonly writer: WriterRunner;
  private readonly inPlace: SyncInPlace;
  private firstSegment: number;
  /** What was seen of the writer's words last; they only grow. */
  private written: number;
  private preparedEnd: number;
  private waiters: Waiter[] = [];
  private dataWaiters: Waiter[] = [];
  private keepsAlive = false;
  private failed: LsnfsError | undefined;
  private writerError: Error | undefined;
  private closing: Promise<void> | undefined;
  /** The writer has nothing left to do and may end. */
  private closed = false;

  /** Opens the log where recovery found its end; `directory` and `dataDevice` must be files. */
  constructor(options: ThreadedLogOptions) {
    this.options = options;
    this.segmentSize = options.segmentSize;
    const { first, prepared } = prepareTail(options);
    this.firstSegment = first;
    this.written = options.endLsn;
    this.preparedEnd = (prepared + 1) * options.segmentSize;
    const { shared } = this;
    for (const word of [AVAILABLE, APPENDED, WRITTEN, DURABLE]) shared.store(word, options.endLsn | 0);
    shared.store(PREPARED, prepared);
    this.appender = new FrameAppender({
      storeId: options.storeId,
      segmentSize: options.segmentSize,
      endLsn: options.endLsn,
      previousChecksum: options.previousChecksum,
      lastTimeMicroseconds: options.lastTimeMicroseconds,
      ring: shared.ring,
      waitForRoom: (position, bytes) => this.waitForRoom(position, bytes),
    });
    this.writer = (options.startWriter ?? startThread)({
      options,
      shared,
      preparedSegment: prepared,
      progressed: () => this.poll(),
      ended: (error) => {
        this.writerError = error;
        if (!this.closed) this.writerIsGone('it ended');
      },
    });
    this.writer.unref();
    this.inPlace = new SyncInPlace({
      shared,
      directory: options.directory,
      segmentSize: options.segmentSize,
      endLsn: options.endLsn,
      pace: options.pace ?? new SyncPace(true),
    });
  }

  get lsn(): number {
    return this.appender.lsn;
  }
  get durableLsn(): number {
    return lsnBefore(this.appender.lsn, this.shared.load(DURABLE));
  }
  get failure(): LsnfsError | undefined {
    if (this.failed === undefined && this.shared.load(FAILED) === 1) {
      this.failed = getError(this.shared.buffers.failure);
    }
    return this.failed;
  }
  get segmentCount(): number {
    return this.shared.load(PREPARED) - this.firstSegment + 1;
  }
  /** Groups synced since the log was opened. */
  get groupCount(): number {
    return this.shared.load(GROUPS);
  }
  /** Replies that could not be written, for another reason than that nobody wants them any more. */
  get repliesLost(): number {
    return this.shared.load(REPLIES_LOST);
  }

  reserve(bytes: number): void {
    this.check();
    checkTransactionSize(bytes);
    const end = this.appender.lsn + spaceNeeded(bytes, this.segmentSize);
    if (end <= this.preparedEnd) return;
    this.preparedEnd = (this.shared.load(PREPARED) + 1) * this.segmentSize;
    if (end <= this.preparedEnd) return;
    try {
      this.call(CALL_PREPARE, Math.ceil(end / this.segmentSize) - 1);
    } finally {
      this.preparedEnd = (this.shared.load(PREPARED) + 1) * this.segmentSize;
    }
  }

  append(records: Uint8Array, length: number, timeMicroseconds: number): number {
    try {
      this.reserve(length);
    } catch (error) {
      if (this.failure === undefined) throw error;
    }
    const lsn = this.appender.append(records, length, timeMicroseconds, this.durableLsn);
    const { shared } = this;
    shared.store(AVAILABLE, lsn | 0);
    shared.store(APPENDED, lsn | 0);
    if (lsn - this.written > RING_BUSY) this.written = lsnBefore(lsn, shared.load(WRITTEN));
    if (shared.load(WRITER_STATE) === STATE_IDLE || lsn - this.written > RING_BUSY) this.wake();
    return lsn;
  }

  private check(): void {
    const failure = this.failure;
    if (failure !== undefined) throw failure;
    if (this.closing !== undefined) throw new LsnfsError('STORE_CLOSED', 'the log is closed');
  }

  private wake(): void {
    Atomics.add(this.shared.words, SIGNAL, 1);
    if (this.shared.load(WRITER_STATE) !== STATE_BUSY) Atomics.notify(this.shared.words, SIGNAL);
  }

  private waitForRoom(position: number, bytes: number): void {
    if (position + bytes - this.written <= RING_SIZE) return;
    this.shared.store(AVAILABLE, position | 0);
    try {
      this.waitUntil(() => {
        this.written = lsnBefore(position, this.shared.load(WRITTEN));
        return position + bytes - this.written <= RING_SIZE;
      });
    } catch (error) {
      // A log that has failed writes nothing more: what is in its ring can be overwritten.
      if (this.failure === undefined) throw error;
    }
  }

  /** Blocks until `done`, which the writer's progress changes. @throws the log's failure */
  private waitUntil(done: () => boolean): void {
    const { shared } = this;
    const start = performance.now();
    shared.store(STORE_WAITS, 1);
    try {
      for (;;) {
        const progress = shared.load(PROGRESS);
        if (done()) return;
        if (this.failure !== undefined) throw this.failure;
        this.wake();
        if (!this.writer.waitForProgress(progress)) this.lookAfter(start);
      }
    } finally {
      shared.store(STORE_WAITS, 0);
    }
  }

  /** Has the writer do something and waits for its answer. */
  private call(kind: number, argument: number): void {
    const { shared } = this;
    const call = (shared.load(CALL) + 1) | 0;
    shared.store(CALL_KIND, kind);
    shared.store(CALL_ARGUMENT, argument);
    shared.store(CALL, call);
    this.wake();
    this.waitUntil(() => shared.load(ANSWER) === call);
    if (shared.load(ANSWER_RESULT) !== RESULT_DONE) throw getError(shared.buffers.callError);
  }

  noteDataDirty(): void {
    this.shared.store(DATA_DIRTY, 1);
  }

  sync(lsn: number): Promise<void> {
    if (lsn <= this.durableLsn) return Promise.resolve();
    return settled((callback) => {
      this.onDurable(lsn, callback);
      this.requestSync(lsn);
    });
  }

  syncNow(lsn: number): boolean {
    const { durableLsn } = this;
    if (lsn <= durableLsn) return true;
    // Who waits for a callback is told by the writer.
    if (this.waiters.length + this.dataWaiters.length > 0) return false;
    if (this.inPlace.sync(durableLsn, this.appender.lsn)) return true;
    if (this.failure !== undefined) this.wake();
    return false;
  }

  requestSync(lsn: number): void {
    assert(lsn <= this.appender.lsn, 'only what was appended can become durable');
    if (lsn <= this.durableLsn) return;
    this.shared.store(SYNC_WANTED, 1);
    this.wake();
  }

  onDurable(lsn: number, callback: DurabilityCallback): void {
    assert(lsn <= this.appender.lsn, 'only what was appended can become durable');
    this.waiters.push({ target: lsn, callback });
    this.expectNotice(lsn);
  }

  /** Asks for a message; when what is waited for has happened already, none may come. */
  private expectNotice(lsn: number): void {
    this.shared.store(NOTIFY_WANTED, 1);
    this.keepAlive();
    if (lsn <= this.durableLsn || this.failure !== undefined) setImmediate(() => this.poll());
  }

  /** The thread keeps the process alive while somebody waits for it. */
  private keepAlive(): void {
    const needed = this.waiters.length + this.dataWaiters.length > 0;
    if (needed === this.keepsAlive) return;
    this.keepsAlive = needed;
    if (needed) this.writer.ref();
    else this.writer.unref();
  }

  poll(): void {
    if (this.waiters.length === 0 && this.dataWaiters.length === 0) return;
    this.shared.store(NOTIFY_WANTED, 1); // before looking, so that nothing is missed
    const failure = this.failure;
    const waiters = this.waiters;
    const dataWaiters = this.dataWaiters;
    this.waiters = [];
    this.dataWaiters = [];
    this.settle(waiters, this.durableLsn, failure, this.waiters);
    this.settle(dataWaiters, failure === undefined ? this.dataSyncsDone() : -1, failure, this.dataWaiters);
    this.keepAlive();
  }

  private settle(
    waiters: readonly Waiter[],
    reached: number,
    failure: LsnfsError | undefined,
    remaining: Waiter[],
  ): void {
    for (const waiter of waiters) {
      if (waiter.target > reached && failure === undefined) {
        remaining.push(waiter);
        continue;
      }
      try {
        waiter.callback(waiter.target <= reached ? undefined : failure);
      } catch (error) {
        // One waiter's bug must not keep the others from being told.
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }

  writeWhenDurable(lsn: number, descriptor: number, bytes: Uint8Array, failureBytes: Uint8Array): void {
    assert(
      bytes.length <= REPLY_BYTES_MAXIMUM && failureBytes.length <= REPLY_BYTES_MAXIMUM,
      'a reply has up to 64 bytes',
    );
    assert(lsn <= this.appender.lsn, 'only what was appended can become durable');
    if (lsn <= this.durableLsn) {
      writeReply(descriptor, bytes);
      return;
    }
    if (this.failed !== undefined) {
      writeReply(descriptor, failureBytes);
      return;
    }
    const { shared } = this;
    const tail = shared.load(REPLY_TAIL);
    if (((tail - shared.load(REPLY_HEAD)) | 0) >= REPLY_SLOTS) {
      try {
        this.waitUntil(() => ((tail - shared.load(REPLY_HEAD)) | 0) < REPLY_SLOTS);
      } catch (error) {
        if (this.failed === undefined) throw error;
        writeReply(descriptor, lsn <= this.durableLsn ? bytes : failureBytes);
        return;
      }
    }
    const at = (tail & (REPLY_SLOTS - 1)) * SLOT_SIZE;
    shared.replyWords[(at + SLOT_LSN) >> 2] = lsn | 0;
    shared.replyWords[(at + SLOT_DESCRIPTOR) >> 2] = descriptor;
    shared.replyWords[(at + SLOT_LENGTH) >> 2] = bytes.length;
    shared.replyWords[(at + SLOT_FAILURE_LENGTH) >> 2] = failureBytes.length;
    shared.replies.set(bytes, at + SLOT_BYTES);
    shared.replies.set(failureBytes, at + SLOT_FAILURE_BYTES);
    shared.store(REPLY_TAIL, (tail + 1) | 0);
    shared.store(SYNC_WANTED, 1);
    this.wake();
  }

  syncData(): Promise<void> {
    return settled((callback) => this.onDataSynced(callback));
  }

  private dataSyncsDone(): number {
    return this.shared.load(DATA_SYNCS_DONE);
  }

  onDataSynced(callback: DurabilityCallback): void {
    const target = this.shared.load(DATA_SYNCS_WANTED) + 1;
    this.shared.store(DATA_SYNCS_WANTED, target);
    this.dataWaiters.push({ target, callback });
    this.expectNotice(Number.POSITIVE_INFINITY);
    this.wake();
  }

  trim(lsn: number, most?: number): number {
    this.inPlace.trim(this.durableLsn);
    const tailStart = segmentOfEnd(this.durableLsn, this.segmentSize) * this.segmentSize;
    const removed = removeSegments(this.options.directory, this.segmentSize, Math.min(lsn, tailStart), most);
    this.firstSegment += removed;
    return removed;
  }

  flushToFiles(): void {
    this.check();
    if (this.shared.load(WRITTEN) !== (this.appender.lsn | 0)) this.call(CALL_FLUSH, 0);
  }

  close(): Promise<void> {
    this.closing ??= this.finish();
    return this.closing;
  }

  private async finish(): Promise<void> {
    try {
      this.call(CALL_CLOSE, 0);
      this.closed = true;
    } finally {
      this.inPlace.close();
      this.writer.ref();
      await this.writer.exited;
      this.poll();
      if (this.waiters.length + this.dataWaiters.length > 0) {
        this.failed ??= new LsnfsError('STORE_CLOSED', 'the log is closed');
        this.poll();
      }
    }
  }

  /** Whether the writer, for which this thread has waited in vain since `start`, is still there. */
  private lookAfter(start: number): void {
    const thread = this.shared.load(WRITER_THREAD);
    if (thread === 0) {
      if (performance.now() - start > START_TIMEOUT_MS) this.writerIsGone('it did not start');
    } else if (!existsSync(`/proc/self/task/${thread}`)) this.writerIsGone('it ended');
  }

  private writerIsGone(how: string): void {
    if (this.failure === undefined) {
      const why = this.writerError?.message ?? how;
      const error = new LsnfsError(
        'IO',
        `the log's writer thread is gone: ${why}`,
        {},
        { cause: this.writerError },
      );
      this.failed = publishFailure(this.shared, error);
    }
    sendReplies(this.shared, this.durableLsn, true);
    this.poll();
  }
}

/** Runs the writer in a thread of its own. The directory and the data file must be files. */
function startThread({
  options,
  shared,
  preparedSegment,
  progressed,
  ended,
}: WriterStart): WriterRunner & { worker: Worker } {
  assert(options.dataDevice.descriptor >= 0, 'a log with a thread of its own works on files');
  const workerData: WriterThreadData = {
    buffers: shared.buffers,
    directoryPath: options.directory.path,
    segmentSize: options.segmentSize,
    endLsn: options.endLsn,
    preparedSegment,
    dataDescriptor: options.dataDevice.descriptor,
    dataName: options.dataDevice.name,
    commitIntervalMs: options.commitIntervalMs,
    notifyPort: options.notifyPort,
  };
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
  const worker = new Worker(new URL(`./writer-thread.${extension}`, import.meta.url), {
    workerData,
    transferList: options.notifyPort === undefined ? [] : [options.notifyPort],
    name: 'lsnfs log',
    // The log's bytes are in shared memory; the thread itself makes next to nothing.
    resourceLimits: { maxYoungGenerationSizeMb: 3 },
  });
  let failure: Error | undefined;
  const exited = new Promise<void>((resolve) => {
    worker.once('exit', () => {
      ended(failure);
      resolve();
    });
  });
  // Its end follows.
  worker.on('error', (error) => {
    failure = error;
  });
  worker.on('message', progressed);
  return {
    worker,
    exited,
    waitForProgress: (progress) =>
      Atomics.wait(shared.words, PROGRESS, progress, LIVENESS_MS) !== 'timed-out',
    ref: () => worker.ref(),
    unref: () => worker.unref(),
  };
}
