/** Past states of a mount, compared with copies that were made outside at the time. */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { IS_LONG, mountTest, sayWhySkipped } from '../helpers/mount-test.ts';
import { MountedStore } from '../helpers/mounted-store.ts';
import { PythonProgram } from '../helpers/mounting.ts';
import { Random, seedOf } from '../helpers/random.ts';

sayWhySkipped();

/** Directories have sizes of their own on each file system; what `diff` compares is the content of both. */
const SAME_CONTENT = 'diff -r --no-dereference';

/** A few random changes, as shell commands: everything that a tree can have is touched in time. */
function changes(random: Random, round: number): string {
  const file = () => `d${random.below(4)}/f${random.below(6)}`;
  const commands = ['mkdir -p d0 d1 d2 d3'];
  for (let i = 0; i < 6; i++) {
    const one = file();
    const other = file();
    commands.push(
      [
        `seq ${round} ${round + random.below(3000)} > ${one}`,
        `echo ${round}.${i} >> ${one}`,
        `mv -f ${one} ${other} 2>/dev/null || true`,
        `rm -f ${one}`,
        `rm -f ${other}; ln ${one} ${other} 2>/dev/null || true`,
        `ln -sfn ../${one} ${other}.link`,
        `touch ${one}; setfattr -n user.round -v ${round}-${'x'.repeat(random.below(3000))} ${one}`,
        `touch ${one}; chmod ${(0o400 + random.below(0o377)).toString(8)} ${one}; chown ${random.below(9)} ${one}`,
        `touch -d '1969-12-0${1 + random.below(9)} 1:02:03.000000004' ${one}`,
        `truncate -s ${random.below(200_000)} ${one}`,
        `touch ${one}; fallocate -p -o ${4096 * random.below(8)} -l ${4096 * (1 + random.below(4))} ${one}`,
        `dd if=/dev/urandom of=${one} bs=1000 count=${1 + random.below(80)} seek=${random.below(300)} conv=notrunc status=none`,
        `touch ${one}; setfacl -m u:${1 + random.below(9)}:rw ${one}`,
        `rm -rf d${random.below(4)}.moved; mv d${random.below(4)} d${random.below(4)}.moved 2>/dev/null || true; mkdir -p d0 d1 d2 d3`,
      ][random.below(14)]!,
    );
  }
  return commands.join('\n');
}

mountTest('each @lsn-N is what a copy made outside at that time is', async (t) => {
  const random = new Random(seedOf(t, 'versions'));
  const where = await MountedStore.create(t, { settings: { checkpointIntervalMs: 300 } });
  const { base, mountpoint } = where;
  const rounds = IS_LONG ? 300 : 30;
  const moments: { lsn: number; listing: string[]; time: string }[] = [];
  for (let round = 0; round < rounds; round++) {
    await where.shell(changes(random, round));
    const lsn = await where.commit();
    const time = new Date().toISOString().replaceAll(':', '');
    // So that the next change is after this moment by any clock.
    await sleep(15);
    const [listing] = await where.listings([mountpoint]);
    await where.shell(`cp -a . ${base}/copy-${lsn}`);
    moments.push({ lsn, time, listing: listing! });
    if (round === 9) await where.snapshot('ten');
    if (round === 19) {
      await where.unmount();
      await where.mount();
    }
  }
  const [tenth, last] = [moments[9]!, moments[rounds - 1]!];
  await where.shell('rm -rf -- *');
  const pasts = await where.listings(moments.map(({ lsn }) => `${mountpoint}/@lsn-${lsn}`));
  const times = await where.listings(moments.map(({ time }) => `${mountpoint}/@${time}`));
  const pastsWithoutHoles = await where.listings(
    moments.map(({ lsn }) => `${mountpoint}/@lsn-${lsn}`),
    '--no-holes',
  );
  const copies = await where.listings(
    moments.map(({ lsn }) => `${base}/copy-${lsn}`),
    '--no-holes',
  );
  for (const [index, { lsn, listing }] of moments.entries()) {
    t.deepEqual(pasts[index], listing, `@lsn-${lsn} and the live tree then`);
    t.deepEqual(times[index], listing, `the time of ${lsn}`);
    t.deepEqual(copies[index], pastsWithoutHoles[index], `@lsn-${lsn} and the copy`);
  }
  await where.shell(moments.map(({ lsn }) => `${SAME_CONTENT} ${base}/copy-${lsn} @lsn-${lsn}`).join('\n'));
  const names = ['@ten', '@/ten', `@${tenth.time}`].map((name) => `${mountpoint}/${name}/.`);
  for (const listing of await where.listings(names)) t.deepEqual(listing, tenth.listing);
  await where.commit();
  t.is(await where.shell('ls -A @latest'), '');
  await where.shell(`cp -a @lsn-${last.lsn}/. .`);
  t.deepEqual(
    (await where.listing(mountpoint, '--no-holes')).slice(1),
    (await where.listing(`${mountpoint}/@lsn-${last.lsn}`, '--no-holes')).slice(1),
    'copied back from the past',
  );
  await where.commit();
  await where.shell(`${SAME_CONTENT} @latest @lsn-${last.lsn}`);
});

