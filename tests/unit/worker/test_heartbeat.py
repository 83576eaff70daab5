import asyncio
from collections.abc import Sequence
from datetime import timedelta

from structlog.testing import capture_logs
from typing_extensions import override

from shared.queue import ReceivedMessage
from tests.unit.worker.doubles import VISIBILITY, ObservedQueue
from worker.heartbeat import Heartbeat

AT_ONCE = timedelta(0)


class SlowQueue(ObservedQueue):
    """A queue whose extensions take until the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.extending = asyncio.Event()
        self.may_extend = asyncio.Event()

    @override
    async def extend(self, messages: Sequence[ReceivedMessage], *, visibility: timedelta) -> list[ReceivedMessage]:
        self.extending.set()
        await self.may_extend.wait()
        return await super().extend(messages, visibility=visibility)


async def test_what_is_held_is_extended_until_it_is_let_go():
    queue = ObservedQueue()
    await queue.fill("a", "b")
    messages = await queue.receive(max_messages=10, wait=AT_ONCE)
    heartbeat = Heartbeat(queue, VISIBILITY)
    heartbeat.hold(messages)

    await heartbeat.beat()
    await heartbeat.let_go(messages[:1])
    await heartbeat.beat()

    assert queue.extended == [("a", VISIBILITY), ("b", VISIBILITY), ("b", VISIBILITY)]


async def test_nothing_held_is_no_call():
    queue = ObservedQueue()

    await Heartbeat(queue, VISIBILITY).beat()

    assert queue.extended == []


async def test_it_beats_three_times_per_visibility_timeout():
    queue = SlowQueue()
    queue.may_extend.set()
    await queue.fill("a")
    heartbeat = Heartbeat(queue, timedelta(seconds=0.03))
    heartbeat.hold(await queue.receive(max_messages=10, wait=AT_ONCE))

    async with asyncio.timeout(5), heartbeat.beating():
        await queue.extending.wait()

    assert queue.extended[0] == ("a", timedelta(seconds=0.03))


async def test_letting_go_waits_for_an_extension_under_way():
    queue = SlowQueue()
    await queue.fill("a")
    messages = await queue.receive(max_messages=10, wait=AT_ONCE)
    heartbeat = Heartbeat(queue, VISIBILITY)
    heartbeat.hold(messages)
    beat = asyncio.create_task(heartbeat.beat())
    await queue.extending.wait()

    letting_go = asyncio.create_task(heartbeat.let_go(messages))
    await asyncio.sleep(0)
    assert not letting_go.done()
    queue.may_extend.set()
    await letting_go

    assert beat.done()


async def test_failures_are_logged():
    queue = ObservedQueue()
    await queue.fill("a")
    heartbeat = Heartbeat(queue, VISIBILITY)
    heartbeat.hold(await queue.receive(max_messages=10, wait=AT_ONCE))

    with capture_logs() as logs:
        queue.broken = {"extend"}
        await heartbeat.beat()
        queue.broken.clear()
        queue._messages.clear()
        await heartbeat.beat()

    assert [entry["event"] for entry in logs] == ["messages.not_extended", "messages.not_extended"]
