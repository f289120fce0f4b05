"""Limits: descriptors, sizes, space; and real programs."""
import resource
import subprocess

from calls import *
from harness import *


def shell(script, user=None):
    """Runs a script; its output. It must succeed."""
    def run():
        result = subprocess.run(["sh", "-euc", script], capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
        if result.returncode != 0:
            raise Unmet(f"{script}: status {result.returncode}: {result.stdout}{result.stderr}")
        return result.stdout
    return elsewhere(run, user=user)


@case
def no_more_descriptors():
    """open(2), setrlimit(2) RLIMIT_NOFILE: EMFILE, and a file that O_CREAT names is not made"""
    resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
    fds = []
    write_file("f")
    with contextlib.suppress(OSError):
        while True:
            fds.append(os.open("f", os.O_RDONLY))
    fails("EMFILE", os.open, "f", os.O_RDONLY)
    fails("EMFILE", os.open, "new", os.O_CREAT | os.O_WRONLY)
    for fd in fds:
        os.close(fd)
    same("entries", os.listdir("."), ["f"])


@case
def many_open_files():
    """open(2): a thousand files are open at once"""
    resource.setrlimit(resource.RLIMIT_NOFILE, (2048, 2048))
    fds = [os.open(f"f{i}", os.O_CREAT | os.O_RDWR) for i in range(1000)]
    for i, fd in enumerate(fds):
        os.write(fd, b"%d" % i)
    same("content", [os.pread(fd, 10, 0) for fd in fds[::97]], [b"%d" % i for i in range(0, 1000, 97)])


@case
@needs("singleTimes")
def copying_with_all_attributes():
    """cp -a, diff -r, tar(1): a tree of all kinds survives copying"""
    write_file("source-file", b"x" * 10_000, 0o6755, (5, 6))
    shell("""
        mkdir -p a/b/c; cp -p source-file a/f; ln a/f a/b/hard; ln -s ../f a/b/soft; mkfifo a/p; mknod a/c1 c 1 3
        seq 1000 > a/b/seq; touch -d @5.5 a/b/seq; chmod 1777 a/b/c; truncate -s 10M a/hole
        cp -a a copy; diff -r --no-dereference a/b copy/b; tar --format=posix -cf a.tar a; mkdir t; tar -xpf a.tar -C t
        list() { (cd "$1"; find . ! -type d -printf '%p %y %m %U %G %s %T@ %l %n\\n'; find . -type d -printf '%p %m %n\\n'); }
        list a | sort > one
        for d in copy t/a; do list $d | sort > two; cmp one two; done
    """)


@case
def locking_programs():
    """flock(1), sqlite: programs that lock and share memory work"""
    import sqlite3
    for mode in ("wal", "delete"):
        path = f"{mode}.db"
        db = sqlite3.connect(path)
        same("mode", db.execute(f"pragma journal_mode = {mode}").fetchone()[0], mode)
        db.execute("create table t (n integer)")
        db.commit()
        db.close()
        def insert():
            mine = sqlite3.connect(path, timeout=30)
            for i in range(8):
                with mine:
                    mine.execute("insert into t values (?)", (i,))
            mine.close()
        children = [Child(insert), Child(insert)]
        for child in children:
            child.result()
        db = sqlite3.connect(path)
        same("rows", db.execute("select count(*), sum(n) from t").fetchone(), (16, 56))
        same("check", db.execute("pragma integrity_check").fetchone()[0], "ok")
        db.close()
    shell("flock f true; flock -n f sh -c '! flock -n f true'")


@case
def programs_of_every_day():
    """sed -i, install, mktemp, dd, find, touch, tee: do what they do elsewhere"""
    same("output", shell("""
        seq 1000 > f; sed -i s/^1/X/ f; grep -c X f; install -m 751 f g; stat -c %a g; mktemp -d t.XXXXXX > name
        dd if=f of=h bs=100 seek=10 conv=notrunc,sparse status=none; stat -c %s h; cp --sparse=always h i; cmp h i
        mv f "$(cat name)"; find . -type f | wc -l; find . -name 't.*' -prune -exec rm -r {} +; ls | wc -l
        ln -sfn g link; readlink -f link | xargs basename; tail -c 5 h | tail -n 1; truncate -s +10 g; stat -c %s g
        tee j < h > k; cmp k j; touch -r g k; test ! k -nt g; rm -f *; ls | wc -l
    """).split(), ["112", "751", "4893", "5", "4", "g", "X000", "3903", "0"])


@case
@differs("swap files")
def swapping():
    """swapon(2): swaps to a file"""
    write_file("swap", bytes(1 << 20), 0o600)
    subprocess.run(["mkswap", "swap"], check=True, capture_output=True)
    check(libc.swapon(b"swap", 0))
    check(libc.swapoff(b"swap"))


@case
@needs("renameFlags")
def layers():
    """mount(2) overlayfs, renameat2(2) RENAME_WHITEOUT: upper and lower directories on it"""
    for name in ("lower", "upper", "work", "merged"):
        os.mkdir(name)
    write_file("lower/f", b"lower")
    write_file("lower/goes", b"lower")
    write_file("lower/moves", b"lower")
    def work():
        unshare(CLONE_NEWNS)
        mount(None, "/", MS_REC | MS_PRIVATE)
        mount("overlay", "merged", 0, "overlay", "lowerdir=lower,upperdir=upper,workdir=work")
        write_file("merged/f", b"upper")
        os.mkdir("merged/d")
        os.rmdir("merged/d")
        same("lower", read_file("lower/f"), b"lower")
        same("upper", read_file("upper/f"), b"upper")
        os.unlink("merged/goes")
        rename("merged/moves", "merged/moved")
        same("merged", sorted(os.listdir("merged")), ["f", "moved"])
        same("whiteouts", [os.lstat(f"upper/{name}").st_rdev for name in ("goes", "moves")], [0, 0])
    elsewhere(work)


@case
def a_layer_below():
    """mount(2) overlayfs: lower directories on it are read, and shown through"""
    os.mkdir("lower")
    os.mkdir("merged")
    write_file("lower/f", b"lower")
    def work():
        unshare(CLONE_NEWNS)
        mount(None, "/", MS_REC | MS_PRIVATE)
        os.mkdir("second")
        mount("overlay", "merged", 0, "overlay", "lowerdir=lower:second")
        same("content", read_file("merged/f"), b"lower")
        fails("EROFS", os.mkdir, "merged/d")
    elsewhere(work)


@case
def bind_mounts():
    """mount(2) MS_BIND, MS_RDONLY: a directory and a file are mounted elsewhere, and read-only"""
    os.mkdir("a")
    os.mkdir("b")
    write_file("a/f", b"x")
    write_file("target")
    def work():
        MS_RDONLY = 1
        unshare(CLONE_NEWNS)
        mount(None, "/", MS_REC | MS_PRIVATE)
        mount("a", "b", MS_BIND)
        mount(None, "b", MS_BIND | MS_REMOUNT | MS_RDONLY)
        same("content", read_file("b/f"), b"x")
        fails("EROFS", os.mkdir, "b/d")
        fails("EROFS", os.open, "b/f", os.O_WRONLY)
        os.mkdir("a/d")
        mount("a/f", "target", MS_BIND)
        same("file", read_file("target"), b"x")
    elsewhere(work)
