/**
 * Garbage of the history benchmark: how fast pages of deleted snapshots come free, and what a commit in the foreground
 * feels of it. The garbage is that of many small changes: files of a tree drawn at random, written anew between snapshots.
 */
import { join } from 'node:path';
import { type Database, initialize, open } from '../src/index.ts';
import { Random } from '../test/helpers/random.ts';
import { KEEP_NOTHING } from '../test/helpers/retention-settings.ts';
import { type HistoryBench, OTHERWISE } from './history-bench.ts';
import { quantile } from './measure.ts';
import { OWN } from './report.ts';
import { SeededTree } from './seeded-tree.ts';

/** The tree that is changed, in files, and how many of them between two snapshots. */
const TREE_FILES = 20_000;
const CHANGED_FILES = 2000;
/** Bytes of a file that was changed: two pages. */
const CHANGED_BYTES = 8192;
/** Commits of one window. */
const WINDOW_COMMITS = 5000;
/** Windows of each kind. */
const WINDOWS = 4;
const QUICK_WINDOWS = 1;
/** No collection takes longer, in milliseconds. */
const COLLECTION_TIMEOUT_MS = 15 * 60_000;

const RATE = 'pages reclaimed at full speed';
const LATENCY = 'commit of one small put, garbage being collected; otherwise: none';
const PARTS = { p50: 0.5, p99: 0.99 } as const;
const latencyOf = (part: string): string => `${LATENCY}, ${part}`;

/** `pages`: so many the snapshots hold when they are deleted. */
export async function measureCollection(bench: HistoryBench, pages: number): Promise<void> {
  const { report } = bench;
  const isRateWanted = report.declare({ title: RATE, unit: '/s' });
  const isLatencyWanted = Object.keys(PARTS)
    .map((part) => report.declare({ title: latencyOf(part), unit: 'ms' }))
    .includes(true);
  if (!isRateWanted && !isLatencyWanted) return;
  const store = join(bench.place, 'store');
  await initialize(store, { settings: KEEP_NOTHING });
  const database = await open(store);
  try {
    const garbage = new Garbage(database, bench, pages);
    await garbage.fill();
    if (isRateWanted) await rate(bench, garbage);
    if (isLatencyWanted) await latency(bench, garbage);
  } finally {
    await database.close();
  }
}

/** Makes snapshots that hold pages of their own, and deletes them. */
class Garbage {
  readonly database: Database;
  private readonly bench: HistoryBench;
  private readonly pages: number;
  private readonly tree: SeededTree;
  private generation = 0;

  constructor(database: Database, bench: HistoryBench, pages: number) {
    this.database = database;
    this.bench = bench;
    this.pages = pages;
    this.tree = new SeededTree(TREE_FILES, bench.seed);
  }

  async fill(): Promise<void> {
    await this.tree.put(this.database, this.tree.all(), 0);
  }

  /** Makes snapshots until they hold the pages that are asked for. */
  async make(): Promise<void> {
    const { database, tree, bench, pages } = this;
    const start = performance.now();
    while (await this.isLess()) {
      const number = ++this.generation;
      await database.transaction((transaction) => {
        for (const file of tree.draw(CHANGED_FILES, number))
          transaction.put(tree.pathOf(file), Buffer.alloc(CHANGED_BYTES, number));
      });
      await database.snapshots.create(`garbage-${number}`);
      // A snapshot is durable before its pages are written; what is not written is no garbage yet.
      await database.store.checkpoint();
    }
    bench.say(
      `${database.snapshots.list().length} snapshots hold ${pages} pages, after ${Math.round(performance.now() - start)} ms`,
    );
  }

  private async isLess(): Promise<boolean> {
    const { bytes, pageSize } = await this.database.status();
    return bytes.history / pageSize < this.pages;
  }

  /** From now on nobody holds the pages. */
  async drop(): Promise<void> {
    for (const { name } of this.database.snapshots.list()) await this.database.snapshots.delete(name);
  }
}

async function rate({ report, rounds }: HistoryBench, garbage: Garbage): Promise<void> {
  const freed: number[] = [];
  for (let round = 0; round < rounds; round++) {
    await garbage.make();
    const { database } = garbage;
    await database.store.checkpoint();
    // What comes free in the background while the snapshots are deleted is not of this measurement.
    await garbage.drop();
    const start = performance.now();
    const { pages } = await within(database.collections.start(true).done, 'a collection');
    report.add(RATE, OWN, pages / ((performance.now() - start) / 1000));
    freed.push(pages);
  }
  report.remark(RATE, `pages: ${freed.map((pages) => pages.toLocaleString('en')).join('; ')}`);
}

interface Window {
  /** Of each commit, in milliseconds. */
  readonly times: readonly number[];
  /** The part of the commits during which the collection ran, from 0 to 1. */
  readonly busy: number;
}

async function latency({ report, seed, isQuick, say }: HistoryBench, garbage: Garbage): Promise<void> {
  const { database } = garbage;
  const random = new Random(seed);
  const quiet: Window[] = [];
  const busy: Window[] = [];
  const windows = isQuick ? QUICK_WINDOWS : WINDOWS;
  for (let pair = 0; pair < windows; pair++) {
    await garbage.make();
    await database.store.checkpoint();
    quiet.push(await commits(database, random, () => false));
    await garbage.drop();
    const before = database.store.reclaimed.pages;
    const job = database.collections.start(false);
    busy.push(await commits(database, random, () => !job.isEnded));
    say(`${database.store.reclaimed.pages - before} pages came free during ${WINDOW_COMMITS} commits`);
    await within(job.done, 'a collection in the background');
  }
  const shares = busy.map(({ busy: part }) => `${Math.round(part * 100)} %`).join(', ');
  for (const [name, part] of Object.entries(PARTS)) {
    const title = latencyOf(name);
    for (const { times } of busy) report.add(title, OWN, quantile(times, part));
    for (const { times } of quiet) report.add(title, OTHERWISE, quantile(times, part));
    report.remark(
      title,
      `${windows} windows of ${WINDOW_COMMITS} each, in turn; collecting during ${shares} of the commits`,
    );
  }
}

async function commits(database: Database, random: Random, isBusy: () => boolean): Promise<Window> {
  const times: number[] = [];
  let busy = 0;
  for (let i = 0; i < WINDOW_COMMITS; i++) {
    const content = random.bytes(200);
    const start = performance.now();
    await database.put(`latency/file-${i % 100}`, content);
    times.push(performance.now() - start);
    if (isBusy()) busy++;
  }
  return { times, busy: busy / WINDOW_COMMITS };
}

/** What a promise gives, if that does not take for ever. */
async function within<Value>(promise: Promise<Value>, what: string): Promise<Value> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} takes too long`)), COLLECTION_TIMEOUT_MS);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
