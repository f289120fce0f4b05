/**
 * Time travel beside what a user would do today on the same tree of files:
 * `npm run bench:history -- [--sizes 1000,100000,1000000] [--rounds 5] [--only REGEX] [--peers all] [--json FILE] [--seed N]
 * [--gc-pages 200000]`.
 *
 * lsnfs is measured in process, through the API, on a store in a temporary directory; the peers are programs, and their start
 * is part of what they take. All caches are warm but where a row says otherwise. `--only` picks rows by their titles.
 * A peer that is missing, fails or takes too long is in the table with the reason. Everything is below one temporary
 * directory ($TMPDIR says where), and gone afterwards.
 */
import * as fs from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type Database, initialize, open } from '../src/index.ts';
import { Transaction } from '../src/plugin/transaction.ts';
import { type Peer, Report, type Work } from './comparison.ts';
import { measureCollection } from './history-collection.ts';
import { CleanUp, isInstalled, run, settle } from './measure.ts';
import { Btrfs, NativeTrees, Restic } from './native-peers.ts';
import { FILES_PER_DIRECTORY, SeededTree } from './seeded-tree.ts';
import { machine } from './systems.ts';

/** From that many files on cp and restic take minutes, and the other peers are measured once. */
const LARGE_FILES = 500_000;
const LARGE_REASON = 'left out: takes minutes (--peers all)';
/** No whole run takes longer, in milliseconds. */
const RUN_TIMEOUT_MS = 6 * 3_600_000;
const CHANGES = [100, 10_000];
/** Changes that nobody has synced when a snapshot is made. */
const UNSYNCED = 1000;
/** Transactions between a version and the state that is opened. */
const BEHIND = 1000;

const SNAPSHOTS = ['snapshot, nothing dirty', 'snapshot, 1,000 files changed and not synced'] as const;
const ONE_DIRECTORY = 'restore of one directory, 100 changes';
const OPENING = [
  'open @lsn-N, cold, a version',
  'open @lsn-N, cold, 1,000 transactions behind one',
  'open @lsn-N, warm',
  'list of 100 entries behind @lsn-N, cold',
  'list of 100 entries behind @lsn-N, warm',
] as const;
const differenceOf = (count: number): string => `diff of ${count.toLocaleString('en')} changes`;
const restoreOf = (count: number): string => `restore of ${count.toLocaleString('en')} changes`;
/** The titles of all rows that depend on the size of the tree. */
const SIZED = [
  ...SNAPSHOTS,
  ...CHANGES.flatMap((count) => [differenceOf(count), restoreOf(count)]),
  ONE_DIRECTORY,
  ...OPENING,
];

const { values: given } = parseArgs({
  options: {
    sizes: { type: 'string', default: '1000,100000,1000000' },
    rounds: { type: 'string', default: '5' },
    only: { type: 'string', default: '' },
    peers: { type: 'string', default: 'quick' },
    json: { type: 'string' },
    seed: { type: 'string', default: '1' },
    'gc-pages': { type: 'string', default: '200000' },
  },
});
const sizes = given.sizes.split(',').map((text) => wholeNumber('--sizes', text));
for (const files of sizes) {
  if (files % FILES_PER_DIRECTORY !== 0)
    throw new Error(`--sizes: multiples of ${FILES_PER_DIRECTORY} files`);
}
const rounds = wholeNumber('--rounds', given.rounds);
const seed = wholeNumber('--seed', given.seed);
const collectedPages = wholeNumber('--gc-pages', given['gc-pages']);
if (given.peers !== 'all' && given.peers !== 'quick') throw new Error('--peers is all or quick');

function wholeNumber(option: string, text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1)
    throw new Error(`${option}: ${text} is no whole number from 1 on`);
  return value;
}

/** What all rows of one size work on. */
interface Size {
  readonly tree: SeededTree;
  readonly database: Database;
  /** LSN of the tree as it was first. */
  readonly first: number;
  /** Or why there is none. */
  readonly native: NativeTrees | string;
  readonly restic: Restic | string;
  readonly btrfs: Btrfs | string;
  readonly base: string;
  readonly peerRounds: number;
  /** cp and restic are left out for this reason. */
  readonly slow: string | undefined;
}

const cleanUp = new CleanUp();
const base = fs.mkdtempSync(join(tmpdir(), 'lsnfs-bench-history-'));
cleanUp.add(() => fs.rmSync(base, { recursive: true, force: true }));
const report = new Report(new RegExp(given.only), rounds, () => settle(base));
const started = performance.now();
let generation = 0;

function say(text: string): void {
  process.stderr.write(`${((performance.now() - started) / 1000).toFixed(0).padStart(6)} s  ${text}\n`);
}

