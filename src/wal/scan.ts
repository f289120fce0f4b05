/**
 * Reads a log for people: all that can be read, also behind what is damaged.
 *
 * Recovery stops at the first place where nothing continues the log, and rightly so. A person who looks at a damaged
 * store wants to know what stands behind it as well. So a scan goes on at the next frame that verifies by itself
 * (own LSN, checksum, store), says that it passed something over, and at the end why the log ends there.
 *
 * The scan takes no lock. A process that has the store open may be appending meanwhile; it writes in order, so that a
 * place which stopped the scan is looked at again before it is called damaged. Each step makes progress by a frame at
 * least, whatever the bytes are.
 */
import { isSegmentSize } from '../encoding/control.ts';
import { decodeSegmentHeader, SEGMENT_HEADER_SIZE } from '../encoding/frame.ts';
import { LsnfsError } from '../errors.ts';
import type { StorageDirectory } from '../storage/device.ts';
import { LogReader, type LogTransaction } from './reader.ts';
import { listSegments, segmentName, WAL_DIRECTORY } from './segment.ts';

export interface ScanOptions {
  readonly storeId: Uint8Array;
  readonly segmentSize: number;
  /** Transactions that start before it are left out; it may be any LSN. Default: the oldest on disk. */
  readonly from?: number;
  /** Transactions that end after it are left out. Default: none. */
  readonly to?: number;
  /** An LSN that is known to have been durable, and from which on recovery needs the log. */
  readonly knownDurableLsn?: number;
  /** Whether somebody may be appending meanwhile. */
  readonly inUse?: boolean;
}

/** A place where nothing continues the log. */
export interface LogStop {
  /** End of the last whole transaction before it. */
  readonly lsn: number;
  readonly stoppedAt: number;
  /** The segment file and the place in it, in bytes. */
  readonly segment: string;
  readonly offset: number;
  readonly reason: string;
}

export type ScanStep =
  | { readonly kind: 'transaction'; readonly transaction: LogTransaction }
  /** The log that was asked for begins in the midst of a transaction, which is passed over. */
  | { readonly kind: 'partial'; readonly from: number; readonly to: number }
  /** Frames stand behind the stop. `wasDurable`: they, or what precedes it, say that more of the log was durable. */
  | ({ readonly kind: 'damage'; readonly resumesAt: number; readonly wasDurable: boolean } & LogStop)
  /** The transaction at `frameLsn` says that the log was durable beyond a damage of which that was not known yet. */
  | {
      readonly kind: 'proof';
      readonly frameLsn: number;
      readonly durableLsn: number;
      readonly damage: LogStop;
    }
  /** The end: a bound that was asked for, nothing written behind it, something that is no frame, or lost log. */
  | ({ readonly kind: 'end'; readonly how: 'limit' | 'unwritten' | 'torn' | 'damaged' } & LogStop);

/**
 * Steps through the log; the last one is 'end'. A transaction is good until the next step.
 * @throws LsnfsError IO when a file cannot be read, UNSAFE_STORE
 */
