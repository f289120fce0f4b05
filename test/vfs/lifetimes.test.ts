/** Inodes that are known, open, or neither: when they go; and handles of a kernel. */
import test from 'ava';
import { checkFileSystem } from '../../src/vfs/check.ts';
import { O_APPEND, O_WRONLY, ROOT_CALLER, ROOT_INODE, S_ISGID, S_ISUID } from '../../src/vfs/file-system.ts';
import { LiveFileSystem } from '../../src/vfs/live-file-system.ts';
import { Clock, makeFile, makeFixture, vfsOptions } from '../helpers/vfs-fixture.ts';

const name = (text: string): Buffer => Buffer.from(text);

test('an unlinked inode that a client knows goes when it is forgotten', (t) => {
  const { state, fs } = makeFixture();
  const inode = makeFile(fs, 'f', Buffer.alloc(10_000, 1));
  fs.remember(inode, 3);
  fs.unlink(ROOT_CALLER, ROOT_INODE, name('f'));
  t.is(fs.getattr(ROOT_CALLER, inode).links, 0);
  t.deepEqual(checkFileSystem(state), []);
  fs.forget(inode, 2);
  t.is(fs.getattr(ROOT_CALLER, inode).size, 10_000);
  fs.forget(inode, 1);
  t.throws(() => fs.getattr(ROOT_CALLER, inode), { code: 'ESTALE' });
  t.is(state.counters.inodes, 1);
  t.is(state.counters.dataPages, 0);
  t.deepEqual(checkFileSystem(state), []);
});

test('a known inode that is linked survives being forgotten', (t) => {
  const { fs } = makeFixture();
  const inode = makeFile(fs, 'f', 'x');
  fs.remember(inode, 1);
  fs.forget(inode, 1);
  t.is(fs.getattr(ROOT_CALLER, inode).size, 1);
});

test('open and known: both must end', (t) => {
  const { state, fs } = makeFixture();
  const inode = makeFile(fs, 'f', 'x');
  fs.remember(inode, 1);
  const one = fs.open(ROOT_CALLER, inode, 0);
  const two = fs.open(ROOT_CALLER, inode, 0);
  fs.unlink(ROOT_CALLER, ROOT_INODE, name('f'));
  fs.release(one);
  fs.forget(inode, 1);
  t.is(fs.getattr(ROOT_CALLER, inode).size, 1);
  fs.release(two);
  t.throws(() => fs.getattr(ROOT_CALLER, inode), { code: 'ESTALE' });
  t.deepEqual(checkFileSystem(state), []);
});

test('a removed directory that is known stays until it is forgotten, and takes nothing', (t) => {
  const { state, fs } = makeFixture();
  const { inode } = fs.mkdir(ROOT_CALLER, ROOT_INODE, name('d'), 0o755);
  fs.remember(inode, 1);
  fs.rmdir(ROOT_CALLER, ROOT_INODE, name('d'));
  t.is(fs.getattr(ROOT_CALLER, inode).links, 0);
  t.throws(() => fs.mkdir(ROOT_CALLER, inode, name('x'), 0o755), { code: 'ENOENT' });
  t.throws(() => fs.create(ROOT_CALLER, inode, name('x'), 0o644, 2), { code: 'ENOENT' });
  t.throws(() => fs.tmpfile(ROOT_CALLER, inode, 0o644, 2), { code: 'ENOENT' });
  const file = makeFile(fs, 'f', '');
  t.throws(() => fs.rename(ROOT_CALLER, ROOT_INODE, name('f'), inode, name('f'), 0), { code: 'ENOENT' });
  t.throws(() => fs.link(ROOT_CALLER, file, inode, name('f')), { code: 'ENOENT' });
  t.deepEqual(checkFileSystem(state), []);
  fs.forget(inode, 1);
  t.throws(() => fs.getattr(ROOT_CALLER, inode), { code: 'ESTALE' });
  t.deepEqual(checkFileSystem(state), []);
});

test('orphans of a session that ended are removed by the next', (t) => {
  const { state, fs } = makeFixture();
  const open = makeFile(fs, 'open', Buffer.alloc(9000, 1));
  const known = makeFile(fs, 'known', 'x');
  fs.setxattr(ROOT_CALLER, known, name('user.a'), Buffer.alloc(5000), 0, false);
  fs.open(ROOT_CALLER, open, 0);
  fs.tmpfile(ROOT_CALLER, ROOT_INODE, 0o600, 2);
  fs.remember(known, 1);
  fs.unlink(ROOT_CALLER, ROOT_INODE, name('open'));
  fs.unlink(ROOT_CALLER, ROOT_INODE, name('known'));
  t.is(state.counters.inodes, 4);
  t.deepEqual(checkFileSystem(state), []);
  const next = new LiveFileSystem(state, vfsOptions(new Clock()));
  t.is(next.removeOrphans(), 3);
  t.is(state.counters.inodes, 1);
  t.is(state.counters.dataPages, 0);
  t.deepEqual(checkFileSystem(state), []);
});

