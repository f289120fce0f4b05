"""Cases of POSIX, made by real processes of real users, and how they are run.

A case is a function with a docstring that names the call and the rule: what is printed when it fails. It runs in a
process of its own, in an empty directory of its own, as root with umask 0; what it leaves running is killed with it, and
so is a case that takes too long. A case must pass on ext4, which proves the case, and on a mount.

`differs` declares a case that a mount cannot pass, with the name under which docs/MOUNT.md explains it. `needs` declares
what a binding may lack (fuse/native/capabilities.ts): on a mount of such a binding the case must fail.
"""
import contextlib
import ctypes
import errno
import fcntl
import gc
import os
import pickle
import resource
import select
import signal
import stat
import sys
import time
import traceback

CASES = []
#: Seconds that a case may take: generous, for a machine that does much else.
CASE_SECONDS = 40
LONG_CASE_SECONDS = 900
#: The kernel's clock for files ticks every 1 to 10 ms, and the server takes two changes within 10 ms for one.
TICK_SECONDS = 0.016


class Unmet(Exception):
    """A rule that does not hold."""


class Case:
    def __init__(self, area, function):
        self.name = f"{area}.{function.__name__}"
        self.rule = " ".join(function.__doc__.split())
        self.function = function
        self.difference = getattr(function, "difference", None)
        self.only = getattr(function, "only", None)
        self.long = getattr(function, "long", False)
        self.needs = getattr(function, "needs", [])
        self.sure = getattr(function, "sure", True)


def case(function):
    """Declares a case. The other decorators stand below this one."""
    CASES.append(Case(function.__module__, function))
    return function


def differs(name):
    """A mount does not keep this rule; docs/MOUNT.md says why under this name."""
    def mark(function):
        function.difference = name
        return function
    return mark


def needs(name, sure=True):
    """A binding that lacks this does not keep the rule. Not `sure`: or only now and then, or not within the time of a case."""
    def mark(function):
        function.needs = [*getattr(function, "needs", []), name]
        function.sure = sure
        return function
    return mark


def only(kind):
    """The rule is about "mount" alone."""
    def mark(function):
        function.only = kind
        return function
    return mark


def long(function):
    """Runs in the long command alone."""
    function.long = True
    return function


# What cases say ------------------------------------------------------------------------------------------------------

def same(what, actual, expected):
    if actual != expected:
        raise Unmet(f"{what}: expected {short(expected)}, got {short(actual)}")


def holds(what, condition):
    if not condition:
        raise Unmet(f"{what}: does not hold")


def short(value):
    text = oct(value) if isinstance(value, Mode) else repr(value)
    return text if len(text) <= 200 else text[:200] + "…"


class Mode(int):
    """Shown in octal."""


def mode_of(path):
    s = os.fstat(path) if isinstance(path, int) else os.lstat(path)
    return Mode(stat.S_IMODE(s.st_mode))


def same_mode(what, path, expected):
    same(what, mode_of(path), Mode(expected))


def fails(code, call, *arguments, **options):
    """The call must fail with the code, such as "EPERM", or one of several: "EEXIST ENOTEMPTY"."""
    text = f"{getattr(call, '__name__', 'call')}({', '.join(short(argument)[:60] for argument in arguments)})"
    try:
        result = call(*arguments, **options)
    except OSError as error:
        found = errno.errorcode.get(error.errno, str(error.errno))
        found = {"ENOTSUP": "EOPNOTSUPP", "EDEADLOCK": "EDEADLK"}.get(found, found)
        if found not in code.split():
            raise Unmet(f"{text}: expected {code}, got {found}") from None
        return
    raise Unmet(f"{text}: expected {code}, got success ({short(result)})")


# Users ---------------------------------------------------------------------------------------------------------------

class User:
    """`with USER:` does what follows with the effective ids, the groups and without the capabilities of root."""

    def __init__(self, uid, gid, *groups):
        self.uid = uid
        self.gid = gid
        self.groups = list(groups)

    def __enter__(self):
        os.setgroups(self.groups)
        os.setegid(self.gid)
        os.seteuid(self.uid)

    def __exit__(self, *_error):
        os.seteuid(0)
        os.setegid(0)
        os.setgroups([])

    def become(self):
        """For good: real, effective and saved."""
        os.setgroups(self.groups)
        os.setresgid(self.gid, self.gid, self.gid)
        os.setresuid(self.uid, self.uid, self.uid)


TEAM = 7000
ALICE = User(7001, 7001)
BOB = User(7002, 7002)
#: In the team by a supplementary group, and by the group itself.
MEMBER = User(7003, 7003, TEAM)
TEAMSTER = User(7004, TEAM)


# Files ---------------------------------------------------------------------------------------------------------------

