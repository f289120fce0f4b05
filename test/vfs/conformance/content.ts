/** Content: reading, writing, truncating, holes, fallocate, seeking, copying. */
import { CaseList, equal, fails, holds, pattern, readFile, same, withFile, writeFile } from './case.ts';

const cases = new CaseList('content');
export const contentCases = cases.cases;

const O_WRONLY = 1;
const O_RDWR = 2;
const O_CREAT = 0o100;
const CREATE = O_CREAT | O_RDWR;
const KEEP_SIZE = 1;
const PUNCH_HOLE = 2;
const ZERO_RANGE = 16;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const KIB = 1024;

/** Sizes around every limit of the format: inline content, pages, extents. */
const SIZES = [0, 1, 100, 1023, 1024, 1025, 4095, 4096, 4097, 8192, 16_384, 65_537, 200_000, 1_100_000];

cases.add('what was written is read, at every size', async (p) => {
  for (const size of SIZES) {
    const content = pattern(size, size);
    await writeFile(p, `f${size}`, content);
    const { size: found, blocks } = await p.stat(`f${size}`);
    equal(`st_size of ${size} bytes`, found, size);
    if (size > 0) holds(`st_blocks of ${size} bytes is not 0`, blocks > 0);
    same(`${size} bytes`, await readFile(p, `f${size}`), content);
  }
});

cases.add('reading stops at the end of the file', async (p) => {
  await writeFile(p, 'f', pattern(5000));
  await withFile(p, 'f', 0, async (fd) => {
    equal('pread across the end', (await p.pread(fd, 4990, 100)).length, 10);
    equal('pread at the end', (await p.pread(fd, 5000, 100)).length, 0);
    equal('pread behind the end', (await p.pread(fd, 1e12, 100)).length, 0);
    equal('pread of nothing', (await p.pread(fd, 0, 0)).length, 0);
  });
});

cases.add('overwriting changes those bytes only', async (p) => {
  for (const size of [500, 5000, 50_000]) {
    const content = pattern(size);
    await writeFile(p, 'f', content);
    await withFile(p, 'f', O_RDWR, async (fd) => {
      for (const [at, length] of [
        [0, 10],
        [Math.floor(size / 2), 333],
        [size - 7, 7],
        [Math.floor(size / 3), 1],
      ] as const) {
        const data = pattern(Math.min(length, size - at), at + 99);
        equal('pwrite', await p.pwrite(fd, at, data), data.length);
        data.copy(content, at);
      }
      same(`overwritten file of ${size} bytes`, await p.pread(fd, 0, size + 10), content);
    });
  }
});

cases.add('small appends grow a file through all its forms', async (p) => {
  const content = pattern(20_000, 3);
  const fd = await p.open('f', CREATE);
  for (let at = 0; at < content.length; at += 97) {
    await p.pwrite(fd, at, content.subarray(at, Math.min(content.length, at + 97)));
  }
  same('content', await p.pread(fd, 0, 30_000), content);
  await p.close(fd);
});

cases.add('writing behind the end leaves zeros between', async (p) => {
  for (const [size, at] of [
    [0, 500],
    [10, 900],
    [10, 5000],
    [100, 100_000],
    [5000, 5001],
    [5000, 20_000],
  ] as const) {
    await writeFile(p, 'f', pattern(size));
    const expected = Buffer.concat([pattern(size), Buffer.alloc(at - size), Buffer.from('end')]);
    await withFile(p, 'f', O_WRONLY, (fd) => Promise.resolve(p.pwrite(fd, at, Buffer.from('end'))));
    same(`${size} bytes, then a write at ${at}`, await readFile(p, 'f'), expected);
  }
});

cases.add('writing changes mtime and ctime; writing nothing does not', async (p) => {
  await writeFile(p, 'f', 'x');
  const before = await p.stat('f');
  await p.tick();
  const fd = await p.open('f', O_WRONLY);
  equal('pwrite of nothing', await p.pwrite(fd, 0, Buffer.alloc(0)), 0);
  equal('mtime after writing nothing', (await p.fstat(fd)).mtimeNs, before.mtimeNs);
  await p.pwrite(fd, 0, Buffer.from('y'));
  await p.close(fd);
  const after = await p.stat('f');
  holds('pwrite: mtime grows', after.mtimeNs > before.mtimeNs);
  holds('pwrite: ctime grows', after.ctimeNs > before.ctimeNs);
});

