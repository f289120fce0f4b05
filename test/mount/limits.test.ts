/** What is large, damaged or refused. */
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { lsnfs } from '../helpers/command-line.ts';
import { mountTest, sayWhySkipped } from '../helpers/mount-test.ts';
import { MountedStore } from '../helpers/mounted-store.ts';
import { PythonProgram } from '../helpers/mounting.ts';

sayWhySkipped();

const python = (code: string): string => `python3 - <<'PROGRAM'\n${code}\nPROGRAM`;

mountTest('a corrupt page of data is EIO for its file; the rest works, and the log says it', async (t) => {
  const where = await MountedStore.create(t);
  await where.shell(
    'for i in $(seq 60000); do echo "a line of the damaged file: $i"; done > damaged; seq 200000 > sound; mkdir d; echo small > d/small; cp sound ../sound; cp damaged ../damaged',
  );
  await where.snapshot('before');
  await where.unmount();
  const path = join(where.store, 'data');
  const bytes = readFileSync(path);
  const at = bytes.indexOf('a line of the damaged file: 30000\n');
  t.true(at > 0);
  bytes[at]! ^= 1;
  writeFileSync(path, bytes);
  await where.mount();
  const outcome = await where.run('cat damaged > ../read');
  t.is(outcome.code, 1);
  t.regex(outcome.stderr, /Input\/output error/);
  await where.shell('cmp <(head -c 100000 ../damaged) <(head -c 100000 damaged)');
  await where.shell('cmp <(tail -c 100000 ../damaged) <(tail -c 100000 damaged)');
  t.is((await where.run('cat @before/damaged > /dev/null')).code, 1);
  await where.shell(
    'cmp sound ../sound; cmp @before/sound ../sound; cat d/small; echo new > new; sync .; cp ../damaged again; cmp again ../damaged; rm damaged',
  );
  t.regex(where.log, /corrupt|checksum/i);
  t.regex(where.log, new RegExp(`\\b${Math.floor(at / 4096)}\\b`), 'the log names the page');
  where.expectedProblems.push(new RegExp(`page ${Math.floor(at / 4096)} `));
  where.expectsStackTraces = true;
});

mountTest('long names, long paths, one byte, a sparse file of 100 GB', async (t) => {
  const where = await MountedStore.create(t);
  const program = `
import errno, os
def expect(code, call):
    try: call()
    except OSError as error: assert error.errno == code, error
    else: raise AssertionError("no error")
# Names of 255 arbitrary bytes.
every = bytes(b for b in range(1, 256) if b != ord("/"))
os.mkdir("names")
for name in [b"n" * 255, every + b"x", b"\\xff" * 255, b"\\n", b" "]:
    assert len(name) <= 255
    open(b"names/" + name, "wb").write(name)
assert sorted(os.listdir(b"names")) == sorted([b"n" * 255, every + b"x", b"\\xff" * 255, b"\\n", b" "])
for name in os.listdir(b"names"): assert open(b"names/" + name, "rb").read() == name
expect(errno.ENAMETOOLONG, lambda: open(b"n" * 256, "wb"))
# A path of 4,095 bytes.
component = "p" * 255
path = "/".join([component] * 15)
os.makedirs(path)
path += "/" + "f" * (4095 - len(path) - 1)
assert len(path) == 4095
open(path, "w").write("deep")
assert open(path).read() == "deep"
expect(errno.ENAMETOOLONG, lambda: open(path + "x", "w"))
# A file of one byte and one of none.
open("one", "wb").write(b"1"); open("none", "wb").close()
assert os.stat("one").st_size == 1 and open("one", "rb").read() == b"1"
# 100 GB of which a few bytes are there.
GB = 10 ** 9
f = os.open("sparse", os.O_RDWR | os.O_CREAT)
os.pwrite(f, b"the end", 100 * GB)
os.pwrite(f, b"a third", 33 * GB)
os.fsync(f)
s = os.fstat(f)
assert s.st_size == 100 * GB + 7 and s.st_blocks * 512 <= 64 * 1024, s
def page(at): return at // 4096 * 4096
assert os.lseek(f, 0, os.SEEK_DATA) == page(33 * GB)
assert os.lseek(f, 33 * GB, os.SEEK_HOLE) == page(33 * GB) + 4096
assert os.lseek(f, 34 * GB, os.SEEK_DATA) == page(100 * GB)
assert os.lseek(f, 100 * GB, os.SEEK_HOLE) == 100 * GB + 7
assert os.lseek(f, 0, os.SEEK_HOLE) == 0
expect(errno.ENXIO, lambda: os.lseek(f, 100 * GB + 7, os.SEEK_DATA))
assert os.pread(f, 10, 100 * GB) == b"the end" and os.pread(f, 4, 50 * GB) == bytes(4)
assert os.pread(f, 9, 33 * GB - 1) == b"\\0a third\\0"
print("done")
`;
  t.is(await where.shell(python(program)), 'done\n');
  t.true(statSync(join(where.store, 'data')).size < 10_000_000);
  const lsn = await where.commit();
  const flat = (root: string) => ['names', 'sparse', 'one', 'none'].map((name) => join(root, name));
  const before = await where.listings(flat(where.mountpoint));
  await where.shell(`truncate -s 40G sparse; rm -rf names p*; ls -la > /dev/null`);
  await where.unmount();
  await where.mount();
  t.deepEqual(await where.listings(flat(`${where.mountpoint}/@lsn-${lsn}`)), before);
  const again = `
import os
os.chdir("@lsn-${lsn}")
for i in range(15): os.chdir("p" * 255)
[name] = os.listdir(".")
print(len(name), open(name).read(), os.stat("../" * 15 + "sparse").st_size)
`;
  t.is(await where.shell(python(again)), `255 deep 100000000007\n`);
});

