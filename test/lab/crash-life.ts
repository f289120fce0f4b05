/**
 * A life of a store: it is made or opened, programs work on it, and it ends. Before and after every sync, rename and removal, and
 * at some other operations, the disk is forked as the next boot may find it: a crash state. One of them is what the
 * next life begins with.
 *
 * A life depends on its seed and on the disk that it begins with, and on nothing else. Every action draws from a source
 * of its own, and so does every crash state.
 */
import { createHash, type Hash } from 'node:crypto';
import type { DiskOperation, DiskOperationKind, SimulatedDisk } from '../../src/storage/simulated-disk.ts';
import { movePages, movePagesOfCatalog } from '../../src/store/compaction.ts';
import type { StateReader } from '../../src/store/state.ts';
import type { LiveFileSystem } from '../../src/vfs/live-file-system.ts';
import { PastFileSystem } from '../../src/vfs/past-file-system.ts';
import { Random } from '../helpers/random.ts';
import { type DiskView, initializeOn, type LabClock, type Layout, Machine, turn } from './crash-machine.ts';
import { type ModelNode, ModelTree, recordDigest, treeDigest } from './crash-model.ts';
import { seedFrom, Workload } from './crash-workload.ts';

/** Operations before and after which there is always a crash. */
export const BOUNDARIES: ReadonlySet<DiskOperationKind> = new Set([
  'sync',
  'syncDirectory',
  'rename',
  'remove',
]);
const CHANGES: ReadonlySet<DiskOperationKind> = new Set(['write', 'truncate', 'open', 'makeDirectory']);
/** Of the other operations one in so many is a crash state. */
const OTHER_ONE_IN = 10;
const KILL_ONE_IN = 6;
const ACTIONS_MIN = 20;
/** A life has fewer actions. */
const ACTIONS_MAX = 80;
/** Of the transactions larger than a segment one in so many is larger than a ring of 1 MiB. */
const RING_ONE_IN = 10;
const SNAPSHOTS = ['alpha', 'beta', 'gamma', 'delta'];
const RESTORES = ['before-1', 'before-2'];

/** What the laboratory found: a rule that does not hold. */
export class LabFailure extends Error {}

/** What a state must be. */
export interface StateRecord {
  readonly lsn: number;
  readonly tree: string;
  readonly records: string;
}

export interface CrashState {
  /** Number within its life. */
  readonly index: number;
  /** Of the workload, -1 while the store is made or opened. */
  readonly action: number;
  readonly where: string;
  readonly image: SimulatedDisk;
  /** Whether the machine lost its power, or only the process ended. */
  readonly powerCut: boolean;
  /** Everything up to here was promised to be durable. */
  readonly acknowledged: number;
  /** How many of the life's states there were. 0: the store was being made. */
  readonly known: number;
  readonly clockMicroseconds: number;
}

export interface LifeOptions {
  readonly seed: number;
  /** Number of the life. */
  readonly life: number;
  readonly layout: Layout;
  readonly clock: LabClock;
  readonly view: DiskView;
  /** Whether the log has a writer as a mounted store's has. */
  readonly threaded: boolean;
  /** Whether a crash state is wanted; the others are not made. */
  readonly wanted: (index: number) => boolean;
  /** Called between the actions. */
  readonly visit: (state: CrashState) => Promise<void>;
  readonly trace?: ((line: string) => void) | undefined;
  /** The actions that are done; default: all. */
  readonly actions?: ReadonlySet<number>;
}

export class Life {
  /** Everything that was made, by LSN, ascending. */
  readonly history: StateRecord[];
  states = 0;
  /** The crash that ends this life. */
  next: CrashState | undefined;
  /** Whether it ended without a crash. */
  closed = false;
  private readonly options: LifeOptions;
  private disk: SimulatedDisk;
  private readonly forks: Random;
  private readonly stream: Hash = createHash('sha1');
  private readonly queue: CrashState[] = [];
  private acknowledged: number;
  private machine: Machine | undefined;
  private workload: Workload | undefined;
  private boundaryPassed = false;
  /** Crash states that the next life could begin with. */
  private candidates = 0;
  private closing = false;
  /** The present one, -1 while the store is made or opened. */
  action = -1;
  private failure: Error | undefined;

  constructor(options: LifeOptions, disk: SimulatedDisk, history: StateRecord[], acknowledged: number) {
    this.options = options;
    this.disk = disk;
    this.history = history;
    this.acknowledged = acknowledged;
    this.forks = new Random(seedFrom(options.seed, options.life, 1));
    disk.holdSyncs = true;
    disk.watch = (operation) => this.watch(operation);
  }

