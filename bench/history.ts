/**
 * Time travel beside what a user would do today on the same files:
 * `npm run bench:history -- [--sizes 1000,100000,1000000] [--rounds 3] [--quick] [--only REGEX] [--peers all|none] [--json FILE]
 * [--compare FILE] [--seed N] [--gc-pages 200000]`.
 *
 * lsnfs is measured in process, through the API, on a store in a temporary directory, and where programs read below `@…`
 * through a mount; the peers are programs, and their start is part of what they take. All caches are warm but where a row says
 * otherwise. `--only` picks rows by their titles. A peer that is missing, fails or takes too long is in the list below the table
 * with the reason. Everything is below one temporary directory ($TMPDIR says where), and gone afterwards.
 */
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { HISTORY_SYSTEMS, type HistoryBench, remove } from './history-bench.ts';
import { measureCollection } from './history-collection.ts';
import { measureReading } from './history-reading.ts';
import { compareSizes, LARGE_FILES, MANY_FILES, measureSize } from './history-sizes.ts';
import { measureSpace } from './history-space.ts';
import { CleanUp, progress, run, settle, wholeNumber } from './measure.ts';
import { Report } from './report.ts';
import { FILES_PER_DIRECTORY } from './seeded-tree.ts';
import { Turns } from './turns.ts';

/** No whole run takes longer, in milliseconds. */
const RUN_TIMEOUT_MS = 6 * 3_600_000;

const { values: given } = parseArgs({
  options: {
    sizes: { type: 'string' },
    rounds: { type: 'string' },
    quick: { type: 'boolean', default: false },
    only: { type: 'string', default: '' },
    peers: { type: 'string', default: 'quick' },
    json: { type: 'string' },
    compare: { type: 'string' },
    seed: { type: 'string', default: '1' },
    'gc-pages': { type: 'string' },
  },
});
const isQuick = given.quick;
const sizes = (given.sizes ?? (isQuick ? '1000' : '1000,100000,1000000'))
  .split(',')
  .map((text) => wholeNumber('--sizes', text));
for (const files of sizes) {
  if (files % FILES_PER_DIRECTORY !== 0)
    throw new Error(`--sizes: multiples of ${FILES_PER_DIRECTORY} files`);
}
const rounds = wholeNumber('--rounds', given.rounds ?? (isQuick ? '1' : '3'));
const seed = wholeNumber('--seed', given.seed);
const collectedPages = wholeNumber('--gc-pages', given['gc-pages'] ?? (isQuick ? '10000' : '200000'));
const { peers } = given;
if (peers !== 'all' && peers !== 'quick' && peers !== 'none')
  throw new Error('--peers is all, quick or none');

const cleanUp = new CleanUp();
const base = fs.mkdtempSync(join(tmpdir(), 'lsnfs-bench-history-'));
cleanUp.add(() => remove(base));
const fileSystem = run('stat', ['-f', '-c', '%T', base]).trim();
const report = new Report(HISTORY_SYSTEMS, new RegExp(given.only));
const turns = new Turns(report, rounds, () => settle(base));
const say = progress();

/** Measures a part in a directory of its own; what it leaves is gone before the next. */
async function part(name: string, measure: (bench: HistoryBench) => Promise<void>): Promise<void> {
  const place = join(base, name);
  fs.mkdirSync(place);
  await measure({ report, turns, place, rounds, seed, isQuick, cleanUp, say });
  cleanUp.run();
  fs.mkdirSync(base);
  cleanUp.add(() => remove(base));
}

cleanUp.runAtSignals();
setTimeout(() => process.kill(process.pid, 'SIGTERM'), RUN_TIMEOUT_MS).unref();

try {
  for (const files of sizes) {
    const size = { files, isFirst: files === sizes[0], peers } as const;
    await part(`files-${files}`, (bench) => measureSize(bench, size));
  }
  compareSizes(report, Math.min(...sizes), Math.max(...sizes));
  await part('reading', measureReading);
  await part('space', measureSpace);
  await part('collection', (bench) => measureCollection(bench, collectedPages));
} finally {
  cleanUp.run();
}

report.conclude({
  notes: [
    `Seed ${seed}; median (least–most) of ${rounds} rounds, in turn; ": PEER" is how many times lsnfs is better`,
    `Peers of ${MANY_FILES.toLocaleString('en')} files and more: once; of ${LARGE_FILES.toLocaleString('en')} and more: ${peers === 'quick' ? 'without cp, restic and borg' : peers}`,
    'cp: cp -a and sync -f, diff -rq, readdir of a copy. rsync: -a --delete from a copy and sync -f, -an --delete, --link-dest. btrfs, on a loop device: subvolume snapshot and sync, send --no-data, a snapshot in its place and sync. restic and borg: backup, diff, restore elsewhere and sync -f, ls',
  ],
  facts: { seed, rounds, sizes },
  fileSystem,
  json: given.json,
  compare: given.compare,
});
