/**
 * Every operation is made to fail at its first change, its second, … until it succeeds. After each failure the
 * state must be what it was, to the byte, and the file system must go on as if nothing had been asked.
 */
import test from 'ava';
import { LsnfsError } from '../../src/errors.ts';
import { checkFileSystem } from '../../src/vfs/check.ts';
import { RENAME_EXCHANGE, ROOT_CALLER, ROOT_INODE, S_IFIFO } from '../../src/vfs/file-system.ts';
import type { LiveFileSystem } from '../../src/vfs/live-file-system.ts';
import { dump, type Fixture, makeFile, makeFixture } from '../helpers/vfs-fixture.ts';

const UMASK = { ...ROOT_CALLER, umask: 0o022 };
const OTHER = { uid: 1000, gid: 1000, pid: 1 };
const name = (text: string): Buffer => Buffer.from(text);

interface Prepared {
  readonly directory: number;
  readonly full: number;
  readonly small: number;
  readonly large: number;
  readonly smallHandle: number;
  readonly largeHandle: number;
}

/** An ACL with a named user, so that it is kept. */
const ACL = Buffer.from(
  '0200000001000700ffffffff02000700ea03000004000500' + 'ffffffff10000700ffffffff20000000ffffffff',
  'hex',
);

function prepare({ fs }: Fixture): Prepared {
  const directory = fs.mkdir(ROOT_CALLER, ROOT_INODE, name('dir'), 0o755).inode;
  const full = fs.mkdir(ROOT_CALLER, ROOT_INODE, name('full'), 0o755).inode;
  fs.mkdir(ROOT_CALLER, full, name('sub'), 0o755);
  fs.setxattr(ROOT_CALLER, full, name('system.posix_acl_default'), ACL, 0, false);
  const small = makeFile(fs, 'small', 'content', directory);
  const large = makeFile(fs, 'large', Buffer.alloc(50_000, 7), directory);
  fs.link(ROOT_CALLER, large, full, name('linked'));
  fs.setxattr(ROOT_CALLER, small, name('user.a'), Buffer.alloc(3000, 1), 0, false);
  fs.setxattr(ROOT_CALLER, small, name('security.capability'), Buffer.alloc(20, 1), 0, false);
  const smallHandle = fs.open(ROOT_CALLER, small, 2);
  const largeHandle = fs.open(ROOT_CALLER, large, 2);
  return { directory, full, small, large, smallHandle, largeHandle };
}

