/** What the test and the long run of the laboratory of failing disks share: the programs, their plans, one run. */
import { Random } from '../helpers/random.ts';
import { hurry, program } from './fault-script.ts';
import { FaultRun, formatPlan, type Outcome, type Plan, plansFor, type TracedOperation } from './faults.ts';

interface Program {
  readonly script: (run: FaultRun) => Promise<void>;
  /** As of a mount: with the log's writer beside the store. */
  readonly threaded: boolean;
}

export const PROGRAMS: Readonly<Record<string, Program>> = {
  program: { script: program, threaded: false },
  hurry: { script: hurry, threaded: false },
  threaded: { script: program, threaded: true },
  'threaded-hurry': { script: hurry, threaded: true },
};

export interface Prepared {
  readonly name: string;
  readonly trace: readonly TracedOperation[];
  readonly operations: number;
  readonly plans: readonly Plan[];
}

/** Runs a program undisturbed and lists what can fail. */
export async function prepare(name: string, seed: number): Promise<Prepared> {
  const chosen = PROGRAMS[name];
  if (chosen === undefined)
    throw new Error(`there is no program ${name}: ${Object.keys(PROGRAMS).join(', ')}`);
  const { script, threaded } = chosen;
  const run = new FaultRun({ seed, cuts: 0, threaded });
  await run.run(script);
  return { name, trace: run.trace, operations: run.trace.length, plans: plansFor(run.trace) };
}

/** `count` of the plans, drawn without repetition, or all of them. */
export function draw({ plans }: Prepared, seed: number, count: number): Plan[] {
  const random = new Random(seed);
  const shuffled = [...plans];
  for (let i = shuffled.length - 1; i > 0; i--) {
    const other = random.below(i + 1);
    [shuffled[i], shuffled[other]] = [shuffled[other]!, shuffled[i]!];
  }
  return shuffled.slice(0, count);
}

/** Runs a program with what the plan says. @throws Error that says how to do the same again. */
export async function runPlan(prepared: Prepared, plan: Plan, seed: number, cuts = 2): Promise<Outcome> {
  const { script, threaded } = PROGRAMS[prepared.name]!;
  const run = new FaultRun({ plan, reference: prepared.trace, seed, cuts, threaded });
  try {
    return await run.run(script);
  } catch (error) {
    const text = error instanceof Error && error.name !== 'Finding' ? error.stack : String(error);
    const again = `npm run test:faults -- --program ${prepared.name} --seed ${seed} --plan ${formatPlan(plan)}`;
    throw new Error(`${text}\n  again: ${again}`, { cause: error });
  }
}
