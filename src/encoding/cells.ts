/**
 * Slotted cells: the inside of leaf and branch pages, to the byte.
 *
 *   0   header (page.ts): kind leaf | branch, level, tree, count, prefix length P, heap start, dead bytes
 *   32  prefix: the P bytes that all keys of the page begin with
 *   32+P  slots, `count` of 8 bytes, in key order, growing up
 *         +0 u32 big-endian  head: the first four bytes of the suffix, padded with zeros
 *         +4 u16             offset of the cell in the page
 *         +6 u16             suffix length: bytes of the key after the prefix
 *   …     free gap
 *   heap start … page end: cells, in any order, growing down; with them `dead bytes` that no cell uses
 *         leaf cell:   suffix, u16 value length, value
 *         branch cell: suffix, u48 child's page number, u64 child's LSN, u32 child's checksum
 *
 * All integers but the head are little-endian. The head is big-endian so that the order of heads as numbers is the
 * order of keys: a search compares one number a step and looks into a cell only where heads are equal.
 *
 * Invariants
 * - Keys ascend strictly. A leaf has at least one cell, a branch at least one child; an empty tree has no page.
 * - Slot 0 of a branch stands for "everything below slot 1": its suffix is empty and is not a key. So the prefix of
 *   a branch is that of the keys from slot 1 on. Child i has the keys k with key(i) ≤ k < key(i + 1).
 * - Cells do not overlap, and live cells + dead bytes fill the heap exactly.
 * - No key is longer than KEY_MAX, and no leaf cell's key and value together than `maxCellPayload`: three of the
 *   largest cells fit a page, so an overfull page can always be split in two.
 *
 * The bytes of a page that comes from disk may be anything. `validateTreePage` establishes the invariants once; all
 * other functions here rely on them and check nothing.
 */
import { CorruptPageError } from '../errors.ts';
import { getU16, getU32, getU48, getU64, putU16, putU32, putU48, putU64 } from './bytes.ts';
import { KEY_MAX } from './keys.ts';
import {
  PAGE_COUNT,
  PAGE_DEAD_BYTES,
  PAGE_HEADER_SIZE,
  PAGE_HEAP_START,
  PAGE_KIND,
  PAGE_KIND_AT,
  PAGE_LEVEL,
  PAGE_NUMBER,
  PAGE_PREFIX_LENGTH,
  PAGE_RESERVED,
  PAGE_RESERVED_2,
  PAGE_SIZES,
  PAGE_TREE,
  TEMPORARY_BASE,
} from './page.ts';

export const SLOT_HEAD = 0;
export const SLOT_CELL = SLOT_HEAD + 4;
export const SLOT_SUFFIX_LENGTH = SLOT_CELL + 2;
export const SLOT_SIZE = SLOT_SUFFIX_LENGTH + 2; // 8
export const HEAD_BYTES = 4;

/** Offsets in a child pointer. */
export const CHILD_NUMBER = 0;
export const CHILD_LSN = CHILD_NUMBER + 6;
export const CHILD_CHECKSUM = CHILD_LSN + 8;
export const CHILD_SIZE = CHILD_CHECKSUM + 4; // 18

/** Bytes of the length in front of a value. */
export const VALUE_LENGTH_SIZE = 2;

/** A leaf has level 0. A tree of this height has more pages than page numbers exist. */
export const MAX_LEVEL = 31;

/** Key length + value length of the largest cell of a leaf. */
export function maxCellPayload(pageSize: number): number {
  return Math.floor((pageSize - PAGE_HEADER_SIZE) / 3) - SLOT_SIZE - VALUE_LENGTH_SIZE;
}

/** Bytes of a page that prefix, slots and cells share. */
export function pageCapacity(pageSize: number): number {
  return pageSize - PAGE_HEADER_SIZE;
}

export function isLeaf(b: Uint8Array): boolean {
  return b[PAGE_KIND_AT] === PAGE_KIND.leaf;
}
export function pageLevel(b: Uint8Array): number {
  return b[PAGE_LEVEL]!;
}
export function cellCount(b: Uint8Array): number {
  return b[PAGE_COUNT]! | (b[PAGE_COUNT + 1]! << 8);
}
export function prefixLength(b: Uint8Array): number {
  return b[PAGE_PREFIX_LENGTH]! | (b[PAGE_PREFIX_LENGTH + 1]! << 8);
}

