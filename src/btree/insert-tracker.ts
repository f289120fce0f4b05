/**
 * Remembers, for the pages that got inserts lately, whether these follow each other: ascending runs (a directory
 * that is being filled, file blocks that are appended) fill pages to the brim when the split falls at the insertion
 * point instead of the middle. Several runs may interleave as long as they meet in different pages. A guess only:
 * a wrong one costs space, never correctness.
 */
import type { SplitMode } from './cell-run.ts';

const ENTRIES = 64;
const RUN_MINIMUM = 3;

export class InsertTracker {
  private readonly numbers = new Float64Array(ENTRIES);
  private readonly slots = new Int32Array(ENTRIES);
  /** Inserts that followed each other: positive upwards, negative downwards. */
  private readonly runs = new Int32Array(ENTRIES);

  /** Notes an insert and returns how the page should split if this insert does not fit. */
  note(page: number, slot: number): SplitMode {
    const i = page & (ENTRIES - 1);
    let run = 0;
    if (this.numbers[i] === page) {
      run = this.runs[i]!;
      const before = this.slots[i]!;
      if (slot === before + 1) run = run > 0 ? run + 1 : 1;
      else if (slot === before) run = run < 0 ? run - 1 : -1;
      else run = 0;
    }
    this.set(i, page, slot, run);
    if (run >= RUN_MINIMUM) return 'ascending';
    return run <= -RUN_MINIMUM ? 'descending' : 'middle';
  }

  /** The run goes on in another page, at this slot. */
  follow(page: number, slot: number, mode: SplitMode): void {
    const run = mode === 'ascending' ? RUN_MINIMUM : mode === 'descending' ? -RUN_MINIMUM : 0;
    this.set(page & (ENTRIES - 1), page, slot, run);
  }

  private set(i: number, page: number, slot: number, run: number): void {
    this.numbers[i] = page;
    this.slots[i] = slot;
    this.runs[i] = run;
  }
}
