import asyncio
import itertools
from collections.abc import Iterable
from datetime import timedelta
from random import Random
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from shared.channel import CHANNELS
from shared.clock import utc_now
from shared.db import create_engine
from shared.ids import new_id
from shared.models import Delivery, Event, EventType, SubscriptionLevel, Tenant, TestScenario, User, UserNotification
from shared.queue import Envelope, ReceivedMessage
from tests.factories import (
    NOON,
    make_contact_point,
    make_event,
    make_scenario,
    make_subscription,
    make_tenant,
    make_user,
    make_users,
)
from tests.fixtures.database import database_settings
from worker.fanout import FanOut
from worker.outcomes import Completed, DeadLetter, DependencyUnavailable, Unfinished

Sessions = async_sessionmaker[AsyncSession]

numbers = itertools.count()


def message(event: Event, **changes: Any) -> ReceivedMessage:
    """Return the message that the relay sends for this event, each time a new one."""
    values: dict[str, Any] = {
        "id": event.id,
        "tenant_id": event.tenant_id,
        "type": event.event_type,
        "subject": event.scenario_id,
        "occurred_at": event.occurred_at,
    }
    return received(Envelope(**{**values, **changes}).to_json())


def received(body: str) -> ReceivedMessage:
    name = f"message-{next(numbers)}"
    return ReceivedMessage(id=name, body=body, receipt=name, receive_count=1, sent_at=utc_now())


@pytest.fixture
def fan_out(worker_engine: AsyncEngine) -> FanOut:
    return make_fan_out(worker_engine)


def make_fan_out(engine: AsyncEngine, chunk_size: int = 5000, **options: Any) -> FanOut:
    return FanOut(
        engine,
        chunk_size=chunk_size,
        transaction_timeout=timedelta(seconds=30),
        expire_after=timedelta(days=4),
        **options,
    )


async def recipients(sessions: Sessions, event: Event) -> dict[UUID, str]:
    """Return who was told of the event, and why."""
    async with sessions() as session:
        rows = await session.execute(
            select(UserNotification.user_id, UserNotification.reason).where(UserNotification.event_id == event.id)
        )
        return {user_id: reason.value for user_id, reason in rows}


async def list_deliveries(sessions: Sessions) -> list[Delivery]:
    async with sessions() as session:
        return list(await session.scalars(select(Delivery)))


async def reload(sessions: Sessions, event: Event) -> Event:
    async with sessions() as session:
        return await session.get_one(Event, (event.tenant_id, event.id))


async def handle(fan_out: FanOut, *messages: ReceivedMessage) -> list[Any]:
    outcomes = await fan_out.handle(messages)
    return [outcomes[each.id] for each in messages]


TYPE, OTHER_TYPE, FOLLOW, MUTE, FOLLOW_OTHER, MUTE_OTHER = "type", "other type", "follow", "mute", "follow2", "mute2"

AUDIENCE = [
    # rules of the user, reason to tell them, the same for a mandatory type
    ((), None, "mandatory"),
    ((TYPE,), "subscribed", "mandatory"),
    ((OTHER_TYPE,), None, "mandatory"),
    ((FOLLOW,), "following", "mandatory"),
    ((OTHER_TYPE, FOLLOW), "following", "mandatory"),
    ((TYPE, FOLLOW), "following", "mandatory"),
    ((MUTE,), None, "mandatory"),
    ((TYPE, MUTE), None, "mandatory"),
    ((TYPE, FOLLOW_OTHER), "subscribed", "mandatory"),
    ((TYPE, MUTE_OTHER), "subscribed", "mandatory"),
    ((FOLLOW_OTHER,), None, "mandatory"),
]


