/**
 * `npm run bench -- [--quick] [--only REGEX] [--entries 5000000] [--json DIRECTORY] [--compare DIRECTORY]`: all benchmarks, one after the
 * other: the engine, the mount, history. Each can be run alone, with more options: `npm run bench:engine`, `bench:mount`, `bench:history`.
 * `--quick` is one round of the most telling rows, in two minutes. `--entries` is how many the engine holds.
 *
 * Sets up what is measured beside lsnfs, as far as it can be had; what is missing is said in the tables.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { installPeers } from './install-peers.mjs';
import { projectDirectory, setUpOrExit } from './set-up.mjs';

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    only: { type: 'string' },
    entries: { type: 'string' },
    json: { type: 'string' },
    compare: { type: 'string' },
  },
});

setUpOrExit('bench');
installPeers();
if (values.json !== undefined) mkdirSync(values.json, { recursive: true });

/** @param {string} name @param {...string} more */
function run(name, ...more) {
  const words = [join(projectDirectory, 'dist', 'bench', `${name}.js`), ...more];
  if (values.quick) words.push('--quick');
  if (values.only !== undefined) words.push('--only', values.only);
  if (values.json !== undefined) words.push('--json', join(values.json, `${name}.json`));
  const before = values.compare === undefined ? undefined : join(values.compare, `${name}.json`);
  if (before !== undefined && existsSync(before)) words.push('--compare', before);
  process.stdout.write(`\n## ${name}\n\n`);
  const { status } = spawnSync(process.execPath, words, { stdio: 'inherit' });
  if (status !== 0) process.exitCode = 1;
}

run('engine', ...(values.entries === undefined ? [] : ['--entries', values.entries]));
run('mount');
run('history');
