/**
 * Free pages of the data file.
 *
 * In memory: the runs that may be given out, and the frontier above which everything is free. On disk: the free
 * tree of the catalog, brought up to date by each checkpoint with the changes since the last one, never as a whole.
 *
 * The two may differ between checkpoints, and that is what makes a crash harmless. Pages given to the live line
 * (data of large writes) stay listed as free on disk until the checkpoint whose seal covers the transaction that
 * names them; recovery finds such transactions in the log and `claim`s their pages, and what no transaction names is
 * free again without anybody's work.
 *
 * A page of a superseded catalog is listed with the LSN of the checkpoint that superseded it, and given out only
 * once the next checkpoint is durable: until then the older control slot may still be needed.
 */
import { assert } from '../errors.ts';

export interface PageRun {
  page: number;
  count: number;
}

interface QuarantinedRun extends PageRun {
  after: number;
}

/** Runs that are looked at for one allocation before the file is grown instead. */
const SEARCH_LIMIT = 64;
/** A bound for where pages are given out goes when the file is at most so many pages longer. */
const BOUND_SLACK = 512;

/** So many runs that come free together are merged with the others instead of entered one by one. */
const MERGED_RUNS = 64;

export class FreeSpace {
  /** Sorted by page, disjoint, not adjacent. */
  private runs: PageRun[] = [];
  private quarantined: QuarantinedRun[] = [];
  private quarantinedCount = 0;
  private search = 0;
  /** Pages from here on are given out only when nothing below fits: the file is to become shorter. */
  private ceiling = Number.POSITIVE_INFINITY;
  /** First page that was never given out. */
  frontier: number;
  /** The frontier as of the newest checkpoint. */
  persistedFrontier: number;
  /** Runs given to the live line that no checkpoint has yet removed from the free tree, in order. */
  private readonly liveAllocations: PageRun[] = [];
  /** How many entries were ever removed from the front of `liveAllocations`. */
  private liveBase = 0;
  private freeCount = 0;
  /** Free runs that the free tree does not list: the catalog root does, until the next checkpoint enters them. */
  readonly spare: PageRun[] = [];

  /** Nobody knows what is free: all may be in use, and nothing can be given out. */
  private isUnknown = false;

  constructor(frontier: number) {
    this.frontier = frontier;
    this.persistedFrontier = frontier;
  }

  /** For a store whose free tree is damaged: it can be read, and takes no changes. */
  static unknown(frontier: number): FreeSpace {
    const space = new FreeSpace(frontier);
    space.isUnknown = true;
    return space;
  }

  /** Whether any page of the run is free, now or later. */
  lists({ page, count }: PageRun): boolean {
    for (const _run of this.freeWithin(page, page + count)) return true;
    return this.quarantined.some((run) => run.page < page + count && page < run.page + run.count);
  }

  /** Pages below the frontier that are free now or after the next checkpoint. */
  get freePages(): number {
    return this.freeCount + this.quarantinedPages;
  }

  /** Free pages that are not given out yet. */
  get quarantinedPages(): number {
    return this.quarantinedCount;
  }

  /** `count` consecutive pages, for the live line. Returns the first. */
  allocateLive(count: number): number {
    const page = this.allocate(count);
    this.liveAllocations.push({ page, count });
    return page;
  }

  /** `count` consecutive pages. Returns the first. */
  allocate(count: number): number {
    assert(!this.isUnknown, 'nobody knows what is free');
    const found = this.find(count, this.ceiling) ?? this.find(count, Number.POSITIVE_INFINITY);
    if (found !== undefined) return found;
    const page = this.frontier;
    this.frontier += count;
    return page;
  }

  /** The next run that has `count` pages below a page: takes them and returns the first. */
  private find(count: number, below: number): number | undefined {
    const runs = below >= this.frontier ? this.runs.length : this.position(below);
    const limit = Math.min(SEARCH_LIMIT, runs);
    for (let i = 0; i < limit; i++) {
      if (this.search >= runs) this.search = 0;
      const run = this.runs[this.search]!;
      if (Math.min(run.count, below - run.page) >= count) return this.takeFirst(this.search, count);
      this.search++;
    }
    return undefined;
  }

