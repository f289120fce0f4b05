/**
 * Past states: which there are, how a name becomes one, and who has one open.
 *
 * Every state from the horizon to the newest durable LSN can be opened. A state is opened once, however many look
 * at it, and stays open as long as somebody has a lease on it; a few that nobody has any more are kept, because
 * replaying the log for the same LSN again and again would be wasted work.
 */
import type { SnapshotRow } from '../encoding/catalog.ts';
import { LsnfsError } from '../errors.ts';
import type { StateReader } from '../store/state.ts';
import type { Store } from '../store/store.ts';
import {
  decide,
  decideInSteps,
  type RetainedVersion,
  type RetentionDecision,
  type RetentionInput,
  type RetentionReason,
} from './retention.ts';
import { checkHoldTag, formatTime, parseTarget, parseTypedTarget, type Target } from './targets.ts';

/** Bytes that a snapshot's message may have: with the longest name it fits a page of any size. */
const SNAPSHOT_MESSAGE_MAX = 1024;
/** History is not to take more than this, or a tenth of the file system, where nothing else is set. */
const KEEP_SIZE_MAXIMUM = 10 * 1024 ** 3;
/** Versions or snapshots listed between two yields when it is decided what is kept. */
const STEP_ROWS = 64;
/** States kept open without a lease. */
const IDLE_STATES = 8;

interface OpenState {
  readonly state: StateReader & { readonly timeMicroseconds: number };
  leases: number;
  /** Who has a lease, a name for each. */
  readonly holders: string[];
  readonly release: () => void;
}

/** A state that somebody has open. */
export interface HeldState {
  readonly lsn: number;
  /** Who has it open, for people: "@nightly" for one who came by that name. */
  readonly holders: readonly string[];
}

/** Reasons for which a version is kept that end by themselves when the window has passed. */
const PASSING: ReadonlySet<RetentionReason['kind']> = new Set([
  'newest',
  'base',
  'window',
  'restored',
  'young',
]);

/** A version that is kept for longer than the window. */
export interface PinningVersion {
  readonly lsn: number;
  readonly reasons: readonly RetentionReason[];
}

/** A pin on a state. Release it once. */
export interface Lease {
  readonly state: StateReader;
  /** Of the state's last transaction, in microseconds since 1970. */
  readonly timeMicroseconds: number;
  release(): void;
}

export interface Resolved {
  /** LSN of the last transaction of the state. */
  lsn: number;
  /** Whether the same target will always be this state. */
  immutable: boolean;
}

export class History {
  private readonly store: Store;
  /** By the LSN that was asked for, in order of last use. */
  private readonly states = new Map<number, OpenState>();
  private readonly listeners: ((name: string) => void)[] = [];
  private readonly idleListeners: (() => void)[] = [];

  /** Where the window is to begin at the latest, in microseconds since 1970: history takes more room than it may. */
  private windowNotBefore = 0;
  /** How often what was decided has been applied. */
  private applied = 0;

  constructor(store: Store) {
    this.store = store;
    if (!store.readOnly) store.onMaintenance(() => this.retentionSteps());
  }

  /** The LSNs between which every state can be opened, both included. */
  range(): { oldest: number; newest: number } {
    return { oldest: this.store.horizonLsn, newest: this.store.durableLsn };
  }

  /**
   * Finds the state that a target names.
   * @throws LsnfsError NO_SUCH_STATE with the range that can be opened and the nearest LSN; NO_SUCH_SNAPSHOT.
   */
  resolve(target: Target | string): Resolved {
    const what = typeof target === 'string' ? parseTarget(target) : target;
    switch (what.kind) {
      case 'latest':
        return { lsn: this.range().newest, immutable: false };
      case 'lsn':
        this.checkRange(what.lsn);
        return { lsn: what.lsn, immutable: true };
      case 'time':
        return this.resolveTime(what.timeMicroseconds);
      case 'name': {
        const row = this.store.snapshot(what.name);
        if (row === undefined || !this.isDurable(row)) {
          throw new LsnfsError('NO_SUCH_SNAPSHOT', `there is no snapshot "${what.name}"`, {
            name: what.name,
          });
        }
        return { lsn: row.lsn, immutable: true };
      }
    }
  }

  /** A target as a person typed it for a command, if it is text: see `parseTypedTarget`. @throws LsnfsError INVALID_INPUT */
  typedTarget(target: Target | string): Target {
    if (typeof target !== 'string') return target;
    return parseTypedTarget(target, (name) => this.isSnapshotName(name), Date.now() * 1000);
  }

