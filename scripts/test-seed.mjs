/**
 * The seed of a run of the tests. It is taken from the commit: a run of the same commit explores the same cases, so that
 * what fails is the change and not the draw, and the next commit explores others. LSNFS_TEST_SEED in the environment
 * decides otherwise: a number, or `random` for a new one.
 */
import { spawnSync } from 'node:child_process';
import { projectDirectory } from './set-up.mjs';

/** For sources that are no clone. */
const WITHOUT_COMMIT = 20_260_101;

/** Decides the seed, gives it to what this process starts, and says which it is and how to have it again. */
export function announceSeed() {
  const given = process.env.LSNFS_TEST_SEED ?? '';
  const [seed, origin] =
    given === 'random'
      ? [Math.floor(Math.random() * 2 ** 31), 'drawn anew']
      : given !== ''
        ? [given, 'as the environment says']
        : fromCommit();
  process.env.LSNFS_TEST_SEED = String(seed);
  process.stdout.write(`Random tests: LSNFS_TEST_SEED=${seed} (${origin}).\n`);
}

/** @returns {[number, string]} 31 bits of the commit's name */
function fromCommit() {
  // A clone that belongs to somebody else is only read here.
  const args = ['-c', 'safe.directory=*', 'rev-parse', '--verify', 'HEAD'];
  const { stdout } = spawnSync('git', args, { cwd: projectDirectory, encoding: 'utf8' });
  const name = /^[0-9a-f]{40,64}$/.exec(stdout?.trim() ?? '')?.[0];
  if (name === undefined) return [WITHOUT_COMMIT, 'always this one where there is no commit'];
  return [Number.parseInt(name.slice(0, 8), 16) >>> 1, `from commit ${name.slice(0, 12)}`];
}
