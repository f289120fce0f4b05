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
import { type PageRun, RunList, type RunPlace } from './run-list.ts';

export type { PageRun };

interface QuarantinedRun extends PageRun {
  after: number;
}

/** Runs that are looked at for one allocation before the file is grown instead. */
const SEARCH_LIMIT = 64;
/** A bound for where pages are given out goes when the file is at most so many pages longer. */
const BOUND_SLACK = 512;

export class FreeSpace {
  /** Disjoint, not adjacent. */
  private readonly runs = new RunList();
  private quarantined: QuarantinedRun[] = [];
  private quarantinedCount = 0;
  /** The page from which on the next run is looked for. */
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
    const { runs } = this;
    let place = runs.seek(this.search);
    for (let left = Math.min(SEARCH_LIMIT, runs.length); left > 0; left--) {
      if ((place.run?.page ?? below) >= below) place = runs.seek(0);
      const run = place.run!;
      if (run.page >= below) return undefined;
      if (Math.min(run.count, below - run.page) >= count) {
        this.search = run.page;
        return this.takeFirst(place, count);
      }
      this.search = run.page + 1;
      place.next();
    }
    return undefined;
  }

  private takeFirst(place: RunPlace, count: number): number {
    const run = place.run!;
    const { page } = run;
    run.page += count;
    run.count -= count;
    this.freeCount -= count;
    if (run.count === 0) this.runs.remove(place);
    return page;
  }

  /** Up to `count` consecutive pages: a shorter free run is better than a longer file. */
  allocateUpTo(count: number): PageRun {
    let run = this.runs.seek(this.search).run;
    if (run === undefined || run.page >= this.ceiling) run = this.runs.first;
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
    const place = this.runs.seek(0);
    for (let left = SEARCH_LIMIT; left > 0 && place.run !== undefined && bestRoom < count; left--) {
      const { run } = place;
      const room = Math.min(run.count, this.ceiling - run.page);
      if (room > bestRoom) {
        best = run.page;
        bestRoom = room;
      }
      place.next();
    }
    if (best < 0) return undefined;
    const length = Math.min(count, bestRoom);
    const run = { page: this.takeFirst(this.runs.seek(best), length), count: length };
    this.liveAllocations.push({ ...run });
    return run;
  }

  /** How many free pages that may be given out lie below each of these, which ascend. */
  freeBelow(pages: readonly number[]): number[] {
    const place = this.runs.seek(0);
    let free = 0;
    return pages.map((page) => {
      for (; place.run !== undefined && place.run.page + place.run.count <= page; place.next())
        free += place.run.count;
      return free + (place.run !== undefined ? Math.max(0, page - place.run.page) : 0);
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
    const { last } = this.runs;
    return last !== undefined && last.page + last.count === this.frontier ? last : undefined;
  }

  /** Lowers the frontier to a page within the tail: from there on the file may be cut off. */
  lowerFrontier(page: number): void {
    const { tail } = this;
    assert(tail !== undefined && page >= tail.page, `page ${page} is not within the free tail`);
    this.freeCount -= this.frontier - page;
    if (page === tail.page) this.runs.remove(this.runs.seek(page));
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
    const { last } = this.runs;
    if (last === undefined || last.page + last.count < page) {
      // As all of them do when a store is opened.
      this.runs.append({ page, count });
      this.freeCount += count;
      return;
    }
    const at = this.runs.seek(page);
    const { before, run: after } = at;
    assert(before === undefined || before.page + before.count <= page, `page ${page} is freed twice`);
    assert(after === undefined || page + count <= after.page, `page ${page} is freed twice`);
    this.freeCount += count;
    const joinsBefore = before !== undefined && before.page + before.count === page;
    const joinsAfter = after !== undefined && page + count === after.page;
    if (joinsBefore && joinsAfter) {
      before.count += count + after.count;
      this.runs.remove(at);
    } else if (joinsBefore) before.count += count;
    else if (joinsAfter) {
      after.page = page;
      after.count += count;
    } else this.runs.insert(at, { page, count });
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
    for (const run of released) this.free(run.page, run.count);
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
    const behind = this.runs.seek(page + 1);
    const run = behind.before;
    if (run === undefined || run.page + run.count < page + count) return false;
    const left = page - run.page;
    const right = run.page + run.count - (page + count);
    this.freeCount -= count;
    if (left === 0 && right === 0) {
      behind.previous();
      this.runs.remove(behind);
    } else if (left === 0) {
      run.page += count;
      run.count = right;
    } else {
      run.count = left;
      if (right > 0) this.runs.insert(behind, { page: page + count, count: right });
    }
    return true;
  }

  /** Free runs in [from, to), cut to that range. None may become free or be given out meanwhile. */
  *freeWithin(from: number, to: number): Generator<PageRun> {
    const place = this.runs.seek(from);
    if (place.before !== undefined) place.previous();
    for (; place.run !== undefined; place.next()) {
      const { run } = place;
      const start = Math.max(run.page, from);
      const end = Math.min(run.page + run.count, to);
      if (run.page >= to) return;
      if (start < end) yield { page: start, count: end - start };
    }
  }
}
