/**
 * What a fresh clone needs before anything runs: a Node that is new enough, npm dependencies, a build, and (as root,
 * on Debian) system packages. Plain JavaScript on Node alone, because nothing is installed yet. Each step looks
 * first and does nothing when there is nothing to do.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const projectDirectory = fileURLToPath(new URL('..', import.meta.url));

const OLDEST_NODE = [20, 19];

/**
 * What is set up for; each needs what those before it need.
 * @typedef {'start' | 'test' | 'bench' | 'programs'} Purpose
 */
const PURPOSES = ['start', 'test', 'bench', 'programs'];

/** The Debian packages of each program that is used, and what first needs it. What is no program is a file. */
const PROGRAMS = [
  { program: 'mount', package: 'mount', purpose: 'start' },
  { program: 'fusermount3', package: 'fuse3', purpose: 'start' },
  { program: 'diff', package: 'diffutils', purpose: 'start' },
  { program: 'tar', package: 'tar', purpose: 'test' },
  { program: 'rsync', package: 'rsync', purpose: 'test' },
  { program: 'git', package: 'git', purpose: 'test' },
  { program: 'sqlite3', package: 'sqlite3', purpose: 'test' },
  { program: 'setfattr', package: 'attr', purpose: 'test' },
  { program: 'setfacl', package: 'acl', purpose: 'test' },
  { program: 'python3', package: 'python3', purpose: 'test' },
  { program: 'gcc', package: 'gcc libc6-dev', purpose: 'test' },
  { program: 'make', package: 'make', purpose: 'test' },
  { program: 'mkfs.ext4', package: 'e2fsprogs', purpose: 'test' },
  { program: 'prlimit', package: 'util-linux', purpose: 'test' },
  { program: 'unshare', package: 'util-linux', purpose: 'test' },
  { program: 'pg_createcluster', package: 'postgresql', purpose: 'bench' },
  { program: 'restic', package: 'restic', purpose: 'bench' },
  { program: 'borg', package: 'borgbackup', purpose: 'bench' },
  { program: 'fio', package: 'fio', purpose: 'bench' },
  { program: 'bindfs', package: 'bindfs', purpose: 'bench' },
  { program: 'mkfs.btrfs', package: 'btrfs-progs', purpose: 'bench' },
  { program: 'vim', package: 'vim-tiny', purpose: 'programs' },
  { program: 'chromium', package: 'chromium', purpose: 'programs' },
  { program: '/usr/include/leveldb/c.h', package: 'libleveldb-dev', purpose: 'programs' },
];

/** The libraries likewise: without it the binding fuse-native is not tested. */
const LIBRARIES = [{ library: 'libfuse.so.2', package: 'libfuse2', architecture: 'x64', purpose: 'test' }];

/** Ends the set-up with a sentence for people. */
export class SetUpError extends Error {}

/** @param {string} text */
function say(text) {
  process.stdout.write(`set-up: ${text}\n`);
}

function checkMachine() {
  if (process.platform !== 'linux') throw new SetUpError(`lsnfs runs on Linux; this is ${process.platform}`);
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  if (major < OLDEST_NODE[0] || (major === OLDEST_NODE[0] && minor < OLDEST_NODE[1])) {
    throw new SetUpError(
      `Node ${OLDEST_NODE.join('.')} or later is needed; this is ${process.versions.node}`,
    );
  }
}

/** @param {string} program its name, or the path of a file */
export function isInstalled(program) {
  if (program.startsWith('/')) return existsSync(program);
  const directories = [
    ...(process.env.PATH ?? '').split(delimiter),
    '/usr/sbin',
    '/sbin',
    '/usr/bin',
    '/bin',
  ];
  return directories.some((directory) => directory !== '' && existsSync(join(directory, program)));
}

/** @param {string} library */
function isLibraryInstalled(library) {
  const directories = ['/lib', '/usr/lib', '/lib64', '/usr/lib64', '/lib/x86_64-linux-gnu', '/usr/local/lib'];
  return directories.some((directory) => existsSync(join(directory, library)));
}

/**
 * Whether node_modules holds what package-lock.json asks for. npm keeps a list of what it installed in
 * node_modules/.package-lock.json, in the same form.
 */
function dependenciesAreCurrent() {
  const installedFile = join(projectDirectory, 'node_modules', '.package-lock.json');
  if (!existsSync(installedFile)) return false;
  const wanted = JSON.parse(readFileSync(join(projectDirectory, 'package-lock.json'), 'utf8')).packages;
  const installed = JSON.parse(readFileSync(installedFile, 'utf8')).packages;
  return Object.entries(wanted).every(([path, { version, optional }]) => {
    if (path === '') return true;
    const found = installed[path];
    // A package for another platform is left out by npm.
    if (found === undefined) return optional === true;
    return found.version === version && existsSync(join(projectDirectory, path, 'package.json'));
  });
}

