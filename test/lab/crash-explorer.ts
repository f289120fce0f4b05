/**
 * Explores crashes: chains of lives, each of which begins with a crash of the one before, so that crashes pile up. Every crash
 * state is verified as soon as its action is over.
 *
 * Lives are numbered; a chain has LIVES_PER_CHAIN of them and begins with a new store. What a chain does depends on the
 * seed and its number only, not on what was verified or on how many processes share the work: any crash state is made
 * again by living its chain up to it.
 */
import { SEGMENT_SIZE_MINIMUM } from '../../src/encoding/control.ts';
import { PAGE_SIZES } from '../../src/encoding/page.ts';
import { SimulatedDisk } from '../../src/storage/simulated-disk.ts';
import { Random } from '../helpers/random.ts';
import { type CrashState, LabFailure, Life, type StateRecord } from './crash-life.ts';
import { type DiskView, LabClock, type Layout } from './crash-machine.ts';
import { checkRecovered, Verifier, type VerifierCounts } from './crash-verifier.ts';
import { seedFrom } from './crash-workload.ts';

const LIVES_PER_CHAIN = 5;
/** Small segments are made when they are needed, larger ones ahead of that. */
const LARGE_SEGMENT_SIZE = 512 * 1024;
const LARGE_SEGMENTS_ONE_IN = 5;
/** Lives whose log has a stepped writer. */
const THREADED_ONE_IN = 3;

export interface ExplorerOptions {
  readonly seed: number;
  /** Ends after so many crash states. */
  readonly states: number;
  /** The first chain, and how many there are between two of this explorer's. */
  readonly firstChain?: number;
  readonly chainStep?: number;
  readonly view?: DiskView;
  /** Only this life's crash states, or one of them. */
  readonly only?: { readonly life: number; readonly state: number | undefined };
  /** Of that life only these actions. */
  readonly actions?: ReadonlySet<number>;
  readonly progress?: (summary: Readonly<Summary>) => void;
  readonly trace?: (line: string) => void;
}

export interface Summary extends VerifierCounts {
  /** Crash states that were verified. */
  states: number;
  /** Those among them whose disk was like no other of their life. */
  distinct: number;
  lives: number;
  /** Transactions of all lives. */
  lsns: number;
}

export interface Failure {
  readonly life: number;
  /** The crash state, or undefined when the life itself went wrong. */
  readonly state: number | undefined;
  readonly action: number;
  readonly where: string;
  readonly message: string;
}

export function emptySummary(): Summary {
  return {
    states: 0,
    distinct: 0,
    lives: 0,
    lsns: 0,
    recoveries: 0,
    recoveriesCrashed: 0,
    pastStates: 0,
  };
}

export class Explorer {
  readonly summary: Summary = emptySummary();
  failure: Failure | undefined;
  /** Digests of the lives, for comparing two runs. */
  readonly digests: string[] = [];
  private readonly options: ExplorerOptions;

  constructor(options: ExplorerOptions) {
    this.options = options;
  }

  private get done(): boolean {
    return this.failure !== undefined || this.summary.states >= this.options.states;
  }

  /** Returns the first failure, or undefined. */
  async run(): Promise<Failure | undefined> {
    const { only, firstChain = 0, chainStep = 1 } = this.options;
    if (only !== undefined) {
      await this.runChain(Math.floor(only.life / LIVES_PER_CHAIN));
      return this.failure;
    }
    for (let chain = firstChain; !this.done; chain += chainStep) await this.runChain(chain);
    return this.failure;
  }

  private async runChain(chain: number): Promise<void> {
    const { seed, only } = this.options;
    const plan = new Random(seedFrom(seed, chain, 6));
    const layout: Layout = {
      pageSize: PAGE_SIZES[plan.below(4) === 0 ? plan.below(PAGE_SIZES.length) : 0]!,
      segmentSize: plan.below(LARGE_SEGMENTS_ONE_IN) === 0 ? LARGE_SEGMENT_SIZE : SEGMENT_SIZE_MINIMUM,
    };
    const clock = new LabClock();
    let disk = new SimulatedDisk();
    let history: StateRecord[] = [];
    let acknowledged = 0;
    let created = false;
    for (let i = 0; i < LIVES_PER_CHAIN && !this.done; i++) {
      const number = chain * LIVES_PER_CHAIN + i;
      if (only !== undefined && number > only.life) return;
      const life = this.makeLife(number, layout, clock, disk, history, acknowledged);
      let state: CrashState | undefined;
      try {
        if (!created) await life.create();
        await life.run();
        created = true;
      } catch (error) {
        if (error instanceof Ended) return;
        this.failure ??= {
          life: number,
          state: undefined,
          action: life.action,
          where: 'in the life itself',
          message: describe(error),
        };
        return;
      }
      this.summary.lives++;
      this.summary.lsns += life.history.length - history.length;
      this.digests.push(life.digest);
      ({ next: state, history } = life);
      if (life.closed || state === undefined) {
        disk = life.end;
        acknowledged = history.at(-1)!.lsn;
      } else {
        disk = state.image;
        ({ acknowledged } = state);
        history = history.slice(0, state.known);
      }
    }
  }

  private makeLife(
    number: number,
    layout: Layout,
    clock: LabClock,
    disk: SimulatedDisk,
    history: readonly StateRecord[],
    acknowledged: number,
  ): Life {
    const { options } = this;
    const { seed, only, view = (plain) => plain, trace, actions } = options;
    // A view hides the simulated disk, on which the stepped writer relies.
    const threaded =
      options.view === undefined && new Random(seedFrom(seed, number, 7)).below(THREADED_ONE_IN) === 0;
    const isOnly = only?.life === number;
    const verifier = new Verifier({ seed, life: number, layout, view }, this.summary);
    /** What was recovered from an image. */
    const recovered = new Map<string, number>();
    const life: Life = new Life(
      {
        seed,
        life: number,
        layout,
        clock,
        view,
        threaded,
        wanted: (index) => (only === undefined ? true : isOnly && (only.state ?? index) === index),
        visit: (state) => this.visit(state, life, number, verifier, recovered),
        trace: only === undefined || isOnly ? trace : undefined,
        ...(isOnly && actions !== undefined && { actions }),
      },
      disk,
      history.slice(),
      acknowledged,
    );
    return life;
  }

  private async visit(
    state: CrashState,
    life: Life,
    number: number,
    verifier: Verifier,
    recovered: Map<string, number>,
  ): Promise<void> {
    if (this.done) throw new Ended();
    const { summary } = this;
    summary.states++;
    const fingerprint = `${state.known === 0} ${state.image.fingerprint()}`;
    try {
      const known = recovered.get(fingerprint);
      if (known === undefined) {
        summary.distinct++;
        recovered.set(fingerprint, await verifier.verify(state, life.history));
      } else if (state.known > 0)
        checkRecovered(known, state.acknowledged, life.history.slice(0, state.known));
    } catch (error) {
      if (!(error instanceof LabFailure)) throw error;
      const { index, action, where } = state;
      this.failure = { life: number, state: index, action, where, message: error.message };
      throw new Ended();
    }
    this.options.progress?.(summary);
  }
}

/** Enough was seen. */
class Ended extends Error {}

function describe(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
