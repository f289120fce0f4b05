/**
 * The long run of the laboratory of failing disks:
 *
 *   npm run test:faults -- [--seed S] [--cases N] [--program NAME] [--all]
 *   npm run test:faults -- --program NAME --seed S --plan AT:KIND:SPAN      one run again
 *
 * Runs N plans (default: 2,000) drawn from those of all programs, or with --all every one. Ends with exit code 1 and the
 * command that does a failing run again.
 */
import { parseArgs } from 'node:util';
import { draw, PROGRAMS, prepare, runPlan } from '../test/lab/fault-run.ts';
import { parsePlan } from '../test/lab/faults.ts';

const PROGRESS_MS = 5000;
/** After so many findings the run ends. */
const FINDINGS_MAX = 10;

const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    cases: { type: 'string', default: '2000' },
    program: { type: 'string' },
    plan: { type: 'string' },
    all: { type: 'boolean', default: false },
  },
});

const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(values.seed);

async function main(): Promise<void> {
  process.stdout.write(`seed ${seed}\n`);
  const names = values.program === undefined ? Object.keys(PROGRAMS) : [values.program];
  let findings = 0;
  for (const name of names) {
    const prepared = await prepare(name, seed);
    const cases = values.all ? prepared.plans.length : Math.ceil(Number(values.cases) / names.length);
    const plans = values.plan === undefined ? draw(prepared, seed, cases) : [parsePlan(values.plan)];
    const outcomes = new Map<string, number>();
    const started = performance.now();
    let told = started;
    let done = 0;
    const tell = (): void => {
      const seconds = (performance.now() - started) / 1000;
      const counts = [...outcomes].map(([outcome, count]) => `${count} ${outcome}`).join(', ');
      process.stdout.write(
        `${name}: ${done} of ${plans.length} runs (${prepared.operations} operations) in ${seconds.toFixed(0)} s: ${counts}\n`,
      );
    };
    for (const plan of plans) {
      try {
        const outcome = await runPlan(prepared, plan, seed);
        outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
      } catch (error) {
        process.stderr.write(`${(error as Error).message}\n\n`);
        process.exitCode = 1;
        findings++;
        if (findings >= FINDINGS_MAX) return;
      }
      done++;
      if (performance.now() - told > PROGRESS_MS) {
        told = performance.now();
        tell();
      }
    }
    tell();
  }
}

await main();
