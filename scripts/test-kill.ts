/**
 * `npm run test:kill -- [--cycles 100] [--seed N] [--load MS] [--binding fuse-native]`: the long run of test/helpers/kill-cycles.ts.
 *
 * A line of progress for each ten cycles, a summary at the end. Stops at the first cycle that finds something, says what,
 * and ends with status 1; the same seed makes the same plan of settings, loads and kills again.
 */
import { parseArgs } from 'node:util';
import { BINDINGS } from '../cli/mount-options.ts';
import { KILL_SEGMENT_SIZE, KillCycles } from '../test/helpers/kill-cycles.ts';
import { MountedStore } from '../test/helpers/mounted-store.ts';
import { Random } from '../test/helpers/random.ts';
import { whyNoMount } from './why-no-mount.ts';

const { values } = parseArgs({
  options: {
    cycles: { type: 'string', default: '100' },
    seed: { type: 'string', default: String(Math.floor(Math.random() * 2 ** 31)) },
    load: { type: 'string', default: '1200' },
    binding: { type: 'string', default: 'kernel' },
  },
});

function wholeNumber(name: 'cycles' | 'seed' | 'load'): number {
  const value = Number(values[name]);
  if (Number.isSafeInteger(value) && value >= 0) return value;
  throw new Error(`--${name} is a whole number, not '${values[name]}'`);
}

const cycles = wholeNumber('cycles');
const seed = wholeNumber('seed');
const loadMs = Math.max(1, wholeNumber('load'));
const binding = BINDINGS.find((name) => name === values.binding);
if (binding === undefined) throw new Error(`--binding is ${BINDINGS.join(' or ')}, not '${values.binding}'`);
/** The whole store is checked after every so many cycles. */
const CHECK_EVERY = 5;
const start = performance.now();
const say = (text: string): void => {
  process.stdout.write(`${((performance.now() - start) / 1000).toFixed(1).padStart(7)} s  ${text}\n`);
};

const reason = whyNoMount();
if (reason !== undefined) {
  process.stderr.write(`test:kill mounts, which cannot be done here: ${reason}\n`);
  process.exit(1);
}

const teardowns: (() => unknown)[] = [];
let problems: string[] = [];
let run: KillCycles | undefined;
try {
  say(`${cycles} cycles, seed ${seed}`);
  const owner = { teardown: (work: () => unknown) => void teardowns.push(work) };
  const where = await MountedStore.createUnmounted(owner, { segmentSize: KILL_SEGMENT_SIZE, binding });
  const options = binding === 'kernel' ? [] : (['small-requests'] as const);
  run = new KillCycles(where, new Random(seed), ...options);
  const { summary, writers } = run;
  for (let cycle = 1; cycle <= cycles && problems.length === 0; cycle++) {
    problems = await run.cycle({ check: cycle % CHECK_EVERY === 0, loadMs });
    if (cycle % 10 === 0) {
      say(`cycle ${cycle}: ${summary.kills} kills, ${writers.totals.acknowledgements} acknowledgements`);
    }
  }
  if (problems.length === 0) problems = await run.startAndVerify();
  if (problems.length === 0) problems = await where.problems();
} catch (error) {
  problems.push(error instanceof Error && error.stack !== undefined ? error.stack : String(error));
} finally {
  await run?.end();
  for (const work of teardowns.reverse()) {
    await Promise.resolve()
      .then(work)
      .catch((error: unknown) => problems.push(String(error)));
  }
}
if (run !== undefined) {
  const { cycles: done, kills, earlyKills, checks } = run.summary;
  const { steps, acknowledgements, verified, pastStates, lost } = run.writers.totals;
  say(
    `${done} cycles: ${kills} kills (${earlyKills} while a mount started), ${steps} steps, ${acknowledgements} acknowledged syncs, ` +
      `${verified} records and ${pastStates} past states compared, ${lost} unacknowledged steps lost, ${checks + 1} whole stores checked`,
  );
}
for (const problem of problems) say(problem);
say(
  problems.length === 0
    ? 'nothing was lost'
    : `failed; again: npm run test:kill -- --cycles ${cycles} --seed ${seed}${binding === 'kernel' ? '' : ` --binding ${binding}`}`,
);
process.exitCode = problems.length === 0 ? 0 : 1;
