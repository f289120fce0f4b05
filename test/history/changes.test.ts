/**
 * `changesBetween` says what comparing two full listings says: on random histories, for versions and states between
 * them, in both directions, and against the live state. And it costs what changed.
 */
import test from 'ava';
import { KIND_EXTENT } from '../../src/encoding/keys.ts';
import { type Aspect, type Change, changesBetween } from '../../src/history/changes.ts';
import { MemoryDirectory } from '../../src/storage/memory-device.ts';
import type { StateReader } from '../../src/store/state.ts';
import { Store } from '../../src/store/store.ts';
import type { TreeState } from '../../src/store/tree-state.ts';
import type { VfsOptions } from '../../src/vfs/core.ts';
import { O_RDWR, ROOT_CALLER, ROOT_INODE, S_IFREG } from '../../src/vfs/file-system.ts';
import { LiveFileSystem } from '../../src/vfs/live-file-system.ts';
import { PastFileSystem } from '../../src/vfs/past-file-system.ts';
import { Random, seedOf } from '../helpers/random.ts';
import { changeAttributes, type Listed, listing } from '../helpers/state-listing.ts';
import { emptyStatistics } from '../helpers/vfs-fixture.ts';
import { ModelRun } from '../helpers/vfs-model.ts';

const OPTIONS: VfsOptions = {
  statistics: () => emptyStatistics(1e6),
};

function newFileSystem(): { directory: MemoryDirectory; store: Store; fs: LiveFileSystem } {
  const directory = new MemoryDirectory('memory');
  Store.initialize(directory);
  const store = Store.open(directory, { background: 'caller' });
  const fs = new LiveFileSystem(store.live, OPTIONS);
  return { directory, store, fs };
}

function allChanges(before: StateReader, after: StateReader): Change[] {
  return [...changesBetween(before, after)].filter((change) => change !== undefined);
}

const sorted = (values: Iterable<string>): string[] => [...values].sort();

/** In what the changes are not what the listings say. */
function disagreements(
  changes: readonly Change[],
  before: Map<number, Listed>,
  after: Map<number, Listed>,
): string[] {
  const wrong: string[] = [];
  const byInode = new Map<number, Change[]>();
  for (const change of changes) byInode.set(change.inode, [...(byInode.get(change.inode) ?? []), change]);
  for (const inode of new Set([...before.keys(), ...after.keys(), ...byInode.keys()])) {
    const old = before.get(inode);
    const now = after.get(inode);
    const told = byInode.get(inode) ?? [];
    const expect = (what: string, found: readonly string[], expected: readonly string[]): void => {
      if (JSON.stringify(found) !== JSON.stringify(expected))
        wrong.push(`inode ${inode}: ${what} ${found.join(' ')}; listings: ${expected.join(' ')}`);
    };
    const outOf = (a: Listed | undefined, b: Listed | undefined): string[] =>
      [...(a?.entries ?? [])].filter(([entry]) => b?.entries.has(entry) !== true).map(([, path]) => path);
    const lost = outOf(old, now);
    const got = outOf(now, old);
    const stayed = lost.filter((path) => got.includes(path));
    const gone = lost.filter((path) => !stayed.includes(path));
    const come = got.filter((path) => !stayed.includes(path));
    const renames = Math.min(gone.length, come.length);
    const aspects: string[] = [];
    if (old !== undefined && now !== undefined) {
      for (const [aspect, value] of old.facts) if (now.facts.get(aspect) !== value) aspects.push(aspect);
    }
    const kept = [...(now?.entries ?? [])]
      .filter(([entry, path]) => old?.entries.has(entry) === true || stayed.includes(path))
      .map(([, path]) => path);
    const kind = (...kinds: string[]): Change[] => told.filter((change) => kinds.includes(change.kind));
    expect('renames', [String(kind('R').length)], [String(renames)]);
    expect(
      'lost',
      sorted(kind('-', 'R').map((change) => String(change.kind === 'R' ? change.from : change.path))),
      sorted(gone),
    );
    expect('got', sorted(kind('+', 'R').map((change) => String(change.path))), sorted(come));
    expect(
      'modified',
      sorted(kind('M').map((change) => String(change.path))),
      aspects.length === 0 ? [] : sorted(kept),
    );
    for (const change of kind('M', 'R')) expect('aspects', sorted(change.aspects), sorted(aspects));
    for (const change of kind('M')) {
      if (!sorted(old!.entries.values()).includes(String(change.from))) wrong.push(`from of ${change.path}`);
    }
  }
  return wrong;
}

