/**
 * The laboratory of failing disks: one scripted program (fault-script.ts), run once undisturbed to number its disk
 * operations, and then once for every operation and every way in which that can fail.
 *
 * What must hold in each run:
 * - every call gives the right answer, judged by a model, or an LsnfsError with the facts; every promise is settled
 *   (turns of the event loop are counted, there is no timer); nothing is rejected unheard;
 * - a change that failed has changed nothing. The store goes on where it may: then the same change, tried again when
 *   the disk is well, succeeds. Where it must not go on (a failed write or sync of the log, of a checkpoint, of the
 *   control block) every change fails with the reason, which `statistics().failure` has too, and reading goes on;
 * - what was acknowledged survives: the death of the process, that with the page cache gone, and power cuts; right after
 *   the fault and after closing. What survives is a prefix, all checks pass, work goes on, and what the reopened store
 *   acknowledges survives the next power cut in turn;
 * - closing releases every device, whatever it says.
 */

import { LsnfsError } from '../../src/errors.ts';
import { Transaction } from '../../src/plugin/transaction.ts';
import { type DiskOperation, type Fault, SimulatedDisk } from '../../src/storage/simulated-disk.ts';
import { checkStore } from '../../src/store/check.ts';
import { Store, type StoreOptions } from '../../src/store/store.ts';
import { checkFileSystem } from '../../src/vfs/check.ts';
import { ROOT_CALLER, ROOT_INODE } from '../../src/vfs/file-system.ts';
import { LiveFileSystem } from '../../src/vfs/live-file-system.ts';
import { PastFileSystem } from '../../src/vfs/past-file-system.ts';
import { FIRST_LSN } from '../../src/wal/segment.ts';
import { Random } from '../helpers/random.ts';
import { Clock, vfsOptions } from '../helpers/vfs-fixture.ts';
import { type SteppedWriter, steppedLog } from './crash-writer.ts';
import { digestOf, Model, Unmet } from './fault-model.ts';

/** The ways to fail, and the operations that can fail so. */
const KINDS: Readonly<Record<string, (operation: DiskOperation) => Fault | undefined>> = {
  EIO: () => ({ errno: 'EIO' }),
  ENOSPC: ({ kind, name }) =>
    ['write', 'truncate', 'sync', 'makeDirectory', 'rename', 'syncDirectory'].includes(kind) ||
    (kind === 'open' && CREATED.test(name))
      ? { errno: 'ENOSPC' }
      : undefined,
  EDQUOT: ({ kind }) => (kind === 'write' || kind === 'sync' ? { errno: 'EDQUOT' } : undefined),
  EMFILE: ({ kind }) =>
    kind === 'open' || kind === 'list' || kind === 'syncDirectory' ? { errno: 'EMFILE' } : undefined,
  'short-EIO': (operation) => shortWrite(operation, 'EIO'),
  'short-ENOSPC': (operation) => shortWrite(operation, 'ENOSPC'),
  /** The disk is full from then on: what is there can be overwritten. */
  full: ({ kind }) => (kind === 'write' ? NO_FAULT : undefined),
  /** The same, and statfs does not know. */
  quota: ({ kind }) => (kind === 'write' ? NO_FAULT : undefined),
};

/** Files that are opened to be made. */
const CREATED = /preparing$|control\.new$/;
/** Strikes by the disk's capacity and not by itself. */
const NO_FAULT: Fault = { errno: '' };

function shortWrite({ kind, length }: DiskOperation, errno: string): Fault | undefined {
  return kind === 'write' && length > 1 ? { errno, written: Math.floor(length / 2) } : undefined;
}

/** What goes wrong in a run: from operation `at` on, for `span` operations, all that can fail in this way do. */
export interface Plan {
  readonly at: number;
  readonly kind: string;
  readonly span: number;
}

export function formatPlan({ at, kind, span }: Plan): string {
  return `${at}:${kind}:${span === Number.POSITIVE_INFINITY ? 'on' : span}`;
}

