/** rename(2) and renameat2(2). */
import { CaseList, equal, fails, holds, names, readFile, same, writeFile } from './case.ts';

const cases = new CaseList('rename');
export const renameCases = cases.cases;

const NOREPLACE = 1;
const EXCHANGE = 2;
const WHITEOUT = 4;

cases.add('moves a file within a directory and between directories', async (p) => {
  await p.mkdir('d');
  await writeFile(p, 'f', 'content');
  const { ino } = await p.stat('f');
  await p.rename('f', 'g');
  await fails('ENOENT', 'stat of the old name', () => p.stat('f'));
  equal('rename: st_ino', (await p.stat('g')).ino, ino);
  await p.rename('g', 'd/h');
  same('content after rename', await readFile(p, 'd/h'), 'content');
  equal('st_nlink', (await p.stat('d/h')).nlink, 1);
});

cases.add('changes times of both directories, and ctime of what moved', async (p) => {
  await p.mkdir('a');
  await p.mkdir('b');
  await writeFile(p, 'a/f', 'x');
  const [a, b, f] = [await p.stat('a'), await p.stat('b'), await p.stat('a/f')];
  await p.tick();
  await p.rename('a/f', 'b/f');
  for (const [name, before] of [
    ['a', a],
    ['b', b],
  ] as const) {
    const after = await p.stat(name);
    holds(`rename: mtime of ${name} grows`, after.mtimeNs > before.mtimeNs);
    holds(`rename: ctime of ${name} grows`, after.ctimeNs > before.ctimeNs);
  }
  const moved = await p.stat('b/f');
  holds('rename: ctime of what moved grows', moved.ctimeNs > f.ctimeNs);
  equal('rename: mtime of what moved stays', moved.mtimeNs, f.mtimeNs);
});

cases.add('replaces a file in one step', async (p) => {
  await writeFile(p, 'f', 'new');
  await writeFile(p, 'g', 'old');
  await p.link('g', 'other');
  await p.rename('f', 'g');
  same('content of the target', await readFile(p, 'g'), 'new');
  same('content of the replaced file under its other name', await readFile(p, 'other'), 'old');
  equal('st_nlink of the replaced file', (await p.stat('other')).nlink, 1);
  await fails('ENOENT', 'stat of the old name', () => p.stat('f'));
});

cases.add('onto itself does nothing', async (p) => {
  await writeFile(p, 'f', 'x');
  const before = await p.stat('f');
  await p.tick();
  await p.rename('f', 'f');
  same('content', await readFile(p, 'f'), 'x');
  equal('ctime stays', (await p.stat('f')).ctimeNs, before.ctimeNs);
});

cases.add('onto another link of the same file does nothing: both names stay', async (p) => {
  await p.mkdir('d');
  await writeFile(p, 'f', 'x');
  await p.link('f', 'd/g');
  await p.rename('f', 'd/g');
  equal('st_nlink of both', (await p.stat('f')).nlink, 2);
  equal('both are one file', (await p.stat('f')).ino, (await p.stat('d/g')).ino);
});

cases.add('moves a directory with all below it', async (p) => {
  await p.mkdir('a');
  await p.mkdir('a/b');
  await p.mkdir('a/b/c');
  await writeFile(p, 'a/b/c/f', 'deep');
  await p.mkdir('z');
  await p.rename('a', 'z/moved');
  same('content below the moved directory', await readFile(p, 'z/moved/b/c/f'), 'deep');
  await fails('ENOENT', 'the old path', () => p.stat('a/b'));
  equal('st_nlink of the new parent', (await p.stat('z')).nlink, 3);
});

cases.add('link counts of parents follow moved directories', async (p) => {
  await p.mkdir('a');
  await p.mkdir('b');
  await p.mkdir('a/d');
  await p.rename('a/d', 'b/d');
  equal('st_nlink of the old parent', (await p.stat('a')).nlink, 2);
  equal('st_nlink of the new parent', (await p.stat('b')).nlink, 3);
  await p.rename('b/d', 'b/e');
  equal('st_nlink after a rename within', (await p.stat('b')).nlink, 3);
  await p.mkdir('b/f');
  await p.rename('b/e', 'b/f');
  equal('st_nlink after replacing a directory', (await p.stat('b')).nlink, 3);
  await p.mkdir('a/g');
  await p.rename('a/g', 'b/f');
  equal('st_nlink of the old parent after replacing', (await p.stat('a')).nlink, 2);
  equal('st_nlink of the new parent after replacing', (await p.stat('b')).nlink, 3);
});

cases.add('a directory replaces an empty directory only', async (p) => {
  await p.mkdir('a');
  await writeFile(p, 'a/f', 'x');
  await p.mkdir('empty');
  await p.mkdir('full');
  await p.mkdir('full/x');
  await fails('ENOTEMPTY', 'rename onto a directory with entries', () => p.rename('a', 'full'));
  await p.rename('a', 'empty');
  equal('entries of the target', (await names(p, 'empty')).join(), 'f');
  await fails('ENOENT', 'stat of the old name', () => p.stat('a'));
});

