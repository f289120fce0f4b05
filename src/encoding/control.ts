/**
 * The control block: where everything else is found from.
 *
 * The file `control` has two slots of CONTROL_SLOT_SIZE bytes, written in turn: the slot with sequence number s is
 * s % 2. So a torn write destroys only the slot that was not the newest, and the newest valid slot is never
 * overwritten. A damaged slot is left alone until its turn comes; it is never re-sealed (see chooseControl).
 *
 * Magic, format version and checksum have their places in every format version, so that each program can tell
 * "newer than I am" from "damaged". Numbers are little-endian; reserved bytes are zero.
 */
import { LsnfsError } from '../errors.ts';
import { getU32, getU48, getU64, putU32, putU48, putU64 } from './bytes.ts';
import { crc32 } from './checksum.ts';
import { PAGE_SIZES } from './page.ts';

export const CONTROL_NAME = 'control';
export const CONTROL_SLOT_SIZE = 4096;
/** The format of the whole store: control block, pages, log and records. */
export const FORMAT_VERSION = 3;
export const STORE_ID_SIZE = 16;

const MAGIC = Uint8Array.of(0x6c, 0x73, 0x6e, 0x66, 0x73, 0x00, 0x00, 0x01); // "lsnfs", 0, 0, 1

/** Offsets in a slot, each derived from the last. */
export const CONTROL_MAGIC = 0; // 8 bytes
export const CONTROL_VERSION = CONTROL_MAGIC + 8; // u32
export const CONTROL_FLAGS = CONTROL_VERSION + 4; // u32
export const CONTROL_SEQUENCE = CONTROL_FLAGS + 4; // u64
export const CONTROL_STORE_ID = CONTROL_SEQUENCE + 8; // 16 bytes
export const CONTROL_PAGE_SIZE = CONTROL_STORE_ID + STORE_ID_SIZE; // u32
export const CONTROL_SEGMENT_SIZE = CONTROL_PAGE_SIZE + 4; // u32
export const CONTROL_CREATED_AT = CONTROL_SEGMENT_SIZE + 4; // u64: µs since 1970
export const CONTROL_CHECKPOINT_LSN = CONTROL_CREATED_AT + 8; // u64
export const CONTROL_CHECKPOINT_POSITION = CONTROL_CHECKPOINT_LSN + 8; // u64
export const CONTROL_CHECKPOINT_TIME = CONTROL_CHECKPOINT_POSITION + 8; // u64: µs since 1970
export const CONTROL_ROOT_LSN = CONTROL_CHECKPOINT_TIME + 8; // u64
export const CONTROL_ROOT_PAGE = CONTROL_ROOT_LSN + 8; // u48
export const CONTROL_RESERVED = CONTROL_ROOT_PAGE + 6; // 2 bytes: zero
export const CONTROL_ROOT_CHECKSUM = CONTROL_RESERVED + 2; // u32
export const CONTROL_FIELDS_END = CONTROL_ROOT_CHECKSUM + 4; // zero from here to the checksum
export const CONTROL_CHECKSUM = CONTROL_SLOT_SIZE - 4; // u32: crc32 of everything before it

const FLAG_CLEAN_SHUTDOWN = 1;
const KNOWN_FLAGS = FLAG_CLEAN_SHUTDOWN;

/** Sizes that a log segment can have. */
export const SEGMENT_SIZE_MINIMUM = 64 * 1024;
export const SEGMENT_SIZE_MAXIMUM = 1024 * 1024 * 1024;
export const SEGMENT_SIZE_DEFAULT = 16 * 1024 * 1024;

/** Whether log segments can have this size: a power of two, from 64 KiB to 1 GiB. */
export function isSegmentSize(size: number): boolean {
  const inRange = size >= SEGMENT_SIZE_MINIMUM && size <= SEGMENT_SIZE_MAXIMUM;
  return inRange && Number.isInteger(size) && (size & (size - 1)) === 0;
}

/** What the control block knows of the newest checkpoint it was written after. */
export interface CheckpointReference {
  /** The sealed state: the LSN N of the version. */
  readonly lsn: number;
  /** Where the frame of the checkpoint record starts in the log; recovery reads from here. */
  readonly position: number;
  readonly timeMicroseconds: number;
  /** The catalog root; page 0 when there is none yet. */
  readonly rootPage: number;
  readonly rootLsn: number;
  readonly rootChecksum: number;
}