  /**
   * The state that a restore to a target means: the target's, or, `exclusive`, the last one before it, as PostgreSQL
   * has it for recovery targets. @throws as `resolve`
   */
  resolveRestore(target: Target, exclusive: boolean): number {
    if (!exclusive) return this.resolve(target).lsn;
    if (target.kind === 'time') {
      return this.resolve({ kind: 'time', timeMicroseconds: target.timeMicroseconds - 1 }).lsn;
    }
    const { lsn } = this.resolve(target);
    // Between single versions nobody knows what was just before one.
    if (lsn <= this.range().oldest) this.checkRange(lsn - 1);
    let before = this.store.versionBefore(lsn - 1)!.lsn;
    this.store.eachTransaction(before, lsn, ({ endLsn }) => {
      if (endLsn >= lsn) return false;
      before = endLsn;
      return true;
    });
    this.checkRange(before);
    return before;
  }

  /** A text cut to what a snapshot's message may have. */
  static shortMessage(text: string): string {
    if (Buffer.byteLength(text) <= SNAPSHOT_MESSAGE_MAX) return text;
    return `${Buffer.from(text)
      .toString('utf8', 0, SNAPSHOT_MESSAGE_MAX - 8)
      .replaceAll('\ufffd', '')}…`;
  }

  private checkRange(lsn: number): void {
    const { oldest, newest } = this.range();
    if (lsn >= oldest && lsn <= newest) return;
    if (lsn < oldest && this.store.version(lsn) !== undefined) return;
    const nearest = lsn < oldest ? this.nearestVersion(lsn) : newest;
    const where =
      lsn < oldest ? 'before every state can be opened, and no version that is kept' : 'in the future';
    throw new LsnfsError(
      'NO_SUCH_STATE',
      `LSN ${lsn} is ${where}: states from ${oldest} to ${newest} can be opened, the nearest is ${nearest}`,
      { lsn, oldest, newest, nearest },
    );
  }

  /** The LSN of the kept version that is nearest to one before the horizon. */
  private nearestVersion(lsn: number): number {
    const before = this.store.versionBefore(lsn)?.lsn;
    const after = this.store.versionAfter(lsn)?.lsn ?? this.range().oldest;
    return before === undefined || after - lsn < lsn - before ? after : before;
  }

  /** What is kept, and why. */
  decideRetention(): RetentionDecision {
    const steps = this.decisionSteps();
    for (;;) {
      const step = steps.next();
      if (step.done === true) return step.value;
    }
  }

  /**
   * The same in steps, between which anything may happen. What is decided holds all the same, if only `Store.retain`
   * leaves alone what is named or open by then: versions that have come since are not spoken of, those whose reasons
   * have gone are kept too long, and no other reason can come to an old version, but by other settings and other
   * decisions, of which the caller must know.
   */
  *decisionSteps(): Generator<void, RetentionDecision> {
    const { store } = this;
    const newest = store.versionBefore(Number.MAX_SAFE_INTEGER - 1)!.lsn;
    const versions: RetainedVersion[] = [];
    for (let at = -1; ; yield) {
      const rows = store.versionsAfter(at, STEP_ROWS);
      for (const row of rows) if (row.lsn <= newest) versions.push(row);
      at = rows.at(-1)?.lsn ?? at;
      if (rows.length < STEP_ROWS || at > newest) break;
    }
    const snapshots: { name: string; lsn: number }[] = [];
    for (const { name, lsn } of store.snapshotRows()) {
      snapshots.push({ name, lsn });
      if (snapshots.length % STEP_ROWS === 0) yield;
    }
    const input = { ...this.retentionInput(snapshots), versions };
    return yield* decideInSteps(input, store.settings);
  }

  /** Lets go of what is not to be kept any more. Returns whether it could be done now: not amid a checkpoint. */
  applyRetention(onDecided: (decision: RetentionDecision) => void = () => {}): boolean {
    this.releaseIdle();
    this.shortenWindow();
    const decision = this.decideRetention();
    onDecided(decision);
    return this.apply(decision);
  }

  /** The same in steps, of which the last waits until no checkpoint is under way. */
  *retentionSteps(): Generator<void> {
    this.releaseIdle();
    this.shortenWindow();
    for (;;) {
      const { applied } = this;
      const settings = JSON.stringify(this.store.settings);
      const decision = yield* this.decisionSteps();
      // Another may have been applied meanwhile, and the settings may be others: then this one says nothing.
      const isValid = (): boolean =>
        applied === this.applied && settings === JSON.stringify(this.store.settings);
      let left = decision.dropped;
      while (isValid()) {
        // Any part of a decision holds as the whole does: the rest is only kept longer.
        if (this.store.retain(decision.baseLsn, left.slice(0, STEP_ROWS))) {
          left = left.slice(STEP_ROWS);
          if (left.length === 0) {
            this.applied++;
            return;
          }
        }
        yield;
      }
    }
  }

