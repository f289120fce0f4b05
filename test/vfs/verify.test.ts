/** The whole check of a store: each kind of damage is found, in its place, with the versions and the paths it hits. */
import test, { type ExecutionContext } from 'ava';
import { encodeSnapshotRow } from '../../src/encoding/catalog.ts';
import { encodeDirent } from '../../src/encoding/dirent.ts';
import { encodeExtent } from '../../src/encoding/extent.ts';
import { INODE_LINKS } from '../../src/encoding/inode.ts';
import { extentKey, inodeKey, namespaceKey, orphanKey, TREE } from '../../src/encoding/keys.ts';
import { Database } from '../../src/index.ts';
import { MemoryDirectory } from '../../src/storage/memory-device.ts';
import { StoreCheck } from '../../src/store/check.ts';
import { USE } from '../../src/store/check-table.ts';
import { initializeStore } from '../../src/store/initialize.ts';
import { Store } from '../../src/store/store.ts';
import { checkFileSystem } from '../../src/vfs/check.ts';
import { ROOT_CALLER, ROOT_INODE, S_IFREG } from '../../src/vfs/file-system.ts';
import { LiveFileSystem } from '../../src/vfs/live-file-system.ts';
import { Random, seedOf } from '../helpers/random.ts';
import { flip, linesOf, overwrite, verify, versionsHit, versionsOf } from '../helpers/verifying.ts';
import { Clock, vfsOptions } from '../helpers/vfs-fixture.ts';

const PAGE = 4096;
const SEGMENT = 1024 * 1024;
const OPTIONS = vfsOptions(new Clock());
const content = (size: number, seed: number): Buffer => new Random(seed).bytes(size);

interface Sample {
  readonly directory: MemoryDirectory;
  /** The same, as a crash would have left it before the last checkpoint. */
  readonly crashed: MemoryDirectory;
}

/** A store with some history: files of all kinds, snapshots, several versions. */
async function makeSample(): Promise<Sample> {
  const directory = new MemoryDirectory('sample');
  initializeStore(directory, { segmentSize: SEGMENT });
  const database = await Database.over(directory, { settings: { checkpointIntervalMs: 3_600_000 } });
  const { store } = database;
  await database.transaction((transaction) => {
    for (let i = 0; i < 150; i++)
      transaction.put(`/dir-${i % 7}/file-${i}`, `content ${i} ${'x'.repeat(i * 100)}`);
    transaction.put('/big', content(3_000_000, 1));
    transaction.put('/middle', content(60_000, 2));
  });
  await store.checkpoint();
  await database.snapshots.create('one');
  await store.checkpoint();
  await database.transaction((transaction) => {
    for (let i = 0; i < 40; i++) transaction.put(`/dir-${i % 7}/file-${i}`, `changed ${i}`);
    transaction.delete('/middle');
    transaction.put('/later/deep/file', content(50_000, 3));
  });
  await store.checkpoint();
  await database.put('/big', content(2_000_000, 4));
  await database.snapshots.create('two');
  await store.checkpoint();
  await database.delete('/dir-3', { recursive: true });
  await database.put('/tail', content(70_000, 5));
  await database.put('/tail-2', 'small');
  const crashed = directory.clone();
  await database.close();
  return { directory, crashed };
}

let made: Promise<Sample> | undefined;
async function sample(): Promise<Sample> {
  made ??= makeSample();
  const { directory, crashed } = await made;
  return { directory: directory.clone(), crashed: crashed.clone() };
}

test('a sound store: nothing is found, and all of it is read', async (t) => {
  const { directory, crashed } = await sample();
  const report = verify(directory);
  t.deepEqual(linesOf(report), []);
  t.is(report.damageCount, 0);
  t.is(report.versions, 6);
  t.deepEqual(report.notFullyChecked, []);
  const reachable = new Set<number>();
  for (const version of versionsOf(directory)) for (const page of version.pages.keys()) reachable.add(page);
  t.true(report.pages.inUse >= reachable.size);
  t.true(report.bytesRead >= reachable.size * PAGE);
  t.true(report.fill > 0.3 && report.fill <= 1);
  const again = verify(crashed);
  t.deepEqual(linesOf(again), []);
  t.true(again.lsn > again.checkpointLsn, 'the log behind the newest version was replayed');
  const fresh = new MemoryDirectory('fresh');
  initializeStore(fresh);
  t.deepEqual(linesOf(verify(fresh)), []);
});