/** Where a slot begins. */
export function slotAt(b: Uint8Array, slot: number): number {
  return PAGE_HEADER_SIZE + prefixLength(b) + slot * SLOT_SIZE;
}
/** Where a cell, that is a key's suffix, begins. */
export function cellOffset(b: Uint8Array, slot: number): number {
  return getU16(b, slotAt(b, slot) + SLOT_CELL);
}
export function suffixLength(b: Uint8Array, slot: number): number {
  return getU16(b, slotAt(b, slot) + SLOT_SUFFIX_LENGTH);
}
export function keyLength(b: Uint8Array, slot: number): number {
  return prefixLength(b) + suffixLength(b, slot);
}
/** Copies a whole key to `target` at `at` and returns its length. Not for slot 0 of a branch, which has no key. */
export function copyKey(b: Uint8Array, slot: number, target: Uint8Array, at: number): number {
  const prefix = prefixLength(b);
  copyBytes(b, PAGE_HEADER_SIZE, target, at, prefix);
  return prefix + copySuffix(b, slot, target, at + prefix);
}
/** Copies the part of a key after the prefix and returns its length. */
export function copySuffix(b: Uint8Array, slot: number, target: Uint8Array, at: number): number {
  const slotStart = slotAt(b, slot);
  const length = getU16(b, slotStart + SLOT_SUFFIX_LENGTH);
  copyBytes(b, getU16(b, slotStart + SLOT_CELL), target, at, length);
  return length;
}

export function valueStart(b: Uint8Array, slot: number): number {
  const at = slotAt(b, slot);
  return getU16(b, at + SLOT_CELL) + getU16(b, at + SLOT_SUFFIX_LENGTH) + VALUE_LENGTH_SIZE;
}
export function valueLength(b: Uint8Array, slot: number): number {
  return getU16(b, valueStart(b, slot) - VALUE_LENGTH_SIZE);
}

/** Where the child pointer of a branch's slot begins. */
export function childAt(b: Uint8Array, slot: number): number {
  const at = slotAt(b, slot);
  return getU16(b, at + SLOT_CELL) + getU16(b, at + SLOT_SUFFIX_LENGTH);
}
export function childNumber(b: Uint8Array, slot: number): number {
  return getU48(b, childAt(b, slot) + CHILD_NUMBER);
}
export function childLsn(b: Uint8Array, slot: number): number {
  return getU64(b, childAt(b, slot) + CHILD_LSN);
}
export function childChecksum(b: Uint8Array, slot: number): number {
  return getU32(b, childAt(b, slot) + CHILD_CHECKSUM);
}
export function setChild(b: Uint8Array, slot: number, number: number, lsn: number, checksum: number): void {
  putChild(b, childAt(b, slot), number, lsn, checksum);
}
/** Writes a child pointer at an offset. */
export function putChild(b: Uint8Array, at: number, number: number, lsn: number, checksum: number): void {
  putU48(b, at + CHILD_NUMBER, number);
  putU64(b, at + CHILD_LSN, lsn);
  putU32(b, at + CHILD_CHECKSUM, checksum);
}

/** Bytes of a cell in the heap; its slot is not counted. */
export function cellSize(b: Uint8Array, slot: number): number {
  const at = slotAt(b, slot);
  const suffix = getU16(b, at + SLOT_SUFFIX_LENGTH);
  if (!isLeaf(b)) return suffix + CHILD_SIZE;
  return suffix + VALUE_LENGTH_SIZE + getU16(b, getU16(b, at + SLOT_CELL) + suffix);
}
/** Bytes between slots and heap. */
export function gapBytes(b: Uint8Array): number {
  return getU16(b, PAGE_HEAP_START) - slotAt(b, cellCount(b));
}
/** Bytes that prefix, slots and live cells take. */
export function usedBytes(b: Uint8Array): number {
  return b.length - PAGE_HEADER_SIZE - gapBytes(b) - getU16(b, PAGE_DEAD_BYTES);
}

