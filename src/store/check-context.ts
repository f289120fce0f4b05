/**
 * What the parts of a check share: where the damages go, how far it is, and when a step has been long enough.
 */
import type { DamageList } from './check-damage.ts';

/** Pages that are read or looked at between two yields. */
const STEP_PAGES = 128;

export type CheckPhase = 'control' | 'pages' | 'space' | 'log' | 'structure' | 'paths' | 'done';

/** How far a check is. */
export interface CheckProgress {
  phase: CheckPhase;
  /** Pages of the data file that were verified, of those that are in use. */
  pages: number;
  pagesTotal: number;
  /** Versions whose pages, then whose structure, have been verified in this phase. */
  versions: number;
  versionsTotal: number;
  /** Bytes read from the store. */
  bytesRead: number;
  /** Bytes of the log that were read, of those there are. */
  logBytes: number;
  logBytesTotal: number;
  damages: number;
}

export class CheckContext {
  readonly damages: DamageList;
  readonly progress: CheckProgress = {
    phase: 'control',
    pages: 0,
    pagesTotal: 0,
    versions: 0,
    versionsTotal: 0,
    bytesRead: 0,
    logBytes: 0,
    logBytesTotal: 0,
    damages: 0,
  };
  /** What could not be verified, and why, a sentence each. */
  readonly notes: string[] = [];
  private work = 0;

  constructor(damages: DamageList) {
    this.damages = damages;
  }

  /** Counts work, in pages. Returns whether it is time to yield. */
  spend(pages: number): boolean {
    this.work += pages;
    if (this.work < STEP_PAGES) return false;
    this.work = 0;
    return true;
  }

  /** Pages were read and verified. Returns whether it is time to yield. */
  verified(pages: number, pageSize: number): boolean {
    this.progress.pages += pages;
    this.progress.bytesRead += pages * pageSize;
    return this.spend(pages);
  }

  note(message: string): void {
    if (!this.notes.includes(message)) this.notes.push(message);
  }
}
