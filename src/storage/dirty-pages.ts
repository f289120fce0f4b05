/**
 * The pages of one line of change: dirty ones in memory, clean ones from the shared cache.
 *
 * Generations. Every dirty page carries the generation in which it became dirty. A seal holds all generations up to
 * the present one and starts the next: pages of a held generation are immutable, and `touch` copies them. So a seal is
 * a flip of two numbers, and a burst of changes between two seals costs one copy of each page.
 *
 * Savepoints. Dirty tree pages that no seal holds are changed in place also after a savepoint: what they were is kept as an
 * image, which only a rollback reads, so that its buffer serves the next savepoint. There is one at a time, and
 * nothing is sealed while it is open.
 *
 * Deaths. A page that the line of change no longer needs, but that a version on disk or a seal holds, is noted in
 * `superseded`; when that seal is written, the list says which pages died at it. A dirty page that nobody holds
 * simply goes.
 *
 * Redirecting. When a checkpoint has written its pages, pages that the live line copied meanwhile may still name them by
 * their temporary numbers. `visitDirty` goes through all that may, in steps, while the live line goes on. It rests on
 * this invariant: from the beginning of a walk on, whoever reaches a dirty page reaches it through `get`, and `get`
 * has it visited first. (So trees must forget their paths when a walk begins.) Cells are copied or moved only out of
 * pages that were reached, so no number that has been settled gets into a page which was visited or is new, and when
 * the walk has come by all others, none is left anywhere.
 *
 * File data that is not yet in the data file lives here too, as pages with numbers from DATA_BASE on: a separate
 * range, so that pages of one sequential write get consecutive numbers and stay one extent.
 */

import { putU64 } from '../encoding/bytes.ts';
import { initializePage, PAGE_LSN, type PageKind, type PageRef, TEMPORARY_BASE } from '../encoding/page.ts';
import { assert, type LsnfsError } from '../errors.ts';
import type { PageCache } from './page-cache.ts';
import { type Page, type PageSpace, pageOf } from './page-space.ts';
import { PageTable } from './page-table.ts';

/** Temporary numbers of data pages begin here. */
export const DATA_BASE = TEMPORARY_BASE + 2 ** 46;

/** The root of trees whose state is lost: reading any page of them is an error. No page ever gets the number. */
const LOST_ROOT: Readonly<PageRef> = Object.freeze({ number: 2 ** 48 - 1, lsn: 0, checksum: 0 });

/** A run of data pages that a change of a file unmapped. */
export interface DeadExtent {
  page: number;
  count: number;
  birth: number;
}

/** What a seal holds, for the checkpoint that writes it. */
export interface SealedDeaths {
  pages: Page[];
  dataPages: Page[];
  extents: DeadExtent[];
}

/** A moment that a line of change can go back to. */
export interface Savepoint {
  readonly generation: number;
  readonly pages: number;
  readonly dataPages: number;
  readonly extents: number;
  readonly replaced: number;
  /** Pages made since have these numbers or higher ones. */
  readonly mark: PageMark;
  /** What tree pages were that have been changed in place since. */
  readonly images: { readonly page: Page; readonly bytes: Buffer }[];
  /** Pages that nobody needs any more if the changes since are kept. */
  readonly discarded: number[];
}

/** A walk over dirty pages that is under way. */
interface Walk {
  /** Generations of the pages that it visits: after the first, up to the second. */
  readonly after: number;
  readonly upTo: number;
  readonly visit: (page: Page) => void;
  readonly visited: Set<Page>;
}

/** Where the numbers of pages stood at a moment. */
export interface PageMark {
  readonly tree: number;
  readonly data: number;
}

/** Dirty pages looked at between two yields of a walk. */
const WALK_STEP = 16;
/** So many replaced pages are worth that the trees forget their paths. */
const REUSE_MINIMUM = 64;
/** Pages beyond are left to the cache, as while the log is replayed. */
const REUSE_MAXIMUM = 8192;

export class DirtyPages implements PageSpace {
  readonly pageSize: number;
  readonly cache: PageCache;
  /** Dirty pages by their temporary numbers, trees' and data. */
  private readonly trees = new PageTable(TEMPORARY_BASE);
  private readonly data = new PageTable(DATA_BASE);
  private current = 1;
  private held = 0;
  /** Whether deaths are recorded: the live line does, private replays do not. */
  private readonly tracking: boolean;
  private superseded: Page[] = [];
  private deadDataPages: Page[] = [];
  private deadExtents: DeadExtent[] = [];
  private lost: LsnfsError | undefined;
  private walk: Walk | undefined;
  /** The one that is open. */
  private open: Savepoint | undefined;
  private readonly reusing: boolean;
  /** Clean pages that were replaced, and whose buffers are reused when nobody can hold them: see `reuse`. */
  private replaced: Page[] = [];

