/** fio with verification: random writes by several jobs, through the cache, past it and by mappings, whole also behind a fresh mount. */
import assert from 'node:assert/strict';
import type { ProgramCase } from './harness.ts';

const MEGABYTES = 24;
/** Ways of writing; each has files of its own, by two jobs. */
const WAYS: Readonly<Record<string, string>> = {
  buffered: 'ioengine=psync\nfsync=64',
  direct: 'ioengine=psync\ndirect=1',
  'direct-queue': 'ioengine=libaio\ndirect=1\niodepth=8',
  mapped: 'ioengine=mmap\nfsync=128',
  synchronous: 'ioengine=psync\nsync=1\nsize=4m',
  vectors: 'ioengine=pvsync2\nfdatasync=32',
};

function jobs(seed: number, mode: string): string {
  const sections = Object.entries(WAYS).map(([name, settings]) => `[${name}]\n${settings}\n`);
  return `[global]
directory=files
size=${MEGABYTES}m
numjobs=2
randseed=${seed}
rw=randwrite
bsrange=4k-64k
blockalign=4k
verify=crc32c
verify_fatal=1
${mode}
${sections.join('')}`;
}

export const FIO_CASES: readonly ProgramCase[] = [
  {
    name: 'fio',
    checks: `crc32c of random writes, ${Object.keys(WAYS).length} ways (buffered, O_DIRECT, queued, mapped, O_SYNC, vectors) at once, read back at once, by others, and behind a fresh mount`,
    needs: ['fio'],
    async run(scene) {
      const where = await scene.store();
      await where.shell('mkdir files');
      const fio = async (mode: string) => {
        await where.shell(`cat > ../jobs.fio <<'END'\n${jobs(scene.seed, mode)}END`);
        const said = await where.shell('fio --output-format=json --eta=never ../jobs.fio');
        const { jobs: done } = JSON.parse(said.slice(said.indexOf('{'))) as {
          jobs: { jobname: string; error: number; write: { io_bytes: number } }[];
        };
        for (const { jobname, error } of done) assert.equal(error, 0, jobname);
        return done.reduce((sum, { write }) => sum + write.io_bytes, 0);
      };
      const bytes = await fio('do_verify=1');
      scene.note(`${Math.round(bytes / 1e6)} MB written`);
      await fio('verify_only=1');
      await where.snapshot('written');
      await where.unmount();
      await where.mount();
      await fio('verify_only=1');
      // Each way reads what another one wrote: the same files, through the cache and past it.
      await where.shell(
        'for file in files/*; do cmp "$file" <(dd if="$file" iflag=direct bs=1M status=none); done',
      );
      await where.shell('rm -r files; cp -r @written/files files');
      await fio('verify_only=1');
    },
  },
];
