/** Extended attributes and POSIX access control lists. */
import { CaseList, equal, fails, holds, pattern, same, writeFile } from './case.ts';

const cases = new CaseList('xattrs');
export const xattrCases = cases.cases;

const CREATE = 1;
const REPLACE = 2;
const OTHER = { uid: 1002, gid: 1002 };
const ACCESS = 'system.posix_acl_access';
const DEFAULT = 'system.posix_acl_default';

type Entry = readonly [tag: number, permissions: number, id?: number];
const USER_OBJ = 1;
const USER = 2;
const GROUP_OBJ = 4;
const GROUP = 8;
const MASK = 16;
const OTHERS = 32;

/** An ACL in the kernel's binary form. */
function acl(...entries: Entry[]): Buffer {
  const value = Buffer.alloc(4 + 8 * entries.length);
  value.writeUInt32LE(2, 0);
  entries.forEach(([tag, permissions, id], i) => {
    value.writeUInt16LE(tag, 4 + 8 * i);
    value.writeUInt16LE(permissions, 6 + 8 * i);
    value.writeUInt32LE(id ?? 0xffffffff, 8 + 8 * i);
  });
  return value;
}

cases.add('set, get, list, replace and remove', async (p) => {
  await writeFile(p, 'f', '');
  await p.mkdir('d');
  for (const path of ['f', 'd']) {
    await p.setxattr(path, 'user.one', Buffer.from('1'));
    await p.setxattr(path, 'user.two', pattern(700));
    same('getxattr', await p.getxattr(path, 'user.one'), '1');
    same('getxattr', await p.getxattr(path, 'user.two'), pattern(700));
    equal('listxattr', (await p.listxattr(path)).sort().join(), 'user.one,user.two');
    await p.setxattr(path, 'user.one', Buffer.from('another value'));
    same('getxattr after replacing', await p.getxattr(path, 'user.one'), 'another value');
    await p.removexattr(path, 'user.one');
    await fails('ENODATA', 'getxattr after removing', () => p.getxattr(path, 'user.one'));
    equal('listxattr', (await p.listxattr(path)).join(), 'user.two');
    await p.removexattr(path, 'user.two');
    equal('listxattr of none', (await p.listxattr(path)).length, 0);
  }
});

cases.add('values may be empty and of any bytes', async (p) => {
  await writeFile(p, 'f', '');
  await p.setxattr('f', 'user.empty', Buffer.alloc(0));
  same('an empty value', await p.getxattr('f', 'user.empty'), '');
  await p.setxattr('f', 'user.bytes', Buffer.from([0, 255, 10, 0]));
  same('bytes', await p.getxattr('f', 'user.bytes'), Buffer.from([0, 255, 10, 0]));
});

cases.add('XATTR_CREATE and XATTR_REPLACE', async (p) => {
  await writeFile(p, 'f', '');
  await fails('ENODATA', 'REPLACE of what is missing', () =>
    p.setxattr('f', 'user.a', Buffer.from('x'), REPLACE),
  );
  await p.setxattr('f', 'user.a', Buffer.from('x'), CREATE);
  await fails('EEXIST', 'CREATE of what exists', () => p.setxattr('f', 'user.a', Buffer.from('y'), CREATE));
  await p.setxattr('f', 'user.a', Buffer.from('z'), REPLACE);
  same('value', await p.getxattr('f', 'user.a'), 'z');
});

cases.add('missing attributes and other namespaces', async (p) => {
  await writeFile(p, 'f', '');
  await fails('ENODATA', 'getxattr', () => p.getxattr('f', 'user.no'));
  await fails('ENODATA', 'removexattr', () => p.removexattr('f', 'user.no'));
  await fails('ENODATA', 'getxattr of a capability', () => p.getxattr('f', 'security.capability'));
  await fails('EOPNOTSUPP', 'setxattr in no namespace', () => p.setxattr('f', 'name', Buffer.from('x')));
  await fails('EOPNOTSUPP', 'setxattr in an unknown namespace', () =>
    p.setxattr('f', 'foo.x', Buffer.from('x')),
  );
  await fails('EOPNOTSUPP', 'getxattr in an unknown namespace', () => p.getxattr('f', 'foo.x'));
  await fails('ENOENT', 'getxattr of what is missing', () => p.getxattr('no', 'user.x'));
});

cases.add('names of 255 bytes', async (p) => {
  await writeFile(p, 'f', '');
  const name = `user.${'n'.repeat(250)}`;
  await p.setxattr('f', name, Buffer.from('x'));
  equal('listxattr', (await p.listxattr('f'))[0], name);
  await fails('ERANGE', 'setxattr with 256 bytes', () => p.setxattr('f', `${name}n`, Buffer.from('x')));
});

