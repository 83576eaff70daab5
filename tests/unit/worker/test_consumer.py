import asyncio
from collections.abc import Iterator, MutableMapping
from contextlib import suppress
from datetime import timedelta
from itertools import count
from random import Random
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.unit.worker.doubles import VISIBILITY, ObedientHandler, ObservedQueue, make_consumer
from worker.outcomes import Completed, DeadLetter, DependencyUnavailable, RetryLater, Unfinished
from worker.stopping import Stop

AT_ONCE = timedelta(0)
LONG_POLL = timedelta(milliseconds=20)


@pytest.fixture
def stop() -> Stop:
    return Stop()


@pytest.fixture
def queue() -> ObservedQueue:
    return ObservedQueue()


@pytest.fixture
def handler(stop: Stop) -> ObedientHandler:
    return ObedientHandler(stop)


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[MutableMapping[str, Any]]]:
    """What was logged; to print it, with the traceback of every expected failure, would take a minute."""
    with capture_logs() as entries:
        yield entries


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch):
    for module in ("worker.consumer", "worker.collector"):
        monkeypatch.setattr(f"{module}.outage_backoff", lambda attempt: timedelta(milliseconds=attempt))


def names(count: int) -> list[str]:
    return [f"m{number}" for number in range(count)]


class TestCollect:
    async def test_three_receives_bring_a_batch_of_thirty(self, queue: ObservedQueue, handler: ObedientHandler):
        await queue.fill(*names(40))
        handler.stop_after("m0")

        await make_consumer(queue, handler).run()

        assert [len(batch) for batch in handler.batches] == [30]
        assert queue.receives == [(10, LONG_POLL), (10, AT_ONCE), (10, AT_ONCE)]
        assert len(queue.deleted) == 30

    async def test_a_smaller_batch_size_is_never_exceeded(self, queue: ObservedQueue, handler: ObedientHandler):
        await queue.fill(*names(40))
        handler.stop_after(*names(40))

        await make_consumer(queue, handler, batch_size=12).run()

        assert [len(batch) for batch in handler.batches] == [12, 12, 12, 4]

    async def test_the_first_message_does_not_wait_for_slow_follow_ups(
        self, queue: ObservedQueue, handler: ObedientHandler
    ):
        await queue.fill(*names(12))
        queue.follow_ups_may_return.clear()
        handler.after_batch = queue.follow_ups_may_return.set
        consumer = asyncio.create_task(make_consumer(queue, handler, collect_window=timedelta(milliseconds=5)).run())

        await queue.follow_ups_may_return.wait()
        handler.stop_after(*names(12))
        await consumer

        assert [len(batch) for batch in handler.batches] == [10, 2]
        assert len(queue.deleted) == 12

    async def test_an_empty_queue_is_asked_again(self, queue: ObservedQueue, handler: ObedientHandler):
        queue.before_receive = lambda: handler.stop_if(len(queue.receives) == 3)

        await make_consumer(queue, handler).run()

        assert queue.receives == [(10, LONG_POLL)] * 3
        assert handler.batches == []

    async def test_a_receive_error_backs_off_and_passes(
        self, queue: ObservedQueue, handler: ObedientHandler, logs: list[MutableMapping[str, Any]]
    ):
        await queue.fill("m0")
        queue.broken = {"receive"}

        def mend() -> None:
            if len(queue.receives) == 3:
                queue.broken.clear()

        queue.before_receive = mend
        handler.stop_after("m0")

        await make_consumer(queue, handler).run()

        assert queue.deleted == ["m0"]
        assert [entry["event"] for entry in logs] == ["receive.failed", "receive.failed"]

    async def test_a_receive_error_does_not_hold_up_work_in_hand(
        self, queue: ObservedQueue, handler: ObedientHandler, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr("worker.collector.outage_backoff", lambda _: timedelta(hours=1))
        await queue.fill("large")
        handler.answers = {"large": Unfinished()}

        def break_queue_then_finish() -> None:
            queue.broken = {"receive"}
            if len(handler.batches) == 5:
                handler.answers = {}
                handler.stop.request()

        handler.after_batch = break_queue_then_finish

        await make_consumer(queue, handler).run()

        assert handler.batches == [["large"]] * 5
        assert queue.deleted == ["large"]


class TestStop:
    async def test_before_the_start_nothing_is_received(self, queue: ObservedQueue, handler: ObedientHandler):
        await queue.fill("m0")
        handler.stop.request()
        handler.stop.request()

        await make_consumer(queue, handler).run()

        assert queue.receives == []

    async def test_what_the_receive_under_way_brings_is_released(self, queue: ObservedQueue, handler: ObedientHandler):
        polling = asyncio.Event()
        queue.before_receive = polling.set
        consumer = asyncio.create_task(make_consumer(queue, handler, poll_wait=timedelta(seconds=20)).run())
        await polling.wait()

        handler.stop.request()
        await queue.fill("late")
        await consumer

        assert handler.batches == []
        assert queue.released == [("late", AT_ONCE)]
        assert len(queue.receives) == 1

    async def test_what_was_not_begun_is_released(self, queue: ObservedQueue, handler: ObedientHandler):
        await queue.fill("fresh")
        await queue.fill("suspect", receive_count=2)
        handler.stop_after("suspect")

        await make_consumer(queue, handler).run()

        assert queue.deleted == ["suspect"]
        assert queue.released == [("fresh", AT_ONCE)]

    async def test_unfinished_work_is_released(self, queue: ObservedQueue, handler: ObedientHandler):
        await queue.fill("large", "small")
        handler.answers = {"large": Unfinished()}
        handler.stop_after("large")

        await make_consumer(queue, handler).run()

        assert queue.deleted == ["small"]
        assert queue.released == [("large", AT_ONCE)]

    async def test_ends_the_wait_for_a_dependency(
        self, queue: ObservedQueue, handler: ObedientHandler, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr("worker.consumer.outage_backoff", lambda _: timedelta(hours=1))
        await queue.fill("m0")
        handler.answers = {"m0": DependencyUnavailable("away")}
        handler.stop_after("m0")

        await make_consumer(queue, handler).run()

        assert queue.released == [("m0", timedelta(hours=1))]


class TestSettle:
    async def test_each_outcome_is_carried_out(self, queue: ObservedQueue, handler: ObedientHandler):
        await queue.fill("done", "later", "dead")
        handler.answers = {
            "done": Completed(),
            "later": RetryLater(timedelta(seconds=7)),
            "dead": DeadLetter("malformed_message", "It is not JSON."),
        }
        handler.stop_after("dead")

        await make_consumer(queue, handler).run()

        assert queue.deleted == ["done", "dead"]
        assert queue.released == [("later", timedelta(seconds=7))]
        assert handler.given_up == [("dead", "malformed_message")]
        [letter] = queue.dead_letters
        assert (letter.body, letter.reason, letter.detail) == ("dead", "malformed_message", "It is not JSON.")

    async def test_unfinished_work_goes_on_together_with_fresh_messages(
        self, queue: ObservedQueue, handler: ObedientHandler
    ):
        await queue.fill("large")
        handler.answers = {"large": Unfinished()}

        def go_on() -> None:
            if len(handler.batches) == 1:
                asyncio.get_running_loop().create_task(queue.fill("small"))
            if "small" in handler.batches[-1]:
                handler.answers = {}
                handler.stop.request()

        handler.after_batch = go_on

        await make_consumer(queue, handler).run()

        assert handler.batches[0] == ["large"]
        assert handler.batches[-1] == ["large", "small"]
        assert queue.deleted == ["large", "small"]

    async def test_a_failed_delete_is_logged_and_the_loop_goes_on(
        self, queue: ObservedQueue, handler: ObedientHandler, logs: list[MutableMapping[str, Any]]
    ):
        await queue.fill("m0")
        queue.broken = {"delete"}

        def mend() -> None:
            if handler.batches == [["m0"]]:
                asyncio.get_running_loop().call_soon(asyncio.ensure_future, queue.fill("m1"))
            else:
                queue.broken.clear()
                handler.stop.request()

        handler.after_batch = mend

        await make_consumer(queue, handler).run()

        assert queue.deleted == ["m1"]
        assert "messages.not_settled" in [entry["event"] for entry in logs]

    async def test_messages_the_queue_does_not_delete_are_named(
        self, queue: ObservedQueue, handler: ObedientHandler, logs: list[MutableMapping[str, Any]]
    ):
        await queue.fill("m0")

        def lend_again() -> None:
            for stored in queue._messages.values():
                stored.receipt = "somebody else's"
            handler.stop.request()

        handler.after_batch = lend_again

        await make_consumer(queue, handler).run()

        assert [entry["event"] for entry in logs] == ["messages.not_deleted"]


class TestPoison:
    @pytest.mark.parametrize("position", [0, 1, 14, 15, 28, 29])
    async def test_one_in_thirty_stands_alone_after_eleven_attempts(
        self, queue: ObservedQueue, handler: ObedientHandler, position: int
    ):
        await queue.fill(*names(30))
        poison = f"m{position}"
        handler.answers = {poison: ValueError("poison\nwith a second line")}
        queue.before_receive = lambda: handler.stop_if(queue.deleted)

        await make_consumer(queue, handler).run()

        assert sorted(queue.deleted) == sorted(names(30))
        [letter] = queue.dead_letters
        assert (letter.body, letter.reason, letter.detail) == (poison, "handler_failed", "ValueError: poison")
        assert handler.given_up == [(poison, "handler_failed")]
        assert len(handler.batches) <= 11

    @pytest.mark.parametrize("seed", range(10))
    async def test_whatever_is_poison_all_others_get_through(
        self, queue: ObservedQueue, handler: ObedientHandler, seed: int
    ):
        bodies = names(30)
        poison = Random(seed).sample(bodies, seed * 3)  # noqa: S311 - the same each time
        await queue.fill(*bodies)
        handler.answers = {body: KeyError(body) for body in poison}
        queue.before_receive = lambda: handler.stop_if(queue.deleted)

        await make_consumer(queue, handler).run()

        assert sorted(letter.body for letter in queue.dead_letters) == sorted(poison)
        assert sorted(queue.deleted) == sorted(bodies)

    async def test_a_handler_that_forgets_an_outcome_has_failed(self, queue: ObservedQueue, handler: ObedientHandler):
        await queue.fill("m0")
        handler.stop_after("m0")
        handler.forgetful = True

        await make_consumer(queue, handler).run()

        assert [letter.reason for letter in queue.dead_letters] == ["handler_failed"]


class TestDependencyAway:
    async def test_the_batch_is_released_and_nothing_received_until_the_probe_passes(
        self, queue: ObservedQueue, handler: ObedientHandler
    ):
        await queue.fill(*names(3))
        handler.answers = {"m1": DependencyUnavailable("connection refused")}
        handler.probe_failures = 2
        receives_at_probe: list[int] = []
        handler.before_probe = lambda: receives_at_probe.append(len(queue.receives))
        handler.after_batch = lambda: handler.stop_if(len(handler.batches) > 1)

        await make_consumer(queue, handler).run()

        assert {body for body, _ in queue.released} >= set(names(3))
        assert queue.dead_letters == []
        assert len(receives_at_probe) == 3
        assert len(set(receives_at_probe)) == 1

    async def test_the_first_batch_afterwards_is_one_message(self, queue: ObservedQueue, handler: ObedientHandler):
        await queue.fill(*names(5))
        handler.answers = {"m0": DependencyUnavailable("connection refused")}

        def recover() -> None:
            if len(handler.batches) == 2:
                handler.answers = {}
            if len(handler.batches) == 3:
                handler.stop.request()

        handler.after_batch = recover

        await make_consumer(queue, handler).run()

        assert [len(batch) for batch in handler.batches[:2]] == [5, 1]

    async def test_what_is_done_stays_done(self, queue: ObservedQueue, handler: ObedientHandler):
        await queue.fill("fresh")
        await queue.fill("suspect", receive_count=2)
        handler.answers = {"fresh": DependencyUnavailable("away")}
        handler.stop_after("fresh")

        await make_consumer(queue, handler).run()

        assert queue.deleted == ["suspect"]
        assert [body for body, _ in queue.released] == ["fresh"]


class TestSuspects:
    async def test_from_the_third_receive_on_a_message_is_handled_alone(
        self, queue: ObservedQueue, handler: ObedientHandler
    ):
        await queue.fill("fifth", receive_count=4)
        await queue.fill("third", receive_count=2)
        await queue.fill("first", "second")
        handler.stop_after("first")

        await make_consumer(queue, handler).run()

        assert handler.batches == [["fifth"], ["third"], ["first", "second"]]
        assert queue.extended == [("fifth", 20 * VISIBILITY), ("third", 5 * VISIBILITY)]

    async def test_a_seventh_receive_is_not_handled_any_more(self, queue: ObservedQueue, handler: ObedientHandler):
        await queue.fill("killer", receive_count=6)
        queue.before_receive = lambda: handler.stop_if(queue.deleted)

        await make_consumer(queue, handler).run()

        assert handler.batches == []
        assert handler.given_up == [("killer", "received_too_often")]
        assert [letter.reason for letter in queue.dead_letters] == ["received_too_often"]

    async def test_a_queue_that_cannot_hide_it_longer_is_no_obstacle(
        self, queue: ObservedQueue, handler: ObedientHandler
    ):
        await queue.fill("third", receive_count=2)
        queue.broken = {"extend"}
        handler.stop_after("third")

        await make_consumer(queue, handler).run()

        assert queue.deleted == ["third"]

    @pytest.mark.parametrize(("seed", "time_to_restart"), [(0, 31), (1, 31), (2, 45), (3, 45)])
    async def test_messages_that_kill_the_process_take_no_innocents_with_them(
        self, queue: ObservedQueue, handler: ObedientHandler, seed: int, time_to_restart: int
    ):
        clock = count(step=0.001)
        time_spent_dead = 0
        queue.monotonic = lambda: next(clock) + time_spent_dead
        queue.before_receive = lambda: handler.stop_if(queue.receives[-1][1] == LONG_POLL and not queue.has_visible)
        bodies = names(500)
        killers = Random(seed).sample(bodies, 5)  # noqa: S311 - the same each time
        await queue.fill(*bodies)
        handler.answers = {body: Killed() for body in killers}

        while queue._messages:
            handler.stop = Stop()
            with suppress(Killed):
                await make_consumer(queue, handler).run()
            time_spent_dead += time_to_restart

        assert {letter.body for letter in queue.dead_letters} == set(killers)
        assert set(queue.deleted) == set(bodies)


class Killed(BaseException):
    """What a SIGKILL looks like from inside of a test."""
