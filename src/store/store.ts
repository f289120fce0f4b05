import { setTimeout as sleep } from 'node:timers/promises';
import {
  decodeSnapshotRow,
  encodeSnapshotRow,
  type SnapshotRow,
  snapshotRowLsn,
  type VersionRow,
} from '../encoding/catalog.ts';
import { maxCellPayload } from '../encoding/cells.ts';
import {
  CONTROL_NAME,
  CONTROL_SLOT_SIZE,
  type ControlBlock,
  controlSlot,
  encodeControl,
} from '../encoding/control.ts';
import { TREE } from '../encoding/keys.ts';
import { RecordWriter } from '../encoding/record.ts';
import { decodeVersionRoot, type TreeRef, type VersionRoot } from '../encoding/root.ts';
import { CorruptPageError, LsnfsError } from '../errors.ts';
import type { Device, StorageDirectory } from '../storage/device.ts';
import { FreeSpace } from '../storage/free-space.ts';
import { PageCache } from '../storage/page-cache.ts';
import { InProcessLog } from '../wal/in-process-log.ts';
import type { Log, LogOptions } from '../wal/log.ts';
import { LogReader, type LogTransaction } from '../wal/reader.ts';
import type { Catalog } from './catalog.ts';
import { Checkpoint, type Seal, TAIL_MINIMUM } from './checkpoint.ts';
import { ClosedLog } from './closed-log.ts';
import { type CompactionHost, type CompactionOptions, type CompactionOutcome, compact } from './compactor.ts';
import { DATA_NAME, type InitializeOptions, initializeStore } from './initialize.ts';
import { type LiveHost, LiveTree } from './live-tree.ts';
import { VersionsAndLog } from './past-states.ts';
import { measureGarbage, type ReclaimResult, reclaim } from './reclaim.ts';
import {
  type ControlSlots,
  confirmControl,
  openCatalog,
  openNewestCheckpoint,
  type ReplayResult,
  readControl,
  replay,
  witnessedLsn,
} from './recovery.ts';
import { mergeSettings, SETTINGS_AT_OPEN, SETTINGS_NAME, type Settings } from './settings.ts';
import { readSettingsFile, writeSettingsFile } from './settings-file.ts';
import type { TreeState } from './tree-state.ts';

/** Free space of the host that is left to checkpoints and metadata when data is refused, in bytes. */
const SPACE_RESERVE = 4 * 1024 * 1024;
/** What a checkpoint may need beside its pages, in bytes. */
const CHECKPOINT_ROOM = 256 * 1024;
/** How long a reading of the host's free space is believed, in milliseconds. */
const SPACE_READING_MS = 20;
/** Whoever makes a change when this many times `checkpointDirtyBytes` are dirty first does some of the checkpoint. */
const RELIEF_FACTOR = 3;
const RELIEF_MS = 2;
/** Likewise before a transaction of the API: for each operation of the one before it, but no longer than this. */
const RELIEF_MAXIMUM_MS = 200;
/**
 * Data written past the log since the last checkpoint that starts the next, in `checkpointLogBytes`. Recovery reads and
 * writes all of it again, as it does the log.
 */
const DIRECT_FACTOR = 4;
/** How often what is kept is decided anew, in milliseconds: at least so far apart, and at least so often. */
const MAINTENANCE_MINIMUM_MS = 1000;
const MAINTENANCE_INTERVAL_MS = 30_000;
/** So many pages that wait to be given out make a checkpoint worth while though nothing else has changed. */
const QUARANTINE_MAXIMUM = 64;
/** Work done in one turn of the event loop for somebody who waits for it, in milliseconds. */
const TURN_MS = 4;
/** The same where requests are served in between. */
const SERVED_TURN_MS = 1;
/** The same where nobody waits; then the store rests for some times as long as the turn took. */
const UNHURRIED_TURN_MS = 0.5;
const REST_FACTOR = 3;
/** The share of the time that may be spent on deciding what is kept, in percent. */
const DECIDING_PERCENT = 1;
/**
 * Deciding and reclaiming share the time in pieces so long, in milliseconds: many short ones and not a few long ones,
 * because what a commit feels of it is the length of one.
 */
const PIECE_MS = 0.1;
/** How long the store's own timer rests between two pieces. */
const REST_MS = 2;
/** What is cut off the data file at a time, in bytes. */
const CUT_BYTES = 64 * 1024 * 1024;

export interface StoreOptions {
  readOnly?: boolean;
  /** Overrides of `lsnfs.json`. */
  settings?: Partial<Settings>;
  /** Makes the log; by default one on the caller's thread. */
  openLog?: (options: LogOptions) => Log;
  /** 'own': checkpoints run by the store's timer. 'caller': the caller calls `backgroundStep`. */
  background?: 'own' | 'caller';
  /** Microseconds since 1970. */
  now?: () => number;
  /** Milliseconds of a clock that never goes back, for what is done after a time. Default: performance.now. */
  monotonicMs?: () => number;
  /** Told of what a person should know and nobody waits for. */
  warn?: (message: string) => void;
}

/** Keeps what the newest checkpoint leads to from being overwritten, for who reads it from the files. */
export interface Hold {
  /** The live state was rebuilt meanwhile: what was held may have been overwritten. */
  isBroken: boolean;
  release(): void;
}

/** How long after a checkpoint that lacked room or descriptors the next is tried, in milliseconds. */
const POSTPONE_MS = 500;

/** What a checkpoint in progress needs next: more work, the disk, or room or descriptors that are not there now. */
type StepState = 'work' | 'wait' | 'blocked';

export interface StoreStatistics {
  lsn: number;
  durableLsn: number;
  checkpointLsn: number;
  horizonLsn: number;
  horizonTimeMicroseconds: number;
  pageSize: number;
  pages: { total: number; free: number };
  inodes: number;
  bytes: { live: number; history: number; disk: number };
  wal: { bytes: number; segments: number };
  failure: string | null;
  /** Why checkpoints wait although the store is well, or null. */
  delayed: string | null;
}

