/** lsnfs diff, on a store and on its mount; and the same through the API. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { patchOf } from '../../cli/patch.ts';
import type { Session } from '../../cli/target.ts';
import { octalName } from '../../cli/text.ts';
import { type Database, type DiffEntry, initialize, open } from '../../src/index.ts';
import { type DiffPage, executeOperation, needsFlushedMount } from '../../src/plugin/operations.ts';
import { bytesOfText } from '../../src/plugin/text.ts';
import { lsnfs, lsnfsJson, lsnfsOutput } from '../helpers/command-line.ts';
import { MountedStore } from '../helpers/mounted-store.ts';
import { canMount } from '../helpers/mounting.ts';
import { Random, seedOf } from '../helpers/random.ts';

const mounted = canMount() ? test : test.skip;

function newStore(t: ExecutionContext): string {
  const base = mkdtempSync(join(tmpdir(), 'lsnfs-diff-'));
  t.teardown(() => rmSync(base, { recursive: true, force: true }));
  return join(base, 'store');
}

/** Exit status 3: what was printed. */
async function differs(t: ExecutionContext, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await lsnfs('diff', ...args);
  t.deepEqual([code, stderr], [3, ''], args.join(' '));
  return stdout;
}

async function fails(t: ExecutionContext, code: number, sentence: RegExp, ...args: string[]): Promise<void> {
  const outcome = await lsnfs('diff', ...args);
  t.deepEqual([outcome.code, outcome.stdout], [code, ''], outcome.stderr);
  t.regex(outcome.stderr, /^lsnfs: [^\n]*\n$/);
  t.regex(outcome.stderr, sentence);
}

/** Lines of two numbered texts. */
const LINES = Array.from({ length: 20 }, (_, i) => `line ${i + 1}`);
const TEXT = `${LINES.join('\n')}\n`;
const CHANGED = TEXT.replace('line 10\n', 'line ten\nand more\n');

/** A store with a snapshot "old", and changes since. */
async function changedStore(t: ExecutionContext): Promise<string> {
  const store = newStore(t);
  await initialize(store);
  const database = await open(store);
  await database.put('/etc/motd', TEXT);
  await database.put('/etc/gone', 'without an end');
  await database.put('/etc/same', 'same');
  await database.put('/data/binary', Buffer.from([1, 0, 2]));
  await database.put('/data/b c', 'x');
  await database.snapshots.create('old');
  await database.put('/etc/motd', CHANGED);
  await database.delete('/etc/gone');
  await database.put('/data/binary', Buffer.from([1, 0, 3]));
  await database.put(Buffer.from('/data/\u001b[1m\\\xff\n', 'latin1'), 'new\n');
  await database.close();
  return store;
}

test('what changed is printed, with exit status 3', async (t) => {
  const store = await changedStore(t);
  const lines = await differs(t, store, '@old');
  t.is(
    lines,
    [
      'M\t/data\t(entries, times)',
      '+\t/data/\\0033[1m\\0134\\0377\\0012',
      'M\t/data/binary\t(content, times)',
      'M\t/etc\t(entries, times)',
      '-\t/etc/gone',
      'M\t/etc/motd\t(content, size, times)',
      '',
    ].join('\n'),
  );
  t.is(await differs(t, store, 'old', '@live', 'etc/', '--type', 'f'), lines.split('\n').slice(4).join('\n'));
  t.is(
    await differs(t, store, '@live', '@old', '/etc/./gone', '-H', '-t', 'f,d'),
    '+\t/etc/gone\n',
    'the other way round it was added',
  );
  t.is(await differs(t, store, 'old', '--name-only', 'etc/gone', 'etc/motd'), '/etc/gone\n/etc/motd\n');
  const json = JSON.parse(await differs(t, store, '@old', '--json', '--type', 'f')) as DiffEntry[];
  t.deepEqual(
    json.map(({ kind, path, sizeBefore, sizeAfter }) => [kind, path, sizeBefore, sizeAfter]),
    [
      ['+', '/data/\u001b[1m\\\udcff\n', null, 4],
      ['M', '/data/binary', 3, 3],
      ['-', '/etc/gone', 14, null],
      ['M', '/etc/motd', TEXT.length, CHANGED.length],
    ],
  );
  t.regex(
    await differs(t, store, '@old', '--stat'),
    /^1 added, 1 removed, 4 modified, 0 renamed\nfrom LSN \d+ to \d+: [1-9]\d* pages read, [\d.]+ ms\n$/,
  );
  const stat = JSON.parse(await differs(t, store, '@old', '--stat', '--json')) as Record<string, number>;
  t.deepEqual([stat.added, stat.removed, stat.modified, stat.renamed], [1, 1, 4, 0]);
  t.is(await differs(t, store, String(stat.from), String(stat.to)), lines, 'LSNs are states');
});

