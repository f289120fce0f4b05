"""Extended attributes, capabilities of files, and access control lists that are enforced."""
import stat

from calls import *
from harness import *

ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
CREATE, REPLACE = os.XATTR_CREATE, os.XATTR_REPLACE


def acl(*entries):
    """The bytes of an ACL: "u::rwx", "u:7001:r-x", "g::r--", "g:7000:rw-", "m::rwx", "o::---"."""
    data = struct.pack("<I", 2)
    for entry in entries:
        kind, who, rights = entry.split(":")
        tag = {"u": 2 if who else 1, "g": 8 if who else 4, "m": 16, "o": 32}[kind]
        mask = sum(bit for bit, letter in ((4, "r"), (2, "w"), (1, "x")) if letter in rights)
        data += struct.pack("<HHI", tag, mask, int(who) if who else 0xFFFFFFFF)
    return data


def entries_of(path, name=ACCESS):
    data = os.getxattr(path, name)
    found = []
    for at in range(4, len(data), 8):
        tag, mask, who = struct.unpack_from("<HHI", data, at)
        letter = {1: "u", 2: "u", 4: "g", 8: "g", 16: "m", 32: "o"}[tag]
        rights = "".join(x if mask & bit else "-" for bit, x in ((4, "r"), (2, "w"), (1, "x")))
        found.append(f"{letter}:{who if tag in (2, 8) else ''}:{rights}")
    return found


def may(user, path, flags):
    with user:
        try:
            os.close(os.open(path, flags))
            return True
        except PermissionError:
            return False


# Extended attributes -------------------------------------------------------------------------------------------------

@case
def set_get_list_remove():
    """setxattr(2), getxattr(2), listxattr(2), removexattr(2): any bytes, of files and directories"""
    write_file("f")
    os.mkdir("d")
    for path in ("f", "d"):
        for name, value in (("user.a", b""), ("user.b", b"\0\xff\n"), ("user." + "n" * 250, b"x" * 1000)):
            os.setxattr(path, name, value)
            same(name, os.getxattr(path, name), value)
        same("list", sorted(os.listxattr(path)), sorted(["user.a", "user.b", "user." + "n" * 250]))
        os.removexattr(path, "user.a")
        fails("ENODATA", os.getxattr, path, "user.a")
        fails("ENODATA", os.removexattr, path, "user.a")


@case
def create_and_replace():
    """setxattr(2): XATTR_CREATE of what is there: EEXIST, XATTR_REPLACE of what is not: ENODATA"""
    write_file("f")
    fails("ENODATA", os.setxattr, "f", "user.a", b"1", REPLACE)
    os.setxattr("f", "user.a", b"1", CREATE)
    fails("EEXIST", os.setxattr, "f", "user.a", b"2", CREATE)
    os.setxattr("f", "user.a", b"3", REPLACE)
    same("value", os.getxattr("f", "user.a"), b"3")
    fails("EINVAL", os.setxattr, "f", "user.a", b"2", 4)


@case
def sizes_of_buffers():
    """getxattr(2), listxattr(2): size 0 asks for the size, a small buffer is ERANGE"""
    write_file("f")
    os.setxattr("f", "user.abc", b"12345")
    def get(size):
        return check(libc.getxattr(b"f", b"user.abc", ctypes.create_string_buffer(64), ctypes.c_size_t(size)))
    def names(size):
        return check(libc.listxattr(b"f", ctypes.create_string_buffer(64), ctypes.c_size_t(size)))
    same("getxattr", (get(0), get(5), get(64)), (5, 5, 5))
    same("listxattr", (names(0), names(9), names(64)), (9, 9, 9))
    fails("ERANGE", get, 4)
    fails("ERANGE", names, 8)


@case
def names_of_xattrs():
    """setxattr(2): an empty name or one above 255 bytes: ERANGE; an unknown class EOPNOTSUPP; none after "user." EINVAL"""
    write_file("f")
    fails("ERANGE", os.setxattr, "f", "", b"")
    fails("ERANGE", os.setxattr, "f", "user." + "n" * 251, b"")
    fails("EOPNOTSUPP", os.setxattr, "f", "nothing.a", b"")
    fails("EOPNOTSUPP", os.setxattr, "f", "user", b"")
    fails("EOPNOTSUPP", os.setxattr, "f", "system.a", b"")
    fails("EINVAL", os.setxattr, "f", "user.", b"")
    fails("EOPNOTSUPP", os.getxattr, "f", "nothing.a")
    fails("E2BIG", os.setxattr, "f", "user.a", b"x" * 65_537)


