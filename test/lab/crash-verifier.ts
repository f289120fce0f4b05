/**
 * What must hold after a crash.
 *
 * The image is recovered, perhaps after recoveries that crashed themselves. Then everything that was promised is there; what is there
 * is what a prefix of the transactions made; every state since the horizon is what it was; the store is whole, and
 * one can go on working with it.
 */
import { KIND_ORPHAN } from '../../src/encoding/keys.ts';
import { LsnfsError } from '../../src/errors.ts';
import type { SimulatedDisk } from '../../src/storage/simulated-disk.ts';
import { applyTransaction } from '../../src/store/apply.ts';
import { checkStore } from '../../src/store/check.ts';
import type { TreeState } from '../../src/store/tree-state.ts';
import { checkFileSystem } from '../../src/vfs/check.ts';
import { PastFileSystem } from '../../src/vfs/past-file-system.ts';
import { Random } from '../helpers/random.ts';
import { BOUNDARIES, type CrashState, LabFailure, type StateRecord } from './crash-life.ts';
import { type DiskView, initializeOn, LabClock, type Layout, Machine } from './crash-machine.ts';
import { ModelTree, recordDigest, treeDigest } from './crash-model.ts';
import { seedFrom, Workload } from './crash-workload.ts';

const RECOVERY_CRASHES_MAX = 3;
/** A recovery has about so many operations; those that change something are about so many. */
const RECOVERY_OPERATIONS = 60;
const RECOVERY_BOUNDARIES = 10;
/** A checkpoint and closing have about so many. */
const CHECKPOINT_BOUNDARIES = 10;
/** Of the crash states one in so many has … */
const ALL_STATES_ONE_IN = 10;
const CHECK_ONE_IN = 3;
const WORK_ON_ONE_IN = 3;
const SAMPLED_STATES = 2;

export interface VerifierOptions {
  readonly seed: number;
  readonly life: number;
  readonly layout: Layout;
  readonly view: DiskView;
}

export interface VerifierCounts {
  recoveries: number;
  recoveriesCrashed: number;
  /** Past states that were compared. */
  pastStates: number;
}

export class Verifier {
  private readonly options: VerifierOptions;
  private readonly counts: VerifierCounts;

  constructor(options: VerifierOptions, counts: VerifierCounts) {
    this.options = options;
    this.counts = counts;
  }

  /** Returns the LSN that was recovered, -1 for no store. @throws LabFailure */
  async verify(state: CrashState, history: readonly StateRecord[]): Promise<number> {
    const { seed, life } = this.options;
    const random = new Random(seedFrom(seed, life, state.index, 5));
    const clock = new LabClock();
    clock.microseconds = state.clockMicroseconds + 1_000_000;
    let disk: SimulatedDisk = state.image;
    if (state.known === 0) return this.verifyCreation(disk, clock);
    for (let i = 0; i < RECOVERY_CRASHES_MAX && random.below(2) === 0; i++) {
      disk = this.crashRecovery(disk, random, clock);
    }
    const machine = this.recover(disk, clock);
    try {
      const { store } = machine;
      const { lsn } = store.live;
      const known = history.slice(0, state.known);
      checkRecovered(lsn, state.acknowledged, known);
      compare('the recovered state', store.live, machine, known.find((entry) => entry.lsn === lsn)!);
      this.comparePast(machine, known, lsn, random);
      if (random.below(CHECK_ONE_IN) === 0) check(machine);
      if (random.below(WORK_ON_ONE_IN) === 0) await this.workOn(machine, random, clock);
      return lsn;
    } finally {
      await machine.turnOff();
    }
  }

  private recover(disk: SimulatedDisk, clock: LabClock): Machine {
    this.counts.recoveries++;
    try {
      return new Machine(disk, { clock, view: this.options.view });
    } catch (error) {
      throw new LabFailure(`recovery fails: ${describe(error)}`, { cause: error });
    }
  }