  private takeFirst(index: number, count: number): number {
    const run = this.runs[index]!;
    const { page } = run;
    run.page += count;
    run.count -= count;
    this.freeCount -= count;
    if (run.count === 0) this.runs.splice(index, 1);
    return page;
  }

  /** Up to `count` consecutive pages: a shorter free run is better than a longer file. */
  allocateUpTo(count: number): PageRun {
    const below = this.ceiling < this.frontier ? this.position(this.ceiling) : 0;
    const run = this.runs[this.search >= (below || this.runs.length) ? 0 : this.search];
    let length = count;
    if (run !== undefined) {
      const room = run.page < this.ceiling ? Math.min(run.count, this.ceiling - run.page) : run.count;
      length = Math.min(count, room);
    }
    return { page: this.allocate(length), count: length };
  }

  /** From now on pages from `page` on are given out only when nothing below fits. Infinity: no such bound. */
  preferBelow(page: number): void {
    this.ceiling = page;
    this.search = 0;
  }

  /**
   * Up to `count` consecutive pages for the live line, as low as can be and below the bound of `preferBelow`; undefined
   * when there is none.
   */
  allocateLiveBelow(count: number): PageRun | undefined {
    let best = -1;
    let bestRoom = 0;
    for (let i = 0; i < Math.min(SEARCH_LIMIT, this.runs.length) && bestRoom < count; i++) {
      const run = this.runs[i]!;
      const room = Math.min(run.count, this.ceiling - run.page);
      if (room <= bestRoom) continue;
      best = i;
      bestRoom = room;
    }
    if (best < 0) return undefined;
    const length = Math.min(count, bestRoom);
    const run = { page: this.takeFirst(best, length), count: length };
    this.liveAllocations.push({ ...run });
    return run;
  }

  /** How many free pages that may be given out lie below each of these, which ascend. */
  freeBelow(pages: readonly number[]): number[] {
    let index = 0;
    let free = 0;
    return pages.map((page) => {
      for (; index < this.runs.length; index++) {
        const run = this.runs[index]!;
        if (run.page + run.count > page) break;
        free += run.count;
      }
      const run = this.runs[index];
      return free + (run !== undefined ? Math.max(0, page - run.page) : 0);
    });
  }

  /** A mark for `releaseLive` and `liveSince`: all that was given to the live line so far. */
  get liveMark(): number {
    return this.liveBase + this.liveAllocations.length;
  }

  /** Takes back what the live line got since the mark: its transaction was rolled back. */
  releaseLive(mark: number): void {
    while (this.liveMark > mark) {
      const run = this.liveAllocations.pop()!;
      this.free(run.page, run.count);
    }
  }

  /** The runs that the live line got between two marks. */
  liveBetween(from: number, to: number): PageRun[] {
    return this.liveAllocations.slice(from - this.liveBase, to - this.liveBase);
  }

  /** A checkpoint has removed from the free tree all that the live line got up to the mark. */
  forgetLive(mark: number): void {
    this.liveAllocations.splice(0, mark - this.liveBase);
    this.liveBase = mark;
  }

  /** The first mark that is still known. */
  get firstLiveMark(): number {
    return this.liveBase;
  }

  /** The free run that reaches up to the frontier, if there is one. */
  get tail(): Readonly<PageRun> | undefined {
    const last = this.runs.at(-1);
    return last !== undefined && last.page + last.count === this.frontier ? last : undefined;
  }

  /** Lowers the frontier to a page within the tail: from there on the file may be cut off. */
  lowerFrontier(page: number): void {
    const { tail } = this;
    assert(tail !== undefined && page >= tail.page, `page ${page} is not within the free tail`);
    this.freeCount -= this.frontier - page;
    if (page === tail.page) this.runs.pop();
    else (tail as PageRun).count = page - tail.page;
    this.frontier = page;
    // What the bound was for has been reached, but for a few pages.
    if (page <= this.ceiling + BOUND_SLACK) this.ceiling = Number.POSITIVE_INFINITY;
  }