mountTest('snapshots come and go at once for a process that asked before', async (t) => {
  const where = await MountedStore.create(t);
  await where.shell('echo one > f');
  const program = new PythonProgram(
    `
import os
def say(*words): print(*words, flush=True)
while True:
    path = input()
    try: say(open(path).read().strip())
    except OSError as error: say(os.strerror(error.errno))
`,
    where.mountpoint,
  );
  t.teardown(() => program.end());
  const ask = async (path: string): Promise<string> => {
    program.go(path);
    return program.line();
  };
  t.is(await ask('@first/f'), 'No such file or directory');
  t.is(await ask('@/first/f'), 'No such file or directory');
  await where.snapshot('first');
  t.is(await ask('@first/f'), 'one');
  t.is(await ask('@/first/f'), 'one');
  await where.shell('echo two > f');
  const lsn = await where.commit();
  t.is(await ask(`@lsn-${lsn}/f`), 'two');
  t.is(await ask('@latest/f'), 'two');
  await where.shell('echo three > f');
  await where.commit();
  t.is(await ask('@latest/f'), 'three');
  t.is(await ask('@first/f'), 'one');
  await where.json('snapshot', 'delete', where.mountpoint, 'first');
  t.is(await ask('@first/f'), 'No such file or directory');
  t.is(await ask('@/first/f'), 'No such file or directory');
  await where.snapshot('first');
  t.is(await ask('@first/f'), 'three');
  t.is(await where.shell('ls @; readlink @/first'), 'first\n../@first\n');
  t.is((await where.run('cat @lsn-999999999/f')).code, 1);
});

