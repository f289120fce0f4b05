/**
 * A checkpoint turns a seal into a version on disk.
 *
 * The seal holds the dirty pages of one moment, LSN N; the live state goes on and copies what it touches. The
 * checkpoint walks the sealed trees from their roots through temporary pointers only, gives every dirty page a free
 * place, children before parents, and writes it; then it brings the catalog up to date (the new version, the deaths
 * since the last seal, free space) and writes that. Nothing is overwritten that a kept state or either control slot
 * needs, so a torn write is harmless.
 *
 * It is done in steps: each `next()` of the generator does a bounded piece of work, so that a mount serves
 * requests in between. The last step, which settles the free tree, is one piece, because what the live line takes
 * meanwhile would change it. So as much as can be is entered and written before: then that piece is short, however
 * much has come free.
 *
 * Order at the end: the pages are written, a checkpoint record is appended, log and data file are synced together,
 * and only then a control slot names the catalog root. So a control slot always names a complete version.
 */
import type { BTree } from '../btree/btree.ts';
import type { Lifetime } from '../encoding/catalog.ts';
import {
  cellCount,
  childChecksum,
  childNumber,
  copyKey,
  isLeaf,
  keyLength,
  setChild,
  valueStart,
} from '../encoding/cells.ts';
import { extentCount, extentPage, placeExtent, setExtentChecksum } from '../encoding/extent.ts';
import { KIND_EXTENT, TREE } from '../encoding/keys.ts';
import { isTemporary, PAGE_TREE, type PageRef } from '../encoding/page.ts';
import {
  decodeVersionRoot,
  encodeCatalogRoot,
  encodeVersionRoot,
  type TreeRef,
  type VersionRoot,
} from '../encoding/root.ts';
import { assert } from '../errors.ts';
import type { Device } from '../storage/device.ts';
import type { DirtyPages, SealedDeaths } from '../storage/dirty-pages.ts';
import type { FreeSpace, PageRun } from '../storage/free-space.ts';
import { type Page, pageOf } from '../storage/page-space.ts';
import type { Catalog } from './catalog.ts';
import type { LiveTree } from './live-tree.ts';
import { PageWriter } from './page-writer.ts';
import { replacedPages } from './replaced-pages.ts';

/** A moment of the live state that is held for a checkpoint. */
export interface Seal {
  readonly generation: number;
  /** The state as its root page will have it; the trees' numbers may be temporary. */
  readonly root: VersionRoot;
  readonly deaths: SealedDeaths;
  /** What the live line was given up to the seal. */
  readonly liveMark: number;
  /** The state is that of the newest version, and only the catalog has changed. */
  readonly catalogOnly: boolean;
  /** LSN of the version that a restore has replaced by this state: what died is told by comparing the two. */
  readonly replaced: number | undefined;
}

export interface CheckpointResult {
  lsn: number;
  timeMicroseconds: number;
  /** The catalog root, for the control block. */
  catalog: PageRef;
  /** The horizon that it records. */
  horizonLsn: number;
}

/** Pages handled between two yields. */
const STEP_PAGES = 128;
/** So many free pages at the end of the data file are cut off, but for some that are soon needed again. */
export const TAIL_MINIMUM = 512;
const TAIL_SLACK = 128;
/** Rows entered in the catalog between two yields. */
const STEP_ROWS = 64;
/** So many dirty pages of the free tree are written before the last step, which would take long otherwise. */
const FREE_TREE_PAGES = 32;
const FREE_TREE_ROUNDS = 4;
/** Temporary numbers forgotten between two yields. */
const STEP_FORGET = 2048;

export class Checkpoint {
  private readonly live: LiveTree;
  private readonly catalog: Catalog;
  private readonly freeSpace: FreeSpace;
  private readonly seal: Seal;
  private readonly waiting: () => readonly Seal[];
  private readonly writer: PageWriter;
  private readonly key = Buffer.alloc(300);
  private readonly settled: number[] = [];
  private handled = 0;
  /** The free tree lists nothing from this page on. */
  private listed = 0;

  /** `waiting`: the seals that come after this one. */
  constructor(
    live: LiveTree,
    catalog: Catalog,
    freeSpace: FreeSpace,
    device: Device,
    seal: Seal,
    waiting: () => readonly Seal[],
  ) {
    this.live = live;
    this.catalog = catalog;
    this.freeSpace = freeSpace;
    this.seal = seal;
    this.waiting = waiting;
    this.writer = new PageWriter(device, live.pageSize, freeSpace);
  }

