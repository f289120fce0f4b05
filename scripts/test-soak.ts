/**
 * `npm run test:soak -- [--minutes 10] [--seed N]`: the run of test/helpers/soak.ts, as long as is asked for.
 *
 * A line of progress every ten seconds, a summary at the end. Stops at the first thing that is wrong, says what, and ends with
 * status 1.
 */
import { parseArgs } from 'node:util';
import { MountedStore } from '../test/helpers/mounted-store.ts';
import { Random } from '../test/helpers/random.ts';
import { soak } from '../test/helpers/soak.ts';
import { whyNoMount } from './why-no-mount.ts';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '10' },
    seed: { type: 'string', default: String(Math.floor(Math.random() * 2 ** 31)) },
  },
});
const minutes = Number(values.minutes);
const seed = Number(values.seed);
if (!(minutes > 0) || !Number.isSafeInteger(seed)) throw new Error('--minutes and --seed are numbers');

const start = performance.now();
const say = (text: string): void => {
  process.stdout.write(`${((performance.now() - start) / 1000).toFixed(0).padStart(6)} s  ${text}\n`);
};

const reason = whyNoMount();
if (reason !== undefined) {
  process.stderr.write(`test:soak mounts, which cannot be done here: ${reason}\n`);
  process.exit(1);
}

const teardowns: (() => unknown)[] = [];
let problems: string[] = [];
try {
  say(`${minutes} minutes, seed ${seed}`);
  const owner = { teardown: (work: () => unknown) => void teardowns.push(work) };
  // Small segments and quick checkpoints: much happens in a short time.
  const where = await MountedStore.create(owner, {
    segmentSize: 4 * 1024 * 1024,
    settings: { checkpointIntervalMs: 500, minRetentionMs: 1000, keepWindowMs: 10_000 },
  });
  const found = await soak(where, new Random(seed), minutes * 60_000, say);
  problems = found.problems;
  const { kills, steps, snapshots, errorsTaken } = found.summary;
  say(
    `${kills} kills, ${snapshots} snapshots, ${errorsTaken} errors that the kernel remembered of killed programs; steps: ${JSON.stringify(steps)}`,
  );
  if (problems.length > 0) say(`the end of the daemon's log:\n${where.log.slice(-4000)}`);
} catch (error) {
  problems.push(error instanceof Error && error.stack !== undefined ? error.stack : String(error));
} finally {
  for (const work of teardowns.reverse()) {
    await Promise.resolve()
      .then(work)
      .catch((error: unknown) => problems.push(String(error)));
  }
}
for (const problem of problems) say(problem);
say(
  problems.length === 0
    ? 'everything is well'
    : `failed; again: npm run test:soak -- --minutes ${minutes} --seed ${seed}`,
);
process.exitCode = problems.length === 0 ? 0 : 1;
