"""flock(2), POSIX locks and locks of open files (fcntl(2)), leases."""
from calls import *
from harness import *

RW = os.O_RDWR | os.O_CREAT
F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW = 36, 37, 38
F_SETLEASE, F_GETLEASE, F_SETSIG = 1024, 1025, 10
RD, WR, UN = fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK


def lock(fd, kind, start=0, length=0, whence=0, command=fcntl.F_SETLK):
    """fcntl(2) with a lock. Returns (kind, whence, start, length, pid) as the call leaves them."""
    packed = struct.pack("=hhxxxxqqixxxx", kind, whence, start, length, 0)
    return struct.unpack("=hhxxxxqqixxxx", fcntl.fcntl(fd, command, packed))


def held(fd, kind, start=0, length=0):
    """What another process would meet: None, or (kind, start, length, pid)."""
    def ask():
        with opened("f", os.O_RDWR) as other:
            found = lock(other, kind, start, length, command=fcntl.F_GETLK)
            return None if found[0] == UN else (found[0], found[2], found[3], found[4])
    return elsewhere(ask)


@contextlib.contextmanager
def locked_file(data=b""):
    write_file("f", data)
    with opened("f", RW) as fd:
        yield fd


def try_flock(how):
    with opened("f", os.O_RDWR) as other:
        fcntl.flock(other, how | fcntl.LOCK_NB)


@case
def flock_excludes():
    """flock(2): one exclusive or many shared; LOCK_NB gives EWOULDBLOCK"""
    with locked_file() as fd:
        fcntl.flock(fd, fcntl.LOCK_SH)
        try_flock(fcntl.LOCK_SH)
        fails("EAGAIN", elsewhere, try_flock, fcntl.LOCK_EX)
        fcntl.flock(fd, fcntl.LOCK_EX)
        fails("EAGAIN", elsewhere, try_flock, fcntl.LOCK_SH)
        fcntl.flock(fd, fcntl.LOCK_UN)
        elsewhere(try_flock, fcntl.LOCK_EX)


@case
def flock_belongs_to_the_open_file():
    """flock(2): a second open of the process conflicts; dup and fork share, and one of them unlocks for all"""
    with locked_file() as fd:
        fcntl.flock(fd, fcntl.LOCK_EX)
        fails("EAGAIN", try_flock, fcntl.LOCK_EX)
        twin = os.dup(fd)
        fcntl.flock(twin, fcntl.LOCK_EX | fcntl.LOCK_NB)
        elsewhere(lambda: fcntl.flock(fd, fcntl.LOCK_UN))
        try_flock(fcntl.LOCK_EX)


@case
def flock_ends_with_the_last_close():
    """flock(2), close(2): the lock goes with the last descriptor of the open file"""
    with locked_file() as fd:
        fcntl.flock(fd, fcntl.LOCK_EX)
        twin = os.dup(fd)
        os.close(fd)
        fails("EAGAIN", try_flock, fcntl.LOCK_EX)
        os.close(twin)
        try_flock(fcntl.LOCK_EX)


@case
def flock_waits():
    """flock(2): waits until it is free, and a killed process frees it"""
    with locked_file():
        ready = Gate()
        def holder():
            with opened("f", os.O_RDWR) as mine:
                fcntl.flock(mine, fcntl.LOCK_EX)
                ready.open()
                time.sleep(60)
        child = Child(holder)
        ready.wait()
        fails("EAGAIN", try_flock, fcntl.LOCK_SH)
        def waiter():
            with opened("f", os.O_RDWR) as mine:
                fcntl.flock(mine, fcntl.LOCK_EX)
        waiting = Child(waiter)
        holds("waits", not readable(waiting.read_end, 0.02))
        child.kill()
        waiting.result()


