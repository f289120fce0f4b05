/** How much each workload of the mount benchmark does, for titles and for the workloads themselves. */

export interface WorkloadSizes {
  readonly smallFiles: number;
  readonly requests: number;
  readonly appends: number;
  readonly inserts: number;
  /** Of the large file, in MiB. */
  readonly largeMib: number;
  /** Of fio's file, in MiB. */
  readonly fioMib: number;
  /** How long fio's jobs, the processes that fsync and pgbench work, in milliseconds. */
  readonly fioMs: number;
  readonly syncMs: number;
  readonly pgbenchMs: number;
}

const FULL: WorkloadSizes = {
  smallFiles: 5000,
  requests: 20_000,
  appends: 20_000,
  inserts: 2000,
  largeMib: 1024,
  fioMib: 256,
  fioMs: 3000,
  syncMs: 2000,
  pgbenchMs: 5000,
};

/** Sizes of a part of the full run, from 0 to 1. */
export function workloadSizes(share: number): WorkloadSizes {
  const sizes = Object.entries(FULL).map(([name, size]) => [name, Math.ceil(size * share)] as const);
  return Object.fromEntries(sizes) as unknown as WorkloadSizes;
}
