/**
 * The writer of a log that has a thread of its own: takes the log's bytes out of the ring, writes and syncs them,
 * sends the replies that waited for that, and makes segments ahead of need.
 *
 * It sleeps in Atomics.wait and never needs its event loop, except to end a sync of the data file, which runs
 * in the thread pool beside the sync of the segment. A checkpoint's sync of the data file may take long; commits
 * go on beside it.
 *
 * Order that durability rests on. The store writes file data, then sets DATA_DIRTY, then publishes APPENDED. The writer reads
 * APPENDED, then takes DATA_DIRTY, then syncs. So whatever data the transactions up to APPENDED name is synced with or
 * before them.
 *
 * After a failure it stays to answer: calls with the failure, replies with the failure's bytes.
 */
import { LsnfsError } from '../errors.ts';
import type { StorageDirectory } from '../storage/device.ts';
import { sendReplies } from './replies.ts';
import { SegmentFiles } from './segment.ts';
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
  LAG_LIMIT,
  lsnAfter,
  NOTIFY_WANTED,
  PREPARED,
  PROGRESS,
  publishFailure,
  putError,
  REPLY_HEAD,
  REPLY_TAIL,
  RESULT_DONE,
  RESULT_ERROR,
  RING_BUSY,
  RING_SIZE,
  type SharedMemory,
  SIGNAL,
  STATE_AWAITED,
  STATE_BORROWED,
  STATE_BUSY,
  STATE_IDLE,
  STATE_WAITING,
  STORE_WAITS,
  SYNC_MICROSECONDS,
  SYNC_WANTED,
  WRITER_STATE,
  WRITTEN,
} from './shared-memory.ts';

/** While a sync of the data file runs, its end is looked for this often. */
const DATA_SYNC_POLL_MS = 1;

export interface WriterOptions {
  readonly shared: SharedMemory;
  readonly directory: StorageDirectory;
  readonly segmentSize: number;
  readonly endLsn: number;
  readonly preparedSegment: number;
  /** The data file, which belongs to the store. */
  readonly dataDevice: { sync(): PromiseLike<void> };
  readonly commitIntervalMs: number;
  /** Tells the other side that something advanced that it waits for. */
  readonly notify: () => void;
}

export class LogWriter {
  private readonly options: WriterOptions;
  private readonly shared: SharedMemory;
  private readonly segments: SegmentFiles;
  private written: number;
  private durable: number;
  private failure: LsnfsError | undefined;
  private callsAnswered = 0;
  /** When what is not durable yet has to be, or Infinity. */
  private deadline = Number.POSITIVE_INFINITY;
  /**
   * Since when it sleeps, or slept last, and so that nobody need wake it for what is only appended; NaN when
   * it did not. Whatever was appended meanwhile is taken to be as old as that.
   */
  private asleepSince = Number.NaN;
  private dataSyncRunning = false;
  /** Something has become durable since it slept last. */
  private worked = false;
  private closed = false;
  /** The last round made a piece of a segment: there may be more of it. */
  private stepped = false;

  /** @throws LsnfsError when the segments cannot be opened. */
  constructor(options: WriterOptions) {
    this.options = options;
    this.shared = options.shared;
    const { directory, segmentSize, preparedSegment, endLsn } = options;
    this.segments = new SegmentFiles(directory, segmentSize, preparedSegment, endLsn);
    this.written = options.endLsn;
    this.durable = options.endLsn;
  }

  /** Serves until it is closed. */
  async run(): Promise<void> {
    while (!this.closed) {
      const signal = this.shared.load(SIGNAL);
      const rest = this.round();
      if (rest !== undefined) await rest;
      if (this.stepped) continue;
      if (this.dataSyncRunning) await turnOfEventLoop();
      if (!this.closed) this.sleep(signal);
    }
  }

  /** It was told to close, and has. */
  get isClosed(): boolean {
    return this.closed;
  }

  /**
   * One round of whatever is to be done: what `run` repeats, and the crash laboratory calls when it sees fit. The next one may
   * begin when the promise is settled, which there is when a sync of the data file is part of the round. Never throws:
   * what fails is the log's failure.
   */
  round(): PromiseLike<void> | undefined {
    const finish = (): void => {
      this.stepped = this.step();
    };
    const fail = (error: unknown): void => this.fail(error);
    this.stepped = false;
    try {
      const rest = this.work();
      if (rest !== undefined) return rest.then(finish).then(undefined, fail);
      finish();
    } catch (error) {
      this.fail(error);
    }
    return undefined;
  }

