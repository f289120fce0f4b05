/**
 * The difference of two states, for people and programs: what history/changes.ts finds, filtered, counted, and sorted by
 * path.
 *
 * It is found in short steps: behind a mount other requests are served in between. Both states are leased until it is
 * closed. Changes come in order of inode numbers, so all that are asked for are in memory before the first is given: a
 * few hundred bytes each, whatever the files hold.
 */
import { LsnfsError } from '../errors.ts';
import { type Aspect, type Change, changesBetween } from '../history/changes.ts';
import type { History, Lease } from '../history/history.ts';
import { findPath, namesOfPath } from '../history/state-path.ts';
import type { Target } from '../history/targets.ts';
import { DirtyPages } from '../storage/dirty-pages.ts';
import { SortedRuns } from './sorted-runs.ts';
import { textOfBytes } from './text.ts';
import { type EntryType, entryTypeOf, type PathLike, pathBytes } from './view.ts';

/** How long a step may take, in milliseconds. */
const STEP_MS = 10;
const SLASH = 0x2f;

export interface DiffOptions {
  /** What was and is neither one of these nor below one is left out. Default: nothing is. */
  readonly paths?: readonly PathLike[];
  /** Other types are left out. Default: none are. */
  readonly types?: readonly EntryType[];
}

/** One thing that changed. Paths begin with "/"; they are text as in text.ts. */
export interface DiffEntry {
  /** Added, removed, modified, renamed. */
  readonly kind: '+' | '-' | 'M' | 'R';
  /** Where it is; of what was removed, where it was. */
  readonly path: string;
  /** Where it was, if that was another path: itself renamed, or something above it. */
  readonly from?: string;
  readonly type: EntryType;
  readonly inode: number;
  /** Of what is in both states. */
  readonly changes: readonly Aspect[];
  /** Bytes; null in the state that does not have it. */
  readonly sizeBefore: number | null;
  readonly sizeAfter: number | null;
}

export interface DiffStatistics {
  readonly added: number;
  readonly removed: number;
  readonly modified: number;
  readonly renamed: number;
  /** Pages of trees that were read from disk, not found in memory. */
  readonly pagesRead: number;
  /** Time that the comparison took, the opening of both states included. */
  readonly milliseconds: number;
}

/** What a comparison needs of a database. */
export interface ComparableDatabase {
  readonly history: History;
  readonly store: { readonly readOnly: boolean; readonly failure: Error | undefined };
  commit(): Promise<unknown>;
}

/** What an entry is made of; text is made of bytes when it is given. */
interface Row {
  readonly kind: DiffEntry['kind'];
  readonly path: Buffer;
  readonly from: Buffer | undefined;
  readonly type: EntryType;
  readonly inode: number;
  readonly changes: readonly Aspect[];
  readonly sizeBefore: number | null;
  readonly sizeAfter: number | null;
}

/** Removed before renamed, added, modified, where one path has several. */
const ORDER = { '-': 0, R: 1, '+': 2, M: 3 } as const;

/**
 * Begins to compare two states; `to` undefined is the live one. Close it.
 * @throws LsnfsError NO_SUCH_STATE, NO_SUCH_SNAPSHOT, INVALID_INPUT, …
 */
export async function compareStates(
  database: ComparableDatabase,
  from: Target | string,
  to: Target | string | undefined,
  options: DiffOptions = {},
): Promise<Comparison> {
  const { history } = database;
  const isLive = (target: Target | string | undefined): boolean =>
    target === undefined || (typeof target === 'string' && namesLiveState(history, target));
  const { readOnly, failure } = database.store;
  if ((isLive(from) || isLive(to)) && !readOnly && failure === undefined) await database.commit();
  const lsnOf = (target: Target | string | undefined): number =>
    target === undefined || isLive(target)
      ? history.range().newest
      : history.resolve(history.typedTarget(target)).lsn;
  return new Comparison(history, lsnOf(from), lsnOf(to), options);
}

/** "live" or "@live", unless a snapshot has that name. */
function namesLiveState(history: History, text: string): boolean {
  return (text === 'live' || text === '@live') && !history.isSnapshotName('live');
}

export class Comparison implements Iterable<DiffEntry> {
  /** LSNs of the two states. */
  readonly from: number;
  readonly to: number;
  private readonly leases: Lease[] = [];
  private readonly changes: Iterator<Change | undefined>;
  private readonly paths: Buffer[] | undefined;
  private readonly types: ReadonlySet<EntryType> | undefined;
  private readonly rows = new SortedRuns<Row>(
    (a, b) => a.path.compare(b.path) || ORDER[a.kind] - ORDER[b.kind],
  );
  private sorted: Generator<Row> | undefined;
  private given = 0;
  private readonly pagesRead: () => number;
  private readonly counts = { added: 0, removed: 0, modified: 0, renamed: 0 };
  private read = 0;
  private milliseconds = 0;
  private isComplete = false;