test('no change is exit status 0, and what cannot be compared is an error', async (t) => {
  const store = await changedStore(t);
  t.deepEqual(await lsnfsJson('diff', store, '@old', 'etc/same'), []);
  t.is(await lsnfsOutput('diff', store, '@latest', '@live'), '');
  await fails(t, 1, /the nearest is \d+/, store, '@old', '@lsn-999999999');
  await fails(t, 1, /nothing exists in neither of the states/, store, '@old', 'nothing');
  await fails(t, 2, /Types are letters/, store, '@old', '--type', 'x');
  await fails(t, 2, /--patch/, store, '@old', '--json', '--patch');
});

test('a patch stands below the change that it belongs to', async (t) => {
  const store = await changedStore(t);
  const patch = await differs(t, store, '@old', '--patch', 'etc', 'data/binary');
  const expected = [
    'M\t/data/binary\t(content, times)',
    'Binary files a/data/binary and b/data/binary differ',
    'M\t/etc\t(entries, times)',
    '-\t/etc/gone',
    '--- a/etc/gone',
    '+++ /dev/null',
    '@@ -1 +0,0 @@',
    '-without an end',
    '\\ No newline at end of file',
    'M\t/etc/motd\t(content, size, times)',
    '--- a/etc/motd',
    '+++ b/etc/motd',
    '@@ -7,7 +7,8 @@',
    ...LINES.slice(6, 9).map((line) => ` ${line}`),
    '-line 10',
    '+line ten',
    '+and more',
    ...LINES.slice(10, 13).map((line) => ` ${line}`),
    '',
  ];
  t.deepEqual(patch.split('\n'), expected);
});

test('a patch makes the later text of the earlier one', async (t) => {
  const { applyPatch } = await import('diff');
  const random = new Random(seedOf(t, 'patch'));
  const text = (): string => {
    const lines = Array.from(
      { length: random.below(30) },
      () => ['a', 'b\r', '', '\xe4\xff', '--- x'][random.below(5)],
    );
    return lines.join('\n') + (random.below(2) === 0 ? '\n' : '');
  };
  for (let i = 0; i < 300; i++) {
    const texts = [text(), text()];
    const session: Session = {
      storePath: '',
      execute: async (_operation, args) => {
        const content = texts[String(args?.path).startsWith('@lsn-1/') ? 0 : 1]!;
        return { data: Buffer.from(content, 'latin1').toString('base64'), cursor: null };
      },
    };
    const [sizeBefore, sizeAfter] = texts.map((content) => content.length) as [number, number];
    const entry = {
      path: '/f',
      type: 'file',
      inode: 2,
      changes: ['content'],
      sizeBefore,
      sizeAfter,
    } as const;
    const patch = await patchOf(session, { from: 1, to: 2 }, { kind: 'M', ...entry });
    const made = applyPatch(texts[0]!, patch.toString('latin1'), { autoConvertLineEndings: false });
    t.is(made, texts[1]!, JSON.stringify([texts, patch.toString('latin1')]));
  }
});

test('a name with every byte', (t) => {
  const bytes = Buffer.from(Array.from({ length: 255 }, (_, i) => i + 1));
  const text = bytes.toString('latin1');
  for (const ascii of [true, false]) {
    const name = octalName(text, ascii);
    const decoded = name.replace(/\\0(\d{3})/g, (_, octal: string) =>
      String.fromCharCode(0xdc00 + Number.parseInt(octal, 8)).replace(/[\udc00-\udc7f]/, (low) =>
        String.fromCharCode(low.charCodeAt(0) - 0xdc00),
      ),
    );
    t.deepEqual(bytesOfText(decoded), Buffer.from(text, 'utf8'));
    t.notRegex(name, /\p{Cc}/u);
    if (ascii) t.regex(name, /^[!-~]*$/);
  }
  t.is(octalName('größe 1', false), 'größe 1');
  t.is(octalName('a b\\', true), 'a\\0040b\\0134');
});

