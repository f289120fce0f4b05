/** Directories: making, removing, listing. */
import { CaseList, equal, fails, holds, list, names, writeFile } from './case.ts';

const cases = new CaseList('directories');
export const directoryCases = cases.cases;

const S_IFDIR = 0o040000;

cases.add('mkdir makes a directory with the mode that was asked for and two links', async (p) => {
  await p.mkdir('d', 0o751);
  const { mode, nlink } = await p.stat('d');
  equal('mkdir: st_mode', mode, S_IFDIR | 0o751);
  equal('mkdir: st_nlink of an empty directory', nlink, 2);
});

cases.add('mkdir applies the umask of the caller', async (p) => {
  await p.mkdir('d', 0o777, { uid: 0, gid: 0, umask: 0o027 });
  equal('mkdir with umask 027: st_mode', (await p.stat('d')).mode, S_IFDIR | 0o750);
});

cases.add('mkdir keeps the sticky bit and drops setuid', async (p) => {
  await p.mkdir('d', 0o5755);
  equal('mkdir 05755: st_mode', (await p.stat('d')).mode, S_IFDIR | 0o1755);
});

cases.add('mkdir of what exists is EEXIST, whatever its type', async (p) => {
  await p.mkdir('d');
  await writeFile(p, 'f', 'x');
  await p.symlink('nowhere', 'l');
  await fails('EEXIST', 'mkdir of a directory that exists', () => p.mkdir('d'));
  await fails('EEXIST', 'mkdir of a file that exists', () => p.mkdir('f'));
  await fails('EEXIST', 'mkdir of a symbolic link that dangles', () => p.mkdir('l'));
  await fails('EEXIST', 'mkdir of "."', () => p.mkdir('.'));
  await fails('EEXIST', 'mkdir of "d/.."', () => p.mkdir('d/..'));
});

cases.add('mkdir below something missing is ENOENT, below a file ENOTDIR', async (p) => {
  await writeFile(p, 'f', '');
  await fails('ENOENT', 'mkdir below a missing directory', () => p.mkdir('no/d'));
  await fails('ENOTDIR', 'mkdir below a file', () => p.mkdir('f/d'));
});

cases.add('mkdir accepts a trailing slash', async (p) => {
  await p.mkdir('d/');
  equal('mkdir "d/": st_nlink', (await p.stat('d')).nlink, 2);
});

cases.add('subdirectories count as links of their parent', async (p) => {
  await p.mkdir('d');
  await p.mkdir('d/a');
  await p.mkdir('d/b');
  await writeFile(p, 'd/f', '');
  equal('st_nlink with two subdirectories', (await p.stat('d')).nlink, 4);
  await p.rmdir('d/a');
  equal('st_nlink after rmdir of one', (await p.stat('d')).nlink, 3);
});

cases.add('mkdir and rmdir change mtime and ctime of the parent, not its atime', async (p) => {
  await p.mkdir('d');
  const before = await p.stat('d');
  await p.tick();
  await p.mkdir('d/e');
  const made = await p.stat('d');
  holds('mkdir: mtime of the parent grows', made.mtimeNs > before.mtimeNs);
  holds('mkdir: ctime of the parent grows', made.ctimeNs > before.ctimeNs);
  equal('mkdir: atime of the parent stays', made.atimeNs, before.atimeNs);
  const child = await p.stat('d/e');
  holds('mkdir: times of the child are those of the change', child.mtimeNs >= before.mtimeNs + 1n);
  await p.tick();
  await p.rmdir('d/e');
  const removed = await p.stat('d');
  holds('rmdir: mtime of the parent grows', removed.mtimeNs > made.mtimeNs);
  holds('rmdir: ctime of the parent grows', removed.ctimeNs > made.ctimeNs);
});

cases.add('rmdir removes an empty directory only', async (p) => {
  await p.mkdir('d');
  await p.mkdir('d/e');
  await writeFile(p, 'f', '');
  await p.symlink('d', 'l');
  await fails('ENOTEMPTY', 'rmdir of a directory with an entry', () => p.rmdir('d'));
  await fails('ENOTDIR', 'rmdir of a file', () => p.rmdir('f'));
  await fails('ENOTDIR', 'rmdir of a symbolic link to a directory', () => p.rmdir('l'));
  await fails('ENOENT', 'rmdir of what is missing', () => p.rmdir('no'));
  await p.rmdir('d/e');
  await p.rmdir('d');
  await fails('ENOENT', 'stat after rmdir', () => p.stat('d'));
});

cases.add('rmdir of "." is EINVAL and of ".." ENOTEMPTY', async (p) => {
  await p.mkdir('d');
  await p.mkdir('d/e');
  await fails('EINVAL', 'rmdir of "d/e/."', () => p.rmdir('d/e/.'));
  await fails('ENOTEMPTY', 'rmdir of "d/e/.."', () => p.rmdir('d/e/..'));
});

cases.add('rmdir accepts a trailing slash', async (p) => {
  await p.mkdir('d');
  await p.rmdir('d/');
  await fails('ENOENT', 'stat after rmdir', () => p.stat('d'));
});

