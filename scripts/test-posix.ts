/**
 * `npm run test:posix -- [--steps 100000] [--seed S] [--trace]`: random calls on ext4 and on a mount, compared, in rounds
 * of some thousand with a seed of its own each. Ends with status 1 at the first difference, and the command that does it again.
 */
import { parseArgs } from 'node:util';
import { compareFileSystems, hasExt4 } from '../test/helpers/compare-file-systems.ts';
import { MountedStore } from '../test/helpers/mounted-store.ts';
import { whyNoMount } from './why-no-mount.ts';

const ROUND_STEPS = 10_000;

const { values } = parseArgs({
  options: {
    steps: { type: 'string', default: '100000' },
    seed: { type: 'string', default: String(Math.floor(Math.random() * 2 ** 31)) },
    trace: { type: 'boolean', default: false },
  },
});

const reason = whyNoMount() ?? (hasExt4() ? undefined : 'the temporary directory is not on ext4');
if (reason !== undefined) {
  process.stderr.write(`test:posix mounts and compares with ext4, which cannot be done here: ${reason}\n`);
  process.exit(1);
}

const teardowns: (() => unknown)[] = [];
const owner = { teardown: (work: () => unknown) => void teardowns.push(work) };
const total = Number(values.steps);
let seed = Number(values.seed);
let steps = 0;
try {
  const where = await MountedStore.createUnmounted(owner);
  await where.mount('--allow-other');
  for (let done = 0; done < total; done += steps) {
    if (done > 0) seed++;
    steps = Math.min(ROUND_STEPS, total - done);
    const outcome = await compareFileSystems(owner, where, { seed, steps, trace: values.trace });
    process.stdout.write(`seed ${seed}: ${outcome}\n`);
  }
} catch (error) {
  process.exitCode = 1;
  const text = error instanceof Error ? error.message : String(error);
  process.stdout.write(`${text}\nagain: npm run test:posix -- --steps ${steps} --seed ${seed}\n`);
} finally {
  for (const work of teardowns.reverse()) {
    await Promise.resolve()
      .then(work)
      .catch((error: unknown) => {
        process.stdout.write(`${String(error)}\n`);
        process.exitCode = 1;
      });
  }
}
