"""
One of several programs that write to a mount whose daemon is killed, and know afterwards what must be there.

    records.py DIRECTORY STORE WRITER SEED [small-requests]

DIRECTORY is below the mount, STORE is where the daemon's control socket is. Commands come as lines of JSON on standard
input; each gets one line of JSON in reply. For a mount whose requests hold 128 KiB and whose kernel drops pages at each open: without
large direct writes, which are not one request there, and without mappings (a store into a page that the kernel does not have
ends the program by SIGBUS when the daemon is gone).

    {"do": "write"}                 changes files until the mount dies, or until the next line; replies twice: when it
                                    begins, and when it ends, with the error
    {"do": "stop"}                  ends writing
    {"do": "verify", "past": N}     compares DIRECTORY with what was done, and up to N past states with what was noted

What is done is a sequence of steps, numbered from 1 and never again. The program keeps a model of the directory as it
was after the last step that a sync acknowledged, and the steps after it. A step ends with a close or a sync, so that the
kernel holds nothing back, and the next begins after it: what the daemon is asked to do is the steps in their order.
What a crash leaves must therefore be the model after one of the steps from the last acknowledged to the last begun, or
be in the midst of one of them, whose kind says what that may be:

    atomic      one request to the daemon: as before or as after
    pages       one cached write: each page of 4,096 bytes as before or after, so a record within one page is whole
    bytes       stores to a mapping, which the kernel may write back between two of them

When the daemon refuses a step for want of space or descriptors, writing ends; what was refused must not have happened, or
in part where the kind of the step says so, and is taken away before the next step: what the kernel still holds of it goes too.

Every record names its writer, its file and its step, and has a checksum: what does not belong is told by name.
Between two steps, after a sync, the program at times asks the daemon for the durable LSN and notes the model with it:
its part of that state can never change again.
"""
import errno
import json
import mmap
import os
import random
import select
import socket
import stat
import struct
import sys
import time
import zlib

PAGE = 4096
HEADER = struct.Struct("<4sIQ16sI")  # magic, writer, step, file, length of all
SLOT = 512
SLOTS = 64
LARGE_UNIT = 64 * 1024
NOTES_KEPT = 40
REFUSALS = (errno.ENOSPC, errno.ENFILE, errno.EMFILE)


class Link(str):
    """What a symbolic link says, as the content of a name."""


def describe(data):
    """For people: which records a content begins with."""
    if data is None:
        return "nothing"
    if isinstance(data, Link):
        return f"a link to {data}"
    found = []
    at = 0
    while at + HEADER.size <= len(data) and len(found) < 4:
        magic, writer, step, name, length = HEADER.unpack_from(data, at)
        if magic != b"LREC" or length < HEADER.size + 4 or at + length > len(data):
            break
        whole = zlib.crc32(data[at : at + length - 4]) == struct.unpack_from("<I", data, at + length - 4)[0]
        name = name.rstrip(b"\0").decode("latin1")
        found.append(f"{'' if whole else 'torn '}record of writer {writer} for {name} in step {step}")
        at += length
    return f"{len(data)} bytes ({'; '.join(found) or 'no record'})"


def mixed(found, before, after, unit):
    """Whether each unit of `found` is as in `before` or as in `after`, and so is its length, or at an end of a unit."""
    low, high = sorted((len(before), len(after)))
    if not (low <= len(found) <= high) or (len(found) not in (low, high) and len(found) % PAGE != 0):
        return False
    size = len(found)
    before = before[:size].ljust(size, b"\0")
    after = after[:size].ljust(size, b"\0")
    return all(found[i : i + unit] in (before[i : i + unit], after[i : i + unit]) for i in range(0, size, unit))


