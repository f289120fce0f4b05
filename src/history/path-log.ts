/**
 * The history of one path: each of its states that differs from the one before it, newest first.
 *
 * History is taken apart at the versions that are kept, and looked at from the newest stretch to the oldest. Within the
 * window, where every state can be opened, a stretch is read from the log (exact to the transaction): once to see
 * whether it concerns the path at all, and which inodes are found there; and if so once more, with only the records of
 * these (touches.ts) applied to two private copies of the version at its beginning, one a transaction behind the other, which
 * are compared. So the log is read, and little is done with most of it. Before the window only versions can be
 * compared; thanks to shared pages that costs a few pages each, however large the store is.
 *
 * What is at a path is an inode: its type, content, attributes, and of a directory its entries. Access times do not count.
 * Symbolic links are not followed: the log of a link is its own.
 */
import { FLAG_INLINE, type InodeRecord } from '../encoding/inode.ts';
import { LsnfsError } from '../errors.ts';
import { applyTransaction } from '../store/apply.ts';
import type { StateReader } from '../store/state.ts';
import type { Store } from '../store/store.ts';
import type { TreeState } from '../store/tree-state.ts';
import {
  type Aspect,
  aspectsBetween,
  attributeAspects,
  isSameContent,
  linksOf,
  PathFinder,
  recordOf,
} from './changes.ts';
import { isAllBefore, isWithin, type LogBounds } from './log-bounds.ts';
import { type FoundPath, findPath, namesOfPath } from './state-path.ts';
import { type InodeTouch, TouchFilter, UNTOUCHED } from './touches.ts';

const ROOT_INODE = 1;
/** Transactions that are passed over between two yields. */
const TRANSACTIONS_AT_A_TIME = 256;

/**
 * 'created' out of nothing, 'removed'; 'modified'; 'replaced': another file is there than before; 'renamed' from or to
 * another path, also with a directory above; 'linked': a file got this name as one more; 'existed': the oldest state that
 * is kept has it.
 */
export type PathEventKind =
  | 'created'
  | 'removed'
  | 'modified'
  | 'replaced'
  | 'renamed'
  | 'linked'
  | 'existed';

export interface PathEvent {
  readonly kind: PathEventKind;
  /** From this LSN on the path is as it is told here … */
  readonly lsn: number;
  readonly timeMicroseconds: number;
  /** … and up to this one it was as it is told next. What lies between the two is one transaction if `isExact`. */
  readonly beforeLsn: number;
  readonly isExact: boolean;
  /** The path that this is about: another one than was asked for after a rename that is followed. */
  readonly path: Buffer;
  readonly from?: Buffer;
  readonly to?: Buffer;
  readonly aspects: readonly Aspect[];
  /** What is there now. */
  readonly inode?: number;
  readonly record?: InodeRecord;
  /** Of what was there before and is not now. */
  readonly origin?: { readonly uid: number; readonly pid: number };
}

type Difference = Pick<PathEvent, 'kind' | 'from' | 'to' | 'aspects' | 'inode' | 'record'>;

/** The states around a change with all that they hold, for names elsewhere. */
interface WholeStates {
  before<Result>(look: (state: StateReader) => Result): Result;
  after<Result>(look: (state: StateReader) => Result): Result;
}

/**
 * Yields what happened to a path, newest first; and undefined in between, after a piece of work of a few milliseconds.
 * Whoever does not take it to its end must `return` it: states are leased meanwhile.
 */
export function* pathLog(
  store: Store,
  path: Uint8Array,
  options: { follow: boolean; bounds: LogBounds },
): Generator<PathEvent | undefined> {
  yield* new PathLog(store, path, options.follow, options.bounds).run();
}

class PathLog {
  private readonly store: Store;
  private readonly follow: boolean;
  private readonly bounds: LogBounds;
  private names: Buffer[] = [];
  private path: Buffer = Buffer.alloc(0);

