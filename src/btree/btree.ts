/**
 * A copy-on-write B+tree over a page space.
 *
 * The tree does no I/O and knows no transactions: it asks the space for pages, and before it changes a page it has
 * the space `touch` it and points the parent at the result. So every root that was sealed goes on to show what it
 * showed, and a burst of changes copies a page once.
 *
 * Invariants
 * - All leaves have level 0 and the same depth; the level of a page is one less than its parent's.
 * - Whatever can fail (loading a page, judging input) comes before the first change, so that an error leaves the
 *   tree as it was. After that point only pages in memory are used.
 * - A dirty page's ancestors are dirty: a change touches its path from the root down.
 * - The path of the last operation is kept. It stays true until a change moves cells between pages or `root` is
 *   assigned, and it spares operations on near keys the descent.
 *
 * Space: a page below a third full merges with a neighbour below the same parent when the two fit one page with room
 * to spare. Nothing is moved between neighbours that do not merge: together they are well filled anyway, and a
 * separator never changes. A page that becomes empty is removed; a root with one child gives way to it.
 */

import { getU16 } from '../encoding/bytes.ts';
import {
  branchCellCost,
  CHILD_SIZE,
  cellCount,
  cellSize,
  childAt,
  childChecksum,
  childLsn,
  childNumber,
  copyKey,
  gapBytes,
  hasPrefix,
  insertBranchCell,
  insertLeafCell,
  isLeaf,
  leafCellCost,
  MAX_LEVEL,
  maxCellPayload,
  overwriteValue,
  pageCapacity,
  putChild,
  removeCell,
  SLOT_SIZE,
  searchLeaf,
  setChild,
  usedBytes,
  VALUE_LENGTH_SIZE,
  valueLength,
  valueStart,
} from '../encoding/cells.ts';
import { KEY_MAX, type TreeId } from '../encoding/keys.ts';
import { NO_PAGE, PAGE_KIND, type PageRef } from '../encoding/page.ts';
import { assert, CorruptPageError, LsnfsError } from '../errors.ts';
import type { Page, PageSpace } from '../storage/page-space.ts';
import { type SplitMode, sharedRun } from './cell-run.ts';
import { Cursor } from './cursor.ts';
import { InsertTracker } from './insert-tracker.ts';
import { borrowChild, borrowRoot, NOWHERE, Path } from './path.ts';

export type { Cursor };

/** Operations in a row outside the last leaf after which only every so many try it. A power of two. */
const HINT_MISSES = 8;

/** Bounds of a range of keys; without any, it is all of them. */
export interface RangeOptions {
  gt?: Uint8Array;
  gte?: Uint8Array;
  lt?: Uint8Array;
  lte?: Uint8Array;
  reverse?: boolean;
}

export interface Entry {
  key: Buffer;
  value: Buffer;
}

export class BTree {
  readonly treeId: TreeId;
  readonly space: PageSpace;
  /** Pages of the tree. */
  pageCount: number;
  /** Counts modifications; a cursor finds its place again when it moved. */
  changes = 0;

  /** Where `find` and `findForUpdate` found the key: valid until the next operation on the tree. */
  page: Page = NOWHERE;
  slot = 0;
  valueStart = 0;
  valueLength = 0;

  private rootRef: Readonly<PageRef>;
  private readonly path: Path;
  /** Operations since the last one that found its key in the leaf of the one before. */
  private hintMisses = 0;
  private readonly tracker = new InsertTracker();
  /** A page that is below this many bytes looks for a neighbour to merge with. */
  private readonly mergeBelow: number;
  /** Merged pages are at most this full, so that the next insert does not split them again. */
  private readonly mergedAtMost: number;
  private readonly payloadMaximum: number;
  /** By depth: the neighbour that the page of the path is to merge with, and on which side of it that is. */
  private readonly neighbours: Page[] = [];
  private readonly neighbourIsLeft: boolean[] = [];
  private readonly keyBuffers: readonly [Buffer, Buffer] = [Buffer.alloc(KEY_MAX), Buffer.alloc(KEY_MAX)];
  private readonly childBuffer = Buffer.alloc(CHILD_SIZE);