  /** Recovers, and crashes in the midst of it. Returns what is left. */
  private crashRecovery(disk: SimulatedDisk, random: Random, clock: LabClock): SimulatedDisk {
    const atBoundary = random.below(2) === 0;
    let countdown = random.below(atBoundary ? RECOVERY_BOUNDARIES : RECOVERY_OPERATIONS);
    const killed = random.below(4) === 0;
    let left: SimulatedDisk | undefined;
    disk.watch = ({ kind }) => {
      if (atBoundary && !BOUNDARIES.has(kind)) return;
      if (countdown-- > 0) return;
      left = killed ? disk.clone() : disk.powerCut((limit) => random.below(limit));
      disk.turnOff();
    };
    this.counts.recoveriesCrashed++;
    try {
      new Machine(disk, { clock, view: this.options.view });
    } catch (error) {
      if (left === undefined) throw new LabFailure(`recovery fails: ${describe(error)}`, { cause: error });
    }
    disk.watch = undefined;
    // It was shorter than that: the crash comes right after it.
    left ??= killed ? disk.clone() : disk.powerCut((limit) => random.below(limit));
    disk.turnOff();
    return left;
  }

  private comparePast(machine: Machine, known: readonly StateRecord[], lsn: number, random: Random): void {
    const { store } = machine;
    const past = known.filter((entry) => entry.lsn >= store.horizonLsn && entry.lsn <= lsn);
    if (random.below(ALL_STATES_ONE_IN) === 0) {
      this.compareAll(machine, past);
      return;
    }
    for (let i = 0; i < SAMPLED_STATES; i++) {
      const entry = past[random.below(past.length)]!;
      this.counts.pastStates++;
      compare(`the state at ${entry.lsn}`, this.openState(machine, entry.lsn), machine, entry);
    }
  }

  /** Every state, each made from the one before it where no version lies between them. */
  private compareAll(machine: Machine, past: readonly StateRecord[]): void {
    const { store } = machine;
    let state: TreeState | undefined;
    for (const entry of past) {
      const version = store.versionBefore(entry.lsn)?.lsn ?? 0;
      if (state === undefined || version > state.lsn) state = this.openState(machine, entry.lsn);
      else {
        const at = state;
        store.eachTransaction(at.lsn, entry.lsn, ({ payload, startLsn, endLsn, timeMicroseconds }) => {
          const past = store.past();
          applyTransaction(at, payload, startLsn, endLsn, timeMicroseconds, { past });
          return true;
        });
      }
      this.counts.pastStates++;
      if (state.lsn !== entry.lsn) throw new LabFailure(`the state at ${entry.lsn} is that at ${state.lsn}`);
      compare(`the state at ${entry.lsn}`, state, machine, entry);
    }
  }

  private openState(machine: Machine, lsn: number): TreeState {
    try {
      return machine.store.openState(lsn);
    } catch (error) {
      throw new LabFailure(`the state at ${lsn} cannot be opened: ${describe(error)}`, { cause: error });
    }
  }

  /** Some operations, all that makes them durable, and another look at them. */
  private async workOn(machine: Machine, random: Random, clock: LabClock): Promise<void> {
    const { store } = machine;
    const fs = machine.mount();
    fs.removeOrphans();
    const prefix = Buffer.alloc(9);
    prefix[8] = KIND_ORPHAN;
    const cursor = store.live.inodes.cursor();
    if (cursor.seek(prefix) && cursor.startsWith(prefix)) throw new LabFailure('orphans are left');
    const made: StateRecord[] = [];
    const record = (): void => {
      if (made.at(-1)?.lsn !== store.live.lsn) made.push(expectation(machine, workload));
    };
    const changed = (): void => {
      clock.tick();
      record();
    };
    const workload = new Workload(fs, ModelTree.of(fs), random, store.live.pageSize, changed);
    record();
    for (let i = random.below(5); i >= 0; i--) workload.step();
    await store.commit();
    const cut = machine.disk.powerCut((limit) => random.below(limit));
    this.compareReopened(cut, clock, made, store.live.lsn, 'after a commit and a power cut');
    for (let i = random.below(5); i >= 0; i--) workload.step();
    workload.closeAll();
    let countdown = random.below(CHECKPOINT_BOUNDARIES);
    let last: (() => void) | undefined;
    machine.disk.watch = ({ kind }) => {
      record();
      if (!BOUNDARIES.has(kind) || countdown-- !== 0) return;
      const image = machine.disk.powerCut((limit) => random.below(limit));
      const [known, acknowledged] = [made.slice(), store.durableLsn];
      last = () => this.compareReopened(image, clock, known, acknowledged, 'amid a checkpoint');
    };
    await store.checkpoint();
    check(machine);
    await store.close();
    last?.();
    this.compareReopened(machine.disk.clone(), clock, made.slice(-1), store.live.lsn, 'after closing');
  }

