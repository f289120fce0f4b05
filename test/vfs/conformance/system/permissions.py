"""Who may do what, and what changes take setuid, setgid and capabilities away."""
import mmap
import stat

from calls import *
from harness import *

R, W, X = os.R_OK, os.W_OK, os.X_OK
SUID, SGID = stat.S_ISUID, stat.S_ISGID


def may(user, path, mask):
    with user:
        return os.access(path, mask, effective_ids=True)


def open_close(path, flags):
    os.close(os.open(path, flags))


@case
def the_owner_class_decides():
    """open(2), path_resolution(7): the owner's bits decide for the owner, though others may more"""
    write_file("f", b"x", 0o077, ALICE)
    with ALICE:
        fails("EACCES", open_close, "f", os.O_RDONLY)
        fails("EACCES", open_close, "f", os.O_WRONLY)
    with BOB:
        open_close("f", os.O_RDWR)


@case
def the_group_class_decides():
    """open(2), path_resolution(7): the group's bits decide for all members, though others may more"""
    write_file("f", b"x", 0o604, (ALICE.uid, TEAM))
    for user in (MEMBER, TEAMSTER):
        with user:
            fails("EACCES", open_close, "f", os.O_RDONLY)
    with BOB:
        open_close("f", os.O_RDONLY)


@case
def supplementary_groups_count():
    """open(2), credentials(7): a supplementary group is as good as the group"""
    write_file("f", b"x", 0o060, (ALICE.uid, TEAM))
    for user in (MEMBER, TEAMSTER):
        with user:
            open_close("f", os.O_RDWR)
    with BOB:
        fails("EACCES", open_close, "f", os.O_RDONLY)


@case
def root_reads_and_writes_all():
    """open(2), capabilities(7): CAP_DAC_OVERRIDE reads and writes whatever the mode"""
    write_file("f", b"x", 0, ALICE)
    open_close("f", os.O_RDWR)


@case
def root_executes_what_somebody_may():
    """execve(2), access(2): root may execute a file that has an x bit, and no other"""
    write_file("f", b"#!/bin/true\n", 0o644)
    fails("EACCES", os.execv, "f", ["f"])
    same("access X_OK", os.access("f", X), False)
    os.chmod("f", 0o645)
    same("access X_OK", os.access("f", X), True)


@case
def searching_needs_x_on_the_way():
    """stat(2), path_resolution(7): each directory on the way must be searchable: EACCES"""
    make_directory("d", 0o744)
    make_directory("d/e", 0o777)
    write_file("d/e/f", b"x", 0o666)
    with ALICE:
        fails("EACCES", os.stat, "d/e/f")
        fails("EACCES", os.stat, "d/missing")
        fails("EACCES", open_close, "d/e/f", os.O_RDONLY)
        same("listdir with r alone", os.listdir("d"), ["e"])
    os.chmod("d", 0o711)
    with ALICE:
        same("stat with x alone", os.stat("d/e/f").st_size, 1)
        fails("EACCES", os.listdir, "d")
        fails("ENOENT", os.stat, "d/missing")


@case
def a_working_directory_needs_no_way():
    """path_resolution(7): a relative path does not ask what lies above the working directory"""
    make_directory("d", 0o755)
    make_directory("d/e", 0o755)
    write_file("d/e/f", b"x")
    def work():
        os.chdir("d/e")
        gate.open()
        other.wait()
        same("size", os.stat("f").st_size, 1)
        fails("EACCES", os.stat, "../e/f")
    gate, other = Gate(), Gate()
    child = Child(work, user=ALICE)
    gate.wait()
    os.chmod("d", 0o700)
    other.open()
    child.result()


@case
def chdir_needs_x():
    """chdir(2), fchdir(2): needs x on the directory: EACCES"""
    make_directory("d", 0o744)
    with ALICE:
        fails("EACCES", os.chdir, "d")
        with opened("d") as fd:
            fails("EACCES", os.fchdir, fd)