  /** Of all that was done to the disk, and of the images that were forked. */
  get digest(): string {
    return this.stream.copy().digest('hex');
  }

  /** The disk as it is now. */
  get end(): SimulatedDisk {
    return this.disk;
  }

  private below = (limit: number): number => this.forks.below(limit);

  private watch(operation: DiskOperation): void {
    const { kind, name, position, length } = operation;
    const isBoundary = BOUNDARIES.has(kind);
    if (!isBoundary && !CHANGES.has(kind)) return;
    // Checkpoints of a closing store append records between any two turns.
    if (this.closing) this.changed();
    const text = `${kind} ${name} ${position} ${length}`;
    this.stream.update(text);
    const due = this.boundaryPassed || isBoundary || this.below(OTHER_ONE_IN) === 0;
    if (due) this.fork(`before ${text}`);
    this.boundaryPassed = isBoundary;
    this.options.trace?.(`    ${text}`);
  }

  private fork(where: string): void {
    this.boundaryPassed = false;
    const index = this.states++;
    const { seed, life, clock } = this.options;
    const chosen = this.history.length > 0 && this.below(++this.candidates) === 0;
    const wanted = this.options.wanted(index);
    if (!chosen && !wanted) return;
    const random = new Random(seedFrom(seed, life, index, 2));
    const powerCut = random.below(KILL_ONE_IN) > 0;
    const state: CrashState = {
      index,
      action: this.action,
      where,
      image: powerCut ? this.disk.powerCut((limit) => random.below(limit)) : this.disk.clone(),
      powerCut,
      acknowledged: Math.max(this.acknowledged, this.machine?.store.durableLsn ?? 0),
      known: this.history.length,
      clockMicroseconds: clock.microseconds,
    };
    if (wanted || chosen) this.stream.update(state.image.fingerprint());
    if (chosen) this.next = { ...state, image: state.image.clone() };
    if (wanted) this.queue.push(state);
    this.options.trace?.(`  * state ${index} (${powerCut ? 'power cut' : 'killed'}) ${where}`);
  }

  /** Lets the crash states be looked at. */
  private async show(): Promise<void> {
    if (this.boundaryPassed) this.fork('between actions');
    for (const state of this.queue.splice(0)) await this.options.visit(state);
    if (this.failure !== undefined) throw this.failure;
  }

  /** Makes the store. */
  async create(): Promise<void> {
    const { layout, clock } = this.options;
    initializeOn(this.disk, layout, clock);
    await this.show();
    const looking = new Machine(this.disk.clone(), { clock, view: (disk) => disk });
    const { live } = looking.store;
    const tree = treeDigest(new PastFileSystem(live, looking.vfsOptions));
    this.history.push({ lsn: live.lsn, tree, records: recordDigest(live) });
    await looking.turnOff();
  }

  /** Lives to the end. @throws LabFailure, or whatever the engine throws */
  async run(): Promise<void> {
    const { seed, life } = this.options;
    const plan = new Random(seedFrom(seed, life, 3));
    try {
      const fs = this.open();
      await this.show();
      this.history.length = this.lengthUpTo(this.machine!.store.live.lsn);
      this.start(fs());
      await this.show();
      const actions = ACTIONS_MIN + plan.below(ACTIONS_MAX - ACTIONS_MIN);
      for (this.action = 0; this.action < actions; this.action++) {
        if (this.options.actions?.has(this.action) === false) continue;
        await this.act(new Random(seedFrom(seed, life, this.action, 4)));
        await this.show();
      }
      if (plan.below(5) === 0) {
        await this.close(plan);
        this.closed = true;
      }
      await this.show();
    } finally {
      this.disk.watch = undefined;
      // What this machine still does must not change the disk that it leaves.
      const left = this.disk.clone();
      await this.machine?.turnOff();
      this.disk = left;
    }
  }

  private open(): () => LiveFileSystem {
    const { clock, view } = this.options;
    clock.tick();
    const machine = new Machine(this.disk, { clock, view, threaded: this.options.threaded });
    this.machine = machine;
    return () => machine.mount();
  }

  private lengthUpTo(lsn: number): number {
    let length = this.history.length;
    while (length > 0 && this.history[length - 1]!.lsn > lsn) length--;
    const last = this.history[length - 1];
    if (length > 0 && last!.lsn !== lsn)
      throw new LabFailure(`recovered LSN ${lsn}, which no transaction ends at`);
    return length;
  }

  private start(fs: LiveFileSystem): void {
    const machine = this.machine!;
    this.workload = new Workload(fs, ModelTree.of(fs), this.forks, machine.store.live.pageSize, () =>
      this.changed(),
    );
    this.changed();
    // Each orphan goes in a transaction of its own.
    machine.clockRead = () => this.changed();
    fs.removeOrphans();
    machine.clockRead = undefined;
    this.changed();
  }