  private work(): PromiseLike<void> | undefined {
    const { words } = this.shared;
    this.adopt();
    const call = this.shared.load(CALL);
    const called = call !== this.callsAnswered ? this.shared.load(CALL_KIND) : 0;
    const syncWanted = Atomics.exchange(words, SYNC_WANTED, 0) === 1 || called === CALL_CLOSE;
    const appended = lsnAfter(this.durable, this.shared.load(APPENDED));
    const available = lsnAfter(this.written, this.shared.load(AVAILABLE));
    if (this.failure !== undefined) {
      this.afterSync();
      if (called !== 0) this.answer(call, called);
      return undefined;
    }
    if (!this.dataSyncRunning && this.wantsDataSync()) this.startDataSync();
    const now = performance.now();
    if (appended > this.durable && this.deadline === Number.POSITIVE_INFINITY) {
      const since = Number.isNaN(this.asleepSince) ? now : this.asleepSince;
      this.deadline = since + this.options.commitIntervalMs;
    }
    const sync =
      appended > this.durable && (syncWanted || now >= this.deadline || available - this.durable > LAG_LIMIT);
    const write =
      sync || called !== 0 || available - this.written > RING_BUSY || this.shared.load(STORE_WAITS) === 1;
    if (write && available > this.written) this.writeOut(available);
    if (sync || called === CALL_CLOSE) {
      const rest = this.sync(appended);
      if (rest !== undefined) {
        return rest.then(() => {
          this.afterSync();
          if (called !== 0) this.answer(call, called);
        });
      }
    }
    this.afterSync();
    if (called !== 0) this.answer(call, called);
    return undefined;
  }

  /** Goes on from what the store has done in its place. */
  private adopt(): void {
    const { shared } = this;
    this.written = lsnAfter(this.written, shared.load(WRITTEN));
    const durable = lsnAfter(this.durable, shared.load(DURABLE));
    if (durable !== this.durable) {
      this.durable = durable;
      this.deadline = Number.POSITIVE_INFINITY;
      this.worked = true;
    }
    if (this.failure === undefined && shared.load(FAILED) === 1) this.fail(undefined);
  }

  private writeOut(end: number): void {
    const segmentSize = this.options.segmentSize;
    while (this.written < end) {
      const at = this.written % RING_SIZE;
      const inSegment = this.written % segmentSize;
      const length = Math.min(end - this.written, RING_SIZE - at, segmentSize - inSegment);
      this.segments.write(this.written, this.shared.ring, at, length);
      this.written += length;
      this.shared.store(WRITTEN, this.written | 0);
      this.progress();
    }
  }

  /** Makes everything up to `target`, which is written, durable. */
  private sync(target: number): PromiseLike<void> | undefined {
    const dataDirty = Atomics.exchange(this.shared.words, DATA_DIRTY, 0) === 1;
    const dataSync = dataDirty ? this.options.dataDevice.sync() : undefined;
    const devices = this.segments.takeUnsynced();
    let error: unknown;
    const start = performance.now();
    try {
      try {
        for (const device of devices) device.syncNow();
      } finally {
        this.segments.giveBack(devices);
      }
      const microseconds = (performance.now() - start) * 1000;
      this.shared.store(SYNC_MICROSECONDS, Math.min(microseconds, 2 ** 31 - 1));
    } catch (caught) {
      error = caught; // thrown when the sync of the data file has ended too
    }
    if (dataSync === undefined) {
      if (error !== undefined) throw error;
      this.publish(target);
      return undefined;
    }
    return dataSync.then(() => {
      if (error !== undefined) throw error;
      this.publish(target);
    });
  }

  private publish(target: number): void {
    this.durable = target;
    this.deadline = Number.POSITIVE_INFINITY;
    this.asleepSince = Number.NaN;
    this.worked = true;
    this.shared.store(DURABLE, target | 0);
    Atomics.add(this.shared.words, GROUPS, 1);
    this.sendReplies();
    this.notify();
  }

  /** What has to be looked at after every round: replies may have come after the sync that covers them. */
  private afterSync(): void {
    if (this.shared.load(REPLY_HEAD) !== this.shared.load(REPLY_TAIL)) this.sendReplies();
  }

  private wantsDataSync(): boolean {
    return this.shared.load(DATA_SYNCS_WANTED) !== this.shared.load(DATA_SYNCS_DONE);
  }

  /** A sync of the data file alone, beside everything else. */
  private startDataSync(): void {
    this.dataSyncRunning = true;
    const wanted = this.shared.load(DATA_SYNCS_WANTED);
    void this.options.dataDevice.sync().then(
      () => {
        this.dataSyncRunning = false;
        this.shared.store(DATA_SYNCS_DONE, wanted);
        this.notify();
      },
      (error: unknown) => {
        this.dataSyncRunning = false;
        this.fail(error);
      },
    );
  }