const OPERATIONS: Record<string, (fs: LiveFileSystem, at: Prepared) => unknown> = {
  mkdir: (fs, at) => fs.mkdir(UMASK, at.full, name('new'), 0o755),
  mknod: (fs, at) => fs.mknod(ROOT_CALLER, at.directory, name('pipe'), S_IFIFO | 0o644, 0),
  symlink: (fs, at) => fs.symlink(ROOT_CALLER, at.directory, name('link'), Buffer.alloc(2000, 0x61)),
  create: (fs, at) => fs.release(fs.create(ROOT_CALLER, at.full, name('new'), 0o644, 2).handle),
  'tmpfile and release': (fs, at) => fs.release(fs.tmpfile(ROOT_CALLER, at.directory, 0o644, 2).handle),
  link: (fs, at) => fs.link(ROOT_CALLER, at.small, at.full, name('second')),
  'unlink of an open file': (fs, at) => fs.unlink(ROOT_CALLER, at.directory, name('small')),
  'unlink of one link': (fs, at) => fs.unlink(ROOT_CALLER, at.full, name('linked')),
  'unlink and release': (fs, at) => {
    fs.unlink(ROOT_CALLER, at.directory, name('small'));
    fs.release(at.smallHandle);
  },
  rmdir: (fs, at) => fs.rmdir(ROOT_CALLER, at.full, name('sub')),
  rename: (fs, at) => fs.rename(ROOT_CALLER, at.full, name('sub'), at.directory, name('moved'), 0),
  'rename onto a file': (fs, at) =>
    fs.rename(ROOT_CALLER, at.directory, name('large'), at.directory, name('small'), 0),
  exchange: (fs, at) =>
    fs.rename(ROOT_CALLER, at.full, name('sub'), at.directory, name('small'), RENAME_EXCHANGE),
  'write inline': (fs, at) => fs.write(ROOT_CALLER, at.smallHandle, 3, name('xyz'), 0, 3, false),
  'write beyond inline': (fs, at) =>
    fs.write(ROOT_CALLER, at.smallHandle, 3, Buffer.alloc(5000, 1), 0, 5000, true),
  'write extents': (fs, at) =>
    fs.write(OTHER, at.largeHandle, 30_000, Buffer.alloc(50_000, 1), 0, 50_000, false),
  truncate: (fs, at) => fs.setattr(ROOT_CALLER, at.large, { size: 10_001 }),
  'truncate to nothing': (fs, at) => fs.setattr(ROOT_CALLER, at.large, { size: 0 }),
  chown: (fs, at) => fs.setattr(ROOT_CALLER, at.small, { uid: 5, gid: 6 }),
  punch: (fs, at) => fs.fallocate(ROOT_CALLER, at.largeHandle, 3, 5000, 20_000),
  allocate: (fs, at) => fs.fallocate(ROOT_CALLER, at.smallHandle, 0, 0, 100_000),
  copy: (fs, at) => fs.copyFileRange(ROOT_CALLER, at.largeHandle, 100, at.smallHandle, 5, 30_000),
  setxattr: (fs, at) => fs.setxattr(ROOT_CALLER, at.small, name('user.a'), Buffer.alloc(1500, 2), 0, false),
  removexattr: (fs, at) => fs.removexattr(ROOT_CALLER, at.small, name('user.a')),
  'set an ACL': (fs, at) =>
    fs.setxattr(ROOT_CALLER, at.small, name('system.posix_acl_access'), ACL, 0, false),
};

for (const [operation, run] of Object.entries(OPERATIONS)) {
  test(`${operation}: a failure at any change leaves no trace`, (t) => {
    let failures = 0;
    for (;;) {
      const fixture = makeFixture();
      const { state, fs, clock } = fixture;
      const at = prepare(fixture);
      const before = dump(state);
      clock.seconds += 10;
      state.failAfter = failures;
      let failed = false;
      try {
        run(fs, at);
      } catch (error) {
        if (!(error instanceof LsnfsError) || error.code !== 'IO') throw error;
        failed = true;
      }
      const whole = !operation.includes('and release');
      state.failAfter = Number.POSITIVE_INFINITY;
      t.deepEqual(checkFileSystem(state), [], `after failure ${failures}`);
      if (!failed) break;
      if (whole) t.true(dump(state).join() === before.join(), `after failure ${failures}`);
      failures++;
      t.true(failures < 1000);
      // Handles find their inodes again, and the operation succeeds now.
      t.is(fs.read(at.largeHandle, 49_000, Buffer.alloc(2000), 0, 2000), 1000);
      if (whole) t.notThrows(() => run(fs, at));
      t.deepEqual(checkFileSystem(state), []);
    }
    t.true(failures > 0, 'the operation changes something');
  });
}

test('a store that is full or failed can be read, and handles be closed', (t) => {
  const { state, fs, clock } = makeFixture();
  const inode = makeFile(fs, 'f', 'content');
  const handle = fs.open(ROOT_CALLER, inode, 2);
  fs.unlink(ROOT_CALLER, ROOT_INODE, name('f'));
  clock.seconds += 100_000;
  state.beginError = new LsnfsError('NO_SPACE', 'full');
  const target = Buffer.alloc(10);
  t.is(fs.read(handle, 0, target, 0, 10), 7);
  t.throws(() => fs.write(ROOT_CALLER, handle, 0, target, 0, 5, false), { message: 'full' });
  t.notThrows(() => fs.release(handle));
  state.beginError = undefined;
  t.is(fs.removeOrphans(), 1, 'what could not be removed then');
  t.deepEqual(checkFileSystem(state), []);
});
