/** restic: a backup of a past state, while the live one goes on, restored elsewhere. */
import assert from 'node:assert/strict';
import { assertSameLines, type ProgramCase } from './harness.ts';
import { GENERATOR } from './trees.ts';

export const RESTIC_CASES: readonly ProgramCase[] = [
  {
    name: 'restic',
    checks:
      'backups from @NAME and @lsn-N while files change, into a repository outside and one on the mount; restored without a difference; restic check',
    needs: ['restic', 'python3'],
    async run(scene) {
      const where = await scene.store();
      const { base, mountpoint } = where;
      // restic stores as JSON what links point to, and loses what is not UTF-8 in it.
      await where.shell(`mkdir tree; cd tree; python3 - ${scene.seed} 400 utf8 <<'END'\n${GENERATOR}\nEND`);
      await where.snapshot('first');
      const [first] = await where.listings([`${mountpoint}/tree`], '--no-holes');
      const restic = `export RESTIC_PASSWORD=secret RESTIC_CACHE_DIR='${base}/cache' HOME='${base}'; restic() { command restic -q "$@"; }; `;
      const repositories = [`${base}/repository`, `${mountpoint}/repository`];
      for (const repository of repositories) await where.shell(`${restic} restic init -r '${repository}'`);
      await where.shell(
        `${restic} (for i in $(seq 200); do echo $i > tree/live-$i; rm -f tree/bytes/[a-f]; sleep 0.01; done) &
         for at in ${repositories.join(' ')}; do (cd @first/tree; restic -r $at backup --ignore-inode .); done; wait`,
      );
      const lsn = await where.commit();
      const [second] = await where.listings([`${mountpoint}/@lsn-${lsn}/tree`], '--no-holes');
      await where.shell(
        `${restic} for at in ${repositories.join(' ')}; do (cd @lsn-${lsn}/tree; restic -r $at backup .); restic -r $at check --read-data; done`,
      );
      for (const [index, repository] of repositories.entries()) {
        const out = `${base}/out-${index}`;
        await where.shell(
          `${restic} mkdir '${out}'; ids=$(command restic -r '${repository}' snapshots --json | python3 -c 'import json, sys; print(*[s["short_id"] for s in sorted(json.load(sys.stdin), key=lambda s: s["time"])])')
           i=0; for id in $ids; do i=$((i + 1)); restic -r '${repository}' restore $id --target '${out}'/$i; done; test $i = 2`,
        );
        const restored = await where.listings([`${out}/1`, `${out}/2`], '--no-holes');
        // What holds the restored files is made by restic, at the time of its restore.
        assertSameLines(restored[0]!.slice(1), first!.slice(1), `${repository}: the first`);
        assertSameLines(restored[1]!.slice(1), second!.slice(1), `${repository}: the second`);
      }
      // Back into the mount.
      await where.shell(`${restic} restic -r '${base}/repository' restore latest --target back`);
      assertSameLines(
        (await where.listings([`${mountpoint}/back`], '--no-holes'))[0]!.slice(1),
        second!.slice(1),
        'back',
      );
      await where.shell(
        `${restic} restic -r repository forget --keep-last 1 --prune; restic -r repository check --read-data; restic -r '@lsn-${await where.commit()}/repository' --no-lock check --read-data`,
      );
      assert.ok(first!.length > 300);
      scene.note(`${first!.length} and ${second!.length} entries`);
    },
  },
];
