/**
 * Reads the log: whole transactions, one after the other, from a given LSN on.
 *
 * The end of the log is where no valid continuation stands (see frame.ts for what that is). A transaction whose
 * frames are not all there is none. What the reader meets at the end is judged once:
 * - nothing claims that the log was ever durable beyond it: a torn tail, which recovery cuts off;
 * - a frame, read before or found behind the damage, or the caller (`knownDurableLsn`) says that a transaction beyond it
 *   was durable: the log is damaged, CORRUPT_LOG, and nothing may be cut off without being told to.
 *
 * Only a small rest of a segment may be without a frame before the log goes on in the next one; the writer leaves
 * no larger one (SKIP_LIMIT).
 *
 * The reader is synchronous, holds one window of one segment, and gives one Transaction object again and again.
 */

import { getU32 } from '../encoding/bytes.ts';
import {
  checkSegmentHeader,
  FRAME_ALIGNMENT,
  FRAME_HEADER_SIZE,
  FRAME_LSN,
  FRAME_PAYLOAD_MAXIMUM,
  FrameReader,
  SEGMENT_HEADER_SIZE,
  SKIP_LIMIT,
} from '../encoding/frame.ts';
import { LsnfsError } from '../errors.ts';
import type { Device, StorageDirectory } from '../storage/device.ts';
import { listSegments, segmentName } from './segment.ts';

/** Holds the longest frame and then some. */
const WINDOW_SIZE = 4 * FRAME_PAYLOAD_MAXIMUM;

export interface LogReaderOptions {
  readonly storeId: Uint8Array;
  readonly segmentSize: number;
  /** Where a frame that begins a transaction starts, or where a transaction ends. */
  readonly from: number;
  /** Transactions that end after it are not read. */
  readonly limit?: number;
  /** Checksum of the frame before `from`; without it the first frame's word is taken for it. */
  readonly previousChecksum?: number;
  /** An LSN that is known to have been durable: the log is damaged if it ends before. */
  readonly knownDurableLsn?: number;
  /**
   * Whether to look for claims of durability behind the end of the log (default), which reads the rest of it.
   * Without it a damaged middle is taken for the end, unless a frame before it or `knownDurableLsn` says otherwise.
   */
  readonly searchBehindEnd?: boolean;
  /** Whether `from` may lie within a transaction (the start of the oldest segment): the rest of it is passed over. */
  readonly skipPartial?: boolean;
}

/** One transaction; valid until the reader's next step. */
export interface LogTransaction {
  /** Where the transaction before it ends: the state before it. For the first one read: `from`. */
  startLsn: number;
  /** Where its first frame starts: `startLsn`, unless the rest of a segment was skipped. */
  frameLsn: number;
  endLsn: number;
  timeMicroseconds: number;
  /** An LSN that was known to be durable when it was made. */
  durableLsn: number;
  /** Checksum of its last frame: with `endLsn` what a log needs to go on from here. */
  checksum: number;
  /** Checksum of the frame before it, as its first frame names it. */
  previousChecksum: number;
  /** Its records, one after the other. */
  payload: Uint8Array;
}

export interface LogEnd {
  /** End of the last whole transaction that was read, or `from`. */
  readonly lsn: number;
  /** Checksum of its last frame; undefined when none was read and none was given. */
  readonly previousChecksum: number | undefined;
  /** Time of the last transaction that was read, or 0. */
  readonly timeMicroseconds: number;
  /** The highest LSN that a frame said was durable. */
  readonly durableLsn: number;
  /** 'limit': the given one was reached. 'end': nothing was written behind it. 'torn': something was. */
  readonly kind: 'limit' | 'end' | 'torn';
  /** Why the log ends here, in a sentence. */
  readonly reason: string;
  /** Where reading stopped: in the skipped rest, or in the midst of a transaction that is not whole. */
  readonly stoppedAt: number;
}

export class LogReader implements Iterable<LogTransaction> {
  private readonly directory: StorageDirectory;
  private readonly options: LogReaderOptions;
  private readonly frame: FrameReader;
  private readonly window: Buffer;
  private windowIndex = -1;
  private windowStart = 0;
  private windowLength = 0;
  private device: Device | undefined;
  private deviceIndex = -1;
  /** Buffer for the payload of transactions of several frames. */
  private joined = Buffer.alloc(0);
  private readonly transaction: LogTransaction;

  /** End of the last transaction read. */
  private position: number;
  private checksum: number | undefined;
  private timeMicroseconds = 0;
  private durableLsn = 0;
  private skipping: boolean;
  private result: LogEnd | undefined;

