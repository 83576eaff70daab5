"""Whether this worker does its work: a watchdog inside of it, and the check that asks from outside.

`python -m worker.health` ends with 0 if the worker that uses the same settings is healthy, else with 1 and a
sentence that says why not.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import TypeAlias

import structlog

from worker.settings import WorkerSettings

logger = structlog.get_logger(__name__)

Beat: TypeAlias = Callable[[], None]

INTERVAL = timedelta(seconds=1)
# Many intervals, for a machine under load; and short, because the stall timeout comes on top of it.
LONGEST_SILENCE = timedelta(seconds=15)


class Watchdog:
    """Touches a file for as long as every loop of the process makes progress.

    A loop that hangs, or a consumer that silently receives no more, stops it; so does an event
    loop that is blocked, or a process that is gone.
    """

    def __init__(
        self, file: Path, *, stall_timeout: timedelta, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Watch no loop yet."""
        self._file = file
        self._stall_timeout = stall_timeout
        self._monotonic = monotonic
        self._last_progress: dict[str, float] = {}

    def watch(self, loop: str) -> Beat:
        """Return what the loop of this name has to call whenever it made progress."""

        def beat() -> None:
            self._last_progress[loop] = self._monotonic()

        beat()
        return beat

    def forget(self, loop: str) -> None:
        """Watch the loop of this name no more, because it has ended as it should."""
        del self._last_progress[loop]

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Check now and then while the block runs; a worker that has ended is not taken for a healthy one."""
        task = asyncio.create_task(self._check_forever(), name="watchdog")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
            self._file.unlink(missing_ok=True)

    def check(self) -> None:
        """Touch the file if all loops made progress, say which ones did not otherwise."""
        since = self._monotonic() - self._stall_timeout.total_seconds()
        if stalled := [loop for loop, last in self._last_progress.items() if last < since]:
            logger.error("worker.stalled", loops=stalled)
        else:
            self._file.touch()

    async def _check_forever(self) -> None:
        while True:
            try:
                self.check()
            except OSError as error:
                logger.warning("health_file.not_touched", detail=str(error))
            await asyncio.sleep(INTERVAL.total_seconds())


def find_fault(file: Path, now: float) -> str | None:
    """Return what is wrong with the worker that touches this file, None if nothing is.

    Args:
        file: The worker's health file.
        now: Seconds since the epoch.
    """
    try:
        silence = now - file.stat().st_mtime
    except FileNotFoundError:
        return f"No worker is running: {file} does not exist."
    if silence > LONGEST_SILENCE.total_seconds():
        return f"The worker is stalled or gone: {file} was last touched {silence:.0f} s ago."
    return None


def main() -> None:
    """Tell by the exit status whether the worker is healthy."""
    if fault := find_fault(WorkerSettings().health_file, time.time()):
        sys.exit(fault)
    sys.stdout.write("The worker is healthy.\n")


if __name__ == "__main__":
    main()
