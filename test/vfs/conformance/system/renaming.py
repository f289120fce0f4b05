"""rename(2) and renameat2(2)."""
import itertools
import stat

from calls import *
from harness import *


def inode(path):
    return os.lstat(path).st_ino


@case
def the_target_is_replaced():
    """rename(2): the new name is the old file, and what it named loses a link"""
    write_file("a", b"new")
    write_file("b", b"old")
    number = inode("a")
    with opened("b") as fd:
        rename("a", "b")
        same("inode", inode("b"), number)
        same("links of what was replaced", os.fstat(fd).st_nlink, 0)
        same("its content", os.read(fd, 5), b"old")
    fails("ENOENT", os.stat, "a")


@case
def onto_itself():
    """rename(2): a name onto itself does nothing, and changes no time"""
    write_file("a", b"x")
    os.mkdir("d")
    same("times", changed(lambda: (rename("a", "a"), rename("d", "d"), rename("a", "./a")), "a", "d", "."), ["", "", ""])
    same("entries", sorted(os.listdir(".")), ["a", "d"])


@case
def onto_a_hard_link_of_itself():
    """rename(2): when both names are links of one file, nothing happens, and both stay"""
    write_file("a", b"x")
    os.link("a", "b")
    os.mkdir("d")
    os.link("a", "d/c")
    same("times", changed(lambda: (rename("a", "b"), rename("a", "d/c")), "a", "."), ["", ""])
    same("links", os.stat("a").st_nlink, 3)
    same("entries", sorted(os.listdir(".")), ["a", "b", "d"])


@case
@needs("renameFlags")
def exchanged_with_a_hard_link():
    """renameat2(2) RENAME_EXCHANGE of two links of one file: success, nothing changes"""
    write_file("a", b"x")
    os.link("a", "b")
    rename2("a", "b", RENAME_EXCHANGE)
    same("links", os.stat("a").st_nlink, 2)
    fails("EEXIST", rename2, "a", "b", RENAME_NOREPLACE)
    fails("EEXIST", rename2, "a", "a", RENAME_NOREPLACE)


@case
@needs("nameless")
def a_directory_onto_an_empty_one():
    """rename(2): a directory replaces an empty directory, whose open descriptor has no link left"""
    os.mkdir("a")
    write_file("a/f")
    os.mkdir("b")
    with opened("b", os.O_RDONLY) as fd:
        rename("a", "b")
        same("links of the replaced", os.fstat(fd).st_nlink, 0)
        fails("ENOENT", os.open, "x", os.O_CREAT | os.O_WRONLY, dir_fd=fd)
    same("entries", os.listdir("b"), ["f"])


@case
def a_directory_onto_a_full_one():
    """rename(2): onto a directory that is not empty: ENOTEMPTY"""
    os.mkdir("a")
    os.mkdir("b")
    write_file("b/f")
    fails("ENOTEMPTY EEXIST", rename, "a", "b")
    fails("EEXIST", rename2, "a", "b", RENAME_NOREPLACE)


@case
def kinds_do_not_mix():
    """rename(2): a directory onto a file is ENOTDIR, a file onto a directory EISDIR"""
    os.mkdir("d")
    write_file("f")
    os.symlink("d", "l")
    os.mkfifo("p")
    for name in ("f", "l", "p"):
        fails("ENOTDIR", rename, "d", name)
        fails("EISDIR", rename, name, "d")


@case
def into_itself():
    """rename(2): a directory into itself or below: EINVAL"""
    os.makedirs("a/b/c")
    for new in ("a/x", "a/b/x", "a/b/c/x"):
        fails("EINVAL", rename, "a", new)
    fails("EINVAL", rename2, "a", "a/b", RENAME_EXCHANGE)
    fails("EINVAL", rename2, "a/b/c", "a", RENAME_EXCHANGE)


@case
def onto_what_it_is_in():
    """rename(2): onto a directory that contains it: ENOTEMPTY"""
    os.makedirs("a/b/c")
    write_file("a/b/f")
    fails("ENOTEMPTY", rename, "a/b/c", "a")
    fails("ENOTEMPTY", rename, "a/b/c", "a/b")
    fails("ENOTEMPTY", rename, "a/b/f", "a")


@case
def missing_names():
    """rename(2): of nothing, or into a directory that is not there: ENOENT"""
    write_file("f")
    fails("ENOENT", rename, "missing", "g")
    fails("ENOENT", rename, "missing", "f")
    fails("ENOENT", rename, "f", "missing/g")
    fails("ENOENT", rename2, "f", "missing", RENAME_EXCHANGE)
    fails("ENOENT", rename2, "missing", "f", RENAME_NOREPLACE)