  private apply({ baseLsn, dropped }: RetentionDecision): boolean {
    const isApplied = this.store.retain(baseLsn, dropped);
    if (isApplied) this.applied++;
    return isApplied;
  }

  /**
   * The versions that hold their pages for longer than the window, with the reasons: what compaction cannot move. It is
   * asked as if there were a newer version, which compaction makes.
   */
  pinningVersions(): PinningVersion[] {
    const { store } = this;
    const versions: RetainedVersion[] = store.versions();
    const next = { lsn: store.live.lsn + 1, timeMicroseconds: store.now(), restored: false };
    const { kept } = decide(
      { ...this.retentionInput(store.snapshots()), versions: [...versions, next] },
      store.settings,
    );
    const pinning: PinningVersion[] = [];
    for (const { lsn } of versions) {
      const reasons = (kept.get(lsn) ?? []).filter(({ kind }) => !PASSING.has(kind));
      if (reasons.length > 0) pinning.push({ lsn, reasons });
    }
    return pinning;
  }

  private retentionInput(
    snapshots: readonly { name: string; lsn: number }[],
  ): Omit<RetentionInput, 'versions'> {
    const { store } = this;
    return {
      snapshots,
      pinned: store.pinned,
      baseLsn: store.horizonLsn,
      windowNotBefore: this.windowNotBefore,
      nowMicroseconds: store.now(),
    };
  }

  /** Closes all states that nobody uses. */
  releaseIdle(): void {
    for (const listener of this.idleListeners) listener();
    this.forgetIdle(0);
  }

  /** Called when leases that are kept for convenience only are to be released. */
  onReleaseIdle(listener: () => void): void {
    this.idleListeners.push(listener);
  }

  /** The states that somebody has open, by LSN. */
  heldStates(): HeldState[] {
    return [...this.states]
      .filter(([, { leases }]) => leases > 0)
      .map(([lsn, { holders }]) => ({ lsn, holders: [...holders] }))
      .sort((a, b) => a.lsn - b.lsn);
  }

  /** Whether the window is shorter than it should be, for want of space. */
  get isWindowShortened(): boolean {
    const { store } = this;
    return this.windowNotBefore > store.now() - store.settings.keepWindowMs * 1000;
  }

  /** While history takes more room than it may, the window loses a quarter at a time. */
  private shortenWindow(): void {
    const { store } = this;
    if (store.statistics().bytes.history <= this.sizeLimit()) return;
    const base = store.horizonTimeMicroseconds;
    const latest = store.now() - store.settings.minRetentionMs * 1000;
    if (latest > base) this.windowNotBefore = Math.floor(base + Math.max(1, (latest - base) / 4));
  }

  private sizeLimit(): number {
    const { settings, directory } = this.store;
    return settings.keepSizeBytes > 0
      ? settings.keepSizeBytes
      : Math.min(KEEP_SIZE_MAXIMUM, directory.totalBytes() / 10);
  }

  /** The state after the last transaction that was made at or before a time. */
  private resolveTime(timeMicroseconds: number): Resolved {
    const { oldest, newest } = this.range();
    let version = this.store.versionBeforeTime(timeMicroseconds);
    // A version that is being written is not durable yet.
    if (version !== undefined && version.lsn > newest) version = this.store.versionBefore(newest);
    const now = Date.now() * 1000;
    if (version === undefined || version.lsn < oldest || timeMicroseconds > now + 1000) {
      const isTooEarly = version === undefined || version.lsn < oldest;
      const oldestTime = formatTime(this.store.horizonTimeMicroseconds);
      const where = isTooEarly ? 'before every state can be opened' : 'in the future';
      const nearest = isTooEarly ? (version?.lsn ?? this.store.versionAfter(0)?.lsn ?? oldest) : newest;
      throw new LsnfsError(
        'NO_SUCH_STATE',
        `${formatTime(timeMicroseconds)} is ${where}: states from ${oldestTime} (LSN ${oldest}) to now (LSN ${newest}) can be opened, the nearest LSN is ${nearest}`,
        { time: formatTime(timeMicroseconds), oldest, newest, nearest },
      );
    }
    let lsn = version.lsn;
    let immutable = false;
    this.store.eachTransaction(version.lsn, newest, (transaction) => {
      if (transaction.timeMicroseconds > timeMicroseconds) {
        immutable = true;
        return false;
      }
      lsn = transaction.endLsn;
      return true;
    });
    return { lsn, immutable };
  }

