/**
 * Compaction: moves pages from the end of the data file down into free space, so that the file can end earlier.
 *
 * A page cannot be moved in a version, which never changes. So it is the live state that moves: tree pages above a cut
 * become dirty copies of themselves, which the next checkpoint places below it, and file data is written again below it
 * at once and its extents put anew. No state changes, so nothing is logged: after a crash the old places
 * count, and what was written to the new ones is free. With the checkpoint the old places are dead, and come free by
 * retention and reclaiming like any others: when no kept version holds them any more. The tail is then cut off as ever.
 *
 * What an older version holds for long (a snapshot, a calendar, somebody who has it open) stays where it is: moving it
 * would only make a second copy. Such versions are *pinning*. A page of the newest version is held by all versions
 * since its birth, so it can be moved if it was born after the last pinning one. Versions that only the window keeps
 * hold old places for a time, and that is all.
 *
 * Plan and cut. Pages are counted by where they lie, in buckets. The file cannot end before the last page that is pinned,
 * nor before there is room below for what lies above: for the pages themselves, and for copies of those below that
 * lead to them. The lowest cut that meets both is taken, if it is worth while. From then on the free space prefers
 * to give out pages below it.
 *
 * Births. Data that was moved is born at the LSN of the live state then: after every version that there is, and not
 * after the next. It is even, for the log does not name these pages (see reclaim.ts).
 */
import type { BTree } from '../btree/btree.ts';
import { loadChild, loadRoot } from '../btree/path.ts';
import { cellCount, copyKey, isLeaf, keyLength, valueLength, valueStart } from '../encoding/cells.ts';
import { crc32 } from '../encoding/checksum.ts';
import { decodeExtent, type Extent, encodeExtent, UNWRITTEN } from '../encoding/extent.ts';
import { extentKey, extentKeyBlock, KIND_EXTENT, keyInode, TREE, type TreeId } from '../encoding/keys.ts';
import { isTemporary, type PageRef } from '../encoding/page.ts';
import { CorruptPageError } from '../errors.ts';
import type { Device } from '../storage/device.ts';
import type { FreeSpace } from '../storage/free-space.ts';
import type { Page, PageSpace } from '../storage/page-space.ts';
import type { Catalog } from './catalog.ts';
import { TAIL_MINIMUM } from './checkpoint.ts';
import type { LiveTree } from './live-tree.ts';
import { firstFrom } from './reclaim.ts';
import type { TreeState } from './tree-state.ts';

/** Pages of the data file that are counted together. */
const BUCKET = 64;
/** Pages kept free below the cut for roots and for the catalog, beside its own size twice. */
const SPARE_PAGES = 96;
/** Rows or buckets looked at between two yields. */
const STEP_ROWS = 256;

/** What compaction works on; it is another after the live state was rebuilt. */
export interface CompactionStore {
  readonly live: LiveTree;
  readonly catalog: Catalog;
  readonly freeSpace: FreeSpace;
  readonly data: Device;
  /** The data file was written: the next sync of the log syncs it too. */
  noteDataDirty(): void;
}

export interface CompactionPlan {
  /** The first page from which on everything is to be moved away. */
  readonly cut: number;
  /** End of the data file now, in pages. */
  readonly frontier: number;
  /** Pages to be moved. */
  readonly movable: number;
  /** Pages that lie where the file would end if nothing were pinned, or behind, and cannot be moved. */
  readonly pinned: number;
  /** How many of those each pinning version holds, by its LSN. */
  readonly pinnedBy: ReadonlyMap<number, number>;
  /** Pages there that have died and come free when the window has passed, or by reclaiming. */
  readonly passing: number;
}

export interface MoveResult {
  pages: number;
  /** Pages of data that cannot be read, or for which there was no room any more. */
  left: number;
}

/** Where pages lie, counted in buckets. */
class Census {
  readonly movable: Uint32Array;
  /** Leaves, by the last page of data that they lead to. */
  readonly leaves: Uint32Array;
  branches = 0;
  /** End of the last pinned page. */
  floor = 1;
  pinned = 0;
  passing = 0;
  private readonly pinning: readonly number[];
  /** By index in `pinning`: how many pinned pages begin, or no longer, to be held there. */
  private readonly changes: Int32Array;
  private readonly packed: number;

  constructor(frontier: number, packed: number, pinning: readonly number[]) {
    const buckets = Math.ceil(frontier / BUCKET) + 1;
    this.movable = new Uint32Array(buckets);
    this.leaves = new Uint32Array(buckets);
    this.pinning = pinning;
    this.packed = packed;
    this.changes = new Int32Array(pinning.length + 1);
  }