@case
def a_descriptor_of_a_directory_asks_at_use():
    """openat(2): the directory's x is asked at each use of its descriptor"""
    make_directory("d", 0o755)
    write_file("d/f", b"x")
    with ALICE:
        fd = os.open("d", os.O_RDONLY)
        os.stat("f", dir_fd=fd)
    os.chmod("d", 0o700)
    with ALICE:
        fails("EACCES", os.stat, "f", dir_fd=fd)
        fails("EACCES", os.open, "f", os.O_RDONLY, dir_fd=fd)
        holds("getdents goes on", len(getdents(fd)) == 3)


@case
def making_entries_needs_w_and_x():
    """open(2) O_CREAT, mkdir(2), symlink(2), mknod(2), link(2): need w and x on the directory: EACCES"""
    write_file("mine", b"", 0o666, ALICE)
    for mode in (0o755, 0o753, 0o766):
        name = f"d{mode:o}"
        make_directory(name, mode)
        with ALICE:
            if mode == 0o753:
                os.mkdir(f"{name}/allowed")
                continue
            fails("EACCES", os.open, f"{name}/f", os.O_CREAT | os.O_WRONLY)
            fails("EACCES", os.mkdir, f"{name}/e")
            fails("EACCES", os.symlink, "x", f"{name}/s")
            fails("EACCES", mknod, f"{name}/p", stat.S_IFIFO | 0o644)
            fails("EACCES", os.link, "mine", f"{name}/l")
            fails("EACCES", rename, "mine", f"{name}/l")


@case
def removing_needs_w_on_the_directory_alone():
    """unlink(2), rmdir(2): need w and x on the directory, and nothing on what goes"""
    make_directory("d", 0o755, ALICE)
    write_file("d/f", b"x", 0, BOB)
    make_directory("d/e", 0, BOB)
    with BOB:
        fails("EACCES", os.unlink, "d/f")
        fails("EACCES", os.rmdir, "d/e")
    with ALICE:
        os.unlink("d/f")
        os.rmdir("d/e")


