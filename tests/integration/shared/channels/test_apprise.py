import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from shared.channel import Content, DeliveryFailed, OutboundMessage, OutcomeUnknown, PermanentFailure, TemporaryFailure
from shared.channels.apprise import AppriseChannel, AppriseSettings, open_channel
from shared.settings import SettingsInvalid, load_settings
from tests.fakes.misbehaving_server import MisbehavingServer, run_misbehaving_server

# Apprise loads all of its services, and some of those libraries that are no longer in favour.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

SETTINGS = AppriseSettings(schemas=("json", "ntfy"))


@pytest.fixture
async def server() -> AsyncIterator[MisbehavingServer]:
    async with run_misbehaving_server() as server:
        yield server


@pytest.fixture
async def channel() -> AsyncIterator[AppriseChannel]:
    async with open_channel(SETTINGS) as channel:
        yield channel


def message_to(address: str) -> OutboundMessage:
    return OutboundMessage(
        id=uuid4(),
        address=address,
        content=Content(subject="Login passed", text=r"1 < 2 & C:\new"),
        created_at=datetime.now(UTC),
    )


async def test_the_service_gets_subject_and_text_as_they_are(channel, server):
    receipt = await channel.send(message_to(f"json://127.0.0.1:{server.port}/ok"))

    [(_, body)] = server.requests
    assert b'"title": "Login passed"' in body
    assert rb"1 < 2 & C:\\new" in body
    assert receipt.provider == "apprise"


@pytest.mark.parametrize("behaviour", ["500", "reset", "redirect"])
async def test_what_apprise_could_not_deliver_is_tried_again(channel, server, behaviour):
    async with run_misbehaving_server() as internal:
        server.internal = internal.url("ok")

        with pytest.raises(TemporaryFailure, match="could not deliver"):
            await channel.send(message_to(f"json://127.0.0.1:{server.port}/{behaviour}?redirect=yes&retry=3"))

    assert internal.accept_count == 0
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "address", ["xml://127.0.0.1/", "jsons://127.0.0.1/", "json://", "ntfy://127.0.0.1/one/two", "file:///etc/passwd"]
)
async def test_what_is_not_on_offer_or_no_single_recipient_is_refused(channel, address):
    with pytest.raises(PermanentFailure):
        await channel.send(message_to(address))


async def test_who_hangs_keeps_its_thread_and_lets_nobody_wait_for_ever(server):
    settings = SETTINGS.model_copy(update={"timeout": timedelta(seconds=1), "max_threads": 1})
    async with open_channel(settings) as channel:
        hanging = asyncio.create_task(channel.send(message_to(f"json://127.0.0.1:{server.port}/drip-head")))
        while not server.requests:
            await asyncio.sleep(0.01)

        with pytest.raises(TemporaryFailure, match="busy"):
            await channel.send(message_to(f"json://127.0.0.1:{server.port}/drip-head"))
        with pytest.raises(OutcomeUnknown):
            await hanging


@pytest.mark.parametrize(
    "address", ["json://bob:canary@127.0.0.1:1/canary", "json://127.0.0.1:{port}/ok?-token=canary"]
)
async def test_an_address_is_not_logged(server, address, caplog):
    caplog.set_level("DEBUG")
    async with open_channel(SETTINGS) as channel:
        with suppress(DeliveryFailed):
            await channel.send(message_to(address.format(port=server.port)))

    assert "canary" not in caplog.text


async def test_without_the_extra_the_start_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "apprise", None)

    with pytest.raises(SettingsInvalid, match=r"scenario-notifications\[apprise\]"):
        async with open_channel(SETTINGS):
            pass


class TestSettings:
    def test_nothing_is_on_offer_until_somebody_says_so(self):
        assert not AppriseSettings().is_on_offer

    def test_schemas_are_listed_between_commas(self, monkeypatch):
        monkeypatch.setenv("APPRISE_SCHEMAS", " discord, NTFYS,")

        settings = load_settings(AppriseSettings)

        assert settings.schemas == ("discord", "ntfys")
        assert settings.is_on_offer

    @pytest.mark.parametrize("schemas", ["discord://", "*", "a b"])
    def test_what_is_no_schema_is_refused_at_the_start(self, schemas, monkeypatch):
        monkeypatch.setenv("APPRISE_SCHEMAS", schemas)

        with pytest.raises(SettingsInvalid, match="APPRISE_SCHEMAS"):
            load_settings(AppriseSettings)
