/**
 * `npm run test:posix -- [--steps 100000] [--seed S] [--trace]`: random calls on ext4 and on a mount, compared, in rounds
 * of some thousand with a seed of its own each. Ends with status 1 at the first difference, and the command that does it again.
 *
 * `npm run test:posix -- --binding fuse-native [--long]`: the cases of test/vfs/conformance/system on a mount of that binding, and
 * how many of each area need what it lacks. Ends with status 1 when another case fails, or one of those does not.
 */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { compareFileSystems, hasExt4 } from '../test/helpers/compare-file-systems.ts';
import { MountedStore } from '../test/helpers/mounted-store.ts';
import {
  ALL_LOSSES,
  listSystemCases,
  lossesOf,
  nativeFault,
  runSystemCases,
} from '../test/helpers/system-cases.ts';
import { whyNoMount } from './why-no-mount.ts';

const ROUND_STEPS = 10_000;

const { values } = parseArgs({
  options: {
    steps: { type: 'string', default: '100000' },
    seed: { type: 'string', default: String(Math.floor(Math.random() * 2 ** 31)) },
    trace: { type: 'boolean', default: false },
    binding: { type: 'string', default: 'kernel' },
    long: { type: 'boolean', default: false },
  },
});

const isNative = values.binding === 'fuse-native';
const reason = whyNoMount() ?? (isNative || hasExt4() ? undefined : 'the temporary directory is not on ext4');
if (reason !== undefined) {
  process.stderr.write(`test:posix mounts and compares with ext4, which cannot be done here: ${reason}\n`);
  process.exit(1);
}

const teardowns: (() => unknown)[] = [];
const owner = { teardown: (work: () => unknown) => void teardowns.push(work) };
const total = Number(values.steps);
let seed = Number(values.seed);
let steps = 0;

/** Compares random calls on ext4 and a mount, in rounds. */
async function compareInRounds(): Promise<void> {
  const where = await MountedStore.createUnmounted(owner);
  await where.mount('--allow-other');
  for (let done = 0; done < total; done += steps) {
    if (done > 0) seed++;
    steps = Math.min(ROUND_STEPS, total - done);
    const outcome = await compareFileSystems(owner, where, { seed, steps, trace: values.trace });
    process.stdout.write(`seed ${seed}: ${outcome}\n`);
  }
}

/** More than all cases take; each has a limit of its own. */
const CASES_MS = 3_600_000;

/** Runs the cases on the binding fuse-native and prints what comes of them. */
async function runNativeCases(): Promise<void> {
  const run = { long: values.long, timeoutMs: CASES_MS, lacks: ALL_LOSSES };
  const cases = await listSystemCases(run);
  const where = await MountedStore.createUnmounted(owner);
  await where.mount('--allow-other', '--binding', 'fuse-native');
  await where.shell('mkdir cases');
  const outcomes = await runSystemCases('mount', join(where.mountpoint, 'cases'), run);
  const areas = new Map<string, { cases: number; lacking: Map<string, number> }>();
  for (const one of cases) {
    const [area = ''] = one.name.split('.');
    const tally = areas.get(area) ?? { cases: 0, lacking: new Map<string, number>() };
    areas.set(area, tally);
    tally.cases++;
    for (const loss of lossesOf(one)) tally.lacking.set(loss, (tally.lacking.get(loss) ?? 0) + 1);
    const fault = nativeFault(one, outcomes.get(one.name));
    if (fault === undefined) continue;
    process.exitCode = 1;
    process.stdout.write(`${one.name}: ${one.rule}: ${fault}\n`);
  }
  for (const [area, { cases: count, lacking }] of [...areas].sort()) {
    const list = [...lacking].map(([loss, number]) => `${loss} ${number}`).join(', ');
    process.stdout.write(
      `${area}: ${count} cases${list === '' ? '' : `, of which need what is lacking: ${list}`}\n`,
    );
  }
}

try {
  if (isNative) await runNativeCases();
  else await compareInRounds();
} catch (error) {
  process.exitCode = 1;
  const text = error instanceof Error ? error.message : String(error);
  const again = isNative ? '--binding fuse-native' : `--steps ${steps} --seed ${seed}`;
  process.stdout.write(`${text}\nagain: npm run test:posix -- ${again}\n`);
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