/** The first four of key[from, length) as a number whose signed order is the byte order (top bit flipped). */
function headOf(key: Uint8Array, from: number, length: number): number {
  const rest = length - from;
  if (rest >= HEAD_BYTES) {
    return (
      ((key[from]! << 24) | (key[from + 1]! << 16) | (key[from + 2]! << 8) | key[from + 3]!) ^ 0x80000000
    );
  }
  let head = 0;
  if (rest > 0) head |= key[from]! << 24;
  if (rest > 1) head |= key[from + 1]! << 16;
  if (rest > 2) head |= key[from + 2]! << 8;
  return head ^ 0x80000000;
}

/**
 * Binary search for key[0, length) among the slots from `first` on. Returns the slot that has it, or the complement
 * (~slot) of the first slot whose key is greater.
 */
function search(b: Uint8Array, first: number, key: Uint8Array, length: number): number {
  const count = cellCount(b);
  const prefix = prefixLength(b);
  const shared = Math.min(prefix, length);
  for (let i = 0; i < shared; i++) {
    const difference = key[i]! - b[PAGE_HEADER_SIZE + i]!;
    if (difference !== 0) return difference < 0 ? ~first : ~count;
  }
  if (length < prefix) return ~first;

  const head = headOf(key, prefix, length);
  const base = PAGE_HEADER_SIZE + prefix;
  let low = first;
  let high = count;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const at = base + middle * SLOT_SIZE;
    const found = ((b[at]! << 24) | (b[at + 1]! << 16) | (b[at + 2]! << 8) | b[at + 3]!) ^ 0x80000000;
    if (found < head) {
      low = middle + 1;
    } else if (found > head) {
      high = middle;
    } else {
      const order = compareTail(b, at, key, prefix, length);
      if (order === 0) return middle;
      if (order < 0) low = middle + 1;
      else high = middle;
    }
  }
  return ~low;
}

/** Orders a slot's suffix against key[prefix, length) when their heads are equal. */
function compareTail(b: Uint8Array, at: number, key: Uint8Array, prefix: number, length: number): number {
  const cell = (b[at + SLOT_CELL]! | (b[at + SLOT_CELL + 1]! << 8)) - prefix;
  const end = prefix + (b[at + SLOT_SUFFIX_LENGTH]! | (b[at + SLOT_SUFFIX_LENGTH + 1]! << 8));
  const shared = Math.min(end, length);
  // Equal heads are equal bytes as far as both keys reach, so only what follows the heads can differ.
  for (let i = prefix + HEAD_BYTES; i < shared; i++) {
    const difference = b[cell + i]! - key[i]!;
    if (difference !== 0) return difference;
  }
  return end - length;
}

/** The slot of a leaf that has key[0, length), or ~slot of where it belongs. */
export function searchLeaf(b: Uint8Array, key: Uint8Array, length: number): number {
  return search(b, 0, key, length);
}
/** The slot of the child of a branch that has key[0, length), if any has. */
export function searchBranch(b: Uint8Array, key: Uint8Array, length: number): number {
  const slot = search(b, 1, key, length);
  return slot >= 0 ? slot : ~slot - 1;
}

/** Orders the key of a slot against key[0, length): negative, zero or positive. Not for slot 0 of a branch. */
export function compareKey(b: Uint8Array, slot: number, key: Uint8Array, length: number): number {
  const prefix = prefixLength(b);
  const shared = Math.min(prefix, length);
  for (let i = 0; i < shared; i++) {
    const difference = b[PAGE_HEADER_SIZE + i]! - key[i]!;
    if (difference !== 0) return difference;
  }
  if (length < prefix) return 1;
  const at = PAGE_HEADER_SIZE + prefix + slot * SLOT_SIZE;
  const found = ((b[at]! << 24) | (b[at + 1]! << 16) | (b[at + 2]! << 8) | b[at + 3]!) ^ 0x80000000;
  const head = headOf(key, prefix, length);
  if (found !== head) return found < head ? -1 : 1;
  return compareTail(b, at, key, prefix, length);
}

/** Whether a key begins with the page's prefix. */
export function hasPrefix(b: Uint8Array, key: Uint8Array, length: number): boolean {
  const prefix = prefixLength(b);
  if (length < prefix) return false;
  for (let i = 0; i < prefix; i++) if (key[i] !== b[PAGE_HEADER_SIZE + i]) return false;
  return true;
}

