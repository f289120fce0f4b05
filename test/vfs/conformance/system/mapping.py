"""mmap(2): shared and private mappings, the end of the file, programs that run."""
import mmap
import shutil

from calls import *
from harness import *

RW = os.O_RDWR | os.O_CREAT
PAGE = 4096


@contextlib.contextmanager
def mapped(fd, length, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ | mmap.PROT_WRITE, offset=0):
    memory = mmap.mmap(fd, length, flags=flags, prot=prot, offset=offset)
    try:
        yield memory
    finally:
        memory.close()


def dies_of(number, function):
    """The function ends its process by that signal."""
    pid = os.fork()
    if pid == 0:
        signal.signal(number, signal.SIG_DFL)
        function()
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    same("signal", os.WTERMSIG(status) if os.WIFSIGNALED(status) else f"exit {status >> 8}", number)


@case
def a_shared_mapping_and_write_agree():
    """mmap(2) MAP_SHARED: what pwrite writes shows in the mapping, and what is stored there is read, at once"""
    with opened("f", RW) as fd:
        os.ftruncate(fd, 3 * PAGE)
        with mapped(fd, 3 * PAGE) as memory:
            os.pwrite(fd, b"written", PAGE - 3)
            same("in the mapping", memory[PAGE - 3:PAGE + 4], b"written")
            memory[2 * PAGE:2 * PAGE + 6] = b"stored"
            same("by pread", os.pread(fd, 6, 2 * PAGE), b"stored")
            same("by another process", elsewhere(lambda: read_file("f"))[2 * PAGE:2 * PAGE + 6], b"stored")


@case
def shared_between_processes():
    """mmap(2) MAP_SHARED: processes that open the file by name share its memory"""
    write_file("f", bytes(PAGE))
    ready, answer = Gate(), Gate()
    def other():
        with opened("f", os.O_RDWR) as fd, mapped(fd, PAGE) as memory:
            ready.wait()
            seen = memory[:5]
            memory[100:103] = b"and"
            answer.open()
            return seen
    child = Child(other)
    with opened("f", os.O_RDWR) as fd, mapped(fd, PAGE) as memory:
        memory[:5] = b"first"
        ready.open()
        answer.wait()
        same("back", memory[100:103], b"and")
    same("there", child.result(), b"first")


@case
def a_private_mapping_is_private():
    """mmap(2) MAP_PRIVATE: what is stored is neither in the file nor in another mapping"""
    write_file("f", b"x" * PAGE)
    with opened("f", os.O_RDWR) as fd:
        with mapped(fd, PAGE, mmap.MAP_PRIVATE) as private, mapped(fd, PAGE) as shared:
            private[:3] = b"own"
            same("file", os.pread(fd, 3, 0), b"xxx")
            same("shared", shared[:3], b"xxx")
            shared[10:13] = b"all"
            same("private, copied before", private[:3], b"own")
    with opened("f", os.O_RDONLY) as fd, mapped(fd, PAGE, mmap.MAP_PRIVATE) as private:
        private[:3] = b"own"


