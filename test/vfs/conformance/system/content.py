"""Content: reading, writing, sizes, holes, preallocation."""
import resource

from calls import *
from harness import *

TB = 1 << 40
SEEK_DATA, SEEK_HOLE = os.SEEK_DATA, os.SEEK_HOLE
RW = os.O_RDWR | os.O_CREAT


@case
def what_is_written_is_read():
    """write(2), read(2): at the file's offset, which moves with them"""
    with opened("f", RW) as fd:
        same("written", os.write(fd, b"hello"), 5)
        same("read at the end", os.read(fd, 5), b"")
        same("lseek", os.lseek(fd, 1, os.SEEK_SET), 1)
        same("read", os.read(fd, 3), b"ell")
        os.write(fd, b"0!")
        same("all", os.pread(fd, 10, 0), b"hell0!")


@case
def pwrite_does_not_move():
    """pread(2), pwrite(2): leave the offset alone"""
    with opened("f", RW) as fd:
        os.pwrite(fd, b"abc", 5)
        same("offset", os.lseek(fd, 0, os.SEEK_CUR), 0)
        same("content", os.pread(fd, 100, 0), b"\0\0\0\0\0abc")


@case
def a_gap_reads_as_zeros():
    """lseek(2), write(2): what was never written reads as zeros"""
    with opened("f", RW) as fd:
        os.write(fd, b"a")
        os.lseek(fd, 100_000, os.SEEK_SET)
        os.write(fd, b"b")
        data = os.pread(fd, 200_000, 0)
        same("length", len(data), 100_001)
        same("zeros", data[1:-1].count(0), 99_999)


@case
def truncation_forgets():
    """ftruncate(2): what was cut off reads as zeros when the file grows again"""
    for size, cut in ((5000, 10), (100_000, 4096), (100_000, 4097), (50, 49)):
        with opened("f", RW | os.O_TRUNC) as fd:
            os.write(fd, b"x" * size)
            os.ftruncate(fd, cut)
            os.ftruncate(fd, size)
            same(f"{size} cut to {cut}", os.pread(fd, size, 0), b"x" * cut + bytes(size - cut))


@case
def truncation_and_a_write_behind():
    """ftruncate(2), pwrite(2): between the cut and a later write there are zeros"""
    with opened("f", RW) as fd:
        os.write(fd, b"x" * 5000)
        os.fsync(fd)
        os.ftruncate(fd, 100)
        os.pwrite(fd, b"y", 4000)
        same("content", os.pread(fd, 9000, 0), b"x" * 100 + bytes(3900) + b"y")


@case
def appending_ignores_the_offset():
    """open(2) O_APPEND: each write goes to the end, pwrite(2) as well"""
    write_file("f", b"abc")
    with opened("f", os.O_RDWR | os.O_APPEND) as fd:
        os.lseek(fd, 0, os.SEEK_SET)
        os.write(fd, b"d")
        same("offset", os.lseek(fd, 0, os.SEEK_CUR), 4)
        os.pwrite(fd, b"e", 0)
        same("content", os.pread(fd, 10, 0), b"abcde")


@case
def appending_from_two_processes():
    """open(2) O_APPEND: what two processes append at once is all there, each piece whole"""
    write_file("f")
    def append(letter):
        with opened("f", os.O_WRONLY | os.O_APPEND) as fd:
            for i in range(200):
                line = letter * (i % 37 + 100) + b"\n"
                same("written", os.write(fd, line), len(line))
    children = [Child(append, letter) for letter in (b"a", b"b", b"c")]
    for child in children:
        child.result()
    lines = read_file("f").split(b"\n")[:-1]
    same("lines", len(lines), 600)
    holds("each is whole", all(len(set(line)) == 1 and 100 <= len(line) < 137 for line in lines))


@case
def a_shared_offset():
    """fork(2), dup(2): descriptors of one open file share its offset and its flags"""
    write_file("f", b"0123456789")
    with opened("f", os.O_RDWR) as fd:
        twin = os.dup(fd)
        elsewhere(lambda: os.read(fd, 3))
        same("after the child's read", os.read(twin, 2), b"34")
        fcntl.fcntl(twin, fcntl.F_SETFL, os.O_APPEND)
        holds("flags", fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND)
        with opened("f") as other:
            same("another open file", os.read(other, 1), b"0")


@case
def append_by_fcntl():
    """fcntl(2) F_SETFL: O_APPEND counts from then on, and no more when it is taken back"""
    write_file("f", b"abc")
    with opened("f", os.O_RDWR) as fd:
        fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)
        os.write(fd, b"d")
        fcntl.fcntl(fd, fcntl.F_SETFL, 0)
        os.pwrite(fd, b"X", 0)
    same("content", read_file("f"), b"Xbcd")