export function* scanLog(directory: StorageDirectory, options: ScanOptions): Generator<ScanStep> {
  const { storeId, segmentSize } = options;
  const place = (lsn: number, stoppedAt: number, reason: string): LogStop => ({
    lsn,
    stoppedAt,
    segment: segmentName(Math.floor(stoppedAt / segmentSize), segmentSize),
    offset: stoppedAt % segmentSize,
    reason,
  });
  const [oldest] = listSegments(directory, segmentSize);
  if (oldest === undefined) {
    yield { kind: 'end', how: 'damaged', ...place(0, 0, 'there is no segment of the log') };
    return;
  }
  const needed = Math.floor((options.knownDurableLsn ?? Number.MAX_SAFE_INTEGER) / segmentSize);
  if (needed < oldest && (options.from ?? 0) < oldest * segmentSize) {
    const start = needed * segmentSize;
    const reason = `segment ${segmentName(needed, segmentSize)}, from which recovery reads, is missing`;
    const resumesAt = oldest * segmentSize;
    yield { kind: 'damage', resumesAt, wasDurable: true, ...place(start, start, reason) };
  }
  // From the start of a segment: where transactions begin within it, only reading it tells.
  const first = Math.max(oldest, Math.floor((options.from ?? 0) / segmentSize)) * segmentSize;
  const wanted = options.from ?? first + SEGMENT_HEADER_SIZE;
  const reader = new LogReader(directory, {
    storeId,
    segmentSize,
    from: first,
    skipPartial: true,
    searchBehindEnd: false,
    ...(options.to !== undefined && { limit: options.to }),
  });
  let durableLsn = options.knownDurableLsn ?? 0;
  let begun = false;
  /** The first damage of which nothing has said yet that the log was durable beyond it. */
  let doubtful: LogStop | undefined;
  try {
    for (;;) {
      const found = nextOrStop(reader);
      if ('payload' in found) {
        durableLsn = Math.max(durableLsn, found.durableLsn);
        if (doubtful !== undefined && durableLsn > doubtful.lsn) {
          yield { kind: 'proof', frameLsn: found.frameLsn, durableLsn, damage: doubtful };
          doubtful = undefined;
        }
        if (found.frameLsn < wanted) continue;
        if (!begun && found.startLsn > wanted) {
          yield { kind: 'partial', from: wanted, to: found.frameLsn };
        }
        begun = true;
        yield { kind: 'transaction', transaction: found };
        continue;
      }
      const stop = place(found.lsn, found.stoppedAt, found.reason);
      if (found.isLimit) {
        yield { kind: 'end', how: 'limit', ...stop };
        return;
      }
      const behind = reader.findFrameFrom(found.stoppedAt);
      if (options.inUse === true && (behind.lsn >= 0 || behind.written)) {
        // Written since it was read? What stands behind it was written after it.
        reader.restart(found.lsn, { previousChecksum: found.previousChecksum, reread: true });
        const again = nextOrStop(reader);
        const isProgress = 'payload' in again || again.stoppedAt > found.stoppedAt;
        reader.restart(found.lsn, { previousChecksum: found.previousChecksum, reread: false });
        if (isProgress) continue;
      }
      durableLsn = Math.max(durableLsn, found.durableLsn, behind.durableLsn);
      const wasDurable = durableLsn > found.lsn;
      if (behind.lsn < 0) {
        const how = wasDurable ? 'damaged' : behind.written || found.isTorn ? 'torn' : 'unwritten';
        yield { kind: 'end', how, ...stop };
        return;
      }
      if (behind.lsn > wanted) {
        begun = true;
        if (!wasDurable) doubtful ??= stop;
        yield { kind: 'damage', resumesAt: behind.lsn, wasDurable, ...stop };
      }
      reader.restart(behind.lsn, { reread: false });
    }
  } finally {
    reader.close();
  }
}

interface Stop {
  readonly lsn: number;
  readonly stoppedAt: number;
  readonly reason: string;
  readonly durableLsn: number;
  readonly previousChecksum: number | undefined;
  readonly isLimit: boolean;
  readonly isTorn: boolean;
}

/** The next transaction, or where reading stopped, be that a torn tail or damage. */
function nextOrStop(reader: LogReader): LogTransaction | Stop {
  try {
    const transaction = reader.next();
    if (transaction !== undefined) return transaction;
    const end = reader.end!;
    return { ...end, isLimit: end.kind === 'limit', isTorn: end.kind === 'torn' };
  } catch (error) {
    if (!(error instanceof LsnfsError) || error.code !== 'CORRUPT_LOG') throw error;
    const { position, lsn, durableLsn, reason, previousChecksum } = error.details;
    return {
      lsn: Number(lsn),
      stoppedAt: Number(position),
      reason: String(reason),
      durableLsn: Number(durableLsn),
      previousChecksum: typeof previousChecksum === 'number' ? previousChecksum : undefined,
      isLimit: false,
      isTorn: true,
    };
  }
}

/** Size and store of the log as its segments say, for a store whose control file does not; undefined if none does. */
export function identifyLog(
  directory: StorageDirectory,
): { storeId: Uint8Array; segmentSize: number; segment: string } | undefined {
  const header = Buffer.alloc(SEGMENT_HEADER_SIZE);
  for (const name of directory.list(WAL_DIRECTORY)) {
    const segment = `${WAL_DIRECTORY}/${name}`;
    const device = directory.open(segment, { readOnly: true });
    try {
      if (device.read(0, header, 0, header.length) < header.length) continue;
    } finally {
      device.close();
    }
    const found = decodeSegmentHeader(header, 0);
    if (typeof found === 'string' || !isSegmentSize(found.segmentSize)) continue;
    if (found.firstLsn % found.segmentSize !== 0) continue;
    if (segment !== segmentName(found.firstLsn / found.segmentSize, found.segmentSize)) continue;
    return { storeId: found.storeId, segmentSize: found.segmentSize, segment };
  }
  return undefined;
}