  constructor(store: Store, path: Uint8Array, follow: boolean, bounds: LogBounds) {
    this.store = store;
    this.follow = follow;
    this.bounds = bounds;
    this.setPath(path);
  }

  private setPath(path: Uint8Array): void {
    this.names = namesOfPath(path);
    this.path = Buffer.from(`/${this.names.map((name) => name.toString('latin1')).join('/')}`, 'latin1');
  }

  *run(): Generator<PathEvent | undefined> {
    const { store, bounds } = this;
    let upper = Math.min(store.durableLsn, bounds.uptoLsn);
    if (upper < store.horizonLsn) upper = store.versionBefore(upper)?.lsn ?? 0;
    for (const { lsn, timeMicroseconds } of store.versions().toReversed()) {
      // A version that has been let go meanwhile makes one stretch of two.
      if (lsn >= upper || store.version(lsn) === undefined) continue;
      if (timeMicroseconds <= bounds.untilMicroseconds) {
        const events = lsn < store.horizonLsn ? this.compared(lsn, upper) : this.exact(lsn, upper);
        for (const event of events) {
          if (event === undefined || isWithin(bounds, event.lsn, event.timeMicroseconds)) yield event;
        }
      }
      upper = lsn;
      if (isAllBefore(bounds, lsn, timeMicroseconds)) return;
    }
    const oldest = store.version(upper);
    if (oldest !== undefined && isWithin(bounds, upper, oldest.timeMicroseconds)) yield* this.existing(upper);
  }

  /** What the oldest state has. */
  private *existing(lsn: number): Generator<PathEvent> {
    const event = this.look(lsn, (state) => {
      const found = findPath(state, this.names);
      if (found === undefined) return undefined;
      const { inode } = found;
      const record = recordAt(state, inode);
      const { timeMicroseconds } = state;
      const kind = 'existed' as const;
      const { path } = this;
      return {
        kind,
        lsn,
        timeMicroseconds,
        beforeLsn: lsn,
        isExact: false,
        path,
        aspects: [],
        inode,
        record,
      };
    });
    if (event !== undefined) yield event;
  }

  private look<Result>(lsn: number, look: (state: TreeState) => Result): Result {
    const lease = this.store.leaseState(lsn);
    try {
      return look(lease.state);
    } finally {
      lease.release();
    }
  }

  private *compared(lower: number, upper: number): Generator<PathEvent | undefined> {
    const leases = [lower, upper].map((lsn) => this.store.leaseState(lsn));
    try {
      const [before, after] = leases.map(({ state }) => state) as [TreeState, TreeState];
      const whole: WholeStates = { before: (look) => look(before), after: (look) => look(after) };
      const difference = yield* this.difference(before, after, whole, undefined);
      if (difference === undefined) return;
      const { timeMicroseconds } = after;
      const { path } = this;
      yield { lsn: upper, timeMicroseconds, beforeLsn: lower, isExact: false, path, ...difference };
      if (this.follow && difference.from !== undefined) this.setPath(difference.from);
    } finally {
      for (const lease of leases) lease.release();
    }
  }

  private *exact(lower: number, upper: number): Generator<PathEvent | undefined> {
    const { store } = this;
    // The log and what it names stay while it is read.
    const hold = store.readOnly ? undefined : store.hold();
    try {
      for (let end = upper; end > lower; ) {
        const events = yield* this.scan(lower, end);
        const moved = this.follow ? events.findLastIndex(({ from }) => from !== undefined) : -1;
        yield* events.slice(Math.max(0, moved)).reverse();
        if (moved < 0) return;
        const { from, beforeLsn } = events[moved]!;
        this.setPath(from!);
        end = beforeLsn;
      }
    } finally {
      hold?.release();
    }
  }