cases.add('truncate cuts, and what grows again is zeros', async (p) => {
  for (const [size, cut, grown] of [
    [900, 300, 1000],
    [900, 300, 5000],
    [5000, 300, 5000],
    [5000, 4097, 8192],
    [50_000, 4096, 50_000],
    [50_000, 10_001, 30_000],
    [200_000, 1, 200_000],
    [200_000, 0, 500],
    [200_000, 0, 200_000],
  ] as const) {
    const what = `${size} cut to ${cut}, grown to ${grown}`;
    const content = pattern(size);
    await writeFile(p, 'f', content);
    await p.truncate('f', cut);
    equal(`truncate: st_size (${what})`, (await p.stat('f')).size, cut);
    same(`content after truncate (${what})`, await readFile(p, 'f'), content.subarray(0, cut));
    await p.truncate('f', grown);
    const expected = Buffer.concat([content.subarray(0, cut), Buffer.alloc(grown - cut)]);
    same(`content after growing (${what})`, await readFile(p, 'f'), expected);
  }
});

cases.add('truncate, then writing behind the cut leaves zeros between', async (p) => {
  await writeFile(p, 'f', pattern(10_000));
  const fd = await p.open('f', O_RDWR);
  await p.ftruncate(fd, 5000);
  await p.pwrite(fd, 7000, Buffer.from('x'));
  const expected = Buffer.concat([pattern(10_000).subarray(0, 5000), Buffer.alloc(2000), Buffer.from('x')]);
  same('content', await p.pread(fd, 0, 10_000), expected);
  await p.close(fd);
});

cases.add('truncate: errors and times', async (p) => {
  await p.mkdir('d');
  await writeFile(p, 'f', 'content');
  await fails('EISDIR', 'truncate of a directory', () => p.truncate('d', 0));
  await fails('ENOENT', 'truncate of what is missing', () => p.truncate('no', 0));
  await fails('EINVAL', 'truncate to a negative size', () => p.truncate('f', -1));
  const before = await p.stat('f');
  await p.tick();
  await p.truncate('f', 3);
  const after = await p.stat('f');
  holds('truncate: mtime grows', after.mtimeNs > before.mtimeNs);
  holds('truncate: ctime grows', after.ctimeNs > before.ctimeNs);
});

cases.add('offsets and sizes beyond every limit are EFBIG', async (p) => {
  const fd = await p.open('f', CREATE);
  await fails('EFBIG', 'ftruncate to 2^62', () => p.ftruncate(fd, 2 ** 62));
  await fails('EINVAL', 'pwrite at a negative offset', () => p.pwrite(fd, -1, Buffer.from('x')));
  await p.close(fd);
});

cases.add(
  'writing beyond every limit is EFBIG',
  async (p) => {
    const fd = await p.open('f', CREATE);
    await fails('EFBIG', 'pwrite at 2^62', () => p.pwrite(fd, 2 ** 62, Buffer.from('x')));
    equal('st_size', (await p.fstat(fd)).size, 0);
    await p.close(fd);
  },
  'writeErrors',
);

cases.add('a sparse file of 100 GB takes next to no space', async (p) => {
  const size = 100e9;
  const fd = await p.open('f', CREATE);
  await p.pwrite(fd, size - 3, Buffer.from('end'));
  await p.pwrite(fd, 50e9, Buffer.from('middle'));
  const { size: found, blocks } = await p.fstat(fd);
  equal('st_size', found, size);
  holds('st_blocks of two small pieces', blocks <= 256, `${blocks}`);
  same('the end', await p.pread(fd, size - 6, 10), '\0\0\0end');
  same('the middle', await p.pread(fd, 50e9 - 2, 10), '\0\0middle\0\0');
  equal(
    'the beginning',
    (await p.pread(fd, 0, 4096)).every((byte) => byte === 0),
    true,
  );
  await p.ftruncate(fd, 60e9);
  equal('st_size after truncate', (await p.fstat(fd)).size, 60e9);
  await p.ftruncate(fd, 0);
  equal('st_blocks after truncate to nothing', (await p.fstat(fd)).blocks, 0);
  await p.close(fd);
});

