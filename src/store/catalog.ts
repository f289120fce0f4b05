/**
 * The catalog: bookkeeping that spans versions. Only checkpoints change it, and only the newest one is ever read,
 * so its own superseded pages are free again as soon as no control slot can need them.
 */
import { BTree } from '../btree/btree.ts';
import {
  decodeFreeRun,
  decodeLifetime,
  decodeLives,
  decodeVersionRow,
  encodeFreeRun,
  encodeLifetime,
  encodeLives,
  encodeVersionRow,
  type FreeRun,
  freeKey,
  freeRunAt,
  type Lifetime,
  type Lives,
  lifetimeKey,
  livesKey,
  type VersionRow,
  versionKey,
} from '../encoding/catalog.ts';
import { TREE } from '../encoding/keys.ts';
import type { CatalogRoot, TreeRef } from '../encoding/root.ts';
import { assert, LsnfsError } from '../errors.ts';
import { DirtyPages } from '../storage/dirty-pages.ts';
import type { PageRun } from '../storage/free-space.ts';
import type { PageCache } from '../storage/page-cache.ts';

export class Catalog {
  readonly pages: DirtyPages;
  readonly versions: BTree;
  readonly lifetimes: BTree;
  readonly free: BTree;
  readonly lives: BTree;
  /** LSN of the newest checkpoint. */
  lsn: number;
  /** The page of the newest catalog root. */
  rootPage: number;
  horizonLsn: number;
  horizonTimeMicroseconds: number;
  /** Deaths up to it are settled: see `reclaim.ts`. */
  reclaimedLsn: number;
  /** Whether a version may be marked as dropped. */
  hasDropped: boolean;
  /** Runs that were reclaimed since the last checkpoint, which will enter them in the free tree. */
  reclaimed: PageRun[] = [];

  constructor(cache: PageCache, root: Readonly<CatalogRoot>, rootPage: number) {
    this.pages = new DirtyPages(cache, true);
    this.rootPage = rootPage;
    this.lsn = root.lsn;
    const tree = (id: 4 | 5 | 6 | 7, ref: TreeRef): BTree => new BTree(this.pages, id, ref, ref.pageCount);
    this.versions = tree(TREE.versions, root.versions);
    this.lifetimes = tree(TREE.lifetimes, root.lifetimes);
    this.free = tree(TREE.free, root.free);
    this.lives = tree(TREE.lives, root.lives);
    this.reclaimedLsn = root.reclaimedLsn;
    this.hasDropped = true;
    this.horizonLsn = root.horizonLsn;
    this.horizonTimeMicroseconds = root.horizonTimeMicroseconds;
  }

  /** All trees of the catalog. */
  trees(): BTree[] {
    return [this.versions, this.lifetimes, this.free, this.lives];
  }

  addVersion(row: Readonly<VersionRow>): void {
    this.versions.put(versionKey(row.lsn), encodeVersionRow(row));
  }

  /** The version at exactly this LSN, or undefined. */
  version(lsn: number): VersionRow | undefined {
    const key = versionKey(lsn);
    const value = this.versions.get(key);
    return value === undefined ? undefined : decodeVersionRow(key, value);
  }

  removeVersion(lsn: number): void {
    this.versions.delete(versionKey(lsn));
  }

  /** All versions, by LSN, also those that are being dropped. */
  *versionRows(): Generator<VersionRow> {
    for (const { key, value } of this.versions.entries()) yield decodeVersionRow(key, value);
  }

  /** The newest version at or before `lsn` that can be opened, or undefined. */
  versionBefore(lsn: number): VersionRow | undefined {
    const cursor = this.versions.cursor();
    for (let at = lsn; cursor.seekBefore(versionKey(at + 1)); ) {
      const row = decodeVersionRow(cursor.key, cursor.value);
      if (!row.dropped) return row;
      at = row.lsn - 1;
    }
    return undefined;
  }

