/**
 * The log of a path says what looking at the path in every state says; that of transactions what comparing the states around
 * each says: on random histories, within the window and before it.
 */
import test, { type ExecutionContext } from 'ava';
import { changesBetween } from '../../src/history/changes.ts';
import { UNBOUNDED } from '../../src/history/log-bounds.ts';
import { type PathEvent, pathLog } from '../../src/history/path-log.ts';
import { transactionLog } from '../../src/history/transaction-log.ts';
import { MemoryDirectory } from '../../src/storage/memory-device.ts';
import { checkStore } from '../../src/store/check.ts';
import { Store } from '../../src/store/store.ts';
import type { VfsOptions } from '../../src/vfs/core.ts';
import { O_RDWR, O_TRUNC, O_WRONLY, ROOT_CALLER, ROOT_INODE, S_IFREG } from '../../src/vfs/file-system.ts';
import { LiveFileSystem } from '../../src/vfs/live-file-system.ts';
import { PastFileSystem } from '../../src/vfs/past-file-system.ts';
import { Random, seedOf } from '../helpers/random.ts';
import { changeAttributes, type Listed, listing } from '../helpers/state-listing.ts';
import { emptyStatistics } from '../helpers/vfs-fixture.ts';
import { ModelRun } from '../helpers/vfs-model.ts';

const OPTIONS: VfsOptions = { statistics: () => emptyStatistics(1e6) };

/** A state as it is looked at: inodes, and which is at each path. */
interface Moment {
  readonly lsn: number;
  readonly inodes: Map<number, Listed>;
  readonly paths: Map<string, number>;
}

function momentOf(store: Store, lsn: number): Moment {
  const inodes = listing(new PastFileSystem(store.openState(lsn), OPTIONS));
  const paths = new Map<string, number>();
  for (const [inode, { entries }] of inodes) for (const path of entries.values()) paths.set(path, inode);
  return { lsn, inodes, paths };
}

const sorted = (values: Iterable<string>): string[] => [...values].sort();

/** What looking says happened to a path; of what has several right answers, all with "|" between them. */
function expectedEvent(path: string, before: Moment, after: Moment): string | undefined {
  const [old, now] = [before.paths.get(path), after.paths.get(path)];
  if (old === undefined && now === undefined) return undefined;
  const at = `${before.lsn} ${after.lsn}`;
  const entries = (moment: Moment, inode: number) =>
    moment.inodes.get(inode)?.entries ?? new Map<string, string>();
  if (old !== undefined && now !== undefined) {
    if (old !== now) return `${at} replaced`;
    const [a, b] = [before.inodes.get(old)!.facts, after.inodes.get(now)!.facts];
    const aspects = [...a].filter(([aspect, value]) => b.get(aspect) !== value).map(([aspect]) => aspect);
    return aspects.length === 0 ? undefined : `${at} modified ${sorted(aspects).join()}`;
  }
  // The other state has the inode under other paths, or not at all.
  const inode = (now ?? old)!;
  const [here, there] = now === undefined ? [before, after] : [after, before];
  const [hereEntries, thereEntries] = [entries(here, inode), entries(there, inode)];
  const [entry] = [...hereEntries].find(([, its]) => its === path)!;
  const same = thereEntries.get(entry);
  const moved = [...thereEntries].filter(([key]) => !hereEntries.has(key)).map(([, its]) => its);
  const others = same === undefined ? moved : [same];
  if (others.length > 0) {
    return `${at} renamed ${now === undefined ? 'to' : 'from'} ${sorted(others).join('|')}`;
  }
  if (now === undefined) return `${at} removed`;
  return thereEntries.size === 0
    ? `${at} created`
    : `${at} linked from ${sorted(thereEntries.values()).join('|')}`;
}

