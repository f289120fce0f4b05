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

/** What `performance.now()` showed when the millisecond `baseWall` began, as far as that is known. */
let baseWall = Date.now();
let baseFine = performance.now();
const LAST_NANOSECOND = 0.999999;

/** Writes the present time into `time`. */
export function systemClock(time: Timestamp): void {
  const wall = Date.now();
  const fine = performance.now();
  let fraction = fine - baseFine - (wall - baseWall);
  if (fraction < 0 || fraction >= 1) {
    fraction = fraction < 0 ? 0 : LAST_NANOSECOND;
    baseWall = wall;
    baseFine = fine - fraction;
  }
  const seconds = Math.floor(wall / 1000);
  time.seconds = seconds;
  time.nanoseconds = (wall - seconds * 1000) * 1_000_000 + Math.floor(fraction * 1_000_000);
}