@case
def vectors():
    """readv(2), writev(2), preadv(2), pwritev(2): pieces in order, short at the end of the file"""
    with opened("f", RW) as fd:
        same("writev", os.writev(fd, [b"ab", b"", b"cde"]), 5)
        same("pwritev", os.pwritev(fd, [b"X", b"Y"], 1), 2)
        buffers = [bytearray(2), bytearray(9)]
        same("preadv", os.preadv(fd, buffers, 1), 4)
        same("buffers", (bytes(buffers[0]), bytes(buffers[1][:2])), (b"XY", b"de"))


@case
def flags_of_one_call():
    """pwritev2(2): RWF_APPEND appends, RWF_DSYNC and RWF_SYNC write through, unknown flags are EOPNOTSUPP"""
    RWF_APPEND, RWF_DSYNC, RWF_SYNC = 0x10, 0x2, 0x4
    write_file("f", b"abc")
    with opened("f", os.O_RDWR) as fd:
        same("append", os.pwritev(fd, [b"d"], 0, RWF_APPEND), 1)
        os.pwritev(fd, [b"X"], 0, RWF_DSYNC)
        os.pwritev(fd, [b"Y"], 1, RWF_SYNC)
        fails("EOPNOTSUPP", os.pwritev, fd, [b"Z"], 2, 0x8000)
    same("content", read_file("f"), b"XYcd")


@case
@differs("RWF_NOWAIT")
def reading_without_waiting():
    """preadv2(2) RWF_NOWAIT: gives what is cached, or EAGAIN"""
    write_file("f", b"abc")
    with opened("f", os.O_RDWR) as fd:
        os.pread(fd, 3, 0)
        buffer = bytearray(3)
        same("read", os.preadv(fd, [buffer], 0, 0x8), 3)


@case
@differs("RWF_DONTCACHE")
def writing_without_caching():
    """pwritev2(2) RWF_DONTCACHE (6.14): writes, and drops the pages"""
    write_file("f", b"abc")
    with opened("f", os.O_RDWR) as fd:
        same("written", os.pwritev(fd, [b"d"], 0, 0x80), 1)


@case
def wrong_directions():
    """read(2) of what was opened for writing, write(2) of what was opened for reading: EBADF"""
    write_file("f", b"abc")
    with opened("f", os.O_WRONLY) as fd:
        fails("EBADF", os.read, fd, 1)
        fails("EBADF", os.pread, fd, 1, 0)
    with opened("f", os.O_RDONLY) as fd:
        fails("EBADF", os.write, fd, b"x")
        fails("EBADF", fallocate, fd, 0, 0, 10)
        fails("EINVAL", os.ftruncate, fd, 0)
    fails("EBADF", os.read, fd, 1)


@case
def negative_offsets():
    """pread(2), pwrite(2), lseek(2), truncate(2), fallocate(2): negative offsets are EINVAL"""
    with opened("f", RW) as fd:
        fails("EINVAL", os.pread, fd, 1, -1)
        fails("EINVAL", os.pwrite, fd, b"x", -1)
        fails("EINVAL", os.lseek, fd, -1, os.SEEK_SET)
        fails("EINVAL", os.lseek, fd, 0, 99)
        fails("EINVAL", os.ftruncate, fd, -1)
        fails("EINVAL", os.truncate, "f", -1)
        fails("EINVAL", fallocate, fd, 0, -1, 10)
        fails("EINVAL", fallocate, fd, 0, 0, 0)
        fails("EINVAL", fallocate, fd, 0, 0, -1)
        fails("EFBIG", fallocate, fd, 0, 2**63 - 2, 10)


@case
def directories_are_not_read():
    """read(2), write(2), truncate(2) of a directory: EISDIR"""
    os.mkdir("d")
    with opened("d", os.O_RDONLY) as fd:
        fails("EISDIR", os.read, fd, 1)
        fails("EISDIR", os.pread, fd, 1, 0)
        fails("EBADF", os.write, fd, b"x")
        fails("EINVAL", os.ftruncate, fd, 0)
    fails("EISDIR", os.truncate, "d", 0)


@case
def what_cannot_be_truncated():
    """truncate(2) of a FIFO, a socket or a device node: EINVAL"""
    os.mkfifo("p")
    mknod("c", 0o020666, os.makedev(1, 3))
    for name in ("p", "c"):
        fails("EINVAL", os.truncate, name, 0)


