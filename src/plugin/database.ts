/**
 * A database of files: the public object over store, history and VFS.
 *
 * As a library everything runs on the caller's thread; reads are synchronous, and what waits for the disk is a
 * promise. One process owns a store at a time; a store that is mounted is reached through its mount or its control
 * socket.
 */
import * as fs from 'node:fs';
import { CONTROL_NAME } from '../encoding/control.ts';
import type { PageSize } from '../encoding/page.ts';
import { LsnfsError, systemErrorCode } from '../errors.ts';
import { History } from '../history/history.ts';
import { checkSnapshotName, formatTime, parseTarget, type Target } from '../history/targets.ts';
import type { StorageDirectory } from '../storage/device.ts';
import { FileDirectory } from '../storage/file-device.ts';
import { checkStoreDirectory, checkTrustedFile } from '../storage/store-files.ts';
import type { Origin } from '../store/live-tree.ts';
import { StoreLock } from '../store/lock.ts';
import { SETTINGS_NAME, type Settings } from '../store/settings.ts';
import { Store } from '../store/store.ts';
import type { VfsOptions } from '../vfs/core.ts';
import { type FileSystemStatistics, ROOT_CALLER, ROOT_INODE } from '../vfs/file-system.ts';
import { LiveFileSystem } from '../vfs/live-file-system.ts';
import { PastFileSystem } from '../vfs/past-file-system.ts';
import type { ClientChanges } from '../vfs/restore.ts';
import type { FileValue } from '../vfs/values.ts';
import type { CheckReport } from '../vfs/verify.ts';
import { StateVolume } from '../vfs/volume.ts';
import type { Log, LogOptions } from '../wal/log.ts';
import { Collections } from './collection.ts';
import { Compactions } from './compaction-job.ts';
import { type Comparison, compareStates, type DiffOptions } from './difference.ts';
import {
  type LogListing,
  type LogQuery,
  openLog,
  type PathLogEntry,
  type TransactionLogEntry,
} from './log.ts';
import { type LoadedPlugins, loadPlugins } from './plugins.ts';
import { type RestoreOptions, type RestoreResult, restore } from './restoration.ts';
import { reportState, type StateReport, type StoreState } from './states.ts';
import { FILE_MODE, type PutOptions, putPlain, Transaction } from './transaction.ts';
import { TreeChanges } from './tree-changes.ts';
import { type ScrubSummary, Verifications } from './verification.ts';
import { type Entry, type PathLike, type Stat, View } from './view.ts';

export interface InitializeOptions {
  /** Bytes of a page, fixed for ever. Default: 4096. */
  pageSize?: PageSize;
  /** Bytes of a log segment, fixed for ever: a power of two from 64 KiB to 1 GiB. Default: 16 MiB. */
  segmentSize?: number;
  /** Settings that are written to `lsnfs.json`. */
  settings?: Partial<Settings>;
}

export interface OpenOptions {
  readOnly?: boolean;
  /** The longest that a change which nobody synced stays volatile, in milliseconds. */
  commitIntervalMs?: number;
  /** Other settings that override `lsnfs.json`. */
  settings?: Partial<Settings>;
  /**
   * Whether the modules that `lsnfs.json` names are loaded; they must be in a store that belongs to this user. Modules
   * named in `settings` above are loaded in any case. Default: no, with a warning.
   */
  allowPlugins?: boolean;
  /** Told of what a person should know and nobody waits for. Default: console.error. */
  warn?: (message: string) => void;
}

/** What a server of the database adds (the mount). */
export interface ServerOptions {
  mountpoint: string | null;
  openLog?: (options: LogOptions) => Log;
  /** 'caller': the server calls `store.backgroundStep`. */
  background?: 'own' | 'caller';
  vfs?: Partial<VfsOptions>;
}

/** A put of up to so many bytes is one operation on the trees, which changes few pages. */
const PUT_AT_ONCE_BYTES = 16 * 1024;