test('damage of any page names it, and exactly the versions that lead to it', async (t) => {
  const seed = seedOf(t, 'verify');
  const random = new Random(seed);
  const { directory } = await sample();
  const versions = versionsOf(directory);
  const lsns = versions.map(({ lsn }) => lsn);
  const byKind = new Map<string, number[]>();
  for (const { pages } of versions) {
    for (const [page, kind] of pages) {
      const list = byKind.get(kind);
      if (list === undefined) byKind.set(kind, [page]);
      else if (!list.includes(page)) list.push(page);
    }
  }
  t.deepEqual([...byKind.keys()].sort(), ['data', 'inodes', 'namespace', 'registry', 'root']);
  for (const [kind, pages] of byKind) {
    for (let round = 0; round < 6; round++) {
      const page = pages[random.below(pages.length)]!;
      const offset = page * PAGE + random.below(PAGE);
      flip(directory, 'data', offset);
      const report = verify(directory);
      flip(directory, 'data', offset);
      const of = report.damages.filter((damage) => damage.page === page);
      t.is(of.length, 1, `${kind} page ${page}: ${linesOf(report).join('\n')}`);
      const [damage] = of;
      t.is(damage!.file, 'data');
      t.is(damage!.offset, page * PAGE);
      t.is(damage!.kind, kind === 'data' ? 'data' : 'page');
      t.regex(damage!.message, new RegExp(`page ${page} at offset ${page * PAGE}`));
      const expected = versions.filter((version) => version.pages.has(page)).map(({ lsn }) => lsn);
      t.deepEqual(versionsHit(damage!, lsns), expected, `${kind} page ${page}`);
      t.is(damage!.live, expected.includes(lsns.at(-1)!));
      t.is(damage!.snapshots.includes('one'), expected.includes(lsns[2]!), `${kind} page ${page}`);
      t.is(report.damageCount, 1, linesOf(report).join('\n'));
      if (kind === 'data' || kind === 'inodes' || kind === 'namespace')
        t.true(damage!.paths.length > 0, `${kind} page ${page}`);
    }
  }
  t.deepEqual(linesOf(verify(directory)), []);
});

