"""Contact points: entered, proved by a code, tried out, forgotten."""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from api import sending
from api.contact_points import service
from api.settings import Settings
from shared.channel import (
    IN_APP,
    Channel,
    OutboundMessage,
    OutcomeUnknown,
    PermanentFailure,
    RateLimited,
    TemporaryFailure,
)
from shared.channels.smtp import SmtpSettings, open_channel
from shared.mail import MailSettings
from shared.models import ContactPoint, User
from shared.queue.memory import MemoryQueue
from tests.fakes.channel import FakeChannel
from tests.fakes.smtp_server import run_smtp_server
from tests.integration.api.clients import CIPHER, client_of, running_app, token_for

Sessions = async_sessionmaker[AsyncSession]
Channels = dict[str, FakeChannel]

POINTS = "/v1/contact-points"
ADDRESSES = {
    "email": ("alice@example.com", "a…@example.com"),
    "slack": ("https://hooks.slack.com/services/T0/B0/x", "https://hooks.slack.com/…"),
    "sms": ("+49 151 12345678", "+49…78"),
    "webhook": ("https://example.com/hook", "https://example.com/…"),
    "apprise": ("ntfys://ntfy.example.com/topic", "ntfys://…"),
}
PROVED_BY_CODE = {"email", "sms"}


async def put(client: httpx.AsyncClient, channel: str = "webhook", **members: Any) -> dict[str, Any]:
    response = await client.put(f"{POINTS}/{channel}", json={"address": ADDRESSES[channel][0]} | members)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def ask_for_code(client: httpx.AsyncClient, channel: FakeChannel) -> str:
    """Enter an address and return the code that is sent to it."""
    await put(client, channel.name)
    assert (await client.post(f"{POINTS}/{channel.name}/verification")).status_code == 200
    return code_in(channel.sent[-1])


def code_in(message: OutboundMessage) -> str:
    [code] = re.findall(r"\b\d{6}\b", message.content.subject + "\n" + message.content.text)[:1]
    return str(code)


def other_than(code: str) -> str:
    return f"{(int(code) + 1) % 1_000_000:06}"


async def try_code(client: httpx.AsyncClient, code: str, channel: str = "email", **options: Any) -> httpx.Response:
    return await client.post(f"{POINTS}/{channel}/verify", json={"code": code}, **options)


async def get_row(sessions: Sessions, user: User, channel: str) -> ContactPoint:
    async with sessions() as session:
        query = select(ContactPoint).where(ContactPoint.user_id == user.id, ContactPoint.channel == channel)
        return (await session.scalars(query)).one()


async def change_row(sessions: Sessions, user: User, **columns: Any) -> None:
    async with sessions.begin() as session:
        for point in await session.scalars(select(ContactPoint).where(ContactPoint.user_id == user.id)):
            for name, value in columns.items():
                setattr(point, name, value)


