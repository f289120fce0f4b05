/** What part of history is asked for. */

export interface LogBounds {
  /** Only what happened after this LSN, and up to that one. */
  readonly afterLsn: number;
  readonly uptoLsn: number;
  /** Only from this time on, and until that one, both included; in microseconds since 1970. */
  readonly fromMicroseconds: number;
  readonly untilMicroseconds: number;
}

export const UNBOUNDED: LogBounds = {
  afterLsn: -1,
  uptoLsn: Number.MAX_SAFE_INTEGER,
  fromMicroseconds: Number.NEGATIVE_INFINITY,
  untilMicroseconds: Number.POSITIVE_INFINITY,
};

export function isWithin(bounds: LogBounds, lsn: number, timeMicroseconds: number): boolean {
  return (
    lsn > bounds.afterLsn &&
    lsn <= bounds.uptoLsn &&
    timeMicroseconds >= bounds.fromMicroseconds &&
    timeMicroseconds <= bounds.untilMicroseconds
  );
}

/** Whether everything up to a state lies before what is asked for. */
export function isAllBefore(bounds: LogBounds, lsn: number, timeMicroseconds: number): boolean {
  return lsn <= bounds.afterLsn || timeMicroseconds < bounds.fromMicroseconds;
}
