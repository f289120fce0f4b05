"""open(2) and its flags, descriptors and what can be asked of them."""
import mmap
import select as polling
import socket
import stat

from calls import *
from harness import *


@case
def making_and_opening():
    """open(2): O_CREAT makes what is not there, O_EXCL refuses what is: EEXIST; without O_CREAT ENOENT"""
    fails("ENOENT", os.open, "f", os.O_RDWR)
    os.close(os.open("f", os.O_CREAT | os.O_EXCL | os.O_RDONLY, 0o400))
    fails("EEXIST", os.open, "f", os.O_CREAT | os.O_EXCL)
    os.close(os.open("f", os.O_CREAT | os.O_RDWR, 0o777))
    same_mode("mode", "f", 0o400)


@case
def truncating():
    """open(2) O_TRUNC: empties a file; the mode is not the new one"""
    write_file("f", b"x" * 10_000, 0o600)
    os.close(os.open("f", os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o644))
    same("size, mode", (os.stat("f").st_size, mode_of("f")), (0, 0o600))


@case
def a_path_only():
    """open(2) O_PATH: needs no right on the file, and is no descriptor for reading: EBADF"""
    write_file("f", b"x", 0, ALICE)
    with BOB, opened("f", os.O_PATH) as fd:
        for call in (lambda: os.read(fd, 1), lambda: os.fchmod(fd, 0), lambda: os.getxattr(fd, "user.a"),
                     lambda: os.ftruncate(fd, 0), lambda: mmap.mmap(fd, 1)):
            fails("EBADF", call)
        same("size", os.fstat(fd).st_size, 1)
        fails("EACCES", os.open, f"/proc/self/fd/{fd}", os.O_RDONLY)


@case
def flags_are_told():
    """fcntl(2) F_GETFL: tells access mode and status flags, not those of creation"""
    with opened("f", os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NONBLOCK) as fd:
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        same("flags", flags & (os.O_ACCMODE | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NONBLOCK),
             os.O_RDWR | os.O_APPEND | os.O_NONBLOCK)


@case
def a_flag_for_no_access():
    """open(2) with access mode 3: needs r and w, and neither reads nor writes: EBADF"""
    write_file("f", b"x", 0o444, ALICE)
    with BOB:
        fails("EACCES", os.open, "f", 3)
    with opened("f", 3) as fd:
        fails("EBADF", os.read, fd, 1)
        fails("EBADF", os.write, fd, b"x")


@case
def polling_files():
    """poll(2), select(2): a regular file is always ready"""
    write_file("f", b"x")
    with opened("f", os.O_RDWR) as fd:
        poll = polling.poll()
        poll.register(fd, polling.POLLIN | polling.POLLOUT)
        same("poll", poll.poll(0), [(fd, polling.POLLIN | polling.POLLOUT)])
        same("select", polling.select([fd], [fd], [], 0), ([fd], [fd], []))


@case
@differs("epoll of files")
def epoll_of_files():
    """epoll_ctl(2): a regular file is refused: EPERM"""
    write_file("f", b"x")
    with opened("f", os.O_RDWR) as fd, polling.epoll() as epoll:
        fails("EPERM", epoll.register, fd, polling.EPOLLIN)


@case
def bytes_that_are_left():
    """ioctl(2) FIONREAD: how many bytes lie behind the offset; unknown requests are ENOTTY"""
    FIONREAD = 0x541B
    write_file("f", b"x" * 100)
    with opened("f") as fd:
        os.lseek(fd, 30, os.SEEK_SET)
        same("FIONREAD", struct.unpack("=i", fcntl.ioctl(fd, FIONREAD, bytes(4)))[0], 70)
        fails("ENOTTY", fcntl.ioctl, fd, 0x5401, bytes(64))
        fails("ENOTTY", fcntl.ioctl, fd, 0x12345678, bytes(64))
        same("isatty", os.isatty(fd), False)


