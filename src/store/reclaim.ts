/**
 * Reclaiming: gives back the pages that no kept state needs any more.
 *
 * A *point* is an LSN whose state is kept: a version that the policy or a snapshot keeps, or a state that somebody has
 * open. A row of lifetimes, [birth, death), is needed while a point lies in it. So between two points p < n that follow one
 * another everything is garbage that was born after p and died up to n; and every row that no point needs lies
 * between exactly one such pair. Reclaiming looks only there: among the deaths in (p, n] it jumps from one to the next
 * and reads the rows with births after p, which are those that it gives back. What died in between but is older, and so
 * still needed by p, is jumped over. The cost follows what is freed.
 *
 * One kind of page is needed without a point: data that a large write put in the data file itself. The log names its
 * place, so it must stay while that part of the log may be replayed: until the base of the window, the version from
 * which the oldest replay begins, is not older than its death. Such pages are known by their births, which lie
 * between versions (an odd LSN). `reclaimedLsn` says how far the base had come when this was last seen to. A state that
 * somebody has open and that is no version may be the only one to need such pages: until it is closed, that does not go
 * beyond it, so that they are found afterwards, even if the process ends first.
 *
 * Order. A version is marked as dropped first, in the catalog; from then on nobody can open it. Then its rows go, at last
 * itself. Each step leaves the catalog whole, and the next checkpoint may come between any two: after a crash the
 * marks that it finds are worked off. What is reclaimed is listed as free by the next checkpoint and given out when
 * the one after that is durable, so that neither control slot can need it.
 */
import type { Lifetime, VersionRow } from '../encoding/catalog.ts';
import type { Catalog } from './catalog.ts';

/** Rows handled between two yields. */
const STEP_ROWS = 8;
/** Rows of versions that are only read between two yields. */
const STEP_VERSIONS = 256;

export interface ReclaimResult {
  versions: number;
  pages: number;
  rows: number;
}

/** Whether the log names the place of a page born then: it was written by a transaction and not by a checkpoint. */
export function isBornInLog(birth: number): boolean {
  return birth % 2 === 1;
}

/** Index of the first of these LSNs, which ascend, from `lsn` on; their number when there is none. */
export function firstFrom(lsns: readonly number[], lsn: number): number {
  let low = 0;
  let high = lsns.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (lsns[middle]! < lsn) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The points around an LSN: the last one before it (0: none) and the first one from it on (undefined: none). */
export function neighbours(
  points: readonly number[],
  lsn: number,
): { before: number; from: number | undefined } {
  const index = firstFrom(points, lsn);
  return { before: points[index - 1] ?? 0, from: points[index] };
}

/**
 * The rows that no point needs among those that died in (before, upTo], where both are points that follow one
 * another. With `windowBase` also needed: what was born in the log and died after it.
 */
export function* garbageBetween(
  catalog: Catalog,
  before: number,
  upTo: number,
  windowBase: number,
): Generator<Lifetime> {
  let row = catalog.lifetimeFrom(before + 1, before + 1, 0);
  while (row !== undefined && row.death <= upTo) {
    if (row.birth <= before) {
      row = catalog.lifetimeFrom(row.death, before + 1, 0);
      continue;
    }
    const { death, birth, page } = row;
    if (!isBornInLog(birth) || death <= windowBase) yield row;
    row = catalog.lifetimeFrom(death, birth, page + 1);
  }
}

/**
 * Works off all versions that are marked as dropped. `pinned`: LSNs of states that are open; versions that are not dropped
 * are kept too. Versions may be added and states opened between two steps: of what is looked at here they need
 * nothing. `windowBase`: the version from which the oldest replay begins. `settledLsn`, at most that: deaths up to it
 * need not be looked at again. What is reclaimed is added to `result` as it goes on.
 */
export function* reclaim(
  catalog: Catalog,
  pinned: readonly number[],
  windowBase: number,
  settledLsn: number,
  result: ReclaimResult = { versions: 0, pages: 0, rows: 0 },
): Generator<void, ReclaimResult> {
  const dropped: VersionRow[] = [];
  const kept = new Set(pinned);
  // Versions that are dropped from now on are for the next time.
  catalog.hasDropped = false;
  let seen = 0;
  for (const row of catalog.versionRows()) {
    if (row.dropped) dropped.push(row);
    else kept.add(row.lsn);
    if (++seen % STEP_VERSIONS === 0) yield;
  }
  const points = [...kept].sort((a, b) => a - b);
  const done = new Set<number>();
  const between = function* (lsn: number): Generator<void> {
    const { before, from } = neighbours(points, lsn);
    if (from === undefined || done.has(from)) return;
    done.add(from);
    yield* free(catalog, before, from, windowBase, result);
  };
  for (const [i, { lsn }] of dropped.entries()) {
    yield* between(lsn);
    if (i % STEP_VERSIONS === 0) yield;
  }
  for (let lsn = catalog.reclaimedLsn + 1; lsn <= windowBase; ) {
    yield* between(lsn);
    lsn = (neighbours(points, lsn).from ?? windowBase) + 1;
  }
  for (const { lsn, root } of dropped) {
    catalog.removeVersion(lsn);
    catalog.reclaimed.push({ page: root.number, count: 1 });
    result.versions++;
    result.pages++;
    if (result.versions % STEP_ROWS === 0) yield;
  }
  if (settledLsn > catalog.reclaimedLsn) catalog.reclaimedLsn = settledLsn;
  return result;
}

/**
 * Counts what `reclaim` would give back if `points` were all that is kept, and changes nothing. The catalog may be
 * changed between two steps: then it is an estimate.
 */
export function* measureGarbage(
  catalog: Catalog,
  points: readonly number[],
  windowBase: number,
): Generator<void, ReclaimResult> {
  const result: ReclaimResult = { versions: 0, pages: 0, rows: 0 };
  const isPoint = new Set(points);
  for (const { lsn } of [...catalog.versionRows()]) if (!isPoint.has(lsn)) result.versions++;
  result.pages = result.versions;
  /** Lives that would have ended, of each page that a restore brought back. */
  const ended = new Map<number, number>();
  for (const [i, upTo] of points.entries()) {
    for (const { page, count } of garbageBetween(catalog, points[i - 1] ?? 0, upTo, windowBase)) {
      result.rows++;
      result.pages += count;
      for (const again of catalog.livesWithin(page, count)) {
        for (let at = again.page; at < again.page + again.count; at++) {
          const lives = (ended.get(at) ?? 0) + 1;
          ended.set(at, lives);
          // The last one gives the page back.
          if (lives !== again.lives) result.pages--;
        }
      }
      if (result.rows % STEP_ROWS === 0) yield;
    }
  }
  return result;
}

function* free(
  catalog: Catalog,
  before: number,
  upTo: number,
  windowBase: number,
  result: ReclaimResult,
): Generator<void> {
  for (const row of garbageBetween(catalog, before, upTo, windowBase)) {
    catalog.removeLifetime(row);
    result.rows++;
    result.pages += endLife(catalog, row);
    if (result.rows % STEP_ROWS === 0) yield;
  }
}

/** Gives back the pages of a row, but for those that a restore gave another life. Returns how many. */
function endLife(catalog: Catalog, row: Readonly<Lifetime>): number {
  let freed = 0;
  for (const { page, count, again } of catalog.byLives(row)) {
    if (again !== undefined) catalog.setLives(again, again.lives - 1, again.since);
    if ((again?.lives ?? 1) > 1) continue;
    catalog.reclaimed.push({ page, count });
    freed += count;
  }
  return freed;
}
