/**
 * One engine in a process of its own, so that its memory can be told: `node engine-worker.js OPTIONS` (JSON) does all rows
 * that are wanted on an empty directory, and prints a JSON line for each.
 */
import * as fs from 'node:fs';
import { join } from 'node:path';
import { Random } from '../test/helpers/random.ts';
import { ENGINE_ROWS, type EngineRow, SMALL_FILE_ROWS } from './engine-rows.ts';
import { AGENTFS, type Engine, type FileStoreName, openEngine, openFileStore } from './engines.ts';
import { noise, quantile, residentMaximum } from './measure.ts';

export interface WorkerOptions {
  readonly engine: FileStoreName;
  readonly directory: string;
  /** How many there are, of a path and a value each. */
  readonly entries: number;
  readonly seed: number;
  /** Titles of the rows that are wanted. */
  readonly rows: readonly string[];
  /** How much is done of what can be done for ever. */
  readonly share: number;
}

export interface WorkerLine {
  readonly row: string;
  readonly value?: number;
  /** Why there is none. */
  readonly failure?: string;
}

const BATCH = 1000;
const DIRECTORY_FILES = 50;
const VALUE_BYTES = 200;
const cacheBytes = 256 * 1024 * 1024;
/** Bytes of a path and its value, about, for caches of a part of the data. */
const ENTRY_BYTES = 260;

const options = JSON.parse(process.argv[2]!) as WorkerOptions;
const { entries, seed } = options;
const random = new Random(seed);

/** A tree as projects have it: a few levels, 50 files in a directory, names that begin alike. */
function pathOf(file: number): string {
  const directory = Math.floor(file / DIRECTORY_FILES);
  const project = Math.floor(directory / 400);
  const module = Math.floor(directory / 20) % 20;
  return `projects/project-${String(project).padStart(4, '0')}/src/module-${String(module).padStart(2, '0')}/component-${String(directory % 20).padStart(2, '0')}/file-${String(file % DIRECTORY_FILES).padStart(2, '0')}.ts`;
}

function directoryOf(file: number): string {
  const path = pathOf(file);
  return path.slice(0, path.lastIndexOf('/'));
}

/** Another content for each file and generation: an engine must not get away with writing what is there already. */
function contentOf(file: number, generation: number): Uint8Array {
  return noise(VALUE_BYTES, Math.imul(file + 1, 0x9e3779b1) ^ Math.imul(generation + 1, 0x85ebca6b) ^ seed);
}

function shuffled(count: number): Uint32Array {
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1; i > 0; i--) {
    const other = random.below(i + 1);
    [order[i], order[other]] = [order[other]!, order[i]!];
  }
  return order;
}

function say(line: WorkerLine): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

const wanted = new Set(options.rows);

async function row(title: EngineRow, work: () => Promise<number>): Promise<void> {
  if (!wanted.has(title)) return;
  try {
    say({ row: title, value: await work() });
  } catch (error) {
    say({ row: title, failure: (error as Error).message });
  }
}

/** Seconds that it takes. */
async function seconds(work: () => unknown): Promise<number> {
  const start = performance.now();
  await work();
  return (performance.now() - start) / 1000;
}

/** Seconds that it takes; what is loaded is made in between, batch by batch, and not measured. */
async function load(engine: Engine, order: ArrayLike<number>): Promise<number> {
  let took = 0;
  for (let start = 0; start < order.length; start += BATCH) {
    const length = Math.min(BATCH, order.length - start);
    const batch = Array.from(
      { length },
      (_, i) => [pathOf(order[start + i]!), contentOf(order[start + i]!, 0)] as const,
    );
    took += await seconds(() => engine.load(batch));
  }
  return took;
}

