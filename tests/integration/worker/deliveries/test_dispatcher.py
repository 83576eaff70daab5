import asyncio
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from shared.channel import EMAIL, SMS, WEBHOOK, OutboundMessage, OutcomeUnknown, PermanentFailure, TemporaryFailure
from shared.clock import utc_now
from shared.models import AttemptResult, ContactPoint, DeliveryReason, DeliveryStatus
from shared.unsubscribe import Unsubscription
from tests.fakes.channel import FakeChannel
from tests.fixtures.deliveries import (
    CIPHER,
    add_contact_point,
    add_deliveries,
    add_delivery,
    add_person,
    dispatching,
    list_attempts,
    list_deliveries,
    until_settled,
)

Sessions = async_sessionmaker[AsyncSession]


async def hang(_: OutboundMessage) -> None:
    """Answer never."""
    await asyncio.Event().wait()


async def find_contact_point(sessions: Sessions, channel: str = WEBHOOK) -> ContactPoint:
    async with sessions() as session:
        query = text("SELECT tenant_id, id FROM contact_points WHERE channel = :channel")
        [key] = (await session.execute(query, {"channel": channel})).all()
        return await session.get_one(ContactPoint, tuple(key))


class TestSending:
    async def test_what_is_due_is_sent_and_recorded(self, worker_engine: AsyncEngine, sessions: Sessions):
        alice = await add_person(sessions)
        await add_contact_point(sessions, alice, address="https://example.com/hook")
        await add_delivery(sessions, alice)
        channel = FakeChannel()

        async with dispatching(worker_engine, channel):
            await until_settled(sessions)

        [message] = channel.sent
        [delivery] = await list_deliveries(sessions)
        [attempt] = await list_attempts(sessions)
        point = await find_contact_point(sessions)
        assert message.id == delivery.id
        assert message.address == "https://example.com/hook"
        assert "Checkout" in message.content.text
        assert message.content.payload["type"] == "scenario.executed"
        assert message.content.payload["data"]["notification_id"] == str(alice.event.id)
        assert (delivery.status, delivery.reason) == (DeliveryStatus.DELIVERED, DeliveryReason.DELIVERED)
        assert delivery.ended_at is not None
        assert (attempt.number, attempt.result, attempt.provider) == (1, AttemptResult.DELIVERED, "fake")
        assert attempt.ended_at is not None
        assert (point.last_result, point.failing_since) == ("delivered", None)
        assert point.last_attempt_at is not None

    async def test_it_is_signed_with_the_secrets_that_still_hold(self, worker_engine: AsyncEngine, sessions: Sessions):
        alice = await add_person(sessions)
        await add_contact_point(
            sessions,
            alice,
            secrets=[
                {"secret": "new", "expires_at": None},
                {"secret": "old", "expires_at": (utc_now() + timedelta(hours=1)).isoformat()},
                {"secret": "ended", "expires_at": (utc_now() - timedelta(hours=1)).isoformat()},
            ],
        )
        await add_delivery(sessions, alice)
        channel = FakeChannel()

        async with dispatching(worker_engine, channel):
            await until_settled(sessions)

        assert channel.sent[0].secrets == ("new", "old")

    @pytest.mark.parametrize(("channel", "mandatory"), [(EMAIL, False), (EMAIL, True), (WEBHOOK, False)])
    async def test_a_mail_of_a_kind_that_one_may_do_without_says_where_it_ends(
        self, worker_engine: AsyncEngine, sessions: Sessions, channel: str, *, mandatory: bool
    ):
        alice = await add_person(sessions)
        await add_contact_point(sessions, alice, channel)
        await add_delivery(sessions, alice, channel)
        async with sessions.begin() as session:
            await session.execute(text("UPDATE event_types SET mandatory = :mandatory"), {"mandatory": mandatory})
        fake = FakeChannel(channel)

        async with dispatching(worker_engine, fake):
            await until_settled(sessions)

        [message] = fake.sent
        if channel == EMAIL and not mandatory:
            assert message.unsubscribe_url
            wish = Unsubscription.parse_token(message.unsubscribe_url.rpartition("/")[2], CIPHER)
            assert (wish.user_id, wish.event_type, wish.channel) == (alice.user.id, "scenario.executed", EMAIL)
            assert message.unsubscribe_url in message.content.text
        else:
            assert message.unsubscribe_url is None

    async def test_what_is_not_due_yet_waits(self, worker_engine: AsyncEngine, sessions: Sessions):
        alice = await add_person(sessions)
        await add_contact_point(sessions, alice)
        await add_delivery(sessions, alice, next_attempt_at=utc_now() + timedelta(hours=1))
        await add_deliveries(sessions, alice, 3)
        channel = FakeChannel()

        async with dispatching(worker_engine, channel, webhook_concurrency=1):
            await until_settled(sessions)

        assert len(channel.sent) == 3

    async def test_new_deliveries_need_not_wait_for_the_next_poll(self, worker_engine: AsyncEngine, sessions: Sessions):
        alice = await add_person(sessions)
        await add_contact_point(sessions, alice)
        channel = FakeChannel()

        async with dispatching(worker_engine, channel, poll_interval=timedelta(hours=1)) as dispatcher:
            await add_delivery(sessions, alice)
            dispatcher.wake()
            await until_settled(sessions)

        assert len(channel.sent) == 1

    async def test_a_channel_that_hangs_delays_no_other(self, worker_engine: AsyncEngine, sessions: Sessions):
        alice = await add_person(sessions)
        slow, quick = FakeChannel(SMS), FakeChannel(EMAIL)
        slow.answer = hang
        for channel in (SMS, EMAIL):
            await add_contact_point(sessions, alice, channel)
            await add_deliveries(sessions, alice, 50, channel)

        async with dispatching(worker_engine, slow, quick, send_timeout=timedelta(seconds=3)):
            async with asyncio.timeout(30):
                while len(quick.sent) < 50:
                    await asyncio.sleep(0.01)

            assert len(slow.in_hand) == 20


