"""Starts a program that ends with us, under an identity of its own if need be.

This module is a program as well: what a launched process does first, before it turns into what it is to be.
A process of its own does that rather than a `preexec_fn`, which may deadlock in a program with threads.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

# Identities; the third kind is "<uid>:<gid>".
OURSELVES = "ourselves"
NAMESPACE = "namespace"
NOBODY = 65534

CLONE_NEWUSER = 0x10000000  # linux/sched.h
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def launched_as(identity: str, *command: str | Path) -> list[str | Path]:
    """Return the command line that runs a command through `launch`.

    The thread that starts it has to live as long as it shall: the kernel takes the end of that thread
    for the death of the parent.
    """
    # Isolated (-I) and without site packages (-S) Python starts twice as fast, and only the standard library is needed.
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), identity, *command]


def launch(parent: int, identity: str, *command: str) -> NoReturn:
    """Turn this process into the command, under the given identity, and let it end (SIGINT) when its parent dies.

    A process of its own does this rather than a `preexec_fn`, which may deadlock in a program with threads. The order
    matters: the kernel forgets the wish to be told of the parent's death whenever credentials change. Only Linux knows
    that wish; elsewhere a server whose parent was killed runs on, and the next start says so.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if identity == NAMESPACE:
        group = os.getegid()
        if libc.unshare(CLONE_NEWUSER) != 0:
            raise OSError(ctypes.get_errno(), "No new user namespace")
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{NOBODY} 0 1")
        Path("/proc/self/gid_map").write_text(f"{NOBODY} {group} 1")
    elif identity != OURSELVES:
        user, group = map(int, identity.split(":"))
        os.setgroups([])
        os.setgid(group)
        os.setuid(user)
    if sys.platform == "linux":
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGINT)
        if os.getppid() != parent:
            sys.exit("The parent died before it could be watched.")
    os.execv(command[0], command)  # noqa: S606 - no shell is the point


if __name__ == "__main__":
    launch(int(sys.argv[1]), *sys.argv[2:])
