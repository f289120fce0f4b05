"""Makes system calls for the conformance suite.

Reads one request a line, {"op": name, "args": [...], "as": {...} or null}, and answers each with one line,
{"ok": value} or {"errno": name}. Byte strings travel as {"b": base64}, numbers beyond 2^53 as strings.
All paths are relative to the working directory.
"""
import base64
import ctypes
import errno
import json
import os
import platform
import struct
import sys

libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
AT_SYMLINK_FOLLOW = 0x400
UTIME_NOW = (1 << 30) - 1
UTIME_OMIT = (1 << 30) - 2
SYS_GETDENTS64 = {"x86_64": 217, "aarch64": 61}[platform.machine()]


def check(result):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def unpack(value):
    if isinstance(value, dict) and "b" in value:
        return base64.b64decode(value["b"])
    if isinstance(value, str):
        return int(value)
    return value


def pack(value):
    return {"b": base64.b64encode(value).decode()}


def stat(s):
    return {
        "ino": str(s.st_ino), "mode": s.st_mode, "nlink": s.st_nlink, "uid": s.st_uid, "gid": s.st_gid,
        "rdev": os.minor(s.st_rdev) & 0xFF | os.major(s.st_rdev) << 8 | (os.minor(s.st_rdev) & ~0xFF) << 12,
        "size": s.st_size, "blocks": s.st_blocks,
        "atimeNs": str(s.st_atime_ns), "mtimeNs": str(s.st_mtime_ns), "ctimeNs": str(s.st_ctime_ns),
    }


def mknod(path, mode, device):
    # The kernel's encoding of a device number (new_encode_dev).
    os.mknod(path, mode, os.makedev((device >> 8) & 0xFFF, device & 0xFF | (device >> 12) & 0xFFF00))


def rename(path, new_path, flags):
    check(libc.renameat2(AT_FDCWD, path, AT_FDCWD, new_path, flags))


def link_fd(fd, new_path):
    check(libc.linkat(AT_FDCWD, b"/proc/self/fd/%d" % fd, AT_FDCWD, new_path, AT_SYMLINK_FOLLOW))


def fallocate(fd, mode, offset, length):
    check(libc.fallocate(fd, mode, ctypes.c_int64(offset), ctypes.c_int64(length)))


def timespec(change):
    if change == "now":
        return 0, UTIME_NOW
    if change == "omit":
        return 0, UTIME_OMIT
    return divmod(int(change), 1_000_000_000)


def utimens(path, access, modify, follow):
    times = struct.pack("=qqqq", *timespec(access), *timespec(modify))
    check(libc.utimensat(AT_FDCWD, path, times, 0 if follow else AT_SYMLINK_NOFOLLOW))


def getdents(fd, size):
    buffer = ctypes.create_string_buffer(size)
    count = check(libc.syscall(SYS_GETDENTS64, fd, buffer, size))
    entries = []
    at = 0
    while at < count:
        ino, cookie, length, kind = struct.unpack_from("=QqHB", buffer, at)
        name = buffer.raw[at + 19:at + length].split(b"\0", 1)[0]
        entries.append({"name": pack(name), "ino": str(ino), "type": kind, "cookie": str(cookie)})
        at += length
    return entries


def access(path, mask):
    if not os.access(path, mask, effective_ids=True):
        # os.access hides the reason.
        os.stat(path)
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))


def append(fd, data):
    return os.write(fd, data)


def statfs(path):
    s = os.statvfs(path)
    return {"blockSize": s.f_frsize, "blocks": s.f_blocks, "blocksFree": s.f_bfree, "nameMax": s.f_namemax}


OPS = {
    "chdir": os.chdir,
    "stat": lambda path: stat(os.stat(path)),
    "lstat": lambda path: stat(os.lstat(path)),
    "fstat": lambda fd: stat(os.fstat(fd)),
    "access": access,
    "mkdir": os.mkdir,
    "rmdir": os.rmdir,
    "mknod": mknod,
    "symlink": os.symlink,
    "readlink": lambda path: pack(os.readlink(path)),
    "link": lambda path, new_path: os.link(path, new_path, follow_symlinks=False),
    "unlink": os.unlink,
    "rename": rename,
    "open": lambda path, flags, mode: os.open(path, flags, mode),
    "close": os.close,
    "linkFd": link_fd,
    "pread": lambda fd, offset, length: pack(os.pread(fd, length, offset)),
    "pwrite": lambda fd, offset, data: os.pwrite(fd, data, offset),
    "append": append,
    "fsync": os.fsync,
    "truncate": os.truncate,
    "ftruncate": os.ftruncate,
    "fallocate": fallocate,
    "lseek": os.lseek,
    "copyFileRange": lambda source, source_offset, target, target_offset, length:
        os.copy_file_range(source, target, length, source_offset, target_offset),
    "chmod": os.chmod,
    "chown": os.chown,
    "lchown": os.lchown,
    "utimens": utimens,
    "opendir": lambda path: os.open(path, os.O_RDONLY | os.O_DIRECTORY),
    "getdents": getdents,
    "seekdir": lambda fd, cookie: os.lseek(fd, cookie, os.SEEK_SET),
    "getxattr": lambda path, name: pack(os.getxattr(path, name, follow_symlinks=False)),
    "setxattr": lambda path, name, value, flags: os.setxattr(path, name, value, flags, follow_symlinks=False),
    "listxattr": lambda path: os.listxattr(path, follow_symlinks=False),
    "removexattr": lambda path, name: os.removexattr(path, name, follow_symlinks=False),
    "statfs": statfs,
}
RAW = {"utimens"}
# Of two names for one number, the one that the suite uses.
NAMES = {**errno.errorcode, errno.EOPNOTSUPP: "EOPNOTSUPP", errno.EAGAIN: "EAGAIN"}


def become(identity):
    if identity is None:
        return
    os.setgroups(identity.get("groups") or [])
    os.setegid(identity["gid"])
    os.seteuid(identity["uid"])
    if "umask" in identity:
        os.umask(identity["umask"])


def come_back(identity):
    if identity is None:
        return
    os.seteuid(0)
    os.setegid(0)
    os.setgroups([])
    os.umask(0)


def main():
    os.umask(0)
    if os.geteuid() == 0:
        os.setgroups([])
    for line in sys.stdin:
        request = json.loads(line)
        op, args, identity = request["op"], request["args"], request.get("as")
        if op in RAW:
            args = [unpack(args[0])] + args[1:]
        else:
            args = [unpack(arg) for arg in args]
        try:
            become(identity)
            try:
                result = OPS[op](*args)
            finally:
                come_back(identity)
            answer = {"ok": result}
        except OSError as error:
            answer = {"errno": NAMES.get(error.errno, str(error.errno))}
        except (ValueError, OverflowError) as error:
            answer = {"errno": "EINVAL", "detail": str(error)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


main()
