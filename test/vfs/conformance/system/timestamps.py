"""Which call changes which times, and what utimensat(2) may set."""
import mmap
import stat

from calls import *
from harness import *

SECOND = 1_000_000_000
CLOCK_REALTIME_COARSE = 5


def with_file(use, flags=os.O_RDWR, path="f"):
    def call():
        with opened(path, flags) as fd:
            use(fd)
    return call


#: Name: the rule, what is made before, the call, the paths that are looked at and the times that it changes of each.
#: "f" is a file of three bytes, "d" an empty directory, "l" a symbolic link, "." their directory.
RULES = {
    "chmod": ("chmod(2): changes ctime", lambda: os.chmod("f", 0o600), {"f": "c", ".": ""}),
    "chmod_of_the_same": ("chmod(2): changes ctime though the mode stays", lambda: os.chmod("f", 0o644), {"f": "c"}),
    "chmod_of_a_directory": ("chmod(2): changes ctime of a directory", lambda: os.chmod("d", 0o700), {"d": "c"}),
    "chown": ("chown(2): changes ctime", lambda: os.chown("f", 1, 2), {"f": "c", ".": ""}),
    "lchown": ("lchown(2): changes ctime of the link", lambda: os.lchown("l", 1, 2), {"l": "c"}),
    "chown_of_nothing": ("chown(2) with -1 for both: changes ctime", lambda: os.chown("f", -1, -1), {"f": "c"}),
    "write": ("write(2): changes mtime and ctime", with_file(lambda fd: os.write(fd, b"x")), {"f": "mc", ".": ""}),
    "pwrite_at_the_end": ("pwrite(2): changes mtime and ctime", with_file(lambda fd: os.pwrite(fd, b"x", 9000)),
                          {"f": "mc"}),
    "write_of_nothing": ("write(2) of no bytes: changes no time", with_file(lambda fd: os.write(fd, b"")), {"f": ""}),
    "synchronous_write": ("write(2) O_SYNC: changes mtime and ctime",
                          with_file(lambda fd: os.write(fd, b"x"), os.O_RDWR | os.O_SYNC), {"f": "mc"}),
    "direct_write": ("write(2) O_DIRECT: changes mtime and ctime",
                     with_file(lambda fd: os.pwritev(fd, [aligned_buffer(4096)], 0), os.O_RDWR | os.O_DIRECT),
                     {"f": "mc"}),
    "truncate": ("truncate(2) to another size: changes mtime and ctime", lambda: os.truncate("f", 1), {"f": "mc"}),
    "truncate_longer": ("truncate(2) to a greater size: changes mtime and ctime", lambda: os.truncate("f", 10_000),
                        {"f": "mc"}),
    "ftruncate": ("ftruncate(2): changes mtime and ctime", with_file(lambda fd: os.ftruncate(fd, 1)), {"f": "mc"}),
    "ftruncate_to_the_same": ("ftruncate(2) to the size that it has: changes mtime and ctime",
                              with_file(lambda fd: os.ftruncate(fd, 3)), {"f": "mc"}),
    "open_truncating": ("open(2) O_TRUNC: changes mtime and ctime",
                        with_file(lambda fd: None, os.O_WRONLY | os.O_TRUNC), {"f": "mc", ".": ""}),
    "open_truncating_the_empty": ("open(2) O_TRUNC of an empty file: changes mtime and ctime",
                                  with_file(lambda fd: None, os.O_WRONLY | os.O_TRUNC, "empty"), {"empty": "mc"}),
    "open_and_close": ("open(2), close(2): change no time", with_file(lambda fd: None), {"f": "", ".": ""}),
    "open_of_what_exists": ("open(2) O_CREAT of what exists: changes no time",
                            with_file(lambda fd: None, os.O_RDWR | os.O_CREAT), {"f": "", ".": ""}),
    "fsync": ("fsync(2): changes no time", with_file(os.fsync), {"f": ""}),
    "fallocate": ("fallocate(2) to a greater size: changes mtime and ctime",
                  with_file(lambda fd: fallocate(fd, 0, 0, 9000)), {"f": "mc"}),
    "fallocate_within": ("fallocate(2) KEEP_SIZE behind the end: changes mtime and ctime",
                         with_file(lambda fd: fallocate(fd, KEEP_SIZE, 0, 9000)), {"f": "mc"}),
    "punch_hole": ("fallocate(2) PUNCH_HOLE: changes mtime and ctime",
                   with_file(lambda fd: fallocate(fd, KEEP_SIZE | PUNCH_HOLE, 0, 2)), {"f": "mc"}),
    "copy_file_range": ("copy_file_range(2): changes mtime and ctime of the target",
                        with_file(lambda fd: os.copy_file_range(os.open("g", os.O_RDONLY), fd, 2, 0, 100)), {"f": "mc"}),
    "copy_file_range_source": ("copy_file_range(2), relatime: changes atime of the source",
                               with_file(lambda fd: os.copy_file_range(os.open("g", os.O_RDONLY), fd, 2, 0, 100)),
                               {"g": "a"}),
    "sendfile": ("sendfile(2): changes mtime and ctime of the target",
                 with_file(lambda fd: os.sendfile(fd, os.open("g", os.O_RDONLY), 0, 3)), {"f": "mc"}),
    "link": ("link(2): changes ctime of the file, mtime and ctime of the directory", lambda: os.link("f", "new"),
             {"f": "c", ".": "mc"}),
    "unlink_of_one_of_two": ("unlink(2): changes ctime of a file that has another link, mtime and ctime of the directory",
                             lambda: os.unlink("d2/g"), {"g": "c", "d2": "mc", ".": ""}),
    "creat": ("open(2) O_CREAT: changes mtime and ctime of the directory", lambda: write_file("d/new"),
              {"d": "mc", ".": ""}),
    "mkdir": ("mkdir(2): changes mtime and ctime of the directory", lambda: os.mkdir("d/new"), {"d": "mc", ".": ""}),
    "symlink": ("symlink(2): changes mtime and ctime of the directory", lambda: os.symlink("x", "d/new"), {"d": "mc"}),
    "mknod": ("mknod(2): changes mtime and ctime of the directory", lambda: os.mkfifo("d/new"), {"d": "mc"}),
    "rmdir": ("rmdir(2): changes mtime and ctime of the parent", lambda: os.rmdir("d"), {".": "mc"}),
    "rename_in_a_directory": ("rename(2): changes ctime of the file, mtime and ctime of the directory",
                              lambda: rename("d2/g", "d2/h"), {"g": "c", "d2": "mc", ".": ""}),
    "rename_across": ("rename(2): changes mtime and ctime of both directories, ctime of what moves",
                      lambda: rename("d2/g", "d/g"), {"g": "c", "d": "mc", "d2": "mc", ".": ""}),
    "rename_of_a_directory": ("rename(2): of a directory changes its ctime, and those of both parents",
                              lambda: rename("d2/sub", "d/sub"), {"d": "mc", "d2": "mc"}),
    "rename_onto": ("rename(2): changes ctime of a replaced file that has another link", lambda: rename("f", "d2/g"),
                    {"g": "c", "d2": "mc", ".": "mc"}),
    "rename_exchanging": ("renameat2(2) RENAME_EXCHANGE: changes ctime of both, mtime and ctime of the directories",
                          lambda: rename2("d2/g", "empty", RENAME_EXCHANGE),
                          {"g": "c", "empty2": "c", "d2": "mc", ".": "mc"}),
    "setxattr": ("setxattr(2): changes ctime", lambda: os.setxattr("f", "user.a", b"1"), {"f": "c"}),
    "removexattr": ("removexattr(2): changes ctime", lambda: os.removexattr("f", "user.there"), {"f": "c"}),
    "getxattr": ("getxattr(2), listxattr(2): change no time",
                 lambda: (os.getxattr("f", "user.there"), os.listxattr("f")), {"f": ""}),
    "stat": ("stat(2), access(2), statfs(2): change no time",
             lambda: (os.stat("f"), os.access("f", 4), os.statvfs("f"), os.stat("d")), {"f": "", "d": "", ".": ""}),
    "locks": ("fcntl(2) and flock(2): change no time", with_file(lambda fd: (fcntl.flock(fd, fcntl.LOCK_EX),
              fcntl.lockf(fd, fcntl.LOCK_EX))), {"f": ""}),
    "touch": ("utimensat(2) without times: changes all three", lambda: touch("f"), {"f": "amc", ".": ""}),
    "touch_of_a_directory": ("utimensat(2) of a directory: changes all three", lambda: touch("d"), {"d": "amc"}),
    "utimes_atime": ("utimensat(2) of atime alone: changes ctime as well", lambda: utimensat("f", 5, UTIME_OMIT),
                     {"f": "ac"}),
    "utimes_mtime": ("utimensat(2) of mtime alone: changes ctime as well", lambda: utimensat("f", UTIME_OMIT, 5),
                     {"f": "mc"}),
    "utimes_now": ("utimensat(2) UTIME_NOW for one: changes it and ctime",
                   lambda: utimensat("f", UTIME_NOW, UTIME_OMIT), {"f": "ac"}),
    "utimes_omit": ("utimensat(2) UTIME_OMIT for both: changes nothing",
                    lambda: utimensat("f", UTIME_OMIT, UTIME_OMIT), {"f": ""}),
    "utimes_of_a_link": ("utimensat(2) AT_SYMLINK_NOFOLLOW: changes the link alone",
                         lambda: utimensat("l", 1, 2, AT_SYMLINK_NOFOLLOW), {"l": "amc", "f": ""}),
    "mapping": ("mmap(2), msync(2): a store into a shared mapping changes mtime and ctime",
                lambda: store_into("f"), {"f": "mc"}),
    "mapping_read": ("mmap(2): a mapping that is not written to changes neither mtime nor ctime",
                     lambda: load_from("f"), {"f": ""}),
    "connect": ("bind(2): a socket's name changes mtime and ctime of the directory", lambda: bind("d/s"), {"d": "mc"}),
    "tmpfile": ("open(2) O_TMPFILE: changes no time of the directory",
                lambda: os.close(os.open("d", os.O_TMPFILE | os.O_RDWR)), {"d": ""}),
    "failed_calls": ("unlink(2), mkdir(2), rename(2), open(2) that fail: change no time", lambda: failing(),
                     {"f": "", "d": "", ".": ""}),
}