function agrees(event: PathEvent | undefined, expected: string | undefined): boolean {
  if (event === undefined || expected === undefined) return event === expected;
  const { kind, beforeLsn, lsn, aspects, from, to } = event;
  const words = expected.split(' ');
  const start = `${beforeLsn} ${lsn} ${kind}`;
  if (words.slice(0, 3).join(' ') !== start) return false;
  if (kind === 'modified') return words[3] === sorted(aspects).join();
  const other = from === undefined ? to : from;
  if (words.length < 4) return other === undefined;
  return words[3] === (from === undefined ? 'to' : 'from') && words[4]!.split('|').includes(String(other));
}

function disagreements(events: readonly PathEvent[], expected: readonly string[]): string[] {
  const wrong: string[] = [];
  for (let i = 0; i < Math.max(events.length, expected.length); i++) {
    if (!agrees(events[i], expected[i])) {
      const { kind, lsn, beforeLsn, aspects, from, to } = events[i] ?? {};
      wrong.push(`${beforeLsn} ${lsn} ${kind} ${aspects} ${from ?? ''} ${to ?? ''}, expected ${expected[i]}`);
    }
  }
  return wrong;
}

/** The events of a path, oldest first, without the one that says what was there first, and how the root was made. */
function eventsOf(store: Store, path: string, bounds = UNBOUNDED): PathEvent[] {
  const all = [...pathLog(store, Buffer.from(path), { follow: false, bounds })].filter(
    (event) => event !== undefined,
  );
  const isFirst = ({ kind }: PathEvent): boolean =>
    kind === 'existed' || (path === '/' && kind === 'created');
  return all.filter((event) => !isFirst(event)).reverse();
}

function allExpected(path: string, moments: readonly Moment[]): string[] {
  return moments
    .map((after, i) => (i === 0 ? undefined : expectedEvent(path, moments[i - 1]!, after)))
    .filter((expected) => expected !== undefined);
}

interface History {
  readonly store: Store;
  readonly run: ModelRun;
  /** After every transaction, from the first version on. */
  readonly moments: Moment[];
  readonly paths: Set<string>;
}

async function randomHistory(t: ExecutionContext, random: Random): Promise<History> {
  const directory = new MemoryDirectory('memory');
  Store.initialize(directory, { segmentSize: 256 * 1024 });
  const store = Store.open(directory, { background: 'caller' });
  const fs = new LiveFileSystem(store.live, OPTIONS);
  const run = new ModelRun(fs, random);
  await store.checkpoint();
  const first = store.versions().at(-1)!.lsn;
  for (let i = 0; i < 200; i++) {
    run.step();
    if (random.below(5) === 0) changeAttributes(fs, run, random);
    if (random.below(45) === 0) await store.checkpoint();
  }
  await store.commit();
  const moments = [momentOf(store, first)];
  store.eachTransaction(first, store.durableLsn, ({ endLsn }) => {
    moments.push(momentOf(store, endLsn));
    return true;
  });
  const paths = new Set(moments.flatMap((moment) => [...moment.paths.keys()]));
  t.log(`${moments.length} states, ${store.versions().length} versions, ${paths.size} paths`);
  return { store, run, moments, paths };
}