class TestFailures:
    @pytest.mark.parametrize(
        ("answer", "result", "expected"),
        [
            (TemporaryFailure("busy"), "temporary_failure", ("pending", None, 1)),
            (TemporaryFailure("busy", retry_after=timedelta(hours=9)), "temporary_failure", ("pending", None, 1)),
            (PermanentFailure("no"), "permanent_failure", ("failed", "provider_permanent", 1)),
            (OutcomeUnknown("silence"), "outcome_unknown", ("pending", None, 1)),
            (ZeroDivisionError("a bug"), "temporary_failure", ("pending", None, 1)),
            (hang, "outcome_unknown", ("pending", None, 1)),
        ],
    )
    async def test_each_has_its_consequence(
        self,
        worker_engine: AsyncEngine,
        sessions: Sessions,
        answer: Any,
        result: str,
        expected: tuple[str, str | None, int],
    ):
        alice = await add_person(sessions)
        await add_contact_point(sessions, alice)
        await add_delivery(sessions, alice)
        channel = FakeChannel()
        channel.answer = answer

        async with dispatching(worker_engine, channel, send_timeout=timedelta(milliseconds=50)):
            await until_settled(sessions)

        [delivery] = await list_deliveries(sessions)
        [attempt] = await list_attempts(sessions)
        assert attempt.result == result
        assert attempt.detail
        assert (delivery.status, delivery.reason, delivery.failure_count) == expected

    async def test_an_address_that_cannot_be_opened_is_our_fault_and_not_its_own(
        self, worker_engine: AsyncEngine, sessions: Sessions
    ):
        alice = await add_person(sessions)
        point = await add_contact_point(sessions, alice)
        await add_delivery(sessions, alice)
        async with sessions.begin() as session:
            await session.execute(text("UPDATE contact_points SET encrypted_address = 'gibberish'"))

        async with dispatching(worker_engine, FakeChannel()):
            await until_settled(sessions)

        [delivery] = await list_deliveries(sessions)
        assert (delivery.status, delivery.failure_count) == ("pending", 1)
        point = await find_contact_point(sessions)
        assert point.failing_since is None

    async def test_after_the_last_retry_it_has_failed(self, worker_engine: AsyncEngine, sessions: Sessions):
        alice = await add_person(sessions)
        await add_contact_point(sessions, alice)
        await add_delivery(sessions, alice, failure_count=9, attempt_count=9)
        channel = FakeChannel()
        channel.answer = TemporaryFailure("busy")

        async with dispatching(worker_engine, channel):
            await until_settled(sessions)

        [delivery] = await list_deliveries(sessions)
        assert (delivery.status, delivery.reason) == ("failed", "retries_exhausted")

    async def test_a_message_of_which_nobody_knows_is_parked_where_repeating_it_costs(
        self, worker_engine: AsyncEngine, sessions: Sessions
    ):
        alice = await add_person(sessions)
        await add_contact_point(sessions, alice, SMS)
        await add_delivery(sessions, alice, SMS)
        channel = FakeChannel(SMS, repeats_unknown=False)
        channel.answer = OutcomeUnknown("silence")

        async with dispatching(worker_engine, channel):
            await until_settled(sessions)

        [delivery] = await list_deliveries(sessions)
        assert (delivery.status, delivery.reason) == ("parked", "outcome_unknown")


