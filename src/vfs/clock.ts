/**
 * The wall clock with fractions of a millisecond. `Date.now()` is the authority, `performance.now()` fills in the
 * digits below: the result never leaves the millisecond that `Date.now()` names, so that a clock that was set is
 * followed at once and files never lie in the future of what another program reads from the system's clock.
 */
import { performance } from 'node:perf_hooks';

/** A point in time, written into an object that is reused. */
export interface Timestamp {
  seconds: number;
  nanoseconds: number;
}

let offset = Date.now() - performance.now();

/** Writes the present time into `time`. */
export function systemClock(time: Timestamp): void {
  const wall = Date.now();
  const fine = performance.now();
  let milliseconds = offset + fine;
  if (milliseconds < wall) {
    offset = wall - fine;
    milliseconds = wall;
  } else if (milliseconds >= wall + 1) {
    offset = wall + 0.999 - fine;
    milliseconds = wall + 0.999;
  }
  const seconds = Math.floor(wall / 1000);
  time.seconds = seconds;
  time.nanoseconds = Math.min(999_999_999, Math.floor((milliseconds - seconds * 1000) * 1_000_000));
}
