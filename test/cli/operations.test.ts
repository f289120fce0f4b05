import test from 'ava';
import { LsnfsError } from '../../src/errors.ts';
import type { JsonObject } from '../../src/plugin/control-protocol.ts';
import {
  executeOperation,
  type ListEntry,
  type ListPage,
  needsFlushedMount,
  type OperableDatabase,
  type ReadPage,
  timeText,
} from '../../src/plugin/operations.ts';
import {
  type Door,
  O_RDWR,
  ROOT_CALLER,
  ROOT_INODE,
  S_IFCHR,
  S_IFIFO,
  type Volume,
} from '../../src/vfs/file-system.ts';
import { LiveFileSystem } from '../../src/vfs/live-file-system.ts';
import { PastFileSystem } from '../../src/vfs/past-file-system.ts';
import { FakeLiveState } from '../helpers/fake-live-state.ts';

const STATISTICS = {
  blockSize: 4096,
  blocks: 9,
  blocksFree: 9,
  blocksAvailable: 9,
  files: 9,
  filesFree: 9,
  nameMax: 255,
};

/** A database whose live state is in memory and whose one snapshot, "old", is what it was when that was made. */
class TestDatabase implements OperableDatabase {
  readonly state = new FakeLiveState();
  readonly live = new LiveFileSystem(this.state, { statistics: () => STATISTICS });
  readonly doors = new Map<string, Door>();
  references = 0;
  readonly volume: Volume = {
    live: this.live,
    door: (name) => this.doors.get(Buffer.from(name).toString('latin1')),
    doorByNumber: () => {
      throw new Error('not asked for here');
    },
    snapshotNames: () => (this.doors.has('@old') ? [Buffer.from('old')] : []),
    onSnapshotChange: () => {},
  };
  readonly snapshots = {
    create: async (name: string, options?: { message?: string }) => ({
      name,
      lsn: 7,
      createdAt: '2026-01-01T00:00:00Z',
      ...options,
    }),
    list: () => [],
    delete: async (name: string) => {
      throw new LsnfsError('NO_SUCH_SNAPSHOT', `there is no snapshot ${name}`);
    },
    hold: () => this.unasked(),
    release: () => this.unasked(),
    rename: () => this.unasked(),
  };

  private unasked(): never {
    throw new Error('not asked for here');
  }

  restore(): never {
    return this.unasked();
  }

  transaction(): never {
    return this.unasked();
  }

  get verifications(): never {
    throw new Error('not asked for here');
  }

  get collections(): never {
    throw new Error('not asked for here');
  }

  get compactions(): never {
    throw new Error('not asked for here');
  }

  get history(): never {
    throw new Error('not asked for here');
  }

  get store(): never {
    throw new Error('not asked for here');
  }

  async commit() {
    return { lsn: this.state.lsn };
  }

  async status() {
    return { lsn: this.state.lsn };
  }

  /** Makes the present state the snapshot "old". */
  freeze(): void {
    const fileSystem = new PastFileSystem(this.state.freeze(), { statistics: () => STATISTICS });
    const door: Door = {
      number: 1,
      fileSystem,
      immutable: true,
      retain: (count) => {
        this.references += count;
      },
      release: (count) => {
        this.references -= count;
      },
    };
    this.doors.set('@old', door);
    const list = new LiveFileSystem(new FakeLiveState(), { statistics: () => STATISTICS });
    list.symlink(ROOT_CALLER, ROOT_INODE, Buffer.from('old'), Buffer.from('../@old'));
    this.doors.set('@', { ...door, number: 2, fileSystem: list });
  }

  directory(parent: number, name: string): number {
    return this.live.mkdir(ROOT_CALLER, parent, Buffer.from(name), 0o40755).inode;
  }

  file(parent: number, name: string | Buffer, content: Uint8Array): void {
    const { handle } = this.live.create(ROOT_CALLER, parent, Buffer.from(name), 0o100644, O_RDWR);
    this.live.write(ROOT_CALLER, handle, 0, content, 0, content.length, false);
    this.live.release(handle);
  }

