/**
 * Retention: which versions are kept, and why.
 *
 * Within the window (`keepWindowMs` back from now) every state can be opened: its base is the newest version from
 * before the window, and the log is kept from there on. Of the versions inside it only those are kept that replay
 * needs so as never to go through more than THIN_LOG_BYTES of log. Before the window single versions are kept, as restic's
 * `forget` does: the last n of all, and the last one of each of the last n hours, days, weeks, months, years that
 * have one. Snapshots are kept until they are deleted, versions that somebody has open until they are closed, and what is
 * younger than `minRetentionMs` in any case.
 *
 * All calendar boundaries are in UTC, as all times that are shown are. Nothing here touches the store: `decide` is a
 * function of what there is.
 */
import { assert } from '../errors.ts';
import type { Settings } from '../store/settings.ts';

/** Log between two kept versions of the window, in bytes: opening a state replays no more. */
export const THIN_LOG_BYTES = 8 * 1024 * 1024;

export type RetentionSettings = Pick<
  Settings,
  | 'keepWindowMs'
  | 'keepLast'
  | 'keepHourly'
  | 'keepDaily'
  | 'keepWeekly'
  | 'keepMonthly'
  | 'keepYearly'
  | 'minRetentionMs'
>;

export interface RetainedVersion {
  readonly lsn: number;
  readonly timeMicroseconds: number;
  /** The first one after a restore: states behind it cannot be replayed from an older one. */
  readonly restored: boolean;
}

export interface RetentionInput {
  /** All versions that can be opened, by LSN; at least one. */
  readonly versions: readonly RetainedVersion[];
  readonly snapshots: readonly { readonly name: string; readonly lsn: number }[];
  /** LSNs of versions that open states are built on. */
  readonly pinned: readonly number[];
  /** The base that the window has now: it never moves back. */
  readonly baseLsn: number;
  /** Where the window is to begin at the latest, for want of space; 0 without. */
  readonly windowNotBefore: number;
  readonly nowMicroseconds: number;
}

export type RetentionReason =
  | { readonly kind: 'newest' | 'base' | 'window' | 'restored' | 'open' | 'young' }
  | { readonly kind: 'snapshot'; readonly name: string }
  | { readonly kind: 'last' | 'hourly' | 'daily' | 'weekly' | 'monthly' | 'yearly'; readonly period: string };

export interface RetentionDecision {
  /** The version at which the window begins. */
  readonly baseLsn: number;
  /** By LSN: why a version is kept. What is not in it goes. */
  readonly kept: ReadonlyMap<number, readonly RetentionReason[]>;
  readonly dropped: readonly number[];
}

const PERIODS = [
  ['hourly', 'keepHourly', (time: Date) => time.toISOString().slice(0, 13)],
  ['daily', 'keepDaily', (time: Date) => time.toISOString().slice(0, 10)],
  ['weekly', 'keepWeekly', isoWeek],
  ['monthly', 'keepMonthly', (time: Date) => time.toISOString().slice(0, 7)],
  ['yearly', 'keepYearly', (time: Date) => time.toISOString().slice(0, 4)],
] as const;

/** Decides for every version whether it is kept. */
export function decide(input: RetentionInput, settings: RetentionSettings): RetentionDecision {
  const { versions, nowMicroseconds } = input;
  assert(versions.length > 0, 'a store has at least one version');
  const kept = new Map<number, RetentionReason[]>();
  const keep = (lsn: number, reason: RetentionReason): void => {
    const reasons = kept.get(lsn);
    if (reasons === undefined) kept.set(lsn, [reason]);
    else reasons.push(reason);
  };
  const baseIndex = findBase(input, settings);
  const base = versions[baseIndex]!;
  keep(versions.at(-1)!.lsn, { kind: 'newest' });
  keep(base.lsn, { kind: 'base' });
  keepWithinWindow(versions.slice(baseIndex), keep);
  for (const { name, lsn } of input.snapshots) keep(lsn, { kind: 'snapshot', name });
  for (const lsn of input.pinned) keep(lsn, { kind: 'open' });
  const young = nowMicroseconds - settings.minRetentionMs * 1000;
  for (const { lsn, timeMicroseconds } of versions) {
    if (timeMicroseconds > young) keep(lsn, { kind: 'young' });
  }
  keepByCalendar(versions, settings, keep);
  const existing = new Set(versions.map(({ lsn }) => lsn));
  for (const lsn of kept.keys()) if (!existing.has(lsn)) kept.delete(lsn);
  const dropped = versions.filter(({ lsn }) => !kept.has(lsn)).map(({ lsn }) => lsn);
  return { baseLsn: base.lsn, kept, dropped };
}

/** Index of the newest version that is not younger than the window, and not before the base that it has. */
function findBase(input: RetentionInput, settings: RetentionSettings): number {
  const { versions } = input;
  const start = Math.max(input.nowMicroseconds - settings.keepWindowMs * 1000, input.windowNotBefore);
  let index = 0;
  for (const [i, { lsn, timeMicroseconds }] of versions.entries()) {
    if (lsn <= input.baseLsn || timeMicroseconds <= start) index = i;
  }
  return index;
}

/** Keeps of the window what replay needs: `versions` begins with the base. */
function keepWithinWindow(
  versions: readonly RetainedVersion[],
  keep: (lsn: number, reason: RetentionReason) => void,
): void {
  let last = versions[0]!.lsn;
  for (const [i, { lsn, restored }] of versions.entries()) {
    if (i === 0) continue;
    const next = versions[i + 1];
    const needed = next !== undefined && next.lsn - last > THIN_LOG_BYTES;
    if (restored) keep(lsn, { kind: 'restored' });
    else if (needed) keep(lsn, { kind: 'window' });
    else continue;
    last = lsn;
  }
}

/** Keeps the last version of each of the newest periods, and the newest versions of all. */
function keepByCalendar(
  versions: readonly RetainedVersion[],
  settings: RetentionSettings,
  keep: (lsn: number, reason: RetentionReason) => void,
): void {
  const newestFirst = versions.toReversed();
  for (const [i, { lsn }] of newestFirst.slice(0, settings.keepLast).entries()) {
    keep(lsn, { kind: 'last', period: String(i + 1) });
  }
  for (const [kind, setting, nameOf] of PERIODS) {
    let left = settings[setting];
    let before = '';
    for (const { lsn, timeMicroseconds } of newestFirst) {
      if (left === 0) break;
      const period = nameOf(new Date(Math.floor(timeMicroseconds / 1000)));
      if (period === before) continue;
      keep(lsn, { kind, period });
      before = period;
      left--;
    }
  }
}

/** The week of ISO 8601, like "2026-W48". */
function isoWeek(time: Date): string {
  // The Thursday of a week is in the year that the week belongs to.
  const thursday = new Date(time.getTime() + (3 - ((time.getUTCDay() + 6) % 7)) * 86_400_000);
  const year = thursday.getUTCFullYear();
  const week = Math.floor((thursday.getTime() - Date.UTC(year, 0, 1)) / (7 * 86_400_000)) + 1;
  return `${year}-W${String(week).padStart(2, '0')}`;
}