cases.add(
  'a removed directory that is open has no links and cannot be listed',
  async (p) => {
    await p.mkdir('d');
    const fd = await p.opendir('d');
    await p.rmdir('d');
    equal('fstat of a removed directory: st_nlink', (await p.fstat(fd)).nlink, 0);
    await fails('ENOENT', 'getdents of a removed directory', () => p.getdents(fd, 4096));
    await p.close(fd);
  },
  'nameless',
);

cases.add('a listing has "." and ".." and each entry once, with its inode number and type', async (p) => {
  await p.mkdir('d');
  await p.mkdir('d/sub');
  await writeFile(p, 'd/file', 'x');
  await p.symlink('x', 'd/link');
  await p.mknod('d/pipe', 0o010644);
  const entries = await list(p, 'd');
  const shown = entries.map(({ name, type }) => `${name} ${type}`).sort();
  equal('getdents: names and types', shown.join(', '), '. 4, .. 4, file 8, link 10, pipe 1, sub 4');
  for (const { name, ino } of entries) {
    equal(`getdents: d_ino of ${name}`, ino, (await p.lstat(`d/${name}`)).ino);
  }
});

cases.add('a large directory is listed whole through small buffers', async (p) => {
  await p.mkdir('d');
  const expected: string[] = [];
  for (let i = 0; i < 300; i++) {
    const name = `entry-${String(i * 7919).padStart(8, '0')}`;
    expected.push(name);
    await p.mkdir(`d/${name}`);
  }
  const entries = await list(p, 'd', 256);
  const shown = entries.map(({ name }) => name.toString()).filter((name) => !name.startsWith('.'));
  equal('getdents: number of entries', shown.length, 300);
  equal('getdents: names', shown.sort().join(), expected.sort().join());
});

cases.add('an entry that exists all the time is listed once while others come and go', async (p) => {
  await p.mkdir('d');
  const stable: string[] = [];
  for (let i = 0; i < 60; i++) {
    stable.push(`stable-${i}`);
    await writeFile(p, `d/stable-${i}`, '');
    await writeFile(p, `d/going-${i}`, '');
  }
  const fd = await p.opendir('d');
  const seen: string[] = [];
  let round = 0;
  for (;;) {
    const some = await p.getdents(fd, 256);
    if (some.length === 0) break;
    seen.push(...some.map(({ name }) => name.toString()));
    if (round < 60) {
      await p.unlink(`d/going-${round}`);
      await writeFile(p, `d/coming-${round}`, '');
    }
    round++;
    holds('getdents comes to an end', round < 1000);
  }
  await p.close(fd);
  const shown = seen.filter((name) => name.startsWith('stable')).sort();
  equal('getdents: what existed all the time', shown.join(), stable.sort().join());
  equal('getdents: no name twice', new Set(seen).size, seen.length);
});

cases.add('all entries can be removed while they are listed', async (p) => {
  await p.mkdir('d');
  for (let i = 0; i < 200; i++) await writeFile(p, `d/${i}`, '');
  const fd = await p.opendir('d');
  for (;;) {
    const some = await p.getdents(fd, 512);
    if (some.length === 0) break;
    for (const { name } of some) {
      if (name.toString() !== '.' && name.toString() !== '..') await p.unlink(`d/${name}`);
    }
  }
  await p.close(fd);
  equal('entries that are left', (await names(p, 'd')).length, 0);
  await p.rmdir('d');
});

cases.add('a listing goes on from any cookie that it gave', async (p) => {
  await p.mkdir('d');
  for (let i = 0; i < 50; i++) await writeFile(p, `d/f${i}`, '');
  const fd = await p.opendir('d');
  const all = [];
  for (;;) {
    const some = await p.getdents(fd, 300);
    if (some.length === 0) break;
    all.push(...some);
  }
  for (const at of [40, 3, 20, 0, 50]) {
    await p.seekdir(fd, all[at]!.cookie);
    const [next] = await p.getdents(fd, 300);
    equal(`getdents after seeking behind entry ${at}`, next?.name.toString(), all[at + 1]?.name.toString());
  }
  await p.close(fd);
});

cases.add('rewinding shows what the directory has now', async (p) => {
  await p.mkdir('d');
  await writeFile(p, 'd/old', '');
  const fd = await p.opendir('d');
  while ((await p.getdents(fd, 4096)).length > 0);
  await writeFile(p, 'd/new', '');
  await p.unlink('d/old');
  await p.seekdir(fd, '0');
  const shown = (await p.getdents(fd, 4096)).map(({ name }) => name.toString()).sort();
  await p.close(fd);
  equal('getdents after rewinddir', shown.join(), '.,..,new');
});

cases.add('".." of a directory follows it when it is moved', async (p) => {
  await p.mkdir('a');
  await p.mkdir('b');
  await p.mkdir('a/d');
  await p.rename('a/d', 'b/d');
  equal('stat "b/d/..": st_ino', (await p.stat('b/d/..')).ino, (await p.stat('b')).ino);
  const up = (await list(p, 'b/d')).find(({ name }) => name.toString() === '..');
  equal('getdents: d_ino of ".."', up?.ino, (await p.stat('b')).ino);
});
