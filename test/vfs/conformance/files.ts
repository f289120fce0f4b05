/** Files, links and nodes: opening, creating, linking, unlinking. */
import { CaseList, equal, fails, holds, names, readFile, same, withFile, writeFile } from './case.ts';

const cases = new CaseList('files');
export const fileCases = cases.cases;

const O_RDONLY = 0;
const O_WRONLY = 1;
const O_RDWR = 2;
const O_CREAT = 0o100;
const O_EXCL = 0o200;
const O_TRUNC = 0o1000;
const O_APPEND = 0o2000;
const O_DIRECTORY = 0o200000;
const O_NOFOLLOW = 0o400000;
const O_TMPFILE = 0o20200000;
const S_IFREG = 0o100000;

cases.add('open with O_CREAT makes an empty file with mode & ~umask', async (p) => {
  await p.close(await p.open('f', O_CREAT | O_WRONLY, 0o666, { uid: 0, gid: 0, umask: 0o026 }));
  const { mode, nlink, size, blocks } = await p.stat('f');
  equal('open O_CREAT: st_mode', mode, S_IFREG | 0o640);
  equal('open O_CREAT: st_nlink', nlink, 1);
  equal('open O_CREAT: st_size', size, 0);
  equal('open O_CREAT: st_blocks', blocks, 0);
});

cases.add('open with O_CREAT opens what exists and leaves mode and content', async (p) => {
  await writeFile(p, 'f', 'content', 0o600);
  await p.close(await p.open('f', O_CREAT | O_RDWR, 0o777));
  equal('open O_CREAT of a file: st_mode', (await p.stat('f')).mode, S_IFREG | 0o600);
  same('content after open O_CREAT', await readFile(p, 'f'), 'content');
});

cases.add('O_EXCL fails with EEXIST on anything, a dangling link too', async (p) => {
  await writeFile(p, 'f', '');
  await p.symlink('nowhere', 'l');
  await p.mkdir('d');
  for (const name of ['f', 'l', 'd']) {
    await fails('EEXIST', `open O_CREAT|O_EXCL of ${name}`, () => p.open(name, O_CREAT | O_EXCL | O_WRONLY));
  }
  await fails('ENOENT', 'nothing was created behind the link', () => p.stat('nowhere'));
});

cases.add('O_CREAT follows a dangling link and creates its target', async (p) => {
  await p.mkdir('d');
  await p.symlink('d/target', 'l');
  await p.close(await p.open('l', O_CREAT | O_WRONLY));
  equal('stat of the target: st_size', (await p.stat('d/target')).size, 0);
});

cases.add('O_TRUNC empties the file and sets its times', async (p) => {
  await writeFile(p, 'f', 'content');
  const before = await p.stat('f');
  await p.tick();
  await p.close(await p.open('f', O_WRONLY | O_TRUNC));
  const after = await p.stat('f');
  equal('open O_TRUNC: st_size', after.size, 0);
  holds('open O_TRUNC: mtime grows', after.mtimeNs > before.mtimeNs);
  holds('open O_TRUNC: ctime grows', after.ctimeNs > before.ctimeNs);
});

cases.add('open of a directory: reading is possible, writing and creating are EISDIR', async (p) => {
  await p.mkdir('d');
  await fails('EISDIR', 'open O_WRONLY of a directory', () => p.open('d', O_WRONLY));
  await fails('EISDIR', 'open O_RDWR of a directory', () => p.open('d', O_RDWR));
  await fails('EISDIR', 'open O_CREAT of a directory', () => p.open('d', O_CREAT | O_RDONLY));
  const fd = await p.open('d', O_RDONLY);
  await fails('EISDIR', 'pread of a directory', () => p.pread(fd, 0, 10));
  await p.fsync(fd);
  await p.close(fd);
});

cases.add('O_DIRECTORY refuses files, O_NOFOLLOW refuses links', async (p) => {
  await writeFile(p, 'f', '');
  await p.symlink('f', 'l');
  await fails('ENOTDIR', 'open O_DIRECTORY of a file', () => p.open('f', O_RDONLY | O_DIRECTORY));
  await fails('ELOOP', 'open O_NOFOLLOW of a link', () => p.open('l', O_RDONLY | O_NOFOLLOW));
});

