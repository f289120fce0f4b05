/** Modes, owners and times. */
import { CaseList, equal, fails, holds, list, readFile, withFile, writeFile } from './case.ts';
import type { Posix } from './posix.ts';

const cases = new CaseList('attributes');
export const attributeCases = cases.cases;

const SECOND = 1_000_000_000n;
const DAY = 86_400n * SECOND;

async function modeOf(p: Posix, path: string): Promise<number> {
  return (await p.stat(path)).mode & 0o7777;
}

cases.add('chmod sets all twelve bits and ctime', async (p) => {
  await writeFile(p, 'f', '');
  await p.mkdir('d');
  const before = await p.stat('f');
  await p.tick();
  await p.chmod('f', 0o7751);
  const after = await p.stat('f');
  equal('chmod: st_mode', after.mode, 0o107751);
  holds('chmod: ctime grows', after.ctimeNs > before.ctimeNs);
  equal('chmod: mtime stays', after.mtimeNs, before.mtimeNs);
  await p.chmod('d', 0o1777);
  equal('chmod of a directory', await modeOf(p, 'd'), 0o1777);
  await fails('ENOENT', 'chmod of what is missing', () => p.chmod('no', 0o644));
});

cases.add('chmod follows symbolic links', async (p) => {
  await writeFile(p, 'f', '');
  await p.symlink('f', 'l');
  await p.chmod('l', 0o600);
  equal('mode of the target', await modeOf(p, 'f'), 0o600);
  equal('mode of the link', (await p.lstat('l')).mode, 0o120777);
});

cases.add(
  'chown sets owner and group, or one of them',
  async (p) => {
    await writeFile(p, 'f', '');
    const before = await p.stat('f');
    await p.tick();
    await p.chown('f', 1000, 2000);
    const after = await p.stat('f');
    equal('chown: st_uid', after.uid, 1000);
    equal('chown: st_gid', after.gid, 2000);
    holds('chown: ctime grows', after.ctimeNs > before.ctimeNs);
    await p.chown('f', -1, 3000);
    equal('chown of the group alone: st_uid', (await p.stat('f')).uid, 1000);
    equal('chown of the group alone: st_gid', (await p.stat('f')).gid, 3000);
    await p.chown('f', 0, -1);
    equal('chown of the owner alone: st_gid', (await p.stat('f')).gid, 3000);
  },
  'identities',
);

cases.add(
  'lchown changes the link, chown its target',
  async (p) => {
    await writeFile(p, 'f', '');
    await p.symlink('f', 'l');
    await p.lchown('l', 5, 6);
    equal('lchown: uid of the link', (await p.lstat('l')).uid, 5);
    equal('lchown: uid of the target', (await p.stat('f')).uid, 0);
    await p.chown('l', 7, 8);
    equal('chown: uid of the target', (await p.stat('f')).uid, 7);
    equal('chown: uid of the link', (await p.lstat('l')).uid, 5);
  },
  'identities',
);

cases.add(
  'chown takes setuid and setgid from files',
  async (p) => {
    await writeFile(p, 'f', '');
    await p.chmod('f', 0o6755);
    await p.chown('f', 1000, 1000);
    equal('mode of an executable after chown', await modeOf(p, 'f'), 0o755);
    await p.chmod('f', 0o2644);
    await p.chown('f', 1001, 1001);
    equal('setgid without group execution stays', await modeOf(p, 'f'), 0o2644);
    await p.mkdir('d');
    await p.chmod('d', 0o6755);
    await p.chown('d', 1000, 1000);
    equal('mode of a directory after chown', await modeOf(p, 'd'), 0o6755);
  },
  'identities',
);

cases.add(
  'writing by others takes setuid and setgid, by root it does not',
  async (p) => {
    const other = { uid: 1000, gid: 1000 };
    await writeFile(p, 'f', 'content');
    await p.chmod('f', 0o6777);
    await withFile(p, 'f', 1, (fd) => Promise.resolve(p.pwrite(fd, 0, Buffer.from('x'))));
    equal('mode after a write by root', await modeOf(p, 'f'), 0o6777);
    const fd = await p.open('f', 1, 0, other);
    await p.pwrite(fd, 0, Buffer.from('y'), other);
    await p.close(fd);
    equal('mode after a write by another', await modeOf(p, 'f'), 0o777);
    await p.chmod('f', 0o6777);
    await p.truncate('f', 3, other);
    equal('mode after truncate by another', await modeOf(p, 'f'), 0o777);
  },
  'identities',
);

cases.add(
  'utimens sets times to the nanosecond, before 1970 and far ahead',
  async (p) => {
    await writeFile(p, 'f', '');
    for (const [access, modify] of [
      [1_234_567_890_123_456_789n, 987_654_321_987_654_321n],
      [-1n, -SECOND - 1n],
      [0n, 0n],
      [-100_000_000_000_000_001n, 4_294_967_296n * SECOND + 1n],
    ] as const) {
      await p.utimens('f', access, modify);
      const { atimeNs, mtimeNs } = await p.stat('f');
      equal('utimens: st_atim', atimeNs, access);
      equal('utimens: st_mtim', mtimeNs, modify);
    }
  },
  'nanoseconds',
);

