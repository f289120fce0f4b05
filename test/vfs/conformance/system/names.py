"""Names and paths: lengths, bytes, dots, slashes, symbolic links, depth."""
import stat
import unicodedata

from calls import *
from harness import *

N255 = "n" * 255
N256 = "n" * 256


@case
def a_name_has_255_bytes():
    """path_resolution(7): NAME_MAX is 255 bytes, whatever characters they make"""
    for name in (N255, "ä" * 127 + "x", "\N{GRINNING FACE}" * 63 + "abc"):
        write_file(name, b"x")
        same("listed", os.listdir(b"."), [os.fsencode(name)])
        os.unlink(name)
    fails("ENAMETOOLONG", os.mkdir, "ä" * 128)


@case
def a_longer_name_is_refused_by_every_call():
    """open(2), stat(2), mkdir(2), … with a name of 256 bytes: ENAMETOOLONG"""
    write_file("f")
    for call in (
        lambda: os.stat(N256), lambda: os.open(N256, os.O_RDONLY), lambda: os.open(N256, os.O_CREAT | os.O_WRONLY),
        lambda: os.mkdir(N256), lambda: mknod(N256, stat.S_IFIFO | 0o644), lambda: os.symlink("x", N256),
        lambda: os.link("f", N256), lambda: rename("f", N256), lambda: rename(N256, "f"), lambda: os.unlink(N256),
        lambda: os.rmdir(N256), lambda: os.chmod(N256, 0), lambda: os.chown(N256, 0, 0), lambda: os.truncate(N256, 0),
        lambda: touch(N256), lambda: os.readlink(N256), lambda: os.listxattr(N256), lambda: os.statvfs(N256),
        lambda: os.chdir(N256), lambda: os.access(N256, 0) or os.stat(N256), lambda: os.stat(f"{N256}/x"),
        lambda: name_to_handle(N256),
    ):
        fails("ENAMETOOLONG", call)


@case
def a_path_has_4095_bytes():
    """path_resolution(7): a path of 4095 bytes is one, of 4096 is ENAMETOOLONG"""
    write_file("f", b"x")
    longest = "./" * 2047 + "f"
    same("length", len(longest), 4095)
    same("size", os.stat(longest).st_size, 1)
    for call in (os.stat, os.unlink, os.mkdir, os.chdir, os.readlink):
        fails("ENAMETOOLONG", call, "/" + longest)


@case
@needs("anyNames")
def every_byte_but_two_is_a_name():
    """path_resolution(7): a name is any bytes but "/" and NUL, kept as they are"""
    names = [bytes([byte]) for byte in range(1, 256) if byte not in b"/."]
    for name in names:
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY))
    same("names", sorted(os.listdir(b".")), sorted(names))
    for name in names:
        os.unlink(name)
    same("names", os.listdir("."), [])


@case
@needs("anyNames")
def names_need_not_be_text():
    """path_resolution(7): names that are not UTF-8 can be made, linked, renamed, listed and removed"""
    for name in (b"\xff\xfe", b"\xc3", b"a\xed\xa0\x80b", b"\xf5\x80\x80\x80", b"line\nbreak\x1b[31m", b" ", b"-rf", b"\x7f"):
        write_file(name, b"x")
        os.symlink(name, b"link")
        same("readlink", os.readlink(b"link"), name)
        rename(name, name + b"\x80")
        os.link(name + b"\x80", name)
        same("names", sorted(os.listdir(b".")), sorted([name, name + b"\x80", b"link"]))
        for each in (name, name + b"\x80", b"link"):
            os.unlink(each)


@case
def names_are_compared_byte_by_byte():
    """path_resolution(7): case and composition of characters tell names apart"""
    composed = unicodedata.normalize("NFC", "é")
    decomposed = unicodedata.normalize("NFD", "é")
    for index, name in enumerate(("a", "A", composed, decomposed, "a ", "a.")):
        write_file(name, str(index).encode())
    same("entries", len(os.listdir(".")), 6)
    same("content", read_file(decomposed), b"3")
    fails("ENOENT", os.stat, composed.upper())


@case
def dots_with_a_third_are_names():
    """path_resolution(7): "..." and names that begin with dots are names as others"""
    for name in ("...", "..a", ".a", "....", ".. "):
        os.mkdir(name)
        os.rmdir(name)


