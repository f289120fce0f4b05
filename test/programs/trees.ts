/** Trees that have everything, made at random, between the native file system and a mount: tar, rsync, cp, find, du. */
import assert from 'node:assert/strict';
import { inlineMax } from '../../src/encoding/inode.ts';
import { assertSameLines, type ProgramCase } from './harness.ts';

const PAGE_SIZE = 4096;

/** Makes a tree below its working directory. Arguments: seed, entries; then a word if what links point to is to be UTF-8. */
export const GENERATOR = `
import os, random, socket, stat, struct, subprocess, sys
random.seed(int(sys.argv[1])); count = int(sys.argv[2])
bytes_of_names = [b for b in range(1, 256) if b != 0x2f]
directories, files, all_paths = [b"."], [], []
def name():
    kind = random.randrange(10)
    if kind < 3: return bytes(random.choice(bytes_of_names) for _ in range(random.randrange(1, 30)))
    if kind == 3: return bytes(random.choice(bytes_of_names) for _ in range(255))
    if kind == 4: return random.choice([b"-rf", b" ", b"\\n", b"...", b"~", b"*", b"'", b'"', b"\\\\", b"%s", b"$(x)", b"a\\tb", b"#", b"\\xff\\xfe", "ünï".encode()]) + b"%d" % random.randrange(100)
    return b"n%d" % random.randrange(1000000)
def content(path):
    size = random.choice([0, 1, random.randrange(600), random.randrange(3000), 4095, 4096, 4097, random.randrange(100000), random.randrange(2000000)])
    f = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    if random.randrange(4) == 0:
        for _ in range(random.randrange(4)):
            os.pwrite(f, random.randbytes(random.randrange(1, 9000)), random.randrange(size + 1))
        if random.randrange(2): os.ftruncate(f, size)
    else:
        os.pwrite(f, random.randbytes(size), 0)
    os.close(f)
def acl(path, which):
    entries = [(1, 6, 0xffffffff), (2, 5, 1000 + random.randrange(9)), (4, 5, 0xffffffff), (8, 4, 2000), (16, 7, 0xffffffff), (32, 4, 0xffffffff)]
    os.setxattr(path, "system.posix_acl_" + which, struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in entries))
# Each byte that a name may have.
os.mkdir(b"bytes")
for b in bytes_of_names:
    if b != 0x2e:
        all_paths.append(b"bytes/" + bytes([b]))
        with open(all_paths[-1], "wb") as f: f.write(bytes([b]) * b)
for _ in range(count):
    path = random.choice(directories) + b"/" + name()
    if os.path.lexists(path) or len(path) > 3500: continue
    kind = random.randrange(20)
    if kind < 3: os.mkdir(path); directories.append(path)
    elif kind < 12: content(path); files.append(path)
    elif kind < 14 and files:
        try: os.link(random.choice(files), path)
        except OSError: continue
    elif kind < 16: os.symlink(random.choice([b"x" * random.randrange(1, 4000), name() if len(sys.argv) < 4 else "ünï ☃".encode(), b"/nowhere", b"../.."]), path)
    elif kind == 16: os.mkfifo(path)
    elif kind == 17: os.mknod(path, random.choice([stat.S_IFCHR, stat.S_IFBLK]) | 0o600, os.makedev(random.randrange(4096), random.randrange(1 << 20)))
    else: content(path); files.append(path)
    all_paths.append(path)
for path in all_paths:
    mode = os.lstat(path).st_mode
    if random.randrange(3) == 0: os.lchown(path, random.randrange(70000), random.randrange(70000))
    if stat.S_ISLNK(mode): continue
    os.chmod(path, random.randrange(0o10000) if random.randrange(2) else 0o644)
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        for _ in range(random.randrange(3)):
            os.setxattr(path, random.choice(["user.", "trusted."]) + random.choice(["a", "b", "ü", "x" * 200]), random.randbytes(random.choice([0, 1, 50, 900])))
        if random.randrange(6) == 0: acl(path, "access")
        if stat.S_ISDIR(mode) and random.randrange(4) == 0: acl(path, "default")
    elif random.randrange(4) == 0: os.setxattr(path, "trusted.special", b"1")
for path in sorted(all_paths, key=len, reverse=True) + [b"bytes", b"."]:
    second = random.choice([random.randrange(-2**31, 2**33), random.randrange(1_600_000_000, 1_800_000_000), 0, -1])
    os.utime(path, ns=(second * 10**9 + random.randrange(10**9), second * 10**9 + random.randrange(10**9)), follow_symlinks=False)
`;

const TAR = "tar --format=posix --xattrs --xattrs-include='*' --acls --numeric-owner";
const RSYNC = 'rsync -aHAX --numeric-ids --modify-window=-1';
/** What find says of a tree, in the order of paths, with NUL as the end of a line. */
const find = (tests: string) => `(cd tree; find . ${tests} -print0 | sort -z | sha256sum)`;