/** Gets a second. Whoever answers with a promise is awaited. */
async function gets(engine: Engine, count: number): Promise<number> {
  const paths = Array.from({ length: count }, () => pathOf(random.below(entries)));
  let bytes = 0;
  const took = await seconds(async () => {
    for (const path of paths) {
      const got = engine.get(path);
      bytes += (got instanceof Promise ? await got : got)!.length;
    }
  });
  if (bytes !== count * VALUE_BYTES) throw new Error(`gets read ${bytes} bytes of ${count * VALUE_BYTES}`);
  return count / took;
}

const many = (count: number): number => Math.max(100, Math.floor(count * options.share));
const place = (name: string): string => join(options.directory, name);

/** Files one after the other, as programs have them; of directories as small as of all engines. */
async function smallFiles(): Promise<void> {
  const store = await openFileStore(options.engine, { directory: place('small'), cacheBytes });
  const paths = Array.from({ length: many(2000) }, (_, i) => pathOf(i));
  const parents = paths.map((_, i) => directoryOf(i));
  /** How many a second. Whether it is wanted or not: what is written is asked for later. */
  const each = async (
    title: EngineRow,
    items: readonly string[],
    work: (item: string, i: number) => unknown,
  ): Promise<void> => {
    const rate = seconds(async () => {
      for (const [i, item] of items.entries()) {
        const done = work(item, i);
        if (done instanceof Promise) await done;
      }
    }).then((took) => items.length / took);
    await rate.catch(() => undefined);
    await row(title, () => rate);
  };
  await each(ENGINE_ROWS.fileWrite, paths, (path, i) => store.put(path, contentOf(i, 0)));
  await each(ENGINE_ROWS.fileStat, paths, (path) => {
    if (store.stat === undefined) throw new Error('it keeps no attributes');
    return store.stat(path);
  });
  await each(ENGINE_ROWS.fileRead, paths, (path) => store.get(path));
  await each(ENGINE_ROWS.fileList, parents, (parent) => store.list(parent));
  await each(ENGINE_ROWS.fileRemove, paths, (path) => store.remove(path));
  await store.close();
  fs.rmSync(place('small'), { recursive: true });
}

const { engine: name } = options;
if (SMALL_FILE_ROWS.some((title) => wanted.has(title))) await smallFiles();
if (name === AGENTFS) process.exit();

if (wanted.has(ENGINE_ROWS.loadSorted)) {
  const engine = await openEngine(name, { directory: place('sorted'), cacheBytes });
  const order = Uint32Array.from({ length: entries }, (_, i) => i);
  await row(ENGINE_ROWS.loadSorted, async () => entries / (await load(engine, order)));
  await engine.close();
  fs.rmSync(place('sorted'), { recursive: true });
}

// The rest works on one engine that is full.
const apart: readonly string[] = [ENGINE_ROWS.loadSorted, ...SMALL_FILE_ROWS];
if (options.rows.every((title) => apart.includes(title))) process.exit();

let engine = await openEngine(name, { directory: place('main'), cacheBytes });
const loaded = entries / (await load(engine, shuffled(entries)));
await row(ENGINE_ROWS.loadShuffled, async () => loaded);
await engine.sync();

await row(ENGINE_ROWS.get, async () => {
  await gets(engine, many(50_000));
  return gets(engine, many(300_000));
});
await row(ENGINE_ROWS.scan, async () => {
  const count = async () => {
    const scanned = await engine.scan();
    if (scanned.count !== entries) throw new Error(`a scan saw ${scanned.count} of ${entries}`);
  };
  await count();
  return entries / (await seconds(count));
});
await row(ENGINE_ROWS.list, async () => {
  const directories = Array.from({ length: many(20_000) }, () => directoryOf(random.below(entries)));
  const took = await seconds(async () => {
    for (const directory of directories) {
      const names = engine.list(directory);
      const { length } = names instanceof Promise ? await names : names;
      if (length !== DIRECTORY_FILES) throw new Error(`${directory} has ${length} entries`);
    }
  });
  return directories.length / took;
});
await row(ENGINE_ROWS.put, async () => {
  const count = many(5000);
  const took = await seconds(async () => {
    for (let i = 0; i < count; i++) {
      const file = random.below(entries);
      await engine.put(pathOf(file), contentOf(file, 1 + i));
    }
  });
  return count / took;
});
await row(ENGINE_ROWS.concurrent, async () => {
  const rounds = Math.max(1, Math.round(10 * options.share));
  let took = 0;
  for (let round = 0; round < rounds; round++) {
    const puts = Array.from(
      { length: 2000 },
      (_, i) => [random.below(entries), 10_000 + round * 2000 + i] as const,
    );
    took += await seconds(() =>
      Promise.all(puts.map(([file, n]) => engine.put(pathOf(file), contentOf(file, n)))),
    );
  }
  return (rounds * 2000) / took;
});

