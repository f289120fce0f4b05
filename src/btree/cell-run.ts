/**
 * Building pages anew: a run is a sequence of cells, in key order, taken from one or two pages and perhaps one that
 * is not in a page yet. Any part of it can be written to a page with the longest prefix that its keys share. Split,
 * merge and compaction are all "collect a run, choose where to cut, write the parts".
 *
 * A run refers to the bytes of its cells and copies nothing before it writes, so its sources must stay unchanged
 * until then; `writeOver` builds the page aside, so that the target may be a source.
 */

import { putU16 } from '../encoding/bytes.ts';
import {
  CHILD_SIZE,
  cellOffset,
  copyBytes,
  prefixLength,
  putHead,
  SLOT_CELL,
  SLOT_SIZE,
  SLOT_SUFFIX_LENGTH,
  suffixLength,
  VALUE_LENGTH_SIZE,
  valueLength,
} from '../encoding/cells.ts';
import {
  PAGE_COUNT,
  PAGE_DEAD_BYTES,
  PAGE_HEADER_SIZE,
  PAGE_HEAP_START,
  PAGE_PREFIX_LENGTH,
} from '../encoding/page.ts';
import { assert } from '../errors.ts';

/** Where a split should fall when the inserts that caused it follow each other. */
export type SplitMode = 'middle' | 'ascending' | 'descending';

export class CellRun {
  count = 0;
  private leaf = true;
  private readonly pageSize: number;
  private readonly scratch: Buffer;
  // One entry a cell. A key is prefixes of `keySources` (from byte 32 of a page) followed by a suffix.
  private readonly keySources: Uint8Array[] = [];
  private readonly prefixLengths: number[] = [];
  private readonly suffixStarts: number[] = [];
  private readonly suffixLengths: number[] = [];
  private readonly valueSources: Uint8Array[] = [];
  private readonly valueStarts: number[] = [];
  private readonly valueLengths: number[] = [];
  /** Bytes of the cells before this one with whole keys, slots included. */
  private readonly sizeBefore: number[] = [0];

  constructor(pageSize: number) {
    this.pageSize = pageSize;
    this.scratch = Buffer.alloc(pageSize);
  }

  reset(leaf: boolean): void {
    this.count = 0;
    this.leaf = leaf;
  }

  /** Lets go of the pages, so that a run that is kept for reuse keeps no page in memory. */
  release(): void {
    this.count = 0;
    this.keySources.length = 0;
    this.valueSources.length = 0;
  }

  /** Appends the cells [from, to) of a page. Slot 0 of a branch comes without a key. */
  addPage(b: Uint8Array, from: number, to: number): void {
    const prefix = prefixLength(b);
    for (let slot = from; slot < to; slot++) {
      const offset = cellOffset(b, slot);
      const suffix = suffixLength(b, slot);
      if (this.leaf) {
        this.push(b, prefix, offset, suffix, b, offset + suffix + VALUE_LENGTH_SIZE, valueLength(b, slot));
      } else {
        this.push(b, slot === 0 ? 0 : prefix, offset, suffix, b, offset + suffix, CHILD_SIZE);
      }
    }
  }

  /** Appends a cell that is in no page: a value, or a child pointer's bytes. */
  addCell(key: Uint8Array, length: number, value: Uint8Array, start: number, size: number): void {
    this.push(key, 0, 0, length, value, start, size);
  }

  private push(
    keySource: Uint8Array,
    prefix: number,
    suffixStart: number,
    suffix: number,
    valueSource: Uint8Array,
    start: number,
    size: number,
  ): void {
    const i = this.count++;
    this.keySources[i] = keySource;
    this.prefixLengths[i] = prefix;
    this.suffixStarts[i] = suffixStart;
    this.suffixLengths[i] = suffix;
    this.valueSources[i] = valueSource;
    this.valueStarts[i] = start;
    this.valueLengths[i] = size;
    const tail = this.leaf ? VALUE_LENGTH_SIZE + size : size;
    this.sizeBefore[i + 1] = this.sizeBefore[i]! + SLOT_SIZE + prefix + suffix + tail;
  }

  keyLength(i: number): number {
    return this.prefixLengths[i]! + this.suffixLengths[i]!;
  }

  /** Copies bytes [from, to) of a key. */
  private copyKeyPart(i: number, from: number, to: number, target: Uint8Array, at: number): void {
    const source = this.keySources[i]!;
    const prefix = this.prefixLengths[i]!;
    const fromPrefix = from < prefix ? Math.min(prefix, to) - from : 0;
    if (fromPrefix > 0) copyBytes(source, PAGE_HEADER_SIZE + from, target, at, fromPrefix);
    const rest = to - from - fromPrefix;
    if (rest > 0) {
      const start = this.suffixStarts[i]! + from + fromPrefix - prefix;
      copyBytes(source, start, target, at + fromPrefix, rest);
    }
  }

  private keyByte(i: number, at: number): number {
    const prefix = this.prefixLengths[i]!;
    const source = this.keySources[i]!;
    return at < prefix ? source[PAGE_HEADER_SIZE + at]! : source[this.suffixStarts[i]! + at - prefix]!;
  }

  /** Bytes that two keys share from their beginning. */
  private sharedLength(i: number, j: number): number {
    const length = Math.min(this.keyLength(i), this.keyLength(j));
    let shared = 0;
    while (shared < length && this.keyByte(i, shared) === this.keyByte(j, shared)) shared++;
    return shared;
  }