  /** Writes everything but the control block. Returns what the control block is to name. */
  *run(): Generator<void, CheckpointResult> {
    const { root } = this.seal;
    const { lsn, timeMicroseconds } = root;
    if (this.seal.catalogOnly) return yield* this.finish(this.catalog.versionBefore(lsn)!.root);
    const { pages } = this.live;
    yield* this.writeTree(pages, root.namespace, lsn);
    yield* this.writeTree(pages, root.inodes, lsn);
    yield* this.writeTree(pages, root.registry, lsn);
    const version = this.writeRoot((bytes) => encodeVersionRoot(bytes, root), lsn);
    this.writer.flush();
    yield;
    yield* this.redirect();
    const { replaced } = this.seal;
    const restored = replaced !== undefined;
    this.catalog.addVersion({ lsn, timeMicroseconds, root: version, dropped: false, restored });
    if (restored) yield* this.recordReplacement(replaced);
    else yield* this.recordDeaths(lsn);
    return yield* this.finish(version);
  }

  private *finish(version: PageRef): Generator<void, CheckpointResult> {
    const { lsn, timeMicroseconds } = this.seal.root;
    yield* this.prepareCatalog(lsn);
    const { horizonLsn } = this.catalog;
    return { lsn, timeMicroseconds, catalog: this.writeCatalog(version, lsn), horizonLsn };
  }

  /** Lets what has its place and waits to be written be read from memory. For a checkpoint that is given up for good. */
  keepUnwritten(): void {
    const { page, pages } = this.writer.queued;
    this.live.pages.cache.keep(page, pages);
  }

  /** Writes the dirty pages below `ref` and makes `ref` name their final places. */
  private *writeTree(space: DirtyPages, ref: PageRef, lsn: number): Generator<void> {
    if (!isTemporary(ref.number)) return;
    const page = yield* this.writeSubtree(space, ref.number, lsn);
    ref.number = page.number;
    ref.lsn = page.lsn;
    ref.checksum = page.checksum;
  }

  private *writeSubtree(space: DirtyPages, temporary: number, lsn: number): Generator<void, Page> {
    // Until it is settled the seal holds it, and of a settled one only its place is used.
    const page = space.borrow(temporary, 0, 0);
    // An earlier checkpoint wrote it, and the pointer was copied before that was known.
    if (!isTemporary(page.number)) return page;
    const { bytes } = page;
    if (isLeaf(bytes)) {
      if (bytes[PAGE_TREE] === TREE.inodes) yield* this.placeData(space, bytes, lsn);
    } else {
      for (let slot = 0, count = cellCount(bytes); slot < count; slot++) {
        const child = childNumber(bytes, slot);
        if (!isTemporary(child)) continue;
        const written = yield* this.writeSubtree(space, child, lsn);
        setChild(bytes, slot, written.number, written.lsn, written.checksum);
      }
    }
    const number = this.writer.place();
    const checksum = this.writer.writePage(bytes, number, lsn);
    space.settle(page, number, lsn, checksum);
    this.settled.push(temporary);
    this.handled++;
    if (this.handled >= STEP_PAGES) yield* this.pause();
    return page;
  }

  private *pause(): Generator<void> {
    this.handled = 0;
    this.writer.flush();
    yield;
  }

  /** Gives the dirty file data that a leaf maps its places. */
  private *placeData(space: DirtyPages, leaf: Buffer, lsn: number): Generator<void> {
    for (let slot = 0, count = cellCount(leaf); slot < count; slot++) {
      const at = this.temporaryExtent(leaf, slot);
      if (at < 0) continue;
      const first = extentPage(leaf, at);
      const pages = extentCount(leaf, at);
      if (!isTemporary(space.dataPage(first).number)) {
        this.copyPlaces(space, leaf, at);
        continue;
      }
      const place = this.writer.placeRun(pages);
      const checksums: number[] = [];
      for (let i = 0; i < pages; i++) {
        checksums.push(this.writer.writeDataPage(space.dataPage(first + i).bytes, place + i));
      }
      // Not before all of it is queued, which may fail.
      placeExtent(leaf, at, place, lsn);
      for (let i = 0; i < pages; i++) {
        setExtentChecksum(leaf, at, i, checksums[i]!);
        space.settleData(space.dataPage(first + i), place + i, lsn, checksums[i]!);
        this.settled.push(first + i);
      }
      this.handled += pages;
      if (this.handled >= STEP_PAGES) yield* this.pause();
    }
  }

