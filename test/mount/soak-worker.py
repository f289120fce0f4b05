"""
One worker of the soak run (test/helpers/soak.ts): works in a directory of its own below a mount until it is killed.

    soak-worker.py KIND DIRECTORY JOURNAL SEED [verify]

It is killed by SIGKILL at any moment and started again, so each kind of work is such that what a kill may leave can be
told from what it may not. It first verifies what is there, then works in steps; after each it prints a line, by which
it is seen to go on. With `verify` it only verifies. JOURNAL is a file outside the mount in which it notes what was
promised (a line each): what is noted must be there. Whatever is wrong ends it with a traceback.
"""
import ctypes
import errno
import fcntl
import hashlib
import mmap
import os
import random
import sqlite3
import struct
import sys
import zlib

PAGE = 4096
HEADER = struct.Struct("<4sQI")  # magic, step, length of all


def record(step, length, seed):
    """A record of exactly this length, 20 at least, that says of itself whether it is whole."""
    body = HEADER.pack(b"SOAK", step, length) + random.Random(seed).randbytes(length - HEADER.size - 4)
    return body + struct.pack("<I", zlib.crc32(body))


def record_at(data, at):
    """The step and the length of the whole record at this place, or None."""
    if at + HEADER.size > len(data):
        return None
    magic, step, length = HEADER.unpack_from(data, at)
    if magic != b"SOAK" or length < HEADER.size + 4 or at + length > len(data):
        return None
    end = at + length
    whole = zlib.crc32(data[at : end - 4]) == struct.unpack_from("<I", data, end - 4)[0]
    return (step, length) if whole else None


def read(path):
    with open(path, "rb") as file:
        return file.read()


