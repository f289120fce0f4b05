/**
 * The catalog: bookkeeping that spans versions. Only checkpoints change it, and only the newest one is ever read,
 * so its own superseded pages are free again as soon as no control slot can need them.
 */
import { BTree } from '../btree/btree.ts';
import {
  decodeFreeRun,
  decodeLifetime,
  decodeVersionRow,
  encodeFreeRun,
  encodeLifetime,
  encodeVersionRow,
  type FreeRun,
  freeKey,
  type Lifetime,
  lifetimeKey,
  type VersionRow,
  versionKey,
} from '../encoding/catalog.ts';
import { TREE } from '../encoding/keys.ts';
import { NO_PAGE } from '../encoding/page.ts';
import type { CatalogRoot, TreeRef } from '../encoding/root.ts';
import { LsnfsError } from '../errors.ts';
import { DirtyPages } from '../storage/dirty-pages.ts';
import type { PageCache } from '../storage/page-cache.ts';

const EMPTY: TreeRef = { ...NO_PAGE, pageCount: 0 };

export class Catalog {
  readonly pages: DirtyPages;
  readonly versions: BTree;
  readonly lifetimes: BTree;
  readonly free: BTree;
  /** The page of the newest catalog root; 0 when there is none. */
  rootPage: number;
  horizonLsn: number;
  horizonTimeMicroseconds: number;

  constructor(
    cache: PageCache,
    root: Readonly<CatalogRoot> | undefined,
    rootPage: number,
    horizonLsn: number,
    horizonTime: number,
  ) {
    this.pages = new DirtyPages(cache, true);
    this.rootPage = rootPage;
    const tree = (id: 4 | 5 | 6, ref: TreeRef): BTree => new BTree(this.pages, id, ref, ref.pageCount);
    this.versions = tree(TREE.versions, root?.versions ?? EMPTY);
    this.lifetimes = tree(TREE.lifetimes, root?.lifetimes ?? EMPTY);
    this.free = tree(TREE.free, root?.free ?? EMPTY);
    this.horizonLsn = root?.horizonLsn ?? horizonLsn;
    this.horizonTimeMicroseconds = root?.horizonTimeMicroseconds ?? horizonTime;
  }

  addVersion(row: Readonly<VersionRow>): void {
    this.versions.put(versionKey(row.lsn), encodeVersionRow(row));
  }

  /** The newest version at or before `lsn`, or undefined. */
  versionBefore(lsn: number): VersionRow | undefined {
    const cursor = this.versions.cursor();
    if (!cursor.seekBefore(versionKey(lsn + 1))) return undefined;
    return decodeVersionRow(cursor.key, cursor.value);
  }

  /** The newest version made at or before a time, or undefined. Times never decrease with LSNs. */
  versionBeforeTime(timeMicroseconds: number): VersionRow | undefined {
    const cursor = this.versions.cursor();
    if (!cursor.last()) return undefined;
    const newest = decodeVersionRow(cursor.key, cursor.value);
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
    this.lifetimes.put(
      lifetimeKey(lifetime.death, lifetime.page),
      encodeLifetime(lifetime.count, lifetime.birth),
    );
  }

  *lifetimeRows(): Generator<Lifetime> {
    for (const { key, value } of this.lifetimes.entries()) yield decodeLifetime(key, value);
  }

  *freeRows(): Generator<FreeRun> {
    for (const { key, value } of this.free.entries()) yield decodeFreeRun(key, value);
  }

  addFree(page: number, count: number, after: number): void {
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
      if (run.page < at) this.addFree(run.page, at - run.page, run.after);
      else this.free.delete(freeKey(run.page));
      if (stop < run.page + run.count) this.addFree(stop, run.page + run.count - stop, run.after);
      at = stop;
    }
  }
}