def store_into(path):
    with opened(path, os.O_RDWR | os.O_NOATIME) as fd, mmap.mmap(fd, 3) as memory:
        memory[0:1] = b"z"
        memory.flush()


def load_from(path):
    with opened(path, os.O_RDWR | os.O_NOATIME) as fd, mmap.mmap(fd, 3, prot=mmap.PROT_READ) as memory:
        same("content", memory[:3], b"123")


def bind(path):
    import socket
    with socket.socket(socket.AF_UNIX) as it:
        it.bind(path)


def failing():
    fails("ENOENT", os.unlink, "missing")
    fails("EEXIST", os.mkdir, "d")
    fails("ENOENT", rename, "missing", "d/x")
    fails("ENOTDIR", rename, "d", "f")
    fails("EEXIST", os.open, "f", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    fails("ENODATA", os.removexattr, "f", "user.missing")
    fails("EISDIR", os.unlink, "d")


#: What some of them need.
NEEDS = {
    "fallocate": "fallocate", "fallocate_within": "fallocate", "punch_hole": "fallocate", "tmpfile": "tmpfile",
    "rename_exchanging": "renameFlags", "utimes_atime": "singleTimes", "utimes_mtime": "singleTimes",
    "utimes_now": "singleTimes", "chown_of_nothing": "singleTimes",
}


def declare_rules():
    for name, (rule, call, expected) in RULES.items():
        def check_rule(call=call, expected=expected):
            for path, data in (("f", b"123"), ("g", b"123"), ("empty", b"")):
                write_file(path, data)
            os.mkdir("d")
            os.mkdir("d2")
            os.mkdir("d2/sub")
            os.link("g", "d2/g")
            os.link("empty", "empty2")
            os.symlink("f", "l")
            os.setxattr("f", "user.there", b"1")
            found = changed(call, *expected)
            found = [found] if isinstance(found, str) else found
            same("changed", dict(zip(expected, found)), expected)
        check_rule.__name__ = name
        check_rule.__doc__ = rule
        case(needs(NEEDS[name])(check_rule) if name in NEEDS else check_rule)


declare_rules()


@case
def a_new_file_has_all_three():
    """open(2), mkdir(2), symlink(2), mknod(2): atime, mtime and ctime of what is new are one time, the present"""
    before = time.clock_gettime_ns(CLOCK_REALTIME_COARSE)
    write = os.open("f", os.O_CREAT | os.O_WRONLY)
    os.mkdir("d")
    os.symlink("x", "l")
    os.mkfifo("p")
    after = time.time_ns()
    os.close(write)
    for name in ("f", "d", "l", "p"):
        found = times(name)
        same(f"times of {name}", len(set(found)), 1)
        holds(f"{name} is made between the calls before and after", before <= found[0] <= after)


@case
@needs("nanoseconds")
def times_have_nanoseconds():
    """utimensat(2): nanoseconds are kept"""
    write_file("f")
    utimensat("f", 1_000_000_001 * SECOND + 123_456_789, 5 * SECOND + 1)
    same("times", times("f")[:2], (1_000_000_001 * SECOND + 123_456_789, 5 * SECOND + 1))


@case
@needs("nanoseconds")
def times_before_1970():
    """utimensat(2): times before 1970 are kept"""
    write_file("f")
    for at in (-1, -SECOND, -SECOND + 1, -2_000_000_000 * SECOND + 999_999_999):
        utimensat("f", at, at)
        same("times", times("f")[:2], (at, at))


@case
@needs("nanoseconds")
def times_after_2038():
    """utimensat(2): times up to 2446 are kept"""
    write_file("f")
    for seconds in (2**31 - 1, 2**31, 2**32, 2**33, 15_032_385_534):
        utimensat("f", seconds * SECOND + 7, seconds * SECOND)
        same("times", times("f")[:2], (seconds * SECOND + 7, seconds * SECOND))


@case
@differs("range of times")
def times_beyond_are_the_last():
    """utimensat(2): times outside of what ext4 can keep become the first or last of 1901 to 2446"""
    write_file("f")
    utimensat("f", (2**62, 0), (-2**62, 0))
    same("times", times("f")[:2], (15_032_385_535 * SECOND, -2**31 * SECOND))


@case
@differs("times of FIFOs")
def writing_to_a_fifo():
    """write(2) to a FIFO: changes mtime and ctime"""
    os.mkfifo("p")
    with opened("p", os.O_RDWR) as fd:
        same("changed", changed(lambda: os.write(fd, b"x"), "p"), "mc")


@case
@differs("truncate to the same size")
def truncating_to_the_same_size():
    """truncate(2) to the size that it has: changes mtime and ctime"""
    write_file("f", b"123")
    same("changed", changed(lambda: os.truncate("f", 3), "f"), "mc")


@case
@only("mount")
@needs("nanoseconds")
def times_at_the_edges_of_64_bits():
    """utimensat(2): seconds are kept between -2^53 and 2^53"""
    write_file("f")
    for seconds in (2**53 - 1, -(2**53) + 1, 2**40, -2**40):
        utimensat("f", (seconds, 999_999_999), (seconds, 0))
        same("times", times("f")[:2], (seconds * SECOND + 999_999_999, seconds * SECOND))


@case
def nanoseconds_that_are_none():
    """utimensat(2): nanoseconds beyond 999,999,999: EINVAL"""
    write_file("f")
    before = times("f")
    for nanoseconds in (1_000_000_000, -1, 2**40):
        fails("EINVAL", utimensat, "f", (0, nanoseconds), UTIME_OMIT)
        fails("EINVAL", utimensat, "f", UTIME_OMIT, (0, nanoseconds))
    same("times", times("f"), before)


@case
def who_writes_may_touch():
    """utimensat(2): who may write sets both to now, by NULL or UTIME_NOW, and nothing else: EPERM, EACCES"""
    write_file("f", b"", 0o666, ALICE)
    write_file("closed", b"", 0o644, ALICE)
    with BOB:
        touch("f")
        utimensat("f", UTIME_NOW, UTIME_NOW)
        fails("EPERM", utimensat, "f", UTIME_NOW, UTIME_OMIT)
        fails("EPERM", utimensat, "f", UTIME_OMIT, UTIME_NOW)
        fails("EPERM", utimensat, "f", 1, 1)
        fails("EPERM", utimensat, "f", UTIME_NOW, 1)
        fails("EACCES", touch, "closed")
        fails("EACCES", utimensat, "closed", UTIME_NOW, UTIME_NOW)
        utimensat("closed", UTIME_OMIT, UTIME_OMIT)
    with ALICE:
        utimensat("closed", UTIME_NOW, 1)


@case
@needs("nanoseconds")
def the_owner_touches_without_w():
    """utimensat(2): the owner sets times whatever the mode"""
    write_file("f", b"", 0, ALICE)
    with ALICE:
        touch("f")
        utimensat("f", 1, 2)
    same("times", times("f")[:2], (1, 2))


@case
@needs("nanoseconds")
def times_by_descriptor():
    """futimens(2): through a descriptor for reading, by the owner"""
    write_file("f", b"", 0o644, ALICE)
    with ALICE, opened("f") as fd:
        os.utime(fd, ns=(5, 6))
    same("times", times("f")[:2], (5, 6))


@case
@needs("nanoseconds")
def set_times_survive_a_write_before():
    """utimensat(2), close(2): times that were set after a write stay set when the file is closed and written back"""
    with opened("f", os.O_CREAT | os.O_RDWR) as fd:
        os.write(fd, b"x" * 10_000)
        os.utime(fd, ns=(5, 6))
        os.fsync(fd)
        same("after fsync", times("f")[:2], (5, 6))
    same("after close", times("f")[:2], (5, 6))
    tick()
    same("later", times("f")[:2], (5, 6))


@case
@needs("nanoseconds")
def a_write_after_set_times():
    """write(2): after utimensat(2), a write makes mtime the present"""
    with opened("f", os.O_CREAT | os.O_RDWR) as fd:
        os.utime(fd, ns=(5, 6))
        os.write(fd, b"x")
        holds("mtime", times("f")[1] > SECOND)
        same("atime", times("f")[0], 5)
    holds("mtime after close", times("f")[1] > SECOND)


@case
@needs("singleTimes")
def reading_makes_atime():
    """read(2), mount(8) relatime: the first read (here past the cache) after a change makes atime the present, the next does not"""
    write_file("f", b"123")
    tick()
    same("first", changed(lambda: read_through("f"), "f"), "a")
    same("second", changed(lambda: read_through("f"), "f"), "")
    utimensat("f", 5, UTIME_OMIT)
    same("after a change of ctime", changed(lambda: read_through("f"), "f"), "a")


def read_through(path, flags=0):
    """Reads what is not answered from the kernel's pages."""
    with opened(path, os.O_RDONLY | os.O_DIRECT | flags) as fd:
        os.preadv(fd, [aligned_buffer(4096)], 0)


@case
@differs("atime of cached reads")
def reading_from_the_cache_makes_atime():
    """read(2), mount(8) relatime: a read that the kernel answers from its pages makes atime, too"""
    write_file("f", b"123")
    same("changed", changed(lambda: read_file("f"), "f"), "a")


@case
@differs("atime of cached reads")
def mapping_makes_atime():
    """mmap(2), mount(8) relatime: mapping a file makes atime the present"""
    write_file("f", b"123")
    def look():
        with opened("f") as fd, mmap.mmap(fd, 3, prot=mmap.PROT_READ) as memory:
            same("content", memory[:3], b"123")
    same("changed", changed(look, "f"), "a")


@case
def no_atime():
    """open(2) O_NOATIME: reading does not change atime"""
    write_file("f", b"123")
    same("changed", changed(lambda: read_through("f", os.O_NOATIME), "f"), "")


@case
def listing_makes_atime():
    """getdents(2), readlink(2), relatime: the first after a change make atime the present"""
    os.mkdir("d")
    write_file("d/f")
    os.symlink("x", "l")
    tick()
    same("directory", changed(lambda: os.listdir("d"), "d"), "a")
    same("again", changed(lambda: os.listdir("d"), "d"), "")


@case
def atime_of_a_symbolic_link():
    """readlink(2), path_resolution(7), relatime: the first use after a change makes atime the present"""
    os.symlink("x", "l")
    same("link", changed(lambda: os.readlink("l"), "l"), "a")


@case
def an_atime_of_days_ago():
    """read(2), relatime: an atime of more than a day ago is renewed although nothing changed"""
    write_file("f", b"123")
    old = time.time_ns() - 2 * 86400 * SECOND
    utimensat("f", old, old)
    same("first", changed(lambda: read_through("f"), "f"), "a")


@case
def the_order_of_changes_shows():
    """write(2), stat(2): of two changes a tick apart the later has the later time"""
    for index in range(3):
        write_file(f"f{index}", b"x")
        tick()
    stamps = [times(f"f{index}")[1] for index in range(3)]
    holds("increasing", stamps == sorted(stamps) and len(set(stamps)) == 3)


@case
@differs("order within a tick")
def what_comes_later_is_not_older():
    """write(2), mknod(2), stat(2): what was changed after something else was made has no older mtime"""
    for i in range(60):
        mknod(f"made-{i}", stat.S_IFREG | 0o644)
        write_file(f"written-{i}", b"x")
        holds("order", times(f"made-{i}")[1] <= times(f"written-{i}")[1])


@case
def ctime_cannot_be_set():
    """utimensat(2): ctime is the time of the call, whatever is set"""
    write_file("f")
    before = time.clock_gettime_ns(CLOCK_REALTIME_COARSE)
    utimensat("f", 5, 5)
    holds("ctime", before <= times("f")[2] <= time.time_ns())


@case
def birth_stays():
    """statx(2) STATX_BTIME: nothing changes the time of birth"""
    write_file("f")
    born = statx("f").nanoseconds("birth")
    tick()
    os.chmod("f", 0o600)
    write_file("f", b"more")
    utimensat("f", 5, 5)
    rename("f", "g")
    os.link("g", "h")
    same("birth", statx("h").nanoseconds("birth"), born)