export class Store {
  readonly directory: StorageDirectory;
  readonly settings: Settings;
  readonly readOnly: boolean;
  readonly live: LiveTree;
  readonly log: Log;
  private control: ControlBlock;
  private readonly controlDevice: Device;
  private readonly data: Device;
  private readonly cache: PageCache;
  private catalog: Catalog;
  private freeSpace: FreeSpace;
  private readonly options: StoreOptions;
  private readonly seals: Seal[] = [];
  private running: Generator<StepState, void> | undefined;
  /** The log position that a running checkpoint waits for. */
  private waitingFor = 0;
  /** Why the last attempt at a checkpoint could not be finished now, though the store is well; and when the next is. */
  private postponed: LsnfsError | undefined;
  private retryMs = Number.NEGATIVE_INFINITY;
  /** A checkpoint was given up halfway: the live state must be recovered before the next. */
  private abandoned = false;
  /** The checkpoint that is giving pages their places. */
  private placing: Checkpoint | undefined;
  private changed = false;
  private lastSealLsn: number;
  private lastSealMs: number;
  private isLogOpen = false;
  private lastSealDirectPages = 0;
  private timer: NodeJS.Timeout | undefined;
  private driving: Promise<void> | undefined;
  private readonly holds = new Set<Hold>();
  /** LSNs that must stay as they are because somebody has a state open, and how many have it. */
  private readonly pins = new Map<number, number>();
  /** The horizon when reclaiming last began. */
  private reclaimedBase = 0;
  /** What `settledLsn` says, until states are opened or closed or the horizon moves. */
  private settled: number | undefined;
  /** A state was closed since reclaiming last began. */
  private unpinned = false;
  /** The catalog has changed since the last seal, though the live state may not have. */
  private catalogChanged = false;
  private reclaiming: Generator<void, ReclaimResult> | undefined;
  /** When reclaiming may go on, and the least that it is to rest. */
  private reclaimMs = Number.NEGATIVE_INFINITY;
  private reclaimRestMs = 0;
  /** The horizon that the newest slot of the control block records. */
  private durableHorizonLsn = 0;
  private maintainMs = Number.NEGATIVE_INFINITY;
  private maintenance: (() => Generator<void>) | undefined;
  /** Deciding what is kept, under way, and when it may go on. */
  private deciding: Generator<void> | undefined;
  private decideMs = Number.NEGATIVE_INFINITY;
  /** How often the live state has been recovered from the log while the store was open. */
  private rebuilds = 0;
  private named: { changes: number; lsns: ReadonlySet<number> } | undefined;
  /** The log before it is to be removed, a segment at a time; 0: nothing is. */
  private trimLsn = 0;
  /** When the next segment may be. */
  private trimMs = Number.NEGATIVE_INFINITY;
  /** The data file is longer than it need be. */
  private hasLooseEnd = false;
  /** What has been reclaimed since the store was opened. */
  readonly reclaimed: ReclaimResult = { versions: 0, pages: 0, rows: 0 };
  /** How many wait for reclaiming so much that its budget does not count. */
  private hurries = 0;
  /** How many wait for background work so much that it does not rest. */
  private waiters = 0;
  private failed: LsnfsError | undefined;
  private closing: Promise<void> | undefined;
  private spaceReadMs = Number.NEGATIVE_INFINITY;
  private spaceBytes = 0;
  /** Transactions replayed when the store was opened, for people. */
  readonly recovered: Readonly<ReplayResult>;

  /** Makes an empty store in a directory. @throws LsnfsError STORE_EXISTS, INVALID_INPUT or IO. */
  static initialize(directory: StorageDirectory, options: InitializeOptions = {}): void {
    initializeStore(directory, options);
  }

  /**
   * Opens a store: recovers, and makes the log ready. The caller holds the store's lock.
   * @throws LsnfsError that says what is wrong with the store.
   */
  static open(directory: StorageDirectory, options: StoreOptions = {}): Store {
    const slots = readControl(directory);
    const settings = mergeSettings({ ...readSettingsFile(directory), ...options.settings }, 'the options');
    const readOnly = options.readOnly === true;
    const data = directory.open(DATA_NAME, { readOnly });
    let control: Device | undefined;
    try {
      control = directory.open(CONTROL_NAME, { readOnly });
      return new Store(directory, settings, slots, { data, control }, options);
    } catch (error) {
      control?.close();
      data.close();
      throw error;
    }
  }

  /** The store's secret id, for its lock. */
  static readId(directory: StorageDirectory): Uint8Array {
    return readControl(directory).newest.storeId;
  }

  private constructor(
    directory: StorageDirectory,
    settings: Settings,
    slots: ControlSlots,
    devices: { readonly data: Device; readonly control: Device },
    options: StoreOptions,
  ) {
    this.directory = directory;
    this.settings = settings;
    this.options = options;
    this.readOnly = options.readOnly === true;
    this.data = devices.data;
    this.controlDevice = devices.control;
    this.cache = new PageCache(this.data, slots.newest.pageSize, settings.cacheSizeBytes);
    const opened = openNewestCheckpoint(this.cache, slots, (message) => this.options.warn?.(message));
    // The next slot that is written is the other one than that of `opened`, also when that is not the newest.
    const fellBack = opened.control !== slots.newest;
    this.control = { ...opened.control, sequence: slots.newest.sequence + (fellBack ? 1 : 0) };
    const { catalog, freeSpace, freeSpaceDamage } = openCatalog(this.cache, opened);
    this.catalog = catalog;
    this.freeSpace = freeSpace;
    if (freeSpaceDamage !== undefined && !this.readOnly) {
      this.fail(freeSpaceDamage, 'the list of free space is damaged');
    }
    const host = this.makeHost();
    this.live = new LiveTree(this.cache, opened.versionRoot, host);
    this.lastSealLsn = opened.versionRoot.lsn;
    this.lastSealMs = this.monotonicMs();
    if (!this.readOnly) confirmControl(this.controlDevice, opened.control);
    this.recovered = this.replayWhatCanBe(witnessedLsn(slots.newest), opened.versionRoot);
    // Not when replay ended with a snapshot: its state is sealed already, and two versions of one LSN are impossible.
    this.changed = this.recovered.transactions > 0 && this.live.lsn > this.lastSealLsn;
    if (this.readOnly) {
      this.log = new ClosedLog(this.recovered.endLsn, this.control.segmentSize, directory);
      this.isLogOpen = true;
      return;
    }
    // Before the log is open, which would have to be closed again if this failed.
    if (this.control.cleanShutdown) {
      this.writeControl({ ...this.control, sequence: this.control.sequence + 1, cleanShutdown: false });
    }
    const openLog = options.openLog ?? ((logOptions) => new InProcessLog(logOptions));
    this.log = openLog({
      directory,
      storeId: this.control.storeId,
      segmentSize: this.control.segmentSize,
      endLsn: this.recovered.endLsn,
      previousChecksum: this.recovered.previousChecksum ?? 0,
      lastTimeMicroseconds: this.recovered.timeMicroseconds,
      syncFrom: this.control.checkpoint.lsn,
      dataDevice: this.data,
      commitIntervalMs: settings.commitIntervalMs,
    });
    this.isLogOpen = true;
    if (options.background !== 'caller') this.startTimer();
  }

  private makeHost(): LiveHost {
    const self = this;
    return {
      get log() {
        return self.log;
      },
      get free() {
        return self.freeSpace;
      },
      get data() {
        return self.data;
      },
      get readOnly() {
        return self.readOnly || self.failure !== undefined;
      },
      past: () => this.past(),
      relieve: (operations) => {
        if (!this.isBehind) return;
        this.relieve(Math.min(RELIEF_MAXIMUM_MS, RELIEF_MS * Math.max(1, operations)));
      },
      admit: (frees) => this.admit(frees),
      admitData: (pages) => this.admitData(pages),
      rebuild: () => this.rebuild(),
      changed: () => {
        this.changed = true;
      },
      now: () => this.now(),
    };
  }

  private monotonicMs(): number {
    return this.options.monotonicMs?.() ?? performance.now();
  }

  /** Microseconds since 1970, never less than the live state's time. */
  now(): number {
    // Times never go backwards with LSNs, whatever the system's clock does: states are found by them.
    return Math.max(this.options.now?.() ?? Date.now() * 1000, this.live.timeMicroseconds);
  }

  /** What the next opening will find in `lsnfs.json`. @throws LsnfsError INVALID_INPUT, IO */
  savedSettings(): Settings {
    return mergeSettings(readSettingsFile(this.directory), SETTINGS_NAME);
  }

