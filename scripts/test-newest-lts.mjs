/**
 * Runs what may differ with the Node version on the newest Node that calls itself LTS, from the npm package `node`. The
 * build is the one that `npm test` has made.
 *
 * Node's buffers, files, threads, sockets and processes are behind the encodings, the storage, the log, the store, the
 * protocols and the start of a command; each laboratory goes over all of them once more with a tenth of its cases. What
 * is built on these alone (trees, history, the semantics of files) was tested by `npm test`.
 */
import { spawnSync } from 'node:child_process';
import { avaPath, closingLine, runAva } from './run-ava.mjs';
import { projectDirectory } from './set-up.mjs';
import { announceSeed } from './test-seed.mjs';
import { collectFailure } from './what-failed.mjs';

const FILES = [
  'test/encoding/**',
  'test/storage/**',
  'test/wal/**',
  'test/store/**',
  'test/plugin/**',
  'test/btree/property.test.ts',
  'test/vfs/conformance-store.test.ts',
  'test/vfs/property.test.ts',
  'test/fuse/protocol.test.ts',
  'test/fuse/session.test.ts',
  'test/cli/arguments.test.ts',
  'test/cli/control.test.ts',
  'test/cli/operations.test.ts',
  'test/cli/text.test.ts',
  'test/cli/export.test.ts',
  'test/lab/crash.test.ts',
  'test/lab/faults.test.ts',
  'test/lab/corruption.test.ts',
  'test/lab/fuzz*.test.ts',
];
const SHARE = '0.1';

/** @param {string[]} command */
function outputOf([program, ...args]) {
  const result = spawnSync(program, args, {
    cwd: projectDirectory,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  return result.status === 0 ? result.stdout.trim() : undefined;
}

/** The same, for what needs the network: it may fail once. @param {string[]} command */
function persistently(command) {
  return outputOf(command) ?? outputOf(command) ?? outputOf(command);
}

/** Even majors become LTS half a year after their first release; the newest may not be there yet, so it is asked. */
function newestLts() {
  const versions = persistently(['npm', 'view', 'node', 'versions', '--json', '--loglevel=error']);
  if (versions === undefined) return undefined;
  const majors = new Set(JSON.parse(versions).map((version) => Number.parseInt(version, 10)));
  const candidates = [...majors].filter((major) => major % 2 === 0).sort((a, b) => b - a);
  for (const major of candidates.slice(0, 3)) {
    const name = persistently([...nodeCommand(major), '-p', 'process.release.lts ?? ""']);
    if (name) return { major, name };
  }
  return undefined;
}

/** @param {number} major */
function nodeCommand(major) {
  return ['npx', '--loglevel=error', '-y', '-p', `node@${major}`, 'node'];
}

const lts = newestLts();
if (lts === undefined) {
  const why = 'The newest Node LTS cannot be found or fetched with npm.';
  collectFailure([why]);
  process.stdout.write(`${why}\n0 passed, 1 failed\n`);
  process.exitCode = 1;
} else {
  process.stdout.write(`What may differ with the Node version, on Node ${lts.major} (${lts.name}):\n`);
  announceSeed();
  const variables = { LSNFS_TEST_NO_MOUNT: '1', LSNFS_TEST_SHARE: SHARE };
  const counts = await runAva([...nodeCommand(lts.major), avaPath, ...FILES], variables);
  process.stdout.write(`${closingLine(counts)}\n`);
  process.exitCode = counts.failed === 0 ? 0 : 1;
}
