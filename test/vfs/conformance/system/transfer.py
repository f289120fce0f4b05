"""O_DIRECT, and calls that move data between descriptors."""
import mmap
import socket

from calls import *
from harness import *

RW = os.O_RDWR | os.O_CREAT
DIRECT = RW | os.O_DIRECT


def filled(length, byte):
    memory = aligned_buffer(length)
    memory.write(byte * length)
    return memory


def direct_read(fd, length, offset):
    memory = aligned_buffer(length)
    with memoryview(memory) as view:
        count = os.preadv(fd, [view[:length]], offset)
    return memory[:count]


@case
def direct_and_cached_agree():
    """open(2) O_DIRECT: what is written past the cache is read through it, and the other way round"""
    with opened("f", DIRECT) as direct, opened("f", os.O_RDWR) as cached:
        os.pwritev(direct, [filled(8192, b"a")], 0)
        same("cached read", os.pread(cached, 9000, 0), b"a" * 8192)
        os.pwrite(cached, b"b" * 4096, 0)
        same("direct read", direct_read(direct, 8192, 0), b"b" * 4096 + b"a" * 4096)
        os.pwritev(direct, [filled(4096, b"c")], 0)
        same("cached read after it was cached", os.pread(cached, 4096, 0), b"c" * 4096)


@case
def a_direct_write_makes_the_file_longer():
    """write(2) O_DIRECT: at and behind the end, the size is right at once"""
    with opened("f", DIRECT) as fd:
        os.pwritev(fd, [filled(4096, b"a")], 0)
        same("size", os.fstat(fd).st_size, 4096)
        os.pwritev(fd, [filled(4096, b"b")], 12_288)
        same("size", os.fstat(fd).st_size, 16_384)
        same("gap", direct_read(fd, 16_384, 0), b"a" * 4096 + bytes(8192) + b"b" * 4096)
    same("size later", os.stat("f").st_size, 16_384)


@case
def a_direct_read_at_the_end():
    """read(2) O_DIRECT: is short at the end of the file, and empty behind it"""
    write_file("f", b"x" * 5000)
    with opened("f", os.O_RDONLY | os.O_DIRECT) as fd:
        same("at the end", len(direct_read(fd, 8192, 0)), 5000)
        same("within the last block", len(direct_read(fd, 8192, 4096)), 904)
        same("behind", direct_read(fd, 4096, 8192), b"")


@case
@differs("alignment of O_DIRECT")
def direct_wants_alignment():
    """open(2) O_DIRECT: an offset, a length or an address that is not aligned: EINVAL"""
    write_file("f", b"x" * 8192)
    with opened("f", os.O_RDWR | os.O_DIRECT) as fd:
        fails("EINVAL", direct_read, fd, 100, 0)
        fails("EINVAL", direct_read, fd, 4096, 7)


@case
def direct_appending():
    """open(2) O_DIRECT|O_APPEND: from two processes, every block is there once"""
    with opened("f", RW):
        pass
    def append(letter):
        with opened("f", os.O_WRONLY | os.O_APPEND | os.O_DIRECT) as fd:
            for _ in range(20):
                os.writev(fd, [filled(4096, letter)])
    children = [Child(append, letter) for letter in (b"a", b"b")]
    for child in children:
        child.result()
    data = read_file("f")
    blocks = [set(data[at:at + 4096]) for at in range(0, len(data), 4096)]
    same("blocks", (len(data), sorted(map(len, blocks))), (40 * 4096, [1] * 40))


@case
def direct_by_fcntl():
    """fcntl(2) F_SETFL O_DIRECT: can be set and taken back on an open file"""
    with opened("f", RW) as fd:
        os.write(fd, b"x" * 8192)
        fcntl.fcntl(fd, fcntl.F_SETFL, os.O_DIRECT)
        same("direct", direct_read(fd, 8192, 0), b"x" * 8192)
        fcntl.fcntl(fd, fcntl.F_SETFL, 0)
        same("cached", os.pread(fd, 3, 5), b"xxx")


@case
def direct_and_truncation():
    """ftruncate(2), O_DIRECT: what was cut off is not read again"""
    with opened("f", DIRECT) as fd:
        os.pwritev(fd, [filled(8192, b"a")], 0)
        os.ftruncate(fd, 100)
        os.ftruncate(fd, 8192)
        same("content", direct_read(fd, 8192, 0), b"a" * 100 + bytes(8092))