/** @throws Error when the text is no plan. */
export function parsePlan(text: string): Plan {
  const [at, kind, span] = text.split(':');
  if (at === undefined || kind === undefined || span === undefined || KINDS[kind] === undefined) {
    throw new Error(
      `"${text}" is not a plan: OPERATION:KIND:SPAN, where KIND is ${Object.keys(KINDS).join(', ')}`,
    );
  }
  return { at: Number(at), kind, span: span === 'on' ? Number.POSITIVE_INFINITY : Number(span) };
}

export interface TracedOperation extends DiskOperation {
  readonly step: string;
}

/** Spans of faults that last: the next operations too, and for good. */
const SPANS: Readonly<Record<string, readonly number[]>> = {
  EIO: [1, 4, Number.POSITIVE_INFINITY],
  EMFILE: [1, 5, Number.POSITIVE_INFINITY],
  full: [3, 40, Number.POSITIVE_INFINITY],
  quota: [1, 3, 40, Number.POSITIVE_INFINITY],
};

/** Every plan that can strike in a run with these operations. */
export function plansFor(trace: readonly TracedOperation[]): Plan[] {
  const plans: Plan[] = [];
  for (const [at, operation] of trace.entries()) {
    for (const [kind, strikes] of Object.entries(KINDS)) {
      if (strikes(operation) === undefined) continue;
      for (const span of SPANS[kind] ?? [1]) plans.push({ at, kind, span });
    }
  }
  return plans;
}

/** What a run came to. */
export type Outcome = 'unharmed' | 'failed calls' | 'failed store' | 'failed opening' | 'failed creation';

/** Something that must not be. */
export class Finding extends Error {
  override readonly name = 'Finding';
}

const HOUR_MS = 3_600_000;
/** Longer than a store waits before it tries a checkpoint again. */
const PATIENCE_MS = 600;
/** Longer than a reading of the free space is believed. */
const STEP_MS = 30;
const TURNS_MAX = 20_000;
const STORE_ID = Buffer.alloc(16, 0x5a);
const START_MICROSECONDS = 1_700_000_000_000_000;

interface Moment {
  readonly lsn: number;
  readonly model: Model;
}

interface KnownSnapshot {
  readonly lsn: number;
  readonly digest: string;
}

/** What the program may rely on at a moment. */
interface Expectation {
  readonly acknowledged: number;
  readonly moments: readonly Moment[];
  readonly snapshots: ReadonlyMap<string, KnownSnapshot>;
}

export interface FaultRunOptions {
  readonly plan?: Plan;
  /** The operations of the undisturbed run. */
  readonly reference?: readonly TracedOperation[];
  readonly seed: number;
  /** Power cuts tried at each moment of interest. */
  readonly cuts: number;
  /** Whether the log has a writer of its own, as that of a mount has; it does a round in each turn of the event loop. */
  readonly threaded: boolean;
}

/** What a step may do to the state of the store. */
type StepKind = 'change' | 'read' | 'commit' | 'checkpoint';

/** One run of the program on a disk that fails as planned. */
export class FaultRun {
  readonly trace: TracedOperation[] = [];
  disk: SimulatedDisk;
  store!: Store;
  fs!: LiveFileSystem;
  model = new Model();
  private readonly plan: Plan | undefined;
  private readonly reference: readonly TracedOperation[] | undefined;
  private readonly random: Random;
  private readonly cuts: number;
  private readonly threaded: boolean;
  private writer: SteppedWriter | undefined;
  private readonly clock = new Clock();
  private clockMs = 0;
  private count = 0;
  private paused = false;
  private repaired = false;
  private struck: TracedOperation | undefined;
  private label = '';
  private acknowledged = 0;
  private moments: Moment[] = [{ lsn: FIRST_LSN, model: new Model() }];
  private snapshots = new Map<string, KnownSnapshot>();
  private outcome: Outcome = 'unharmed';

  constructor({ plan, reference, seed, cuts, threaded }: FaultRunOptions) {
    this.plan = plan;
    this.reference = reference;
    this.random = new Random(seed ^ ((plan?.at ?? 0) * 7919));
    this.cuts = cuts;
    this.threaded = threaded;
    this.disk = this.attach(new SimulatedDisk({ random: this.below }));
  }