  /**
   * Changes a setting in `lsnfs.json`, and from this moment on here too, unless it is one of SETTINGS_AT_OPEN.
   * @throws LsnfsError INVALID_INPUT when it may not be that; READ_ONLY, STORE_CLOSED, IO, NO_SPACE
   */
  changeSetting(name: keyof Settings, value: unknown): void {
    if (this.readOnly) throw new LsnfsError('READ_ONLY', 'the store is open for reading only');
    if (this.closing !== undefined) throw new LsnfsError('STORE_CLOSED', 'the store is closed');
    const given = { ...readSettingsFile(this.directory), [name]: value };
    const saved = mergeSettings(given, SETTINGS_NAME);
    writeSettingsFile(this.directory, given);
    if (!SETTINGS_AT_OPEN.has(name)) Object.assign(this.settings, { [name]: saved[name] });
    // What is kept may be something else now.
    this.maintainMs = Math.min(this.maintainMs, this.monotonicMs() + MAINTENANCE_MINIMUM_MS);
  }

  /** Why the store takes no more changes, or undefined. */
  get failure(): LsnfsError | undefined {
    return this.failed ?? this.log.failure;
  }

  get durableLsn(): number {
    return this.log.durableLsn;
  }

  get checkpointLsn(): number {
    return this.control.checkpoint.lsn;
  }

  get horizonLsn(): number {
    return this.catalog.horizonLsn;
  }

  get horizonTimeMicroseconds(): number {
    return this.catalog.horizonTimeMicroseconds;
  }

  /**
   * Replays the log. A store that is only read shows an older state when a page is damaged that replay needs: that of
   * the last transaction before the one which cannot be applied.
   */
  private replayWhatCanBe(knownDurableLsn: number, root: VersionRoot): ReplayResult {
    try {
      return this.replayLog(knownDurableLsn, !this.readOnly);
    } catch (error) {
      if (!this.readOnly || !(error instanceof CorruptPageError)) throw error;
      const { lsn } = this.live;
      this.live.resetTo(root);
      this.seals.length = 0;
      // The first attempt has claimed pages, and a store that is only read needs none.
      this.freeSpace = FreeSpace.unknown(this.freeSpace.frontier);
      this.options.warn?.(
        `the log cannot be applied from LSN ${lsn} on, and what is shown is the state at that LSN: ${error.message}`,
      );
      return this.replayLog(knownDurableLsn, false, lsn);
    }
  }

  private replayLog(
    knownDurableLsn: number,
    confirm: boolean,
    limit = Number.POSITIVE_INFINITY,
  ): ReplayResult {
    const self = this;
    return replay(this.live, this.directory, this.data, this.control, knownDurableLsn, confirm, {
      get freeSpace() {
        return self.freeSpace;
      },
      limit,
      snapshotApplied: () => this.seal(),
      restoring: () => {
        if (this.live.lsn > this.lastSealLsn) this.seal();
      },
      restored: () => this.seal(false, this.lastSealLsn),
      past: this.past(),
      damaged: (message) => this.options.warn?.(message),
    });
  }

  private admit(frees = false): void {
    if (this.readOnly) throw new LsnfsError('READ_ONLY', 'the store is open for reading only');
    if (this.closing !== undefined) throw new LsnfsError('STORE_CLOSED', 'the store is closed');
    const { failure } = this;
    if (failure !== undefined) {
      throw new LsnfsError(
        'STORE_FAILED',
        `the store takes no more changes: ${failure.message}`,
        failure.details,
        {
          cause: failure,
        },
      );
    }
    // What takes away can be done on a full disk, as long as the log has room and memory can hold it.
    if (frees && !this.isBehind) return;
    this.admitData(0);
  }

  private admitData(pages: number): void {
    const { pageSize } = this.control;
    const now = this.monotonicMs();
    if (now - this.spaceReadMs > SPACE_READING_MS) {
      this.spaceReadMs = now;
      this.spaceBytes = this.directory.freeBytes();
    }
    const needed = SPACE_RESERVE + (pages + this.live.pages.dirtyCount * 1.25) * pageSize;
    if (this.spaceBytes < needed) {
      this.spaceReadMs = Number.NEGATIVE_INFINITY;
      throw new LsnfsError('NO_SPACE', `the file system that holds ${this.directory.path} is full`, {
        store: this.directory.path,
        free: this.spaceBytes,
        needed: Math.ceil(needed),
      });
    }
    this.spaceBytes -= pages * pageSize;
  }

  /** Bytes that programs may still write, for statfs. */
  availableBytes(): number {
    const reserved = SPACE_RESERVE + this.live.pages.dirtyCount * 1.25 * this.control.pageSize;
    return Math.max(0, this.directory.freeBytes() - reserved);
  }

  /** Forgets all that is in memory and recovers the live state from the last checkpoint and the log. */
  private rebuild(): void {
    try {
      this.recoverLive();
    } catch (error) {
      // Half of a change must never be seen: then nothing of the live state is.
      this.fail(error, 'a failed change could not be undone');
      this.live.lose(this.failed!);
      throw this.failed;
    }
  }

  private recoverLive(): void {
    this.rebuilds++;
    this.running = undefined;
    this.placing = undefined;
    this.seals.length = 0;
    for (const hold of this.holds) hold.isBroken = true;
    this.log.flushToFiles();
    const opened = openNewestCheckpoint(this.cache, { newest: this.control, older: undefined }, () => {});
    const { catalog, freeSpace, freeSpaceDamage } = openCatalog(this.cache, opened);
    if (freeSpaceDamage !== undefined) throw freeSpaceDamage;
    this.catalog = catalog;
    this.freeSpace = freeSpace;
    this.reclaiming = undefined;
    this.deciding = undefined;
    this.reclaimedBase = 0;
    this.settled = undefined;
    this.live.resetTo(opened.versionRoot);
    this.lastSealLsn = opened.versionRoot.lsn;
    const replayed = this.replayLog(this.log.durableLsn, false);
    if (replayed.endLsn !== this.log.lsn) {
      const { endLsn, reason } = replayed;
      throw new LsnfsError('CORRUPT_LOG', `the log ends at ${endLsn} and not at ${this.log.lsn} (${reason})`);
    }
    this.changed = this.live.lsn > this.lastSealLsn;
  }

  /** Whether changes come faster than checkpoints are written: whoever can is to wait for the disk. */
  get isBehind(): boolean {
    const { dirtyCount, pageSize } = this.live.pages;
    return dirtyCount * pageSize > RELIEF_FACTOR * this.settings.checkpointDirtyBytes;
  }

  /** Makes everything so far durable. Returns the LSN. */
  async commit(): Promise<number> {
    const { lsn } = this.live;
    await this.log.sync(lsn);
    return lsn;
  }

  /**
   * Names the present state. Durable when the promise resolves; the state is held at once.
   * @throws LsnfsError NAME_TAKEN; INVALID_INPUT when name and message do not fit a page.
   */
  async createSnapshot(name: string, message: string): Promise<SnapshotRow> {
    const row = this.nameState(name, message);
    await this.log.sync(row.lsn);
    return row;
  }

  /** Names and holds the present state. */
  private nameState(name: string, message: string): SnapshotRow {
    this.admit();
    this.requireNoTransaction('make a snapshot');
    const key = Buffer.from(name, 'utf8');
    if (this.live.registry.find(key)) {
      throw new LsnfsError('NAME_TAKEN', `there is a snapshot "${name}" already`, { name });
    }
    const createdMicroseconds = this.now();
    const records = new RecordWriter(16 * 1024);
    records.snapshot(name, createdMicroseconds, message);
    // First the tree, which may refuse the row, or have a damaged page: what is in the log must be possible to apply.
    const row: SnapshotRow = { name, lsn: 0, createdMicroseconds, message, holds: [] };
    this.live.registry.put(key, encodeSnapshotRow(row));
    try {
      row.lsn = this.appendOwn(records);
    } catch (error) {
      this.live.registry.delete(key);
      throw error;
    }
    this.live.registry.put(key, encodeSnapshotRow(row));
    this.changed = true;
    this.seal();
    return row;
  }