if (wanted.has(ENGINE_ROWS.backup) || wanted.has(ENGINE_ROWS.backupLatency)) {
  // Durable puts go on, one after the other, while a backup is made.
  const latencies: number[] = [];
  let backups: number[] | Error = [];
  let isDone = false;
  const writing = (async () => {
    for (let i = 0; !isDone; i++) {
      const file = random.below(entries);
      const start = performance.now();
      await engine.put(pathOf(file), contentOf(file, 100_000 + i));
      latencies.push(performance.now() - start);
      // Others have a turn too, also beside an engine that never waits.
      await new Promise((resolve) => setImmediate(resolve));
    }
  })();
  try {
    for (let i = 0; i < 3; i++) backups.push((await seconds(() => engine.backup(i))) * 1000);
  } catch (error) {
    backups = error as Error;
  }
  isDone = true;
  await writing;
  const result = backups;
  const failOr = (value: (times: number[]) => number) => async (): Promise<number> => {
    if (result instanceof Error) throw result;
    return value(result);
  };
  await row(
    ENGINE_ROWS.backup,
    failOr((times) => quantile(times, 0.5)),
  );
  await row(
    ENGINE_ROWS.backupLatency,
    failOr(() => Math.max(...latencies)),
  );
}

await row(ENGINE_ROWS.memory, async () => residentMaximum('self'));
await engine.sync();
await engine.close();

if (wanted.has(ENGINE_ROWS.getCold)) {
  engine = await openEngine(name, {
    directory: place('main'),
    cacheBytes: (entries * ENTRY_BYTES) / 10,
  });
  await row(ENGINE_ROWS.getCold, async () => {
    await gets(engine, many(50_000));
    return gets(engine, many(100_000));
  });
  await engine.close();
}

if (wanted.has(ENGINE_ROWS.space) || wanted.has(ENGINE_ROWS.pinned)) {
  engine = await openEngine(name, { directory: place('main'), cacheBytes, keepsNothing: true });
  await engine.compact?.();
  let [grown, pinned] = [Number.NaN, Number.NaN];
  await row(ENGINE_ROWS.space, async () => {
    const before = engine.fileBytes();
    const reader = engine.snapshot();
    if (reader === undefined) throw new Error('it has no snapshots to read');
    const probe = pathOf(7);
    const was = Buffer.from(reader.get(probe)!);
    for (let i = 0; i < 40_000; i += BATCH) {
      await engine.load(
        Array.from({ length: BATCH }, (_, j) => {
          const file = random.below(entries);
          return [pathOf(file), contentOf(file, 200_000 + i + j)] as const;
        }),
      );
      await engine.sync();
    }
    await engine.rest?.();
    grown = engine.fileBytes() - before;
    pinned = (await engine.pinnedBytes?.()) ?? Number.NaN;
    if (!was.equals(Buffer.from(reader.get(probe)!)))
      throw new Error('what the old reader reads has changed');
    reader.close();
    return grown / 2 ** 20;
  });
  await row(ENGINE_ROWS.pinned, async () => {
    if (Number.isNaN(pinned)) throw new Error('it does not tell what a reader pins');
    return grown / pinned;
  });
  await engine.close();
}