  constructor(directory: StorageDirectory, options: LogReaderOptions) {
    this.directory = directory;
    this.options = options;
    this.window = Buffer.allocUnsafeSlow(Math.min(WINDOW_SIZE, options.segmentSize));
    this.frame = new FrameReader(options.storeId);
    this.checkPlace(options.from);
    this.position = options.from;
    this.checksum = options.previousChecksum;
    this.skipping = options.skipPartial === true;
    this.transaction = {
      startLsn: options.from,
      frameLsn: options.from,
      endLsn: options.from,
      timeMicroseconds: 0,
      durableLsn: 0,
      checksum: 0,
      previousChecksum: 0,
      payload: this.joined,
    };
  }

  private checkPlace(from: number): void {
    const inSegment = from % this.options.segmentSize;
    if (from < 0 || !Number.isSafeInteger(from) || from % FRAME_ALIGNMENT !== 0) {
      throw new LsnfsError('INVALID_INPUT', `${from} is no place in the log`, { lsn: from });
    }
    if (inSegment > 0 && inSegment < SEGMENT_HEADER_SIZE) {
      throw new LsnfsError('INVALID_INPUT', `${from} lies in a segment's header`, { lsn: from });
    }
  }

  /**
   * Goes on at another place, as a reader does that is made for it. `reread`: what was read before is not taken for what
   * the files say now, as the log of a store in use grows.
   */
  restart(from: number, options: { previousChecksum?: number | undefined; reread: boolean }): void {
    this.checkPlace(from);
    this.position = from;
    this.checksum = options.previousChecksum;
    this.skipping = this.options.skipPartial === true;
    this.result = undefined;
    if (options.reread) this.close();
  }

  /** Where and why reading ended; undefined while it has not. */
  get end(): LogEnd | undefined {
    return this.result;
  }

  /**
   * The next transaction, or undefined at the end (see `end`). The object and its payload are good until the next call.
   * @throws LsnfsError CORRUPT_LOG, or IO when the device fails.
   */
  next(): LogTransaction | undefined {
    if (this.result !== undefined) return undefined;
    const limit = this.options.limit ?? Number.POSITIVE_INFINITY;
    if (this.position >= limit) return this.finish('limit', `the limit ${limit} is reached`, this.position);
    let position = this.position;
    let previous = this.checksum;
    let length = 0;
    let frameLsn = -1;
    const frame = this.frame;
    for (;;) {
      const found = this.findFrame(position, previous);
      if (typeof found === 'string') return this.stop(position, found, frameLsn >= 0);
      const first = frameLsn < 0;
      if (first) frameLsn = found;
      if (frame.transactionStart < frameLsn && first && this.skipping) {
        frameLsn = -1;
        previous = frame.checksum;
        position = found + frame.size;
        this.checksum = previous;
        this.position = position;
        continue;
      }
      this.skipping = false;
      if (first) this.transaction.previousChecksum = frame.previousChecksum;
      if (frame.transactionStart !== frameLsn) {
        const what = `the frame belongs to a transaction that starts at ${frame.transactionStart}, not ${frameLsn}`;
        return this.stop(position, what, !first);
      }
      if (frame.durableLsn > this.durableLsn) this.durableLsn = frame.durableLsn;
      const end = found + frame.size;
      if (end > limit) return this.finish('limit', `the next transaction ends after ${limit}`, this.position);
      const at = found - this.windowStart + FRAME_HEADER_SIZE;
      const payload = this.window.subarray(at, at + frame.payloadLength);
      if (!first || frame.more) {
        this.join(payload, length);
        length += payload.length;
      }
      previous = frame.checksum;
      position = end;
      if (frame.more) continue;
      const transaction = this.transaction;
      transaction.startLsn = this.position;
      transaction.frameLsn = frameLsn;
      transaction.endLsn = end;
      transaction.timeMicroseconds = frame.timeMicroseconds;
      transaction.durableLsn = frame.durableLsn;
      transaction.checksum = frame.checksum;
      transaction.payload = first ? payload : this.joined.subarray(0, length);
      this.position = end;
      this.checksum = frame.checksum;
      this.timeMicroseconds = frame.timeMicroseconds;
      return transaction;
    }
  }

  *[Symbol.iterator](): Iterator<LogTransaction> {
    for (let transaction = this.next(); transaction !== undefined; transaction = this.next())
      yield transaction;
  }

  close(): void {
    this.device?.close();
    this.device = undefined;
    this.deviceIndex = -1;
    this.windowIndex = -1;
  }

  private join(payload: Uint8Array, length: number): void {
    if (length + payload.length > this.joined.length) {
      const grown = Buffer.allocUnsafeSlow(
        Math.max(2 * (length + payload.length), 2 * FRAME_PAYLOAD_MAXIMUM),
      );
      this.joined.copy(grown, 0, 0, length);
      this.joined = grown;
    }
    this.joined.set(payload, length);
  }