test('the log of each path is what looking at it in every state says', async (t) => {
  const random = new Random(seedOf(t, 'path log'));
  const { store, run, moments, paths } = await randomHistory(t, random);
  let count = 0;
  for (const path of paths) {
    const events = eventsOf(store, path);
    count += events.length;
    t.deepEqual(disagreements(events, allExpected(path, moments)), [], path);
    t.true(events.every(({ isExact }) => isExact));
  }
  t.true(count > 100, `${count} events`);
  t.deepEqual(eventsOf(store, '/never'), []);

  // Bounds: those events that lie within them.
  const path = '/';
  const all = eventsOf(store, path);
  const [low, high] = [all[Math.floor(all.length / 3)]!, all[Math.floor(all.length / 2)]!];
  for (const bounds of [
    { ...UNBOUNDED, afterLsn: low.lsn, uptoLsn: high.lsn },
    { ...UNBOUNDED, uptoLsn: high.lsn + 1 },
    { ...UNBOUNDED, fromMicroseconds: low.timeMicroseconds, untilMicroseconds: high.timeMicroseconds },
  ]) {
    const within = all.filter(
      ({ lsn, timeMicroseconds: time }) =>
        lsn > bounds.afterLsn &&
        lsn <= bounds.uptoLsn &&
        time >= bounds.fromMicroseconds &&
        time <= bounds.untilMicroseconds,
    );
    t.deepEqual(
      eventsOf(store, path, bounds).map(({ lsn }) => lsn),
      within.map(({ lsn }) => lsn),
    );
  }

  // The window begins later now: what is before it is seen from version to version.
  const versions = store.versions().map(({ lsn }) => lsn);
  const base = versions[Math.floor(versions.length / 2)]!;
  await store.checkpoint();
  t.true(store.retain(base, []));
  const seen = moments.filter(({ lsn }) => lsn >= base || versions.includes(lsn));
  for (const each of paths) {
    const events = eventsOf(store, each);
    t.deepEqual(disagreements(events, allExpected(each, seen)), [], `${each}, from version to version`);
    t.true(events.every(({ lsn, isExact }) => isExact === lsn > base));
  }
  t.deepEqual(store.pinned, []);
  run.closeAll();
  t.deepEqual(checkStore(store).problems, []);
  await store.close();
});

test('the log of transactions is what comparing the states around each says', async (t) => {
  const random = new Random(seedOf(t, 'transaction log'));
  const { store, run, moments } = await randomHistory(t, random);
  const events = [...transactionLog(store, UNBOUNDED)].filter((event) => event !== undefined).reverse();
  const after = events.filter(({ lsn }) => lsn > moments[0]!.lsn);
  t.deepEqual(
    after.map(({ beforeLsn, lsn }) => [beforeLsn, lsn]),
    moments.slice(1).map(({ lsn }, i) => [moments[i]!.lsn, lsn]),
  );
  for (const event of after) {
    const states = [event.beforeLsn, event.lsn].map((lsn) => store.openState(lsn));
    const changes = [...changesBetween(states[0]!, states[1]!)].filter((change) => change !== undefined);
    const text = (kind: string, path: Buffer, from?: Buffer): string => `${kind} ${from ?? ''} ${path}`;
    const entries = (list: readonly { kind: string; path: Buffer; from?: Buffer }[]): string[] =>
      sorted(list.filter(({ kind }) => kind !== 'M').map(({ kind, path, from }) => text(kind, path, from)));
    t.deepEqual(entries(event.changes), entries(changes), `LSN ${event.lsn}`);
    t.is(event.added + event.removed + event.renamed, entries(changes).length);
    // Of a file with several names one is told; entries and times of directories are not.
    const modified = new Set(
      event.changes.filter(({ kind }) => kind === 'M').map(({ path }) => String(path)),
    );
    const inodes = new Map<number, boolean>();
    for (const { kind, path, inode, aspects, after: record } of changes) {
      if (kind !== 'M') continue;
      const counts = aspects.some((aspect) => !record!.isDirectory || !/^(entries|times)$/.test(aspect));
      if (counts) inodes.set(inode, (inodes.get(inode) ?? false) || modified.has(String(path)));
    }
    t.true(
      [...inodes.values()].every((isTold) => isTold),
      `LSN ${event.lsn}`,
    );
  }
  t.true(events.some(({ kind }) => kind === 'checkpoint'));
  run.closeAll();
  await store.close();
});