  constructor(space: PageSpace, treeId: TreeId, root: Readonly<PageRef>, pageCount: number) {
    this.space = space;
    this.treeId = treeId;
    this.rootRef = root;
    this.pageCount = pageCount;
    this.path = new Path(space, treeId);
    const capacity = pageCapacity(space.pageSize);
    this.mergeBelow = Math.floor(capacity / 3);
    this.mergedAtMost = Math.floor((capacity * 7) / 8);
    this.payloadMaximum = maxCellPayload(space.pageSize);
  }

  get root(): Readonly<PageRef> {
    return this.rootRef;
  }

  /** Assigning makes the tree and its cursors forget every page that they hold. */
  set root(ref: Readonly<PageRef>) {
    this.rootRef = ref;
    this.forgetPath();
  }

  /** The tree and its cursors hold no page any more, and reach anew what they need next. */
  forgetPath(): void {
    this.path.clear();
    this.page = NOWHERE;
    this.changes++;
  }

  /** The value of a key: a view into the page, to be copied before the next operation on the tree. */
  get(key: Uint8Array): Uint8Array | undefined {
    if (!this.find(key)) return undefined;
    return this.page.bytes.subarray(this.valueStart, this.valueStart + this.valueLength);
  }

  /** Looks a key up. When it is there, `page`, `slot`, `valueStart` and `valueLength` say where. */
  find(key: Uint8Array): boolean {
    if (this.rootRef.number === 0) return false;
    const leaf = this.locate(key);
    const slot = searchLeaf(leaf.bytes, key, key.length);
    if (slot < 0) return false;
    this.found(leaf, slot);
    return true;
  }

  /**
   * Looks a key up in order to change bytes of its value in place: as `find`, and the page may be written to
   * within [valueStart, valueStart + valueLength).
   */
  findForUpdate(key: Uint8Array): boolean {
    if (this.rootRef.number === 0) return false;
    const leaf = this.locate(key);
    const slot = searchLeaf(leaf.bytes, key, key.length);
    if (slot < 0) return false;
    this.touchPath(this.path.depth);
    this.changes++;
    this.found(this.path.leaf, slot);
    return true;
  }

  /**
   * Sets the value of a key to value[start, start + length), which is copied. Returns whether the key is new.
   * @throws LsnfsError INVALID_INPUT when key or value are too large; CorruptPageError, nothing having changed.
   */
  put(key: Uint8Array, value: Uint8Array, start = 0, length = value.length - start): boolean {
    if (key.length > KEY_MAX || key.length + length > this.payloadMaximum) this.refuse(key.length, length);
    assert(start >= 0 && length >= 0 && start + length <= value.length, 'a value lies outside its buffer');
    if (this.rootRef.number === 0) {
      this.plant(key, value, start, length);
      return true;
    }
    const { path } = this;
    const found = searchLeaf(this.locate(key).bytes, key, key.length);
    if (found >= 0) {
      this.replace(found, key, value, start, length);
      return false;
    }
    const slot = ~found;
    const b = path.leaf.bytes;
    if (hasPrefix(b, key, key.length) && leafCellCost(b, key.length, length) <= gapBytes(b)) {
      this.touchPath(path.depth);
      this.changes++;
      const leaf = path.leaf;
      insertLeafCell(leaf.bytes, slot, key, key.length, value, start, length);
      this.tracker.note(leaf.number, slot);
    } else {
      this.rebuildLeaf(slot, slot, key, value, start, length);
    }
    return true;
  }