export interface TransactionOptions {
  /**
   * Whether the promise waits until the transaction is durable. Default: true. Without, it becomes durable after
   * `commitIntervalMs` at the latest, or with the next one that is waited for; a crash before takes it and all after it. When
   * changes come faster than checkpoints are written, it waits all the same.
   */
  readonly sync?: boolean;
}

export interface SnapshotInfo {
  name: string;
  lsn: number;
  /** RFC 3339 in UTC. */
  createdAt: string;
  message?: string;
  /** Tags of who holds it: while there are any it is not deleted. */
  holds?: readonly string[];
}

/** A state: an LSN, a moment, or a name ("lsn-12", "2026-11-22T101500Z", "latest", a snapshot's). */
export type StateTarget = number | Date | string | Target;

export interface StatusReport {
  store: string;
  mountpoint: string | null;
  pid: number | null;
  lsn: number;
  durableLsn: number;
  checkpointLsn: number;
  horizonLsn: number;
  horizonTime: string;
  pageSize: number;
  pages: { total: number; free: number };
  /** Inodes of every kind, the root directory not counted. */
  files: number;
  bytes: { live: number; history: number; disk: number };
  wal: { bytes: number; segments: number };
  /** Why the store takes no more changes, or null. */
  failure: string | null;
  /** Why checkpoints wait although the store is well, or null. */
  delayed: string | null;
  /** The scrub that is running, and the result of the last one. */
  scrub: ScrubSummary;
}

/**
 * Makes an empty store.
 * @throws LsnfsError STORE_EXISTS, INVALID_INPUT, IO or NO_SPACE.
 */
export async function initialize(path: string, options: InitializeOptions = {}): Promise<void> {
  if (fs.statSync(path, { throwIfNoEntry: false })?.isDirectory() === false) {
    throw new LsnfsError('STORE_EXISTS', `${path} exists and is not a directory: a store is a directory`, {
      store: path,
    });
  }
  try {
    fs.mkdirSync(path, { recursive: true, mode: 0o700 });
    const entries = fs.readdirSync(path);
    // Before anything is changed: a directory in use must not be closed to others by a mistake.
    if (entries.includes(CONTROL_NAME)) {
      throw new LsnfsError('STORE_EXISTS', `${path} is a store already`, { store: path });
    }
    if (entries.length > 0) {
      throw new LsnfsError('STORE_EXISTS', `${path} is not empty: a store needs a directory of its own`, {
        store: path,
      });
    }
    fs.chmodSync(path, 0o700);
  } catch (error) {
    if (error instanceof LsnfsError) throw error;
    throw new LsnfsError('IO', `cannot make the directory ${path}: ${(error as Error).message}`, {
      store: path,
    });
  }
  Store.initialize(new FileDirectory(path), options);
  // The root directory is the first thing that a state holds.
  const database = await open(path);
  await database.close();
}

/** Opens a store. @throws LsnfsError NO_STORE, STORE_IN_USE, NEWER_FORMAT, … */
export function open(path: string, options: OpenOptions = {}): Promise<Database> {
  return openServed(path, options, { mountpoint: null });
}

/** Opens a store for a server. */
export async function openServed(
  path: string,
  options: OpenOptions,
  server: ServerOptions,
): Promise<Database> {
  if (!fs.statSync(path, { throwIfNoEntry: false })?.isDirectory()) {
    throw new LsnfsError('NO_STORE', `there is no store at ${path}: make one with "lsnfs init"`, {
      store: path,
    });
  }
  checkStoreDirectory(path);
  if (options.allowPlugins === true) checkTrustedSettings(path);
  const directory = new FileDirectory(path);
  const lock = await StoreLock.acquire(path, Store.readId(directory), server.mountpoint);
  try {
    return await Database.over(directory, options, server, () => lock.release());
  } catch (error) {
    await lock.release();
    throw error;
  }
}

/** @throws LsnfsError UNSAFE_STORE when the modules that `lsnfs.json` names could be somebody else's choice. */
function checkTrustedSettings(path: string): void {
  try {
    checkTrustedFile(path, SETTINGS_NAME);
  } catch (error) {
    if (systemErrorCode(error) !== 'ENOENT') throw error;
  }
}