@case
def symbolic_links_are_not_followed():
    """rename(2): moves and replaces symbolic links themselves"""
    write_file("f", b"x")
    os.symlink("f", "l")
    rename("l", "m")
    same("moved", os.readlink("m"), "f")
    write_file("g", b"y")
    rename("g", "m")
    same("replaced", (read_file("m"), read_file("f")), (b"y", b"x"))


@case
def link_counts_of_parents():
    """rename(2), stat(2): a directory that moves takes its link from one parent to the other"""
    os.makedirs("a/d")
    os.mkdir("b")
    rename("a/d", "b/d")
    same("links", (os.stat("a").st_nlink, os.stat("b").st_nlink), (2, 3))
    same("..", os.stat("b/d/..").st_ino, inode("b"))
    os.mkdir("a/d")
    rename("b/d", "a/d")
    same("links after replacing", (os.stat("a").st_nlink, os.stat("b").st_nlink), (3, 2))


@case
@needs("renameFlags")
def exchange_of_files():
    """renameat2(2) RENAME_EXCHANGE: the names change places"""
    write_file("a", b"1")
    write_file("b", b"2")
    one, two = inode("a"), inode("b")
    rename2("a", "b", RENAME_EXCHANGE)
    same("inodes", (inode("a"), inode("b")), (two, one))
    same("content", (read_file("a"), read_file("b")), (b"2", b"1"))


@case
@needs("renameFlags")
def exchange_of_kinds():
    """renameat2(2) RENAME_EXCHANGE: a file and a directory that is not empty, across directories"""
    os.makedirs("x/d/below")
    os.mkdir("y")
    write_file("y/f", b"1")
    rename2("x/d", "y/f", RENAME_EXCHANGE)
    same("file", read_file("x/d"), b"1")
    same("directory", os.listdir("y/f"), ["below"])
    same("links", (os.stat("x").st_nlink, os.stat("y").st_nlink), (2, 3))
    same("..", os.stat("y/f/..").st_ino, inode("y"))


@case
@needs("renameFlags")
def no_replace():
    """renameat2(2) RENAME_NOREPLACE: EEXIST when the name is taken, be it by a dangling link"""
    write_file("a", b"1")
    write_file("b", b"2")
    os.mkdir("d")
    os.symlink("missing", "l")
    for name in ("b", "d", "l"):
        fails("EEXIST", rename2, "a", name, RENAME_NOREPLACE)
    rename2("a", "c", RENAME_NOREPLACE)
    same("content", read_file("c"), b"1")


@case
def flags_that_are_none():
    """renameat2(2): unknown flags, and EXCHANGE with NOREPLACE or WHITEOUT: EINVAL"""
    write_file("a")
    write_file("b")
    for flags in (8, 1 << 31, RENAME_EXCHANGE | RENAME_NOREPLACE, RENAME_EXCHANGE | RENAME_WHITEOUT):
        fails("EINVAL", rename2, "a", "b", flags)


@case
@needs("renameFlags")
def a_whiteout_stays():
    """renameat2(2) RENAME_WHITEOUT: the old name becomes a character device 0/0"""
    write_file("a", b"x")
    os.mkdir("d")
    rename2("a", "d/b", RENAME_WHITEOUT)
    s = os.lstat("a")
    holds("a character device", stat.S_ISCHR(s.st_mode))
    same("device, links and permissions", (s.st_rdev, s.st_nlink, Mode(stat.S_IMODE(s.st_mode))), (0, 1, Mode(0)))
    same("content", read_file("d/b"), b"x")
    holds("another inode", s.st_ino != inode("d/b"))


@case
@needs("renameFlags")
def a_whiteout_of_a_directory():
    """renameat2(2) RENAME_WHITEOUT: of a directory, and over a target, the link counts are right"""
    os.makedirs("x/d/below")
    os.makedirs("y/d")
    rename2("x/d", "y/d", RENAME_WHITEOUT)
    holds("a character device", stat.S_ISCHR(os.lstat("x/d").st_mode))
    same("links", (os.stat("x").st_nlink, os.stat("y").st_nlink), (2, 3))
    same("entries", os.listdir("y/d"), ["below"])
    os.unlink("x/d")


@case
@needs("renameFlags")
def a_whiteout_without_replacing():
    """renameat2(2) RENAME_WHITEOUT|RENAME_NOREPLACE: EEXIST when the name is taken"""
    write_file("a")
    write_file("b")
    fails("EEXIST", rename2, "a", "b", RENAME_WHITEOUT | RENAME_NOREPLACE)
    rename2("a", "c", RENAME_WHITEOUT | RENAME_NOREPLACE)
    same("entries", sorted(os.listdir(".")), ["a", "b", "c"])