@case
def names_with_at_below_the_root():
    """open(2), mkdir(2): below the root, names that begin with "@" are names as others"""
    for name in ("@", "@lsn-1", "@latest", "@2026-01-01", "@@", "@a b"):
        write_file(name, b"x")
        rename(name, name + "2")
        os.unlink(name + "2")
        os.mkdir(name)
        os.rmdir(name)


@case
def dot_and_dot_dot_exist():
    """mkdir(2), mknod(2), symlink(2), link(2): "." and ".." are there already: EEXIST"""
    write_file("f")
    os.mkdir("d")
    for name in (".", "..", "d/.", "d/.."):
        fails("EEXIST", os.mkdir, name)
        fails("EEXIST", mknod, name, stat.S_IFIFO | 0o644)
        fails("EEXIST", os.symlink, "x", name)
        fails("EEXIST", os.link, "f", name)
        fails("EISDIR", os.open, name, os.O_CREAT | os.O_WRONLY)
        fails("EEXIST", os.open, name, os.O_CREAT | os.O_EXCL | os.O_WRONLY)


@case
def dots_cannot_be_removed():
    """rmdir(2): "." is EINVAL and ".." ENOTEMPTY; unlink(2) of either EISDIR"""
    make_directory("d")
    fails("EINVAL", os.rmdir, "d/.")
    fails("ENOTEMPTY", os.rmdir, "d/..")
    fails("EISDIR", os.unlink, "d/.")
    fails("EISDIR", os.unlink, "d/..")


@case
def dots_cannot_be_renamed():
    """rename(2): "." and ".." on either side: EBUSY"""
    os.mkdir("d")
    os.mkdir("e")
    for old, new in (("d/.", "e"), ("d/..", "e"), ("d", "e/."), ("d", "e/..")):
        fails("EBUSY", rename, old, new)
    fails("EEXIST", rename2, "d", "e/.", RENAME_NOREPLACE)
    fails("EBUSY", rename2, "d", "e/.", RENAME_EXCHANGE)


@case
def an_empty_path_is_nothing():
    """path_resolution(7): an empty path is ENOENT"""
    write_file("f")
    for call in (os.stat, os.unlink, os.rmdir, os.mkdir, os.chdir, os.readlink, os.lstat):
        fails("ENOENT", call, "")
    fails("ENOENT", os.open, "", os.O_CREAT | os.O_WRONLY)
    fails("ENOENT", rename, "", "g")
    fails("ENOENT", rename, "f", "")
    fails("ENOENT", os.link, "f", "")
    fails("ENOENT", os.symlink, "x", "")
    fails("ENOENT", os.symlink, "", "l")


@case
def what_is_no_directory_has_no_entries():
    """path_resolution(7): a path through a file, FIFO or symbolic link to a file is ENOTDIR"""
    write_file("f")
    os.symlink("f", "l")
    os.mkfifo("p")
    for name in ("f", "l", "p"):
        for call in (os.stat, os.unlink, os.mkdir, os.rmdir, os.readlink, os.chdir):
            fails("ENOTDIR", call, f"{name}/x")
            fails("ENOTDIR", call, f"{name}/..")
        fails("ENOTDIR", os.open, f"{name}/x", os.O_CREAT | os.O_WRONLY)
        fails("ENOTDIR", rename, f"{name}/x", "y")
        fails("ENOTDIR", os.listdir, name)


@case
def a_missing_directory_on_the_way():
    """path_resolution(7): a path through a missing name is ENOENT"""
    for call in (os.stat, os.unlink, os.mkdir, os.rmdir, os.readlink, os.chdir):
        fails("ENOENT", call, "missing/x")
        fails("ENOENT", call, "missing/..")
    write_file("f")
    fails("ENOENT", os.link, "f", "missing/x")
    fails("ENOENT", rename, "f", "missing/x")
    fails("ENOENT", os.open, "missing/x", os.O_CREAT | os.O_WRONLY)


