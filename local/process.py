"""A child process of the local system, whose output appears among ours under its name."""

import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import IO

from local.launch import OURSELVES, launched_as

NAME_WIDTH = 6


class ChildProcess:
    """A program that runs until it is stopped, or until we die."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        descriptors: Sequence[int] = (),
    ) -> None:
        """Describe a process; `start` runs it.

        Args:
            name: What its lines of output begin with.
            command: The program and its arguments.
            environment: All of its environment variables.
            descriptors: Those of our open files that it gets, under the same numbers.
        """
        self.name = name
        self._command = list(command)
        self._environment = dict(environment)
        self._descriptors = list(descriptors)
        self._process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int | None:
        """The process id, or None while it does not run."""
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def exit_status(self) -> int | None:
        """How the process ended: its exit status, or minus the signal that killed it. None while it runs."""
        return self._process.poll() if self._process else None

    def start(self) -> None:
        """Run the program. May be called again after it has ended."""
        self._process = subprocess.Popen(  # noqa: S603 - our own modules
            launched_as(OURSELVES, *self._command),
            env=self._environment,
            pass_fds=self._descriptors,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            # Ctrl-C is for us: we stop the parts in their order.
            start_new_session=True,
        )
        threading.Thread(target=self._copy_output, args=[self._process.stdout], daemon=True).start()

    def ask_to_stop(self) -> None:
        """Send SIGTERM, if it runs, and return at once."""
        if self._process and self._process.poll() is None:
            self._process.terminate()

    def stop(self, *, patience: timedelta) -> None:
        """End the process: politely, and by force when it has not ended within `patience`."""
        self.ask_to_stop()
        if self._process is None:
            return
        try:
            self._process.wait(patience.total_seconds())
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _copy_output(self, output: IO[str]) -> None:
        with output:
            for line in output:
                sys.stdout.write(f"{self.name:{NAME_WIDTH}} | {line}")
                sys.stdout.flush()