mountTest('the past cannot be changed, and nothing goes into or out of it', async (t) => {
  const where = await MountedStore.create(t);
  await where.shell(
    'mkdir -p d/e; echo one > d/f; ln -s f d/l; setfattr -n user.a -v b d/f; mkfifo d/p; echo live > live; chmod 777 d; chmod 666 d/f',
  );
  const lsn = await where.snapshot('past');
  const program = `
import errno, os
def attempt(what, call):
    try: call(); print(what, "ok")
    except OSError as error: print(what, errno.errorcode[error.errno])
for root in ["@past", "@lsn-${lsn}"]:
    d = root + "/d"
    attempt("create", lambda: os.open(d + "/new", os.O_CREAT | os.O_WRONLY))
    attempt("open for writing", lambda: os.open(d + "/f", os.O_WRONLY))
    attempt("open with truncation", lambda: os.open(d + "/f", os.O_RDONLY | os.O_TRUNC))
    attempt("truncate", lambda: os.truncate(d + "/f", 0))
    attempt("mkdir", lambda: os.mkdir(d + "/new"))
    attempt("mkdir at its root", lambda: os.mkdir(root + "/new"))
    attempt("rmdir", lambda: os.rmdir(d + "/e"))
    attempt("unlink", lambda: os.unlink(d + "/f"))
    attempt("symlink", lambda: os.symlink("x", d + "/new"))
    attempt("mknod", lambda: os.mknod(d + "/new"))
    attempt("mkfifo", lambda: os.mkfifo(d + "/new"))
    attempt("link", lambda: os.link(d + "/f", d + "/new"))
    attempt("rename", lambda: os.rename(d + "/f", d + "/new"))
    attempt("chmod", lambda: os.chmod(d + "/f", 0o600))
    attempt("chown", lambda: os.chown(d + "/f", 1, 1))
    attempt("utime", lambda: os.utime(d + "/f", (1, 1)))
    attempt("setxattr", lambda: os.setxattr(d + "/f", "user.a", b"c"))
    attempt("removexattr", lambda: os.removexattr(d + "/f", "user.a"))
    attempt("O_TMPFILE", lambda: os.open(d, os.O_TMPFILE | os.O_WRONLY))
    attempt("rename out", lambda: os.rename(d + "/f", "out"))
    attempt("rename in", lambda: os.rename("live", d + "/in"))
    attempt("link out", lambda: os.link(d + "/f", "out"))
    attempt("link in", lambda: os.link("live", d + "/in"))
    attempt("read", lambda: open(d + "/f").read())
attempt("between states", lambda: os.rename("@past/d/f", "@lsn-${lsn}/d/g"))
attempt("rmdir of a state", lambda: os.rmdir("@past"))
attempt("rename of a state", lambda: os.rename("@past", "new"))
attempt("mkdir of a state", lambda: os.mkdir("@past"))
attempt("mkdir of an LSN", lambda: os.mkdir("@lsn-999999999"))
attempt("mkdir of a time", lambda: os.mkdir("@2099-01-01"))
attempt("create below @", lambda: os.mkdir("@/other"))
attempt("unlink below @", lambda: os.unlink("@/past"))
`;
  const before = await where.listing(`${where.mountpoint}/@past`);
  const outcomes = (await where.shell(`python3 - <<'PROGRAM'\n${program}\nPROGRAM`)).trim().split('\n');
  const wrong = outcomes.filter((line) => {
    if (/^(rename (in|out)|link (in|out)|between states) /.test(line)) return !line.endsWith(' EXDEV');
    if (line.startsWith('read ')) return line !== 'read ok';
    if (/ of an? (LSN|time) /.test(line)) return !line.endsWith(' EINVAL');
    if (line.startsWith('mkdir of a state ')) return !line.endsWith(' EEXIST');
    // A state is no directory entry.
    if (/ (of a state|below @) /.test(line)) return !/ (EROFS|EXDEV|EPERM|EBUSY)$/.test(line);
    return !line.endsWith(' EROFS');
  });
  t.deepEqual(wrong, []);
  t.is(outcomes.length, 2 * 24 + 8);
  t.deepEqual(await where.listing(`${where.mountpoint}/@past`), before);
  t.is(await where.shell('ls; cat live'), 'd\nlive\nlive\n');
});

mountTest(
  'a snapshot has what was written before it, through an open descriptor and a shared mapping too',
  async (t) => {
    const where = await MountedStore.create(t);
    const program = new PythonProgram(
      `
import mmap, os
os.truncate(os.open("mapped", os.O_CREAT | os.O_RDWR), 40960)
mapping = mmap.mmap(os.open("mapped", os.O_RDWR), 40960)
written = os.open("written", os.O_CREAT | os.O_RDWR)
gone = os.open("gone", os.O_CREAT | os.O_RDWR)
os.link("gone", "kept")
os.unlink("gone")
for round in range(5):
    mapping[round * 8000:round * 8000 + 6] = b"round%d" % round
    os.write(written, b"round%d\\n" % round)
    os.write(gone, b"round%d\\n" % round)
    print("ready", flush=True)
    input()
mapping.flush()
print("done", flush=True)
`,
      where.mountpoint,
    );
    t.teardown(() => program.end());
    for (let round = 0; round < 5; round++) {
      t.is(await program.line(), 'ready');
      if (round % 2 === 0) await where.snapshot(`round${round}`);
      else {
        const lsn = await where.commit();
        await where.shell(`ln -s @lsn-${lsn} round${round}`);
      }
      const root = round % 2 === 0 ? `@round${round}` : `round${round}`;
      const expected = Array.from({ length: round + 1 }, (_, i) => `round${i}\n`).join('');
      t.is(await where.shell(`cat ${root}/written`), expected);
      t.is(await where.shell(`cat ${root}/kept`), expected);
      t.is(
        await where.shell(`tr -d '\\0' < ${root}/mapped | sed 's/round/\\nround/g' | tail -n +2; echo`),
        expected,
      );
      program.go();
    }
    t.is(await program.line(), 'done');
  },
);