test('changes are what comparing two listings says', async (t) => {
  const random = new Random(seedOf(t, 'changes'));
  const directory = new MemoryDirectory('memory');
  Store.initialize(directory, { segmentSize: 1024 * 1024 });
  const store = Store.open(directory, { background: 'caller' });
  const fs = new LiveFileSystem(store.live, OPTIONS);
  const run = new ModelRun(fs, random);
  const lsns: number[] = [];
  for (let i = 0; i < 1200; i++) {
    run.step();
    if (random.below(8) === 0) changeAttributes(fs, run, random);
    if (i % 3 === 0) store.backgroundStep(0);
    if (random.below(60) === 0) await store.checkpoint();
    if (random.below(60) === 0) lsns.push(store.live.lsn);
  }
  await store.checkpoint();
  lsns.push(store.live.lsn);
  for (let i = 0; i < 30; i++) run.step();
  await store.commit();
  const live = listing(fs);
  const states = lsns.map((lsn) => {
    const state = store.openState(lsn);
    return { state: state as StateReader, lsn, files: listing(new PastFileSystem(state, OPTIONS)) };
  });
  const compare = (before: (typeof states)[number], after: (typeof states)[number]): void => {
    const changes = allChanges(before.state, after.state);
    const said = disagreements(changes, before.files, after.files);
    t.deepEqual(said, [], `from ${before.lsn} to ${after.lsn}`);
  };
  const liveState = { state: store.live as StateReader, lsn: store.live.lsn, files: live };
  for (const [i, state] of states.entries()) {
    if (i > 0) compare(states[i - 1]!, state);
    compare(state, states[random.below(states.length)]!);
    compare(state, liveState);
  }
  compare(liveState, states[0]!);
  t.deepEqual(allChanges(store.live, store.live), []);
  run.closeAll();
  await store.close();
});

test('renames, one by one', async (t) => {
  const { store, fs } = newFileSystem();
  const name = (text: string): Buffer => Buffer.from(text);
  const file = (parent: number, text: string): number => {
    const { attributes, handle } = fs.create(ROOT_CALLER, parent, name(text), 0o644, O_RDWR);
    const { inode } = attributes;
    fs.write(ROOT_CALLER, handle, 0, name(text), 0, text.length, false);
    fs.release(handle);
    return inode;
  };
  const a = fs.mkdir(ROOT_CALLER, ROOT_INODE, name('a'), 0o755).inode;
  file(a, 'below');
  const moved = file(a, 'moved');
  file(ROOT_INODE, 'gone');
  await store.checkpoint();
  const before = store.openState(store.live.lsn);
  fs.rename(ROOT_CALLER, ROOT_INODE, name('a'), ROOT_INODE, name('b'), 0);
  const again = fs.mkdir(ROOT_CALLER, ROOT_INODE, name('a'), 0o755).inode;
  fs.rename(ROOT_CALLER, a, name('moved'), again, name('moved'), 0);
  fs.unlink(ROOT_CALLER, ROOT_INODE, name('gone'));
  await store.commit();
  const lines = allChanges(before, store.live).map(
    ({ kind, path, from }) => `${kind} ${kind === 'R' ? `${from} ` : ''}${path}`,
  );
  t.deepEqual(lines.sort(), ['+ /a', '- /gone', 'M /', 'M /a/moved', 'R /a /b']);
  const [change] = allChanges(before, store.live).filter(({ inode }) => inode === moved);
  t.deepEqual([change?.aspects, String(change?.from)], [['times'], '/a/moved']);
  await store.close();
});

test('bytes past the end of a file and holes are no content', async (t) => {
  const { store, fs } = newFileSystem();
  const { attributes, handle } = fs.create(ROOT_CALLER, ROOT_INODE, Buffer.from('f'), 0o644, O_RDWR);
  const { inode } = attributes;
  const data = Buffer.alloc(100_000, 7);
  fs.write(ROOT_CALLER, handle, 0, data, 0, data.length, false);
  fs.setattr(ROOT_CALLER, inode, { size: 2 ** 45 });
  await store.checkpoint();
  const before = store.openState(store.live.lsn);
  // Allocated far and wide, without a byte that reads otherwise.
  fs.fallocate(ROOT_CALLER, handle, 0, 2 ** 40, 2 ** 31);
  fs.write(ROOT_CALLER, handle, 40_000, data, 0, 5000, false);
  await store.checkpoint();
  const [change] = allChanges(before, store.openState(store.live.lsn));
  t.deepEqual(change?.aspects, ['times']);
  fs.write(ROOT_CALLER, handle, 2 ** 44, data, 0, 1, false);
  const [written] = allChanges(before, store.live);
  t.deepEqual(written?.aspects, ['content', 'times']);
  fs.release(handle);
  await store.close();
});

