/**
 * Frames and segment headers: how transactions stand in the log.
 *
 * An LSN is a byte position in the log, counted from 0. The log is cut into segments of one size; segment i holds
 * the LSNs [i * size, (i + 1) * size) and begins with a header, so that the first frame stands at LSN 64. A frame
 * begins at a multiple of 8 and never crosses a segment. A transaction is one frame, or several of which all but
 * the last carry MORE.
 *
 * What makes a frame a continuation of the log, and nothing else:
 * - its own LSN: a frame of an earlier life of a reused or copied segment file stands elsewhere;
 * - the checksum of the frame before it: whatever once followed a tail that recovery cut off does not follow the
 *   frames that were written in its place, though it stands at the right LSN;
 * - its checksum, which starts from the store's id: neither another store's log nor file data that happens to be
 *   carried in a record (a copy of a log segment, say) ever verifies as a frame of this log.
 *
 * Each frame also says up to which LSN the log was known to be durable when it was made. So a reader that finds
 * damage can tell a tail that was being written when the power failed (nothing after it claims that it was durable) from
 * a log that was whole once (a later frame claims so).
 */
import { getU32, getU64, putU32, putU64 } from './bytes.ts';
import { crc32 } from './checksum.ts';
import { FORMAT_VERSION, STORE_ID_SIZE } from './control.ts';

/** Offsets in a frame, each derived from the last. All integers little-endian. */
export const FRAME_CHECKSUM = 0; // u32: crc32 of the rest of header and payload, seeded by the store id
export const FRAME_PAYLOAD_LENGTH = FRAME_CHECKSUM + 4; // u32: 1 to FRAME_PAYLOAD_MAXIMUM
export const FRAME_LSN = FRAME_PAYLOAD_LENGTH + 4; // u64: where the frame starts
export const FRAME_TRANSACTION_START = FRAME_LSN + 8; // u64: where the first frame of its transaction starts
export const FRAME_PREVIOUS_CHECKSUM = FRAME_TRANSACTION_START + 8; // u32: checksum of the frame before; 0 for the first
export const FRAME_FLAGS = FRAME_PREVIOUS_CHECKSUM + 4; // u8
export const FRAME_KIND = FRAME_FLAGS + 1; // u8: 1, records
export const FRAME_RESERVED = FRAME_KIND + 1; // 2 bytes: zero
export const FRAME_TIME = FRAME_RESERVED + 2; // u64: µs since 1970, never less than before
export const FRAME_DURABLE_LSN = FRAME_TIME + 8; // u64: the end of a transaction that was durable already
export const FRAME_HEADER_SIZE = FRAME_DURABLE_LSN + 8; // 48

export const FRAME_MORE = 1;
export const FRAME_KIND_RECORDS = 1;
export const FRAME_ALIGNMENT = 8;
/** Longer transactions have several frames: bounds what a reader must hold before it has verified anything. */
export const FRAME_PAYLOAD_MAXIMUM = 256 * 1024;
/** The writer begins a frame in the rest of a segment only if it can hold this much payload (or all there is). */
export const FRAME_PAYLOAD_WORTHWHILE = 512;
/** So a rest that has no frame is shorter than this. */
export const SKIP_LIMIT = FRAME_HEADER_SIZE + FRAME_PAYLOAD_WORTHWHILE;

/** Bytes from the start of a frame to where the next one can start. */
export function frameSize(payloadLength: number): number {
  return (FRAME_HEADER_SIZE + payloadLength + FRAME_ALIGNMENT - 1) & -FRAME_ALIGNMENT;
}

/** What the checksums of a store's frames start from. */
export function frameSeed(storeId: Uint8Array): number {
  return crc32(storeId);
}

/** Reads frames in place: the members are those of the frame that `parse` accepted last. */
export class FrameReader {
  readonly seed: number;
  checksum = 0;
  payloadLength = 0;
  /** Whole length, padding included. */
  size = 0;
  transactionStart = 0;
  previousChecksum = 0;
  more = false;
  timeMicroseconds = 0;
  durableLsn = 0;

  constructor(storeId: Uint8Array) {
    this.seed = frameSeed(storeId);
  }