  /**
   * Names the present state, and then makes with `change`, as one transaction, the one that restores what is older. When
   * `change` throws, nothing has happened. Durable when the promise resolves. Returns the name's row, and where the
   * restored state begins.
   * @throws as `createSnapshot`; what `change` throws
   */
  async restore(
    name: string,
    message: string,
    change: () => void,
  ): Promise<{ before: SnapshotRow; lsn: number }> {
    const before = this.nameState(name, message);
    try {
      change();
    } catch (error) {
      if (this.failure === undefined) await this.deleteSnapshot(name);
      throw error;
    }
    const { lsn } = this.live;
    this.seal(false, before.lsn);
    await this.log.sync(lsn);
    return { before, lsn };
  }

  /**
   * Gives a snapshot what `change` makes of its row: another name or other holds. Durable when the promise resolves.
   * @throws LsnfsError NO_SUCH_SNAPSHOT, NAME_TAKEN; INVALID_INPUT when the row does not fit a page; what `change` throws
   */
  async changeSnapshot(name: string, change: (row: SnapshotRow) => SnapshotRow): Promise<SnapshotRow> {
    this.admit();
    this.requireNoTransaction('change a snapshot');
    const { live } = this;
    const row = this.snapshot(name);
    if (row === undefined) throw noSuchSnapshot(name);
    const changed = change(row);
    const key = Buffer.from(changed.name, 'utf8');
    const isRenamed = changed.name !== name;
    if (isRenamed && live.registry.find(key)) {
      throw new LsnfsError('NAME_TAKEN', `there is a snapshot "${changed.name}" already`, {
        name: changed.name,
      });
    }
    const value = encodeSnapshotRow(changed);
    if (key.length + value.length > maxCellPayload(live.pageSize)) {
      const message = `what is to be known of the snapshot "${changed.name}" does not fit a page: shorten its name or release holds`;
      throw new LsnfsError('INVALID_INPUT', message, { name });
    }
    live.begin();
    let lsn: number;
    try {
      if (isRenamed) live.delete(TREE.registry, Buffer.from(name, 'utf8'));
      live.put(TREE.registry, key, value);
      lsn = live.commit();
    } catch (error) {
      live.rollback();
      throw error;
    }
    await this.log.sync(lsn);
    return changed;
  }

  /** @throws LsnfsError NO_SUCH_SNAPSHOT; SNAPSHOT_HELD with the tags of those who hold it */
  async deleteSnapshot(name: string): Promise<number> {
    this.admit();
    this.requireNoTransaction('delete a snapshot');
    const key = Buffer.from(name, 'utf8');
    const row = this.live.registry.get(key);
    if (row === undefined) throw noSuchSnapshot(name);
    const { holds } = decodeSnapshotRow(key, row);
    if (holds.length > 0) {
      const tags = holds.map((tag) => `"${tag}"`).join(', ');
      throw new LsnfsError('SNAPSHOT_HELD', `the snapshot "${name}" is held by ${tags}: release it first`, {
        name,
      });
    }
    const records = new RecordWriter(1024);
    records.snapshotDelete(name);
    const kept = Buffer.from(row);
    this.live.registry.delete(key);
    let lsn: number;
    try {
      lsn = this.appendOwn(records);
    } catch (error) {
      this.live.registry.put(key, kept);
      throw error;
    }
    this.changed = true;
    await this.log.sync(lsn);
    return lsn;
  }

  /** A state that is held amid a transaction would hold half of it. */
  private requireNoTransaction(what: string): void {
    if (!this.live.isChanging) return;
    throw new LsnfsError('INVALID_INPUT', `a transaction is under way: ${what} before or after it`);
  }

  /** All snapshots, by LSN. */
  snapshots(): SnapshotRow[] {
    const rows: SnapshotRow[] = [];
    for (const { key, value } of this.live.registry.entries()) rows.push(decodeSnapshotRow(key, value));
    return rows.sort((a, b) => a.lsn - b.lsn);
  }

  /** All snapshots, in no order, in steps between which there may be changes. */
  snapshotRows(): Iterable<SnapshotRow> {
    return mapped(this.live.registry.entries(), ({ key, value }) => decodeSnapshotRow(key, value));
  }

  /** The LSNs of all snapshots: listed anew when the registry has changed. */
  private snapshotLsns(): ReadonlySet<number> {
    const { registry } = this.live;
    if (this.named?.changes !== registry.changes) {
      const lsns = new Set<number>();
      const cursor = registry.cursor();
      for (let has = cursor.first(); has; has = cursor.next()) {
        lsns.add(snapshotRowLsn(cursor.page.bytes, cursor.valueStart, cursor.valueLength));
      }
      this.named = { changes: registry.changes, lsns };
    }
    return this.named.lsns;
  }

  snapshot(name: string): SnapshotRow | undefined {
    const key = Buffer.from(name, 'utf8');
    const value = this.live.registry.get(key);
    return value === undefined ? undefined : decodeSnapshotRow(key, value);
  }

  /** Appends a transaction of the store itself. Returns where it ends. */
  private appendOwn(records: RecordWriter): number {
    this.log.reserve(records.length);
    const time = this.now();
    this.live.lsn = this.log.append(records.bytes, records.length, time);
    this.live.timeMicroseconds = time;
    return this.live.lsn;
  }

  /**
   * Holds the present state for a checkpoint. No state is held twice: a version is known by its LSN. `replaced`: the LSN
   * of the version that a restore has replaced by the present state.
   */
  private seal(catalogOnly = false, replaced?: number): void {
    const { live } = this;
    const { generation, deaths } = live.pages.seal();
    const tree = (of: LiveTree['namespace']): TreeRef => ({ ...of.root, pageCount: of.pageCount });
    const root: VersionRoot = {
      lsn: live.lsn,
      timeMicroseconds: live.timeMicroseconds,
      namespace: tree(live.namespace),
      inodes: tree(live.inodes),
      registry: tree(live.registry),
      nextInode: live.counters.nextInode,
      inodeCount: live.counters.inodes,
      dataPages: live.counters.dataPages,
    };
    const { liveMark } = this.freeSpace;
    this.seals.push({ generation, root, deaths, liveMark, catalogOnly, replaced });
    this.changed = false;
    this.catalogChanged = false;
    this.lastSealLsn = live.lsn;
    this.lastSealMs = this.monotonicMs();
    this.lastSealDirectPages = live.directPages;
  }

  /** Whether a checkpoint is due. */
  private isDue(): boolean {
    if (!this.changed) return this.catalogChanged && this.isTimeForCheckpoint();
    const { settings, live } = this;
    return (
      live.pages.dirtyCount * live.pageSize >= settings.checkpointDirtyBytes ||
      live.lsn - this.lastSealLsn >= settings.checkpointLogBytes ||
      (live.directPages - this.lastSealDirectPages) * live.pageSize >=
        DIRECT_FACTOR * settings.checkpointLogBytes ||
      this.isTimeForCheckpoint()
    );
  }

