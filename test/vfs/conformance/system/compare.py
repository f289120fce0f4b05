"""Random calls of several users on two file systems, which must answer alike.

    compare.py EXT4 MOUNT --seed S --steps N [--trace]

Both directories are empty at first. After each call the results are compared: the value, or the errno; then what
the call may have touched, and now and then the whole trees: types, modes, owners, links, sizes, content, targets, xattrs, and
which times are still those that were set. In the end it prints "remount", waits for a line, and compares the trees again: what a
server has kept must be what its kernel has shown. Ends with status 1 at the first difference, and says which call it was.

Left out is what docs/MOUNT.md lists: blocks, sizes of directories, access times, chown of nothing, truncate to the same size, FIFOs.
"""
import argparse
import contextlib
import errno
import hashlib
import os
import random
import stat
import sys

from calls import *
from harness import ALICE, BOB, MEMBER, TEAM, TEAMSTER, User, short

ROOT = User(0, 0)
#: Root much of the time, for the tree to become rich.
USERS = [ROOT] * 10 + [ALICE, ALICE, BOB, MEMBER, TEAMSTER]
NAMES = ["a", "b", "c", "é", "n" * 255]
#: Times before are such as were set; ext4 keeps those.
BEGINNING = 1_600_000_000 * 10**9
MODES = [0o644, 0o666, 0o755, 0o777, 0o600, 0o0, 0o4755, 0o2755, 0o6777, 0o2745, 0o1777, 0o2777, 0o700, 0o470]
IDS = [0, ALICE.uid, BOB.uid, MEMBER.uid, TEAM, -1]
XATTRS = ["user.a", "user.b", "trusted.a", "security.a", "security.capability", "nothing.a", "user."]
OFFSETS = [0, 1, 100, 4095, 4096, 5000, 10_000, 65_536, 200_000]


class Difference(Exception):
    pass


class Sides:
    """The two directories, each the root of all calls made there, and the files that are open in both."""

    def __init__(self, roots):
        self.roots = [os.open(root, os.O_RDONLY | os.O_DIRECTORY) for root in roots]
        #: Pairs of descriptors.
        self.files = []

    def both(self, user, call):
        """The outcomes of the call, which gets the number of the side."""
        outcomes = []
        for side, root in enumerate(self.roots):
            # No path leads out, over whatever symbolic links.
            os.fchdir(root)
            os.chroot(".")
            with user:
                try:
                    outcomes.append(("ok", call(side)))
                except OSError as error:
                    outcomes.append(("error", errno.errorcode.get(error.errno, error.errno)))
        return outcomes


def described(path):
    """What must be alike of one entry."""
    s = os.lstat(path)
    is_directory = stat.S_ISDIR(s.st_mode)
    times = tuple(t if t < BEGINNING else "now" for t in (s.st_mtime_ns, s.st_ctime_ns))
    return (oct(s.st_mode), s.st_uid, s.st_gid, s.st_nlink, s.st_rdev, None if is_directory else s.st_size, times)


def content_of(path):
    s = os.lstat(path)
    if stat.S_ISLNK(s.st_mode):
        return os.readlink(path)
    if stat.S_ISREG(s.st_mode):
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NOATIME)) as file:
            return hashlib.sha1(file.read()).hexdigest()
    return None


def xattrs_of(path):
    return sorted((name, os.getxattr(path, name, follow_symlinks=False))
                  for name in os.listxattr(path, follow_symlinks=False))


def tree():
    """Everything below the working directory: path, and what must be alike. Inodes by the order of their first path."""
    entries = []
    numbers = {}
    for directory, directories, files in os.walk("."):
        directories.sort()
        for name in sorted(directories + files):
            path = os.path.join(directory, name)
            number = numbers.setdefault(os.lstat(path).st_ino, len(numbers))
            entries.append((path, number, described(path), content_of(path), xattrs_of(path)))
    return sorted(entries)


