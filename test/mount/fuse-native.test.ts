/**
 * The binding fuse-native: history, snapshots, ends and crashes of a mount as with the other binding, and what is its own:
 * handlers that throw, packages that are missing, files that are removed while they are open.
 */
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { isAlive, readOwner } from '../../src/store/lock.ts';
import { COMMAND, lsnfs, runProgram } from '../helpers/command-line.ts';
import { KILL_SEGMENT_SIZE, KillCycles } from '../helpers/kill-cycles.ts';
import { MountedStore, type MountedStoreOptions } from '../helpers/mounted-store.ts';
import { PythonProgram } from '../helpers/mounting.ts';
import { NO_NATIVE_REASON } from '../helpers/native-binding.ts';
import { Random, seedOf } from '../helpers/random.ts';
import { UserWorld } from '../helpers/user-world.ts';

const nativeTest = NO_NATIVE_REASON === undefined ? test.serial : test.serial.skip;
if (NO_NATIVE_REASON !== undefined)
  test(`the binding fuse-native is not tested: ${NO_NATIVE_REASON}`, (t) => t.pass());

const binding = 'fuse-native';

function createUnmounted(
  t: Parameters<typeof MountedStore.create>[0],
  options: MountedStoreOptions = {},
): Promise<MountedStore> {
  return MountedStore.createUnmounted(t, { ...options, binding });
}

nativeTest('it says once what it cannot do, and serves past states by all their names', async (t) => {
  const where = await createUnmounted(t);
  const said = await where.mount();
  t.regex(said, /^lsnfs: the binding fuse-native has limits .*belongs to the user who mounts.*\n$/);
  const status = await where.json<{ binding: string; lacks: string[] }>('status', where.mountpoint);
  t.is(status.binding, binding);
  t.true(status.lacks.includes('renameFlags'));
  const lsn = await where
    .shell('mkdir d; echo one > d/f; ln -s f d/l; touch ...; ls')
    .then(() => where.commit());
  await where.snapshot('first');
  const moment = (await where.shell('date -u +%Y-%m-%dT%H%M%S.%3NZ')).trim();
  await sleep(20);
  await where.shell('echo two > d/f; rm d/l; echo x > d/new; sync d/f');
  for (const door of [`@lsn-${lsn}`, '@first', `@${moment}`]) {
    t.is(await where.shell(`cat ${door}/d/f; readlink ${door}/d/l; ls ${door}/d`), 'one\nf\nf\nl\n', door);
    t.is(
      await where.shell(`diff -r -q --no-dereference ${door}/d d || true`),
      `Files ${door}/d/f and d/f differ\nOnly in ${door}/d: l\nOnly in d: new\n`,
    );
    const { stderr } = await where.run(`echo no > ${door}/d/f`);
    t.regex(stderr, /Read-only file system/);
  }
  t.is(await where.shell('cat @latest/d/f; ls @; readlink @/first; ls'), 'two\nfirst\n../@first\nd\n');
  // A live file and its past are never the same file to tools, nor are its pasts.
  const inodes = await where.shell(`stat -c %i d/f @first/d/f @lsn-${lsn}/d/f | sort -u | wc -l`);
  t.is(inodes, '3\n');
  for (const script of [
    'rmdir @first',
    'mv @first x',
    'mv d @lsn-9',
    'mkdir @lsn-7',
    'ln d/f @first/d/g',
    'ln @first/d/f g',
  ]) {
    t.not((await where.run(script)).code, 0, script);
  }
  t.regex((await where.run('ls @lsn-99999999999')).stderr, /No such file/);
});

nativeTest(
  'a snapshot has what programs wrote, in mappings and open files too, while others write',
  async (t) => {
    const where = await createUnmounted(t, { settings: { checkpointIntervalMs: 20 } });
    await where.mount();
    const program = new PythonProgram(
      `
import mmap, os
f = os.open("written", os.O_RDWR | os.O_CREAT)
g = os.open("mapped", os.O_RDWR | os.O_CREAT)
os.ftruncate(g, 100000)
m = mmap.mmap(g, 100000)
n = 0
print("ready")
while input() == "":
    n += 1
    os.pwrite(f, b"%06d" % n * 1000, 0)
    m[:6] = m[99990:99996] = b"%06d" % n
    print(n)
`,
      where.mountpoint,
    );
    t.teardown(() => program.end());
    t.is(await program.line(), 'ready');
    const load = where.run('for i in $(seq 100000); do echo $i > f$((i % 50)); done', where.mountpoint);
    for (let round = 1; round <= 4; round++) {
      program.go();
      t.is(await program.line(), String(round));
      await where.snapshot(`s${round}`);
      const text = `00000${round}`;
      const found = await where.shell(
        `head -c 6 @s${round}/written; tail -c 6 @s${round}/written; head -c 6 @s${round}/mapped; tail -c 10 @s${round}/mapped | head -c 6`,
      );
      t.is(found, text.repeat(4), `round ${round}`);
    }
    await program.end();
    // Without regard for who writes, and everything is whole afterwards (teardown).
    t.is((await lsnfs('unmount', '--force', where.mountpoint)).code, 0);
    where.pid = 0;
    t.not((await load).code, 0);
  },
);