class TestWhatIsNotSent:
    @pytest.mark.parametrize(
        ("point", "reason"),
        [
            (None, "no_address"),
            ({"verified_at": None}, "unverified_address"),
            ({"disabled_at": utc_now()}, "channel_disabled"),
        ],
    )
    async def test_is_skipped_when_its_address_is_lost_on_the_way(
        self, worker_engine: AsyncEngine, sessions: Sessions, point: dict[str, Any] | None, reason: str
    ):
        alice = await add_person(sessions)
        if point is not None:
            await add_contact_point(sessions, alice, **point)
        await add_delivery(sessions, alice)
        channel = FakeChannel()

        async with dispatching(worker_engine, channel):
            await until_settled(sessions)

        [delivery] = await list_deliveries(sessions)
        assert (delivery.status, delivery.reason) == ("skipped", reason)
        assert channel.sent == []
        assert await list_attempts(sessions) == []

    async def test_has_expired(self, worker_engine: AsyncEngine, sessions: Sessions):
        alice = await add_person(sessions)
        await add_contact_point(sessions, alice)
        await add_delivery(sessions, alice, expires_at=utc_now() - timedelta(seconds=1))
        channel = FakeChannel()

        async with dispatching(worker_engine, channel):
            await until_settled(sessions)

        [delivery] = await list_deliveries(sessions)
        assert (delivery.status, delivery.reason) == ("failed", "expired")
        assert channel.sent == []

    async def test_no_retry_is_planned_beyond_the_expiry(self, worker_engine: AsyncEngine, sessions: Sessions):
        alice = await add_person(sessions)
        await add_contact_point(sessions, alice)
        delivery = await add_delivery(sessions, alice, failure_count=5, expires_at=utc_now() + timedelta(minutes=10))
        channel = FakeChannel()
        channel.answer = TemporaryFailure("busy")

        async with dispatching(worker_engine, channel):
            await until_settled(sessions)

        [again] = await list_deliveries(sessions)
        assert again.next_attempt_at == delivery.expires_at