class Work:
    def __init__(self, directory, journal, seed):
        self.directory = directory
        self.journal = journal
        self.random = random.Random(seed)
        os.makedirs(directory, exist_ok=True)
        os.chdir(directory)
        self.promised = read(journal).decode().split("\n")[:-1] if os.path.exists(journal) else []
        self.step_number = int(self.random.random() * 2**31)

    def promise(self, text):
        descriptor = os.open(self.journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(descriptor, f"{text}\n".encode())
        os.close(descriptor)

    def next_step(self):
        self.step_number += 1
        return self.step_number

    def take_errors(self):
        """
        What the kernel remembers of a killed process: it tells the server the ctime of a file that was renamed, linked,
        unlinked or got an xattr, and if the process is killed before the server has seen that, the file's next close says
        EIO, whoever's it is, and its next fsync or msync EINTR (fuse_flush_time_update of Linux). Nothing is lost. Taken here, once
        a life; from then on an error is one. Returns how many there were.
        """
        count = 0
        for path, _, files in os.walk("."):
            for name in files:
                path_name = os.path.join(path, name)
                descriptor = os.open(path_name, os.O_RDONLY)
                try:
                    os.close(descriptor)
                except OSError as error:
                    assert error.errno == errno.EIO, error
                    count += 1
                # What an fsync is told is remembered apart: EINTR, after which Python calls it again.
                descriptor = os.open(path_name, os.O_RDONLY)
                os.fsync(descriptor)
                os.close(descriptor)
        return count

    def verify(self):
        """After a kill, or at the end."""

    def step(self):
        raise NotImplementedError


class Files(Work):
    """Files to which records are appended. A kill may leave a part of a record at the end of one."""

    def check(self, name, torn_end):
        data, at = read(name), 0
        while at < len(data):
            found = record_at(data, at)
            if found is None:
                assert torn_end, f"{name}: no record at {at} of {len(data)}"
                os.truncate(name, at)
                return
            at += found[1]

    def verify(self):
        for name in os.listdir("."):
            self.check(name, True)

    def step(self):
        name = f"file-{self.random.randrange(12)}"
        what = self.random.random()
        if what < 0.7:
            step = self.next_step()
            data = record(step, self.random.choice([40, 700, 5000, 60_000]), step)
            descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            assert os.write(descriptor, data) == len(data)
            if self.random.random() < 0.2:
                os.fsync(descriptor)
            if os.fstat(descriptor).st_size > 500_000:
                os.ftruncate(descriptor, 0)
            os.close(descriptor)
        elif what < 0.8 and os.path.exists(name):
            os.unlink(name)
        elif os.path.exists(name):
            self.check(name, False)


class Mapped(Work):
    """A shared mapping of pages with a record each. A kill may tear the one record that was being stored."""

    PAGES = 48

    def verify(self):
        if not os.path.exists("mapped"):
            return
        data = read("mapped")
        torn = [at for at in range(0, len(data), PAGE) if any(data[at : at + PAGE]) and record_at(data, at) is None]
        assert len(torn) <= 1, f"torn records at {torn}"
        with open("mapped", "r+b") as file:
            for at in torn:
                os.pwrite(file.fileno(), bytes(PAGE), at)

    def step(self):
        descriptor = os.open("mapped", os.O_RDWR | os.O_CREAT, 0o644)
        os.ftruncate(descriptor, self.PAGES * PAGE)
        mapping = mmap.mmap(descriptor, self.PAGES * PAGE)
        if self.random.random() < 0.5:
            os.close(descriptor)
            descriptor = None
        for _ in range(self.random.randrange(1, 40)):
            step = self.next_step()
            at = PAGE * self.random.randrange(self.PAGES)
            data = record(step, self.random.choice([64, 2000, PAGE]), step)
            mapping[at : at + len(data)] = data
            what = self.random.random()
            if what < 0.3:
                mapping.flush()
            elif what < 0.4 and descriptor is not None:
                os.fsync(descriptor)
            elif what < 0.6 and descriptor is not None:
                assert os.pread(descriptor, len(data), at) == data, f"read and mapping differ at {at}"
        mapping.close()
        if descriptor is not None:
            os.close(descriptor)


class Renames(Work):
    """Files that are replaced by rename after a sync: each name is always one whole record, and never goes back."""

    def verify(self):
        least = {}
        for line in self.promised:
            name, step = line.split()
            least[name] = int(step)
        for name, step in least.items():
            data = read(name)
            found = record_at(data, 0)
            assert found is not None and found[1] == len(data), f"{name} is not whole"
            assert found[0] >= step, f"{name} is as in replacement {found[0]}, and {step} was promised"

    def step(self):
        name = f"name-{self.random.randrange(8)}"
        # Counted through all lives: one that was not promised any more may have its number twice.
        step = len(self.promised) + 1
        temporary = f"new-{self.random.randrange(3)}"
        with open(temporary, "wb") as file:
            file.write(record(step, self.random.choice([40, 3000, 30_000]), step))
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, name)
        self.promised.append(f"{name} {step}")
        self.promise(f"{name} {step}")
        moved = f"directory-{self.random.randrange(3)}"
        os.makedirs(f"{moved}/inner", exist_ok=True)
        if not os.path.exists(f"{moved}-moved"):
            os.rename(moved, f"{moved}-moved")
        else:
            # Whoever was killed while it removed the tree may have left the directory alone.
            os.makedirs(f"{moved}-moved/inner", exist_ok=True)
            os.rename(moved, f"{moved}-moved/inner/{step}")
            if self.random.random() < 0.1:
                for path, directories, files in os.walk(f"{moved}-moved", topdown=False):
                    for entry in directories:
                        os.rmdir(os.path.join(path, entry))
                os.rmdir(f"{moved}-moved")


