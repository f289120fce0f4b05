/**
 * How time and memory grow with the store: `npm run bench:scale -- [--quick] [--sizes 1000000,5000000,10000000]
 * [--entries 1000,10000,100000,1000000] [--sparse 1,10,100] [--real 1,5,20] [--rounds 3] [--walk 1000000] [--only REGEX]
 * [--seed N] [--stores DIRECTORY] [--json FILE]`.
 *
 * There are four series of stores: with more and more files, with a larger and larger directory, with a larger and larger
 * sparse file, and with one full of data. Each step on a store is a process of its own (scale-worker.ts), so that the most
 * that it had in memory is what lsnfs had. Mounts are served by the daemon that users have. `--only` picks steps by their
 * names, an empty list leaves a series out, and `--walk` says over how many files of a mounted store find goes.
 * Everything is below one temporary directory ($TMPDIR says where), and gone afterwards; stores below `--stores` are kept
 * and used again.
 */
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import {
  CleanUp,
  dropCaches,
  lsnfs,
  median,
  progress,
  residentMaximum,
  run,
  wholeNumber,
  whyNotDropCaches,
} from './measure.ts';
import { machine } from './report.ts';
import type { StepLine, StepName, StepOptions } from './scale-worker.ts';
import { FILES_PER_DIRECTORY, SeededTree } from './seeded-tree.ts';

/** No step takes longer, in milliseconds. */
const STEP_TIMEOUT_MS = 3_600_000;
const OUTPUT_MAX = 1024 * 1024;

const { values: given } = parseArgs({
  options: {
    sizes: { type: 'string' },
    entries: { type: 'string' },
    sparse: { type: 'string' },
    real: { type: 'string' },
    rounds: { type: 'string' },
    quick: { type: 'boolean', default: false },
    walk: { type: 'string', default: '1000000' },
    only: { type: 'string', default: '' },
    seed: { type: 'string', default: '1' },
    stores: { type: 'string' },
    json: { type: 'string' },
  },
});
const { quick } = given;
const sizes = list('--sizes', given.sizes ?? (quick ? '10000,100000' : '1000000,5000000,10000000'));
const entries = list('--entries', given.entries ?? (quick ? '1000,10000' : '1000,10000,100000,1000000'));
const sparse = list('--sparse', given.sparse ?? (quick ? '1,10' : '1,10,100'));
const real = list('--real', given.real ?? (quick ? '' : '1,5,20'));
for (const files of sizes) {
  if (files % FILES_PER_DIRECTORY !== 0)
    throw new Error(`--sizes: multiples of ${FILES_PER_DIRECTORY} files`);
}
const rounds = wholeNumber('--rounds', given.rounds ?? (quick ? '1' : '3'));
const seed = wholeNumber('--seed', given.seed);
const walkedFiles = wholeNumber('--walk', given.walk);
const only = new RegExp(given.only);

function list(option: string, text: string): number[] {
  return text === '' ? [] : text.split(',').map((part) => wholeNumber(option, part));
}

const WALK = `find over ${walkedFiles.toLocaleString('en')} of its files`;

const here = fileURLToPath(new URL('.', import.meta.url));
const cleanUp = new CleanUp();
const base = fs.mkdtempSync(join(tmpdir(), 'lsnfs-bench-scale-'));
cleanUp.add(() => fs.rmSync(base, { recursive: true, force: true }));
const stores = given.stores ?? base;
fs.mkdirSync(stores, { recursive: true });
const say = progress();

/** What was measured of one store, by row. */
type Measured = Map<string, { readonly unit: StepLine['unit']; readonly values: number[] }>;

function note(measured: Measured, { row, value, unit }: StepLine): void {
  say(`  ${row}: ${figure(value)} ${unit}`);
  const found = measured.get(row);
  if (found === undefined) measured.set(row, { unit, values: [value] });
  else found.values.push(value);
}

