/**
 * Runs a compaction on an open store: its steps between what the store does for others, checkpoints when much has become
 * dirty, and an end when the live state is rebuilt meanwhile. What is moved is in `compaction.ts`.
 */
import {
  type CompactionPlan,
  type CompactionStore,
  type MoveResult,
  movePages,
  movePagesOfCatalog,
  planCompaction,
} from './compaction.ts';
import type { TreeState } from './tree-state.ts';

/** What the store does for its compaction. */
export interface CompactionHost extends CompactionStore {
  /** How often the live state has been rebuilt. */
  readonly rebuilds: number;
  /** How long one piece of work may take, in milliseconds. */
  readonly turnMs: number;
  /** Percent of the time that may be spent. */
  readonly percent: number;
  /** Whether so much is dirty that a checkpoint should come first. */
  readonly isFull: boolean;
  /** Whether the next state that is held will have a version of its own, and no operation is under way. */
  readonly canMove: boolean;
  /** Whether no checkpoint is under way or waits. */
  readonly isQuiet: boolean;
  /** The newest version, and what lets go of it. */
  leaseNewest(): { state: TreeState; release: () => void };
  /** Pages of the live state may have been moved. */
  moved(): void;
  movedOfCatalog(): void;
  /** Writes what there is to write. @throws LsnfsError why that cannot be done */
  checkpoint(): Promise<void>;
}

export interface CompactionOptions {
  /** LSNs of the versions that hold their pages for long, ascending. */
  readonly pinning: readonly number[];
  /** Whether the share of the time does not matter. */
  readonly fullSpeed: boolean;
  readonly dryRun: boolean;
  /** Told what is being done, from time to time. */
  readonly onProgress?: (plan: CompactionPlan, moved: MoveResult) => void;
}

export interface CompactionOutcome extends CompactionPlan {
  readonly moved: MoveResult;
}

/** How often a step looks whether it may go on, when it may not. */
const WAIT_MS = 5;

/** @throws LsnfsError the failure of the store; what hinders a checkpoint; damage of a page on the way */
export async function compact(host: CompactionHost, options: CompactionOptions): Promise<CompactionOutcome> {
  const moved: MoveResult = { pages: 0, left: 0 };
  const newest = host.leaseNewest();
  let plan: CompactionPlan;
  try {
    plan = await run(host, options, planCompaction(host, newest.state, options.pinning), () => true);
  } finally {
    newest.release();
  }
  if (options.dryRun || plan.cut === plan.frontier) return { ...plan, moved };
  const { rebuilds } = host;
  const isSame = (): boolean => host.rebuilds === rebuilds;
  host.freeSpace.preferBelow(plan.cut);
  const report = (): void => options.onProgress?.(plan, moved);
  const steps = movePages(host, plan.cut, options.pinning.at(-1) ?? 0, moved);
  await run(host, options, whileTrue(steps, isSame, report), () => host.canMove && !host.isFull, host.moved);
  if (!isSame()) return { ...plan, moved };
  await host.checkpoint();
  const catalogSteps = movePagesOfCatalog(host, plan.cut, moved);
  await run(host, options, whileTrue(catalogSteps, isSame, report), () => host.isQuiet, host.movedOfCatalog);
  return { ...plan, moved };
}

/** The same steps, until a condition does not hold any more. */
function* whileTrue(steps: Generator<void>, isTrue: () => boolean, afterEach: () => void): Generator<void> {
  while (isTrue() && steps.next().done !== true) {
    afterEach();
    yield;
  }
}

/** Does steps in turns, each when `canStep`, with the pauses that the share of the time asks for. */
async function run<Result>(
  host: CompactionHost,
  { fullSpeed }: CompactionOptions,
  steps: Generator<void, Result>,
  canStep: () => boolean,
  afterTurn: () => void = () => {},
): Promise<Result> {
  for (;;) {
    if (!canStep()) {
      await host.checkpoint();
      if (!canStep()) await pause(WAIT_MS);
      continue;
    }
    const start = performance.now();
    let step: IteratorResult<void, Result>;
    try {
      do step = steps.next();
      while (step.done !== true && canStep() && performance.now() - start < host.turnMs);
    } finally {
      afterTurn();
    }
    if (step.done === true) return step.value;
    const worked = performance.now() - start;
    await pause(fullSpeed ? 0 : worked * (100 / host.percent - 1));
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    if (ms < 1) setImmediate(resolve);
    else setTimeout(resolve, Math.min(ms, 250));
  });
}
