/** The parts below the file systems: tables, listings, encodings, names, paths, the clock. */
import test from 'ava';
import { direntInode, direntType, encodeDirent } from '../../src/encoding/dirent.ts';
import {
  decodeInode,
  encodeInode,
  FLAG_INLINE,
  INODE_CONTENT,
  InodeRecord,
  inlineMax,
} from '../../src/encoding/inode.ts';
import { isReservedName } from '../../src/encoding/names.ts';
import { LsnfsError } from '../../src/errors.ts';
import { systemClock } from '../../src/vfs/clock.ts';
import { DirectoryListing } from '../../src/vfs/directory-listing.ts';
import { ROOT_CALLER, ROOT_INODE } from '../../src/vfs/file-system.ts';
import { resolveInode, resolvePath } from '../../src/vfs/path.ts';
import { ReferenceTable } from '../../src/vfs/reference-table.ts';
import { Random, seedOf } from '../helpers/random.ts';
import { makeFile, makeFixture } from '../helpers/vfs-fixture.ts';

test('references are counted as a Map counts them', (t) => {
  const random = new Random(seedOf(t, 'references'));
  const table = new ReferenceTable();
  const model = new Map<number, number>();
  for (let i = 0; i < 200_000; i++) {
    const inode =
      1 + random.below(random.below(2) === 0 ? 50 : 20_000) * (random.below(3) === 0 ? 2 ** 33 : 1);
    if (random.below(100) < 55 - Math.floor(i / 5000)) {
      table.add(inode, 2);
      model.set(inode, (model.get(inode) ?? 0) + 2);
    } else {
      const left = Math.max(0, (model.get(inode) ?? 0) - 1);
      t.is(table.subtract(inode, 1), left);
      if (left === 0) model.delete(inode);
      else model.set(inode, left);
    }
  }
  t.is(table.size, model.size);
  for (const [inode, count] of model) t.is(table.get(inode), count);
});

test('a million known inodes take at most 30 MB', (t) => {
  const table = new ReferenceTable();
  for (let inode = 1; inode <= 1_000_000; inode++) table.add(inode, 1);
  t.true(table.byteLength <= 30e6, `${table.byteLength} bytes`);
  t.is(table.size, 1_000_000);
  for (let inode = 1; inode <= 1_000_000; inode++) table.subtract(inode, 1);
  t.is(table.size, 0);
  t.true(table.byteLength < 1e6, 'the memory is given back');
});

test('a count that is too large stays, and the inode with it', (t) => {
  const table = new ReferenceTable();
  table.add(7, 2 ** 32);
  t.true(table.subtract(7, 2 ** 32) > 0);
});

test('a listing gives every name back', (t) => {
  const listing = new DirectoryListing();
  const names = Array.from({ length: 30_000 }, (_, i) =>
    Buffer.from(`${'n'.repeat(i % 256 || 1)}`.slice(0, 250) + i),
  );
  for (const name of names) listing.append(name.subarray(0, 255));
  t.is(listing.count, names.length);
  for (let i = 0; i < names.length; i++) {
    const name = names[i]!.subarray(0, 255);
    t.true(listing.name(i).equals(name));
    t.true(listing.equals(i, name));
  }
  t.false(listing.equals(0, Buffer.from('other')));
  t.false(listing.equals(names.length, Buffer.from('')));
  listing.clear();
  t.is(listing.count, 0);
});

function sampleRecord(): InodeRecord {
  const record = new InodeRecord();
  Object.assign(record, {
    mode: 0o100644,
    flags: FLAG_INLINE,
    uid: 0xfffffffe,
    gid: 1000,
    links: 3,
    size: 5,
    accessSeconds: -1,
    accessNanoseconds: 999_999_999,
    modifySeconds: 2 ** 40,
    changeSeconds: -(2 ** 40),
    birthSeconds: 0,
    birthNanoseconds: 1,
    content: Buffer.from('hello and more'),
  });
  return record;
}

test('inode records survive encoding', (t) => {
  const target = Buffer.alloc(INODE_CONTENT + inlineMax(4096));
  for (const change of [
    {},
    { mode: 0o040755, flags: 0, parent: 2 ** 40 - 1, size: 100, content: null },
    { mode: 0o020600, flags: 0, device: 0xffffffff, size: 0, content: null },
    { mode: 0o120777, size: 0, content: null },
    { mode: 0o100600, flags: 0, size: 2 ** 50, pages: 12_345, content: null },
    { mode: 0o010600, flags: 0, size: 0, content: null },
  ]) {
    const record: InodeRecord = Object.assign(sampleRecord(), change);
    const length = encodeInode(record, target);
    const decoded = new InodeRecord();
    // In the middle of a page, as it is read.
    const page = Buffer.concat([
      Buffer.alloc(100, 0xaa),
      target.subarray(0, length),
      Buffer.alloc(100, 0xaa),
    ]);
    decodeInode(decoded, 5, page, 100, length);
    const content = decoded.content;
    t.is(content?.toString() ?? null, record.content?.toString('latin1', 0, record.size) ?? null);
    t.like({ ...decoded, content: null }, { ...record, content: null });
  }
});