cases.add('many attributes, and values that shrink and grow', async (p) => {
  await writeFile(p, 'f', '');
  const all: string[] = [];
  for (let i = 0; i < 30; i++) {
    all.push(`user.name-${i}`);
    await p.setxattr('f', `user.name-${i}`, pattern(10 + i, i + 1));
  }
  equal('listxattr', (await p.listxattr('f')).sort().join(), all.sort().join());
  for (const size of [1000, 5, 0, 900, 1]) {
    await p.setxattr('f', 'user.name-3', pattern(size, size + 1));
    same(`a value of ${size} bytes`, await p.getxattr('f', 'user.name-3'), pattern(size, size + 1));
  }
  same('another value', await p.getxattr('f', 'user.name-29'), pattern(39, 30));
});

cases.add(
  'values of up to 65,536 bytes',
  async (p) => {
    await writeFile(p, 'f', '');
    for (const size of [1019, 1020, 1021, 1024, 4096, 65_536, 3000, 65_535, 10]) {
      await p.setxattr('f', 'user.large', pattern(size, size));
      same(`a value of ${size} bytes`, await p.getxattr('f', 'user.large'), pattern(size, size));
      equal('listxattr', (await p.listxattr('f')).join(), 'user.large');
    }
    await fails('E2BIG', 'a value of 65,537 bytes', () =>
      p.setxattr('f', 'user.large', Buffer.alloc(65_537)),
    );
  },
  'largeXattr',
);

cases.add('setting and removing change ctime, not mtime', async (p) => {
  await writeFile(p, 'f', '');
  const before = await p.stat('f');
  await p.tick();
  await p.setxattr('f', 'user.a', Buffer.from('x'));
  const set = await p.stat('f');
  holds('setxattr: ctime grows', set.ctimeNs > before.ctimeNs);
  equal('setxattr: mtime stays', set.mtimeNs, before.mtimeNs);
  await p.tick();
  await p.removexattr('f', 'user.a');
  holds('removexattr: ctime grows', (await p.stat('f')).ctimeNs > set.ctimeNs);
});

cases.add('attributes belong to the file, not to the name', async (p) => {
  await writeFile(p, 'f', '');
  await p.setxattr('f', 'user.a', Buffer.from('x'));
  await p.link('f', 'g');
  await p.rename('f', 'h');
  same('through another link', await p.getxattr('g', 'user.a'), 'x');
  same('after rename', await p.getxattr('h', 'user.a'), 'x');
  await p.unlink('g');
  await p.unlink('h');
  await writeFile(p, 'f', '');
  equal('a new file has none', (await p.listxattr('f')).length, 0);
});

cases.add('user.* is for files and directories', async (p) => {
  await p.symlink('x', 'l');
  await p.mknod('p', 0o010644);
  for (const path of ['l', 'p']) {
    await fails('EPERM', `setxattr of user.* on ${path}`, () => p.setxattr(path, 'user.a', Buffer.from('x')));
    await fails('ENODATA', `getxattr of user.* on ${path}`, () => p.getxattr(path, 'user.a'));
  }
});

cases.add(
  'user.* is read and written as the content is',
  async (p) => {
    await writeFile(p, 'f', '');
    await p.setxattr('f', 'user.a', Buffer.from('x'));
    await p.chmod('f', 0o644);
    same('by who may read', await p.getxattr('f', 'user.a', OTHER), 'x');
    await fails('EACCES', 'setxattr by who may not write', () =>
      p.setxattr('f', 'user.a', Buffer.from('y'), 0, OTHER),
    );
    await fails('EACCES', 'removexattr by who may not write', () => p.removexattr('f', 'user.a', OTHER));
    await p.chmod('f', 0o600);
    await fails('EACCES', 'getxattr by who may not read', () => p.getxattr('f', 'user.a', OTHER));
  },
  'identities',
);

cases.add(
  'trusted.* is for root alone',
  async (p) => {
    await writeFile(p, 'f', '', 0o666);
    await p.chmod('f', 0o666);
    await p.setxattr('f', 'trusted.a', Buffer.from('x'));
    await p.setxattr('f', 'user.a', Buffer.from('x'));
    same('by root', await p.getxattr('f', 'trusted.a'), 'x');
    await fails('ENODATA', 'getxattr by another', () => p.getxattr('f', 'trusted.a', OTHER));
    await fails('EPERM', 'setxattr by another', () =>
      p.setxattr('f', 'trusted.a', Buffer.from('y'), 0, OTHER),
    );
    equal('listxattr by another', (await p.listxattr('f', OTHER)).join(), 'user.a');
    equal('listxattr by root', (await p.listxattr('f')).sort().join(), 'trusted.a,user.a');
  },
  'identities',
  'trusted',
);

