/** The commands on a mounted store: the daemon's life, and that a command gives the same result either way. */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { listMounts } from '../../fuse/mountinfo.ts';
import { open } from '../../src/index.ts';
import type { SnapshotRow } from '../../src/plugin/operations.ts';
import { isAlive, readOwner } from '../../src/store/lock.ts';
import { COMMAND, lsnfs, lsnfsJson, lsnfsOutput, runProgram } from '../helpers/command-line.ts';
import { mountTest as mounted, sayWhySkipped } from '../helpers/mount-test.ts';
import { mountDirectories } from '../helpers/mounting.ts';
import { until } from '../helpers/waiting.ts';

sayWhySkipped();

interface Places {
  readonly base: string;
  readonly store: string;
  readonly mountpoint: string;
}

/** A store and a directory to mount it on; whatever is left of both is removed, daemons included. */
async function places(t: ExecutionContext): Promise<Places> {
  const directories = mountDirectories();
  const { base, mountpoint } = directories;
  const store = join(base, 'new-store');
  t.teardown(async () => {
    const log = join(store, 'lsnfs.log');
    if (!t.passed && existsSync(log)) t.log(readFileSync(log, 'utf8'));
    const owner = existsSync(store) ? readOwner(store) : undefined;
    if (owner !== undefined && owner.pid !== process.pid && isAlive(owner))
      process.kill(owner.pid, 'SIGKILL');
    directories.cleanUp();
  });
  await lsnfsOutput('init', store);
  return { base, store, mountpoint };
}

async function mountedPlaces(t: ExecutionContext, ...options: string[]): Promise<Places & { pid: number }> {
  const where = await places(t);
  const { pid } = (await lsnfsJson('mount', where.store, where.mountpoint, ...options)) as { pid: number };
  return { ...where, pid };
}

/** A shell script in the mount; never run in this process's own calls, which might serve it one day. */
async function shell(script: string, cwd: string): Promise<string> {
  const { code, stdout, stderr } = await runProgram('bash', ['-euo', 'pipefail', '-c', script], { cwd });
  if (code !== 0) throw new Error(`${script}: status ${code}\n${stdout}${stderr}`);
  return stdout;
}

/** Whether a process runs; a zombie waits only for process 1 to ask how it ended. */
function lives(pid: number): boolean {
  if (!existsSync(`/proc/${pid}`)) return false;
  try {
    return !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));
  } catch {
    // It ended between the two looks.
    return false;
  }
}

mounted(
  'a command gives the same result on the store, on its mount, and when it is not mounted',
  async (t) => {
    const { store, mountpoint, pid } = await mountedPlaces(t);
    await shell('mkdir -p a/b; echo one > a/b/f; ln -s b a/link; mkfifo a/pipe; echo x > a/.dot', mountpoint);
    await lsnfsOutput('snapshot', 'create', mountpoint, 'first', '-m', 'hello');
    await shell('echo two > a/b/f; rm a/pipe', mountpoint);
    const { lsn } = (await lsnfsJson('commit', mountpoint)) as { lsn: number };
    const questions = [
      ['ls', '-al', 'TARGET', 'a'],
      ['ls', '-a', 'TARGET', '@first/a', '--json'],
      ['ls', 'TARGET', '@'],
      ['ls', '-l', 'TARGET', '@first/a'],
      ['cat', 'TARGET', 'a/b/f', '@first/a/b/f', `@lsn-${lsn}/a/link/f`],
      ['snapshot', 'list', 'TARGET', '--json'],
      ['snapshot', 'list', 'TARGET'],
      ['cat', 'TARGET', 'none'],
      ['cat', 'TARGET', 'a'],
      ['ls', 'TARGET', '@nobody'],
      ['snapshot', 'delete', 'TARGET', 'nobody'],
      ['snapshot', 'create', 'TARGET', 'latest'],
    ];
    const ask = async (target: string) =>
      Promise.all(
        questions.map((words) => lsnfs(...words.map((word) => (word === 'TARGET' ? target : word)))),
      );
    const onMount = await ask(mountpoint);
    t.deepEqual(await ask(store), onMount);
    t.is(onMount[4]!.stdout, 'two\none\ntwo\n');
    t.like(await lsnfsJson('status', store), { store, mountpoint, pid });
    t.like(await lsnfsJson('status', mountpoint), { store, mountpoint, pid, files: 5 });
    t.is(await lsnfsOutput('unmount', mountpoint), '');
    for (const [index, words] of questions.entries()) {
      const outcome = await lsnfs(...words.map((word) => (word === 'TARGET' ? store : word)));
      t.deepEqual(outcome, onMount[index], words.join(' '));
    }
    t.like(await lsnfsJson('status', store), { store, mountpoint: null, pid: null });
  },
);

