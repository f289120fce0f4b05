"""Directories: links, listings, listings of what changes, working directories that are gone."""
import stat

from calls import *
from harness import *

DT = {"fifo": 1, "chr": 2, "dir": 4, "blk": 6, "reg": 8, "lnk": 10, "sock": 12}


def names_of(entries):
    return [entry[0] for entry in entries if entry[0] not in (b".", b"..")]


def listing(fd, size=32768):
    entries = []
    while True:
        some = getdents(fd, size)
        if not some:
            return entries
        entries.extend(some)


def fill(path, count):
    os.mkdir(path)
    for i in range(count):
        mknod(f"{path}/entry-{i:06}", stat.S_IFREG | 0o644)


@case
def links_of_directories():
    """stat(2) st_nlink: a directory has two links and one more for each directory in it"""
    os.mkdir("d")
    same("empty", os.stat("d").st_nlink, 2)
    os.makedirs("d/a/b")
    os.mkdir("d/c")
    write_file("d/f")
    os.symlink("c", "d/l")
    same("with two", os.stat("d").st_nlink, 4)
    os.rmdir("d/c")
    same("with one", os.stat("d").st_nlink, 3)


@case
def only_empty_ones_go():
    """rmdir(2): a directory that is not empty: ENOTEMPTY; what is none: ENOTDIR"""
    os.mkdir("d")
    for make, remove in ((write_file, os.unlink), (os.mkdir, os.rmdir), (os.mkfifo, os.unlink)):
        make("d/x")
        fails("ENOTEMPTY", os.rmdir, "d")
        remove("d/x")
    os.rmdir("d")
    write_file("f")
    os.symlink("missing", "l")
    fails("ENOTDIR", os.rmdir, "f")
    fails("ENOTDIR", os.rmdir, "l")
    fails("ENOENT", os.rmdir, "missing")
    os.mkdir("e")
    fails("EISDIR", os.unlink, "e")


@case
def what_exists_is_not_made():
    """mkdir(2), mknod(2), symlink(2): over a file, a directory, a dangling link: EEXIST"""
    write_file("f")
    os.mkdir("d")
    os.symlink("missing", "l")
    for name in ("f", "d", "l"):
        fails("EEXIST", os.mkdir, name)
        fails("EEXIST", os.mkfifo, name)
        fails("EEXIST", os.symlink, "x", name)


@case
def entries_have_types_and_inodes():
    """getdents(2): d_type and d_ino are those of the entries, and of "." and ".." """
    import socket
    os.mkdir("d")
    with inside("d"):
        write_file("reg")
        os.mkdir("dir")
        os.symlink("x", "lnk")
        os.mkfifo("fifo")
        mknod("chr", stat.S_IFCHR | 0o644, os.makedev(1, 3))
        mknod("blk", stat.S_IFBLK | 0o644, os.makedev(7, 200))
        mknod("sock", stat.S_IFSOCK | 0o644)
    with opened("d") as fd:
        entries = {entry[0].decode(): entry for entry in listing(fd)}
    same("types", {name: entries[name][2] for name in DT}, DT)
    for name in DT:
        same(f"inode of {name}", entries[name][1], os.lstat(f"d/{name}").st_ino)
    same(".", entries["."][1:3], (os.stat("d").st_ino, 4))
    same("..", entries[".."][1:3], (os.stat(".").st_ino, 4))


@case
def small_buffers():
    """getdents(2): a buffer that holds no entry is EINVAL; small ones give all entries once"""
    fill("d", 50)
    with opened("d") as fd:
        fails("EINVAL", getdents, fd, 16)
        found = names_of(listing(fd, 100))
    same("entries", sorted(found), [b"entry-%06d" % i for i in range(50)])


@case
def each_descriptor_lists_by_itself():
    """getdents(2), lseek(2): two descriptors do not disturb each other; rewinding shows what is new"""
    fill("d", 20)
    with opened("d") as one, opened("d") as two:
        first = getdents(one, 200)
        same("all by the other", len(listing(two)), 22)
        rest = listing(one)
        same("all by the first", len(first) + len(rest), 22)
        write_file("d/new")
        same("at the end", getdents(one), [])
        os.lseek(one, 0, os.SEEK_SET)
        holds("rewound", b"new" in names_of(listing(one)))