  private isTimeForCheckpoint(): boolean {
    return this.monotonicMs() - this.lastSealMs >= this.settings.checkpointIntervalMs;
  }

  /** Whether `backgroundStep` has something to do. */
  hasBackgroundWork(): boolean {
    if (this.failure !== undefined || this.readOnly) return false;
    const hasWork =
      this.running !== undefined ||
      this.seals.length > 0 ||
      this.abandoned ||
      this.isDue() ||
      this.isReclaimDue() ||
      this.isDecidingDue() ||
      this.isTrimDue();
    return hasWork && (this.postponed === undefined || this.monotonicMs() >= this.retryMs);
  }

  /** Whether there will be something to do within some milliseconds: work that goes on in pieces, with rests between. */
  hasWorkLater(): boolean {
    if (this.failure !== undefined || this.readOnly || this.postponed !== undefined) return false;
    return this.deciding !== undefined || this.isReclaimNeeded() || this.trimLsn > 0 || this.hasLooseEnd;
  }

  /**
   * Room for a checkpoint is looked for first; that it is taken by somebody else meanwhile, or that the process has no
   * descriptor left, is no failure of the store: everything is in the log. The checkpoint is tried again later.
   */
  private postpone(error: LsnfsError): void {
    if (this.postponed === undefined) {
      this.options.warn?.(`checkpoints wait, and the log holds what they would: ${error.message}`);
    }
    this.postponed = error;
    this.retryMs = this.monotonicMs() + POSTPONE_MS;
  }

  private hasRoomForCheckpoint(): boolean {
    const { pageSize } = this.control;
    const pages = this.live.pages.dirtyCount * 1.25 - this.freeSpace.freePages;
    let shortage: LsnfsError;
    try {
      const free = this.directory.freeBytes();
      const needed = Math.ceil(Math.max(0, pages) * pageSize) + CHECKPOINT_ROOM;
      if (free >= needed) return true;
      const message = `the file system that holds ${this.directory.path} has ${free} bytes left of ${needed} that a checkpoint may need`;
      shortage = new LsnfsError('NO_SPACE', message, { free, needed });
    } catch (error) {
      if (!(error instanceof LsnfsError)) throw error;
      shortage = error;
    }
    this.postpone(shortage);
    return false;
  }

  /** Whether room in the log can be had for the checkpoint's own record. */
  private hasRoomInLog(bytes: number): boolean {
    try {
      this.log.reserve(bytes);
      return true;
    } catch (error) {
      if (!isShortage(error)) throw error;
      this.postpone(error);
      return false;
    }
  }

  /** At the beginning of an operation, which may have read the live state already: when that is recovered, it ends. */
  private relieve(budgetMs: number): void {
    this.checkpointStep(budgetMs);
    if (this.recoverAbandoned()) throw this.failure ?? this.postponed!;
  }

  /**
   * Works on checkpoints for about `budgetMs`. Returns what is left: nothing, more work, or a wait for the disk. `restMs`:
   * reclaiming rests at least so long after a piece, whatever its budget, for somebody is being served.
   */
  backgroundStep(budgetMs: number, restMs = 0): 'idle' | StepState {
    this.reclaimRestMs = restMs;
    const state = this.checkpointStep(budgetMs);
    return this.recoverAbandoned() ? 'blocked' : state;
  }

  /** After a checkpoint that was given up halfway: brings the live state back. Returns whether there was one. */
  private recoverAbandoned(): boolean {
    if (!this.abandoned) return false;
    this.abandoned = false;
    try {
      this.live.recover();
    } catch (error) {
      // The store has failed, and says so to everybody.
      if (this.failure === undefined) throw error;
    }
    return true;
  }

  private checkpointStep(budgetMs: number): 'idle' | StepState {
    if (this.failure !== undefined || this.readOnly) return 'idle';
    const end = this.monotonicMs() + budgetMs;
    if (this.postponed !== undefined && end - budgetMs < this.retryMs) return 'blocked';
    do {
      if (this.running === undefined) {
        const due = this.seals.length > 0 || this.isDue();
        if (due && !this.hasRoomForCheckpoint()) return 'blocked';
        if (this.seals.length === 0 && due) this.seal(!this.changed);
        const next = this.seals.shift();
        if (next === undefined) return this.maintainSafely(end);
        this.running = this.checkpointSteps(next);
      }
      try {
        const step = this.running.next();
        if (step.done === true) {
          this.running = undefined;
          this.postponed = undefined;
        } else if (step.value !== 'work') return step.value;
      } catch (error) {
        this.running = undefined;
        return this.giveUp(error);
      }
    } while (this.monotonicMs() < end);
    return 'work';
  }

  private maintainSafely(end: number): 'idle' | 'work' | 'blocked' {
    try {
      return this.maintain(end);
    } catch (error) {
      this.deciding = undefined;
      this.reclaiming = undefined;
      return this.giveUp(error);
    }
  }

  /**
   * A checkpoint cannot go on. Nothing on disk names what it has written, but the live state may name pages that have
   * their places and are not in the file.
   */
  private giveUp(error: unknown): 'idle' | 'blocked' {
    const { placing } = this;
    this.placing = undefined;
    if (isShortage(error) && this.failure === undefined) {
      this.postpone(error);
      this.abandoned = placing !== undefined;
      return 'blocked';
    }
    if (this.failed === undefined) this.fail(error);
    placing?.keepUnwritten();
    return 'idle';
  }

  private *checkpointSteps(seal: Seal): Generator<StepState, void> {
    const checkpoint = new Checkpoint(
      this.live,
      this.catalog,
      this.freeSpace,
      this.data,
      seal,
      () => this.seals,
    );
    this.placing = checkpoint;
    const steps = checkpoint.run();
    let step = steps.next();
    while (step.done !== true) {
      yield 'work';
      step = steps.next();
    }
    this.placing = undefined;
    const { lsn, timeMicroseconds, catalog, horizonLsn } = step.value;
    const records = new RecordWriter(1024);
    records.checkpoint(lsn, timeMicroseconds, catalog.number, catalog.lsn, catalog.checksum);
    while (!this.hasRoomInLog(records.length)) yield 'blocked';
    this.log.noteDataDirty();
    const position = this.log.lsn;
    this.waitingFor = this.appendOwn(records);
    this.log.requestSync(this.waitingFor);
    while (this.log.durableLsn < this.waitingFor) {
      this.log.poll();
      if (this.log.failure !== undefined) throw this.log.failure;
      if (this.log.durableLsn < this.waitingFor) yield 'wait';
    }
    try {
      this.writeControl({
        ...this.control,
        sequence: this.control.sequence + 1,
        cleanShutdown: false,
        checkpoint: {
          lsn,
          position,
          timeMicroseconds,
          rootPage: catalog.number,
          rootLsn: catalog.lsn,
          rootChecksum: catalog.checksum,
        },
      });
    } catch (error) {
      // Whatever the reason is, what the slot holds now nobody knows: final, also when it is a want of room.
      this.fail(error, 'the control block could not be written');
      throw error;
    }
    this.afterCheckpoint(lsn, horizonLsn);
  }