cases.add('open: missing files, files as directories, trailing slashes', async (p) => {
  await writeFile(p, 'f', '');
  await fails('ENOENT', 'open of what is missing', () => p.open('no', O_RDONLY));
  await fails('ENOENT', 'open O_CREAT below a missing directory', () => p.open('no/f', O_CREAT | O_WRONLY));
  await fails('ENOTDIR', 'open below a file', () => p.open('f/g', O_RDONLY));
  await fails('ENOTDIR', 'open of "f/"', () => p.open('f/', O_RDONLY));
  await fails('ENOTDIR', 'stat of "f/"', () => p.stat('f/'));
  await fails('EISDIR', 'open O_CREAT of "new/"', () => p.open('new/', O_CREAT | O_WRONLY));
  await fails('ENOENT', 'open of an empty path', () => p.open('', O_RDONLY));
});

cases.add('a handle allows what it was opened for', async (p) => {
  await writeFile(p, 'f', 'content');
  const reader = await p.open('f', O_RDONLY);
  await fails('EBADF', 'pwrite on O_RDONLY', () => p.pwrite(reader, 0, Buffer.from('x')));
  await fails('EINVAL', 'ftruncate on O_RDONLY', () => p.ftruncate(reader, 0));
  await fails('EBADF', 'fallocate on O_RDONLY', () => p.fallocate(reader, 0, 0, 10));
  await p.close(reader);
  const writer = await p.open('f', O_WRONLY);
  await fails('EBADF', 'pread on O_WRONLY', () => p.pread(writer, 0, 1));
  await p.close(writer);
  await fails('EBADF', 'pread on a closed descriptor', () => p.pread(writer, 0, 1));
});

cases.add('O_APPEND writes at the end, wherever that is', async (p) => {
  await writeFile(p, 'f', 'one');
  const fd = await p.open('f', O_WRONLY | O_APPEND);
  await p.append(fd, Buffer.from('two'));
  await withFile(p, 'f', O_WRONLY, (other) => Promise.resolve(p.pwrite(other, 6, Buffer.from('more'))));
  await p.append(fd, Buffer.from('three'));
  await p.close(fd);
  same('content after appends', await readFile(p, 'f'), 'onetwomorethree');
});

cases.add('creating changes mtime and ctime of the directory', async (p) => {
  await p.mkdir('d');
  const before = await p.stat('d');
  await p.tick();
  await p.close(await p.open('d/f', O_CREAT | O_WRONLY));
  const after = await p.stat('d');
  holds('open O_CREAT: mtime of the directory grows', after.mtimeNs > before.mtimeNs);
  holds('open O_CREAT: ctime of the directory grows', after.ctimeNs > before.ctimeNs);
  const file = await p.stat('d/f');
  holds(
    'open O_CREAT: times of the file are new',
    file.mtimeNs > before.mtimeNs && file.atimeNs > before.mtimeNs,
  );
});

cases.add('unlink removes the name; the file stays while it is open', async (p) => {
  await writeFile(p, 'f', 'content');
  const fd = await p.open('f', O_RDWR);
  await p.unlink('f');
  await fails('ENOENT', 'stat after unlink', () => p.stat('f'));
  equal('fstat of an unlinked file: st_nlink', (await p.fstat(fd)).nlink, 0);
  same('pread of an unlinked file', await p.pread(fd, 0, 100), 'content');
  await p.pwrite(fd, 7, Buffer.from(' more'));
  equal('fstat of an unlinked file: st_size', (await p.fstat(fd)).size, 12);
  same('pread of what was written after unlink', await p.pread(fd, 0, 100), 'content more');
  await p.ftruncate(fd, 3);
  same('pread after ftruncate', await p.pread(fd, 0, 100), 'con');
  await p.close(fd);
});