cases.add('truncate up makes a hole', async (p) => {
  await writeFile(p, 'f', 'x');
  await p.truncate('f', 10 * KIB * KIB);
  holds('st_blocks of a hole of 10 MiB', (await p.stat('f')).blocks <= 16);
});

cases.add(
  'fallocate extends the file with zeros',
  async (p) => {
    for (const size of [0, 100, 10_000]) {
      await writeFile(p, 'f', pattern(size));
      const fd = await p.open('f', O_RDWR);
      await p.fallocate(fd, 0, 0, 100_000);
      const { size: found, blocks } = await p.fstat(fd);
      equal('fallocate: st_size', found, 100_000);
      holds('fallocate: st_blocks', blocks * 512 >= 98_304, `${blocks}`);
      same(
        'content',
        await p.pread(fd, 0, 200_000),
        Buffer.concat([pattern(size), Buffer.alloc(100_000 - size)]),
      );
      await p.close(fd);
    }
  },
  'fallocate',
);

cases.add(
  'fallocate within the file changes no content and no size',
  async (p) => {
    await writeFile(p, 'f', pattern(50_000));
    const fd = await p.open('f', O_RDWR);
    await p.fallocate(fd, 0, 1000, 20_000);
    same('content', await p.pread(fd, 0, 60_000), pattern(50_000));
    await p.close(fd);
  },
  'fallocate',
);

cases.add(
  'FALLOC_FL_KEEP_SIZE maps space behind the end',
  async (p) => {
    const fd = await p.open('f', CREATE);
    await p.pwrite(fd, 0, pattern(5000));
    await p.fallocate(fd, KEEP_SIZE, 0, 200_000);
    const { size, blocks } = await p.fstat(fd);
    equal('KEEP_SIZE: st_size', size, 5000);
    holds('KEEP_SIZE: st_blocks', blocks * 512 >= 196_608, `${blocks}`);
    same('content', await p.pread(fd, 0, 10_000), pattern(5000));
    await p.pwrite(fd, 100_000, Buffer.from('x'));
    equal(
      'bytes between',
      (await p.pread(fd, 5000, 95_000)).every((byte) => byte === 0),
      true,
    );
    await p.ftruncate(fd, 5000);
    holds('truncate gives the space back', (await p.fstat(fd)).blocks <= 32);
    await p.close(fd);
  },
  'fallocate',
);

cases.add(
  'FALLOC_FL_PUNCH_HOLE makes zeros and frees whole blocks',
  async (p) => {
    for (const [size, at, length] of [
      [200_000, 10_000, 100_000],
      [200_000, 8192, 8192],
      [200_000, 5000, 100],
      [200_000, 4000, 5000],
      [200_000, 150_000, 100_000],
      [500, 100, 200],
      [500, 100, 5000],
    ] as const) {
      const content = pattern(size);
      await writeFile(p, 'f', content);
      const fd = await p.open('f', O_RDWR);
      const before = await p.fstat(fd);
      await p.fallocate(fd, PUNCH_HOLE | KEEP_SIZE, at, length);
      content.fill(0, at, Math.min(size, at + length));
      const after = await p.fstat(fd);
      equal('PUNCH_HOLE: st_size', after.size, size);
      same(`PUNCH_HOLE ${at}+${length} of ${size}`, await p.pread(fd, 0, size + 1), content);
      if (length >= 100_000) holds('PUNCH_HOLE: st_blocks falls', after.blocks < before.blocks);
      await p.close(fd);
    }
  },
  'fallocate',
);

