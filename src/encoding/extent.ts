/**
 * Extents: the values of extent keys in the inode tree. An extent maps `count` consecutive blocks of a file to
 * as many consecutive pages of the data file and holds one CRC-32 for each page of data, so that a lost or
 * misdirected write of data is found as surely as one of a tree page.
 *
 *   page u48 | count u16 | birth u64 | count × crc32 u32
 *
 * `birth` is the first LSN at which a state can hold the pages. An extent whose pages are dirty in memory has
 * temporary page numbers, birth 0 and zero checksums; a checkpoint fills them in, without a change of length.
 *
 * An extent with page 0 is unwritten: space that fallocate(2) promised. It reads as zeros, has no pages and no
 * checksums, and may be longer. (A copy-on-write store writes every change to a new place, so pages set aside for
 * it would help nobody.)
 */
import { CorruptPageError, LsnfsError } from '../errors.ts';
import { getU16, getU32, getU48, getU64, putU16, putU32, putU48, putU64 } from './bytes.ts';
import { cellCount, copyKey, keyLength, valueLength, valueStart } from './cells.ts';
import { MAX_FILE_SIZE } from './inode.ts';
import { EXTENT_KEY_LENGTH, extentKeyBlock, KEY_MAX, KIND_EXTENT } from './keys.ts';
import { PAGE_NUMBER, PAGE_SIZES, TEMPORARY_BASE } from './page.ts';

const PAGE = 0;
const COUNT = PAGE + 6;
const BIRTH = COUNT + 2;
const CHECKSUMS = BIRTH + 8;

/** Blocks that one extent may span: 512 KiB of data keep the value well below what a page can hold. */
export const MAX_EXTENT_PAGES = 128;

/** Blocks that one unwritten extent may span. */
export const MAX_UNWRITTEN_BLOCKS = 65535;
/** No file has more blocks, whatever its page size. */
export const MAX_BLOCKS = MAX_FILE_SIZE / PAGE_SIZES[0];
/** The page number of unwritten extents. */
export const UNWRITTEN = 0;

function extentSize(page: number, count: number): number {
  return page === UNWRITTEN ? CHECKSUMS : CHECKSUMS + 4 * count;
}

export interface Extent {
  /** First block of the file. */
  block: number;
  count: number;
  page: number;
  birth: number;
  checksums: Uint32Array;
}

export function encodeExtent(extent: Readonly<Extent>): Buffer {
  const value = Buffer.allocUnsafe(extentSize(extent.page, extent.count));
  putU48(value, PAGE, extent.page);
  putU16(value, COUNT, extent.count);
  putU64(value, BIRTH, extent.birth);
  if (extent.page === UNWRITTEN) return value;
  for (let i = 0; i < extent.count; i++) putU32(value, CHECKSUMS + 4 * i, extent.checksums[i]!);
  return value;
}

/** @throws LsnfsError CORRUPT_RECORD when the value is not an extent. */
export function decodeExtent(block: number, bytes: Uint8Array, start: number, length: number): Extent {
  const page = length < CHECKSUMS ? UNWRITTEN : getU48(bytes, start + PAGE);
  const count = length < CHECKSUMS ? 0 : getU16(bytes, start + COUNT);
  if (count === 0 || length !== extentSize(page, count)) {
    throw new LsnfsError('CORRUPT_RECORD', `the extent of block ${block} is damaged: ${length} bytes`, {
      block,
      length,
    });
  }
  const birth = getU64(bytes, start + BIRTH);
  if (!Number.isSafeInteger(birth)) {
    throw new LsnfsError('CORRUPT_RECORD', `the extent of block ${block} is damaged: birth ${birth}`, {
      block,
    });
  }
  const checksums = new Uint32Array(page === UNWRITTEN ? 0 : count);
  for (let i = 0; i < checksums.length; i++) checksums[i] = getU32(bytes, start + CHECKSUMS + 4 * i);
  return {
    block,
    count,
    page,
    birth,
    checksums,
  };
}

const keyOfCell = new Uint8Array(KEY_MAX);

/**
 * Checks every extent of a leaf of the inode tree that comes from disk: its length, and that its pages have places
 * there. After that the functions below read extents without checks.
 * @throws CorruptPageError
 */
export function validateExtents(b: Uint8Array): void {
  for (let slot = 0, count = cellCount(b); slot < count; slot++) {
    if (keyLength(b, slot) !== EXTENT_KEY_LENGTH) continue;
    copyKey(b, slot, keyOfCell, 0);
    if (keyOfCell[8] !== KIND_EXTENT) continue;
    const start = valueStart(b, slot);
    const length = valueLength(b, slot);
    const page = length < CHECKSUMS ? UNWRITTEN : getU48(b, start + PAGE);
    const pages = length < CHECKSUMS ? 0 : getU16(b, start + COUNT);
    if (
      pages === 0 ||
      length !== extentSize(page, pages) ||
      (page !== UNWRITTEN && page + pages > TEMPORARY_BASE) ||
      !Number.isSafeInteger(getU64(b, start + BIRTH)) ||
      extentKeyBlock(keyOfCell) + pages > MAX_BLOCKS
    ) {
      const number = getU48(b, PAGE_NUMBER);
      throw new CorruptPageError(
        `page ${number} at offset ${number * b.length} of the data file is corrupt: slot ${slot} is no extent`,
        { page: number, offset: number * b.length, what: 'extent', slot },
      );
    }
  }
}

/** The part [from, from + count) of an extent, counted in blocks from its start. */
export function sliceExtent(extent: Readonly<Extent>, from: number, count: number): Extent {
  return {
    block: extent.block + from,
    count,
    page: extent.page === UNWRITTEN ? UNWRITTEN : extent.page + from,
    birth: extent.birth,
    checksums: extent.checksums.slice(from, from + count),
  };
}

export function extentPage(bytes: Uint8Array, start: number): number {
  return getU48(bytes, start + PAGE);
}
export function extentCount(bytes: Uint8Array, start: number): number {
  return getU16(bytes, start + COUNT);
}
export function extentBirth(bytes: Uint8Array, start: number): number {
  return getU64(bytes, start + BIRTH);
}
export function extentChecksum(bytes: Uint8Array, start: number, index: number): number {
  return getU32(bytes, start + CHECKSUMS + 4 * index);
}
/** Gives a temporary extent its place: the pages are written at `page` and belong to the version at `birth`. */
export function placeExtent(bytes: Uint8Array, start: number, page: number, birth: number): void {
  putU48(bytes, start + PAGE, page);
  putU64(bytes, start + BIRTH, birth);
}
export function setExtentChecksum(bytes: Uint8Array, start: number, index: number, checksum: number): void {
  putU32(bytes, start + CHECKSUMS + 4 * index, checksum);
}
