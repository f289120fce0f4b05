/**
 * The doors of a mount, tried by real users: the kernel enforces permissions, in past states those of the past, and the
 * daemon answers its owner and root only. What it makes is private whatever the umask.
 */
import {
  chmodSync,
  chownSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { COMMAND, lsnfs, type Outcome, runProgram } from '../helpers/command-line.ts';
import { mountTest, sayWhySkipped } from '../helpers/mount-test.ts';
import { MountedStore } from '../helpers/mounted-store.ts';

sayWhySkipped();

const ANN = 61_001;
const BEN = 61_002;
const TEAM = 61_003;

/** Runs a script as a user who needs no entry in any list; in the mount. */
function as(mounted: MountedStore, user: number, script: string, groups = 'clear'): Promise<Outcome> {
  const group = groups === 'clear' ? '--clear-groups' : `--groups=${groups}`;
  const who = [`--reuid=${user}`, `--regid=${user}`, group];
  return runProgram('setpriv', [...who, 'bash', '-uc', script], { cwd: mounted.mountpoint });
}

/** What is wrong in a list of attempts: each either succeeds or fails with the words given. */
async function attempts(
  mounted: MountedStore,
  list: readonly (readonly [user: number, script: string, complaint: string])[],
): Promise<string[]> {
  const wrong: string[] = [];
  for (const [user, script, complaint] of list) {
    const { code, stdout, stderr } = await as(mounted, user, script);
    const isRight = complaint === '' ? code === 0 : code !== 0 && stderr.includes(complaint);
    if (!isRight) wrong.push(`${user}: ${script}: status ${code}, not '${complaint}': ${stdout}${stderr}`);
  }
  return wrong;
}

const DENIED = 'Permission denied';
const NOT_YOURS = 'Operation not permitted';

mountTest(
  'two users: the kernel lets them do what they may, and in past states what they might',
  async (t) => {
    const mounted = await MountedStore.createUnmounted(t);
    await mounted.mount('--allow-other');
    chmodSync(mounted.base, 0o755);
    await mounted.shell(`
    mkdir -m 1777 drop; mkdir -m 2775 team; chgrp ${TEAM} team
    mkdir -m 755 ann; chown ${ANN}:${ANN} ann`);
    const prepared = await as(
      mounted,
      ANN,
      `set -e; umask 022; cd ann
     echo secret > private; chmod 600 private; echo hello > public; chmod 644 public
     mkdir -m 700 closed; echo inner > closed/inner; chmod 644 closed/inner
     echo mine > ../drop/mine; chmod 666 ../drop/mine
     echo now > opened; chmod 600 opened; echo acl > acl; chmod 600 acl; setfacl -m u:${BEN}:r acl`,
    );
    t.is(prepared.code, 0, prepared.stderr);
    const before = await mounted.snapshot('before');

    const live: [number, string, string][] = [
      [BEN, 'cat ann/private', DENIED],
      [BEN, 'cat ann/public', ''],
      [BEN, 'echo x >> ann/public', DENIED],
      [BEN, 'cat ann/closed/inner', DENIED],
      [BEN, 'ls ann/closed', DENIED],
      [BEN, 'stat ann/closed/inner', DENIED],
      [BEN, 'touch ann/new', DENIED],
      [BEN, 'rm -f ann/public', DENIED],
      [BEN, 'chmod 777 ann/private', NOT_YOURS],
      [BEN, `chown ${BEN} ann/public`, NOT_YOURS],
      [ANN, `chown ${BEN} ann/public`, NOT_YOURS],
      [BEN, 'ln ann/private drop/link', NOT_YOURS],
      // Sticky: everybody writes there, and removes only what is theirs.
      [BEN, 'echo y >> drop/mine', ''],
      [BEN, 'rm -f drop/mine', NOT_YOURS],
      [BEN, 'mv drop/mine drop/yours', NOT_YOURS],
      [BEN, 'touch drop/bens && rm drop/bens', ''],
      // An ACL lets one user in, and no other.
      [BEN, 'cat ann/acl', ''],
      [BEN, 'echo x >> ann/acl', DENIED],
      [TEAM, 'cat ann/acl', DENIED],
      [BEN, 'touch team/x', DENIED],
    ];
    t.deepEqual(await attempts(mounted, live), []);

    // Set-gid directories: whoever makes something there makes it for the group.
    const made = await as(
      mounted,
      BEN,
      'umask 002; touch team/f && mkdir team/d && stat -c "%g %a" team/f team/d',
      String(TEAM),
    );
    t.is(made.stdout, `${TEAM} 664\n${TEAM} 2775\n`, made.stderr);
    const dropped = await as(
      mounted,
      BEN,
      'touch drop/g && chmod 2755 drop/g && stat -c %a drop/g && rm drop/g',
    );
    t.is(dropped.stdout, '2755\n', dropped.stderr);

    // What was open then is open there, and what was closed then is closed there, whatever it is now.
    const changed = await as(
      mounted,
      ANN,
      'cd ann; chmod 600 public; chmod 644 opened private; setfacl -b acl; chmod 755 closed',
    );
    t.is(changed.code, 0, changed.stderr);
    const after = await mounted.snapshot('after');
    for (const place of ['@before', `@lsn-${before}`]) {
      const past: [number, string, string][] = [
        [BEN, `cat ${place}/ann/public`, ''],
        [BEN, `cat ${place}/ann/opened`, DENIED],
        [BEN, `cat ${place}/ann/private`, DENIED],
        [BEN, `cat ${place}/ann/closed/inner`, DENIED],
        [BEN, `ls ${place}/ann/closed`, DENIED],
        [BEN, `cat ${place}/ann/acl`, ''],
        [TEAM, `cat ${place}/ann/acl`, DENIED],
        [ANN, `cat ${place}/ann/private ${place}/ann/closed/inner`, ''],
        [ANN, `echo x >> ${place}/ann/private`, 'Read-only file system'],
        [ANN, `chmod 644 ${place}/ann/private`, 'Read-only file system'],
        [BEN, `touch ${place}/drop/x`, 'Read-only file system'],
      ];
      t.deepEqual(await attempts(mounted, past), [], place);
    }
    for (const place of ['.', '@after', `@lsn-${after}`, '@latest']) {
      const present: [number, string, string][] = [
        [BEN, `cat ${place}/ann/public`, DENIED],
        [BEN, `cat ${place}/ann/opened ${place}/ann/private ${place}/ann/closed/inner`, ''],
        [BEN, `cat ${place}/ann/acl`, DENIED],
      ];
      t.deepEqual(await attempts(mounted, present), [], place);
    }
    t.deepEqual(await attempts(mounted, [[BEN, 'ls @ | grep -qx before', '']]), []);
  },
);

/** Every entry of the store as "kind mode owner name", but for those that are as they should be. */
function openDoors(store: string, uid: number): string[] {
  return ['.', ...readdirSync(store, { recursive: true, encoding: 'utf8' })].flatMap((name) => {
    const stat = lstatSync(join(store, name), { throwIfNoEntry: false });
    if (stat === undefined) return [];
    const expected = stat.isDirectory() ? 0o700 : 0o600;
    const isRight = (stat.mode & 0o7777) === expected && stat.uid === uid;
    return isRight ? [] : [`${(stat.mode & 0o7777).toString(8)} ${stat.uid} ${name}`];
  });
}

/** Connects to a socket as somebody, asks, and prints the answer or the error. */
const ASK = `
import os, socket, sys
os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
s = socket.socket(socket.AF_UNIX)
try:
    s.connect(sys.argv[1])
    s.sendall(b'{"id":1,"operation":"snapshotList"}\\n')
    print(s.recv(1000).decode())
except OSError as error:
    print(error.strerror)
`;

mountTest("with umask 000 in a user's store: everything is private, and the user's", async (t) => {
  const mounted = await MountedStore.createUnmounted(t, { segmentSize: 1024 * 1024 });
  const { store, mountpoint } = mounted;
  for (const name of ['.', ...readdirSync(store, { recursive: true, encoding: 'utf8' })])
    chownSync(join(store, name), ANN, ANN);
  chmodSync(mounted.base, 0o755);
  chmodSync(mounted.disk, 0o755);
  const script = 'umask 000; exec "$0" "$1" mount "$2" "$3" --json';
  const outcome = await runProgram('bash', ['-c', script, process.execPath, COMMAND, store, mountpoint]);
  t.is(outcome.code, 0, outcome.stderr);
  mounted.adopt((JSON.parse(outcome.stdout) as { pid: number }).pid);
  await mounted.shell(
    'for i in $(seq 150); do head -c 20000 /dev/urandom > f$i; done; sync f1; mkdir d; chmod 777 d f1',
  );
  await mounted.snapshot('s');
  t.deepEqual(openDoors(store, ANN), []);
  const names = readdirSync(store, { recursive: true, encoding: 'utf8' });
  for (const name of ['control.sock', 'lock', 'lsnfs.log', 'wal/0000000000200000'])
    t.true(names.includes(name), name);
  // Tools that only look work on the mount, too.
  const data = await lsnfs('controldata', mountpoint);
  t.regex(data.stdout, new RegExp(`^in use by: +process ${mounted.pid}, mounted on ${mountpoint}$`, 'm'));
  const dump = await lsnfs('waldump', mountpoint, '--stats');
  t.is(dump.code, 0, dump.stderr);
  t.regex(dump.stdout, /^SNAPSHOT +1 /m);
  const socket = join(store, 'control.sock');
  const ask = async (uid: number) =>
    (await runProgram('python3', ['-c', ASK, socket, String(uid)])).stdout.trim();
  t.regex(await ask(ANN), /"id":1,"result":\[\{"name":"s"/);
  t.regex(await ask(0), /"id":1,"result"/);
  t.is(await ask(BEN), 'Permission denied');
  // Also when the directory is open by mistake.
  chmodSync(store, 0o777);
  t.is(await ask(BEN), 'Permission denied');
  chmodSync(store, 0o700);
  await mounted.unmount();
  t.deepEqual(openDoors(store, ANN), []);
});

mountTest("the daemon's log and socket: links in their places are not followed", async (t) => {
  const mounted = await MountedStore.createUnmounted(t);
  const { store, mountpoint } = mounted;
  const victim = join(mounted.base, 'victim');
  writeFileSync(victim, 'precious', { mode: 0o644 });
  symlinkSync(victim, join(store, 'lsnfs.log'));
  const refused = await lsnfs('mount', store, mountpoint);
  t.is(refused.code, 1);
  t.regex(refused.stderr, /lsnfs\.log is a symbolic link and not a file/);
  rmSync(join(store, 'lsnfs.log'));
  mkdirSync(join(store, 'lsnfs.log'));
  t.regex((await lsnfs('mount', store, mountpoint)).stderr, /lsnfs\.log is a directory and not a file/);
  rmSync(join(store, 'lsnfs.log'), { recursive: true });
  await runProgram('mkfifo', [join(store, 'lsnfs.log')]);
  t.regex((await lsnfs('mount', store, mountpoint)).stderr, /lsnfs\.log is a FIFO and not a file/);
  rmSync(join(store, 'lsnfs.log'));

  for (const name of ['control.sock', 'control.sock.new']) symlinkSync(victim, join(store, name));
  await mounted.mount();
  t.is((await lsnfs('status', store)).code, 0);
  t.true(lstatSync(join(store, 'control.sock')).isSocket());
  // A link in the tree leads the kernel, and never the daemon.
  await mounted.shell(`ln -s ${victim} link; ln -s /etc/passwd '@x'`);
  const read = await lsnfs('cat', store, '/link');
  t.not(read.code, 0);
  t.is(read.stdout, '');
  for (const name of ['../../escape', 'a/b', '..']) {
    t.not((await lsnfs('snapshot', 'create', store, '--', name)).code, 0, name);
  }
  await mounted.unmount();
  t.is(readFileSync(victim, 'utf8'), 'precious');
  t.is(lstatSync(victim).mode & 0o777, 0o644);
});

mountTest(
  'plugins of a store are loaded by mount --plugins only; without --allow-other nobody else gets in',
  async (t) => {
    const module = `import { writeFileSync } from 'node:fs';
    export default (database) => { writeFileSync(database.path + '/../ran', 'x'); return {}; };`;
    const mounted = await MountedStore.createUnmounted(t);
    const ran = join(mounted.disk, 'ran');
    writeFileSync(join(mounted.disk, 'plugin.mjs'), module);
    writeFileSync(
      join(mounted.store, 'lsnfs.json'),
      JSON.stringify({ plugins: [join(mounted.disk, 'plugin.mjs')] }),
    );
    t.regex(await mounted.mount(), /names plugins .* which were not loaded/);
    await mounted.unmount();
    t.is(lstatSync(ran, { throwIfNoEntry: false }), undefined);
    t.is(await mounted.mount('--plugins'), '');
    chmodSync(mounted.base, 0o755);
    await mounted.shell('echo x > f; chmod 666 f');
    const words = [
      `--reuid=${BEN}`,
      `--regid=${BEN}`,
      '--clear-groups',
      'cat',
      join(mounted.mountpoint, 'f'),
    ];
    const { code, stderr } = await runProgram('setpriv', words);
    t.is(code, 1);
    t.regex(stderr, /Permission denied/);
    await mounted.unmount();
    t.is(readFileSync(ran, 'utf8'), 'x');
    mounted.configure({});
  },
);

mountTest('a directory that begins with a dash is a directory', async (t) => {
  const outcome = await lsnfs('unmount', '--', '-l');
  t.is(outcome.code, 1);
  t.regex(outcome.stderr, /nothing of lsnfs is mounted on .*-l/);
});