test('forgetAll ends all knowledge of clients', (t) => {
  const { state, fs } = makeFixture();
  const inode = makeFile(fs, 'f', 'x');
  fs.remember(inode, 5);
  fs.unlink(ROOT_CALLER, ROOT_INODE, name('f'));
  fs.forgetAll();
  t.is(state.counters.inodes, 1);
});

test('the handles of a kernel read what is open for writing, and place appending writes themselves', (t) => {
  const { fs } = makeFixture({ kernelHandles: true, checkPermissions: false });
  const inode = makeFile(fs, 'f', 'content');
  const handle = fs.open({ uid: 1000, gid: 1000, pid: 1 }, inode, O_WRONLY | O_APPEND);
  const target = Buffer.alloc(7);
  t.is(fs.read(handle, 0, target, 0, 7), 7);
  fs.write(ROOT_CALLER, handle, 0, Buffer.from('CON'), 0, 3, false);
  fs.read(handle, 0, target, 0, 7);
  t.is(target.toString(), 'CONtent');
  fs.release(handle);
});

test('the times of a file without a name are a change only while somebody has it open', (t) => {
  const time = { seconds: 1_700_000_000, nanoseconds: 5 };
  const { fs } = makeFixture({ kernelHandles: true, checkPermissions: false });
  const inode = makeFile(fs, 'f', 'content');
  fs.remember(inode, 1);
  const handle = fs.open(ROOT_CALLER, inode, 0);
  fs.unlink(ROOT_CALLER, ROOT_INODE, name('f'));
  t.is(fs.setattr(ROOT_CALLER, inode, { modify: time, change: time }).modifySeconds, time.seconds);
  fs.release(handle);
  const { lsn } = fs;
  fs.setattr(ROOT_CALLER, inode, { modify: { ...time, seconds: 5 }, change: time });
  t.is(fs.lsn, lsn, 'what goes with the last reference is not written');
  fs.setattr(ROOT_CALLER, inode, { mode: 0o600 });
  t.true(fs.lsn > lsn);
  fs.forget(inode, 1);
  t.throws(() => fs.getattr(ROOT_CALLER, inode), { code: 'ESTALE' });
  // Without a kernel that keeps times itself, and with a name, it is a change.
  const library = makeFixture().fs;
  const other = makeFile(library, 'f', 'content');
  library.remember(other, 1);
  library.unlink(ROOT_CALLER, ROOT_INODE, name('f'));
  t.is(library.setattr(ROOT_CALLER, other, { modify: time }).modifySeconds, time.seconds);
});

test('killPrivileges clears setuid, and setgid where the group may execute', (t) => {
  const { fs } = makeFixture({ kernelHandles: true, checkPermissions: false });
  const caller = { uid: 1000, gid: 1000, pid: 1 };
  const inode = makeFile(fs, 'f', 'content');
  // Of the caller's group: an outsider's write takes setgid in any case.
  fs.setattr(ROOT_CALLER, inode, { gid: caller.gid });
  const handle = fs.open(ROOT_CALLER, inode, 2);
  for (const [mode, expected] of [
    [S_ISUID | S_ISGID | 0o755, 0o755],
    [S_ISUID | S_ISGID | 0o644, S_ISGID | 0o644],
  ] as const) {
    fs.setattr(ROOT_CALLER, inode, { mode });
    fs.write(caller, handle, 0, Buffer.from('x'), 0, 1, false);
    t.is(fs.getattr(caller, inode).mode & 0o7777, mode, 'a write alone leaves the mode to the kernel');
    fs.write(caller, handle, 0, Buffer.from('x'), 0, 1, true);
    t.is(fs.getattr(caller, inode).mode & 0o7777, expected);
    fs.setattr(ROOT_CALLER, inode, { mode });
    fs.setattr(caller, inode, { size: 3, killPrivileges: true });
    t.is(fs.getattr(caller, inode).mode & 0o7777, expected);
  }
  fs.release(handle);
});