class TestContactPoints:
    async def test_one_that_is_gone_is_disabled_and_its_owner_told_by_the_best_other_way(
        self, worker_engine: AsyncEngine, sessions: Sessions
    ):
        alice = await add_person(sessions)
        for name in (WEBHOOK, SMS, EMAIL):
            await add_contact_point(sessions, alice, name)
        await add_deliveries(sessions, alice, 3)
        webhook, sms, email = FakeChannel(WEBHOOK), FakeChannel(SMS), FakeChannel(EMAIL)
        webhook.answer = PermanentFailure("410", address_gone=True)

        async with dispatching(worker_engine, webhook, sms, email, poll_interval=timedelta(hours=1)):
            await until_settled(sessions)

        point = await find_contact_point(sessions)
        assert (point.disabled_reason, point.last_result) == ("gone", "permanent_failure")
        [word] = email.sent
        assert "webhook…" in word.content.text
        assert sms.sent == []
        assert {each.about for each in await list_deliveries(sessions) if each.channel == EMAIL} == {WEBHOOK}

    async def test_a_server_that_has_failed_for_days_is_disabled(self, worker_engine: AsyncEngine, sessions: Sessions):
        alice = await add_person(sessions)
        failing_since = utc_now() - timedelta(days=5, minutes=1)
        await add_contact_point(sessions, alice, endpoint="a", failing_since=failing_since)
        await add_delivery(sessions, alice)
        channel = FakeChannel()
        channel.answer = TemporaryFailure("down")

        async with dispatching(worker_engine, channel):
            await until_settled(sessions)

        point = await find_contact_point(sessions)
        assert (point.disabled_reason, point.failing_since) == ("dead", failing_since)

    @pytest.mark.parametrize(
        ("columns", "answer"),
        [
            ({"endpoint": "a", "failing_since": utc_now() - timedelta(days=4)}, TemporaryFailure("down")),
            # A provider of ours that is away says nothing about the addresses behind it.
            ({"endpoint": None, "failing_since": utc_now() - timedelta(days=6)}, TemporaryFailure("down")),
            ({"endpoint": "a", "failing_since": utc_now() - timedelta(days=6)}, None),
        ],
    )
    async def test_any_other_is_not(
        self, worker_engine: AsyncEngine, sessions: Sessions, columns: dict[str, Any], answer: Any
    ):
        alice = await add_person(sessions)
        await add_contact_point(sessions, alice, **columns)
        await add_delivery(sessions, alice)
        channel = FakeChannel()
        channel.answer = answer

        async with dispatching(worker_engine, channel):
            await until_settled(sessions)

        point = await find_contact_point(sessions)
        assert point.disabled_at is None
        assert (point.failing_since is None) is (answer is None)

    async def test_a_new_address_does_not_answer_for_the_old_one(self, worker_engine: AsyncEngine, sessions: Sessions):
        alice = await add_person(sessions)
        await add_contact_point(sessions, alice)
        await add_delivery(sessions, alice)
        channel = FakeChannel()

        async def replace(_: OutboundMessage) -> None:
            async with sessions.begin() as session:
                await session.execute(text("UPDATE contact_points SET updated_at = clock_timestamp()"))
            message = "410"
            raise PermanentFailure(message, address_gone=True)

        channel.answer = replace

        async with dispatching(worker_engine, channel):
            await until_settled(sessions)

        assert (await find_contact_point(sessions)).disabled_at is None


class TestEndpoints:
    async def test_none_gets_more_at_once_than_it_may(self, worker_engine: AsyncEngine, sessions: Sessions):
        alice, bob = [await add_person(sessions, name) for name in ("alice", "bob")]
        await add_contact_point(sessions, alice, address="https://a.example/", endpoint="a")
        await add_contact_point(sessions, bob, address="https://b.example/", endpoint="b")
        for person, endpoint in ((alice, "a"), (bob, "b")):
            await add_deliveries(sessions, person, 60, endpoint=endpoint)
        channel = FakeChannel()
        channel.answer = lambda _: asyncio.sleep(0.005)

        async with dispatching(worker_engine, channel, endpoint_concurrency=3):
            await until_settled(sessions)

        assert len(channel.sent) == 120
        assert all(count <= 3 for count in channel.most_in_hand.values())

    async def test_one_that_hangs_holds_one_message_and_delays_no_other(
        self, worker_engine: AsyncEngine, sessions: Sessions
    ):
        alice, bob = [await add_person(sessions, name) for name in ("alice", "bob")]
        await add_contact_point(sessions, alice, address="https://a.example/", endpoint="a")
        await add_contact_point(sessions, bob, address="https://b.example/", endpoint="b")
        for person, endpoint in ((alice, "a"), (bob, "b")):
            await add_deliveries(sessions, person, 100, endpoint=endpoint)
        channel = FakeChannel()
        channel.answers["https://a.example/"] = hang

        async with dispatching(worker_engine, channel, webhook_concurrency=4, send_timeout=timedelta(seconds=2)):
            async with asyncio.timeout(30):
                while sum(message.address == "https://b.example/" for message in channel.sent) < 100:
                    await asyncio.sleep(0.01)

        assert channel.most_in_hand["https://a.example/"] == 1

    async def test_what_is_due_at_one_that_is_down_is_put_off_and_costs_no_attempt(
        self, worker_engine: AsyncEngine, sessions: Sessions
    ):
        alice = await add_person(sessions)
        await add_contact_point(sessions, alice, endpoint="a")
        await add_deliveries(sessions, alice, 100, endpoint="a")
        channel = FakeChannel()
        channel.answer = TemporaryFailure("down")

        async with dispatching(worker_engine, channel):
            await until_settled(sessions)

        deliveries = await list_deliveries(sessions)
        assert len(channel.sent) == 10
        assert sorted(each.attempt_count for each in deliveries) == [0] * 90 + [1] * 10
        assert {each.status for each in deliveries} == {DeliveryStatus.PENDING}


