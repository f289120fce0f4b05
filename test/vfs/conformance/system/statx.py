"""stat(2), statx(2), statfs(2)."""
import stat

from calls import *
from harness import *


@case
def all_calls_agree():
    """stat(2), lstat(2), fstat(2), statx(2): say the same of a file"""
    write_file("f", b"x" * 5000, 0o640, (5, 6))
    with opened("f") as fd:
        os.fsync(fd)
        same("fstat", os.fstat(fd), os.stat("f"))
    same("lstat", os.lstat("f"), os.stat("f"))
    s, x = os.stat("f"), statx("f")
    same("statx", (x.mode, x.nlink, x.uid, x.gid, x.ino, x.size, x.blocks, x.blksize, x.nanoseconds("modify"),
                   x.nanoseconds("change"), x.nanoseconds("access")),
         (s.st_mode, s.st_nlink, s.st_uid, s.st_gid, s.st_ino, s.st_size, s.st_blocks, s.st_blksize, s.st_mtime_ns,
          s.st_ctime_ns, s.st_atime_ns))


@case
@needs("birthTimes")
def the_time_of_birth():
    """statx(2) STATX_BTIME: is given, and is the time of the making"""
    before = time.clock_gettime_ns(5)
    write_file("f")
    os.mkdir("d")
    os.symlink("x", "l")
    after = time.time_ns()
    for name in ("f", "d", "l"):
        x = statx(name, flags=AT_SYMLINK_NOFOLLOW)
        holds(f"{name}: is given", x.mask & STATX_BTIME)
        holds(f"{name}: between the clocks before and after", before <= x.nanoseconds("birth") <= after)


@case
def flags_of_statx():
    """statx(2): AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH, forced and unforced; both is EINVAL, as is an unknown flag"""
    write_file("f", b"xyz")
    os.symlink("f", "l")
    same("follow", statx("l").size, 3)
    holds("no follow", stat.S_ISLNK(statx("l", flags=AT_SYMLINK_NOFOLLOW).mode))
    for flag in (AT_STATX_FORCE_SYNC, AT_STATX_DONT_SYNC):
        same("size", statx("f", flags=flag).size, 3)
    fails("EINVAL", statx, "f", flags=AT_STATX_FORCE_SYNC | AT_STATX_DONT_SYNC)
    fails("EINVAL", statx, "f", flags=0x100000)
    fails("EINVAL", statx, "f", mask=1 << 31)
    fails("ENOENT", statx, "")


@case
def the_mount_is_named():
    """statx(2) STATX_MNT_ID: is that of /proc/self/mountinfo"""
    write_file("f")
    x = statx("f", STATX_BASIC | STATX_MNT_ID)
    holds("is given", x.mask & STATX_MNT_ID)
    with open("/proc/self/mountinfo") as mounts:
        holds("a mount", any(line.split()[0] == str(x.mnt_id) for line in mounts))


@case
@differs("STATX_DIOALIGN")
def alignment_is_told():
    """statx(2) STATX_DIOALIGN: the alignment that O_DIRECT needs"""
    write_file("f")
    x = statx("f", STATX_BASIC | STATX_DIOALIGN)
    holds("is given", x.mask & STATX_DIOALIGN and x.dio_offset_align > 0)


@case
@differs("flags of files")
def flags_of_files():
    """ioctl(2) FS_IOC_SETFLAGS, chattr(1): append-only and immutable files"""
    FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, APPEND = 0x80086601, 0x40086602, 0x20
    write_file("f", b"x")
    with opened("f") as fd:
        flags = struct.unpack("=q", fcntl.ioctl(fd, FS_IOC_GETFLAGS, bytes(8)))[0]
        fcntl.ioctl(fd, FS_IOC_SETFLAGS, struct.pack("=q", flags | APPEND))
        try:
            fails("EPERM", os.open, "f", os.O_WRONLY)
            os.close(os.open("f", os.O_WRONLY | os.O_APPEND))
        finally:
            fcntl.ioctl(fd, FS_IOC_SETFLAGS, struct.pack("=q", flags))