class Locks(Work):
    """Two processes that count in one file, under a lock: no count is lost, whoever is killed."""

    FORMAT = struct.Struct("<QI")

    def value(self, descriptor):
        data = os.pread(descriptor, self.FORMAT.size, 0)
        if data == b"":
            return 0
        number, checksum = self.FORMAT.unpack(data)
        assert checksum == zlib.crc32(data[:8]), "the counter is torn"
        return number

    def verify(self):
        if self.promised:
            descriptor = os.open("counter", os.O_RDONLY)
            assert self.value(descriptor) >= len(self.promised), "a count was lost"
            os.close(descriptor)

    def step(self):
        if os.fork() == 0:
            try:
                self.count(5)
            except BaseException as error:
                print(f"the child failed: {error!r}", file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)
        self.count(5)
        _, status = os.wait()
        assert status == 0, f"the child ended with {status}"

    def count(self, times):
        for _ in range(times):
            descriptor = os.open("counter", os.O_RDWR | os.O_CREAT, 0o644)
            # Both kinds, always in this order.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            fcntl.lockf(descriptor, fcntl.LOCK_EX)
            number = struct.pack("<Q", self.value(descriptor) + 1)
            assert os.pwrite(descriptor, number + struct.pack("<I", zlib.crc32(number)), 0) == self.FORMAT.size
            self.promise("counted")
            os.close(descriptor)


class Trees(Work):
    """Objects named by their content, made as git makes them: whatever has its name is whole."""

    def verify(self):
        names = [f"{path}/{name}" for path, _, files in os.walk("objects") for name in files]
        for name in names:
            self.check(name)
        if os.path.exists("head"):
            self.check(read("head").decode())

    def check(self, name):
        if name.endswith(".new"):
            return
        digest = hashlib.sha1(read(name)).hexdigest()
        assert name == f"objects/{digest[:2]}/{digest[2:]}", f"{name} has another content ({digest})"

    def step(self):
        data = self.random.randbytes(self.random.choice([100, 2000, 20_000]))
        digest = hashlib.sha1(data).hexdigest()
        directory = f"objects/{digest[:2]}"
        os.makedirs(directory, exist_ok=True)
        name, temporary = f"{directory}/{digest[2:]}", f"{directory}/{os.getpid()}.new"
        with open(temporary, "wb") as file:
            file.write(data)
        if self.random.random() < 0.5:
            os.link(temporary, name)
            os.unlink(temporary)
        else:
            os.rename(temporary, name)
        with open("head.new", "w") as file:
            file.write(name)
        os.rename("head.new", "head")
        if self.random.random() < 0.1:
            self.check(name)
            self.collect(name)

    def collect(self, keep):
        for directory in os.listdir("objects"):
            for name in os.listdir(f"objects/{directory}"):
                path = f"objects/{directory}/{name}"
                if path != keep and self.random.random() < 0.3:
                    os.unlink(path)
            if not os.listdir(f"objects/{directory}"):
                os.rmdir(f"objects/{directory}")


class Database(Work):
    """SQLite: every transaction that was promised is there, and the file is sound."""

    def open(self):
        database = sqlite3.connect("database", timeout=60, isolation_level=None)
        mode = self.random.choice(["delete", "wal", "truncate"])
        database.execute(f"pragma journal_mode = {mode}")
        database.execute("create table if not exists entries (number integer primary key, value blob, digest text)")
        return database

    def verify(self):
        if not os.path.exists("database"):
            return
        database = self.open()
        assert database.execute("pragma integrity_check").fetchall() == [("ok",)]
        highest = database.execute("select max(number) from entries").fetchone()[0] or 0
        promised = int(self.promised[-1]) if self.promised else 0
        assert highest >= promised, f"{highest} is the last entry, {promised} was promised"
        for number, value, digest in database.execute("select * from entries"):
            assert hashlib.sha1(value).hexdigest() == digest, number
        database.close()

    def step(self):
        database = self.open()
        for _ in range(5):
            database.execute("begin immediate")
            number = database.execute("select max(number) from entries").fetchone()[0] or 0
            for _ in range(self.random.randrange(1, 10)):
                number += 1
                value = self.random.randbytes(self.random.choice([10, 500, 5000]))
                database.execute("insert into entries values (?, ?, ?)", (number, value, hashlib.sha1(value).hexdigest()))
            database.execute("delete from entries where number < ?", (number - 200,))
            database.execute("commit")
            self.promise(number)
        database.close()