  /** `reusing`: buffers of pages that this line of change has replaced are reused, and its owner calls `reuse`. */
  constructor(cache: PageCache, tracking: boolean, reusing = false) {
    this.cache = cache;
    this.pageSize = cache.pageSize;
    this.tracking = tracking;
    this.reusing = reusing;
  }

  /** Dirty pages in memory, sealed ones included. */
  get dirtyCount(): number {
    return this.trees.size + this.data.size;
  }

  get generation(): number {
    return this.current;
  }

  get(number: number, lsn: number, checksum: number): Page {
    const page = this.borrow(number, lsn, checksum);
    page.shared = true;
    return page;
  }

  borrow(number: number, lsn: number, checksum: number): Page {
    if (number >= TEMPORARY_BASE) {
      const page = this.trees.get(number);
      if (page === undefined && this.lost !== undefined) throw this.lost;
      assert(page !== undefined, `temporary page ${number} is gone`);
      if (this.walk !== undefined) this.visit(page, this.walk);
      return page;
    }
    // Others do not know when this line of change reuses buffers.
    return this.reusing ? this.cache.borrow(number, lsn, checksum) : this.cache.get(number, lsn, checksum);
  }

  /** Whether enough has been replaced that `reuse` is worth its price. */
  get isReuseDue(): boolean {
    return this.replaced.length >= REUSE_MINIMUM && this.open === undefined;
  }

  /** The buffers of pages that have been replaced serve new ones from now on. No path of this line's trees holds a page. */
  reuse(): void {
    for (const page of this.replaced) this.cache.giveUp(page);
    this.replaced.length = 0;
  }

  create(kind: PageKind, level: number, tree: number): Page {
    const bytes = this.cache.buffers.take();
    initializePage(bytes, kind, level, tree);
    return this.add(this.trees, bytes);
  }

  private add(table: PageTable, bytes: Buffer): Page {
    const page = pageOf(table.next, 0, 0, bytes, this.current);
    table.add(page);
    return page;
  }

  /** Whether neither a seal nor the savepoint needs a page as it is. */
  isWritable(page: Page): boolean {
    return page.generation > (this.open?.generation ?? this.held);
  }

  touch(page: Page): Page {
    if (page.generation > this.held) {
      const { open } = this;
      if (open !== undefined && page.generation <= open.generation && page.savedAt !== open.generation)
        this.saveImage(page, open);
      return page;
    }
    const bytes = this.cache.buffers.take();
    page.bytes.copy(bytes);
    putU64(bytes, PAGE_LSN, 0);
    const copy = this.add(this.trees, bytes);
    if (this.tracking) this.superseded.push(page);
    if (this.reusing && page.generation === 0 && this.replaced.length < REUSE_MAXIMUM)
      this.replaced.push(page);
    return copy;
  }

  private saveImage(page: Page, savepoint: Savepoint): void {
    const bytes = this.cache.buffers.take();
    page.bytes.copy(bytes);
    savepoint.images.push({ page, bytes });
    page.savedAt = savepoint.generation;
  }

  discard(page: Page): void {
    if (page.generation > this.held) this.letGo(page);
    else if (this.tracking) this.superseded.push(page);
  }

  /** A dirty page that no seal holds goes: at once, or when the savepoint is released that may need it again. */
  private letGo(page: Page): void {
    if (this.open !== undefined && page.generation <= this.open.generation)
      this.open.discarded.push(page.number);
    else this.forgetTemporary(page.number);
  }

  /** `count` new data pages with consecutive numbers; their bytes are not initialised. Returns the first number. */
  createData(count: number): number {
    const first = this.data.next;
    for (let i = 0; i < count; i++) this.add(this.data, this.cache.buffers.take());
    return first;
  }

  /** A data page by its temporary number. */
  dataPage(number: number): Page {
    const page = this.data.get(number);
    assert(page !== undefined, `temporary data page ${number} is gone`);
    return page;
  }

  /** A run of data pages was unmapped. */
  discardData(firstPage: number, count: number, birth: number): void {
    if (firstPage < TEMPORARY_BASE) {
      if (this.tracking) this.deadExtents.push({ page: firstPage, count, birth });
      return;
    }
    for (let number = firstPage; number < firstPage + count; number++) {
      const page = this.dataPage(number);
      if (page.generation > this.held) this.letGo(page);
      else if (this.tracking) this.deadDataPages.push(page);
    }
  }

  /** Holds all dirty pages as they are and hands over the deaths since the last seal. Returns the generation. */
  seal(): { generation: number; deaths: SealedDeaths } {
    assert(this.open === undefined, 'a seal amid a transaction would hold half of it');
    const generation = this.current++;
    this.held = generation;
    const deaths = { pages: this.superseded, dataPages: this.deadDataPages, extents: this.deadExtents };
    this.superseded = [];
    this.deadDataPages = [];
    this.deadExtents = [];
    return { generation, deaths };
  }