  /** Deletes a key. Returns whether it was there. @throws CorruptPageError, nothing having changed. */
  delete(key: Uint8Array): boolean {
    if (this.rootRef.number === 0) return false;
    const { path } = this;
    const slot = searchLeaf(this.locate(key).bytes, key, key.length);
    if (slot < 0) return false;
    let depth = path.depth;
    let doomed = slot;
    // A page with nothing else in it goes away with its cell.
    while (depth >= 0 && cellCount(path.pages[depth]!.bytes) === 1) {
      depth--;
      if (depth >= 0) doomed = path.slots[depth]!;
    }
    if (depth >= 0) {
      const b = path.pages[depth]!.bytes;
      const mergeDepth = this.planMerges(depth, SLOT_SIZE + cellSize(b, doomed));
      this.touchPath(depth);
      this.changes++;
      this.discardBelow(depth);
      removeCell(path.pages[depth]!.bytes, doomed);
      for (let i = depth; i >= mergeDepth; i--) if (!this.merge(i)) break;
      if (depth < path.depth || mergeDepth <= depth) path.clear();
      this.shrinkRoot();
    } else {
      this.changes++;
      this.discardBelow(-1);
      this.rootRef = NO_PAGE;
      path.clear();
    }
    this.neighbours.fill(NOWHERE);
    return true;
  }

  /**
   * Makes the pages on the way to a key, down to the last for which `isDue`, dirty copies, whose content is the same.
   * Returns how many there are. @throws CorruptPageError, nothing having changed.
   */
  rewritePath(key: Uint8Array, isDue: (page: Page) => boolean): number {
    if (this.rootRef.number === 0) return 0;
    const { path } = this;
    this.locate(key);
    let depth = path.depth;
    while (depth >= 0 && !isDue(path.pages[depth]!)) depth--;
    if (depth < 0) return 0;
    const due = path.pages.slice(0, depth + 1).filter(isDue).length;
    this.touchPath(depth);
    this.changes++;
    return due;
  }

  cursor(): Cursor {
    return new Cursor(this);
  }

  /** Copies of the entries in a range. The tree may change meanwhile. */
  *entries(options: RangeOptions = {}): Generator<Entry, void, undefined> {
    const { gt, gte, lt, lte, reverse = false } = options;
    const cursor = this.cursor();
    let more: boolean;
    if (reverse) {
      if (lt !== undefined) more = cursor.seekBefore(lt);
      else if (lte !== undefined)
        more = (cursor.seek(lte) && cursor.compare(lte) === 0) || cursor.seekBefore(lte);
      else more = cursor.last();
      while (more && (lte === undefined || cursor.compare(lte) <= 0)) {
        if (gt !== undefined && cursor.compare(gt) <= 0) return;
        if (gte !== undefined && cursor.compare(gte) < 0) return;
        yield { key: cursor.key, value: cursor.value };
        more = cursor.previous();
      }
      return;
    }
    if (gte !== undefined) more = cursor.seek(gte);
    else if (gt !== undefined) more = cursor.seek(gt);
    else more = cursor.first();
    while (more && gt !== undefined && cursor.compare(gt) <= 0) more = cursor.next();
    while (more) {
      if (lt !== undefined && cursor.compare(lt) >= 0) return;
      if (lte !== undefined && cursor.compare(lte) > 0) return;
      yield { key: cursor.key, value: cursor.value };
      more = cursor.next();
    }
  }

  private found(leaf: Page, slot: number): void {
    const b = leaf.bytes;
    const start = valueStart(b, slot);
    this.page = leaf;
    this.slot = slot;
    this.valueStart = start;
    this.valueLength = getU16(b, start - VALUE_LENGTH_SIZE);
  }

  /** The leaf that has the key, if any has. The path leads to it. */
  private locate(key: Uint8Array): Page {
    const { path } = this;
    if (path.depth >= 0) {
      // Keys that jump about would pay for the comparison and never profit: after some misses, try now and then.
      const misses = this.hintMisses;
      if (misses < HINT_MISSES || (misses & (HINT_MISSES - 1)) === 0) {
        if (path.covers(path.depth, key, key.length)) {
          this.hintMisses = 0;
          return path.leaf;
        }
      }
      this.hintMisses = (misses + 1) | 0;
      return path.descend(path.pages[0]!, key, key.length);
    }
    return path.descend(borrowRoot(this.space, this.treeId, this.rootRef), key, key.length);
  }