  /** Where the value of a slot begins if it is an extent with temporary pages, else -1. */
  private temporaryExtent(leaf: Buffer, slot: number): number {
    if (keyLength(leaf, slot) !== 17) return -1;
    copyKey(leaf, slot, this.key, 0);
    if (this.key[8] !== KIND_EXTENT) return -1;
    const at = valueStart(leaf, slot);
    return isTemporary(extentPage(leaf, at)) ? at : -1;
  }

  /** The pages of an extent were placed already: copies their numbers and checksums. */
  private copyPlaces(space: DirtyPages, leaf: Buffer, at: number): void {
    const first = extentPage(leaf, at);
    const pages = extentCount(leaf, at);
    const start = space.dataPage(first);
    for (let i = 0; i < pages; i++) {
      const page = space.dataPage(first + i);
      assert(page.number === start.number + i && page.lsn === start.lsn, 'an extent was placed in pieces');
      setExtentChecksum(leaf, at, i, page.checksum);
    }
    placeExtent(leaf, at, start.number, start.lsn);
  }

  /**
   * Pages that were copied after the seal may still hold temporary numbers that now have places. See `DirtyPages` for
   * why none is left when all have been visited, although the live line goes on meanwhile.
   */
  private *redirect(): Generator<void> {
    const { pages } = this.live;
    // What trees and cursors have at hand they are to reach anew.
    for (const tree of this.live.trees()) tree.forgetPath();
    yield* pages.visitDirty(this.seal.generation, (page) => this.redirectPage(page.bytes));
    for (const tree of this.live.trees()) {
      const ref = { ...tree.root };
      redirectReference(pages, ref);
      if (ref.number !== tree.root.number) tree.root = ref;
    }
    for (const { root } of this.waiting()) {
      for (const ref of [root.namespace, root.inodes, root.registry]) redirectReference(pages, ref);
    }
    for (let i = 0; i < this.settled.length; i++) {
      if (i % STEP_FORGET === STEP_FORGET - 1) yield;
      pages.forgetTemporary(this.settled[i]!);
    }
    this.settled.length = 0;
    yield;
  }

  private redirectPage(bytes: Buffer): void {
    const { pages } = this.live;
    if (isLeaf(bytes)) {
      if (bytes[PAGE_TREE] !== TREE.inodes) return;
      for (let slot = 0, count = cellCount(bytes); slot < count; slot++) {
        const at = this.temporaryExtent(bytes, slot);
        if (at >= 0 && !isTemporary(pages.dataPage(extentPage(bytes, at)).number))
          this.copyPlaces(pages, bytes, at);
      }
      return;
    }
    for (let slot = 0, count = cellCount(bytes); slot < count; slot++) {
      const child = childNumber(bytes, slot);
      if (!isTemporary(child) || childChecksum(bytes, slot) !== 0) continue;
      const target = pages.lookUp(child);
      assert(target !== undefined, `temporary page ${child} is gone`);
      if (!isTemporary(target.number)) setChild(bytes, slot, target.number, target.lsn, target.checksum);
    }
  }

  /** When much is free at the end of the data file, the file is to end there. */
  private lowerFrontier(): void {
    const { catalog, freeSpace } = this;
    const { tail } = freeSpace;
    if (tail === undefined || tail.count < TAIL_MINIMUM) return;
    const page = tail.page + TAIL_SLACK;
    const listed = Math.min(freeSpace.frontier, freeSpace.persistedFrontier) - page;
    if (listed > 0) catalog.removeFree(page, listed);
    freeSpace.lowerFrontier(page);
  }

  private writeRoot(encode: (bytes: Buffer) => void, lsn: number): PageRef {
    const bytes = Buffer.allocUnsafeSlow(this.live.pageSize);
    encode(bytes);
    const number = this.writer.place();
    const checksum = this.writer.writePage(bytes, number, lsn);
    this.live.pages.cache.insert(pageOf(number, lsn, checksum, bytes, 0));
    return { number, lsn, checksum };
  }