@case
def rights_of_mappings():
    """mmap(2): a shared writable mapping needs a descriptor for both, any mapping one for reading: EACCES"""
    write_file("f", b"x" * PAGE)
    with opened("f", os.O_RDONLY) as fd:
        fails("EACCES", mmap.mmap, fd, PAGE, flags=mmap.MAP_SHARED, prot=mmap.PROT_WRITE | mmap.PROT_READ)
        with mapped(fd, PAGE, prot=mmap.PROT_READ) as memory:
            same("content", memory[:1], b"x")
    with opened("f", os.O_WRONLY) as fd:
        fails("EACCES", mmap.mmap, fd, PAGE, flags=mmap.MAP_SHARED, prot=mmap.PROT_WRITE)
        fails("EACCES", mmap.mmap, fd, PAGE, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
    os.mkdir("d")
    with opened("d") as fd:
        fails("ENODEV", lambda: raw_map(fd))


def raw_map(fd, prot=mmap.PROT_READ):
    """A page of a shared mapping by its address, as long as the process lives."""
    libc.mmap.restype = ctypes.c_ssize_t
    return check(libc.mmap(None, ctypes.c_size_t(PAGE), prot, mmap.MAP_SHARED, fd, ctypes.c_int64(0)))


@case
def a_mapping_outlives_descriptor_and_name():
    """mmap(2), close(2), unlink(2): a mapping stays when the descriptor is closed and the name is gone"""
    write_file("f", b"x" * PAGE)
    os.link("f", "g")
    fd = os.open("f", os.O_RDWR)
    with mapped(fd, PAGE) as memory:
        os.close(fd)
        os.unlink("f")
        memory[:3] = b"yyy"
        memory.flush()
        same("by another name", read_file("g")[:4], b"yyyx")
        os.unlink("g")
        memory[:3] = b"zzz"
        same("without a name", memory[:4], b"zzzx")


@case
def behind_the_end_is_sigbus():
    """mmap(2): a page that is wholly behind the end of the file: SIGBUS; the rest of the last page is zeros"""
    write_file("f", b"x" * 100)
    with opened("f", os.O_RDWR) as fd:
        os.ftruncate(fd, 3 * PAGE)
        with mapped(fd, 3 * PAGE) as memory:
            os.ftruncate(fd, 100)
            same("rest of the page", memory[100:PAGE], bytes(PAGE - 100))
            dies_of(signal.SIGBUS, lambda: memory[PAGE])
            dies_of(signal.SIGBUS, lambda: memory.__setitem__(2 * PAGE, 1))
            os.ftruncate(fd, 2 * PAGE)
            same("grown again", memory[PAGE:PAGE + 10], bytes(10))


@case
def what_is_stored_behind_the_end_is_lost():
    """mmap(2): what is stored between the end and its page's end is not in the file when it grows"""
    write_file("f", b"x" * 100)
    with opened("f", os.O_RDWR) as fd:
        address = raw_map(fd, mmap.PROT_READ | mmap.PROT_WRITE)
        ctypes.memset(address + 200, 65, 50)
        ctypes.memset(address + 10, 66, 5)
        os.fsync(fd)
        same("size", os.fstat(fd).st_size, 100)
        os.ftruncate(fd, 1000)
        same("content", os.pread(fd, 2000, 0), b"x" * 10 + b"B" * 5 + b"x" * 85 + bytes(900))


@case
def truncation_zeroes_a_mapping():
    """truncate(2), mmap(2): what is cut off within a mapped page reads as zeros after growing"""
    with opened("f", RW) as fd:
        os.write(fd, b"x" * PAGE * 2)
        with mapped(fd, PAGE * 2) as memory:
            os.ftruncate(fd, 10)
            os.ftruncate(fd, PAGE * 2)
            same("mapping", memory[:], b"x" * 10 + bytes(2 * PAGE - 10))
            same("file", os.pread(fd, 3 * PAGE, 0), b"x" * 10 + bytes(2 * PAGE - 10))


@case
@needs("fallocate")
def punching_a_mapping():
    """fallocate(2) PUNCH_HOLE, madvise(2) MADV_REMOVE: the mapping shows zeros at once"""
    with opened("f", RW) as fd:
        os.write(fd, b"x" * PAGE * 3)
        with mapped(fd, PAGE * 3) as memory:
            fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 100, 200)
            same("within a page", memory[:400], b"x" * 100 + bytes(200) + b"x" * 100)
            memory.madvise(9, PAGE, PAGE)
            same("MADV_REMOVE", memory[PAGE - 1:2 * PAGE + 1], b"x" + bytes(PAGE) + b"x")
            same("file", os.pread(fd, PAGE, PAGE), bytes(PAGE))


@case
@needs("seekHole")
def a_mapping_of_a_hole():
    """mmap(2): storing into a hole fills it, and the file is as long as before"""
    with opened("f", RW) as fd:
        os.ftruncate(fd, 1 << 30)
        with mapped(fd, 1 << 30) as memory:
            same("hole", memory[1 << 29], 0)
            memory[1 << 29] = 7
            memory.flush()
        same("content", os.pread(fd, 3, (1 << 29) - 1), b"\0\x07\0")
        os.fsync(fd)
        same("first data", os.lseek(fd, 0, os.SEEK_DATA), 1 << 29)
        holds("few blocks", os.fstat(fd).st_blocks <= 64)


@case
def dropped_pages_come_back():
    """madvise(2) MADV_DONTNEED, msync(2): what was stored is read again"""
    write_file("f", b"x" * PAGE * 4)
    with opened("f", os.O_RDWR) as fd, mapped(fd, PAGE * 4) as memory:
        memory[PAGE:PAGE + 3] = b"new"
        memory.madvise(mmap.MADV_DONTNEED)
        same("after MADV_DONTNEED", memory[PAGE:PAGE + 4], b"newx")
        memory.flush()
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        same("after msync and fadvise", memory[PAGE:PAGE + 4], b"newx")


@case
def a_mapping_in_a_fork():
    """fork(2), mmap(2): a shared mapping is shared with the child, a private one is copied"""
    write_file("f", b"x" * PAGE)
    with opened("f", os.O_RDWR) as fd, mapped(fd, PAGE) as shared, mapped(fd, PAGE, mmap.MAP_PRIVATE) as private:
        private[0:1] = b"p"
        def child():
            shared[10:11] = b"S"
            private[10:11] = b"P"
        elsewhere(child)
        same("shared", shared[10:11], b"S")
        holds("private", private[0:1] == b"p" and private[10:11] != b"P")


@case
def remapping():
    """mremap(2): a mapping grows with its file"""
    with opened("f", RW) as fd:
        os.ftruncate(fd, PAGE)
        with mapped(fd, PAGE) as memory:
            memory[:3] = b"abc"
            os.ftruncate(fd, 10 * PAGE)
            memory.resize(10 * PAGE)
            memory[9 * PAGE:9 * PAGE + 3] = b"end"
            memory.flush()
        same("content", (os.pread(fd, 3, 0), os.pread(fd, 3, 9 * PAGE)), (b"abc", b"end"))


