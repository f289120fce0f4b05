"""inotify(7), dnotify and fanotify(7): what watchers hear."""
import stat

from calls import *
from harness import *

ACCESS, MODIFY, ATTRIB, CLOSE_WRITE, CLOSE_NOWRITE, OPEN = 0x1, 0x2, 0x4, 0x8, 0x10, 0x20
MOVED_FROM, MOVED_TO, CREATE, DELETE, DELETE_SELF, MOVE_SELF = 0x40, 0x80, 0x100, 0x200, 0x400, 0x800
UNMOUNT, OVERFLOW, IGNORED, ISDIR = 0x2000, 0x4000, 0x8000, 0x40000000
ONLYDIR, DONT_FOLLOW, EXCL_UNLINK, MASK_CREATE, MASK_ADD, ONESHOT = (
    0x1000000, 0x2000000, 0x4000000, 0x10000000, 0x20000000, 0x80000000)
ALL = 0xFFF


def heard(path, call, mask=ALL):
    """(mask, name) of what a watcher of the path hears while the call is made."""
    fd = inotify_init()
    inotify_add(fd, path, mask)
    call()
    events = [(event[1], event[3]) for event in inotify_read(fd)]
    os.close(fd)
    return events


@case
def making():
    """inotify(7) IN_CREATE: open, mkdir, symlink, mknod and link in a directory"""
    os.mkdir("d")
    write_file("f")
    same("open", heard("d", lambda: os.close(os.open("d/a", os.O_CREAT | os.O_WRONLY))),
         [(CREATE, "a"), (OPEN, "a"), (CLOSE_WRITE, "a")])
    same("mkdir", heard("d", lambda: os.mkdir("d/b")), [(CREATE | ISDIR, "b")])
    same("symlink", heard("d", lambda: os.symlink("x", "d/c")), [(CREATE, "c")])
    same("mknod", heard("d", lambda: os.mkfifo("d/e")), [(CREATE, "e")])
    same("link", heard("d", lambda: os.link("f", "d/g")), [(CREATE, "g")])


@case
def removing():
    """inotify(7) IN_DELETE: unlink and rmdir in a directory"""
    os.makedirs("d/b")
    write_file("d/a")
    same("unlink", heard("d", lambda: os.unlink("d/a")), [(DELETE, "a")])
    same("rmdir", heard("d", lambda: os.rmdir("d/b")), [(DELETE | ISDIR, "b")])


@case
@needs("fallocate")
def changing():
    """inotify(7) IN_MODIFY, IN_ATTRIB: write, truncate, chmod, chown, utimensat, setxattr of a file"""
    os.mkdir("d")
    write_file("d/a", b"123")
    with opened("d/a", os.O_RDWR) as fd:
        same("write", heard("d", lambda: os.write(fd, b"x")), [(MODIFY, "a")])
        same("ftruncate", heard("d", lambda: os.ftruncate(fd, 1)), [(MODIFY, "a")])
        same("fallocate", heard("d", lambda: fallocate(fd, 0, 0, 1000)), [(MODIFY, "a")])
    same("truncate", heard("d", lambda: os.truncate("d/a", 0)), [(MODIFY, "a")])
    same("chmod", heard("d", lambda: os.chmod("d/a", 0o600)), [(ATTRIB, "a")])
    same("chown", heard("d", lambda: os.chown("d/a", 1, 1)), [(ATTRIB, "a")])
    same("utimensat", heard("d", lambda: utimensat("d/a", 1, 2)), [(ATTRIB, "a")])
    same("setxattr", heard("d", lambda: os.setxattr("d/a", "user.x", b"1")), [(ATTRIB, "a")])
    same("removexattr", heard("d", lambda: os.removexattr("d/a", "user.x")), [(ATTRIB, "a")])


@case
def reading():
    """inotify(7) IN_OPEN, IN_ACCESS, IN_CLOSE_NOWRITE: open, read and close; a listing"""
    os.mkdir("d")
    write_file("d/a", b"123")
    same("read", heard("d", lambda: read_file("d/a")),
         [(OPEN, "a"), (ACCESS, "a"), (ACCESS, "a"), (CLOSE_NOWRITE, "a")][:2] + [(CLOSE_NOWRITE, "a")])
    events = heard("d", lambda: os.listdir("d"))
    same("listdir", [events[0], events[-1]], [(OPEN | ISDIR, ""), (CLOSE_NOWRITE | ISDIR, "")])
    holds("access", (ACCESS | ISDIR, "") in events)