async function pagesOf(database: Database, args: Record<string, string | string[]>): Promise<DiffPage[]> {
  const pages = [(await executeOperation(database, 'diff', args)) as DiffPage];
  for (let cursor = pages[0]!.cursor; cursor !== null; cursor = pages[pages.length - 1]!.cursor) {
    pages.push((await executeOperation(database, 'diff', { cursor })) as DiffPage);
  }
  return pages;
}

test('many changes come in pages, sorted, with both states held until the last', async (t) => {
  const store = newStore(t);
  await initialize(store);
  const database = await open(store);
  t.teardown(() => database.close());
  const { lsn } = await database.commit();
  await database.transaction((transaction) => {
    for (let i = 0; i < 2500; i++) transaction.put(`/d${i % 7}/f${(i * 7919) % 10_007}`, 'x');
  });
  const first = (await executeOperation(database, 'diff', { from: `lsn-${lsn}` })) as DiffPage;
  t.deepEqual(
    database.history.heldStates().map((state) => state.lsn),
    [lsn, database.lsn],
  );
  await executeOperation(database, 'closeCursor', { cursor: first.cursor! });
  t.deepEqual(database.history.heldStates(), []);
  const pages = await pagesOf(database, { from: `lsn-${lsn}` });
  t.true(pages.every(({ entries }) => entries.length <= 1024));
  const paths = pages.flatMap(({ entries }) => entries.map(({ path }) => path));
  t.is(paths.length, 2500 + 7 + 1);
  t.deepEqual(paths, [...paths].sort());
  t.is(pages[pages.length - 1]!.statistics.added, 2507);
  t.deepEqual(
    [...(await database.diff(lsn, undefined, { types: ['file'], paths: ['d0', Buffer.from('/d1/')] }))].map(
      ({ path }) => path,
    ),
    paths.filter((path) => /^\/d[01]\//.test(path)),
  );
  t.deepEqual(database.history.heldStates(), []);
  for (const args of [{ from: 'latest', types: ['x'] }, { from: 'latest', paths: 'x' }, { from: 7 }]) {
    await t.throwsAsync(async () => executeOperation(database, 'diff', args), { code: 'INVALID_INPUT' });
  }
  t.true(needsFlushedMount('diff', { from: 'old' }));
  t.true(needsFlushedMount('diff', { from: '@live', to: 'old' }));
  t.false(needsFlushedMount('diff', { from: '@a', to: '@b' }));
  t.false(needsFlushedMount('diff', { cursor: 3 }));
});

mounted('a mount gives the same as the store, with what is not flushed yet', async (t) => {
  const files = await MountedStore.create(t);
  const { store, mountpoint } = files;
  await files.shell('mkdir -p a/b; echo one > a/b/f; echo two > g; ln g h; mkfifo pipe', mountpoint);
  await lsnfsOutput('snapshot', 'create', mountpoint, 'first');
  await files.shell('mv a c; echo more >> c/b/f; mv g i; rm pipe; chmod 600 i', mountpoint);
  const expected = [
    'M\t/\tentries,times',
    'R\t/a\t/c\ttimes',
    'M\t/c/b/f\tcontent,size,times',
    'M\t/h\tmode,times',
    'R\t/g\t/i\tmode,times',
    '-\t/pipe',
  ].sort();
  const found = await differs(t, mountpoint, '@first', '-H');
  t.deepEqual(found.trimEnd().split('\n').sort(), expected);
  const below = await differs(t, store, '@first', 'a/b/f', '--patch');
  t.is(
    below,
    'M\t/c/b/f\t(content, size, times)\n--- a/a/b/f\n+++ b/c/b/f\n@@ -1 +1,2 @@\n one\n+more\n',
    'an old path below a renamed directory',
  );
  t.regex(await differs(t, mountpoint, '@first', 'g'), /^R\t\/g -> \/i\t\(mode, times\)\n$/);
  const { lsn } = (await lsnfsJson('commit', mountpoint)) as { lsn: number };
  await files.unmount();
  t.is(await differs(t, store, '@first', `@lsn-${lsn}`, '-H'), found);
});