/** The modules to load: what the caller names, or, with the caller's leave, what `lsnfs.json` does. */
function permittedPlugins(store: Store, options: OpenOptions, warn: (message: string) => void): string[] {
  const { plugins } = store.settings;
  if (options.settings?.plugins !== undefined || options.allowPlugins === true) return plugins;
  if (plugins.length > 0 && !store.readOnly) {
    warn(
      `${SETTINGS_NAME} names plugins (${plugins.join(', ')}), which were not loaded: a store runs no code unless it is opened with that permission ("lsnfs mount --plugins")`,
    );
  }
  return [];
}

export class Database {
  readonly path: string;
  readonly store: Store;
  readonly history: History;
  readonly volume: StateVolume;
  readonly snapshots: {
    create(name: string, options?: { message?: string }): Promise<SnapshotInfo>;
    list(): SnapshotInfo[];
    delete(name: string): Promise<void>;
    /** Keeps it from being deleted until the same tag is released. */
    hold(name: string, tag: string): Promise<SnapshotInfo>;
    release(name: string, tag: string): Promise<SnapshotInfo>;
    rename(from: string, to: string): Promise<SnapshotInfo>;
  };
  readonly verifications: Verifications;
  readonly collections: Collections;
  readonly compactions: Compactions;
  private readonly live: LiveFileSystem;
  private readonly view: Transaction;
  private readonly release: () => Promise<void>;
  private readonly vfsOptions: VfsOptions;
  /** Who the log is told that asks: this process. (Asking the system each time takes microseconds.) */
  private readonly origin: Origin = { uid: process.getuid?.() ?? 0, pid: process.pid };
  private plugins: LoadedPlugins | undefined;
  private changeListener: ((changes: ClientChanges) => void) | undefined;
  private closing: Promise<void> | undefined;

  /** A database over any storage; the caller owns it. */
  static async over(
    directory: StorageDirectory,
    options: OpenOptions = {},
    server: ServerOptions = { mountpoint: null },
    release: () => Promise<void> = () => Promise.resolve(),
  ): Promise<Database> {
    const settings: Partial<Settings> = { ...options.settings };
    if (options.commitIntervalMs !== undefined) settings.commitIntervalMs = options.commitIntervalMs;
    const warn = options.warn ?? ((message: string) => console.error(`lsnfs: ${message}`));
    const store = Store.open(directory, {
      settings,
      warn,
      readOnly: options.readOnly === true,
      background: server.background ?? 'own',
      ...(server.openLog !== undefined && { openLog: server.openLog }),
    });
    const database = new Database(directory.path, store, server, release, warn);
    try {
      database.plugins = await loadPlugins(database, permittedPlugins(store, options, warn), warn);
    } catch (error) {
      await database.close();
      throw error;
    }
    return database;
  }

  private constructor(
    path: string,
    store: Store,
    server: ServerOptions,
    release: () => Promise<void>,
    warn: (message: string) => void,
  ) {
    this.path = path;
    this.store = store;
    this.release = release;
    this.history = new History(store);
    this.collections = new Collections(store, this.history);
    this.compactions = new Compactions(store, this.history);
    this.verifications = new Verifications(store, warn, server.background !== 'caller');
    this.vfsOptions = {
      statistics: () => this.statistics(),
      atime: store.settings.atime,
      // Whoever owns the store is to be able to work in it; one in memory has no owner.
      rootOwner: fs.statSync(path, { throwIfNoEntry: false }) ?? { uid: 0, gid: 0 },
      isSnapshotName: (name) => this.history.isSnapshotName(Buffer.from(name).toString('utf8', 1)),
      ...server.vfs,
    };
    this.live = new LiveFileSystem(store.live, this.vfsOptions);
    this.removeOrphans(warn);
    this.volume = new StateVolume(this.history, this.live, this.vfsOptions);
    this.view = new Transaction(this.live, false);
    this.snapshots = {
      create: (name, options) => this.createSnapshot(name, options?.message ?? ''),
      list: () => this.history.snapshots().map(snapshotInfo),
      delete: (name) => this.deleteSnapshot(name),
      hold: async (name, tag) => snapshotInfo(await this.history.holdSnapshot(name, tag)),
      release: async (name, tag) => snapshotInfo(await this.history.releaseSnapshot(name, tag)),
      rename: async (from, to) => {
        this.checkNewName(to);
        return snapshotInfo(await this.history.renameSnapshot(from, to));
      },
    };
  }

