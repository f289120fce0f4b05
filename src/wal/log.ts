/**
 * The log as the store uses it: one way to append, one way to wait.
 *
 * An LSN is a byte position in the log. A frame begins at a multiple of 8 and lies within one segment; a
 * transaction is one frame, or several of which all but the last carry MORE. `append` returns the LSN at which the
 * transaction ends, which is also where the next one begins unless it has to skip the rest of a segment.
 *
 * Appending is synchronous and never waits for the disk; durability is asynchronous. A transaction is durable when
 * its frames and all before them are synced, and so is the data file if `dataDirty` was noted before it.
 * A failed write or sync makes the log fail for ever (`failure`): nothing is retried (fsyncgate).
 */
import { LsnfsError } from '../errors.ts';
import type { Device, StorageDirectory } from '../storage/device.ts';

export interface Log {
  /** End of the last transaction that was appended: the LSN of the live state. */
  readonly lsn: number;
  /** Everything that ends at or before it is on stable storage. */
  readonly durableLsn: number;
  /** Why the log takes nothing more, or undefined. */
  readonly failure: LsnfsError | undefined;
  /** Size and number of the segment files that exist. */
  readonly segmentCount: number;
  readonly segmentSize: number;

  /**
   * Makes sure that a transaction of up to `bytes` bytes of records can be appended, so that `append` cannot fail
   * for want of space after the trees were changed.
   * @throws LsnfsError NO_SPACE, or STORE_FAILED when the log has failed.
   */
  reserve(bytes: number): void;
  /**
   * Appends records[0, length) as one transaction made at `timeMicroseconds` since 1970 (clamped so that it never
   * goes backwards). Returns the LSN at which it ends. A log that fails amid an operation, or has failed since it
   * began, takes the transaction like one that was appended a moment earlier: it will never be durable. So what was
   * applied to the trees need not be undone.
   * @throws LsnfsError NO_SPACE when more is appended than was reserved; then nothing was.
   */
  append(records: Uint8Array, length: number, timeMicroseconds: number): number;
  /** The data file was written: the next sync of the log syncs it too, in parallel. */
  noteDataDirty(): void;
  /** Resolves when everything up to `lsn` is durable; rejects with the failure. Does not wait for a timer. */
  sync(lsn: number): Promise<void>;
  /**
   * Makes everything up to `lsn` durable before it returns, where that is quicker than what `requestSync` starts: for who would
   * do nothing else meanwhile. Returns whether it is durable; if not, nothing was begun, or the log has failed.
   */
  syncNow(lsn: number): boolean;
  /** Starts making everything up to `lsn` durable without waiting for it. */
  requestSync(lsn: number): void;
  /**
   * When everything up to `lsn` is durable, writes `bytes` (a reply, at most 64 bytes) to the file descriptor;
   * when the log fails first, writes `failureBytes`. Exactly one of the two is written, once.
   */
  writeWhenDurable(lsn: number, descriptor: number, bytes: Uint8Array, failureBytes: Uint8Array): void;
  /**
   * Calls back when everything up to `lsn` is durable, or with the failure when the log fails first. Starts
   * nothing: see `requestSync`. In one thread the callback comes from the event loop; a log with a thread of its
   * own calls it from `poll` too, for a thread whose event loop does not turn. Never from within this call.
   */
  onDurable(lsn: number, callback: DurabilityCallback): void;
  /** Runs the callbacks that are due. Cheap when there are none. */
  poll(): void;
  /** Syncs the data file alone (checkpoints). */
  syncData(): Promise<void>;
  /** The same with a callback, which comes as that of `onDurable` does. */
  onDataSynced(callback: DurabilityCallback): void;
  /**
   * Removes the segments that lie whole before `lsn`, `most` at a time (default: all), but never the one the log ends in.
   * Returns how many.
   */
  trim(lsn: number, most?: number): number;
  /** After this returns, everything appended can be read from the segment files (it need not be durable). */
  flushToFiles(): void;
  /** Makes everything durable and releases threads and files. Rejects with the failure of a log that has failed. */
  close(): Promise<void>;
}

/** `failure` is undefined when what was waited for is durable. */
export type DurabilityCallback = (failure: LsnfsError | undefined) => void;

/** What a log goes on from: where recovery found its end. */
export interface LogOptions {
  readonly directory: StorageDirectory;
  readonly storeId: Uint8Array;
  readonly segmentSize: number;
  /** End of the last transaction that counts; FIRST_LSN for a new log. What follows it is wiped out. */
  readonly endLsn: number;
  /** Checksum of that transaction's last frame; 0 for a new log. */
  readonly previousChecksum: number;
  /** Time of that transaction; times never go backwards. */
  readonly lastTimeMicroseconds: number;
  /** What follows this LSN may never have reached the disk: it is written again and synced. */
  readonly syncFrom: number;
  /** The file that `noteDataDirty` and `syncData` mean. */
  readonly dataDevice: Device;
  /** What nobody waits for is durable after this time at the latest. */
  readonly commitIntervalMs: number;
}

/** The error that a log's failure is for everybody who uses it from then on. */
export function logFailure(cause: LsnfsError): LsnfsError {
  return new LsnfsError(
    'STORE_FAILED',
    `the log has failed, and the store takes no more changes until it is opened again: ${cause.message}`,
    { ...cause.details, cause: cause.code },
    { cause },
  );
}

/** A promise for what a callback is told: resolves without a failure, rejects with one. */
export function settled(register: (callback: DurabilityCallback) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    register((failure) => {
      if (failure === undefined) resolve();
      else reject(failure);
    });
  });
}