/** A peer, if what it works on is there. */
function peer<On extends object>(name: string, on: On | string, work: (on: On) => Work): Peer {
  return { name, work: typeof on === 'string' ? on : work(on) };
}

/** What a set-up makes, or the reason why there is none. */
function attempt<Made extends object>(whyNot: string | undefined, make: () => Made): Made | string {
  if (whyNot !== undefined) return whyNot;
  try {
    return make();
  } catch (error) {
    return `cannot be set up: ${(error as Error).message}`;
  }
}

function remove(path: string): void {
  fs.rmSync(path, { recursive: true, force: true });
}

/** A checkpoint, so that no row pays for what another has left. */
function rest(database: Database): Promise<void> {
  return database.store.checkpoint();
}

async function snapshots(size: Size): Promise<void> {
  const { tree, database, base: place, peerRounds } = size;
  const copy = join(place, 'copy');
  for (const [i, title] of SNAPSHOTS.entries()) {
    if (i === 1 && tree.files < UNSYNCED) {
      say(`${tree.files} files are too few for 1,000 changes: no such row`);
      continue;
    }
    const dirty = i === 1 ? tree.draw(UNSYNCED, 1) : [];
    const change = (directory: string): void => tree.write(directory, dirty, ++generation);
    const live = new Transaction(database.volume.live, false);
    const own: Work = {
      before: async () => {
        await rest(database);
        generation++;
        // As programs on a mount change files: each in an operation of its own, and nobody waits for the disk.
        for (const file of dirty) live.put(tree.pathOf(file), tree.content(file, generation));
      },
      run: (round) => database.snapshots.create(`bench-${i}-${round}`),
      after: (round) => database.snapshots.delete(`bench-${i}-${round}`),
    };
    // The peers' changes are written back before by `settle`, but for those of btrfs, whose snapshot does that.
    const copied = peer('cp -a, sync -f', size.slow ?? size.native, ({ work }) => ({
      before: () => change(work),
      run: () => {
        run('cp', ['-a', work, copy]);
        settle(place);
      },
      after: () => remove(copy),
    }));
    const backup = peer('restic backup', size.slow ?? size.restic, (restic) => ({
      before: () => {
        if (typeof size.native !== 'string') change(size.native.work);
        // One without changes has been made before.
        else restic.backup();
      },
      run: () => restic.backup(),
    }));
    const subvolume = peer('btrfs snapshot, sync', size.btrfs, (btrfs) => ({
      before: () => {
        btrfs.sync();
        change(btrfs.subvolume);
      },
      run: () => {
        btrfs.snapshot('measured');
        btrfs.sync();
      },
      after: () => btrfs.delete('measured'),
    }));
    await report.compare(tree.files, title, own, [copied, backup, subvolume], { peerRounds });
  }
  if (typeof size.native !== 'string') size.native.restore('');
}

async function changes(size: Size, count: number): Promise<void> {
  const { tree, database, base: place, peerRounds, first } = size;
  const [difference, whole] = [differenceOf(count), restoreOf(count)];
  if (!report.isWanted(difference) && !report.isWanted(whole)) return;
  if (tree.files < count) {
    say(`${tree.files} files are too few for ${count} changes: no such rows`);
    return;
  }
  const changed = tree.draw(count, count);
  const number = ++generation;
  await database.restore(first);
  const before = database.lsn;
  const after = await tree.put(database, changed, number);
  await rest(database);
  let resticBefore = '';
  let resticAfter = '';
  const { restic, native, btrfs } = size;
  if (typeof restic !== 'string') resticBefore = restic.backup();
  if (typeof native !== 'string') tree.write(native.work, changed, number);
  if (typeof restic !== 'string') resticAfter = restic.backup();
  if (typeof btrfs !== 'string') {
    btrfs.snapshot('before');
    tree.write(btrfs.subvolume, changed, number);
    btrfs.snapshot('after');
  }

  const pagesRead: number[] = [];
  const compared: Work = {
    before: () => database.history.releaseIdle(),
    run: async () => {
      const comparison = await database.diff(before, after);
      let found = 0;
      for (const { kind } of comparison) if (kind === 'M') found++;
      if (found !== count) throw new Error(`diff found ${found} changed files, not ${count}`);
      pagesRead.push(comparison.statistics.pagesRead);
    },
  };
  await report.compare(
    tree.files,
    difference,
    compared,
    [
      peer('diff -rq', native, ({ kept, work }) => ({
        run: () => run('diff', ['-rq', kept, work], { quiet: true, statuses: [0, 1] }),
      })),
      peer('rsync -an --delete', native, ({ kept, work }) => ({
        run: () => run('rsync', ['-ani', '--delete', `${kept}/`, `${work}/`], { quiet: true }),
      })),
      peer('restic diff', size.slow ?? restic, (on) => ({ run: () => on.diff(resticBefore, resticAfter) })),
      peer('btrfs send --no-data', btrfs, (on) => ({ run: () => on.send('before', 'after') })),
    ],
    { peerRounds, note: () => `pages read: ${pagesRead.join(', ')}` },
  );

  const restored = join(place, 'restored');
  await report.compare(
    tree.files,
    whole,
    restoring(database, before, after, count),
    [
      peer('rsync -a --delete from a copy, sync -f', native, (on) => ({
        run: () => {
          on.restore('');
          settle(place);
        },
        after: () => tree.write(on.work, changed, number),
      })),
      peer('restic restore elsewhere, sync -f', size.slow ?? restic, (on) => ({
        run: () => {
          on.restore(resticBefore, restored);
          settle(place);
        },
        after: () => remove(restored),
      })),
      peer('btrfs snapshot in its place, sync', btrfs, (on) => ({
        run: () => on.swap('before', 'aside'),
        after: () => {
          on.delete('aside');
          tree.write(on.subvolume, changed, number);
          on.sync();
        },
      })),
    ],
    { peerRounds, note: () => 'there and back in turn' },
  );
  if (typeof native !== 'string') native.restore('');
  if (typeof btrfs !== 'string') {
    btrfs.swap('before', 'aside');
    for (const name of ['aside', 'before', 'after']) btrfs.delete(name);
  }
}