/** The lock file speaks for package.json as long as both name the same dependencies. */
function lockMatchesManifest() {
  const manifest = JSON.parse(readFileSync(join(projectDirectory, 'package.json'), 'utf8'));
  const locked = JSON.parse(readFileSync(join(projectDirectory, 'package-lock.json'), 'utf8')).packages[''];
  return ['dependencies', 'optionalDependencies', 'devDependencies'].every(
    (kind) => JSON.stringify(manifest[kind] ?? {}) === JSON.stringify(locked[kind] ?? {}),
  );
}

/**
 * `npm install` rather than `npm ci`: the lock file leaves out what the registry did not have for other platforms, and
 * `npm ci` takes that for an inconsistency. With --no-save it follows the lock file and changes nothing that is tracked.
 */
function installDependencies() {
  if (lockMatchesManifest() && dependenciesAreCurrent()) return;
  say('installing the npm dependencies …');
  // Under `npm start` and `npm test` this is the npm that runs us.
  const npm = process.env.npm_execpath;
  const args = ['install', '--no-save', '--include=dev', '--no-audit', '--no-fund', '--loglevel=error'];
  const [command, commandArgs] = npm?.endsWith('.js') ? [process.execPath, [npm, ...args]] : ['npm', args];
  const result = spawnSync(command, commandArgs, { cwd: projectDirectory, stdio: 'inherit' });
  if (result.error !== undefined) throw new SetUpError(`npm cannot be run: ${result.error.message}`);
  if (result.status !== 0)
    throw new SetUpError('npm could not install the dependencies; its own words are above');
}

function build() {
  const compiler = join(projectDirectory, 'node_modules', 'typescript', 'bin', 'tsc');
  const args = [compiler, '-p', 'tsconfig.json', '--incremental'];
  const result = spawnSync(process.execPath, args, { cwd: projectDirectory, stdio: 'inherit' });
  if (result.status !== 0) throw new SetUpError('the build failed; the compiler says why above');
  const bundler = join(projectDirectory, 'scripts', 'bundle.mjs');
  const bundled = spawnSync(process.execPath, [bundler], { cwd: projectDirectory, stdio: 'inherit' });
  if (bundled.status !== 0) throw new SetUpError('the build failed; the bundler says why above');
}

/** @param {string[]} args */
function aptGet(args) {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  return spawnSync('apt-get', args, { stdio: ['ignore', 'ignore', 'inherit'], env }).status === 0;
}

/** @param {Purpose} purpose */
function installSystemPackages(purpose) {
  const wanted = PURPOSES.slice(0, PURPOSES.indexOf(purpose) + 1);
  const missing = PROGRAMS.filter((entry) => wanted.includes(entry.purpose) && !isInstalled(entry.program));
  const missingLibraries = LIBRARIES.filter(
    (entry) =>
      wanted.includes(entry.purpose) &&
      process.arch === entry.architecture &&
      !isLibraryInstalled(entry.library),
  );
  if (missing.length + missingLibraries.length === 0) return;
  const packages = [...missing, ...missingLibraries].flatMap((entry) => entry.package.split(' '));
  const programs = [
    ...missing.map((entry) => entry.program),
    ...missingLibraries.map((entry) => entry.library),
  ].join(', ');
  if (!isInstalled('apt-get')) {
    say(`${programs} not found: please install them; what needs them is left out`);
    return;
  }
  const command = `apt-get install -y --no-install-recommends ${packages.join(' ')}`;
  if (process.getuid?.() !== 0) {
    say(`${programs} not found: run 'sudo ${command}'; what needs them is left out`);
    return;
  }
  say(`installing the Debian packages ${packages.join(', ')} …`);
  const args = ['install', '-y', '--no-install-recommends', ...packages];
  const lists = '/var/lib/apt/lists';
  const haveLists =
    existsSync(lists) &&
    readdirSync(lists).some((name) => name.endsWith('_Packages') || name.endsWith('.lz4'));
  if ((haveLists && aptGet(args)) || (aptGet(['update']) && aptGet(args))) return;
  say(`'${command}' failed; what needs ${programs} is left out`);
}

/** @param {Purpose} purpose */
export function setUp(purpose) {
  checkMachine();
  installSystemPackages(purpose);
  installDependencies();
  build();
}

/**
 * Runs a set-up, and ends the process with one sentence when it cannot be done.
 * @param {Purpose} purpose
 */
export function setUpOrExit(purpose) {
  try {
    setUp(purpose);
  } catch (error) {
    if (!(error instanceof SetUpError)) throw error;
    process.stderr.write(`set-up: ${error.message}\n`);
    process.exit(1);
  }
}