cases.add('files and directories do not replace each other', async (p) => {
  await p.mkdir('d');
  await writeFile(p, 'f', '');
  await fails('EISDIR', 'rename of a file onto a directory', () => p.rename('f', 'd'));
  await fails('ENOTDIR', 'rename of a directory onto a file', () => p.rename('d', 'f'));
  await p.mkdir('d/x');
  await fails('EISDIR', 'rename of a file onto a directory with entries', () => p.rename('f', 'd'));
});

cases.add('a directory cannot move below itself', async (p) => {
  await p.mkdir('a');
  await p.mkdir('a/b');
  await p.mkdir('a/b/c');
  await fails('EINVAL', 'rename of "a" to "a/x"', () => p.rename('a', 'a/x'));
  await fails('EINVAL', 'rename of "a" to "a/b/c/x"', () => p.rename('a', 'a/b/c/x'));
  await fails('EINVAL', 'rename of "a" onto "a/b"', () => p.rename('a', 'a/b'));
  await fails('EINVAL', 'rename of "a/b" to "a/b/c/x"', () => p.rename('a/b', 'a/b/c/x'));
});

cases.add('nothing can replace a directory that it lies below', async (p) => {
  await p.mkdir('a');
  await p.mkdir('a/b');
  await p.mkdir('a/b/c');
  await writeFile(p, 'a/b/f', '');
  await fails('ENOTEMPTY', 'rename of "a/b/c" onto "a/b"', () => p.rename('a/b/c', 'a/b'));
  await fails('ENOTEMPTY', 'rename of "a/b/c" onto "a"', () => p.rename('a/b/c', 'a'));
  await fails('ENOTEMPTY', 'rename of a file onto its directory', () => p.rename('a/b/f', 'a/b'));
});

cases.add('missing names, files as directories, "." and ".."', async (p) => {
  await writeFile(p, 'f', '');
  await p.mkdir('d');
  await p.mkdir('d/e');
  await fails('ENOENT', 'rename of what is missing', () => p.rename('no', 'x'));
  await fails('ENOENT', 'rename into a missing directory', () => p.rename('f', 'no/x'));
  await fails('ENOENT', 'rename out of a missing directory', () => p.rename('no/f', 'x'));
  await fails('ENOTDIR', 'rename to below a file', () => p.rename('d', 'f/x'));
  await fails('EBUSY', 'rename of "d/."', () => p.rename('d/.', 'x'));
  await fails('EBUSY', 'rename of "d/e/.."', () => p.rename('d/e/..', 'x'));
  await fails('EBUSY', 'rename onto "d/."', () => p.rename('f', 'd/.'));
});

cases.add('a trailing slash demands a directory', async (p) => {
  await writeFile(p, 'f', '');
  await p.mkdir('d');
  await fails('ENOTDIR', 'rename of "f/"', () => p.rename('f/', 'g'));
  await fails('ENOTDIR', 'rename of a file to "g/"', () => p.rename('f', 'g/'));
  await p.rename('d/', 'e/');
  equal('st_nlink of the moved directory', (await p.stat('e')).nlink, 2);
});

cases.add('moves a symbolic link, not its target', async (p) => {
  await writeFile(p, 'f', 'x');
  await p.symlink('f', 'l');
  await p.rename('l', 'm');
  same('readlink', await p.readlink('m'), 'f');
  await writeFile(p, 'g', 'y');
  await p.rename('g', 'm');
  same('what replaced the link', await readFile(p, 'm'), 'y');
  same('the target of the link', await readFile(p, 'f'), 'x');
});

cases.add(
  'RENAME_NOREPLACE fails where there is something',
  async (p) => {
    await writeFile(p, 'f', 'x');
    await writeFile(p, 'g', 'y');
    await p.symlink('nowhere', 'l');
    await fails('EEXIST', 'NOREPLACE onto a file', () => p.rename('f', 'g', NOREPLACE));
    await fails('EEXIST', 'NOREPLACE onto a dangling link', () => p.rename('f', 'l', NOREPLACE));
    await fails('EEXIST', 'NOREPLACE onto itself', () => p.rename('f', 'f', NOREPLACE));
    await p.rename('f', 'h', NOREPLACE);
    same('content', await readFile(p, 'h'), 'x');
  },
  'renameFlags',
);

cases.add(
  'RENAME_EXCHANGE swaps two files',
  async (p) => {
    await p.mkdir('d');
    await writeFile(p, 'f', 'x');
    await writeFile(p, 'd/g', 'y');
    const before = await p.stat('f');
    await p.tick();
    await p.rename('f', 'd/g', EXCHANGE);
    same('the first name', await readFile(p, 'f'), 'y');
    same('the second name', await readFile(p, 'd/g'), 'x');
    holds('EXCHANGE: ctime grows', (await p.stat('d/g')).ctimeNs > before.ctimeNs);
  },
  'renameFlags',
);

