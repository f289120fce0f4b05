/**
 * The header that every tree page and root page begins with; data pages of files have none (their checksums
 * are in the extent that names them).
 *
 * A page is sealed just before it is written (`sealPage`) and verified whenever it comes from disk
 * (`verifyPage`): checksum, own number, kind, LSN, and the checksum and LSN that its parent holds for it.
 */
import { CorruptPageError } from '../errors.ts';
import { getU16, getU32, getU48, getU64, putU16, putU32, putU48, putU64 } from './bytes.ts';
import { crc32 } from './checksum.ts';

export const PAGE_KIND = { leaf: 1, branch: 2, versionRoot: 3, catalogRoot: 4 } as const;
export type PageKind = (typeof PAGE_KIND)[keyof typeof PAGE_KIND];

export const PAGE_SIZES = [4096, 8192, 16384] as const;
export type PageSize = (typeof PAGE_SIZES)[number];

/** Offsets in the header, each derived from the last. All integers little-endian. */
export const PAGE_CHECKSUM = 0; // u32: crc32 of the rest of the page
export const PAGE_KIND_AT = PAGE_CHECKSUM + 4; // u8
export const PAGE_LEVEL = PAGE_KIND_AT + 1; // u8: 0 for leaves and roots
export const PAGE_TREE = PAGE_LEVEL + 1; // u8: TREE of keys.ts, 0 for root pages
export const PAGE_RESERVED = PAGE_TREE + 1; // u8: zero
export const PAGE_LSN = PAGE_RESERVED + 1; // u64: LSN of the version that first holds the page
export const PAGE_NUMBER = PAGE_LSN + 8; // u48: its own number
export const PAGE_COUNT = PAGE_NUMBER + 6; // u16: cells
export const PAGE_PREFIX_LENGTH = PAGE_COUNT + 2; // u16: bytes that all keys of the page share
export const PAGE_HEAP_START = PAGE_PREFIX_LENGTH + 2; // u16: lowest offset used by cells (page size 16384 fits)
export const PAGE_DEAD_BYTES = PAGE_HEAP_START + 2; // u16: bytes in the heap that no cell uses
export const PAGE_RESERVED_2 = PAGE_DEAD_BYTES + 2; // u16: zero
export const PAGE_HEADER_SIZE = PAGE_RESERVED_2 + 2; // 32

/**
 * Numbers from here on are temporary: a dirty page has no place on disk before a checkpoint gives it one.
 * Pointers to temporary pages carry LSN 0 and checksum 0 and exist in memory only.
 */
export const TEMPORARY_BASE = 2 ** 47;

/** What a parent knows of a child. */
export interface PageRef {
  number: number;
  /** LSN of the version that first holds the page; its birth. */
  lsn: number;
  checksum: number;
}

/** The reference of an empty tree. Page 0 is never a tree page. */
export const NO_PAGE: Readonly<PageRef> = Object.freeze({ number: 0, lsn: 0, checksum: 0 });

export function isTemporary(number: number): boolean {
  return number >= TEMPORARY_BASE;
}

/** Writes number, LSN and checksum into a page that is about to be written. Returns the checksum. */
export function sealPage(bytes: Uint8Array, number: number, lsn: number): number {
  putU64(bytes, PAGE_LSN, lsn);
  putU48(bytes, PAGE_NUMBER, number);
  const checksum = crc32(bytes, 4, bytes.length);
  putU32(bytes, PAGE_CHECKSUM, checksum);
  return checksum;
}

export function pageKind(bytes: Uint8Array): number {
  return bytes[PAGE_KIND_AT]!;
}
export function pageLsn(bytes: Uint8Array): number {
  return getU64(bytes, PAGE_LSN);
}
export function pageCount(bytes: Uint8Array): number {
  return getU16(bytes, PAGE_COUNT);
}
export function initializePage(bytes: Uint8Array, kind: PageKind, level: number, tree: number): void {
  bytes.fill(0);
  bytes[PAGE_KIND_AT] = kind;
  bytes[PAGE_LEVEL] = level;
  bytes[PAGE_TREE] = tree;
  putU16(bytes, PAGE_HEAP_START, bytes.length);
}

/**
 * Checks a page from disk against itself and against its parent's reference.
 * @throws CorruptPageError with page, file offset, and what was expected and found.
 */
export function verifyPage(bytes: Uint8Array, ref: Readonly<PageRef>): void {
  const stored = getU32(bytes, PAGE_CHECKSUM);
  const computed = crc32(bytes, 4, bytes.length);
  if (stored !== computed) fail(ref, bytes.length, 'checksum', stored, computed);
  if (stored !== ref.checksum) fail(ref, bytes.length, "its parent's checksum", ref.checksum, stored);
  const number = getU48(bytes, PAGE_NUMBER);
  if (number !== ref.number) fail(ref, bytes.length, 'own number', ref.number, number);
  const lsn = getU64(bytes, PAGE_LSN);
  if (lsn !== ref.lsn) fail(ref, bytes.length, 'LSN', ref.lsn, lsn);
}

function fail(ref: Readonly<PageRef>, size: number, what: string, expected: number, found: number): never {
  throw new CorruptPageError(
    `page ${ref.number} at offset ${ref.number * size} of the data file is corrupt: ${what}: expected ${expected}, found ${found}`,
    { page: ref.number, offset: ref.number * size, what, expected, found },
  );
}