@case
@differs("size of xattrs")
def too_much_for_a_block():
    """setxattr(2): more than a block of values: ENOSPC"""
    write_file("f")
    fails("ENOSPC", os.setxattr, "f", "user.a", b"x" * 60_000)


@case
def user_xattrs_need_rights():
    """xattr(7) user.*: reading needs r, changing needs w on the file: EACCES; in a sticky directory's own, EPERM"""
    write_file("f", b"", 0o644)
    os.setxattr("f", "user.a", b"1")
    make_directory("sticky", 0o1777, ALICE)
    with BOB:
        same("get", os.getxattr("f", "user.a"), b"1")
        fails("EACCES", os.setxattr, "f", "user.a", b"2")
        fails("EACCES", os.removexattr, "f", "user.a")
        fails("EPERM", os.setxattr, "sticky", "user.a", b"1")
    os.chmod("f", 0o622)
    with BOB:
        fails("EACCES", os.getxattr, "f", "user.a")
        os.setxattr("f", "user.a", b"3")
        same("list needs nothing", os.listxattr("f"), ["user.a"])


@case
def user_xattrs_are_of_files_and_directories():
    """xattr(7) user.*: of a symbolic link or a node: EPERM; reading them there ENODATA"""
    os.symlink("x", "l")
    os.mkfifo("p")
    for name in ("l", "p"):
        fails("EPERM", os.setxattr, name, "user.a", b"1", follow_symlinks=False)
        fails("ENODATA EPERM", os.getxattr, name, "user.a", follow_symlinks=False)


@case
@needs("trusted")
def trusted_xattrs_are_roots():
    """xattr(7) trusted.*: others may not set them, EPERM, and do not see them, ENODATA"""
    write_file("f", b"", 0o666, ALICE)
    os.setxattr("f", "trusted.a", b"1")
    os.setxattr("f", "user.a", b"1")
    with ALICE:
        fails("EPERM", os.setxattr, "f", "trusted.b", b"1")
        fails("ENODATA", os.getxattr, "f", "trusted.a")
        fails("EPERM", os.removexattr, "f", "trusted.a")
        same("list", os.listxattr("f"), ["user.a"])
    same("list by root", sorted(os.listxattr("f")), ["trusted.a", "user.a"])


@case
def security_xattrs_are_read_by_all():
    """xattr(7) security.*: all read them, root changes them: EPERM"""
    write_file("f", b"", 0o600, ALICE)
    os.setxattr("f", "security.mine", b"1")
    with BOB:
        same("get", os.getxattr("f", "security.mine"), b"1")
        same("list", os.listxattr("f"), ["security.mine"])
    with ALICE:
        fails("EPERM", os.setxattr, "f", "security.mine", b"2")
        fails("EPERM", os.removexattr, "f", "security.mine")


@case
def xattrs_of_links_themselves():
    """lsetxattr(2), lgetxattr(2): a symbolic link has trusted.* of its own"""
    write_file("f")
    os.symlink("f", "l")
    os.setxattr("l", "trusted.a", b"link", follow_symlinks=False)
    os.setxattr("l", "trusted.a", b"file")
    same("link", os.getxattr("l", "trusted.a", follow_symlinks=False), b"link")
    same("file", os.getxattr("f", "trusted.a"), b"file")


@case
def many_xattrs():
    """listxattr(2): a hundred are kept, and all go with the file"""
    write_file("f")
    for i in range(60):
        os.setxattr("f", f"user.{i}", b"%d" % i)
    same("count", len(os.listxattr("f")), 60)
    rename("f", "g")
    os.link("g", "h")
    for i in range(60):
        same("value", os.getxattr("h", f"user.{i}"), b"%d" % i)
    os.unlink("g")
    os.unlink("h")
    write_file("g")
    same("of a new file", os.listxattr("g"), [])


# Capabilities of files -----------------------------------------------------------------------------------------------

CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)


def capable(path="f"):
    write_file(path, b"x" * 100, 0o755)
    os.setxattr(path, "security.capability", CAPABILITY)


def capability_of(path="f"):
    try:
        return os.getxattr(path, "security.capability")
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise
        return None


@case
def capabilities_are_roots_to_give():
    """setxattr(2) security.capability: needs CAP_SETFCAP: EPERM; what is none is EINVAL"""
    write_file("f", b"", 0o755, ALICE)
    with ALICE:
        fails("EPERM", os.setxattr, "f", "security.capability", CAPABILITY)
    fails("EINVAL", os.setxattr, "f", "security.capability", b"nonsense")
    os.setxattr("f", "security.capability", CAPABILITY)
    same("value", capability_of(), CAPABILITY)
    holds("listed", "security.capability" in os.listxattr("f"))


