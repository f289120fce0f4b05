/** A directory of a million entries: made, listed, looked at, changed while it is listed, and removed. */
import assert from 'node:assert/strict';
import type { ProgramCase } from './harness.ts';

const ENTRIES = 1_000_000;
const MINUTES = 60_000;

/**
 * Lists while others make and remove entries: what was there all the time is listed exactly once (readdir(3)). Reads names with
 * getdents64(2) as they come and sorts none.
 */
const LISTING = `
import os, random, sys, threading
count, seed = int(sys.argv[1]), int(sys.argv[2])
seen = bytearray(count); twice = 0; others = 0
stop = threading.Event()
def change():
    draw = random.Random(seed); made = 0
    while not stop.is_set():
        open("new-%d" % made, "w").close(); made += 1
        if made % 3 == 0: os.unlink("new-%d" % draw.randrange(made - 2, made))
        if made % 5 == 0:
            n = draw.randrange(count // 2, count) | 1
            try: os.rename("entry-%07d" % n, "moved-%07d" % n)
            except FileNotFoundError: pass
    global changes
    changes = made
changes = 0
worker = threading.Thread(target=change); worker.start()
for entry in os.scandir("."):
    name = entry.name
    if not name.startswith("entry-"): others += 1; continue
    n = int(name[6:])
    if seen[n]: twice += 1
    seen[n] = 1
stop.set(); worker.join()
missing = sum(1 for n in range(count) if not seen[n] and (n < count // 2 or n % 2 == 0))
print(twice, missing, changes > 0)`;

export const LARGE_DIRECTORY_CASES: readonly ProgramCase[] = [
  {
    name: 'million-entries',
    checks:
      'a directory of 1,000,000 files: made, listed (also while it changes), stat, rename, snapshot, diff, removed',
    needs: ['python3', 'find'],
    async run(scene) {
      const where = await scene.store();
      const timed = async (what: string, script: string): Promise<string> => {
        const start = performance.now();
        const said = await where.shell(script, where.mountpoint, 15 * MINUTES);
        scene.note(`${what} ${((performance.now() - start) / 1000).toFixed(1)} s`);
        return said;
      };
      await timed(
        'made in',
        `mkdir big; cd big; python3 -c '
for i in range(${ENTRIES}): open("entry-%07d" % i, "w").close()'`,
      );
      assert.equal(await timed('listed in', 'ls -f big | wc -l'), `${ENTRIES + 2}\n`);
      assert.equal(
        await timed('find in', `find big -type f -name 'entry-???1234' | wc -l`),
        `${ENTRIES / 10_000}\n`,
      );
      // A name of each kind, in a directory that the kernel knows nothing of any more.
      await where.shell('echo 2 > /proc/sys/vm/drop_caches', '/');
      assert.equal(
        await timed('one name looked up in', 'stat -c %F big/entry-0765432; test ! -e big/entry-765432'),
        'regular empty file\n',
      );
      const before = await where.snapshot('before');
      assert.equal(
        await timed('listed while it changes in', `cd big; python3 -c '${LISTING}' ${ENTRIES} ${scene.seed}`),
        '0 0 True\n',
      );
      await where.shell(
        `cd big; rm -f new-*; for n in moved-*; do mv "$n" "entry-\${n#moved-}"; done`,
        where.mountpoint,
        15 * MINUTES,
      );
      assert.equal(
        await timed(
          'compared with the past in',
          `diff <(ls -f big | sort) <(ls -f '@before/big' | sort) && echo same`,
        ),
        'same\n',
      );
      assert.equal(
        await timed('renamed in', 'mv big bigger; stat -c %F bigger/entry-0000000'),
        'regular empty file\n',
      );
      await timed('removed in', 'rm -r bigger; test ! -e bigger');
      assert.equal(await where.shell(`ls -f @lsn-${before}/big | wc -l`), `${ENTRIES + 2}\n`);
    },
  },
];