@case
def exists_comes_before_may_not():
    """mkdir(2), open(2) O_EXCL: EEXIST comes before EACCES of the directory"""
    make_directory("d", 0o755)
    write_file("d/f", b"", 0o666)
    with ALICE:
        fails("EEXIST", os.mkdir, "d/f")
        fails("EEXIST", os.open, "d/f", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        fails("EEXIST", os.symlink, "x", "d/f")
        open_close("d/f", os.O_CREAT | os.O_WRONLY)


@case
def sticky_protects_from_unlink():
    """unlink(2), rmdir(2): in a sticky directory only owners of entry or directory remove: EPERM"""
    make_directory("d", 0o1777, ALICE)
    write_file("d/f", b"", 0o666, BOB)
    make_directory("d/e", 0o777, BOB)
    with MEMBER:
        fails("EPERM", os.unlink, "d/f")
        fails("EPERM", os.rmdir, "d/e")
    with BOB:
        os.unlink("d/f")
    with ALICE:
        os.rmdir("d/e")


@case
def sticky_protects_from_rename():
    """rename(2): in a sticky directory only owners move or replace: EPERM"""
    make_directory("d", 0o1777, ALICE)
    make_directory("mine", 0o777, MEMBER)
    write_file("d/f", b"", 0o666, BOB)
    write_file("mine/g", b"", 0o666, MEMBER)
    with MEMBER:
        fails("EPERM", rename, "d/f", "d/g")
        fails("EPERM", rename, "d/f", "mine/f")
        fails("EPERM", rename, "mine/g", "d/f")
        fails("EPERM", rename2, "mine/g", "d/f", RENAME_EXCHANGE)
        rename("mine/g", "d/g")
    with BOB:
        rename("d/f", "d/h")


@case
def moving_a_directory_writes_to_it():
    """rename(2): a directory that gets another parent must be writable, for its ".." changes: EACCES"""
    make_directory("a", 0o777)
    make_directory("b", 0o777)
    make_directory("a/d", 0o555, BOB)
    write_file("a/f", b"", 0o444, BOB)
    make_directory("b/e", 0o777, BOB)
    with ALICE:
        fails("EACCES", rename, "a/d", "b/d")
        fails("EACCES", rename2, "a/d", "b/e", RENAME_EXCHANGE)
        fails("EACCES", rename2, "b/e", "a/d", RENAME_EXCHANGE)
        rename("a/d", "a/e")
        rename("a/f", "b/f")


@case
def chmod_is_the_owners():
    """chmod(2), fchmod(2): EPERM for all but the owner and root, whatever the mode"""
    write_file("f", b"", 0o666, ALICE)
    with BOB:
        fails("EPERM", os.chmod, "f", 0o777)
        with opened("f", os.O_RDWR) as fd:
            fails("EPERM", os.fchmod, fd, 0o777)
    with ALICE:
        os.chmod("f", 0o600)
    same_mode("mode", "f", 0o600)


@case
def chmod_by_an_outsider_loses_setgid():
    """chmod(2): an owner who is not in the file's group does not set setgid"""
    write_file("f", b"", 0o644, (ALICE.uid, TEAM))
    make_directory("d", 0o755, (ALICE.uid, TEAM))
    with ALICE:
        os.chmod("f", 0o2755)
        os.chmod("d", 0o2755)
    same_mode("file", "f", 0o755)
    same_mode("directory", "d", 0o755)


@case
def chmod_by_an_outsider_takes_setgid_away():
    """chmod(2): an owner who is not in the file's group takes setgid away with whatever chmod"""
    write_file("f", b"", 0o2755, (ALICE.uid, TEAM))
    with ALICE:
        os.chmod("f", 0o2750)
    same_mode("mode", "f", 0o750)


@case
def chmod_by_a_member_sets_setgid():
    """chmod(2): an owner who is in the group, by a supplementary group too, sets setgid"""
    write_file("f", b"", 0o644, (MEMBER.uid, TEAM))
    with MEMBER:
        os.chmod("f", 0o6755)
    same_mode("mode", "f", 0o6755)


@case
def chmod_sets_all_twelve_bits():
    """chmod(2): all of the twelve bits are kept, and the type stays"""
    write_file("f")
    os.mkdir("d")
    for mode in (0, 0o7777, 0o1000, 0o4000, 0o2000, 0o0421):
        for path in ("f", "d"):
            os.chmod(path, mode)
            same_mode("mode", path, mode)
    holds("a directory", stat.S_ISDIR(os.stat("d").st_mode))


@case
def chmod_of_a_symbolic_link():
    """fchmodat2(2) AT_SYMLINK_NOFOLLOW: a symbolic link's mode cannot be changed: EOPNOTSUPP"""
    write_file("f")
    os.symlink("f", "l")
    fails("EOPNOTSUPP", fchmodat2, "l", 0o600, AT_SYMLINK_NOFOLLOW)
    fchmodat2("f", 0o600, AT_SYMLINK_NOFOLLOW)
    same_mode("mode", "f", 0o600)
    same_mode("mode of a link", "l", 0o777)


@case
def chown_of_the_user_is_roots():
    """chown(2): nobody gives a file away: EPERM"""
    write_file("f", b"", 0o666, ALICE)
    with ALICE:
        fails("EPERM", os.chown, "f", BOB.uid, -1)
        fails("EPERM", os.chown, "f", 0, -1)
        os.chown("f", ALICE.uid, -1)
    with BOB:
        fails("EPERM", os.chown, "f", BOB.uid, -1)
        fails("EPERM", os.chown, "f", -1, BOB.gid)


@case
def chown_of_the_group_is_the_owners_among_own_groups():
    """chown(2): the owner gives the file to a group of its own, and to no other: EPERM"""
    write_file("f", b"", 0o666, MEMBER)
    with MEMBER:
        os.chown("f", -1, TEAM)
        same("group", os.stat("f").st_gid, TEAM)
        fails("EPERM", os.chown, "f", -1, BOB.gid)
        os.chown("f", -1, MEMBER.gid)


@case
def chown_to_the_group_it_has():
    """chown(2): an owner who is not in the file's group may name that same group"""
    write_file("f", b"", 0o666, (ALICE.uid, TEAM))
    with ALICE:
        os.chown("f", ALICE.uid, TEAM)
        os.chown("f", -1, TEAM)


@case
def chown_takes_large_ids():
    """chown(2): ids of 32 bits are kept"""
    write_file("f")
    os.chown("f", 0xFFFFFFFE, 0x80000001)
    s = os.stat("f")
    same("ids", (s.st_uid, s.st_gid), (0xFFFFFFFE, 0x80000001))


@case
def lchown_changes_the_link():
    """lchown(2): the link itself is changed, chown(2) what it leads to"""
    write_file("f")
    os.symlink("f", "l")
    os.lchown("l", 1, 2)
    same("link", (os.lstat("l").st_uid, os.lstat("l").st_gid), (1, 2))
    os.chown("l", 3, 4)
    same("file", (os.stat("f").st_uid, os.lstat("l").st_uid), (3, 1))


@case
def chown_takes_setuid_away():
    """chown(2): takes setuid, and setgid of an executable file, away, by root too"""
    write_file("f")
    for uid, gid in ((ALICE.uid, -1), (-1, TEAM), (0, 0)):
        os.chmod("f", 0o6755)
        os.chown("f", uid, gid)
        same_mode(f"chown {uid} {gid}", "f", 0o755)


@case
def chown_keeps_setgid_without_x():
    """chown(2): setgid without the group's x stays when root changes the owner"""
    write_file("f", b"", 0o6745)
    os.chown("f", ALICE.uid, TEAM)
    same_mode("mode", "f", 0o2745)


@case
@differs("chown of nothing")
def chown_of_nothing_takes_setuid_away():
    """chown(2): with -1 for both, takes setuid and setgid away all the same"""
    write_file("f", b"", 0o6755)
    os.chown("f", -1, -1)
    same_mode("mode", "f", 0o755)


@case
def chown_of_a_node_takes_setuid_away():
    """chown(2): takes setuid and setgid from FIFOs, sockets and devices, too"""
    for name, kind in (("p", stat.S_IFIFO), ("s", stat.S_IFSOCK), ("c", stat.S_IFCHR)):
        mknod(name, kind | 0o644, os.makedev(1, 3))
        os.chmod(name, 0o6755)
        os.chown(name, ALICE.uid, TEAM)
        same_mode(name, name, 0o755)


@case
def chown_of_a_directory_keeps_bits():
    """chown(2): a directory keeps setuid, setgid and sticky"""
    make_directory("d", 0o7755)
    os.chown("d", ALICE.uid, TEAM)
    same_mode("mode", "d", 0o7755)


@case
def chown_by_the_owner_takes_setuid_away():
    """chown(2): the owner who changes the group takes setuid and setgid away"""
    write_file("f", b"", 0o6755, MEMBER)
    with MEMBER:
        os.chown("f", -1, TEAM)
    same_mode("mode", "f", 0o755)
    write_file("g", b"", 0o2644, MEMBER)
    with MEMBER:
        os.chown("g", -1, TEAM)
    same_mode("without x, by a member of the old group", "g", 0o2644)


def writes_to(name):
    """Ways to change the content of a file of some 100 bytes, by name."""
    def with_fd(use, flags=os.O_RDWR):
        def work():
            with opened("f", flags) as fd:
                use(fd)
        return work
    def copy(fd):
        with opened("source") as source:
            os.copy_file_range(source, fd, 10, 0, 0)
    def send(fd):
        with opened("source") as source:
            os.sendfile(fd, source, 0, 10)
    def splice(fd):
        read_end, write_end = os.pipe()
        os.write(write_end, b"0123456789")
        os.splice(read_end, fd, 10)
    def direct(fd):
        os.pwritev(fd, [aligned_buffer(4096)], 0)
    return {
        "write(2)": with_fd(lambda fd: os.write(fd, b"y")),
        "pwritev2(2)": with_fd(lambda fd: os.pwritev(fd, [b"y", b"z"], 5)),
        "write(2) O_APPEND": with_fd(lambda fd: os.write(fd, b"y"), os.O_WRONLY | os.O_APPEND),
        "write(2) O_DIRECT": with_fd(direct, os.O_WRONLY | os.O_DIRECT),
        "write(2) O_SYNC": with_fd(lambda fd: os.write(fd, b"y"), os.O_WRONLY | os.O_SYNC),
        "truncate(2), shorter": lambda: os.truncate("f", 10),
        "truncate(2), longer": lambda: os.truncate("f", 10_000),
        "ftruncate(2)": with_fd(lambda fd: os.ftruncate(fd, 10)),
        "open(2) O_TRUNC": lambda: open_close("f", os.O_WRONLY | os.O_TRUNC),
        "open(2) O_RDONLY|O_TRUNC": lambda: open_close("f", os.O_RDONLY | os.O_TRUNC),
        "open(2) O_TRUNC|O_CREAT": lambda: open_close("f", os.O_RDWR | os.O_TRUNC | os.O_CREAT),
        "fallocate(2)": with_fd(lambda fd: fallocate(fd, 0, 0, 5000)),
        "fallocate(2) KEEP_SIZE": with_fd(lambda fd: fallocate(fd, KEEP_SIZE, 8192, 5000)),
        "fallocate(2) PUNCH_HOLE": with_fd(lambda fd: fallocate(fd, KEEP_SIZE | PUNCH_HOLE, 0, 50)),
        "fallocate(2) ZERO_RANGE": with_fd(lambda fd: fallocate(fd, ZERO_RANGE, 0, 50)),
        "copy_file_range(2)": with_fd(copy),
        "sendfile(2)": with_fd(send),
        "splice(2)": with_fd(splice),
    }[name]


def protected_file(mode, owner, data=b"x" * 100):
    write_file("source", b"s" * 100)
    write_file("f", data, mode, owner)


WRITES = {
    "write": "write(2)", "pwritev": "pwritev2(2)", "append": "write(2) O_APPEND", "direct_write": "write(2) O_DIRECT",
    "synchronous_write": "write(2) O_SYNC", "truncate_shorter": "truncate(2), shorter",
    "truncate_longer": "truncate(2), longer", "ftruncate": "ftruncate(2)", "open_truncating": "open(2) O_TRUNC",
    "open_for_reading_and_truncating": "open(2) O_RDONLY|O_TRUNC", "creat_of_what_exists": "open(2) O_TRUNC|O_CREAT", "fallocate": "fallocate(2)",
    "fallocate_keeping_the_size": "fallocate(2) KEEP_SIZE", "punch_hole": "fallocate(2) PUNCH_HOLE",
    "zero_range": "fallocate(2) ZERO_RANGE", "copy_file_range": "copy_file_range(2)", "sendfile": "sendfile(2)",
    "splice": "splice(2)",
}


def declare_writes():
    for name, call in WRITES.items():
        def takes(call=call):
            protected_file(0o6777, (ALICE.uid, TEAM))
            with BOB:
                writes_to(call)()
            same_mode("setuid and setgid of an executable file", "f", 0o777)
            protected_file(0o6767, (ALICE.uid, TEAM))
            with MEMBER:
                writes_to(call)()
            same_mode("setgid without x, by a member", "f", 0o2767)
            protected_file(0o6767, (ALICE.uid, TEAM))
            with BOB:
                writes_to(call)()
            same_mode("setgid without x, by an outsider", "f", 0o767)
        takes.__name__ = f"{name}_takes_setuid_away"
        takes.__doc__ = f"{call}, inode(7): by who has not CAP_FSETID, takes setuid and setgid away"
        case(needs("fallocate" if call.startswith("fallocate") else "setgid")(takes))

        def keeps(call=call):
            protected_file(0o6777, (ALICE.uid, TEAM))
            writes_to(call)()
            same_mode("mode", "f", 0o6777)
        keeps.__name__ = f"{name}_by_root_keeps_setuid"
        keeps.__doc__ = f"{call}, inode(7): by who has CAP_FSETID, leaves setuid and setgid"
        case(needs("fallocate")(keeps) if call.startswith("fallocate") else keeps)


declare_writes()


@case
def truncation_of_an_empty_file_takes_setuid_away():
    """open(2) O_TRUNC: takes setuid and setgid away from an empty file, too"""
    write_file("f", b"", 0o6777, (ALICE.uid, TEAM))
    with BOB:
        open_close("f", os.O_WRONLY | os.O_TRUNC)
    same_mode("mode", "f", 0o777)


@case
def truncate_to_the_same_size_takes_setuid_away():
    """truncate(2): takes setuid and setgid away though the size stays"""
    write_file("f", b"xyz", 0o6777, (ALICE.uid, TEAM))
    with BOB:
        os.truncate("f", 3)
    same_mode("mode", "f", 0o777)


@case
def a_write_of_nothing_keeps_setuid():
    """write(2): of no bytes changes nothing"""
    write_file("f", b"xyz", 0o6777, (ALICE.uid, TEAM))
    with BOB, opened("f", os.O_WRONLY) as fd:
        os.write(fd, b"")
    same_mode("mode", "f", 0o6777)


@case
def a_mapping_keeps_setuid():
    """mmap(2): a write to a shared mapping leaves setuid and setgid"""
    write_file("f", b"x" * 100, 0o6777, (ALICE.uid, TEAM))
    with BOB, opened("f", os.O_RDWR) as fd, mmap.mmap(fd, 100) as memory:
        memory[0:1] = b"y"
        memory.flush()
    same_mode("mode", "f", 0o6777)


@case
def setuid_is_gone_for_an_open_descriptor():
    """write(2), fstat(2): the mode without setuid shows at once, by name and by descriptor"""
    write_file("f", b"x" * 100, 0o4777, ALICE)
    with opened("f") as fd:
        with BOB, opened("f", os.O_WRONLY) as writer:
            os.write(writer, b"y")
            same_mode("by the writer's descriptor", writer, 0o777)
        same_mode("by another", fd, 0o777)


@case
@needs("tmpfile")
def a_setgid_directory_gives_its_group():
    """mkdir(2), open(2), symlink(2), mknod(2): what is made in a setgid directory has its group"""
    make_directory("d", 0o2777, (ALICE.uid, TEAM))
    with BOB:
        open_close("d/f", os.O_CREAT | os.O_WRONLY)
        os.mkdir("d/e", 0o755)
        os.symlink("x", "d/l")
        mknod("d/p", stat.S_IFIFO | 0o644)
        with opened("d", os.O_TMPFILE | os.O_RDWR) as fd:
            same("O_TMPFILE", os.fstat(fd).st_gid, TEAM)
    for name in ("f", "e", "l", "p"):
        s = os.lstat(f"d/{name}")
        same(f"owner and group of {name}", (s.st_uid, s.st_gid), (BOB.uid, TEAM))


@case
@needs("creators")
def a_setgid_directory_passes_the_bit_to_directories():
    """mkdir(2), inode(7): a directory in a setgid directory is setgid, a file is not"""
    make_directory("d", 0o2777, (ALICE.uid, TEAM))
    with BOB:
        os.mkdir("d/e", 0o755)
        os.mkdir("d/e/below", 0o700)
        os.close(os.open("d/f", os.O_CREAT | os.O_WRONLY, 0o755))
    same_mode("directory", "d/e", 0o2755)
    same_mode("below it", "d/e/below", 0o2700)
    same_mode("file", "d/f", 0o755)


@case
@needs("creators")
def no_setgid_program_for_an_outsider():
    """open(2), mknod(2): in a setgid directory an outsider's new executable file is not setgid"""
    make_directory("d", 0o2777, (ALICE.uid, TEAM))
    for user, name, expected in ((BOB, "bob", 0o755), (MEMBER, "member", 0o2755), (TEAMSTER, "teamster", 0o2755)):
        with user:
            os.close(os.open(f"d/{name}", os.O_CREAT | os.O_WRONLY, 0o2755))
            mknod(f"d/{name}-node", stat.S_IFREG | 0o2755)
        same_mode(name, f"d/{name}", expected)
        same_mode(f"{name}, mknod", f"d/{name}-node", expected)


@case
@needs("creators")
def a_plain_directory_does_not_give_its_group():
    """open(2), credentials(7): elsewhere a new file has the process's file system ids"""
    make_directory("d", 0o777, (ALICE.uid, TEAM))
    with BOB:
        open_close("d/f", os.O_CREAT | os.O_WRONLY)
    s = os.stat("d/f")
    same("owner and group", (s.st_uid, s.st_gid), (BOB.uid, BOB.gid))


@case
@needs("creators")
def the_umask_takes_bits_away():
    """umask(2): is taken from the mode of open, mkdir and mknod, and not of chmod and symlink"""
    os.umask(0o027)
    os.close(os.open("f", os.O_CREAT | os.O_WRONLY, 0o7777))
    os.mkdir("d", 0o7777)
    mknod("p", stat.S_IFIFO | 0o666)
    os.symlink("x", "l")
    same_mode("open", "f", 0o7750)
    same_mode("mkdir: no setuid and setgid of its own", "d", 0o1750)
    same_mode("mknod", "p", 0o640)
    same_mode("symlink", "l", 0o777)
    os.chmod("f", 0o777)
    same_mode("chmod", "f", 0o777)


@case
def a_mode_counts_from_the_next_open():
    """open(2): a new file's mode does not bind the descriptor that made it"""
    make_directory("place", 0o777)
    with inside("place"), ALICE:
        with opened("f", os.O_CREAT | os.O_RDWR, 0) as fd:
            os.write(fd, b"xyz")
            same("pread", os.pread(fd, 3, 0), b"xyz")
        fails("EACCES", open_close, "f", os.O_RDONLY)


@case
def an_open_file_stays_open():
    """read(2), write(2): chmod and chown do not touch open descriptors"""
    write_file("f", b"xyz", 0o666, ALICE)
    with BOB:
        fd = os.open("f", os.O_RDWR)
    os.chmod("f", 0)
    os.chown("f", 1, 1)
    with BOB:
        same("read", os.read(fd, 3), b"xyz")
        os.write(fd, b"more")
        os.ftruncate(fd, 5)
        fails("EACCES", open_close, "f", os.O_RDONLY)
        fails("EACCES", open_close, f"/proc/self/fd/{fd}", os.O_RDONLY)


@case
def truncate_needs_w():
    """truncate(2): needs w on the file; ftruncate a descriptor for writing: EACCES, EINVAL"""
    write_file("f", b"xyz", 0o644, ALICE)
    with BOB:
        fails("EACCES", os.truncate, "f", 0)
        fails("EACCES", open_close, "f", os.O_RDONLY | os.O_TRUNC)
        with opened("f") as fd:
            fails("EINVAL", os.ftruncate, fd, 0)
    same("content", read_file("f"), b"xyz")


@case
def access_asks_for_the_real_user():
    """access(2): the real ids decide, with AT_EACCESS the effective ones"""
    write_file("f", b"", 0o600, ALICE)
    with ALICE:
        same("effective", os.access("f", R | W, effective_ids=True), True)
    def work():
        os.setresuid(BOB.uid, ALICE.uid, 0)
        return os.access("f", R), os.access("f", R, effective_ids=True)
    same("real and effective", elsewhere(work), (False, True))


@case
def executing_needs_x():
    """execve(2): needs x for the class of the user: EACCES"""
    write_file("f", b"#!/bin/sh\nexit 7\n", 0o754, (ALICE.uid, TEAM))
    def run():
        pid = os.fork()
        if pid == 0:
            try:
                os.execv("./f", ["f"])
            except OSError as error:
                os._exit(100 + error.errno)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    same("a member", elsewhere(run, user=MEMBER), 7)
    same("an outsider", elsewhere(run, user=BOB), 100 + errno.EACCES)


@case
def setuid_programs_have_no_effect():
    """execve(2), mount(8) nosuid: a setuid program runs as who calls it"""
    import shutil
    shutil.copy("/usr/bin/id", "id")
    os.chown("id", ALICE.uid, ALICE.gid)
    os.chmod("id", 0o6755)
    def run():
        read_end, write_end = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.dup2(write_end, 1)
            os.execv("./id", ["id", "-u"])
        os.waitpid(pid, 0)
        return os.read(read_end, 100)
    same("id -u", elsewhere(run, user=BOB), b"%d\n" % BOB.uid)


@case
def no_atime_is_the_owners():
    """open(2) O_NOATIME: EPERM for all but the owner and root"""
    write_file("f", b"", 0o666, ALICE)
    with BOB:
        fails("EPERM", open_close, "f", os.O_RDONLY | os.O_NOATIME)
    with ALICE:
        open_close("f", os.O_RDONLY | os.O_NOATIME)


@case
def protected_hardlinks():
    """link(2), proc(5) protected_hardlinks: nobody links what is another's and not theirs to write: EPERM"""
    write_file("f", b"", 0o644, ALICE)
    make_directory("d", 0o777)
    with open("/proc/sys/fs/protected_hardlinks") as setting:
        protected = setting.read().strip() == "1"
    with BOB:
        if protected:
            fails("EPERM", os.link, "f", "d/l")
        else:
            os.link("f", "d/l")
    with ALICE:
        os.link("f", "d/mine")


@case
@needs("fallocate")
def a_capability_gives_what_it_says():
    """capabilities(7): CAP_FOWNER changes modes, CAP_FSETID keeps setuid, without being root"""
    CAP_FOWNER, CAP_FSETID = 3, 4
    write_file("f", b"x", 0o4777, ALICE)
    def work():
        keep(CAP_FOWNER, CAP_FSETID)
        with opened("f", os.O_RDWR) as fd:
            os.write(fd, b"y")
            fallocate(fd, 0, 0, 100)
        same_mode("setuid after write and fallocate", "f", 0o4777)
        os.chmod("f", 0o4755)
        same_mode("chmod", "f", 0o4755)
    elsewhere(work)


def keep(*capabilities):
    """Becomes Bob, with these capabilities alone."""
    PR_SET_KEEPCAPS = 8
    check(libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0))
    BOB.become()
    mask = sum(1 << one for one in capabilities)
    header = struct.pack("=Ii", 0x20080522, 0)
    check(libc.capset(header, struct.pack("=IIIIII", mask, mask, 0, 0, 0, 0)))