  private compareReopened(
    disk: SimulatedDisk,
    clock: LabClock,
    known: readonly StateRecord[],
    acknowledged: number,
    when: string,
  ): void {
    const machine = this.recover(disk, clock);
    const { live } = machine.store;
    try {
      checkRecovered(live.lsn, acknowledged, known);
      compare('the recovered state', live, machine, known.find(({ lsn }) => lsn === live.lsn)!);
    } catch (error) {
      if (error instanceof LabFailure) throw new LabFailure(`crashed again ${when}: ${error.message}`);
      throw error;
    }
    disk.turnOff();
  }

  /** A store that was being made: it is there whole, or it says what it is, and can be made in an empty directory. */
  private async verifyCreation(disk: SimulatedDisk, clock: LabClock): Promise<number> {
    let machine: Machine;
    try {
      this.counts.recoveries++;
      machine = new Machine(disk, { clock, view: this.options.view });
    } catch (error) {
      if (
        !(error instanceof LsnfsError) ||
        (error.code !== 'NO_STORE' && error.code !== 'STORE_INCOMPLETE')
      ) {
        throw new LabFailure(`a store that was being made: ${describe(error)}`, { cause: error });
      }
      for (const name of disk.list('')) disk.remove(name);
      for (const name of disk.exists('wal') ? disk.list('wal') : []) disk.remove(`wal/${name}`);
      initializeOn(disk, this.options.layout, clock);
      machine = this.recover(disk, clock);
    }
    machine.mount();
    await machine.store.close();
    return -1;
  }
}

export function checkRecovered(lsn: number, acknowledged: number, known: readonly StateRecord[]): void {
  if (lsn < acknowledged) {
    throw new LabFailure(`recovered LSN ${lsn}, but everything up to ${acknowledged} was promised`);
  }
  if (!known.some((entry) => entry.lsn === lsn)) {
    const nearest = known.filter((entry) => entry.lsn <= lsn).at(-1)?.lsn;
    throw new LabFailure(
      `recovered LSN ${lsn}, which no transaction ends at (the one before ends at ${nearest})`,
    );
  }
}

function expectation(machine: Machine, workload: Workload): StateRecord {
  const { live } = machine.store;
  return { lsn: live.lsn, tree: workload.tree.digest(), records: recordDigest(live) };
}

function compare(what: string, state: TreeState, machine: Machine, expected: StateRecord): void {
  let tree: string;
  let records: string;
  try {
    tree = treeDigest(new PastFileSystem(state, machine.vfsOptions));
    records = recordDigest(state);
  } catch (error) {
    throw new LabFailure(`${what} cannot be read: ${describe(error)}`, { cause: error });
  }
  if (tree !== expected.tree) {
    throw new LabFailure(`${what} shows another tree:\n${differences(tree, expected.tree)}`);
  }
  if (records !== expected.records) {
    throw new LabFailure(`${what} has other records:\n${differences(records, expected.records)}`);
  }
}

function differences(found: string, expected: string): string {
  const [there, wanted] = [found.split('\n'), expected.split('\n')];
  const [has, wants] = [new Set(there), new Set(wanted)];
  const lines = [
    ...there.filter((entry) => !wants.has(entry)).map((entry) => `  found    ${JSON.stringify(entry)}`),
    ...wanted.filter((entry) => !has.has(entry)).map((entry) => `  expected ${JSON.stringify(entry)}`),
  ];
  return lines.slice(0, 12).join('\n');
}

function check(machine: Machine): void {
  const { problems } = checkStore(machine.store);
  if (problems.length > 0) throw new LabFailure(`the check finds: ${problems.slice(0, 5).join('; ')}`);
  const found = checkFileSystem(machine.store.live);
  if (found.length > 0) {
    throw new LabFailure(
      `the check finds: ${found.map(({ inode, message }) => `inode ${inode}: ${message}`).join('; ')}`,
    );
  }
}

function describe(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
