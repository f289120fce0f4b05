/**
 * What is kept of the past and why, what can be restored to, and what would come free: reports for people and programs.
 *
 * A report decides as retention itself does (`History.decideRetention`), at the same moment and of the same store, and
 * changes nothing but for states that nobody uses any more, which are closed.
 */
import type { History } from '../history/history.ts';
import type { RetentionDecision, RetentionReason } from '../history/retention.ts';
import { formatTime } from '../history/targets.ts';
import { settingText } from '../store/setting-text.ts';
import type { Store } from '../store/store.ts';

/** A moment of the store; times are RFC 3339. */
export interface Moment {
  readonly lsn: number;
  readonly time: string;
}

export interface NamedVersion extends Moment {
  /** Of the snapshots that are this version. */
  readonly names: readonly string[];
}

export interface KeptVersion extends NamedVersion {
  /** Why it is kept, in words; all reasons. */
  readonly reasons: readonly string[];
}

export interface RetentionReport {
  /** Whether what would go has been let go. */
  readonly applied: boolean;
  /** From here on every state can be opened. */
  readonly horizon: Moment;
  readonly kept: readonly KeptVersion[];
  readonly dropped: readonly Moment[];
}

export interface RangeReport {
  /** Every state between these two can be restored to. */
  readonly from: Moment;
  readonly to: Moment;
  /** The single versions before `from`; between them there is nothing. */
  readonly versions: readonly NamedVersion[];
  /** The LSNs that lie between two versions, or between the last and `from`; the bounds are not in it. */
  readonly gaps: readonly { readonly after: number; readonly before: number }[];
  /** How many versions are kept, also within the range. */
  readonly versionCount: number;
}

/** What keeps the history from being shorter. */
export interface HorizonReport {
  readonly horizon: Moment & { readonly why: string };
  readonly oldest: KeptVersion;
  /** States that somebody has open. */
  readonly open: readonly { readonly lsn: number; readonly by: readonly string[] }[];
}

interface Past {
  readonly history: History;
  readonly store: Store;
}

/**
 * What is kept, and what goes with it or has gone since `before` was listed. `applied` says whether what should go
 * goes with it.
 */
export function reportRetention(
  past: Past,
  decision: RetentionDecision,
  applied: boolean,
  before: readonly Moment[] = [],
): RetentionReport {
  const reasons = reasonsInWords(past, decision.kept);
  const kept: KeptVersion[] = [];
  const known = momentsOf(past);
  const present = new Set(known.map(({ lsn }) => lsn));
  const dropped = before.filter(({ lsn }) => !present.has(lsn)).map(({ lsn, time }) => ({ lsn, time }));
  const isDropped = new Set(decision.dropped);
  let horizon: Moment | undefined;
  for (const version of known) {
    if (version.lsn === decision.baseLsn) horizon = { lsn: version.lsn, time: version.time };
    if (isDropped.has(version.lsn)) dropped.push({ lsn: version.lsn, time: version.time });
    else kept.push({ ...version, reasons: reasons.get(version.lsn) ?? [] });
  }
  return { applied, horizon: horizon!, kept, dropped };
}

/** What can be restored to. */
export function reportRange(past: Past): RangeReport {
  const { store, history } = past;
  const { oldest, newest } = history.range();
  const all = momentsOf(past);
  const versions = all.filter(({ lsn }) => lsn < oldest);
  const gaps = versions.map(({ lsn }, i) => ({ after: lsn, before: versions[i + 1]?.lsn ?? oldest }));
  return {
    from: { lsn: oldest, time: formatTime(store.horizonTimeMicroseconds) },
    to: { lsn: newest, time: formatTime(store.live.timeMicroseconds) },
    versions,
    gaps,
    versionCount: all.length,
  };
}

/** Who or what holds the history that there is. */
export function reportHorizon(past: Past, decision: RetentionDecision): HorizonReport {
  const { kept, horizon } = reportRetention(past, decision, false);
  const held = past.history.heldStates().map(({ lsn, holders }) => ({ lsn, by: holders }));
  return { horizon: { ...horizon, why: horizonReason(past, horizon.lsn) }, oldest: kept[0]!, open: held };
}

function horizonReason({ history, store }: Past, lsn: number): string {
  const window = `keep_window ${settingText('keepWindowMs', store.settings.keepWindowMs)}`;
  if (history.isWindowShortened)
    return `keep_size ${settingText('keepSizeBytes', store.settings.keepSizeBytes)}`;
  if (store.versions()[0]?.lsn === lsn) return `${window}; nothing older is left`;
  return window;
}

/** All versions with the names that they have. */
export function momentsOf({ store }: Past): NamedVersion[] {
  const names = new Map<number, string[]>();
  for (const { lsn, name } of store.snapshots()) names.set(lsn, [...(names.get(lsn) ?? []), name]);
  return store.versions().map(({ lsn, timeMicroseconds }) => ({
    lsn,
    time: formatTime(timeMicroseconds),
    names: names.get(lsn) ?? [],
  }));
}

/** Why versions are kept, in words, by LSN; each reason once. */
export function reasonsInWords(
  past: Past,
  kept: Iterable<readonly [number, readonly RetentionReason[]]>,
): Map<number, string[]> {
  const holders = holdersOf(past);
  const { minRetentionMs } = past.store.settings;
  const inWords = (reason: RetentionReason, lsn: number): string => {
    switch (reason.kind) {
      case 'newest':
        return 'newest';
      case 'base':
        return 'window begins';
      case 'window':
        return 'window';
      case 'restored':
        return 'first after a restore';
      case 'young':
        return `younger than min_retention ${settingText('minRetentionMs', minRetentionMs)}`;
      case 'open':
        return `open by ${holders.get(lsn)?.join(', ') ?? 'a program'}`;
      case 'snapshot':
        return nameOfSnapshot(past, reason.name);
      default:
        return `${reason.kind} ${reason.period}`;
    }
  };
  return new Map(
    [...kept].map(([lsn, reasons]) => [lsn, [...new Set(reasons.map((reason) => inWords(reason, lsn)))]]),
  );
}

/** A snapshot with who holds it, if anybody does. */
function nameOfSnapshot({ store }: Past, name: string): string {
  const holds = store.snapshot(name)?.holds ?? [];
  return holds.length === 0 ? `snapshot ${name}` : `snapshot ${name}, held by ${holds.join(', ')}`;
}

/** Who has a state open that is, or is built on, a version. */
function holdersOf({ history, store }: Past): Map<number, string[]> {
  const holders = new Map<number, string[]>();
  for (const held of history.heldStates()) {
    const base = store.versionBefore(held.lsn)?.lsn ?? held.lsn;
    holders.set(base, [...new Set([...(holders.get(base) ?? []), ...held.holders])]);
  }
  return holders;
}