  /** Adds a free run. Adjacent runs are joined. */
  free(page: number, count: number): void {
    assert(
      count > 0 && page + count <= this.frontier,
      `freeing pages ${page}+${count} beyond ${this.frontier}`,
    );
    const at = this.position(page);
    const before = this.runs[at - 1];
    const after = this.runs[at];
    assert(before === undefined || before.page + before.count <= page, `page ${page} is freed twice`);
    assert(after === undefined || page + count <= after.page, `page ${page} is freed twice`);
    this.freeCount += count;
    const joinsBefore = before !== undefined && before.page + before.count === page;
    const joinsAfter = after !== undefined && page + count === after.page;
    if (joinsBefore && joinsAfter) {
      before.count += count + after.count;
      this.runs.splice(at, 1);
    } else if (joinsBefore) before.count += count;
    else if (joinsAfter) {
      after.page = page;
      after.count += count;
    } else this.runs.splice(at, 0, { page, count });
  }

  /** A page that was taken for the catalog and is not needed is free, and named by the catalog root. */
  addSpare(page: number): void {
    this.free(page, 1);
    this.spare.push({ page, count: 1 });
  }

  /** Adds a run that becomes free once a checkpoint later than `after` is durable. */
  quarantine(page: number, count: number, after: number): void {
    this.quarantined.push({ page, count, after });
    this.quarantinedCount += count;
  }

  /** The checkpoint at `lsn` is durable: releases what was quarantined by earlier ones. */
  releaseQuarantined(lsn: number): void {
    const released: QuarantinedRun[] = [];
    const kept: QuarantinedRun[] = [];
    for (const run of this.quarantined) (run.after < lsn ? released : kept).push(run);
    if (released.length === 0) return;
    this.quarantined = kept;
    for (const { count } of released) this.quarantinedCount -= count;
    if (released.length < MERGED_RUNS) for (const run of released) this.free(run.page, run.count);
    else this.merge(released);
  }

  /** Adds many free runs, in one go through all that are free: one by one each would move those behind it. */
  private merge(freed: readonly PageRun[]): void {
    const added = [...freed].sort((a, b) => a.page - b.page);
    const { runs } = this;
    const merged: PageRun[] = [];
    for (let i = 0, j = 0; i < runs.length || j < added.length; ) {
      const isOld = j === added.length || (i < runs.length && runs[i]!.page < added[j]!.page);
      const { page, count } = isOld ? runs[i++]! : added[j++]!;
      const last = merged.at(-1);
      const end = last === undefined ? 0 : last.page + last.count;
      assert(count > 0 && end <= page, `page ${page} is freed twice`);
      if (last !== undefined && end === page) last.count += count;
      else merged.push({ page, count });
      if (!isOld) this.freeCount += count;
    }
    const last = merged.at(-1);
    assert(
      last === undefined || last.page + last.count <= this.frontier,
      'pages beyond the frontier are freed',
    );
    this.runs = merged;
  }

  /**
   * Recovery found pages in use by a transaction of the log. Parts that are in use already are refused.
   * Returns false when the run cannot be: the log is damaged.
   */
  claim(page: number, count: number): boolean {
    if (this.isUnknown) return true;
    if (page + count > this.frontier) {
      const gap = page - this.frontier;
      const old = this.frontier;
      this.frontier = page + count;
      if (gap > 0) this.free(old, gap);
      else if (gap < 0 && !this.take(page, -gap)) return false;
    } else if (!this.take(page, count)) return false;
    this.liveAllocations.push({ page, count });
    return true;
  }

  private take(page: number, count: number): boolean {
    const at = this.position(page + 1) - 1;
    const run = this.runs[at];
    if (run === undefined || run.page + run.count < page + count) return false;
    const left = page - run.page;
    const right = run.page + run.count - (page + count);
    this.freeCount -= count;
    if (left === 0 && right === 0) this.runs.splice(at, 1);
    else if (left === 0) {
      run.page += count;
      run.count = right;
    } else {
      run.count = left;
      if (right > 0) this.runs.splice(at + 1, 0, { page: page + count, count: right });
    }
    return true;
  }

  /** Free runs in [from, to), cut to that range. */
  *freeWithin(from: number, to: number): Generator<PageRun> {
    for (let i = Math.max(0, this.position(from) - 1); i < this.runs.length; i++) {
      const run = this.runs[i]!;
      const start = Math.max(run.page, from);
      const end = Math.min(run.page + run.count, to);
      if (run.page >= to) return;
      if (start < end) yield { page: start, count: end - start };
    }
  }

  /** Index of the first run that begins at or after `page`. */
  private position(page: number): number {
    let low = 0;
    let high = this.runs.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.runs[middle]!.page < page) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