  private afterCheckpoint(lsn: number, horizonLsn: number): void {
    // The older slot may still be needed, and with it the log from its horizon on.
    const trimLsn = this.durableHorizonLsn;
    this.durableHorizonLsn = horizonLsn;
    this.maintainMs = Math.min(this.maintainMs, this.monotonicMs() + MAINTENANCE_MINIMUM_MS);
    if (this.holds.size > 0) return;
    this.freeSpace.releaseQuarantined(lsn);
    this.trimLsn = trimLsn;
    this.hasLooseEnd = true;
    if (this.hasFreeTail) this.catalogChanged = true;
    // What was reclaimed can be given out when one more checkpoint is durable.
    if (this.freeSpace.quarantinedPages >= QUARANTINE_MAXIMUM) this.catalogChanged = true;
  }

  /** Whether the next checkpoint makes the data file shorter. */
  private get hasFreeTail(): boolean {
    return (this.freeSpace.tail?.count ?? 0) >= TAIL_MINIMUM;
  }

  /** Cuts free pages off the end of the data file, some at a time. Returns whether there were any. */
  private cutTail(): boolean {
    if (!this.hasLooseEnd) return false;
    const { freeSpace, data } = this;
    const size = data.size();
    const end = Math.max(freeSpace.frontier * this.control.pageSize, size - CUT_BYTES);
    this.hasLooseEnd = size > end;
    if (this.hasLooseEnd) data.truncate(end);
    return this.hasLooseEnd;
  }

  /** Removes one segment of the log that nobody needs. Returns whether there was one. */
  private trimLog(): boolean {
    if (this.trimLsn === 0) return false;
    // Whoever checks the store reads the log too: then it is seen to after the next checkpoint.
    if (this.holds.size === 0 && this.log.trim(this.trimLsn, 1) > 0) return true;
    this.trimLsn = 0;
    return false;
  }

  /**
   * What is done when no checkpoint is: deciding what is kept, reclaiming what is not, and giving back what the log and
   * the data file need no more. One bounded piece at least, and more until `end`.
   */
  private maintain(end: number): 'idle' | 'work' {
    if (this.isTrimDue()) {
      const start = this.monotonicMs();
      const worked = this.trimLog() || this.cutTail();
      this.trimMs = this.restAfter(start);
      if (worked) return 'work';
    }
    if (this.isDecidingDue()) {
      if (this.deciding === undefined) this.maintainMs = this.monotonicMs() + MAINTENANCE_INTERVAL_MS;
      this.deciding ??= this.maintenance!();
      const { isDone, ms } = this.work(this.deciding, this.endOfPiece(end));
      if (isDone) this.deciding = undefined;
      this.decideMs = this.monotonicMs() + ms * (100 / DECIDING_PERCENT - 1);
      return 'work';
    }
    if (!this.isReclaimDue()) return 'idle';
    this.reclaiming ??= this.startReclaim();
    const { isDone, ms } = this.work(this.reclaiming, this.hurries > 0 ? end : this.endOfPiece(end));
    this.catalogChanged = true;
    if (isDone) this.reclaiming = undefined;
    const now = this.monotonicMs();
    this.reclaimMs = Math.max(this.restAfter(now - ms), now + this.reclaimRestMs);
    return 'work';
  }

  /** When work that began then may go on, for `gcIoBudget` to be kept. */
  private restAfter(startMs: number): number {
    const now = this.monotonicMs();
    return now + (now - startMs) * (100 / this.settings.gcIoBudget - 1);
  }

  /** Removing segments and cutting the data file off are system calls of some milliseconds each. */
  private isTrimDue(): boolean {
    return (this.trimLsn > 0 || this.hasLooseEnd) && (this.waiters > 0 || this.monotonicMs() >= this.trimMs);
  }

  private endOfPiece(end: number): number {
    return Math.min(end, this.monotonicMs() + PIECE_MS);
  }

  /** Does steps until `end`. Returns whether these were the last, and how long they took. */
  private work(steps: Generator<void, unknown>, end: number): { isDone: boolean; ms: number } {
    const start = this.monotonicMs();
    for (;;) {
      const isDone = steps.next().done === true;
      const now = this.monotonicMs();
      if (isDone || now >= end) return { isDone, ms: now - start };
    }
  }

  private isDecidingDue(): boolean {
    return (this.deciding !== undefined || this.isMaintenanceDue()) && this.monotonicMs() >= this.decideMs;
  }

  private isMaintenanceDue(): boolean {
    return this.maintenance !== undefined && this.monotonicMs() >= this.maintainMs;
  }

  private isReclaimDue(): boolean {
    return (this.hurries > 0 || this.monotonicMs() >= this.reclaimMs) && this.isReclaimNeeded();
  }

  private isReclaimNeeded(): boolean {
    const { catalog } = this;
    return (
      this.reclaiming !== undefined ||
      this.unpinned ||
      this.reclaimedBase < catalog.horizonLsn ||
      catalog.hasDropped ||
      catalog.reclaimedLsn < this.settledLsn()
    );
  }

  /**
   * Decides what is kept, reclaims the rest to the end and lists it as free, durably. `hurry`: without regard to
   * `gcIoBudget`. What the store does for others goes on meanwhile.
   * @throws LsnfsError the failure of the store; NO_SPACE when checkpoints wait for room
   */
  async collect(hurry: boolean): Promise<void> {
    this.admit(true);
    const ones = hurry ? 1 : 0;
    this.hurries += ones;
    this.waiters += ones;
    try {
      this.requestCheckpoint();
      await this.driveWell();
      await this.decide();
      while (this.isReclaimNeeded()) {
        await this.driveWell();
        const pauseMs = hurry ? 0 : this.reclaimMs - this.monotonicMs();
        if (pauseMs > 0) await new Promise((resolve) => setTimeout(resolve, Math.min(pauseMs, 250)));
      }
      // The first lists it, the second gives it out, and cuts the end of the data file off.
      for (let i = 0; i < 2 || (i < 5 && this.hasFreeTail); i++) await this.checkpointCatalog();
    } finally {
      this.hurries -= ones;
      this.waiters -= ones;
    }
  }

  /** Decides what is kept, at once. @throws as `collect` */
  private async decide(): Promise<void> {
    const steps = this.maintenance?.();
    for (let end = performance.now() + this.turnMs; steps?.next().done === false; ) {
      if (performance.now() < end) continue;
      // What is decided is applied when no checkpoint is under way.
      await this.driveWell();
      await new Promise((resolve) => setImmediate(resolve));
      end = performance.now() + this.turnMs;
    }
  }

  /**
   * Moves pages from the end of the data file into free space (compaction.ts). The file gets shorter when nothing that is
   * kept holds the old places any more: see `collect`, to be called before and after. @throws as `collect`
   */
  async compact(options: CompactionOptions): Promise<CompactionOutcome> {
    if (!options.dryRun) this.admit(true);
    const ones = options.fullSpeed ? 1 : 0;
    this.waiters += ones;
    try {
      return await compact(this.compactionHost(), options);
    } finally {
      this.waiters -= ones;
    }
  }

  /** What compaction works on, for `compact` and the crash laboratory. */
  compactionHost(): CompactionHost {
    const self = this;
    return {
      get live() {
        return self.live;
      },
      get catalog() {
        return self.catalog;
      },
      get freeSpace() {
        return self.freeSpace;
      },
      get data() {
        return self.data;
      },
      get rebuilds() {
        return self.rebuilds;
      },
      get turnMs() {
        return self.turnMs;
      },
      get percent() {
        return self.settings.gcIoBudget;
      },
      get isFull() {
        return self.live.pages.dirtyCount * self.live.pageSize * 2 > self.settings.checkpointDirtyBytes;
      },
      get canMove() {
        return !self.live.isChanging && self.live.lsn > self.lastSealLsn && self.failure === undefined;
      },
      get isQuiet() {
        return self.running === undefined && self.seals.length === 0 && self.failure === undefined;
      },
      leaseNewest: () => this.leaseState(this.catalog.versionBefore(Number.MAX_SAFE_INTEGER - 1)!.lsn),
      noteDataDirty: () => this.log.noteDataDirty(),
      moved: () => {
        this.changed = true;
      },
      movedOfCatalog: () => {
        this.catalogChanged = true;
      },
      checkpoint: () => this.checkpointCatalog(),
    };
  }