class Model:
    """Names and what they stand for: None for a directory, otherwise the number of a file, which has a content."""

    def __init__(self, names=None, files=None):
        self.names = dict(names or {})
        self.files = dict(files or {})

    def copy(self):
        return Model(self.names, self.files)

    def content(self, name):
        return self.files[self.names[name]]

    def set(self, name, content, step):
        """A name that was not there becomes a file with the number of its step."""
        self.files[self.names.setdefault(name, step)] = content

    def remove(self, name):
        number = self.names.pop(name)
        if number is not None and number not in self.names.values():
            del self.files[number]

    def rename(self, name, new):
        number = self.names.pop(name)
        if new in self.names:
            self.remove(new)
        self.names[new] = number

    @staticmethod
    def read(directory):
        """The model of what is there; files have their inode numbers, negated: steps number theirs upwards."""
        model = Model()
        for path, directories, files in os.walk(directory):
            for name in directories + files:
                full = os.path.join(path, name)
                relative = os.path.relpath(full, directory)
                status = os.lstat(full)
                if stat.S_ISDIR(status.st_mode):
                    model.names[relative] = None
                    continue
                number = model.names[relative] = -status.st_ino
                if number in model.files:
                    continue
                if stat.S_ISLNK(status.st_mode):
                    model.files[number] = Link(os.readlink(full))
                else:
                    with open(full, "rb") as file:
                        model.files[number] = file.read()
        return model

    def differences(self, other):
        """What differs in `other`: name -> (content here, content there); a directory is Link("/")."""
        found = {}
        for name in self.names.keys() | other.names.keys():
            mine, others = self.seen(name), other.seen(name)
            if mine != others or type(mine) is not type(others):
                found[name] = (mine, others)
        if not found:
            # The same names must be the same file in both.
            pairs = {(number, other.names[name]) for name, number in self.names.items() if number is not None}
            if len(pairs) != len(self.files) or len(pairs) != len(other.files):
                found["(links)"] = (None, None)
        return found

    def seen(self, name):
        if name not in self.names:
            return None
        number = self.names[name]
        return Link("/") if number is None else self.files[number]


class Step:
    """One change: `apply` makes it in a model; `before` and `after` are contents of its file while it is under way."""

    def __init__(self, number, label, apply, name=None, kind="atomic", before=None, after=None):
        self.number = number
        self.label = label
        self.apply = apply
        self.name = name
        self.kind = kind
        self.before = before
        self.after = after
        self.began = time.monotonic()
        self.ended = None

    def may_be(self, found):
        """Whether its file may have this content in the midst of the step."""
        if not isinstance(found, bytes) or self.after is None:
            return False
        if self.kind == "atomic":
            return found == self.after  # done, and refused all the same: what failed was the sync
        return mixed(found, self.before, self.after, PAGE if self.kind == "pages" else 1)