cases.add('a name can be used again while the unlinked file is open', async (p) => {
  await writeFile(p, 'f', 'old');
  const fd = await p.open('f', O_RDONLY);
  await p.unlink('f');
  await writeFile(p, 'f', 'new');
  same('the unlinked file', await p.pread(fd, 0, 10), 'old');
  same('the new file', await readFile(p, 'f'), 'new');
  holds('their inode numbers differ', (await p.fstat(fd)).ino !== (await p.stat('f')).ino);
  await p.close(fd);
});

cases.add('unlink of a directory is EISDIR, of what is missing ENOENT', async (p) => {
  await p.mkdir('d');
  await writeFile(p, 'f', '');
  await fails('EISDIR', 'unlink of a directory', () => p.unlink('d'));
  await fails('ENOENT', 'unlink of what is missing', () => p.unlink('no'));
  await fails('ENOTDIR', 'unlink of "f/"', () => p.unlink('f/'));
  await fails('ENOTDIR', 'unlink below a file', () => p.unlink('f/g'));
});

cases.add('unlink removes a symbolic link, not its target', async (p) => {
  await writeFile(p, 'f', 'x');
  await p.symlink('f', 'l');
  await p.unlink('l');
  same('the target', await readFile(p, 'f'), 'x');
});

cases.add('unlink changes times of the directory, and ctime of a file that has more links', async (p) => {
  await p.mkdir('d');
  await writeFile(p, 'd/f', '');
  await p.link('d/f', 'g');
  const directory = await p.stat('d');
  const file = await p.stat('g');
  await p.tick();
  await p.unlink('d/f');
  holds('unlink: mtime of the directory grows', (await p.stat('d')).mtimeNs > directory.mtimeNs);
  holds('unlink: ctime of the directory grows', (await p.stat('d')).ctimeNs > directory.ctimeNs);
  holds('unlink: ctime of the file grows', (await p.stat('g')).ctimeNs > file.ctimeNs);
  equal('unlink: mtime of the file stays', (await p.stat('g')).mtimeNs, file.mtimeNs);
});

cases.add('link makes a second name of one file', async (p) => {
  await writeFile(p, 'f', 'content');
  const before = await p.stat('f');
  await p.tick();
  await p.link('f', 'g');
  const after = await p.stat('g');
  equal('link: st_ino', after.ino, before.ino);
  equal('link: st_nlink', after.nlink, 2);
  holds('link: ctime of the file grows', after.ctimeNs > before.ctimeNs);
  equal('link: mtime of the file stays', after.mtimeNs, before.mtimeNs);
  await withFile(p, 'g', O_WRONLY, (fd) => Promise.resolve(p.pwrite(fd, 0, Buffer.from('CON'))));
  same('content through the other name', await readFile(p, 'f'), 'CONtent');
  await p.unlink('f');
  equal('st_nlink after unlink of one', (await p.stat('g')).nlink, 1);
  same('content after unlink of one', await readFile(p, 'g'), 'CONtent');
});

cases.add('link: what cannot be linked, and where', async (p) => {
  await p.mkdir('d');
  await writeFile(p, 'f', '');
  await writeFile(p, 'g', '');
  await fails('EPERM', 'link of a directory', () => p.link('d', 'e'));
  await fails('EEXIST', 'link onto what exists', () => p.link('f', 'g'));
  await fails('EEXIST', 'link onto a directory', () => p.link('f', 'd'));
  await fails('ENOENT', 'link of what is missing', () => p.link('no', 'h'));
  await fails('ENOENT', 'link into a missing directory', () => p.link('f', 'no/h'));
  await fails('ENOTDIR', 'link below a file', () => p.link('f', 'g/h'));
});

cases.add('link of a symbolic link links the link', async (p) => {
  await p.symlink('nowhere', 'l');
  await p.link('l', 'm');
  equal('lstat: st_ino', (await p.lstat('m')).ino, (await p.lstat('l')).ino);
  same('readlink', await p.readlink('m'), 'nowhere');
});

