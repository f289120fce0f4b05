/**
 * One step of the scale benchmark in a process of its own, so that what lsnfs keeps in memory can be told:
 * `node scale-worker.js OPTIONS` (JSON). Prints a JSON line for each row that it measures. Apart from what a row names,
 * a step keeps nothing that grows with the store.
 */
import { join } from 'node:path';
import { type Database, initialize, open } from '../src/index.ts';
import { Transaction } from '../src/plugin/transaction.ts';
import { ROOT_CALLER, S_IFREG } from '../src/vfs/file-system.ts';
import type { LiveFileSystem } from '../src/vfs/live-file-system.ts';
import { Random } from '../test/helpers/random.ts';
import { KEEP_NOTHING } from '../test/helpers/retention-settings.ts';
import { dropCaches, median, noise, quantile, residentMaximum, run, whyNotDropCaches } from './measure.ts';
import { SeededTree } from './seeded-tree.ts';

export interface StepOptions {
  readonly step: StepName;
  readonly store: string;
  /** Files of the tree, entries of the directory, or GB of the file. */
  readonly size: number;
  readonly seed: number;
  /** Different in each round of a store, so that no round writes what another has. */
  readonly round: number;
}

export interface StepLine {
  readonly row: string;
  readonly value: number;
  readonly unit: 'ms' | 's' | 'MiB' | '/s' | '';
}

/** Files changed for a checkpoint, a snapshot, and each version that becomes garbage. */
const CHANGED = 1000;
const LOOKUPS = 1000;
const COMMITS = 300;
/** Transactions of the log since the last checkpoint, when the process is killed. */
const UNCHECKPOINTED = 5000;
const VERSIONS = 10;
const PIECE_BYTES = 2 ** 20;
const GB = 2 ** 30;
const O_RDWR = 2;

const options = JSON.parse(process.argv[2]!) as StepOptions;
const { store, size, seed, round } = options;
const tree = new SeededTree(size, seed);

function say(row: string, value: number, unit: StepLine['unit'] = 'ms'): void {
  process.stdout.write(`${JSON.stringify({ row, value, unit } satisfies StepLine)}\n`);
}

function sayMemory(what: string): void {
  say(`memory at most: ${what}`, residentMaximum('self'), 'MiB');
}

async function took(work: () => unknown): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

/** Nothing of the store is in the system's page cache, where this process may see to that. */
function makeCold(): void {
  if (whyNotDropCaches() !== undefined) return;
  run('sync', []);
  dropCaches();
}

/** Only what asks for a checkpoint makes one. */
const QUIET = { checkpointIntervalMs: 3_600_000 };

/** A number that no other change of this store has had. */
function generation(change: number): number {
  return round * 1000 + change;
}

/** Changes files as programs on a mount do: each in an operation of its own, and nobody waits for the disk. */
function change(database: Database, files: readonly number[], number: number): void {
  const live = new Transaction(database.volume.live, false);
  for (const file of files) live.put(tree.pathOf(file), tree.content(file, number));
}

async function filled(): Promise<void> {
  await initialize(store, { settings: KEEP_NOTHING });
  const database = await open(store);
  const ms = await took(async () => {
    await tree.put(database, tree.all(), 0);
    await database.store.checkpoint();
  });
  say('load, 10,000 files a transaction, and a checkpoint', size / (ms / 1000), '/s');
  say('bytes of the store per file', (await database.status()).bytes.disk / size, '');
  await database.close();
  sayMemory('load');
}

async function read(): Promise<void> {
  makeCold();
  const before = residentMaximum('self');
  let database!: Database;
  say(
    'open, cold',
    await took(async () => {
      database = await open(store);
    }),
  );
  say('memory of a process that has opened nothing', before, 'MiB');
  sayMemory('open');
  const paths = tree.draw(LOOKUPS, round).map((file) => tree.pathOf(file));
  shuffle(paths);
  const pass = (): number[] =>
    paths.map((path) => {
      const start = performance.now();
      if (database.stat(path) === undefined) throw new Error(`${path} is missing`);
      return performance.now() - start;
    });
  const cold = pass();
  say('lookup of a random path, cold: median', median(cold));
  say('lookup of a random path, cold: p99', quantile(cold, 0.99));
  pass();
  say('lookup of a random path, warm: median', median(pass()));
  // What the system keeps is there from here on: what is measured is not the disk.
  run('cat', [join(store, 'data')], { quiet: true });
  const random = new Random(seed + round);
  const ms = await took(() => {
    for (let i = 0; i < 100_000; i++) database.get(tree.pathOf(random.below(size)));
  });
  say('get of a random file, cache of 32 MiB: mean', ms / 100_000);
  say('statfs', await took(() => database.volume.live.statfs()));
  say('status', await took(() => database.status()));
  sayMemory('100,000 random gets');
  say('close', await took(() => database.close()));
  say(
    'open, warm',
    await took(async () => {
      database = await open(store);
    }),
  );
  await database.close();
}