  run(operation: string, args: JsonObject = {}): Promise<unknown> {
    return executeOperation(this, operation, args);
  }

  async listAll(path: string, args: JsonObject = {}): Promise<ListEntry[]> {
    const entries: ListEntry[] = [];
    let page = (await this.run('list', { path, ...args })) as ListPage;
    for (;;) {
      entries.push(...page.entries);
      if (page.cursor === null) return entries;
      page = (await this.run('list', { cursor: page.cursor })) as ListPage;
    }
  }

  async readAll(path: string): Promise<Buffer> {
    const pieces: Buffer[] = [];
    let page = (await this.run('read', { path })) as ReadPage;
    for (;;) {
      pieces.push(Buffer.from(page.data, 'base64'));
      if (page.cursor === null) return Buffer.concat(pieces);
      page = (await this.run('read', { cursor: page.cursor })) as ReadPage;
    }
  }
}

test('a long directory is listed in pages, each entry once, in the order of names', async (t) => {
  const database = new TestDatabase();
  const directory = database.directory(ROOT_INODE, 'many');
  const names = Array.from({ length: 2500 }, (_, index) => `file-${String(index).padStart(4, '0')}`);
  for (const name of names.toReversed()) database.file(directory, name, Buffer.from(name));
  const first = (await database.run('list', { path: 'many' })) as ListPage;
  t.true(first.directory);
  t.true(first.entries.length < 2500, 'in pages');
  // What changes meanwhile does not disturb what was there all the time.
  database.live.unlink(ROOT_CALLER, directory, Buffer.from('file-0000'));
  database.file(directory, 'aaa', Buffer.alloc(1));
  const rest: string[] = [];
  for (let cursor = first.cursor; cursor !== null; ) {
    const page = (await database.run('list', { cursor })) as ListPage;
    rest.push(...page.entries.map((entry) => entry.name));
    cursor = page.cursor;
  }
  t.deepEqual([...first.entries.map((entry) => entry.name), ...rest], names);
});

test('entries have all attributes, and every name survives JSON', async (t) => {
  const database = new TestDatabase();
  const { live } = database;
  database.file(ROOT_INODE, Buffer.from([0x61, 0xff]), Buffer.from('12345'));
  live.symlink(ROOT_CALLER, ROOT_INODE, Buffer.from('link'), Buffer.from('to/nowhere'));
  live.mknod(ROOT_CALLER, ROOT_INODE, Buffer.from('pipe'), S_IFIFO | 0o640, 0);
  // Major 259, minor 65,537, as new_encode_dev writes them.
  live.mknod(ROOT_CALLER, ROOT_INODE, Buffer.from('tty'), S_IFCHR | 0o600, (259 << 8) | 1 | (0x10000 << 12));
  const entries = JSON.parse(JSON.stringify(await database.listAll('/'))) as ListEntry[];
  const [file, link, pipe, tty] = entries;
  t.like(file, { name: 'a\udcff', type: 'file', mode: 0o644, size: 5, links: 1, uid: 0, gid: 0 });
  t.regex(file!.modifiedAt!, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$/);
  t.like(link, { name: 'link', type: 'symlink', target: 'to/nowhere' });
  t.like(pipe, { name: 'pipe', type: 'fifo', mode: 0o640 });
  t.like(tty, { name: 'tty', type: 'character-device', device: { major: 259, minor: 65537 } });
  t.is((await database.readAll('a\udcff')).toString(), '12345');
});

