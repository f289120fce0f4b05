/**
 * `npm test`: sets up, lints, and runs the tests; with `--long` (`npm run test:long`) those that it leaves to that, without
 * linting again. Other arguments go to AVA (`npm test -- test/cli/text.test.ts`), and then nothing is left out. The last line is "N passed, N failed", with ", N skipped" when some were.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { LABORATORIES, LONG_FILES, SHORT_SHARE } from './long-tests.mjs';
import { avaPath, closingLine, runAva } from './run-ava.mjs';
import { projectDirectory, setUpOrExit } from './set-up.mjs';
import { announceSeed } from './test-seed.mjs';
import { collectFailure } from './what-failed.mjs';

function lint() {
  const biome = join(projectDirectory, 'node_modules', '@biomejs', 'biome', 'bin', 'biome');
  const args = [biome, 'check', '--error-on-warnings', '.'];
  const stdio = /** @type {const} */ (['ignore', 'pipe', 'pipe']);
  const { status, stdout, stderr } = spawnSync(process.execPath, args, {
    cwd: projectDirectory,
    stdio,
    encoding: 'utf8',
  });
  process.stdout.write(`${stdout}${stderr}`);
  if (status !== 0) collectFailure(['The linter:', ...`${stdout}${stderr}`.split('\n').slice(0, 100)]);
  return status === 0;
}

/** What AVA is to run, and what its processes are told. @param {string[]} args */
function selection(args) {
  const isLong = args.includes('--long');
  const others = args.filter((arg) => arg !== '--long');
  const files = isLong ? [...LONG_FILES, ...LABORATORIES] : [];
  if (isLong || others.length > 0) return { args: [...others, ...files], variables: {}, isLong };
  return {
    args: ['test/**/*.test.ts', ...LONG_FILES.map((file) => `!${file}`)],
    variables: { LSNFS_TEST_SHARE: process.env.LSNFS_TEST_SHARE ?? SHORT_SHARE },
    isLong,
  };
}

const { args, variables, isLong } = selection(process.argv.slice(2));
setUpOrExit('test');
const clean = isLong || lint();
const { NO_MOUNT_REASON: reason } = await import('../dist/test/helpers/mounting.js');
announceSeed();
if (reason !== undefined) process.stdout.write(`The cases that mount are left out: ${reason}.\n`);
const counts = await runAva([process.execPath, avaPath, ...args], variables);
if (!clean) {
  process.stdout.write('The linter found what it says above; that counts as one failure.\n');
  counts.failed++;
}
process.stdout.write(`${closingLine(counts)}\n`);
process.exitCode = counts.failed === 0 ? 0 : 1;
