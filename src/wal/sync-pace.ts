/**
 * Whether a sync is made on the thread that asks for it, or handed to another.
 *
 * A hand-over and its return cost some 0.1 ms, as much as a sync of a fast disk; on a slow one a sync in place would
 * keep the thread from everything else. So syncs are made in place as long as they are short on the average. How bad one that is
 * not short is depends on who stands still for it.
 */

/** Says whether a sync is made in place. */
export interface Pace {
  readonly isInPlace: boolean;
  /** How long a sync took, in milliseconds. */
  note(milliseconds: number): void;
}

export interface PaceOptions {
  /** A sync of at most so long on the average is worth making in place; elsewhere one that takes no longer promises that. */
  readonly shortMs: number;
  /** After a sync in place that took longer than so much, `penance` syncs go elsewhere, whatever they take. */
  readonly longMs: number;
  readonly penance: number;
}

/** Of a program's own thread: whatever else it has to do waits. */
export const PROGRAM_PACE: PaceOptions = { shortMs: 0.5, longMs: 2, penance: 256 };
/** Of a thread that syncs for the only one who asks it for anything: the average alone counts. */
export const LONE_CLIENT_PACE: PaceOptions = { shortMs: 1, longMs: Number.POSITIVE_INFINITY, penance: 0 };

/** What one sync can add to the average: so a long one is forgotten after some twenty short ones. */
const NOTED_MAXIMUM_MS = 10;

export class SyncPace implements Pace {
  private readonly options: PaceOptions;
  private readonly isPossible: boolean;
  private inPlace = false;
  /** Moving average, in milliseconds. */
  private average = Number.NaN;
  private penance = 0;

  /** `isPossible`: the files are real ones. */
  constructor(isPossible: boolean, options: PaceOptions) {
    this.isPossible = isPossible;
    this.options = options;
  }

  get isInPlace(): boolean {
    return this.inPlace;
  }

  note(milliseconds: number): void {
    if (!this.isPossible) return;
    const { shortMs, longMs, penance } = this.options;
    const noted = Math.min(milliseconds, NOTED_MAXIMUM_MS);
    this.average = Number.isNaN(this.average) ? noted : this.average * 0.9 + noted * 0.1;
    if (this.inPlace && milliseconds > longMs) this.penance = penance;
    if (this.penance > 0) this.penance--;
    this.inPlace = this.penance === 0 && this.average <= shortMs;
  }
}