class TestTenants:
    async def test_one_with_very_many_does_not_delay_another(self, worker_engine: AsyncEngine, sessions: Sessions):
        noisy, quiet = [await add_person(sessions, name) for name in ("noisy", "quiet")]
        for person in (noisy, quiet):
            await add_contact_point(sessions, person, address=f"https://{person.user.external_id}.example/")
        await add_deliveries(sessions, noisy, 5000)
        await add_deliveries(sessions, quiet, 1)
        channel = FakeChannel()

        async with dispatching(worker_engine, channel, webhook_concurrency=10):
            async with asyncio.timeout(30):
                while not any(message.address == "https://quiet.example/" for message in channel.sent):
                    await asyncio.sleep(0)

        # The first claim shares its room between the two.
        assert len(channel.sent) <= 2 * 10


class TestSeveralWorkers:
    async def test_nothing_is_sent_twice(self, worker_engine: AsyncEngine, sessions: Sessions):
        people = [await add_person(sessions, name) for name in ("alice", "bob", "carol")]
        for person in people:
            await add_contact_point(sessions, person)
            await add_deliveries(sessions, person, 200)
        channels = [FakeChannel(), FakeChannel()]

        async with (
            dispatching(worker_engine, channels[0], webhook_concurrency=20),
            dispatching(worker_engine, channels[1], webhook_concurrency=20),
        ):
            await until_settled(sessions)

        sent = [message.id for channel in channels for message in channel.sent]
        assert len(sent) == len(set(sent)) == 600
        assert all(channel.sent for channel in channels)