  /** The oldest version at or after `lsn` that can be opened, or undefined. */
  versionAfter(lsn: number): VersionRow | undefined {
    const cursor = this.versions.cursor();
    for (let has = cursor.seek(versionKey(lsn)); has; has = cursor.next()) {
      const row = decodeVersionRow(cursor.key, cursor.value);
      if (!row.dropped) return row;
    }
    return undefined;
  }

  /** The newest version made at or before a time, or undefined. Times never decrease with LSNs. */
  versionBeforeTime(timeMicroseconds: number): VersionRow | undefined {
    const newest = this.versionBefore(Number.MAX_SAFE_INTEGER - 1);
    if (newest === undefined) return undefined;
    if (newest.timeMicroseconds <= timeMicroseconds) return newest;
    // Invariant: the version before `low` is early enough (or there is none), the one before `high` is too late.
    let low = 0;
    let high = newest.lsn;
    let found: VersionRow | undefined;
    while (high - low > 1) {
      const middle = Math.floor((low + high) / 2);
      const row = this.versionBefore(middle);
      if (row === undefined || row.timeMicroseconds <= timeMicroseconds) {
        found = row ?? found;
        low = middle;
      } else high = row.lsn;
    }
    return found;
  }

  addLifetime(lifetime: Readonly<Lifetime>): void {
    const { death, birth, page, count } = lifetime;
    this.lifetimes.put(lifetimeKey(death, birth, page), encodeLifetime(count));
  }

  removeLifetime(lifetime: Readonly<Lifetime>): void {
    this.lifetimes.delete(lifetimeKey(lifetime.death, lifetime.birth, lifetime.page));
  }

  /** The first row at or after (death, birth, page) in this order, or undefined. */
  lifetimeFrom(death: number, birth: number, page: number): Lifetime | undefined {
    const cursor = this.lifetimes.cursor();
    if (!cursor.seek(lifetimeKey(death, birth, page))) return undefined;
    return decodeLifetime(cursor.key, cursor.value);
  }

  /** Hands over what was reclaimed since the last checkpoint, in runs as long as they are. */
  takeReclaimed(): PageRun[] {
    const runs = this.reclaimed.sort((a, b) => a.page - b.page);
    this.reclaimed = [];
    let kept = 0;
    for (const run of runs) {
      const last = runs[kept - 1];
      if (kept > 0 && last!.page + last!.count === run.page) last!.count += run.count;
      else runs[kept++] = run;
    }
    runs.length = kept;
    return runs;
  }

  *lifetimeRows(): Generator<Lifetime> {
    for (const { key, value } of this.lifetimes.entries()) yield decodeLifetime(key, value);
  }

  *freeRows(): Generator<FreeRun> {
    const cursor = this.free.cursor();
    for (let has = cursor.first(); has; has = cursor.next()) {
      const { keyView, keyLength, page, valueStart, valueLength } = cursor;
      yield freeRunAt(keyView, keyLength, page.bytes, valueStart, valueLength);
    }
  }

  /** Lists a run as free, in one row with those beside it that may be given out at the same time. */
  addFree(page: number, count: number, after: number): void {
    const cursor = this.free.cursor();
    const ready = (lsn: number): number => (lsn < this.lsn ? 0 : lsn);
    let start = page;
    let end = page + count;
    if (cursor.seekBefore(freeKey(page))) {
      const before = decodeFreeRun(cursor.key, cursor.value);
      if (before.page + before.count === page && ready(before.after) === ready(after)) start = before.page;
    }
    if (cursor.seek(freeKey(end))) {
      const behind = decodeFreeRun(cursor.key, cursor.value);
      if (behind.page === end && ready(behind.after) === ready(after)) {
        end += behind.count;
        this.free.delete(freeKey(behind.page));
      }
    }
    this.putFree(start, end - start, ready(after));
  }