def write_file(path, data=b"", mode=0o644, owner=None):
    """Makes or replaces a file. `owner`: a user, or (uid, gid)."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        if data:
            same("write: bytes written", os.write(fd, data), len(data))
        give(fd, owner)
        os.fchmod(fd, mode)
    finally:
        os.close(fd)


def give(target, owner):
    if owner is not None:
        os.chown(target, *((owner.uid, owner.gid) if isinstance(owner, User) else owner))


def make_directory(path, mode=0o755, owner=None):
    os.mkdir(path)
    give(path, owner)
    os.chmod(path, mode)


def read_file(path):
    with opened(path) as fd:
        return b"".join(iter(lambda: os.read(fd, 1 << 20), b""))


@contextlib.contextmanager
def opened(path, flags=os.O_RDONLY, mode=0o644):
    fd = os.open(path, flags, mode)
    try:
        yield fd
    finally:
        with contextlib.suppress(OSError):
            os.close(fd)


@contextlib.contextmanager
def inside(path):
    """Does what follows in that directory."""
    with opened(".", os.O_RDONLY | os.O_DIRECTORY) as back:
        os.chdir(path)
        try:
            yield
        finally:
            os.fchdir(back)


# Times ---------------------------------------------------------------------------------------------------------------

def tick():
    """Returns when a change gets a time of its own."""
    time.sleep(TICK_SECONDS)


def times(path):
    s = os.lstat(path)
    return s.st_atime_ns, s.st_mtime_ns, s.st_ctime_ns


def changed(call, *paths):
    """Which times of each path the call changes, as "amc", "mc", "c" or ""; one text when there is one path."""
    tick()
    before = [times(path) for path in paths]
    tick()
    call()
    texts = []
    for path, old in zip(paths, before):
        new = times(path)
        texts.append("".join(letter for letter, a, b in zip("amc", old, new) if a != b))
    return texts[0] if len(texts) == 1 else texts


# Processes -----------------------------------------------------------------------------------------------------------

class Child:
    """A forked process that runs a function; `result` waits for what it returned, or raises what it raised."""

    def __init__(self, function, *arguments, user=None):
        self.read_end, write_end = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.read_end)
            try:
                if user is not None:
                    user.become()
                answer = (True, function(*arguments))
            except BaseException as error:  # It goes to the parent, whatever it is.
                answer = (False, error if isinstance(error, (Unmet, OSError)) else Unmet(traceback.format_exc()))
            with os.fdopen(write_end, "wb") as pipe:
                pickle.dump(answer, pipe)
            os._exit(0)
        os.close(write_end)

    def result(self):
        with os.fdopen(self.read_end, "rb") as pipe:
            data = pipe.read()
        _, self.status = os.waitpid(self.pid, 0)
        if not data:
            raise Unmet(f"a process ended with status {self.status}")
        ok, value = pickle.loads(data)
        if not ok:
            raise value
        return value

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.read_end)


def elsewhere(function, *arguments, user=None):
    """Runs the function in another process and returns its result."""
    return Child(function, *arguments, user=user).result()


class Gate:
    """One process waits for another."""

    def __init__(self):
        self.ends = os.pipe()

    def open(self):
        os.write(self.ends[1], b"x")

    def wait(self):
        os.read(self.ends[0], 1)


def readable(fd, seconds):
    return bool(select.select([fd], [], [], seconds)[0])


def signal_within(number, seconds):
    """Whether the signal, which is blocked, arrives."""
    return signal.sigtimedwait([number], seconds) is not None


# Running -------------------------------------------------------------------------------------------------------------

def where_raised(error):
    """The line of the case that did not hold, as "file:line"."""
    frames = traceback.extract_tb(error.__traceback__)
    here = os.path.basename(__file__)
    inner = [frame for frame in frames if os.path.basename(frame.filename) not in (here, "calls.py")]
    return f"{os.path.basename(inner[-1].filename)}:{inner[-1].lineno}" if inner else ""


def run_in_child(one, write_end):
    os.setpgid(0, 0)
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    message = ""
    try:
        one.function()
    except Unmet as error:
        message = f"{error} ({where_raised(error)})"
    except OSError as error:
        code = errno.errorcode.get(error.errno, str(error.errno))
        message = f"{code} where success was expected: {error} ({where_raised(error)})"
    except BaseException:  # Reported, whatever it is.
        message = traceback.format_exc()
    # What is longer than a pipe takes at once would wait for a reader.
    os.write(write_end, message.encode(errors="backslashreplace")[:4000] or b"\0")
    os._exit(0)


def run_case(one, directory):
    """Runs one case below the directory. Returns what is wrong, or ""."""
    place = os.path.join(directory, one.name)
    os.mkdir(place, 0o755)
    os.chdir(place)
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read_end)
        run_in_child(one, write_end)
    os.close(write_end)
    os.chdir("/")
    seconds = LONG_CASE_SECONDS if one.long else CASE_SECONDS
    answered = readable(read_end, seconds)
    message = os.read(read_end, 8192).decode() if answered else f"did not end within {seconds} seconds"
    os.close(read_end)
    # All that the case started, too: they are in its group.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    # Who waits for a server that does not answer cannot be killed; the caller aborts the mount.
    deadline = time.monotonic() + 5
    while os.waitpid(pid, os.WNOHANG)[0] == 0:
        if time.monotonic() > deadline:
            return f"{message or 'did not end'}; and cannot be killed"
        time.sleep(0.001)
    return "the process of the case died" if message == "" else message.strip("\0")


def run_all(cases, directory, report):
    os.umask(0)
    os.setgroups([])
    # What is there is not touched by collections of the processes to come: their pages stay shared.
    gc.collect()
    gc.freeze()
    for one in cases:
        started = time.monotonic()
        message = run_case(one, directory)
        milliseconds = round((time.monotonic() - started) * 1000)
        report({"name": one.name, "message": message, "milliseconds": milliseconds})
