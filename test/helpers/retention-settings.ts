/** Settings of retention for tests. */

/** Nothing is kept but what names and leases keep; with another `keepWindowMs`, what the window keeps as well. */
export const KEEP_NOTHING = {
  keepWindowMs: 0,
  minRetentionMs: 0,
  keepHourly: 0,
  keepDaily: 0,
  keepWeekly: 0,
  keepMonthly: 0,
};
