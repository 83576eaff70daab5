"""Every channel, from what happens to a scenario to what its receiver sees, against the whole system."""

from collections import Counter
from typing import Any

import httpx

from tests.fixtures.local_system import RunningSystem, wait_for

WANTED = {"bob": ["email", "webhook"], "carol": ["slack"], "dave": ["sms"]}
CHANNEL_OF_RECEIVER = {
    "bob@demo.example": "email",
    "/hooks/bob": "webhook",
    "/services/carol": "slack",
    "+12025550104": "sms",
}


def subscribe(system: RunningSystem, user: str, channels: list[str]) -> None:
    with system.client(user) as client:
        client.put("/v1/subscriptions/scenario.executed", json={}).raise_for_status()
    system.query(
        "UPDATE notification_subscriptions SET channels = $1"
        " FROM users WHERE users.id = user_id AND users.external_id = $2",
        ["in_app", *channels],
        user,
    )


def list_messages(system: RunningSystem, about: str) -> list[dict[str, Any]]:
    url = system.await_line("The messages").split()[2]
    messages = httpx.get(f"{url}/messages", trust_env=False).raise_for_status().json()["data"]
    return [message for message in messages if about in message["subject"]]


def test_each_person_is_told_once_on_the_channels_they_chose(system: RunningSystem):
    for user, channels in WANTED.items():
        subscribe(system, user, channels)

    with system.client("alice") as alice:
        scenario = alice.post("/v1/scenarios", json={"name": "Told everywhere"}).raise_for_status().json()
        alice.post(f"/v1/scenarios/{scenario['id']}/executions", json={"outcome": "failed"}).raise_for_status()

    wait_for(lambda: len(list_messages(system, "Told everywhere")) >= len(CHANNEL_OF_RECEIVER))
    pending = "SELECT count(*) FROM deliveries WHERE status = 'pending'"
    wait_for(lambda: system.query(pending)[0][0] == 0)
    came = [(message["to"], message["channel"]) for message in list_messages(system, "Told everywhere")]
    assert Counter(came) == Counter(CHANNEL_OF_RECEIVER.items())
    [webhook] = [message for message in list_messages(system, "Told everywhere") if message["channel"] == "webhook"]
    assert webhook["headers"]["webhook-signature"].startswith("v1,")
    assert system.await_line("sinks  | sms")