mounted('unmount returns when the store is closed and the daemon gone', async (t) => {
  const { store, mountpoint, pid } = await mountedPlaces(t);
  await shell('dd if=/dev/urandom of=f bs=1M count=20 status=none; cp f ../copy', mountpoint);
  t.deepEqual(await lsnfsJson('unmount', mountpoint), { store, mountpoint });
  t.false(lives(pid));
  t.false(existsSync(join(store, 'control.sock')));
  t.false(existsSync(join(store, 'lock')));
  const database = await open(store, { readOnly: true });
  await database.close();
  t.is(
    (
      await runProgram('bash', [
        '-c',
        `"$0" "$1" cat "$2" f | cmp - "$2/../copy"`,
        process.execPath,
        COMMAND,
        store,
      ])
    ).code,
    0,
  );
  const again = await lsnfs('unmount', mountpoint);
  t.is(again.code, 1);
  t.regex(again.stderr, /^lsnfs: nothing of lsnfs is mounted on [^\n]*\n$/);
});

mounted('umount, fusermount3 and signals end the daemon cleanly', async (t) => {
  const ways: [string, (where: Places, pid: number) => unknown][] = [
    ['umount', ({ mountpoint }) => runProgram('umount', [mountpoint])],
    ['fusermount3', ({ mountpoint }) => runProgram('fusermount3', ['-u', mountpoint])],
    ['SIGTERM', (_, pid) => process.kill(pid, 'SIGTERM')],
    ['SIGINT', (_, pid) => process.kill(pid, 'SIGINT')],
  ];
  const where = await places(t);
  const { store, mountpoint } = where;
  for (const [way, end] of ways) {
    const { pid } = (await lsnfsJson('mount', store, mountpoint)) as { pid: number };
    process.kill(pid, 'SIGHUP');
    await shell(`echo ${way} > ${way}`, mountpoint);
    await end(where, pid);
    await until(`the daemon ends after ${way}`, () => !lives(pid));
    t.is(
      listMounts().find((mount) => mount.mountpoint === mountpoint),
      undefined,
      way,
    );
    t.is(await lsnfsOutput('cat', store, way), `${way}\n`);
    t.regex(readFileSync(join(store, 'lsnfs.log'), 'utf8'), /the store is closed\n$/, way);
  }
  t.is(statSync(join(store, 'lsnfs.log')).mode & 0o777, 0o600);
});

mounted(
  'after SIGKILL the mount is cleaned up and made again, with everything that was synced',
  async (t) => {
    const { store, mountpoint, pid } = await mountedPlaces(t);
    await shell('echo kept > f; sync f', mountpoint);
    process.kill(pid, 'SIGKILL');
    await until('the daemon ends', () => !lives(pid));
    t.is(await lsnfsOutput('cat', store, 'f'), 'kept\n', 'the store can be used beside the corpse');
    const outcome = await lsnfs('mount', store, mountpoint);
    t.is(outcome.code, 0, outcome.stderr);
    t.regex(outcome.stderr, /^lsnfs: [^\n]*server that died[^\n]*$/m);
    t.is(await shell('cat f', mountpoint), 'kept\n');
    await lsnfsOutput('unmount', mountpoint);
  },
);

