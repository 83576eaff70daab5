"""Nothing is lost and nothing doubled while workers die and messages come twice.

The oracle: every event accepted with 2xx ends in exactly one notification for each subscriber,
and there is no other. It is asked only after a full drain.
"""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from shared.ids import new_id
from shared.queue import OutgoingMessage
from shared.queue.envelope import Envelope
from shared.queue.sqs import open_sqs
from tests.factories import NOON
from tests.fixtures.local_system import RunningSystem, run_system, wait_for
from tests.fixtures.sqs import take_dead_letters

CLIENT_COUNT = 20
SCENARIOS_PER_CLIENT = 50
SUBSCRIBER_COUNT = 50
DRAIN_DEADLINE = timedelta(seconds=180)


@pytest.fixture
def system() -> Iterator[RunningSystem]:
    with TemporaryDirectory(prefix="notify-") as directory, run_system(Path(directory)) as system:
        yield system


def subscribe(system: RunningSystem, count: int) -> None:
    for number in range(count):
        with system.client(f"subscriber-{number}") as client:
            client.put("/v1/subscriptions/scenario.created", json={}).raise_for_status()


def create_scenarios(system: RunningSystem, client_number: int, count: int) -> list[str]:
    """Create scenarios one after the other and return the ids that were accepted."""
    with system.client(f"author-{client_number}") as client:
        return [
            client.post("/v1/scenarios", json={"name": f"Scenario {client_number}-{n}"}).raise_for_status().json()["id"]
            for n in range(count)
        ]


def await_drain(system: RunningSystem) -> None:
    """Return when all events are fanned out and the queue is empty: before that nothing can be judged."""
    system.await_fan_out(deadline=DRAIN_DEADLINE)
    wait_for(lambda: asyncio.run(count_messages(system)) == 0, deadline=DRAIN_DEADLINE)


def await_fanned_out(system: RunningSystem, count: int) -> None:
    """Return when at least so many events are fanned out."""
    fanned_out = "SELECT count(*) FROM events WHERE fanned_out_at IS NOT NULL"
    wait_for(lambda: system.query(fanned_out)[0][0] >= count, deadline=DRAIN_DEADLINE)


async def count_messages(system: RunningSystem) -> int:
    async with open_sqs(system.sqs_config()) as queue:
        return (await queue.depth()).total


@pytest.mark.timeout(600)
def test_every_subscriber_is_told_of_every_scenario_once_while_workers_are_killed(system: RunningSystem):
    subscribe(system, SUBSCRIBER_COUNT)
    total = CLIENT_COUNT * SCENARIOS_PER_CLIENT

    with ThreadPoolExecutor(CLIENT_COUNT) as clients:
        created = [
            clients.submit(create_scenarios, system, number, SCENARIOS_PER_CLIENT) for number in range(CLIENT_COUNT)
        ]
        for share in (0.1, 0.4, 0.7):
            await_fanned_out(system, round(share * total))
            system.kill("worker")
            # What was published so far is published again, as after a crash between sending and marking.
            system.query("UPDATE events SET published_at = NULL WHERE published_at IS NOT NULL")
        accepted = {scenario_id for future in created for scenario_id in future.result()}
    await_drain(system)

    assert len(accepted) == total
    told = system.query(
        """
        SELECT events.scenario_id, users.external_id
          FROM user_notifications
          JOIN events ON (events.tenant_id, events.id) = (user_notifications.tenant_id, user_notifications.event_id)
          JOIN users ON (users.tenant_id, users.id) = (user_notifications.tenant_id, user_notifications.user_id)
        """
    )
    expected = {(scenario_id, f"subscriber-{number}") for scenario_id in accepted for number in range(SUBSCRIBER_COUNT)}
    assert len(told) == len(expected) == total * SUBSCRIBER_COUNT
    assert {(str(scenario_id), user) for scenario_id, user in told} == expected
    assert asyncio.run(take_dead_letters(system.sqs_config())) == []


@pytest.mark.timeout(300)
def test_poison_among_good_messages_is_put_aside_with_its_reason(system: RunningSystem):
    subscribe(system, 1)

    def poison() -> dict[str, str]:
        stranger = Envelope(
            id=new_id(), tenant_id=new_id(), type="scenario.created", subject=new_id(), occurred_at=NOON
        )
        return {"malformed_message": '{"specversion": "1.0"}', "unknown_event": stranger.to_json()}

    async def send(bodies: list[str]) -> None:
        async with open_sqs(system.sqs_config()) as queue:
            assert await queue.send([OutgoingMessage(id=str(n), body=body) for n, body in enumerate(bodies)]) == []

    poisoned = poison()
    asyncio.run(send(list(poisoned.values())))
    accepted = create_scenarios(system, 0, 30)
    asyncio.run(send(["not even JSON"]))
    accepted += create_scenarios(system, 0, 30)
    await_drain(system)

    told = system.query("SELECT scenario_id FROM user_notifications JOIN events ON events.id = event_id")
    assert sorted(str(scenario_id) for [scenario_id] in told) == sorted(accepted)
    letters = asyncio.run(take_dead_letters(system.sqs_config()))
    assert sorted((letter.reason, letter.body) for letter in letters) == sorted(
        [*poisoned.items(), ("malformed_message", "not even JSON")]
    )