export interface ControlBlock {
  readonly sequence: number;
  /** 16 random bytes, drawn when the store is made. */
  readonly storeId: Uint8Array;
  readonly pageSize: number;
  readonly segmentSize: number;
  readonly createdAtMicroseconds: number;
  readonly cleanShutdown: boolean;
  readonly checkpoint: CheckpointReference;
}

/** The slot in which the block with this sequence number stands. */
export function controlSlot(sequence: number): 0 | 1 {
  return sequence % 2 === 0 ? 0 : 1;
}

/** One slot's bytes. */
export function encodeControl(control: ControlBlock): Buffer {
  const bytes = Buffer.alloc(CONTROL_SLOT_SIZE);
  bytes.set(MAGIC, CONTROL_MAGIC);
  putU32(bytes, CONTROL_VERSION, FORMAT_VERSION);
  putU32(bytes, CONTROL_FLAGS, control.cleanShutdown ? FLAG_CLEAN_SHUTDOWN : 0);
  putU64(bytes, CONTROL_SEQUENCE, control.sequence);
  bytes.set(control.storeId, CONTROL_STORE_ID);
  putU32(bytes, CONTROL_PAGE_SIZE, control.pageSize);
  putU32(bytes, CONTROL_SEGMENT_SIZE, control.segmentSize);
  putU64(bytes, CONTROL_CREATED_AT, control.createdAtMicroseconds);
  putU64(bytes, CONTROL_CHECKPOINT_LSN, control.checkpoint.lsn);
  putU64(bytes, CONTROL_CHECKPOINT_POSITION, control.checkpoint.position);
  putU64(bytes, CONTROL_CHECKPOINT_TIME, control.checkpoint.timeMicroseconds);
  putU64(bytes, CONTROL_ROOT_LSN, control.checkpoint.rootLsn);
  putU48(bytes, CONTROL_ROOT_PAGE, control.checkpoint.rootPage);
  putU32(bytes, CONTROL_ROOT_CHECKSUM, control.checkpoint.rootChecksum);
  putU32(bytes, CONTROL_CHECKSUM, crc32(bytes, 0, CONTROL_CHECKSUM));
  return bytes;
}

/**
 * Reads one slot.
 * @throws LsnfsError CORRUPT_CONTROL (details.reason: "not a control block", "damaged" or "impossible"), or
 * NEWER_FORMAT when a later program wrote it.
 */
export function decodeControl(bytes: Uint8Array): ControlBlock {
  if (bytes.length < CONTROL_SLOT_SIZE)
    throw corrupt('damaged', `has ${bytes.length} of ${CONTROL_SLOT_SIZE} bytes`);
  for (let i = 0; i < MAGIC.length; i++) {
    if (bytes[CONTROL_MAGIC + i] !== MAGIC[i])
      throw corrupt('not a control block', 'does not begin with the magic');
  }
  const stored = getU32(bytes, CONTROL_CHECKSUM);
  const computed = crc32(bytes, 0, CONTROL_CHECKSUM);
  if (stored !== computed) throw corrupt('damaged', `checksum: expected ${stored}, found ${computed}`);
  const version = getU32(bytes, CONTROL_VERSION);
  if (version > FORMAT_VERSION) {
    throw new LsnfsError(
      'NEWER_FORMAT',
      `the store has format ${version}, and this program reads formats up to ${FORMAT_VERSION}: use a newer lsnfs`,
      { version, supported: FORMAT_VERSION },
    );
  }
  if (version === 0) throw corrupt('impossible', 'format version 0');
  if (version !== FORMAT_VERSION) {
    throw corrupt(
      'too old',
      `format ${version} was written by development versions only, expected ${FORMAT_VERSION}`,
    );
  }
  const flags = getU32(bytes, CONTROL_FLAGS);
  if ((flags & ~KNOWN_FLAGS) !== 0) throw corrupt('impossible', `unknown flags ${flags}`);
  const pageSize = getU32(bytes, CONTROL_PAGE_SIZE);
  if (!(PAGE_SIZES as readonly number[]).includes(pageSize))
    throw corrupt('impossible', `page size ${pageSize}`);
  const segmentSize = getU32(bytes, CONTROL_SEGMENT_SIZE);
  if (!isSegmentSize(segmentSize)) throw corrupt('impossible', `segment size ${segmentSize}`);
  return {
    sequence: exact(bytes, CONTROL_SEQUENCE, 'sequence number'),
    storeId: Uint8Array.from(bytes.subarray(CONTROL_STORE_ID, CONTROL_STORE_ID + STORE_ID_SIZE)),
    pageSize,
    segmentSize,
    createdAtMicroseconds: exact(bytes, CONTROL_CREATED_AT, 'time of creation'),
    cleanShutdown: (flags & FLAG_CLEAN_SHUTDOWN) !== 0,
    checkpoint: {
      lsn: exact(bytes, CONTROL_CHECKPOINT_LSN, 'checkpoint LSN'),
      position: exact(bytes, CONTROL_CHECKPOINT_POSITION, 'checkpoint position'),
      timeMicroseconds: exact(bytes, CONTROL_CHECKPOINT_TIME, 'checkpoint time'),
      rootPage: getU48(bytes, CONTROL_ROOT_PAGE),
      rootLsn: exact(bytes, CONTROL_ROOT_LSN, 'root LSN'),
      rootChecksum: getU32(bytes, CONTROL_ROOT_CHECKSUM),
    },
  };
}

