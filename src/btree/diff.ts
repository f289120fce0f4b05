/**
 * What changed between two trees, in O(changed pages).
 *
 * Each side is walked in key order by a frontier that stands on an item: a subtree that was not opened yet, or an
 * entry of a leaf. The two frontiers move together:
 * - the same subtree on both sides: everything below it is equal, and both skip it without reading it;
 * - two entries: the lesser key exists on its side only, equal keys are compared by value;
 * - otherwise something must be opened. A side whose item may hold lesser keys goes first; from the same lower bound
 *   on, the higher subtree is opened first, so that both sides stand on the same level before they compare.
 * So trees of different heights and pages with shifted boundaries cost only what lies around the shift.
 *
 * Two subtrees are the same when number, LSN and checksum are: a page's place is not used again for another page
 * while either version is kept, and clean pages never change. Pages without a place are the same only within one
 * page space. The same goes for values that name such pages: `isPrivate` finds them.
 */
import { getU32, getU48, getU64 } from '../encoding/bytes.ts';
import {
  CHILD_CHECKSUM,
  CHILD_LSN,
  CHILD_NUMBER,
  cellCount,
  childAt,
  compareKey,
  copyKey,
  pageLevel,
  valueLength,
  valueStart,
} from '../encoding/cells.ts';
import { KEY_MAX, type TreeId } from '../encoding/keys.ts';
import { isTemporary, type PageRef } from '../encoding/page.ts';
import { CorruptPageError } from '../errors.ts';
import type { PageSpace } from '../storage/page-space.ts';
import { loadChild, loadRoot } from './path.ts';

/** A tree to compare: its pages and its root. */
export interface DiffSide {
  space: PageSpace;
  root: Readonly<PageRef>;
}

/** A key whose value differs: no `before` if it was added, no `after` if it was removed. */
export interface Difference {
  key: Buffer;
  before?: Buffer;
  after?: Buffer;
}

/** Restricts a diff to the keys from `gte` on and below `lt`. */
export interface DiffRange {
  gte?: Uint8Array;
  lt?: Uint8Array;
  /**
   * Whether a value means something only within its page space, so that an equal one of another space may mean something
   * else: then both are yielded. Asked for entries of pages without a place only.
   */
  isPrivate?: (key: Buffer, value: Buffer) => boolean;
  /** Told of every page that is read of a side: what the other side does not have, and a few that both have. */
  opened?: (side: 'before' | 'after', page: PageRef) => void;
}

/** Yields, in key order, where the tree `after` differs from the tree `before`. */
export function* diffTrees(
  before: DiffSide,
  after: DiffSide,
  treeId: TreeId,
  range: DiffRange = {},
): Generator<Difference, void, undefined> {
  const a = new Frontier(before, treeId, range, 'before');
  const b = new Frontier(after, treeId, range, 'after');
  const sameSpace = before.space === after.space;
  for (;;) {
    a.clip();
    b.clip();
    if (a.done && b.done) return;
    const order = a.done ? 1 : b.done ? -1 : a.compare(b, sameSpace);
    if (order === 0 && !(a.isEntry && b.isEntry)) {
      // The same subtree, or two that begin at the same key.
      if (a.isSame(b, sameSpace)) {
        a.advance();
        b.advance();
      } else {
        const aLevel = a.level;
        const bLevel = b.level;
        if (aLevel >= bLevel) a.open();
        if (bLevel >= aLevel) b.open();
      }
    } else if (order === 0) {
      const isPrivate =
        !sameSpace && a.isInTemporary && b.isInTemporary && range.isPrivate?.(a.key(), a.value()) === true;
      if (isPrivate || !a.hasValueOf(b)) yield { key: a.key(), before: a.value(), after: b.value() };
      a.advance();
      b.advance();
    } else {
      const lesser = order < 0 ? a : b;
      if (!lesser.isEntry) {
        lesser.open();
      } else {
        yield order < 0 ? { key: a.key(), before: a.value() } : { key: b.key(), after: b.value() };
        lesser.advance();
      }
    }
  }
}

/** One side of a diff: a stack of opened pages, of which the last one's slot is the item. */
class Frontier {
  /** There is no item left. */
  done: boolean;
  /** The item is an entry of a leaf; else it is a subtree that was not opened. */
  isEntry = false;
  /** Level of the subtree's page; -1 for an entry. */
  level = -1;
  /** The entry is in a page without a place. */
  isInTemporary = false;

  private readonly space: PageSpace;
  private readonly treeId: TreeId;
  private readonly root: Readonly<PageRef>;
  private readonly from: Uint8Array | undefined;
  private readonly to: Uint8Array | undefined;
  private readonly opened: ((page: PageRef) => void) | undefined;
  private readonly pages: Uint8Array[] = [];
  private readonly slots: number[] = [];
  /** Index of the last opened page; -1 while the item is the root. */
  private depth = -1;
  /** Everything from here on is at or above `from`. */
  private passedFrom: boolean;
  /** The greatest key of the last leaf that was opened, to see that leaves ascend. */
  private readonly lastKey = Buffer.alloc(KEY_MAX);
  private lastKeyLength = -1;
  private readonly bound = Buffer.alloc(KEY_MAX);

  constructor(side: DiffSide, treeId: TreeId, range: DiffRange, which: 'before' | 'after') {
    this.space = side.space;
    this.treeId = treeId;
    this.root = side.root;
    this.done = side.root.number === 0;
    this.from = range.gte;
    this.to = range.lt;
    const { opened } = range;
    this.opened = opened === undefined ? undefined : (page) => opened(which, page);
    this.passedFrom = range.gte === undefined;
    // The level of the root is not known before it is read; it is above every page that is known.
    this.level = Infinity;
  }