@case
def moving():
    """inotify(7) IN_MOVED_FROM, IN_MOVED_TO: a rename is two events of one cookie"""
    os.mkdir("d")
    os.mkdir("e")
    write_file("d/a")
    fd = inotify_init()
    one, two = inotify_add(fd, "d", ALL), inotify_add(fd, "e", ALL)
    rename("d/a", "e/b")
    events = inotify_read(fd)
    same("events", [(event[0], event[1], event[3]) for event in events], [(one, MOVED_FROM, "a"), (two, MOVED_TO, "b")])
    holds("one cookie", events[0][2] == events[1][2] != 0)
    os.mkdir("d/sub")
    inotify_read(fd)
    rename("d/sub", "d/other")
    same("directory", [event[1] for event in inotify_read(fd)], [MOVED_FROM | ISDIR, MOVED_TO | ISDIR])


@case
def replacing():
    """inotify(7): what a rename replaces is told IN_ATTRIB, IN_DELETE_SELF and IN_IGNORED"""
    write_file("a")
    write_file("b")
    same("replaced", heard("b", lambda: rename("a", "b")), [(ATTRIB, ""), (DELETE_SELF, ""), (IGNORED, "")])


@case
@needs("renameFlags")
def exchanging():
    """inotify(7), renameat2(2) RENAME_EXCHANGE: both names move"""
    os.mkdir("d")
    write_file("d/a")
    write_file("d/b")
    events = heard("d", lambda: rename2("d/a", "d/b", RENAME_EXCHANGE))
    same("events", events, [(MOVED_FROM, "a"), (MOVED_TO, "b"), (MOVED_FROM, "b"), (MOVED_TO, "a")])


@case
def itself():
    """inotify(7) IN_DELETE_SELF, IN_MOVE_SELF: the watched file or directory itself"""
    write_file("a")
    os.mkdir("d")
    same("moved", heard("a", lambda: rename("a", "b")), [(MOVE_SELF, "")])
    same("unlinked", heard("b", lambda: os.unlink("b")), [(ATTRIB, ""), (DELETE_SELF, ""), (IGNORED, "")])
    same("removed", heard("d", lambda: os.rmdir("d")), [(DELETE_SELF, ""), (IGNORED, "")])


@case
@needs("hardLinks")
def one_of_two_links():
    """inotify(7): a file that loses one of two links is told IN_ATTRIB alone; one that gets one, too"""
    write_file("a")
    same("link", heard("a", lambda: os.link("a", "b")), [(ATTRIB, "")])
    same("unlink", heard("a", lambda: os.unlink("b")), [(ATTRIB, "")])


@case
def unlinked_and_open():
    """inotify(7): an open file that is unlinked is told IN_ATTRIB, and IN_DELETE_SELF when it is closed"""
    write_file("a")
    fd = os.open("a", os.O_WRONLY)
    watcher = inotify_init()
    inotify_add(watcher, "a", ALL)
    os.unlink("a")
    same("at unlink", [event[1] for event in inotify_read(watcher)], [ATTRIB])
    os.write(fd, b"x")
    same("at write", [event[1] for event in inotify_read(watcher)], [MODIFY])
    os.close(fd)
    same("at close", [event[1] for event in inotify_read(watcher)], [CLOSE_WRITE, DELETE_SELF, IGNORED])


@case
@needs("hardLinks")
def by_another_name():
    """inotify(7): a watched file tells what is done by another of its names"""
    write_file("a")
    os.link("a", "b")
    def write():
        with opened("b", os.O_WRONLY) as fd:
            os.write(fd, b"x")
    same("events", heard("a", write), [(OPEN, ""), (MODIFY, ""), (CLOSE_WRITE, "")])


@case
def by_another_process():
    """inotify(7): tells what other processes and users do"""
    make_directory("d", 0o777)
    same("events", heard("d", lambda: elsewhere(lambda: os.mkdir("d/x"), user=BOB)), [(CREATE | ISDIR, "x")])


