"""How much one caller may ask for."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest

from api.rate_limit_windows import WindowStorage
from api.rate_limiter import STORAGE_DEADLINE, STORAGE_PAUSE, Quota, RateLimiter, RateLimitSettings

ALICE, BOB = uuid4(), uuid4()


class Time:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


def build(time: Time, **settings: Any) -> RateLimiter:
    values = {"reads": 3, "writes": 2, **settings}
    return RateLimiter(RateLimitSettings.model_validate(values), clock=time, monotonic=time)


async def spend(limiter: RateLimiter, caller: UUID = ALICE, method: str = "GET") -> Quota:
    quota = await limiter.spend(caller, method)
    assert quota is not None
    return quota


class TestSpend:
    async def test_a_caller_has_so_many_requests_a_minute(self, time: Time):
        limiter = build(time)

        quotas = [await spend(limiter) for _ in range(5)]

        assert [quota.remaining for quota in quotas] == [2, 1, 0, 0, 0]
        assert [quota.is_exceeded for quota in quotas] == [False, False, False, True, True]

    async def test_the_headers_are_structured_fields(self, time: Time):
        limiter = build(time)

        assert (await spend(limiter)).to_headers() == {
            "RateLimit-Policy": '"reads";q=3;w=60',
            "RateLimit": '"reads";r=2;t=60',
        }
        assert (await spend(limiter, method="POST")).to_headers() == {
            "RateLimit-Policy": '"writes";q=2;w=60',
            "RateLimit": '"writes";r=1;t=60',
        }

    async def test_who_waits_as_long_as_told_may_go_on(self, time: Time):
        limiter = build(time)
        await spend(limiter)
        time.now += 12.5
        quotas = [await spend(limiter) for _ in range(3)]
        assert quotas[-1].is_exceeded
        assert quotas[-1].reset_after == 48

        time.now += quotas[-1].reset_after

        quota = await spend(limiter)
        assert (quota.is_exceeded, quota.remaining, quota.reset_after) == (False, 2, 60)

    async def test_not_a_moment_sooner(self, time: Time):
        limiter = build(time)
        for _ in range(3):
            await spend(limiter)

        time.now += 59.9

        quota = await spend(limiter)
        assert (quota.is_exceeded, quota.reset_after) == (True, 1)

    async def test_reading_and_writing_are_counted_apart(self, time: Time):
        limiter = build(time)
        writes = [await spend(limiter, method=method) for method in ("POST", "PUT", "DELETE")]
        assert writes[-1].is_exceeded

        assert not (await spend(limiter)).is_exceeded

    async def test_so_are_callers(self, time: Time):
        limiter = build(time)
        for _ in range(4):
            await spend(limiter)

        assert (await spend(limiter, BOB)).remaining == 2

    async def test_it_can_be_switched_off(self, time: Time):
        limiter = build(time, enabled=False)

        assert [await limiter.spend(ALICE, "GET") for _ in range(10)] == [None] * 10


class TestWindowStorage:
    async def test_it_forgets_whoever_did_not_come_back(self, time: Time):
        storage = WindowStorage(time)
        for number in range(1000):
            await storage.incr(str(number), 60)
            time.now += 0.1

        assert await storage.get("0") == 0
        assert await storage.get("999") == 1
        assert await storage.reset() < 610

    async def test_a_window_can_be_forgotten(self, time: Time):
        storage = WindowStorage(time)
        await storage.incr("a", 60, amount=2)

        await storage.clear("a")

        assert (await storage.get("a"), await storage.get_expiry("a")) == (0, time.now)
        assert await storage.check()


class TestStorageAway:
    async def test_everybody_passes(self, time: Time):
        limiter = build(time, storage_url="redis://127.0.0.1:1")

        assert await limiter.spend(ALICE, "GET") is None
        await limiter.aclose()

    async def test_nobody_waits_long_for_a_storage_that_says_nothing(self, time: Time):
        calls: list[asyncio.StreamWriter] = []

        async def say_nothing(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            calls.append(writer)

        server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
        limiter = build(time, storage_url=f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}")

        async with asyncio.timeout(STORAGE_DEADLINE.total_seconds() * 10):
            passed = [await limiter.spend(ALICE, "GET") for _ in range(100)]

        # Only the first found out; the others did not wait at all.
        assert passed == [None] * 100
        assert len(calls) == 1
        await limiter.aclose()
        for call in calls:
            call.close()
        server.close()

    async def test_counting_goes_on_when_it_is_back(self, time: Time, monkeypatch: pytest.MonkeyPatch):
        async def fail(*_args: object, **_options: object) -> int:
            raise ConnectionResetError

        limiter = build(time)
        with monkeypatch.context() as patch:
            patch.setattr(WindowStorage, "incr", fail)
            assert await limiter.spend(ALICE, "GET") is None
        assert await limiter.spend(ALICE, "GET") is None

        time.now += STORAGE_PAUSE.total_seconds()

        assert (await spend(limiter)).remaining == 2