@case
@needs("seekHole")
def beyond_two_to_the_forty():
    """pwrite(2), ftruncate(2), lseek(2): content beyond 2^40 bytes, with holes before"""
    with opened("f", RW) as fd:
        for at in (TB, 2 * TB + 12_345, 8 * TB - 1):
            os.pwrite(fd, b"here", at)
            same("content", os.pread(fd, 6, at - 1)[:5], b"\0here")
        same("size", os.fstat(fd).st_size, 8 * TB + 3)
        os.fsync(fd)
        holds("few blocks", os.fstat(fd).st_blocks < 200)
        same("first data", os.lseek(fd, 4096, SEEK_DATA) // 4096, TB // 4096)
        os.ftruncate(fd, 12 * TB)
        same("end", os.lseek(fd, 0, os.SEEK_END), 12 * TB)
        os.ftruncate(fd, TB + 2)
        same("cut", os.pread(fd, 10, TB), b"he")


@case
def longer_than_can_be():
    """truncate(2) beyond the longest file: EFBIG"""
    write_file("f")
    fails("EFBIG", os.truncate, "f", 2**63 - 1)
    fails("EFBIG", os.truncate, "f", 2**62)
    same("size", os.stat("f").st_size, 0)


@case
@differs("longest file")
def writes_beyond_the_longest():
    """pwrite(2) at 2^60: EFBIG, at once"""
    with opened("f", RW) as fd:
        try:
            fails("EFBIG", os.pwrite, fd, b"x", 2**60)
        finally:
            # Who asks next for errors of this file system is not to hear of this one.
            with contextlib.suppress(OSError):
                syncfs(fd)


@case
def a_limit_of_the_process():
    """setrlimit(2) RLIMIT_FSIZE: a write is short at the limit, then SIGXFSZ and EFBIG"""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    with opened("f", RW) as fd:
        same("short", os.write(fd, b"x" * 1500), 1000)
        fails("EFBIG", os.write, fd, b"x")
        fails("EFBIG", os.ftruncate, fd, 1001)
        fails("EFBIG", fallocate, fd, 0, 0, 2000)
        os.pwrite(fd, b"y", 5)
    same("size", os.stat("f").st_size, 1000)


@case
def the_end_is_a_hole():
    """lseek(2) SEEK_HOLE, SEEK_DATA: the end is a hole; at and behind it ENXIO"""
    write_file("f", b"x" * 10)
    with opened("f", os.O_RDWR) as fd:
        same("hole", os.lseek(fd, 0, SEEK_HOLE), 10)
        same("hole", os.lseek(fd, 9, SEEK_HOLE), 10)
        same("data", os.lseek(fd, 3, SEEK_DATA), 3)
        fails("ENXIO", os.lseek, fd, 10, SEEK_HOLE)
        fails("ENXIO", os.lseek, fd, 10, SEEK_DATA)
        fails("ENXIO", os.lseek, fd, 10**9, SEEK_DATA)
        fails("ENXIO", os.lseek, fd, -1, SEEK_DATA)
    with opened("empty", RW) as fd:
        fails("ENXIO", os.lseek, fd, 0, SEEK_DATA)
        fails("ENXIO", os.lseek, fd, 0, SEEK_HOLE)


@case
@needs("seekHole")
def holes_are_found():
    """lseek(2) SEEK_HOLE, SEEK_DATA: find what was written and not, without an fsync before"""
    with opened("f", RW) as fd:
        os.pwrite(fd, b"x" * 8192, 1 << 20)
        os.ftruncate(fd, 4 << 20)
        same("data", os.lseek(fd, 0, SEEK_DATA), 1 << 20)
        same("hole behind", os.lseek(fd, 1 << 20, SEEK_HOLE), (1 << 20) + 8192)
        same("hole at 0", os.lseek(fd, 0, SEEK_HOLE), 0)
        fails("ENXIO", os.lseek, fd, 2 << 20, SEEK_DATA)
        same("hole before the end", os.lseek(fd, 3 << 20, SEEK_HOLE), 3 << 20)


@case
@needs("seekHole")
def a_file_of_holes():
    """ftruncate(2), SEEK_DATA: a file of holes alone has no data"""
    with opened("f", RW) as fd:
        os.ftruncate(fd, 100_000)
        fails("ENXIO", os.lseek, fd, 0, SEEK_DATA)
        same("hole", os.lseek(fd, 0, SEEK_HOLE), 0)
        os.fsync(fd)
        same("blocks", os.fstat(fd).st_blocks, 0)


@case
@needs("fallocate")
def preallocation():
    """fallocate(2): makes the file as long, its content zeros, and takes the space"""
    with opened("f", RW) as fd:
        os.write(fd, b"abc")
        fallocate(fd, 0, 0, 100_000)
        same("size", os.fstat(fd).st_size, 100_000)
        same("content", os.pread(fd, 10, 0), b"abc" + bytes(7))
        os.fsync(fd)
        holds("blocks", os.fstat(fd).st_blocks * 512 >= 100_000)
        fallocate(fd, 0, 0, 10)
        same("never shorter", os.fstat(fd).st_size, 100_000)


@case
@needs("fallocate")
def preallocation_behind_the_end():
    """fallocate(2) KEEP_SIZE: takes space behind the end, and the size stays"""
    with opened("f", RW) as fd:
        os.write(fd, b"abc")
        fallocate(fd, KEEP_SIZE, 0, 1 << 20)
        same("size", os.fstat(fd).st_size, 3)
        os.fsync(fd)
        holds("blocks", os.fstat(fd).st_blocks * 512 >= 1 << 20)
        os.ftruncate(fd, 2)
        os.ftruncate(fd, 10)
        same("content", os.pread(fd, 20, 0), b"ab" + bytes(8))


@case
@needs("fallocate")
def punching():
    """fallocate(2) PUNCH_HOLE: what is punched reads as zeros, the size stays, whole blocks are given back"""
    with opened("f", RW) as fd:
        os.write(fd, b"x" * 100_000)
        os.fsync(fd)
        before = os.fstat(fd).st_blocks
        fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 5000, 60_000)
        same("content", os.pread(fd, 200_000, 0), b"x" * 5000 + bytes(60_000) + b"x" * 35_000)
        os.fsync(fd)
        holds("fewer blocks", os.fstat(fd).st_blocks <= before - 100)
        same("hole", os.lseek(fd, 0, SEEK_HOLE), 8192)
        fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 200_000, 100)
        same("size", os.fstat(fd).st_size, 100_000)
        fails("EOPNOTSUPP EINVAL", fallocate, fd, PUNCH_HOLE, 0, 10)