  /** Makes what has been decided about versions durable, and lists what has been reclaimed. @throws as `collect` */
  async checkpointCatalog(): Promise<void> {
    this.requireNoTransaction('write a checkpoint');
    if (this.catalogChanged || this.changed) this.seal(!this.changed);
    await this.driveWell();
  }

  /** Runs what is due. @throws LsnfsError why it could not be done */
  private async driveWell(): Promise<void> {
    await this.drive();
    if (this.closing !== undefined) throw new LsnfsError('STORE_CLOSED', 'the store is closed');
    if (this.failure !== undefined) throw this.failure;
    if (this.postponed !== undefined) throw this.postponed;
  }

  /** Counts what retaining so would give back, in steps. */
  measureRetention(baseLsn: number, kept: Iterable<number>): Generator<void, ReclaimResult> {
    const points = new Set([...kept, ...this.pins.keys()]);
    return measureGarbage(
      this.catalog,
      [...points].sort((a, b) => a - b),
      baseLsn,
    );
  }

  /** Deaths up to it concern no open state that is not a version. Asked after every request. */
  private settledLsn(): number {
    if (this.settled === undefined) {
      let settled = this.catalog.horizonLsn;
      for (const pin of this.pins.keys()) {
        if (pin <= settled && this.catalog.version(pin) === undefined) settled = pin - 1;
      }
      this.settled = settled;
    }
    return this.settled;
  }

  private startReclaim(): Generator<void, ReclaimResult> {
    this.unpinned = false;
    this.reclaimedBase = this.catalog.horizonLsn;
    return reclaim(
      this.catalog,
      [...this.pins.keys()],
      this.catalog.horizonLsn,
      this.settledLsn(),
      this.reclaimed,
    );
  }

  /**
   * Called from time to time while the store is open for writing: steps that decide what is kept, and apply it.
   */
  onMaintenance(maintenance: () => Generator<void>): void {
    this.maintenance = maintenance;
  }

  /** Some of the versions after an LSN that can be opened, by LSN; fewer than `most` only at the end. */
  versionsAfter(lsn: number, most: number): VersionRow[] {
    const rows: VersionRow[] = [];
    for (let at = lsn; rows.length < most; at = rows.at(-1)!.lsn) {
      const row = this.catalog.versionAfter(at + 1);
      if (row === undefined) break;
      rows.push(row);
    }
    return rows;
  }

  /** All versions that can be opened, by LSN. */
  versions(): VersionRow[] {
    return [...this.catalog.versionRows()].filter(({ dropped }) => !dropped);
  }

  /**
   * Every state from the version at `baseLsn` on can be opened; of the versions before the newest, those in `dropped`
   * go. Their pages are reclaimed in the background. Only between checkpoints: one that was sealed before would make
   * the decision durable without what it rests on (a snapshot that was deleted since). Returns whether it was done.
   * The decision may be older than this moment: what a snapshot names by now, somebody has opened by now, or is gone
   * already, is left as it is.
   */
  retain(baseLsn: number, dropped: readonly number[]): boolean {
    const { catalog } = this;
    if (this.running !== undefined || this.seals.length > 0) return false;
    const base = catalog.version(baseLsn);
    if (base !== undefined && !base.dropped && base.lsn > catalog.horizonLsn) {
      catalog.horizonLsn = base.lsn;
      this.settled = undefined;
      catalog.horizonTimeMicroseconds = base.timeMicroseconds;
      this.catalogChanged = true;
    }
    if (dropped.length === 0) return true;
    const named = this.snapshotLsns();
    for (const lsn of dropped) {
      const row = catalog.version(lsn);
      if (row === undefined || row.dropped || named.has(lsn) || this.pins.has(lsn)) continue;
      if (lsn === catalog.horizonLsn) continue;
      catalog.addVersion({ ...row, dropped: true });
      catalog.hasDropped = true;
      this.catalogChanged = true;
    }
    return true;
  }

  /** LSNs that open states are built on, or stand at. */
  get pinned(): number[] {
    return [...this.pins.keys()];
  }

  private unpin(lsn: number): void {
    const count = this.pins.get(lsn)! - 1;
    if (count > 0) this.pins.set(lsn, count);
    else {
      this.pins.delete(lsn);
      this.settled = undefined;
      this.unpinned ||= lsn < this.catalog.horizonLsn;
    }
  }

  private writeControl(control: ControlBlock): void {
    const bytes = encodeControl(control);
    this.controlDevice.write(controlSlot(control.sequence) * CONTROL_SLOT_SIZE, bytes, 0, bytes.length);
    this.controlDevice.syncNow();
    this.control = control;
  }

  private fail(error: unknown, what = 'a checkpoint failed'): void {
    this.failed ??= new LsnfsError(
      'STORE_FAILED',
      `${what}: ${error instanceof Error ? error.message : String(error)}`,
      error instanceof LsnfsError ? error.details : {},
      { cause: error },
    );
    this.options.warn?.(
      error instanceof Error && error.stack !== undefined ? error.stack : this.failed.message,
    );
  }

  /** Holds the present state for a checkpoint, which whoever runs the background work then writes. */
  requestCheckpoint(): void {
    if (this.changed) this.seal();
  }

  /** Writes a checkpoint of the present state and waits for it. @throws the failure of the store. */
  async checkpoint(): Promise<void> {
    this.retryMs = Number.NEGATIVE_INFINITY;
    this.requireNoTransaction('write a checkpoint');
    this.requestCheckpoint();
    this.waiters++;
    try {
      await this.drive();
    } finally {
      this.waiters--;
    }
    if (this.failure !== undefined) throw this.failure;
    if (this.postponed !== undefined) throw this.postponed;
  }

  /** Holds all that the newest checkpoint leads to. Checkpoints go on; release it once. */
  hold(): Hold {
    const hold: Hold = {
      isBroken: false,
      release: () => {
        if (!this.holds.delete(hold) || this.holds.size > 0) return;
        this.freeSpace.releaseQuarantined(this.control.checkpoint.lsn);
      },
    };
    this.holds.add(hold);
    return hold;
  }

  /** Runs the checkpoints that are due or sealed to their end, a turn of the event loop at a time. */
  private drive(): Promise<void> {
    if (this.driving === undefined) {
      const driving = this.driveToEnd().finally(() => {
        this.driving = undefined;
      });
      this.driving = driving;
    }
    return this.driving;
  }

  private async driveToEnd(): Promise<void> {
    for (;;) {
      const start = performance.now();
      const state = this.backgroundStep(this.turnMs);
      if (state === 'idle' || state === 'blocked') return;
      try {
        if (state === 'wait') await this.log.sync(this.waitingFor);
        else if (this.waiters > 0) await new Promise((resolve) => setImmediate(resolve));
        else await sleep((performance.now() - start) * REST_FACTOR);
      } catch (error) {
        this.fail(error);
        return;
      }
    }
  }