/** Bytes of the gap that a new cell takes, slot included, in a page whose prefix the key has. */
export function leafCellCost(b: Uint8Array, keyBytes: number, valueBytes: number): number {
  return SLOT_SIZE + keyBytes - prefixLength(b) + VALUE_LENGTH_SIZE + valueBytes;
}
export function branchCellCost(b: Uint8Array, keyBytes: number): number {
  return SLOT_SIZE + keyBytes - prefixLength(b) + CHILD_SIZE;
}

/** Opens a slot and takes `tail` bytes after the key's suffix from the heap. Returns where the tail begins. */
function openCell(b: Uint8Array, slot: number, key: Uint8Array, length: number, tail: number): number {
  const count = cellCount(b);
  const prefix = prefixLength(b);
  const at = PAGE_HEADER_SIZE + prefix + slot * SLOT_SIZE;
  const end = PAGE_HEADER_SIZE + prefix + count * SLOT_SIZE;
  if (at < end) moveSlots(b, at, end, SLOT_SIZE);
  const suffix = length - prefix;
  const cell = getU16(b, PAGE_HEAP_START) - suffix - tail;
  putU16(b, PAGE_HEAP_START, cell);
  putU16(b, PAGE_COUNT, count + 1);
  putHead(b, at, key, prefix, length);
  putU16(b, at + SLOT_CELL, cell);
  putU16(b, at + SLOT_SUFFIX_LENGTH, suffix);
  copyBytes(key, prefix, b, cell, suffix);
  return cell + suffix;
}

function moveSlots(b: Uint8Array, from: number, to: number, by: number): void {
  // copyWithin has a fixed cost that a short loop does not have.
  if (to - from > 96) {
    b.copyWithin(from + by, from, to);
  } else if (by > 0) {
    for (let i = to - 1; i >= from; i--) b[i + by] = b[i]!;
  } else {
    for (let i = from; i < to; i++) b[i + by] = b[i]!;
  }
}

/** Writes the head of key[prefix, length) into a slot. */
export function putHead(b: Uint8Array, at: number, key: Uint8Array, prefix: number, length: number): void {
  const head = headOf(key, prefix, length) ^ 0x80000000;
  b[at] = head >>> 24;
  b[at + 1] = head >>> 16;
  b[at + 2] = head >>> 8;
  b[at + 3] = head;
}

/** Inserts a cell into a leaf. The key has the page's prefix and `leafCellCost` is at most `gapBytes`. */
export function insertLeafCell(
  b: Uint8Array,
  slot: number,
  key: Uint8Array,
  length: number,
  value: Uint8Array,
  start: number,
  size: number,
): void {
  const at = openCell(b, slot, key, length, VALUE_LENGTH_SIZE + size);
  putU16(b, at, size);
  copyBytes(value, start, b, at + VALUE_LENGTH_SIZE, size);
}

/** Inserts a child into a branch, not at slot 0. The same conditions hold. */
export function insertBranchCell(
  b: Uint8Array,
  slot: number,
  key: Uint8Array,
  length: number,
  number: number,
  lsn: number,
  checksum: number,
): void {
  putChild(b, openCell(b, slot, key, length, CHILD_SIZE), number, lsn, checksum);
}

/** Gives bytes of the heap back: at its start they widen the gap, elsewhere they are dead. */
function releaseHeap(b: Uint8Array, at: number, size: number): void {
  if (at === getU16(b, PAGE_HEAP_START)) putU16(b, PAGE_HEAP_START, at + size);
  else putU16(b, PAGE_DEAD_BYTES, getU16(b, PAGE_DEAD_BYTES) + size);
}