@case
@needs("fallocate")
def direct_holes_and_preallocation():
    """read(2) O_DIRECT: holes and preallocated space read as zeros"""
    with opened("f", DIRECT) as fd:
        fallocate(fd, 0, 0, 65_536)
        os.pwritev(fd, [filled(4096, b"a")], 16_384)
        fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 16_384, 2048)
        same("content", direct_read(fd, 65_536, 0), bytes(18_432) + b"a" * 2048 + bytes(45_056))


@case
def large_direct_pieces():
    """write(2), read(2) O_DIRECT: pieces of several requests are whole"""
    data = os.urandom(1 << 20) * 5
    memory = aligned_buffer(len(data))
    memory.write(data)
    with opened("f", DIRECT) as fd:
        same("written", os.pwritev(fd, [memory], 0), len(data))
        same("read", direct_read(fd, len(data), 0), data)


@case
def copying_a_range():
    """copy_file_range(2): copies between files, at offsets, with and without moving them"""
    write_file("a", bytes(range(256)) * 1000)
    with opened("a") as source, opened("b", RW) as target:
        same("count", os.copy_file_range(source, target, 1000, 100, 50), 1000)
        same("content", os.pread(target, 2000, 0), bytes(50) + (bytes(range(256)) * 5)[100:1100])
        os.lseek(source, 10, os.SEEK_SET)
        same("count", os.copy_file_range(source, target, 5), 5)
        same("offsets", (os.lseek(source, 0, os.SEEK_CUR), os.lseek(target, 0, os.SEEK_CUR)), (15, 5))
        same("content", os.pread(target, 6, 0), bytes([10, 11, 12, 13, 14, 0]))


@case
def copying_at_the_end():
    """copy_file_range(2): is short at the end of the source, and 0 behind it"""
    write_file("a", b"x" * 100)
    with opened("a") as source, opened("b", RW) as target:
        same("short", os.copy_file_range(source, target, 1000, 90, 0), 10)
        same("behind", os.copy_file_range(source, target, 1000, 100, 0), 0)
        same("far behind", os.copy_file_range(source, target, 1000, 10_000, 0), 0)
        same("size", os.fstat(target).st_size, 10)


@case
def copying_within_a_file():
    """copy_file_range(2): within a file, ranges that overlap are EINVAL"""
    with opened("f", RW) as fd:
        os.write(fd, b"0123456789" * 1000)
        same("apart", os.copy_file_range(fd, fd, 1000, 0, 5000), 1000)
        fails("EINVAL", os.copy_file_range, fd, fd, 1000, 0, 500)
        fails("EINVAL", os.copy_file_range, fd, fd, 1000, 500, 0)
        same("size", os.fstat(fd).st_size, 10_000)


@case
def what_cannot_be_copied():
    """copy_file_range(2): O_APPEND is EBADF, wrong directions EBADF, a directory EISDIR, a pipe EINVAL, flags EINVAL"""
    write_file("a", b"x" * 100)
    os.mkdir("d")
    with opened("a") as source, opened("b", os.O_WRONLY | os.O_CREAT) as target:
        with opened("b", os.O_WRONLY | os.O_APPEND) as appending:
            fails("EBADF", os.copy_file_range, source, appending, 10)
        fails("EBADF", os.copy_file_range, target, target, 10, 0, 0)
        fails("EBADF", os.copy_file_range, source, source, 10, 0, 50)
        with opened("d") as directory:
            fails("EISDIR", os.copy_file_range, directory, target, 10)
        read_end, write_end = os.pipe()
        fails("EINVAL", os.copy_file_range, source, write_end, 10)
        fails("EINVAL", lambda: check(libc.copy_file_range(source, None, target, None, ctypes.c_size_t(10), 1)))


@case
def copying_what_was_just_written():
    """copy_file_range(2): content that is not written back yet is copied, and the target's is kept beside it"""
    with opened("a", RW) as source, opened("b", RW) as target:
        os.write(source, b"new" * 1000)
        os.write(target, b"old" * 2000)
        os.copy_file_range(source, target, 3000, 0, 1000)
        expected = b"old" * 2000
        same("content", os.pread(target, 9000, 0), expected[:1000] + b"new" * 1000 + expected[4000:])