cases.add(
  'a file has at most 65,000 links',
  async (p) => {
    await writeFile(p, 'f', '');
    for (let i = 1; i < 65_000; i++) await p.link('f', `l${i}`);
    equal('st_nlink', (await p.stat('f')).nlink, 65_000);
    await fails('EMLINK', 'one link more', () => p.link('f', 'too-many'));
  },
  'linkMax',
);

cases.add(
  'symlink keeps any target to the byte',
  async (p) => {
    const long = 'x/'.repeat(2000);
    await p.symlink(long, 'long');
    same('readlink of 4,000 bytes', await p.readlink('long'), long);
    equal('lstat: st_size is the length of the target', (await p.lstat('long')).size, 4000);
    equal('lstat: st_mode', (await p.lstat('long')).mode, 0o120777);
    await p.symlink(Buffer.from([0xff, 0xfe, 0x0a]), 'bytes');
    same('readlink of bytes that are no UTF-8', await p.readlink('bytes'), Buffer.from([0xff, 0xfe, 0x0a]));
    await fails('ENAMETOOLONG', 'symlink with a target of 4,096 bytes', () =>
      p.symlink('x'.repeat(4096), 'too-long'),
    );
    await fails('ENOENT', 'symlink with an empty target', () => p.symlink('', 'empty'));
  },
  'anyNames',
);

cases.add('symlink and readlink: errors', async (p) => {
  await writeFile(p, 'f', '');
  await p.mkdir('d');
  await fails('EEXIST', 'symlink onto what exists', () => p.symlink('x', 'f'));
  await fails('ENOENT', 'symlink with a trailing slash', () => p.symlink('x', 'new/'));
  await fails('EINVAL', 'readlink of a file', () => p.readlink('f'));
  await fails('EINVAL', 'readlink of a directory', () => p.readlink('d'));
  await fails('ENOENT', 'readlink of what is missing', () => p.readlink('no'));
});

cases.add('symbolic links are followed, 40 of them at most', async (p) => {
  await p.mkdir('d');
  await writeFile(p, 'd/f', 'x');
  await p.symlink('d', 'to-d');
  await p.symlink('to-d/f', 'to-f');
  same('reading through two links', await readFile(p, 'to-f'), 'x');
  equal('stat follows', (await p.stat('to-f')).ino, (await p.stat('d/f')).ino);
  equal('lstat with a slash follows', (await p.lstat('to-d/')).ino, (await p.stat('d')).ino);
  await p.symlink('loop-b', 'loop-a');
  await p.symlink('loop-a', 'loop-b');
  await fails('ELOOP', 'stat of a circle of links', () => p.stat('loop-a'));
  await fails('ELOOP', 'stat below a circle of links', () => p.stat('loop-a/x'));
  let target = 'd/f';
  for (let i = 1; i <= 41; i++) {
    await p.symlink(target, `chain${i}`);
    target = `chain${i}`;
  }
  equal('40 links in a row', (await p.stat('chain40')).size, 1);
  await fails('ELOOP', '41 links in a row', () => p.stat('chain41'));
});

cases.add('mknod makes pipes, sockets and plain files', async (p) => {
  await p.mknod('pipe', 0o010640);
  await p.mknod('socket', 0o140600);
  await p.mknod('file', 0o100644);
  await p.mknod('plain', 0o600);
  equal('mknod S_IFIFO: st_mode', (await p.stat('pipe')).mode, 0o010640);
  equal('mknod S_IFSOCK: st_mode', (await p.stat('socket')).mode, 0o140600);
  equal('mknod S_IFREG: st_mode', (await p.stat('file')).mode, 0o100644);
  equal('mknod without a type: st_mode', (await p.stat('plain')).mode, 0o100600);
  await fails('EEXIST', 'mknod of what exists', () => p.mknod('file', 0o100644));
  await fails('EPERM', 'mknod S_IFDIR', () => p.mknod('d', 0o040755));
  await fails('ENXIO', 'open of a socket', () => p.open('socket', O_RDONLY));
  await p.unlink('pipe');
  await p.unlink('socket');
});

