/** SIGKILL for the daemon of a mount while programs write: what was acknowledged is there, whole and in order. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  IS_LONG,
  MountedStore,
  mountTest,
  sayWhySkipped,
  scriptPath,
  storeProblems,
} from '../helpers/mounted-store.ts';
import { PythonProgram } from '../helpers/mounting.ts';
import { Random, seedOf } from '../helpers/random.ts';

sayWhySkipped();

const WRITERS = [1, 2, 3, 4];
const CLEANED_UP = /^lsnfs: .* was still mounted for a server that died .*; it was unmounted$/m;

mountTest('ten times SIGKILL under four writers: every acknowledged record is there', async (t) => {
  const seed = seedOf(t, 'kill');
  const random = new Random(seed);
  const where = await MountedStore.create(t);
  const { base, mountpoint, store } = where;
  const script = scriptPath('records.py');
  const cycles = IS_LONG ? 100 : 10;
  let checking: Promise<string[]> = Promise.resolve([]);
  let durable = 0;
  for (let cycle = 0; cycle < cycles; cycle++) {
    const writers = WRITERS.map((writer) => {
      const words = [
        'write',
        join(mountpoint, `writer-${writer}`),
        join(base, `log-${writer}`),
        `${seed}-${cycle}-${writer}`,
      ];
      return new PythonProgram(
        `import runpy, sys; sys.argv = ['', *${JSON.stringify(words)}]; runpy.run_path(${JSON.stringify(script)}, run_name='__main__')`,
        '/',
      );
    });
    try {
      for (const writer of writers) t.is(await writer.line(), 'ready');
      await sleep(50 + random.below(900));
      await where.kill();
      for (const writer of writers) {
        t.regex(
          await writer.line(),
          /^(Transport endpoint is not connected|Software caused connection abort|Input\/output error)$/,
        );
      }
    } finally {
      for (const writer of writers) await writer.end();
    }
    t.deepEqual(await checking, [], `the whole store before cycle ${cycle}`);
    // A copy is verified as the crash left it, while the next cycle runs.
    const copy = join(base, `copy-${cycle}`);
    await where.shell(`cp -a '${store}' '${copy}'`, base);
    checking = storeProblems(copy).finally(() => where.shell(`rm -rf '${copy}'`, base));
    // Checkpoints every ten milliseconds in half of the cycles.
    writeFileSync(
      join(store, 'lsnfs.json'),
      JSON.stringify(cycle % 2 === 0 ? { checkpointIntervalMs: 10 } : {}),
    );
    t.regex(await where.mount(), CLEANED_UP);
    for (const writer of WRITERS) {
      const problems = await where.shell(
        `python3 '${script}' verify 'writer-${writer}' '${base}/log-${writer}'`,
      );
      t.is(problems, '', `writer ${writer} after cycle ${cycle}`);
    }
  }
  t.deepEqual(await checking, []);
  durable = Number(await where.shell("cat log-* | grep -c '^durable'", base));
  t.log(`${durable} acknowledgements`);
  t.true(durable > cycles * 20);
});

mountTest('SIGKILL in the middle of checkpoints', async (t) => {
  const random = new Random(seedOf(t, 'checkpoints'));
  const where = await MountedStore.create(t, {
    settings: { checkpointIntervalMs: 10, checkpointDirtyBytes: 1024 * 1024, commitIntervalMs: 5 },
  });
  const rounds = IS_LONG ? 50 : 5;
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
  const rounds = IS_LONG ? 20 : 4;
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