test('the paths of what is hit, with bytes and ranges of names', async (t) => {
  const { directory } = await sample();
  const versions = versionsOf(directory);
  const newest = versions.at(-1)!.state;
  const find = (name: string): number => {
    t.true(newest.namespace.find(namespaceKey(ROOT_INODE, Buffer.from(name))));
    return newest.namespace.page.number;
  };
  // A file that was deleted later: in the newest version that has it.
  const middle = versions[1]!.state;
  t.true(middle.namespace.find(namespaceKey(ROOT_INODE, Buffer.from('middle'))));
  const inode = middle.namespace.page.bytes.readUInt8(middle.namespace.valueStart + 1);
  t.true(middle.inodes.find(extentKey(inode, 0)));
  const page = middle.inodes.page.bytes.readUIntLE(middle.inodes.valueStart, 6) + 2;
  overwrite(directory, 'data', page * PAGE, Buffer.alloc(3 * PAGE));
  const report = verify(directory);
  t.is(report.damageCount, 1);
  const [damage] = report.damages;
  t.like(damage, { page, pages: 3, inode, start: 2 * PAGE, end: 5 * PAGE, live: false, paths: ['/middle'] });
  t.regex(
    damage!.message,
    /block 2 of inode \d+ .*checksum: expected \d+, found \d+; and so are the 2 pages after it/,
  );
  t.deepEqual(damage!.snapshots, ['one']);

  const { directory: other } = await sample();
  flip(other, 'data', find('big') * PAGE + 100);
  const names = verify(other);
  t.is(names.damageCount, 1);
  t.true(
    names.damages[0]!.paths.some((path) => /^\/ \(entries/.test(path) || path === '/'),
    names.damages[0]!.paths.join('\n'),
  );
  t.true(names.notFullyChecked.length > 0);

  const { directory: third } = await sample();
  t.true(newest.inodes.find(inodeKey(ROOT_INODE)));
  flip(third, 'data', newest.inodes.page.number * PAGE + 1000);
  t.true(verify(third).damages[0]!.paths.includes('/'));
});

test('whatever is overwritten: an answer, and damage wherever a version was hit', async (t) => {
  const random = new Random(seedOf(t, 'overwritten'));
  const { directory } = await sample();
  const names = [
    'data',
    'data',
    'data',
    'data',
    'control',
    ...directory.list('wal').map((name) => `wal/${name}`),
  ];
  const reachable = new Set<number>();
  for (const { pages } of versionsOf(directory)) for (const page of pages.keys()) reachable.add(page);
  for (let round = 0; round < Number(process.env.LSNFS_VERIFY_ROUNDS ?? 25); round++) {
    const copy = directory.clone();
    let isHit = false;
    for (let i = random.below(4); i >= 0; i--) {
      const name = names[random.below(names.length)]!;
      const device = copy.open(name);
      const length = 1 + random.below(30_000);
      const offset = random.below(Math.max(1, device.size() - length));
      device.close();
      const bytes = random.below(2) === 0 ? Buffer.alloc(length) : content(length, round);
      const before = overwrite(copy, name, offset, bytes);
      for (let at = 0; name === 'data' && at < length; at++) {
        if (before[at] !== bytes[at] && reachable.has(Math.floor((offset + at) / PAGE))) isHit = true;
      }
    }
    const report = verify(copy);
    if (isHit) t.true(report.damageCount > 0, `round ${round}`);
    t.true(JSON.stringify(report).length < 16 * 1024 * 1024);
  }
});

test('control slots, settings, and files that are missing or short', async (t) => {
  const found = (directory: MemoryDirectory): string[] =>
    verify(directory).damages.map(({ file, offset, message }) => `${file}@${offset} ${message}`);
  const { directory } = await sample();
  for (const slot of [0, 1]) {
    const copy = directory.clone();
    flip(copy, 'control', slot * 4096 + 60);
    const lines = found(copy);
    t.is(lines.length, 1, lines.join('\n'));
    t.regex(lines[0]!, new RegExp(`^control@${slot * 4096} slot ${slot}: .*checksum: expected`));
  }
  const zeroed = directory.clone();
  overwrite(zeroed, 'control', 0, Buffer.alloc(4096));
  t.is(found(zeroed).length, 1, 'a slot of zeros is damage once there was a second checkpoint');

  const both = directory.clone();
  flip(both, 'control', 60);
  flip(both, 'control', 4096 + 60);
  const report = verify(both);
  t.is(report.damageCount, 2, linesOf(report).join('\n'));
  t.is(report.versions, 6, 'everything is verified by the checkpoint record of the log');
  t.regex(report.notes.join('\n'), /found in the log/);
  const noControl = directory.clone();
  noControl.remove('control');
  t.is(verify(noControl).versions, 6);

  const settings = directory.clone();
  overwrite(settings, 'lsnfs.json', 0, Buffer.from('{{'));
  t.regex(found(settings).join('\n'), /^lsnfs\.json@0 lsnfs\.json is not JSON/);

  const noData = directory.clone();
  noData.remove('data');
  t.regex(found(noData).join('\n'), /^data@0 open of data failed/);

  const short = directory.clone();
  const data = short.open('data');
  data.truncate(30 * PAGE + 17);
  const lost = verify(short);
  t.true(lost.damageCount > 0);
  t.true(lost.damages.every(({ offset, file }) => file === 'data' && offset !== null));
  const empty = directory.clone();
  empty.open('data').truncate(0);
  t.true(verify(empty).damageCount > 0);
});

test('the catalog root of the newest checkpoint: the one before is gone by', async (t) => {
  const { directory } = await sample();
  const check = Store.open(directory.clone(), { background: 'caller' });
  const { rootPage } = check.inspect().control.checkpoint;
  await check.log.close();
  flip(directory, 'data', rootPage * PAGE + 50);
  const report = verify(directory);
  const damage = report.damages.find(({ page }) => page === rootPage);
  t.truthy(damage, linesOf(report).join('\n'));
  t.regex(damage!.message, /the catalog root of the checkpoint/);
  t.true(report.versions >= 5, 'the rest is verified');
});

test('damage of any page of the catalog is found, and hits no version', async (t) => {
  const { directory } = await sample();
  const check = new StoreCheck(directory.clone(), { log: false });
  for (const _step of check.run());
  const { table } = check.pages!;
  const catalog: number[] = [];
  for (let page = 1; page < table.limit; page++) if (table.use(page) === USE.catalog) catalog.push(page);
  t.true(catalog.length >= 4);
  for (const page of catalog) {
    flip(directory, 'data', page * PAGE + 60);
    const report = verify(directory);
    flip(directory, 'data', page * PAGE + 60);
    const damage = report.damages.find((found) => found.page === page);
    t.truthy(damage, `page ${page}: ${linesOf(report).join('\n')}`);
    t.is(damage!.offset, page * PAGE);
    t.deepEqual(damage!.versions, []);
    t.true(
      report.damages.every(({ kind }) => kind === 'page'),
      linesOf(report).join('\n'),
    );
  }
});

test('the log: damage is found where it is, reading goes on behind it, a torn end is none', async (t) => {
  const { directory, crashed } = await sample();
  const segments = directory.list('wal').map((name) => `wal/${name}`);
  t.true(segments.length >= 2);
  const copy = directory.clone();
  const at = 200_000;
  const [first] = segments as [string];
  flip(copy, first, at);
  const report = verify(copy);
  const damage = report.damages.find(({ kind }) => kind === 'log');
  t.truthy(damage, linesOf(report).join('\n'));
  t.is(damage!.file, first);
  t.true(damage!.offset! <= at);
  t.regex(damage!.message, /checksum: expected \d+, found \d+.*goes on at \d+/);
  t.true(damage!.states.length > 0);
  t.true(report.log!.transactions > 3, 'what is behind it was read');
  t.is(report.log!.toLsn, verify(directory).log!.toLsn);

  const missing = directory.clone();
  missing.remove(first);
  t.regex(linesOf(verify(missing)).join('\n'), /segment wal\/0{16} is missing/);

  const header = directory.clone();
  flip(header, segments[1]!, 20);
  t.regex(linesOf(verify(header)).join('\n'), /wal\/0{10}100000 at 0: the log is damaged/);

  // What was being written when the power failed is no damage.
  const end = verify(crashed).log!.toLsn;
  const torn = crashed.clone();
  overwrite(torn, segments[Math.floor(end / SEGMENT)]!, (end % SEGMENT) - 40, Buffer.alloc(40));
  const cut = verify(torn);
  t.deepEqual(linesOf(cut), []);
  t.true(cut.log!.toLsn < end);
  const garbage = crashed.clone();
  overwrite(garbage, segments[Math.floor(end / SEGMENT)]!, end % SEGMENT, content(3000, 9));
  t.deepEqual(linesOf(verify(garbage)), []);
});

test('data that only the log names is verified', async (t) => {
  const { crashed } = await sample();
  const state = Store.open(crashed.clone(), { background: 'caller' });
  const fs = new LiveFileSystem(state.live, OPTIONS);
  const inode = fs.lookup(ROOT_CALLER, ROOT_INODE, Buffer.from('tail'))!.inode;
  t.true(state.live.inodes.find(extentKey(inode, 0)));
  const page = state.live.inodes.page.bytes.readUIntLE(state.live.inodes.valueStart, 6);
  await state.log.close();
  flip(crashed, 'data', page * PAGE + 5);
  const report = verify(crashed);
  const damage = report.damages.find((found) => found.page === page);
  t.truthy(damage, linesOf(report).join('\n'));
  t.is(damage!.kind, 'data');
  t.true(damage!.live);
  t.deepEqual(damage!.paths, ['/tail']);
});

/** A sound store with one file, and a live tree to plant damage in. */
async function planted(
  t: ExecutionContext,
  plant: (store: Store, inode: number) => void,
): Promise<{ directory: MemoryDirectory; report: ReturnType<typeof verify>; inode: number }> {
  const directory = new MemoryDirectory('planted');
  initializeStore(directory, { segmentSize: SEGMENT });
  const store = Store.open(directory, { background: 'caller' });
  const fs = new LiveFileSystem(store.live, OPTIONS);
  const { attributes, handle } = fs.create(ROOT_CALLER, ROOT_INODE, Buffer.from('file'), S_IFREG | 0o644, 2);
  const { inode } = attributes;
  fs.write(ROOT_CALLER, handle, 0, content(20 * PAGE, 7), 0, 20 * PAGE, false);
  fs.release(handle);
  fs.mkdir(ROOT_CALLER, ROOT_INODE, Buffer.from('d'), 0o755);
  await store.checkpoint();
  t.deepEqual(linesOf(verify(directory)), []);
  store.live.begin();
  plant(store, inode);
  store.live.put(TREE.registry, Buffer.from('scratch'), Buffer.alloc(16));
  store.live.delete(TREE.registry, Buffer.from('scratch'));
  store.live.commit();
  await store.checkpoint();
  const report = verify(directory);
  await store.log.close();
  return { directory, report, inode };
}

const PLANTS: Record<string, { plant: (store: Store, inode: number) => void; says: RegExp; path?: string }> =
  {
    'a page mapped twice': {
      plant: (store, inode) => {
        store.live.inodes.find(extentKey(inode, 0));
        const { page, valueStart, valueLength } = store.live.inodes;
        const value = Buffer.from(page.bytes.subarray(valueStart, valueStart + valueLength));
        store.live.put(TREE.inodes, extentKey(inode, 100), value);
      },
      says: /is mapped as another block/,
      path: '/file',
    },
    'an extent beyond the frontier': {
      plant: (store, inode) => {
        const extent = { block: 50, count: 1, page: 1_000_000, birth: 1, checksums: Uint32Array.of(1) };
        store.live.put(TREE.inodes, extentKey(inode, 50), encodeExtent(extent));
      },
      says: /beyond the frontier/,
      path: '/file',
    },
    'an extent that maps a page of a tree': {
      plant: (store, inode) => {
        const { number } = store.live.namespace.root;
        const page = number > 2 ** 40 ? 3 : number;
        const extent = { block: 50, count: 1, page, birth: 1, checksums: Uint32Array.of(1) };
        store.live.put(TREE.inodes, extentKey(inode, 50), encodeExtent(extent));
      },
      says: /elsewhere|corrupt|mapped/,
      path: '/file',
    },
    'a snapshot of no version': {
      plant: (store) => {
        const value = encodeSnapshotRow({
          name: 'ghost',
          lsn: 77,
          createdMicroseconds: 1,
          message: '',
          holds: [],
        });
        store.live.put(TREE.registry, Buffer.from('ghost'), value);
      },
      says: /snapshot "ghost" names LSN 77, and there is no version of it/,
    },
    'a page that is in use listed as free': {
      plant: (store) => {
        store.inspect().catalog.addFree(1, 1, 0);
      },
      says: /page 1 is listed as free and the root of a version/,
    },
    'a leak': {
      plant: (store) => {
        const { catalog, freeSpace } = store.inspect();
        const page = freeSpace.frontier - 1;
        freeSpace.frontier += 5;
        void page;
        catalog.addVersion({ ...catalog.versionBefore(64)!, timeMicroseconds: 0 });
        freeSpace.persistedFrontier += 5;
      },
      says: /5 pages are neither in use nor free/,
    },
    'a death of what lives': {
      plant: (store) => {
        const { catalog } = store.inspect();
        const { number, lsn } = store.versionBefore(store.checkpointLsn)!.root;
        void lsn;
        catalog.addLifetime({ page: number, count: 1, birth: 900, death: 800 });
      },
      says: /before they were born at 900/,
    },
    'a lifetime of a page that lives': {
      plant: (store, inode) => {
        store.live.inodes.find(extentKey(inode, 0));
        const page = store.live.inodes.page.bytes.readUIntLE(store.live.inodes.valueStart, 6);
        store.inspect().catalog.addLifetime({ page, count: 2, birth: 65, death: store.live.lsn });
      },
      says: /in use by the newest version, at LSN \d+, and the lifetimes say that they died at/,
    },
    'a wrong count of pages': {
      plant: (store) => {
        store.live.namespace.pageCount += 3;
      },
      says: /the namespace has 1 pages, and its root page \d+ counts 4/,
    },
    'an orphan without an inode': {
      plant: (store) => store.live.put(TREE.inodes, orphanKey(44), Buffer.alloc(0)),
      says: /inode 44: an orphan entry without an inode/,
    },
    'an entry without an inode': {
      plant: (store) => {
        const value = Buffer.alloc(8);
        const length = encodeDirent(value, 999, S_IFREG);
        store.live.put(
          TREE.namespace,
          namespaceKey(ROOT_INODE, Buffer.from('ghost')),
          value.subarray(0, length),
        );
      },
      says: /1 entries mean inode 999, which does not exist/,
      path: '/ghost',
    },
  };

for (const [what, { plant, says, path }] of Object.entries(PLANTS)) {
  test(`found: ${what}`, async (t) => {
    const { report } = await planted(t, plant);
    const damage = report.damages.find(({ message }) => says.test(message));
    t.truthy(damage, linesOf(report).join('\n'));
    if (path !== undefined) t.true(damage!.paths.includes(path), damage!.paths.join('\n'));
  });
}

test('what is wrong with links is attributed to the versions between damage and repair', async (t) => {
  const directory = new MemoryDirectory('repaired');
  initializeStore(directory, { segmentSize: SEGMENT });
  const store = Store.open(directory, { background: 'caller' });
  const fs = new LiveFileSystem(store.live, OPTIONS);
  const lsns: number[] = [];
  const change = async (work: () => void): Promise<void> => {
    store.live.begin();
    work();
    store.live.commit();
    await store.checkpoint();
    lsns.push(store.checkpointLsn);
  };
  const file = fs.create(ROOT_CALLER, ROOT_INODE, Buffer.from('a'), S_IFREG | 0o644, 2);
  fs.release(file.handle);
  const setLinks = (links: number): void => {
    const record = Buffer.from(store.live.inodes.get(inodeKey(file.attributes.inode))!);
    record.writeUInt32LE(links, INODE_LINKS);
    store.live.put(TREE.inodes, inodeKey(file.attributes.inode), record);
  };
  for (const links of [1, 5, 5, 1, 1, 7, 1]) {
    // Something else changes, too, so that every checkpoint makes a version.
    await change(() => {
      setLinks(links);
      store.live.put(TREE.registry, Buffer.from('x'), Buffer.alloc(16, lsns.length));
    });
  }
  const report = verify(directory);
  const about = (text: RegExp): number[][] =>
    report.damages.filter(({ message }) => text.test(message)).map((damage) => versionsHit(damage, lsns));
  t.deepEqual(about(/5 links, 1 entries/), [[lsns[1]!, lsns[2]!]]);
  t.deepEqual(about(/7 links, 1 entries/), [[lsns[5]!]]);
  for (const damage of report.damages.filter(({ kind }) => kind === 'structure'))
    t.deepEqual(damage.paths, ['/a'], damage.message);
  await store.log.close();
});

test('going from version to version finds what a check of each version by itself finds', async (t) => {
  const random = new Random(seedOf(t, 'versions'));
  const directory = new MemoryDirectory('versions');
  initializeStore(directory, { segmentSize: SEGMENT });
  const store = Store.open(directory, { background: 'caller' });
  const { live } = store;
  const fs = new LiveFileSystem(live, OPTIONS);
  const inodes: number[] = [];
  const directories = [ROOT_INODE];
  const name = (): Buffer => Buffer.from(`n${random.below(12)}`);
  const attempt = (work: () => void): void => {
    try {
      work();
    } catch (error) {
      // Names that are taken or missing, directories that were damaged on purpose.
      if (!(error instanceof Error && 'errno' in error)) throw error;
    }
  };
  const corrupt = (): void => {
    live.begin();
    const inode = inodes[random.below(Math.max(1, inodes.length))] ?? ROOT_INODE;
    const value = live.inodes.get(inodeKey(inode));
    switch (random.below(7)) {
      case 0:
        live.delete(TREE.inodes, inodeKey(inode));
        break;
      case 1:
        if (value === undefined) break;
        live.put(
          TREE.inodes,
          inodeKey(inode),
          value.map((byte, at) => (at === INODE_LINKS ? byte ^ 3 : byte)),
        );
        break;
      case 2: {
        const target = Buffer.alloc(8);
        const length = encodeDirent(target, random.below(30) + 1, random.below(2) === 0 ? S_IFREG : 0o040000);
        live.put(TREE.namespace, namespaceKey(random.below(20) + 1, name()), target.subarray(0, length));
        break;
      }
      case 3:
        live.delete(TREE.namespace, namespaceKey(directories[random.below(directories.length)]!, name()));
        break;
      case 4:
        live.put(TREE.inodes, orphanKey(random.below(30) + 1), Buffer.alloc(0));
        break;
      case 5:
        live.delete(TREE.inodes, extentKey(inode, random.below(20)));
        break;
      default: {
        const extent = {
          block: random.below(30),
          count: 1 + random.below(4),
          page: 0,
          birth: 0,
          checksums: new Uint32Array(0),
        };
        live.put(TREE.inodes, extentKey(inode, extent.block), encodeExtent(extent));
      }
    }
    live.commit();
  };
  for (let round = 0; round < 60; round++) {
    for (let i = 0; i < 6; i++) {
      const parent = directories[random.below(directories.length)]!;
      attempt(() => {
        switch (random.below(5)) {
          case 0:
            directories.push(fs.mkdir(ROOT_CALLER, parent, name(), 0o755).inode);
            break;
          case 1: {
            const { attributes, handle } = fs.create(ROOT_CALLER, parent, name(), S_IFREG | 0o644, 2);
            inodes.push(attributes.inode);
            fs.write(ROOT_CALLER, handle, random.below(40_000), content(3000, round), 0, 3000, false);
            fs.release(handle);
            break;
          }
          case 2:
            fs.rename(ROOT_CALLER, parent, name(), directories[random.below(directories.length)]!, name(), 0);
            break;
          case 3:
            fs.unlink(ROOT_CALLER, parent, name());
            break;
          default:
            fs.link(ROOT_CALLER, inodes[random.below(Math.max(1, inodes.length))] ?? 99, parent, name());
        }
      });
    }
    if (random.below(2) === 0) corrupt();
    await store.checkpoint();
  }
  const versions = versionsOf(directory);
  const expected = new Map<string, number[]>();
  for (const { lsn, state } of versions) {
    for (const { inode, message } of checkFileSystem(state)) {
      const line = inode === 0 ? message : `inode ${inode}: ${message}`;
      expected.set(line, [...(expected.get(line) ?? []), lsn]);
    }
  }
  const lsns = versions.map(({ lsn }) => lsn);
  const report = verify(directory);
  const found = new Map<string, number[]>();
  for (const damage of report.damages) {
    if (damage.kind !== 'structure') continue;
    const hit = [...(found.get(damage.message) ?? []), ...versionsHit(damage, lsns)];
    found.set(
      damage.message,
      hit.sort((a, b) => a - b),
    );
  }
  t.true(expected.size > 20);
  t.true(report.damageCount < 1000, `${report.damageCount}`);
  const listed = (problems: Map<string, number[]>): string[] =>
    [...problems].map(([message, lsnsHit]) => `${message}: ${lsnsHit.join(' ')}`).sort();
  t.deepEqual(listed(found), listed(expected));
  await store.log.close();
});

test('a store as it is found at any moment of its life, crashes included, is sound', async (t) => {
  const random = new Random(seedOf(t, 'any moment'));
  const directory = new MemoryDirectory('any moment');
  initializeStore(directory, { segmentSize: SEGMENT, pageSize: random.below(2) === 0 ? 4096 : 8192 });
  let store = Store.open(directory, { background: 'caller' });
  let fs = new LiveFileSystem(store.live, OPTIONS);
  let snapshots = 0;
  let verified = 0;
  const directories = [ROOT_INODE];
  const name = (): Buffer => Buffer.from(`n${random.below(15)}`);
  const attempt = (work: () => void): void => {
    try {
      work();
    } catch (error) {
      // Names that are taken or missing, directories that are gone.
      if (!(error instanceof Error && 'errno' in error)) throw error;
    }
  };
  const change = (): void => {
    const parent = directories[random.below(directories.length)]!;
    attempt(() => {
      switch (random.below(6)) {
        case 0:
          directories.push(fs.mkdir(ROOT_CALLER, parent, name(), 0o755).inode);
          break;
        case 1:
        case 2: {
          const { handle } = fs.create(ROOT_CALLER, parent, name(), S_IFREG | 0o644, 2);
          const size = random.below(3) === 0 ? 90_000 : 2000;
          fs.write(ROOT_CALLER, handle, random.below(50_000), content(size, random.next()), 0, size, false);
          fs.release(handle);
          break;
        }
        case 3:
          fs.rename(ROOT_CALLER, parent, name(), directories[random.below(directories.length)]!, name(), 0);
          break;
        case 4:
          fs.unlink(ROOT_CALLER, parent, name());
          break;
        default: {
          const found = fs.lookup(ROOT_CALLER, parent, name());
          if (found !== undefined)
            fs.setxattr(ROOT_CALLER, found.inode, Buffer.from('user.x'), content(300, 1), 0, false);
        }
      }
    });
  };
  for (let round = 0; round < 150; round++) {
    for (let i = random.below(5); i >= 0; i--) change();
    switch (random.below(12)) {
      case 0:
        await store.checkpoint();
        break;
      case 1:
      case 2:
      case 3:
        // Some of a checkpoint: what it has written is nobody's yet.
        for (let i = random.below(6); i >= 0; i--) store.backgroundStep(0);
        break;
      case 4:
        await store.createSnapshot(`s${snapshots++}`, '');
        break;
      case 5:
        if (store.snapshots().length > 2) await store.deleteSnapshot(store.snapshots()[0]!.name);
        break;
      case 6:
        store.live.begin();
        store.live.put(TREE.registry, Buffer.from('x'), Buffer.alloc(16));
        // After a change: the live state is made anew from the checkpoint and the log.
        store.live.rollback();
        break;
      case 7:
        await store.commit();
        if (random.below(2) === 0) await store.close();
        else await store.log.close();
        store = Store.open(directory, { background: 'caller' });
        fs = new LiveFileSystem(store.live, OPTIONS);
        fs.removeOrphans();
        break;
      default:
    }
    if (random.below(4) > 0) continue;
    store.log.flushToFiles();
    t.deepEqual(linesOf(verify(directory.clone())), [], `round ${round}`);
    verified++;
  }
  t.true(verified > 10);
  await store.close();
  t.deepEqual(linesOf(verify(directory)), []);
});