test('data that is in no checkpoint yet is compared by content', async (t) => {
  const { store, fs } = newFileSystem();
  const { attributes, handle } = fs.create(ROOT_CALLER, ROOT_INODE, Buffer.from('f'), 0o644, O_RDWR);
  const { inode } = attributes;
  await store.checkpoint();
  const states: TreeState[] = [];
  for (const fill of [1, 2, 2]) {
    fs.write(ROOT_CALLER, handle, 0, Buffer.alloc(8192, fill), 0, 8192, false);
    await store.commit();
    states.push(store.openState(store.live.lsn));
  }
  const extents = states.map((state) =>
    [...state.inodes.entries()].filter(({ key }) => key[8] === KIND_EXTENT).map(({ value }) => value),
  );
  t.deepEqual(extents[0], extents[1], 'the same numbers for other bytes: what this test is about');
  const aspects = (from: number, to: number): readonly Aspect[] | undefined =>
    allChanges(states[from]!, states[to]!).find((change) => change.inode === inode)?.aspects;
  t.deepEqual(aspects(0, 1), ['content', 'times']);
  t.deepEqual(aspects(1, 0), ['content', 'times']);
  t.deepEqual(aspects(1, 2), ['times']);
  fs.release(handle);
  await store.close();
});

test('a file with many links', async (t) => {
  const { store, fs } = newFileSystem();
  const name = (text: string): Buffer => Buffer.from(text);
  const { inode } = fs.mknod(ROOT_CALLER, ROOT_INODE, name('0'), S_IFREG | 0o644, 0);
  for (let i = 1; i < 3000; i++) fs.link(ROOT_CALLER, inode, ROOT_INODE, name(String(i)));
  await store.commit();
  const before = store.openState(store.live.lsn);
  const moved = fs.mkdir(ROOT_CALLER, ROOT_INODE, name('moved'), 0o755).inode;
  for (let i = 0; i < 2000; i++) fs.rename(ROOT_CALLER, ROOT_INODE, name(String(i)), moved, name(`n${i}`), 0);
  for (let i = 2000; i < 2500; i++) fs.unlink(ROOT_CALLER, ROOT_INODE, name(String(i)));
  const counts: Record<string, number> = {};
  for (const { kind } of allChanges(before, store.live)) counts[kind] = (counts[kind] ?? 0) + 1;
  t.deepEqual(counts, { '+': 1, R: 2000, '-': 500, M: 501 }, 'with the new directory and the root');
  await store.close();
});

test('a hundred changes among many files read few pages', async (t) => {
  const random = new Random(seedOf(t, 'pages'));
  const made = newFileSystem();
  const { directory, fs } = made;
  let { store } = made;
  const directories: number[] = [];
  for (let i = 0; i < 200; i++) {
    const { inode } = fs.mkdir(ROOT_CALLER, ROOT_INODE, Buffer.from(`directory-${i}`), 0o755);
    directories.push(inode);
    for (let j = 0; j < 100; j++) {
      fs.mknod(ROOT_CALLER, inode, Buffer.from(`file-${j}`), S_IFREG | 0o644, 0);
    }
  }
  await store.checkpoint();
  const before = store.live.lsn;
  for (let i = 0; i < 100; i++) {
    const parent = directories[random.below(directories.length)]!;
    const found = fs.lookup(ROOT_CALLER, parent, Buffer.from(`file-${random.below(100)}`))!.inode;
    fs.setattr(ROOT_CALLER, found, { mode: 0o100 + i });
  }
  await store.checkpoint();
  const after = store.live.lsn;
  await store.close();
  store = Store.open(directory, { background: 'caller' });
  const states: TreeState[] = [store.openState(before), store.openState(after)];
  const { cache } = states[0]!.pages;
  const pages = states[1]!.trees().reduce((sum, tree) => sum + tree.pageCount, 0);
  const reads = cache.reads;
  const changes = allChanges(states[0]!, states[1]!);
  const read = cache.reads - reads;
  t.log(`${changes.length} changes, ${read} pages of ${pages} read`);
  t.true(changes.length > 50 && changes.length <= 100);
  t.true(read <= pages / 2 && read <= 600, `${read} pages`);
  await store.close();
});