class TestAudience:
    @pytest.mark.parametrize("mandatory", [False, True], ids=["voluntary", "mandatory"])
    @pytest.mark.parametrize("chunk_size", [1, 3, 5000])
    async def test_who_is_told_and_why(
        self,
        worker_engine: AsyncEngine,
        sessions: Sessions,
        *,
        mandatory: bool,
        chunk_size: int,
    ):
        expected: dict[UUID, str] = {}
        async with sessions.begin() as session:
            (await session.get_one(EventType, "scenario.executed")).mandatory = mandatory
            tenant = await make_tenant(session)
            author = await make_user(session, tenant, "author")
            scenario = await make_scenario(session, author)
            other_scenario = await make_scenario(session, author, "Other")
            rules: dict[str, dict[str, Any]] = {
                TYPE: {"event_type": "scenario.executed"},
                OTHER_TYPE: {"event_type": "scenario.deleted"},
                FOLLOW: {"scenario_id": scenario.id},
                MUTE: {"scenario_id": scenario.id, "level": SubscriptionLevel.MUTED},
                FOLLOW_OTHER: {"scenario_id": other_scenario.id},
                MUTE_OTHER: {"scenario_id": other_scenario.id, "level": SubscriptionLevel.MUTED},
            }
            for number, (of_user, reason, reason_if_mandatory) in enumerate(AUDIENCE):
                user = await make_user(session, tenant, f"user-{number}")
                for rule in of_user:
                    await make_subscription(session, user, **rules[rule])
                if told := reason_if_mandatory if mandatory else reason:
                    expected[user.id] = told
            for name, notify_self in (("quiet", False), ("curious", True)):
                actor = await make_user(session, tenant, name, notify_self=notify_self)
                await make_subscription(session, actor, event_type="scenario.executed")
                await make_subscription(session, actor, scenario_id=scenario.id)
            stranger = await make_user(session, await make_tenant(session, "other"), "stranger")
            await make_subscription(session, stranger, event_type="scenario.executed")
            quiet, curious = [await find_user(session, tenant, external_id) for external_id in ("quiet", "curious")]
            event_of_quiet = await make_event(session, scenario, quiet)
            event_of_curious = await make_event(session, scenario, curious)
        told_always = "mandatory" if mandatory else "following"
        if mandatory:
            expected[author.id] = "mandatory"

        await fan_out_fully(make_fan_out(worker_engine, chunk_size), message(event_of_quiet), message(event_of_curious))

        assert await recipients(sessions, event_of_quiet) == expected | {curious.id: told_always}
        assert await recipients(sessions, event_of_curious) == expected | {
            quiet.id: told_always,
            curious.id: told_always,
        }


async def find_user(session: AsyncSession, tenant: Tenant, external_id: str) -> User:
    return (
        await session.scalars(select(User).where(User.tenant_id == tenant.id, User.external_id == external_id))
    ).one()


async def fan_out_fully(fan_out: FanOut, *messages: ReceivedMessage) -> int:
    """Hand the messages over until all are completed; return how often."""
    for attempt in itertools.count(1):
        outcomes = await handle(fan_out, *messages)
        assert all(isinstance(outcome, (Completed, Unfinished)) for outcome in outcomes)
        if all(isinstance(outcome, Completed) for outcome in outcomes):
            return attempt
    raise AssertionError


class World:
    """A scenario of an author, with subscribers to its executions."""

    def __init__(self, author: User, scenario: TestScenario, subscribers: list[User]) -> None:
        self.author = author
        self.scenario = scenario
        self.subscribers = {user.id for user in subscribers}

    async def add_events(self, sessions: Sessions, count: int = 1, **columns: Any) -> list[Event]:
        async with sessions.begin() as session:
            return [await make_event(session, self.scenario, self.author, **columns) for _ in range(count)]


async def make_world(sessions: Sessions, subscriber_count: int) -> World:
    async with sessions.begin() as session:
        tenant = await make_tenant(session)
        author = await make_user(session, tenant, "author")
        scenario = await make_scenario(session, author)
        subscribers = await make_users(session, tenant, subscriber_count)
        for user in subscribers:
            await make_subscription(session, user, event_type="scenario.executed")
    return World(author, scenario, subscribers)