mountTest('a directory of 20,000 entries is listed while it changes', async (t) => {
  const where = await MountedStore.create(t);
  const make =
    'import os\nos.mkdir("d")\nfor i in range(20000): os.mknod(f"d/stays-{i:05}" if i % 2 else f"d/goes-{i:05}")';
  await where.shell(python(make));
  const changer = new PythonProgram(
    `
import itertools, os, threading
stop = threading.Event()
threading.Thread(target=lambda: (input(), stop.set()), daemon=True).start()
goes = [f"d/goes-{i:05}" for i in range(0, 20000, 2)]
print("changing", flush=True)
count = 0
for i in itertools.count():
    if stop.is_set(): break
    if i < len(goes): os.unlink(goes[i])
    os.mknod(f"d/new-{i}"); count += 1
    if i % 3 == 0: os.rename(f"d/new-{i}", f"d/a-new-{i}")
print(count, flush=True)
`,
    where.mountpoint,
  );
  t.teardown(() => changer.end());
  t.is(await changer.line(), 'changing');
  const lister = `
import os
for round in range(6):
    names = [entry.name for entry in os.scandir("d")]
    assert len(names) == len(set(names)), "listed twice"
    assert sum(name.startswith("stays-") for name in names) == 10000, "one that stayed was left out"
print("ok")
`;
  t.is(await where.shell(python(lister)), 'ok\n');
  changer.go();
  const count = Number(await changer.line());
  t.true(count > 100);
  t.is(await where.shell('ls -f d | grep -c new-; ls d | grep -c stays-'), `${count}\n10000\n`);
});

mountTest(
  'a store is mounted once; a read-only mount and a mount point in use are refused what they may not',
  async (t) => {
    const where = await MountedStore.create(t);
    await where.shell('seq 1000 > f; mkdir d ../second; cp f ../f');
    const second = await lsnfs('mount', where.store, join(where.base, 'second'));
    t.is(second.code, 1);
    t.regex(second.stderr, new RegExp(`^lsnfs: [^\\n]*${where.mountpoint}[^\\n]*\\n$`));
    await where.shell('cmp f ../f; echo x > x; rm x');
    await where.unmount();
    t.false(existsSync(join(where.mountpoint, 'f')));
    await where.mount('--read-only');
    await where.shell('cmp f ../f; ls d; stat f > /dev/null');
    for (const change of [
      'echo x > f',
      'touch new',
      'rm f',
      'mkdir e',
      'rmdir d',
      'mv f g',
      'ln f g',
      'chmod 600 f',
      'setfattr -n user.a -v b f',
      'truncate -s 0 f',
    ]) {
      const { code, stderr } = await where.run(change);
      t.not(code, 0, change);
      t.regex(stderr, /Read-only file system/, change);
    }
    await where.shell('cmp f ../f');
    await where.unmount();
    await where.mount();
    await where.shell('cmp f ../f; touch new; ls new');
  },
);