cases.add(
  'RENAME_EXCHANGE swaps a directory and a file',
  async (p) => {
    await p.mkdir('a');
    await p.mkdir('b');
    await p.mkdir('a/d');
    await writeFile(p, 'a/d/x', 'deep');
    await writeFile(p, 'b/f', 'file');
    await p.rename('a/d', 'b/f', EXCHANGE);
    same('the file in the place of the directory', await readFile(p, 'a/d'), 'file');
    same('the directory in the place of the file', await readFile(p, 'b/f/x'), 'deep');
    equal('st_nlink of the one parent', (await p.stat('a')).nlink, 2);
    equal('st_nlink of the other parent', (await p.stat('b')).nlink, 3);
    equal('".." of the directory', (await p.stat('b/f/..')).ino, (await p.stat('b')).ino);
  },
  'renameFlags',
);

cases.add(
  'RENAME_EXCHANGE swaps directories with entries',
  async (p) => {
    await p.mkdir('a');
    await p.mkdir('b');
    await p.mkdir('a/d');
    await p.mkdir('b/e');
    await writeFile(p, 'a/d/1', '');
    await writeFile(p, 'b/e/2', '');
    await p.rename('a/d', 'b/e', EXCHANGE);
    equal('entries of the first', (await names(p, 'a/d')).join(), '2');
    equal('entries of the second', (await names(p, 'b/e')).join(), '1');
    equal('".." of the first', (await p.stat('a/d/..')).ino, (await p.stat('a')).ino);
    equal('".." of the second', (await p.stat('b/e/..')).ino, (await p.stat('b')).ino);
    equal('st_nlink of the parents', (await p.stat('a')).nlink + (await p.stat('b')).nlink, 6);
  },
  'renameFlags',
);

cases.add('RENAME_EXCHANGE: errors', async (p) => {
  await p.mkdir('d');
  await p.mkdir('d/e');
  await writeFile(p, 'f', '');
  await writeFile(p, 'd/e/g', '');
  await fails('ENOENT', 'EXCHANGE with what is missing', () => p.rename('f', 'no', EXCHANGE));
  await fails('ENOENT', 'EXCHANGE of what is missing', () => p.rename('no', 'f', EXCHANGE));
  await fails('EINVAL', 'EXCHANGE with an entry below', () => p.rename('d', 'd/e', EXCHANGE));
  await fails('EINVAL', 'EXCHANGE with a directory above', () => p.rename('d/e/g', 'd', EXCHANGE));
  await fails('EINVAL', 'EXCHANGE and NOREPLACE', () => p.rename('f', 'd', EXCHANGE | NOREPLACE));
  await fails('EINVAL', 'unknown flags', () => p.rename('f', 'g', 64));
});

cases.add('keeps an open directory usable', async (p) => {
  await p.mkdir('a');
  await p.mkdir('b');
  await writeFile(p, 'a/f', '');
  const fd = await p.opendir('a');
  await p.rename('a', 'b/c');
  const shown = (await p.getdents(fd, 4096)).map(({ name }) => name.toString()).sort();
  await p.close(fd);
  equal('getdents of a moved directory', shown.join(), '.,..,f');
});

cases.add('many renames of one file leave one name', async (p) => {
  await p.mkdir('a');
  await p.mkdir('b');
  await writeFile(p, 'a/0', 'x');
  for (let i = 0; i < 100; i++) await p.rename(`${i % 2 ? 'b' : 'a'}/${i}`, `${i % 2 ? 'a' : 'b'}/${i + 1}`);
  same('content', await readFile(p, 'a/100'), 'x');
  equal('names left', (await names(p, 'a')).length + (await names(p, 'b')).length, 1);
});

cases.add(
  'with RENAME_WHITEOUT the old name becomes a character device 0/0',
  async (p) => {
    await p.mkdir('d');
    await writeFile(p, 'f', 'content');
    await p.mkdir('e');
    await p.rename('f', 'd/g', WHITEOUT);
    const left = await p.lstat('f');
    equal('mode of the whiteout', left.mode, 0o020000);
    equal('st_rdev', left.rdev, 0);
    equal('st_nlink', left.nlink, 1);
    same('content of what moved', await readFile(p, 'd/g'), 'content');
    await p.rename('e', 'd/e', WHITEOUT);
    equal('mode of the whiteout of a directory', (await p.lstat('e')).mode, 0o020000);
    equal('st_nlink of the new parent', (await p.stat('d')).nlink, 3);
    await writeFile(p, 'h', '');
    await fails('EEXIST', 'WHITEOUT with NOREPLACE', () => p.rename('h', 'f', WHITEOUT | NOREPLACE));
    await fails('EINVAL', 'WHITEOUT with EXCHANGE', () => p.rename('h', 'f', WHITEOUT | EXCHANGE));
    await p.unlink('f');
    await p.unlink('e');
  },
  'renameFlags',
);