  /**
   * The LSN of the frame that continues the log at `position`: there, or at the start of the next segment. The
   * frame is in the window and parsed. Or a sentence why there is none.
   */
  private findFrame(position: number, previous: number | undefined): number | string {
    const segmentSize = this.options.segmentSize;
    const inSegment = position % segmentSize;
    if (inSegment === 0) return this.findFirstFrame(position / segmentSize, previous);
    const here = this.frameAt(position, previous);
    if (here === undefined) return position;
    if (segmentSize - inSegment >= SKIP_LIMIT) return here;
    const next = this.findFirstFrame(Math.floor(position / segmentSize) + 1, previous);
    return typeof next === 'string' ? `${here}; in the next segment: ${next}` : next;
  }

  /** The first frame of a segment, whose header must continue the log too. */
  private findFirstFrame(index: number, previous: number | undefined): number | string {
    const { storeId, segmentSize } = this.options;
    const firstLsn = index * segmentSize;
    const at = this.load(index, firstLsn, SEGMENT_HEADER_SIZE);
    if (at < 0) return `segment ${segmentName(index, segmentSize)} is missing or short`;
    const header = checkSegmentHeader(this.window, at, { storeId, segmentSize, firstLsn });
    if (typeof header === 'string') return header;
    if (previous !== undefined && header !== previous) {
      return `the segment follows a frame with checksum ${header}, not ${previous}`;
    }
    return this.frameAt(firstLsn + SEGMENT_HEADER_SIZE, previous ?? header) ?? firstLsn + SEGMENT_HEADER_SIZE;
  }

  /** Parses the frame at `position`; undefined, or a sentence why none continues the log there. */
  private frameAt(position: number, previous: number | undefined): string | undefined {
    const segmentSize = this.options.segmentSize;
    const index = Math.floor(position / segmentSize);
    const room = (index + 1) * segmentSize - position;
    if (room < FRAME_HEADER_SIZE) return 'the segment ends';
    let at = this.load(index, position, FRAME_HEADER_SIZE);
    if (at < 0) return `segment ${segmentName(index, segmentSize)} is missing or short`;
    const size = this.frame.peek(this.window, at, position, room);
    if (typeof size === 'string') return size;
    at = this.load(index, position, size);
    if (at < 0) return `segment ${segmentName(index, segmentSize)} is short`;
    const wrong = this.frame.parse(this.window, at, position, room);
    if (wrong !== undefined) return wrong;
    if (previous !== undefined && this.frame.previousChecksum !== previous) {
      return `it follows a frame with checksum ${this.frame.previousChecksum}, not ${previous}`;
    }
    return undefined;
  }

  /** Brings `length` bytes at `position` into the window; where they start in it, or -1 when they are not there. */
  private load(index: number, position: number, length: number): number {
    if (index === this.windowIndex) {
      const at = position - this.windowStart;
      if (at >= 0 && at + length <= this.windowLength) return at;
    }
    if (index !== this.deviceIndex) {
      this.close();
      const name = segmentName(index, this.options.segmentSize);
      if (!this.directory.exists(name)) return -1;
      this.device = this.directory.open(name, { readOnly: true });
      this.deviceIndex = index;
    }
    const inSegment = position - index * this.options.segmentSize;
    const wanted = Math.min(WINDOW_SIZE, this.options.segmentSize - inSegment);
    this.windowIndex = -1; // should the read fail
    this.windowLength = this.device!.read(inSegment, this.window, 0, wanted);
    this.windowStart = position;
    this.windowIndex = index;
    return this.windowLength >= length ? 0 : -1;
  }

  private stop(stoppedAt: number, reason: string, inTransaction: boolean): undefined {
    const known = this.options.knownDurableLsn ?? 0;
    if (known > this.durableLsn) this.durableLsn = known;
    let claim = this.durableLsn > this.position ? 'what precedes it' : '';
    let dirty = inTransaction || !this.isUnwritten(stoppedAt);
    if (claim === '' && this.options.searchBehindEnd !== false) {
      const behind = this.searchBehind(stoppedAt);
      dirty ||= behind.written;
      if (behind.claimedAt >= 0) claim = `the frame at ${behind.claimedAt}`;
    }
    if (claim !== '') {
      const { position: lsn, durableLsn, checksum: previousChecksum } = this;
      const { segmentSize } = this.options;
      const file = segmentName(Math.floor(stoppedAt / segmentSize), segmentSize);
      const offset = stoppedAt % segmentSize;
      const facts = { position: stoppedAt, lsn, durableLsn, previousChecksum, reason, file, offset };
      throw new LsnfsError(
        'CORRUPT_LOG',
        `the log is damaged at LSN ${stoppedAt} (${reason}): ${claim} says that it was durable up to ${this.durableLsn}`,
        facts,
      );
    }
    return this.finish(dirty ? 'torn' : 'end', reason, stoppedAt);
  }

