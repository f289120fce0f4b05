/** Who may do what. */
import { CaseList, equal, fails, readFile, same, writeFile } from './case.ts';

const cases = new CaseList('permissions');
export const permissionCases = cases.cases;

const OWNER = { uid: 1000, gid: 1000 };
const MEMBER = { uid: 1001, gid: 1001, groups: [1000] };
const OTHER = { uid: 1002, gid: 1002 };
const R = 4;
const W = 2;
const X = 1;

cases.add(
  'the first class that fits decides: owner, group, other',
  async (p) => {
    await writeFile(p, 'f', 'x');
    await p.chown('f', 1000, 1000);
    await p.chmod('f', 0o247);
    await p.access('f', W, OWNER);
    await fails('EACCES', 'the owner reads, whom only the others may', () => p.access('f', R, OWNER));
    await p.access('f', R, MEMBER);
    await fails('EACCES', 'a member writes', () => p.access('f', W, MEMBER));
    await p.access('f', R | W | X, OTHER);
    await fails('EACCES', 'open for reading by the owner', () => p.open('f', 0, 0, OWNER));
    await fails('EACCES', 'open for writing by a member', () => p.open('f', 1, 0, MEMBER));
    await p.close(await p.open('f', 2, 0, OTHER));
  },
  'identities',
);

cases.add(
  'root may read and write all, and execute what somebody may',
  async (p) => {
    await writeFile(p, 'f', 'x');
    await p.chown('f', 1000, 1000);
    await p.chmod('f', 0);
    same('root reads a file of mode 0', await readFile(p, 'f'), 'x');
    await p.access('f', R | W);
    await fails('EACCES', 'root executes a file of mode 0', () => p.access('f', X));
    await p.chmod('f', 0o001);
    await p.access('f', X);
  },
  'identities',
);

cases.add(
  'all directories on the way must be searchable',
  async (p) => {
    await p.mkdir('d', 0o755);
    await p.mkdir('d/e', 0o755);
    await writeFile(p, 'd/e/f', 'x');
    await p.chmod('d', 0o744);
    await fails('EACCES', 'stat behind a directory without x', () => p.stat('d/e/f', OTHER));
    await fails('EACCES', 'open behind a directory without x', () => p.open('d/e/f', 0, 0, OTHER));
    await p.close(await p.opendir('d', OTHER));
    await p.chmod('d', 0o711);
    equal('stat behind a directory without r', (await p.stat('d/e/f', OTHER)).size, 1);
    await fails('EACCES', 'opendir without r', () => p.opendir('d', OTHER));
  },
  'identities',
);

cases.add(
  'entries are made and removed by who may write to the directory',
  async (p) => {
    await p.mkdir('d', 0o755);
    await writeFile(p, 'd/f', '', 0o666);
    await p.mkdir('d/e');
    await p.mkdir('mine', 0o777);
    await fails('EACCES', 'mkdir', () => p.mkdir('d/x', 0o755, OTHER));
    await fails('EACCES', 'open O_CREAT', () => p.open('d/x', 0o101, 0o644, OTHER));
    await fails('EACCES', 'symlink', () => p.symlink('x', 'd/x', OTHER));
    await fails('EACCES', 'mknod', () => p.mknod('d/x', 0o010644, 0, OTHER));
    await fails('EACCES', 'unlink', () => p.unlink('d/f', OTHER));
    await fails('EACCES', 'rmdir', () => p.rmdir('d/e', OTHER));
    await fails('EACCES', 'rename out', () => p.rename('d/f', 'mine/f', 0, OTHER));
    await writeFile(p, 'mine/g', '');
    await fails('EACCES', 'rename in', () => p.rename('mine/g', 'd/g', 0, OTHER));
    await p.unlink('mine/g', OTHER);
    await p.close(await p.open('d/f', 0o101, 0o644, OTHER));
  },
  'identities',
);

cases.add(
  'in a sticky directory only owners remove and rename',
  async (p) => {
    await p.mkdir('d', 0o777);
    await p.chmod('d', 0o1777);
    await p.mkdir('mine', 0o777);
    await p.close(await p.open('d/f', 0o101, 0o666, OWNER));
    await p.mkdir('d/e', 0o777, OWNER);
    await fails('EPERM', 'unlink by another', () => p.unlink('d/f', OTHER));
    await fails('EPERM', 'rmdir by another', () => p.rmdir('d/e', OTHER));
    await fails('EPERM', 'rename by another', () => p.rename('d/f', 'd/g', 0, OTHER));
    await fails('EPERM', 'rename out by another', () => p.rename('d/f', 'mine/f', 0, OTHER));
    await p.close(await p.open('mine/x', 0o101, 0o666, OTHER));
    await fails('EPERM', 'replacing by another', () => p.rename('mine/x', 'd/f', 0, OTHER));
    await p.rename('d/f', 'd/g', 0, OWNER);
    await p.unlink('d/g', OWNER);
    await p.chown('d', OTHER.uid, OTHER.gid);
    await p.rmdir('d/e', OTHER);
  },
  'identities',
  'creators',
);