cases.add('writing and chown take security.capability away', async (p) => {
  // VFS_CAP_REVISION_2 with CAP_NET_RAW.
  const capability = Buffer.from('0100000200200000000000000000000000000000', 'hex');
  await writeFile(p, 'f', 'content');
  await p.setxattr('f', 'security.capability', capability);
  same('getxattr', await p.getxattr('f', 'security.capability'), capability);
  const fd = await p.open('f', 1);
  await p.pwrite(fd, 0, Buffer.from('x'));
  await p.close(fd);
  await fails('ENODATA', 'getxattr after a write', () => p.getxattr('f', 'security.capability'));
  await p.setxattr('f', 'security.capability', capability);
  await p.chown('f', 1000, 1000);
  await fails('ENODATA', 'getxattr after chown', () => p.getxattr('f', 'security.capability'));
});

cases.add(
  'an access ACL changes the mode, and chmod changes the ACL',
  async (p) => {
    await writeFile(p, 'f', '');
    const value = acl([USER_OBJ, 6], [USER, 7, 1002], [GROUP_OBJ, 4], [MASK, 5], [OTHERS, 0]);
    await p.setxattr('f', ACCESS, value);
    equal('mode: the group bits are the mask', (await p.stat('f')).mode & 0o777, 0o650);
    same('getxattr', await p.getxattr('f', ACCESS), value);
    holds('listxattr names it', (await p.listxattr('f')).includes(ACCESS));
    await p.chmod('f', 0o724);
    const changed = acl([USER_OBJ, 7], [USER, 7, 1002], [GROUP_OBJ, 4], [MASK, 2], [OTHERS, 4]);
    same('the ACL after chmod', await p.getxattr('f', ACCESS), changed);
  },
  'acl',
);

cases.add(
  'an ACL that says no more than the mode is not kept',
  async (p) => {
    await writeFile(p, 'f', '');
    await p.setxattr(
      'f',
      ACCESS,
      acl([USER_OBJ, 6], [USER, 7, 1002], [GROUP_OBJ, 4], [MASK, 5], [OTHERS, 0]),
    );
    await p.setxattr('f', ACCESS, acl([USER_OBJ, 7], [GROUP_OBJ, 5], [OTHERS, 1]));
    equal('mode', (await p.stat('f')).mode & 0o777, 0o751);
    await fails('ENODATA', 'getxattr', () => p.getxattr('f', ACCESS));
    equal('listxattr', (await p.listxattr('f')).length, 0);
  },
  'acl',
);

cases.add(
  'removing an access ACL leaves the mode',
  async (p) => {
    await writeFile(p, 'f', '');
    await p.setxattr(
      'f',
      ACCESS,
      acl([USER_OBJ, 6], [USER, 7, 1002], [GROUP_OBJ, 4], [MASK, 5], [OTHERS, 0]),
    );
    await p.removexattr('f', ACCESS);
    equal('mode', (await p.stat('f')).mode & 0o777, 0o650);
    await fails('ENODATA', 'getxattr', () => p.getxattr('f', ACCESS));
  },
  'acl',
);

cases.add('ACLs are checked', async (p) => {
  await writeFile(p, 'f', '');
  for (const [what, value] of [
    ['a wrong length', Buffer.from([2, 0, 0, 0, 1])],
    ['no owner', acl([GROUP_OBJ, 4], [OTHERS, 0])],
    ['no mask with a named user', acl([USER_OBJ, 6], [USER, 7, 1002], [GROUP_OBJ, 4], [OTHERS, 0])],
    ['wrong order', acl([GROUP_OBJ, 4], [USER_OBJ, 6], [OTHERS, 0])],
    ['an unknown tag', acl([USER_OBJ, 6], [GROUP_OBJ, 4], [OTHERS, 0], [64, 0])],
    ['permissions that do not exist', acl([USER_OBJ, 8], [GROUP_OBJ, 4], [OTHERS, 0])],
  ] as const) {
    await fails('EINVAL', `an ACL with ${what}`, () => p.setxattr('f', ACCESS, value));
  }
  await fails('EACCES', 'a default ACL of a file', () =>
    p.setxattr('f', DEFAULT, acl([USER_OBJ, 6], [GROUP_OBJ, 4], [OTHERS, 0])),
  );
});

