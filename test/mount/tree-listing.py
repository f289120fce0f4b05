"""
Lists a tree, one line for each entry in the order of paths: type, permissions, owner, modification time, content,
link structure, extended attributes (access control lists among them), holes. Two trees that list the same are the
same.

Arguments: directories (the list of each begins with a form feed), and --no-holes where a tool may fill or make them.
"""
import hashlib
import os
import stat
import sys

options = {word for word in sys.argv[1:] if word.startswith("--")}
BLOCK = 4096


def holes(descriptor, size):
    """Runs of data, in whole blocks, within the size."""
    runs = []
    at = 0
    while at < size:
        try:
            start = os.lseek(descriptor, at, os.SEEK_DATA)
        except OSError:
            break
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        runs.append((start // BLOCK, min(-(-end // BLOCK), -(-size // BLOCK))))
        at = end
    return runs


def content(path, size):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        digest = hashlib.sha1()
        runs = holes(descriptor, size)
        for start, end in runs:
            at, end = start * BLOCK, min(end * BLOCK, size)
            while at < end:
                data = os.pread(descriptor, min(1 << 20, end - at), at)
                if not data:
                    raise OSError("a read ended before the file")
                # Zeros are left out wherever they are, so that a filled hole has the same digest.
                for index in range(0, len(data), BLOCK):
                    block = data[index:index + BLOCK]
                    if block.strip(b"\0"):
                        digest.update(str(at + index).encode() + b":" + block)
                at += len(data)
        return digest.hexdigest(), runs
    finally:
        os.close(descriptor)


root = b""
first_names = {}


def describe(path):
    s = os.lstat(path)
    words = [f"{s.st_mode:o}", f"{s.st_uid}:{s.st_gid}", f"links={s.st_nlink}"]
    words.append(f"mtime={s.st_mtime_ns}")
    for name in sorted(os.listxattr(path, follow_symlinks=False)):
        value = os.getxattr(path, name, follow_symlinks=False)
        words.append(f"{name}={value.hex() if len(value) < 100 else hashlib.sha1(value).hexdigest()}")
    if stat.S_ISREG(s.st_mode):
        digest, runs = content(path, s.st_size)
        words += [f"size={s.st_size}", digest]
        if "--no-holes" not in options:
            words.append(f"data={runs}")
    elif stat.S_ISLNK(s.st_mode):
        words.append(repr(os.readlink(path)))
    elif stat.S_ISCHR(s.st_mode) or stat.S_ISBLK(s.st_mode):
        words.append(f"device={os.major(s.st_rdev)}:{os.minor(s.st_rdev)}")
    if not stat.S_ISDIR(s.st_mode) and s.st_nlink > 1:
        words.append(f"same={first_names.setdefault((s.st_dev, s.st_ino), path[len(root):])}")
    return " ".join(words)


def walk(path):
    print(f"{path[len(root):]!r} {describe(path)}")
    if stat.S_ISDIR(os.lstat(path).st_mode):
        for name in sorted(os.listdir(path)):
            walk(path + b"/" + name)


for word in sys.argv[1:]:
    if not word.startswith("--"):
        print("\f")
        root = os.fsencode(word)
        first_names.clear()
        walk(root)
