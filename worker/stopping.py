"""How the worker hears that it should stop."""

import asyncio
import signal
from contextlib import suppress
from datetime import timedelta
from types import FrameType


class Stop:
    """The wish that the process stops. It can be voiced at any time and any number of times; every loop sees it.

    A signal may come before there is an event loop, and after it has been closed. Handlers that
    asyncio installs exist only in between, so these are Python's own.
    """

    def __init__(self) -> None:
        """Begin without such a wish."""
        self._event = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def requested(self) -> bool:
        """Whether it is time to go."""
        return self._event.is_set()

    def request(self) -> None:
        """Ask for the stop, from inside the event loop."""
        self._event.set()

    async def wait(self) -> None:
        """Return when the stop is requested."""
        await self._event.wait()

    async def pause(self, duration: timedelta) -> None:
        """Sleep for the duration, but not beyond a request to stop."""
        with suppress(TimeoutError):
            async with asyncio.timeout(duration.total_seconds()):
                await self._event.wait()

    def listen(self) -> None:
        """Take SIGTERM and SIGINT as requests from now on."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def stop_listening(self) -> None:
        """Ignore further signals. Without this Python would let them kill a process that is just about to end well."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)

    def attach(self) -> None:
        """Let signals wake the running event loop."""
        self._loop = asyncio.get_running_loop()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self._loop is None:
            self._event.set()
            return
        # Setting the event here would not wake a loop that sleeps. A closed loop has nothing left to stop.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._event.set)