@case
def a_direct_write_shows_in_a_mapping():
    """write(2) O_DIRECT: a mapping shows it, and what was stored there before is read by O_DIRECT"""
    write_file("f", b"x" * PAGE * 2)
    with opened("f", os.O_RDWR) as fd, mapped(fd, PAGE * 2) as memory:
        same("before", memory[:1], b"x")
        memory[PAGE:PAGE + 1] = b"m"
        with opened("f", os.O_RDWR | os.O_DIRECT) as direct:
            block = aligned_buffer(PAGE)
            os.preadv(direct, [block], PAGE)
            same("what was stored", block[:2], b"mx")
            block[:] = b"d" * PAGE
            os.pwritev(direct, [block], 0)
        same("what was written", memory[:2], b"dd")


@case
def copying_into_a_mapped_file():
    """copy_file_range(2): a mapping of the target shows the copy, of the source gives what was stored"""
    write_file("a", b"a" * PAGE * 2)
    write_file("b", b"b" * PAGE * 2)
    with opened("a", os.O_RDWR) as a, opened("b", os.O_RDWR) as b, mapped(a, 2 * PAGE) as source:
        with mapped(b, 2 * PAGE) as target:
            same("before", target[:1], b"b")
            source[:3] = b"new"
            same("copied", os.copy_file_range(a, b, PAGE, 0, PAGE), PAGE)
            same("after", target[PAGE:PAGE + 4], b"newa")


def running_program():
    """Copies a program, starts it, and gives its process id when it runs."""
    shutil.copy("/bin/sleep", "program")
    os.chmod("program", 0o755)
    pid = os.fork()
    if pid == 0:
        os.execv("./program", ["program", "30"])
    deadline = time.monotonic() + 20
    while not os.readlink(f"/proc/{pid}/exe").endswith("/program"):
        holds("started in time", time.monotonic() < deadline)
        time.sleep(0.002)
    return pid


@case
def a_program_runs_from_the_file():
    """execve(2), mmap(2) PROT_EXEC: a program that was copied runs, and runs on without its name"""
    pid = running_program()
    os.unlink("program")
    holds("runs", os.waitpid(pid, os.WNOHANG)[0] == 0)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


@case
def a_program_that_runs_is_busy():
    """open(2), truncate(2): a program that runs is not opened for writing: ETXTBSY; it is replaced all the same"""
    pid = running_program()
    fails("ETXTBSY", os.open, "program", os.O_WRONLY)
    fails("ETXTBSY", os.open, "program", os.O_RDWR | os.O_TRUNC)
    fails("ETXTBSY", os.truncate, "program", 0)
    os.chmod("program", 0o700)
    write_file("new", b"x")
    rename("new", "program")
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    same("replaced", read_file("program"), b"x")


@case
def what_is_open_for_writing_does_not_run():
    """execve(2): a program that somebody has open for writing: ETXTBSY"""
    write_file("script", b"#!/bin/sh\nexit 0\n", 0o755)
    shutil.copy("/bin/true", "program")
    os.chmod("program", 0o755)
    for name in ("program", "script"):
        with opened(name, os.O_WRONLY):
            fails("ETXTBSY", os.execv, f"./{name}", [name])
    pid = os.fork()
    if pid == 0:
        os.execv("./program", ["program"])
    same("status when it is closed", os.waitpid(pid, 0)[1], 0)


@case
def executing_a_descriptor():
    """execveat(2), fexecve(3): a program runs by its descriptor, without a name as well"""
    shutil.copy("/bin/true", "program")
    os.chmod("program", 0o755)
    fd = os.open("program", os.O_RDONLY)
    os.unlink("program")
    pid = os.fork()
    if pid == 0:
        os.execve(fd, ["program"], {})
    same("status", os.waitpid(pid, 0)[1], 0)


@case
def locking_pages():
    """mlock(2), mincore(2): pages of a file can be locked in memory and written to"""
    write_file("f", b"x" * PAGE * 2)
    with opened("f", os.O_RDWR) as fd, mapped(fd, PAGE * 2) as memory:
        view = (ctypes.c_char * (PAGE * 2)).from_buffer(memory)
        check(libc.mlock(view, ctypes.c_size_t(PAGE * 2)))
        memory[5:6] = b"y"
        check(libc.munlock(view, ctypes.c_size_t(PAGE * 2)))
        del view
        memory.flush()
    same("content", read_file("f")[:7], b"xxxxxyx")


@case
def a_store_by_who_lost_the_right():
    """mmap(2): a mapping stays writable when the mode, the owner or the descriptor's flags change"""
    write_file("f", b"x" * PAGE, 0o666, ALICE)
    with BOB:
        fd = os.open("f", os.O_RDWR)
    with mapped(fd, PAGE) as memory:
        os.chmod("f", 0)
        with BOB:
            memory[:1] = b"y"
            memory.flush()
    same("content", read_file("f")[:2], b"yx")
