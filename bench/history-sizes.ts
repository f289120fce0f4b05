/**
 * Rows of the history benchmark that depend on how many files there are: snapshots, diffs, restores, and opening what was.
 */
import * as fs from 'node:fs';
import { join } from 'node:path';
import { type Database, initialize, open } from '../src/index.ts';
import { Transaction } from '../src/plugin/transaction.ts';
import {
  attempt,
  BORG,
  BTRFS,
  CP,
  type HistoryBench,
  OTHERWISE,
  RESTIC,
  RSYNC,
  remove,
  workOn,
} from './history-bench.ts';
import { isInstalled, median, run, settle } from './measure.ts';
import { Borg, Btrfs, NativeTrees, type Repository, Restic } from './native-peers.ts';
import { OWN, type Report } from './report.ts';
import { FILES_PER_DIRECTORY, SeededTree } from './seeded-tree.ts';
import type { Work, Works } from './turns.ts';

/** From that many files on peers are measured once … */
export const MANY_FILES = 50_000;
/** … and cp, restic and borg, which take minutes, not at all. */
export const LARGE_FILES = 500_000;
const LARGE_REASON = 'left out: takes minutes (--peers all)';
const CHANGES = [10, 100, 1000, 10_000];
const QUICK_CHANGES = [100];
/** Changes that nobody has synced when a snapshot is made. */
const UNSYNCED = 1000;
/** Megabytes likewise, and the bytes of each file of them. */
const UNSYNCED_MB = [1, 10, 100];
const QUICK_UNSYNCED_MB = [10];
const UNSYNCED_FILE_BYTES = 16_000;
/** Transactions between a version and the state that is opened. */
const BEHIND = 1000;

const NOTHING_DIRTY = 'snapshot, nothing dirty';

export interface SizeOptions {
  readonly files: number;
  /** Whether it is the first of several. */
  readonly isFirst: boolean;
  /** 'quick': none that takes minutes. */
  readonly peers: 'all' | 'quick' | 'none';
}

/** What all rows of one size work on. */
interface Size extends HistoryBench {
  readonly tree: SeededTree;
  readonly database: Database;
  /** LSN of the tree as it was first. */
  readonly first: number;
  /** Or why there is none. */
  readonly native: NativeTrees | string;
  readonly repositories: Readonly<Record<string, Repository | string>>;
  readonly btrfs: Btrfs | string;
  readonly peerRounds: number;
  /** cp, restic and borg are left out for this reason. */
  readonly slow: string | undefined;
}

function titled(what: string, files: number): string {
  return `${what}, ${files.toLocaleString('en')} files`;
}

const differenceOf = (count: number): string => `diff of ${count.toLocaleString('en')} changes`;
const restoreOf = (count: number): string => `restore of ${count.toLocaleString('en')} changes`;
const dirtyOf = (megabytes: number): string => `snapshot, ${megabytes} MB written and not synced`;
const UNSYNCED_FILES = `snapshot, ${UNSYNCED.toLocaleString('en')} files changed and not synced`;
const ONE_DIRECTORY = 'restore of one directory, 100 changes';
const OPENING = {
  version: 'open @lsn-N, cold, a version',
  behind: 'open @lsn-N, cold, 1,000 transactions behind one',
  warm: 'open @lsn-N, warm',
  listCold: 'list of 100 entries behind @lsn-N, with the opening, cold',
  listWarm: 'list of 100 entries behind @lsn-N, with the opening, warm',
} as const;

/** Contents have generations; no two changes have the same. */
let generation = 0;