@case
def a_slash_at_the_end_wants_a_directory():
    """path_resolution(7): a name that ends in "/" must be a directory: ENOTDIR"""
    write_file("f")
    for call in (os.stat, os.lstat, os.unlink, os.rmdir, os.readlink, os.chdir):
        fails("ENOTDIR", call, "f/")
    fails("ENOTDIR", os.open, "f/", os.O_RDONLY)
    fails("ENOTDIR", os.truncate, "f/", 0)
    fails("ENOTDIR", rename, "f/", "g")
    fails("ENOTDIR", rename, "f", "g/")
    fails("ENOTDIR", os.link, "f/", "g")
    fails("EISDIR", os.open, "f/", os.O_CREAT | os.O_WRONLY)


@case
def a_slash_behind_a_new_name():
    """mkdir(2) and rename(2) of a directory take "new/"; open O_CREAT is EISDIR, link, symlink and mknod ENOENT"""
    write_file("f")
    os.mkdir("d/")
    os.mkdir("e//")
    rename("d/", "moved/")
    os.rmdir("e///")
    fails("EISDIR", os.open, "new/", os.O_CREAT | os.O_WRONLY)
    fails("ENOENT", os.link, "f", "new/")
    fails("ENOENT", os.symlink, "x", "new/")
    fails("ENOENT", mknod, "new/", stat.S_IFIFO | 0o644)
    same("entries", sorted(os.listdir(".")), ["f", "moved"])


@case
def a_slash_behind_a_symbolic_link_follows_it():
    """lstat(2), rmdir(2), unlink(2), rename(2): "link/" is what the link leads to"""
    os.mkdir("d")
    os.symlink("d", "l")
    holds("lstat of l/", stat.S_ISDIR(os.lstat("l/").st_mode))
    holds("lstat of l", stat.S_ISLNK(os.lstat("l").st_mode))
    fails("ENOTDIR", os.rmdir, "l")
    fails("ENOTDIR", os.rmdir, "l/")
    fails("ENOTDIR", os.unlink, "l/")
    fails("ENOTDIR", rename, "l/", "m")
    fails("EEXIST", os.mkdir, "l/")
    os.symlink("missing", "dangling")
    fails("ENOENT", os.lstat, "dangling/")
    fails("EEXIST", os.mkdir, "dangling")


@case
def forty_symbolic_links():
    """path_resolution(7): 40 links are followed, 41 are ELOOP"""
    write_file("l0", b"x")
    for i in range(41):
        os.symlink(f"l{i}", f"l{i + 1}")
    same("size through 40", os.stat("l40").st_size, 1)
    fails("ELOOP", os.stat, "l41")
    fails("ELOOP", os.open, "l41", os.O_RDONLY)
    fails("ELOOP", os.open, "l41", os.O_CREAT | os.O_WRONLY)
    holds("lstat follows nothing", stat.S_ISLNK(os.lstat("l41").st_mode))


@case
def links_in_a_circle():
    """path_resolution(7): links that lead to themselves are ELOOP, and can be removed"""
    os.symlink("self", "self")
    os.symlink("b", "a")
    os.symlink("a", "b")
    for name in ("self", "a", "b"):
        for call in (os.stat, os.listdir, os.chdir):
            fails("ELOOP", call, name)
        fails("ELOOP", os.stat, f"{name}/x")
        fails("ELOOP", os.open, name, os.O_CREAT | os.O_WRONLY)
        fails("ELOOP", os.chmod, name, 0)
        same("readlink", os.readlink(name), {"self": "self", "a": "b", "b": "a"}[name])
        fails("EEXIST", os.mkdir, name)
    for name in ("self", "a", "b"):
        os.unlink(name)


