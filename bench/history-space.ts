/**
 * The space of snapshots: between two of them 1 % of the files, drawn at random, are written anew, whole and as long as
 * before. The figure is what the store, or the repository, has grown by, a snapshot, in percent of the bytes of all files.
 *
 * lsnfs keeps what has a name and nothing else (its window is zero). What grows are its pages in use, after a checkpoint: the size on disk, which
 * moves by segments of the log and by free pages that will be used again, is in the remark.
 */
import * as fs from 'node:fs';
import { join } from 'node:path';
import { initialize, open } from '../src/index.ts';
import { KEEP_NOTHING } from '../test/helpers/retention-settings.ts';
import { attempt, BORG, BTRFS, CP, type HistoryBench, RESTIC, RSYNC } from './history-bench.ts';
import { CleanUp, diskBytes, isInstalled, run } from './measure.ts';
import { Borg, Btrfs, Restic } from './native-peers.ts';
import { OWN } from './report.ts';
import { SeededTree } from './seeded-tree.ts';

const CHANGED_PART = 0.01;
const SNAPSHOTS = 100;
const QUICK_SNAPSHOTS = 10;
/** restic and borg take a second a backup: so many are enough to say what one takes. */
const BACKUPS = 20;
const QUICK_BACKUPS = 2;

/** `quickFiles`: none in --quick when zero. */
const TREES = [
  { name: 'files of 1 to 64 KiB', files: 4000, quickFiles: 1000, bytes: [1024, 65_536] },
  { name: 'files of 200 bytes', files: 40_000, quickFiles: 0, bytes: [180, 220] },
] as const;

/** One system with the tree in it. */
interface Keeper {
  /** Writes these files anew and makes a snapshot. */
  step(changed: readonly number[], number: number): unknown;
  bytes(): number | Promise<number>;
}

export async function measureSpace(bench: HistoryBench): Promise<void> {
  for (const { name, bytes, ...counts } of TREES) {
    const files = bench.isQuick ? counts.quickFiles : counts.files;
    if (files === 0) continue;
    const title = `space of a snapshot, 1 % of the files rewritten: ${name}`;
    if (!bench.report.declare({ title, unit: '%', target: { atMost: 1.6 } })) continue;
    const place = join(bench.place, String(files));
    fs.mkdirSync(place);
    await measureTree({ ...bench, place }, title, new SeededTree(files, bench.seed, { bytes }));
  }
}

async function measureTree(bench: HistoryBench, title: string, tree: SeededTree): Promise<void> {
  const { report, place, say } = bench;
  const snapshots = bench.isQuick ? QUICK_SNAPSHOTS : SNAPSHOTS;
  const backups = bench.isQuick ? QUICK_BACKUPS : BACKUPS;
  const { bytes } = tree;
  const measure = async (system: string, keeper: Keeper | string, count: number): Promise<void> => {
    try {
      if (typeof keeper === 'string') throw new Error(keeper);
      const before = await keeper.bytes();
      for (let i = 1; i <= count; i++) await keeper.step(tree.draw(tree.files * CHANGED_PART, i), i);
      report.add(title, system, (((await keeper.bytes()) - before) / count / bytes) * 100);
    } catch (error) {
      if (system === OWN) throw error;
      report.miss(title, system, (error as Error).message);
    }
  };

  const own = await openOwn(place, tree);
  try {
    await measure(OWN, own, snapshots);
  } finally {
    await own.close();
  }
  // Each peer's snapshots are of this directory.
  const work = join(place, 'work');
  tree.write(work, tree.all(), 0);
  const peer = (make: () => Keeper, whyNot: string | undefined) => attempt(whyNot, make);
  await measure(
    CP,
    peer(() => copies(place, work), undefined),
    1,
  );
  const rsync = isInstalled('rsync') ? undefined : 'not installed';
  await measure(
    RSYNC,
    peer(() => linkedCopies(place, work, tree), rsync),
    snapshots,
  );
  for (const [system, Kind] of [
    [RESTIC, Restic],
    [BORG, Borg],
  ] as const) {
    const keeper = peer(() => {
      const repository = new Kind(place, work);
      repository.backup();
      return {
        step: (changed, number) => {
          tree.write(work, changed, number);
          repository.backup();
        },
        bytes: () => repository.bytes(),
      };
    }, Kind.whyNot());
    await measure(system, keeper, backups);
  }
  const cleanUp = new CleanUp();
  try {
    const btrfs = peer(() => {
      const made = new Btrfs(place, tree, cleanUp);
      made.snapshot('snapshot-0');
      return {
        step: (changed, number) => {
          tree.write(made.subvolume, changed, number);
          made.snapshot(`snapshot-${number}`);
        },
        bytes: () => made.bytes(),
      };
    }, Btrfs.whyNot());
    await measure(BTRFS, btrfs, snapshots);
  } finally {
    cleanUp.run();
  }
  const megabytes = Math.round(bytes / 1e6);
  report.remark(
    title,
    `${tree.files.toLocaleString('en')} files, ${megabytes} MB; growth a snapshot, of ${snapshots} (restic and borg: ${backups}, cp: 1), in percent of these bytes; btrfs: data and metadata in use, metadata once; ${own.remark()}`,
  );
  say(report.summary(title));
}

async function openOwn(place: string, tree: SeededTree) {
  const store = join(place, 'store');
  await initialize(store, { settings: KEEP_NOTHING });
  const database = await open(store);
  await tree.put(database, tree.all(), 0);
  await database.snapshots.create('first');
  const onDisk: number[] = [];
  const bytes = async (): Promise<number> => {
    await database.store.checkpoint();
    await database.collections.start(true).done;
    await database.store.checkpoint();
    onDisk.push(diskBytes(store) / 2 ** 20);
    const { pages, pageSize } = await database.status();
    return (pages.total - pages.free) * pageSize;
  };
  return {
    step: async (changed: readonly number[], number: number): Promise<void> => {
      await tree.put(database, changed, number);
      await database.snapshots.create(`snapshot-${number}`);
    },
    bytes,
    remark: () =>
      `lsnfs: pages in use; on disk, with log and free pages, ${onDisk.map(Math.round).join(' → ')} MiB`,
    close: () => database.close(),
  };
}

function copies(place: string, work: string): Keeper {
  const target = join(place, 'copies');
  fs.mkdirSync(target);
  return {
    step: (_, number) => run('cp', ['-a', work, join(target, String(number))]),
    bytes: () => diskBytes(target),
  };
}

/** Copies by rsync in which unchanged files are hard links to the copy before. */
function linkedCopies(place: string, work: string, tree: SeededTree): Keeper {
  const target = join(place, 'linked');
  fs.mkdirSync(target);
  const copy = (number: number): void => {
    const link = number === 0 ? [] : [`--link-dest=${join(target, String(number - 1))}`];
    run('rsync', ['-a', ...link, `${work}/`, `${join(target, String(number))}/`]);
  };
  copy(0);
  return {
    step: (changed, number) => {
      tree.write(work, changed, number);
      copy(number);
    },
    bytes: () => diskBytes(target),
  };
}