cases.add(
  'an ACL grants and denies',
  async (p) => {
    await writeFile(p, 'f', 'x');
    await p.chown('f', 1000, 1000);
    await p.setxattr(
      'f',
      ACCESS,
      acl(
        [USER_OBJ, 6],
        [USER, 7, 1002],
        [USER, 0, 1003],
        [GROUP_OBJ, 0],
        [GROUP, 4, 3000],
        [MASK, 4],
        [OTHERS, 4],
      ),
    );
    await p.access('f', 4, OTHER);
    await fails('EACCES', 'what the mask takes away', () => p.access('f', 2, OTHER));
    await fails('EACCES', 'a user without permissions', () => p.access('f', 4, { uid: 1003, gid: 1003 }));
    await p.access('f', 4, { uid: 1005, gid: 1005, groups: [3000] });
    await fails('EACCES', 'a member of the owning group', () => p.access('f', 4, { uid: 1006, gid: 1000 }));
    await p.access('f', 4, { uid: 1007, gid: 1007 });
  },
  'acl',
  'identities',
);

cases.add(
  'a default ACL is inherited by files',
  async (p) => {
    await p.mkdir('d', 0o777);
    const value = acl([USER_OBJ, 7], [USER, 7, 1002], [GROUP_OBJ, 5], [MASK, 7], [OTHERS, 4]);
    await p.setxattr('d', DEFAULT, value);
    equal('the directory keeps its own mode', (await p.stat('d')).mode & 0o777, 0o777);
    await p.close(await p.open('d/f', 0o101, 0o640, { uid: 0, gid: 0, umask: 0o077 }));
    equal('mode: the umask does not count', (await p.stat('d/f')).mode & 0o777, 0o640);
    const inherited = acl([USER_OBJ, 6], [USER, 7, 1002], [GROUP_OBJ, 5], [MASK, 4], [OTHERS, 0]);
    same('the ACL of the file', await p.getxattr('d/f', ACCESS), inherited);
    await fails('ENODATA', 'a file has no default ACL', () => p.getxattr('d/f', DEFAULT));
  },
  'acl',
);

cases.add(
  'a default ACL is inherited by directories, all the way',
  async (p) => {
    await p.mkdir('d');
    const value = acl([USER_OBJ, 7], [USER, 7, 1002], [GROUP_OBJ, 5], [MASK, 7], [OTHERS, 0]);
    await p.setxattr('d', DEFAULT, value);
    await p.mkdir('d/e', 0o777);
    same('the default ACL of a directory', await p.getxattr('d/e', DEFAULT), value);
    same('its access ACL', await p.getxattr('d/e', ACCESS), value);
    equal('its mode', (await p.stat('d/e')).mode & 0o777, 0o770);
    await p.mkdir('d/e/g', 0o700);
    same('the default ACL two below', await p.getxattr('d/e/g', DEFAULT), value);
    equal('the mode two below', (await p.stat('d/e/g')).mode & 0o777, 0o700);
  },
  'acl',
);

cases.add(
  'a default ACL without names is inherited as a mode',
  async (p) => {
    await p.mkdir('d');
    await p.setxattr('d', DEFAULT, acl([USER_OBJ, 7], [GROUP_OBJ, 5], [OTHERS, 0]));
    await p.close(await p.open('d/f', 0o101, 0o666));
    equal('mode', (await p.stat('d/f')).mode & 0o777, 0o640);
    await fails('ENODATA', 'no ACL is kept', () => p.getxattr('d/f', ACCESS));
  },
  'acl',
);

cases.add(
  'symbolic links and unnamed pipes: ACLs and defaults',
  async (p) => {
    await p.mkdir('d');
    await p.setxattr(
      'd',
      DEFAULT,
      acl([USER_OBJ, 7], [USER, 7, 1002], [GROUP_OBJ, 5], [MASK, 7], [OTHERS, 0]),
    );
    await p.symlink('x', 'd/l');
    equal('mode of a link', (await p.lstat('d/l')).mode, 0o120777);
    await p.mknod('d/p', 0o010666);
    equal('mode of a pipe', (await p.stat('d/p')).mode & 0o777, 0o660);
  },
  'acl',
);

cases.add(
  'ACLs are for the owner to change',
  async (p) => {
    await writeFile(p, 'f', '');
    await p.chmod('f', 0o666);
    const value = acl([USER_OBJ, 6], [USER, 7, 1002], [GROUP_OBJ, 4], [MASK, 7], [OTHERS, 4]);
    await fails('EPERM', 'setxattr by another', () => p.setxattr('f', ACCESS, value, 0, OTHER));
    await p.setxattr('f', ACCESS, value);
    same('getxattr by another', await p.getxattr('f', ACCESS, OTHER), value);
    await fails('EPERM', 'removexattr by another', () => p.removexattr('f', ACCESS, OTHER));
  },
  'acl',
  'identities',
);