@case
@differs("extents of files")
def extents_of_files():
    """ioctl(2) FS_IOC_FIEMAP, filefrag(8): where the content lies"""
    FS_IOC_FIEMAP = 0xC020660B
    write_file("f", b"x" * 5000)
    with opened("f") as fd:
        os.fsync(fd)
        found = fcntl.ioctl(fd, FS_IOC_FIEMAP, struct.pack("=QQIIII", 0, 2**63, 0, 0, 0, 0))
        holds("extents", struct.unpack("=QQIIII", found)[3] >= 1)


@case
def devices_and_inodes_tell_files_apart():
    """stat(2): st_dev and st_ino are one for all names of a file, and differ for different files"""
    write_file("a")
    write_file("b")
    os.link("a", "c")
    os.mkdir("d")
    numbers = [(os.stat(name).st_dev, os.stat(name).st_ino) for name in ("a", "b", "c", "d")]
    holds("a is c", numbers[0] == numbers[2])
    same("others", len(set(numbers)), 3)
    same("one device", len({number[0] for number in numbers}), 1)


@case
def inode_numbers_stay():
    """stat(2): st_ino stays when a file is changed, renamed, and forgotten by the kernel"""
    write_file("a", b"x")
    number = os.stat("a").st_ino
    write_file("a", b"more")
    os.chmod("a", 0)
    rename("a", "b")
    same("st_ino", os.stat("b").st_ino, number)
    with opened(".") as fd:
        same("d_ino", [entry[1] for entry in getdents(fd) if entry[0] == b"b"], [number])


@case
def stat_needs_no_rights():
    """stat(2): needs nothing on the file itself"""
    write_file("f", b"xyz", 0, ALICE)
    make_directory("d", 0, ALICE)
    with BOB:
        same("size", os.stat("f").st_size, 3)
        same("mode", stat.S_IMODE(os.stat("d").st_mode), 0)


@case
def the_numbers_of_df():
    """statfs(2), statvfs(3), df(1): free is at most all, available at most free, and the same for every path"""
    write_file("f")
    s = os.statvfs(".")
    holds("blocks", 0 < s.f_bavail <= s.f_bfree <= s.f_blocks)
    holds("files", 0 < s.f_ffree <= s.f_files)
    same("longest name", s.f_namemax, 255)
    holds("block size", s.f_bsize >= 512 and s.f_frsize >= 512)
    t = os.statvfs("f")
    same("of a file", (t.f_bsize, t.f_blocks, t.f_namemax), (s.f_bsize, s.f_blocks, s.f_namemax))
    with opened("f") as fd:
        same("fstatvfs", os.fstatvfs(fd).f_blocks, s.f_blocks)


@case
def flags_of_the_mount():
    """statvfs(3) f_flag: nosuid and nodev show, and read-only does not"""
    flags = os.statvfs(".").f_flag
    holds("nosuid", flags & os.ST_NOSUID)
    holds("nodev", flags & os.ST_NODEV)
    holds("not read-only", not flags & os.ST_RDONLY)


@case
def files_are_counted():
    """statfs(2), df -i: a new file takes one of the free ones, and gives it back"""
    def used():
        s = os.statvfs(".")
        return s.f_files - s.f_ffree
    before = used()
    for i in range(50):
        write_file(f"f{i}")
    made = used()
    # Others may make files on the native file system meanwhile.
    holds("more", made - before >= 40)
    for i in range(50):
        os.unlink(f"f{i}")
    holds("fewer again", made - used() >= 40)


@case
def df_and_stat_run():
    """df(1), df -i, stat -f: understand the file system"""
    import subprocess
    for words in (["df", "."], ["df", "-i", "."], ["df", "--output=source,fstype,size", "."], ["stat", "-f", "."]):
        result = subprocess.run(words, capture_output=True, text=True)
        same(" ".join(words), (result.returncode, result.stderr), (0, ""))
        holds("two lines and more", len(result.stdout.splitlines()) >= 2)


@case
def blocks_of_small_files():
    """stat(2) st_blocks, st_blksize: blocks are of 512 bytes, and an empty file has none"""
    write_file("f")
    same("empty", os.stat("f").st_blocks, 0)
    holds("block size", os.stat("f").st_blksize >= 512)


@case
def sizes_of_symbolic_links():
    """lstat(2): a symbolic link's size is its target's length, its mode 0777"""
    os.symlink("target", "l")
    s = os.lstat("l")
    same("size, mode", (s.st_size, stat.S_IMODE(s.st_mode)), (6, 0o777))