  /**
   * Forgets everything: what the line of change was cannot be told any more, for the reason given. Returns the root
   * to give its trees, with which whatever is read of them throws that reason.
   */
  lose(reason: LsnfsError): Readonly<PageRef> {
    this.reset();
    this.lost = reason;
    return LOST_ROOT;
  }

  /** Hands over the pages that were superseded since the last call, for a line of change that is never sealed. */
  takeSuperseded(): Page[] {
    const pages = this.superseded;
    this.superseded = [];
    return pages;
  }

  /** Forgets every dirty page and every death: the line of change starts again from a version. */
  reset(): void {
    this.walk = undefined;
    this.open = undefined;
    this.trees.clear();
    this.data.clear();
    this.superseded = [];
    this.deadDataPages = [];
    this.deadExtents = [];
    this.replaced = [];
    this.held = this.current++;
  }

  savepoint(): Savepoint {
    assert(this.open === undefined, 'savepoints do not nest');
    this.open = {
      generation: this.current++,
      pages: this.superseded.length,
      dataPages: this.deadDataPages.length,
      extents: this.deadExtents.length,
      replaced: this.replaced.length,
      mark: this.mark(),
      images: [],
      discarded: [],
    };
    return this.open;
  }

  /** Keeps the changes since the savepoint: what only the savepoint needed goes. */
  release(savepoint: Savepoint): void {
    for (const number of savepoint.discarded) this.forgetTemporary(number);
    this.close(savepoint);
  }

  /** Drops the changes since the savepoint. The caller puts the roots of its trees back. */
  rollback(savepoint: Savepoint): void {
    this.superseded.length = savepoint.pages;
    this.deadDataPages.length = savepoint.dataPages;
    this.deadExtents.length = savepoint.extents;
    this.replaced.length = savepoint.replaced;
    for (const { page, bytes } of savepoint.images) bytes.copy(page.bytes);
    for (const { number } of this.trees.between(savepoint.mark.tree)) this.trees.delete(number);
    for (const { number } of this.data.between(savepoint.mark.data)) this.data.delete(number);
    this.close(savepoint);
  }

  private close(savepoint: Savepoint): void {
    assert(this.open === savepoint, 'the savepoint is not open');
    this.open = undefined;
    for (const { bytes } of savepoint.images) this.cache.buffers.give(bytes);
  }

  /**
   * A sealed page was written to its place: it is clean from now on. Pointers to its temporary number may still
   * exist in pages that were copied after the seal, so `get` answers for that number until `forgetTemporary`.
   */
  settle(page: Page, number: number, lsn: number, checksum: number): void {
    page.number = number;
    page.lsn = lsn;
    page.checksum = checksum;
    page.generation = 0;
    this.cache.insert(page);
  }

  /** Pages that are made from now on have higher numbers than those of the mark. */
  mark(): PageMark {
    return { tree: this.trees.next, data: this.data.next };
  }

  /** Drops what was made between two marks, that no seal holds, and `isNeeded` does not keep: nothing leads there any more. */
  drop(from: PageMark, to: PageMark, isNeeded: (page: Page) => boolean): void {
    for (const page of this.trees.between(from.tree, to.tree)) {
      if (page.generation > this.held && !isNeeded(page)) this.trees.delete(page.number);
    }
    for (const page of this.data.between(from.data, to.data)) {
      if (page.generation > this.held) this.data.delete(page.number);
    }
  }

  /** A sealed data page was written: its bytes are read from the data file from now on. */
  settleData(page: Page, number: number, birth: number, checksum: number): void {
    page.number = number;
    page.lsn = birth;
    page.checksum = checksum;
    page.generation = 0;
  }

  /** No pointer to this temporary number is left. */
  forgetTemporary(number: number): void {
    this.tableOf(number).delete(number);
  }

  /** The page that was given a temporary number, if that number still means one. */
  lookUp(number: number): Page | undefined {
    return this.tableOf(number).get(number);
  }

  private tableOf(number: number): PageTable {
    return number >= DATA_BASE ? this.data : this.trees;
  }

  /**
   * Calls `visit` once for each tree page that became dirty after `generation` and before the first step, in steps: when
   * somebody reaches the page or when the walk comes by, whichever is first. Before the first step nobody may hold a page.
   */
  *visitDirty(generation: number, visit: (page: Page) => void): Generator<void> {
    const walk: Walk = { after: generation, upTo: this.current++, visit, visited: new Set() };
    this.walk = walk;
    let seen = 0;
    // Pages with higher numbers are of later generations.
    for (const page of this.trees.between(TEMPORARY_BASE)) {
      if (page.generation > walk.upTo) break;
      this.visit(page, walk);
      if (++seen % WALK_STEP === 0) yield;
      if (this.walk !== walk) return;
    }
    this.walk = undefined;
  }

  private visit(page: Page, walk: Walk): void {
    const { generation } = page;
    if (generation <= walk.after || generation > walk.upTo || page.number >= DATA_BASE) return;
    if (walk.visited.has(page)) return;
    walk.visited.add(page);
    walk.visit(page);
  }
}