class TestDeliveries:
    async def test_each_goes_the_ways_of_the_subscription_or_those_of_the_event_type(
        self, worker_engine: AsyncEngine, sessions: Sessions
    ):
        async with sessions.begin() as session:
            (await session.get_one(EventType, "scenario.executed")).default_channels = ["in_app", "sms"]
            tenant = await make_tenant(session)
            author = await make_user(session, tenant, "author")
            scenario = await make_scenario(session, author)
            subscriber, follower, both, muted, inbox_only = [
                await make_user(session, tenant, name) for name in ("subscriber", "follower", "both", "muted", "inbox")
            ]
            for user in (subscriber, both, muted):
                rule = await make_subscription(session, user, event_type="scenario.executed")
                rule.channels = ["in_app", "email", "webhook"]
            for user in (follower, both):
                await make_subscription(session, user, scenario_id=scenario.id)
            await make_subscription(session, muted, scenario_id=scenario.id, level=SubscriptionLevel.MUTED)
            await make_subscription(session, inbox_only, event_type="scenario.executed")
            event = await make_event(session, scenario, author)

        await handle(make_fan_out(worker_engine, channels=CHANNELS), message(event))

        assert {(each.user_id, each.channel) for each in await list_deliveries(sessions)} == {
            (subscriber.id, "email"),
            (subscriber.id, "webhook"),
            (both.id, "email"),
            (both.id, "webhook"),
            (follower.id, "sms"),
        }

    @pytest.mark.parametrize(
        ("point", "expected"),
        [
            ({}, ("pending", None)),
            ({"verified_at": None}, ("skipped", "unverified_address")),
            ({"disabled_at": NOON}, ("skipped", "channel_disabled")),
            (None, ("skipped", "no_address")),
            ({"channel": "webhook"}, ("skipped", "no_address")),
        ],
    )
    async def test_one_that_cannot_be_sent_is_skipped_with_the_reason(
        self,
        worker_engine: AsyncEngine,
        sessions: Sessions,
        point: dict[str, Any] | None,
        expected: tuple[str, str | None],
    ):
        event = await self.subscribe_one(sessions, point)

        await handle(make_fan_out(worker_engine, channels=CHANNELS), message(event))

        [delivery] = await list_deliveries(sessions)
        assert (delivery.status, delivery.reason) == expected
        assert (delivery.ended_at is None) is (delivery.status == "pending")
        assert delivery.expires_at - delivery.created_at == timedelta(days=4)

    async def test_a_channel_that_is_not_on_offer_is_disabled(self, worker_engine: AsyncEngine, sessions: Sessions):
        event = await self.subscribe_one(sessions, {})

        await handle(make_fan_out(worker_engine, channels=["sms"]), message(event))

        [delivery] = await list_deliveries(sessions)
        assert (delivery.status, delivery.reason) == ("skipped", "channel_disabled")

    async def test_a_repeated_message_sends_nothing_again(self, worker_engine: AsyncEngine, sessions: Sessions):
        event = await self.subscribe_one(sessions, {})
        fan_out = make_fan_out(worker_engine, channels=CHANNELS)
        await handle(fan_out, message(event))
        async with sessions.begin() as session:
            # As if the worker had died before it committed how far it came, after the delivery was cleaned up.
            await session.execute(text("UPDATE events SET fanned_out_at = NULL"))
            await session.execute(text("DELETE FROM deliveries"))

        await handle(fan_out, message(event))

        assert await list_deliveries(sessions) == []

    async def test_whoever_sends_hears_of_new_ones_after_the_commit(
        self, worker_engine: AsyncEngine, sessions: Sessions
    ):
        heard: list[int] = []
        event = await self.subscribe_one(sessions, {})
        fan_out = make_fan_out(worker_engine, channels=CHANNELS, after_deliveries=lambda: heard.append(1))

        await handle(fan_out, message(event))
        await handle(fan_out, message(event))

        assert heard == [1]

    async def subscribe_one(self, sessions: Sessions, point: dict[str, Any] | None) -> Event:
        """Return an event of which one user is told by e-mail, as far as their contact point allows."""
        world = await make_world(sessions, 1)
        async with sessions.begin() as session:
            [user] = (await session.scalars(select(User).where(User.id.in_(world.subscribers)))).all()
            await session.execute(text("UPDATE notification_subscriptions SET channels = '{email,in_app}'"))
            if point is not None:
                await make_contact_point(session, user, **{"channel": "email", **point})
        [event] = await world.add_events(sessions)
        return event


