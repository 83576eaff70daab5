"""The sinks of the local system, for real: what every channel delivers to them, and how they show it."""

import asyncio
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import pytest

from local.environment import FOREIGN
from local.sinks import LocalSinks, SinksUnavailable
from shared.channel import Content, OutboundMessage
from shared.channels import load_channel_settings, names_on_offer, open_channels
from shared.signing import make_secret
from tests.fixtures.local_system import wait_for

MESSAGE = OutboundMessage(
    id=UUID("019abcde-0000-7000-8000-000000000001"),
    address="",
    content=Content(subject="“Checkout” failed", text="“Checkout” failed.\nIt took 3 s.", html="<p>It took 3 s.</p>"),
    created_at=datetime(2026, 11, 22, 12, tzinfo=UTC),
    secrets=(make_secret(),),
)
WEBHOOK = {"type": "scenario.executed", "data": {"title": "<b>“Checkout”</b> failed"}}


@pytest.fixture
def sinks(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalSinks]:
    sinks = LocalSinks()
    for name in os.environ:
        if name.startswith(FOREIGN):
            monkeypatch.delenv(name)
    for name, value in sinks.settings.items():
        monkeypatch.setenv(name, value)
    sinks.start()
    yield sinks
    sinks.stop()


async def deliver(channel: str, address: str, payload: dict[str, Any]) -> None:
    message = replace(MESSAGE, address=address, content=replace(MESSAGE.content, payload=payload))
    async with open_channels(load_channel_settings()) as channels:
        await channels[channel].send(message)


def list_messages(sinks: LocalSinks) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = httpx.get(f"{sinks.url}/messages", trust_env=False).json()["data"]
    return messages


def get_page(sinks: LocalSinks) -> str:
    return httpx.get(sinks.url, trust_env=False).text


@pytest.mark.usefixtures("sinks")
def test_every_channel_is_on_offer_there():
    assert names_on_offer(load_channel_settings()) == ("email", "slack", "sms", "webhook")


@pytest.mark.parametrize(
    ("channel", "address", "payload", "shown"),
    [
        ("email", "bob@demo.example", {}, "“Checkout” failed"),
        ("sms", "+12025550104", {}, "“Checkout” failed.\nIt took 3 s."),
        ("slack", "/services/carol", {"text": "“Checkout” failed\nIt took 3 s."}, "“Checkout” failed"),
        ("webhook", "/hooks/bob", WEBHOOK, "<b>“Checkout”</b> failed"),
    ],
)
async def test_what_a_channel_delivers_is_listed(
    sinks: LocalSinks, channel: str, address: str, payload: dict[str, Any], shown: str
):
    await deliver(channel, f"{sinks.url}{address}" if address.startswith("/") else address, payload)

    [message] = list_messages(sinks)
    assert (message["channel"], message["to"], message["subject"]) == (channel, address, shown)


async def test_a_receiver_can_check_and_recognise_what_came(sinks: LocalSinks):
    await deliver("webhook", f"{sinks.url}/hooks/bob", WEBHOOK)
    await deliver("email", "bob@demo.example", {})

    mail, webhook = list_messages(sinks)
    assert webhook["id"] == str(MESSAGE.id)
    assert webhook["headers"]["webhook-signature"].startswith("v1,")
    assert mail["id"] == f"<{MESSAGE.id}@local.invalid>"
    assert mail["text"].strip() == "“Checkout” failed.\nIt took 3 s."


async def test_the_page_shows_messages_and_runs_nothing_of_them(sinks: LocalSinks):
    assert "Nothing has come yet" in get_page(sinks)

    await deliver("webhook", f"{sinks.url}/hooks/bob", WEBHOOK)

    page = get_page(sinks)
    assert "&lt;b&gt;“Checkout”&lt;/b&gt; failed" in page
    assert "<b>" not in page


async def test_each_message_is_a_line_that_cannot_move_the_cursor(sinks: LocalSinks, capfd: pytest.CaptureFixture[str]):
    await deliver("slack", f"{sinks.url}/services/carol", {"text": "red \x1b[31m alert"})

    printed = ""

    def line() -> bool:
        nonlocal printed
        printed += capfd.readouterr().out
        return printed.endswith("\n")

    wait_for(line)
    assert printed.split() == ["sinks", "|", "slack", "/services/carol", "red", "·[31m", "alert"]


def test_only_the_last_hundred_are_kept(sinks: LocalSinks):
    with httpx.Client(trust_env=False) as client:
        for number in range(101):
            client.post(f"{sinks.url}/hooks/{number}", json={})

    messages = list_messages(sinks)

    assert len(messages) == 100
    assert messages[0]["to"] == "/hooks/100"
    assert messages[-1]["to"] == "/hooks/1"


def test_a_taken_port_is_evaded():
    first, second = LocalSinks(), LocalSinks()

    assert first.url != second.url

    first.stop()
    second.stop()


async def test_what_comes_while_it_is_dead_waits_for_its_successor(sinks: LocalSinks):
    os.kill(sinks.process.pid or 0, signal.SIGKILL)
    wait_for(lambda: sinks.process.pid is None)

    delivery = asyncio.create_task(deliver("sms", "+12025550104", {}))
    await asyncio.to_thread(sinks.start)

    await delivery
    assert len(list_messages(sinks)) == 1


def test_a_failed_start_is_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    sinks = LocalSinks()

    with pytest.raises(SinksUnavailable):
        sinks.start()

    sinks.stop()