  private readonly below = (limit: number): number => this.random.below(limit);

  private attach(disk: SimulatedDisk): SimulatedDisk {
    disk.fault = (operation) => this.decide(operation);
    return disk;
  }

  private decide(operation: DiskOperation): Fault | undefined {
    if (this.paused) return undefined;
    const index = this.count++;
    const traced = { ...operation, index, step: this.label };
    this.trace.push(traced);
    const { plan } = this;
    if (plan === undefined || this.repaired || index < plan.at) return undefined;
    if (index === plan.at) this.strike(traced);
    if (index >= plan.at + plan.span) {
      this.repair();
      return undefined;
    }
    const fault = KINDS[plan.kind]!(operation);
    return fault === NO_FAULT ? undefined : fault;
  }

  private strike(operation: TracedOperation): void {
    const expected = this.reference?.[operation.index];
    if (
      expected?.kind !== operation.kind ||
      expected.name !== operation.name ||
      expected.position !== operation.position
    ) {
      throw new Finding(
        `the run is not that of the reference: ${show(operation)} instead of ${show(expected)}`,
      );
    }
    this.struck = operation;
    const { kind } = this.plan!;
    if (kind !== 'full' && kind !== 'quota') return;
    this.disk.isQuota = kind === 'quota';
    this.disk.capacity = this.disk.usedBytes() + ((operation.index * 7919) % 70_000);
  }

  /** The disk is well from now on. */
  private repair(): void {
    this.repaired = true;
    this.disk.capacity = Number.POSITIVE_INFINITY;
  }

  /** Does something for the oracle that the program would not do, without faults. */
  private aside<Result>(work: () => Result): Result {
    const { capacity } = this.disk;
    this.paused = true;
    this.disk.capacity = Number.POSITIVE_INFINITY;
    try {
      return work();
    } finally {
      this.paused = false;
      this.disk.capacity = capacity;
    }
  }

  private storeOptions(): StoreOptions {
    return {
      background: 'caller',
      now: () => START_MICROSECONDS + this.clockMs * 1000,
      monotonicMs: () => this.clockMs,
      warn: () => {},
      settings: {
        commitIntervalMs: HOUR_MS,
        checkpointIntervalMs: HOUR_MS,
        checkpointDirtyBytes: 1024 * 1024,
        cacheSizeBytes: 1024 * 1024,
      },
    };
  }

  private fileSystem(store: Store): LiveFileSystem {
    return new LiveFileSystem(store.live, vfsOptions(this.clock, { atime: 'noatime' }));
  }

  private expectation(): Expectation {
    return {
      acknowledged: this.acknowledged,
      moments: [...this.moments],
      snapshots: new Map(this.snapshots),
    };
  }

  private fault(what: string): Finding {
    const struck =
      this.struck === undefined ? 'before any fault' : `after ${show(this.struck)} of ${this.struck.step}`;
    return new Finding(`${this.label}: ${what} (${struck})`);
  }

  private async turns(count: number): Promise<void> {
    for (let i = 0; i < count; i++) {
      await new Promise((resolve) => {
        setImmediate(resolve);
      });
      this.writer?.round();
    }
  }

  /** Waits for a promise, but not for ever. */
  private async settle<Result>(promise: Promise<Result>): Promise<Result> {
    let settled = false;
    const note = (): void => {
      settled = true;
    };
    promise.then(note, note);
    for (let turn = 0; !settled; turn++) {
      if (turn > TURNS_MAX) throw new Finding('a promise is neither resolved nor rejected');
      await this.turns(1);
    }
    return promise;
  }

  /** Runs a script of this kind to its end. @throws Finding */
  async run(script: (run: FaultRun) => Promise<void>): Promise<Outcome> {
    const unheard = (reason: unknown): void => {
      this.unheard ??= reason;
    };
    process.on('unhandledRejection', unheard);
    try {
      await script(this);
      await this.turns(3);
      if (this.unheard !== undefined)
        throw this.fault(`a rejection that nobody heard: ${stackOf(this.unheard)}`);
      if (this.plan !== undefined && this.struck === undefined) throw this.fault('the fault never struck');
      return this.outcome;
    } finally {
      process.off('unhandledRejection', unheard);
    }
  }