  /** Makes the pages [0, depth] of the path safe to change. */
  private touchPath(depth: number): void {
    const { pages, slots } = this.path;
    for (let i = 0; i <= depth; i++) {
      const page = pages[i]!;
      const touched = this.space.touch(page);
      if (touched === page) continue;
      pages[i] = touched;
      const { number, lsn, checksum } = touched;
      if (i === 0) this.rootRef = { number, lsn, checksum };
      else setChild(pages[i - 1]!.bytes, slots[i - 1]!, number, lsn, checksum);
    }
  }

  private refuse(keyBytes: number, valueBytes: number): never {
    if (keyBytes > KEY_MAX) {
      throw new LsnfsError('INVALID_INPUT', `a key has ${keyBytes} bytes; at most ${KEY_MAX} are possible`, {
        found: keyBytes,
        expected: KEY_MAX,
      });
    }
    throw new LsnfsError(
      'INVALID_INPUT',
      `a key and its value have ${keyBytes + valueBytes} bytes; a page takes at most ${this.payloadMaximum}`,
      { found: keyBytes + valueBytes, expected: this.payloadMaximum },
    );
  }

  /** The first key of an empty tree. */
  private plant(key: Uint8Array, value: Uint8Array, start: number, length: number): void {
    const page = this.space.create(PAGE_KIND.leaf, 0, this.treeId);
    insertLeafCell(page.bytes, 0, key, key.length, value, start, length);
    this.rootRef = { number: page.number, lsn: page.lsn, checksum: page.checksum };
    this.pageCount++;
    this.changes++;
    this.path.clear();
  }

  private replace(slot: number, key: Uint8Array, value: Uint8Array, start: number, length: number): void {
    const { path } = this;
    if (length > valueLength(path.leaf.bytes, slot)) {
      const b = path.leaf.bytes;
      if (leafCellCost(b, key.length, length) > gapBytes(b) + SLOT_SIZE) {
        this.rebuildLeaf(slot, slot + 1, key, value, start, length);
        return;
      }
      this.touchPath(path.depth);
      this.changes++;
      const { bytes } = path.leaf;
      // The bytes of the old cell stay as they are until the new cell is written below them: `value` may be a view of
      // them. The gap has the slot's own room for the moment in which the slot is gone.
      removeCell(bytes, slot);
      insertLeafCell(bytes, slot, key, key.length, value, start, length);
      return;
    }
    this.touchPath(path.depth);
    this.changes++;
    overwriteValue(path.leaf.bytes, slot, value, start, length);
  }

  /** Puts a cell in the place of the leaf's cells [slot, after), compacting or splitting the leaf. */
  private rebuildLeaf(
    slot: number,
    after: number,
    key: Uint8Array,
    value: Uint8Array,
    start: number,
    length: number,
  ): void {
    const { path } = this;
    const { depth } = path;
    const run = sharedRun(this.space.pageSize);
    const b = path.leaf.bytes;
    run.reset(true);
    run.addPage(b, 0, slot);
    run.addCell(key, key.length, value, start, length);
    run.addPage(b, after, cellCount(b));
    const fits = run.fits(0, run.count);
    if (!fits) this.verifyPath();

    this.touchPath(depth);
    this.changes++;
    const leaf = path.leaf;
    const isNew = slot === after;
    const mode = isNew ? this.tracker.note(leaf.number, slot) : 'middle';
    if (fits) {
      run.writeOver(leaf.bytes, 0, run.count);
    } else {
      const atEnd = isNew && slot === run.count - 1 && path.isRightmost(depth);
      this.split(depth, slot, isNew, atEnd ? 'ascending' : mode);
    }
    run.release();
  }

