/** The rows of the engine benchmark. */
export const ENGINE_ROWS = {
  loadShuffled: 'load, shuffled, not synced',
  loadSorted: 'load, sorted, not synced',
  put: 'single puts, each durable',
  concurrent: '2,000 durable puts at once',
  get: 'point gets, hot',
  getCold: 'point gets, cache of a tenth of the data',
  scan: 'full scan, keys and values',
  list: 'listing a directory of 50',
  backup: 'consistent backup while writing (lsnfs: a snapshot)',
  backupLatency: 'the slowest durable put meanwhile',
  space: 'growth by 40,000 overwrites with an old reader open',
  pinned: 'that growth : bytes that the old reader pins',
  memory: 'resident memory at most',
  fileWrite: 'small files, one after the other: written, each durable',
  fileStat: 'small files: stat',
  fileRead: 'small files: read',
  fileList: 'small files: listing a directory of 50',
  fileRemove: 'small files: removed, each durable',
} as const;
export type EngineRow = (typeof ENGINE_ROWS)[keyof typeof ENGINE_ROWS];

/** All that a file system behind an API can do. */
export const SMALL_FILE_ROWS: readonly EngineRow[] = [
  ENGINE_ROWS.fileWrite,
  ENGINE_ROWS.fileStat,
  ENGINE_ROWS.fileRead,
  ENGINE_ROWS.fileList,
  ENGINE_ROWS.fileRemove,
];