@case
def flock_is_interrupted():
    """flock(2), fcntl(2) F_SETLKW: a signal ends the waiting: EINTR"""
    with locked_file() as fd:
        fcntl.flock(fd, fcntl.LOCK_EX)
        lock(fd, WR)
        def wait(call):
            class Alarm(Exception):
                pass
            def ring(*_):
                raise Alarm
            signal.signal(signal.SIGALRM, ring)
            with opened("f", os.O_RDWR) as other:
                try:
                    signal.setitimer(signal.ITIMER_REAL, 0.03)
                    call(other)
                except Alarm:
                    return "interrupted"
        same("flock", elsewhere(wait, lambda other: fcntl.flock(other, fcntl.LOCK_EX)), "interrupted")
        same("fcntl", elsewhere(wait, lambda other: lock(other, WR, command=fcntl.F_SETLKW)), "interrupted")


@case
def flock_needs_no_rights():
    """flock(2): any descriptor will do, but one of O_PATH: EBADF; a directory's too"""
    write_file("f", b"", 0o444)
    os.mkdir("d")
    for path in ("f", "d"):
        with opened(path) as fd:
            fcntl.flock(fd, fcntl.LOCK_EX)
    with opened("f", os.O_PATH) as fd:
        fails("EBADF", fcntl.flock, fd, fcntl.LOCK_EX)


@case
def flock_and_fcntl_do_not_meet():
    """flock(2), fcntl(2): locks of the two kinds do not see each other"""
    with locked_file() as fd:
        fcntl.flock(fd, fcntl.LOCK_EX)
        same("fcntl", held(fd, WR), None)
        lock(fd, WR)
        fcntl.flock(fd, fcntl.LOCK_UN)
        elsewhere(try_flock, fcntl.LOCK_EX)


@case
def ranges_exclude():
    """fcntl(2) F_SETLK: ranges that overlap exclude each other, EAGAIN, others do not"""
    with locked_file() as fd:
        lock(fd, WR, 100, 100)
        def other():
            with opened("f", os.O_RDWR) as mine:
                fails("EAGAIN", lock, mine, WR, 150, 1)
                fails("EAGAIN", lock, mine, RD, 199, 100)
                fails("EAGAIN", lock, mine, WR)
                lock(mine, WR, 200, 100)
                lock(mine, WR, 0, 100)
        elsewhere(other)


@case
def getlk_names_the_holder():
    """fcntl(2) F_GETLK: says kind, range and process of a lock in the way"""
    with locked_file() as fd:
        lock(fd, WR, 10, 20)
        lock(fd, RD, 100, 0)
        same("write lock", held(fd, RD, 0, 50), (WR, 10, 20, os.getpid()))
        same("read lock", held(fd, WR, 1000, 1), (RD, 100, 0, os.getpid()))
        same("read and read", held(fd, RD, 1000, 1), None)
        same("nothing", held(fd, WR, 50, 10), None)


@case
def ranges_are_split_and_joined():
    """fcntl(2): unlocking the middle leaves both ends; locking it again makes one range"""
    with locked_file() as fd:
        lock(fd, WR, 0, 300)
        lock(fd, UN, 100, 100)
        same("left", held(fd, WR, 0, 1)[1:3], (0, 100))
        same("middle", held(fd, WR, 100, 100), None)
        same("right", held(fd, WR, 250, 1)[1:3], (200, 100))
        lock(fd, WR, 100, 100)
        same("joined", held(fd, WR, 0, 1)[1:3], (0, 300))
        lock(fd, RD, 50, 50)
        same("another kind within", held(fd, WR, 60, 1)[:3], (RD, 50, 50))


@case
def lengths_of_ranges():
    """fcntl(2): length 0 is to the end for ever, a negative one lies before the start; before 0 is EINVAL"""
    with locked_file(b"x" * 1000) as fd:
        lock(fd, WR, 500, -100)
        same("before", held(fd, WR)[1:3], (400, 100))
        lock(fd, UN)
        os.lseek(fd, 0, os.SEEK_END)
        lock(fd, WR, -10, 0, os.SEEK_END)
        same("from the end", held(fd, WR)[1:3], (990, 0))
        lock(fd, UN)
        os.lseek(fd, 20, os.SEEK_SET)
        lock(fd, WR, 5, 5, os.SEEK_CUR)
        same("from here", held(fd, WR)[1:3], (25, 5))
        fails("EINVAL", lock, fd, WR, -1, 0)
        fails("EINVAL", lock, fd, WR, 10, -11)
        lock(fd, WR, 2**62, 2**62)
        same("far", held(fd, WR, 2**62, 1)[1], 2**62)