  /** Orphans that a damaged page keeps from going stay: the rest of the store is to be served all the same. */
  private removeOrphans(warn: (message: string) => void): void {
    if (this.live.readOnly) return;
    try {
      this.live.removeOrphans();
    } catch (error) {
      if (!(error instanceof LsnfsError)) throw error;
      warn(`files that were removed while they were open could not be cleared away: ${error.message}`);
    }
  }

  /** LSN of the live state. */
  get lsn(): number {
    return this.store.live.lsn;
  }

  /** Makes everything so far durable. */
  async commit(): Promise<{ lsn: number }> {
    const lsn = await this.store.commit();
    await this.plugins?.run('commit', { lsn });
    return { lsn };
  }

  private async createSnapshot(name: string, message: string): Promise<SnapshotInfo> {
    this.checkNewName(name);
    const info = snapshotInfo(await this.history.createSnapshot(name, message));
    await this.plugins?.run('snapshot', info);
    return info;
  }

  /** Whether it can be a snapshot's name, and would be seen as one. @throws LsnfsError INVALID_INPUT, NAME_RESERVED, NAME_TAKEN */
  private checkNewName(name: string): void {
    checkSnapshotName(name);
    if (this.isEntry(name)) {
      throw new LsnfsError(
        'NAME_TAKEN',
        `there is an entry "@${name}" in the root directory: choose another name`,
        { name },
      );
    }
  }

  private deleteSnapshot(name: string): Promise<void> {
    return this.history.deleteSnapshot(name);
  }

  /** The content of a file, or undefined. */
  get(path: PathLike): Buffer | undefined {
    return this.view.get(path);
  }

  /** The content of a file, or a part of it. @throws PosixError ENOENT */
  read(path: PathLike, range: { offset?: number; length?: number } = {}): Buffer {
    return this.view.read(path, range);
  }

  stat(path: PathLike): Stat | undefined {
    return this.view.stat(path);
  }

  list(path: PathLike = '/'): Entry[] {
    return this.view.list(path);
  }

  /** All regular files below a directory, with their content; see `View.files`. */
  files(path: PathLike = '/'): Generator<FileValue> {
    return this.view.files(path);
  }

  /** Sets the content of one file, in a transaction of its own. Resolves when it is durable. */
  async put(
    path: PathLike,
    content: Uint8Array | string,
    options: PutOptions = {},
  ): Promise<{ lsn: number }> {
    const bytes = typeof content === 'string' ? Buffer.from(content, 'utf8') : content;
    const lsn = this.putAtOnce(path, bytes, options.mode);
    if (lsn === undefined) return this.transaction((transaction) => transaction.put(path, bytes, options));
    await this.store.log.sync(lsn);
    await this.plugins?.run('commit', { lsn });
    return { lsn };
  }

  /**
   * A small file in a directory that exists, as one operation: nothing of it needs to be undone as a whole. Returns the
   * LSN, or undefined when it takes a transaction.
   */
  private putAtOnce(path: PathLike, content: Uint8Array, mode = FILE_MODE): number | undefined {
    const { live } = this.store;
    if (typeof path !== 'string' || content.length > PUT_AT_ONCE_BYTES || live.isChanging) return undefined;
    const changes = this.changeListener === undefined ? undefined : new TreeChanges(true);
    const before = live.origin;
    live.origin = this.origin;
    try {
      if (!putPlain(this.live, path, content, mode, changes)) return undefined;
    } finally {
      live.origin = before;
    }
    this.announce(changes);
    return live.lsn;
  }

  /** Tells who listens what was changed. */
  private announce(changes: TreeChanges | undefined): void {
    const list = changes?.list;
    if (list !== undefined) this.changeListener?.(list);
  }