  /** Counts pages that are in use from `birth` up to `death`, and that the live state holds if that is Infinity. */
  count(page: number, count: number, birth: number, death: number): void {
    const { pinning } = this;
    const from = firstFrom(pinning, birth);
    const to = firstFrom(pinning, death);
    const behind = Math.min(count, Math.max(0, page + count - this.packed));
    if (from < to) {
      this.floor = Math.max(this.floor, page + count);
      this.pinned += behind;
      this.changes[from]! += behind;
      this.changes[to]! -= behind;
    } else if (death === Number.POSITIVE_INFINITY) {
      for (let i = page; i < page + count; i++) {
        const bucket = Math.floor(i / BUCKET);
        if (bucket < this.movable.length) this.movable[bucket]!++;
      }
    } else this.passing += behind;
  }

  pinnedBy(): Map<number, number> {
    const held = new Map<number, number>();
    let pages = 0;
    for (const [i, lsn] of this.pinning.entries()) {
      pages += this.changes[i]!;
      if (pages > 0) held.set(lsn, pages);
    }
    return held;
  }
}

/** All pages of a tree, parents first. */
function* pagesOf(space: PageSpace, tree: TreeId, root: Readonly<PageRef>): Generator<Page> {
  if (root.number === 0) return;
  const below = function* (page: Page): Generator<Page> {
    yield page;
    if (isLeaf(page.bytes)) return;
    for (let slot = 0, count = cellCount(page.bytes); slot < count; slot++) {
      yield* below(loadChild(space, tree, page.bytes, slot));
    }
  };
  yield* below(loadRoot(space, tree, root));
}

const keyBuffer = Buffer.alloc(300);

/** The extents of a leaf that have pages of the data file, with their inodes. */
function extentsOf(leaf: Uint8Array): { inode: number; extent: Extent }[] {
  const found: { inode: number; extent: Extent }[] = [];
  for (let slot = 0, count = cellCount(leaf); slot < count; slot++) {
    if (keyLength(leaf, slot) !== 17) continue;
    copyKey(leaf, slot, keyBuffer, 0);
    if (keyBuffer[8] !== KIND_EXTENT) continue;
    const extent = decodeExtent(
      extentKeyBlock(keyBuffer),
      leaf,
      valueStart(leaf, slot),
      valueLength(leaf, slot),
    );
    if (extent.page === UNWRITTEN || isTemporary(extent.page)) continue;
    found.push({ inode: keyInode(keyBuffer), extent });
  }
  return found;
}

/**
 * Looks where pages lie and who holds them, and finds the best cut, in steps. `newest`: the newest version, held open until
 * the end. `pinning`: LSNs of the pinning versions, ascending.
 */
export function* planCompaction(
  store: CompactionStore,
  newest: TreeState,
  pinning: readonly number[],
): Generator<void, CompactionPlan> {
  const { catalog, freeSpace } = store;
  const { frontier } = freeSpace;
  const packed = frontier - freeSpace.freePages;
  const census = new Census(frontier, packed, pinning);
  const live = Number.POSITIVE_INFINITY;
  for (const tree of newest.trees()) {
    for (const page of pagesOf(newest.pages, tree.treeId, tree.root)) {
      census.count(page.number, 1, page.lsn, live);
      if (!isLeaf(page.bytes)) census.branches++;
      else if (tree.treeId === TREE.inodes) {
        let last = page.number;
        for (const { extent } of extentsOf(page.bytes)) {
          census.count(extent.page, extent.count, extent.birth, live);
          last = Math.max(last, extent.page + extent.count - 1);
        }
        const bucket = Math.floor(last / BUCKET);
        if (last > page.number && bucket < census.leaves.length) census.leaves[bucket]!++;
      }
      yield;
    }
  }
  let rows = 0;
  for (let row = catalog.lifetimeFrom(0, 0, 0); row !== undefined; ) {
    census.count(row.page, row.count, row.birth, row.death);
    if (++rows % STEP_ROWS === 0) yield;
    row = catalog.lifetimeFrom(row.death, row.birth, row.page + 1);
  }
  for (const { lsn, root } of catalog.versionRows()) {
    census.count(root.number, 1, lsn, lsn + 1);
    if (++rows % STEP_ROWS === 0) yield;
  }
  return choose(census, store, frontier);
}

