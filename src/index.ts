/** lsnfs as a library: a database of files that remembers. */

export type { PageSize } from './encoding/page.ts';
export { ERRNO, type Errno, type ErrorCode, LsnfsError, PosixError } from './errors.ts';
export {
  Database,
  type InitializeOptions,
  initialize,
  type OpenOptions,
  open,
  type SnapshotInfo,
  type StateTarget,
  type StatusReport,
  type TransactionOptions,
} from './plugin/database.ts';
export type { Comparison, DiffEntry, DiffOptions, DiffStatistics } from './plugin/difference.ts';
export type { ImportOptions, ImportTally } from './plugin/import-tar.ts';
export type {
  LogEntry,
  LogListing,
  LogMoment,
  LogOrigin,
  LogQuery,
  PathLogEntry,
  TransactionLogEntry,
} from './plugin/log.ts';
export type { Plugin, PluginHooks } from './plugin/plugins.ts';
export type { StateKind, StateName, StateReport, StoreState } from './plugin/states.ts';
export type { TarType } from './plugin/tar-format.ts';
export type { ByteSource } from './plugin/tar-reader.ts';
export type { PutOptions, Transaction } from './plugin/transaction.ts';
export {
  type RunningVerification,
  type ScrubStatus,
  type ScrubSummary,
  type VerifyClosedOptions,
  verifyClosedStore,
} from './plugin/verification.ts';
export type { Entry, EntryType, PathLike, Stat, View } from './plugin/view.ts';
export { MemoryDirectory } from './storage/memory-device.ts';
export type { Settings } from './store/settings.ts';
export type { FileValue } from './vfs/values.ts';
export type { CheckReport, DamageReport, VersionRange } from './vfs/verify.ts';