@case
def what_fails_is_not_told():
    """inotify(7): calls that fail are not told"""
    os.mkdir("d")
    write_file("d/a")
    def calls():
        fails("EEXIST", os.mkdir, "d/a")
        fails("ENOENT", os.unlink, "d/missing")
        fails("EEXIST", rename2, "d/a", "d/a", RENAME_NOREPLACE)
    same("events", heard("d", calls), [])


@case
def flags_of_watches():
    """inotify_add_watch(2): IN_ONLYDIR is ENOTDIR, IN_DONT_FOLLOW watches a link, IN_MASK_CREATE is EEXIST"""
    write_file("a")
    os.symlink("a", "l")
    fd = inotify_init()
    fails("ENOTDIR", inotify_add, fd, "a", ALL | ONLYDIR)
    fails("ENOENT", inotify_add, fd, "missing", ALL)
    watch = inotify_add(fd, "a", MODIFY)
    same("the same watch", inotify_add(fd, "l", ATTRIB), watch)
    fails("EEXIST", inotify_add, fd, "a", ALL | MASK_CREATE)
    holds("another watch", inotify_add(fd, "l", ALL | DONT_FOLLOW) != watch)
    inotify_remove(fd, watch)
    same("removed", [(event[0], event[1]) for event in inotify_read(fd)], [(watch, IGNORED)])
    fails("EINVAL", inotify_remove, fd, watch)


@case
def watching_needs_r():
    """inotify_add_watch(2): needs r on what is watched: EACCES"""
    write_file("a", b"", 0o222)
    with ALICE:
        fd = inotify_init()
        fails("EACCES", inotify_add, fd, "a", ALL)


@case
def once():
    """inotify(7) IN_ONESHOT: one event, then IN_IGNORED"""
    os.mkdir("d")
    def calls():
        os.mkdir("d/a")
        os.mkdir("d/b")
    same("events", heard("d", calls, CREATE | ONESHOT), [(CREATE | ISDIR, "a"), (IGNORED, "")])


@case
def directories_that_notify():
    """fcntl(2) F_NOTIFY: a signal when a directory changes"""
    F_NOTIFY, F_SETSIG, DN_CREATE = 1026, 10, 4
    os.mkdir("d")
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGIO])
    with opened("d") as fd:
        fcntl.fcntl(fd, F_NOTIFY, DN_CREATE)
        os.mkdir("d/x")
        holds("SIGIO", signal_within(signal.SIGIO, 20))


FAN_CLOEXEC, FAN_MARK_ADD, FAN_MARK_MOUNT, FAN_MARK_FILESYSTEM = 1, 1, 0x10, 0x100
FAN_REPORT_FID, FAN_REPORT_DFID_NAME = 0x200, 0xC00


def fanotify(init, mark, mask, path):
    fd = check(libc.fanotify_init(init | FAN_CLOEXEC | 2, os.O_RDONLY))
    check(libc.fanotify_mark(fd, FAN_MARK_ADD | mark, ctypes.c_uint64(mask), AT_FDCWD, path_bytes(path)))
    return fd


@case
def fanotify_of_a_file():
    """fanotify(7): tells who opens and changes a marked file"""
    write_file("a", b"x")
    fd = fanotify(0, 0, MODIFY | CLOSE_WRITE, "a")
    def write():
        with opened("a", os.O_WRONLY) as mine:
            os.write(mine, b"y")
        return os.getpid()
    pid = elsewhere(write)
    length, _, _, _, mask, file, who = struct.unpack_from("=IBBHQii", os.read(fd, 4096))
    same("process", who, pid)
    holds("change", mask & MODIFY and length >= 24)
    same("the file", os.fstat(file).st_ino, os.stat("a").st_ino)


@case
def fanotify_of_names():
    """fanotify(7) FAN_REPORT_DFID_NAME: tells the name and a handle of the directory"""
    os.mkdir("d")
    fd = fanotify(FAN_REPORT_DFID_NAME, 0, CREATE, "d")
    write_file("d/entry")
    data = os.read(fd, 4096)
    holds("the name", b"entry\0" in data)


@case
@differs("fanotify of a whole file system")
def fanotify_of_a_file_system():
    """fanotify(7) FAN_MARK_FILESYSTEM with FAN_REPORT_FID: marks a whole file system"""
    fd = fanotify(FAN_REPORT_FID, FAN_MARK_FILESYSTEM, CREATE, ".")
    os.close(fd)