@case
def closing_any_descriptor_unlocks():
    """fcntl(2), close(2): closing any descriptor of the file frees all POSIX locks of the process"""
    with locked_file() as fd:
        lock(fd, WR)
        holds("locked", held(fd, WR) is not None)
        os.close(os.open("f", os.O_RDONLY))
        same("unlocked", held(fd, WR), None)


@case
def a_child_has_no_locks():
    """fork(2), fcntl(2): POSIX locks are not inherited"""
    with locked_file() as fd:
        lock(fd, WR)
        def child():
            fails("EAGAIN", lock, fd, WR)
        elsewhere(child)


@case
def directions_of_locks():
    """fcntl(2): a read lock needs a descriptor for reading, a write lock one for writing: EBADF"""
    write_file("f")
    with opened("f", os.O_WRONLY) as fd:
        fails("EBADF", lock, fd, RD)
        lock(fd, WR)
    with opened("f", os.O_RDONLY) as fd:
        fails("EBADF", lock, fd, WR)
        lock(fd, RD)


@case
def deadlocks_are_found():
    """fcntl(2) F_SETLKW: two processes that would wait for each other: EDEADLK"""
    with locked_file() as fd:
        lock(fd, WR, 0, 1)
        ready = Gate()
        def other():
            with opened("f", os.O_RDWR) as mine:
                lock(mine, WR, 1, 1)
                ready.open()
                lock(mine, WR, 0, 1, command=fcntl.F_SETLKW)
        child = Child(other)
        ready.wait()
        # Until the other one waits this would wait for it, so it is tried without waiting at first.
        deadline = time.monotonic() + 20
        while "FLOCK" not in waiters(child.pid):
            holds("waits in time", time.monotonic() < deadline)
            time.sleep(0.002)
        fails("EDEADLK", lock, fd, WR, 1, 1, command=fcntl.F_SETLKW)
        lock(fd, UN)
        child.result()


def waiters(pid):
    """"FLOCK" when the process waits for a lock, as /proc/locks says."""
    with open("/proc/locks") as locks:
        return "FLOCK" if any("->" in line and f" {pid} " in line for line in locks) else ""


@case
def a_lock_waits():
    """fcntl(2) F_SETLKW: waits until the range is free, and a killed process frees it"""
    with locked_file():
        ready = Gate()
        def holder():
            with opened("f", os.O_RDWR) as mine:
                lock(mine, WR, 5, 5)
                ready.open()
                time.sleep(60)
        child = Child(holder)
        ready.wait()
        def waiter():
            with opened("f", os.O_RDWR) as mine:
                lock(mine, WR, 0, 10, command=fcntl.F_SETLKW)
        waiting = Child(waiter)
        holds("waits", not readable(waiting.read_end, 0.02))
        child.kill()
        waiting.result()


@case
def locks_of_open_files():
    """fcntl(2) F_OFD_SETLK: belong to the open file: conflict within the process, survive other closes, are inherited"""
    with locked_file() as fd:
        lock(fd, WR, 0, 10, command=F_OFD_SETLK)
        with opened("f", os.O_RDWR) as other:
            fails("EAGAIN", lock, other, WR, 5, 1, command=F_OFD_SETLK)
            fails("EAGAIN", lock, other, WR, 5, 1)
            same("F_OFD_GETLK", lock(other, WR, 5, 1, command=F_OFD_GETLK)[4], -1)
        holds("survives a close", held(fd, WR) is not None)
        elsewhere(lambda: lock(fd, WR, 0, 5, command=F_OFD_SETLK))


