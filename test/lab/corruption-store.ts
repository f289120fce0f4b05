/**
 * Stores to be damaged: each holds every kind of page, several versions, snapshots, an orphan, files with holes, and
 * a log; each is left either closed or as a crash leaves it. Made from a seed, with the model of every state.
 */
import { CONTROL_NAME, CONTROL_SLOT_SIZE, decodeControl } from '../../src/encoding/control.ts';
import {
  FRAME_ALIGNMENT,
  FRAME_HEADER_SIZE,
  FrameReader,
  frameSize,
  SEGMENT_HEADER_SIZE,
} from '../../src/encoding/frame.ts';
import type { PageSize } from '../../src/encoding/page.ts';
import { Database, type ServerOptions } from '../../src/plugin/database.ts';
import type { FaultHook, MemoryDirectory } from '../../src/storage/memory-device.ts';
import { MemoryDirectory as Memory } from '../../src/storage/memory-device.ts';
import { Store } from '../../src/store/store.ts';
import { segmentName } from '../../src/wal/segment.ts';
import { Random } from '../helpers/random.ts';
import { type ModelState, Scribe } from './corruption-model.ts';

export const SEGMENT_SIZE = 1024 * 1024;
/** LSN bytes of a checkpoint's own frame: what a control block witnesses to be durable behind its position. */
const CHECKPOINT_FRAME = frameSize(35);

export interface ByteRange {
  readonly file: string;
  readonly from: number;
  readonly to: number;
}

/** Bytes of the store that say, if they are whole, that the log was durable up to an LSN. */
export interface Witness extends ByteRange {
  readonly durableLsn: number;
}

export interface BuiltStore {
  readonly name: string;
  readonly pageSize: number;
  /** Left as a crash leaves it: there is a log to replay. */
  readonly isCrashed: boolean;
  readonly directory: MemoryDirectory;
  /** All states, in order of LSN. */
  readonly states: readonly ModelState[];
  /** What recovery of the undamaged store finds. */
  readonly endLsn: number;
  /** The newest LSN that somebody was told is durable. */
  readonly acknowledgedLsn: number;
  readonly witnesses: readonly Witness[];
  /** Where frames stand in the log's files. */
  readonly frames: readonly ByteRange[];
  /** Older contents of pages: page number → what stood there. */
  readonly olderPages: ReadonlyMap<number, Buffer>;
}

export interface StoreRecipe {
  readonly name: string;
  readonly pageSize: PageSize;
  /** Left as a crash leaves it, with a log to replay. */
  readonly crashed: boolean;
  /** A few files only, for damage of every byte. */
  readonly small?: boolean;
}

export const RECIPES: readonly StoreRecipe[] = [
  { name: 'closed-4096', pageSize: 4096, crashed: false },
  { name: 'crashed-4096', pageSize: 4096, crashed: true },
  { name: 'crashed-16384', pageSize: 16_384, crashed: true },
  { name: 'small-closed', pageSize: 4096, crashed: false, small: true },
  { name: 'small-crashed', pageSize: 4096, crashed: true, small: true },
];

/** A clock that ticks once an operation: the same store from the same seed, but for the store's own times. */
function server(): ServerOptions {
  let ticks = 0;
  return {
    mountpoint: null,
    background: 'caller',
    vfs: {
      now: (time) => {
        time.seconds = 1_700_000_000 + ++ticks;
        time.nanoseconds = ticks % 1_000_000_000;
      },
    },
  };
}

/** Opens a store of the laboratory. The cache is small, so that pages are read again and again. */
export function openDatabase(
  directory: MemoryDirectory,
  warn: (message: string) => void,
  readOnly = false,
): Promise<Database> {
  const settings = { atime: 'noatime', cacheSizeBytes: 1024 * 1024, commitIntervalMs: 3_600_000 } as const;
  return Database.over(directory, { settings, warn, readOnly }, server());
}

/** Reads a whole file of the directory. */
export function fileBytes(directory: MemoryDirectory, name: string): Buffer {
  const device = directory.open(name, { readOnly: true });
  const bytes = Buffer.alloc(device.size());
  device.read(0, bytes, 0, bytes.length);
  return bytes;
}

