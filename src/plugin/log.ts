/**
 * The log for people and programs: what history/path-log.ts and history/transaction-log.ts find, and the named and kept
 * states of the store; newest first.
 *
 * It is found in short steps: behind a mount other requests are served in between. Whoever does not take it to its end
 * closes it.
 */
import { LsnfsError } from '../errors.ts';
import type { Aspect } from '../history/changes.ts';
import type { History } from '../history/history.ts';
import { type LogBounds, UNBOUNDED } from '../history/log-bounds.ts';
import { type PathEvent, type PathEventKind, pathLog } from '../history/path-log.ts';
import { formatTime, type Target } from '../history/targets.ts';
import type { TransactionKind } from '../history/transaction-kinds.ts';
import { type TransactionEvent, transactionLog } from '../history/transaction-log.ts';
import type { Store } from '../store/store.ts';
import { type StoreState, statesOf } from './states.ts';
import { textOfBytes } from './text.ts';
import { type EntryType, entryTypeOf, type PathLike, pathBytes } from './view.ts';

/** How long a step may take, in milliseconds. */
const STEP_MS = 10;

/** A moment in the options: a time ("10 minutes ago", RFC 3339), or a state ("@NAME", "@lsn-N"); of that, its LSN counts. */
export type LogMoment = Target | string;

export interface LogQuery {
  /** The history of what is at a path; of the store otherwise. */
  readonly path?: PathLike;
  /** Of a path: where it came from another path, the history of that one before. */
  readonly follow?: boolean;
  /** Every transaction of the window, with what it did. Not with `path`. */
  readonly transactions?: boolean;
  /** Only what happened from this moment on; after it, if it is a state. */
  readonly since?: LogMoment;
  /** Only what happened until this moment. */
  readonly until?: LogMoment;
  /** So many at most. */
  readonly limit?: number;
}

/** Who asked for a transaction, as the kernel knew; of one of the API, the process that has the store open. */
export interface LogOrigin {
  readonly uid: number;
  readonly pid: number;
}

/** A state of a path, which differs from the one before it. */
export interface PathLogEntry {
  readonly kind: PathEventKind;
  /** From this LSN on the path is like this. */
  readonly lsn: number;
  /** RFC 3339. */
  readonly time: string;
  /** Whether the transaction that ends at `lsn` made it so. Otherwise it became so after `after`, and was so at `lsn`. */
  readonly exact: boolean;
  readonly after: number;
  readonly path: string;
  /** Where it was before, or is now. */
  readonly from?: string;
  readonly to?: string;
  readonly changes: readonly Aspect[];
  /** What is there; null when nothing is. */
  readonly type: EntryType | null;
  readonly size: number | null;
  readonly inode: number | null;
  readonly origin?: LogOrigin;
}

export interface TransactionLogEntry {
  readonly kind: TransactionKind;
  readonly lsn: number;
  /** The state before it. */
  readonly after: number;
  readonly time: string;
  readonly origin?: LogOrigin;
  /** Of a snapshot. */
  readonly name?: string;
  readonly message?: string;
  readonly added: number;
  readonly removed: number;
  readonly renamed: number;
  readonly modified: number;
  /** Of file content. */
  readonly bytesWritten: number;
  /** How many records of each kind it has. */
  readonly records: Readonly<Record<string, number>>;
  /** The first hundred, with paths as they were then. */
  readonly entries: readonly {
    readonly kind: '+' | '-' | 'M' | 'R';
    readonly path: string;
    readonly from?: string;
    readonly changes: readonly Aspect[];
  }[];
}

export type LogEntry = StoreState | PathLogEntry | TransactionLogEntry;

/** What a log needs of a database. */
export interface LoggedDatabase {
  readonly history: History;
  readonly store: Store;
  commit(): Promise<unknown>;
}

/**
 * Begins a log; what was done before is in it.
 * @throws LsnfsError INVALID_INPUT, NO_SUCH_STATE, …; ENOENT where no state that is kept has anything at the path
 */
export async function openLog<Entry extends LogEntry>(
  database: LoggedDatabase,
  options: LogQuery,
): Promise<LogListing<Entry>> {
  const { store } = database;
  const { path, follow = false, transactions = false, limit = Number.POSITIVE_INFINITY } = options;
  if (path !== undefined && transactions) invalid('a log is of a path or of transactions, not of both');
  if (path === undefined && follow) invalid('only the log of a path follows renames');
  if (!(limit >= 0)) invalid('a limit is a number from 0 on');
  const bounds = boundsOf(database, options);
  if (!store.readOnly && store.failure === undefined) await database.commit();
  const entries =
    path !== undefined
      ? pathEntries(store, path, follow, bounds)
      : transactions
        ? map(transactionLog(store, bounds), transactionEntry)
        : statesOf(database, bounds);
  return new LogListing<Entry>(entries as Generator<Entry | undefined>, limit);
}

function invalid(what: string): never {
  throw new LsnfsError('INVALID_INPUT', what);
}

