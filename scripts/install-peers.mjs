/**
 * Installs what lsnfs is measured beside (bench/package.json), unless it is there, and fills a cache of npm's for the row of
 * `npm ci`. Of that nothing is needed: what cannot be installed is missing in the tables.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { projectDirectory } from './set-up.mjs';

const QUIET = ['--silent', '--no-audit', '--no-fund'];
/** What `npm ci` installs: 73 packages, 1,700 files. */
const NPM_CI_DEPENDENCIES = { express: '4.21.2', lodash: '4.17.21' };

export function installPeers() {
  const directory = join(projectDirectory, 'bench');
  const { dependencies } = JSON.parse(readFileSync(join(directory, 'package.json'), 'utf8'));
  const isThere = (name) => existsSync(join(directory, 'node_modules', name));
  if (!Object.keys(dependencies).every(isThere)) npm(directory, 'install', ...QUIET);
  fillCache(join(directory, 'node_modules', '.cache', 'npm-ci'));
}

/** @param {string} directory where a package.json, its lock file and the cache are to be. */
function fillCache(directory) {
  if (existsSync(directory)) return;
  mkdirSync(directory, { recursive: true });
  const manifest = { name: 'npm-ci', private: true, dependencies: NPM_CI_DEPENDENCIES };
  writeFileSync(join(directory, 'package.json'), JSON.stringify(manifest));
  const words = [...QUIET, '--ignore-scripts', '--cache', 'cache'];
  // `npm ci` asks for other documents than `npm install`: those for a lock file that names no registry.
  const isFilled =
    npm(directory, 'install', '--package-lock-only', '--omit-lockfile-registry-resolved', ...words) &&
    npm(directory, 'ci', ...words);
  rmSync(isFilled ? join(directory, 'node_modules') : directory, { recursive: true, force: true });
}

/** @param {string} directory @param {string[]} words @returns {boolean} whether it went well */
function npm(directory, ...words) {
  return spawnSync('npm', words, { cwd: directory, stdio: 'inherit' }).status === 0;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) installPeers();