@case
@needs("fallocate")
def changes_take_capabilities_away():
    """capabilities(7): write, truncate, fallocate, copy_file_range and chown take security.capability away, by root too"""
    def with_fd(use):
        with opened("f", os.O_RDWR) as fd:
            use(fd)
    write_file("source", b"s" * 10)
    def copy(fd):
        with opened("source") as source:
            os.copy_file_range(source, fd, 5, 0, 0)
    for name, call in {
        "write": lambda: with_fd(lambda fd: os.write(fd, b"x")),
        "direct write": lambda: direct(),
        "truncate": lambda: os.truncate("f", 5),
        "ftruncate": lambda: with_fd(lambda fd: os.ftruncate(fd, 5)),
        "O_TRUNC": lambda: os.close(os.open("f", os.O_WRONLY | os.O_TRUNC)),
        "fallocate": lambda: with_fd(lambda fd: fallocate(fd, 0, 0, 500)),
        "punch": lambda: with_fd(lambda fd: fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 0, 5)),
        "copy_file_range": lambda: with_fd(copy),
        "chown": lambda: os.chown("f", 1, 1),
        "chgrp": lambda: os.chown("f", -1, 5),
    }.items():
        capable()
        call()
        same(name, capability_of(), None)
        holds(f"{name}: not listed", "security.capability" not in os.listxattr("f"))


def direct():
    with opened("f", os.O_WRONLY | os.O_DIRECT) as fd:
        os.pwritev(fd, [aligned_buffer(4096)], 0)


@case
def other_changes_leave_capabilities():
    """capabilities(7): chmod, utimensat, rename, link, setxattr and reading leave security.capability"""
    capable()
    os.chmod("f", 0o700)
    utimensat("f", 5, 6)
    os.setxattr("f", "user.a", b"1")
    rename("f", "g")
    os.link("g", "f")
    read_file("f")
    same("value", capability_of(), CAPABILITY)


# Access control lists ------------------------------------------------------------------------------------------------

@case
@needs("acl")
def a_named_user():
    """acl(5): a named user's entry decides for that user, and the mask limits it"""
    write_file("f", b"x", 0o640)
    os.setxattr("f", ACCESS, acl("u::rw-", f"u:{ALICE.uid}:rw-", "g::r--", "m::rw-", "o::---"))
    same_mode("the mask shows as the group", "f", 0o660)
    same("alice", (may(ALICE, "f", os.O_RDWR), may(BOB, "f", os.O_RDONLY)), (True, False))
    os.chmod("f", 0o640)
    same("mask", entries_of("f")[3], "m::r--")
    same("alice", (may(ALICE, "f", os.O_RDWR), may(ALICE, "f", os.O_RDONLY)), (False, True))


@case
@needs("acl")
def a_named_group():
    """acl(5): a named group's entry decides for its members, by supplementary groups too"""
    write_file("f", b"x", 0o600)
    os.setxattr("f", ACCESS, acl("u::rw-", "g::---", f"g:{TEAM}:rw-", "m::rw-", "o::---"))
    for user, expected in ((MEMBER, True), (TEAMSTER, True), (BOB, False)):
        same(f"user {user.uid}", may(user, "f", os.O_RDWR), expected)


@case
@needs("acl")
def denial_by_an_entry():
    """acl(5): an entry that gives less than others denies, for the user before its groups and for a group before others"""
    write_file("f", b"x", 0o600, (0, TEAM))
    os.setxattr("f", ACCESS, acl("u::rw-", f"u:{MEMBER.uid}:---", "g::rw-", "m::rw-", "o::rw-"))
    same("member", may(MEMBER, "f", os.O_RDONLY), False)
    same("teamster", may(TEAMSTER, "f", os.O_RDWR), True)
    os.setxattr("f", ACCESS, acl("u::rw-", "g::rw-", f"g:{BOB.gid}:---", "m::rw-", "o::rw-"))
    same("bob", may(BOB, "f", os.O_RDONLY), False)
    same("alice", may(ALICE, "f", os.O_RDONLY), True)


@case
@needs("acl")
def several_groups():
    """acl(5): any entry of a group that gives all that is asked for is enough, two halves are not"""
    write_file("f", b"x", 0o600)
    user = User(7009, 7010, 7011)
    os.setxattr("f", ACCESS, acl("u::rw-", "g::---", "g:7010:r--", "g:7011:-w-", "m::rw-", "o::---"))
    same("read", may(user, "f", os.O_RDONLY), True)
    same("write", may(user, "f", os.O_WRONLY), True)
    same("both", may(user, "f", os.O_RDWR), False)