  private unheard: unknown;
  /** The session in which the fault struck has ended, and the disk is well. */
  private isPast = false;

  private came(outcome: Outcome): void {
    const order: Outcome[] = [
      'unharmed',
      'failed calls',
      'failed store',
      'failed opening',
      'failed creation',
    ];
    if (order.indexOf(outcome) > order.indexOf(this.outcome)) this.outcome = outcome;
  }

  /** Makes the store. When that fails it is made once more elsewhere. */
  async initialize(): Promise<void> {
    this.label = 'initialize';
    const options = { segmentSize: 65536, storeId: STORE_ID, createdAtMicroseconds: START_MICROSECONDS };
    let failed = false;
    try {
      Store.initialize(this.disk, options);
    } catch (error) {
      this.judge(error);
      this.came('failed creation');
      failed = true;
    }
    this.requireClosed();
    for (const { image, what } of this.images(this.disk)) {
      try {
        const store = Store.open(image, this.storeOptions());
        if (digestOf(this.fileSystem(store)) !== '')
          throw this.fault(`a new store is not empty after ${what}`);
        await this.settle(store.close());
      } catch (error) {
        const code = error instanceof LsnfsError ? error.code : '';
        if (!failed || (code !== 'STORE_INCOMPLETE' && code !== 'NO_STORE')) throw error;
      }
    }
    if (!failed) return;
    this.repair();
    this.disk = this.attach(new SimulatedDisk({ random: this.below }));
    Store.initialize(this.disk, options);
  }

  /** Opens the store; tried again with a disk that is well when that fails. */
  async open(): Promise<void> {
    this.label = 'open';
    this.clockMs += STEP_MS;
    for (let attempt = 0; ; attempt++) {
      try {
        await this.openOnce();
        break;
      } catch (error) {
        this.judge(error);
        this.came('failed opening');
        this.requireClosed();
        if (attempt > 0) throw this.fault(`the store cannot be opened again: ${stackOf(error)}`);
        await this.verifyImages(this.disk);
        this.repair();
      }
    }
    this.forget(this.store);
    this.acknowledged = Math.max(this.acknowledged, this.store.durableLsn);
    this.verifyLive();
  }

  private async openOnce(): Promise<void> {
    const openLog = steppedLog((writer) => {
      this.writer = writer;
    });
    const store = Store.open(this.disk, { ...this.storeOptions(), ...(this.threaded && { openLog }) });
    try {
      this.store = store;
      this.fs = this.fileSystem(store);
      this.fs.removeOrphans();
    } catch (error) {
      await this.settle(store.close()).catch((closing) => this.judge(closing));
      throw error;
    }
  }

  /** What an opened store has not got, and may lack, never was. */
  private forget(store: Store): void {
    const { lsn } = store.live;
    if (lsn < this.acknowledged)
      throw this.fault(`LSN ${this.acknowledged} was acknowledged, ${lsn} recovered`);
    this.moments = this.moments.filter((moment) => moment.lsn <= lsn);
    this.model = this.moments.at(-1)!.model;
    for (const [name, snapshot] of this.snapshots) if (snapshot.lsn > lsn) this.snapshots.delete(name);
  }

  /** Closes the store. */
  async close(): Promise<void> {
    this.label = 'close';
    this.clockMs += PATIENCE_MS;
    const { store } = this;
    const { lsn } = store.live;
    try {
      await this.settle(store.close());
      this.acknowledged = Math.max(this.acknowledged, lsn);
    } catch (error) {
      this.judge(error);
      this.came('failed calls');
    }
    await this.end(store);
    await this.verifyImages(this.disk);
    // A disk that is full stays so until the store was opened on it.
    if (this.plan?.kind !== 'full' && this.plan?.kind !== 'quota') this.putBehind();
  }

  private async end(store: Store): Promise<void> {
    if (store.failure !== undefined) this.came('failed store');
    await this.turns(3);
    this.requireClosed();
  }