  private sendReplies(): void {
    sendReplies(this.shared, this.durable, this.failure !== undefined);
    this.progress();
  }

  private answer(call: number, kind: number): void {
    this.callsAnswered = call;
    let error = this.failure;
    if (kind === CALL_PREPARE && error === undefined) {
      try {
        this.segments.prepare(this.shared.load(CALL_ARGUMENT));
      } catch (caught) {
        if (!(caught instanceof LsnfsError)) throw caught;
        error = caught;
      }
      this.shared.store(PREPARED, this.segments.prepared);
    } else if (kind === CALL_CLOSE) {
      this.closed = true;
      this.segments.close();
    } else if (kind !== CALL_FLUSH && kind !== CALL_PREPARE) {
      error = new LsnfsError('INVALID_INPUT', `unknown call ${kind}`);
    }
    if (error !== undefined) putError(this.shared.buffers.callError, error);
    this.shared.store(ANSWER_RESULT, error === undefined ? RESULT_DONE : RESULT_ERROR);
    this.shared.store(ANSWER, call);
    this.progress();
  }

  /** Makes a piece of the next segment, when it is time. Returns whether it did. */
  private step(): boolean {
    if (this.closed || this.failure !== undefined || !this.segments.wantsStep(this.written)) return false;
    this.segments.step(false);
    this.shared.store(PREPARED, this.segments.prepared);
    return true;
  }

  /** Fails with an error, or with the failure that is published. */
  private fail(error: unknown): void {
    if (this.failure === undefined) {
      const { shared } = this;
      this.failure =
        shared.load(FAILED) === 1 ? getError(shared.buffers.failure) : publishFailure(shared, error);
      this.deadline = Number.POSITIVE_INFINITY;
    }
    this.sendReplies();
    this.progress();
    this.notify();
  }

  private notify(): void {
    if (Atomics.exchange(this.shared.words, NOTIFY_WANTED, 0) === 1) this.options.notify();
  }

  private progress(): void {
    Atomics.add(this.shared.words, PROGRESS, 1);
    if (this.shared.load(STORE_WAITS) === 1) Atomics.notify(this.shared.words, PROGRESS);
  }

  /** Waits for SIGNAL to change from `signal`, at most until the next deadline. */
  private sleep(signal: number): void {
    const pending = this.failure === undefined && this.shared.load(APPENDED) !== (this.durable | 0);
    if (pending && this.deadline === Number.POSITIVE_INFINITY) return; // appended since `work` looked
    if (this.failure === undefined && !this.dataSyncRunning && this.wantsDataSync()) return;
    const now = performance.now();
    // To be woken costs the store thread more than the rest of a small write. So who has just worked does not ask to be woken
    // for the next append, but looks itself, once, before that could be too old.
    const dozes = !pending && this.failure === undefined && this.worked;
    let timeout = Number.POSITIVE_INFINITY;
    if (pending) timeout = this.deadline - now;
    else if (dozes) timeout = this.options.commitIntervalMs;
    this.asleepSince = pending || dozes ? now : Number.NaN;
    this.worked = false;
    if (this.dataSyncRunning) timeout = Math.min(timeout, DATA_SYNC_POLL_MS);
    if (timeout <= 0) return;
    const { shared } = this;
    shared.store(WRITER_STATE, pending || dozes ? STATE_WAITING : STATE_IDLE);
    const isBusy = (): boolean => lsnAfter(this.written, shared.load(AVAILABLE)) - this.written > RING_BUSY;
    const isLate = (): boolean => this.failure === undefined && shared.load(APPENDED) !== (this.durable | 0);
    if (!(pending || dozes ? isBusy() : isLate())) Atomics.wait(shared.words, SIGNAL, signal, timeout);
    this.rise();
  }

  /** Takes its part back; a store thread that has borrowed it is waited for. */
  private rise(): void {
    const { words } = this.shared;
    for (;;) {
      const state = this.shared.load(WRITER_STATE);
      if (state === STATE_BORROWED) Atomics.compareExchange(words, WRITER_STATE, state, STATE_AWAITED);
      else if (state === STATE_AWAITED) Atomics.wait(words, WRITER_STATE, state);
      else if (Atomics.compareExchange(words, WRITER_STATE, state, STATE_BUSY) === state) return;
    }
  }
}

function turnOfEventLoop(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}