  private get page(): Uint8Array {
    return this.pages[this.depth]!;
  }
  private get slot(): number {
    return this.slots[this.depth]!;
  }

  key(): Buffer {
    return Buffer.from(this.bound.subarray(0, copyKey(this.page, this.slot, this.bound, 0)));
  }
  value(): Buffer {
    const start = valueStart(this.page, this.slot);
    return Buffer.from(this.page.subarray(start, start + valueLength(this.page, this.slot)));
  }
  /** Whether two entries have equal values. */
  hasValueOf(other: Frontier): boolean {
    const length = valueLength(this.page, this.slot);
    if (length !== valueLength(other.page, other.slot)) return false;
    const start = valueStart(this.page, this.slot);
    const otherStart = valueStart(other.page, other.slot);
    for (let i = 0; i < length; i++) if (this.page[start + i] !== other.page[otherStart + i]) return false;
    return true;
  }

  /** Whether both items are subtrees, and the same one. */
  isSame(other: Frontier, sameSpace: boolean): boolean {
    if (this.isEntry || other.isEntry) return false;
    const number = this.childNumber();
    if (number !== other.childNumber()) return false;
    if (isTemporary(number)) return sameSpace;
    return this.childLsn() === other.childLsn() && this.childChecksum() === other.childChecksum();
  }
  private childNumber(): number {
    return this.depth < 0
      ? this.root.number
      : getU48(this.page, childAt(this.page, this.slot) + CHILD_NUMBER);
  }
  private childLsn(): number {
    return this.depth < 0 ? this.root.lsn : getU64(this.page, childAt(this.page, this.slot) + CHILD_LSN);
  }
  private childChecksum(): number {
    return this.depth < 0
      ? this.root.checksum
      : getU32(this.page, childAt(this.page, this.slot) + CHILD_CHECKSUM);
  }

  /**
   * Which item is to be dealt with first: negative for this one, positive for the other's, 0 if both at once.
   * A subtree stands at its lower bound; an entry there or after it has to wait until the subtree is opened.
   */
  compare(other: Frontier, sameSpace: boolean): number {
    if (this.isSame(other, sameSpace)) return 0;
    const length = this.lowerBound();
    const otherLength = other.lowerBound();
    let order: number;
    if (length < 0 || otherLength < 0) order = length < 0 && otherLength < 0 ? 0 : length - otherLength;
    else order = this.bound.compare(other.bound, 0, otherLength, 0, length);
    if (order !== 0 || this.isEntry === other.isEntry) return order;
    return this.isEntry ? 1 : -1;
  }

  /** Writes the entry's key, or a key that none in the subtree is below, to `bound`; -1 where there is none. */
  private lowerBound(): number {
    if (this.isEntry) return copyKey(this.page, this.slot, this.bound, 0);
    for (let i = this.depth; i >= 0; i--) {
      if (this.slots[i]! > 0) return copyKey(this.pages[i]!, this.slots[i]!, this.bound, 0);
    }
    return -1;
  }

  /** Replaces the subtree by its first part. */
  open(): void {
    const page =
      this.depth < 0
        ? loadRoot(this.space, this.treeId, this.root)
        : loadChild(this.space, this.treeId, this.page, this.slot);
    this.opened?.(page);
    this.depth++;
    this.pages[this.depth] = page.bytes;
    this.slots[this.depth] = 0;
    this.level = pageLevel(page.bytes) - 1;
    this.isEntry = this.level < 0;
    if (this.isEntry) this.enterLeaf(page.number);
  }

  private enterLeaf(number: number): void {
    const b = this.page;
    if (this.lastKeyLength >= 0 && compareKey(b, 0, this.lastKey, this.lastKeyLength) <= 0) {
      throw new CorruptPageError(
        `page ${number} of tree ${this.treeId} is corrupt: its keys are out of order with its neighbour's`,
        { page: number, what: 'order of keys', tree: this.treeId },
      );
    }
    this.lastKeyLength = copyKey(b, cellCount(b) - 1, this.lastKey, 0);
    this.isInTemporary = isTemporary(number);
  }

  /** Goes to the item after this one. */
  advance(): void {
    while (this.depth >= 0) {
      const slot = this.slot + 1;
      if (slot < cellCount(this.page)) {
        this.slots[this.depth] = slot;
        this.level = pageLevel(this.page) - 1;
        this.isEntry = this.level < 0;
        return;
      }
      this.depth--;
    }
    this.done = true;
  }

  /** Passes over what lies wholly below the range, and ends where the range ends. */
  clip(): void {
    const { from, to } = this;
    while (!this.passedFrom && !this.done && from !== undefined) {
      if (this.isEntry) {
        if (compareKey(this.page, this.slot, from, from.length) >= 0) this.passedFrom = true;
        else this.advance();
      } else if (this.endsBy(from)) {
        this.advance();
      } else {
        return;
      }
    }
    if (to === undefined || this.done) return;
    const length = this.lowerBound();
    if (length >= 0 && this.bound.compare(to, 0, to.length, 0, length) >= 0) this.done = true;
  }

  /** Whether all keys of the subtree are below `key`. */
  private endsBy(key: Uint8Array): boolean {
    for (let i = this.depth; i >= 0; i--) {
      const next = this.slots[i]! + 1;
      if (next < cellCount(this.pages[i]!)) return compareKey(this.pages[i]!, next, key, key.length) <= 0;
    }
    return false;
  }
}