class Writer:
    def __init__(self, directory, store, writer, seed, *options):
        left_out = (Writer.write_mapped, Writer.write_direct) if "small-requests" in options else ()
        self.steps = [step for step in self.STEPS if step not in left_out]
        self.directory = directory
        self.store = store
        self.writer = writer
        self.random = random.Random(seed)
        self.model = Model()
        self.acknowledged = Model()
        self.acknowledged_step = 0
        self.acknowledged_began = 0.0
        self.pending = []
        self.begun = 0
        self.acknowledgements = 0
        self.notes = []
        self.trail = []
        # The step that was refused last.
        self.refused = None

    # Steps.

    def begin(self, label, apply, name=None, kind="atomic", before=None, after=None):
        step = Step(self.begun, label, apply, name, kind, before, after)
        self.pending.append(step)
        self.trail = self.trail[-29:] + [f"{step.number} {label}"]
        return step

    def next(self):
        self.begun += 1
        return self.begun

    def end(self, acknowledged):
        """The last step is over; when a sync was part of it, everything is durable."""
        step = self.pending[-1]
        step.ended = time.monotonic()
        step.apply(self.model)
        if acknowledged:
            self.acknowledge()

    def acknowledge(self):
        self.acknowledged = self.model.copy()
        self.acknowledged_step = self.begun
        self.acknowledgements += 1
        if self.pending:
            self.acknowledged_began = self.pending[-1].began
            self.pending = []

    def sync(self, path):
        descriptor = os.open(self.path(path), os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def path(self, name):
        return os.path.join(self.directory, name)

    def record(self, name, step, length):
        """A record of exactly this length; 40 at least."""
        body = HEADER.pack(b"LREC", self.writer, step, name.encode(), length)
        body += random.Random(step).randbytes(length - HEADER.size - 4)
        return body + struct.pack("<I", zlib.crc32(body))

    def size(self):
        return self.random.choice([40, 100, 700, 3000, 4096, 6000, 20_000])

    def change(self, label, name, content, kind, work, acknowledged):
        """A step that gives one file a new content."""
        before = self.model.content(name) if name in self.model.names else b""
        number = self.begun
        self.begin(label, lambda model: model.set(name, content, number), name, kind, before, content)
        work()
        self.end(acknowledged)

    def append(self):
        step = self.next()
        data = self.record("append", step, self.size())
        old = self.model.content("append") if "append" in self.model.names else b""
        synced = self.random.random() < 0.4

        def work():
            descriptor = os.open(self.path("append"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            try:
                os.write(descriptor, data)
                if synced:
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)

        self.change("append", "append", old + data, "pages", work, synced)
        if len(old) > 300_000:
            self.next()
            self.rename("append", f"old-{self.random.randrange(2)}")

    def write_at(self, label, name, at, data, flags, sync, kind):
        old = self.model.content(name) if name in self.model.names else b""
        new = old[:at].ljust(at, b"\0") + data + old[at + len(data) :]

        def work():
            descriptor = os.open(self.path(name), os.O_RDWR | os.O_CREAT | flags)
            try:
                if flags & os.O_DIRECT:
                    with mmap.mmap(-1, len(data)) as aligned:
                        aligned[:] = data
                        count = os.pwrite(descriptor, aligned, at)
                else:
                    count = os.pwrite(descriptor, data, at)
                assert count == len(data), f"{label}: {count} of {len(data)} bytes were written"
                if sync is not None:
                    sync(descriptor)
            finally:
                os.close(descriptor)

        acknowledged = sync is not None or flags & os.O_DSYNC != 0
        self.change(label, name, new, kind, work, acknowledged)

    def overwrite(self):
        step = self.next()
        place = self.random.randrange(SLOTS)
        data = self.record(f"slots-{place}", step, SLOT)
        sync = self.random.choice([None, os.fdatasync])
        self.write_at("overwrite", "slots", place * SLOT, data, 0, sync, "pages")

    def write_dsync(self):
        step = self.next()
        place = self.random.randrange(16)
        data = self.record(f"dsync-{place}", step, 1024)
        self.write_at("O_DSYNC", "dsync", place * 1024, data, os.O_DSYNC, None, "pages")

    def write_direct(self):
        step = self.next()
        length = LARGE_UNIT * self.random.choice([1, 1, 2, 4])
        at = LARGE_UNIT * self.random.randrange(5)
        sync = self.random.choice([None, os.fdatasync, os.fsync])
        data = self.record(f"direct-{at}", step, length)
        if "direct" not in self.model.names:
            self.write_at("create", "direct", 0, b"", 0, os.fsync, "pages")
            self.next()
            data = self.record(f"direct-{at}", self.begun, length)
        # One request: whole or not at all, however large.
        self.write_at("O_DIRECT", "direct", at, data, os.O_DIRECT, sync, "atomic")

    def write_mapped(self):
        step = self.next()
        if "mapped" not in self.model.names or len(self.model.content("mapped")) < 8 * PAGE:
            self.write_at("create", "mapped", 0, bytes(8 * PAGE), 0, os.fsync, "pages")
            step = self.next()
        place = self.random.randrange(8)
        data = self.record(f"mapped-{place}", step, self.random.choice([64, 2000, PAGE]))
        old = self.model.content("mapped")
        at = place * PAGE

        def work():
            descriptor = os.open(self.path("mapped"), os.O_RDWR)
            try:
                with mmap.mmap(descriptor, 8 * PAGE) as memory:
                    memory[at : at + len(data)] = data
                    memory.flush()
            finally:
                os.close(descriptor)

        self.change("msync", "mapped", old[:at] + data + old[at + len(data) :], "bytes", work, True)

    def replace(self):
        """As editors and package managers do it: a new file, synced, takes the name of the old."""
        step = self.next()
        temporary = f"temporary-{self.random.randrange(2)}"
        name = f"file-{self.random.randrange(8)}"
        data = self.record(name, step, self.random.choice([40, 500, 5000, 200_000]))
        if temporary in self.model.names:
            self.unlink(temporary)
            self.next()
        self.new_file("new for rename", temporary, data, True)
        self.next()
        self.rename(temporary, name)
        if self.random.random() < 0.6:
            self.sync("")
            self.acknowledge()

    def new_file(self, label, name, data, synced):
        def work():
            descriptor = os.open(self.path(name), os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            try:
                os.write(descriptor, data)
                if synced:
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)

        self.change(label, name, data, "pages", work, synced)

    def rename(self, name, new):
        self.begin(f"rename {name} {new}", lambda model: model.rename(name, new))
        os.rename(self.path(name), self.path(new))
        self.end(False)

    def unlink(self, name):
        self.begin(f"unlink {name}", lambda model: model.remove(name))
        os.unlink(self.path(name))
        self.end(False)

    def create(self):
        """Files in directories that come and go."""
        step = self.next()
        directory = f"d-{step // 64}"
        if directory not in self.model.names:
            self.begin(f"mkdir {directory}", lambda model: model.names.__setitem__(directory, None))
            os.mkdir(self.path(directory))
            self.end(False)
            step = self.next()
        self.new_file("create", f"{directory}/new-{step}", self.record(f"new-{step}", step, self.size()), False)
        if self.random.random() < 0.3:
            self.sync(directory)
            self.acknowledge()

    def remove(self):
        """The oldest of the new files, or its directory once that is empty; at times with a sync of the directory."""
        directories = [name for name, number in self.model.names.items() if number is None]
        if not directories:
            return
        oldest = min(directories, key=lambda name: int(name[2:]))
        inside = [name for name in self.model.names if name.startswith(f"{oldest}/")]
        self.next()
        if inside:
            self.unlink(self.random.choice(inside))
            parent = oldest
        else:
            self.begin(f"rmdir {oldest}", lambda model: model.remove(oldest))
            os.rmdir(self.path(oldest))
            self.end(False)
            parent = ""
        if self.random.random() < 0.5:
            self.sync(parent)
            self.acknowledge()

    def truncate(self):
        step = self.next()
        name = f"cut-{self.random.randrange(2)}"
        if name not in self.model.names:
            self.new_file("create", name, self.record(name, step, 20_000), False)
            self.next()
        old = self.model.content(name)
        size = self.random.choice([0, 1, PAGE, len(old) // 2, len(old) + 5000])
        new = old[:size].ljust(size, b"\0")
        synced = self.random.random() < 0.5

        def work():
            descriptor = os.open(self.path(name), os.O_RDWR)
            try:
                os.ftruncate(descriptor, size)
                if synced:
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)

        if len(old) > 100_000 or old == b"":
            self.unlink(name)
        else:
            self.change(f"truncate {len(old)} to {size}", name, new, "atomic", work, synced)

    def link(self):
        """Hard and symbolic links, made in turn with their removal."""
        step = self.next()
        name = f"link-{self.random.randrange(3)}"
        files = [file for file in self.model.names if file.startswith("file-")]
        if name in self.model.names:
            self.unlink(name)
        elif files and self.random.random() < 0.7:
            target = self.random.choice(files)
            self.begin(
                f"link {target} {name}", lambda model: model.names.__setitem__(name, model.names[target])
            )
            os.link(self.path(target), self.path(name))
            self.end(False)
        else:
            content = Link(f"target-of-step-{step}")
            self.begin(f"symlink {name}", lambda model: model.set(name, content, step))
            os.symlink(content, self.path(name))
            self.end(False)
        if self.random.random() < 0.3:
            self.sync("")
            self.acknowledge()

    def note(self):
        """Everything is durable now; nothing more is done until the daemon has said up to which LSN."""
        if self.pending:
            return
        client = socket.socket(socket.AF_UNIX)
        try:
            client.settimeout(60)
            client.connect(os.path.join(self.store, "control.sock"))
            client.sendall(b'{"id":1,"operation":"status","args":{}}\n')
            reply = b""
            while not reply.endswith(b"\n"):
                piece = client.recv(65536)
                if not piece:
                    return  # killed meanwhile
                reply += piece
        except OSError:
            return  # killed meanwhile, or not yet served
        finally:
            client.close()
        self.notes.append((json.loads(reply)["result"]["durableLsn"], self.model.copy()))
        if len(self.notes) > NOTES_KEPT:
            self.notes.pop(self.random.randrange(NOTES_KEPT // 2))

    STEPS = [append, append, overwrite, overwrite, write_dsync, write_direct, write_mapped, replace, create, create]
    STEPS += [create, remove, remove, truncate, link]

    # Commands.

    def prepare(self):
        if not os.path.isdir(self.directory):
            os.mkdir(self.directory)
            self.sync("..")

    def write(self):
        self.prepare()
        self.remove_refused()
        say({"writing": True})
        while not select.select([sys.stdin], [], [], 0)[0]:
            try:
                self.random.choice(self.steps)(self)
            except OSError as problem:
                step = self.pending[-1] if self.pending and self.pending[-1].ended is None else None
                # What fails when the kernel writes back is told as EIO, unless it is ENOSPC.
                written_back = problem.errno == errno.EIO and step is not None and step.after is not None
                if step is not None and (problem.errno in REFUSALS or written_back):
                    self.refused = step
                    step.apply = lambda model: None
                raise
            if self.random.random() < 0.02:
                self.note()

    def remove_refused(self):
        step, self.refused = self.refused, None
        if step is None or step.after is None or not os.path.lexists(self.path(step.name)):
            return
        self.next()
        self.begin(f"unlink {step.name}", lambda model: step.name in model.names and model.remove(step.name))
        os.unlink(self.path(step.name))
        self.end(False)

    def verify(self, past):
        """Finds the step up to which everything survived, and goes on from there."""
        problems = []
        found = Model.read(self.directory) if os.path.isdir(self.directory) else Model()
        model = self.acknowledged.copy()
        # How many of the pending steps may have survived; more than one number where steps change nothing, or where
        # the midst of one looks like the end of another.
        possible = []
        closest = None
        for count in range(len(self.pending) + 1):
            differences = model.differences(found)
            if closest is None or len(differences) < len(closest[1]):
                closest = (count, differences)
            step = self.pending[count] if count < len(self.pending) else None
            in_midst = step is not None and set(differences) == {step.name}
            if not differences or (in_midst and step.may_be(differences[step.name][1])):
                possible.append(count)
            if step is not None:
                step.apply(model)
        if not possible:
            problems.append(self.explain(*closest))
            possible = [closest[0]]
        # What is told is what is certain: the last that must have survived, the first that must have been lost.
        survived = self.acknowledged_step if possible[0] == 0 else self.pending[possible[0] - 1].number
        began = self.acknowledged_began if possible[0] == 0 else self.pending[possible[0] - 1].began
        lost = self.pending[possible[-1] :]
        completed = next((step for step in lost if step.ended is not None), None)
        report = {
            "problems": problems,
            "begun": self.begun,
            "acknowledged": self.acknowledged_step,
            "survived": survived,
            "acknowledgements": self.acknowledgements,
            "began": began,
            "lost": completed and {"ended": completed.ended, "step": f"{completed.number} ({completed.label}; last steps: {', '.join(self.trail)})"},
            "unsaved": len(lost),
            "records": len(found.files),
        }
        self.model = found
        self.refused = None
        self.acknowledged = found.copy()
        self.acknowledged_step = self.begun
        self.pending = []
        report["states"] = self.verify_past(past, problems)
        return report

    def explain(self, count, differences):
        step = self.pending[count - 1].number if count > 0 else self.acknowledged_step
        lines = [
            f"writer {self.writer}: no step from {self.acknowledged_step} (acknowledged) to {self.begun} (begun) made"
            f" what is there; closest is {step}"
        ]
        for name, (expected, found) in sorted(differences.items())[:8]:
            lines.append(f"  {name}: {describe(expected)} expected, {describe(found)} found")
        return "\n".join(lines + [f"  last steps: {', '.join(self.trail)}"])

    def verify_past(self, count, problems):
        """The newest note, and others at random."""
        chosen = self.notes[-1:] + self.random.sample(self.notes[:-1], min(max(count - 1, 0), len(self.notes[1:])))
        mount, name = os.path.split(self.directory)
        for lsn, model in chosen[:count]:
            differences = model.differences(Model.read(os.path.join(mount, f"@lsn-{lsn}", name)))
            for path, (expected, found) in sorted(differences.items())[:4]:
                problems.append(
                    f"writer {self.writer}: {path} at LSN {lsn}: {describe(expected)} expected, {describe(found)} found"
                )
        return len(chosen[:count])

    def serve(self):
        while line := sys.stdin.readline():
            command = json.loads(line)
            if command["do"] == "verify":
                say(self.verify(command["past"]))
            elif command["do"] == "write":
                error = None
                try:
                    self.write()
                except OSError as problem:
                    error = os.strerror(problem.errno)
                say({"stopped": error})


def say(message):
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    Writer(sys.argv[1], sys.argv[2], int(sys.argv[3]), *sys.argv[4:]).serve()