cases.add(
  'mknod keeps device numbers',
  async (p) => {
    // major 259, minor 70000, as the kernel encodes them.
    const device = (70_000 & 0xff) | (259 << 8) | ((70_000 & ~0xff) << 12);
    await p.mknod('block', 0o060600, device);
    await p.mknod('character', 0o020600, (1 << 8) | 3);
    equal('mknod S_IFBLK: st_rdev', (await p.stat('block')).rdev, device);
    equal('mknod S_IFBLK: st_mode', (await p.stat('block')).mode, 0o060600);
    equal('mknod S_IFCHR: st_rdev', (await p.stat('character')).rdev, 259);
  },
  'devices',
);

cases.add('a file that was moved over while it is open stays readable', async (p) => {
  await writeFile(p, 'f', 'old');
  await writeFile(p, 'g', 'new');
  const fd = await p.open('f', O_RDONLY);
  await p.rename('g', 'f');
  same('the old file', await p.pread(fd, 0, 10), 'old');
  equal('fstat: st_nlink', (await p.fstat(fd)).nlink, 0);
  await p.close(fd);
  same('the new file', await readFile(p, 'f'), 'new');
});

cases.add(
  'O_TMPFILE makes a file without a name that can be given one',
  async (p) => {
    await p.mkdir('d');
    const fd = await p.open('d', O_TMPFILE | O_RDWR, 0o640);
    const made = await p.fstat(fd);
    equal('O_TMPFILE: st_nlink', made.nlink, 0);
    equal('O_TMPFILE: st_mode', made.mode, S_IFREG | 0o640);
    equal('O_TMPFILE: entries of the directory', (await names(p, 'd')).length, 0);
    await p.pwrite(fd, 0, Buffer.from('content'));
    await p.linkFd(fd, 'd/named');
    equal('linkat: st_nlink', (await p.fstat(fd)).nlink, 1);
    await p.close(fd);
    same('content of the file that got a name', await readFile(p, 'd/named'), 'content');
  },
  'tmpfile',
);

cases.add(
  'O_TMPFILE with O_EXCL can never be given a name',
  async (p) => {
    const fd = await p.open('.', O_TMPFILE | O_EXCL | O_RDWR, 0o600);
    await fails('ENOENT', 'linkat of an O_EXCL temporary file', () => p.linkFd(fd, 'named'));
    await p.close(fd);
  },
  'tmpfile',
);

cases.add('a file without links cannot be linked again', async (p) => {
  await writeFile(p, 'f', '');
  const fd = await p.open('f', O_RDWR);
  await p.unlink('f');
  await fails('ENOENT', 'linkat of an unlinked file', () => p.linkFd(fd, 'again'));
  await p.close(fd);
});

cases.add('many files in many directories', async (p) => {
  for (let i = 0; i < 10; i++) {
    await p.mkdir(`d${i}`);
    for (let j = 0; j < 20; j++) await writeFile(p, `d${i}/f${j}`, `${i} ${j}`);
  }
  for (let i = 0; i < 10; i += 3) {
    for (let j = 0; j < 20; j += 7) same('content', await readFile(p, `d${i}/f${j}`), `${i} ${j}`);
    equal('number of names', (await names(p, `d${i}`)).length, 20);
  }
});

cases.add('fsync of files and directories succeeds', async (p) => {
  await p.mkdir('d');
  await withFile(p, 'd/f', O_CREAT | O_RDWR, async (fd) => {
    await p.pwrite(fd, 0, Buffer.from('x'));
    await p.fsync(fd);
  });
});

cases.add('statfs: sizes and the length of names', async (p) => {
  const { blockSize, blocks, blocksFree, nameMax } = await p.statfs('.');
  holds('statfs: f_frsize is a power of two', blockSize >= 512 && (blockSize & (blockSize - 1)) === 0);
  holds('statfs: f_bfree is at most f_blocks', blocksFree <= blocks && blocks > 0);
  equal('statfs: f_namemax', nameMax, 255);
});
