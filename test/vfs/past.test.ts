/** File systems of past states: all can be read, nothing changed. */
import test from 'ava';
import { LsnfsError } from '../../src/errors.ts';
import { checkFileSystem } from '../../src/vfs/check.ts';
import {
  O_CREAT,
  O_EXCL,
  O_RDWR,
  O_TRUNC,
  O_WRONLY,
  ROOT_CALLER,
  ROOT_INODE,
} from '../../src/vfs/file-system.ts';
import { PastFileSystem } from '../../src/vfs/past-file-system.ts';
import { FakeLiveState } from '../helpers/fake-live-state.ts';
import { Clock, makeFile, makeFixture, vfsOptions } from '../helpers/vfs-fixture.ts';

const name = (text: string): Buffer => Buffer.from(text);

test('a past state shows what was, whatever happens later', (t) => {
  const { state, fs, clock } = makeFixture();
  const inode = makeFile(fs, 'f', 'old content');
  const large = makeFile(fs, 'large', Buffer.alloc(20_000, 1));
  fs.setxattr(ROOT_CALLER, inode, name('user.a'), name('old'), 0, false);
  const past = new PastFileSystem(state.freeze(), vfsOptions(new Clock()));
  clock.seconds += 1000;
  const handle = fs.open(ROOT_CALLER, inode, O_RDWR | O_TRUNC);
  fs.write(ROOT_CALLER, handle, 0, name('new'), 0, 3, false);
  fs.setxattr(ROOT_CALLER, inode, name('user.a'), name('new'), 0, false);
  fs.unlink(ROOT_CALLER, ROOT_INODE, name('large'));
  fs.mkdir(ROOT_CALLER, ROOT_INODE, name('later'), 0o755);

  const found = past.lookup(ROOT_CALLER, ROOT_INODE, name('f'));
  t.is(found?.size, 11);
  t.is(found?.modifySeconds, 1_800_000_000);
  t.is(past.lookup(ROOT_CALLER, ROOT_INODE, name('later')), undefined);
  const target = Buffer.alloc(20_000);
  const reader = past.open(ROOT_CALLER, inode, 0);
  t.is(past.read(reader, 0, target, 0, 100), 11);
  t.is(target.toString('latin1', 0, 11), 'old content');
  past.release(reader);
  const largeReader = past.open(ROOT_CALLER, large, 0);
  t.is(past.read(largeReader, 0, target, 0, 20_000), 20_000);
  t.true(target.equals(Buffer.alloc(20_000, 1)));
  t.is(Buffer.from(past.getxattr(ROOT_CALLER, inode, name('user.a'))).toString(), 'old');
  t.is(past.fsync(inode), past.lsn);
});

test('every change of a past state is EROFS', (t) => {
  const { state, fs } = makeFixture();
  const inode = makeFile(fs, 'f', 'x');
  const past = new PastFileSystem(state.freeze(), vfsOptions(new Clock()));
  const changes: Record<string, () => unknown> = {
    setattr: () => past.setattr(),
    mknod: () => past.mknod(),
    mkdir: () => past.mkdir(),
    symlink: () => past.symlink(),
    link: () => past.link(),
    unlink: () => past.unlink(),
    rmdir: () => past.rmdir(),
    rename: () => past.rename(),
    'open for writing': () => past.open(ROOT_CALLER, inode, O_WRONLY),
    'open with O_TRUNC': () => past.open(ROOT_CALLER, inode, O_TRUNC),
    create: () => past.create(ROOT_CALLER, ROOT_INODE, name('g'), 0o644, O_CREAT),
    tmpfile: () => past.tmpfile(),
    write: () => past.write(),
    fallocate: () => past.fallocate(),
    copyFileRange: () => past.copyFileRange(),
    setxattr: () => past.setxattr(),
    removexattr: () => past.removexattr(),
  };
  for (const [what, change] of Object.entries(changes)) t.throws(change, { code: 'EROFS' }, what);
  const opened = past.create(ROOT_CALLER, ROOT_INODE, name('f'), 0o644, O_CREAT);
  t.is(opened.attributes.inode, inode);
  past.release(opened.handle);
  const exclusive = (): unknown => past.create(ROOT_CALLER, ROOT_INODE, name('f'), 0o644, O_CREAT | O_EXCL);
  t.throws(exclusive, { code: 'EEXIST' });
  t.is(fs.lsn, past.lsn, 'a past state is read without a change of the live one');
});

test('the state before the first transaction is an empty directory', (t) => {
  const empty = new FakeLiveState().freeze();
  const past = new PastFileSystem(empty, vfsOptions(new Clock()));
  t.is(past.getattr(ROOT_CALLER, ROOT_INODE).mode, 0o040755);
  const handle = past.opendir(ROOT_CALLER, ROOT_INODE);
  const names: string[] = [];
  past.readdir(handle, 0, (entry) => names.push(Buffer.from(entry).toString()) > 0);
  t.deepEqual(names, ['.', '..']);
  past.releasedir(handle);
  t.deepEqual(checkFileSystem(empty), []);
});

test('errors of the file system carry the errno that a mount answers', (t) => {
  const { fs } = makeFixture();
  const error = t.throws(() => fs.mkdir(ROOT_CALLER, ROOT_INODE, name('@lsn-5'), 0o755), {
    instanceOf: LsnfsError,
  });
  t.is(error?.code, 'NAME_RESERVED');
  t.is(error?.errno, 'EINVAL');
});