test('setattr takes the ctime of the kernel', (t) => {
  const { fs } = makeFixture();
  const inode = makeFile(fs, 'f', '');
  const change = { seconds: 5, nanoseconds: 6 };
  const attributes = fs.setattr(ROOT_CALLER, inode, { modify: { seconds: -1, nanoseconds: 999 }, change });
  t.is(attributes.modifySeconds, -1);
  t.is(attributes.changeSeconds, 5);
  t.is(attributes.changeNanoseconds, 6);
});

test('a handle of one kind is not one of the other, and none twice', (t) => {
  const { fs } = makeFixture();
  const inode = makeFile(fs, 'f', '');
  const file = fs.open(ROOT_CALLER, inode, 0);
  t.throws(() => fs.readdir(file, 0, () => true), { code: 'ENOTDIR' });
  t.throws(() => fs.opendir(ROOT_CALLER, inode), { code: 'ENOTDIR' });
  const directory = fs.opendir(ROOT_CALLER, ROOT_INODE);
  t.throws(() => fs.read(directory, 0, Buffer.alloc(1), 0, 1), { code: 'EISDIR' });
  fs.release(file);
  t.throws(() => fs.release(file), { code: 'EBADF' });
  t.throws(() => fs.read(file, 0, Buffer.alloc(1), 0, 1), { code: 'EBADF' });
  for (const bad of [0, -1, 99, 1.5, Number.NaN, 2 ** 53]) t.throws(() => fs.release(bad), { code: 'EBADF' });
});

test('inode numbers that do not exist are stale', (t) => {
  const { fs } = makeFixture();
  for (const bad of [0, 2, 99, 2 ** 53 - 1]) {
    t.throws(() => fs.getattr(ROOT_CALLER, bad), { code: 'ESTALE' });
    t.throws(() => fs.lookup(ROOT_CALLER, bad, name('x')), { code: 'ESTALE' });
    t.throws(() => fs.open(ROOT_CALLER, bad, 0), { code: 'ESTALE' });
  }
});

test('noatime: reading changes nothing; relatime: one transaction a change', (t) => {
  for (const atime of ['noatime', 'relatime'] as const) {
    const { state, fs, clock } = makeFixture({ atime });
    const inode = makeFile(fs, 'f', 'content');
    const handle = fs.open(ROOT_CALLER, inode, 0);
    const before = state.transactions;
    for (let i = 0; i < 10; i++) {
      clock.seconds++;
      fs.read(handle, 0, Buffer.alloc(7), 0, 7);
    }
    t.is(state.transactions - before, atime === 'noatime' ? 0 : 1);
    fs.release(handle);
  }
});

test('a cookie of another handle of the same directory is understood', (t) => {
  const { fs } = makeFixture();
  for (let i = 0; i < 20; i++) makeFile(fs, `f${i}`, '');
  const first = fs.opendir(ROOT_CALLER, ROOT_INODE);
  const all: { text: string; cookie: number }[] = [];
  fs.readdir(first, 0, (entry, _inode, _mode, cookie) => {
    all.push({ text: Buffer.from(entry).toString(), cookie });
    return true;
  });
  const second = fs.opendir(ROOT_CALLER, ROOT_INODE);
  for (const at of [10, 3, 1, 21]) {
    const rest: string[] = [];
    fs.readdir(second, all[at]!.cookie, (entry) => {
      rest.push(Buffer.from(entry).toString());
      return true;
    });
    t.deepEqual(
      rest,
      all.slice(at + 1).map(({ text }) => text),
    );
  }
  fs.readdir(second, 1e9, () => t.fail('there is nothing behind a cookie that was never given'));
});

test('times that no record can hold: the last that can be, and EINVAL for impossible nanoseconds', (t) => {
  const { state, fs } = makeFixture({ cachedInodes: 1 });
  const inode = makeFile(fs, 'f', '');
  const access = { seconds: 2 ** 62, nanoseconds: 999_999_999 };
  fs.setattr(ROOT_CALLER, inode, { access, modify: { seconds: -(2 ** 62), nanoseconds: 0 } });
  const again = new LiveFileSystem(state, vfsOptions(new Clock())).getattr(ROOT_CALLER, inode);
  t.is(again.accessSeconds, Number.MAX_SAFE_INTEGER);
  t.is(again.modifySeconds, Number.MIN_SAFE_INTEGER);
  for (const nanoseconds of [-1, 1_000_000_000, Number.NaN]) {
    t.throws(() => fs.setattr(ROOT_CALLER, inode, { modify: { seconds: 1, nanoseconds } }), {
      code: 'EINVAL',
    });
  }
  t.deepEqual(checkFileSystem(state), []);
});
