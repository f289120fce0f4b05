/**
 * Runs AVA on the compiled tests, shows its own report as it comes, and counts what it says at its end.
 *
 * The counts are AVA's. Whatever else makes its run fail (an uncaught exception, a file without tests, a test that
 * never ended) counts as a failure too, and a run without a summary is one.
 */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { projectDirectory } from './set-up.mjs';

export const avaPath = join(projectDirectory, 'node_modules', 'ava', 'entrypoints', 'cli.mjs');

/**
 * @param {string[]} command what runs AVA, and its arguments
 * @param {Record<string, string>} [variables] additions to the environment
 * @returns {Promise<{ passed: number, failed: number, skipped: number }>}
 */
export function runAva([program, ...args], variables = {}) {
  const env = { ...process.env, ...variables };
  // Our own name for the tests' sake, npm's for nobody's.
  delete env.npm_lifecycle_event;
  const child = spawn(program, args, { cwd: projectDirectory, stdio: ['ignore', 'pipe', 'inherit'], env });
  let tail = '';
  child.stdout.on('data', (chunk) => {
    process.stdout.write(chunk);
    tail = (tail + chunk.toString('utf8')).slice(-1_000_000);
  });
  return new Promise((resolve) => {
    child.on('error', (error) => {
      process.stdout.write(`cannot run ${program}: ${error.message}\n`);
      resolve({ passed: 0, failed: 1, skipped: 0 });
    });
    child.on('close', (code) => resolve(summarise(tail, code)));
  });
}

/**
 * @param {string} output
 * @param {number | null} code
 */
function summarise(output, code) {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: colours are control characters.
  const lines = output.replace(/\u001b\[[0-9;]*m/g, '').split('\n');
  const last = (pattern) => {
    const match = lines.map((line) => pattern.exec(line.trim())).findLast((found) => found !== null);
    return match === undefined ? 0 : Number(match[1]);
  };
  const passed = last(/^(\d+) tests? passed$/) || last(/^(\d+) passed$/);
  const skipped = last(/^(\d+) tests? skipped$/) || last(/^(\d+) skipped$/);
  const failures =
    last(/^(\d+) tests? failed$/) +
    last(/^(\d+) hooks? failed$/) +
    last(/^(\d+) uncaught exceptions?$/) +
    last(/^(\d+) unhandled rejections?$/);
  const failed = failures > 0 ? failures : code === 0 && passed > 0 ? 0 : 1;
  return { passed, failed, skipped };
}

/** @param {{ passed: number, failed: number, skipped: number }} counts */
export function closingLine({ passed, failed, skipped }) {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`;
}
