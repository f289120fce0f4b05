/**
 * Stores of values by path, all with the same face: lsnfs through its API, and what a program would embed instead, each
 * as its own documentation says that it is fastest.
 *
 * The peers are dependencies of bench/package.json only. They are loaded by name at run time: one that is not installed is
 * reported as missing.
 */
import * as fs from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import type { Database } from '../src/index.ts';
import { initialize, open } from '../src/index.ts';
import { KEEP_NOTHING } from '../test/helpers/retention-settings.ts';
import { diskBytes } from './measure.ts';

export interface EngineOptions {
  readonly directory: string;
  /** What it may keep in memory, where it can be told. */
  readonly cacheBytes: number;
  /** Whether lsnfs keeps nothing of the past but what a reader has open, as the others do. Default: no. */
  readonly keepsNothing?: boolean;
}

export interface Reader {
  get(path: string): Uint8Array | undefined;
  close(): void;
}

/** What all have, a file system behind an API as well. */
export interface FileStore {
  /** Resolves when it is on stable storage. */
  put(path: string, value: Uint8Array): Promise<void>;
  get(path: string): Uint8Array | undefined | Promise<Uint8Array | undefined>;
  /** Names in a directory. */
  list(directory: string): string[] | Promise<string[]>;
  /** Attributes, for whoever has them. */
  stat?(path: string): unknown;
  /** Resolves when that is on stable storage. */
  remove(path: string): Promise<void>;
  close(): Promise<void>;
}

export interface Engine extends FileStore {
  /** Puts all of it in one transaction, or batch, that is not synced. */
  load(entries: Iterable<readonly [path: string, value: Uint8Array]>): Promise<void>;
  /** Resolves when everything is on stable storage. */
  sync(): Promise<void>;
  /** Visits every value below everything, in order. Returns how many, and their bytes. */
  scan(): Promise<{ count: number; bytes: number }>;
  /** A state that stays as it is, to be read, or undefined when it has none. */
  snapshot(): Reader | undefined;
  /** Makes a consistent copy, or snapshot, of everything while others write. `number` tells them apart. */
  backup(number: number): Promise<void>;
  /** Bytes of its files. */
  fileBytes(): number;
  /** Writes to its files what it still holds back although it is on stable storage, in a log. */
  rest?(): Promise<void>;
  /** Takes free space out of its files, so that what they grow by can be told. */
  compact?(): Promise<void>;
  /** Bytes of what only its readers hold, if it can tell. */
  pinnedBytes?(): Promise<number>;
}

export const ENGINE_NAMES = ['lsnfs', 'lmdb', 'better-sqlite3', 'classic-level'] as const;
export type EngineName = (typeof ENGINE_NAMES)[number];
/** A file system in a database, without transactions of several files. */
export const AGENTFS = 'agentfs-sdk';
export type FileStoreName = EngineName | typeof AGENTFS;

const require = createRequire(
  // What is compiled lies in dist/bench/.
  fileURLToPath(
    new URL(import.meta.url.endsWith('.ts') ? './package.json' : '../../bench/package.json', import.meta.url),
  ),
);

/** Why an engine cannot be measured, or undefined. */
export async function whyNotEngine(name: FileStoreName): Promise<string | undefined> {
  if (name === 'lsnfs') return undefined;
  try {
    if (name === AGENTFS) await loadAgentFs();
    else require(name);
    return undefined;
  } catch (error) {
    return `not installed (npm install --prefix bench): ${(error as Error).message.split('\n')[0]}`;
  }
}

export async function openFileStore(name: FileStoreName, options: EngineOptions): Promise<FileStore> {
  if (name !== AGENTFS) return openEngine(name, options);
  fs.mkdirSync(options.directory, { recursive: true });
  return openAgentFs(options);
}

export function openEngine(name: EngineName, options: EngineOptions): Promise<Engine> {
  fs.mkdirSync(options.directory, { recursive: true });
  switch (name) {
    case 'lsnfs':
      return openLsnfs(options);
    case 'lmdb':
      return openLmdb(options);
    case 'better-sqlite3':
      return openSqlite(options);
    case 'classic-level':
      return openLevel(options);
  }
}