  /** Deletes one file or directory, in a transaction of its own. Resolves when that is durable. */
  async delete(
    path: PathLike,
    options: { recursive?: boolean } = {},
  ): Promise<{ lsn: number; deleted: boolean }> {
    const { lsn, result } = await this.transaction((transaction) => transaction.delete(path, options));
    return { lsn, deleted: result };
  }

  /**
   * Makes many changes at once: `work` is called at once and must be synchronous; what it changes takes effect
   * together when it returns, or not at all when it throws. Resolves when the transaction is durable, or, without
   * `sync`, when it is done.
   */
  async transaction<Result>(
    work: (transaction: Transaction) => Result,
    options: TransactionOptions = {},
  ): Promise<{ lsn: number; result: Result }> {
    const { live, log } = this.store;
    const transaction = new Transaction(this.live, this.changeListener !== undefined);
    live.beginTransaction(this.origin);
    this.live.beginTransaction();
    let result: Result;
    try {
      result = work(transaction);
      if (result instanceof Promise) {
        result.catch(() => {});
        throw new LsnfsError('INVALID_INPUT', 'the function of a transaction must be synchronous, not async');
      }
      this.live.endTransaction();
    } catch (error) {
      transaction.end();
      live.rollbackTransaction();
      throw error;
    }
    transaction.end();
    const lsn = live.commitTransaction();
    this.announce(transaction.changes);
    const { plugins } = this;
    if (options.sync === false) {
      if (plugins !== undefined)
        log.onDurable(lsn, (failure) => failure === undefined && void plugins.run('commit', { lsn }));
      // A program that goes from one transaction to the next would never let a checkpoint's sync end.
      if (this.store.isBehind) await log.sync(lsn);
      return { lsn, result };
    }
    await log.sync(lsn);
    await plugins?.run('commit', { lsn });
    return { lsn, result };
  }

  /** Calls the listener with what each transaction or restore changed, at once: for a mount, whose kernel remembers. */
  onChange(listener: (changes: ClientChanges) => void): void {
    this.changeListener = listener;
  }

  /** A past state, read-only and pinned until it is closed. @throws LsnfsError NO_SUCH_STATE, NO_SUCH_SNAPSHOT */
  at(target: StateTarget): View {
    const { lsn } = this.history.resolve(parsedTarget(target));
    const lease = this.history.open(lsn, `process ${process.pid}`);
    return new View(new PastFileSystem(lease.state, this.vfsOptions), () => lease.release());
  }

  /**
   * Makes the live files, whole or below some paths, what they were in a past state, as one transaction. The state before
   * gets a name, and can be restored likewise. @throws LsnfsError NO_SUCH_STATE, NO_SUCH_SNAPSHOT, READ_ONLY; PosixError ENOENT
   */
  async restore(target: StateTarget, options: RestoreOptions = {}): Promise<RestoreResult> {
    const given = parsedTarget(target);
    const what = typeof given === 'string' ? parseTarget(given) : given;
    const { store, history, live } = this;
    const result = await restore(
      {
        store,
        history,
        live,
        commit: () => this.commit(),
        isFreeName: (name) => this.isFreeName(name),
        announce: (changes) => this.changeListener?.(changes),
      },
      what,
      options,
    );
    if (result.applied) {
      const info = this.snapshots.list().find(({ name }) => name === result.before?.name);
      if (info !== undefined) await this.plugins?.run('snapshot', info);
      await this.plugins?.run('commit', { lsn: result.lsn });
    }
    return result;
  }

  private isFreeName(name: string): boolean {
    return this.store.snapshot(name) === undefined && !this.isEntry(name);
  }

  /** Whether an entry of the root directory hides what would be behind a name. */
  private isEntry(name: string): boolean {
    return this.live.lookup(ROOT_CALLER, ROOT_INODE, Buffer.from(`@${name}`)) !== undefined;
  }

