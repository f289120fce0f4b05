/** The states of a store that have a name or are kept as versions, and what there is to know of one. */
import type { SnapshotRow } from '../encoding/catalog.ts';
import type { History } from '../history/history.ts';
import { isWithin, type LogBounds } from '../history/log-bounds.ts';
import { formatTime, type Target } from '../history/targets.ts';
import type { Store } from '../store/store.ts';
import { type KeptVersion, reportRetention } from './retention-report.ts';
import { inTurns } from './turns.ts';

/** How long something is counted in one turn of the event loop, in milliseconds. */
const TURN_MS = 4;

/** A snapshot of a state. */
export interface StateName {
  readonly name: string;
  /** RFC 3339. */
  readonly createdAt: string;
  readonly message?: string;
  /** Tags of who holds it, if there are any. */
  readonly holds?: readonly string[];
}

/** 'latest': the newest state. 'restore': the state that a restore made. A state with names is a 'snapshot'. */
export type StateKind = 'latest' | 'snapshot' | 'restore' | 'version';

export interface StoreState {
  readonly kind: StateKind;
  readonly lsn: number;
  /** RFC 3339. */
  readonly time: string;
  readonly names: readonly StateName[];
  /** Why it is kept, in words. Empty: it goes when it is next decided. */
  readonly reasons: readonly string[];
}

export interface StateReport {
  /** Of the last transaction of the state. */
  readonly lsn: number;
  readonly time: string;
  /** Whether it exists as pages. Otherwise it is made from `base` and the log behind that. */
  readonly isVersion: boolean;
  readonly names: readonly StateName[];
  /** Why it is kept, in words. */
  readonly reasons: readonly string[];
  /** Who has it open. */
  readonly openBy: readonly string[];
  /** The version that it is, or is made from. */
  readonly base: { readonly lsn: number; readonly rootPage: number; readonly logBytes: number };
  /** Inodes of every kind, the root directory not counted. */
  readonly files: number;
  readonly pageSize: number;
  /** Of trees (the root page included), and of file data. */
  readonly pages: { readonly trees: number; readonly data: number };
  readonly bytes: number;
  /** What no other state holds, and would come free if this were not kept; null where it cannot go by itself. */
  readonly alone: { readonly pages: number; readonly bytes: number } | null;
}

interface Past {
  readonly history: History;
  readonly store: Store;
}

/** The names of all states that have some, by LSN. */
function namesByLsn(store: Store): Map<number, StateName[]> {
  const names = new Map<number, StateName[]>();
  for (const row of store.snapshots()) {
    const known = names.get(row.lsn);
    if (known === undefined) names.set(row.lsn, [nameOf(row)]);
    else known.push(nameOf(row));
  }
  return names;
}

function nameOf({ name, createdMicroseconds, message, holds }: SnapshotRow): StateName {
  return {
    name,
    createdAt: formatTime(createdMicroseconds),
    ...(message !== '' && { message }),
    ...(holds.length > 0 && { holds }),
  };
}

/** Yields the newest state, the named ones and the versions, newest first. */
export function* statesOf(past: Past, bounds: LogBounds): Generator<StoreState | undefined> {
  const { store, history } = past;
  const states = new Map<number, StoreState>();
  const { newest } = history.range();
  const { timeMicroseconds } = store.live;
  const times = new Map<number, number>([[newest, timeMicroseconds]]);
  const reasons = reasonsOf(past);
  const names = namesByLsn(store);
  const put = (lsn: number, kind: StateKind): void => {
    const time = formatTime(times.get(lsn)!);
    states.set(lsn, { kind, lsn, time, names: names.get(lsn) ?? [], reasons: reasons.get(lsn) ?? [] });
  };
  put(newest, 'latest');
  for (const { lsn, timeMicroseconds: time, restored } of store.versions()) {
    times.set(lsn, time);
    if (lsn <= newest) put(lsn, restored ? 'restore' : 'version');
  }
  for (const { lsn, createdMicroseconds } of store.snapshots()) {
    if (!times.has(lsn)) times.set(lsn, createdMicroseconds);
    if (states.get(lsn)?.kind !== 'restore') put(lsn, 'snapshot');
  }
  const newestFirst = [...states.values()].sort((a, b) => b.lsn - a.lsn);
  for (const state of newestFirst) if (isWithin(bounds, state.lsn, times.get(state.lsn)!)) yield state;
}

function reasonsOf(past: Past): Map<number, readonly string[]> {
  const { kept } = reportRetention(past, past.history.decideRetention(), false);
  return new Map(kept.map(({ lsn, reasons }: KeptVersion) => [lsn, reasons]));
}

/**
 * What there is to know of a state.
 * @throws LsnfsError NO_SUCH_STATE, NO_SUCH_SNAPSHOT, INVALID_INPUT, CORRUPT_PAGE, …
 */
export async function reportState(
  past: Past & { commit(): Promise<unknown> },
  target: Target | string,
): Promise<StateReport> {
  const { store, history } = past;
  // What was changed since the last checkpoint has no version yet, and a snapshot may still wait for its own.
  if (!store.readOnly && store.failure === undefined) await store.checkpoint();
  const { lsn } = history.resolve(history.typedTarget(target));
  // States that are kept open for convenience only must not count as users of it.
  history.releaseIdle();
  const openBy = history.heldStates().find((held) => held.lsn === lsn)?.holders ?? [];
  const version = store.version(lsn);
  const reasons = reasonsOf(past).get(lsn) ?? [];
  const alone = version === undefined ? null : await aloneIn(store, lsn);
  const lease = store.leaseState(lsn);
  try {
    const { state } = lease;
    const base = store.versionBefore(lsn)!;
    const trees = state.trees().reduce((sum, { pageCount }) => sum + pageCount, 1);
    const data = state.counters.dataPages;
    const { pageSize } = state;
    return {
      lsn: state.lsn,
      time: formatTime(state.timeMicroseconds),
      isVersion: version !== undefined,
      names: namesByLsn(store).get(lsn) ?? [],
      reasons,
      openBy,
      base: { lsn: base.lsn, rootPage: base.root.number, logBytes: state.lsn - base.lsn },
      files: Math.max(0, state.counters.inodes - 1),
      pageSize,
      pages: { trees, data },
      bytes: (trees + data) * pageSize,
      alone: alone === null ? null : { pages: alone, bytes: alone * pageSize },
    };
  } finally {
    lease.release();
  }
}

/** Pages that only one version holds; null of the newest, which the live state is built on. */
async function aloneIn(store: Store, lsn: number): Promise<number | null> {
  const versions = store.versions().map((row) => row.lsn);
  if (lsn === versions.at(-1)) return null;
  const others = versions.filter((other) => other !== lsn);
  const freed = async (kept: readonly number[]): Promise<number> =>
    (await inTurns(store.measureRetention(store.horizonLsn, kept), TURN_MS)).pages;
  // What waits to be reclaimed already is in both.
  const [without, now] = [await freed(others), await freed(versions)];
  return Math.max(0, without - now);
}
