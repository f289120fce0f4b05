"""FIFOs, sockets and device nodes."""
import socket
import stat

from calls import *
from harness import *


@case
def a_fifo_connects():
    """mkfifo(3), open(2): a FIFO carries data between processes, and ends when the writer closes"""
    os.mkfifo("p", 0o644)
    def writer():
        with opened("p", os.O_WRONLY) as fd:
            os.write(fd, b"x" * 100_000)
    child = Child(writer)
    with opened("p") as fd:
        same("data", len(b"".join(iter(lambda: os.read(fd, 65_536), b""))), 100_000)
    child.result()
    same("size", os.stat("p").st_size, 0)


@case
def a_fifo_without_a_reader():
    """open(2) O_NONBLOCK: a FIFO for writing without a reader: ENXIO; for reading it opens"""
    os.mkfifo("p")
    fails("ENXIO", os.open, "p", os.O_WRONLY | os.O_NONBLOCK)
    with opened("p", os.O_RDONLY | os.O_NONBLOCK) as fd:
        same("read", os.read(fd, 10), b"")
        with opened("p", os.O_WRONLY | os.O_NONBLOCK) as writer:
            fails("EAGAIN", os.read, fd, 10)
            os.write(writer, b"abc")
            same("read", os.read(fd, 10), b"abc")


@case
def a_fifo_whose_reader_has_gone():
    """write(2): to a FIFO whose reader has gone: EPIPE and SIGPIPE"""
    os.mkfifo("p")
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    reader = os.open("p", os.O_RDONLY | os.O_NONBLOCK)
    with opened("p", os.O_WRONLY) as fd:
        os.close(reader)
        fails("EPIPE", os.write, fd, b"x")


@case
@needs("hardLinks", sure=False)
def a_fifo_by_two_names():
    """link(2), rename(2): a FIFO is one by all its names, also while it is open"""
    os.mkfifo("p")
    os.link("p", "q")
    with opened("p", os.O_RDWR) as fd:
        rename("p", "r")
        with opened("q", os.O_WRONLY) as writer:
            os.write(writer, b"abc")
        os.unlink("q")
        os.unlink("r")
        same("read", os.read(fd, 10), b"abc")


@case
@needs("nanoseconds")
def rights_of_fifos():
    """open(2): a FIFO's mode counts; its times and owner can be changed"""
    os.mkfifo("p", 0o600)
    with BOB:
        fails("EACCES", os.open, "p", os.O_RDONLY | os.O_NONBLOCK)
    os.chown("p", BOB.uid, BOB.gid)
    utimensat("p", 5, 6)
    same("times", times("p")[:2], (5, 6))
    with BOB:
        os.close(os.open("p", os.O_RDONLY | os.O_NONBLOCK))


@case
def a_socket_has_a_name():
    """bind(2), connect(2): a socket is found by its name, and is refused when nobody listens"""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s")
        holds("a socket", stat.S_ISSOCK(os.lstat("s").st_mode))
        server.listen()
        def client():
            with socket.socket(socket.AF_UNIX) as mine:
                mine.connect("s")
                mine.sendall(b"hello")
        child = Child(client)
        connection, _ = server.accept()
        same("data", connection.recv(10), b"hello")
        child.result()
        with socket.socket(socket.AF_UNIX) as other:
            fails("EADDRINUSE", other.bind, "s")
    with socket.socket(socket.AF_UNIX) as late:
        fails("ECONNREFUSED", late.connect, "s")
    fails("ENXIO", os.open, "s", os.O_RDWR)
    os.unlink("s")
    with socket.socket(socket.AF_UNIX) as late:
        fails("ENOENT", late.connect, "s")


@case
def rights_of_sockets():
    """connect(2), unix(7): needs w on the socket: EACCES; bind(2) w on the directory"""
    make_directory("d", 0o755)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("d/s")
        server.listen()
        os.chmod("d/s", 0o755)
        def client():
            with socket.socket(socket.AF_UNIX) as mine:
                mine.connect("d/s")
        def refused():
            fails("EACCES", client)
            with socket.socket(socket.AF_UNIX) as mine:
                fails("EACCES", mine.bind, "d/t")
        elsewhere(refused, user=BOB)
        os.chmod("d/s", 0o777)
        elsewhere(client, user=BOB)