export async function measureSize(bench: HistoryBench, options: SizeOptions): Promise<void> {
  const { report, place, say, cleanUp, seed } = bench;
  const { files } = options;
  const counts = bench.isQuick ? QUICK_CHANGES : CHANGES;
  const megabytes = options.isFirst ? (bench.isQuick ? QUICK_UNSYNCED_MB : UNSYNCED_MB) : [];
  const titles = [
    ...[NOTHING_DIRTY, ...(bench.isQuick ? [] : [UNSYNCED_FILES, ONE_DIRECTORY]), ...Object.values(OPENING)],
    ...counts.flatMap((count) => [differenceOf(count), restoreOf(count)]),
    ...megabytes.map(dirtyOf),
  ];
  if (!titles.some((title) => report.isWanted(titled(title, files)))) return;
  const tree = new SeededTree(files, seed);
  const none = options.peers === 'none' ? 'left out (--peers none)' : undefined;
  const slow = none ?? (files >= LARGE_FILES && options.peers === 'quick' ? LARGE_REASON : undefined);
  say(`${files} files: the store`);
  await initialize(join(place, 'store'));
  const database = await open(join(place, 'store'));
  try {
    const first = await tree.put(database, tree.all(), 0);
    await database.snapshots.create('first');
    say(`${files} files: what is beside it`);
    const native = attempt(
      none ?? (isInstalled('rsync') ? undefined : 'rsync is not installed'),
      () => new NativeTrees(place, tree),
    );
    const repository = (Kind: typeof Restic | typeof Borg): Repository | string =>
      attempt(slow ?? Kind.whyNot(), () => {
        if (typeof native === 'string') throw new Error(native);
        const made = new Kind(place, native.work);
        made.backup();
        return made;
      });
    const repositories = { [RESTIC]: repository(Restic), [BORG]: repository(Borg) };
    const btrfs = attempt(none ?? Btrfs.whyNot(), () => new Btrfs(place, tree, cleanUp));
    const peerRounds = files >= MANY_FILES ? 1 : bench.rounds;
    const size: Size = { ...bench, tree, database, first, native, repositories, btrfs, peerRounds, slow };
    say(`${files} files: measured`);
    await snapshots(size, megabytes);
    for (const count of counts) await changes(size, count);
    if (!bench.isQuick) await oneDirectory(size);
    await opening(size);
  } finally {
    await database.close();
  }
}

/** How the time of a snapshot grows with the number of files, from those that were measured. */
export function compareSizes(report: Report, least: number, most: number): void {
  const [small, large] = [titled(NOTHING_DIRTY, least), titled(NOTHING_DIRTY, most)];
  const title = `${NOTHING_DIRTY}, ${most.toLocaleString('en')} files; otherwise: ${least.toLocaleString('en')}`;
  if (least === most || report.values(large, OWN).length === 0) return;
  if (!report.declare({ title, unit: 'ms', target: { ratio: 1 / 1.5, of: OTHERWISE } })) return;
  for (const value of report.values(large, OWN)) report.add(title, OWN, value);
  for (const value of report.values(small, OWN)) report.add(title, OTHERWISE, value);
}

/** A checkpoint, so that no row pays for what another has left. */
function rest(database: Database): Promise<void> {
  return database.store.checkpoint();
}

/** The works of restic and borg. */
function ofRepositories(size: Size, work: (repository: Repository, name: string) => Work): Works {
  return Object.fromEntries(
    Object.entries(size.repositories).map(([name, on]) => [
      name,
      size.slow ?? workOn(on, (repository) => work(repository, name)),
    ]),
  );
}

/** `unsynced`: so many megabytes are written before, row by row. */
async function snapshots(size: Size, unsynced: readonly number[]): Promise<void> {
  const { tree, native, btrfs, seed, report } = size;
  await snapshot(size, NOTHING_DIRTY, tree, []);
  beyondSync(size);
  if (!size.isQuick && tree.files >= UNSYNCED)
    await snapshot(size, UNSYNCED_FILES, tree, tree.draw(UNSYNCED, 1));
  for (const megabytes of unsynced) {
    if (!report.isWanted(titled(dirtyOf(megabytes), tree.files))) continue;
    const files = Math.round((megabytes * 1e6) / UNSYNCED_FILE_BYTES);
    const bytes = [UNSYNCED_FILE_BYTES, UNSYNCED_FILE_BYTES] as const;
    const dirty = new SeededTree(files, seed, { bytes, name: 'dirty' });
    await snapshot(size, dirtyOf(megabytes), dirty, [...dirty.all()]);
    // The next one does not copy what this one has written.
    const parents = new Set([...dirty.all()].map((file) => dirty.directoryOf(file)));
    await size.database.restore(size.first);
    if (typeof btrfs !== 'string') for (const parent of parents) remove(join(btrfs.subvolume, parent));
  }
  if (typeof native !== 'string') native.restore('');
}

