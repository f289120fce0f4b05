/**
 * Whether a sync is made on the thread that asks for it, or handed to another.
 *
 * A hand-over and its return cost 0.1 to 0.3 ms, as much as a sync of a fast disk; on a slow one a sync in place would
 * keep the thread from everything else. So syncs are made in place as long as they are short on the average.
 */

/** Says whether a sync is made in place. */
export interface Pace {
  readonly isInPlace: boolean;
  /** How long a sync took, in milliseconds. */
  note(milliseconds: number): void;
}

/** A sync of at most so long on the average is worth making in place; elsewhere one that takes no longer promises that. */
const SHORT_MS = 1;

/** What one sync can add to the average: so a long one is forgotten after some twenty short ones. */
const NOTED_MAXIMUM_MS = 10;

export class SyncPace implements Pace {
  private readonly isPossible: boolean;
  private inPlace = false;
  /** Moving average, in milliseconds. */
  private average = Number.NaN;

  /** `isPossible`: the files are real ones. */
  constructor(isPossible: boolean) {
    this.isPossible = isPossible;
  }

  get isInPlace(): boolean {
    return this.inPlace;
  }

  note(milliseconds: number): void {
    if (!this.isPossible) return;
    const noted = Math.min(milliseconds, NOTED_MAXIMUM_MS);
    this.average = Number.isNaN(this.average) ? noted : this.average * 0.9 + noted * 0.1;
    this.inPlace = this.average <= SHORT_MS;
  }
}