async function openLsnfs({ directory, cacheBytes, keepsNothing }: EngineOptions): Promise<Engine> {
  const store = join(directory, 'store');
  if (!fs.existsSync(store)) await initialize(store);
  const nothing = keepsNothing === true ? KEEP_NOTHING : {};
  const database: Database = await open(store, { settings: { cacheSizeBytes: cacheBytes, ...nothing } });
  return {
    load: async (entries) => {
      await database.transaction(
        (transaction) => {
          for (const [path, value] of entries) transaction.put(path, value);
        },
        { sync: false },
      );
    },
    sync: async () => {
      await database.commit();
    },
    put: async (path, value) => {
      await database.put(path, value);
    },
    get: (path) => database.get(path),
    scan: async () => {
      let [count, bytes] = [0, 0];
      for (const { content } of database.files()) {
        count++;
        bytes += content.length;
      }
      return { count, bytes };
    },
    list: (path) => database.list(path).map(({ name }) => name),
    stat: (path) => database.stat(path),
    remove: async (path) => {
      await database.delete(path);
    },
    snapshot: () => database.at(database.lsn),
    backup: async (number) => {
      await database.snapshots.create(`backup-${number}`);
    },
    // Without the log, which is bounded and may have been longer before.
    fileBytes: () => fs.statSync(join(store, 'data')).blocks * 512,
    rest: () => database.store.checkpoint(),
    compact: async () => {
      await database.collections.start(true).done;
      await database.compactions.start(true).done;
    },
    pinnedBytes: async () => {
      // Pages of versions that nobody keeps come free first.
      await database.collections.start(true).done;
      await database.store.checkpoint();
      return (await database.status()).bytes.history;
    },
    close: () => database.close(),
  };
}

/** What is used of lmdb. */
interface Lmdb {
  put(key: string, value: Uint8Array): Promise<boolean>;
  remove(key: string): Promise<boolean>;
  get(key: string, options?: object): Uint8Array | undefined;
  getBinary(key: string): Buffer | undefined;
  getRange(options: object): Iterable<{ key: string; value: Uint8Array }>;
  getKeys(options: object): Iterable<string>;
  transactionSync(work: () => void): void;
  useReadTransaction(): { done(): void };
  backup(path: string): Promise<void>;
  close(): Promise<void>;
  readonly flushed: Promise<boolean>;
}

async function openLmdb({ directory }: EngineOptions): Promise<Engine> {
  const lmdb = require('lmdb') as { open(options: object): Lmdb };
  const path = join(directory, 'data.mdb');
  const database = lmdb.open({ path, encoding: 'binary', mapSize: 8 * 1024 ** 3 });
  return {
    load: async (entries) => {
      database.transactionSync(() => {
        for (const [key, value] of entries) void database.put(key, value);
      });
    },
    sync: async () => {
      await database.flushed;
    },
    put: async (key, value) => {
      await database.put(key, value);
      await database.flushed;
    },
    get: (key) => database.get(key),
    scan: async () => {
      let [count, bytes] = [0, 0];
      for (const { value } of database.getRange({})) {
        count++;
        bytes += value.length;
      }
      return { count, bytes };
    },
    remove: async (key) => {
      await database.remove(key);
      await database.flushed;
    },
    list: (parent) =>
      Array.from(database.getKeys({ start: `${parent}/`, end: `${parent}0` }), (key) =>
        key.slice(parent.length + 1),
      ),
    snapshot: () => {
      const transaction = database.useReadTransaction();
      return {
        get: (key) => database.get(key, { transaction }),
        close: () => transaction.done(),
      };
    },
    backup: (number) => database.backup(join(directory, `backup-${number}`)),
    fileBytes: () => fs.statSync(path).blocks * 512,
    close: () => database.close(),
  };
}

/** What is used of better-sqlite3. */
interface Sqlite {
  pragma(text: string): unknown;
  exec(text: string): void;
  prepare(text: string): {
    run(...values: unknown[]): void;
    get(...values: unknown[]): unknown;
    iterate(...values: unknown[]): Iterable<unknown>;
    all(...values: unknown[]): unknown[];
    pluck(): ReturnType<Sqlite['prepare']>;
  };
  close(): void;
}