  /** The process dies; the disk stays as it is. */
  async kill(): Promise<void> {
    this.label = 'kill';
    if (this.store.failure !== undefined) this.came('failed store');
    const next = this.disk.clone();
    next.isQuota = this.disk.isQuota;
    this.disk.turnOff();
    await this.settle(this.store.close()).then(
      () => {},
      (error: unknown) => {
        if (!(error instanceof LsnfsError)) throw error;
      },
    );
    await this.turns(3);
    this.requireClosed();
    this.disk = this.attach(next);
    await this.verifyImages(this.disk);
    this.putBehind();
  }

  private putBehind(): void {
    if (this.struck === undefined) return;
    this.repair();
    this.isPast = true;
  }

  private requireClosed(): void {
    if (this.disk.openDevices !== 0) throw this.fault(`${this.disk.openDevices} devices were left open`);
  }

  /** The last repair, for what a script verifies at its end. */
  heal(): void {
    if (this.struck !== undefined) this.repair();
  }

  /** The present state is what a prefix of the log has made. */
  private note(): void {
    const { lsn } = this.store.live;
    if (this.moments.at(-1)?.lsn === lsn) this.moments.pop();
    this.moments.push({ lsn, model: this.model });
  }

  /** One change by one transaction of the file system, on the model and on the engine. */
  async change(
    label: string,
    model: (model: Model) => void,
    work: (fs: LiveFileSystem) => void,
  ): Promise<void> {
    const next = new Model(this.model);
    try {
      model(next);
    } catch (error) {
      if (error instanceof Unmet) return;
      throw error;
    }
    await this.step('change', label, () => {
      work(this.fs);
      this.model = next;
      this.note();
    });
  }

  /** A call that changes nothing that programs see. */
  use(label: string, work: (fs: LiveFileSystem) => void): Promise<void> {
    return this.step('read', label, () => work(this.fs));
  }

  /** Closes a file without a name; what fails then is tried again when the store is opened. */
  async release(label: string, handle: number): Promise<void> {
    await this.step('read', label, () => {
      try {
        this.fs.release(handle);
      } catch (error) {
        this.judge(error);
      }
    });
  }

  /** An API transaction; with `fail` it is rolled back at its end. */
  async transaction(
    label: string,
    model: (model: Model) => void,
    work: (transaction: Transaction) => void,
    fail = false,
  ): Promise<void> {
    const next = new Model(this.model);
    if (!fail) model(next);
    const intended = new Error('rolled back on purpose');
    await this.step('change', label, async () => {
      const { live } = this.store;
      const transaction = new Transaction(this.fs, false);
      live.beginTransaction();
      try {
        work(transaction);
        if (fail) throw intended;
      } catch (error) {
        transaction.end();
        live.rollbackTransaction();
        if (error !== intended) throw error;
        return;
      }
      transaction.end();
      const lsn = live.commitTransaction();
      this.model = next;
      this.note();
      // The change is made; whether it is durable is another question. A log with a writer of its own syncs in place.
      if (this.store.log.syncNow(lsn)) this.acknowledge(lsn);
      await this.store.log.sync(lsn).then(
        () => this.acknowledge(lsn),
        (error: unknown) => this.judge(error),
      );
    });
  }

  /** Waits for what was done to be durable. */
  commit(): Promise<void> {
    return this.step('commit', 'commit', async () => this.acknowledge(await this.store.commit()));
  }

  /** Asks for durability, does `between`, and waits for both. */
  async overlap(between: () => Promise<void>): Promise<void> {
    const { lsn } = this.store.live;
    const first = this.store.commit().then(
      () => this.acknowledge(lsn),
      (error: unknown) => this.judge(error),
    );
    await between();
    await this.settle(first);
    await this.commit();
  }

  private acknowledge(lsn: number): void {
    this.acknowledged = Math.max(this.acknowledged, lsn);
  }

  async snapshot(name: string): Promise<void> {
    await this.step('change', `snapshot ${name}`, async () => {
      if (this.store.snapshot(name) !== undefined) return; // made, but not known to be durable
      const digest = this.model.digest();
      const { lsn } = await this.store.createSnapshot(name, 'a message');
      this.note();
      this.acknowledge(lsn);
      this.snapshots.set(name, { lsn, digest });
    });
  }