export const TREE_CASES: readonly ProgramCase[] = [
  {
    name: 'tar-rsync',
    checks:
      'a random tree (names of any bytes, holes, links, xattrs, ACLs, devices, FIFOs, nanoseconds) into the mount and out again: no difference',
    needs: ['tar', 'rsync', 'python3', 'cmp'],
    async run(scene) {
      const where = await scene.store();
      const { base, mountpoint } = where;
      await where.shell('mkdir source out', base);
      await where.shell(`python3 - ${scene.seed} 700 <<'END'\n${GENERATOR}\nEND`, `${base}/source`);
      const [source] = await where.listings([`${base}/source`], '--no-holes');
      scene.note(`${source!.length} entries`);

      await where.shell(`
        ${TAR} --sparse -C ../source -cf ../in.tar .; mkdir tar; ${TAR} -C tar -xpf ../in.tar; ${TAR} -C tar --compare -f ../in.tar
        ${TAR} --sparse -C tar -cf ../again.tar .; ${TAR} -C ../source --compare -f ../again.tar; mkdir ../out/tar; ${TAR} -C ../out/tar -xpf ../again.tar
        for options in --sparse --inplace --whole-file; do
          ${RSYNC} $options ../source/ rsync/; test -z "$(${RSYNC} --itemize-changes ../source/ rsync/)"; test -z "$(${RSYNC} --checksum --delete --itemize-changes ../source/ rsync/)"
          rm -rf ../out/rsync; ${RSYNC} $options rsync/ ../out/rsync/; test -z "$(${RSYNC} --checksum --delete --itemize-changes ../source/ ../out/rsync/)"
          [ $options = --whole-file ] || rm -rf rsync
        done`);
      const copies = [mountpoint, `${base}/out`].flatMap((at) => [`${at}/tar`, `${at}/rsync`]);
      for (const [index, listing] of (await where.listings(copies, '--no-holes')).entries())
        assertSameLines(listing, source!, copies[index]!);

      // A second tree over the first: what is deleted, replaced by another kind of thing, or changed within.
      await where.snapshot('first');
      await where.shell(
        `mkdir ../other; cd ../other; python3 - ${scene.seed + 1} 700 <<'END'\n${GENERATOR}\nEND`,
      );
      await where.shell(`
        ${RSYNC} --delete ../other/ rsync/; test -z "$(${RSYNC} --checksum --delete --itemize-changes ../other/ rsync/)"
        ${RSYNC} --delete --inplace --no-whole-file --checksum ../source/ rsync/; ${RSYNC} --delete --backup-dir=../backup --backup --delay-updates ../other/ rsync/
        test -z "$(${RSYNC} --checksum --delete --itemize-changes ../other/ rsync/)"; test -z "$(${RSYNC} --checksum --delete --itemize-changes ../source/ @first/rsync/)"
        ${RSYNC} @first/tar/ ../out/past/; test -z "$(${RSYNC} --checksum --delete --itemize-changes ../source/ ../out/past/)"`);
      const [, other] = await where.listings([`${base}/source`, `${base}/other`], '--no-holes');
      const [live, first] = await where.listings(
        [`${mountpoint}/rsync`, `${mountpoint}/@first/rsync`],
        '--no-holes',
      );
      assertSameLines(live!, other!, 'rsync of another tree over it');
      assertSameLines(first!, source!, 'the tree before, in the past');
      await where.shell(
        `${RSYNC} --link-dest=../rsync rsync/ linked/; test -z "$(${RSYNC} --checksum --delete --itemize-changes ../other/ linked/)"`,
      );
    },
  },
  {
    name: 'find-du-cp',
    checks:
      'the same random tree natively and on the mount: find with every test of times, sizes and kinds; du in bytes and blocks; cp --sparse',
    needs: ['find', 'du', 'cp', 'python3', 'truncate'],
    async run(scene) {
      const where = await scene.store();
      const { base } = where;
      const generate = `mkdir tree; cd tree; python3 - ${scene.seed} 700 <<'END'\n${GENERATOR}\nEND`;
      for (const at of [where.mountpoint, base]) await where.shell(generate, at);
      const both = async (script: string, what = script) => {
        const [inMount, native] = [await where.shell(script), await where.shell(script, base)];
        assertSameLines(inMount.split('\n'), native.split('\n'), what);
      };
      // Access times are those that were set: nobody has read anything since, and directories follow at their listing.
      const attributes =
        "(cd tree; find . -type d -printf '%P %y %m %U:%G %n %T@\\0' -o -printf '%P %y %m %U:%G %n %s %T@ %A@ %l\\0' | sort -z | tr '\\n\\0' '\\1\\n')";
      const [mountLines, nativeLines] = [await where.shell(attributes), await where.shell(attributes, base)];
      assertSameLines(mountLines.split('\n'), nativeLines.split('\n'), 'attributes');
      for (const reference of ['bytes', 'bytes/a', '.']) await both(find(`-newer ${reference}`));
      for (const test of ['-anewer', '-neweram', '-newerma', '-neweraa'])
        await both(find(`! -type d ${test} bytes/a`));
      const tests = ['-empty', '-links +1', '-size +5k ! -type d', '-perm -4000', '-perm /0022', '-nouser'];
      tests.push('-type l', '-type p', '-type b', '-type c', '-newermt 2023-01-01', '! -newermt 1970-01-01');
      tests.push('-readable -executable', '-mtime -3000', '-samefile bytes/a', '-lname "*x*"');
      for (const test of tests) await both(find(test));
      await both(
        'date > stamp; sleep 0.05; touch tree/newer; echo >> tree/bytes/a; (cd tree; find . -newer ../stamp | sort); sleep 0.05; touch stamp; (cd tree; find . -newer ../stamp | sort; chmod 600 newer; find . -cnewer ../stamp | sort)',
        'what is newer than a file',
      );

      // Bytes: the same of all but directories. Blocks: the same of all files that are not kept in their inode.
      const inline = inlineMax(PAGE_SIZE);
      await both(
        "find tree ! -type d -print0 | sort -z | du -bc --files0-from=- | tr '\\n' '\\0' | sha256sum",
      );
      const lines =
        "find tree -type f -print0 | sort -z | xargs -0 sync; find tree -type f -printf '%s %b %P\\0'";
      const counts = async (at: string) => {
        const text = await where.shell(
          `(${lines}) | LC_ALL=C sort -z -k 3 | od -An -v -tx1 | tr -d ' \\n'`,
          at,
        );
        return Buffer.from(text, 'hex')
          .toString('latin1')
          .split('\0')
          .slice(0, -1)
          .map((line) => /^(\d+) (\d+) (.*)$/s.exec(line)!.slice(1))
          .map(([size, blocks, name]) => ({ size: Number(size), blocks: Number(blocks), name: name! }));
      };
      const [inMount, native] = [await counts(where.mountpoint), await counts(base)];
      assert.equal(inMount.length, native.length);
      let small = 0;
      for (const [index, { size, blocks, name }] of inMount.entries()) {
        const there = native[index]!;
        assert.deepEqual([name, size], [there.name, there.size]);
        // ext4 counts a block of xattrs that have no room in the inode, or of its map of a file in many pieces.
        const own = there.blocks > blocks ? there.blocks - PAGE_SIZE / 512 : there.blocks;
        if (size > inline) assert.equal(blocks, own, `512-byte blocks of ${JSON.stringify(name)}`);
        else {
          small++;
          assert.equal(blocks, Math.ceil(size / 512), `blocks of ${JSON.stringify(name)}, ${size} bytes`);
        }
      }
      scene.note(`${inMount.length} files, of which ${small} in their inodes`);

      await both(
        `mkdir holes; cd holes; truncate -s 8M sparse; for at in 0 1000000 4194304 8380000; do head -c 20000 /dev/zero | tr '\\0' x | dd of=sparse bs=1 seek=$at conv=notrunc status=none; done; head -c 3000000 /dev/zero >> sparse
         for how in always never auto; do cp --sparse=$how sparse $how; cmp sparse $how; cp --sparse=always $how $how-2; cmp sparse $how-2; done; cp --reflink=auto sparse reflink; cmp sparse reflink
         cp never dug; fallocate --dig-holes dug; cmp sparse dug; cp auto punched; fallocate -p -o 1000000 -l 20000 punched; sync *; stat -c '%n %s' *; du -b *; cksum *`,
        'sparse files',
      );
      const listings = await where.listings([`${where.mountpoint}/holes`, `${base}/holes`]);
      const [holes, nativeHoles] = listings.map((lines) =>
        lines.map((line) => line.replace(/ mtime=\d+/, '')),
      );
      assertSameLines(holes!, nativeHoles!, 'where the data of sparse files is');
      // And no more than that is there.
      const counted = (await where.shell('cd holes; stat -c "%n %b" *')).trim().split('\n');
      for (const line of counted) {
        const [name, blocks] = line.split(' ') as [string, string];
        const runs = /data=(\[.*\])/.exec(holes!.find((text) => text.startsWith(`b'/${name}' `))!)![1]!;
        const pages = [...runs.matchAll(/\((\d+), (\d+)\)/g)].reduce(
          (sum, [, from, to]) => sum + Number(to) - Number(from),
          0,
        );
        assert.equal(Number(blocks), (pages * PAGE_SIZE) / 512, `blocks of ${name}`);
      }
    },
  },
];