cases.add(
  'FALLOC_FL_ZERO_RANGE makes zeros that may extend the file',
  async (p) => {
    await writeFile(p, 'f', pattern(50_000));
    const fd = await p.open('f', O_RDWR);
    await p.fallocate(fd, ZERO_RANGE, 10_001, 20_000);
    const content = pattern(50_000);
    content.fill(0, 10_001, 30_001);
    same('ZERO_RANGE inside', await p.pread(fd, 0, 60_000), content);
    await p.fallocate(fd, ZERO_RANGE | KEEP_SIZE, 40_000, 40_000);
    content.fill(0, 40_000);
    equal('ZERO_RANGE with KEEP_SIZE: st_size', (await p.fstat(fd)).size, 50_000);
    same('ZERO_RANGE with KEEP_SIZE', await p.pread(fd, 0, 60_000), content);
    await p.fallocate(fd, ZERO_RANGE, 40_000, 40_000);
    equal('ZERO_RANGE across the end: st_size', (await p.fstat(fd)).size, 80_000);
    await p.close(fd);
  },
  'fallocate',
);

cases.add(
  'fallocate: errors',
  async (p) => {
    const fd = await p.open('f', CREATE);
    await fails('EINVAL', 'fallocate of nothing', () => p.fallocate(fd, 0, 0, 0));
    await fails('EINVAL', 'fallocate at a negative offset', () => p.fallocate(fd, 0, -1, 10));
    await fails('EOPNOTSUPP', 'PUNCH_HOLE without KEEP_SIZE', () => p.fallocate(fd, PUNCH_HOLE, 0, 4096));
    await fails('EFBIG', 'fallocate beyond every limit', () => p.fallocate(fd, 0, 2 ** 62, 4096));
    await p.close(fd);
  },
  'fallocate',
);

cases.add(
  'SEEK_DATA and SEEK_HOLE find data and holes',
  async (p) => {
    const MIB = KIB * KIB;
    const fd = await p.open('f', CREATE);
    await p.pwrite(fd, 4 * MIB, pattern(64 * KIB));
    await p.pwrite(fd, 8 * MIB, pattern(64 * KIB));
    await p.ftruncate(fd, 12 * MIB);
    equal('SEEK_DATA from 0', await p.lseek(fd, 0, SEEK_DATA), 4 * MIB);
    equal('SEEK_HOLE from 0', await p.lseek(fd, 0, SEEK_HOLE), 0);
    equal('SEEK_HOLE from data', await p.lseek(fd, 4 * MIB + 5, SEEK_HOLE), 4 * MIB + 64 * KIB);
    equal('SEEK_DATA inside data', await p.lseek(fd, 4 * MIB + 5, SEEK_DATA), 4 * MIB + 5);
    equal('SEEK_DATA from the hole between', await p.lseek(fd, 5 * MIB, SEEK_DATA), 8 * MIB);
    await fails('ENXIO', 'SEEK_DATA behind the last data', () => p.lseek(fd, 9 * MIB, SEEK_DATA));
    equal('SEEK_HOLE in the last hole', await p.lseek(fd, 9 * MIB, SEEK_HOLE), 9 * MIB);
    await fails('ENXIO', 'SEEK_HOLE at the end', () => p.lseek(fd, 12 * MIB, SEEK_HOLE));
    await fails('ENXIO', 'SEEK_DATA at the end', () => p.lseek(fd, 12 * MIB, SEEK_DATA));
    await p.close(fd);
  },
  'seekHole',
);

cases.add('a file without holes has one at its end', async (p) => {
  for (const size of [10, 5000, 100_000]) {
    await writeFile(p, 'f', pattern(size));
    await withFile(p, 'f', 0, async (fd) => {
      equal(`SEEK_HOLE in ${size} bytes`, await p.lseek(fd, 0, SEEK_HOLE), size);
      equal(`SEEK_DATA in ${size} bytes`, await p.lseek(fd, size - 1, SEEK_DATA), size - 1);
      await fails('ENXIO', 'SEEK_HOLE behind the end', () => p.lseek(fd, size, SEEK_HOLE));
    });
  }
});