/** Runs a step in a process of its own. `isKilled`: it ends itself by SIGKILL. */
function step(measured: Measured, options: StepOptions, isKilled = false): void {
  say(`${options.step} ${options.size.toLocaleString('en')}, round ${options.round}`);
  const { status, signal, stdout, error } = spawnSync(
    process.execPath,
    [join(here, 'scale-worker.js'), JSON.stringify(options)],
    {
      encoding: 'utf8',
      timeout: STEP_TIMEOUT_MS,
      maxBuffer: OUTPUT_MAX,
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
  if (error !== undefined) throw error;
  if (isKilled ? signal !== 'SIGKILL' : status !== 0)
    throw new Error(`${options.step} of ${options.size} ended with ${signal ?? `status ${status}`}`);
  for (const line of stdout.split('\n')) if (line !== '') note(measured, JSON.parse(line) as StepLine);
}

function tookMs(work: () => unknown): number {
  const start = performance.now();
  work();
  return performance.now() - start;
}

/** Does something on a mount of a store, by programs: a system call of this process could wait for ever. */
function onMount(
  measured: Measured,
  store: string,
  work: (mountpoint: string, add: (row: string, value: number, unit?: StepLine['unit']) => void) => void,
): void {
  const mountpoint = join(base, 'mounted');
  fs.mkdirSync(mountpoint);
  if (whyNotDropCaches() === undefined) dropCaches();
  const add = (row: string, value: number, unit: StepLine['unit'] = 'ms') =>
    note(measured, { row, value, unit });
  const mountMs = tookMs(() => {
    lsnfs('mount', store, mountpoint);
    cleanUp.add(() => run('umount', ['-l', mountpoint]));
    run('ls', ['-f', mountpoint], { quiet: true });
  });
  const daemon = (): number => (JSON.parse(lsnfs('status', mountpoint, '--json')) as { pid: number }).pid;
  const pid = daemon();
  const memory = (what: string): void => add(`memory at most: ${what}`, residentMaximum(pid), 'MiB');
  add('mount, until the first ls has answered, cold', mountMs);
  memory('daemon, mounted');
  work(mountpoint, add);
  memory('daemon, afterwards');
  add(
    'unmount',
    tookMs(() => lsnfs('unmount', mountpoint)),
  );
  cleanUp.forgetLast();
  fs.rmdirSync(mountpoint);
}

/** How long a program takes, its start included. */
function programMs(command: string, words: readonly string[]): number {
  return tookMs(() => run(command, words, { quiet: true }));
}

interface Series {
  readonly title: string;
  readonly head: string;
  readonly sizes: readonly number[];
  readonly measure: (size: number, measured: Measured) => void;
}

/** Steps of a store that is made by the first of them, if it is not there. */
function steps(
  measured: Measured,
  size: number,
  made: StepName,
  prefix: string,
  work: (store: string, run: (name: StepName, round: number, isKilled?: boolean) => void) => void,
): void {
  const store = join(stores, `${prefix}-${size}`);
  const go = (name: StepName, round: number, isKilled = false): void =>
    step(measured, { step: name, store, size, seed, round }, isKilled);
  if (!fs.existsSync(store)) go(made, 0);
  work(store, go);
  if (given.stores === undefined) fs.rmSync(store, { recursive: true });
}

/** Rounds differ in what they change, also from those of an earlier run on a kept store. */
const firstRound = 1 + (given.stores === undefined ? 0 : Math.floor(Date.now() / 1000) % 1_000_000);
const roundNumbers = Array.from({ length: rounds }, (_, i) => firstRound + i);

function files(size: number, measured: Measured): void {
  steps(measured, size, 'fill', 'files', (store, go) => {
    for (const round of roundNumbers) {
      if (only.test('read')) go('read', round);
      if (only.test('write')) go('write', round);
      if (only.test('collect')) go('collect', round);
      if (only.test('recover')) {
        for (const name of ['recover', 'recoverWarm'] as const) {
          go('die', round, true);
          go(name, round);
        }
      }
    }
    if (only.test('mount')) {
      for (const round of roundNumbers) {
        onMount(measured, store, (mountpoint, add) => {
          const tree = new SeededTree(size, seed);
          const paths = tree.draw(100, round).map((file) => join(mountpoint, tree.pathOf(file)));
          add('stat of 100 random files on it, cold', programMs('stat', paths));
          add('df of it', programMs('df', [mountpoint]));
          // Once: it takes long, and every round would say the same.
          if (round !== roundNumbers[0]) return;
          const walked: string[] = [];
          for (let file = 0; file < Math.min(size, walkedFiles); file += FILES_PER_DIRECTORY)
            walked.push(join(mountpoint, tree.directoryOf(file)));
          add(WALK, programMs('find', [...walked, '-size', '+1M']) / 1000, 's');
          add('df of it after that', programMs('df', [mountpoint]));
        });
      }
    }
    if (only.test('check')) go('check', 0);
  });
}

function directories(size: number, measured: Measured): void {
  steps(measured, size, 'directory', 'entries', (store, go) => {
    for (const round of roundNumbers) {
      if (only.test('rename')) go('rename', round);
      if (!only.test('mount')) continue;
      onMount(measured, store, (mountpoint, add) => {
        const [from, to] = [join(mountpoint, 'large'), join(mountpoint, 'elsewhere', 'moved')];
        add('mv on the mount, cold', programMs('mv', [from, to]));
        add(
          'list of the first entries, cold',
          programMs('sh', ['-c', 'ls -f -- "$1" | head -n 10', 'sh', to]),
        );
        add('list of all entries', programMs('ls', ['-f', to]));
        add('mv on the mount, every entry known to the kernel', programMs('mv', [to, from]));
      });
    }
  });
}

/** One step makes the store, measures and takes away what it made. */
function largeFile(name: StepName): Series['measure'] {
  return (size, measured) => {
    if (!only.test(name)) return;
    const store = join(base, `${name}-${size}`);
    step(measured, { step: name, store, size, seed, round: 1 });
    fs.rmSync(store, { recursive: true });
  };
}

const SERIES: readonly Series[] = [
  { title: 'Files in the store', head: 'files', sizes, measure: files },
  { title: 'Entries in one directory', head: 'entries', sizes: entries, measure: directories },
  { title: 'A sparse file: 1 MiB in each 64', head: 'GB', sizes: sparse, measure: largeFile('sparse') },
  { title: 'A file full of data', head: 'GB', sizes: real, measure: largeFile('real') },
];

function figure(value: number): string {
  if (value >= 100) return Math.round(value).toLocaleString('en');
  return String(Number(value.toPrecision(3)));
}

/** Rows of one series, with how many times more the largest takes than the smallest. */
function table({ head, sizes: columns }: Series, found: ReadonlyMap<number, Measured>): string {
  const titles = new Set([...found.values()].flatMap((measured) => [...measured.keys()]));
  const names = columns.map((size) => size.toLocaleString('en'));
  const factor = columns.at(-1)! / columns[0]!;
  const lines = [
    `| ${head} | ${names.join(' | ')} | unit | ${figure(factor)} × the size |`,
    `| --- |${' ---: |'.repeat(columns.length)} --- | ---: |`,
  ];
  for (const title of titles) {
    const cells = columns.map((size) => found.get(size)?.get(title));
    const values = cells.map((cell) => (cell === undefined ? undefined : median(cell.values)));
    const [first, last] = [values[0], values.at(-1)];
    const grown =
      first === undefined || last === undefined || first === 0 ? '–' : `${figure(last / first)} ×`;
    const unit = cells.find((cell) => cell !== undefined)?.unit ?? '';
    const shown = values.map((value) => (value === undefined ? '–' : figure(value)));
    lines.push(`| ${title} | ${shown.join(' | ')} | ${unit} | ${grown} |`);
  }
  return lines.join('\n');
}

cleanUp.runAtSignals();

try {
  const results: Record<string, Record<string, Record<string, readonly number[]>>> = {};
  const about = [
    machine(run('stat', ['-f', '-c', '%T', stores]).trim()),
    `Seed ${seed}; medians of ${rounds} rounds; every step in a process of its own`,
  ];
  process.stdout.write(`${about.map((line) => `- ${line}`).join('\n')}\n`);
  for (const series of SERIES) {
    const found = new Map<number, Measured>();
    for (const size of series.sizes) {
      const measured: Measured = new Map();
      series.measure(size, measured);
      found.set(size, measured);
      results[series.title] ??= {};
      results[series.title]![size] = Object.fromEntries(
        [...measured].map(([row, { values, unit }]) => [`${row}${unit && `, ${unit}`}`, values]),
      );
    }
    if ([...found.values()].some(({ size }) => size > 0))
      process.stdout.write(`\n### ${series.title}\n\n${table(series, found)}\n`);
  }
  if (given.json !== undefined)
    fs.writeFileSync(given.json, `${JSON.stringify({ machine: about, seed, rounds, results }, null, 2)}\n`);
} finally {
  cleanUp.run();
}