mountTest('what is deleted or changed live stays open in the past; inode numbers differ', async (t) => {
  const where = await MountedStore.create(t);
  await where.shell('mkdir d; seq 100000 > d/f; ln d/f d/g; cp d/f ../expected');
  const lsn = await where.snapshot('past');
  await where.shell(`
    exec 3< @past/d/f 4< d/f
    rm -r d; seq 5 > f
    cmp ../expected - <&3; cmp ../expected - <&4; cmp @past/d/g ../expected
    cd @past/d; test "$(ls)" = "$(printf 'f\\ng')"; cmp f ../../../expected
  `);
  const inodes = (await where.shell(`stat -c %i . f @past @past/d @past/d/f @past/d/g @lsn-${lsn}/d/f`))
    .trim()
    .split('\n');
  t.is(inodes[4], inodes[5], 'two links of one file');
  const distinct = new Set(inodes);
  t.true(distinct.size === 5 || distinct.size === 6, inodes.join());
  t.is(await where.shell('stat -c %h @past/d/f'), '2\n');
});

mountTest('walks of the root do not fall into the past, and removing the root leaves it', async (t) => {
  const where = await MountedStore.create(t);
  await where.shell('mkdir -p a/b; seq 1000 > a/b/f');
  await where.snapshot('one');
  await where.shell('seq 2000 > a/g');
  const lsn = await where.snapshot('two');
  await where.shell(`ls @one @two @lsn-${lsn} @ > /dev/null`);
  const found = await where.shell('find . | sort; ls -A');
  t.is(found, '.\n./a\n./a/b\n./a/b/f\n./a/g\na\n');
  t.is(await where.shell('find . -name f | wc -l; du -a . | wc -l; ls -AR | grep -c f'), '1\n5\n1\n');
  await where.shell(
    `rm -rf ${where.mountpoint}/* ${where.mountpoint}/.[!.]* 2>/dev/null; rm -rf ${where.mountpoint} 2>/dev/null || true`,
    '/',
  );
  t.is(await where.shell('ls -A'), '');
  t.is(
    await where.shell('cat @two/a/g | wc -l; find @one/ @two/ -type f | sort'),
    '2000\n@one/a/b/f\n@two/a/b/f\n@two/a/g\n',
  );
  // With the snapshots in sight walks go there, and cannot change them.
  await where.unmount();
  await where.mount('--snapdir', 'visible');
  t.is(await where.shell('ls -A'), '@one\n@two\n');
  t.is(await where.shell('find . -type f | sort'), './@one/a/b/f\n./@two/a/b/f\n./@two/a/g\n');
  await where.run(`rm -rf ${where.mountpoint}/* 2>/dev/null`, '/');
  t.is(await where.shell('wc -l < @two/a/g; ls @'), '2000\none\ntwo\n');
  // A name with "@" that is no state's may be an ordinary one; then no snapshot can have it.
  await where.shell('mkdir -p @own/dir; test "$(echo @*)" = "@one @own @two"');
  await t.throwsAsync(where.snapshot('own'), { message: /own/ });
  await where.shell('rm -r @own');
  await where.snapshot('own');
  await where.shell(`test -d ${join(where.mountpoint, '@one', 'a')}`);
});