  async deleteSnapshot(name: string): Promise<void> {
    if (!this.snapshots.has(name)) return;
    await this.step('change', `delete snapshot ${name}`, async () => {
      if (this.store.snapshot(name) === undefined) return;
      // From here on it may be gone or not.
      this.snapshots.delete(name);
      this.acknowledge(await this.store.deleteSnapshot(name));
      this.note();
    });
  }

  checkpoint(): Promise<void> {
    return this.step('checkpoint', 'checkpoint', () => this.store.checkpoint());
  }

  /** A checkpoint in single steps; after every one `between` is called. */
  async checkpointInSteps(between: (step: number) => Promise<void>): Promise<void> {
    await this.step('checkpoint', 'request a checkpoint', () => this.store.requestCheckpoint());
    for (let step = 0; step < 200; step++) {
      let state: string = 'idle';
      await this.step('checkpoint', `step ${step} of a checkpoint`, async () => {
        state = this.store.backgroundStep(0);
        if (state === 'wait') await this.turns(2);
      });
      if (state === 'idle' || state === 'blocked') return;
      await between(step);
    }
    throw this.fault('a checkpoint does not end');
  }

  /** Reads everything, or what `paths` names. */
  async readAll(): Promise<void> {
    await this.step('read', 'read all', () => {
      if (digestOf(this.fs) !== this.model.digest()) throw this.fault('what was read is wrong');
    });
  }

  /** Reads the state of a moment before. */
  async readPast(back: number): Promise<void> {
    const durable = this.moments.filter(
      ({ lsn }) => lsn <= this.store.durableLsn && lsn >= this.store.horizonLsn,
    );
    const moment = durable.at(-1 - back) ?? durable.at(-1);
    if (moment === undefined) return;
    await this.step('read', `read the state at ${moment.lsn}`, () => {
      const past = new PastFileSystem(this.store.openState(moment.lsn), vfsOptions(this.clock));
      if (digestOf(past) !== moment.model.digest()) throw this.fault('what was read of the past is wrong');
    });
  }

  private async step(kind: StepKind, label: string, work: () => unknown): Promise<void> {
    const { store } = this;
    this.label = label;
    this.clockMs += STEP_MS;
    const failedBefore = store.failure;
    const struckBefore = this.struck;
    for (let attempt = 0; ; attempt++) {
      try {
        await this.settle(Promise.resolve().then(work));
        if (kind === 'change' && failedBefore !== undefined)
          throw this.fault('a store that has failed was changed');
        break;
      } catch (error) {
        this.judge(error, failedBefore !== undefined && kind === 'change');
        this.came('failed calls');
        if (kind === 'read' && failedBefore !== undefined && this.repaired) {
          throw this.fault(`a store that has failed cannot be read: ${stackOf(error)}`);
        }
        this.verifyLive();
        const { plan } = this;
        if (plan !== undefined && this.count >= plan.at + plan.span) this.repair();
        if (store.failure !== undefined || !this.repaired) break;
        if (attempt > 0) throw this.fault(`it fails again on a disk that is well: ${stackOf(error)}`);
        await this.becomeWell();
      }
    }
    this.acknowledged = Math.max(this.acknowledged, store.durableLsn);
    if (struckBefore === undefined && this.struck !== undefined) {
      await this.turns(3);
      this.verifyPolicy(kind, this.struck);
      this.verifyLive();
      await this.verifyImages(this.disk);
    }
  }

  /** Lets the time pass after which a checkpoint that lacked something is tried again. */
  private async becomeWell(): Promise<void> {
    this.clockMs += PATIENCE_MS;
    for (let i = 0; this.store.hasBackgroundWork(); i++) {
      if (i > 1000) throw this.fault('the background work does not end');
      if (this.store.backgroundStep(0) === 'wait') await this.turns(2);
    }
  }