mounted('what was written before a snapshot or a commit is in it, through whatever', async (t) => {
  const { mountpoint } = await mountedPlaces(t);
  const program = [
    'import mmap, os, sys',
    'f = os.open("open", os.O_RDWR | os.O_CREAT); os.write(f, b"written")',
    'm = os.open("mapped", os.O_RDWR | os.O_CREAT); os.ftruncate(m, 4096)',
    'view = mmap.mmap(m, 4096); view[0:6] = b"mapped"',
    'print("ready", flush=True)',
    'sys.stdin.read()',
  ].join('\n');
  const writer = spawn('python3', ['-c', program], { cwd: mountpoint, stdio: ['pipe', 'pipe', 'inherit'] });
  t.teardown(() => writer.kill('SIGKILL'));
  await new Promise((resolve) => writer.stdout.once('data', resolve));
  const row = (await lsnfsJson('snapshot', 'create', mountpoint, 'now')) as SnapshotRow;
  t.is(await lsnfsOutput('cat', mountpoint, '@now/open'), 'written');
  t.is((await lsnfsOutput('cat', mountpoint, '@now/mapped')).slice(0, 6), 'mapped');
  t.is(await shell('cat @now/open', mountpoint), 'written', 'and the running mount shows it');
  t.is(await shell(`head -c 6 @lsn-${row.lsn}/mapped`, mountpoint), 'mapped');
  const ended = new Promise((resolve) => writer.once('exit', resolve));
  writer.stdin.end();
  await ended;
  await lsnfsOutput('unmount', mountpoint);
});

mounted('a mount in use is not unmounted, and who uses it is named', async (t) => {
  const { mountpoint, pid } = await mountedPlaces(t);
  // It ends with its input, and so with this process.
  const user = spawn('cat', { cwd: mountpoint, stdio: ['pipe', 'ignore', 'ignore'] });
  t.teardown(() => user.kill('SIGKILL'));
  await new Promise((resolve) => user.once('spawn', resolve));
  const outcome = await lsnfs('unmount', mountpoint);
  t.is(outcome.code, 1);
  t.regex(
    outcome.stderr,
    new RegExp(
      `^lsnfs: cannot unmount [^\\n]*cat \\(${user.pid}, its working directory ${mountpoint}\\)[^\\n]*\\n$`,
    ),
  );
  t.is(await lsnfsOutput('unmount', '--lazy', mountpoint), '');
  t.is(
    listMounts().find((mount) => mount.mountpoint === mountpoint),
    undefined,
  );
  t.true(lives(pid), 'it serves on');
  user.kill('SIGKILL');
  await until('the daemon ends', () => !lives(pid));
});

mounted('mounts are listed, and what cannot be mounted is refused in one sentence', async (t) => {
  const { base, store, mountpoint, pid } = await mountedPlaces(t);
  const list = (await lsnfsJson('mount')) as { store: string; mountpoint: string }[];
  t.like(
    list.find((mount) => mount.mountpoint === mountpoint),
    { store, mountpoint },
  );
  t.true((await lsnfsOutput('mount')).includes(mountpoint));
  const other = join(base, 'other');
  await lsnfsOutput('init', other);
  const full = join(base, 'full');
  mkdirSync(join(full, 'something'), { recursive: true });
  mkdirSync(join(base, 'empty'));
  await shell('mkdir inside', mountpoint);
  for (const [args, sentence] of [
    [['mount', other, join(base, 'missing')], /does not exist/],
    [['mount', other, full], /not empty/],
    [['mount', other, mountpoint], /already/],
    [['mount', store, join(base, 'empty')], /already|in use/],
    [['mount', join(base, 'none'), join(base, 'empty')], /none/],
    [['mount', base, join(base, 'empty')], /store/],
    [['mount', other, join(other, 'wal')], /store/],
    [['mount', other, join(other, 'control')], /./],
    [['ls', join(mountpoint, 'inside')], /is inside a mount: give the mount point .* inside as the path/],
  ] as const) {
    const outcome = await lsnfs(...args);
    t.is(outcome.code, 1, args.join(' '));
    t.regex(outcome.stderr, /^lsnfs: [^\n]*\n$/, args.join(' '));
    t.notRegex(outcome.stderr, /unexpected/);
    t.regex(outcome.stderr, sentence, args.join(' '));
  }
  t.true(lives(pid));
  t.is((await lsnfs('mount', other, full, '--nonempty')).code, 0);
  await lsnfsOutput('unmount', full);
  await lsnfsOutput('unmount', store);
  t.false(lives(pid), 'the store names the mount as well');
});