nativeTest('ends of a mount under four writers: nothing that was synced is missing', async (t) => {
  const random = new Random(seedOf(t, 'native-ends'));
  const where = await createUnmounted(t, { segmentSize: KILL_SEGMENT_SIZE });
  const run = new KillCycles(where, random, 'small-requests');
  t.teardown(() => run.end());
  for (let cycle = 1; cycle <= 2; cycle++)
    t.deepEqual(await run.cycle({ check: cycle === 2, loadMs: 400 }), [], `cycle ${cycle}`);
  t.deepEqual(await run.startAndVerify(), []);
  // SIGTERM: busy, it is taken out of sight, and served until the writers are gone.
  await run.writers.start();
  await sleep(100 + random.below(200));
  process.kill(where.pid, 'SIGTERM');
  await sleep(50);
  run.writers.stop();
  await run.writers.stopped();
  const owner = readOwner(where.store);
  while (owner !== undefined && isAlive(owner)) await sleep(10);
  t.deepEqual(await run.startAndVerify(), [], 'after SIGTERM');
  t.log(JSON.stringify({ ...run.summary, ...run.writers.totals }));
  t.true(run.writers.totals.acknowledgements > 0);
});

nativeTest('a mount over one that died says so, and recovers', async (t) => {
  const where = await createUnmounted(t);
  await where.mount();
  await where.shell('echo kept > a; exec 3<> open; rm open; echo x >&3; sync a');
  await where.kill();
  const said = await where.mount();
  t.regex(said, /was still mounted for a server that died/);
  t.is(await where.shell('cat a; ls -A'), 'kept\na\n');
  // A read-only mount takes nothing.
  await where.unmount();
  await where.mount('--read-only');
  t.regex((await where.run('echo no > a')).stderr, /Read-only file system/);
  t.is(await where.shell('cat a'), 'kept\n');
});

nativeTest('a handler that throws answers EIO and is logged, and the mount goes on', async (t) => {
  const where = await createUnmounted(t);
  const server = spawn(
    process.execPath,
    [new URL('../helpers/throwing-server.js', import.meta.url).pathname, where.store, where.mountpoint],
    {
      stdio: ['ignore', 'pipe', 'pipe'],
      cwd: '/',
    },
  );
  let log = '';
  server.stderr.setEncoding('utf8').on('data', (text: string) => {
    log += text;
  });
  where.adopt(server.pid!);
  // Where the end of the test looks for the log of a daemon; what is logged here is expected.
  writeFileSync(join(where.store, 'lsnfs.log'), '');
  await new Promise((resolve) => server.stdout.once('data', resolve));
  for (let i = 0; i < 3; i++) t.regex((await where.run('mkdir d')).stderr, /Input\/output error/);
  t.is(await where.shell('echo fine > f; cat f'), 'fine\n');
  const ended = new Promise((resolve) => server.once('close', resolve));
  await where.shell(`umount '${where.mountpoint}'`, where.base);
  t.is(await ended, 0);
  where.pid = 0;
  t.is(log.match(/mkdir failed: TypeError: on purpose\n\s+at /g)?.length, 3, log);
});

nativeTest('a restore is seen at once: names, attributes, content, and files that are open', async (t) => {
  const where = await createUnmounted(t);
  await where.mount();
  await where.shell(
    'mkdir -p d/sub; echo old > d/f; echo gone > d/sub/g; head -c 200000 /dev/zero | tr "\\\\0" a > large',
  );
  await where.snapshot('base');
  const [before] = await where.listings([where.mountpoint]);
  await where.shell(
    'echo newer and longer > d/f; mv d e; rm e/sub/g; mkdir m; head -c 100 /dev/zero > large; ls -lR',
  );
  const program = new PythonProgram(
    `
import os
f = os.open("large", os.O_RDONLY)
os.pread(f, 100, 0)
print("ready")
while input() == "":
    print(os.fstat(f).st_size, os.pread(f, 300000, 0).count(b"a"))
`,
    where.mountpoint,
  );
  t.teardown(() => program.end());
  t.is(await program.line(), 'ready');
  await where.ask('restore', { name: 'base' });
  t.deepEqual((await where.listings([where.mountpoint]))[0], before);
  t.is(await where.shell('cat d/f d/sub/g; ls'), 'old\ngone\nd\nlarge\n');
  program.go();
  t.is(await program.line(), '200000 200000');
  await program.end();
});

nativeTest(
  'a file that is removed while it is open is not to be seen, and one that is replaced always is',
  async (t) => {
    const where = await createUnmounted(t);
    await where.mount();
    await where.shell('exec 3<> f; echo content >&3; rm f; test -z "$(ls -A)"; cat /proc/self/fd/3');
    const script = `
    exec 3< <(tail -f /dev/null); echo 0 > r; exec 4< r
    for i in $(seq 20); do echo $i > n; exec 5< r; mv n r; exec 5<&-; done; read -r first <&4; echo $first $(cat r)`;
    t.is(await where.shell(`echo 0 > r; ${script}`), '0 20\n');
    // In the log, too, each replacement is one transaction: there is no state without the name.
    const log = (await lsnfs('log', '--transactions', where.mountpoint)).stdout;
    t.is(log.match(/1 removed, 1 renamed/g)?.length, 20, log);
    // The directory stays as long as libfuse has need of it.
    const busy = await where.run(
      'mkdir d; exec 3<> d/f; rm d/f; rmdir d || true; exec 3>&-; sleep 0.1; rmdir d; ls',
    );
    t.regex(busy.stderr, /Device or resource busy/);
    t.is(busy.stdout, 'r\n');
  },
);

