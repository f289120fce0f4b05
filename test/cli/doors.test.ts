/**
 * The doors of a store that is not mounted: modes, what lies in its directory and leads elsewhere, whose it is, and
 * that nothing in it makes code run. Every attack is tried with a victim file outside, which must stay as it was.
 */
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { initialize, open } from '../../src/index.ts';
import { connectToStore } from '../../src/plugin/control-client.ts';
import { startControlServer } from '../../src/plugin/control-server.ts';
import { COMMAND, lsnfs, runProgram } from '../helpers/command-line.ts';

const SEGMENT = 'wal/0000000000000000';
const IS_ROOT = process.geteuid?.() === 0;
/** A user who is nobody else on this machine; needs no entry anywhere. */
const STRANGER = 61_001;
const INDEX = new URL('../../src/index.js', import.meta.url).href;

function temporaryDirectory(t: ExecutionContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'lsnfs-doors-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

async function makeStore(t: ExecutionContext): Promise<{ base: string; store: string }> {
  const base = temporaryDirectory(t);
  const store = join(base, 'store');
  await initialize(store, { segmentSize: 1024 * 1024 });
  const database = await open(store);
  await database.put('/f', Buffer.alloc(50_000, 1));
  await database.close();
  return { base, store };
}

/** Uses the store as a program does that writes everything it can. */
let uses = 0;

async function use(store: string): Promise<void> {
  const database = await open(store, { warn: () => {} });
  await database.put('/g', Buffer.alloc(50_000, 1));
  // More than two segments of the log.
  await database.transaction((transaction) => {
    for (let i = 0; i < 110; i++) transaction.put(`/g${i}`, Buffer.alloc(20_000, i));
  });
  await database.snapshots.create(`s${uses++}`);
  await database.close();
}

/** A line for each entry of a store: kind, mode and name. */
function modesOf(store: string): string[] {
  const names = ['.', ...readdirSync(store, { recursive: true, encoding: 'utf8' })];
  return names.sort().map((name) => {
    const stat = lstatSync(join(store, name));
    const kind = stat.isDirectory() ? 'directory' : stat.isFile() ? 'file' : 'other';
    return `${kind} ${(stat.mode & 0o7777).toString(8)} ${name}`;
  });
}

const isPrivate = (line: string): boolean => /^(directory 700|file 600) /.test(line);

for (const umask of ['000', '077', '777']) {
  test(`modes are 0700 and 0600 with umask ${umask}, in new directories and in old ones`, async (t) => {
    const base = temporaryDirectory(t);
    const old = join(base, 'old');
    mkdirSync(old);
    chmodSync(old, 0o777);
    const code = `
      const { initialize, open } = await import(${JSON.stringify(INDEX)});
      for (const store of process.argv.slice(1)) {
        await initialize(store, { segmentSize: 1 << 20 });
        const database = await open(store);
        await database.transaction((t) => { for (let i = 0; i < 60; i++) t.put('/f' + i, Buffer.alloc(20_000, i)); });
        await database.snapshots.create('s');
        await database.close();
      }`;
    const script = `umask ${umask}; exec "$0" --input-type=module -e "$1" "$2" "$3"`;
    const words = ['-c', script, process.execPath, code, old, join(base, 'new')];
    const outcome = await runProgram('bash', words);
    t.is(outcome.code, 0, outcome.stderr);
    for (const name of ['old', 'new']) {
      const modes = modesOf(join(base, name));
      t.deepEqual(
        modes.filter((line) => !isPrivate(line)),
        [],
      );
      t.true(modes.filter((line) => line.includes('wal/')).length >= 3, 'segments were made');
    }
  });
}

test('init changes nothing of a directory that it refuses', async (t) => {
  const base = temporaryDirectory(t);
  const directory = join(base, 'public');
  for (const content of ['directory', 'file', 'link'] as const) {
    mkdirSync(directory);
    chmodSync(directory, 0o755);
    if (content === 'directory') mkdirSync(join(directory, 'inner'));
    else if (content === 'file') writeFileSync(join(directory, 'page.html'), 'x');
    else symlinkSync(join(base, 'victim'), join(directory, 'lsnfs.json'));
    await t.throwsAsync(initialize(directory), {
      code: 'STORE_EXISTS',
      message: /is not empty: a store needs a directory of its own/,
    });
    t.is(statSync(directory).mode & 0o777, 0o755);
    t.is(readdirSync(directory).length, 1);
    rmSync(directory, { recursive: true });
  }
  t.false(existsSync(join(base, 'victim')));
});

test('a store that others can enter is refused, and files that are too wide are narrowed', async (t) => {
  const { store } = await makeStore(t);
  for (const mode of [0o755, 0o750, 0o701, 0o770]) {
    chmodSync(store, mode);
    await t.throwsAsync(open(store), {
      code: 'UNSAFE_STORE',
      message: /is open to other users \(mode 07..\).*chmod -R go=/,
    });
  }
  const outcome = await lsnfs('commit', store);
  t.is(outcome.code, 1);
  t.regex(outcome.stderr, /^lsnfs: the store .* is open to other users \(mode 0770\)/);
  chmodSync(store, 0o700);
  for (const name of ['data', 'control', SEGMENT]) chmodSync(join(store, name), 0o666);
  await use(store);
  for (const name of ['data', 'control', SEGMENT])
    t.is(statSync(join(store, name)).mode & 0o777, 0o600, name);
});

test('symbolic links in a store lead nowhere', async (t) => {
  const { base, store: template } = await makeStore(t);
  const elsewhere = join(base, 'elsewhere');
  // Names that a store has, and names that it makes; for those of the first kind the victim is what should be there.
  const present = ['data', 'control', 'lsnfs.json', SEGMENT, 'wal'];
  const made = [
    'lock',
    `lock.${process.pid}`,
    'wal/preparing',
    'wal/0000000000100000',
    'wal/0000000000200000',
  ];
  for (const name of [...present, ...made]) {
    for (const dangling of [false, true]) {
      rmSync(elsewhere, { recursive: true, force: true });
      mkdirSync(elsewhere);
      const store = join(base, 'copy');
      rmSync(store, { recursive: true, force: true });
      cpSync(template, store, { recursive: true });
      chmodSync(store, 0o700); // not every Node copies the mode of a directory
      const victim = join(elsewhere, 'victim');
      if (!existsSync(join(store, name))) writeFileSync(victim, 'precious');
      else renameSync(join(store, name), victim);
      if (dangling) rmSync(victim, { recursive: true });
      const before = dangling ? [] : snapshotOf(elsewhere);
      rmSync(join(store, name), { force: true });
      symlinkSync(victim, join(store, name));
      let refusal: { code?: string; message: string } | undefined;
      try {
        await use(store);
      } catch (error) {
        refusal = error as Error;
      }
      const what = `${name}${dangling ? ', dangling' : ''}: ${refusal?.message ?? 'not refused'}`;
      t.deepEqual(dangling ? readdirSync(elsewhere) : snapshotOf(elsewhere), before, what);
      if (refusal !== undefined) {
        t.is(refusal.code, 'UNSAFE_STORE', what);
        t.true(refusal.message.includes(`${join(store, name)} is a symbolic link and not`), what);
      }
      // What has to be there is refused; what is only made anew may be replaced.
      if (present.includes(name)) t.truthy(refusal, what);
      else if (refusal === undefined) t.false(isLink(join(store, name)), what);
    }
  }
});

function isLink(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() === true;
}

/** Content, mode, owner and time of change of everything in a directory. */
function snapshotOf(directory: string): string[] {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .sort()
    .map((name) => {
      const { mode, uid, gid, ctimeMs, size } = lstatSync(join(directory, name));
      const content = size < 100_000 && statSync(join(directory, name)).isFile();
      const text = content ? readFileSync(join(directory, name), 'base64') : '';
      return `${name} ${mode} ${uid} ${gid} ${ctimeMs} ${size} ${text}`;
    });
}

test('what is no file is refused, without waiting for it', async (t) => {
  const { base, store } = await makeStore(t);
  const names = ['data', 'control', 'lsnfs.json', SEGMENT, 'lock'];
  // In a process of its own: an open that waits would hold up everything else.
  const code = `
    import { execFileSync } from 'node:child_process';
    import { chmodSync, cpSync, mkdirSync, rmSync } from 'node:fs';
    import { createServer } from 'node:net';
    const { open } = await import(${JSON.stringify(INDEX)});
    const [template, store, isRoot, ...names] = process.argv.slice(1);
    const makers = {
      FIFO: (path) => execFileSync('mkfifo', ['--', path]),
      directory: (path) => mkdirSync(path),
      socket: (path) => new Promise((resolve) => createServer().listen(path, resolve).unref()),
      ...(isRoot === 'true' && { device: (path) => execFileSync('mknod', ['--', path, 'c', '1', '3']) }),
    };
    for (const [kind, make] of Object.entries(makers)) for (const name of names) {
      rmSync(store, { recursive: true, force: true });
      cpSync(template, store, { recursive: true });
      chmodSync(store, 0o700);
      rmSync(store + '/' + name, { force: true });
      await make(store + '/' + name);
      console.log('trying', kind, name);
      const end = await open(store).then((database) => database.close().then(() => 'opened'), (error) => error.code + ' ' + error.message);
      console.log('is', kind, name, end);
    }`;
  const words = ['--input-type=module', '-e', code, store, join(base, 'copy'), String(IS_ROOT), ...names];
  const outcome = await runProgram(process.execPath, words, { timeoutMs: 200_000 });
  t.is(outcome.code, 0, outcome.stdout + outcome.stderr);
  const ends = outcome.stdout.split('\n').filter((line) => line.startsWith('is '));
  t.is(ends.length, names.length * (IS_ROOT ? 4 : 3));
  for (const line of ends) {
    const [, kind] = line.split(' ');
    t.regex(line, new RegExp(`^is \\w+ \\S+ UNSAFE_STORE .* is a ${kind} and not a file`));
  }
});

test('a file with a second name is not written to', async (t) => {
  const { base, store } = await makeStore(t);
  for (const name of ['data', 'control', SEGMENT]) {
    linkSync(join(store, name), join(base, 'victim'));
    const before = readFileSync(join(base, 'victim'));
    await t.throwsAsync(use(store), { code: 'UNSAFE_STORE', message: /has 1 other names \(hard links\)/ });
    t.true(readFileSync(join(base, 'victim')).equals(before));
    rmSync(join(base, 'victim'));
  }
  await use(store);
});

test('the control socket: links in its place are not followed, by either end', async (t) => {
  const { base, store } = await makeStore(t);
  const victim = join(base, 'victim');
  writeFileSync(victim, 'precious', { mode: 0o644 });
  for (const name of ['control.sock', 'control.sock.new']) symlinkSync(victim, join(store, name));
  await t.throwsAsync(connectToStore(store), {
    code: 'UNSAFE_STORE',
    message: /control\.sock is a symbolic link/,
  });
  const status = await lsnfs('status', store);
  t.is(status.code, 1);
  t.regex(status.stderr, /control\.sock is a symbolic link and not a socket/);

  // Somebody else's socket hears nothing.
  const other = createServer(() => t.fail('a command was led to another socket'));
  await new Promise<void>((resolve) => other.listen(join(base, 'other.sock'), resolve));
  rmSync(join(store, 'control.sock'));
  symlinkSync(join(base, 'other.sock'), join(store, 'control.sock'));
  await t.throwsAsync(connectToStore(store), { code: 'UNSAFE_STORE' });
  await new Promise((resolve) => other.close(resolve));

  const server = await startControlServer({ storePath: store, execute: () => Promise.resolve(1) });
  t.true(lstatSync(join(store, 'control.sock')).isSocket());
  t.is(lstatSync(join(store, 'control.sock')).mode & 0o777, 0o600);
  t.is(await (await connectToStore(store))!.request('a'), 1);
  await server.closed();
  t.is(readFileSync(victim, 'utf8'), 'precious');
  t.is(statSync(victim).mode & 0o777, 0o644);
});

const asRoot = IS_ROOT ? test : test.skip;
if (!IS_ROOT) test('what root does in stores of others is not tested: this is not root', (t) => t.pass());

function giveAway(path: string, uid: number): void {
  chownSync(path, uid, uid);
  if (lstatSync(path).isDirectory()) for (const name of readdirSync(path)) giveAway(join(path, name), uid);
}

asRoot("what root makes in a user's store belongs to the user, who can go on with it", async (t) => {
  const { base, store } = await makeStore(t);
  giveAway(store, STRANGER);
  await use(store);
  const server = await startControlServer({ storePath: store, execute: () => Promise.resolve(1) });
  const names = ['.', ...readdirSync(store, { recursive: true, encoding: 'utf8' })];
  t.true(names.includes('wal/0000000000100000') && names.includes('control.sock'));
  for (const name of names) t.is(lstatSync(join(store, name)).uid, STRANGER, name);
  await server.closed();
  chmodSync(base, 0o755);
  const answer = await asStranger(store, 'the owner');
  t.regex(answer, /^opened/);
});

asRoot('a store of another user is refused, and its socket does not answer', async (t) => {
  const { base, store } = await makeStore(t);
  chmodSync(base, 0o755);
  t.regex(await asStranger(store), /^UNSAFE_STORE the store .* belongs to user 0, and this is user 61001/);
  const server = await startControlServer({ storePath: store, execute: () => Promise.resolve(1) });
  t.teardown(() => server.closed());
  t.regex(await asStranger(store), /socket: EACCES no permission/);
  // The socket is closed by itself, too: not only by its directory.
  chmodSync(store, 0o777);
  t.regex(await asStranger(store), /socket: EACCES no permission/);
  chmodSync(store, 0o700);
});

/** What a process of another user gets from a store: by opening it, and by its socket. */
async function asStranger(store: string, who = 'a stranger'): Promise<string> {
  const client = new URL('../../src/plugin/control-client.js', import.meta.url).href;
  // The modules are loaded first: their files need not be readable for everybody.
  const code = `
    const { open } = await import(${JSON.stringify(INDEX)});
    const { connectToStore } = await import(${JSON.stringify(client)});
    process.setgroups([]); process.setgid(${STRANGER}); process.setuid(${STRANGER});
    const said = (error) => error.code + ' ' + error.message;
    const opened = await open(process.argv[1]).then((database) => database.close().then(() => 'opened'), said);
    const answer = await connectToStore(process.argv[1]).then((found) => found?.request('a').finally(() => found.close()), said);
    console.log(opened + '; socket: ' + answer);`;
  const outcome = await runProgram(process.execPath, ['--input-type=module', '-e', code, store]);
  if (outcome.code !== 0) throw new Error(`${who}: ${outcome.stderr}`);
  return outcome.stdout;
}

test('a store makes no code run, unless that is allowed from outside', async (t) => {
  const { base, store } = await makeStore(t);
  const module = join(base, 'plugin.mjs');
  writeFileSync(
    module,
    `import { writeFileSync } from 'node:fs';
     export default () => { writeFileSync(${JSON.stringify(join(base, 'ran'))}, 'x'); return {}; };`,
  );
  const settings = join(store, 'lsnfs.json');
  const name = (plugin: string) =>
    writeFileSync(settings, JSON.stringify({ plugins: [plugin] }), { mode: 0o600 });
  const ran = () => {
    const found = existsSync(join(base, 'ran'));
    rmSync(join(base, 'ran'), { force: true });
    return found;
  };
  name(module);
  const warnings: string[] = [];
  await (await open(store, { warn: (message) => warnings.push(message) })).close();
  t.false(ran());
  t.regex(warnings.join(), /names plugins \(.*plugin\.mjs\), which were not loaded/);
  const commit = await lsnfs('commit', store);
  t.is(commit.code, 0);
  t.regex(commit.stderr, /which were not loaded/);
  t.false(ran());
  await (await open(store, { allowPlugins: true })).close();
  t.true(ran());
  // Whoever can write the file, or replace it, would choose the code.
  chmodSync(settings, 0o620);
  await t.throwsAsync(open(store, { allowPlugins: true }), {
    code: 'UNSAFE_STORE',
    message: /can be written by other users/,
  });
  chmodSync(settings, 0o600);
  if (IS_ROOT) {
    for (const path of [settings, store]) {
      chownSync(path, STRANGER, STRANGER);
      await t.throwsAsync(open(store, { allowPlugins: true }), {
        code: 'UNSAFE_STORE',
        message: /is in the hands of user 61001, and this is user 0/,
      });
      chownSync(path, 0, 0);
    }
  }
  for (const bad of [
    'data:text/javascript,export default 1',
    `file://${module}`,
    './plugin.mjs',
    '../plugin.mjs',
    'node:fs',
    'a/../../b',
  ]) {
    name(bad);
    const options = { allowPlugins: true };
    await t.throwsAsync(open(store, options), { message: /an absolute path or the name of a package/ }, bad);
  }
  t.false(ran());
});

test('settings that are no settings do not fill the memory', async (t) => {
  const { store } = await makeStore(t);
  execFileSync('truncate', ['-s', '8G', '--', join(store, 'lsnfs.json')]);
  await t.throwsAsync(open(store), { code: 'INVALID_INPUT', message: /more than settings can have/ });
});

test('waldump and controldata follow nothing either', async (t) => {
  const { base, store } = await makeStore(t);
  for (const name of [SEGMENT, 'control']) {
    renameSync(join(store, name), join(base, 'moved'));
    symlinkSync(join(base, 'moved'), join(store, name));
    const outcome = await lsnfs(name === 'control' ? 'controldata' : 'waldump', store);
    t.is(outcome.code, name === 'control' ? 1 : outcome.code);
    t.regex(
      outcome.stderr,
      /is a symbolic link and not a file|from which recovery reads, is missing|there is no segment/,
    );
    t.notRegex(outcome.stdout, /^tx:/m);
    rmSync(join(store, name));
    renameSync(join(base, 'moved'), join(store, name));
  }
  t.is((await runProgram(process.execPath, [COMMAND, 'waldump', '--', store])).code, 0);
});