@case
def no_follow():
    """open(2) O_NOFOLLOW: ELOOP at the last name alone, and O_PATH opens the link itself"""
    os.mkdir("d")
    write_file("d/f", b"x")
    os.symlink("d", "l")
    os.symlink("d/f", "m")
    fails("ELOOP", os.open, "m", os.O_RDONLY | os.O_NOFOLLOW)
    fails("ENOTDIR", os.open, "l", os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
    os.close(os.open("l/f", os.O_RDONLY | os.O_NOFOLLOW))
    with opened("m", os.O_PATH | os.O_NOFOLLOW) as fd:
        holds("the link", stat.S_ISLNK(os.fstat(fd).st_mode))
        same("readlinkat with an empty path", os.readlink("", dir_fd=fd), "d/f")


@case
def a_link_that_leads_nowhere():
    """open(2) O_CREAT: makes what a dangling link names; with O_EXCL EEXIST; mkdir(2) EEXIST"""
    os.symlink("target", "l")
    fails("ENOENT", os.stat, "l")
    fails("EEXIST", os.open, "l", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    fails("EEXIST", os.mkdir, "l")
    os.close(os.open("l", os.O_CREAT | os.O_WRONLY))
    same("entries", sorted(os.listdir(".")), ["l", "target"])
    os.symlink("missing/target", "m")
    fails("ENOENT", os.open, "m", os.O_CREAT | os.O_WRONLY)


@case
@needs("anyNames")
def the_target_of_a_link():
    """symlink(2): 1 to 4095 bytes, kept as they are; 4096 are ENAMETOOLONG; st_size is the length"""
    for length in (1, 59, 60, 255, 1000, 4095):
        target = ("x" * 200 + "/") * 21
        target = target[:length]
        os.symlink(target, "l")
        same("target", os.readlink("l"), target)
        same("size", os.lstat("l").st_size, length)
        os.unlink("l")
    fails("ENAMETOOLONG", os.symlink, "x" * 4096, "l")
    os.symlink(b"\xff//../\n", b"l")
    same("bytes", os.readlink(b"l"), b"\xff//../\n")


@case
def the_ways_of_links():
    """path_resolution(7): absolute, relative to the link's directory, through dots and other links"""
    here = os.getcwd()
    os.makedirs("a/b")
    write_file("a/f", b"x")
    for number, target in enumerate(("../f", f"{here}/a/f", "../../a/b/../f", "./././../f")):
        os.symlink(target, f"a/b/l{number}")
        same(target, os.stat(f"a/b/l{number}").st_size, 1)
    os.symlink("a/b", "down")
    same("through .. behind a link", os.stat("down/../f").st_size, 1)
    same("readlink", os.readlink("down/l0"), "../f")
    fails("EINVAL", os.readlink, "a")
    fails("EINVAL", os.readlink, "a/f")


@case
def open_within_a_directory():
    """openat2(2): RESOLVE_BENEATH and NO_SYMLINKS refuse what leads out or over links, IN_ROOT takes it as a root"""
    os.makedirs("root/d")
    write_file("root/f", b"inner")
    write_file("f", b"outer")
    os.symlink("/f", "root/absolute")
    os.symlink("../f", "root/d/up")
    with opened("root", os.O_RDONLY) as fd:
        fails("EXDEV", openat2, "../f", resolve=RESOLVE_BENEATH, fd=fd)
        fails("EXDEV", openat2, "absolute", resolve=RESOLVE_BENEATH, fd=fd)
        fails("ELOOP", openat2, "d/up", resolve=RESOLVE_NO_SYMLINKS, fd=fd)
        os.close(openat2("d/up", resolve=RESOLVE_BENEATH, fd=fd))
        for path in ("absolute", "../../f"):
            inner = openat2(path, resolve=RESOLVE_IN_ROOT, fd=fd)
            same(path, os.read(inner, 10), b"inner")
            os.close(inner)
        os.close(openat2("d/../f", resolve=RESOLVE_NO_XDEV, fd=fd))


@case
def a_tree_deeper_than_a_path():
    """mkdir(2), chdir(2): a tree may be deeper than PATH_MAX by relative steps"""
    depth, name = 60, "p" * 200
    with opened(".", os.O_RDONLY) as back:
        for _ in range(depth):
            os.mkdir(name)
            os.chdir(name)
        write_file("f", b"deep")
        os.symlink("f", "l")
        same("content", read_file("l"), b"deep")
        rename("f", "g")
        os.link("g", "f")
        same("links", os.stat("g").st_nlink, 2)
        text = ctypes.create_string_buffer(4096)
        SYS_GETCWD = 79 if INTEL else 17
        fails("ENAMETOOLONG", lambda: check(libc.syscall(SYS_GETCWD, text, ctypes.c_size_t(4096))))
        for entry in os.listdir("."):
            os.unlink(entry)
        for _ in range(depth):
            os.chdir("..")
            os.rmdir(name)
        os.fchdir(back)
    same("entries", os.listdir("."), [])


@case
def getcwd_follows_renames():
    """getcwd(2): names the working directory after it, or one above it, was renamed"""
    here = os.getcwd()
    os.makedirs("a/b")
    os.chdir("a/b")
    rename("../../a", "../../c")
    same("getcwd", os.getcwd(), f"{here}/c/b")
    rename("../b", "../d")
    same("getcwd", os.getcwd(), f"{here}/c/d")


@case
def hard_links_are_one_file():
    """link(2): content, mode, owner and times are one, and st_nlink counts"""
    write_file("a", b"x")
    os.link("a", "b")
    os.mkdir("d")
    os.link("b", "d/c")
    same("links", os.stat("a").st_nlink, 3)
    os.chmod("b", 0o640)
    os.truncate("d/c", 5)
    same("stat", os.stat("a"), os.stat("d/c"))
    same("size and mode", (os.stat("a").st_size, mode_of("a")), (5, 0o640))
    os.unlink("a")
    same("links", os.stat("b").st_nlink, 2)


@case
def a_directory_has_no_hard_links():
    """link(2): of a directory: EPERM; onto something that exists: EEXIST; of nothing: ENOENT"""
    os.mkdir("d")
    write_file("f")
    fails("EPERM", os.link, "d", "e")
    fails("EEXIST", os.link, "f", "d")
    fails("EEXIST", os.link, "f", "f")
    fails("ENOENT", os.link, "missing", "g")


@case
def a_hard_link_of_a_symbolic_link():
    """link(2), linkat(2): links the symbolic link itself, and with AT_SYMLINK_FOLLOW what it leads to"""
    write_file("f", b"x")
    os.symlink("f", "l")
    linkat(AT_FDCWD, "l", AT_FDCWD, "m", 0)
    linkat(AT_FDCWD, "l", AT_FDCWD, "n", AT_SYMLINK_FOLLOW)
    same("m", os.readlink("m"), "f")
    same("links of l", os.lstat("l").st_nlink, 2)
    same("links of f", (os.lstat("n").st_nlink, os.stat("f").st_nlink), (2, 2))


@case
def links_of_all_kinds():
    """link(2): FIFOs, sockets and device nodes have hard links, too"""
    os.mkfifo("p")
    mknod("s", stat.S_IFSOCK | 0o644)
    mknod("c", stat.S_IFCHR | 0o644, os.makedev(1, 3))
    for name in ("p", "s", "c"):
        os.link(name, name + "2")
        same(name, (os.lstat(name).st_nlink, os.lstat(name).st_ino), (2, os.lstat(name + "2").st_ino))


@case
@long
def sixty_five_thousand_links():
    """link(2): a file has at most 65,000 links: EMLINK"""
    write_file("f")
    os.mkdir("d")
    for i in range(1, 65_000):
        os.link("f", f"d/{i}")
    same("links", os.stat("f").st_nlink, 65_000)
    fails("EMLINK", os.link, "f", "d/more")
    fails("EMLINK", linkat, AT_FDCWD, "f", AT_FDCWD, "d/more", 0)
    os.unlink("d/1")
    os.link("f", "d/more")


@case
def a_handle_finds_the_file():
    """name_to_handle_at(2), open_by_handle_at(2): a handle opens the file wherever it was moved to; gone: ESTALE"""
    os.mkdir("d")
    write_file("d/f", b"x")
    handle, _ = name_to_handle("d/f")
    directory, _ = name_to_handle("d")
    rename("d/f", "g")
    with opened(".", os.O_RDONLY) as place:
        fd = open_by_handle(place, handle, os.O_RDONLY)
        same("content", os.read(fd, 5), b"x")
        os.close(fd)
        fd = open_by_handle(place, directory, os.O_RDONLY | os.O_DIRECTORY)
        same("inode", os.fstat(fd).st_ino, os.stat("d").st_ino)
        os.close(fd)
        os.unlink("g")
        fails("ESTALE", open_by_handle, place, handle, os.O_RDONLY)


@case
def at_calls():
    """openat(2), mkdirat(2), unlinkat(2), renameat(2), fstatat(2), …: relative to a descriptor of a directory"""
    os.mkdir("d")
    with opened("d", os.O_RDONLY) as fd, opened(".", os.O_PATH) as here:
        os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        os.mkdir("e", dir_fd=fd)
        os.symlink("f", "l", dir_fd=fd)
        os.link("f", "g", src_dir_fd=fd, dst_dir_fd=here)
        os.rename("e", "moved", src_dir_fd=fd, dst_dir_fd=here)
        same("stat", os.stat("f", dir_fd=fd).st_nlink, 2)
        os.unlink("f", dir_fd=fd)
        os.rmdir("moved", dir_fd=here)
        with opened("g") as file:
            fails("ENOTDIR", os.stat, "x", dir_fd=file)
    fails("EBADF", os.stat, "x", dir_fd=fd)
    same("entries", sorted(os.listdir(".")), ["d", "g"])


@case
def an_empty_path_with_a_descriptor():
    """fstatat(2), linkat(2), fchownat(2) AT_EMPTY_PATH: mean the descriptor itself"""
    write_file("f", b"xyz")
    with opened("f", os.O_PATH) as fd:
        same("size", statx("", flags=AT_EMPTY_PATH, fd=fd).size, 3)
        linkat(fd, "", AT_FDCWD, "g", AT_EMPTY_PATH)
        check(libc.fchownat(fd, b"", 5, 6, AT_EMPTY_PATH))
        fails("EBADF", os.read, fd, 1)
        fails("EBADF", os.fchmod, fd, 0)
    same("owner", (os.stat("g").st_uid, os.stat("g").st_gid), (5, 6))


@case
def chroot_into_a_directory():
    """chroot(2): ".." ends at the new root, and absolute links begin there"""
    os.makedirs("root/d")
    write_file("root/f", b"inner")
    os.symlink("/f", "root/d/l")
    def work():
        os.chroot("root")
        os.chdir("/")
        same("..", sorted(os.listdir("..")), ["d", "f"])
        same("through an absolute link", read_file("d/l"), b"inner")
    elsewhere(work)


def root_of_the_mount():
    here = os.getcwd()
    while os.stat(os.path.dirname(here)).st_dev == os.stat(here).st_dev:
        here = os.path.dirname(here)
    return here


@case
@only("mount")
def nothing_moves_between_past_and_present():
    """rename(2), link(2): into or out of a past state is EXDEV, and within one EROFS"""
    write_file("f", b"x")
    with opened("f", os.O_RDONLY) as fd:
        os.fsync(fd)
    root = root_of_the_mount()
    here = os.path.relpath(os.getcwd(), root)
    past = f"{root}/@latest/{here}"
    same("content", read_file(f"{past}/f"), b"x")
    fails("EXDEV", os.link, f"{past}/f", "g")
    fails("EXDEV", rename, f"{past}/f", "g")
    fails("EXDEV", rename, "f", f"{past}/g")
    fails("EXDEV", os.link, "f", f"{past}/g")
    fails("EROFS", rename, f"{past}/f", f"{past}/g")
    fails("EROFS", os.unlink, f"{past}/f")
    fails("EROFS", os.mkdir, f"{past}/d")
    fails("EROFS", os.chmod, f"{past}/f", 0)
    fails("EROFS", os.open, f"{past}/f", os.O_WRONLY)
    fails("EROFS", os.setxattr, f"{past}/f", "user.a", b"")
    fails("EEXIST", os.mkdir, f"{past}/f")


@case
@only("mount")
def names_of_states_are_reserved_at_the_root():
    """mkdir(2), open(2), rename(2): at the root, names of states cannot be made: EINVAL"""
    root = root_of_the_mount()
    write_file("f")
    for name in ("@lsn-123456789", "@2026-01-01T000000Z"):
        fails("EINVAL EEXIST", os.mkdir, f"{root}/{name}")
        fails("EINVAL ENOENT", os.open, f"{root}/{name}", os.O_CREAT | os.O_WRONLY)
        fails("EINVAL EXDEV EBUSY", rename, "f", f"{root}/{name}")
    for name in ("@latest", "@"):
        fails("EEXIST", os.mkdir, f"{root}/{name}")
        fails("EROFS", os.rmdir, f"{root}/{name}")