test('a path is followed as the mount would', async (t) => {
  const database = new TestDatabase();
  const { live } = database;
  const directory = database.directory(ROOT_INODE, 'dir');
  database.file(directory, 'f', Buffer.from('here'));
  live.symlink(ROOT_CALLER, ROOT_INODE, Buffer.from('short'), Buffer.from('dir'));
  live.symlink(ROOT_CALLER, ROOT_INODE, Buffer.from('loop'), Buffer.from('loop'));
  for (const path of ['dir/f', '/dir/f', './/dir/./f', 'short/f', 'short/../dir/f', '../dir/f']) {
    t.is((await database.readAll(path)).toString(), 'here', path);
  }
  t.deepEqual(
    (await database.listAll('short')).map((entry) => entry.name),
    ['f'],
  );
  t.deepEqual(
    (await database.listAll('short', { follow: false })).map((entry) => entry.type),
    ['symlink'],
  );
  t.deepEqual(
    await database.run('list', { path: 'dir/f' }).then((page) => (page as ListPage).directory),
    false,
  );
  for (const [path, code] of [
    ['none', 'ENOENT'],
    ['dir/none/deep', 'ENOENT'],
    ['dir/f/x', 'ENOTDIR'],
    ['dir/f/', 'ENOTDIR'],
    ['loop', 'ELOOP'],
    ['n'.repeat(256), 'ENAMETOOLONG'],
    ['d/'.repeat(2100), 'ENAMETOOLONG'],
    ['', 'ENOENT'],
    ['a\0b', 'EINVAL'],
    ['@none', 'NO_SUCH_STATE'],
    ['@none/x', 'NO_SUCH_STATE'],
  ] as const) {
    if (path === '') continue;
    const error = await t.throwsAsync(database.run('list', { path }), { instanceOf: LsnfsError }, path);
    t.is(error.code, code, path);
  }
});

test('past states are read under @, and ordinary names with @ come first', async (t) => {
  const database = new TestDatabase();
  database.file(ROOT_INODE, 'f', Buffer.from('before'));
  database.directory(ROOT_INODE, 'd');
  database.freeze();
  database.live.unlink(ROOT_CALLER, ROOT_INODE, Buffer.from('f'));
  database.file(ROOT_INODE, '@types', Buffer.from('ordinary'));
  await t.throwsAsync(database.readAll('f'), { message: 'f does not exist in the store' });
  for (const path of ['@old/f', '/@old//f', './@old/f', '@/old/f', '@//old/d/../f']) {
    t.is((await database.readAll(path)).toString(), 'before', path);
  }
  t.deepEqual(
    (await database.listAll('@old')).map((entry) => entry.name),
    ['d', 'f'],
  );
  t.deepEqual(
    (await database.listAll('@')).map((entry) => [entry.name, entry.target]),
    [['old', '../@old']],
  );
  t.is((await database.readAll('@types')).toString(), 'ordinary');
  t.is(database.references, 0, 'every door was let go');
});

test('a file is read in pieces, to the end of what was opened', async (t) => {
  const database = new TestDatabase();
  const content = Buffer.alloc(1_000_001, 'lsnfs ');
  database.file(ROOT_INODE, 'big', content);
  const first = (await database.run('read', { path: 'big' })) as ReadPage;
  t.not(first.cursor, null);
  database.live.unlink(ROOT_CALLER, ROOT_INODE, Buffer.from('big'));
  database.file(ROOT_INODE, 'big', Buffer.from('another'));
  let joined = first.data;
  for (let cursor = first.cursor; cursor !== null; ) {
    const page = (await database.run('read', { cursor })) as ReadPage;
    joined += page.data;
    cursor = page.cursor;
  }
  t.true(Buffer.from(joined, 'base64').equals(content), 'the pieces of base64 can be joined');
  t.is((await database.readAll('big')).toString(), 'another');
  const part = (await database.run('read', { path: 'big', offset: 2, length: 3 })) as ReadPage;
  t.deepEqual(part, { data: Buffer.from('oth').toString('base64'), cursor: null });
  t.is((await database.readAll('/big')).length, 7);
});

test('what has no content is not read', async (t) => {
  const database = new TestDatabase();
  database.directory(ROOT_INODE, 'd');
  database.live.mknod(ROOT_CALLER, ROOT_INODE, Buffer.from('pipe'), S_IFIFO | 0o600, 0);
  t.is((await t.throwsAsync(database.run('read', { path: 'd' }), { instanceOf: LsnfsError })).code, 'EISDIR');
  await t.throwsAsync(database.run('read', { path: 'pipe' }), {
    message: /pipe is a fifo, which has no content/,
  });
});