  /** Opens the state at an LSN; `holder` says who, for people. @throws LsnfsError NO_SUCH_STATE, CORRUPT_LOG, CORRUPT_PAGE, IO */
  open(lsn: number, holder = 'a program'): Lease {
    this.checkRange(lsn);
    let entry = this.states.get(lsn);
    if (entry === undefined) entry = { ...this.store.leaseState(lsn), leases: 0, holders: [] };
    else this.states.delete(lsn);
    this.states.set(lsn, entry);
    entry.leases++;
    entry.holders.push(holder);
    const leased = entry;
    let released = false;
    return {
      state: leased.state,
      timeMicroseconds: leased.state.timeMicroseconds,
      release: () => {
        if (released) return;
        released = true;
        leased.leases--;
        leased.holders.splice(leased.holders.indexOf(holder), 1);
        this.forgetIdle();
      },
    };
  }

  /** Closes states that nobody has a lease on, those used longest ago first, until there are `most`. */
  private forgetIdle(most = IDLE_STATES): void {
    let idle = 0;
    for (const entry of this.states.values()) if (entry.leases === 0) idle++;
    for (const [lsn, entry] of this.states) {
      if (idle <= most) return;
      if (entry.leases > 0) continue;
      this.states.delete(lsn);
      entry.release();
      idle--;
    }
  }

  /**
   * Names the present state. Whether the name can be one is the caller's to check (`checkSnapshotName`).
   * @throws LsnfsError INVALID_INPUT or NAME_TAKEN.
   */
  async createSnapshot(name: string, message: string): Promise<SnapshotRow> {
    if (Buffer.byteLength(message) > SNAPSHOT_MESSAGE_MAX) {
      throw new LsnfsError(
        'INVALID_INPUT',
        `the message has ${Buffer.byteLength(message)} bytes, more than ${SNAPSHOT_MESSAGE_MAX}`,
      );
    }
    const row = await this.store.createSnapshot(name, message);
    this.announce(name);
    return row;
  }

  /** @throws LsnfsError NO_SUCH_SNAPSHOT */
  async deleteSnapshot(name: string): Promise<void> {
    await this.store.deleteSnapshot(name);
    this.announce(name);
  }

  /** Keeps a snapshot from being deleted until the same tag is released. @throws LsnfsError NO_SUCH_SNAPSHOT, NAME_TAKEN */
  holdSnapshot(name: string, tag: string): Promise<SnapshotRow> {
    checkHoldTag(tag);
    return this.store.changeSnapshot(name, (row) => {
      if (!row.holds.includes(tag)) return { ...row, holds: [...row.holds, tag].sort() };
      throw new LsnfsError('NAME_TAKEN', `"${tag}" holds the snapshot "${name}" already`, { name, tag });
    });
  }

  /** @throws LsnfsError NO_SUCH_SNAPSHOT; INVALID_INPUT when the tag does not hold it */
  releaseSnapshot(name: string, tag: string): Promise<SnapshotRow> {
    return this.store.changeSnapshot(name, (row) => {
      if (row.holds.includes(tag)) return { ...row, holds: row.holds.filter((held) => held !== tag) };
      const held = row.holds.length === 0 ? 'nobody holds it' : `it is held by ${row.holds.join(', ')}`;
      const message = `"${tag}" does not hold the snapshot "${name}": ${held}`;
      throw new LsnfsError('INVALID_INPUT', message, { name, tag });
    });
  }

  /** Gives a snapshot another name, which `checkSnapshotName` has seen. @throws LsnfsError NO_SUCH_SNAPSHOT, NAME_TAKEN */
  async renameSnapshot(from: string, to: string): Promise<SnapshotRow> {
    const row = await this.store.changeSnapshot(from, (old) => ({ ...old, name: to }));
    this.announce(from);
    this.announce(to);
    return row;
  }

  /** By LSN. */
  snapshots(): SnapshotRow[] {
    return this.store.snapshots().filter((row) => this.isDurable(row));
  }

  /** One that is being made can be neither listed nor opened before it is durable, and then both. */
  private isDurable({ lsn }: SnapshotRow): boolean {
    return lsn <= this.store.durableLsn;
  }

  /** Also of one that is being made: the name is taken. */
  isSnapshotName(name: string): boolean {
    return this.store.snapshot(name) !== undefined;
  }

  onSnapshotChange(listener: (name: string) => void): void {
    this.listeners.push(listener);
  }

  /** Tells who listens that a name has come, or is gone. */
  announce(name: string): void {
    for (const listener of this.listeners) listener(name);
  }
}