class TestRepetition:
    @pytest.mark.parametrize("seed", range(3))
    async def test_each_message_one_to_five_times_in_any_order_tells_everybody_once(
        self, fan_out: FanOut, sessions: Sessions, seed: int
    ):
        world = await make_world(sessions, 7)
        events = await world.add_events(sessions, 20)
        chance = Random(seed)  # noqa: S311 - the same each time
        messages = [message(event) for event in events for _ in range(chance.randint(1, 5))]
        chance.shuffle(messages)

        while messages:
            size = chance.randint(1, 30)
            batch, messages = messages[:size], messages[size:]
            assert await handle(fan_out, *batch) == [Completed()] * len(batch)

        for event in events:
            assert set(await recipients(sessions, event)) == world.subscribers

    async def test_a_notification_that_was_read_stays_read(
        self, fan_out: FanOut, engine: AsyncEngine, sessions: Sessions
    ):
        world = await make_world(sessions, 2)
        [event] = await world.add_events(sessions)
        await handle(fan_out, message(event))
        async with engine.begin() as connection:
            await connection.execute(text("UPDATE user_notifications SET seen_at = now(), read_at = now()"))
            # As if the worker had died before it committed how far it came.
            await connection.execute(text("UPDATE events SET fanned_out_at = NULL"))

        await handle(fan_out, message(event))

        async with sessions() as session:
            unread = select(func.count()).select_from(UserNotification).where(UserNotification.read_at.is_(None))
            assert await session.scalar(unread) == 0

    async def test_it_proves_the_publication(self, fan_out: FanOut, sessions: Sessions):
        world = await make_world(sessions, 1)
        [event] = await world.add_events(sessions, claimed_until=utc_now())

        await handle(fan_out, message(event))

        event = await reload(sessions, event)
        assert event.published_at is not None
        assert event.claimed_until is None


class TestChunks:
    @pytest.mark.parametrize(("subscriber_count", "chunk_size", "calls"), [(10, 4, 3), (8, 4, 3), (7, 4, 2), (0, 4, 1)])
    async def test_each_call_tells_one_chunk_and_stores_the_cursor(
        self, worker_engine: AsyncEngine, sessions: Sessions, subscriber_count: int, chunk_size: int, calls: int
    ):
        world = await make_world(sessions, subscriber_count)
        [event] = await world.add_events(sessions)

        assert await fan_out_fully(make_fan_out(worker_engine, chunk_size), message(event)) == calls

        assert set(await recipients(sessions, event)) == world.subscribers
        assert (await reload(sessions, event)).fan_out_cursor is None

    async def test_another_worker_goes_on_where_one_stopped(self, worker_engine: AsyncEngine, sessions: Sessions):
        world = await make_world(sessions, 10)
        [event] = await world.add_events(sessions)

        assert await handle(make_fan_out(worker_engine, 4), message(event)) == [Unfinished()]

        first_four = await recipients(sessions, event)
        assert len(first_four) == 4
        assert (await reload(sessions, event)).fan_out_cursor == max(first_four)
        assert await handle(make_fan_out(worker_engine, 100), message(event)) == [Completed()]
        assert set(await recipients(sessions, event)) == world.subscribers

    async def test_small_audiences_do_not_wait_for_large_ones(self, worker_engine: AsyncEngine, sessions: Sessions):
        world = await make_world(sessions, 10)
        [large] = await world.add_events(sessions)
        async with sessions.begin() as session:
            small = await make_event(session, world.scenario, world.author, event_type="scenario.deleted")

        outcomes = await handle(make_fan_out(worker_engine, 4), message(large), message(small))

        assert outcomes == [Unfinished(), Completed()]

    async def test_muted_users_do_not_stop_the_cursor(self, worker_engine: AsyncEngine, sessions: Sessions):
        world = await make_world(sessions, 10)
        async with sessions.begin() as session:
            for user in (await session.scalars(select(User).order_by(User.id))).all()[1:10]:
                await make_subscription(session, user, scenario_id=world.scenario.id, level=SubscriptionLevel.MUTED)
        [event] = await world.add_events(sessions)

        await fan_out_fully(make_fan_out(worker_engine, 3), message(event))

        assert len(await recipients(sessions, event)) == 1

    @pytest.mark.parametrize("analysed", [False, True], ids=["unknown to the planner", "analysed"])
    @pytest.mark.parametrize("mandatory", [False, True], ids=["voluntary", "mandatory"])
    async def test_a_chunk_reads_no_more_than_itself(
        self,
        engine: AsyncEngine,
        worker_engine: AsyncEngine,
        sessions: Sessions,
        *,
        mandatory: bool,
        analysed: bool,
    ):
        audience = 20_000
        world = await make_world(sessions, 0)
        [event] = await world.add_events(sessions)
        async with engine.begin() as connection:
            await connection.execute(text("UPDATE event_types SET mandatory = :mandatory"), {"mandatory": mandatory})
            for statement in PEOPLE:
                await connection.execute(text(statement), {"count": audience, "scenario_id": world.scenario.id})
        if analysed:
            async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
                await connection.execute(text("VACUUM ANALYZE"))
        chunk_size = 50

        before = await tuples_read(engine)
        assert await handle(make_fan_out(worker_engine, chunk_size), message(event)) == [Unfinished()]
        read = await tuples_read(engine) - before

        # Three lists of one chunk each, and for each row a look at its user and its event for the foreign keys.
        assert read < 10 * chunk_size


