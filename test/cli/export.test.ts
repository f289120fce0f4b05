/**
 * Tar archives: random trees of every type through export, import and GNU tar and back, archives that other programs
 * make, hostile and damaged ones, and the two commands.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import test, { type ExecutionContext } from 'ava';
import { Database, initialize, LsnfsError, MemoryDirectory } from '../../src/index.ts';
import { connectToStore } from '../../src/plugin/control-client.ts';
import type { JsonObject } from '../../src/plugin/control-protocol.ts';
import {
  type ExportPage,
  executeOperation,
  type ImportEnd,
  type ImportPage,
} from '../../src/plugin/operations.ts';
import { aclFromText } from '../../src/plugin/tar-acl.ts';
import {
  dataSize,
  encodeEntry,
  endOfArchive,
  paddingOf,
  type TarEntry,
  type TarType,
} from '../../src/plugin/tar-format.ts';
import { TarReader } from '../../src/plugin/tar-reader.ts';
import { Store } from '../../src/store/store.ts';
import type { ClientChanges } from '../../src/vfs/restore.ts';
import { COMMAND, lsnfs, lsnfsOutput, runProgram } from '../helpers/command-line.ts';
import { mountTest } from '../helpers/mount-test.ts';
import { MountedStore } from '../helpers/mounted-store.ts';
import { PythonProgram } from '../helpers/mounting.ts';
import { Random, seedOf } from '../helpers/random.ts';
import { until } from '../helpers/waiting.ts';

const IS_ROOT = process.getuid?.() === 0;
const PAGE = 4096;

function temporaryDirectory(t: ExecutionContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'lsnfs-tar-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** A store in memory that is checked at the end. */
async function memoryStore(t: ExecutionContext): Promise<Database> {
  const directory = new MemoryDirectory();
  Store.initialize(directory, { pageSize: PAGE });
  const database = await Database.over(directory);
  t.teardown(async () => {
    const { problems } = await database.check();
    await database.close();
    if (problems.length > 0) throw new Error(`the store is not sound:\n${problems.join('\n')}`);
  });
  return database;
}

/** Gives an archive in pieces of any size. */
function sourceOf(
  archive: Buffer,
  most = 1 << 16,
): (target: Uint8Array, start: number, length: number) => number {
  let at = 0;
  return (target, start, length) => {
    const count = Math.min(length, most, archive.length - at);
    target.set(archive.subarray(at, at + count), start);
    at += count;
    return count;
  };
}

async function importInto(
  database: Database,
  archive: Buffer,
  path = '/',
  warn: (message: string) => void = () => {},
): Promise<void> {
  await database.transaction((transaction) => transaction.importTar(path, sourceOf(archive), { warn }));
}

async function exported(database: Database, path: string): Promise<Buffer> {
  const pieces: Buffer[] = [];
  let page = (await executeOperation(database, 'export', { path })) as ExportPage;
  for (;;) {
    pieces.push(Buffer.from(page.data, 'base64'));
    if (page.cursor === null) return Buffer.concat(pieces);
    page = (await executeOperation(database, 'export', { cursor: page.cursor })) as ExportPage;
  }
}

/** An entry with its whole data (without holes). */
interface Item {
  readonly entry: TarEntry;
  readonly data: Buffer;
}

const PLAIN: Omit<TarEntry, 'path'> = {
  type: 'file',
  link: Buffer.alloc(0),
  mode: 0o644,
  uid: 0,
  gid: 0,
  size: 0,
  segments: undefined,
  modify: { seconds: 1_000_000_000, nanoseconds: 0 },
  access: undefined,
  major: 0,
  minor: 0,
  xattrs: [],
  accessAcl: undefined,
  defaultAcl: undefined,
};

const NOTHING: Buffer = Buffer.alloc(0);

function item(path: string | Uint8Array, entry: Partial<TarEntry> = {}, data: Buffer = NOTHING): Item {
  return { entry: { ...PLAIN, size: data.length, ...entry, path: Buffer.from(path as string) }, data };
}

function archiveOf(items: readonly Item[]): Buffer {
  const pieces = items.flatMap(({ entry, data }) => [encodeEntry(entry), data, paddingOf(data.length)]);
  const all = Buffer.concat(pieces);
  return Buffer.concat([all, endOfArchive(all.length)]);
}

function itemsOf(archive: Buffer): Item[] {
  const reader = new TarReader(sourceOf(archive, 777));
  const items: Item[] = [];
  for (let entry = reader.next(); entry !== undefined; entry = reader.next()) {
    const pieces: Buffer[] = [];
    for (let piece = reader.content(); piece !== undefined; piece = reader.content())
      pieces.push(Buffer.from(piece));
    items.push({ entry, data: Buffer.concat(pieces) });
  }
  return items;
}