@case
@needs("fallocate")
def root_without_capabilities_is_a_user():
    """capabilities(7): uid 0 without CAP_DAC_OVERRIDE, CAP_FOWNER and CAP_FSETID is as any user"""
    write_file("f", b"x", 0o4777, ALICE)
    write_file("closed", b"x", 0o600, ALICE)
    write_file("g", b"x" * 100, 0o4777, ALICE)
    def work():
        header = struct.pack("=Ii", 0x20080522, 0)
        check(libc.capset(header, bytes(24)))
        fails("EACCES", open_close, "closed", os.O_RDONLY)
        fails("EPERM", os.chmod, "f", 0o777)
        with opened("f", os.O_RDWR) as fd:
            os.write(fd, b"y")
        same_mode("setuid after write", "f", 0o777)
        with opened("g", os.O_RDWR) as fd:
            fallocate(fd, 0, 0, 200)
        same_mode("setuid after fallocate", "g", 0o777)
        fails("EPERM", mknod, "device", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    elsewhere(work)


@case
@needs("creators")
def a_user_namespace_shows_its_own_ids():
    """user_namespaces(7): ids are mapped, what has none is the overflow id, and root there is no root here"""
    write_file("mine", b"", 0o600, ALICE)
    write_file("closed", b"", 0o600, BOB)
    make_directory("d", 0o777)
    def work():
        ALICE.become()
        # Who has changed its ids may not write its own maps without this.
        PR_SET_DUMPABLE = 4
        check(libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0))
        unshare(CLONE_NEWUSER)
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {ALICE.uid} 1"), ("gid_map", f"0 {ALICE.gid} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
        same("own file", os.stat("mine").st_uid, 0)
        same("another's", os.stat("closed").st_uid, 65534)
        fails("EACCES", open_close, "closed", os.O_RDONLY)
        fails("EPERM", os.chmod, "closed", 0o666)
        fails("EINVAL", os.chown, "mine", 5, 5)
        open_close("d/new", os.O_CREAT | os.O_WRONLY)
    elsewhere(work)
    same("owner of the new file", os.stat("d/new").st_uid, ALICE.uid)
