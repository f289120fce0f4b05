/**
 * `npm test`: sets up, lints, and runs all tests. Arguments go to AVA (`npm test -- test/cli/duration.test.ts`).
 * The last line is "N passed, N failed", with ", N skipped" when some were.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
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

setUpOrExit('test');
const clean = lint();
const { NO_MOUNT_REASON: reason } = await import('../dist/test/helpers/mounting.js');
announceSeed();
if (reason !== undefined) process.stdout.write(`The cases that mount are left out: ${reason}.\n`);
const counts = await runAva([process.execPath, avaPath, ...process.argv.slice(2)]);
if (!clean) {
  process.stdout.write('The linter found what it says above; that counts as one failure.\n');
  counts.failed++;
}
process.stdout.write(`${closingLine(counts)}\n`);
process.exitCode = counts.failed === 0 ? 0 : 1;