@case
@needs("fallocate")
def zeroing():
    """fallocate(2) ZERO_RANGE: what is zeroed reads as zeros, and the size grows unless KEEP_SIZE"""
    with opened("f", RW) as fd:
        os.write(fd, b"x" * 10_000)
        fallocate(fd, ZERO_RANGE, 100, 5000)
        same("content", os.pread(fd, 20_000, 0), b"x" * 100 + bytes(5000) + b"x" * 4900)
        fallocate(fd, ZERO_RANGE | KEEP_SIZE, 9000, 50_000)
        same("size", os.fstat(fd).st_size, 10_000)
        fallocate(fd, ZERO_RANGE, 9500, 50_000)
        same("size", os.fstat(fd).st_size, 59_500)
        same("tail", os.pread(fd, 20, 8990), b"x" * 10 + bytes(10))


@case
@differs("COLLAPSE_RANGE and INSERT_RANGE")
def collapsing_and_inserting():
    """fallocate(2) COLLAPSE_RANGE, INSERT_RANGE: take blocks out, and put a hole in"""
    with opened("f", RW) as fd:
        os.write(fd, b"a" * 4096 + b"b" * 4096 + b"c" * 4096)
        fallocate(fd, COLLAPSE_RANGE, 4096, 4096)
        same("collapsed", os.pread(fd, 20_000, 0), b"a" * 4096 + b"c" * 4096)
        fallocate(fd, INSERT_RANGE, 4096, 4096)
        same("inserted", os.pread(fd, 20_000, 0), b"a" * 4096 + bytes(4096) + b"c" * 4096)


@case
def modes_that_are_none():
    """fallocate(2): unknown modes are EOPNOTSUPP; of what is no regular file ENODEV, EISDIR or ESPIPE"""
    with opened("f", RW) as fd:
        fails("EOPNOTSUPP", fallocate, fd, 0x1000, 0, 10)
        fails("EOPNOTSUPP EINVAL", fallocate, fd, PUNCH_HOLE | ZERO_RANGE | KEEP_SIZE, 0, 10)
    os.mkdir("d")
    with opened("d", os.O_RDONLY) as fd:
        fails("EBADF", fallocate, fd, 0, 0, 10)
    os.mkfifo("p")
    with opened("p", os.O_RDWR) as fd:
        fails("ESPIPE", fallocate, fd, 0, 0, 10)
        fails("ESPIPE", os.lseek, fd, 0, os.SEEK_SET)


@case
@needs("fallocate")
def more_than_there_is():
    """fallocate(2): more than the file system has free: ENOSPC"""
    with opened("f", RW) as fd:
        os.write(fd, b"abc")
        # More than ext4 has in one file: with less it takes all the room there is, from everybody, before it says so.
        fails("ENOSPC EFBIG", fallocate, fd, 0, 0, 17 * TB)
        same("content", os.pread(fd, 3, 0), b"abc")
        os.ftruncate(fd, 3)
        fallocate(fd, 0, 0, 8192)