  /** What happened in (lower, upper], oldest first. */
  private *scan(lower: number, upper: number): Generator<undefined, PathEvent[]> {
    const targets = yield* this.findTargets(lower, upper);
    if (targets === undefined) return [];
    const { store } = this;
    const events: PathEvent[] = [];
    const filter = new TouchFilter(this.names, targets, store.live.pageSize);
    const leases = [store.leaseState(lower), store.leaseState(lower)];
    const reader = store.readLog(lower, upper);
    try {
      let [before, after] = leases.map(({ state }) => state) as [TreeState, TreeState];
      let count = 0;
      for (const { payload, startLsn, endLsn, timeMicroseconds } of reader) {
        if (++count % TRANSACTIONS_AT_A_TIME === 0) yield undefined;
        filter.take(payload);
        let kept: Buffer | undefined;
        if (filter.leadsElsewhere) {
          leases.push(store.leaseState(endLsn));
          after = leases.at(-1)!.state;
        } else if (filter.isEmpty) continue;
        else {
          kept = filter.payload;
          applyTransaction(after, kept, startLsn, endLsn, timeMicroseconds);
        }
        const whole: WholeStates = {
          before: (look) => this.look(startLsn, look),
          after: (look) => this.look(endLsn, look),
        };
        const { touches, origin } = filter;
        const difference = yield* this.difference(
          before,
          after,
          whole,
          filter.leadsElsewhere ? undefined : touches,
        );
        if (difference !== undefined) {
          const facts = {
            lsn: endLsn,
            timeMicroseconds,
            beforeLsn: startLsn,
            isExact: true,
            path: this.path,
          };
          events.push({ ...facts, ...difference, ...(origin !== undefined && { origin }) });
        }
        if (kept !== undefined) applyTransaction(before, kept, startLsn, endLsn, timeMicroseconds);
        else {
          leases.push(store.leaseState(endLsn));
          before = leases.at(-1)!.state;
        }
      }
    } finally {
      reader.close();
      for (const lease of leases) lease.release();
    }
    return events;
  }

  /** The inodes that are found at the path in (lower, upper]; undefined when nothing there concerns it. */
  private *findTargets(lower: number, upper: number): Generator<undefined, Set<number> | undefined> {
    const { store } = this;
    // The root has no entry that would lead there.
    const targets = new Set<number>(this.names.length === 0 ? [ROOT_INODE] : []);
    const filter = new TouchFilter(this.names, targets, store.live.pageSize);
    const leases = [store.leaseState(lower)];
    const reader = store.readLog(lower, upper);
    try {
      let { state } = leases[0]!;
      const add = (): void => {
        const found = findPath(state, this.names);
        if (found !== undefined) targets.add(found.inode);
      };
      add();
      let isTouched = false;
      let count = 0;
      for (const { payload, startLsn, endLsn, timeMicroseconds } of reader) {
        if (++count % TRANSACTIONS_AT_A_TIME === 0) yield undefined;
        filter.take(payload);
        if (filter.leadsElsewhere) {
          leases.push(store.leaseState(endLsn));
          state = leases.at(-1)!.state;
        } else if (filter.isEmpty) continue;
        else if (filter.touchesNames) {
          applyTransaction(state, filter.payload, startLsn, endLsn, timeMicroseconds);
        }
        isTouched = true;
        add();
      }
      return isTouched ? targets : undefined;
    } finally {
      reader.close();
      for (const lease of leases) lease.release();
    }
  }

  /** How two states differ at the path; with `touches` in nothing but what these say. */
  private *difference(
    before: StateReader,
    after: StateReader,
    whole: WholeStates,
    touches: ReadonlyMap<number, InodeTouch> | undefined,
  ): Generator<undefined, Difference | undefined> {
    const old = findPath(before, this.names);
    const now = findPath(after, this.names);
    if (now === undefined) return old === undefined ? undefined : this.gone(after, old, whole);
    const { inode } = now;
    const record = recordAt(after, inode);
    if (old === undefined) return { ...this.come(before, now, whole), aspects: [], inode, record };
    if (old.inode !== inode) return { kind: 'replaced', aspects: [], inode, record };
    const aspects =
      touches === undefined
        ? yield* aspectsBetween(before, after, inode)
        : yield* touchedAspects(before, after, inode, touches.get(inode) ?? UNTOUCHED);
    return aspects.length === 0 ? undefined : { kind: 'modified', aspects, inode, record };
  }

