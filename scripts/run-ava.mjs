/**
 * Runs AVA on the compiled tests, shows its own report as it comes, and counts what it says at its end.
 *
 * The counts are AVA's. Whatever else makes its run fail (an uncaught exception, a file without tests, a test that
 * never ended) counts as a failure too, and a run without a summary is one.
 */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { projectDirectory } from './set-up.mjs';
import { collectFailure, whatFailed } from './what-failed.mjs';

export const avaPath = join(projectDirectory, 'node_modules', 'ava', 'entrypoints', 'cli.mjs');

/**
 * @param {string[]} command what runs AVA, and its arguments
 * @param {Record<string, string>} [variables] additions to the environment
 * @returns {Promise<{ passed: number, failed: number, skipped: number }>}
 */
export function runAva([program, ...args], variables = {}) {
  const env = { ...process.env, ...variables };
  const child = spawn(program, args, { cwd: projectDirectory, stdio: ['ignore', 'pipe', 'inherit'], env });
  /** @type {Buffer[]} */
  const output = [];
  child.stdout.on('data', (chunk) => {
    process.stdout.write(chunk);
    output.push(chunk);
  });
  return new Promise((resolve) => {
    child.on('error', (error) => {
      process.stdout.write(`cannot run ${program}: ${error.message}\n`);
      resolve({ passed: 0, failed: 1, skipped: 0 });
    });
    child.on('close', (code) => resolve(summarise(Buffer.concat(output).toString('utf8'), code)));
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
  // AVA leaves the passes out of its summary when something failed; its list has them.
  const passed = last(/^(\d+) tests? passed$/) || lines.filter((line) => line.startsWith('  ✔ ')).length;
  const skipped = last(/^(\d+) tests? skipped$/);
  const failures =
    last(/^(\d+) tests? failed$/) +
    last(/^(\d+) hooks? failed$/) +
    last(/^(\d+) tests? remained pending after/) +
    last(/^(\d+) uncaught exceptions?$/) +
    last(/^(\d+) unhandled rejections?$/);
  const failed = failures > 0 ? failures : code === 0 && passed > 0 ? 0 : 1;
  if (failed > 0) collectFailure(whatFailed(lines));
  return { passed, failed, skipped };
}

/** @param {{ passed: number, failed: number, skipped: number }} counts */
export function closingLine({ passed, failed, skipped }) {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`;
}