class TestLeases:
    async def test_what_a_lost_worker_sent_is_sent_again(self, worker_engine: AsyncEngine, sessions: Sessions):
        alice = await add_person(sessions)
        await add_contact_point(sessions, alice)
        await add_delivery(sessions, alice)
        await self.lose_a_worker(worker_engine, sessions, FakeChannel())
        channel = FakeChannel()

        async with dispatching(worker_engine, channel):
            await until_settled(sessions)

        [delivery] = await list_deliveries(sessions)
        assert len(channel.sent) == 1
        assert (delivery.status, delivery.attempt_count, delivery.failure_count) == ("delivered", 2, 1)
        assert [attempt.result for attempt in await list_attempts(sessions)] == ["outcome_unknown", "delivered"]

    async def test_or_parked_where_repeating_it_costs(self, worker_engine: AsyncEngine, sessions: Sessions):
        alice = await add_person(sessions)
        await add_contact_point(sessions, alice, SMS)
        await add_delivery(sessions, alice, SMS)
        await self.lose_a_worker(worker_engine, sessions, FakeChannel(SMS))
        channel = FakeChannel(SMS, repeats_unknown=False)

        async with dispatching(worker_engine, channel):
            await until_settled(sessions)

        [delivery] = await list_deliveries(sessions)
        [attempt] = await list_attempts(sessions)
        assert channel.sent == []
        assert (delivery.status, delivery.reason) == ("parked", "outcome_unknown")
        assert attempt.result == "outcome_unknown"
        assert attempt.ended_at is not None

    async def test_one_that_kills_every_worker_ends_with_its_retries(
        self, worker_engine: AsyncEngine, sessions: Sessions
    ):
        alice = await add_person(sessions)
        await add_contact_point(sessions, alice)
        await add_delivery(sessions, alice, failure_count=9, attempt_count=9)
        await self.lose_a_worker(worker_engine, sessions, FakeChannel())
        channel = FakeChannel()

        async with dispatching(worker_engine, channel):
            await until_settled(sessions)

        [delivery] = await list_deliveries(sessions)
        assert channel.sent == []
        assert (delivery.status, delivery.reason) == ("failed", "retries_exhausted")

    async def test_a_result_that_comes_too_late_changes_nothing(self, worker_engine: AsyncEngine, sessions: Sessions):
        alice = await add_person(sessions)
        await add_contact_point(sessions, alice)
        await add_delivery(sessions, alice)
        slow, quick = FakeChannel(), FakeChannel()
        may_fail = asyncio.Event()

        async def fail_late(_: OutboundMessage) -> None:
            await may_fail.wait()
            message = "too late"
            raise PermanentFailure(message, address_gone=True)

        slow.answer = fail_late

        async with dispatching(worker_engine, slow, webhook_concurrency=1):
            await slow.received.wait()
            await self.end_leases(sessions)
            async with dispatching(worker_engine, quick):
                await until_settled(sessions)
            may_fail.set()

        [delivery] = await list_deliveries(sessions)
        assert (delivery.status, delivery.reason) == ("delivered", "delivered")
        assert [attempt.result for attempt in await list_attempts(sessions)] == ["outcome_unknown", "delivered"]
        assert (await find_contact_point(sessions)).disabled_at is None

    async def lose_a_worker(self, engine: AsyncEngine, sessions: Sessions, channel: FakeChannel) -> None:
        """Let a worker die while it sends, and its lease run out."""
        channel.answer = hang

        async def send() -> None:
            async with dispatching(engine, channel):
                await asyncio.Event().wait()

        worker = asyncio.create_task(send())
        await channel.received.wait()
        worker.cancel()
        await asyncio.wait([worker])
        await self.end_leases(sessions)

    async def end_leases(self, sessions: Sessions) -> None:
        async with sessions.begin() as session:
            await session.execute(text("UPDATE deliveries SET next_attempt_at = now() - interval '1 second'"))


class TestStop:
    async def test_what_is_in_hand_is_finished_and_recorded_and_nothing_else_begun(
        self, worker_engine: AsyncEngine, sessions: Sessions
    ):
        alice = await add_person(sessions)
        await add_contact_point(sessions, alice)
        await add_deliveries(sessions, alice, 100)
        channel = FakeChannel()
        may_answer = asyncio.Event()
        channel.answer = lambda _: may_answer.wait()

        async with dispatching(worker_engine, channel, webhook_concurrency=10) as dispatcher:
            async with asyncio.timeout(30):
                while len(channel.in_hand) < 10:
                    await asyncio.sleep(0.01)
            dispatcher.stop()
            may_answer.set()

        deliveries = await list_deliveries(sessions)
        assert len(channel.sent) == 10
        assert sum(each.status == "delivered" for each in deliveries) == 10
        assert not any(each.lease_token for each in deliveries)


class TestOutages:
    async def test_a_database_that_is_away_costs_no_result(
        self, engine: AsyncEngine, worker_engine: AsyncEngine, sessions: Sessions
    ):
        alice = await add_person(sessions)
        await add_contact_point(sessions, alice)
        await add_deliveries(sessions, alice, 20)
        channel = FakeChannel()
        may_answer = asyncio.Event()
        channel.answer = lambda _: may_answer.wait()
        elsewhere = create_async_engine(engine.url.set(database="postgres"), isolation_level="AUTOCOMMIT")
        name = engine.url.database

        async with dispatching(worker_engine, channel, webhook_concurrency=10):
            async with asyncio.timeout(30):
                while len(channel.in_hand) < 10:
                    await asyncio.sleep(0.01)
            await engine.dispose()
            async with elsewhere.connect() as connection:
                await connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false"))
                kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"
                await connection.execute(text(kill), {"name": name})
                may_answer.set()
                await asyncio.sleep(0.3)
                await connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true"))
            await until_settled(sessions)
        await elsewhere.dispose()

        assert len(channel.sent) == 20
        assert {each.status for each in await list_deliveries(sessions)} == {DeliveryStatus.DELIVERED}