cases.add(
  'utimens: one time, now, omit, and ctime',
  async (p) => {
    await writeFile(p, 'f', '');
    await p.utimens('f', 100n, 200n);
    const before = await p.stat('f');
    await p.tick();
    await p.utimens('f', 'omit', 300n);
    const modify = await p.stat('f');
    equal('UTIME_OMIT: st_atim stays', modify.atimeNs, 100n);
    equal('UTIME_OMIT: st_mtim is set', modify.mtimeNs, 300n);
    holds('utimens: ctime grows', modify.ctimeNs > before.ctimeNs);
    await p.utimens('f', 400n, 'omit');
    equal('only st_atim', (await p.stat('f')).mtimeNs, 300n);
    equal('only st_atim', (await p.stat('f')).atimeNs, 400n);
    await p.utimens('f', 'now', 'omit');
    holds('UTIME_NOW: st_atim', (await p.stat('f')).atimeNs >= before.ctimeNs);
    equal('UTIME_NOW: the other stays', (await p.stat('f')).mtimeNs, 300n);
    await p.utimens('f', 'now', 'now');
    holds('UTIME_NOW twice: st_mtim', (await p.stat('f')).mtimeNs >= before.ctimeNs);
  },
  'singleTimes',
);

cases.add(
  'utimens of a symbolic link itself',
  async (p) => {
    await writeFile(p, 'f', '');
    await p.utimens('f', 1n, 2n);
    await p.symlink('f', 'l');
    await p.utimens('l', 5n, 6n, false);
    equal('time of the link', (await p.lstat('l')).mtimeNs, 6n);
    equal('time of the target', (await p.stat('f')).mtimeNs, 2n);
    await p.utimens('l', 7n, 8n);
    equal('time of the target, followed', (await p.stat('f')).mtimeNs, 8n);
  },
  'nanoseconds',
);

cases.add(
  'reading sets atime when it is not after mtime, and once a day (relatime)',
  async (p) => {
    await writeFile(p, 'f', 'content');
    const now = (await p.stat('f')).ctimeNs;
    await p.utimens('f', now - 2n * DAY, now - 3n * DAY);
    await p.tick();
    await readFile(p, 'f');
    const first = (await p.stat('f')).atimeNs;
    holds('atime that is older than a day is updated', first > now - DAY);
    await p.tick();
    await readFile(p, 'f');
    equal('atime after mtime and ctime stays', (await p.stat('f')).atimeNs, first);
    await p.tick();
    await withFile(p, 'f', 1, (fd) => Promise.resolve(p.pwrite(fd, 0, Buffer.from('x'))));
    equal('writing leaves atime', (await p.stat('f')).atimeNs, first);
    await p.tick();
    await readFile(p, 'f');
    holds('atime is updated after a write', (await p.stat('f')).atimeNs > first);
  },
  'atime',
);

cases.add(
  'listing sets the atime of a directory (relatime)',
  async (p) => {
    await p.mkdir('d');
    await writeFile(p, 'd/f', '');
    const before = await p.stat('d');
    await p.tick();
    await list(p, 'd');
    holds('getdents: atime grows', (await p.stat('d')).atimeNs > before.atimeNs);
  },
  'atime',
);

cases.add('inode numbers stay the same, and differ between files', async (p) => {
  await writeFile(p, 'f', '');
  await writeFile(p, 'g', '');
  const { ino } = await p.stat('f');
  await p.chmod('f', 0o600);
  await p.truncate('f', 100_000);
  await p.rename('f', 'h');
  equal('st_ino', (await p.stat('h')).ino, ino);
  holds('another file has another number', (await p.stat('g')).ino !== ino);
});

cases.add(
  'a new file belongs to its creator',
  async (p) => {
    await p.mkdir('d', 0o777);
    await p.close(await p.open('d/f', 0o101, 0o644, { uid: 1000, gid: 2000 }));
    await p.mkdir('d/e', 0o755, { uid: 1000, gid: 2000 });
    for (const path of ['d/f', 'd/e']) {
      equal(`st_uid of ${path}`, (await p.stat(path)).uid, 1000);
      equal(`st_gid of ${path}`, (await p.stat(path)).gid, 2000);
    }
  },
  'identities',
  'creators',
);

cases.add(
  'a setgid directory gives its group, and directories the bit',
  async (p) => {
    await p.mkdir('d', 0o777);
    await p.chown('d', -1, 4000);
    await p.chmod('d', 0o2777);
    const other = { uid: 1000, gid: 2000 };
    await p.close(await p.open('d/f', 0o101, 0o644, other));
    await p.mkdir('d/e', 0o755, other);
    await p.symlink('x', 'd/l', other);
    await p.mknod('d/p', 0o010644, 0, other);
    equal('group of a file', (await p.stat('d/f')).gid, 4000);
    equal('mode of a file', await modeOf(p, 'd/f'), 0o644);
    equal('group of a directory', (await p.stat('d/e')).gid, 4000);
    equal('mode of a directory', await modeOf(p, 'd/e'), 0o2755);
    equal('group of a link', (await p.lstat('d/l')).gid, 4000);
    equal('group of a pipe', (await p.stat('d/p')).gid, 4000);
  },
  'identities',
);

cases.add(
  'setgid cannot be had for a group that one is not in',
  async (p) => {
    await p.mkdir('d', 0o777);
    await p.chown('d', -1, 4000);
    await p.chmod('d', 0o2777);
    await p.close(await p.open('d/f', 0o101, 0o2775, { uid: 1000, gid: 2000 }));
    equal('create with S_ISGID by an outsider', await modeOf(p, 'd/f'), 0o775);
    await p.close(await p.open('d/g', 0o101, 0o2775, { uid: 1000, gid: 2000, groups: [4000] }));
    equal('create with S_ISGID by a member', await modeOf(p, 'd/g'), 0o2775);
    await p.chmod('d/f', 0o2775, { uid: 1000, gid: 2000 });
    equal('chmod with S_ISGID by an outsider', await modeOf(p, 'd/f'), 0o775);
    await p.chmod('d/f', 0o2775, { uid: 1000, gid: 2000, groups: [4000] });
    equal('chmod with S_ISGID by a member', await modeOf(p, 'd/f'), 0o2775);
  },
  'identities',
  'creators',
);