  /**
   * The length of the frame that may start at b[at], from its header alone, or a sentence why none starts there.
   * `room` is what is left of the segment; at least FRAME_HEADER_SIZE bytes must be there.
   */
  peek(b: Uint8Array, at: number, lsn: number, room: number): number | string {
    if (room < FRAME_HEADER_SIZE) return 'the segment ends';
    const payloadLength = getU32(b, at + FRAME_PAYLOAD_LENGTH);
    if (payloadLength === 0 && getU32(b, at + FRAME_CHECKSUM) === 0) return 'nothing was written here';
    if (payloadLength < 1 || payloadLength > FRAME_PAYLOAD_MAXIMUM)
      return `impossible payload length ${payloadLength}`;
    const own = getU64(b, at + FRAME_LSN);
    if (own !== lsn) return `own LSN: expected ${lsn}, found ${own}`;
    const size = frameSize(payloadLength);
    return size > room ? `a frame of ${size} bytes would leave its segment` : size;
  }

  /** Accepts the frame at b[at], all of whose bytes (`peek`) are there; or a sentence why it does not verify. */
  parse(b: Uint8Array, at: number, lsn: number, room: number): string | undefined {
    const size = this.peek(b, at, lsn, room);
    if (typeof size === 'string') return size;
    const payloadLength = getU32(b, at + FRAME_PAYLOAD_LENGTH);
    const end = at + FRAME_HEADER_SIZE + payloadLength;
    const stored = getU32(b, at + FRAME_CHECKSUM);
    const computed = crc32(b, at + 4, end, this.seed);
    if (stored !== computed) return `checksum: expected ${stored}, found ${computed}`;
    for (let i = end; i < at + size; i++) if (b[i] !== 0) return 'padding is not zero';
    const flags = b[at + FRAME_FLAGS]!;
    const kind = b[at + FRAME_KIND]!;
    if ((flags & ~FRAME_MORE) !== 0) return `unknown flags ${flags}`;
    if (kind !== FRAME_KIND_RECORDS) return `unknown kind ${kind}`;
    const transactionStart = getU64(b, at + FRAME_TRANSACTION_START);
    const timeMicroseconds = getU64(b, at + FRAME_TIME);
    const durableLsn = getU64(b, at + FRAME_DURABLE_LSN);
    if (transactionStart > lsn || durableLsn > lsn) return 'it names LSNs after itself';
    if (!Number.isSafeInteger(timeMicroseconds)) return 'its time exceeds 2^53';
    this.checksum = stored;
    this.payloadLength = payloadLength;
    this.size = size;
    this.transactionStart = transactionStart;
    this.previousChecksum = getU32(b, at + FRAME_PREVIOUS_CHECKSUM);
    this.more = (flags & FRAME_MORE) !== 0;
    this.timeMicroseconds = timeMicroseconds;
    this.durableLsn = durableLsn;
    return undefined;
  }
}

const SEGMENT_MAGIC_BYTES = Uint8Array.of(0x6c, 0x73, 0x6e, 0x66, 0x73, 0x77, 0x61, 0x6c); // "lsnfswal"

/** Offsets in the header of a segment. An all-zero header: the segment is prepared and not in use yet. */
export const SEGMENT_MAGIC = 0; // 8 bytes
export const SEGMENT_VERSION = SEGMENT_MAGIC + 8; // u32
export const SEGMENT_SIZE = SEGMENT_VERSION + 4; // u32
export const SEGMENT_STORE_ID = SEGMENT_SIZE + 4; // 16 bytes
export const SEGMENT_FIRST_LSN = SEGMENT_STORE_ID + STORE_ID_SIZE; // u64
export const SEGMENT_PREVIOUS_CHECKSUM = SEGMENT_FIRST_LSN + 8; // u32: checksum of the last frame before the segment
export const SEGMENT_RESERVED = SEGMENT_PREVIOUS_CHECKSUM + 4; // 16 bytes: zero
export const SEGMENT_CHECKSUM = SEGMENT_RESERVED + 16; // u32: crc32 of everything before it
export const SEGMENT_HEADER_SIZE = SEGMENT_CHECKSUM + 4; // 64

/** Writes a segment header to b[at]. */
export function encodeSegmentHeader(
  b: Uint8Array,
  at: number,
  header: { storeId: Uint8Array; segmentSize: number; firstLsn: number; previousChecksum: number },
): void {
  b.fill(0, at, at + SEGMENT_HEADER_SIZE);
  b.set(SEGMENT_MAGIC_BYTES, at + SEGMENT_MAGIC);
  putU32(b, at + SEGMENT_VERSION, FORMAT_VERSION);
  putU32(b, at + SEGMENT_SIZE, header.segmentSize);
  b.set(header.storeId, at + SEGMENT_STORE_ID);
  putU64(b, at + SEGMENT_FIRST_LSN, header.firstLsn);
  putU32(b, at + SEGMENT_PREVIOUS_CHECKSUM, header.previousChecksum);
  putU32(b, at + SEGMENT_CHECKSUM, crc32(b, at, at + SEGMENT_CHECKSUM));
}