function noteOlderPages(directory: MemoryDirectory, pageSize: number, older: Map<number, Buffer>): FaultHook {
  const device = directory.open('data', { readOnly: true });
  return (operation, name, position, length) => {
    if (operation !== 'write' || name !== 'data') return;
    for (let at = position; at < position + length; at += pageSize) {
      const bytes = Buffer.alloc(pageSize);
      if (device.read(at, bytes, 0, pageSize) === pageSize && bytes.some((byte) => byte !== 0)) {
        older.set(at / pageSize, bytes);
      }
    }
  };
}

async function writeLargeHistory(scribe: Scribe, random: Random, pageSize: number): Promise<void> {
  const { database } = scribe;
  const { store } = database;
  const pages = (count: number): Buffer => random.bytes(Math.floor(count * pageSize));
  scribe.mkdir('/many');
  for (let i = 0; i < 120; i++) {
    scribe.create(`/many/${String(i).padStart(3, '0')}-${'name'.repeat(12)}`, random.bytes(i * 3));
  }
  await store.checkpoint();
  scribe.mkdir('/d');
  scribe.mkdir('/d/e');
  scribe.create('/d/logged', pages(2.5));
  scribe.create('/d/direct', pages(20));
  scribe.create('/d/e/mixed', pages(11.3));
  scribe.write('/d/e/mixed', 100, pages(9.7));
  scribe.create('/d/sparse', Buffer.from('start'));
  scribe.write('/d/sparse', 40 * pageSize + 77, pages(1.2));
  scribe.create('/d/allocated', pages(1));
  scribe.allocate('/d/allocated', 3 * pageSize, 4 * pageSize, false);
  scribe.write('/d/allocated', 4 * pageSize, Buffer.from('in the middle'));
  scribe.allocate('/d/logged', 5 * pageSize, 4 * pageSize, true);
  await store.checkpoint();
  scribe.symlink('/d/short', 'logged');
  scribe.symlink('/d/long', `/${'target/'.repeat(300)}`);
  scribe.link('/d/logged', '/d/e/hard');
  scribe.setXattr('/d/logged', 'user.small', Buffer.from('value'));
  scribe.setXattr('/d/logged', 'user.large', random.bytes(3 * pageSize));
  scribe.setXattr('/d', 'trusted.directory', random.bytes(40));
  scribe.create('/orphan', pages(3));
  scribe.create('/fragments', pages(60));
  for (let i = 1; i < 60; i += 2) scribe.punch('/fragments', i * pageSize, pageSize);
  await store.checkpoint();
  // As many snapshots as give their trees, and the list of versions, branches; page lifetimes come by themselves.
  for (let i = 0; i < 110; i++) {
    scribe.write('/d/e/hard', (i % 2) * pageSize + 10 + i, random.bytes(20));
    await scribe.snapshot(`snapshot-${String(i).padStart(3, '0')}-${'long'.repeat(10)}`);
    if (i % 10 === 9) await store.checkpoint();
  }
  await scribe.deleteSnapshot(`snapshot-005-${'long'.repeat(10)}`);
  // Free places with used ones between them: no ordinary life of so small a store makes enough for a branch.
  const { catalog, freeSpace } = store.inspect();
  const first = freeSpace.allocate(500);
  for (let i = 0; i < 500; i++) {
    if (i % 2 === 0) freeSpace.free(first + i, 1);
    else catalog.addLifetime({ page: first + i, count: 1, birth: 1 + i, death: 1 + i });
  }
  scribe.rename('/d/direct', '/many/direct');
  scribe.unlink(`/many/007-${'name'.repeat(12)}`);
  scribe.truncate('/d/e/mixed', 5 * pageSize + 9);
  await store.checkpoint();
  scribe.unlink('/orphan', true);
  scribe.write('/many/direct', 2 * pageSize, pages(9));
  await store.checkpoint();
}

async function writeSmallHistory(scribe: Scribe, random: Random, pageSize: number): Promise<void> {
  const { store } = scribe.database;
  scribe.mkdir('/d');
  scribe.create('/d/inline', Buffer.from('a little content'));
  scribe.create('/d/logged', random.bytes(pageSize + 100));
  await scribe.snapshot('first');
  await store.checkpoint();
  scribe.create('/direct', random.bytes(8 * pageSize));
  scribe.setXattr('/direct', 'user.x', Buffer.from('y'));
  scribe.symlink('/d/link', 'inline');
  scribe.create('/orphan', random.bytes(pageSize + 1));
  scribe.unlink('/orphan', true);
  await store.checkpoint();
  scribe.write('/d/logged', 17, Buffer.from('changed'));
  await store.checkpoint();
}