# Statements rather than objects: the audience has to be large, and its making quick.
PEOPLE = (
    """
    INSERT INTO users (tenant_id, id, external_id, name)
    SELECT tenants.id, gen_random_uuid(), 'many-' || number, 'Many' FROM tenants, generate_series(1, :count) AS number
    """,
    """
    INSERT INTO notification_subscriptions (tenant_id, id, user_id, event_type)
    SELECT tenant_id, gen_random_uuid(), id, 'scenario.executed' FROM users
    """,
    """
    INSERT INTO notification_subscriptions (tenant_id, id, user_id, scenario_id, level)
    SELECT tenant_id, gen_random_uuid(), id, :scenario_id, 'muted' FROM users
    """,
)


async def tuples_read(engine: AsyncEngine) -> int:
    """Return how many rows and index entries of the tables of the audience were read in this database so far."""
    async with engine.connect() as connection:
        await connection.execute(text("SELECT pg_stat_force_next_flush()"))
    query = text("""
        SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0))
               + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes
                   WHERE relname IN ('users', 'notification_subscriptions'))
          FROM pg_stat_user_tables WHERE relname IN ('users', 'notification_subscriptions')
    """)
    async with engine.connect() as connection:
        return int((await connection.execute(query)).scalar_one())


class TestDeadLetters:
    async def test_a_malformed_message_has_no_event(self, fan_out: FanOut):
        [outcome] = await handle(fan_out, received("not JSON"))

        assert outcome == DeadLetter("malformed_message", "The message is not JSON.")
        await fan_out.give_up(received("not JSON"), outcome)

    async def test_an_unknown_event(self, fan_out: FanOut, sessions: Sessions):
        world = await make_world(sessions, 1)
        [event] = await world.add_events(sessions)

        outcomes = await handle(
            fan_out, message(event, id=new_id()), message(event, tenant_id=new_id()), message(event)
        )

        assert [getattr(outcome, "reason", "completed") for outcome in outcomes] == [
            "unknown_event",
            "unknown_event",
            "completed",
        ]

    async def test_an_event_of_another_type_than_the_message_says(self, fan_out: FanOut, sessions: Sessions):
        world = await make_world(sessions, 1)
        [event] = await world.add_events(sessions)

        [outcome] = await handle(fan_out, forged := message(event, type="scenario.deleted"))

        assert outcome.reason == "mismatched_event"
        assert await recipients(sessions, event) == {}
        await fan_out.give_up(forged, outcome)
        assert (await reload(sessions, event)).dead_lettered_at is None

    async def test_the_event_says_that_it_was_given_up_and_why(self, fan_out: FanOut, sessions: Sessions):
        world = await make_world(sessions, 1)
        [event] = await world.add_events(sessions)

        await fan_out.give_up(message(event), DeadLetter("handler_failed", "RaiseError: poison"))

        event = await reload(sessions, event)
        assert event.dead_lettered_at is not None
        assert event.dead_letter_reason == "handler_failed: RaiseError: poison"

    async def test_a_dead_letter_that_is_redriven_is_handled_like_any_other(self, fan_out: FanOut, sessions: Sessions):
        world = await make_world(sessions, 1)
        [event] = await world.add_events(sessions)
        await fan_out.give_up(message(event), DeadLetter("handler_failed", "RaiseError: poison"))

        assert await handle(fan_out, message(event)) == [Completed()]

        assert set(await recipients(sessions, event)) == world.subscribers
        assert (await reload(sessions, event)).dead_lettered_at is None