  /**
   * Enters what died since the seal before. No version lies between the two, so that whatever died in the meantime
   * died, as far as versions can tell, with this one.
   */
  private *recordDeaths(lsn: number): Generator<void> {
    const { deaths } = this.seal;
    const dead: Lifetime[] = [];
    for (const { number, lsn: birth } of [...deaths.pages, ...deaths.dataPages]) {
      dead.push({ page: number, birth, count: 1, death: lsn });
    }
    for (const { page, count, birth } of deaths.extents) dead.push({ page, birth, count, death: lsn });
    dead.sort((a, b) => a.birth - b.birth || a.page - b.page);
    let rows = 0;
    for (let i = 0; i < dead.length; ) {
      const run = dead[i++]!;
      assert(!isTemporary(run.page), 'a page died before it had a place');
      for (let next = dead[i]; next !== undefined; next = dead[i]) {
        if (next.birth !== run.birth || next.page !== run.page + run.count) break;
        run.count += next.count;
        i++;
      }
      this.recordDeath(run);
      if (++rows % STEP_ROWS === 0) yield;
    }
  }

  /** What a restore has replaced died with it, and what it brought back began to live again. */
  private *recordReplacement(replaced: number): Generator<void> {
    const { catalog, seal, live } = this;
    const { lsn } = seal.root;
    const row = catalog.version(replaced);
    assert(row !== undefined, `the version at ${replaced}, which a restore replaced, is gone`);
    const page = live.pages.cache.get(row.root.number, row.root.lsn, row.root.checksum);
    const before = decodeVersionRoot(page.bytes, row.root.number);
    const { died, revived } = yield* replacedPages(live.pages.cache, before, seal.root);
    let rows = 0;
    for (const run of died) {
      this.recordDeath({ ...run, death: lsn });
      if (++rows % STEP_ROWS === 0) yield;
    }
    for (const run of revived) {
      catalog.revive(run, lsn);
      if (++rows % STEP_ROWS === 0) yield;
    }
  }

  /** Pages that a restore brought back to life were born again with it. */
  private recordDeath(run: Readonly<Lifetime>): void {
    for (const { page, count, again } of this.catalog.byLives(run)) {
      this.catalog.addLifetime({ ...run, page, count, birth: again?.since ?? run.birth });
    }
  }

  /**
   * Enters what has come free and what was taken up to now, and writes the trees of the catalog as they are then. What
   * comes after it is little. Nobody else changes the catalog while a checkpoint is under way.
   */
  private *prepareCatalog(lsn: number): Generator<void> {
    const { catalog, freeSpace, seal } = this;
    let rows = 0;
    for (const run of freeSpace.spare.splice(0)) catalog.addFree(run.page, run.count, 0);
    for (const run of catalog.takeReclaimed()) {
      catalog.addFree(run.page, run.count, lsn);
      freeSpace.quarantine(run.page, run.count, lsn);
      if (++rows % STEP_ROWS === 0) yield;
    }
    this.lowerFrontier();
    this.listed = Math.min(freeSpace.persistedFrontier, freeSpace.frontier);
    for (const run of freeSpace.liveBetween(freeSpace.firstLiveMark, seal.liveMark)) {
      this.take(run);
      if (++rows % STEP_ROWS === 0) yield;
    }
    yield* this.writeAhead([catalog.versions, catalog.lifetimes, catalog.lives], lsn);
    // Each round takes pages, which lie close together, and so makes few pages dirty again.
    for (let round = 0; round < FREE_TREE_ROUNDS && catalog.pages.dirtyCount > FREE_TREE_PAGES; round++)
      yield* this.writeAhead([catalog.free], lsn);
    yield;
  }

  /** Writes what is dirty of trees of the catalog, and enters the places that it took and gave up. */
  private *writeAhead(trees: readonly BTree[], lsn: number): Generator<void> {
    const { catalog, writer } = this;
    for (const tree of trees) {
      const ref = { ...tree.root };
      yield* this.writeTree(catalog.pages, ref, lsn);
      tree.root = ref;
      this.forgetSettled();
    }
    writer.flush();
    let rows = 0;
    for (const page of catalog.pages.takeSuperseded()) {
      this.supersede(page.number, lsn);
      if (++rows % STEP_ROWS === 0) yield;
    }
    for (const run of writer.takeUsed()) {
      this.take(run);
      if (++rows % STEP_ROWS === 0) yield;
    }
  }