mounted('--read-only, --snapdir and --commit-interval', async (t) => {
  const { store, mountpoint } = await mountedPlaces(t, '--snapdir', 'visible', '--commit-interval', '50ms');
  await shell('echo x > f', mountpoint);
  await lsnfsOutput('snapshot', 'create', mountpoint, 'one');
  t.is(await shell('ls', mountpoint), '@one\nf\n');
  await shell('echo y > g', mountpoint);
  await lsnfsOutput('unmount', mountpoint);
  await lsnfsOutput('mount', store, mountpoint, '--read-only');
  t.is(await shell('ls; cat f @one/f', mountpoint), 'f\ng\nx\nx\n');
  t.regex((await runProgram('touch', [join(mountpoint, 'h')])).stderr, /Read-only file system/);
  const outcome = await lsnfs('snapshot', 'create', mountpoint, 'two');
  t.is(outcome.code, 1);
  t.regex(outcome.stderr, /^lsnfs: [^\n]*(read-only|reading only)[^\n]*\n$/);
  await lsnfsOutput('unmount', mountpoint);
});

mounted('--foreground stays, and ends with Ctrl-C', async (t) => {
  const { store, mountpoint } = await places(t);
  const child = spawn(process.execPath, [COMMAND, 'mount', '--foreground', store, mountpoint], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  t.teardown(() => child.kill('SIGKILL'));
  let errors = '';
  child.stderr.on('data', (text) => {
    errors += text;
  });
  await new Promise((resolve) => child.stdout.once('data', resolve));
  await shell('echo here > f', mountpoint);
  t.like(await lsnfsJson('status', mountpoint), { pid: child.pid });
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGINT');
  t.is(await ended, 0);
  t.regex(errors, /the store is closed\n$/);
  t.is(await lsnfsOutput('cat', store, 'f'), 'here\n');
});

mounted('a large file is read through the socket in bounded memory', async (t) => {
  const { store, mountpoint, pid } = await mountedPlaces(t);
  await shell('truncate -s 300M sparse; printf end >> sparse', mountpoint);
  const { stdout, code } = await runProgram('bash', [
    '-o',
    'pipefail',
    '-c',
    '"$0" "$1" cat "$2" sparse | wc -c; grep VmHWM /proc/$3/status',
    process.execPath,
    COMMAND,
    store,
    String(pid),
  ]);
  t.is(code, 0);
  const [size, highWater] = stdout.split('\n');
  t.is(Number(size), 300 * 1024 * 1024 + 3);
  t.true(Number(/\d+/.exec(highWater!)![0]) < 250 * 1024, highWater);
  await lsnfsOutput('unmount', mountpoint);
});

mounted('signals to a mount in use: the first waits for programs, the second cuts them off', async (t) => {
  const { store, mountpoint, pid } = await mountedPlaces(t);
  const user = spawn('bash', ['-c', 'exec 3>held; echo written >&3; echo ready; read'], {
    cwd: mountpoint,
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  t.teardown(() => user.kill('SIGKILL'));
  await new Promise((resolve) => user.stdout.once('data', resolve));
  process.kill(pid, 'SIGTERM');
  await until('the mount is gone', () => !listMounts().some((mount) => mount.mountpoint === mountpoint));
  t.true(lives(pid), 'it serves on');
  t.deepEqual(
    await lsnfs('cat', store, 'held'),
    { code: 0, stdout: 'written\n', stderr: '' },
    `the program's status: ${user.exitCode} ${user.signalCode}`,
  );
  process.kill(pid, 'SIGTERM');
  await until('the daemon ends', () => !lives(pid));
  t.is(await lsnfsOutput('cat', store, 'held'), 'written\n');
});

mounted('commands at the moment when a store is unmounted or mounted work all the same', async (t) => {
  const { store, mountpoint } = await mountedPlaces(t);
  await shell('echo here > f', mountpoint);
  const look = async (delayMs: number) => {
    await sleep(delayMs);
    for (;;) {
      const started = performance.now();
      const outcome = await lsnfs('cat', store, 'f');
      // A machine may be so slow that a daemon starts or ends for longer than a command has patience.
      if (outcome.code === 0 || performance.now() - started < 5000 || !/in use/.test(outcome.stderr))
        return outcome;
    }
  };
  for (const change of [
    ['unmount', mountpoint],
    ['mount', store, mountpoint],
  ]) {
    const delays = [0, 60, 120, 180, 240, 300, 360, 420];
    const [changed, ...looks] = await Promise.all([lsnfs(...change), ...delays.map(look)]);
    t.like(changed, { code: 0, stderr: '' });
    for (const outcome of looks) t.like(outcome, { code: 0, stdout: 'here\n', stderr: '' });
  }
  await lsnfsOutput('unmount', mountpoint);
});