class Large(Work):
    """Files of megabytes, written in large pieces: each page is one whole record, or a hole."""

    def verify(self):
        for name in os.listdir("."):
            self.check(name)

    def check(self, name):
        data = read(name)
        for at in range(0, len(data) - PAGE + 1, PAGE):
            if record_at(data, at) is None:
                assert not any(data[at : at + PAGE]), f"{name}: no record in the page at {at}"

    def pages(self, count):
        step = self.next_step()
        return record(step, PAGE, step) * count

    def step(self):
        name = f"large-{self.random.randrange(3)}"
        what = self.random.random()
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | (os.O_DIRECT if what < 0.3 else 0), 0o644)
        count = self.random.choice([16, 256, 512])
        at = PAGE * self.random.randrange(1024)
        if what < 0.7:
            with mmap.mmap(-1, count * PAGE) as aligned:
                aligned[:] = self.pages(count)
                assert os.pwrite(descriptor, aligned, at) == count * PAGE
            if self.random.random() < 0.3:
                os.fsync(descriptor)
        elif what < 0.8:
            os.ftruncate(descriptor, PAGE * self.random.randrange(1024))
        elif what < 0.9:
            other = os.open(f"large-{self.random.randrange(3)}", os.O_WRONLY | os.O_CREAT, 0o644)
            if not os.path.sameopenfile(descriptor, other):
                os.copy_file_range(descriptor, other, count * PAGE, at, at)
            os.close(other)
        else:
            if os.fstat(descriptor).st_size > 0:
                os.lseek(descriptor, 0, os.SEEK_HOLE)
            self.check(name)
        os.close(descriptor)


class Past(Work):
    """Reads snapshots, which come and go: what is read twice is the same, and what others promise of files holds."""

    def step(self):
        root = os.path.dirname(self.directory)
        names = os.listdir(f"{root}/@")
        if not names:
            return
        name = self.random.choice(names)
        try:
            first = self.look(f"{root}/@{name}")
            second = self.look(f"{root}/@{name}")
        except OSError as error:
            # It was deleted meanwhile; what is open goes on, what is looked up does not.
            assert name not in os.listdir(f"{root}/@"), f"@{name} is there, and {error!r}"
            return
        assert first == second or name not in os.listdir(f"{root}/@"), f"@{name} changed"

    def look(self, state):
        """Digests of what some workers have there."""
        found = {}
        # The first snapshots are older than some directories.
        for kind in sorted({"renames", "trees"} & set(os.listdir(state))):
            for path, directories, files in os.walk(f"{state}/{kind}", onerror=self.fail):
                directories.sort()
                for file in sorted(files)[:20]:
                    data = read(os.path.join(path, file))
                    found[f"{path}/{file}"] = hashlib.sha1(data).hexdigest()
                    if file.startswith("name-"):
                        whole = record_at(data, 0)
                        assert whole is not None and whole[1] == len(data), f"{path}/{file} is not whole"
        return found

    @staticmethod
    def fail(error):
        raise error


KINDS = {
    "files": Files,
    "mapped": Mapped,
    "renames": Renames,
    "locks": Locks,
    "trees": Trees,
    "database": Database,
    "large": Large,
    "past": Past,
}


def main():
    kind, directory, journal, seed = sys.argv[1:5]
    # Ends with whoever started it, however that ended (PR_SET_PDEATHSIG).
    ctypes.CDLL(None).prctl(1, 9)
    work = KINDS[kind](directory, journal, int(seed))
    print("errors", work.take_errors(), flush=True)
    work.verify()
    while len(sys.argv) < 6:
        work.step()
        print("step", flush=True)


main()