/** A snapshot while files of a tree have been written and nobody has synced them. */
async function snapshot(size: Size, what: string, tree: SeededTree, dirty: readonly number[]): Promise<void> {
  const { database, place, native, slow, turns, peerRounds } = size;
  const title = titled(what, size.tree.files);
  const copy = join(place, 'copy');
  const change = (directory: string): void => tree.write(directory, dirty, ++generation);
  const live = new Transaction(database.volume.live, false);
  const own: Work = {
    before: () => rest(database),
    dirty: () => {
      generation++;
      // As programs on a mount change files: each in an operation of its own, and nobody waits for the disk.
      for (const file of dirty) live.put(tree.pathOf(file), tree.content(file, generation));
    },
    run: (round) => database.snapshots.create(`bench-${round}`),
    after: (round) => database.snapshots.delete(`bench-${round}`),
  };
  const works: Works = {
    [OWN]: own,
    [CP]: workOn(slow ?? native, ({ work }) => ({
      dirty: () => change(work),
      run: () => {
        run('cp', ['-a', work, copy]);
        settle(place);
      },
      after: () => remove(copy),
    })),
    ...ofRepositories(size, (repository) => ({
      dirty: () => {
        if (typeof native !== 'string') change(native.work);
      },
      run: () => repository.backup(),
    })),
    [BTRFS]: workOn(size.btrfs, (btrfs) => ({
      before: () => btrfs.sync(),
      dirty: () => change(btrfs.subvolume),
      run: () => {
        btrfs.snapshot('measured');
        btrfs.sync();
      },
      after: () => btrfs.delete('measured'),
    })),
  };
  await turns.measure({ title }, works, { peerRounds });
}

/** What a snapshot takes when nothing is dirty, less one fsync of a page, which is measured here. */
function beyondSync({ report, tree, place }: Size): void {
  const measured = titled(NOTHING_DIRTY, tree.files);
  const title = `${measured}: beyond one fsync`;
  if (report.values(measured, OWN).length === 0) return;
  if (!report.declare({ title, unit: 'ms', target: { atMost: 5 } })) return;
  const page = Buffer.alloc(4096, 1);
  const times: number[] = [];
  const file = fs.openSync(join(place, 'synced'), 'w');
  for (let i = 0; i < 20; i++) {
    const start = performance.now();
    fs.writeSync(file, page, 0, page.length, 0);
    fs.fsyncSync(file);
    times.push(performance.now() - start);
  }
  fs.closeSync(file);
  const sync = median(times);
  for (const value of report.values(measured, OWN)) report.add(title, OWN, Math.max(0, value - sync));
  report.remark(title, `one fsync of a page took ${sync.toFixed(2)} ms`);
}

