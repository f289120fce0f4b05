/** The disk below a store fills up, stays full over a crash, and has room again. */
import { spawnSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { Writers } from '../helpers/kill-cycles.ts';
import { mountTest, sayWhySkipped } from '../helpers/mount-test.ts';
import { MountedStore } from '../helpers/mounted-store.ts';
import { Random, seedOf } from '../helpers/random.ts';
import { until } from '../helpers/waiting.ts';

sayWhySkipped();

const FULL = 'No space left on device';

interface Status {
  readonly failure: string | null;
}

const DISKS = [
  ['tmpfs', 'mount -t tmpfs -o size=40m lsnfs-test "$PWD"'],
  [
    'ext4',
    'truncate -s 48M ../image; mkfs.ext4 -q -m 0 -O ^has_journal ../image; mount -o loop ../image "$PWD"',
  ],
] as const;

/** Without loop devices, as in most containers, there is the tmpfs alone. */
const hasLoop = spawnSync('losetup', ['-f'], { stdio: 'ignore' }).status === 0;

for (const [kind, prepareDisk] of hasLoop ? DISKS : DISKS.slice(0, 1)) {
  mountTest(`${kind}: full is ENOSPC and nothing else; when there is room it goes on`, async (t) => {
    const random = new Random(seedOf(t, 'full disk'));
    const where = await MountedStore.createUnmounted(t, {
      prepareDisk,
      segmentSize: 1024 * 1024,
      settings: { checkpointIntervalMs: 20, commitIntervalMs: 20 },
    });
    const writers = new Writers(where, random);
    t.teardown(() => writers.end());
    t.true(await where.startForeground().ready, where.log);
    await where.shell('mkdir old; for i in $(seq 30); do seq 100 > old/$i; done; sync .');
    const fill = () =>
      where.shell(
        'dd if=/dev/zero of=foreign bs=64k oflag=append conv=notrunc status=none || true',
        where.disk,
      );
    // The kernel may give the blocks back a moment later.
    const empty = () =>
      where.shell(
        `free=$(stat -f -c %a .); rm foreign; for _ in $(seq 600); do [ $(stat -f -c %a .) -gt $((free + 1000)) ] && break; sleep 0.1; done`,
        where.disk,
      );
    for (let round = 0; round < 2; round++) {
      // All the room that is left goes to something else, at once, in the middle of the work.
      await writers.start();
      await sleep(100 + random.below(300));
      await fill();
      t.deepEqual([...new Set(await writers.stopped())], [FULL], where.log);
      const status = (await where.ask('status', {})) as Status;
      t.is(status.failure, null, where.log);
      // A checkpoint that was under way may have given back room of the log.
      await until('the disk is full', async () => {
        await fill();
        const left = await where.shell("ls -lR > /dev/null; df --output=avail . | tail -n 1 | tr -d ' '");
        return left === '0\n';
      });
      await where.shell(`rm old/${round + 1}*; test "$(ls old | grep -c '^${round + 1}')" = 0; sync old`);
      if (round === 1) {
        await where.kill();
        t.true(await where.startForeground().ready, where.log);
        t.deepEqual(await writers.verify(), [], 'recovered on the full disk');
        t.is(await where.shell('ls old | grep -c "^2" || true'), '0\n');
      }
      await empty();
      await writers.start();
      await sleep(200);
      writers.stop();
      t.deepEqual(await writers.stopped(), [null, null, null, null], where.log);
      await where.kill();
      t.true(await where.startForeground().ready, where.log);
      t.deepEqual(await writers.verify(), [], `round ${round}`);
    }
    await writers.start();
    await fill();
    await writers.stopped();
    await where.unmount();
    t.true(await where.startForeground().ready, where.log);
    t.deepEqual(await writers.verify(), [], 'unmounted and mounted on the full disk');
    await empty();
    t.log(JSON.stringify(writers.totals));
  });
}