function shuffle(list: string[]): void {
  const random = new Random(seed + round);
  for (let i = list.length - 1; i > 0; i--) {
    const other = random.below(i + 1);
    [list[i], list[other]] = [list[other]!, list[i]!];
  }
}

async function write(): Promise<void> {
  const database = await open(store, { settings: QUIET });
  const rest = () => database.store.checkpoint();
  const commits: number[] = [];
  for (const file of tree.draw(COMMITS, generation(1)).sort((a, b) => (a % 97) - (b % 97))) {
    const content = tree.content(file, generation(1));
    commits.push(await took(() => database.put(tree.pathOf(file), content)));
  }
  say('durable put of a random file: median', median(commits));
  say('durable put of a random file: p99', quantile(commits, 0.99));
  await rest();
  change(database, tree.draw(CHANGED, generation(2)), generation(2));
  await database.commit();
  say('checkpoint, 1,000 files changed', await took(rest));
  say('snapshot, nothing dirty', await took(() => database.snapshots.create(`empty-${round}`)));
  await rest();
  change(database, tree.draw(CHANGED, generation(3)), generation(3));
  say(
    'snapshot, 1,000 files changed and not synced',
    await took(() => database.snapshots.create(`dirty-${round}`)),
  );
  await rest();
  const from = database.lsn;
  await tree.put(database, tree.draw(100, generation(4)), generation(4));
  const to = database.lsn;
  await rest();
  const difference = async (): Promise<void> => {
    let found = 0;
    for (const _change of await database.diff(from, to)) found++;
    if (found !== 100) throw new Error(`a diff found ${found} changes, not 100`);
  };
  database.history.releaseIdle();
  say('diff of 100 changes', await took(difference));
  say('diff of 100 changes, again', await took(difference));
  for (const name of ['empty', 'dirty']) await database.snapshots.delete(`${name}-${round}`);
  sayMemory('puts, checkpoint, snapshots, diff');
  say('close', await took(() => database.close()));
}

async function collect(): Promise<void> {
  const database = await open(store, { settings: { ...QUIET, gcIoBudget: 1 } });
  // What others have left must not be counted.
  await database.collections.start(true).done;
  for (let version = 0; version < VERSIONS; version++) {
    const number = generation(100 + version);
    await tree.put(database, tree.draw(CHANGED, number), number);
    await database.snapshots.create(`garbage-${round}-${version}`);
    await database.store.checkpoint();
  }
  for (let version = 0; version < VERSIONS; version++)
    await database.snapshots.delete(`garbage-${round}-${version}`);
  const start = performance.now();
  const { pages } = await database.collections.start(true).done;
  const ms = performance.now() - start;
  say('GC of 10 versions of 1,000 changes', ms);
  say('pages that came free', pages, '');
  sayMemory('GC');
  await database.close();
}

/** Leaves a log since the last checkpoint, and dies. */
async function die(): Promise<void> {
  const database = await open(store, { settings: QUIET });
  await database.store.checkpoint();
  change(database, tree.draw(UNCHECKPOINTED, generation(5)), generation(5));
  await database.commit();
  process.kill(process.pid, 'SIGKILL');
}

async function recover(isCold: boolean): Promise<void> {
  if (isCold) makeCold();
  else run('cat', [join(store, 'data')], { quiet: true });
  let database!: Database;
  const ms = await took(async () => {
    database = await open(store, { settings: QUIET });
  });
  say(`open after SIGKILL, 5,000 transactions to replay, ${isCold ? 'cold' : 'warm'}`, ms);
  const { transactions } = database.store.recovered;
  if (transactions < Math.min(UNCHECKPOINTED, size))
    throw new Error(`only ${transactions} transactions were recovered`);
  sayMemory('recovery');
  await database.close();
}

async function check(): Promise<void> {
  const database = await open(store);
  let problems: string[] = [];
  say(
    'check',
    (await took(async () => {
      ({ problems } = await database.check());
    })) / 1000,
    's',
  );
  sayMemory('check');
  await database.close();
  if (problems.length > 0) throw new Error(`check found: ${problems[0]}`);
}

/** A directory with `size` entries, beside one to rename it into. */
async function directory(): Promise<void> {
  await initialize(store, { settings: KEEP_NOTHING });
  const database = await open(store);
  await database.transaction((transaction) => transaction.mkdir('elsewhere'));
  for (let first = 0; first < size; first += 10_000) {
    await database.transaction((transaction) => {
      for (let i = first; i < Math.min(size, first + 10_000); i++) {
        transaction.put(`large/entry-${String(i).padStart(8, '0')}`, 'content');
      }
    });
  }
  await database.store.checkpoint();
  await database.close();
}

