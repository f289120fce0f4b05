/** What the parts of the history benchmark share: the columns of its table, and what each part is given. */
import * as fs from 'node:fs';
import type { CleanUp } from './measure.ts';
import { OWN, type Report } from './report.ts';
import type { Turns, Work } from './turns.ts';

export const CP = 'cp';
export const RSYNC = 'rsync';
export const BTRFS = 'btrfs';
export const RESTIC = 'restic';
export const BORG = 'borg';
/** lsnfs itself, in the other case that the row's title names. */
export const OTHERWISE = 'lsnfs otherwise';
export const HISTORY_SYSTEMS = [OWN, CP, RSYNC, BTRFS, RESTIC, BORG, OTHERWISE];

export interface HistoryBench {
  readonly report: Report;
  readonly turns: Turns;
  /** A directory for what is measured. */
  readonly place: string;
  readonly rounds: number;
  readonly seed: number;
  readonly isQuick: boolean;
  readonly cleanUp: CleanUp;
  readonly say: (text: string) => void;
}

/** A peer's work, if what it works on is there; otherwise why not. */
export function workOn<On extends object>(on: On | string, work: (on: On) => Work): Work | string {
  return typeof on === 'string' ? on : work(on);
}

/** What a set-up makes, or the reason why there is none. */
export function attempt<Made extends object>(whyNot: string | undefined, make: () => Made): Made | string {
  if (whyNot !== undefined) return whyNot;
  try {
    return make();
  } catch (error) {
    return `cannot be set up: ${(error as Error).message}`;
  }
}

export function remove(path: string): void {
  fs.rmSync(path, { recursive: true, force: true });
}