/** What a segment's header says about it. */
export interface SegmentHeader {
  readonly version: number;
  readonly segmentSize: number;
  readonly storeId: Uint8Array;
  readonly firstLsn: number;
  readonly previousChecksum: number;
}

/** Reads a segment header, whosever it is; or a sentence why it is none. */
export function decodeSegmentHeader(b: Uint8Array, at: number): SegmentHeader | string {
  let any = 0;
  for (let i = at; i < at + SEGMENT_HEADER_SIZE; i++) any |= b[i]!;
  if (any === 0) return 'the segment is not in use yet';
  for (let i = 0; i < SEGMENT_MAGIC_BYTES.length; i++) {
    if (b[at + SEGMENT_MAGIC + i] !== SEGMENT_MAGIC_BYTES[i]) return 'not a segment of a log';
  }
  const stored = getU32(b, at + SEGMENT_CHECKSUM);
  const computed = crc32(b, at, at + SEGMENT_CHECKSUM);
  if (stored !== computed) return `the segment header's checksum: expected ${stored}, found ${computed}`;
  return {
    version: getU32(b, at + SEGMENT_VERSION),
    segmentSize: getU32(b, at + SEGMENT_SIZE),
    storeId: Uint8Array.from(b.subarray(at + SEGMENT_STORE_ID, at + SEGMENT_STORE_ID + STORE_ID_SIZE)),
    firstLsn: getU64(b, at + SEGMENT_FIRST_LSN),
    previousChecksum: getU32(b, at + SEGMENT_PREVIOUS_CHECKSUM),
  };
}

/** Checks a segment header; returns its previous checksum, or a sentence why it is none of this log's. */
export function checkSegmentHeader(
  b: Uint8Array,
  at: number,
  expected: { storeId: Uint8Array; segmentSize: number; firstLsn: number },
): number | string {
  const header = decodeSegmentHeader(b, at);
  if (typeof header === 'string') return header;
  const { version, segmentSize, storeId, firstLsn, previousChecksum } = header;
  if (version !== FORMAT_VERSION) return `the segment has format ${version}, expected ${FORMAT_VERSION}`;
  if (segmentSize !== expected.segmentSize)
    return `the segment's size: expected ${expected.segmentSize}, found ${segmentSize}`;
  if (storeId.some((byte, i) => byte !== expected.storeId[i])) return 'the segment belongs to another store';
  if (firstLsn !== expected.firstLsn)
    return `the segment's first LSN: expected ${expected.firstLsn}, found ${firstLsn}`;
  return previousChecksum;
}

/** What a frame's header says, for the writer. */
export interface FrameHeader {
  payloadLength: number;
  lsn: number;
  transactionStart: number;
  previousChecksum: number;
  more: boolean;
  timeMicroseconds: number;
  durableLsn: number;
}

/**
 * Writes a frame's header to h[0, FRAME_HEADER_SIZE) for the payload source[start, start + payloadLength).
 * Returns its checksum.
 */
export function encodeFrameHeader(
  h: Uint8Array,
  header: Readonly<FrameHeader>,
  seed: number,
  source: Uint8Array,
  start: number,
): number {
  putU32(h, FRAME_PAYLOAD_LENGTH, header.payloadLength);
  putU64(h, FRAME_LSN, header.lsn);
  putU64(h, FRAME_TRANSACTION_START, header.transactionStart);
  putU32(h, FRAME_PREVIOUS_CHECKSUM, header.previousChecksum);
  h[FRAME_FLAGS] = header.more ? FRAME_MORE : 0;
  h[FRAME_KIND] = FRAME_KIND_RECORDS;
  h[FRAME_RESERVED] = 0;
  h[FRAME_RESERVED + 1] = 0;
  putU64(h, FRAME_TIME, header.timeMicroseconds);
  putU64(h, FRAME_DURABLE_LSN, header.durableLsn);
  const headerChecksum = crc32(h, FRAME_CHECKSUM + 4, FRAME_HEADER_SIZE, seed);
  const checksum = crc32(source, start, start + header.payloadLength, headerChecksum);
  putU32(h, FRAME_CHECKSUM, checksum);
  return checksum;
}
