/**
 * The engine beside what a program would embed instead: `npm run bench:engine -- [--rounds 3] [--entries 200000] [--quick] [--only REGEX]
 * [--systems A,B] [--seed N] [--json FILE] [--compare FILE]`.
 *
 * Each round runs every engine in turn, each in a process and a directory of its own. Without --only all rows.
 */
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { ENGINE_ROWS, SMALL_FILE_ROWS } from './engine-rows.ts';
import type { WorkerLine, WorkerOptions } from './engine-worker.ts';
import { AGENTFS, ENGINE_NAMES, type FileStoreName, whyNotEngine } from './engines.ts';
import { CleanUp, settle, wholeNumber } from './measure.ts';
import { BEST, Report, type Row } from './report.ts';

/** No engine takes longer over a round, in milliseconds. */
const ROUND_TIMEOUT_MS = 2 * 3_600_000;

const ROWS: readonly Row[] = [
  { title: ENGINE_ROWS.loadShuffled, unit: '/s', target: { ratio: 1, of: 'classic-level' } },
  { title: ENGINE_ROWS.loadSorted, unit: '/s', target: { ratio: 0.7, of: 'lmdb' } },
  { title: ENGINE_ROWS.put, unit: '/s', target: { ratio: 1, of: BEST } },
  { title: ENGINE_ROWS.concurrent, unit: '/s', target: { ratio: 2, of: 'lmdb' } },
  { title: ENGINE_ROWS.get, unit: '/s', target: { ratio: 2, of: 'lmdb' } },
  { title: ENGINE_ROWS.getCold, unit: '/s' },
  { title: ENGINE_ROWS.scan, unit: '/s', target: { ratio: 1.5, of: 'lmdb' } },
  { title: ENGINE_ROWS.list, unit: '/s', target: { ratio: 2, of: BEST } },
  { title: ENGINE_ROWS.backup, unit: 'ms' },
  { title: ENGINE_ROWS.backupLatency, unit: 'ms' },
  { title: ENGINE_ROWS.space, unit: 'MiB' },
  { title: ENGINE_ROWS.pinned, unit: '×', target: { atMost: 1.3 } },
  { title: ENGINE_ROWS.memory, unit: 'MiB' },
  ...SMALL_FILE_ROWS.map((title): Row => ({ title, unit: '/s' })),
];

const { values: given } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    entries: { type: 'string' },
    quick: { type: 'boolean', default: false },
    only: { type: 'string', default: '' },
    systems: { type: 'string', default: [...ENGINE_NAMES, AGENTFS].join(',') },
    seed: { type: 'string', default: '1' },
    json: { type: 'string' },
    compare: { type: 'string' },
  },
});

function systemNamed(name: string): FileStoreName {
  const systems: readonly FileStoreName[] = [...ENGINE_NAMES, AGENTFS];
  const system = systems.find((known) => known === name);
  if (system === undefined) throw new Error(`--systems: there is no ${name}`);
  return system;
}

const rounds = given.quick ? 1 : wholeNumber('--rounds', given.rounds);
const entries = wholeNumber('--entries', given.entries ?? (given.quick ? '50000' : '200000'));
const seed = wholeNumber('--seed', given.seed);
const systems = given.systems.split(',').map(systemNamed);
const share = given.quick ? 0.1 : 1;
const report = new Report(systems, new RegExp(given.only));
const rows = ROWS.filter((row) => report.declare(row));
const titles = rows.map(({ title }) => title);
const isSmall = (title: string): boolean => SMALL_FILE_ROWS.some((small) => small === title);
const cleanUp = new CleanUp();
const base = fs.mkdtempSync(join(tmpdir(), 'lsnfs-bench-engine-'));
cleanUp.add(() => fs.rmSync(base, { recursive: true, force: true }));
cleanUp.runAtSignals();

try {
  for (let round = 0; rows.length > 0 && round < rounds; round++) {
    for (const engine of systems) {
      const missing = await whyNotEngine(engine);
      const directory = join(base, `${engine}-${round}`);
      fs.mkdirSync(directory);
      const options: WorkerOptions = {
        engine,
        directory,
        entries,
        seed: seed + round,
        rows: titles.filter((title) => engine !== AGENTFS || isSmall(title)),
        share,
      };
      settle(base);
      for (const { row, value, failure } of missing === undefined ? work(options) : []) {
        if (value === undefined) report.miss(row, engine, failure ?? 'no figure');
        else report.add(row, engine, value);
      }
      for (const title of titles) {
        if (missing !== undefined) report.miss(title, engine, missing);
        else if (engine === AGENTFS && !isSmall(title)) report.miss(title, engine, 'it has no transactions');
      }
      fs.rmSync(directory, { recursive: true });
      process.stderr.write(
        `round ${round + 1} of ${rounds}: ${engine}${missing === undefined ? '' : `: ${missing}`}\n`,
      );
    }
  }
} finally {
  cleanUp.run();
}

function work(options: WorkerOptions): WorkerLine[] {
  const worker = fileURLToPath(new URL('./engine-worker.js', import.meta.url));
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, [worker, JSON.stringify(options)], {
    encoding: 'utf8',
    timeout: ROUND_TIMEOUT_MS,
    killSignal: 'SIGKILL',
  });
  const lines = stdout.split('\n').filter((line) => line !== '');
  const done = lines.map((line) => JSON.parse(line) as WorkerLine);
  if (status === 0) return done;
  if (options.engine === 'lsnfs') throw new Error(`lsnfs failed: ${stderr}`);
  const failure = `ended with ${signal ?? `status ${status}`}: ${stderr.trim().split('\n').at(-1) ?? ''}`;
  const seen = new Set(done.map(({ row }) => row));
  return [...done, ...options.rows.filter((row) => !seen.has(row)).map((row) => ({ row, failure }))];
}

report.conclude({
  notes: [
    `${entries.toLocaleString('en')} files of 200 bytes, 50 a directory; seed ${seed}; median (least–most) of ${rounds} rounds, the engines in turn, each in a process of its own; ": PEER" is how many times lsnfs is better`,
  ],
  facts: { entries, rounds, seed, share },
  json: given.json,
  compare: given.compare,
});