class Run:
    def __init__(self, sides, seed, trace):
        self.random = random.Random(seed)
        self.sides = sides
        self.trace = trace
        self.recent = []
        self.kinds = {}
        self.successes = 0

    def pick(self, choices):
        return self.random.choice(choices)

    def path(self):
        depth = self.pick([1, 1, 1, 1, 2, 2, 3])
        path = "/".join(self.pick(NAMES) for _ in range(depth))
        return path + self.pick([""] * 40 + ["/", "/.", "/.."])

    def file(self):
        return self.pick(self.sides.files) if self.sides.files else None

    def data(self):
        return bytes([self.random.randrange(1, 256)]) * self.pick([0, 1, 10, 4096, 5000, 70_000])

    # Each returns (text, call, paths that are looked at afterwards); the call gets the number of the side.

    def open(self):
        path = self.path()
        flags = self.pick([os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR])
        for flag in (os.O_CREAT, os.O_CREAT, os.O_EXCL, os.O_TRUNC, os.O_APPEND, os.O_DIRECTORY, os.O_NOFOLLOW):
            if self.random.random() < 0.2:
                flags |= flag
        # A FIFO would wait for its other end.
        flags |= os.O_NONBLOCK
        if self.random.random() < 0.05:
            path, flags = ".", os.O_TMPFILE | os.O_RDWR
        mode = self.pick(MODES)
        opened = []

        def call(side):
            # Devices are opened by the one file system alone, which may have been mounted without nodev.
            if os.path.exists(path) and stat.S_IFMT(os.stat(path).st_mode) in (stat.S_IFCHR, stat.S_IFBLK):
                return "a device"
            opened.append(os.open(path, flags, mode))
            return stat.S_IFMT(os.fstat(opened[-1]).st_mode)

        def after():
            if len(opened) == 2 and len(self.sides.files) < 12:
                self.sides.files.append(opened)
            else:
                for fd in opened:
                    os.close(fd)
        return f"open({path!r}, {flags:#o}, {mode:#o})", call, [path], after

    def close(self):
        pair = self.file()
        if pair is None:
            return None
        self.sides.files.remove(pair)
        return f"close({pair})", lambda side: os.close(pair[side]), []

    def on_file(self, name, use):
        pair = self.file()
        if pair is None:
            return None
        return f"{name} of {pair}", lambda side: use(pair[side]), []

    def write(self):
        data, at = self.data(), self.pick(OFFSETS)
        if self.pick([0, 1]):
            def use(fd):
                # Times of FIFOs are a difference that is listed.
                return "a FIFO" if stat.S_ISFIFO(os.fstat(fd).st_mode) else os.write(fd, data)
            return self.on_file(f"write({len(data)})", use)
        return self.on_file(f"pwrite({len(data)}, {at})", lambda fd: os.pwrite(fd, data, at))

    def read(self):
        length, at = self.pick([1, 5000, 100_000]), self.pick(OFFSETS)
        if self.pick([0, 1]):
            return self.on_file(f"read({length})", lambda fd: digest(os.read(fd, length)))
        return self.on_file(f"pread({length}, {at})", lambda fd: digest(os.pread(fd, length, at)))

    def seek(self):
        at, whence = self.pick(OFFSETS + [-1]), self.pick([os.SEEK_SET, os.SEEK_CUR, os.SEEK_END])
        def use(fd):
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                return "a directory"
            return os.lseek(fd, at, whence)
        return self.on_file(f"lseek({at}, {whence})", use)

    def ftruncate(self):
        size = self.pick(OFFSETS)
        return self.on_file(f"ftruncate({size})", lambda fd: os.ftruncate(fd, size))

    def allocate(self):
        mode, at, length = self.pick([0, 1, 3, 16, 17]), self.pick(OFFSETS), self.pick([0, 1, 100, 4096, 60_000])
        return self.on_file(f"fallocate({mode}, {at}, {length})", lambda fd: fallocate(fd, mode, at, length))

    def copy(self):
        one, two = self.file(), self.file()
        if one is None:
            return None
        length, at, to = self.pick([1, 5000, 100_000]), self.pick(OFFSETS), self.pick(OFFSETS)
        return (f"copy_file_range({one}, {two}, {length}, {at}, {to})",
                lambda side: os.copy_file_range(one[side], two[side], length, at, to), [])

    def descriptor(self):
        mode, uid = self.pick(MODES), self.pick(IDS)
        kind = self.pick(["stat", "chmod", "chown", "sync", "utime", "link"])
        path = self.path()
        return self.on_file(f"{kind} by descriptor, {mode:#o} {uid} {path!r}", {
            "stat": lambda fd: (oct(os.fstat(fd).st_mode), os.fstat(fd).st_uid, os.fstat(fd).st_nlink),
            "chmod": lambda fd: os.fchmod(fd, mode),
            "chown": lambda fd: os.fchown(fd, uid, uid) if uid != -1 else None,
            "sync": os.fsync,
            "utime": lambda fd: os.utime(fd, ns=(5, 6)),
            "link": lambda fd: linkat(fd, "", AT_FDCWD, path, AT_EMPTY_PATH),
        }[kind])

    def truncate(self):
        path, size = self.path(), self.pick(OFFSETS)

        def call(side):
            # A difference that is listed.
            return "the same" if os.path.isfile(path) and os.path.getsize(path) == size else os.truncate(path, size)
        return f"truncate({path!r}, {size})", call, [path]

    def mkdir(self):
        path, mode = self.path(), self.pick(MODES)
        return f"mkdir({path!r}, {mode:#o})", lambda side: os.mkdir(path, mode), [path]

    def remove(self):
        path, call = self.path(), self.pick([os.unlink, os.unlink, os.rmdir])
        return f"{call.__name__}({path!r})", lambda side: call(path), [path]

    def symlink(self):
        path, target = self.path(), self.pick([self.path(), "missing", "x" * 3000, "."])
        return f"symlink({target!r}, {path!r})", lambda side: os.symlink(target, path), [path]

    def link(self):
        old, new, flags = self.path(), self.path(), self.pick([0, 0, AT_SYMLINK_FOLLOW])
        return f"linkat({old!r}, {new!r}, {flags})", lambda side: linkat(AT_FDCWD, old, AT_FDCWD, new, flags), [old, new]

    def rename(self):
        old, new, flags = self.path(), self.path(), self.pick([0, 0, 0, 0, 1, 2, 2, 4, 5, 3, 6])

        def after():
            # ext4 makes the whiteout first, and takes it back: times of the directory change although the call fails.
            if flags & RENAME_WHITEOUT:
                self.sides.both(ROOT, lambda side: give_old_times(os.path.dirname(old.rstrip("/")) or ".", 0))
        return f"renameat2({old!r}, {new!r}, {flags})", lambda side: rename2(old, new, flags), [old, new], after

    def mknod(self):
        kind = self.pick([stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFDIR])
        path, mode, device = self.path(), self.pick(MODES), self.pick([0, os.makedev(1, 3), os.makedev(300, 70_000)])
        return f"mknod({path!r}, {kind | mode:#o}, {device})", lambda side: os.mknod(path, kind | mode, device), [path]

    def chmod(self):
        path, mode = self.path(), self.pick(MODES)
        return f"chmod({path!r}, {mode:#o})", lambda side: os.chmod(path, mode), [path]

    def chown(self):
        path, uid, gid, follow = self.path(), self.pick(IDS), self.pick(IDS), self.pick([True, False])
        if uid == gid == -1:
            return None
        return (f"chown({path!r}, {uid}, {gid}, follow={follow})",
                lambda side: os.chown(path, uid, gid, follow_symlinks=follow), [path])

    def utimens(self):
        path, flags = self.path(), self.pick([0, AT_SYMLINK_NOFOLLOW])
        choices = [UTIME_NOW, UTIME_OMIT, 0, -5 * 10**9 + 1, 1_234_567_890_123_456_789]
        access, modify = self.pick(choices), self.pick(choices)
        return f"utimensat({path!r}, {access}, {modify}, {flags})", lambda side: utimensat(path, access, modify, flags), [path]

    def xattr(self):
        path, name, flags = self.path(), self.pick(XATTRS), self.pick([0, 0, 1, 2])
        capability = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
        value = capability if name == "security.capability" else self.pick([b"", b"1", b"x" * 200])
        kind = self.pick(["set", "set", "get", "list", "remove"])
        call = {
            "set": lambda: os.setxattr(path, name, value, flags, follow_symlinks=False),
            "get": lambda: os.getxattr(path, name, follow_symlinks=False),
            "list": lambda: sorted(os.listxattr(path, follow_symlinks=False)),
            "remove": lambda: os.removexattr(path, name, follow_symlinks=False),
        }[kind]
        return f"{kind}xattr({path!r}, {name}, {len(value)}, {flags})", lambda side: call(), [path]

    def acl(self):
        path, name = self.path(), self.pick(["system.posix_acl_access", "system.posix_acl_default"])
        value = struct.pack("<I", 2)
        for tag, who in ((1, None), (2, ALICE.uid), (4, None), (8, TEAM), (16, None), (32, None)):
            if who is None or self.random.random() < 0.5:
                value += struct.pack("<HHI", tag, self.random.randrange(8), 0xFFFFFFFF if who is None else who)
        if self.random.random() < 0.2:
            return (f"removexattr({path!r}, {name})",
                    lambda side: os.removexattr(path, name, follow_symlinks=False), [path])
        return (f"setxattr({path!r}, {name}, {value.hex()})",
                lambda side: os.setxattr(path, name, value, 0, follow_symlinks=False), [path])

    def look(self):
        path, mask = self.path(), self.pick([1, 2, 4, 6])
        kind = self.pick(["stat", "access", "listdir", "readlink", "statvfs"])
        call = {
            "stat": lambda: (oct(os.stat(path).st_mode), os.stat(path).st_nlink),
            "access": lambda: os.access(path, mask, effective_ids=True),
            "listdir": lambda: sorted(os.listdir(path)),
            "readlink": lambda: os.readlink(path),
            "statvfs": lambda: os.statvfs(path).f_namemax,
        }[kind]
        return f"{kind}({path!r}, {mask})", lambda side: call(), []

    def age(self):
        """Sets old times of everything, so that what changes them shows."""
        def call(side):
            for directory, directories, files in os.walk("."):
                for name in directories + files:
                    give_old_times(os.path.join(directory, name))
        return "old times for everything", call, []

    OPERATIONS = (
        ["open"] * 12 + ["close"] * 5 + ["write"] * 8 + ["read"] * 5 + ["seek"] * 2 + ["ftruncate"] * 2 + ["allocate"] * 3
        + ["copy"] * 3 + ["descriptor"] * 4 + ["truncate"] * 3 + ["mkdir"] * 7 + ["remove"] * 7 + ["symlink"] * 3 + ["link"] * 5
        + ["rename"] * 9 + ["mknod"] * 3 + ["chmod"] * 5 + ["chown"] * 5 + ["utimens"] * 4 + ["xattr"] * 6 + ["acl"] * 3
        + ["look"] * 6 + ["age"]
    )

    def step(self, number):
        name = self.pick(self.OPERATIONS)
        made = getattr(self, name)()
        if made is None:
            return
        text, call, paths, *after = made
        user = ROOT if name == "age" else self.pick(USERS)
        mask = self.pick([0, 0, 0o022, 0o077])
        os.umask(mask)
        text = f"{number}: {text} by {user.uid}, umask {mask:#o}"
        if self.trace:
            print(text, flush=True)
        one, two = self.sides.both(user, call)
        self.recent = self.recent[-9:] + [f"{text}: {short(one[1])}"]
        os.umask(0)
        for work in after:
            work()
        if one != two:
            raise Difference(f"{text}: ext4 {short(one)}, mount {short(two)}")
        if one[0] == "ok":
            self.successes += 1
            self.kinds[name] = self.kinds.get(name, 0) + 1
        for path in {at for path in paths for at in (path, os.path.dirname(path) or ".")}:
            one, two = self.sides.both(ROOT, lambda side: described(path))
            if one != two:
                raise Difference(f"{path!r} after {text}: ext4 {short(one)}, mount {short(two)}")

    def compare_trees(self):
        (_, one), (_, two) = self.sides.both(ROOT, lambda side: tree())
        if one == two:
            return
        if isinstance(one, str) or isinstance(two, str):
            raise Difference(f"looking at the trees: ext4 {short(one)}, mount {short(two)}")
        for a, b in zip(one, two):
            if a != b:
                raise Difference(f"the trees differ: ext4 {a}, mount {b}")
        raise Difference(f"the trees differ: {len(one)} and {len(two)} entries")