  constructor(history: History, from: number, to: number, options: DiffOptions) {
    this.from = from;
    this.to = to;
    this.paths = options.paths?.map((path) => trimmed(pathBytes(path)));
    if (this.paths?.length === 0) this.paths = undefined;
    this.types = options.types === undefined ? undefined : new Set(options.types);
    const start = performance.now();
    try {
      for (const lsn of [from, to]) this.leases.push(history.open(lsn, `diff, process ${process.pid}`));
    } catch (error) {
      this.close();
      throw error;
    }
    const [before, after] = this.leases.map(({ state }) => state);
    const { space } = before!.inodes;
    for (const [i, path] of (this.paths ?? []).entries()) {
      if (this.leases.some(({ state }) => findPath(state, namesOfPath(path)) !== undefined)) continue;
      this.close();
      const name = textOfBytes(Buffer.from(pathBytes(options.paths![i]!)));
      throw new LsnfsError(
        'ENOENT',
        `${name} exists in neither of the states (a state is written @${name})`,
        {
          path: name,
        },
      );
    }
    this.pagesRead = () => (space instanceof DirtyPages ? space.cache.reads : 0);
    this.changes = changesBetween(before!, after!);
    this.milliseconds = performance.now() - start;
  }

  get statistics(): DiffStatistics {
    return { ...this.counts, pagesRead: this.read, milliseconds: this.milliseconds };
  }

  /** Compares for a while. Returns whether that was all there is to compare. @throws LsnfsError CORRUPT_PAGE, … */
  step(): boolean {
    const start = performance.now();
    const pages = this.pagesRead();
    while (!this.isComplete && performance.now() - start < STEP_MS) {
      const next = this.changes.next();
      if (next.done === true) this.isComplete = true;
      else if (next.value !== undefined) this.take(next.value);
    }
    this.read += this.pagesRead() - pages;
    this.milliseconds += performance.now() - start;
    return this.isComplete;
  }

  private take(change: Change): void {
    const { kind, path, from, inode, aspects, before, after } = change;
    const record = (kind === '-' ? before : after)!;
    const type = entryTypeOf(record.mode);
    if (this.types?.has(type) === false) return;
    if (!this.isIn(path) && (from === undefined || !this.isIn(from))) return;
    if (kind === '+') this.counts.added++;
    else if (kind === '-') this.counts.removed++;
    else if (kind === 'M') this.counts.modified++;
    else this.counts.renamed++;
    this.rows.push({
      kind,
      path,
      from: from?.equals(path) ? undefined : from,
      type,
      inode,
      changes: aspects,
      sizeBefore: kind === '+' ? null : before!.size,
      sizeAfter: kind === '-' ? null : after!.size,
    });
  }

  private isIn(path: Buffer): boolean {
    if (this.paths === undefined) return true;
    const bare = path.subarray(1);
    return this.paths.some(
      (filter) =>
        filter.length === 0 ||
        (bare.subarray(0, filter.length).equals(filter) &&
          (bare.length === filter.length || bare[filter.length] === SLASH)),
    );
  }

  /** What changed, sorted by path: the next `most`, or as many as there are left. Only when all is compared. */
  nextEntries(most: number): DiffEntry[] {
    if (!this.isComplete) throw new LsnfsError('INVALID_INPUT', 'the comparison has not ended yet');
    this.sorted ??= this.rows.merge();
    const entries: DiffEntry[] = [];
    while (entries.length < most) {
      const next = this.sorted.next();
      if (next.done === true) break;
      entries.push(entryOf(next.value));
    }
    this.given += entries.length;
    return entries;
  }

  /** Whether all has been compared and given. */
  get isEnded(): boolean {
    return this.isComplete && this.given === this.rows.length;
  }

  /** Compares what is left to compare, and gives what changed, sorted by path; at the end it is closed. */
  *[Symbol.iterator](): Generator<DiffEntry> {
    try {
      while (!this.step());
      while (!this.isEnded) yield* this.nextEntries(1);
    } finally {
      this.close();
    }
  }

  /** Lets go of both states. */
  close(): void {
    for (const lease of this.leases) lease.release();
  }
}

function entryOf({ path, from, ...row }: Row): DiffEntry {
  const { kind, ...rest } = row;
  return { kind, path: textOfBytes(path), ...(from !== undefined && { from: textOfBytes(from) }), ...rest };
}

/** A path without slashes and "." in front, and without slashes behind. */
function trimmed(path: Uint8Array): Buffer {
  return Buffer.concat(
    namesOfPath(path)
      .flatMap((name) => [name, Buffer.of(SLASH)])
      .slice(0, -1),
  );
}