@case
def synchronous_and_plain():
    """open(2) O_SYNC, O_DSYNC, fsync(2), fdatasync(2), sync_file_range(2), syncfs(2): succeed, and content is right"""
    for flag in (os.O_SYNC, os.O_DSYNC):
        with opened("f", RW | flag) as fd:
            os.pwrite(fd, b"abc" * 5000, 0)
            os.fdatasync(fd)
            os.fsync(fd)
            sync_file_range(fd, 0, 100, 7)
            syncfs(fd)
            same("content", os.pread(fd, 20_000, 0), b"abc" * 5000)
    os.mkdir("d")
    with opened("d", os.O_RDONLY) as fd:
        os.fsync(fd)
        os.fdatasync(fd)
        syncfs(fd)
    os.mkfifo("p")
    with opened("p", os.O_RDWR) as fd:
        fails("EINVAL", os.fsync, fd)


@case
def advice():
    """posix_fadvise(2), readahead(2): do not change content"""
    write_file("f", b"x" * 500_000)
    with opened("f") as fd:
        for one in (os.POSIX_FADV_SEQUENTIAL, os.POSIX_FADV_RANDOM, os.POSIX_FADV_WILLNEED, os.POSIX_FADV_DONTNEED,
                    os.POSIX_FADV_NOREUSE, os.POSIX_FADV_NORMAL):
            os.posix_fadvise(fd, 0, 0, one)
        readahead(fd, 0, 100_000)
        fails("EINVAL", os.posix_fadvise, fd, 0, 0, 99)
        same("content", os.pread(fd, 1_000_000, 0), b"x" * 500_000)


@case
def a_page_at_a_time_and_all_at_once():
    """write(2), read(2): large and small pieces, across pages and requests, give the same content"""
    data = bytes(range(256)) * 12_000
    with opened("f", RW) as fd:
        same("written", os.write(fd, data), len(data))
        at = 0
        for size in (1, 4095, 4096, 4097, 131_072, 1_048_576, 1_048_577):
            same(f"{size} bytes at {at}", os.pread(fd, size, at), data[at:at + size])
            at += size
        for at in range(0, 3_000_000, 77_777):
            os.pwrite(fd, b"<>" * 50, at)
    changed_data = bytearray(data)
    for at in range(0, 3_000_000, 77_777):
        changed_data[at:at + 100] = b"<>" * 50
    same("content", read_file("f"), bytes(changed_data))


@case
def another_process_sees_at_once():
    """write(2), stat(2): another process sees size and content at once"""
    with opened("f", RW) as fd:
        for i in range(1, 20):
            os.write(fd, b"x" * i)
            same("size", elsewhere(lambda: os.stat("f").st_size), i * (i + 1) // 2)
        same("content", elsewhere(lambda: read_file("f")), b"x" * 190)


@case
def truncation_by_another_process():
    """truncate(2), read(2): who reads behind a new end gets nothing, and a write there makes a gap"""
    with opened("f", RW) as fd:
        os.write(fd, b"x" * 10_000)
        elsewhere(lambda: os.truncate("f", 100))
        same("read", os.read(fd, 10), b"")
        same("size", os.fstat(fd).st_size, 100)
        os.write(fd, b"y")
        same("size", os.fstat(fd).st_size, 10_001)
        same("gap", os.pread(fd, 10, 5000), bytes(10))


@case
def blocks_of_what_is_written():
    """stat(2) st_blocks: after fsync, at least what a file of unlike bytes needs, and 0 when it is empty"""
    write_file("f", os.urandom(1 << 20))
    with opened("f", os.O_RDWR) as fd:
        os.fsync(fd)
        blocks = os.fstat(fd).st_blocks
        holds("1 MiB", 2048 <= blocks < 2400)
        os.ftruncate(fd, 0)
        same("empty", os.fstat(fd).st_blocks, 0)


@case
def a_bad_address():
    """read(2), write(2): a buffer that is not there: EFAULT"""
    write_file("f", b"x" * 100)
    with opened("f", os.O_RDWR) as fd:
        fails("EFAULT", lambda: check(libc.write(fd, ctypes.c_void_p(8), ctypes.c_size_t(10))))
        fails("EFAULT", lambda: check(libc.read(fd, ctypes.c_void_p(8), ctypes.c_size_t(10))))
        same("content", os.pread(fd, 200, 0), b"x" * 100)