@case
def places_can_be_gone_back_to():
    """telldir(3), seekdir(3): going back to the place behind an entry lists what came behind it"""
    fill("d", 100)
    with opened("d") as fd:
        entries = listing(fd, 300)
        for index in (0, 1, 40, 99):
            os.lseek(fd, entries[index][3], os.SEEK_SET)
            same(f"behind entry {index}", [entry[0] for entry in listing(fd, 500)], [entry[0] for entry in entries[index + 1:]])


@case
def places_hold_for_another_descriptor():
    """getdents(2) d_off: of a directory that does not change, holds for another descriptor of it"""
    fill("d", 60)
    with opened("d") as one, opened("d") as two:
        entries = listing(one)
        os.lseek(two, entries[30][3], os.SEEK_SET)
        same("entries", [entry[0] for entry in listing(two)], [entry[0] for entry in entries[31:]])


@case
def removing_while_listing():
    """getdents(2), unlink(2): removing what was listed leaves none out, as rm -r does it"""
    fill("d", 500)
    with opened("d") as fd:
        while some := names_of(getdents(fd, 1000)):
            for name in some:
                os.unlink(name, dir_fd=fd)
    os.rmdir("d")


@case
def adding_while_listing():
    """getdents(2): what is there all the time is listed once while others come and go"""
    fill("d", 500)
    with opened("d") as fd:
        found = []
        for i in range(10_000):
            some = names_of(getdents(fd, 600))
            if not some:
                break
            found.extend(some)
            write_file(f"d/new-{i}")
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"d/entry-{(i * 37) % 500 // 2 * 2:06}")
            if i % 3 == 0:
                rename(f"d/new-{i}", f"d/again-{i}")
    stays = [name for name in found if name.startswith(b"entry-") and int(name[6:]) % 2]
    same("those that stayed", sorted(stays), [b"entry-%06d" % i for i in range(1, 500, 2)])


@case
def many_entries():
    """getdents(2), open(2) O_CREAT: fifteen hundred entries are made, found, listed and removed"""
    fill("d", 1500)
    same("listed", len(set(os.listdir("d"))), 1500)
    for i in range(0, 1500, 7):
        same("link count", os.stat(f"d/entry-{i:06}").st_nlink, 1)
    for i in range(1500):
        os.unlink(f"d/entry-{i:06}")
    same("listed", os.listdir("d"), [])


@case
@long
def a_million_entries():
    """getdents(2), open(2) O_CREAT: a million entries are made, listed, found and removed"""
    fill("d", 1_000_000)
    with opened("d") as fd:
        found = names_of(listing(fd, 1 << 20))
    same("listed", (len(found), len(set(found))), (1_000_000, 1_000_000))
    for i in range(0, 1_000_000, 997):
        os.stat(f"d/entry-{i:06}")
    for i in range(1_000_000):
        os.unlink(f"d/entry-{i:06}")
    os.rmdir("d")


@case
@long
@differs("link counts of large directories")
def more_subdirectories_than_links():
    """mkdir(2), stat(2) st_nlink: a directory with more than 65,000 directories has 1 link, which means many"""
    os.mkdir("d")
    for i in range(65_010):
        os.mkdir(f"d/{i}")
    same("links", os.stat("d").st_nlink, 1)


@case
@needs("nameless")
def a_working_directory_that_is_gone():
    """rmdir(2) of the working directory: getcwd is ENOENT, making is ENOENT, it is empty, and ".." leads on"""
    here = os.getcwd()
    os.mkdir("d")
    os.chdir("d")
    os.rmdir("../d")
    fails("ENOENT", os.getcwd)
    fails("ENOENT", os.open, "f", os.O_CREAT | os.O_WRONLY)
    fails("ENOENT", os.mkdir, "e")
    fails("ENOENT", os.symlink, "x", "l")
    fails("ENOENT EPERM", os.open, ".", os.O_TMPFILE | os.O_RDWR)
    fails("ENOENT", os.stat, "missing")
    same("links", os.stat(".").st_nlink, 0)
    os.chdir("..")
    same("getcwd", os.getcwd(), here)