/** The log after the last checkpoint: some of it durable, some of it witnessed, some neither. */
async function writeTail(scribe: Scribe, random: Random, pageSize: number, small: boolean): Promise<number> {
  const { database } = scribe;
  const count = small ? 3 : 12;
  let acknowledged = 0;
  for (let i = 0; i < count; i++) {
    scribe.create(`/d/tail-${i}`, random.bytes(50 + 100 * i));
    if (!small) {
      scribe.write('/d/allocated', i * 500, random.bytes(900));
      if (i === 3) scribe.create('/d/tail-direct', random.bytes(12 * pageSize));
      if (i === 5) await scribe.snapshot('in the tail');
      if (i === 6) scribe.unlink('/d/tail-2');
    }
    if (i % 3 === 1) acknowledged = (await database.commit()).lsn;
  }
  if (!small) scribe.create('/d/tail-last', random.bytes(10 * pageSize));
  database.store.log.flushToFiles();
  return acknowledged;
}

function witnessesOf(directory: MemoryDirectory): { witnesses: Witness[]; frames: ByteRange[] } {
  const witnesses: Witness[] = [];
  const frames: ByteRange[] = [];
  const control = fileBytes(directory, CONTROL_NAME);
  let storeId: Uint8Array | undefined;
  for (const slot of [0, 1]) {
    const from = slot * CONTROL_SLOT_SIZE;
    const bytes = control.subarray(from, from + CONTROL_SLOT_SIZE);
    if (bytes.every((byte) => byte === 0)) continue;
    const block = decodeControl(bytes);
    storeId = block.storeId;
    const durableLsn = block.checkpoint.position + (block.checkpoint.position > 64 ? CHECKPOINT_FRAME : 0);
    witnesses.push({ file: CONTROL_NAME, from, to: from + CONTROL_SLOT_SIZE, durableLsn });
  }
  const reader = new FrameReader(storeId!);
  const names = directory.list('wal');
  for (let index = 0; index < names.length; index++) {
    const file = segmentName(index, SEGMENT_SIZE);
    const bytes = fileBytes(directory, file);
    let at = SEGMENT_HEADER_SIZE;
    while (at + FRAME_HEADER_SIZE <= bytes.length) {
      if (reader.parse(bytes, at, index * SEGMENT_SIZE + at, bytes.length - at) !== undefined) {
        at += FRAME_ALIGNMENT;
        continue;
      }
      frames.push({ file, from: at, to: at + reader.size });
      witnesses.push({ file, from: at, to: at + reader.size, durableLsn: reader.durableLsn });
      at += reader.size;
    }
  }
  return { witnesses, frames };
}

/** Makes a store by its recipe. */
export async function buildStore(recipe: StoreRecipe, seed: number): Promise<BuiltStore> {
  const random = new Random(seed);
  const { pageSize, small = false } = recipe;
  const live = new Memory(recipe.name);
  Store.initialize(live, { pageSize, segmentSize: SEGMENT_SIZE, settings: { atime: 'noatime' } });
  const olderPages = new Map<number, Buffer>();
  live.fault = noteOlderPages(live, pageSize, olderPages);
  const warn = (message: string): void => {
    throw new Error(`while the store was made: ${message}`);
  };
  const database = await openDatabase(live, warn);
  const scribe = new Scribe(database);
  if (small) await writeSmallHistory(scribe, random, pageSize);
  else await writeLargeHistory(scribe, random, pageSize);
  let acknowledgedLsn = database.lsn;
  let directory: MemoryDirectory;
  if (recipe.crashed) {
    acknowledgedLsn = await writeTail(scribe, random, pageSize, small);
    directory = live.clone();
    await database.store.log.close();
  } else {
    await database.close();
    acknowledgedLsn = database.lsn;
    directory = live.clone();
  }
  const pristine = await openDatabase(directory.clone(), warn);
  const { endLsn } = pristine.store.recovered;
  await pristine.close();
  return {
    name: recipe.name,
    pageSize,
    isCrashed: recipe.crashed,
    directory,
    states: scribe.states,
    endLsn,
    acknowledgedLsn,
    olderPages,
    ...witnessesOf(directory),
  };
}