  /** Orders two keys. */
  compare(i: number, j: number): number {
    const shared = this.sharedLength(i, j);
    const length = this.keyLength(i);
    const other = this.keyLength(j);
    if (shared === length || shared === other) return length - other;
    return this.keyByte(i, shared) - this.keyByte(j, shared);
  }

  /**
   * The prefix of a page with the cells [from, to). A page of one key could take the whole key; what it shares with
   * its neighbour is the better guess for the keys to come.
   */
  private prefixOf(from: number, to: number): number {
    const first = this.leaf ? from : from + 1;
    const last = to - 1;
    if (first > last) return 0;
    if (first < last) return this.sharedLength(first, last);
    const firstKeyed = this.leaf ? 0 : 1;
    if (first - 1 >= firstKeyed) return this.sharedLength(first - 1, first);
    if (to < this.count) return this.sharedLength(first, to);
    return 0;
  }

  /** Bytes that prefix, slots and cells of [from, to) take in a page of their own. */
  sizeOf(from: number, to: number): number {
    const prefix = this.prefixOf(from, to);
    const total = this.sizeBefore[to]! - this.sizeBefore[from]!;
    return this.leaf
      ? total - prefix * (to - from - 1)
      : total - this.keyLength(from) - prefix * (to - from - 2);
  }

  fits(from: number, to: number): boolean {
    return this.sizeOf(from, to) <= this.pageSize - PAGE_HEADER_SIZE;
  }

  /**
   * Where to cut a run that does not fit one page: the first cell of the right part. `inserted` is the cell that
   * made the page overflow. Both parts fit; that there is such a cut follows from the bound on cells (cells.ts).
   */
  chooseSplit(inserted: number, mode: SplitMode): number {
    const count = this.count;
    if (mode === 'ascending') {
      if (inserted + 1 < count && this.isCut(inserted + 1)) return inserted + 1;
      if (this.isCut(inserted)) return inserted;
    } else if (mode === 'descending') {
      const cut = Math.max(1, inserted);
      if (this.isCut(cut)) return cut;
    }
    // The shortest separator near the middle (by bytes), so that branches stay small.
    const half = this.sizeBefore[count]! / 2;
    let middle = 1;
    while (middle < count - 1 && this.sizeBefore[middle]! < half) middle++;
    const reach = count >> 5;
    let best = -1;
    let bestLength = Infinity;
    for (let away = 0; away <= count; away++) {
      if (away > reach && best >= 0) return best;
      for (let cut = middle - away; cut <= middle + away; cut += away === 0 ? 1 : 2 * away) {
        if (cut < 1 || cut >= count) continue;
        const length = this.separatorLength(cut);
        if (length < bestLength && this.isCut(cut)) {
          best = cut;
          bestLength = length;
        }
      }
    }
    assert(best >= 0, 'an overfull page has no place to split');
    return best;
  }

  private isCut(cut: number): boolean {
    return cut > 0 && cut < this.count && this.fits(0, cut) && this.fits(cut, this.count);
  }

  private separatorLength(cut: number): number {
    return this.leaf ? this.sharedLength(cut - 1, cut) + 1 : this.keyLength(cut);
  }

  /**
   * Copies the key that separates the cells before `cut` from the others, and returns its length. Between leaves it
   * is the shortest key that does; a branch gives the key of its right part's first child up.
   */
  separator(cut: number, target: Uint8Array): number {
    const length = this.separatorLength(cut);
    this.copyKeyPart(cut, 0, length, target, 0);
    return length;
  }

  /** Writes the cells [from, to) to a page that has kind, level and tree in its header and is no source. */
  write(target: Uint8Array, from: number, to: number): void {
    const prefix = this.prefixOf(from, to);
    const first = this.leaf ? from : from + 1;
    if (prefix > 0) this.copyKeyPart(first, 0, prefix, target, PAGE_HEADER_SIZE);
    let heap = this.pageSize;
    let at = PAGE_HEADER_SIZE + prefix;
    for (let i = from; i < to; i++) {
      const size = this.valueLengths[i]!;
      heap -= size;
      copyBytes(this.valueSources[i]!, this.valueStarts[i]!, target, heap, size);
      if (this.leaf) {
        heap -= VALUE_LENGTH_SIZE;
        putU16(target, heap, size);
      }
      const start = i < first ? 0 : prefix;
      const length = i < first ? 0 : this.keyLength(i);
      heap -= length - start;
      this.copyKeyPart(i, start, length, target, heap);
      putHead(target, at, target, heap, heap + length - start);
      putU16(target, at + SLOT_CELL, heap);
      putU16(target, at + SLOT_SUFFIX_LENGTH, length - start);
      at += SLOT_SIZE;
    }
    putU16(target, PAGE_COUNT, to - from);
    putU16(target, PAGE_PREFIX_LENGTH, prefix);
    putU16(target, PAGE_HEAP_START, heap);
    putU16(target, PAGE_DEAD_BYTES, 0);
  }

  /** The same for a page whose own cells are in the run. What it held otherwise is wiped. */
  writeOver(target: Uint8Array, from: number, to: number): void {
    this.scratch.fill(0);
    copyBytes(target, 0, this.scratch, 0, PAGE_HEADER_SIZE);
    this.write(this.scratch, from, to);
    target.set(this.scratch);
  }
}

const runs = new Map<number, CellRun>();

/** The run for pages of this size. Trees are synchronous, so one serves them all; reset it before use. */
export function sharedRun(pageSize: number): CellRun {
  let run = runs.get(pageSize);
  if (run === undefined) {
    run = new CellRun(pageSize);
    runs.set(pageSize, run);
  }
  return run;
}
