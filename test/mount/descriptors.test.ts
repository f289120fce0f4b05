/** A daemon that has no file descriptor left: operations that need one are refused, nothing is lost, and it goes on. */
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { lsnfs } from '../helpers/command-line.ts';
import { Writers } from '../helpers/kill-cycles.ts';
import { mountTest, sayWhySkipped } from '../helpers/mount-test.ts';
import { MountedStore } from '../helpers/mounted-store.ts';
import { Random, seedOf } from '../helpers/random.ts';

sayWhySkipped();

const NONE_LEFT = 'Too many open files in system';
/** What the kernel could not write back is told as EIO. */
const REFUSED: (string | null)[] = [NONE_LEFT, 'Input/output error'];

mountTest(
  'without a descriptor left changes are refused, reading goes on; later so do changes',
  async (t) => {
    const random = new Random(seedOf(t, 'descriptors'));
    const where = await MountedStore.createUnmounted(t, {
      segmentSize: 64 * 1024,
      settings: { checkpointIntervalMs: 20, commitIntervalMs: 20 },
    });
    const writers = new Writers(where, random);
    t.teardown(() => writers.end());
    const limit = (count: number) =>
      where.shell(`prlimit --pid ${where.pid} --nofile=${count}:4096`, where.base);
    t.true(await where.startForeground(['prlimit', '--nofile=1024:4096', '--']).ready, where.log);
    await where.shell('seq 1000 > kept; sync .; cp kept ../kept');
    const lsn = await where.commit();
    for (let round = 0; round < 2; round++) {
      await writers.start();
      await sleep(100 + random.below(200));
      // From now on no call returns a new descriptor: the first ones stay what they are.
      await limit(10);
      for (const reason of await writers.stopped()) t.true(REFUSED.includes(reason), `${reason}`);
      await where.shell('cmp kept ../kept; ls -lR > /dev/null; df . > /dev/null');
      // A state that is not open yet needs the log.
      const past = await where.run(`cmp @lsn-${lsn}/kept ../kept`);
      t.true(past.code === 0 || past.stderr.includes(NONE_LEFT), past.stderr);
      await limit(1024);
      t.is(((await where.ask('status', {})) as { failure: string | null }).failure, null, where.log);
      await where.shell(`cmp @lsn-${lsn}/kept ../kept`);
      await writers.start();
      await sleep(100);
      writers.stop();
      t.deepEqual(await writers.stopped(), [null, null, null, null], where.log);
      await where.kill();
      t.true(await where.startForeground(['prlimit', '--nofile=1024:4096', '--']).ready, where.log);
      t.deepEqual(await writers.verify(), [], `round ${round}`);
    }
    t.log(JSON.stringify(writers.totals));
  },
);

mountTest('control connections that take all descriptors hold up nobody else', async (t) => {
  const random = new Random(seedOf(t, 'connections'));
  const where = await MountedStore.createUnmounted(t, {
    segmentSize: 64 * 1024,
    settings: { checkpointIntervalMs: 20, commitIntervalMs: 20 },
  });
  const writers = new Writers(where, random);
  t.teardown(() => writers.end());
  t.true(await where.startForeground(['prlimit', '--nofile=256', '--']).ready, where.log);
  await writers.start();
  await sleep(100);
  const sockets = Array.from({ length: 250 }, () => connect(join(where.store, 'control.sock')));
  t.teardown(() => sockets.forEach((socket) => void socket.destroy()));
  for (const socket of sockets) socket.on('error', () => {});
  await sleep(300);
  const status = await lsnfs('status', where.mountpoint);
  t.true(status.code === 0 || /^lsnfs: [^\n]+\n$/.test(status.stderr), status.stderr);
  for (const socket of sockets) socket.destroy();
  writers.stop();
  for (const reason of await writers.stopped())
    t.true(reason === null || REFUSED.includes(reason), `${reason}`);
  t.is(((await where.ask('status', {})) as { failure: string | null }).failure, null, where.log);
  await where.kill();
  t.true(await where.startForeground().ready, where.log);
  t.deepEqual(await writers.verify(), []);
});

mountTest('with a low limit a mount works, or ends with a reason', async (t) => {
  const where = await MountedStore.createUnmounted(t);
  let mounted = 0;
  // Node opens the modules of a program all at once, which takes the most.
  for (const count of [26, 64, 320]) {
    const mount = where.startForeground(['prlimit', `--nofile=${count}`, '--']);
    if (await mount.ready) {
      mounted++;
      await where.shell(`seq 1000 > file-${count}; sync .; seq 1000 | cmp - file-${count}`);
      await where.unmount();
      t.is(await mount.exited, 0, where.log);
    } else {
      t.is(await mount.exited, 1, where.log);
      // Node itself may not come as far as our own words.
      t.regex(where.log, /EMFILE|no file descriptor left/, `limit ${count}`);
      where.expectsStackTraces = true;
      where.pid = 0;
    }
  }
  t.true(mounted >= 1);
});