  /**
   * Splits the page at `depth` of the path, whose cells and one more are in the run, and enters the right part in
   * the parent.
   */
  private split(depth: number, inserted: number, isNew: boolean, mode: SplitMode): void {
    const { path, space } = this;
    const run = sharedRun(space.pageSize);
    const left = path.pages[depth]!;
    const leaf = isLeaf(left.bytes);
    const level = path.depth - depth;
    const cut = run.chooseSplit(inserted, mode);
    const key = this.keyBuffers[depth & 1]!;
    const length = run.separator(cut, key);
    const right = space.create(leaf ? PAGE_KIND.leaf : PAGE_KIND.branch, level, this.treeId);
    this.pageCount++;
    run.write(right.bytes, cut, run.count);
    // When the new cell alone goes to the right, the left page is what it was.
    if (!(isNew && cut === inserted && cut === run.count - 1)) run.writeOver(left.bytes, 0, cut);
    if (leaf && isNew) {
      if (inserted < cut) this.tracker.follow(left.number, inserted, mode);
      else this.tracker.follow(right.number, inserted - cut, mode);
    }
    if (depth === 0) this.growRoot(left, right, level + 1, key, length);
    else this.insertChild(depth - 1, path.slots[depth - 1]! + 1, key, length, right, mode);
    path.clear();
  }

  private growRoot(left: Page, right: Page, level: number, key: Uint8Array, length: number): void {
    assert(level <= MAX_LEVEL, 'a tree is higher than any tree can be');
    const root = this.space.create(PAGE_KIND.branch, level, this.treeId);
    this.pageCount++;
    insertBranchCell(root.bytes, 0, key, 0, left.number, left.lsn, left.checksum);
    insertBranchCell(root.bytes, 1, key, length, right.number, right.lsn, right.checksum);
    this.rootRef = { number: root.number, lsn: root.lsn, checksum: root.checksum };
  }

  private insertChild(
    depth: number,
    slot: number,
    key: Uint8Array,
    length: number,
    child: Page,
    mode: SplitMode,
  ): void {
    const { number, lsn, checksum } = child;
    const b = this.path.pages[depth]!.bytes;
    if (hasPrefix(b, key, length) && branchCellCost(b, length) <= gapBytes(b)) {
      insertBranchCell(b, slot, key, length, number, lsn, checksum);
      return;
    }
    const run = sharedRun(this.space.pageSize);
    putChild(this.childBuffer, 0, number, lsn, checksum);
    run.reset(false);
    run.addPage(b, 0, slot);
    run.addCell(key, length, this.childBuffer, 0, CHILD_SIZE);
    run.addPage(b, slot, cellCount(b));
    if (run.fits(0, run.count)) run.writeOver(b, 0, run.count);
    else this.split(depth, slot, true, mode);
  }

  /**
   * Before a split: every page of the path has only keys in the range that its parent gives it, so that the
   * separator which goes up keeps the parent in order.
   * @throws CorruptPageError
   */
  private verifyPath(): void {
    const { path } = this;
    const key = this.keyBuffers[0];
    for (let depth = path.depth; depth > 0; depth--) {
      const page = path.pages[depth]!;
      const b = page.bytes;
      const count = cellCount(b);
      const first = isLeaf(b) ? 0 : 1;
      if (first >= count) continue;
      if (!path.covers(depth, key, copyKey(b, first, key, 0))) this.outOfRange(page);
      if (!path.covers(depth, key, copyKey(b, count - 1, key, 0))) this.outOfRange(page);
    }
  }

  private outOfRange(page: Page): never {
    throw new CorruptPageError(
      `page ${page.number} of tree ${this.treeId} is corrupt: it has keys outside the range that its parent gives it`,
      { page: page.number, what: 'range of keys', tree: this.treeId },
    );
  }