@case
def copying_holes():
    """copy_file_range(2): a hole arrives as zeros over what was there"""
    with opened("a", RW) as source, opened("b", RW) as target:
        os.ftruncate(source, 1 << 20)
        os.pwrite(source, b"end", 1 << 20)
        os.write(target, b"x" * 500_000)
        done = 0
        while done < (1 << 20) + 3:
            done += os.copy_file_range(source, target, 1 << 21, done, done)
        data = os.pread(target, 1 << 21, 0)
    same("content", (len(data), data.count(0), data[-3:]), ((1 << 20) + 3, 1 << 20, b"end"))


@case
def reflinks_are_not_offered():
    """ioctl(2) FICLONE, FICLONERANGE: EOPNOTSUPP"""
    FICLONE = 0x40049409
    write_file("a", b"x" * 4096)
    with opened("a") as source, opened("b", RW) as target:
        fails("EOPNOTSUPP", fcntl.ioctl, target, FICLONE, source)


@case
def sending_a_file():
    """sendfile(2): from a file to a socket, to a pipe and to a file"""
    data = os.urandom(300_000)
    write_file("f", data)
    one, two = socket.socketpair()
    def receive():
        one.close()
        return b"".join(iter(lambda: two.recv(1 << 16), b""))
    child = Child(receive)
    two.close()
    with opened("f") as fd:
        at = 0
        while at < len(data):
            at += os.sendfile(one.fileno(), fd, at, len(data) - at)
        one.close()
        same("socket", child.result(), data)
        with opened("g", RW) as target:
            at = 0
            while at < len(data):
                at += os.sendfile(target, fd, at, len(data) - at)
        same("file", read_file("g"), data)
        same("at the end", os.sendfile(one.fileno() if one.fileno() >= 0 else os.pipe()[1], fd, len(data), 10), 0)


@case
def splicing():
    """splice(2), tee(2): from a file into a pipe and from a pipe into a file"""
    write_file("f", b"0123456789" * 1000)
    read_end, write_end = os.pipe()
    with opened("f") as fd, opened("g", RW) as target:
        same("in", os.splice(fd, write_end, 5000, offset_src=5), 5000)
        out = 0
        while out < 5000:
            out += os.splice(read_end, target, 5000 - out, offset_dst=100 + out)
        same("content", os.pread(target, 9000, 0), bytes(100) + (b"0123456789" * 1000)[5:5005])
        fails("EINVAL", os.splice, fd, target, 10)
        with opened("g", os.O_WRONLY | os.O_APPEND) as appending:
            os.write(write_end, b"x")
            fails("EINVAL", os.splice, read_end, appending, 1)


@case
def writing_from_a_mapping_of_itself():
    """write(2) from a mapping of the same file: copies the file within itself"""
    with opened("f", RW) as fd:
        os.write(fd, b"a" * 4096 + b"b" * 4096)
        with mmap.mmap(fd, 8192) as memory, memoryview(memory) as view:
            same("written", os.pwrite(fd, view[:4096], 4096), 4096)
    same("content", read_file("f"), b"a" * 8192)


@case
def direct_from_a_mapping_of_another_file():
    """write(2) O_DIRECT from a mapping of another file on the same file system"""
    write_file("a", b"m" * 65_536)
    with opened("a", os.O_RDWR) as source, mmap.mmap(source, 65_536) as memory, opened("f", DIRECT) as fd:
        same("written", os.pwritev(fd, [memory], 0), 65_536)
    same("content", read_file("f"), b"m" * 65_536)


@case
def direct_into_a_mapping_of_another_file():
    """read(2) O_DIRECT into a shared mapping of another file on the same file system"""
    write_file("a", b"m" * 65_536)
    write_file("b", b"o" * 65_536)
    with opened("b", os.O_RDWR) as target, mmap.mmap(target, 65_536) as memory:
        with opened("a", os.O_RDONLY | os.O_DIRECT) as fd:
            same("read", os.preadv(fd, [memory], 0), 65_536)
        memory.flush()
    same("content", read_file("b"), b"m" * 65_536)