/** Removes a cell. In a branch whose slot 0 goes, the next child takes over "everything below". */
export function removeCell(b: Uint8Array, slot: number): void {
  const count = cellCount(b);
  releaseHeap(b, cellOffset(b, slot), cellSize(b, slot));
  const at = slotAt(b, slot);
  moveSlots(b, at + SLOT_SIZE, slotAt(b, count), -SLOT_SIZE);
  putU16(b, PAGE_COUNT, count - 1);
  if (count === 1) {
    putU16(b, PAGE_HEAP_START, b.length);
    putU16(b, PAGE_DEAD_BYTES, 0);
  } else if (slot === 0 && !isLeaf(b)) {
    const suffix = getU16(b, at + SLOT_SUFFIX_LENGTH);
    const cell = getU16(b, at + SLOT_CELL);
    releaseHeap(b, cell, suffix);
    putU32(b, at + SLOT_HEAD, 0);
    putU16(b, at + SLOT_CELL, cell + suffix);
    putU16(b, at + SLOT_SUFFIX_LENGTH, 0);
  }
}

/** Replaces a value by one that is not longer, in place. */
export function overwriteValue(
  b: Uint8Array,
  slot: number,
  value: Uint8Array,
  start: number,
  size: number,
): void {
  const at = valueStart(b, slot);
  const old = getU16(b, at - VALUE_LENGTH_SIZE);
  copyBytes(value, start, b, at, size);
  if (size < old) {
    putU16(b, at - VALUE_LENGTH_SIZE, size);
    putU16(b, PAGE_DEAD_BYTES, getU16(b, PAGE_DEAD_BYTES) + old - size);
  }
}

/** Copies bytes; short runs in a loop, because making a view costs more than they do. Overlap is handled. */
export function copyBytes(
  source: Uint8Array,
  from: number,
  target: Uint8Array,
  to: number,
  size: number,
): void {
  if (size > 160) {
    target.set(source.subarray(from, from + size), to);
  } else if (source === target && from < to) {
    for (let i = size - 1; i >= 0; i--) target[to + i] = source[from + i]!;
  } else {
    for (let i = 0; i < size; i++) target[to + i] = source[from + i]!;
  }
}

/** For the overlap check: size of the cell that begins at an offset. All zero between calls. */
const cellSizeAt = new Uint16Array(Math.max(...PAGE_SIZES));

/**
 * Establishes the invariants of a leaf or branch page whose bytes may be anything.
 * `tree` 0 accepts any tree. Pages in memory may point to pages without a place (`temporary`), pages on disk not.
 * @throws CorruptPageError
 */
export function validateTreePage(b: Uint8Array, tree: number, temporary = false): void {
  const kind = b[PAGE_KIND_AT]!;
  const level = b[PAGE_LEVEL]!;
  const count = cellCount(b);
  const prefix = prefixLength(b);
  const heap = getU16(b, PAGE_HEAP_START);
  if (kind !== PAGE_KIND.leaf && kind !== PAGE_KIND.branch) fail(b, 'kind', 'leaf or branch', kind);
  if (kind === PAGE_KIND.leaf) {
    if (level !== 0) fail(b, 'level of a leaf', 0, level);
  } else if (level === 0 || level > MAX_LEVEL) {
    fail(b, 'level of a branch', `1 to ${MAX_LEVEL}`, level);
  }
  if (tree !== 0 && b[PAGE_TREE] !== tree) fail(b, 'tree', tree, b[PAGE_TREE]!);
  if (b[PAGE_RESERVED] !== 0) fail(b, 'reserved byte', 0, b[PAGE_RESERVED]!);
  if (getU16(b, PAGE_RESERVED_2) !== 0) fail(b, 'reserved bytes', 0, getU16(b, PAGE_RESERVED_2));
  if (count === 0) fail(b, 'cells', 'at least 1', 0);
  if (prefix > KEY_MAX) fail(b, 'prefix length', `at most ${KEY_MAX}`, prefix);
  const slots = PAGE_HEADER_SIZE + prefix;
  if (slots + count * SLOT_SIZE > heap) fail(b, 'heap start', `at least ${slots + count * SLOT_SIZE}`, heap);
  if (heap > b.length) fail(b, 'heap start', `at most ${b.length}`, heap);
  try {
    validateCells(b, count, prefix, heap, kind === PAGE_KIND.leaf, temporary);
  } finally {
    for (let slot = 0; slot < count; slot++) {
      const cell = getU16(b, slots + slot * SLOT_SIZE + SLOT_CELL);
      if (cell < cellSizeAt.length) cellSizeAt[cell] = 0;
    }
  }
}