def give_old_times(path, flags=AT_SYMLINK_NOFOLLOW):
    with contextlib.suppress(OSError):
        utimensat(path, 7 * 10**9, 9 * 10**9, flags)


def digest(data):
    return len(data), hashlib.sha1(data).hexdigest()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("roots", nargs=2)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--trace", action="store_true")
    words = parser.parse_args()
    os.umask(0)
    os.setgroups([])
    for root in words.roots:
        os.chmod(root, 0o777)
    outside = os.open("/", os.O_RDONLY)
    sides = Sides(words.roots)
    run = Run(sides, words.seed, words.trace)
    try:
        for number in range(words.steps):
            run.step(number)
            if number % 500 == 499:
                run.compare_trees()
        for pair in sides.files:
            for fd in pair:
                os.close(fd)
        run.compare_trees()
        for fd in sides.roots:
            os.close(fd)
        os.fchdir(outside)
        os.chroot(".")
        print("remount", flush=True)
        sys.stdin.readline()
        sides.roots = Sides(words.roots).roots
        run.compare_trees()
    except Difference as difference:
        print(f"{difference}\nseed {words.seed}; the last calls:\n  " + "\n  ".join(run.recent), flush=True)
        sys.exit(1)
    print(f"{words.steps} calls, {run.successes} of them successful", flush=True)


main()