async function openSqlite({ directory, cacheBytes }: EngineOptions): Promise<Engine> {
  const Constructor = require('better-sqlite3') as new (path: string) => Sqlite;
  const path = join(directory, 'data.db');
  const connect = (): Sqlite => {
    const connection = new Constructor(path);
    connection.pragma('journal_mode = WAL');
    connection.pragma('synchronous = FULL');
    connection.pragma(`cache_size = -${Math.floor(cacheBytes / 1024)}`);
    return connection;
  };
  const database = connect();
  database.exec('CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID');
  const put = database.prepare('INSERT OR REPLACE INTO files VALUES (?, ?)');
  const remove = database.prepare('DELETE FROM files WHERE path = ?');
  const get = database.prepare('SELECT value FROM files WHERE path = ?').pluck();
  const all = database.prepare('SELECT path, value FROM files ORDER BY path');
  const list = database.prepare('SELECT path FROM files WHERE path >= ? AND path < ?').pluck();
  return {
    load: async (entries) => {
      database.exec('BEGIN');
      for (const [key, value] of entries) put.run(key, value);
      database.exec('COMMIT');
    },
    sync: async () => {},
    put: async (key, value) => put.run(key, value),
    remove: async (key) => remove.run(key),
    get: (key) => get.get(key) as Uint8Array | undefined,
    scan: async () => {
      let [count, bytes] = [0, 0];
      for (const row of all.iterate()) {
        count++;
        bytes += (row as { value: Uint8Array }).value.length;
      }
      return { count, bytes };
    },
    list: (parent) =>
      (list.all(`${parent}/`, `${parent}0`) as string[]).map((key) => key.slice(parent.length + 1)),
    snapshot: () => {
      const reader = connect();
      reader.exec('BEGIN');
      const past = reader.prepare('SELECT value FROM files WHERE path = ?').pluck();
      past.get('');
      return {
        get: (key) => past.get(key) as Uint8Array | undefined,
        close: () => reader.close(),
      };
    },
    backup: async (number) => {
      database.prepare('VACUUM INTO ?').run(join(directory, `backup-${number}`));
    },
    fileBytes: () =>
      ['', '-wal'].reduce(
        (sum, end) => sum + (fs.statSync(path + end, { throwIfNoEntry: false })?.blocks ?? 0),
        0,
      ) * 512,
    close: async () => database.close(),
  };
}

/** What is used of classic-level. */
interface Level {
  open(): Promise<void>;
  put(key: string, value: Uint8Array, options?: object): Promise<void>;
  del(key: string, options?: object): Promise<void>;
  getSync(key: string, options?: object): Uint8Array | undefined;
  batch(operations: object[], options?: object): Promise<void>;
  iterator(options?: object): AsyncIterable<[string, Uint8Array]> & {
    nextv(count: number): Promise<[string, Uint8Array][]>;
    close(): Promise<void>;
  };
  keys(options: object): { all(): Promise<string[]> };
  snapshot(): { close(): Promise<void> };
  close(): Promise<void>;
}

async function openLevel({ directory, cacheBytes }: EngineOptions): Promise<Engine> {
  const { ClassicLevel } = require('classic-level') as {
    ClassicLevel: new (path: string, options: object) => Level;
  };
  const path = join(directory, 'level');
  const database = new ClassicLevel(path, {
    valueEncoding: 'view',
    cacheSize: cacheBytes,
    compression: false,
  });
  await database.open();
  return {
    load: async (entries) => {
      await database.batch(Array.from(entries, ([key, value]) => ({ type: 'put', key, value })));
    },
    // The log of what was written before is synced with it.
    sync: () => database.put('~', new Uint8Array(), { sync: true }),
    put: (key, value) => database.put(key, value, { sync: true }),
    remove: (key) => database.del(key, { sync: true }),
    get: (key) => database.getSync(key),
    scan: async () => {
      let [count, bytes] = [0, 0];
      const iterator = database.iterator();
      for (let rows = await iterator.nextv(1000); rows.length > 0; rows = await iterator.nextv(1000)) {
        for (const [key, value] of rows) {
          if (key === '~') continue;
          count++;
          bytes += value.length;
        }
      }
      await iterator.close();
      return { count, bytes };
    },
    list: async (parent) =>
      (await database.keys({ gte: `${parent}/`, lt: `${parent}0` }).all()).map((key) =>
        key.slice(parent.length + 1),
      ),
    snapshot: () => {
      const snapshot = database.snapshot();
      return {
        get: (key) => database.getSync(key, { snapshot }),
        close: () => void snapshot.close(),
      };
    },
    // It has none but a copy by hand, which says nothing of the engine.
    backup: () => Promise.reject(new Error('it has no consistent backup')),
    fileBytes: () => diskBytes(path),
    close: () => database.close(),
  };
}

/** What is used of agentfs-sdk. */
interface AgentFs {
  readonly fs: {
    writeFile(path: string, content: Buffer): Promise<void>;
    readFile(path: string): Promise<Buffer>;
    readdir(path: string): Promise<string[]>;
    stat(path: string): Promise<object>;
    unlink(path: string): Promise<void>;
  };
  close(): Promise<void>;
}

/** It is an ES module, which Node 20 does not load by `require`. */
async function loadAgentFs(): Promise<{ open(options: object): Promise<AgentFs> }> {
  const { AgentFS } = await import(pathToFileURL(require.resolve(AGENTFS)).href);
  return AgentFS;
}

async function openAgentFs({ directory }: EngineOptions): Promise<FileStore> {
  const database = await (await loadAgentFs()).open({ path: join(directory, 'agent.db') });
  return {
    put: (path, value) => database.fs.writeFile(path, value as Buffer),
    get: (path) => database.fs.readFile(path),
    list: (path) => database.fs.readdir(path),
    stat: (path) => database.fs.stat(path),
    remove: (path) => database.fs.unlink(path),
    close: () => database.close(),
  };
}
