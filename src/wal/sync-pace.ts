/**
 * Whether a sync is made on the thread that has an event loop, or handed to the thread pool.
 *
 * A hand-over and its return cost some 0.1 ms, as much as a sync of a fast disk; on a slow one a sync in place would
 * keep the program from everything else. So syncs are made in place as long as they are short, and one that is not
 * sends the next ones to the pool for a while.
 */

/** A sync of at most so long is worth making in place; a round through the pool that takes no longer promises one. */
const SHORT_MS = 0.5;
/** After a sync in place that took longer than so much, as many syncs as that go to the pool first. */
const LONG_MS = 2;
const PENANCE = 256;

export class SyncPace {
  private readonly isPossible: boolean;
  private inPlace = false;
  /** Moving average, in milliseconds. */
  private average = Number.NaN;
  /** Syncs that go to the pool, whatever they take. */
  private penance = 0;

  /** `isPossible`: the files are real ones. */
  constructor(isPossible: boolean) {
    this.isPossible = isPossible;
  }

  get isInPlace(): boolean {
    return this.inPlace;
  }

  /** How long a sync took, in milliseconds. */
  note(milliseconds: number): void {
    if (!this.isPossible) return;
    this.average = Number.isNaN(this.average) ? milliseconds : this.average * 0.9 + milliseconds * 0.1;
    if (this.inPlace && milliseconds > LONG_MS) this.penance = PENANCE;
    if (this.penance > 0) this.penance--;
    this.inPlace = this.penance === 0 && this.average <= SHORT_MS;
  }
}
