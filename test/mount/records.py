"""
Writes and verifies records that describe themselves, for tests that kill the daemon of a mount.

    records.py write DIRECTORY LOG SEED     changes files in DIRECTORY until the mount dies; LOG, outside, says what
                                            was begun and what was acknowledged as durable
    records.py verify DIRECTORY LOG         prints what is wrong, a line each

A record is (file, sequence, length, bytes, checksum). Four kinds of files, each with sequences that only grow:
    append      records one after the other
    slots       64 places of 512 bytes, overwritten at random; a place lies within one page
    file-K      replaced: written under another name, synced, renamed
    new-N       created with one record and closed; the oldest are removed
A sync of any file or directory makes everything durable that was handed over before, for a state is a prefix of what
was done. Each line of the log: begin|durable KIND PLACE SEQUENCE.
"""
import os
import random
import struct
import sys
import zlib

HEADER = struct.Struct("<4s16sQI")
SLOT = 512
SLOTS = 64


def record(name, sequence, length):
    data = random.Random(sequence * 31 + length).randbytes(length)
    body = HEADER.pack(b"LREC", name.encode(), sequence, length) + data
    return body + struct.pack("<I", zlib.crc32(body))


def parse(data, at, name):
    """The record at an offset as (sequence, end), or None if there is no whole one."""
    if at + HEADER.size > len(data):
        return None
    magic, found, sequence, length = HEADER.unpack_from(data, at)
    end = at + HEADER.size + length
    if magic != b"LREC" or found.rstrip(b"\0").decode("latin1") != name or end + 4 > len(data):
        return None
    if struct.unpack_from("<I", data, end)[0] != zlib.crc32(data[at:end]):
        return None
    return sequence, end + 4


def read_log(path):
    """Kind and place -> [last begun, last durable]."""
    known = {}
    with open(path, "a+") as log:
        log.seek(0)
        for line in log:
            what, kind, place, sequence = line.split()
            entry = known.setdefault((kind, int(place)), [0, 0])
            entry[0 if what == "begin" else 1] = int(sequence)
    return known