async function changes(size: Size, count: number): Promise<void> {
  const { tree, database, place, peerRounds, first, native, btrfs, repositories, turns, report, slow } = size;
  const difference = titled(differenceOf(count), tree.files);
  const whole = titled(restoreOf(count), tree.files);
  if (!report.isWanted(difference) && !report.isWanted(whole)) return;
  if (tree.files < count) {
    size.say(`${tree.files} files are too few for ${count} changes: no such rows`);
    return;
  }
  const changed = tree.draw(count, count);
  const number = ++generation;
  await database.restore(first);
  const before = database.lsn;
  const after = await tree.put(database, changed, number);
  await rest(database);
  const backUp = () =>
    Object.fromEntries(
      Object.entries(repositories).map(([name, on]) => [name, typeof on === 'string' ? '' : on.backup()]),
    );
  const backupsBefore = backUp();
  if (typeof native !== 'string') tree.write(native.work, changed, number);
  const backupsAfter = backUp();
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
  const differences: Works = {
    [OWN]: compared,
    [CP]: workOn(slow ?? native, ({ kept, work }) => ({
      run: () => run('diff', ['-rq', kept, work], { quiet: true, statuses: [0, 1] }),
    })),
    [RSYNC]: workOn(native, ({ kept, work }) => ({
      run: () => run('rsync', ['-ani', '--delete', `${kept}/`, `${work}/`], { quiet: true }),
    })),
    ...ofRepositories(size, (repository, name) => ({
      run: () => repository.diff(backupsBefore[name]!, backupsAfter[name]!),
    })),
    [BTRFS]: workOn(btrfs, (on) => ({ run: () => on.send('before', 'after') })),
  };
  const remark = () => `pages read: ${pagesRead.join(', ')}`;
  await turns.measure({ title: difference }, differences, { peerRounds, remark });

  const restored = join(place, 'restored');
  const restores: Works = {
    // There and back in turn.
    [OWN]: restoring(database, before, after, count),
    [RSYNC]: workOn(native, (on) => ({
      run: () => {
        on.restore('');
        settle(place);
      },
      after: () => tree.write(on.work, changed, number),
    })),
    ...ofRepositories(size, (repository, name) => ({
      run: () => {
        repository.restore(backupsBefore[name]!, restored);
        settle(place);
      },
      after: () => remove(restored),
    })),
    [BTRFS]: workOn(btrfs, (on) => ({
      run: () => on.swap('before', 'aside'),
      after: () => {
        on.delete('aside');
        tree.write(on.subvolume, changed, number);
        on.sync();
      },
    })),
  };
  await turns.measure({ title: whole }, restores, { peerRounds });
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
  const { tree, database, place, native, repositories, first, turns, peerRounds } = size;
  const title = titled(ONE_DIRECTORY, tree.files);
  if (!size.report.isWanted(title)) return;
  const files = tree.siblings(tree.draw(1, 2)[0]!);
  const directory = tree.directoryOf(files[0]!);
  const number = ++generation;
  await database.restore(first);
  const before = database.lsn;
  const after = await tree.put(database, files, number);
  const backups = new Map<string, string>();
  for (const [name, on] of Object.entries(repositories))
    if (typeof on !== 'string') backups.set(name, on.backup());
  const restored = join(place, 'restored');
  const works: Works = {
    [OWN]: restoring(database, before, after, files.length, directory),
    [RSYNC]: workOn(native, (on) => ({
      before: () => tree.write(on.work, files, number),
      run: () => {
        on.restore(directory);
        settle(place);
      },
    })),
    ...ofRepositories(size, (repository, name) => ({
      run: () => {
        repository.restore(backups.get(name)!, restored, directory);
        settle(place);
      },
      after: () => remove(restored),
    })),
  };
  await turns.measure({ title }, works, { peerRounds });
}

async function opening(size: Size): Promise<void> {
  const { tree, database, native, btrfs, peerRounds, turns, report } = size;
  const row = (what: string) => ({ title: titled(what, tree.files) });
  if (!Object.values(OPENING).some((what) => report.isWanted(row(what).title))) return;
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
  await turns.measure(row(OPENING.version), { [OWN]: { before: cold, run: at(version) } });
  await turns.measure(row(OPENING.behind), { [OWN]: { before: cold, run: at(between) } });
  await turns.measure(row(OPENING.warm), { [OWN]: { before: at(version), run: at(version) } });
  const view = () => {
    const state = database.at(version);
    try {
      const found = state.list(directory).length;
      if (found !== FILES_PER_DIRECTORY) throw new Error(`${directory} lists ${found} entries`);
    } finally {
      state.close();
    }
  };
  const works: Works = {
    [OWN]: { before: cold, run: view },
    [CP]: workOn(native, ({ kept }) => ({ run: () => fs.readdirSync(join(kept, directory)) })),
    ...ofRepositories(size, (repository) => {
      const name = repository.backup();
      return { run: () => repository.list(name, directory) };
    }),
    [BTRFS]: workOn(btrfs, (on) => ({
      before: () => on.snapshot('listed'),
      run: () => fs.readdirSync(join(on.path('listed'), directory)),
      after: () => on.delete('listed'),
    })),
  };
  await turns.measure(row(OPENING.listCold), works, { peerRounds });
  await turns.measure(row(OPENING.listWarm), { [OWN]: { before: view, run: view } });
}