@case
def locks_of_a_file_without_name():
    """fcntl(2), flock(2): work on a file that was unlinked, and on one that was renamed"""
    with locked_file() as fd:
        with opened("f", os.O_RDWR) as other:
            rename("f", "g")
            os.unlink("g")
            fcntl.flock(fd, fcntl.LOCK_EX)
            fails("EAGAIN", fcntl.flock, other, fcntl.LOCK_SH | fcntl.LOCK_NB)
            lock(fd, WR, command=F_OFD_SETLK)
            fails("EAGAIN", lock, other, RD, command=F_OFD_SETLK)


@case
@needs("hardLinks")
def locks_by_another_name():
    """fcntl(2), flock(2): a hard link is the same file"""
    with locked_file() as fd:
        os.link("f", "g")
        lock(fd, WR)
        fcntl.flock(fd, fcntl.LOCK_EX)
        def other():
            with opened("g", os.O_RDWR) as mine:
                fails("EAGAIN", lock, mine, RD)
                fails("EAGAIN", fcntl.flock, mine, fcntl.LOCK_SH | fcntl.LOCK_NB)
        elsewhere(other)


@case
def a_write_lease():
    """fcntl(2) F_SETLEASE: a write lease is broken by an open, which waits for it; EAGAIN while it is open elsewhere"""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGIO])
    write_file("f", b"x")
    with opened("f", os.O_RDWR) as fd:
        with opened("f"):
            fails("EAGAIN", fcntl.fcntl, fd, F_SETLEASE, WR)
        fcntl.fcntl(fd, F_SETLEASE, WR)
        same("F_GETLEASE", fcntl.fcntl(fd, F_GETLEASE), WR)
        child = Child(lambda: os.close(os.open("f", os.O_RDONLY)))
        holds("SIGIO", signal_within(signal.SIGIO, 20))
        holds("the open waits", not readable(child.read_end, 0.02))
        fcntl.fcntl(fd, F_SETLEASE, UN)
        child.result()
        fcntl.fcntl(fd, F_SETLEASE, WR)
        def without_waiting():
            fails("EAGAIN", os.open, "f", os.O_RDONLY | os.O_NONBLOCK)
        elsewhere(without_waiting)


@case
def a_read_lease():
    """fcntl(2) F_SETLEASE: a read lease is broken by writing and truncating opens; needs a descriptor for reading"""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGIO])
    write_file("f", b"x")
    with opened("f", os.O_RDWR) as fd:
        fails("EAGAIN", fcntl.fcntl, fd, F_SETLEASE, RD)
    with opened("f") as fd:
        fcntl.fcntl(fd, F_SETLEASE, RD)
        elsewhere(lambda: os.close(os.open("f", os.O_RDONLY)))
        child = Child(lambda: os.truncate("f", 0))
        holds("SIGIO", signal_within(signal.SIGIO, 20))
        fcntl.fcntl(fd, F_SETLEASE, UN)
        child.result()


@case
def leases_are_the_owners():
    """fcntl(2) F_SETLEASE: of another's file: EACCES; of a directory: EINVAL"""
    write_file("f", b"", 0o666, ALICE)
    os.mkdir("d")
    with BOB, opened("f") as fd:
        fails("EACCES", fcntl.fcntl, fd, F_SETLEASE, RD)
    with opened("d") as fd:
        fails("EINVAL", fcntl.fcntl, fd, F_SETLEASE, RD)


@case
def processes_count_under_a_lock():
    """fcntl(2) F_SETLKW, flock(2): processes that count up in a file under a lock lose nothing"""
    write_file("f", b"0")
    def count(posix):
        for _ in range(25):
            with opened("f", os.O_RDWR) as fd:
                if posix:
                    lock(fd, WR, command=fcntl.F_SETLKW)
                else:
                    fcntl.flock(fd, fcntl.LOCK_EX)
                number = int(os.pread(fd, 20, 0))
                os.pwrite(fd, b"%d" % (number + 1), 0)
    for posix in (True, False):
        before = int(read_file("f"))
        children = [Child(count, posix) for _ in range(4)]
        for child in children:
            child.result()
        same("count", int(read_file("f")) - before, 100)