  /**
   * Before a cell of `lost` bytes goes from pages[depth]: loads the neighbours that the pages from there up merge
   * with. Returns the least depth at which a merge is planned, or one that is greater than `depth`.
   */
  private planMerges(depth: number, lost: number): number {
    const { pages, slots } = this.path;
    let going = lost;
    let planned = depth + 1;
    for (let i = depth; i > 0; i--) {
      const used = usedBytes(pages[i]!.bytes) - going;
      if (used >= this.mergeBelow) break;
      const parent = pages[i - 1]!.bytes;
      const slot = slots[i - 1]!;
      let neighbour: Page | undefined;
      let isLeft = true;
      if (slot > 0) neighbour = this.mergeable(parent, slot - 1, used);
      if (neighbour === undefined && slot + 1 < cellCount(parent)) {
        neighbour = this.mergeable(parent, slot + 1, used);
        isLeft = false;
      }
      if (neighbour === undefined) break;
      this.neighbours[i] = neighbour;
      this.neighbourIsLeft[i] = isLeft;
      planned = i;
      going = SLOT_SIZE + cellSize(parent, isLeft ? slot : slot + 1);
    }
    return planned;
  }

  private mergeable(parent: Uint8Array, slot: number, used: number): Page | undefined {
    const page = borrowChild(this.space, this.treeId, parent, slot);
    return used + usedBytes(page.bytes) <= this.mergedAtMost ? page : undefined;
  }

  /** Merges pages[depth] with its planned neighbour. Returns false if they do not fit after all. */
  private merge(depth: number): boolean {
    const { pages, slots } = this.path;
    const page = pages[depth]!;
    const neighbour = this.neighbours[depth]!;
    const isLeft = this.neighbourIsLeft[depth]!;
    const left = isLeft ? neighbour.bytes : page.bytes;
    const right = isLeft ? page.bytes : neighbour.bytes;
    const parent = pages[depth - 1]!.bytes;
    const leftSlot = isLeft ? slots[depth - 1]! - 1 : slots[depth - 1]!;
    const run = sharedRun(this.space.pageSize);
    const leaf = isLeaf(left);
    run.reset(leaf);
    run.addPage(left, 0, cellCount(left));
    const seam = run.count;
    if (leaf) {
      run.addPage(right, 0, cellCount(right));
    } else {
      // The first child of the right page gets back the key that stood for it in the parent.
      const key = this.keyBuffers[0];
      const length = copyKey(parent, leftSlot + 1, key, 0);
      run.addCell(key, length, right, childAt(right, 0), CHILD_SIZE);
      run.addPage(right, 1, cellCount(right));
    }
    // Pages made by a hostile hand may overlap: these stay apart, and `check` reports them.
    const first = leaf ? 0 : 1;
    const ordered =
      (seam - 1 < first || run.compare(seam - 1, seam) < 0) &&
      (leaf || seam + 1 >= run.count || run.compare(seam, seam + 1) < 0);
    const fits = ordered && run.sizeOf(0, run.count) <= this.mergedAtMost;
    if (fits) {
      run.writeOver(page.bytes, 0, run.count);
      setChild(parent, leftSlot, page.number, page.lsn, page.checksum);
      removeCell(parent, leftSlot + 1);
      this.space.discard(neighbour);
      this.pageCount--;
    }
    run.release();
    return fits;
  }

  /** The pages of the path below `depth` leave the tree. */
  private discardBelow(depth: number): void {
    const { pages } = this.path;
    for (let i = depth + 1; i <= this.path.depth; i++) {
      this.space.discard(pages[i]!);
      this.pageCount--;
    }
  }

  /** A root that is left with one child gives way to it. The path was cleared if that can be. */
  private shrinkRoot(): void {
    const root = this.path.pages[0]!;
    const b = root.bytes;
    if (isLeaf(b) || cellCount(b) > 1) return;
    this.rootRef = { number: childNumber(b, 0), lsn: childLsn(b, 0), checksum: childChecksum(b, 0) };
    this.space.discard(root);
    this.pageCount--;
    this.path.clear();
  }
}
