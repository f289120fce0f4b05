/** A disk below the store that stalls, and one that stands still: whoever waits goes on when it does, and nothing is lost. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { lsnfs } from '../helpers/command-line.ts';
import { Writers } from '../helpers/kill-cycles.ts';
import type { MountedStore } from '../helpers/mounted-store.ts';
import { LineProgram } from '../helpers/mounting.ts';
import { hasLoopDevices, type ProgramCase, type Scene, within } from './harness.ts';

/** A file system of its own, which can be frozen: no write and no sync of it ends before it is thawed. */
const DISK = 'truncate -s 2G ../image; mkfs.ext4 -q ../image; mount -o loop ../image "$PWD"';
const PROGRAMS = ['fsfreeze', 'losetup', 'mkfs.ext4', 'python3', 'rsync'];
/** How long the disk stalls, again and again. */
const STALLING_MS = 30_000;
/** How long what waited may take when the disk goes on. */
const PROMPT_MS = 10_000;

class Disk {
  private readonly where: MountedStore;

  private constructor(where: MountedStore) {
    this.where = where;
  }

  static async create(scene: Scene): Promise<{ disk: Disk; where: MountedStore }> {
    assert.ok(await hasLoopDevices(), 'there is no loop device to make a disk of');
    const where = await scene.store({ prepareDisk: DISK, settings: { checkpointIntervalMs: 500 } });
    return { disk: new Disk(where), where };
  }

  /** Whatever `work` does, the disk goes on afterwards: programs that wait for it cannot be ended. */
  async standStill<Result>(work: () => Promise<Result>): Promise<Result> {
    await this.where.shell(`fsfreeze -f '${this.where.disk}'`, '/');
    try {
      return await work();
    } finally {
      await this.where.shell(`fsfreeze -u '${this.where.disk}'`, '/');
    }
  }
}

export const DISK_CASES: readonly ProgramCase[] = [
  {
    name: 'disk-slow',
    checks:
      'a disk that stalls for up to 2 s, again and again, under four writers, tar, rsync and snapshots: slow, and nothing else',
    needs: PROGRAMS,
    async run(scene) {
      const { disk, where } = await Disk.create(scene);
      const { random } = scene;
      await where.shell(
        'mkdir ../tree; cd ../tree; for i in $(seq 300); do head -c $((RANDOM * 9)) /dev/urandom > $i; done',
      );
      const writers = new Writers(where, random);
      scene.teardown(() => writers.end());
      await writers.start();
      let ended = false;
      const work = where
        .shell(
          `for round in 1 2 3; do tar -C ../tree -cf - . | (mkdir copy; tar -C copy -xf -); sync copy; diff -r ../tree copy
           rsync -a ../tree/ again; diff -r ../tree again; rm -r copy again; done`,
          where.mountpoint,
          10 * 60_000,
        )
        .finally(() => {
          ended = true;
        });
      let [stalls, stalled] = [0, 0];
      for (const start = performance.now(); performance.now() - start < STALLING_MS || !ended; ) {
        await sleep(20 + random.below(280));
        const before = performance.now();
        await disk.standStill(() => sleep(random.below(2000)));
        stalled += performance.now() - before;
        stalls++;
        if (stalls % 4 === 0) await where.snapshot(`stall-${stalls}`);
      }
      await work;
      writers.stop();
      assert.deepEqual(await writers.stopped(), [null, null, null, null]);
      assert.deepEqual(await writers.verify(), []);
      const { failure } = await where.json<{ failure: string | null }>('status', where.store);
      assert.equal(failure, null);
      scene.note(
        `${stalls} stalls, ${(stalled / 1000).toFixed(0)} s of them; ${writers.totals.acknowledgements} acknowledged syncs`,
      );
    },
  },
  {
    name: 'disk-suspended',
    checks:
      'a disk that stands still: everybody waits and goes on, unmount too; unmount --force cuts programs off meanwhile',
    needs: PROGRAMS,
    async run(scene) {
      const { disk, where } = await Disk.create(scene);
      await where.shell('seq 1000 > before; sync before; cat before > /dev/null');
      const python = (program: string): LineProgram => {
        const started = new LineProgram('python3', ['-u', '-c', program], where.mountpoint);
        scene.teardown(() => started.end());
        return started;
      };
      const syncs =
        'import os\nf = open("NAME", "w"); f.write("data"); f.flush(); print("ready"); input(); os.fsync(f.fileno()); print("synced"); input()';
      const [patient, killed] = ['patient', 'killed'].map((name) => python(syncs.replace('NAME', name)));
      for (const program of [patient!, killed!])
        assert.equal(await within(PROMPT_MS, 'ready', program.line()), 'ready');

      await disk.standStill(async () => {
        for (const program of [patient!, killed!]) program.go();
        await sleep(2000);
        process.kill(killed!.pid, 'SIGKILL');
        await sleep(2000);
        assert.ok(patient!.isRunning);
      });
      assert.equal(await within(PROMPT_MS, 'the sync', patient!.line()), 'synced');
      await within(PROMPT_MS, 'the end of a program that was killed while it waited', killed!.ends());

      // More than memory takes: at last everybody waits.
      await where.shell('mkdir many');
      const write =
        'for i in $(seq 400); do head -c 1000000 /dev/zero | tr "\\\\0" "$((i % 10))" > many/$i; done; sync many';
      const [writing, status] = await disk
        .standStill(async () => {
          const started = [
            where.shell(write, where.mountpoint, 120_000),
            lsnfs('status', where.store),
          ] as const;
          await sleep(10_000);
          return started;
        })
        .then((started) => Promise.all(started));
      assert.equal(writing, '');
      assert.equal(status.code, 0, status.stderr);
      const check =
        'for i in $(seq 400); do test "$(stat -c %s many/$i)" = 1000000; test "$(tr -d $((i % 10)) < many/$i | wc -c)" = 0; done';
      await where.shell(check, where.mountpoint, 120_000);

      // An unmount waits until all is on disk.
      patient!.go();
      await patient!.ends();
      await where.shell('head -c 3000000 /dev/urandom > last; cp last ../last');
      const unmounting = await disk.standStill(async () => {
        const outcome = lsnfs('unmount', where.mountpoint);
        assert.equal(await Promise.race([outcome, sleep(3000, 'waits')]), 'waits');
        return { outcome };
      });
      const unmounted = await within(60_000, 'the unmount', unmounting.outcome);
      assert.equal(unmounted.code, 0, unmounted.stderr);
      where.pid = 0;
      await where.mount();
      await where.shell('cmp last ../last; cat patient; test "$(cat before | wc -l)" = 1000');

      // Who does not want to wait need not: the programs go on with errors, and the store recovers.
      await where.shell('seq 100 > synced; sync synced; seq 100 > unsynced');
      const daemon = where.pid;
      const forcing = await disk.standStill(async () => {
        const stuck = where.run('seq 100 > more; sync more');
        await sleep(500);
        const outcome = lsnfs('unmount', '--force', where.mountpoint);
        assert.notEqual((await within(60_000, 'the end of what waited', stuck)).code, 0);
        return { outcome };
      });
      const forced = await within(90_000, 'unmount --force', forcing.outcome);
      assert.equal(forced.code, 0, forced.stderr);
      where.pid = 0;
      await where.mount();
      assert.notEqual(where.pid, daemon);
      assert.equal(await where.shell('wc -l < synced'), '100\n');
    },
  },
];
