"""System calls that Python has no name for. They raise OSError."""
import ctypes
import os
import platform
import struct

libc = ctypes.CDLL(None, use_errno=True)
INTEL = platform.machine() == "x86_64"
AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
AT_SYMLINK_FOLLOW = 0x400
AT_EMPTY_PATH = 0x1000
UTIME_NOW = (1 << 30) - 1
UTIME_OMIT = (1 << 30) - 2
RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4
KEEP_SIZE, PUNCH_HOLE, COLLAPSE_RANGE, ZERO_RANGE, INSERT_RANGE, UNSHARE_RANGE = 1, 2, 8, 16, 32, 64
SYS = {
    "getdents64": 217 if INTEL else 61,
    "statx": 332 if INTEL else 291,
    "openat2": 437,
    "fchmodat2": 452,
}


def check(result):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def path_bytes(path):
    return os.fsencode(path)


def rename2(old, new, flags=0):
    """renameat2(2)"""
    return check(libc.renameat2(AT_FDCWD, path_bytes(old), AT_FDCWD, path_bytes(new), flags))


def rename(old, new):
    """rename(2), without what Python does to paths."""
    return check(libc.rename(path_bytes(old), path_bytes(new)))


def linkat(old_fd, old, new_fd, new, flags):
    return check(libc.linkat(old_fd, path_bytes(old), new_fd, path_bytes(new), flags))


def link_fd(fd, new):
    """Gives an open file a name."""
    return linkat(AT_FDCWD, f"/proc/self/fd/{fd}", AT_FDCWD, new, AT_SYMLINK_FOLLOW)


def fallocate(fd, mode, offset, length):
    return check(libc.fallocate(fd, mode, ctypes.c_int64(offset), ctypes.c_int64(length)))


def utimensat(path, access, modify, flags=0):
    """Times are nanoseconds, UTIME_NOW or UTIME_OMIT; as pairs (seconds, nanoseconds) they are passed as they are."""
    def pair(value):
        if isinstance(value, tuple):
            return value
        return (0, value) if value in (UTIME_NOW, UTIME_OMIT) else divmod(value, 1_000_000_000)
    packed = struct.pack("=qqqq", *pair(access), *pair(modify))
    return check(libc.utimensat(AT_FDCWD, path_bytes(path), packed, flags))


def touch(path):
    """utimensat(2) without times: both become now."""
    return check(libc.utimensat(AT_FDCWD, path_bytes(path), None, 0))


def getdents(fd, size=32768):
    """(name, inode, type, cookie) of each entry."""
    buffer = ctypes.create_string_buffer(size)
    count = check(libc.syscall(SYS["getdents64"], fd, buffer, ctypes.c_size_t(size)))
    entries = []
    at = 0
    while at < count:
        inode, cookie, length, kind = struct.unpack_from("=QqHB", buffer, at)
        name = buffer.raw[at + 19:at + length].split(b"\0", 1)[0]
        entries.append((name, inode, kind, cookie))
        at += length
    return entries


class Statx(ctypes.Structure):
    _fields_ = [
        ("mask", ctypes.c_uint32), ("blksize", ctypes.c_uint32), ("attributes", ctypes.c_uint64),
        ("nlink", ctypes.c_uint32), ("uid", ctypes.c_uint32), ("gid", ctypes.c_uint32), ("mode", ctypes.c_uint16),
        ("spare0", ctypes.c_uint16), ("ino", ctypes.c_uint64), ("size", ctypes.c_uint64), ("blocks", ctypes.c_uint64),
        ("attributes_mask", ctypes.c_uint64), ("time", ctypes.c_uint8 * 64), ("rdev_major", ctypes.c_uint32),
        ("rdev_minor", ctypes.c_uint32), ("dev_major", ctypes.c_uint32), ("dev_minor", ctypes.c_uint32),
        ("mnt_id", ctypes.c_uint64), ("dio_mem_align", ctypes.c_uint32), ("dio_offset_align", ctypes.c_uint32),
        ("spare3", ctypes.c_uint64 * 12),
    ]

    def nanoseconds(self, which):
        """Of "access", "birth", "change" or "modify"."""
        at = ["access", "birth", "change", "modify"].index(which) * 16
        seconds, nanoseconds = struct.unpack_from("=qI", bytes(self.time), at)
        return seconds * 1_000_000_000 + nanoseconds


