/**
 * Cuts transactions into frames and lays the log's bytes out in a ring.
 *
 * The ring holds the image of the log itself, byte for byte: frames, the headers of segments, and zeros where the
 * rest of a segment is skipped. The byte at LSN n stands at ring[n % size]. So whoever writes it to the segment
 * files needs to know nothing but two LSNs, and the same code serves a log in one thread and one in two.
 *
 * Two positions are published. `available`: bytes before it may be written to the files. `lsn`: transactions
 * before it are whole. They differ only within `append`, while a transaction larger than the ring goes through.
 */
import {
  encodeFrameHeader,
  encodeSegmentHeader,
  FRAME_HEADER_SIZE,
  FRAME_PAYLOAD_MAXIMUM,
  FRAME_PAYLOAD_WORTHWHILE,
  type FrameHeader,
  frameSeed,
  frameSize,
  SEGMENT_HEADER_SIZE,
  SKIP_LIMIT,
} from '../encoding/frame.ts';
import { assert, LsnfsError } from '../errors.ts';

export interface AppenderOptions {
  readonly storeId: Uint8Array;
  readonly segmentSize: number;
  /** End of the last transaction, its last frame's checksum and its time: where recovery found the end. */
  readonly endLsn: number;
  readonly previousChecksum: number;
  readonly lastTimeMicroseconds: number;
  /** The ring; its length is a power of two and holds two of the largest frames at least. */
  readonly ring: Uint8Array;
  /** Returns when `bytes` bytes of the ring after `position` are free: everything older is in the files. */
  readonly waitForRoom: (position: number, bytes: number) => void;
}

/** Bytes of records in one transaction: 1 GiB, so that the distances between positions in the log stay below 2^31. */
export const TRANSACTION_MAXIMUM = 2 ** 30;

/** @throws LsnfsError EFBIG */
export function checkTransactionSize(records: number): void {
  if (records <= TRANSACTION_MAXIMUM) return;
  const message = `a transaction of ${records} bytes is larger than ${TRANSACTION_MAXIMUM}: make several of it`;
  throw new LsnfsError('EFBIG', message, { records, maximum: TRANSACTION_MAXIMUM });
}

/** Bytes that `records` bytes in one transaction take of the log at most, headers and skipped rests included. */
export function spaceNeeded(records: number, segmentSize: number): number {
  const frames = Math.ceil(records / FRAME_PAYLOAD_MAXIMUM) + 1;
  const inSegments = records + frames * (FRAME_HEADER_SIZE + 8);
  const perSegment = SEGMENT_HEADER_SIZE + SKIP_LIMIT + FRAME_HEADER_SIZE + 8;
  const segments = Math.ceil(inSegments / (segmentSize - perSegment)) + 1;
  return inSegments + segments * perSegment;
}

export class FrameAppender {
  /** End of the last transaction. */
  lsn: number;
  /** Where the next byte of the log goes; equal to `lsn` except within `append`. */
  available: number;
  previousChecksum: number;
  timeMicroseconds: number;
  private readonly options: AppenderOptions;
  private readonly mask: number;
  private readonly seed: number;
  private readonly scratch = Buffer.alloc(Math.max(FRAME_HEADER_SIZE, SEGMENT_HEADER_SIZE, SKIP_LIMIT));
  private readonly header: FrameHeader = {
    payloadLength: 0,
    lsn: 0,
    transactionStart: 0,
    previousChecksum: 0,
    more: false,
    timeMicroseconds: 0,
    durableLsn: 0,
  };

  constructor(options: AppenderOptions) {
    const size = options.ring.length;
    assert(
      (size & (size - 1)) === 0 && size >= 2 * frameSize(FRAME_PAYLOAD_MAXIMUM),
      'the ring is a power of two',
    );
    this.options = options;
    this.mask = size - 1;
    this.seed = frameSeed(options.storeId);
    this.lsn = options.endLsn;
    this.available = options.endLsn;
    this.previousChecksum = options.previousChecksum;
    this.timeMicroseconds = options.lastTimeMicroseconds;
  }

  /**
   * Lays out one transaction of records[0, length). `durableLsn` goes into its frames. Returns its end, which is
   * also `lsn` then; the caller publishes it.
   */
  append(records: Uint8Array, length: number, timeMicroseconds: number, durableLsn: number): number {
    assert(length > 0 && length <= records.length, 'a transaction has records');
    const segmentSize = this.options.segmentSize;
    if (timeMicroseconds > this.timeMicroseconds) this.timeMicroseconds = timeMicroseconds;
    const header = this.header;
    header.timeMicroseconds = this.timeMicroseconds;
    header.durableLsn = durableLsn;
    let done = 0;
    while (done < length) {
      const left = length - done;
      let room = segmentSize - (this.available % segmentSize);
      if (room === segmentSize) {
        this.enterSegment();
        room -= SEGMENT_HEADER_SIZE;
      } else if (room < FRAME_HEADER_SIZE + Math.min(left, FRAME_PAYLOAD_WORTHWHILE)) {
        this.skip(room);
        continue;
      }
      const payload = Math.min(left, FRAME_PAYLOAD_MAXIMUM, room - FRAME_HEADER_SIZE);
      header.payloadLength = payload;
      header.lsn = this.available;
      if (done === 0) header.transactionStart = this.available;
      header.previousChecksum = this.previousChecksum;
      header.more = payload < left;
      const checksum = encodeFrameHeader(this.scratch, header, this.seed, records, done);
      const size = frameSize(payload);
      this.options.waitForRoom(this.available, size);
      this.copy(this.available, this.scratch, 0, FRAME_HEADER_SIZE);
      this.copy(this.available + FRAME_HEADER_SIZE, records, done, payload);
      for (let i = FRAME_HEADER_SIZE + payload; i < size; i++) {
        this.options.ring[(this.available + i) & this.mask] = 0;
      }
      this.available += size;
      this.previousChecksum = checksum;
      done += payload;
    }
    this.lsn = this.available;
    return this.lsn;
  }

  private enterSegment(): void {
    const { storeId, segmentSize } = this.options;
    const firstLsn = this.available;
    const previousChecksum = this.previousChecksum;
    encodeSegmentHeader(this.scratch, 0, { storeId, segmentSize, firstLsn, previousChecksum });
    this.options.waitForRoom(this.available, SEGMENT_HEADER_SIZE);
    this.copy(this.available, this.scratch, 0, SEGMENT_HEADER_SIZE);
    this.available += SEGMENT_HEADER_SIZE;
  }

  private skip(room: number): void {
    assert(room < SKIP_LIMIT, 'only a small rest is skipped');
    this.options.waitForRoom(this.available, room);
    this.scratch.fill(0, 0, room);
    this.copy(this.available, this.scratch, 0, room);
    this.available += room;
  }

  /** Copies source[start, start + length) to where the log's bytes from `lsn` on stand in the ring. */
  private copy(lsn: number, source: Uint8Array, start: number, length: number): void {
    const ring = this.options.ring;
    const at = lsn & this.mask;
    const first = Math.min(length, ring.length - at);
    if (first > 0) copyBytes(source, start, ring, at, first);
    if (length > first) copyBytes(source, start + first, ring, 0, length - first);
  }
}

/** Short pieces byte by byte: a view costs more than copying them. */
function copyBytes(source: Uint8Array, start: number, target: Uint8Array, at: number, length: number): void {
  if (length <= 48) {
    for (let i = 0; i < length; i++) target[at + i] = source[start + i]!;
  } else {
    target.set(source.subarray(start, start + length), at);
  }
}