function boundsOf(database: LoggedDatabase, { since, until }: LogQuery): LogBounds {
  const from = since === undefined ? {} : momentOf(database, since);
  const to = until === undefined ? {} : momentOf(database, until);
  return {
    afterLsn: from.lsn ?? UNBOUNDED.afterLsn,
    fromMicroseconds: from.timeMicroseconds ?? UNBOUNDED.fromMicroseconds,
    uptoLsn: to.lsn ?? UNBOUNDED.uptoLsn,
    untilMicroseconds: to.timeMicroseconds ?? UNBOUNDED.untilMicroseconds,
  };
}

function momentOf(
  { history }: LoggedDatabase,
  moment: LogMoment,
): { lsn?: number; timeMicroseconds?: number } {
  const target = history.typedTarget(moment);
  if (target.kind === 'time') return { timeMicroseconds: target.timeMicroseconds };
  // Any LSN is a bound, whether its state can be opened or not.
  if (target.kind === 'lsn') return { lsn: target.lsn };
  if (target.kind === 'name' && !history.isSnapshotName(target.name)) {
    invalid(
      `"${target.name}" is neither a snapshot nor a time: write a time like 2026-11-22T101500Z or "10 minutes ago", an LSN, or a snapshot's name`,
    );
  }
  return { lsn: history.resolve(target).lsn };
}

function* map<From, To>(
  from: Generator<From | undefined>,
  entryOf: (value: From) => To,
): Generator<To | undefined> {
  for (const value of from) yield value === undefined ? undefined : entryOf(value);
}

function* pathEntries(
  store: Store,
  path: PathLike,
  follow: boolean,
  bounds: LogBounds,
): Generator<PathLogEntry | undefined> {
  const bytes = pathBytes(path);
  if (bytes.includes(0)) invalid('a path has no NUL');
  let count = 0;
  for (const event of pathLog(store, bytes, { follow, bounds })) {
    if (event !== undefined) count++;
    yield event === undefined ? undefined : pathEntry(event);
  }
  const isWhole =
    bounds.afterLsn < 0 &&
    bounds.fromMicroseconds === UNBOUNDED.fromMicroseconds &&
    bounds.untilMicroseconds === UNBOUNDED.untilMicroseconds &&
    bounds.uptoLsn === UNBOUNDED.uptoLsn;
  if (count > 0 || !isWhole) return;
  const text = textOfBytes(bytes);
  throw new LsnfsError('ENOENT', `${text} is in none of the states that are kept`, { path: text });
}

function pathEntry(event: PathEvent): PathLogEntry {
  const { kind, lsn, timeMicroseconds, isExact, beforeLsn, path, from, to, aspects, inode, record, origin } =
    event;
  return {
    kind,
    lsn,
    time: formatTime(timeMicroseconds),
    exact: isExact,
    after: beforeLsn,
    path: textOfBytes(path),
    ...(from !== undefined && { from: textOfBytes(from) }),
    ...(to !== undefined && { to: textOfBytes(to) }),
    changes: aspects,
    type: record === undefined ? null : entryTypeOf(record.mode),
    size: record?.size ?? null,
    inode: inode ?? null,
    ...(origin !== undefined && { origin }),
  };
}

function transactionEntry(event: TransactionEvent): TransactionLogEntry {
  const { kind, lsn, beforeLsn, timeMicroseconds, origin, name, message, records, contentBytes, changes } =
    event;
  const { added, removed, renamed, modified } = event;
  return {
    kind,
    lsn,
    after: beforeLsn,
    time: formatTime(timeMicroseconds),
    ...(origin !== undefined && { origin }),
    ...(name !== undefined && { name }),
    ...(message !== undefined && { message }),
    added,
    removed,
    renamed,
    modified,
    bytesWritten: contentBytes,
    records: Object.fromEntries(records),
    entries: changes.map((change) => ({
      kind: change.kind,
      path: textOfBytes(change.path),
      ...(change.from !== undefined && { from: textOfBytes(change.from) }),
      changes: change.aspects,
    })),
  };
}

/** A log that is being made, newest first. To be iterated over, or taken step by step and closed. */
export class LogListing<Entry extends LogEntry> implements Iterable<Entry> {
  private readonly entries: Generator<Entry | undefined>;
  private left: number;
  private ended = false;

  constructor(entries: Generator<Entry | undefined>, limit: number) {
    this.entries = entries;
    this.left = limit;
  }

  /** Whether all has been given. */
  get isEnded(): boolean {
    return this.ended;
  }

  /** Works for a while; gives at most `most` entries, and perhaps none yet. @throws LsnfsError CORRUPT_PAGE, … */
  step(most: number): Entry[] {
    const found: Entry[] = [];
    const end = performance.now() + STEP_MS;
    while (!this.ended && found.length < most && performance.now() < end) {
      if (this.left <= 0) {
        this.close();
        break;
      }
      const next = this.entries.next();
      if (next.done === true) this.ended = true;
      else if (next.value !== undefined) {
        found.push(next.value);
        this.left--;
      }
    }
    return found;
  }

  *[Symbol.iterator](): Generator<Entry> {
    try {
      while (!this.ended) yield* this.step(1);
    } finally {
      this.close();
    }
  }

  /** Lets go of all states. */
  close(): void {
    this.ended = true;
    this.entries.return(undefined);
  }
}