  /** The pages of [page, page + count) that a restore brought back to life, in order, each row cut to that range. */
  *livesWithin(page: number, count: number): Generator<Lives> {
    if (this.lives.root.number === 0) return;
    const end = page + count;
    for (let at = page; at < end; ) {
      const cursor = this.lives.cursor();
      let row: Lives | undefined;
      if (cursor.seekBefore(livesKey(at + 1))) row = decodeLives(cursor.key, cursor.value);
      if (row === undefined || row.page + row.count <= at) {
        if (!cursor.seek(livesKey(at))) return;
        row = decodeLives(cursor.key, cursor.value);
        if (row.page >= end) return;
      }
      const start = Math.max(at, row.page);
      const stop = Math.min(end, row.page + row.count);
      yield { ...row, page: start, count: stop - start };
      at = stop;
    }
  }

  /** A run in pieces, in order: those that a restore brought back to life (`again`), and what lies between them. */
  byLives({ page, count }: Readonly<PageRun>): (PageRun & { readonly again: Lives | undefined })[] {
    const pieces: (PageRun & { readonly again: Lives | undefined })[] = [];
    let at = page;
    const once = (end: number): void => {
      if (at < end) pieces.push({ page: at, count: end - at, again: undefined });
    };
    for (const again of this.livesWithin(page, count)) {
      once(again.page);
      pieces.push({ page: again.page, count: again.count, again });
      at = again.page + again.count;
    }
    once(page + count);
    return pieces;
  }

  /** The pages of a run, which have died, live again from an LSN on. */
  revive(run: Readonly<PageRun>, since: number): void {
    for (const piece of this.byLives(run)) this.setLives(piece, (piece.again?.lives ?? 1) + 1, since);
  }

  /** Sets how many lives a run has that are not reclaimed, and since when the newest; with none the row goes. */
  setLives(run: Readonly<PageRun>, lives: number, since: number): void {
    const end = run.page + run.count;
    for (const row of [...this.livesWithin(run.page, run.count)]) this.cutLives(row.page, row.count);
    if (lives > 0)
      this.lives.put(
        livesKey(run.page),
        encodeLives({ page: run.page, count: end - run.page, lives, since }),
      );
  }

  /** Takes [page, page + count), all of one row, out of it. */
  private cutLives(page: number, count: number): void {
    const cursor = this.lives.cursor();
    assert(cursor.seekBefore(livesKey(page + 1)), `page ${page} has no row of lives`);
    const row = decodeLives(cursor.key, cursor.value);
    const end = page + count;
    const rowEnd = row.page + row.count;
    if (row.page < page) this.lives.put(livesKey(row.page), encodeLives({ ...row, count: page - row.page }));
    else this.lives.delete(livesKey(row.page));
    if (end < rowEnd) this.lives.put(livesKey(end), encodeLives({ ...row, page: end, count: rowEnd - end }));
  }

  private putFree(page: number, count: number, after: number): void {
    this.free.put(freeKey(page), encodeFreeRun(count, after));
  }

  /** Takes pages out of the free tree; what lies between its rows is not listed and is skipped. */
  removeFree(page: number, count: number): void {
    const end = page + count;
    let at = page;
    while (at < end) {
      const cursor = this.free.cursor();
      let run: FreeRun | undefined;
      if (cursor.seekBefore(freeKey(at + 1))) run = decodeFreeRun(cursor.key, cursor.value);
      if (run === undefined || run.page + run.count <= at) {
        throw new LsnfsError(
          'CORRUPT_RECORD',
          `page ${at} of the data file was given out but is not listed as free`,
          {
            page: at,
          },
        );
      }
      const stop = Math.min(end, run.page + run.count);
      if (run.page < at) this.putFree(run.page, at - run.page, run.after);
      else this.free.delete(freeKey(run.page));
      if (stop < run.page + run.count) this.putFree(stop, run.page + run.count - stop, run.after);
      at = stop;
    }
  }
}