class TestSeveralWorkers:
    async def test_two_hundred_races_without_a_deadlock(self, worker_engine: AsyncEngine, sessions: Sessions):
        """Two workers with the same events in opposite orders, some of them in chunks, at the same time."""
        world = await make_world(sessions, 9)
        events = await world.add_events(sessions, 400)

        for first in range(0, 400, 2):
            pair = events[first : first + 2]
            await asyncio.gather(
                fan_out_fully(make_fan_out(worker_engine, 4), *map(message, pair)),
                fan_out_fully(make_fan_out(worker_engine, 6), *map(message, reversed(pair))),
            )

        async with sessions() as session:
            assert await session.scalar(select(func.count()).select_from(UserNotification)) == 400 * 9
            deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
            assert await session.scalar(text(deadlocks)) == 0


class TestFailures:
    async def test_poison_among_several_is_raised_as_it_is(
        self, fan_out: FanOut, engine: AsyncEngine, sessions: Sessions
    ):
        world = await make_world(sessions, 3)
        events = await world.add_events(sessions, 3)
        await poison(engine, events[1:2])

        with pytest.raises(Exception, match="poison"):
            await handle(fan_out, *map(message, events))

        assert await recipients(sessions, events[0]) == {}

    async def test_a_database_that_refuses_connections_is_a_dependency_away(self):
        engine = create_engine(database_settings("postgresql://nobody@127.0.0.1:1/none"), application_name="tests")

        with pytest.raises(DependencyUnavailable):
            await make_fan_out(engine).probe()

        await engine.dispose()

    async def test_a_connection_that_is_killed_is_a_dependency_away(
        self, fan_out: FanOut, engine: AsyncEngine, sessions: Sessions
    ):
        world = await make_world(sessions, 1)
        [event] = await world.add_events(sessions)
        async with engine.begin() as lock, engine.connect() as killer:
            await lock.execute(text("SELECT 1 FROM events FOR UPDATE"))
            waiting = asyncio.create_task(handle(fan_out, message(event)))
            query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            while not (await killer.execute(text(query))).all():
                await killer.rollback()  # Statistics stay the same for a whole transaction.
                await asyncio.sleep(0.01)

            with pytest.raises(DependencyUnavailable):
                await waiting

    async def test_a_lock_is_the_fault_of_no_message(self, fan_out: FanOut, engine: AsyncEngine, sessions: Sessions):
        world = await make_world(sessions, 1)
        events = await world.add_events(sessions, 2)
        async with engine.begin() as lock:
            await lock.execute(text("SELECT 1 FROM events FOR UPDATE"))

            with pytest.raises(DependencyUnavailable):
                await handle(fan_out, message(events[0]))
            # Several may do better apart: the consumer divides them.
            with pytest.raises(Exception, match="lock timeout") as raised:
                await handle(fan_out, *map(message, events))

        assert not isinstance(raised.value, DependencyUnavailable)

    async def test_the_probe_passes_where_the_statement_would_run(self, fan_out: FanOut):
        await fan_out.probe()

    async def test_the_probe_fails_where_a_table_is_missing(self, fan_out: FanOut, engine: AsyncEngine):
        async with engine.begin() as connection:
            await connection.execute(text("ALTER TABLE user_notifications RENAME TO elsewhere"))

        with pytest.raises(DependencyUnavailable, match="user_notifications"):
            await fan_out.probe()


async def poison(engine: AsyncEngine, events: Iterable[Event]) -> None:
    """Make the database refuse every notification of these events."""
    names = ", ".join(f"'{event.id}'" for event in events)
    async with engine.begin() as connection:
        await connection.execute(
            text(f"""
                CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN
                    IF NEW.event_id IN ({names}) THEN RAISE EXCEPTION 'poison'; END IF;
                    RETURN NEW;
                END $$
            """)
        )
        await connection.execute(
            text("CREATE TRIGGER refuse BEFORE INSERT ON user_notifications FOR EACH ROW EXECUTE FUNCTION refuse()")
        )