/** Restores one state and the other in turn; `count` files differ. */
function restoring(database: Database, before: number, after: number, count: number, path?: string): Work {
  let isBefore = false;
  return {
    before: () => rest(database),
    run: async () => {
      const target = isBefore ? after : before;
      const result = await database.restore(target, path === undefined ? {} : { paths: [path] });
      if (!result.applied) throw new Error(`LSN ${target} was to be restored, and nothing differed`);
      isBefore = !isBefore;
    },
    after: async () => {
      // What it is now must be what it is to be: a restore that does nothing is quick.
      const comparison = await database.diff(isBefore ? after : before);
      if ([...comparison].filter(({ kind }) => kind === 'M').length < count)
        throw new Error('a restore has not brought back what was there');
      for (const { name } of database.snapshots.list())
        if (name.startsWith('before-restore-')) await database.snapshots.delete(name);
    },
  };
}

async function oneDirectory(size: Size): Promise<void> {
  const { tree, database, base: place, native, restic, first } = size;
  if (!report.isWanted(ONE_DIRECTORY)) return;
  const files = tree.siblings(tree.draw(1, 2)[0]!);
  const directory = tree.directoryOf(files[0]!);
  const number = ++generation;
  await database.restore(first);
  const before = database.lsn;
  const after = await tree.put(database, files, number);
  const backup = size.slow === undefined && typeof restic !== 'string' ? restic.backup() : '';
  const restored = join(place, 'restored');
  await report.compare(
    tree.files,
    ONE_DIRECTORY,
    restoring(database, before, after, files.length, directory),
    [
      peer('rsync -a --delete from a copy, sync -f', native, (on) => ({
        before: () => tree.write(on.work, files, number),
        run: () => {
          on.restore(directory);
          settle(place);
        },
      })),
      peer('restic restore elsewhere, sync -f', size.slow ?? restic, (on) => ({
        run: () => {
          on.restore(backup, restored, directory);
          settle(place);
        },
        after: () => remove(restored),
      })),
    ],
    { peerRounds: size.peerRounds, note: () => 'there and back in turn' },
  );
}

