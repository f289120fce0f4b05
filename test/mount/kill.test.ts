/** SIGKILL for the daemon of a mount while programs write: what was acknowledged is there, whole and in order. */
import { setTimeout as sleep } from 'node:timers/promises';
import { KILL_SEGMENT_SIZE, KillCycles } from '../helpers/kill-cycles.ts';
import { mountTest, sayWhySkipped } from '../helpers/mount-test.ts';
import { MountedStore } from '../helpers/mounted-store.ts';
import { Random, seedOf } from '../helpers/random.ts';

sayWhySkipped();

/** `npm run test:kill -- --cycles 100` is the long run. */
const CYCLES = 10;
const CHECK_EVERY = 4;
const LOAD_MS = 500;

mountTest('ten times SIGKILL under four writers: every acknowledged record is there', async (t) => {
  const seed = seedOf(t, 'kill');
  const where = await MountedStore.createUnmounted(t, { segmentSize: KILL_SEGMENT_SIZE });
  const run = new KillCycles(where, new Random(seed));
  t.teardown(() => run.end());
  for (let cycle = 1; cycle <= CYCLES; cycle++) {
    const problems = await run.cycle({ check: cycle % CHECK_EVERY === 0, loadMs: LOAD_MS });
    t.deepEqual(problems, [], `cycle ${cycle}`);
  }
  t.deepEqual(await run.startAndVerify(), []);
  t.log(JSON.stringify({ ...run.summary, ...run.writers.totals }));
  t.true(run.writers.totals.acknowledgements > 0);
});

mountTest('SIGKILL in the middle of checkpoints', async (t) => {
  const random = new Random(seedOf(t, 'checkpoints'));
  const where = await MountedStore.create(t, {
    settings: { checkpointIntervalMs: 10, checkpointDirtyBytes: 1024 * 1024, commitIntervalMs: 5 },
  });
  const rounds = 3;
  let done = 0;
  for (let round = 0; round < rounds; round++) {
    // Small files by the thousand: many dirty pages in all trees, so that the next checkpoint has begun when one ends.
    const load = where.run(
      `mkdir -p tree-${round}; for i in $(seq 40); do mkdir tree-${round}/$i; (cd tree-${round}/$i; seq 100 | split -a 3 -l 1 -); sync .; echo $i >> ../done-${round}; done`,
    );
    await sleep(300 + random.below(700));
    const before = Number((await where.run(`wc -l < done-${round}`, where.base)).stdout || 0);
    await where.kill();
    await load;
    await where.mount();
    for (let i = 1; i <= before; i++) {
      t.is(await where.shell(`cat tree-${round}/${i}/x* | cmp - <(seq 100) && echo whole`), 'whole\n');
    }
    done += before;
    if (round % 2 === 1) t.deepEqual(await where.problems(), [], `after round ${round}`);
    if (where.pid === 0) await where.mount();
  }
  t.log(`${done} synced directories`);
});

mountTest('SIGKILL right after a snapshot was made: it is there with its content', async (t) => {
  const where = await MountedStore.create(t);
  const rounds = 3;
  await where.shell(
    'mkdir source; for i in $(seq 200); do seq $i > source/$i; done; ln source/1 source/link; head -c 3000000 /dev/urandom > source/large',
    where.base,
  );
  for (let round = 0; round < rounds; round++) {
    // Nothing of it is synced by the program.
    await where.shell(
      `cp -a ../source tree-${round}; rm -rf tree-${round - 1}; date +%N > tree-${round}/now; cp tree-${round}/now ../now-${round}`,
    );
    await where.snapshot(`round-${round}`);
    await where.kill();
    await where.mount();
    for (let past = 0; past <= round; past++) {
      await where.shell(
        `diff -r -x now ../source @round-${past}/tree-${past}; cmp @round-${past}/tree-${past}/now ../now-${past}; test "$(ls @round-${past})" = tree-${past}`,
      );
    }
    await where.shell(`diff -r @round-${round}/tree-${round} tree-${round}`);
  }
  t.is(await where.shell('ls @ | wc -l'), `${rounds}\n`);
});