nativeTest('what is missing is named, with what to install', async (t) => {
  const where = await createUnmounted(t);
  const mountWithout = async (text: string) => {
    const hook = join(where.base, 'hook.cjs');
    writeFileSync(hook, text);
    const words = [COMMAND, 'mount', where.store, where.mountpoint, '-o', `binding=${binding}`];
    return runProgram(process.execPath, words, { env: { NODE_OPTIONS: `--require ${hook}` } });
  };
  const withoutPackage = await mountWithout(`
    const Module = require('node:module');
    const original = Module._resolveFilename;
    Module._resolveFilename = function (name, ...rest) {
      if (name.startsWith('fuse-native')) throw Object.assign(new Error('no such module'), { code: 'MODULE_NOT_FOUND' });
      return original.call(this, name, ...rest);
    };`);
  t.is(withoutPackage.code, 1);
  t.is(
    withoutPackage.stderr,
    'lsnfs: the binding fuse-native needs the npm package fuse-native, which is not installed; install the Debian package libfuse2, and then lsnfs with its optional packages ("npm install -g --include=optional lsnfs"), or mount with --binding kernel\n',
  );
  const withoutLibrary = await mountWithout(`
    const Module = require('node:module');
    const original = Module._load;
    Module._load = function (name, ...rest) {
      if (name !== 'node-gyp-build') return original.call(this, name, ...rest);
      return () => { throw new Error('libfuse.so.2: cannot open shared object file: No such file or directory'); };
    };`);
  t.is(withoutLibrary.code, 1);
  t.regex(
    withoutLibrary.stderr,
    /^lsnfs: .* needs libfuse\.so\.2, which is not installed; install the Debian package libfuse2 .*\n$/,
  );
  t.regex(
    (await lsnfs('mount', where.store, where.mountpoint, '-o', 'binding=other')).stderr,
    /binding is kernel or fuse-native/,
  );
});

nativeTest('another user than root mounts with it too, and lets others in if that is allowed', async (t) => {
  const world = await UserWorld.create(t);
  await world.shell(
    'nobody',
    `lsnfs init s; mkdir m; lsnfs mount s m --binding ${binding}; mkdir m/d; echo kept > m/d/f; sync m/d/f
     lsnfs snapshot create m before; echo new > m/d/f`,
  );
  t.is(
    await world.shell('nobody', "stat -c '%u %g' m m/d/f; cat m/@before/d/f m/d/f"),
    '65534 65534\n65534 65534\nkept\nnew\n',
  );
  t.regex(
    await world.shell('nobody', `grep ' ${world.home}/m ' /proc/self/mountinfo`),
    /nosuid,nodev.*user_id=65534/,
  );
  for (const other of ['daemon', 'root'] as const)
    t.regex((await world.run(other, 'ls m')).stderr, /Permission denied/, other);
  const busy = await world.run('nobody', 'cd m/d; lsnfs unmount ../../m');
  t.is(busy.code, 1);
  t.regex(busy.stderr, /cannot unmount .*: it is used by bash/);
  // Killed under its user, it is mounted again in the same place.
  await world.shell(
    'nobody',
    'daemon=$(lsnfs status m --json | grep -o \'"pid": *[0-9]*\' | grep -o "[0-9]*"); kill -KILL $daemon',
  );
  t.regex((await world.run('nobody', 'ls m')).stderr, /not connected|connection abort/);
  const refused = await world.run('nobody', `lsnfs mount s m --binding ${binding} --allow-other`);
  t.is(refused.code, 1);
  t.regex(refused.stderr, /user_allow_other in \/etc\/fuse\.conf/);
  world.allowOthers(true);
  const again = await world.run(
    'nobody',
    `lsnfs mount s m --binding ${binding} --allow-other; cat m/@before/d/f`,
  );
  t.is(again.stdout.split('\n').at(-2), 'kept', again.stderr);
  await world.shell('nobody', 'echo secret > m/d/g; chmod 600 m/d/g; echo all > m/d/h');
  t.is(await world.shell('daemon', 'cat m/d/h; ls m/d'), 'all\nf\ng\nh\n');
  t.regex((await world.run('daemon', 'cat m/d/g')).stderr, /Permission denied/);
  t.regex((await world.run('daemon', 'touch m/d/new')).stderr, /Permission denied/);
  t.is(await world.shell('root', 'cat m/d/g'), 'secret\n');
  await world.shell('nobody', 'lsnfs unmount m; test -z "$(ls m)"; test ! -e s/lock; lsnfs check s --quiet');
});