/** A small file system to do things in by name. */
function files(): { store: Store; fs: LiveFileSystem; write(name: string, text: string): void } {
  const directory = new MemoryDirectory('memory');
  Store.initialize(directory);
  const store = Store.open(directory, { background: 'caller' });
  const fs = new LiveFileSystem(store.live, OPTIONS);
  const write = (name: string, text: string): void => {
    const found = fs.lookup(ROOT_CALLER, ROOT_INODE, Buffer.from(name))?.inode;
    const handle =
      found === undefined
        ? fs.create(ROOT_CALLER, ROOT_INODE, Buffer.from(name), S_IFREG | 0o644, O_RDWR).handle
        : fs.open(ROOT_CALLER, found, O_WRONLY | O_TRUNC);
    fs.write(ROOT_CALLER, handle, 0, Buffer.from(text), 0, text.length, false);
    fs.release(handle);
  };
  return { store, fs, write };
}

test('renames are followed, within a stretch of the log, across versions, and before the window', async (t) => {
  const { store, fs, write } = files();
  const name = (text: string): Buffer => Buffer.from(text);
  const told = (path: string): string[] =>
    [...pathLog(store, name(path), { follow: true, bounds: UNBOUNDED })]
      .filter((event) => event !== undefined)
      .map(({ kind, path: its, from }) => `${its} ${kind}${from === undefined ? '' : ` ${from}`}`);
  write('first', 'one');
  await store.checkpoint();
  fs.rename(ROOT_CALLER, ROOT_INODE, name('first'), ROOT_INODE, name('second'), 0);
  // As editors save: another file takes the name, and the history of the name goes on.
  write('new', 'two');
  fs.rename(ROOT_CALLER, ROOT_INODE, name('new'), ROOT_INODE, name('second'), 0);
  const directory = fs.mkdir(ROOT_CALLER, ROOT_INODE, name('d'), 0o755).inode;
  fs.rename(ROOT_CALLER, ROOT_INODE, name('second'), directory, name('third'), 0);
  await store.checkpoint();
  fs.rename(ROOT_CALLER, ROOT_INODE, name('d'), ROOT_INODE, name('e'), 0);
  // The old name is another file's now.
  write('first', 'other');
  await store.checkpoint();
  const expected = [
    '/e/third renamed /d/third',
    '/d/third renamed /second',
    '/second replaced',
    '/second renamed /first',
    '/first modified',
    '/first created',
  ];
  t.deepEqual(told('/e/third'), expected);
  t.deepEqual(told('first').slice(0, 3), ['/first modified', '/first created', '/first renamed'], 'away');
  t.true(store.retain(store.versions().at(-1)!.lsn, []));
  const versions = store.versions().length;
  t.is(versions, 4);
  // The versions are: nothing, "first", "d/third" (another file than "first" by now), "e/third".
  t.deepEqual(told('/e/third'), ['/e/third renamed /d/third', '/d/third created']);
  await store.close();
});

test('versions where nothing of the path changed cost a few pages, however large the store is', async (t) => {
  const { store, fs, write } = files();
  const directory = fs.mkdir(ROOT_CALLER, ROOT_INODE, Buffer.from('d'), 0o755).inode;
  for (let i = 0; i < 5000; i++) {
    fs.mknod(ROOT_CALLER, directory, Buffer.from(`file-${i}`), S_IFREG | 0o644, 0);
  }
  write('rare', 'x');
  await store.checkpoint();
  for (let i = 0; i < 40; i++) {
    const { inode } = fs.lookup(ROOT_CALLER, directory, Buffer.from(`file-${i * 100}`))!;
    fs.setattr(ROOT_CALLER, inode, { mode: 0o600 });
    await store.checkpoint();
  }
  t.true(store.retain(store.versions().at(-1)!.lsn, []));
  const { cache } = store.inspect();
  const before = cache.reads;
  const events = [...pathLog(store, Buffer.from('/rare'), { follow: false, bounds: UNBOUNDED })];
  t.deepEqual(events.map((event) => event?.kind).filter(Boolean), ['created']);
  const read = cache.reads - before;
  t.true(read <= 10 * store.versions().length, `${read} pages of ${store.versions().length} versions`);
  await store.close();
});