test('cursors are closed, bounded, and known by number only', async (t) => {
  const database = new TestDatabase();
  database.file(ROOT_INODE, 'big', Buffer.alloc(800_000));
  database.freeze();
  const { cursor } = (await database.run('read', { path: '@old/big' })) as ReadPage;
  t.is(database.references, 1);
  await database.run('closeCursor', { cursor });
  t.is(database.references, 0);
  await database.run('closeCursor', { cursor });
  await t.throwsAsync(database.run('read', { cursor }), { message: /not open/ });
  const open: (number | null)[] = [];
  for (let count = 0; count < 256; count++)
    open.push(((await database.run('read', { path: '@old/big' })) as ReadPage).cursor);
  const error = await t.throwsAsync(database.run('read', { path: '@old/big' }), { instanceOf: LsnfsError });
  t.is(error.code, 'EMFILE');
  t.is(database.references, 256, 'the refused one is not left open');
  for (const number of open) await database.run('closeCursor', { cursor: number });
  t.is(database.references, 0);
});

test('arguments are checked, and unknown operations refused', async (t) => {
  const database = new TestDatabase();
  for (const [name, args] of [
    ['list', {}],
    ['list', { path: 7 }],
    ['list', { cursor: 'x' }],
    ['list', { cursor: 99 }],
    ['list', { path: '\ud800' }],
    ['read', { path: 'f', offset: -1 }],
    ['read', { path: 'f', offset: 1.5 }],
    ['read', { path: 'f', length: '1' }],
    ['snapshotCreate', {}],
    ['snapshotCreate', { name: 'a', message: 1 }],
    ['snapshotDelete', { name: null }],
    ['closeCursor', {}],
    ['toString', {}],
    ['constructor', {}],
    ['__proto__', {}],
  ] as const) {
    const error = await t.throwsAsync(
      database.run(name, args),
      { instanceOf: LsnfsError },
      `${name} ${JSON.stringify(args)}`,
    );
    t.is(error.code, 'INVALID_INPUT', `${name} ${JSON.stringify(args)}`);
  }
});

test('commit, status and snapshots are the database’s own', async (t) => {
  const database = new TestDatabase();
  t.deepEqual(await database.run('commit'), { lsn: database.state.lsn });
  t.deepEqual(await database.run('status'), { lsn: database.state.lsn });
  t.like(await database.run('snapshotCreate', { name: 'a', message: 'why' }), {
    name: 'a',
    lsn: 7,
    message: 'why',
  });
  t.deepEqual(await database.run('snapshotList'), []);
  await t.throwsAsync(database.run('snapshotDelete', { name: 'a' }), { code: 'NO_SUCH_SNAPSHOT' });
});

test('what programs wrote is flushed before what speaks of the live state', (t) => {
  t.true(needsFlushedMount('commit', {}));
  t.true(needsFlushedMount('snapshotCreate', { name: 'a' }));
  t.true(needsFlushedMount('read', { path: '/f' }));
  t.true(needsFlushedMount('list', { path: 'a/@b' }));
  t.true(needsFlushedMount('read', { path: '/@types/f' }), 'it may be an ordinary entry');
  t.false(needsFlushedMount('read', { path: '/@lsn-7/f' }));
  t.false(needsFlushedMount('list', { path: './@' }));
  t.false(needsFlushedMount('read', { cursor: 1 }));
  t.false(needsFlushedMount('status', {}));
});

test('times keep nanoseconds, and years that RFC 3339 cannot write are null', (t) => {
  t.is(timeText(0, 1), '1970-01-01T00:00:00.000000001Z');
  t.is(timeText(-1, 999_999_999), '1969-12-31T23:59:59.999999999Z');
  t.is(timeText(2 ** 40, 0), null);
  t.is(timeText(-(2 ** 40), 0), null);
  t.is(timeText(2 ** 62, 0), null);
});