function exact(bytes: Uint8Array, at: number, what: string): number {
  const value = getU64(bytes, at);
  if (!Number.isSafeInteger(value)) throw corrupt('impossible', `${what} exceeds 2^53`);
  return value;
}

function corrupt(reason: string, why: string): LsnfsError {
  return new LsnfsError('CORRUPT_CONTROL', `the control block is ${reason}: ${why}`, { reason, why });
}

export interface ChosenControl {
  readonly control: ControlBlock;
  readonly slot: 0 | 1;
  /** Why the other slot does not count, or undefined when it is valid too. */
  readonly otherSlotError: LsnfsError | undefined;
}

/**
 * The newer valid slot of the file's content (both slots, or less when the file is short).
 * @throws LsnfsError NEWER_FORMAT when either slot was written by a later program (going on with an older slot
 * would undo what that program did); CORRUPT_CONTROL when neither is valid.
 */
export function chooseControl(file: Uint8Array): ChosenControl {
  const first = readSlot(file, 0);
  const second = readSlot(file, 1);
  for (const slot of [first, second]) {
    if (slot instanceof LsnfsError && slot.code === 'NEWER_FORMAT') throw slot;
  }
  if (first instanceof LsnfsError) {
    if (second instanceof LsnfsError) {
      throw new LsnfsError(
        'CORRUPT_CONTROL',
        `both slots of the control file are unusable: ${first.message}; ${second.message}`,
        {
          reason: first.details.reason === second.details.reason ? first.details.reason : 'damaged',
          file: CONTROL_NAME,
          offset: 0,
        },
      );
    }
    return { control: second, slot: 1, otherSlotError: first };
  }
  if (second instanceof LsnfsError) return { control: first, slot: 0, otherSlotError: second };
  return first.sequence > second.sequence
    ? { control: first, slot: 0, otherSlotError: undefined }
    : { control: second, slot: 1, otherSlotError: undefined };
}

/** One slot of the file's content, or why it does not count (CORRUPT_CONTROL or NEWER_FORMAT). */
export function readSlot(file: Uint8Array, slot: 0 | 1): ControlBlock | LsnfsError {
  try {
    const control = decodeControl(file.subarray(slot * CONTROL_SLOT_SIZE, (slot + 1) * CONTROL_SLOT_SIZE));
    if (controlSlot(control.sequence) === slot) return control;
    throw corrupt('damaged', `slot ${slot} holds sequence number ${control.sequence}, a misdirected write`);
  } catch (error) {
    if (!(error instanceof LsnfsError)) throw error;
    const place = { file: CONTROL_NAME, offset: slot * CONTROL_SLOT_SIZE };
    return new LsnfsError(error.code, error.message, { ...error.details, ...place });
  }
}
