/** Names: lengths, bytes, and those that are reserved. */
import { CaseList, equal, fails, names, readFile, same, writeFile } from './case.ts';

const cases = new CaseList('names');
export const nameCases = cases.cases;

cases.add('a name has at most 255 bytes', async (p) => {
  const longest = 'x'.repeat(255);
  const tooLong = 'x'.repeat(256);
  await p.mkdir(longest);
  await writeFile(p, `${longest}/${longest}`, 'x');
  same('content of a file with the longest name', await readFile(p, `${longest}/${longest}`), 'x');
  equal('listing of the longest name', (await names(p, longest))[0], longest);
  await fails('ENAMETOOLONG', 'mkdir with 256 bytes', () => p.mkdir(tooLong));
  await fails('ENAMETOOLONG', 'open O_CREAT with 256 bytes', () => p.open(tooLong, 0o101));
  await fails('ENAMETOOLONG', 'stat with 256 bytes', () => p.stat(tooLong));
  await fails('ENAMETOOLONG', 'rename to 256 bytes', () => p.rename(longest, tooLong));
  await fails('ENAMETOOLONG', 'link to 256 bytes', () => p.link(`${longest}/${longest}`, tooLong));
  await fails('ENAMETOOLONG', 'symlink at 256 bytes', () => p.symlink('x', tooLong));
  await fails('ENAMETOOLONG', 'unlink of 256 bytes', () => p.unlink(tooLong));
  await fails('ENAMETOOLONG', 'rmdir of 256 bytes', () => p.rmdir(tooLong));
  await fails('ENAMETOOLONG', 'mknod with 256 bytes', () => p.mknod(tooLong, 0o100644));
});

cases.add('names of 254 and 255 bytes of multi-byte characters', async (p) => {
  const name = 'ü'.repeat(127);
  await writeFile(p, name, 'x');
  same('content', await readFile(p, name), 'x');
  await fails('ENAMETOOLONG', '256 bytes in 128 characters', () => p.mkdir('ü'.repeat(128)));
});

cases.add('a path has at most 4,095 bytes', async (p) => {
  await p.mkdir('d');
  const atLimit = `${'./'.repeat(2047)}d`;
  equal('length of the path', atLimit.length, 4095);
  await p.stat(atLimit);
  await fails('ENAMETOOLONG', 'stat of a path of 4,096 bytes', () => p.stat(`.${'/'.repeat(4094)}d`));
});

cases.add(
  'every byte but "/" and NUL is good in a name',
  async (p) => {
    const all: number[] = [];
    for (let byte = 1; byte < 256; byte++) if (byte !== 0x2f) all.push(byte);
    const expected: string[] = [];
    await p.mkdir('d');
    for (let i = 0; i < all.length; i += 50) {
      const name = Buffer.from(all.slice(i, i + 50));
      expected.push(name.toString('latin1'));
      await writeFile(p, Buffer.concat([Buffer.from('d/'), name]), name);
      same(
        'content of a file with any bytes',
        await readFile(p, Buffer.concat([Buffer.from('d/'), name])),
        name,
      );
    }
    const shown = await names(p, 'd');
    equal('names as listed', shown.join('|'), expected.sort().join('|'));
  },
  'anyNames',
);

cases.add(
  'single bytes are names, and differ from each other',
  async (p) => {
    await p.mkdir('d');
    for (let byte = 1; byte < 256; byte++) {
      if (byte === 0x2f || byte === 0x2e) continue;
      await p.mkdir(Buffer.from([0x64, 0x2f, byte]));
    }
    equal('number of directories', (await names(p, 'd')).length, 253);
    equal('st_nlink of their parent', (await p.stat('d')).nlink, 255);
  },
  'anyNames',
);

cases.add('names that are prefixes of each other, dots and spaces', async (p) => {
  const all = [
    'a',
    'aa',
    'aaa',
    'a.',
    '.a',
    '...',
    ' ',
    '  ',
    'a b',
    '-',
    '--',
    '~',
    'a\nb',
    '\\',
    '"',
    "'",
    '*',
  ];
  await p.mkdir('d');
  for (const name of all) await writeFile(p, `d/${name}`, name);
  for (const name of all) same(`content of ${JSON.stringify(name)}`, await readFile(p, `d/${name}`), name);
  equal('names as listed', (await names(p, 'd')).join('|'), [...all].sort().join('|'));
});

cases.add('upper and lower case, composed and decomposed characters are different names', async (p) => {
  await p.mkdir('d');
  for (const name of ['A', 'a', '\u00e9', 'e\u0301', '\u00e9'.toUpperCase()])
    await writeFile(p, `d/${name}`, name);
  equal('number of names', (await names(p, 'd')).length, 5);
});

cases.add(
  'names that mean a state cannot be created at the root',
  async (p) => {
    for (const name of [
      '@',
      '@lsn-5',
      '@lsn-',
      '@latest',
      '@2026-11-22T101500Z',
      '@2026-11-22T10:15:00.5+02:00',
    ]) {
      await fails('EINVAL', `mkdir ${name}`, () => p.mkdir(`/${name}`));
      await fails('EINVAL', `open O_CREAT ${name}`, () => p.open(`/${name}`, 0o101));
      await fails('EINVAL', `symlink ${name}`, () => p.symlink('x', `/${name}`));
      await writeFile(p, '/plain', '');
      await fails('EINVAL', `rename to ${name}`, () => p.rename('/plain', `/${name}`));
      await fails('EINVAL', `link to ${name}`, () => p.link('/plain', `/${name}`));
      await p.unlink('/plain');
    }
    await p.mkdir('/@types');
    await p.rmdir('/@types');
    await p.mkdir('/d');
    await p.mkdir('/d/@lsn-5');
    await p.rmdir('/d/@lsn-5');
    await p.rmdir('/d');
  },
  'reservedNames',
);

cases.add(
  'a name of a snapshot is taken',
  async (p) => {
    await fails('EEXIST', 'mkdir of a snapshot name', () => p.mkdir('/@taken'));
    await fails('EEXIST', 'open O_CREAT of a snapshot name', () => p.open('/@taken', 0o101));
  },
  'reservedNames',
);