async function opening(size: Size): Promise<void> {
  const { tree, database, base: place, native, btrfs, peerRounds } = size;
  if (!OPENING.some((title) => report.isWanted(title))) return;
  const directory = tree.directoryOf(tree.draw(1, 3)[0]!);
  // What is opened is no more the newest state.
  await tree.put(database, tree.draw(1, 5), ++generation);
  await rest(database);
  // The live LSN lies behind it: the checkpoint has a record of its own.
  const version = database.store.versionBefore(database.lsn)!.lsn;
  const number = ++generation;
  const live = new Transaction(database.volume.live, false);
  const behind = tree.draw(BEHIND, 4);
  for (const file of behind) live.put(tree.pathOf(file), tree.content(file, number));
  const between = database.lsn;
  // In the same turn, so that no checkpoint makes a version of the state between.
  live.put(tree.pathOf(behind[0]!), tree.content(behind[0]!, ++generation));
  await rest(database);

  const base = database.store.versionBefore(between)?.lsn;
  if (base !== version)
    throw new Error(`LSN ${between} is to be made from the version ${version}, not from ${base}`);
  const cold: Work['before'] = () => database.history.releaseIdle();
  const at = (lsn: number) => () => database.at(lsn).close();
  const replayed = behind.length.toLocaleString('en');
  await report.compare(tree.files, OPENING[0], { before: cold, run: at(version) }, []);
  await report.compare(tree.files, OPENING[1], { before: cold, run: at(between) }, [], {
    note: () => `${replayed} replayed`,
  });
  await report.compare(tree.files, OPENING[2], { before: at(version), run: at(version) }, []);
  const view = () => {
    const state = database.at(version);
    try {
      const found = state.list(directory).length;
      if (found !== FILES_PER_DIRECTORY) throw new Error(`${directory} lists ${found} entries`);
    } finally {
      state.close();
    }
  };
  const note = () => 'with the opening';
  const id = size.slow === undefined && typeof size.restic !== 'string' ? size.restic.backup() : '';
  const peers = [
    peer('readdir of a copy', native, ({ kept }) => ({ run: () => fs.readdirSync(join(kept, directory)) })),
    peer('readdir of a btrfs snapshot', btrfs, (on) => ({
      before: () => on.snapshot('listed'),
      run: () => fs.readdirSync(join(on.path('listed'), directory)),
      after: () => on.delete('listed'),
    })),
    peer('restic ls', size.slow ?? size.restic, (restic) => ({ run: () => restic.list(id, directory) })),
  ];
  await report.compare(tree.files, OPENING[3], { before: cold, run: view }, peers, { peerRounds, note });
  await report.compare(tree.files, OPENING[4], { before: view, run: view }, [], { note });
  say(`${place}: opened`);
}

async function measureSize(files: number): Promise<void> {
  const place = join(base, `files-${files}`);
  fs.mkdirSync(place);
  const tree = new SeededTree(files, seed);
  const slow = files >= LARGE_FILES && given.peers !== 'all' ? LARGE_REASON : undefined;
  say(`${files} files: the store`);
  await initialize(join(place, 'store'));
  const database = await open(join(place, 'store'));
  try {
    const first = await tree.put(database, tree.all(), 0);
    await database.snapshots.create('first');
    say(`${files} files: what is beside it`);
    const native = attempt(
      isInstalled('rsync') ? undefined : 'rsync is not installed',
      () => new NativeTrees(place, tree),
    );
    const restic = attempt(slow ?? Restic.whyNot(), () => {
      if (typeof native === 'string') throw new Error(native);
      const made = new Restic(place, native.work);
      made.backup();
      return made;
    });
    const btrfs = attempt(Btrfs.whyNot(), () => new Btrfs(place, tree, cleanUp));
    const peerRounds = slow !== undefined ? 1 : rounds;
    const size: Size = { tree, database, first, native, restic, btrfs, base: place, peerRounds, slow };
    say(`${files} files: measured`);
    await snapshots(size);
    for (const count of CHANGES) await changes(size, count);
    await oneDirectory(size);
    await opening(size);
  } finally {
    await database.close();
  }
}

function head(): string[] {
  const fileSystem = run('stat', ['-f', '-c', '%T', base]).trim();
  return [
    machine(fileSystem),
    `Seed ${seed}; median (least–most) of ${rounds} rounds; peers of ${LARGE_FILES.toLocaleString('en')} files and more: ${given.peers === 'all' ? 'all' : 'once, without cp and restic'}`,
  ];
}

function loads(): string {
  return loadavg()
    .map((load) => load.toFixed(1))
    .join(' ');
}

/** Ends the run when somebody asks for that, or it takes for ever. */
function giveUp(why: string): void {
  process.stderr.write(`${why}\n`);
  cleanUp.run();
  process.exit(1);
}
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.on(signal, () => giveUp(`ended by ${signal}`));
setTimeout(() => giveUp('the run takes too long'), RUN_TIMEOUT_MS).unref();

try {
  const about = head();
  const loadBefore = loads();
  for (const files of sizes) {
    if (!SIZED.some((title) => report.isWanted(title))) break;
    await measureSize(files);
    // The next one needs the room; what is mounted goes first.
    cleanUp.run();
    fs.mkdirSync(base);
    cleanUp.add(() => remove(base));
  }
  await measureCollection(report, { place: base, pages: collectedPages, rounds, seed, say });
  about.push(`Load average before: ${loadBefore}; after: ${loads()}`);
  process.stdout.write(`${about.map((line) => `- ${line}`).join('\n')}\n\n${report.table()}\n`);
  if (given.json !== undefined) {
    const facts = { machine: about, seed, rounds, sizes, results: report.results };
    fs.writeFileSync(given.json, `${JSON.stringify(facts, null, 2)}\n`);
  }
} finally {
  cleanUp.run();
}
