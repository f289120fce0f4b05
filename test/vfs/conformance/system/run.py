"""Runs the cases on one file system: a line of JSON each.

    run.py list                          all cases: name, rule, and the difference that is declared
    run.py native DIRECTORY [options]    on ext4: in the directory, or in an image there when it is on something else
    run.py mount DIRECTORY [options]     on a mount, in a directory in it
    --long         those of the long command as well
    --match TEXT   those whose name contains it
    --lacks NAMES  what the binding of the mount lacks: cases that need it and fail now and then only are left out

What "native" mounts lies in a mount namespace of its own: it is gone with the process, however that ends.
"""
import argparse
import json
import os
import subprocess
import sys

import calls
import harness

import content
import descriptors
import directories
import inotify
import limits
import locks
import mapping
import names
import nodes
import permissions
import renaming
import statx
import timestamps
import transfer
import unlinked
import xattrs

EXT4_MAGIC = 0xEF53
IMAGE_SIZE = "6G"


def say(value):
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def leave_others_alone():
    """The new namespace has a copy of every mount, which would keep mounts of others when they are unmounted."""
    with open("/proc/self/mountinfo") as mounts:
        lines = [line.split() for line in mounts]
    for words in reversed(lines):
        if words[words.index("-") + 1].startswith("fuse"):
            calls.detach(words[4].encode().decode("unicode_escape"))


def ext4_below(directory):
    """An ext4 directory that is mounted as a store is: without setuid programs and devices."""
    calls.unshare(calls.CLONE_NEWNS)
    calls.mount(None, "/", calls.MS_REC | calls.MS_PRIVATE)
    leave_others_alone()
    with harness.opened(directory) as fd:
        is_ext4 = calls.fstatfs_type(fd) == EXT4_MAGIC
    place = os.path.join(directory, "ext4")
    os.mkdir(place)
    if is_ext4:
        calls.mount(place, place, calls.MS_BIND)
    else:
        image = os.path.join(directory, "image")
        subprocess.run(["truncate", "-s", IMAGE_SIZE, image], check=True)
        subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
        subprocess.run(["mount", "-o", "loop", image, place], check=True)
    calls.mount(None, place, calls.MS_BIND | calls.MS_REMOUNT | calls.MS_NOSUID | calls.MS_NODEV)
    os.chmod(place, 0o755)
    return place


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["list", "native", "mount"])
    parser.add_argument("directory", nargs="?")
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--match", default="")
    parser.add_argument("--lacks", default="")
    words = parser.parse_args()
    lacks = set(words.lacks.split(","))
    chosen = [one for one in harness.CASES if words.match in one.name and (words.long or not one.long)]
    if words.what == "list":
        for one in chosen:
            say({"name": one.name, "rule": one.rule, "difference": one.difference, "only": one.only,
                 "needs": one.needs, "sure": one.sure})
        return
    place = ext4_below(words.directory) if words.what == "native" else words.directory
    chosen = [one for one in chosen if one.only in (None, words.what)]
    harness.run_all([one for one in chosen if one.sure or not lacks.intersection(one.needs)], place, say)


main()