@case
@needs("hardLinks")
def a_socket_by_another_name():
    """rename(2), link(2): a socket answers under all of its names"""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind("s")
        os.link("s", "t")
        rename("s", "u")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            for name in ("t", "u"):
                client.sendto(name.encode(), name)
                same(name, server.recv(10), name.encode())
            fails("ENOENT", client.sendto, b"x", "s")


@case
def mknod_makes_sockets():
    """mknod(2) S_IFSOCK: a socket without anybody behind it: ECONNREFUSED"""
    mknod("s", stat.S_IFSOCK | 0o666)
    with socket.socket(socket.AF_UNIX) as client:
        fails("ECONNREFUSED", client.connect, "s")


@case
def device_numbers():
    """mknod(2), stat(2): all 12 bits of major and 20 of minor are kept"""
    numbers = ((1, 3), (0xFFF, 0xFFFFF), (0, 1), (8, 256), (259, 0x12345), (5, 0))
    for index, (major, minor) in enumerate(numbers):
        for kind, letter in ((stat.S_IFCHR, "c"), (stat.S_IFBLK, "b")):
            name = f"{letter}{index}"
            mknod(name, kind | 0o640, os.makedev(major, minor))
            s = os.lstat(name)
            same(name, (os.major(s.st_rdev), os.minor(s.st_rdev), s.st_mode), (major, minor, kind | 0o640))


@case
def devices_are_roots():
    """mknod(2): a user makes FIFOs, sockets and files, and no devices: EPERM; but the whiteout 0/0"""
    make_directory("d", 0o777)
    with BOB:
        fails("EPERM", mknod, "d/c", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        fails("EPERM", mknod, "d/b", stat.S_IFBLK | 0o666, os.makedev(7, 0))
        mknod("d/whiteout", stat.S_IFCHR | 0o000, 0)
        mknod("d/p", stat.S_IFIFO | 0o644)
        mknod("d/s", stat.S_IFSOCK | 0o644)
        mknod("d/f", stat.S_IFREG | 0o644)
        mknod("d/g", 0o644)
    holds("a file", stat.S_ISREG(os.stat("d/g").st_mode))


@case
@needs("nanoseconds")
def devices_do_not_open():
    """open(2), mount(8) nodev: a device node is not opened: EACCES; its attributes can be changed"""
    mknod("c", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    mknod("b", stat.S_IFBLK | 0o666, os.makedev(7, 0))
    for name in ("c", "b"):
        fails("EACCES", os.open, name, os.O_RDONLY)
        fails("EACCES", os.open, name, os.O_WRONLY | os.O_TRUNC)
        os.chmod(name, 0o600)
        os.chown(name, 1, 1)
        utimensat(name, 5, 6)
        same("times", times(name)[:2], (5, 6))


@case
def kinds_that_are_none():
    """mknod(2): a directory is EPERM, a symbolic link or an unknown kind EINVAL"""
    fails("EPERM", mknod, "x", stat.S_IFDIR | 0o755)
    fails("EINVAL", mknod, "x", stat.S_IFLNK | 0o777)
    fails("EINVAL", mknod, "x", 0o170000 | 0o644)
    same("entries", os.listdir("."), [])


@case
def nodes_without_content():
    """truncate(2), setxattr(2) user.*, readlink(2) of nodes: EINVAL and EPERM"""
    os.mkfifo("p")
    mknod("s", stat.S_IFSOCK | 0o644)
    mknod("c", stat.S_IFCHR | 0o644, os.makedev(1, 3))
    for name in ("p", "s", "c"):
        fails("EINVAL", os.readlink, name)
        fails("EINVAL", os.truncate, name, 0)
        fails("EPERM", os.setxattr, name, "user.a", b"1")
        os.setxattr(name, "trusted.a", b"1")
        os.setxattr(name, "security.a", b"1")
        same("xattrs", sorted(os.listxattr(name)), ["security.a", "trusted.a"])