@case
@needs("renameFlags")
def a_whiteout_by_a_user():
    """renameat2(2) RENAME_WHITEOUT: needs no capability; the whiteout is the user's"""
    make_directory("d", 0o777)
    write_file("d/a", b"", 0o644, ALICE)
    with ALICE:
        rename2("d/a", "d/b", RENAME_WHITEOUT)
    s = os.lstat("d/a")
    same("owner and device", (s.st_uid, s.st_gid, s.st_rdev), (ALICE.uid, ALICE.gid, 0))


@case
@needs("renameFlags")
def a_whiteout_onto_itself():
    """renameat2(2) RENAME_WHITEOUT: of a name onto itself or another link changes nothing"""
    write_file("a")
    os.link("a", "b")
    rename2("a", "b", RENAME_WHITEOUT)
    rename2("a", "a", RENAME_WHITEOUT)
    same("links", os.stat("a").st_nlink, 2)


@case
def an_open_file_is_moved():
    """rename(2): descriptors and mappings of a file that moves go on"""
    write_file("a", b"123")
    os.mkdir("d")
    with opened("a", os.O_RDWR) as fd:
        rename("a", "d/b")
        os.pwrite(fd, b"456", 3)
        same("content", read_file("d/b"), b"123456")
        same("path of the descriptor", os.path.basename(os.readlink(f"/proc/self/fd/{fd}")), "b")


@case
@needs("replacedNames", sure=False)
def readers_see_one_or_the_other():
    """rename(2): while a file is replaced again and again, its name always exists and is whole"""
    write_file("f", b"a" * 5000)
    def replace():
        for letter in itertools.islice(itertools.cycle(b"bcd"), 60):
            write_file("new", bytes([letter]) * 5000)
            rename("new", "f")
    child = Child(replace)
    while not readable(child.read_end, 0):
        data = read_file("f")
        holds("one content, whole", len(data) == 5000 and len(set(data)) == 1)
    child.result()


@case
def two_move_one():
    """rename(2): of two processes that move one name, one succeeds and the other has ENOENT"""
    for i in range(30):
        write_file(f"f{i}")
    def move(to):
        count = 0
        for i in range(30):
            try:
                rename(f"f{i}", f"{to}{i}")
                count += 1
            except FileNotFoundError:
                pass
        return count
    children = [Child(move, name) for name in ("a", "b")]
    same("moves", sum(child.result() for child in children), 30)
    same("entries", len(os.listdir(".")), 30)


@case
def directories_that_move_into_each_other():
    """rename(2): two processes that move two directories into each other never lose them"""
    os.makedirs("a")
    os.makedirs("b")
    def move(old, new, back):
        for _ in range(60):
            with contextlib.suppress(OSError):
                rename(old, new)
            with contextlib.suppress(OSError):
                rename(new, back)
    children = [Child(move, "a", "b/a", "a"), Child(move, "b", "a/b", "b")]
    for child in children:
        child.result()
    found = [name for _, directories, _ in os.walk(".") for name in directories]
    same("directories", sorted(found), ["a", "b"])


@case
@needs("renameFlags")
def names_of_255_bytes_change_places():
    """rename(2): names of the greatest length are moved and replaced"""
    old, new = "a" * 255, "b" * 255
    write_file(old, b"1")
    write_file(new, b"2")
    rename(old, new)
    same("content", read_file(new), b"1")
    rename2(new, old, RENAME_NOREPLACE)
    same("entries", os.listdir("."), [old])


@case
def another_file_system():
    """rename(2), link(2): to another file system: EXDEV"""
    write_file("f")
    here = os.getcwd()
    fails("EXDEV", rename, f"{here}/f", f"/dev/shm/lsnfs-{os.getpid()}")
    fails("EXDEV", os.link, f"{here}/f", f"/dev/shm/lsnfs-{os.getpid()}")
    fails("EXDEV", os.link, "/proc/version", "g")


@case
def a_mount_point_is_busy():
    """rename(2), rmdir(2): of a directory that something is mounted on: EBUSY"""
    os.mkdir("d")
    os.mkdir("e")
    os.mkdir("f")
    def work():
        unshare(CLONE_NEWNS)
        mount(None, "/", MS_REC | MS_PRIVATE)
        mount("e", "d", MS_BIND)
        fails("EBUSY", rename, "d", "x")
        fails("EBUSY", rename, "f", "d")
        fails("EBUSY", os.rmdir, "d")
        write_file("d/inner", b"x")
        fails("EXDEV", rename, "d/inner", "outer")
        fails("EXDEV", os.link, "d/inner", "outer")
        same("through the bind mount", read_file("e/inner"), b"x")
    elsewhere(work)
