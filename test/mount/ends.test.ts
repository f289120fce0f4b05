/** The ways in which a mount is ended or held up under load: signals, a lazy unmount, a daemon that stands still. */

import { setTimeout as sleep } from 'node:timers/promises';
import { systemErrorCode } from '../../src/errors.ts';
import { Writers } from '../helpers/kill-cycles.ts';
import { mountTest, sayWhySkipped } from '../helpers/mount-test.ts';
import { MountedStore } from '../helpers/mounted-store.ts';
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