  private changed(): void {
    this.options.clock.tick();
    const { lsn } = this.machine!.store.live;
    if (this.history.at(-1)!.lsn === lsn) return;
    this.record();
    this.options.trace?.(`  ${this.workload?.last} → ${lsn}`);
  }

  private record(): void {
    const { live } = this.machine!.store;
    const tree =
      this.workload === undefined
        ? treeDigest(new PastFileSystem(live, this.machine!.vfsOptions))
        : this.workload.tree.digest();
    this.history.push({ lsn: live.lsn, tree, records: recordDigest(live) });
  }

  private async act(random: Random): Promise<void> {
    const workload = this.workload!;
    const { store } = this.machine!;
    workload.random = random;
    const what = random.below(100);
    if (what < 45) for (let i = random.below(3); i >= 0; i--) workload.step();
    else if (what < 49) workload.largeWrite();
    else if (what < 59) this.transact(random);
    else if (what < 72) this.fsync(random);
    else if (what < 75) await this.waitFor(store.commit(), random);
    else if (what < 77) this.compact(random);
    else if (what < 80) this.snapshot(random);
    else if (what < 83) this.restore(random);
    else if (what < 87) {
      this.options.trace?.('  seal');
      store.requestCheckpoint();
    } else if (what < 89) this.retain(random);
    else {
      for (let i = random.below(14); i >= 0; i--) {
        const state = store.backgroundStep(0);
        workload.last = `background step: ${state}`;
        this.changed();
        if (state !== 'work') break;
      }
    }
    const { writer } = this.machine!;
    while (writer !== undefined && random.below(3) > 0) writer.round();
    while (this.disk.syncsInFlight > 0 && random.below(5) < 2) await this.land(random);
    await turn();
    if (store.failure !== undefined) throw store.failure;
  }

  private async land(random: Random): Promise<void> {
    const index = random.below(this.disk.syncsInFlight);
    this.options.trace?.(`    land ${index}`);
    this.disk.land(index);
    this.boundaryPassed = true;
    await turn();
  }

  /** A program's fsync: a mount's store thread makes the sync itself, or leaves it to the log's writer. */
  private fsync(random: Random): void {
    const { store, writer } = this.machine!;
    const { lsn } = store.live;
    if (writer !== undefined && random.below(4) > 0 && store.log.syncNow(lsn)) {
      this.options.trace?.(`  fsync of ${lsn} in place`);
      this.acknowledged = Math.max(this.acknowledged, lsn);
    } else this.promise('fsync', store.log.sync(lsn), lsn);
  }

  /** What was promised counts from the moment at which the promise resolves. */
  private promise(what: string, promise: Promise<unknown>, lsn: number): void {
    this.options.trace?.(`  ${what} of ${lsn}`);
    promise.then(
      () => {
        this.acknowledged = Math.max(this.acknowledged, lsn);
      },
      (error: unknown) => {
        // Only the end of the machine may break a promise.
        if (this.machine?.disk.watch !== undefined) this.failure ??= error as Error;
      },
    );
  }

  private async waitFor(promise: Promise<unknown>, random: Random): Promise<void> {
    const { lsn } = this.machine!.store.live;
    this.promise('commit', promise, lsn);
    while (this.acknowledged < lsn && this.failure === undefined) {
      await this.advance(random);
    }
  }

  /** Lets the log's writer and the disk do something. */
  private async advance(random: Random): Promise<void> {
    await turn();
    this.machine!.writer?.round();
    if (this.disk.syncsInFlight > 0) await this.land(random);
  }

  /** A transaction of the API: kept, given up, or ended by an error in its midst. */
  private transact(random: Random): void {
    const workload = this.workload!;
    const { live } = this.machine!.store;
    const end = workload.beginTransaction();
    live.beginTransaction();
    for (let i = random.below(6); i >= 0; i--) workload.step();
    // Some are larger than a segment of the log, a few than the ring in which it collects.
    const large = random.below(6) > 0 ? 0 : random.below(RING_ONE_IN) > 0 ? 4 : 36;
    for (let i = 0; i < large; i++) workload.largeLoggedWrite();
    const keep = random.below(3) > 0;
    workload.last = keep ? 'transaction' : 'transaction rolled back';
    if (keep) {
      live.commitTransaction();
      end(true);
    } else {
      live.rollbackTransaction();
      end(false);
    }
    this.changed();
  }

