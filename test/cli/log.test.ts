/** lsnfs log and lsnfs show, on a store and on its mount; and the same through the API. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import {
  Database,
  initialize,
  LsnfsError,
  MemoryDirectory,
  open,
  type PathLogEntry,
  type StateReport,
  type StoreState,
  type TransactionLogEntry,
} from '../../src/index.ts';
import { executeOperation, type LogPage, needsFlushedMount } from '../../src/plugin/operations.ts';
import { Store } from '../../src/store/store.ts';
import { lsnfs, lsnfsJson, lsnfsOutput } from '../helpers/command-line.ts';
import { MountedStore } from '../helpers/mounted-store.ts';
import { canMount } from '../helpers/mounting.ts';

const mounted = canMount() ? test : test.skip;

async function memoryDatabase(t: ExecutionContext): Promise<Database> {
  const directory = new MemoryDirectory('memory');
  Store.initialize(directory);
  const database = await Database.over(directory);
  t.teardown(() => database.close());
  return database;
}

/** A store on disk with a snapshot "one", a rename and a removal after it. */
async function changedStore(t: ExecutionContext): Promise<string> {
  const base = mkdtempSync(join(tmpdir(), 'lsnfs-log-'));
  t.teardown(() => rmSync(base, { recursive: true, force: true }));
  const store = join(base, 'store');
  await initialize(store);
  const database = await open(store);
  await database.put('/etc/motd', 'hello\n');
  await database.snapshots.create('one', { message: 'the \u001b[1mfirst' });
  await database.put('/etc/motd', 'hello again\n');
  await database.transaction((transaction) => transaction.rename('/etc', '/\u001b[2m'));
  await database.transaction((transaction) => {
    for (let i = 0; i < 12; i++) transaction.put(`/many/${String(i).padStart(2, '0')}`, 'x'.repeat(5000));
    transaction.delete('/\u001b[2m/motd');
  });
  await database.close();
  return store;
}