cases.add(
  'chmod is for the owner',
  async (p) => {
    await writeFile(p, 'f', '');
    await p.chown('f', 1000, 1000);
    await p.chmod('f', 0o666);
    await fails('EPERM', 'chmod by another', () => p.chmod('f', 0o600, OTHER));
    await p.chmod('f', 0o600, OWNER);
    equal('mode', (await p.stat('f')).mode & 0o7777, 0o600);
  },
  'identities',
);

cases.add(
  'chown: owners give their files to groups that they are in',
  async (p) => {
    await writeFile(p, 'f', '');
    await p.chown('f', 1000, 1000);
    const owner = { ...OWNER, groups: [3000] };
    await fails('EPERM', 'giving a file away', () => p.chown('f', 1002, -1, owner));
    await fails('EPERM', 'a group that one is not in', () => p.chown('f', -1, 4000, owner));
    await p.chown('f', -1, 3000, owner);
    equal('st_gid', (await p.stat('f')).gid, 3000);
    await p.chown('f', 1000, 3000, owner);
    await fails('EPERM', 'chown by another', () => p.chown('f', 1002, -1, OTHER));
    await fails('EPERM', 'chown of the group by another', () => p.chown('f', -1, 1002, OTHER));
  },
  'identities',
);

cases.add(
  'utimens: any times for the owner, now for who may write',
  async (p) => {
    await writeFile(p, 'f', '');
    await p.chown('f', 1000, 1000);
    await p.chmod('f', 0o646);
    await p.utimens('f', 1n, 2n, true, OWNER);
    await p.utimens('f', 'now', 'now', true, OTHER);
    await fails('EPERM', 'any times by another', () => p.utimens('f', 1n, 2n, true, OTHER));
    await fails('EPERM', 'one time to now by another', () => p.utimens('f', 'now', 'omit', true, OTHER));
    await p.chmod('f', 0o644);
    await fails('EACCES', 'now by who may not write', () => p.utimens('f', 'now', 'now', true, OTHER));
  },
  'identities',
);

cases.add(
  'truncate is for who may write',
  async (p) => {
    await writeFile(p, 'f', 'content');
    await p.chmod('f', 0o644);
    await fails('EACCES', 'truncate by another', () => p.truncate('f', 0, OTHER));
    await fails('EACCES', 'open O_TRUNC by another', () => p.open('f', 0o1001, 0, OTHER));
    await fails('EACCES', 'open O_RDONLY|O_TRUNC by another', () => p.open('f', 0o1000, 0, OTHER));
    same('content', await readFile(p, 'f'), 'content');
  },
  'identities',
);

cases.add(
  'a new file is open for writing though its mode forbids it',
  async (p) => {
    await p.mkdir('d', 0o777);
    const fd = await p.open('d/f', 0o102, 0o400, OTHER);
    equal('pwrite', await p.pwrite(fd, 0, Buffer.from('x'), OTHER), 1);
    await p.close(fd);
    await fails('EACCES', 'opening it again', () => p.open('d/f', 1, 0, OTHER));
  },
  'identities',
);

cases.add(
  'devices are for root to make',
  async (p) => {
    await p.mkdir('d', 0o777);
    await fails('EPERM', 'mknod S_IFCHR by another', () => p.mknod('d/c', 0o020666, 0x103, OTHER));
    await fails('EPERM', 'mknod S_IFBLK by another', () => p.mknod('d/b', 0o060666, 0x103, OTHER));
    await p.mknod('d/p', 0o010666, 0, OTHER);
  },
  'identities',
  'devices',
);

cases.add(
  'moving a directory changes its "..": it must be writable',
  async (p) => {
    await p.mkdir('a', 0o777);
    await p.mkdir('b', 0o777);
    await p.mkdir('a/d', 0o755);
    await fails('EACCES', 'moving a directory of another', () => p.rename('a/d', 'b/d', 0, OTHER));
    await p.rename('a/d', 'a/e', 0, OTHER);
  },
  'identities',
);
