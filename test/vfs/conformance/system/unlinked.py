"""Files without a name: unlinked while they are open, replaced, O_TMPFILE."""
import mmap
import socket
import stat

from calls import *
from harness import *

RW = os.O_RDWR | os.O_CREAT


@contextlib.contextmanager
def nameless(data=b"content"):
    write_file("f", data)
    with opened("f", os.O_RDWR) as fd:
        os.unlink("f")
        yield fd


@case
@needs("fallocate")
def it_can_be_used():
    """unlink(2): an open file without a name is read, written, truncated and synced, and has no link"""
    with nameless() as fd:
        same("links", os.fstat(fd).st_nlink, 0)
        same("read", os.read(fd, 100), b"content")
        os.pwrite(fd, b"X" * 100_000, 5)
        os.ftruncate(fd, 50_000)
        os.fsync(fd)
        same("content", os.pread(fd, 10, 0), b"conteXXXXX")
        same("size", os.fstat(fd).st_size, 50_000)
        fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 0, 4096)
        same("punched", os.pread(fd, 5, 0), bytes(5))


@case
@needs("nanoseconds")
def its_attributes_can_be_changed():
    """fchmod(2), fchown(2), futimens(2), fsetxattr(2): work on a file without a name"""
    with nameless() as fd:
        os.fchmod(fd, 0o600)
        os.fchown(fd, 5, 6)
        os.utime(fd, ns=(7, 8))
        os.setxattr(fd, "user.a", b"1")
        s = os.fstat(fd)
        same("attributes", (s.st_mode & 0o777, s.st_uid, s.st_gid, s.st_mtime_ns), (0o600, 5, 6, 8))
        same("xattr", os.getxattr(fd, "user.a"), b"1")


@case
def a_new_file_has_the_name():
    """unlink(2), open(2) O_CREAT: a new file of that name is another"""
    with nameless(b"old") as fd:
        write_file("f", b"new")
        holds("another inode", os.fstat(fd).st_ino != os.stat("f").st_ino)
        same("old", os.pread(fd, 5, 0), b"old")
        same("new", read_file("f"), b"new")


@case
def it_is_opened_through_proc():
    """open(2) of /proc/self/fd: opens a file without a name again, with a mode and an offset of its own"""
    with nameless() as fd:
        with opened(f"/proc/self/fd/{fd}", os.O_RDONLY) as again:
            same("read", os.read(again, 3), b"con")
            fails("EBADF", os.write, again, b"x")
        with opened(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_TRUNC) as again:
            os.write(again, b"new")
        same("content", os.pread(fd, 10, 0), b"new")
        holds("the link says so", os.readlink(f"/proc/self/fd/{fd}").endswith("/f (deleted)"))


@case
def it_gets_no_name_again():
    """linkat(2): a file whose last name was removed gets none: ENOENT"""
    with nameless() as fd:
        fails("ENOENT", link_fd, fd, "g")


@case
@needs("hardLinks")
def one_of_two_names():
    """unlink(2): with another name left, the file can get more names"""
    write_file("f", b"x")
    os.link("f", "g")
    with opened("f") as fd:
        os.unlink("f")
        link_fd(fd, "h")
        same("links", os.fstat(fd).st_nlink, 2)


@case
def a_mapping_without_name():
    """mmap(2), unlink(2): a mapping of a file without name or descriptor goes on"""
    write_file("f", b"x" * 8192)
    fd = os.open("f", os.O_RDWR)
    os.unlink("f")
    with mmap.mmap(fd, 8192) as memory:
        os.close(fd)
        memory[:3] = b"abc"
        memory.flush()
        memory.madvise(mmap.MADV_DONTNEED)
        same("content", memory[:4], b"abcx")


@case
@needs("fallocate")
def its_space_is_held():
    """unlink(2), fstat(2): size and blocks stay as long as a descriptor is open"""
    size = 64 << 20
    with opened("f", RW) as fd:
        fallocate(fd, 0, 0, size)
        os.fsync(fd)
        os.unlink("f")
        s = os.fstat(fd)
        holds("blocks are held", s.st_blocks * 512 >= size)
        same("size", s.st_size, size)


@case
@needs("nameless")
def the_name_of_a_directory_above_goes():
    """unlink(2), rmdir(2): a file stays open when all directories above it are gone"""
    os.makedirs("a/b")
    write_file("a/b/f", b"content")
    with opened("a/b/f", os.O_RDWR) as fd:
        os.unlink("a/b/f")
        os.rmdir("a/b")
        os.rmdir("a")
        os.write(fd, b"X")
        same("content", os.pread(fd, 10, 0), b"Xontent")


