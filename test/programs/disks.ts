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
/** How long what does not need the disk may take while it stands still. */
const PROMPT_MS = 5000;

class Disk {
  private readonly where: MountedStore;
  private isFrozen = false;

  private constructor(where: MountedStore) {
    this.where = where;
  }

  static async create(scene: Scene): Promise<{ disk: Disk; where: MountedStore }> {
    assert.ok(await hasLoopDevices(), 'there is no loop device to make a disk of');
    const where = await scene.store({ prepareDisk: DISK, settings: { checkpointIntervalMs: 500 } });
    const disk = new Disk(where);
    // Whoever still waits for it could not be ended.
    scene.teardown(() => disk.thaw());
    return { disk, where };
  }

  async freeze(): Promise<void> {
    this.isFrozen = true;
    await this.where.shell(`fsfreeze -f '${this.where.disk}'`, '/');
  }

  async thaw(): Promise<void> {
    if (!this.isFrozen) return;
    await this.where.shell(`fsfreeze -u '${this.where.disk}'`, '/');
    this.isFrozen = false;
  }
}

export const DISK_CASES: readonly ProgramCase[] = [
  {
    name: 'disk-slow',
    checks:
      'a disk that stalls for up to 2 s, again and again, under four writers, tar and gc: slow, and nothing else',
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
        await disk.freeze();
        await sleep(random.below(2000));
        await disk.thaw();
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
      'a disk that stands still: reads of what is in memory go on, waiting programs can be killed, unmount waits and says so',
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

      await disk.freeze();
      for (const program of [patient!, killed!]) program.go();
      await sleep(500);
      await within(
        PROMPT_MS,
        'a read of what is in memory',
        where.shell('tail -n 1 before; stat before; ls -l .'),
      );
      process.kill(killed!.pid, 'SIGKILL');
      await within(PROMPT_MS, 'the end of a program that waits for a sync', killed!.ends());
      await disk.thaw();
      assert.equal(await within(PROMPT_MS, 'the sync', patient!.line()), 'synced');

      // More than memory takes: at last everybody waits.
      await where.shell('mkdir many');
      await disk.freeze();
      const writing = where.shell(
        'for i in $(seq 400); do head -c 1000000 /dev/zero | tr "\\\\0" "$((i % 10))" > many/$i; done; sync many',
        where.mountpoint,
        120_000,
      );
      const status = lsnfs('status', where.store);
      await sleep(10_000);
      await disk.thaw();
      await writing;
      assert.equal((await status).code, 0);
      await where.shell(
        'for i in $(seq 400); do test "$(stat -c %s many/$i)" = 1000000; test "$(tr -d $((i % 10)) < many/$i | wc -c)" = 0; done',
        where.mountpoint,
        120_000,
      );

      // An unmount waits until all is on disk.
      patient!.go();
      await patient!.ends();
      await where.shell('head -c 3000000 /dev/urandom > last; cp last ../last', where.mountpoint);
      await disk.freeze();
      const unmounting = lsnfs('unmount', where.mountpoint);
      assert.equal(await Promise.race([unmounting, sleep(3000, 'waits')]), 'waits');
      await disk.thaw();
      const unmounted = await within(60_000, 'the unmount', unmounting);
      assert.equal(unmounted.code, 0, unmounted.stderr);
      where.pid = 0;
      await where.mount();
      await where.shell('cmp last ../last; cat patient; test "$(cat before | wc -l)" = 1000');

      // Who does not want to wait need not: the programs go on with errors, and the store recovers.
      await where.shell('seq 100 > synced; sync synced; seq 100 > unsynced');
      const daemon = where.pid;
      await disk.freeze();
      const stuck = where.run('seq 100 > more; sync more');
      await sleep(500);
      const forced = lsnfs('unmount', '--force', where.mountpoint);
      assert.notEqual((await within(60_000, 'the end of what waited', stuck)).code, 0);
      await sleep(1000);
      await disk.thaw();
      const outcome = await within(90_000, 'unmount --force', forced);
      assert.equal(outcome.code, 0, outcome.stderr);
      where.pid = 0;
      await where.mount();
      assert.notEqual(where.pid, daemon);
      assert.equal(await where.shell('wc -l < synced'), '100\n');
    },
  },
];
