/**
 * The log's writer thread on the thread of its user: whoever schedules says when it does a round, and while the store
 * blocks for it, it does what it must. So the code of both threads is explored deterministically. What only real threads can
 * show, the order of their reads and writes of shared memory, is for tests with real threads.
 */
import type { Device } from '../../src/storage/device.ts';
import { SimulatedDevice } from '../../src/storage/simulated-disk.ts';
import type { Log, LogOptions } from '../../src/wal/log.ts';
import { STATE_BUSY, STATE_WAITING, WRITER_STATE } from '../../src/wal/shared-memory.ts';
import { ThreadedLog, type WriterRunner, type WriterStart } from '../../src/wal/threaded-log.ts';
import { LogWriter } from '../../src/wal/writer.ts';

type Settle = (error: Error | undefined) => void;

/** The end of a sync, as a promise that calls at once and not in a microtask. */
class Landing implements PromiseLike<void> {
  private settled = false;
  private error: unknown;
  private readonly listeners: Settle[] = [];

  settle(error: unknown): void {
    this.settled = true;
    this.error = error;
    for (const listener of this.listeners) listener(error as Error | undefined);
  }

  // biome-ignore lint/suspicious/noThenProperty: it is a promise
  then<Result = void, Failure = never>(
    fulfilled?: ((value: undefined) => Result | PromiseLike<Result>) | null,
    rejected?: ((reason: unknown) => Failure | PromiseLike<Failure>) | null,
  ): PromiseLike<Result | Failure> {
    const next = new Landing();
    const listener: Settle = (error) => {
      try {
        if (error === undefined) void fulfilled?.(undefined);
        else if (rejected === undefined || rejected === null) return next.settle(error);
        else void rejected(error);
      } catch (thrown) {
        return next.settle(thrown);
      }
      next.settle(undefined);
    };
    if (this.settled) listener(this.error as Error | undefined);
    else this.listeners.push(listener);
    return next as unknown as PromiseLike<Result | Failure>;
  }
}

export class SteppedWriter implements WriterRunner {
  private readonly writer: LogWriter;
  private readonly start: WriterStart;
  /** Ends the sync of the data file that the present round waits for. */
  private land: (() => void) | undefined;
  private inRound = false;

  constructor(start: WriterStart) {
    this.start = start;
    const { options, shared, preparedSegment } = start;
    const { directory, segmentSize, endLsn, commitIntervalMs, dataDevice } = options;
    this.writer = new LogWriter({
      shared,
      directory,
      segmentSize,
      endLsn,
      preparedSegment,
      commitIntervalMs,
      dataDevice: { sync: () => this.syncData(dataDevice) },
      notify: () => setImmediate(() => start.progressed()),
    });
    this.sleep();
  }

  /** Between two rounds the store may sync in the writer's place. */
  private sleep(): void {
    this.start.shared.store(WRITER_STATE, STATE_WAITING);
  }

  private syncData(device: Device): PromiseLike<void> {
    if (!(device instanceof SimulatedDevice)) throw new Error('a stepped writer works on a simulated disk');
    const landing = new Landing();
    this.land = device.startSync((error) => {
      this.land = undefined;
      landing.settle(error);
    });
    return landing;
  }

  /** A round, unless the last one waits for the disk. */
  round(): void {
    if (this.inRound || this.writer.isClosed) return;
    this.inRound = true;
    this.start.shared.store(WRITER_STATE, STATE_BUSY);
    const rest = this.writer.round();
    const finish = (): void => {
      this.inRound = false;
      this.sleep();
    };
    if (rest === undefined) finish();
    else rest.then(finish);
  }

  /** The store blocks: the writer and the disk do what they can. */
  waitForProgress(): boolean {
    if (this.inRound) this.land?.();
    else this.round();
    return true;
  }

  get exited(): Promise<void> {
    while (!this.writer.isClosed) this.waitForProgress();
    this.start.ended(undefined);
    return Promise.resolve();
  }

  ref(): void {}
  unref(): void {}
}

/** Makes logs with a stepped writer, and tells of it. */
export function steppedLog(started: (writer: SteppedWriter) => void): (options: LogOptions) => Log {
  return (options) =>
    new ThreadedLog({
      ...options,
      // Whatever the time of day says: who asks for it syncs in place.
      pace: { isInPlace: true, note: () => {} },
      startWriter: (start) => {
        const writer = new SteppedWriter(start);
        started(writer);
        return writer;
      },
    });
}