@case
def what_a_rename_replaced():
    """rename(2): an open file that was replaced has no link and goes on"""
    write_file("a", b"new")
    write_file("b", b"old")
    with opened("b", os.O_RDWR) as fd:
        rename("a", "b")
        os.pwrite(fd, b"!", 3)
        same("old", (os.pread(fd, 10, 0), os.fstat(fd).st_nlink), (b"old!", 0))
        same("new", read_file("b"), b"new")


@case
def a_moved_and_unlinked_file():
    """rename(2), unlink(2): an open file across both, under new names"""
    write_file("a", b"1")
    os.mkdir("d")
    with opened("a", os.O_RDWR) as fd:
        rename("a", "d/b")
        os.write(fd, b"2")
        rename("d/b", "c")
        os.unlink("c")
        os.write(fd, b"3")
        same("content", os.pread(fd, 10, 0), b"23")
        same("directory", os.listdir("d"), [])


@case
@needs("tmpfile")
def temporary_files():
    """open(2) O_TMPFILE: a file without a name, with mode, owner and no link; linkat(2) names it"""
    make_directory("d", 0o777)
    os.umask(0o027)
    with BOB:
        with opened("d", os.O_TMPFILE | os.O_RDWR, 0o666) as fd:
            s = os.fstat(fd)
            same("attributes", (s.st_nlink, s.st_uid, s.st_mode), (0, BOB.uid, stat.S_IFREG | 0o640))
            os.write(fd, b"content")
            same("listing", os.listdir("d"), [])
            link_fd(fd, "d/named")
            same("links", os.fstat(fd).st_nlink, 1)
            fails("EEXIST", link_fd, fd, "d/named")
    same("content", read_file("d/named"), b"content")


@case
@needs("tmpfile")
def temporary_files_that_stay_so():
    """open(2) O_TMPFILE|O_EXCL: gets no name: ENOENT; O_TMPFILE needs w: EACCES, EINVAL for O_RDONLY"""
    with opened(".", os.O_TMPFILE | os.O_EXCL | os.O_RDWR) as fd:
        fails("ENOENT", link_fd, fd, "named")
    fails("EINVAL", os.open, ".", os.O_TMPFILE | os.O_RDONLY)
    make_directory("d", 0o755)
    write_file("f")
    fails("ENOTDIR", os.open, "f", os.O_TMPFILE | os.O_RDWR)
    with BOB:
        fails("EACCES", os.open, "d", os.O_TMPFILE | os.O_RDWR)


@case
@needs("tmpfile")
def a_named_temporary_file_lives():
    """linkat(2), unlink(2): a temporary file that was named and unlinked gets no second name"""
    with opened(".", os.O_TMPFILE | os.O_RDWR) as fd:
        link_fd(fd, "f")
        os.unlink("f")
        fails("ENOENT", link_fd, fd, "g")
        os.write(fd, b"x")


@case
def a_descriptor_that_travels():
    """unix(7) SCM_RIGHTS: a file without a name is passed on, and lives in another process"""
    one, two = socket.socketpair()
    with nameless(b"passed") as fd:
        socket.send_fds(one, [b"x"], [fd])
    def receive():
        _, fds, _, _ = socket.recv_fds(two, 10, 1)
        same("links", os.fstat(fds[0]).st_nlink, 0)
        os.pwrite(fds[0], b"P", 0)
        return os.pread(fds[0], 10, 0)
    same("content", elsewhere(receive), b"Passed")


@case
def names_can_be_used_again_and_again():
    """open(2), unlink(2): hundreds of open files have had one name"""
    fds = []
    for i in range(200):
        fd = os.open("f", RW | os.O_EXCL)
        os.write(fd, b"%d" % i)
        os.unlink("f")
        fds.append(fd)
    same("inodes", len({os.fstat(fd).st_ino for fd in fds}), 200)
    for i, fd in enumerate(fds):
        same("content", os.pread(fd, 10, 0), b"%d" % i)


@case
@needs("nameless")
def a_symbolic_link_without_name():
    """unlink(2), open(2) O_PATH: an open symbolic link is read when its name is gone"""
    os.symlink("target", "l")
    with opened("l", os.O_PATH | os.O_NOFOLLOW) as fd:
        os.unlink("l")
        same("target", os.readlink("", dir_fd=fd), "target")
        same("links", os.fstat(fd).st_nlink, 0)