function digestOf(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex').slice(0, 16);
}

/** The content with its holes as zeros. */
function contentOf({ entry, data }: Item): Buffer {
  const content = Buffer.alloc(entry.size);
  let at = 0;
  for (const { offset, length } of entry.segments ?? [{ offset: 0, length: entry.size }]) {
    data.copy(content, offset, at, at + length);
    at += length;
  }
  return content;
}

/**
 * What an archive says, by path: equal for archives that mean the same. Of several names of a file it does not matter
 * which comes first. `exact`: where the holes are, and access times, which another file system may change.
 */
function meaningOf(items: readonly Item[], exact: boolean): Map<string, object> {
  const names = new Map<string, string[]>();
  for (const { entry } of items) {
    const path = entry.path.toString('latin1');
    if (entry.type === 'hardlink') names.get(entry.link.toString('latin1'))!.push(path);
    else names.set(path, [path]);
  }
  const meaning = new Map<string, object>();
  for (const each of items) {
    const { entry } = each;
    if (entry.type === 'hardlink') continue;
    const same = names.get(entry.path.toString('latin1'))!.sort();
    const said = {
      same,
      type: entry.type,
      link: entry.link.toString('latin1'),
      mode: entry.type === 'symlink' ? 0o777 : entry.mode,
      owner: [entry.uid, entry.gid],
      device: entry.type.endsWith('device') ? [entry.major, entry.minor] : [],
      size: entry.size,
      content: digestOf(contentOf(each)),
      modify: entry.modify,
      access: exact ? entry.access : undefined,
      segments: exact ? entry.segments : undefined,
      xattrs: entry.xattrs.map(({ name, value }) => `${name.toString('latin1')}=${digestOf(value)}`).sort(),
    };
    for (const name of same) meaning.set(name, said);
  }
  return new Map([...meaning].sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** Paths whose meaning differs, with both; the first of them. */
function differences(found: Map<string, object>, expected: Map<string, object>): string[] {
  const paths = [...new Set([...found.keys(), ...expected.keys()])];
  const text = (said: object | undefined): string => JSON.stringify(said) ?? 'missing';
  return paths
    .filter((path) => text(found.get(path)) !== text(expected.get(path)))
    .slice(0, 3)
    .map((path) => `${path}: ${text(found.get(path))} and not ${text(expected.get(path))}`);
}

class Generator {
  private readonly random: Random;
  private readonly linkable: readonly TarType[];
  private readonly valueSizes: readonly number[];

  /**
   * `forTar`: only what GNU tar can say, which writes several names of anything but a file as so many of them, and what
   * other file systems can hold: 4 KiB of xattrs.
   */
  constructor(random: Random, forTar: boolean) {
    this.random = random;
    this.linkable = forTar ? ['file'] : ['file', 'symlink', 'fifo', 'character-device', 'block-device'];
    this.valueSizes = forTar ? [0, 1, 50, 600] : [0, 1, 50, 3000, 60_000];
  }

  private one<T>(values: readonly T[]): T {
    return values[this.random.below(values.length)]!;
  }

  private name(unique: number): Buffer {
    const { random } = this;
    const length = this.one([1, 3, 20, 110, 240]);
    const bytes = random.bytes(length);
    const isText = this.one([true, false]);
    bytes.forEach((byte, i) => {
      if (isText) bytes.writeUInt8(97 + (byte % 26), i);
      else if (byte === 0 || byte === 0x2f) bytes.writeUInt8(0xe9, i);
    });
    return Buffer.concat([Buffer.from(`${unique}`), bytes]);
  }

  private acl(mode: number): string {
    const letters = (bits: number): string =>
      [4, 2, 1].map((b, i) => ((bits & b) === 0 ? '-' : 'rwx'[i])).join('');
    const id = IS_ROOT ? this.random.below(2 ** 31) : 1000;
    return [
      `user::${letters(mode >> 6)}`,
      `user:${id}:${letters(this.random.below(8))}`,
      `group::${letters(this.random.below(8))}`,
      `mask::${letters(mode >> 3)}`,
      `other::${letters(mode)}`,
    ].join(',');
  }

  private entry(type: TarType): Partial<TarEntry> {
    const { random } = this;
    const mode = type === 'directory' ? 0o700 | random.below(0o10000) : 0o600 | random.below(0o10000);
    const xattrs: { name: Buffer; value: Buffer }[] = [];
    let accessAcl: string | undefined;
    let defaultAcl: string | undefined;
    if (type === 'file' || type === 'directory') {
      for (let i = random.below(4); i > 0; i--) {
        const name = `${IS_ROOT ? this.one(['user', 'trusted']) : 'user'}.${this.one(['a', '=%3D', 'x=y', 'ü'])}${i}`;
        xattrs.push({ name: Buffer.from(name), value: random.bytes(this.one(this.valueSizes)) });
      }
      if (random.below(3) === 0) accessAcl = this.acl(mode);
      if (type === 'directory' && random.below(3) === 0) defaultAcl = this.acl(random.below(0o1000));
    }
    if (accessAcl !== undefined)
      xattrs.push({ name: Buffer.from('system.posix_acl_access'), value: aclFromText(accessAcl) });
    if (defaultAcl !== undefined)
      xattrs.push({ name: Buffer.from('system.posix_acl_default'), value: aclFromText(defaultAcl) });
    const isDevice = type.endsWith('device');
    return {
      type,
      mode,
      uid: IS_ROOT ? this.one([0, 1000, 2 ** 21, 2 ** 32 - 2]) : process.getuid!(),
      gid: IS_ROOT ? this.one([0, 1000, 2 ** 21, 2 ** 32 - 2]) : process.getgid!(),
      modify: { seconds: random.below(5e9) - 1e9, nanoseconds: this.one([0, 1, 500_000_000, 999_999_999]) },
      access: { seconds: random.below(5e9) - 1e9, nanoseconds: random.below(1e9) },
      major: isDevice ? 1 + random.below(0xfff) : 0,
      minor: isDevice ? random.below(0x100000) : 0,
      xattrs,
      accessAcl,
      defaultAcl,
    };
  }

  private file(path: Buffer): Item {
    const { random } = this;
    const entry = this.entry('file');
    if (random.below(3) > 0) return item(path, entry, random.bytes(this.one([0, 1, 512, 5000, 100_000])));
    // Regions of pages with holes between them; maybe one at the end.
    const segments: { offset: number; length: number }[] = [];
    let offset = random.below(3) * PAGE;
    for (let i = random.below(5); i > 0; i--) {
      const length = (1 + random.below(10)) * PAGE;
      segments.push({ offset, length });
      offset += length + (1 + random.below(10)) * PAGE;
    }
    const size = offset + (1 + random.below(9)) * PAGE + random.below(PAGE);
    return item(path, { ...entry, segments, size }, random.bytes(dataSize({ size, segments })));
  }

  /** A tree with its root, in the order of an archive. */
  tree(count: number): Item[] {
    const items: Item[] = [item('./', this.entry('directory'))];
    const directories: Buffer[] = [Buffer.from('./')];
    const types: TarType[] = ['file', 'file', 'directory', 'symlink', 'fifo', 'hardlink'];
    if (IS_ROOT) types.push('character-device', 'block-device');
    for (let i = 0; i < count; i++) {
      const path = Buffer.concat([this.one(directories), this.name(i)]);
      const type = this.one(types);
      if (type === 'directory') {
        const directory: Buffer = Buffer.concat([path, Buffer.from('/')]);
        directories.push(directory);
        items.push(item(directory, this.entry(type)));
      } else if (type === 'symlink') {
        const link = this.one([
          Buffer.from('../elsewhere'),
          Buffer.from('/etc'),
          this.name(0),
          Buffer.alloc(300, 'l'),
        ]);
        items.push(item(path, { ...this.entry(type), link, mode: 0o777 }));
      } else if (type === 'hardlink') {
        const others = items.filter(({ entry }) => this.linkable.includes(entry.type));
        if (others.length > 0) items.push(item(path, { type, link: this.one(others).entry.path }));
      } else if (type === 'file') items.push(this.file(path));
      else items.push(item(path, this.entry(type)));
    }
    return items;
  }
}

test('random trees come out of a store as they went in', async (t) => {
  const random = new Random(seedOf(t, 'trees'));
  for (let round = 0; round < 5; round++) {
    const model = new Generator(random, false).tree(60);
    const database = await memoryStore(t);
    await importInto(database, archiveOf(model));
    const expected = meaningOf(model, true);
    const archive = await exported(database, '/');
    t.is(archive.length % 10_240, 0);
    t.deepEqual(differences(meaningOf(itemsOf(archive), true), expected), []);
    // A past state is exported as it was; a second import over it changes nothing.
    const { lsn } = database;
    await importInto(database, archive);
    await database.put('/new', 'x');
    t.deepEqual(differences(meaningOf(itemsOf(await exported(database, `@lsn-${lsn}`)), true), expected), []);
  }
});

test('GNU tar extracts what is exported, and its archives are imported', async (t) => {
  const base = temporaryDirectory(t);
  const model = new Generator(new Random(seedOf(t, 'trees')), true).tree(60);
  writeFileSync(join(base, 'model.tar'), archiveOf(model));
  const script = `
    set -e
    lsnfs() { "$NODE" "$COMMAND" "$@"; }
    both="--xattrs --xattrs-include=* --acls --numeric-owner"
    for store in one two old; do lsnfs init $store > /dev/null; done
    lsnfs import one < model.tar 2> one.txt
    mkdir tree
    lsnfs export one > one.tar
    tar $both -C tree -xpf one.tar
    tar $both -S --format=pax -C tree -cf two.tar .
    lsnfs import two --json < two.tar 2> two.txt
    lsnfs export two > two-again.tar
    # Neither attributes nor fractions of times in this one.
    tar -S --format=gnu --numeric-owner -C tree -cf old.tar .
    lsnfs import old < old.tar
    lsnfs export old > old-again.tar
  `;
  const env = { NODE: process.execPath, COMMAND };
  const outcome = await runProgram('sh', ['-fc', script], { cwd: base, env });
  t.is(outcome.code, 0, outcome.stderr);
  const read = (name: string): Map<string, object> =>
    meaningOf(itemsOf(readFileSync(join(base, name))), false);
  const expected = meaningOf(model, false);
  t.deepEqual(differences(read('one.tar'), expected), []);
  t.deepEqual(differences(read('two-again.tar'), expected), []);
  const summary = JSON.parse(readFileSync(join(base, 'two.txt'), 'utf8')) as {
    entries: Record<string, number>;
  };
  t.is(
    Object.values(summary.entries).reduce((sum, count) => sum + count, 0),
    model.length,
  );
  // The old format: its own long names and sparse files, and GNU's numbers.
  const plain = (from: Map<string, object>): Map<string, object> =>
    new Map([...from].map(([path, said]) => [path, { ...said, xattrs: [], modify: 0 }]));
  t.deepEqual(differences(plain(read('old-again.tar')), plain(expected)), []);
});

/** The lower the number, the earlier the header's checksum is mended. */
function withSum(archive: Buffer, at = 0): Buffer {
  archive.fill(' ', at + 148, at + 156);
  const sum = archive.subarray(at, at + 512).reduce((total, byte) => total + byte, 0);
  archive.write(`${sum.toString(8).padStart(6, '0')}\0 `, at + 148, 'latin1');
  return archive;
}

function changed(archive: Buffer, offset: number, text: string): Buffer {
  const copy = Buffer.from(archive);
  copy.write(text, offset, 'latin1');
  return withSum(copy);
}

function symlink(path: string, link: string): Item {
  return item(path, { type: 'symlink', link: Buffer.from(link), mode: 0o777 });
}

function hardlink(path: string, link: string): Item {
  return item(path, { type: 'hardlink', link: Buffer.from(link) });
}

/** A pax record with its length. */
function record(text: string): string {
  const length = text.length + 2;
  return `${length + String(length + String(length).length).length} ${text}\n`;
}

/** A pax header of these records in front of an empty file. */
function withRecords(records: string, path = 'x'): Buffer {
  const head = encodeEntry({ ...PLAIN, path: Buffer.from('h'), size: records.length });
  const pax = withSum(Buffer.concat([head, Buffer.from(records), paddingOf(records.length)]));
  pax.write('x', 156);
  return Buffer.concat([withSum(pax), archiveOf([item(path)])]);
}

const FILE = archiveOf([item('file', {}, Buffer.from('hello'))]);
const HOSTILE: readonly [what: string, archive: Buffer, sentence: RegExp][] = [
  ['".."', archiveOf([item('../../out')]), /"\.\."/],
  ['".." inside', archiveOf([item('a/../../out')]), /"\.\."/],
  ['a link to ".."', archiveOf([hardlink('a', '../outside')]), /"\.\."/],
  [
    'through a link of its own',
    archiveOf([symlink('l', '/'), item('l/out')]),
    /below l, which is a symbolic link/,
  ],
  ['through a link that is there', archiveOf([item('door/out')]), /below door, which is a symbolic link/],
  [
    'a link through a link',
    archiveOf([hardlink('a', 'door/outside')]),
    /below door, which is a symbolic link/,
  ],
  ['a link to nothing', archiveOf([hardlink('a', 'b')]), /hard link to b/],
  ['a link to a directory', archiveOf([hardlink('a', 'full')]), /hard link to full/],
  [
    'a file in place of a full directory',
    archiveOf([item('full')]),
    /cannot import full, at byte 0.*ENOTEMPTY/,
  ],
  ['a file as a directory', archiveOf([item('old/x')]), /old is no directory/],
  ['a name that is too long', archiveOf([item('n'.repeat(256))]), /ENAMETOOLONG/],
  ['a file without a name', archiveOf([item('.')]), /only a directory has no name/],
  ['no archive', Buffer.from('hello'), /cut off: it ends at byte 5/],
  ['nothing', Buffer.alloc(0), /empty/],
  ['gzip', gzipSync(FILE), /gzip -dc/],
  ['cut in a file', FILE.subarray(0, 514), /cut off: it ends at byte 514, amid an entry/],
  ['cut before its end', FILE.subarray(0, 1024), /cut off: it ends at byte 1024 without an end mark/],
  ['a second archive too early', Buffer.concat([FILE.subarray(0, 1536), FILE]), /half of an end mark/],
  [
    'a wrong checksum',
    Buffer.concat([FILE.subarray(0, 3), Buffer.from('x'), FILE.subarray(4)]),
    /at byte 0: .*no header/,
  ],
  ['an unknown type', changed(FILE, 156, 'q'), /unknown type "q"/],
  ['a size that is none', changed(FILE, 124, 'zzz'), /number is none/],
  ['an endless size', changed(FILE, 124, '\x80\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff'), /too large/],
  ['a size below zero', changed(FILE, 124, '\xff'.repeat(12)), /below 0/],
  ['a huge file', changed(FILE, 124, '\x80\x00\x00\x00\x00\x00\x10\x00\x00\x00\x00\x00'), /cut off/],
  ['records that are none', withRecords('hello\n'), /pax record is none/],
  ['a record past its end', withRecords('99 path=x\n'), /pax record is none/],
  ['a path with NUL', withRecords(record('path=a\0b')), /NUL/],
  ['a time that is none', withRecords(record('mtime=x.y')), /mtime is no time/],
  ['an owner that is none', withRecords(record('uid=4294967295')), /no number of a user/],
  [
    'a sparse file without a map',
    withRecords(record('GNU.sparse.major=1') + record('GNU.sparse.realsize=99999')),
    /map/,
  ],
  [
    'regions in disorder',
    withRecords(record('GNU.sparse.size=99999') + record('GNU.sparse.map=4096,0,0,0,512,0')),
    /impossible/,
  ],
  [
    'a region behind the end',
    withRecords(record('GNU.sparse.size=99') + record('GNU.sparse.map=4096,0')),
    /impossible/,
  ],
];

/** A store with things that an archive could do harm to; archives go to /in. */
async function victim(t: ExecutionContext): Promise<Database> {
  const database = await memoryStore(t);
  await database.transaction((transaction) => {
    transaction.put('/outside', 'outside');
    transaction.put('/in/old', 'old');
    transaction.put('/in/full/x', 'x');
    transaction.symlink('/in/door', '..');
  });
  return database;
}

test('hostile and damaged archives leave nothing and say what is wrong', async (t) => {
  const database = await victim(t);
  const before = meaningOf(itemsOf(await exported(database, '/')), true);
  const { lsn } = database;
  for (const [what, archive, sentence] of HOSTILE) {
    const good = archiveOf([
      item('first', {}, Buffer.alloc(50_000, 'x')),
      item('old', {}, Buffer.from('new')),
    ]);
    const error = await t.throwsAsync(importInto(database, archive, '/in'), { instanceOf: LsnfsError }, what);
    t.regex(error!.message, sentence, what);
    // The same behind entries that are good: those do not stay either.
    if (archive.length >= 512 && !/byte 0|cut off|gzip|empty|half/.test(sentence.source)) {
      const both = Buffer.concat([good.subarray(0, 512 + 50_176 + 1024), archive]);
      const behind = await t.throwsAsync(importInto(database, both, '/in'), { instanceOf: LsnfsError }, what);
      t.regex(behind!.message, /byte 5[12]\d{3}/, what);
    }
    t.is(database.lsn, lsn, what);
  }
  t.deepEqual(differences(meaningOf(itemsOf(await exported(database, '/')), true), before), []);
});

test('an archive that is cut or changed anywhere is imported as a whole or not at all', async (t) => {
  const random = new Random(seedOf(t, 'damage'));
  const database = await victim(t);
  const archive = archiveOf(new Generator(random, false).tree(12));
  const end = archive.length - endOfArchive(0).length;
  for (let round = 0; round < 60; round++) {
    const isCut = round % 2 === 0;
    const at = random.below(Math.max(end, 1));
    const bad = isCut ? archive.subarray(0, at) : Buffer.from(archive);
    if (!isCut) bad.writeUInt8(bad.readUInt8(at) ^ (1 << random.below(8)), at);
    const { lsn } = database;
    try {
      await importInto(database, bad, '/in/new');
      t.false(isCut, `an archive of ${archive.length} bytes was cut at ${at}`);
      await database.delete('/in/new', { recursive: true });
    } catch (error) {
      if (!(error instanceof LsnfsError)) throw error;
      t.is(database.lsn, lsn);
      t.is(database.stat('/in/new'), undefined);
    }
  }
  t.is(database.get('/outside')?.toString(), 'outside');
});

test('what is there already is replaced as tar replaces it', async (t) => {
  const database = await victim(t);
  await database.transaction((transaction) => {
    transaction.symlink('/in/link', '../outside');
    transaction.mkdir('/in/empty');
  });
  const warnings: string[] = [];
  const archive = archiveOf([
    item('/in-the-store', {}, Buffer.from('1')),
    item('link', {}, Buffer.from('2')),
    item('empty', {}, Buffer.from('3')),
    item('old/', { type: 'directory', mode: 0o750 }),
    item('door/', { type: 'directory', mode: 0o755 }),
    item('door/x', {}, Buffer.from('4')),
    item('full/', { type: 'directory', mode: 0o711 }),
    item('mac', { xattrs: [{ name: Buffer.from('com.apple.x'), value: Buffer.from('v') }] }),
  ]);
  await importInto(database, archive, '/in', (message) => warnings.push(message));
  const text = (path: string): string | undefined => database.get(path)?.toString();
  t.is(text('/in/in-the-store'), '1');
  t.is(text('/in/link'), '2');
  t.is(text('/outside'), 'outside');
  t.is(text('/in/empty'), '3');
  t.is(text('/in/door/x'), '4');
  t.is(text('/in/full/x'), 'x');
  t.is(database.stat('/in/full')?.mode, 0o711);
  t.is(database.stat('/in/old')?.type, 'directory');
  t.is(database.stat('/in/old')?.modifiedMs, 1e12);
  t.is(warnings.length, 2);
  t.regex(warnings.join('\n'), /leading "\/".*\n.*com\.apple\.x/);
});

test('ACLs in text are read with numbers, in any program’s spelling', (t) => {
  const expected = aclFromText('user::rw-,user:7:r--,group::r--,mask::r--,other::---');
  t.deepEqual(aclFromText('user::rw-\nuser:anna:r--:7\ngroup::r--\nmask::r--\nother::---\n'), expected);
  t.deepEqual(
    aclFromText('other::---,mask::r--,g::r--,u:7:r-- # effective,u::rw-'.replace(' # effective', '')),
    expected,
  );
  t.throws(() => aclFromText('user:anna:rw-'), { message: /must be numbers/ });
  t.throws(() => aclFromText('user::rwz'), { message: /cannot be read/ });
});

test('the commands on a store that is not mounted', async (t) => {
  const base = temporaryDirectory(t);
  const store = join(base, 'store');
  await initialize(store);
  writeFileSync(
    join(base, 'x.tar'),
    archiveOf([item('a/b', {}, Buffer.from('hello')), item('s', { type: 'fifo' })]),
  );
  writeFileSync(join(base, 'cut.tar'), FILE.subarray(0, 514));
  mkdirSync(join(base, 'tree'));
  const env = { NODE: process.execPath, COMMAND };
  const shell = (script: string) =>
    runProgram('sh', ['-c', `lsnfs() { "$NODE" "$COMMAND" "$@"; }\n${script}`], { cwd: base, env });
  t.like(await shell('lsnfs import store docs < x.tar'), { code: 0, stdout: '' });
  const state = `@lsn-${(JSON.parse(await lsnfsOutput('status', store, '--json')) as { lsn: number }).lsn}`;
  const cut = await shell('lsnfs import store docs < cut.tar');
  t.like(cut, { code: 1, stdout: '' });
  t.regex(cut.stderr, /^lsnfs: [^\n]*cut off[^\n]*byte 514[^\n]*\n$/);
  t.is((await shell(`lsnfs export store ${state} docs/a | tar -tf -`)).stdout, './\n./b\n');
  t.is((await shell(`lsnfs export store ${state}/docs/a/b | tar -xOf - b`)).stdout, 'hello');
  t.is((await shell('lsnfs export store docs | tar -tf -')).stdout, './\n./a/\n./a/b\n./s\n');
  t.like(await shell('lsnfs export store | head -c 100 > head; lsnfs export store nothing'), {
    code: 1,
    stdout: '',
  });
  const progress = await shell('lsnfs export store --progress > all.tar');
  t.regex(progress.stderr, /^exporting: \d+ entries, .*KiB\n$/);
  t.like(await lsnfs('export', store, 'docs', 'a'), { code: 2, stdout: '' });
  t.like(await shell(`lsnfs import store ${state} < x.tar`), { code: 2, stdout: '' });
  const quiet = await shell('(lsnfs export store; echo $? >&2) | true');
  t.is(quiet.stderr, '0\n');
});

mountTest('a mounted store is exported with all that programs wrote', async (t) => {
  const mounted = await MountedStore.create(t);
  const content = 'y'.repeat(700_000);
  writeFileSync(join(mounted.mountpoint, 'file'), content);
  const env = { NODE: process.execPath, COMMAND, STORE: mounted.store };
  const taken = await runProgram('sh', ['-c', '"$NODE" "$COMMAND" export "$STORE" | tar -xOf - ./file'], {
    env,
  });
  t.is(taken.stdout, content);
});

/** An archive in pieces, as a client of the control socket sends it. */
async function send(
  execute: (args: JsonObject) => Promise<unknown>,
  archive: Buffer,
  path: string,
  size: number,
): Promise<ImportEnd> {
  const { cursor } = (await execute({ path })) as ImportPage;
  for (let at = 0; at < archive.length; at += size) {
    await execute({ cursor, data: archive.subarray(at, at + size).toString('base64') });
  }
  return (await execute({ cursor, end: true })) as ImportEnd;
}

test('an archive in pieces is imported at its end, and who remembers names is told which changed', async (t) => {
  const database = await victim(t);
  const told: ClientChanges[] = [];
  database.onChange((changes) => told.push(changes));
  const execute = (args: JsonObject) => executeOperation(database, 'import', args);
  const archive = archiveOf([
    item('old', {}, Buffer.alloc(20_000, 'n')),
    item('new/deep/file', {}, Buffer.from('x')),
    item('full', { type: 'directory', mode: 0o711 }),
    hardlink('link', 'full/x'),
  ]);
  const inodeOf = (path: string) => database.stat(path)!.inode;
  const [before, directory, linked] = [inodeOf('/in/old'), inodeOf('/in'), inodeOf('/in/full/x')];
  const full = inodeOf('/in/full');
  for (const size of [1000, archive.length]) {
    const { lsn, entries, warnings, cursor } = await send(execute, archive, '/in', size);
    t.is(lsn, database.lsn);
    t.like(entries, { file: 2, directory: 1, hardlink: 1 });
    t.deepEqual([warnings, cursor], [[], null]);
    t.is(database.get('/in/old')?.toString(), 'n'.repeat(20_000));
  }
  t.is(told[0]!.everything, false);
  t.deepEqual(
    told[0]!.entries.map(({ parent, name }) => `${parent}/${Buffer.from(name)}`).sort(),
    ['link', 'new', 'old', 'old'].map((name) => `${directory}/${name}`),
    'what is in a new directory was known to nobody',
  );
  t.deepEqual([...told[0]!.inodes].sort(), [before, directory, linked, full].sort());
  const { cursor } = (await execute({ path: '/in' })) as ImportPage;
  await t.throwsAsync(execute({ cursor, data: '*' }), { code: 'INVALID_INPUT' });
  await t.throwsAsync(execute({ cursor, data: 3 }), { code: 'INVALID_INPUT' });
  await t.throwsAsync(execute({ cursor: 77, data: '' }), { code: 'INVALID_INPUT' });
  await t.throwsAsync(execute({ path: '@latest/x' }), { code: 'INVALID_INPUT' });
  await t.throwsAsync(executeOperation(database, 'read', { cursor }), { code: 'INVALID_INPUT' });
  await t.throwsAsync(execute({ cursor, end: true }), { code: 'INVALID_INPUT' }, 'it went with that');
  t.is(told.length, 2);
});

mountTest('a mounted store takes an archive as another does, and programs see it at once', async (t) => {
  const mounted = await MountedStore.create(t);
  const twin = await MountedStore.createUnmounted(t);
  const lsnfsProgram = `'${process.execPath}' '${COMMAND}'`;
  const { base, mountpoint } = mounted;
  await mounted.shell(
    `mkdir before after; cd before; mkdir d e was-directory; echo old > d/f; ln d/f d/hard; echo stays > d/stays; touch was-file
     ln -s d was-link; chmod 700 e; cd ../after; mkdir d e was-file; head -c 300000 /dev/urandom > d/f; ln d/f d/second
     echo x > was-file/x; echo y > was-directory; ln -s nowhere was-link; chmod 755 e; mkdir -p d/new/er; echo z > d/new/er/z
     mknod e/pipe p; truncate -s 1M e/hole; chown 7:8 d/new
     for tree in before after; do tar -C ../$tree -cf ../$tree.tar .; done`,
    base,
  );
  const into = (target: string, tree: string) =>
    mounted.shell(`${lsnfsProgram} import ${target} docs < ${tree}.tar`, base);
  await into(mountpoint, 'before');
  await into(twin.store, 'before');
  const docs = join(mountpoint, 'docs');
  // The kernel remembers all of it, and that there is no "new".
  await mounted.listing(docs);
  await mounted.shell('test ! -e d/new; cat d/f d/hard; ls -lR > /dev/null; stat d/f d/hard e', docs);
  const program = new PythonProgram(
    "import os\nf = os.open('d/f', os.O_RDWR); os.pwrite(f, b'OLD', 0); print('open'); input(); print(os.pread(f, 9, 0), os.fstat(f).st_nlink)",
    docs,
  );
  t.teardown(() => program.end());
  await program.line();
  await into(mountpoint, 'after');
  await into(twin.store, 'after');
  const seen = await mounted.listing(docs);
  t.is(await mounted.shell('cat was-file/x d/new/er/z was-directory d/hard', docs), 'x\nz\ny\nOLD\n');
  program.go();
  t.is(await program.line(), "b'OLD\\n' 1");
  await program.end();
  await mounted.shell('echo old > d/hard; touch -r d/stays d/hard', docs);
  await twin.mount();
  await twin.shell('echo old > d/hard; touch -r d/stays d/hard', join(twin.mountpoint, 'docs'));
  const others = (lines: readonly string[]) => lines.filter((line) => !line.startsWith("b'/d/hard' "));
  t.deepEqual(others(await mounted.listing(docs)), others(seen));
  t.deepEqual(await mounted.listing(docs), await twin.listing(join(twin.mountpoint, 'docs')));
});

mountTest('a mounted store refuses what another does, and nothing of it is left', async (t) => {
  const mounted = await MountedStore.create(t);
  await mounted.shell(
    'mkdir -p in/full; echo outside > outside; echo old > in/old; echo x > in/full/x; ln -s .. in/door',
  );
  const before = await mounted.listing(mounted.mountpoint);
  const program = new PythonProgram(
    "f = open('in/old', 'r'); print('open'); input(); print(f.read())",
    mounted.mountpoint,
  );
  t.teardown(() => program.end());
  await program.line();
  const client = (await connectToStore(mounted.store))!;
  t.teardown(() => client.close());
  const execute = (args: JsonObject) => client.request('import', args);
  const first = archiveOf([
    item('first', {}, Buffer.alloc(50_000, 'x')),
    item('old', {}, Buffer.from('new')),
  ]);
  for (const [what, archive, sentence] of HOSTILE) {
    const error = await t.throwsAsync(
      send(execute, archive, '/in', 1 << 18),
      { instanceOf: LsnfsError },
      what,
    );
    t.regex(error!.message, sentence, what);
    const behind = Buffer.concat([first.subarray(0, 512 + 50_176 + 1024), archive]);
    if (archive.length >= 512 && !/byte 0|cut off|gzip|empty|half/.test(sentence.source))
      await t.throwsAsync(send(execute, behind, '/in', 1 << 18), { instanceOf: LsnfsError }, what);
  }
  t.deepEqual(await mounted.listing(mounted.mountpoint), before);
  program.go();
  t.is(await program.line(), 'old');
});

mountTest('an import whose client is killed midway leaves nothing', async (t) => {
  const mounted = await MountedStore.create(t);
  const archive = archiveOf([item('large', {}, Buffer.alloc(2_000_000, 'x'))]);
  const child = spawn(process.execPath, [COMMAND, 'import', mounted.store], {
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  t.teardown(() => child.kill('SIGKILL'));
  child.stdin.on('error', () => {});
  child.stdin.write(archive.subarray(0, 1_900_000));
  const spools = () =>
    readdirSync(`/proc/${mounted.pid}/fd`).filter((name) => {
      try {
        return readlinkSync(`/proc/${mounted.pid}/fd/${name}`) === `${mounted.store}/import (deleted)`;
      } catch {
        // It was closed between the two looks.
        return false;
      }
    }).length;
  await until('the archive arrives', () => spools() === 1);
  child.kill('SIGKILL');
  await until('it is let go of', () => spools() === 0);
  t.false(existsSync(join(mounted.store, 'import')));
  t.is(await mounted.shell('ls -A'), '');
});