  /** Something is at the path where nothing was. */
  private come(
    before: StateReader,
    { inode, link }: FoundPath,
    whole: WholeStates,
  ): Pick<Difference, 'kind' | 'from'> {
    const old = recordOf(before, inode);
    if (old === undefined || old.links === 0) return { kind: 'created' };
    const links = whole.after((state) => linksOf(state, inode));
    return whole.before((state) => {
      const oldLinks = linksOf(state, inode);
      const has = (key: Buffer): boolean => links.some((other) => other.equals(key));
      // The same entry, when a directory above it was renamed.
      const moved = oldLinks.find((key) => key.equals(link!)) ?? oldLinks.find((key) => !has(key));
      const from = moved ?? oldLinks[0];
      const kind = moved === undefined ? 'linked' : 'renamed';
      return from === undefined ? { kind: 'created' } : { kind, from: new PathFinder(state).ofLink(from) };
    });
  }

  /** Nothing is at the path where something was. */
  private gone(after: StateReader, { inode, link }: FoundPath, whole: WholeStates): Difference {
    const removed: Difference = { kind: 'removed', aspects: [] };
    const now = recordOf(after, inode);
    if (now === undefined || now.links === 0) return removed;
    const links = whole.before((state) => linksOf(state, inode));
    return whole.after((state) => {
      const nowLinks = linksOf(state, inode);
      const had = (key: Buffer): boolean => links.some((other) => other.equals(key));
      const moved = nowLinks.find((key) => key.equals(link!)) ?? nowLinks.find((key) => !had(key));
      if (moved === undefined) return removed;
      return { kind: 'renamed', aspects: [], to: new PathFinder(state).ofLink(moved) };
    });
  }
}

/** @throws LsnfsError CORRUPT_RECORD when an entry leads to no inode */
function recordAt(state: StateReader, inode: number): InodeRecord {
  const record = recordOf(state, inode);
  if (record !== undefined) return record;
  throw new LsnfsError('CORRUPT_RECORD', `an entry leads to inode ${inode}, which does not exist`, { inode });
}

/** In what an inode differs that both states have, where only what was touched can. */
function* touchedAspects(
  before: StateReader,
  after: StateReader,
  inode: number,
  touch: InodeTouch,
): Generator<undefined, Aspect[]> {
  const old = recordAt(before, inode);
  const now = recordAt(after, inode);
  const aspects: Aspect[] = [];
  if (now.isDirectory) {
    const differs = (key: Buffer): boolean =>
      !isSameValue(before.namespace.get(key), after.namespace.get(key));
    if (touch.entries.some(differs)) aspects.push('entries');
  } else {
    if (yield* hasOtherContent(before, after, inode, old, now, touch)) aspects.push('content');
    if (old.size !== now.size) aspects.push('size');
    if (old.links !== now.links) aspects.push('links');
  }
  const xattrs = touch.xattrs.some((key) => !isSameValue(before.inodes.get(key), after.inodes.get(key)));
  aspects.push(...attributeAspects(old, now, xattrs));
  return aspects;
}

function isSameValue(a: Uint8Array | undefined, b: Uint8Array | undefined): boolean {
  return a === undefined || b === undefined ? a === b : Buffer.compare(a, b) === 0;
}

function* hasOtherContent(
  before: StateReader,
  after: StateReader,
  inode: number,
  old: InodeRecord,
  now: InodeRecord,
  { ranges }: InodeTouch,
): Generator<undefined, boolean> {
  const { size } = now;
  if (old.size !== size) return true;
  // Content within the record has no ranges.
  const isInline = ((old.flags | now.flags) & FLAG_INLINE) !== 0;
  for (const [start, end] of isInline ? [[0, size] as const] : ranges) {
    const last = Math.min(end, size);
    if (start < last && !(yield* isSameContent(before, after, old, now, inode, start, last))) return true;
  }
  return false;
}