@case
@needs("acl")
def the_owner_is_not_limited():
    """acl(5): neither mask nor named entries limit the owner"""
    write_file("f", b"x", 0o600, ALICE)
    os.setxattr("f", ACCESS, acl("u::rw-", f"u:{ALICE.uid}:---", "g::---", "m::---", "o::---"))
    same("owner", may(ALICE, "f", os.O_RDWR), True)


@case
@needs("acl")
def directories_with_lists():
    """acl(5): w and x of a directory by a named entry: making, removing, searching"""
    make_directory("d", 0o700)
    write_file("d/f", b"x", 0o666)
    os.setxattr("d", ACCESS, acl("u::rwx", f"u:{ALICE.uid}:-wx", f"u:{BOB.uid}:--x", "g::---", "m::rwx", "o::---"))
    with ALICE:
        write_file("d/new")
        os.unlink("d/f")
        fails("EACCES", os.listdir, "d")
    with BOB:
        os.stat("d/new")
        fails("EACCES", os.unlink, "d/new")
    with MEMBER:
        fails("EACCES", os.stat, "d/new")


@case
@needs("acl")
def lists_are_the_owners():
    """setxattr(2) of an ACL: EPERM for all but the owner and root; all read it"""
    write_file("f", b"x", 0o666, ALICE)
    value = acl("u::rw-", f"u:{BOB.uid}:r--", "g::r--", "m::r--", "o::---")
    with BOB:
        fails("EPERM", os.setxattr, "f", ACCESS, value)
    with ALICE:
        os.setxattr("f", ACCESS, value)
    with MEMBER:
        same("list", os.getxattr("f", ACCESS), value)
        fails("EPERM", os.removexattr, "f", ACCESS)


@case
@needs("acl")
def a_list_that_says_what_the_mode_says():
    """acl(5): an ACL of three entries becomes the mode, and is not kept"""
    write_file("f", b"x", 0o600)
    os.setxattr("f", ACCESS, acl("u::rwx", "g::r-x", "o::--x"))
    same_mode("mode", "f", 0o751)
    fails("ENODATA", os.getxattr, "f", ACCESS)
    same("names", os.listxattr("f"), [])


@case
def lists_that_are_none():
    """setxattr(2) of an ACL: without a mask, out of order or with unknown bits: EINVAL; a default one of a file EACCES"""
    write_file("f", b"x", 0o600)
    for value in (acl("u::rw-", "u:5:r--", "g::r--", "o::---"), acl("g::rw-", "u::r--", "o::---"), acl("u::rw-"),
                  acl("u::rw-", "g::r--", "o::---")[:-1], b"\2\0\0\0x",
                  acl("u::rw-", "u:5:r--", "u:5:r--", "g::r--", "m::r--", "o::---")[:12]):
        fails("EINVAL", os.setxattr, "f", ACCESS, value)
    fails("EOPNOTSUPP", os.setxattr, "f", ACCESS, b"\3\0\0\0" + acl("u::rw-", "g::r--", "o::---")[4:])
    fails("EACCES", os.setxattr, "f", DEFAULT, acl("u::rw-", "g::r--", "o::---"))
    os.symlink("f", "l")
    fails("EOPNOTSUPP", os.setxattr, "l", ACCESS, acl("u::rw-", "g::r--", "o::---"), follow_symlinks=False)
    same_mode("mode", "f", 0o600)


@case
@needs("acl")
def removing_a_list():
    """removexattr(2) of an ACL: the mode stays, of a missing one ENODATA or success"""
    write_file("f", b"x", 0o600)
    os.setxattr("f", ACCESS, acl("u::rw-", f"u:{BOB.uid}:rw-", "g::r--", "m::rw-", "o::---"))
    os.removexattr("f", ACCESS)
    same_mode("mode", "f", 0o660)
    fails("ENODATA", os.getxattr, "f", ACCESS)
    same("bob", may(BOB, "f", os.O_RDONLY), False)