@case
@needs("nameless")
def an_open_directory_that_is_gone():
    """rmdir(2), getdents(2): listing a directory that was removed: ENOENT; its descriptor can be asked"""
    os.mkdir("d")
    with opened("d") as fd:
        os.rmdir("d")
        fails("ENOENT", getdents, fd)
        same("links", os.fstat(fd).st_nlink, 0)
        os.fchmod(fd, 0o700)
        os.mkdir("d")
        holds("another inode", os.stat("d").st_ino != os.fstat(fd).st_ino)
        fails("ENOENT", os.mkdir, "e", dir_fd=fd)


@case
def moving_into_one_that_is_gone():
    """rename(2), link(2) into a directory that was removed: ENOENT"""
    os.mkdir("d")
    write_file("f")
    with opened("d") as fd:
        os.rmdir("d")
        fails("ENOENT", os.rename, "f", "g", dst_dir_fd=fd)
        fails("ENOENT", os.link, "f", "g", dst_dir_fd=fd)


@case
def removing_needs_no_emptiness_elsewhere():
    """rmdir(2): a directory that is open, or the working directory of another process, is removed"""
    os.mkdir("d")
    gate, ready = Gate(), Gate()
    def other():
        os.chdir("d")
        ready.open()
        gate.wait()
        fails("ENOENT", os.getcwd)
    child = Child(other)
    ready.wait()
    with opened("d"):
        os.rmdir("d")
    gate.open()
    child.result()


@case
def opening_directories():
    """open(2): a directory for writing, or with O_CREAT or O_TRUNC: EISDIR"""
    os.mkdir("d")
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_CREAT | os.O_RDWR, os.O_WRONLY | os.O_TRUNC,
                  os.O_RDONLY | os.O_TRUNC):
        fails("EISDIR", os.open, "d", flags)
    fails("EEXIST", os.open, "d", os.O_CREAT | os.O_EXCL)
    fails("EINVAL EISDIR", os.open, "d", os.O_CREAT | os.O_DIRECTORY)
    write_file("f")
    fails("ENOTDIR", os.open, "f", os.O_DIRECTORY)
    fails("ENOTDIR", lambda: opened_listing("f"))


def opened_listing(path):
    with opened(path) as fd:
        return getdents(fd)


@case
def two_make_one():
    """mkdir(2), open(2) O_EXCL: of processes that make one name, one succeeds and the others have EEXIST"""
    def make():
        made = 0
        for i in range(40):
            for call in (lambda: os.mkdir(f"d{i}"), lambda: os.close(os.open(f"f{i}", os.O_CREAT | os.O_EXCL))):
                try:
                    call()
                    made += 1
                except FileExistsError:
                    pass
        return made
    children = [Child(make) for _ in range(3)]
    same("made", sum(child.result() for child in children), 80)


@case
def modes_of_new_directories():
    """mkdir(2): takes the permissions and sticky, and neither setuid nor setgid"""
    for mode in (0, 0o777, 0o1777, 0o7777, 0o555):
        os.mkdir("d", mode)
        same_mode(oct(mode), "d", mode & 0o1777)
        os.rmdir("d")


@case
def walking_up_a_moved_directory():
    """rename(2), path_resolution(7): ".." of an open directory leads to where it is now"""
    os.makedirs("a/d")
    os.mkdir("b")
    with opened("a/d") as fd:
        rename("a/d", "b/d")
        same("..", os.stat("..", dir_fd=fd).st_ino, os.stat("b").st_ino)


@case
def sizes_of_directories():
    """stat(2): a directory's st_size is not 0, and st_blksize a power of two"""
    os.mkdir("d")
    write_file("d/f")
    s = os.stat("d")
    holds("size", s.st_size > 0)
    holds("block size", s.st_blksize >= 512 and s.st_blksize & (s.st_blksize - 1) == 0)