class Clock:
    """A clock that only a test moves."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now

    def shift(self, duration: timedelta) -> None:
        self.now += duration


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(service, "utc_now", clock)
    return clock


class TestSet:
    @pytest.mark.parametrize("channel", ADDRESSES)
    async def test_an_address_is_shown_masked_and_verified_at_once_where_it_is_its_own_proof(
        self, alice: httpx.AsyncClient, channel: str
    ):
        answer = await put(alice, channel)

        secret = answer.pop("secret")
        assert (secret is not None) == (channel == "webhook")
        assert answer == {
            "channel": channel,
            "address": ADDRESSES[channel][1],
            "verified": channel not in PROVED_BY_CODE,
            "enabled": True,
            "disabled_reason": None,
            "last_result": None,
            "last_attempt_at": None,
        }

    async def test_nothing_of_it_is_legible_in_the_database(
        self, alice: httpx.AsyncClient, users: dict[str, User], sessions: Sessions
    ):
        secret = (await put(alice))["secret"]

        async with sessions() as session:
            [row] = await session.scalars(text("SELECT to_jsonb(contact_points)::text FROM contact_points"))
        assert "/hook" not in row
        assert secret not in row
        point = await get_row(sessions, users["alice"], "webhook")
        assert CIPHER.decrypt(users["alice"].tenant_id, point.encrypted_address) == "https://example.com/hook"

    @pytest.mark.parametrize("channel", ["pigeon", IN_APP, "a%20b", "sms"])
    async def test_what_is_not_offered_has_no_contact_points(
        self, alice: httpx.AsyncClient, channels: Channels, channel: str
    ):
        del channels["sms"]

        response = await alice.put(f"{POINTS}/{channel}", json={"address": "+49 151 12345678"})

        assert (response.status_code, response.json()["code"]) == (404, "channel_not_offered")

    async def test_what_is_no_address_is_refused_without_being_repeated(self, alice: httpx.AsyncClient):
        response = await alice.put(f"{POINTS}/email", json={"address": "alice at home"})

        assert response.status_code == 422
        assert [(error["pointer"], error["code"]) for error in response.json()["errors"]] == [
            ("#/address", "invalid_address")
        ]
        assert "at home" not in response.text

    @pytest.mark.parametrize(
        ("body", "pointer"),
        [
            ({}, "#/address"),
            ({"address": ""}, "#/address"),
            ({"address": "a@b.example\r\nBcc: c@d.example"}, "#/address"),
            ({"address": "a" * 3000}, "#/address"),
            ({"address": "a@b.example", "enabled": "yes"}, "#/enabled"),
            ({"address": "a@b.example", "verified": True}, "#/verified"),
        ],
    )
    async def test_what_is_wrong_is_pointed_at(self, alice: httpx.AsyncClient, body: dict[str, Any], pointer: str):
        response = await alice.put(f"{POINTS}/email", json=body)

        assert response.status_code == 422
        assert [error["pointer"] for error in response.json()["errors"]] == [pointer]

    async def test_the_same_address_again_enables_it_and_keeps_its_proof_and_secret(
        self, alice: httpx.AsyncClient, users: dict[str, User], sessions: Sessions
    ):
        await put(alice)
        before = await get_row(sessions, users["alice"], "webhook")
        now = datetime.now(UTC)
        await change_row(sessions, users["alice"], disabled_at=now, disabled_reason="dead", failing_since=now)

        [listed] = (await alice.get(POINTS)).json()["data"]
        again = await put(alice)

        assert (listed["enabled"], listed["disabled_reason"]) == (False, "dead")
        assert (again["enabled"], again["disabled_reason"], again["secret"]) == (True, None, None)
        after = await get_row(sessions, users["alice"], "webhook")
        assert (after.id, after.verified_at, after.failing_since) == (before.id, before.verified_at, None)
        assert after.encrypted_secrets == before.encrypted_secrets

    async def test_another_address_has_to_be_proved_again(
        self, alice: httpx.AsyncClient, channels: Channels, users: dict[str, User], sessions: Sessions
    ):
        await try_code(alice, await ask_for_code(alice, channels["email"]))
        await change_row(sessions, users["alice"], last_result="delivered", last_attempt_at=datetime.now(UTC))

        answer = await put(alice, "email", address="bob@example.com")

        assert (answer["verified"], answer["last_result"], answer["last_attempt_at"]) == (False, None, None)

    async def test_the_code_for_one_address_does_not_prove_the_next(self, alice: httpx.AsyncClient, channels: Channels):
        code = await ask_for_code(alice, channels["email"])
        await put(alice, "email", address="bob@example.com")

        assert (await try_code(alice, code)).json()["code"] == "no_code_expected"

    async def test_its_owner_can_disable_it(self, alice: httpx.AsyncClient):
        answer = await put(alice, enabled=False)

        assert (answer["enabled"], answer["disabled_reason"]) == (False, "owner")

    async def test_several_at_once_make_one(self, alice: httpx.AsyncClient):
        answers = await asyncio.gather(*(put(alice) for _ in range(5)))

        assert len([answer for answer in answers if answer["secret"]]) == 1
        assert len((await alice.get(POINTS)).json()["data"]) == 1


class TestList:
    async def test_mine_are_in_the_order_of_the_channels(self, alice: httpx.AsyncClient, bob: httpx.AsyncClient):
        for channel in reversed(ADDRESSES):
            await put(alice, channel)
        await put(bob, "sms")

        data = (await alice.get(POINTS)).json()["data"]

        assert [point["channel"] for point in data] == list(ADDRESSES)
        assert {point["secret"] for point in data} == {None}


class TestDelete:
    async def test_what_is_gone_can_be_deleted_again(self, alice: httpx.AsyncClient, bob: httpx.AsyncClient):
        await put(alice)
        await put(bob)

        assert [(await alice.delete(f"{POINTS}/webhook")).status_code for _ in range(2)] == [204, 204]

        assert (await alice.get(POINTS)).json() == {"data": []}
        assert len((await bob.get(POINTS)).json()["data"]) == 1


class TestSecret:
    async def test_a_new_one_is_shown_once_and_the_old_one_signs_for_a_day(
        self, alice: httpx.AsyncClient, channels: Channels, clock: Clock
    ):
        old = (await put(alice))["secret"]
        new = (await alice.post(f"{POINTS}/webhook/secret")).json()["secret"]

        await alice.post(f"{POINTS}/webhook/test")
        clock.shift(timedelta(hours=24, seconds=1))
        await alice.post(f"{POINTS}/webhook/test")

        assert [message.secrets for message in channels["webhook"].sent] == [(new, old), (new,)]
        assert len({new, old}) == 2

    async def test_a_repeat_shows_it_again_and_the_database_never_does(
        self, alice: httpx.AsyncClient, sessions: Sessions
    ):
        await put(alice)
        key = {"Idempotency-Key": "one"}

        first, second = [await alice.post(f"{POINTS}/webhook/secret", headers=key) for _ in range(2)]

        assert second.headers["Idempotent-Replayed"] == "true"
        assert second.content == first.content
        async with sessions() as session:
            [body] = await session.scalars(text("SELECT body FROM idempotency_keys"))
        assert b"whsec_" not in body

    async def test_there_is_none_without_a_webhook(self, alice: httpx.AsyncClient):
        response = await alice.post(f"{POINTS}/webhook/secret")

        assert (response.status_code, response.json()["code"]) == (404, "contact_point_not_found")


class TestVerification:
    @pytest.mark.parametrize("channel", sorted(PROVED_BY_CODE))
    async def test_the_code_that_arrives_proves_the_address(
        self, alice: httpx.AsyncClient, channels: Channels, channel: str
    ):
        code = await ask_for_code(alice, channels[channel])

        answer = await try_code(alice, code, channel)

        assert (answer.status_code, answer.json()["verified"]) == (200, True)
        [message] = channels[channel].sent
        assert message.address == ADDRESSES[channel][0].replace(" ", "")
        assert (await try_code(alice, code, channel)).json()["code"] == "contact_point_verified"

    async def test_a_member_of_a_slack_workspace_proves_it_as_well(self, alice: httpx.AsyncClient, channels: Channels):
        assert (await put(alice, "slack", address="U0123456789"))["verified"] is False
        assert (await alice.post(f"{POINTS}/slack/test")).json()["code"] == "contact_point_unverified"

        assert (await alice.post(f"{POINTS}/slack/verification")).status_code == 200
        [message] = channels["slack"].sent
        proved = await try_code(alice, code_in(message), "slack")

        assert proved.json()["verified"] is True

    async def test_the_answer_tells_where_and_until_when_but_not_the_code(
        self, alice: httpx.AsyncClient, channels: Channels
    ):
        await put(alice, "email")
        response = await alice.post(f"{POINTS}/email/verification")

        answer = response.json()
        assert answer.keys() == {"channel", "address", "expires_at", "next_code_at"}
        assert answer["address"] == "a…@example.com"
        assert code_in(channels["email"].sent[0]) not in response.text

    async def test_nothing_is_to_be_proved_twice(self, alice: httpx.AsyncClient, channels: Channels):
        await put(alice)

        response = await alice.post(f"{POINTS}/webhook/verification")

        assert (response.status_code, response.json()["code"]) == (409, "contact_point_verified")
        assert channels["webhook"].sent == []

    async def test_a_wrong_code_says_how_many_tries_are_left_and_after_five_there_are_none(
        self, alice: httpx.AsyncClient, channels: Channels
    ):
        code = await ask_for_code(alice, channels["email"])

        wrong = [await try_code(alice, other_than(code)) for _ in range(5)]

        assert {(response.status_code, response.json()["code"]) for response in wrong} == {(422, "wrong_code")}
        assert "4 more tries" in wrong[0].json()["detail"]
        assert "no more tries" in wrong[4].json()["detail"]
        right = await try_code(alice, code)
        assert (right.status_code, right.json()["code"]) == (409, "no_code_expected")

    async def test_many_tries_at_once_are_five(self, alice: httpx.AsyncClient, channels: Channels):
        code = await ask_for_code(alice, channels["email"])

        answers = await asyncio.gather(*(try_code(alice, other_than(code)) for _ in range(12)))

        assert sorted(answer.json()["code"] for answer in answers) == ["no_code_expected"] * 7 + ["wrong_code"] * 5

    async def test_a_wrong_code_may_be_repeated_with_its_key_and_costs_a_try_each_time(
        self, alice: httpx.AsyncClient, channels: Channels
    ):
        code = await ask_for_code(alice, channels["email"])
        key = {"Idempotency-Key": "one"}

        answers = [await try_code(alice, other_than(code), headers=key) for _ in range(2)]

        assert ["4 more" in answers[0].text, "3 more" in answers[1].text] == [True, True]

    async def test_a_code_expires(self, alice: httpx.AsyncClient, channels: Channels, clock: Clock):
        code = await ask_for_code(alice, channels["email"])

        clock.shift(timedelta(minutes=10))

        assert (await try_code(alice, code)).json()["code"] == "no_code_expected"

    async def test_a_new_code_comes_after_a_minute_and_ends_the_old_one(
        self, alice: httpx.AsyncClient, channels: Channels, clock: Clock
    ):
        old = await ask_for_code(alice, channels["email"])
        clock.shift(timedelta(seconds=20))

        early = await alice.post(f"{POINTS}/email/verification")
        clock.shift(timedelta(seconds=40))
        late = await alice.post(f"{POINTS}/email/verification")

        assert (early.status_code, early.json()["code"], early.headers["Retry-After"]) == (429, "sent_too_often", "40")
        assert late.status_code == 200
        new = code_in(channels["email"].sent[-1])
        if new != old:
            assert (await try_code(alice, old)).status_code == 422
        assert (await try_code(alice, new)).status_code == 200

    async def test_a_day_has_ten_codes_however_often_the_address_is_changed_or_deleted(
        self, alice: httpx.AsyncClient, channels: Channels, clock: Clock
    ):
        statuses = []
        for number in range(11):
            await alice.delete(f"{POINTS}/sms")
            await put(alice, "sms", address=f"+4915112345{number:03}")
            statuses.append((await alice.post(f"{POINTS}/sms/verification")).status_code)
            clock.shift(timedelta(minutes=1))

        assert statuses == [200] * 10 + [429]
        assert len(channels["sms"].sent) == 10

    async def test_two_at_once_send_one(self, alice: httpx.AsyncClient, channels: Channels):
        await put(alice, "email")

        answers = await asyncio.gather(*(alice.post(f"{POINTS}/email/verification") for _ in range(5)))

        assert sorted(answer.status_code for answer in answers) == [200, 429, 429, 429, 429]
        assert len(channels["email"].sent) == 1

    @pytest.mark.parametrize(
        ("failure", "status", "code"),
        [
            (TemporaryFailure("busy"), 503, "code_not_sent"),
            (RateLimited("slow down"), 503, "code_not_sent"),
            (PermanentFailure("no such mailbox"), 422, "address_refused"),
            (OutcomeUnknown("gone silent"), 200, None),
        ],
        ids=lambda value: type(value).__name__,
    )
    async def test_a_code_that_cannot_be_sent_is_said_so(
        self,
        alice: httpx.AsyncClient,
        channels: Channels,
        failure: Exception,
        status: int,
        code: str | None,
    ):
        channels["email"].answer = failure
        await put(alice, "email")

        response = await alice.post(f"{POINTS}/email/verification")

        assert (response.status_code, response.json().get("code")) == (status, code)


class TestTest:
    async def test_the_outcome_is_the_answer_and_is_listed(self, alice: httpx.AsyncClient, channels: Channels):
        await put(alice)

        response = await alice.post(f"{POINTS}/webhook/test")

        assert response.json() == {"result": "delivered", "detail": None, "provider": "fake"}
        [message] = channels["webhook"].sent
        assert message.address == "https://example.com/hook"
        assert len(message.secrets) == 1
        [point] = (await alice.get(POINTS)).json()["data"]
        assert point["last_result"] == "delivered"
        assert point["last_attempt_at"] is not None

    @pytest.mark.parametrize(
        ("failure", "result"),
        [
            (TemporaryFailure("busy"), "temporary_failure"),
            (RateLimited("slow down"), "rate_limited"),
            (PermanentFailure("gone"), "permanent_failure"),
            (OutcomeUnknown("silence"), "outcome_unknown"),
        ],
    )
    async def test_a_failure_is_an_answer_too(
        self, alice: httpx.AsyncClient, channels: Channels, failure: Exception, result: str
    ):
        channels["webhook"].answer = failure
        await put(alice)

        response = await alice.post(f"{POINTS}/webhook/test")

        assert response.status_code == 200
        assert response.json() == {"result": result, "detail": str(failure), "provider": "fake"}

    async def test_a_provider_that_thinks_too_long_has_an_unknown_outcome(
        self, alice: httpx.AsyncClient, channels: Channels, monkeypatch: pytest.MonkeyPatch
    ):
        async def think(_message: OutboundMessage) -> None:
            await asyncio.Event().wait()

        channels["webhook"].answer = think
        monkeypatch.setattr(sending, "SEND_TIMEOUT", timedelta(milliseconds=50))
        await put(alice)

        response = await alice.post(f"{POINTS}/webhook/test")

        assert response.json()["result"] == "outcome_unknown"

    async def test_no_connection_is_held_while_the_provider_thinks(
        self, alice: httpx.AsyncClient, app: FastAPI, channels: Channels
    ):
        pool = app.state.runtime.sessions.kw["bind"].pool
        held: list[int] = []

        async def look(_message: OutboundMessage) -> None:
            held.append(pool.checkedout())

        channels["email"].answer = channels["webhook"].answer = look
        await put(alice)
        await put(alice, "email")
        # The relay takes a connection now and then; it has nothing to do while nothing is published.
        app.state.runtime.relay.stop()

        await alice.post(f"{POINTS}/webhook/test", headers={"Idempotency-Key": "one"})
        await alice.post(f"{POINTS}/email/verification", headers={"Idempotency-Key": "two"})

        assert held == [0, 0]

    async def test_a_repeat_with_the_same_key_sends_nothing(self, alice: httpx.AsyncClient, channels: Channels):
        await put(alice)
        key = {"Idempotency-Key": "one"}

        first, second = [await alice.post(f"{POINTS}/webhook/test", headers=key) for _ in range(2)]

        assert second.content == first.content
        assert second.headers["Idempotent-Replayed"] == "true"
        assert len(channels["webhook"].sent) == 1

    async def test_a_repeat_while_it_is_under_way_or_was_broken_off_sends_nothing(
        self, alice: httpx.AsyncClient, channels: Channels
    ):
        await put(alice)
        key = {"Idempotency-Key": "one"}
        asked, answered = asyncio.Event(), asyncio.Event()

        async def wait(_message: OutboundMessage) -> None:
            asked.set()
            await answered.wait()

        channels["webhook"].answer = wait
        first = asyncio.create_task(alice.post(f"{POINTS}/webhook/test", headers=key))
        await asked.wait()
        during = await alice.post(f"{POINTS}/webhook/test", headers=key)
        first.cancel()
        await asyncio.wait([first])
        after = await alice.post(f"{POINTS}/webhook/test", headers=key)

        assert [(answer.status_code, answer.json()["code"]) for answer in (during, after)] == [
            (409, "idempotency_key_in_use")
        ] * 2
        assert len(channels["webhook"].sent) == 1

    async def test_where_nothing_is_to_be_sent_nothing_is(self, alice: httpx.AsyncClient, channels: Channels):
        missing = await alice.post(f"{POINTS}/slack/test")
        await put(alice, "email")
        unverified = await alice.post(f"{POINTS}/email/test")
        await put(alice, enabled=False)
        disabled = await alice.post(f"{POINTS}/webhook/test")

        assert [(answer.status_code, answer.json()["code"]) for answer in (missing, unverified, disabled)] == [
            (404, "contact_point_not_found"),
            (409, "contact_point_unverified"),
            (409, "contact_point_disabled"),
        ]
        assert not any(channel.sent for channel in channels.values())

    async def test_there_is_one_in_ten_seconds_and_ten_an_hour(
        self, alice: httpx.AsyncClient, channels: Channels, clock: Clock
    ):
        await put(alice)

        twice = [(await alice.post(f"{POINTS}/webhook/test")).status_code for _ in range(2)]
        for _ in range(9):
            clock.shift(timedelta(seconds=10))
            assert (await alice.post(f"{POINTS}/webhook/test")).status_code == 200
        clock.shift(timedelta(seconds=10))
        eleventh = await alice.post(f"{POINTS}/webhook/test")

        assert twice == [200, 429]
        assert (eleventh.status_code, eleventh.headers["Retry-After"]) == (429, str(3600 - 100))
        assert len(channels["webhook"].sent) == 10


class TestByMail:
    async def test_a_code_goes_through_a_real_server_and_proves_the_address(
        self, settings: Settings, users: dict[str, User]
    ):
        async with run_smtp_server() as server:
            smtp = SmtpSettings.model_validate({"host": "127.0.0.1", "port": server.port, "security": "none"})
            mail = MailSettings.model_validate({"sender": "Scenarios <no-reply@example.com>"})
            async with open_channel(smtp, mail) as channel:
                channels: dict[str, Channel] = {"email": channel}
                async with (
                    running_app(settings, MemoryQueue(), channels) as app,
                    client_of(app, token_for(users["alice"].external_id)) as alice,
                ):
                    await put(alice, "email")
                    assert (await alice.post(f"{POINTS}/email/verification")).status_code == 200
                    [sent] = server.mails
                    body = sent.message.get_body(("plain",))
                    assert body
                    [code] = set(re.findall(r"\b\d{6}\b", body.get_content()))

                    answer = await try_code(alice, code)

        assert answer.json()["verified"] is True
        assert sent.recipients == ["alice@example.com"]