@case
@needs("acl")
def default_lists_are_inherited():
    """acl(5): what is made in a directory with a default ACL has it, limited by the mode and not by the umask"""
    make_directory("d", 0o755)
    value = acl("u::rwx", f"u:{BOB.uid}:rwx", "g::r-x", "m::rwx", "o::r-x")
    os.setxattr("d", DEFAULT, value)
    os.umask(0o077)
    os.close(os.open("d/f", os.O_CREAT | os.O_WRONLY, 0o666))
    os.mkdir("d/e", 0o750)
    mknod("d/p", stat.S_IFIFO | 0o660)
    os.symlink("x", "d/l")
    with opened("d", os.O_TMPFILE | os.O_RDWR, 0o640) as fd:
        same_mode("O_TMPFILE", fd, 0o640)
    same("file", entries_of("d/f"), ["u::rw-", f"u:{BOB.uid}:rwx", "g::r-x", "m::rw-", "o::r--"])
    same_mode("file", "d/f", 0o664)
    same("directory", entries_of("d/e"), ["u::rwx", f"u:{BOB.uid}:rwx", "g::r-x", "m::r-x", "o::---"])
    same("its default", os.getxattr("d/e", DEFAULT), value)
    same("FIFO", entries_of("d/p"), ["u::rw-", f"u:{BOB.uid}:rwx", "g::r-x", "m::rw-", "o::---"])
    fails("ENODATA EOPNOTSUPP", os.getxattr, "d/l", ACCESS, follow_symlinks=False)
    same("bob", (may(BOB, "d/f", os.O_RDWR), may(BOB, "d/e", os.O_RDONLY)), (True, True))


@case
@needs("acl")
def a_default_list_grants_nothing_itself():
    """acl(5): a default ACL does not count for its directory; empty it is removed"""
    make_directory("d", 0o700)
    os.setxattr("d", DEFAULT, acl("u::rwx", f"u:{BOB.uid}:rwx", "g::rwx", "m::rwx", "o::rwx"))
    same("bob", may(BOB, "d", os.O_RDONLY), False)
    same_mode("mode", "d", 0o700)
    os.removexattr("d", DEFAULT)
    fails("ENODATA", os.getxattr, "d", DEFAULT)
    os.umask(0o077)
    os.mkdir("d/e", 0o777)
    same_mode("the umask counts again", "d/e", 0o700)


@case
@needs("acl")
def lists_and_setgid():
    """setxattr(2) of an ACL: an owner who is not in the group loses setgid, as with chmod"""
    write_file("f", b"x", 0o2755, (ALICE.uid, TEAM))
    write_file("g", b"x", 0o2755, (MEMBER.uid, TEAM))
    value = acl("u::rwx", f"u:{BOB.uid}:r--", "g::r-x", "m::r-x", "o::---")
    with ALICE:
        os.setxattr("f", ACCESS, value)
    with MEMBER:
        os.setxattr("g", ACCESS, value)
    same_mode("an outsider", "f", 0o750)
    same_mode("a member", "g", 0o2750)


@case
@needs("acl")
def lists_and_setgid_by_root():
    """setxattr(2) of an ACL, by root: setgid stays; of root without CAP_FSETID and outside of the group it goes"""
    write_file("f", b"x", 0o2755, (0, TEAM))
    os.setxattr("f", ACCESS, acl("u::rwx", f"u:{BOB.uid}:r--", "g::r-x", "m::r-x", "o::---"))
    same_mode("mode", "f", 0o2750)
    os.setxattr("f", ACCESS, acl("u::rwx", "g::r-x", "o::r-x"))
    same_mode("three entries", "f", 0o2755)


@case
@needs("acl")
def changes_of_lists_count_at_once():
    """acl(5): another process and an open directory see a changed list at once; open files stay open"""
    write_file("f", b"x", 0o600)
    os.setxattr("f", ACCESS, acl("u::rw-", f"u:{BOB.uid}:rw-", "g::---", "m::rw-", "o::---"))
    with BOB:
        fd = os.open("f", os.O_RDWR)
    os.setxattr("f", ACCESS, acl("u::rw-", f"u:{BOB.uid}:---", "g::---", "m::rw-", "o::---"))
    same("bob", may(BOB, "f", os.O_RDONLY), False)
    os.write(fd, b"y")


@case
@needs("acl")
def tools_for_lists():
    """setfacl(1), getfacl(1), cp -p, tar: a list survives"""
    import shutil
    import subprocess
    write_file("f", b"x", 0o600)
    if shutil.which("setfacl") is None:
        os.setxattr("f", ACCESS, acl("u::rw-", "u:7002:rw-", "g::---", "m::rw-", "o::---"))
    else:
        subprocess.run(["setfacl", "-m", "u:7002:rw", "f"], check=True)
    subprocess.run(["cp", "-p", "f", "g"], check=True)
    same("list", entries_of("g"), ["u::rw-", "u:7002:rw-", "g::---", "m::rw-", "o::---"])