STATX_BASIC, STATX_BTIME, STATX_MNT_ID, STATX_DIOALIGN = 0x7FF, 0x800, 0x1000, 0x2000
AT_STATX_FORCE_SYNC, AT_STATX_DONT_SYNC = 0x2000, 0x4000


def statx(path, mask=STATX_BASIC | STATX_BTIME, flags=0, fd=AT_FDCWD):
    result = Statx()
    check(libc.syscall(SYS["statx"], fd, path_bytes(path), flags, mask, ctypes.byref(result)))
    return result


RESOLVE_NO_XDEV, RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH, RESOLVE_IN_ROOT, RESOLVE_CACHED = 1, 4, 8, 16, 32


def openat2(path, flags=0, mode=0, resolve=0, fd=AT_FDCWD):
    how = struct.pack("=QQQ", flags, mode, resolve)
    return check(libc.syscall(SYS["openat2"], fd, path_bytes(path), how, ctypes.c_size_t(len(how))))


def fchmodat2(path, mode, flags, fd=AT_FDCWD):
    return check(libc.syscall(SYS["fchmodat2"], fd, path_bytes(path), mode, flags))


HANDLE_ROOM = 128


def name_to_handle(path, flags=0, fd=AT_FDCWD):
    """(handle, mount id)"""
    handle = ctypes.create_string_buffer(struct.pack("=Ii", HANDLE_ROOM, 0) + bytes(HANDLE_ROOM))
    mount = ctypes.c_int()
    check(libc.name_to_handle_at(fd, path_bytes(path), handle, ctypes.byref(mount), flags))
    return handle, mount.value


def open_by_handle(mount_fd, handle, flags):
    return check(libc.open_by_handle_at(mount_fd, handle, flags))


def inotify_init(flags=os.O_NONBLOCK):
    return check(libc.inotify_init1(flags))


def inotify_add(fd, path, mask):
    return check(libc.inotify_add_watch(fd, path_bytes(path), ctypes.c_uint32(mask)))


def inotify_remove(fd, watch):
    return check(libc.inotify_rm_watch(fd, watch))


def inotify_read(fd):
    """(watch, mask, cookie, name) of each event that is there."""
    events = []
    while True:
        try:
            data = os.read(fd, 1 << 16)
        except BlockingIOError:
            return events
        at = 0
        while at < len(data):
            watch, mask, cookie, length = struct.unpack_from("=iIII", data, at)
            name = data[at + 16:at + 16 + length].rstrip(b"\0")
            events.append((watch, mask, cookie, name.decode(errors="surrogateescape")))
            at += 16 + length


def syncfs(fd):
    return check(libc.syncfs(fd))


def sync_file_range(fd, offset, length, flags):
    return check(libc.sync_file_range(fd, ctypes.c_int64(offset), ctypes.c_int64(length), flags))


def readahead(fd, offset, length):
    return check(libc.readahead(fd, ctypes.c_int64(offset), ctypes.c_size_t(length)))


def mknod(path, mode, device=0):
    return os.mknod(path, mode, device)


def unshare(flags):
    return check(libc.unshare(flags))


CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 32, 4096, 16384, 1 << 18


def mount(source, target, flags, kind=None, options=None):
    words = [None if word is None else path_bytes(word) for word in (source, target, kind)]
    return check(libc.mount(*words, ctypes.c_ulong(flags), None if options is None else options.encode()))


def detach(target):
    """umount2(2): takes a mount away, and never waits for its server."""
    MNT_DETACH, UMOUNT_NOFOLLOW = 2, 8
    return check(libc.umount2(path_bytes(target), MNT_DETACH | UMOUNT_NOFOLLOW))


def fstatfs_type(fd):
    """f_type: the magic number of the file system."""
    buffer = ctypes.create_string_buffer(256)
    check(libc.fstatfs(fd, buffer))
    return struct.unpack_from("=q", buffer, 0)[0]


def aligned_buffer(length, alignment=4096):
    """An anonymous mapping: it begins at a page."""
    import mmap
    return mmap.mmap(-1, max(length, alignment))