  /** Whether the store fails where it must, and goes on where it may, after a single fault. */
  private verifyPolicy(kind: StepKind, { kind: operation, name }: TracedOperation): void {
    if (this.plan?.span !== 1 || this.plan.kind === 'quota') return;
    const failed = this.store.failure !== undefined;
    const isLog = /^wal\/[0-9a-f]{16}$/.test(name);
    const mustFail =
      (operation === 'sync' && (isLog || name === 'data' || name === 'control')) ||
      (operation === 'write' && (isLog || name === 'control'));
    if (mustFail && !failed) throw this.fault('the store goes on');
    const message = this.store.failure?.message ?? '';
    // Who makes changes in a hurry works on checkpoints.
    if (name === 'data' && message.startsWith('a checkpoint failed')) return;
    if (!mustFail && (kind === 'change' || kind === 'read') && failed) {
      throw this.fault(`the store has failed: ${this.store.failure?.message}`);
    }
  }

  /** The live state, read through the file system that programs use, is what the model says. */
  private verifyLive(): void {
    try {
      this.verifyLiveState();
    } catch (error) {
      // On a disk that is dead the state cannot be brought back after a failure: then nothing of it is shown.
      if (error !== this.store.failure || this.plan?.span === 1) throw error;
    }
  }

  private verifyLiveState(): void {
    this.aside(() => {
      const { store, fs, model } = this;
      const { failure } = store.statistics();
      if ((failure === null) !== (store.failure === undefined))
        throw this.fault('the status does not know the failure');
      if (digestOf(fs) !== model.digest()) {
        throw this.fault(`the live state is wrong:\n${difference(model.digest(), digestOf(fs))}`);
      }
      const [problem] = checkFileSystem(store.live);
      if (problem !== undefined) throw this.fault(`the live state is unsound: ${problem.message}`);
    });
  }

  /** An error has to be one of those that a failing disk explains, and to say so. */
  private judge(error: unknown, storeHadFailed = false): void {
    if (error instanceof Finding) throw error;
    if (!(error instanceof LsnfsError)) throw this.fault(`no error for people: ${stackOf(error)}`);
    if (this.struck === undefined) throw this.fault(`it failed: ${stackOf(error)}`);
    // A change reads before it changes.
    const cannotRead = this.plan?.span !== 1 && error.code === 'IO' && error.details.operation === 'read';
    if (storeHadFailed && error.code !== 'STORE_FAILED' && !cannotRead) {
      throw this.fault(`a change after the failure is refused with ${error.code}: ${stackOf(error)}`);
    }
    const { code, details, message } = error;
    if (code === 'TRANSACTION_POISONED') return;
    if (code === 'STORE_FAILED') {
      const errno = String(details.errno ?? 'no errno');
      if (!message.includes('failed') || !/^E[A-Z]+$/.test(errno))
        throw this.fault(`no reason: ${stackOf(error)}`);
      return;
    }
    const isComputed = code === 'NO_SPACE' && typeof details.free === 'number';
    const hasFacts = ['operation', 'file', 'errno'].every((name) => typeof details[name] === 'string');
    if (!['IO', 'NO_SPACE', 'NO_DESCRIPTORS'].includes(code) || !(isComputed || hasFacts)) {
      throw this.fault(
        `not what a failing disk explains: ${code} ${JSON.stringify(details)} ${stackOf(error)}`,
      );
    }
  }

  private images(disk: SimulatedDisk): { image: SimulatedDisk; what: string }[] {
    const killed = { image: disk.clone(), what: 'the death of the process' };
    const evicted = { image: disk.clone(), what: 'its death, with the page cache gone' };
    evicted.image.dropCaches();
    const images = [killed, evicted];
    for (let i = 0; i < this.cuts; i++)
      images.push({ image: disk.powerCut(this.below), what: `power cut ${i}` });
    images.push({ image: disk.powerCut(() => 0), what: 'a power cut that keeps nothing' });
    for (const { image } of images) {
      image.capacity = Number.POSITIVE_INFINITY;
    }
    return images;
  }

  /** Once the fault has struck: all that may be found now has what was acknowledged, and goes on. */
  private async verifyImages(disk: SimulatedDisk): Promise<void> {
    if (this.struck === undefined || this.isPast) return;
    const expectation = this.expectation();
    for (const { image, what } of this.images(disk)) {
      try {
        const goOn = what.startsWith('the death') || this.random.below(3) === 0;
        await this.verifyImage(image, expectation, goOn);
      } catch (error) {
        throw this.fault(`after ${what}: ${stackOf(error)}`);
      }
    }
  }