  /**
   * What changed between two states; `to` undefined is the live state. To be iterated over, which does the work and gives
   * the changes sorted by path, or closed. @throws LsnfsError NO_SUCH_STATE, NO_SUCH_SNAPSHOT
   */
  diff(from: StateTarget, to?: StateTarget, options: DiffOptions = {}): Promise<Comparison> {
    return compareStates(this, parsedTarget(from), to === undefined ? undefined : parsedTarget(to), options);
  }

  /**
   * What happened, newest first: of the store its snapshots, restores and versions; of a path its states; or every
   * transaction of the window. To be iterated over, which does the work, or closed.
   * @throws LsnfsError INVALID_INPUT, NO_SUCH_STATE; ENOENT, from the iteration, for a path that never was
   */
  log(options: LogQuery & { readonly path: PathLike }): Promise<LogListing<PathLogEntry>>;
  log(options: LogQuery & { readonly transactions: true }): Promise<LogListing<TransactionLogEntry>>;
  log(options?: Omit<LogQuery, 'path' | 'transactions'>): Promise<LogListing<StoreState>>;
  log(options: LogQuery = {}): Promise<LogListing<StoreState | PathLogEntry | TransactionLogEntry>> {
    return openLog(this, options);
  }

  /** What there is to know of one state: names, why it is kept, what it holds. @throws LsnfsError NO_SUCH_STATE, … */
  show(state: StateTarget): Promise<StateReport> {
    return reportState(this, parsedTarget(state));
  }

  /**
   * Verifies the whole store as it stands on disk, after a checkpoint: control block, log, every page of every version,
   * that what is reachable is what is in use, and the structure of directories, links and files of every version.
   * Other work goes on meanwhile. `problems` says what is wrong, a sentence each.
   */
  async check(): Promise<CheckReport & { problems: string[] }> {
    const job = await this.verifications.start('check');
    const report = await job.done;
    const problems = report.damages.map(({ file, message }) => `${file}: ${message}`);
    if (report.damageCount > problems.length) problems.push(`${report.damageCount} damages in all`);
    return { ...report, problems };
  }

  status(): Promise<StatusReport> {
    const statistics = this.store.statistics();
    const { inodes, horizonTimeMicroseconds, ...rest } = statistics;
    return Promise.resolve({
      store: this.path,
      mountpoint: null,
      pid: null,
      ...rest,
      horizonTime: formatTime(horizonTimeMicroseconds),
      files: Math.max(0, inodes - 1),
      scrub: this.verifications.scrubSummary(),
    });
  }

  private statistics(): FileSystemStatistics {
    const { store } = this;
    const { pageSize } = store.live;
    const total = Math.floor(store.directory.totalBytes() / pageSize);
    const free = Math.floor(store.availableBytes() / pageSize);
    // Inodes cost space and nothing else: as many as pages are free.
    return {
      blockSize: pageSize,
      blocks: total,
      blocksFree: free,
      blocksAvailable: free,
      files: store.live.counters.inodes + free,
      filesFree: free,
      nameMax: 255,
    };
  }

  /** Commits, checkpoints and closes. @throws the store's failure */
  close(): Promise<void> {
    this.closing ??= this.finish();
    return this.closing;
  }

  private async finish(): Promise<void> {
    this.verifications.close();
    try {
      await this.plugins?.stop();
    } finally {
      try {
        if (!this.store.readOnly && this.store.failure === undefined) this.live.forgetAll();
        await this.store.close();
      } finally {
        await this.release();
      }
    }
  }
}

function parsedTarget(target: StateTarget): Target | string {
  if (typeof target === 'number') return { kind: 'lsn', lsn: target };
  if (target instanceof Date) return { kind: 'time', timeMicroseconds: target.getTime() * 1000 };
  return target;
}

function snapshotInfo(row: {
  name: string;
  lsn: number;
  createdMicroseconds: number;
  message: string;
  holds: readonly string[];
}): SnapshotInfo {
  const info: SnapshotInfo = { name: row.name, lsn: row.lsn, createdAt: formatTime(row.createdMicroseconds) };
  if (row.message !== '') info.message = row.message;
  if (row.holds.length > 0) info.holds = row.holds;
  return info;
}