cases.add(
  'a punched hole is found',
  async (p) => {
    await writeFile(p, 'f', pattern(256 * KIB));
    await withFile(p, 'f', O_RDWR, async (fd) => {
      await p.fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 64 * KIB, 64 * KIB);
      equal('SEEK_HOLE', await p.lseek(fd, 0, SEEK_HOLE), 64 * KIB);
      equal('SEEK_DATA', await p.lseek(fd, 64 * KIB, SEEK_DATA), 128 * KIB);
    });
  },
  'seekHole',
  'fallocate',
);

cases.add(
  'copy_file_range copies between files',
  async (p) => {
    for (const [size, from, to, length] of [
      [500, 0, 0, 500],
      [500, 100, 2000, 300],
      [50_000, 123, 4567, 40_000],
      [300_000, 0, 0, 300_000],
    ] as const) {
      const content = pattern(size);
      await writeFile(p, 'a', content);
      await writeFile(p, 'b', 'previous');
      const source = await p.open('a', 0);
      const target = await p.open('b', O_RDWR);
      let done = 0;
      while (done < length) {
        const count = await p.copyFileRange(source, from + done, target, to + done, length - done);
        holds('copy_file_range makes progress', count > 0);
        done += count;
      }
      const expected = Buffer.alloc(Math.max(8, to + length));
      expected.write('previous');
      content.copy(expected, to, from, from + length);
      same(`copy of ${length} bytes`, await p.pread(target, 0, to + length + 100), expected);
      await p.close(source);
      await p.close(target);
    }
  },
  'copyFileRange',
);

cases.add(
  'copy_file_range: ends, overlaps and errors',
  async (p) => {
    await writeFile(p, 'a', pattern(10_000));
    await writeFile(p, 'b', '');
    const reader = await p.open('a', 0);
    const both = await p.open('a', O_RDWR);
    const target = await p.open('b', O_RDWR);
    equal('copy across the end of the source', await p.copyFileRange(reader, 9000, target, 0, 5000), 1000);
    equal('copy behind the end of the source', await p.copyFileRange(reader, 20_000, target, 0, 10), 0);
    await fails('EINVAL', 'overlapping ranges of one file', () => p.copyFileRange(both, 0, both, 50, 100));
    equal('ranges of one file that do not overlap', await p.copyFileRange(both, 0, both, 5000, 1000), 1000);
    same('the copy', await p.pread(both, 5000, 1000), pattern(10_000).subarray(0, 1000));
    await fails('EBADF', 'a target that is open for reading', () =>
      p.copyFileRange(both, 0, reader, 5000, 10),
    );
    for (const fd of [reader, both, target]) await p.close(fd);
  },
  'copyFileRange',
);

cases.add("two handles see each other's writes", async (p) => {
  const one = await p.open('f', CREATE);
  const two = await p.open('f', O_RDWR);
  await p.pwrite(one, 0, Buffer.from('hello'));
  same('through the other handle', await p.pread(two, 0, 10), 'hello');
  await p.pwrite(two, 5, pattern(10_000));
  equal('size through the first', (await p.fstat(one)).size, 10_005);
  same('through the first handle', await p.pread(one, 5, 20_000), pattern(10_000));
  await p.close(one);
  await p.close(two);
});

cases.add('random writes and truncates give what a buffer gives', async (p) => {
  const model = Buffer.alloc(300_000);
  let size = 0;
  let x = 12345;
  const random = (below: number): number => {
    x = (Math.imul(x, 1103515245) + 12345) >>> 0;
    return Math.floor((x / 2 ** 32) * below);
  };
  const fd = await p.open('f', CREATE);
  for (let i = 0; i < 150; i++) {
    if (random(4) === 0) {
      const cut = random(3) === 0 ? random(3000) : random(200_000);
      await p.ftruncate(fd, cut);
      if (cut < size) model.fill(0, cut, size);
      size = cut;
    } else {
      const at = random(200_000);
      const data = pattern(1 + random(random(2) === 0 ? 300 : 40_000), i);
      await p.pwrite(fd, at, data);
      data.copy(model, at);
      size = Math.max(size, at + data.length);
    }
    equal(`st_size after step ${i}`, (await p.fstat(fd)).size, size);
  }
  same('content', await p.pread(fd, 0, 300_000), model.subarray(0, size));
  await p.close(fd);
});