  /** Where somebody steps the background work between requests, those do not wait for longer pieces of it either. */
  private get turnMs(): number {
    if (this.waiters === 0) return UNHURRIED_TURN_MS;
    return this.options.background === 'caller' ? SERVED_TURN_MS : TURN_MS;
  }

  private startTimer(): void {
    const period = Math.min(this.settings.checkpointIntervalMs, 250);
    const rest = this.hasWorkLater() ? Math.min(period, REST_MS) : period;
    this.timer = setTimeout(async () => {
      if (this.hasBackgroundWork()) await this.drive();
      if (this.closing === undefined) this.startTimer();
    }, rest);
    this.timer.unref();
  }

  /** The version at exactly this LSN. */
  version(lsn: number): VersionRow | undefined {
    const row = this.catalog.version(lsn);
    return row?.dropped === true ? undefined : row;
  }

  /** The oldest version at or after an LSN. */
  versionAfter(lsn: number): VersionRow | undefined {
    return this.catalog.versionAfter(lsn);
  }

  /** The newest version at or before an LSN. */
  versionBefore(lsn: number): VersionRow | undefined {
    return this.catalog.versionBefore(lsn);
  }

  /** The newest version made at or before a time. */
  versionBeforeTime(timeMicroseconds: number): VersionRow | undefined {
    return this.catalog.versionBeforeTime(timeMicroseconds);
  }

  /** States before the present one, by what the catalog and the log have now. */
  past(): VersionsAndLog {
    return new VersionsAndLog({
      cache: this.cache,
      versionRoot: (lsn) => {
        const row = this.catalog.versionBefore(lsn);
        return row === undefined ? undefined : this.readRoot(row);
      },
      eachTransaction: (from, to, visit) => {
        this.eachTransaction(from, to, (transaction) => {
          visit(transaction);
          return true;
        });
      },
    });
  }

  /**
   * The state at an LSN: the newest version at or before it with the log replayed on private pages.
   * The caller has checked that the LSN is within the range. What it leads to may be reclaimed: see `leaseState`.
   */
  openState(lsn: number): TreeState {
    return this.past().open(lsn);
  }

  /** The state at an LSN, as `openState`; what it leads to stays until it is released. */
  leaseState(lsn: number): { state: TreeState; release: () => void } {
    const past = this.past();
    const state = past.open(lsn);
    // The versions that it is built on stay too: once one is dropped, all that the state alone holds is found with it.
    const pins = [...past.used, state.lsn];
    for (const pin of pins) this.pins.set(pin, (this.pins.get(pin) ?? 0) + 1);
    this.settled = undefined;
    return {
      state,
      release: () => {
        for (const pin of pins.splice(0)) this.unpin(pin);
      },
    };
  }

  private readRoot(row: VersionRow): VersionRoot {
    const page = this.cache.get(row.root.number, row.root.lsn, row.root.checksum);
    return decodeVersionRoot(page.bytes, row.root.number);
  }

  /** Reads the whole transactions in (from, to]. Close it; the log stays where it is only while a `hold` lasts. */
  readLog(from: number, to: number): LogReader {
    // While the store is being opened the log is read that is to be replayed.
    if (!this.isLogOpen) return this.logReader(from, to, to);
    // What is durable is in the files, also those of a log that has failed.
    if (to > this.log.durableLsn) this.log.flushToFiles();
    return this.logReader(from, to, Math.min(to, this.log.durableLsn));
  }

  private logReader(from: number, to: number, knownDurableLsn: number): LogReader {
    const { storeId, segmentSize } = this.control;
    return new LogReader(this.directory, {
      storeId,
      segmentSize,
      from,
      limit: to,
      knownDurableLsn,
      searchBehindEnd: false,
    });
  }

  /** Calls `visit` for each whole transaction in (from, to], until it returns false. */
  eachTransaction(from: number, to: number, visit: (transaction: LogTransaction) => boolean): void {
    const reader = this.readLog(from, to);
    try {
      for (const transaction of reader) if (!visit(transaction)) return;
    } finally {
      reader.close();
    }
  }

  /** Size of the data file. */
  get dataBytes(): number {
    return this.data.size();
  }

  statistics(): StoreStatistics {
    const { pageSize } = this.control;
    const { live, catalog, freeSpace } = this;
    let treePages = 1;
    for (const tree of live.trees()) treePages += tree.pageCount;
    const catalogPages = 1 + catalog.trees().reduce((sum, tree) => sum + tree.pageCount, 0);
    const total = freeSpace.frontier;
    const free = freeSpace.freePages;
    const livePages = treePages + live.counters.dataPages;
    const walBytes = this.log.segmentCount * this.log.segmentSize;
    return {
      lsn: live.lsn,
      durableLsn: this.log.durableLsn,
      checkpointLsn: this.control.checkpoint.lsn,
      horizonLsn: catalog.horizonLsn,
      horizonTimeMicroseconds: catalog.horizonTimeMicroseconds,
      pageSize,
      pages: { total, free },
      inodes: live.counters.inodes,
      bytes: {
        live: livePages * pageSize,
        history: Math.max(0, total - free - catalogPages - livePages) * pageSize,
        disk: this.dataBytes + walBytes + 2 * CONTROL_SLOT_SIZE,
      },
      wal: { bytes: walBytes, segments: this.log.segmentCount },
      failure: this.failure?.message ?? null,
      delayed: this.failure === undefined ? (this.postponed?.message ?? null) : null,
    };
  }

  /** For verification: what the catalog knows. */
  inspect(): { catalog: Catalog; freeSpace: FreeSpace; cache: PageCache; control: ControlBlock } {
    return { catalog: this.catalog, freeSpace: this.freeSpace, cache: this.cache, control: this.control };
  }

  /** Commits, writes a last checkpoint and releases everything. @throws the store's failure. */
  close(): Promise<void> {
    this.closing ??= this.finish();
    return this.closing;
  }

  private async finish(): Promise<void> {
    clearTimeout(this.timer);
    try {
      if (this.readOnly) return;
      try {
        await this.finishWriting();
      } finally {
        await this.log.close();
      }
    } finally {
      this.controlDevice.close();
      this.data.close();
    }
  }

  /** @throws the store's failure */
  private async finishWriting(): Promise<void> {
    if (this.failure === undefined) {
      this.waiters++;
      await this.log.sync(this.live.lsn);
      await this.driving;
      if (this.changed) this.seal();
      this.retryMs = Number.NEGATIVE_INFINITY;
      await this.drive();
    }
    if (this.failure !== undefined) throw this.failure;
    // Without a last checkpoint the next opening replays the log.
    if (this.postponed === undefined && !this.control.cleanShutdown) {
      this.writeControl({ ...this.control, sequence: this.control.sequence + 1, cleanShutdown: true });
    }
  }
}

function* mapped<From, To>(from: Iterable<From>, map: (item: From) => To): Generator<To> {
  for (const item of from) yield map(item);
}

function noSuchSnapshot(name: string): LsnfsError {
  return new LsnfsError('NO_SUCH_SNAPSHOT', `there is no snapshot "${name}"`, { name });
}

/** A want of room or descriptors, which may end without anybody's doing. */
function isShortage(error: unknown): error is LsnfsError {
  return error instanceof LsnfsError && (error.code === 'NO_SPACE' || error.code === 'NO_DESCRIPTORS');
}
