/** Bytes with right checksums that no program of ours wrote: each case is one that the fuzzers found. */
import test from 'ava';
import { BTree } from '../../src/btree/btree.ts';
import {
  decodeLifetime,
  decodeVersionRow,
  encodeLifetime,
  encodeVersionRow,
} from '../../src/encoding/catalog.ts';
import { validateExtents } from '../../src/encoding/extent.ts';
import { extentKey, inodeKey } from '../../src/encoding/keys.ts';
import { PAGE_HEADER_SIZE, sealPage } from '../../src/encoding/page.ts';
import { RecordWriter } from '../../src/encoding/record.ts';
import { decodeVersionRoot, encodeVersionRoot } from '../../src/encoding/root.ts';
import { Database } from '../../src/plugin/database.ts';
import { MemoryDirectory } from '../../src/storage/memory-device.ts';
import { PageCache } from '../../src/storage/page-cache.ts';
import { applyTransaction } from '../../src/store/apply.ts';
import { parseSettings } from '../../src/store/settings.ts';
import { Store } from '../../src/store/store.ts';
import { TreeState } from '../../src/store/tree-state.ts';
import { ROOT_CALLER } from '../../src/vfs/file-system.ts';
import { MemoryPageSpace } from '../helpers/memory-page-space.ts';

function emptyState(): TreeState {
  const device = new MemoryDirectory().open('data', { create: true });
  return new TreeState(new PageCache(device, 4096, 1 << 20), TreeState.empty(64, 0), true);
}

const IMPOSSIBLE: [string, (writer: RecordWriter) => void][] = [
  ['an entry of the catalog', (w) => w.put(4, Buffer.alloc(8), Buffer.alloc(18))],
  ['an extent that is put', (w) => w.put(2, extentKey(1, 0), Buffer.alloc(16))],
  ['an extent that is deleted', (w) => w.delete(2, extentKey(1, 0))],
  ['an entry that fits no page', (w) => w.put(1, Buffer.alloc(9), Buffer.alloc(1400))],
  ['an inode beyond the last', (w) => w.put(2, inodeKey(2 ** 40), Buffer.alloc(80))],
  ['a write beyond the last byte', (w) => w.write(1, 2 ** 50, Buffer.from('x'), 0, 1)],
  ['a run without a place', (w) => w.map(1, 0, 2 ** 47, 1, [0])],
  ['page 0', (w) => w.map(1, 0, 0, 1, [0])],
  ['blocks beyond the last', (w) => w.map(1, 2 ** 48, 5, 1, [0])],
  ['a hole of an inode beyond the last', (w) => w.unmap(2 ** 50, 0, 1)],
  ['more blocks than one record may set aside', (w) => w.allocate(1, 0, 2 ** 40)],
  ['an inode number beyond the last', (w) => w.nextInode(2 ** 50)],
  ['a snapshot that fits no page', (w) => w.snapshot('n', 0, 'm'.repeat(4000))],
];

for (const [what, write] of IMPOSSIBLE) {
  test(`a record that cannot be is refused: ${what}`, (t) => {
    const writer = new RecordWriter(8192);
    write(writer);
    const payload = writer.bytes.subarray(0, writer.length);
    t.throws(() => applyTransaction(emptyState(), payload, 64, 200, 0), { code: 'CORRUPT_RECORD' });
  });
}

test('a run of 1,024 pages, as the format has it, becomes extents', (t) => {
  const writer = new RecordWriter(8192);
  writer.map(1, 0, 5, 1024, new Uint32Array(1024));
  const state = emptyState();
  applyTransaction(state, writer.bytes.subarray(0, writer.length), 64, 200, 0);
  t.is(state.counters.dataPages, 1024);
  t.is(state.seekHole(1, 0), 1024 * 4096);
});

test('an extent in a page from disk that names no place, or lies about its length, is refused', (t) => {
  const space = new MemoryPageSpace();
  const tree = new BTree(space, 2, { number: 0, lsn: 0, checksum: 0 }, 0);
  const value = Buffer.alloc(20);
  value.writeUInt16LE(1, 6);
  for (const page of [7n, (1n << 47n) - 1n]) {
    value.writeBigUInt64LE(page | (1n << 48n), 0);
    tree.put(extentKey(1, 0), value);
    t.notThrows(() => validateExtents(space.pages.get(tree.root.number)!.bytes));
  }
  for (const page of [1n << 47n, (1n << 48n) - 1n]) {
    value.writeBigUInt64LE(page | (1n << 48n), 0);
    tree.put(extentKey(1, 0), value);
    t.throws(() => validateExtents(space.pages.get(tree.root.number)!.bytes), { code: 'CORRUPT_PAGE' });
  }
  value.writeBigUInt64LE(7n | (2n << 48n), 0);
  tree.put(extentKey(1, 0), value);
  t.throws(() => validateExtents(space.pages.get(tree.root.number)!.bytes), { code: 'CORRUPT_PAGE' });
});

test('numbers that are not exact, in roots and in keys of the catalog', (t) => {
  const bytes = Buffer.alloc(4096);
  const tree = { number: 3, lsn: 64, checksum: 5, pageCount: 1 };
  const trees = { namespace: tree, inodes: tree, registry: tree };
  encodeVersionRoot(bytes, {
    lsn: 64,
    timeMicroseconds: 1,
    ...trees,
    nextInode: 1,
    inodeCount: 1,
    dataPages: 1,
  });
  bytes.writeBigUInt64LE(1n << 60n, PAGE_HEADER_SIZE);
  sealPage(bytes, 3, 64);
  const error = t.throws(() => decodeVersionRoot(bytes, 3), { code: 'CORRUPT_PAGE' });
  t.like(error, { details: { page: 3, offset: 3 * 4096 } });
  const key = Buffer.alloc(22, 0xff);
  t.throws(() => decodeLifetime(key, encodeLifetime(1)), { code: 'CORRUPT_RECORD' });
  const row = encodeVersionRow({
    lsn: 64,
    timeMicroseconds: 1,
    root: { number: 1, lsn: 64, checksum: 1 },
    dropped: false,
    restored: false,
  });
  t.throws(() => decodeVersionRow(key.subarray(0, 8), row), { code: 'CORRUPT_RECORD' });
});

test('settings named like what every object has are none', (t) => {
  for (const name of ['toString', '__proto__', 'constructor', 'hasOwnProperty']) {
    const options = { code: 'INVALID_INPUT', message: new RegExp(`no setting "${name}"`) };
    t.throws(() => parseSettings(`{"${name}": 5}`, 'lsnfs.json'), options);
  }
});

test('a sparse file that says it is larger than any buffer is read in parts', async (t) => {
  const directory = new MemoryDirectory();
  Store.initialize(directory, { segmentSize: 1 << 20 });
  const database = await Database.over(directory, {}, { mountpoint: null, background: 'caller' });
  await database.put('/sparse', 'start');
  const { inode } = database.stat('/sparse')!;
  database.volume.live.setattr(ROOT_CALLER, inode, { size: 2 ** 50 });
  t.throws(() => database.get('/sparse'), { code: 'EFBIG', message: /in parts/ });
  t.is(database.read('/sparse', { length: 5 }).toString(), 'start');
  t.deepEqual(database.read('/sparse', { offset: 2 ** 50 - 3 }), Buffer.alloc(3));
  await database.close();
});