  private snapshot(random: Random): void {
    const workload = this.workload!;
    const { store } = this.machine!;
    const name = SNAPSHOTS[random.below(SNAPSHOTS.length)]!;
    const exists = store.snapshot(name) !== undefined;
    const done = exists ? store.deleteSnapshot(name) : store.createSnapshot(name, `of ${name}`);
    workload.last = `${exists ? 'delete' : 'create'} snapshot ${name}`;
    this.promise('snapshot', done, store.live.lsn);
    this.changed();
  }

  /** Restores everything, or some paths, to any state that can be opened. */
  private restore(random: Random): void {
    const workload = this.workload!;
    const { store } = this.machine!;
    const fs = workload.fs as LiveFileSystem;
    const name = RESTORES[random.below(RESTORES.length)]!;
    if (store.snapshot(name) !== undefined) {
      workload.last = `delete snapshot ${name}`;
      this.promise('snapshot', store.deleteSnapshot(name), store.live.lsn);
      this.changed();
      return;
    }
    const targets = this.history.filter(({ lsn }) => lsn >= store.horizonLsn);
    const { lsn, tree } = targets[random.below(targets.length)]!;
    const isWhole = random.below(2) === 0;
    const past = store.openState(lsn);
    const plan = isWhole ? undefined : fs.planRestore(store.live, past, this.somePaths(past, random));
    if (plan?.isEmpty === true) return;
    const done = store.restore(name, '', () => {
      workload.last = `name ${name} before a restore`;
      this.changed();
      if (plan === undefined) fs.restore(store.live, lsn);
      else fs.restorePaths(store.live, plan);
    });
    workload.last = `restore ${isWhole ? 'all' : 'paths'} to ${lsn}`;
    workload.restored();
    this.promise('restore', done, store.live.lsn);
    this.changed();
    if (isWhole && workload.tree.digest() !== tree) throw new LabFailure(`what was restored is not ${lsn}`);
  }

  private somePaths(past: StateReader, random: Random): Buffer[] {
    const then = ModelTree.of(new PastFileSystem(past, this.machine!.vfsOptions));
    const paths: string[] = ['/'];
    const collect = (node: ModelNode, path: string): void => {
      for (const [name, child] of node.entries ?? []) {
        paths.push(`${path}/${name}`);
        collect(child, `${path}/${name}`);
      }
    };
    collect(then.root, '');
    collect(this.workload!.tree.root, '');
    // Names directly below the root are directories above nothing, so that no path leads through a file.
    const usable = paths.filter((path) => path.lastIndexOf('/') === 0 || path === '/');
    return Array.from({ length: 1 + random.below(2) }, () =>
      Buffer.from(usable[random.below(usable.length)]!),
    );
  }

  /** Retention at its worst: the horizon anywhere, and any versions dropped that need not be kept. */
  private retain(random: Random): void {
    const { store } = this.machine!;
    const versions = store.versions().map(({ lsn }) => lsn);
    const window = versions.filter((lsn) => lsn >= store.horizonLsn);
    const base = window[random.below(window.length)]!;
    const kept = new Set([
      ...store.snapshots().map(({ lsn }) => lsn),
      ...store.pinned,
      base,
      versions.at(-1)!,
      // No state behind a restore is replayed from before it.
      ...store.versions().flatMap(({ lsn, restored }) => (restored && lsn > base ? [lsn] : [])),
    ]);
    const dropped = versions.filter((lsn) => !kept.has(lsn) && random.below(3) > 0);
    this.options.trace?.(`  retain from ${base}, without ${dropped.join(', ')}`);
    store.retain(base, dropped);
  }

  /** Compaction at its worst: with any cut, of everything, and given up anywhere. */
  private compact(random: Random): void {
    const host = this.machine!.store.compactionHost();
    if (!host.canMove) return;
    const cut = random.below(host.freeSpace.frontier);
    host.freeSpace.preferBelow(random.below(4) === 0 ? Number.POSITIVE_INFINITY : cut);
    const moved = { pages: 0, left: 0 };
    let steps = random.below(20);
    for (const _step of movePages(host, cut, 0, moved)) if (steps-- === 0) break;
    host.moved();
    if (host.isQuiet && random.below(2) === 0) {
      for (const _step of movePagesOfCatalog(host, cut, moved));
      host.movedOfCatalog();
    }
    this.options.trace?.(`  compact from page ${cut}: ${moved.pages} moved, ${moved.left} left`);
  }

  private async close(random: Random): Promise<void> {
    const { store } = this.machine!;
    this.workload!.closeAll();
    this.workload!.last = 'close';
    this.closing = true;
    const work = store.close();
    let done = false;
    const finish = (): void => {
      done = true;
    };
    work.then(finish, finish);
    while (!done) await this.advance(random);
    await work;
  }
}