@case
def descriptors_travel():
    """unix(7) SCM_RIGHTS: an open file is passed with its offset"""
    write_file("f", b"0123456789")
    one, two = socket.socketpair()
    with opened("f") as fd:
        os.read(fd, 3)
        socket.send_fds(one, [b"x"], [fd])
        def receive():
            got = socket.recv_fds(two, 1, 1)[1][0]
            return os.read(got, 2)
        same("there", elsewhere(receive), b"34")
        same("here", os.read(fd, 2), b"56")


@case
def closed_on_exec():
    """open(2) O_CLOEXEC: the descriptor is not the next program's, and a lock on it ends"""
    write_file("f")
    fd = os.open("f", os.O_RDWR | os.O_CLOEXEC)
    kept = os.open("f", os.O_RDWR)
    os.set_inheritable(kept, True)
    pid = os.fork()
    if pid == 0:
        os.execv("/bin/sh", ["sh", "-c", f"[ -e /proc/self/fd/{kept} ] && [ ! -e /proc/self/fd/{fd} ]"])
    same("status", os.waitpid(pid, 0)[1], 0)


@case
def opened_again_by_proc():
    """open(2) of /proc/self/fd/N: another open file of the same inode, by the file's mode of now"""
    write_file("f", b"abc", 0o644, ALICE)
    with ALICE, opened("f") as fd:
        with opened(f"/proc/self/fd/{fd}", os.O_RDWR) as again:
            os.write(again, b"X")
            same("offset of its own", os.read(fd, 3), b"Xbc")


@case
def two_opens_of_a_replaced_file():
    """open(2), rename(2): who opened before a rename and after have different files"""
    write_file("f", b"old")
    write_file("g", b"new")
    with opened("f") as before:
        rename("g", "f")
        with opened("f") as after:
            same("content", (os.read(before, 5), os.read(after, 5)), (b"old", b"new"))


@case
def closing_twice():
    """close(2): a closed descriptor is EBADF for every call"""
    write_file("f")
    fd = os.open("f", os.O_RDWR)
    os.close(fd)
    for call in (lambda: os.close(fd), lambda: os.fstat(fd), lambda: os.fsync(fd), lambda: os.lseek(fd, 0, 0),
                 lambda: os.ftruncate(fd, 0), lambda: fcntl.flock(fd, fcntl.LOCK_EX)):
        fails("EBADF", call)


@case
def cached_opening():
    """openat2(2) RESOLVE_CACHED: opens what is known, or EAGAIN"""
    write_file("f", b"x")
    os.stat("f")
    try:
        os.close(openat2("f", os.O_RDONLY, resolve=RESOLVE_CACHED))
    except BlockingIOError:
        pass


@case
def writes_at_once_by_many():
    """pwrite(2): processes that write different places of one file at once lose nothing"""
    write_file("f")
    def work(number):
        with opened("f", os.O_RDWR) as fd:
            for i in range(60):
                os.pwrite(fd, bytes([65 + number]) * 700, (i * 4 + number) * 700)
    children = [Child(work, number) for number in range(4)]
    for child in children:
        child.result()
    same("content", read_file("f"), b"".join(bytes([65 + n]) * 700 for _ in range(60) for n in range(4)))


@case
def direct_opening_of_anything():
    """open(2) O_DIRECT: of a file succeeds, of a directory EINVAL or success"""
    write_file("f")
    os.close(os.open("f", os.O_RDONLY | os.O_DIRECT))
    os.close(os.open("f", os.O_RDWR | os.O_DIRECT | os.O_SYNC))


@case
def unknown_flags():
    """open(2): flags that the kernel does not know are ignored; openat2(2) refuses them: EINVAL"""
    write_file("f")
    os.close(os.open("f", os.O_RDONLY | 0x20000000))
    fails("EINVAL", openat2, "f", 0x20000000)
    fails("EINVAL", openat2, "f", os.O_RDONLY, mode=0o644)
    os.close(openat2("g", os.O_CREAT | os.O_WRONLY, mode=0o644))
