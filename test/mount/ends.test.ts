/** The ways in which a mount is ended or held up under load: signals, a lazy unmount, a daemon that stands still. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { systemErrorCode } from '../../src/errors.ts';
import { readOwner } from '../../src/store/lock.ts';
import { COMMAND, lsnfs } from '../helpers/command-line.ts';
import { Writers } from '../helpers/kill-cycles.ts';
import { mountTest, sayWhySkipped } from '../helpers/mount-test.ts';
import { MountedStore } from '../helpers/mounted-store.ts';
import { PythonProgram } from '../helpers/mounting.ts';
import { Random, seedOf } from '../helpers/random.ts';

sayWhySkipped();

mountTest('signals, a lazy unmount and a pause, under four writers: nothing is lost', async (t) => {
  const random = new Random(seedOf(t, 'ends'));
  const where = await MountedStore.createUnmounted(t, { segmentSize: 1024 * 1024 });
  const writers = new Writers(where, random);
  t.teardown(() => writers.end());
  let mount = where.startForeground();
  t.true(await mount.ready, where.log);

  // What a terminal says when it goes, and a daemon that does not run for a second: nobody notices.
  await writers.start();
  process.kill(where.pid, 'SIGHUP');
  process.kill(where.pid, 'SIGSTOP');
  await sleep(1000);
  process.kill(where.pid, 'SIGCONT');
  await sleep(100);
  writers.stop();
  t.deepEqual(await writers.stopped(), [null, null, null, null], where.log);
  t.deepEqual(await writers.verify(), [], 'after a pause');

  // Twice a signal: programs are cut off; what was done before is committed.
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    await writers.start();
    await sleep(50 + random.below(200));
    process.kill(where.pid, signal);
    await sleep(20 + random.below(50));
    // Two that come before it runs are one to it; so again, until it has ended.
    for (let ended = false; !ended; ) {
      try {
        process.kill(where.pid, signal);
      } catch (error) {
        // It was fast enough to have ended.
        if (systemErrorCode(error) !== 'ESRCH') throw error;
      }
      ended = await Promise.race([mount.exited.then(() => true), sleep(2000, false)]);
    }
    // It ends itself, or, where connections cannot be aborted (fusectl is not mounted), by a signal, as it also does when
    // the second one finds it on its way out.
    const code = await mount.exited;
    t.true(code === 0 || code === null, `${code}: ${where.log}`);
    for (const reason of await writers.stopped()) t.not(reason, null, signal);
    mount = where.startForeground();
    t.true(await mount.ready, where.log);
    t.deepEqual(await writers.verify(), [], signal);
  }

  // Taken out of sight: programs fail to reach it, the daemon ends when the last has let go.
  await writers.start();
  await sleep(50 + random.below(200));
  await where.shell(`umount -l '${where.mountpoint}'`, where.base);
  t.is(await mount.exited, 0, where.log);
  for (const reason of await writers.stopped()) t.not(reason, null);
  t.true(await where.startForeground().ready, where.log);
  t.deepEqual(await writers.verify(), [], 'after a lazy unmount');
});

mountTest(
  'a busy mount says who keeps it; --force saves what programs wrote and cuts them off',
  async (t) => {
    const where = await MountedStore.create(t);
    const { mountpoint } = where;
    const program = `
import mmap, os, sys
f = os.open("held", os.O_RDWR | os.O_CREAT)
os.write(f, b"written before\\n")
g = os.open("mapped", os.O_RDWR | os.O_CREAT)
os.ftruncate(g, 4096)
m = mmap.mmap(g, 4096)
m[:7] = b"mapped\\n"
os.chdir("/")
print("ready")
for line in sys.stdin:
    try:
        os.write(f, b"more\\n"); os.fsync(f)
        print("fine")
    except OSError as error:
        print(error.strerror)
`;
    const holder = new PythonProgram(program, mountpoint);
    t.teardown(() => holder.end());
    t.is(await holder.line(), 'ready');
    const busy = await lsnfs('unmount', mountpoint);
    t.is(busy.code, 1);
    t.regex(
      busy.stderr,
      /^lsnfs: cannot unmount \S+: it is used by python3\S* \(\d+, \S+\/mnt\/held open\); .*--force\n$/,
    );
    holder.go();
    t.is(await holder.line(), 'fine');
    t.like(await lsnfs('unmount', '--force', mountpoint), { code: 0, stdout: '', stderr: '' });
    where.pid = 0;
    holder.go();
    t.regex(await holder.line(), /not connected|connection abort|Input\/output/);
    t.is(
      (await lsnfs('cat', where.store, 'held', 'mapped')).stdout.replaceAll('\0', ''),
      'written before\nmore\nmapped\n',
    );
    t.is((await lsnfs('unmount', '--lazy', '--force', mountpoint)).code, 2);
  },
);

mountTest(
  'a suspended daemon holds an unmount up until it goes on, and --force does without it',
  async (t) => {
    const where = await MountedStore.create(t);
    const { mountpoint, store, pid } = where;
    await where.shell('echo synced > f; sync f; head -c 3000000 /dev/urandom > big; cp big ../big');
    process.kill(pid, 'SIGSTOP');
    const status = lsnfs('status', store);
    const waiting = spawn(process.execPath, [COMMAND, 'unmount', mountpoint], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    const [said] = await once(waiting.stderr, 'data');
    t.regex(String(said), /^lsnfs: the daemon \(process \d+\) is suspended/);
    process.kill(pid, 'SIGCONT');
    t.deepEqual(await once(waiting, 'exit'), [0, null]);
    t.is((await status).code, 0);
    where.pid = 0;
    await where.mount();
    await where.shell('cmp big ../big');

    // It never goes on: whoever waits for it gets an error.
    process.kill(where.pid, 'SIGSTOP');
    const stuck = where.run(`cat '${mountpoint}/f'`, '/');
    const forced = await lsnfs('unmount', '--force', mountpoint);
    t.is(forced.code, 0, forced.stderr);
    t.regex(forced.stderr, /did not answer and was killed/);
    t.not((await stuck).code, null);
    where.pid = 0;
    await where.mount();
    t.is(await where.shell('cat f; cmp big ../big'), 'synced\n');
  },
);

mountTest(
  'unmounted while programs write as much as they can: nothing that they closed is lost',
  async (t) => {
    const where = await MountedStore.create(t, { segmentSize: 1024 * 1024 });
    const { mountpoint } = where;
    await where.shell('mkdir 1 2');
    // Files by path, one after the other: between two of them the mount is not in use. Every third is synced.
    const program = (number: number) => `
import hashlib, os, time
i = 0
try:
    while True:
        data = hashlib.sha256(b"${number} %d" % i).digest() * (1 + i * 37 % 4000)
        f = os.open("${mountpoint}/${number}/%d" % i, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        if i == 0: print("writing")
        if i % 3 == 0: os.write(f, data); os.fsync(f)
        else: os.write(f, data)
        os.close(f)
        i += 1
        time.sleep(0.002)
except OSError as error:
    print(i, error.strerror)
`;
    const programs = [1, 2].map((number) => new PythonProgram(program(number), '/'));
    t.teardown(async () => {
      for (const one of programs) await one.end();
    });
    for (const one of programs) t.is(await one.line(), 'writing');
    await sleep(300);
    // Busy most of the time; at some moment no file is open.
    await where.shell(`until umount '${mountpoint}' 2> /dev/null; do :; done`, '/');
    const counts: number[] = [];
    for (const one of programs) {
      const [, count, why] = /^(\d+) (.*)$/.exec(await one.line())!;
      t.is(why, 'No such file or directory');
      counts.push(Number(count));
    }
    for (let waited = 0; readOwner(where.store) !== undefined && waited < 60_000; waited += 20)
      await sleep(20);
    where.pid = 0;
    await where.mount();
    const check = `
import hashlib
for number, count in zip((1, 2), ${JSON.stringify(counts)}):
    for i in range(count):
        data = hashlib.sha256(b"%d %d" % (number, i)).digest() * (1 + i * 37 % 4000)
        assert open("%d/%d" % (number, i), "rb").read() == data, (number, i)
print("whole")
`;
    t.is(await where.shell(`python3 -c '${check}'`), 'whole\n');
    t.log(`${counts.join(' and ')} files`);
  },
);