test('no bytes make the decoder of inode records do anything but answer or refuse', (t) => {
  const random = new Random(seedOf(t, 'inode records'));
  const target = Buffer.alloc(INODE_CONTENT + inlineMax(4096));
  const length = encodeInode(sampleRecord(), target);
  let refused = 0;
  for (let i = 0; i < 20_000; i++) {
    const bytes = Buffer.from(target.subarray(0, length));
    for (let j = random.below(3); j >= 0; j--) bytes[random.below(length)] = random.next();
    const cut = random.below(4) === 0 ? random.below(length + 1) : length;
    try {
      decodeInode(new InodeRecord(), 5, bytes, 0, cut);
    } catch (error) {
      if (!(error instanceof LsnfsError) || error.code !== 'CORRUPT_RECORD') throw error;
      refused++;
    }
  }
  t.true(refused > 1000);
});

test('directory entries survive encoding, and others are refused', (t) => {
  const value = Buffer.alloc(8);
  for (const inode of [1, 255, 256, 65_535, 2 ** 24, 2 ** 32 - 1, 2 ** 32, 2 ** 40 - 1]) {
    const length = encodeDirent(value, inode, 0o120777);
    t.is(direntInode(value, 0, length), inode);
    t.is(direntType(value, 0), 0o120000);
    t.throws(() => direntInode(value, 0, length - 1), { code: 'CORRUPT_RECORD' });
  }
  for (const bad of [
    [],
    [0x40],
    [0x42, 1, 0],
    [0x48, 1, 1, 1, 1, 1, 1, 1, 1],
    [0x46, 0, 0, 0, 0, 0, 1],
    [0x47, 255, 255, 255, 255, 255, 255, 255],
  ]) {
    t.throws(() => direntInode(Buffer.from(bad), 0, bad.length), { code: 'CORRUPT_RECORD' });
  }
});

test('reserved names', (t) => {
  for (const reserved of [
    '@',
    '@latest',
    '@lsn-1',
    '@lsn-',
    '@lsn-X/Y',
    '@2026-11-22',
    '@2026-11-22T101500Z',
    '@2026-11-22T10:15:00Z',
    '@2026-11-22T10:15:00.123456789+02:00',
    '@20261122T101500Z',
  ]) {
    t.true(isReservedName(Buffer.from(reserved)), reserved);
  }
  for (const free of [
    '',
    'a',
    'lsn-1',
    '@types',
    '@lsn',
    '@Latest',
    '@latest2',
    '@2026',
    '@2026-11-22x',
    '@@',
    'x@',
  ]) {
    t.false(isReservedName(Buffer.from(free)), free);
  }
});

test('the clock stays within the millisecond of the system and never stands', (t) => {
  const time = { seconds: 0, nanoseconds: 0 };
  let last = 0n;
  const end = Date.now() + 100;
  while (Date.now() < end) {
    const before = Date.now();
    systemClock(time);
    const after = Date.now();
    const now = BigInt(time.seconds) * 1_000_000_000n + BigInt(time.nanoseconds);
    t.true(now >= BigInt(before) * 1_000_000n && now < BigInt(after + 1) * 1_000_000n);
    t.true(now >= last || now / 1_000_000n < BigInt(before), 'time does not run backwards');
    last = now;
  }
});

test('paths resolve from a directory, and to the place of what is missing', (t) => {
  const { fs } = makeFixture();
  const { inode: directory } = fs.mkdir(ROOT_CALLER, ROOT_INODE, Buffer.from('d'), 0o755);
  const file = makeFile(fs, 'f', 'x', directory);
  fs.symlink(ROOT_CALLER, ROOT_INODE, Buffer.from('l'), Buffer.from('/d/f'));
  fs.symlink(ROOT_CALLER, ROOT_INODE, Buffer.from('to-root'), Buffer.from('/'));
  const inodeOf = (path: string, start = ROOT_INODE): number =>
    resolveInode(fs, ROOT_CALLER, Buffer.from(path), { start }).inode;
  t.is(inodeOf('/d/f'), file);
  t.is(inodeOf('d//./f'), file);
  t.is(inodeOf('f', directory), file);
  t.is(inodeOf('../d/../l', directory), file);
  t.is(inodeOf('/'), ROOT_INODE);
  t.is(inodeOf('//'), ROOT_INODE);
  t.is(inodeOf('to-root'), ROOT_INODE);
  t.is(inodeOf('to-root/to-root/d/f'), file);
  t.is(inodeOf('../../..'), ROOT_INODE);
  const place = resolvePath(fs, ROOT_CALLER, Buffer.from('/d/missing'));
  t.is(place.parent, directory);
  t.is(place.name.toString(), 'missing');
  t.is(place.attributes, undefined);
  t.throws(() => inodeOf('/no/f'), { code: 'ENOENT' });
  t.throws(() => inodeOf('/d/f/x'), { code: 'ENOTDIR' });
  t.throws(() => inodeOf('/l/'), { code: 'ENOTDIR' });
  t.throws(() => inodeOf('x\0y'), { code: 'EINVAL' });
});
