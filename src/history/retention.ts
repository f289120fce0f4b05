/**
 * Retention: which versions are kept, and why.
 *
 * Within the window (`keepWindowMs` back from now) every state can be opened: its base is the newest version from
 * before the window, and the log is kept from there on. Of the versions inside it only those are kept that replay
 * needs so as never to go through more than THIN_LOG_BYTES of log, and enough for its base to follow: without a version
 * now and then, none would ever be old enough to be the next base while changes are few and checkpoints many. Before the window single versions are kept, as restic's
 * `forget` does: the last n of all, and the last one of each of the last n hours, days, weeks, months, years that
 * have one. Snapshots are kept until they are deleted, versions that somebody has open until they are closed, and what is
 * younger than `minRetentionMs` in any case.
 *
 * All calendar boundaries are in UTC, as all times that are shown are. Nothing here touches the store: `decide` is a
 * function of what there is. With thousands of versions it takes a while, so it comes in steps as well.
 */
import { assert } from '../errors.ts';
import type { Settings } from '../store/settings.ts';

/** Log between two kept versions of the window, in bytes: opening a state replays no more. */
export const THIN_LOG_BYTES = 8 * 1024 * 1024;

/** Kept versions of the window lie at most so much of it apart, where there are that many. */
const WINDOW_PARTS = 8;

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

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/** Kinds of calendar periods, their settings, the number of the period that a time (in milliseconds) lies in, and its name. */
const PERIODS = [
  [
    'hourly',
    'keepHourly',
    (ms: number) => Math.floor(ms / HOUR_MS),
    (time: Date) => time.toISOString().slice(0, 13),
  ],
  [
    'daily',
    'keepDaily',
    (ms: number) => Math.floor(ms / DAY_MS),
    (time: Date) => time.toISOString().slice(0, 10),
  ],
  // The first of January 1970 was a Thursday.
  ['weekly', 'keepWeekly', (ms: number) => Math.floor((Math.floor(ms / DAY_MS) + 3) / 7), isoWeek],
  ['monthly', 'keepMonthly', monthNumber, (time: Date) => time.toISOString().slice(0, 7)],
  [
    'yearly',
    'keepYearly',
    (ms: number) => new Date(ms).getUTCFullYear(),
    (time: Date) => time.toISOString().slice(0, 4),
  ],
] as const;

/** Versions or snapshots looked at between two yields. */
const STEP = 128;

type Keep = (lsn: number, reason: RetentionReason) => void;

/** Decides for every version whether it is kept. */
export function decide(input: RetentionInput, settings: RetentionSettings): RetentionDecision {
  const steps = decideInSteps(input, settings);
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
  }
}

/** The same, in steps of bounded work. */
export function* decideInSteps(
  input: RetentionInput,
  settings: RetentionSettings,
): Generator<void, RetentionDecision> {
  const { versions, nowMicroseconds } = input;
  assert(versions.length > 0, 'a store has at least one version');
  const kept = new Map<number, RetentionReason[]>();
  const keep: Keep = (lsn, reason) => {
    const reasons = kept.get(lsn);
    if (reasons === undefined) kept.set(lsn, [reason]);
    else reasons.push(reason);
  };
  const baseIndex = findBase(input, settings);
  const base = versions[baseIndex]!;
  keep(versions.at(-1)!.lsn, { kind: 'newest' });
  keep(base.lsn, { kind: 'base' });
  const apartMicroseconds = (settings.keepWindowMs * 1000) / WINDOW_PARTS;
  yield* keepWithinWindow(versions, baseIndex, apartMicroseconds, keep);
  for (const [i, { name, lsn }] of input.snapshots.entries()) {
    keep(lsn, { kind: 'snapshot', name });
    if (i % STEP === 0) yield;
  }
  for (const lsn of input.pinned) keep(lsn, { kind: 'open' });
  const young = nowMicroseconds - settings.minRetentionMs * 1000;
  for (let i = versions.length - 1; i >= 0 && versions[i]!.timeMicroseconds > young; i--) {
    keep(versions[i]!.lsn, { kind: 'young' });
    if (i % STEP === 0) yield;
  }
  yield* keepByCalendar(versions, settings, keep);
  const existing = new Set<number>();
  const dropped: number[] = [];
  for (const [i, { lsn }] of versions.entries()) {
    existing.add(lsn);
    if (!kept.has(lsn)) dropped.push(lsn);
    if (i % STEP === 0) yield;
  }
  for (const lsn of kept.keys()) if (!existing.has(lsn)) kept.delete(lsn);
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

/** Keeps of the window what replay needs: it begins with the base. */
function* keepWithinWindow(
  versions: readonly RetainedVersion[],
  baseIndex: number,
  apartMicroseconds: number,
  keep: Keep,
): Generator<void> {
  let last = versions[baseIndex]!;
  for (let i = baseIndex + 1; i < versions.length; i++) {
    if (i % STEP === 0) yield;
    const { lsn, restored } = versions[i]!;
    const next = versions[i + 1];
    const needed =
      next !== undefined &&
      (next.lsn - last.lsn > THIN_LOG_BYTES ||
        next.timeMicroseconds - last.timeMicroseconds > apartMicroseconds);
    if (restored) keep(lsn, { kind: 'restored' });
    else if (needed) keep(lsn, { kind: 'window' });
    else continue;
    last = versions[i]!;
  }
}

/** Keeps the last version of each of the newest periods, and the newest versions of all. */
function* keepByCalendar(
  versions: readonly RetainedVersion[],
  settings: RetentionSettings,
  keep: Keep,
): Generator<void> {
  const oldestOfLast = Math.max(0, versions.length - settings.keepLast);
  for (let i = versions.length - 1; i >= oldestOfLast; i--) {
    keep(versions[i]!.lsn, { kind: 'last', period: String(versions.length - i) });
    if (i % STEP === 0) yield;
  }
  for (const [kind, setting, numberOf, nameOf] of PERIODS) {
    let left = settings[setting];
    let before = Number.NaN;
    for (let i = versions.length - 1; i >= 0 && left > 0; i--) {
      if (i % STEP === 0) yield;
      const { lsn, timeMicroseconds } = versions[i]!;
      const ms = Math.floor(timeMicroseconds / 1000);
      const period = numberOf(ms);
      if (period === before) continue;
      keep(lsn, { kind, period: nameOf(new Date(ms)) });
      before = period;
      left--;
    }
  }
}

function monthNumber(ms: number): number {
  const time = new Date(ms);
  return time.getUTCFullYear() * 12 + time.getUTCMonth();
}

/** The week of ISO 8601, like "2026-W48". */
function isoWeek(time: Date): string {
  // The Thursday of a week is in the year that the week belongs to.
  const thursday = new Date(time.getTime() + (3 - ((time.getUTCDay() + 6) % 7)) * 86_400_000);
  const year = thursday.getUTCFullYear();
  const week = Math.floor((thursday.getTime() - Date.UTC(year, 0, 1)) / (7 * 86_400_000)) + 1;
  return `${year}-W${String(week).padStart(2, '0')}`;
}
