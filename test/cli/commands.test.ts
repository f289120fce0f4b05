/** The commands on a store that is not mounted, each run as a process of its own. */
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { open } from '../../src/index.ts';
import type { ListEntry, SnapshotRow } from '../../src/plugin/operations.ts';
import { COMMAND, lsnfs, lsnfsJson, lsnfsOutput, type Outcome, runProgram } from '../helpers/command-line.ts';

function temporaryDirectory(t: ExecutionContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'lsnfs-cli-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** A store with a little in it. */
async function makeStore(t: ExecutionContext): Promise<string> {
  const store = join(temporaryDirectory(t), 'store');
  await lsnfsOutput('init', store);
  const database = await open(store);
  await database.put('/etc/motd', Buffer.from('hello\n'));
  await database.put('/etc/.hidden', Buffer.from(''));
  await database.close();
  return store;
}

/** One sentence on standard error, no stack, nothing on standard output. */
function failsWith(t: ExecutionContext, outcome: Outcome, code: number, sentence: RegExp): void {
  t.is(outcome.code, code, outcome.stderr);
  t.is(outcome.stdout, '');
  t.regex(outcome.stderr, /^lsnfs: [^\n]*\n$/);
  t.regex(outcome.stderr, sentence);
}

test('init makes a store, once', async (t) => {
  const directory = temporaryDirectory(t);
  const store = join(directory, 'store');
  t.deepEqual(await lsnfsJson('init', store, '--page-size', '8192'), { store, pageSize: 8192 });
  t.is(statSync(store).mode & 0o777, 0o700);
  failsWith(t, await lsnfs('init', store), 1, /store/);
  failsWith(
    t,
    await lsnfs('init', join(directory, 'other'), '--page-size', '1000'),
    2,
    /4096, 8192 or 16384/,
  );
  t.false(existsSync(join(directory, 'other')));
  const file = join(directory, 'file');
  writeFileSync(file, 'x');
  failsWith(t, await lsnfs('init', file), 1, /file/);
  mkdirSync(join(directory, 'full'));
  writeFileSync(join(directory, 'full', 'mine'), 'x');
  failsWith(t, await lsnfs('init', join(directory, 'full')), 1, /full/);
  t.like(await lsnfsJson('status', store), { store, pageSize: 8192 });
});

test('status says where the store stands', async (t) => {
  const store = await makeStore(t);
  const status = (await lsnfsJson('status', store)) as Record<string, unknown>;
  t.like(status, { store, mountpoint: null, pid: null, pageSize: 4096 });
  for (const name of ['lsn', 'durableLsn', 'checkpointLsn', 'horizonLsn', 'files'])
    t.is(typeof status[name], 'number', name);
  t.is(status.lsn, status.durableLsn);
  t.regex(String(status.horizonTime), /^\d{4}-\d\d-\d\dT/);
  t.deepEqual(Object.keys(status.pages as object).sort(), ['free', 'total']);
  t.deepEqual(Object.keys(status.bytes as object).sort(), ['disk', 'history', 'live']);
  t.deepEqual(Object.keys(status.wal as object).sort(), ['bytes', 'segments']);
  const text = await lsnfsOutput('status', store);
  t.true(text.includes('not mounted') && text.includes(String(status.lsn)));
});

test('commit prints the LSN; what was there is read under it', async (t) => {
  const store = await makeStore(t);
  const { lsn } = (await lsnfsJson('commit', store)) as { lsn: number };
  t.is(await lsnfsOutput('commit', store), `${lsn}\n`, 'nothing changed between');
  const database = await open(store);
  await database.delete('/etc/motd');
  await database.put('/new', Buffer.from('later'));
  await database.close();
  t.is(await lsnfsOutput('cat', store, `@lsn-${lsn}/etc/motd`), 'hello\n');
  t.is(await lsnfsOutput('ls', store, `@lsn-${lsn}`), 'etc\n');
  t.is(await lsnfsOutput('ls', store), 'etc\nnew\n');
  t.is(await lsnfsOutput('cat', store, '@latest/new'), 'later');
  failsWith(t, await lsnfs('cat', store, 'etc/motd'), 1, /etc\/motd does not exist/);
});

test('snapshots are made, listed, read and deleted', async (t) => {
  const store = await makeStore(t);
  const row = (await lsnfsJson('snapshot', 'create', store, 'first', '--message', 'why not')) as SnapshotRow;
  t.like(row, { name: 'first', message: 'why not' });
  t.is(typeof row.lsn, 'number');
  t.regex(row.createdAt, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/);
  t.deepEqual(await lsnfsJson('snapshot', 'list', store), [row]);
  t.regex(
    await lsnfsOutput('snapshot', 'create', store, 'zweiter-ü'),
    /^Made snapshot zweiter-ü at LSN \d+\.\n$/,
  );
  t.regex(
    await lsnfsOutput('snapshot', 'list', store),
    /^NAME +LSN +CREATED +MESSAGE\nfirst .*why not\nzweiter-ü .*\n$/,
  );
  t.is(await lsnfsOutput('ls', store, '@'), 'first\nzweiter-ü\n');
  t.is(await lsnfsOutput('cat', store, '@first/etc/motd'), 'hello\n');
  failsWith(t, await lsnfs('snapshot', 'create', store, 'first'), 1, /first/);
  for (const reserved of ['latest', 'lsn-5', '2026-11-22', 'a/b', '', '.', '..', 'n'.repeat(255)]) {
    failsWith(t, await lsnfs('snapshot', 'create', store, reserved), 1, /./);
  }
  t.deepEqual(await lsnfsJson('snapshot', 'delete', store, 'first'), { name: 'first' });
  failsWith(t, await lsnfs('snapshot', 'delete', store, 'first'), 1, /first/);
  failsWith(t, await lsnfs('cat', store, '@first/etc/motd'), 1, /first/);
  t.is(((await lsnfsJson('snapshot', 'list', store)) as SnapshotRow[]).length, 1);
});

test('ls shows directories and files', async (t) => {
  const store = await makeStore(t);
  t.is(await lsnfsOutput('ls', store, 'etc'), 'motd\n');
  t.is(await lsnfsOutput('ls', '-a', store, '/etc'), '.hidden\nmotd\n');
  t.is(await lsnfsOutput('ls', store, 'etc/.hidden'), 'etc/.hidden\n');
  t.regex(
    await lsnfsOutput('ls', '-l', store, 'etc'),
    /^-rw-r--r-- 1 \d+:\d+ 6 \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC motd\n$/,
  );
  const entries = (await lsnfsJson('ls', store, 'etc', '-a')) as ListEntry[];
  t.deepEqual(
    entries.map((entry) => [entry.name, entry.type, entry.size]),
    [
      ['.hidden', 'file', 0],
      ['motd', 'file', 6],
    ],
  );
  t.deepEqual(
    await lsnfsJson('ls', store, '/etc/../etc/motd/../..').catch(() => 'refused'),
    'refused',
    'a file has no ..',
  );
});

test('states that cannot be opened are refused with those that can', async (t) => {
  const store = await makeStore(t);
  const { lsn } = (await lsnfsJson('commit', store)) as { lsn: number };
  failsWith(t, await lsnfs('ls', store, `@lsn-${lsn + 1_000_000}`), 1, new RegExp(String(lsn)));
  failsWith(t, await lsnfs('ls', store, '@lsn-1x'), 1, /lsn-1x|1x/);
  failsWith(t, await lsnfs('ls', store, '@1999-01-01'), 1, /1999/);
  failsWith(t, await lsnfs('ls', store, '@2999-01-01'), 1, /2999/);
  failsWith(t, await lsnfs('cat', store, '@nobody/x'), 1, /nobody/);
});

test('names of any bytes go in and out unharmed', async (t) => {
  const store = await makeStore(t);
  const outcome = await runProgram('bash', [
    '-c',
    `"$0" "$1" cat "$2" $'etc/\\xff\\xfe'`,
    process.execPath,
    COMMAND,
    store,
  ]);
  failsWith(t, outcome, 1, /etc\/\\udcff\\udcfe does not exist/);
});

test('a large file is written whole, and quietly cut off by its reader', async (t) => {
  const store = await makeStore(t);
  const content = Buffer.alloc(9_000_000);
  for (let at = 0; at < content.length; at += 4) content.writeUInt32LE(at, at);
  const database = await open(store);
  await database.put('/big', content);
  await database.close();
  const directory = temporaryDirectory(t);
  const script = (line: string) =>
    runProgram('bash', ['-o', 'pipefail', '-c', line, process.execPath, COMMAND, store], { cwd: directory });
  t.like(await script('"$0" "$1" cat "$2" big > copy'), { code: 0, stderr: '' });
  t.true(readFileSync(join(directory, 'copy')).equals(content));
  t.like(await script('"$0" "$1" cat "$2" big | head -c 10 | wc -c'), {
    code: 0,
    stdout: '10\n',
    stderr: '',
  });
  const json = (await lsnfsJson('cat', store, 'big')) as { data: string };
  t.true(Buffer.from(json.data, 'base64').equals(content));
  if (existsSync('/dev/full')) {
    failsWith(t, { ...(await script('"$0" "$1" cat "$2" big > /dev/full')), stdout: '' }, 1, /output/);
  }
});

test('what is no store, or no whole one, is refused in one sentence', async (t) => {
  const directory = temporaryDirectory(t);
  for (const args of [['status'], ['ls'], ['commit'], ['snapshot', 'list'], ['cat', 'x']]) {
    const [command, ...rest] = args as [string, ...string[]];
    const before = command === 'snapshot' ? [command, ...rest] : [command];
    const after = command === 'snapshot' ? [] : rest;
    failsWith(t, await lsnfs(...before, join(directory, 'none'), ...after), 1, /none/);
    failsWith(t, await lsnfs(...before, directory, ...after), 1, /store/);
  }
  t.deepEqual(existsSync(join(directory, 'lsnfs.log')), false);

  const whole = await makeStore(t);
  const halves: [string, (store: string) => void][] = [
    ['without control', (store) => rmSync(join(store, 'control'))],
    ['control cut off', (store) => truncateSync(join(store, 'control'), 100)],
    [
      'control of zeros',
      (store) => writeFileSync(join(store, 'control'), Buffer.alloc(statSync(join(store, 'control')).size)),
    ],
    ['without data', (store) => rmSync(join(store, 'data'))],
    ['without wal', (store) => rmSync(join(store, 'wal'), { recursive: true })],
    ['settings that are none', (store) => writeFileSync(join(store, 'lsnfs.json'), '{')],
  ];
  for (const [what, damage] of halves) {
    const store = join(directory, what.replaceAll(' ', '-'));
    cpSync(whole, store, { recursive: true });
    chmodSync(store, 0o700); // not every Node copies the mode of a directory
    damage(store);
    const outcome = await lsnfs('status', store);
    t.is(outcome.code, 1, `${what}: ${outcome.stdout}`);
    t.regex(outcome.stderr, /^lsnfs: [^\n]+\n$/, what);
    t.notRegex(outcome.stderr, /unexpected/, what);
  }
});

test('a store that a process has open says who', async (t) => {
  const store = await makeStore(t);
  const database = await open(store);
  const outcome = await lsnfs('commit', store);
  await database.close();
  failsWith(t, outcome, 1, new RegExp(`in use by process ${process.pid}`));
  t.regex(await lsnfsOutput('commit', store), /^\d+\n$/);
});

test('wrong usage is status 2', async (t) => {
  for (const args of [
    ['frobnicate'],
    ['init'],
    ['status'],
    ['ls'],
    ['cat', 'x'],
    ['mount', 'x'],
    ['snapshot', 'create', 'x'],
    ['commit', 'a', 'b'],
    ['status', 'x', '--nothing'],
    ['mount', 'a', 'b', '--snapdir', 'maybe'],
    ['mount', 'a', 'b', '--commit-interval', '1'],
  ]) {
    failsWith(t, await lsnfs(...args), 2, /./);
  }
  t.is((await lsnfs()).code, 2);
  t.is((await lsnfs('snapshot')).code, 2);
  const help = await lsnfs('--help');
  t.is(help.code, 0);
  for (const command of ['init', 'mount', 'unmount', 'commit', 'snapshot', 'status', 'ls', 'cat'])
    t.true(help.stdout.includes(`  ${command}`), command);
  t.like(await lsnfs('--version'), { code: 0, stderr: '' });
});