test('what is printed for people', async (t) => {
  const store = await changedStore(t);
  const time = /\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}/g;
  const lines = async (...args: string[]): Promise<string[]> =>
    (await lsnfsOutput('log', store, ...args))
      .replace(time, 'TIME')
      .replace(/ by uid \d+, process \d+/g, ' BY')
      .split('\n')
      .slice(0, -1)
      .map((line) => line.replace(/^ *\d+ {2}/, ''));
  const states = await lines();
  t.regex(states[0]!, /^ +LSN {2}TIME \(UTC\) +WHAT +NAME, AND WHY IT IS KEPT$/);
  t.regex(states[1]!, /^TIME {2}latest$/);
  t.true(states.some((line) => /^TIME {2}version {3}\[newest, .*\]$/.test(line)));
  t.true(
    states.some((line) => /^TIME {2}snapshot {2}one: the \\u001b\[1mfirst {2}\[/.test(line)),
    states.join(),
  );

  const followed = await lines('etc/motd');
  t.deepEqual(followed, [
    ' LSN  TIME (UTC)                     SIZE  WHAT HAPPENED',
    'TIME           -  renamed to /\\0033[2m/motd BY',
    'TIME        12 B  modified (content, size, times) BY',
    'TIME         6 B  created (file) BY',
  ]);
  t.deepEqual((await lines('/\u001b[2m/motd', '--follow')).slice(1), [
    'TIME           -  removed BY',
    'TIME        12 B  renamed from /etc/motd BY',
    'TIME        12 B  (as /etc/motd) modified (content, size, times) BY',
    'TIME         6 B  created (file) BY',
  ]);
  const isFiles = (line: string): boolean => !line.endsWith('checkpoint');
  const transactions = (await lines('--transactions', '--since', '@one')).filter(isFiles);
  const at = transactions.findIndex((line) => line.includes('added'));
  t.deepEqual(transactions.slice(at), [
    'TIME  13 added, 1 removed, 58.6 KiB written BY',
    '    + /many',
    ...Array.from({ length: 9 }, (_, i) => `    + /many/0${i}`),
    '    … and 4 more changes',
    'TIME  1 renamed BY',
    '    R /etc -> /\\0033[2m',
    'TIME  1 modified, 12 B written BY',
    '    M /etc/motd (content, size, times)',
  ]);
  t.deepEqual(await lines('--until', '1 hour ago'), ['Nothing happened in that time.']);
  t.deepEqual(await lsnfsJson('log', store, '-n', '0', 'etc'), []);

  const shown = await lsnfsOutput('show', store, '@one');
  t.regex(shown, /^LSN: +\d+\nTime: .* UTC\nSnapshot: +one: the \\u001b\[1mfirst \(made .* UTC\)\n/);
  t.regex(shown, /\nVersion: +yes, root page \d+\nKept: +snapshot one, .*\nFiles: +2\nHolds: .*\nAlone: /);
  const [created] = ((await lsnfsJson('log', store, 'etc/motd')) as PathLogEntry[]).slice(-1);
  t.regex(
    await lsnfsOutput('show', store, `@lsn-${created!.lsn}`),
    /\nVersion: +no: made from that at LSN \d+/,
  );
});

test('what cannot be told is one sentence', async (t) => {
  const store = await changedStore(t);
  const fails = async (code: number, sentence: RegExp, ...args: string[]): Promise<void> => {
    const outcome = await lsnfs(...args);
    t.deepEqual([outcome.code, outcome.stdout], [code, ''], outcome.stderr);
    t.regex(outcome.stderr, /^lsnfs: [^\n]*\n$/);
    t.regex(outcome.stderr, sentence);
  };
  await fails(1, /\/never is in none of the states that are kept/, 'log', store, '/never', '--json');
  await fails(1, /"gestern" is neither a snapshot nor a time/, 'log', store, '--since', 'gestern');
  await fails(2, /--transactions shows those of the whole store/, 'log', store, 'etc', '--transactions');
  await fails(1, /the nearest is \d+/, 'show', store, '@lsn-99999999');
});

test('arguments of the operations are checked, and states are let go', async (t) => {
  const database = await memoryDatabase(t);
  await database.transaction((transaction) => {
    for (let i = 0; i < 50; i++) transaction.put(`/d/${i}`, 'x');
  });
  for (let i = 0; i < 30; i++) await database.put('/d/0', String(i));
  for (const args of [
    { path: 7 },
    { path: '/d\0' },
    { path: '/\ud800' },
    { since: 3 },
    { since: '' },
    { until: '@' },
    { limit: -1 },
    { limit: 1.5 },
    { until: '2 fortnights ago' },
    { follow: 'yes', path: '/d' },
    { follow: true },
    { transactions: 1 },
    { transactions: true, path: '/d' },
    { cursor: 'x' },
    { cursor: 99 },
  ]) {
    const bad = async (): Promise<unknown> => executeOperation(database, 'log', args);
    await t.throwsAsync(bad, { code: 'INVALID_INPUT' }, JSON.stringify(args));
  }
  await t.throwsAsync(async () => executeOperation(database, 'show', {}), { code: 'INVALID_INPUT' });
  await t.throwsAsync(async () => database.log({ path: '/d', limit: Number.NaN }), { code: 'INVALID_INPUT' });

  const pages: LogPage[] = [];
  for (let cursor: number | null | undefined; cursor !== null; cursor = pages.at(-1)!.cursor) {
    const args = cursor === undefined ? { path: 'd/0' } : { cursor };
    pages.push((await executeOperation(database, 'log', args)) as LogPage);
  }
  const entries = pages.flatMap((page) => page.entries) as PathLogEntry[];
  t.is(entries.length, 31);
  t.deepEqual([...(await database.log({ path: Buffer.from('d/0') }))], entries);
  t.deepEqual([...(await database.log({ path: '//d/./0/', limit: 4 }))], entries.slice(0, 4));
  t.deepEqual(
    [...(await database.log({ path: '/d/0', since: `lsn-${entries[9]!.lsn}` }))],
    entries.slice(0, 9),
  );
  t.deepEqual(
    [...(await database.log({ path: '/d/0', until: { kind: 'lsn', lsn: entries[9]!.lsn } }))],
    entries.slice(9),
  );
  for (const { lsn, size } of entries) {
    const past = database.at(lsn);
    t.is(past.stat('/d/0')?.size, size ?? undefined);
    past.close();
  }
  t.deepEqual(entries[0]!.origin, { uid: process.getuid?.() ?? 0, pid: process.pid });

  // Left in the middle, a log holds nothing.
  for (const entry of await database.log({ path: '/d/0' })) if (entry.lsn > 0) break;
  const listing = await database.log({ transactions: true });
  listing.step(1);
  listing.close();
  t.deepEqual([...listing], []);
  t.deepEqual(database.history.heldStates(), []);
  database.history.releaseIdle();
  t.deepEqual(database.store.pinned, []);
  t.true(needsFlushedMount('log', { path: '/d' }));
  t.false(needsFlushedMount('log', { cursor: 1 }));
  await t.throwsAsync(async () => [...(await database.log({ path: '/never' }))], {
    instanceOf: LsnfsError,
    code: 'ENOENT',
  });
  t.deepEqual([...(await database.log({ path: '/never', since: 'now' }))], []);
});

test('a restore is told, and what it did to a path', async (t) => {
  const database = await memoryDatabase(t);
  await database.put('/a', 'old');
  const { lsn } = await database.commit();
  await database.put('/a', 'new content');
  await database.put('/b', 'later');
  const restored = await database.restore(lsn);
  t.true(restored.applied);
  await database.store.checkpoint();
  await database.put('/c', 'after');
  const transactions = [...(await database.log({ transactions: true }))] as TransactionLogEntry[];
  t.is(transactions.find(({ kind }) => kind === 'restore')?.lsn, restored.lsn);
  const states = [...(await database.log())] as StoreState[];
  t.is(states.find(({ kind }) => kind === 'restore')?.lsn, restored.lsn);
  t.true(states.some(({ names }) => names.some(({ name }) => name === restored.before!.name)));
  const ofA = [...(await database.log({ path: '/a' }))] as PathLogEntry[];
  t.deepEqual(
    ofA.map((entry) => [entry.lsn === restored.lsn, entry.size]),
    [
      [true, 3],
      [false, 11],
      [false, 3],
    ],
  );
  const ofB = [...(await database.log({ path: '/b' }))] as PathLogEntry[];
  t.deepEqual(
    ofB.map(({ lsn: at }) => at === restored.lsn),
    [true, false],
  );
  // And one of a path, twice over.
  const again = await database.restore(restored.before!.lsn, { paths: ['/b'] });
  t.is(String(database.get('/b')), 'later');
  const newest = [...(await database.log({ path: '/b' }))] as PathLogEntry[];
  t.is(newest[0]!.lsn, again.lsn);
});

test('kinds of states and transactions, and what deleting a snapshot would free', async (t) => {
  const database = await memoryDatabase(t);
  await database.put('/big', Buffer.alloc(400_000, 1));
  await database.snapshots.create('a', { message: 'with it' });
  await database.snapshots.rename('a', 'b');
  await database.snapshots.hold('b', 'nightly');
  await database.put('/big', Buffer.alloc(400_000, 2));
  await database.snapshots.create('c');
  await database.put('/big', '3');
  await database.store.checkpoint();
  await database.snapshots.create('gone');
  await database.snapshots.delete('gone');
  const kinds = [...(await database.log({ transactions: true }))] as TransactionLogEntry[];
  const own = kinds
    .filter(({ kind }) => kind !== 'change' && kind !== 'checkpoint')
    .map(({ kind, name }) => `${kind} ${name}`);
  t.deepEqual(own, [
    'snapshot-delete gone',
    'snapshot gone',
    'snapshot c',
    'registry undefined',
    'registry undefined',
    'snapshot a',
  ]);
  const written = kinds
    .filter(({ bytesWritten }) => bytesWritten > 0)
    .map(({ bytesWritten }) => bytesWritten);
  t.deepEqual(written.slice(0, 1), [1]);
  t.true(written.slice(1).every((bytes) => bytes >= 400_000 && bytes < 404_096) && written.length === 3);
  const states = [...(await database.log())] as StoreState[];
  t.is(states[0]!.kind, 'latest');
  const named = states.filter(({ names }) => names.length > 0);
  t.deepEqual(
    named.map(({ kind, names: [name] }) => [kind, name!.name, name!.message, name!.holds]),
    [
      ['snapshot', 'c', undefined, undefined],
      ['snapshot', 'b', 'with it', ['nightly']],
    ],
  );
  const b: StateReport = await database.show('b');
  t.true(
    b.isVersion && b.base.lsn === b.lsn && b.reasons.includes('snapshot b, held by nightly'),
    JSON.stringify(b),
  );
  t.is(b.files, 1);
  t.true(b.pages.data >= 97 && b.bytes === (b.pages.data + b.pages.trees) * 4096);
  // What is in none of the neighbours: its data and the pages that lead there. The log still names the data of the window.
  t.true(b.alone !== null && b.alone.pages >= 2 && b.alone.bytes === b.alone.pages * 4096, JSON.stringify(b));
  const { pages: withB } = database.store.statistics();
  t.true(withB.total > 0);
  const latest = await database.show('latest');
  t.is(latest.lsn, database.history.range().newest);
  t.is(latest.alone, null);
  const held = database.at(b.lsn);
  t.deepEqual((await database.show(b.lsn)).openBy, [`process ${process.pid}`]);
  held.close();
});

mounted('a mount gives the same as the store; and who asked is known', async (t) => {
  const files = await MountedStore.create(t);
  const { store, mountpoint } = files;
  await files.shell('mkdir -p a/b; echo one > a/b/f; sync a/b/f; ln a/b/f g; mv a c', mountpoint);
  await lsnfsOutput('snapshot', 'create', mountpoint, 'first');
  await files.shell('echo more >> c/b/f; chmod 600 g; rm g', mountpoint);
  const followed = (await lsnfsJson('log', mountpoint, 'c/b/f', '--follow')) as PathLogEntry[];
  t.true(followed[0]!.lsn > 0);
  t.deepEqual([followed.at(-1)!.kind, followed.at(-1)!.path], ['created', '/a/b/f']);
  t.true(followed.some(({ changes }) => changes.includes('content') && changes.includes('size')));
  t.true(followed.some(({ kind, from }) => kind === 'renamed' && from === '/a/b/f'));
  const renamed = followed.find(({ kind }) => kind === 'renamed')!;
  t.true(renamed.origin!.uid === process.getuid?.() && renamed.origin!.pid > 0);
  const { lsn } = (await lsnfsJson('commit', mountpoint)) as { lsn: number };
  const asked = [
    ['c/b/f', '--follow'],
    ['/'],
    ['--transactions', '--since', '@first', '--until', `@lsn-${lsn}`],
  ];
  const answers = [];
  for (const args of asked) answers.push(await lsnfsOutput('log', mountpoint, ...args));
  const shown = await lsnfsJson('show', mountpoint, '@first');
  await files.unmount();
  for (const [i, args] of asked.entries())
    t.is(await lsnfsOutput('log', store, ...args), answers[i]!, args.join(' '));
  const later = (await lsnfsJson('show', store, '@first')) as StateReport;
  t.like(shown, { lsn: later.lsn, names: later.names, files: later.files, bytes: later.bytes });
});