function choose(census: Census, { catalog, freeSpace }: CompactionStore, frontier: number): CompactionPlan {
  let spare = SPARE_PAGES;
  for (const tree of catalog.trees()) spare += 2 * tree.pageCount;
  const buckets = census.movable.length - 1;
  const cuts = Array.from({ length: buckets + 1 }, (_, i) => Math.min(frontier, i * BUCKET));
  const free = freeSpace.freeBelow(cuts);
  let cut = frontier;
  let movable = 0;
  let leaves = 0;
  for (let bucket = buckets - 1; bucket >= 0 && cuts[bucket]! >= census.floor; bucket--) {
    const above = movable + census.movable[bucket]!;
    leaves += census.leaves[bucket]!;
    if (above > 0 && above + leaves + census.branches + spare > free[bucket]!) break;
    movable = above;
    cut = cuts[bucket]!;
  }
  // Not worth while: the end of the file would not be cut off.
  if (frontier - cut < TAIL_MINIMUM) {
    cut = frontier;
    movable = 0;
  }
  const { pinned, passing } = census;
  return { cut, frontier, movable, pinned, passing, pinnedBy: census.pinnedBy() };
}

/**
 * Moves what the live state holds at or above the cut and was born after `pinnedLsn`, in steps, between which it may
 * change. What is above the cut by then or has been missed is left to another time. `result` is added to as it goes on.
 */
export function* movePages(
  store: CompactionStore,
  cut: number,
  pinnedLsn: number,
  result: MoveResult,
): Generator<void> {
  const isDue = (page: Page): boolean =>
    !isTemporary(page.number) && page.number >= cut && page.lsn > pinnedLsn;
  for (const tree of store.live.trees()) {
    for (const { key, leaf } of leavesOf(tree)) {
      const extents = tree.treeId === TREE.inodes ? extentsOf(leaf.bytes) : [];
      result.pages += tree.rewritePath(key, isDue);
      for (const { inode, extent } of extents) {
        if (extent.page + extent.count > cut && extent.birth > pinnedLsn)
          moveExtent(store, inode, extent, result);
      }
      yield;
    }
  }
}

/** The same for the catalog; only while no checkpoint is under way. */
export function* movePagesOfCatalog(
  { catalog }: CompactionStore,
  cut: number,
  result: MoveResult,
): Generator<void> {
  const isDue = (page: Page): boolean => !isTemporary(page.number) && page.number >= cut;
  for (const tree of catalog.trees()) {
    for (const { key } of leavesOf(tree)) {
      result.pages += tree.rewritePath(key, isDue);
      yield;
    }
  }
}

/** Leaves of a tree in order, each with one of its keys; the tree may change meanwhile. */
function* leavesOf(tree: BTree): Generator<{ key: Buffer; leaf: Page }> {
  const cursor = tree.cursor();
  for (let has = cursor.first(); has; ) {
    const leaf = cursor.page;
    const { key } = cursor;
    let next: Buffer | undefined;
    for (has = cursor.next(); has; has = cursor.next()) {
      if (cursor.page === leaf) continue;
      next = cursor.key;
      break;
    }
    yield { key, leaf };
    has = next !== undefined && cursor.seek(next);
  }
}

/** Writes the data of an extent to places below the bound, and maps its blocks to them. */
function moveExtent(store: CompactionStore, inode: number, extent: Extent, result: MoveResult): void {
  const { live, freeSpace, data } = store;
  const { pageSize } = live;
  const bytes = Buffer.allocUnsafeSlow(extent.count * pageSize);
  if (!readExtent(live, extent, bytes)) {
    result.left += extent.count;
    return;
  }
  const birth = live.lsn;
  const mark = freeSpace.liveMark;
  const pieces: Extent[] = [];
  try {
    for (let done = 0; done < extent.count; ) {
      const run = freeSpace.allocateLiveBelow(extent.count - done);
      if (run === undefined) {
        freeSpace.releaseLive(mark);
        result.left += extent.count;
        return;
      }
      data.write(run.page * pageSize, bytes, done * pageSize, run.count * pageSize);
      const checksums = extent.checksums.slice(done, done + run.count);
      pieces.push({ block: extent.block + done, count: run.count, page: run.page, birth, checksums });
      done += run.count;
    }
  } catch (error) {
    freeSpace.releaseLive(mark);
    throw error;
  }
  store.noteDataDirty();
  try {
    // The first takes the place of the row that there was.
    for (const piece of pieces) live.inodes.put(extentKey(inode, piece.block), encodeExtent(piece));
  } catch (error) {
    // A part of the file would be mapped twice.
    live.recover();
    throw error;
  }
  live.pages.discardData(extent.page, extent.count, extent.birth);
  result.pages += extent.count;
}

/** Whether the data is what its checksums say: damage is not moved about. */
function readExtent(live: LiveTree, extent: Extent, bytes: Buffer): boolean {
  const { pageSize } = live;
  try {
    live.pages.cache.readData(extent.page, extent.count, bytes, 0);
  } catch (error) {
    if (!(error instanceof CorruptPageError)) throw error;
    return false;
  }
  return extent.checksums.every((checksum, i) => crc32(bytes, i * pageSize, (i + 1) * pageSize) === checksum);
}
