/** Restoring a mount while programs work in it: open files, mappings, working directories, and what the kernel keeps. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { mountTest, sayWhySkipped } from '../helpers/mount-test.ts';
import { MountedStore } from '../helpers/mounted-store.ts';
import { PythonProgram } from '../helpers/mounting.ts';
import { Random, seedOf } from '../helpers/random.ts';

sayWhySkipped();

/** Holds files, a mapping and directories of the mount, and says on request what it sees. */
const PROGRAM = `
import hashlib, json, mmap, os, sys
top = sys.argv[1]
changed = open(top + '/changed', 'r+b')
mapping = mmap.mmap(changed.fileno(), 100000)
mapping[99999]
later = open(top + '/later', 'r+b')
kept = open(top + '/kept', 'rb')
os.chdir(top + '/renamed/below')
gone = os.open(top + '/gone', os.O_RDONLY)
def see():
    return {
        'size': os.fstat(changed.fileno()).st_size,
        'modified': os.fstat(changed.fileno()).st_mtime_ns,
        'content': hashlib.md5(os.pread(changed.fileno(), 1 << 20, 0)).hexdigest(),
        'mapped': hashlib.md5(mapping[:]).hexdigest(),
        'later': os.pread(later.fileno(), 100, 0).decode(),
        'laterLinks': os.fstat(later.fileno()).st_nlink,
        'kept': os.pread(kept.fileno(), 100, 0).decode(),
        'cwd': os.getcwd(),
        'here': sorted(os.listdir('.')),
        'gone': os.listdir(gone),
        'goneLinks': os.fstat(gone).st_nlink,
    }
print('ready', flush=True)
for line in sys.stdin:
    if line == 'write\\n':
        os.pwrite(changed.fileno(), b'written after', 0)
        os.fsync(changed.fileno())
        later.write(b'!')
        later.flush()
        os.fsync(later.fileno())
    print(json.dumps(see()), flush=True)
`;

mountTest('programs that hold files, mappings and directories see what was restored', async (t) => {
  const where = await MountedStore.create(t);
  const { mountpoint, base } = where;
  await where.shell(`
    mkdir -p dir/below dir/other; echo kept > kept; head -c 100000 /dev/urandom > changed; echo in > dir/below/in
    cp changed ${base}/changed; touch -d '2001-02-03 04:05:06.123456789' changed; ln -s kept link; setfattr -n user.a -v one kept
  `);
  await where.snapshot('base');
  const [before] = await where.listings([mountpoint]);
  await where.shell(`
    head -c 250000 /dev/zero > changed; echo made later > later; mkdir gone; echo x > gone/x; mv dir renamed
    echo more >> renamed/below/in; rm link; setfattr -n user.a -v two kept; chmod 600 kept; sync changed later
  `);
  const script = join(base, 'program.py');
  writeFileSync(script, PROGRAM);
  const program = new PythonProgram([script, mountpoint], base);
  t.teardown(() => program.end());
  t.is(await program.line(), 'ready');
  const [changed] = await where.listings([mountpoint]);

  const result = (await where.ask('restore', { name: 'base' })) as { before: { name: string } };
  t.deepEqual((await where.listings([mountpoint]))[0], before);
  const see = async (word: string): Promise<Record<string, unknown>> => {
    program.go(word);
    return JSON.parse(await program.line()) as Record<string, unknown>;
  };
  const sum = (await where.shell(`md5sum < ${base}/changed`)).slice(0, 32);
  const seen = await see('look');
  t.like(seen, {
    size: 100_000,
    modified: 981_173_106_123_456_800,
    content: sum,
    mapped: sum,
    later: 'made later\n',
    laterLinks: 0,
    kept: 'kept\n',
    here: ['in'],
    cwd: join(mountpoint, 'dir/below'),
    gone: [],
    goneLinks: 0,
  });
  await where.shell('! diff -q renamed dir 2>/dev/null; test ! -e later; sync changed kept');
  t.is((await where.run(`true`)).code, 0);
  const same = await where.json<unknown[]>('diff', mountpoint, '@base').catch((error: Error) => error);
  t.deepEqual(same, [], 'nothing has changed by the restore itself');

  // They go on working, on what they hold.
  t.like(await see('write'), { size: 100_000, laterLinks: 0 });
  await where.shell(`test "$(head -c 13 changed)" = 'written after'; test "$(stat -c %s changed)" = 100000`);

  // And back again: the state before the restore has a name.
  await where.ask('restore', { name: result.before.name });
  t.deepEqual((await where.listings([mountpoint]))[0], changed);
  t.like(await see('look'), { size: 250_000, later: 'made later\n', cwd: join(mountpoint, 'renamed/below') });
  await program.end();
});

mountTest(
  'restores of everything and of paths, one after the other, are what copies outside say',
  async (t) => {
    const random = new Random(seedOf(t, 'restores'));
    const where = await MountedStore.create(t, { settings: { checkpointIntervalMs: 200 } });
    const { mountpoint } = where;
    const moments: { lsn: number; listing: string[] }[] = [];
    for (let round = 0; round < 7; round++) {
      const directory = `d${random.below(3)}`;
      await where.shell(`
      mkdir -p d0 d1 d2; seq ${round} ${random.below(9000)} > ${directory}/f${random.below(3)}
      rm -rf d${random.below(3)}/sub; mkdir -p ${directory}/sub; echo ${round} > ${directory}/sub/x
      mv ${directory}/sub d${random.below(3)}/sub${random.below(3)} 2>/dev/null || true
      ls -lR > /dev/null; cat d*/f* > /dev/null
    `);
      const lsn = await where.commit();
      moments.push({ lsn, listing: (await where.listings([mountpoint]))[0]! });
      const target = moments[random.below(moments.length)]!;
      if (random.below(2) === 0) {
        await where.ask('restore', { lsn: String(target.lsn) });
        t.deepEqual((await where.listings([mountpoint]))[0], target.listing, `${target.lsn}`);
      } else {
        const path = `d${random.below(3)}`;
        await where.ask('restore', { lsn: String(target.lsn), paths: [path] }).catch((error: Error) => {
          t.regex(error.message, /exists neither/);
        });
        const [now] = await where.listings([mountpoint]);
        // Other names of a file, elsewhere, are not restored.
        const below = (lines: readonly string[]) =>
          lines
            .filter((line) => line.startsWith(`b'/${path}/`))
            .map((line) => line.replace(/ links=\d+/, ''));
        t.deepEqual(below(now!), below(target.listing), `${path} of ${target.lsn}`);
      }
    }
  },
);