def sync(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Writer:
    def __init__(self, directory, log, seed):
        self.random = random.Random(seed)
        self.sequences = {key: begun for key, (begun, _) in read_log(log).items()}
        self.log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        # What a sync will make durable.
        self.pending = {}
        os.makedirs(directory, exist_ok=True)
        os.chdir(directory)
        sync("..")
        self.append_file = os.open("append", os.O_RDWR | os.O_CREAT)
        self.repair_append()
        self.slots = os.open("slots", os.O_RDWR | os.O_CREAT)
        self.repair_new()

    def repair_append(self):
        """Cuts off what is not whole, as a database does with its log."""
        data = os.pread(self.append_file, os.fstat(self.append_file).st_size, 0)
        at = 0
        while (found := parse(data, at, "append")) is not None:
            self.sequences["append", 0], at = found
        os.ftruncate(self.append_file, at)
        os.lseek(self.append_file, at, os.SEEK_SET)

    def repair_new(self):
        """Goes on behind the last whole one, so that there is no gap."""
        numbers = sorted(int(name[4:]) for name in os.listdir(".") if name.startswith("new-"))
        if numbers:
            name = f"new-{numbers[-1]}"
            with open(name, "rb") as file:
                whole = parse(file.read(), 0, name) is not None
            if not whole:
                os.unlink(name)
                numbers.pop()
        if numbers:
            self.sequences["new", 0] = numbers[-1]
        self.oldest = numbers[0] if numbers else self.sequences.get(("new", 0), 0) + 1

    def begin(self, kind, place=0):
        sequence = self.sequences.get((kind, place), 0) + 1
        self.sequences[kind, place] = sequence
        self.say("begin", kind, place, sequence)
        return sequence

    def say(self, what, kind, place, sequence):
        os.write(self.log, f"{what} {kind} {place} {sequence}\n".encode())

    def durable(self, *only):
        for key in only or list(self.pending):
            self.say("durable", *key, self.pending.pop(key))

    def append(self):
        sequence = self.begin("append")
        os.write(self.append_file, record("append", sequence, self.random.choice([1, 100, 1000, 6000])))
        if self.random.random() < 0.3:
            os.fsync(self.append_file)
            self.pending["append", 0] = sequence
            self.durable()

    def overwrite(self):
        place = self.random.randrange(SLOTS)
        sequence = self.begin("slot", place)
        os.pwrite(self.slots, record(f"slot{place}", sequence, self.random.randrange(SLOT - HEADER.size - 4)), place * SLOT)
        if self.random.random() < 0.5:
            os.fdatasync(self.slots)
            self.pending["slot", place] = sequence
            self.durable()

    def replace(self):
        place = self.random.randrange(8)
        sequence = self.begin("file", place)
        with open(f"temporary-{place}", "wb") as file:
            file.write(record(f"file-{place}", sequence, self.random.choice([1, 500, 5000, 200_000])))
            file.flush()
            os.fsync(file.fileno())
        self.durable()
        os.rename(f"temporary-{place}", f"file-{place}")
        self.pending["file", place] = sequence
        if self.random.random() < 0.7:
            sync(".")
            self.durable()

    def create(self):
        sequence = self.begin("new")
        with open(f"new-{sequence}", "xb") as file:
            file.write(record(f"new-{sequence}", sequence, self.random.choice([1, 300, 9000])))
        self.pending["new", 0] = sequence
        if sequence - self.oldest > 30:
            self.say("begin", "removed", 0, self.oldest)
            os.unlink(f"new-{self.oldest}")
            self.pending["removed", 0] = self.oldest
            self.oldest += 1
        if self.random.random() < 0.3:
            sync(".")
            self.durable()

    def run(self):
        while True:
            self.random.choice([self.append, self.append, self.overwrite, self.replace, self.create])()


def verify(directory, log):
    problems = []
    known = read_log(log)

    def check(kind, place, found):
        begun, durable = known.get((kind, place), [0, 0])
        if found < durable:
            problems.append(f"{kind} {place}: {durable} was durable, {found} is there")
        if found > begun:
            problems.append(f"{kind} {place}: {found} is there, which was never written")

    def read(name):
        with open(os.path.join(directory, name), "rb") as file:
            return file.read()

    names = os.listdir(directory) if os.path.isdir(directory) else []
    at = last = 0
    data = read("append") if "append" in names else b""
    while (found := parse(data, at, "append")) is not None:
        if found[0] != last + 1:
            problems.append(f"append: {found[0]} follows {last}")
        last, at = found
    check("append", 0, last)
    data = read("slots") if "slots" in names else b""
    for place in range(SLOTS):
        found = parse(data, place * SLOT, f"slot{place}")
        if found is None and data[place * SLOT:place * SLOT + SLOT].strip(b"\0"):
            problems.append(f"slot {place}: not a whole record")
        check("slot", place, 0 if found is None else found[0])
    for place in range(8):
        name = f"file-{place}"
        found = parse(read(name), 0, name) if name in names else (0, 0)
        if found is None:
            problems.append(f"{name}: renamed after a sync, and not whole")
        else:
            check("file", place, found[0])
    numbers = sorted(int(name[4:]) for name in names if name.startswith("new-"))
    if numbers:
        if numbers != list(range(numbers[0], numbers[-1] + 1)):
            problems.append(f"created in order, but there are {numbers}")
        for number in numbers:
            name = f"new-{number}"
            data = read(name)
            # The last may have been created and not yet written.
            if parse(data, 0, name) is None and number <= known.get(("new", 0), [0, 0])[1]:
                problems.append(f"{name}: durable and not whole ({len(data)} bytes)")
            elif parse(data, 0, name) is None and number != numbers[-1]:
                problems.append(f"{name}: not whole ({len(data)} bytes), and there is {numbers[-1]}")
        check("removed", 0, numbers[0] - 1)
        check("new", 0, numbers[-1])
    else:
        check("new", 0, 0)
    return problems


if sys.argv[1] == "write":
    writer = Writer(sys.argv[2], sys.argv[3], sys.argv[4])
    print("ready", flush=True)
    try:
        writer.run()
    except OSError as error:
        # The mount died under it.
        print(os.strerror(error.errno), flush=True)
else:
    for problem in verify(sys.argv[2], sys.argv[3]):
        print(problem)