  private finish(kind: LogEnd['kind'], reason: string, stoppedAt: number): undefined {
    this.result = {
      lsn: this.position,
      previousChecksum: this.checksum,
      timeMicroseconds: this.timeMicroseconds,
      durableLsn: this.durableLsn,
      kind,
      reason,
      stoppedAt,
    };
    return undefined;
  }

  /** Whether nothing stands where the next frame would. */
  private isUnwritten(position: number): boolean {
    const index = Math.floor(position / this.options.segmentSize);
    const room = Math.min((index + 1) * this.options.segmentSize - position, FRAME_HEADER_SIZE);
    const at = this.load(index, position, room);
    return at < 0 || isZero(this.window, at, at + room);
  }

  /**
   * Looks for frames behind the end of the log that claim that more of it was durable. They need not follow
   * anything, but must verify and stand at their own LSN.
   */
  private searchBehind(from: number): { written: boolean; claimedAt: number } {
    const { written, lsn } = this.search(from, () => this.frame.durableLsn > this.position);
    if (lsn >= 0) this.durableLsn = Math.max(this.durableLsn, this.frame.durableLsn);
    return { written, claimedAt: lsn };
  }

  /**
   * Where the first frame from `from` (a multiple of 8) on stands that verifies by itself, whatever it follows, and
   * what it claims to have been durable; lsn -1 when there is none. `written`: whether anything but zeros was met.
   */
  findFrameFrom(from: number): { written: boolean; lsn: number; durableLsn: number } {
    const found = this.search(from, () => true);
    return { ...found, durableLsn: found.lsn < 0 ? 0 : this.frame.durableLsn };
  }

  /** The first frame from `from` on that verifies by itself and that `accepts`; it is the one parsed last. */
  private search(from: number, accepts: () => boolean): { written: boolean; lsn: number } {
    const { segmentSize } = this.options;
    let written = false;
    for (const index of listSegments(this.directory, segmentSize)) {
      const segmentEnd = (index + 1) * segmentSize;
      if (segmentEnd <= from) continue;
      let position = Math.max(from, index * segmentSize + SEGMENT_HEADER_SIZE);
      while (segmentEnd - position >= FRAME_HEADER_SIZE) {
        if (this.load(index, position, FRAME_HEADER_SIZE) < 0) break;
        const start = this.windowStart;
        const length = this.windowLength;
        if (position === start && isZero(this.window, 0, length)) {
          position += Math.max(FRAME_ALIGNMENT, length - (length % FRAME_ALIGNMENT));
          continue;
        }
        const at = position - start;
        if (getU32(this.window, at) === 0 && getU32(this.window, at + 4) === 0) {
          position += FRAME_ALIGNMENT; // no frame has a payload of no bytes
          continue;
        }
        written = true;
        const low = position % 2 ** 32;
        if (getU32(this.window, at + FRAME_LSN) === low) {
          if (this.frameAt(position, undefined) === undefined && accepts()) return { written, lsn: position };
        }
        position += FRAME_ALIGNMENT;
      }
    }
    return { written, lsn: -1 };
  }
}

function isZero(bytes: Uint8Array, start: number, end: number): boolean {
  const words = (end - start) >> 2;
  if ((bytes.byteOffset + start) % 4 === 0) {
    const view = new Uint32Array(bytes.buffer, bytes.byteOffset + start, words);
    for (let i = 0; i < words; i++) if (view[i] !== 0) return false;
    start += words * 4;
  }
  for (let i = start; i < end; i++) if (bytes[i] !== 0) return false;
  return true;
}

/** Where a walk along the log arrived. */
export interface LogPlace {
  /** End of a transaction, or the start of the walk. */
  readonly lsn: number;
  /** Time of that transaction, or 0 at the start. */
  readonly timeMicroseconds: number;
}

/**
 * The end of the last transaction that ends at or before `lsn`, made at or before `timeMicroseconds`, walking from
 * `options.from`. Both bounds are optional. Times never decrease along the log.
 */
export function findTransactionEnd(
  directory: StorageDirectory,
  options: LogReaderOptions,
  bound: { lsn?: number; timeMicroseconds?: number },
): LogPlace {
  const limit = Math.min(bound.lsn ?? Number.POSITIVE_INFINITY, options.limit ?? Number.POSITIVE_INFINITY);
  const latest = bound.timeMicroseconds ?? Number.POSITIVE_INFINITY;
  const reader = new LogReader(directory, { ...options, limit });
  try {
    let place: LogPlace = { lsn: options.from, timeMicroseconds: 0 };
    for (let transaction = reader.next(); transaction !== undefined; transaction = reader.next()) {
      if (transaction.timeMicroseconds > latest) break;
      place = { lsn: transaction.endLsn, timeMicroseconds: transaction.timeMicroseconds };
    }
    return place;
  } finally {
    reader.close();
  }
}