  private async verifyImage(image: SimulatedDisk, expectation: Expectation, goOn: boolean): Promise<void> {
    const store = Store.open(image, this.storeOptions());
    const moment = verifyRecovered(store, expectation);
    const fs = this.fileSystem(store);
    fs.removeOrphans();
    require(digestOf(fs) === moment.model.digest(), `the state at ${store.live.lsn} is wrong`);
    const [problem] = checkFileSystem(store.live);
    require(problem === undefined, `the file system is unsound: ${problem?.message}`);
    this.verifySnapshots(store, expectation);
    if (goOn) await this.goOn(image, store, fs, moment.model);
    await this.settle(store.checkpoint());
    const { problems } = checkStore(store);
    require(problems.length === 0, `the check finds ${problems.join('; ')}`);
    await this.settle(store.close());
    require(image.openDevices === 0, 'devices were left open');
  }

  private verifySnapshots(store: Store, expectation: Expectation): void {
    for (const [name, { lsn, digest }] of expectation.snapshots) {
      const row = store.snapshot(name);
      require(row?.lsn === lsn, `the snapshot ${name} is ${row === undefined ? 'gone' : `at ${row.lsn}`}`);
      const past = new PastFileSystem(store.openState(lsn), vfsOptions(this.clock));
      require(digestOf(past) === digest, `the snapshot ${name} is another`);
    }
  }

  /** What the reopened store acknowledges survives the next power cut. */
  private async goOn(image: SimulatedDisk, store: Store, fs: LiveFileSystem, model: Model): Promise<void> {
    const name = 'gone-on';
    const content = Buffer.alloc(40_000, 0x67);
    const { attributes, handle } = fs.create(ROOT_CALLER, ROOT_INODE, Buffer.from(name), 0o644, 2);
    fs.write(ROOT_CALLER, handle, 0, content, 0, content.length, false);
    fs.release(handle);
    require(attributes.inode > 0, 'a file without a number');
    const next = new Model(model);
    next.create(`/${name}`);
    next.write(`/${name}`, 0, content);
    const lsn = await this.settle(store.commit());
    const cut = image.powerCut(() => 0);
    const after = Store.open(cut, this.storeOptions());
    require(after.live.lsn >= lsn, `gone on to ${lsn}, and after a power cut there is ${after.live.lsn}`);
    require(digestOf(this.fileSystem(after)) ===
      next.digest(), 'what was gone on with is lost in a power cut');
    await this.settle(after.close());
  }
}

/** What was acknowledged is there. Returns the moment that the store shows. */
function verifyRecovered(store: Store, { acknowledged, moments }: Expectation): Moment {
  const { lsn } = store.live;
  require(lsn >=
    acknowledged, `LSN ${acknowledged} was acknowledged, ${lsn} recovered (${store.recovered.reason})`);
  const moment = moments.findLast((candidate) => candidate.lsn <= lsn);
  require(moment !== undefined, `nothing is known of the state at ${lsn}`);
  return moment;
}

function require(condition: boolean, message: string): asserts condition {
  if (!condition) throw new Finding(message);
}

function show(operation: TracedOperation | undefined): string {
  if (operation === undefined) return 'nothing';
  const { index, kind, name, position, length } = operation;
  return `operation ${index}, ${kind} of ${name === '' ? 'the store' : name}${position < 0 ? '' : ` at ${position}+${length}`}`;
}

function stackOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error instanceof Finding ? error.message : (error.stack ?? error.message);
}

/** The lines in which two digests differ. */
function difference(expected: string, found: string): string {
  const [left, right] = [expected.split('\n'), found.split('\n')];
  const missing = left.filter((entry) => !right.includes(entry)).map((entry) => `- ${entry}`);
  const extra = right.filter((entry) => !left.includes(entry)).map((entry) => `+ ${entry}`);
  return [...missing, ...extra].slice(0, 8).join('\n');
}