  private forgetSettled(): void {
    for (const temporary of this.settled) this.catalog.pages.forgetTemporary(temporary);
    this.settled.length = 0;
  }

  /** Takes a run out of the free tree, as far as it is listed there. */
  private take({ page, count }: PageRun): void {
    const listed = Math.min(count, this.listed - page);
    if (listed > 0) this.catalog.removeFree(page, listed);
  }

  /** A page of the catalog before: free when this checkpoint and the next are durable. */
  private supersede(page: number, lsn: number): void {
    this.catalog.addFree(page, 1, lsn);
    this.freeSpace.quarantine(page, 1, lsn);
  }

  /**
   * Brings the free tree up to date and writes what is left of the catalog. Writing takes pages, which changes the free tree, which
   * may dirty more pages of it: repeated until nothing more is needed. Pages that were taken and then not needed are
   * named as spare by the catalog root.
   */
  private writeCatalog(version: PageRef, lsn: number): PageRef {
    const { catalog, freeSpace, writer, seal } = this;
    writer.finish();
    for (const run of writer.takeUsed()) this.take(run);
    // Between the old frontier and the new the tree learns what is free, and what only the log names as yet.
    const { frontier } = freeSpace;
    const { listed } = this;
    for (const run of freeSpace.freeWithin(listed, frontier)) catalog.addFree(run.page, run.count, 0);
    for (const run of freeSpace.liveBetween(seal.liveMark, freeSpace.liveMark)) {
      const start = Math.max(run.page, listed);
      if (start < run.page + run.count) catalog.addFree(start, run.page + run.count - start, 0);
    }
    this.listed = frontier;
    if (catalog.rootPage !== 0) this.supersede(catalog.rootPage, lsn);
    const places: number[] = [];
    for (;;) {
      for (const page of catalog.pages.takeSuperseded()) this.supersede(page.number, lsn);
      const missing = catalog.pages.dirtyCount + 1 - places.length;
      if (missing <= 0) break;
      const run = freeSpace.allocateUpTo(missing);
      for (let i = 0; i < run.count; i++) places.push(run.page + i);
      this.take(run);
    }
    places.sort((a, b) => a - b);
    for (const page of places.splice(catalog.pages.dirtyCount + 1)) freeSpace.addSpare(page);
    writer.give(places);
    for (const tree of catalog.trees()) {
      const ref = { ...tree.root };
      for (const _step of this.writeTree(catalog.pages, ref, lsn));
      tree.root = ref;
    }
    this.forgetSettled();
    const treeRef = (tree: BTree): TreeRef => ({ ...tree.root, pageCount: tree.pageCount });
    const { root } = seal;
    const ref = this.writeRoot(
      (bytes) =>
        encodeCatalogRoot(bytes, {
          lsn,
          timeMicroseconds: root.timeMicroseconds,
          version,
          versions: treeRef(catalog.versions),
          lifetimes: treeRef(catalog.lifetimes),
          free: treeRef(catalog.free),
          lives: treeRef(catalog.lives),
          frontier: freeSpace.frontier,
          horizonLsn: catalog.horizonLsn,
          horizonTimeMicroseconds: catalog.horizonTimeMicroseconds,
          reclaimedLsn: catalog.reclaimedLsn,
          spare: freeSpace.spare,
        }),
      lsn,
    );
    writer.flush();
    assert(catalog.pages.dirtyCount === 0, 'a page of the catalog was not written');
    freeSpace.persistedFrontier = freeSpace.frontier;
    freeSpace.forgetLive(seal.liveMark);
    catalog.rootPage = ref.number;
    catalog.lsn = lsn;
    return ref;
  }
}

/** A tree's root as the live state or a waiting seal names it: the place, once the page has one. */
export function redirectReference(pages: DirtyPages, ref: PageRef): void {
  if (!isTemporary(ref.number)) return;
  const page = pages.borrow(ref.number, 0, 0);
  if (isTemporary(page.number)) return;
  ref.number = page.number;
  ref.lsn = page.lsn;
  ref.checksum = page.checksum;
}
