import asyncio
import os
import signal
from collections.abc import Iterator
from datetime import timedelta

import pytest

from worker.stopping import Stop


@pytest.fixture
def stop() -> Iterator[Stop]:
    before = [(number, signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGINT)]
    stop = Stop()
    stop.listen()
    yield stop
    for number, handler in before:
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_there_is_a_loop_is_not_forgotten(stop: Stop, number: signal.Signals):
    os.kill(os.getpid(), number)
    os.kill(os.getpid(), number)

    assert stop.requested


def test_a_signal_wakes_a_loop_that_sleeps(stop: Stop):
    async def sleep() -> None:
        stop.attach()
        asyncio.get_running_loop().call_later(0.01, os.kill, os.getpid(), signal.SIGTERM)
        await stop.pause(timedelta(seconds=30))

    asyncio.run(sleep())

    assert stop.requested


def test_a_signal_after_the_loop_was_closed_does_no_harm(stop: Stop):
    async def attach() -> None:
        stop.attach()

    asyncio.run(attach())

    os.kill(os.getpid(), signal.SIGTERM)


async def test_a_pause_ends_by_itself():
    stop = Stop()

    await stop.pause(timedelta(milliseconds=1))

    assert not stop.requested