function validateCells(
  b: Uint8Array,
  count: number,
  prefix: number,
  heap: number,
  leaf: boolean,
  temporary: boolean,
): void {
  const payload = maxCellPayload(b.length);
  let before = -1; // slot start of the key before, or -1
  for (let slot = 0; slot < count; slot++) {
    const at = PAGE_HEADER_SIZE + prefix + slot * SLOT_SIZE;
    const cell = getU16(b, at + SLOT_CELL);
    const suffix = getU16(b, at + SLOT_SUFFIX_LENGTH);
    const fixed = suffix + (leaf ? VALUE_LENGTH_SIZE : CHILD_SIZE);
    if (prefix + suffix > KEY_MAX)
      fail(b, `key length of slot ${slot}`, `at most ${KEY_MAX}`, prefix + suffix);
    if (cell < heap) fail(b, `cell of slot ${slot}`, `at ${heap} or later`, cell);
    if (cell + fixed > b.length) fail(b, `cell of slot ${slot}`, `at most ${b.length - fixed}`, cell);
    let size = fixed;
    if (leaf) {
      const length = getU16(b, cell + suffix);
      if (prefix + suffix + length > payload) {
        fail(b, `value length of slot ${slot}`, `at most ${payload - prefix - suffix}`, length);
      }
      size += length;
      if (cell + size > b.length) fail(b, `value of slot ${slot}`, `to end by ${b.length}`, cell + size);
    } else {
      validateChild(b, cell + suffix, slot, temporary);
    }
    if (headOf(b, cell, cell + suffix) !== headOf(b, at, at + HEAD_BYTES)) {
      fail(b, `head of slot ${slot}`, 'the first bytes of its key', getU32(b, at));
    }
    if (!leaf && slot === 0) {
      if (suffix !== 0) fail(b, 'key of the first child', 'none', suffix);
    } else {
      if (before >= 0 && compareSlots(b, before, at) >= 0) fail(b, `key of slot ${slot}`, 'ascending', 'not');
      before = at;
    }
    if (cellSizeAt[cell] !== 0) fail(b, `cell of slot ${slot}`, 'its own place', cell);
    cellSizeAt[cell] = size;
  }
  // One walk over the heap: a cell that begins inside another is never met.
  let met = 0;
  let dead = 0;
  let position = heap;
  while (position < b.length) {
    const size = cellSizeAt[position]!;
    if (size === 0) {
      dead++;
      position++;
    } else {
      met++;
      position += size;
    }
  }
  if (met !== count) fail(b, 'cells that do not overlap', count, met);
  if (dead !== getU16(b, PAGE_DEAD_BYTES)) fail(b, 'dead bytes', dead, getU16(b, PAGE_DEAD_BYTES));
}

function validateChild(b: Uint8Array, at: number, slot: number, temporary: boolean): void {
  const number = getU48(b, at + CHILD_NUMBER);
  if (number === 0 || (number >= TEMPORARY_BASE && !temporary)) {
    fail(b, `child of slot ${slot}`, 'a page number', number);
  }
  const lsn = getU64(b, at + CHILD_LSN);
  if (!Number.isSafeInteger(lsn)) fail(b, `child LSN of slot ${slot}`, 'at most 2^53', lsn);
}

/** Orders the suffixes of two slots of one page, given where the slots begin. */
function compareSlots(b: Uint8Array, at: number, other: number): number {
  const cell = getU16(b, at + SLOT_CELL);
  const length = getU16(b, at + SLOT_SUFFIX_LENGTH);
  const otherCell = getU16(b, other + SLOT_CELL);
  const otherLength = getU16(b, other + SLOT_SUFFIX_LENGTH);
  const shared = Math.min(length, otherLength);
  for (let i = 0; i < shared; i++) {
    const difference = b[cell + i]! - b[otherCell + i]!;
    if (difference !== 0) return difference;
  }
  return length - otherLength;
}

function fail(b: Uint8Array, what: string, expected: number | string, found: number | string): never {
  const page = getU48(b, PAGE_NUMBER);
  throw new CorruptPageError(
    `page ${page} at offset ${page * b.length} of the data file is corrupt: ${what}: expected ${expected}, found ${found}`,
    { page, offset: page * b.length, what, expected, found },
  );
}