async function rename(): Promise<void> {
  makeCold();
  const database = await open(store, { settings: QUIET });
  const times: number[] = [];
  const there: number[] = [];
  for (let i = 0; i < 20; i++) {
    const [from, to] = i % 2 === 0 ? ['large', 'elsewhere/moved'] : ['elsewhere/moved', 'large'];
    times.push(await took(() => database.transaction((transaction) => transaction.rename(from!, to!))));
    there.push(await took(() => database.stat(`${to}/entry-${String(size - 1).padStart(8, '0')}`)));
  }
  say('rename, first (cold)', times[0]!);
  say('rename: median', median(times));
  say('lookup in it after that: median', median(there));
  const live = database.volume.live as LiveFileSystem;
  const inode = live.lookup(ROOT_CALLER, 1, Buffer.from('large'))!.inode;
  const first = (): void => {
    const handle = live.opendir(ROOT_CALLER, inode);
    let count = 0;
    live.readdir(handle, 0, () => ++count < 100);
    live.releasedir(handle);
  };
  first();
  say('list of the first 100 entries', await took(first));
  await database.store.checkpoint();
  const from = database.lsn;
  await database.transaction((transaction) => transaction.rename('large', 'elsewhere/moved'));
  await database.store.checkpoint();
  say(
    'diff across a rename',
    await took(async () => {
      let found = 0;
      for (const _change of await database.diff(from)) found++;
      if (found > 4) throw new Error(`a diff across a rename found ${found} changes`);
    }),
  );
  await database.transaction((transaction) => transaction.rename('elsewhere/moved', 'large'));
  sayMemory('renames');
  await database.close();
}

/** Writes `size` GB into one file, in pieces of 1 MiB; then what is done to such a file. */
async function large(isSparse: boolean): Promise<void> {
  await initialize(store, { settings: KEEP_NOTHING });
  const database = await open(store);
  const live = database.volume.live as LiveFileSystem;
  const name = Buffer.from('large');
  const { attributes, handle } = live.create(ROOT_CALLER, 1, name, S_IFREG | 0o644, O_RDWR);
  const { inode } = attributes;
  const pieces = Array.from({ length: 16 }, (_, i) => noise(PIECE_BYTES, seed + i));
  const bytes = size * GB;
  // Sparse: a piece in each 64 MiB.
  const step = isSparse ? 64 * PIECE_BYTES : PIECE_BYTES;
  const turn = () => new Promise((resolve) => setImmediate(resolve));
  const ms = await took(async () => {
    for (let at = 0, i = 0; at < bytes; at += step, i++) {
      live.write(ROOT_CALLER, handle, at, pieces[i % 16]!, 0, PIECE_BYTES, false);
      // As a server would: what the store does in the background has a turn.
      if (i % 16 === 15) await turn();
    }
    await database.commit();
  });
  live.setattr(ROOT_CALLER, inode, { size: bytes });
  say('written, 1 MiB at a time', bytes / step / (ms / 1000), '/s');
  await database.store.checkpoint();
  sayMemory('writing it');
  const random = new Random(seed);
  const target = Buffer.alloc(4096);
  makeCold();
  const reads: number[] = [];
  for (let i = 0; i < LOOKUPS; i++) {
    const at =
      Math.floor((random.below(2 ** 30) / 2 ** 30) * (bytes / step)) * step + random.below(255) * 4096;
    reads.push(await took(() => live.read(handle, at, target, 0, 4096)));
  }
  say('read of 4 KiB at random, cold: median', median(reads));
  const writes: number[] = [];
  for (let i = 0; i < 100; i++) {
    const at = Math.floor((random.below(2 ** 30) / 2 ** 30) * (bytes / step)) * step;
    live.write(ROOT_CALLER, handle, at, pieces[i % 16]!, 0, 4096, false);
    writes.push(await took(() => database.commit()));
  }
  say('4 KiB at random, durable: median', median(writes));
  const appends: number[] = [];
  for (let i = 0; i < 100; i++) {
    live.write(ROOT_CALLER, handle, bytes + i * 4096, pieces[i % 16]!, 0, 4096, false);
    appends.push(await took(() => database.commit()));
  }
  say('4 KiB appended, durable: median', median(appends));
  await database.store.checkpoint();
  say('snapshot', await took(() => database.snapshots.create('with-it')));
  await database.store.checkpoint();
  sayMemory('reads and writes in it');
  say(
    'truncated to half',
    await took(async () => {
      live.setattr(ROOT_CALLER, inode, { size: bytes / 2 });
      await database.commit();
    }),
  );
  say('checkpoint after that', await took(() => database.store.checkpoint()));
  live.release(handle);
  say(
    'removed',
    await took(async () => {
      live.unlink(ROOT_CALLER, 1, name);
      await database.commit();
    }),
  );
  say('checkpoint after the removal', await took(() => database.store.checkpoint()));
  await database.snapshots.delete('with-it');
  say('GC of it', await took(() => database.collections.start(true).done));
  sayMemory('removing it');
  await database.close();
}

const STEPS = {
  fill: filled,
  read,
  write,
  collect,
  die,
  recover: () => recover(true),
  recoverWarm: () => recover(false),
  check,
  directory,
  rename,
  sparse: () => large(true),
  real: () => large(false),
} as const;
export type StepName = keyof typeof STEPS;

await STEPS[options.step]();
