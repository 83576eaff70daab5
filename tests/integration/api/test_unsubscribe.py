"""The link in a mail: one click of a mail program, or a page with a button for people."""

import re
from collections.abc import Sequence

import httpx
import pytest
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from structlog.testing import capture_logs

from shared.encryption import Cipher, build_cipher
from shared.models import ContactPoint, DisabledReason, EventType, NotificationSubscription, Tenant, User
from shared.unsubscribe import PATH, PublicSettings, Unsubscription
from tests.factories import make_contact_point, make_subscription
from tests.integration.api.clients import ENCRYPTION_SETTINGS

Sessions = async_sessionmaker[AsyncSession]

ONE_CLICK = {"List-Unsubscribe": "One-Click"}


@pytest.fixture
def cipher() -> Cipher:
    return build_cipher(ENCRYPTION_SETTINGS)


@pytest.fixture
async def subscribed(sessions: Sessions, users: dict[str, User]) -> User:
    """Alice, with two subscriptions that bring mail and a contact point each for mail and webhooks; bob likewise."""
    async with sessions.begin() as session:
        for name in ("alice", "bob"):
            for event_type in ("scenario.executed", "scenario.deleted"):
                rule = await make_subscription(session, users[name], event_type=event_type)
                rule.channels = ["in_app", "email", "webhook"]
            for channel in ("email", "webhook"):
                await make_contact_point(session, users[name], channel=channel)
    return users["alice"]


def path_for(user: User, cipher: Cipher, event_type: str = "scenario.executed") -> str:
    wish = Unsubscription(tenant_id=user.tenant_id, user_id=user.id, event_type=event_type, channel="email")
    url = wish.to_url(PublicSettings(public_url="https://notify.example"), cipher)
    return url.removeprefix("https://notify.example")


async def channels_of(sessions: Sessions, user: User, event_type: str = "scenario.executed") -> Sequence[str]:
    async with sessions() as session:
        query = select(NotificationSubscription.channels).where(
            NotificationSubscription.user_id == user.id, NotificationSubscription.event_type == event_type
        )
        return (await session.scalars(query)).one()


async def disabled_channels(sessions: Sessions, user: User) -> dict[str, DisabledReason | None]:
    async with sessions() as session:
        query = select(ContactPoint).where(ContactPoint.user_id == user.id, ContactPoint.disabled_at.is_not(None))
        return {point.channel: point.disabled_reason for point in await session.scalars(query)}


class TestOneClick:
    @pytest.mark.parametrize("form", [ONE_CLICK, None])
    async def test_it_takes_the_channel_out_of_the_subscription_and_nothing_else(  # noqa: PLR0913, PLR0917 - fixtures
        self,
        nobody: httpx.AsyncClient,
        sessions: Sessions,
        subscribed: User,
        users: dict[str, User],
        cipher: Cipher,
        form: dict[str, str] | None,
    ):
        response = await nobody.post(path_for(subscribed, cipher), data=form)

        assert response.status_code == 200
        assert await channels_of(sessions, subscribed) == ["in_app", "webhook"]
        assert await channels_of(sessions, subscribed, "scenario.deleted") == ["in_app", "email", "webhook"]
        assert await channels_of(sessions, users["bob"]) == ["in_app", "email", "webhook"]
        assert await disabled_channels(sessions, subscribed) == {}

    async def test_a_second_click_changes_nothing_more(
        self, nobody: httpx.AsyncClient, sessions: Sessions, subscribed: User, cipher: Cipher
    ):
        first, second = [await nobody.post(path_for(subscribed, cipher), data=ONE_CLICK) for _ in range(2)]

        assert (first.status_code, first.text) == (second.status_code, second.text)
        assert await channels_of(sessions, subscribed) == ["in_app", "webhook"]
        assert await disabled_channels(sessions, subscribed) == {}

    async def test_without_a_subscription_the_channel_ends(
        self, nobody: httpx.AsyncClient, sessions: Sessions, subscribed: User, users: dict[str, User], cipher: Cipher
    ):
        response = await nobody.post(path_for(subscribed, cipher, "scenario.created"), data=ONE_CLICK)

        assert response.status_code == 200
        assert await disabled_channels(sessions, subscribed) == {"email": DisabledReason.UNSUBSCRIBED}
        assert await disabled_channels(sessions, users["bob"]) == {}
        assert await channels_of(sessions, subscribed) == ["in_app", "email", "webhook"]

    async def test_of_a_mandatory_type_the_channel_ends(
        self, nobody: httpx.AsyncClient, sessions: Sessions, subscribed: User, cipher: Cipher
    ):
        async with sessions.begin() as session:
            await session.execute(update(EventType).where(EventType.name == "scenario.executed").values(mandatory=True))

        await nobody.post(path_for(subscribed, cipher), data=ONE_CLICK)

        assert await disabled_channels(sessions, subscribed) == {"email": DisabledReason.UNSUBSCRIBED}

    async def test_what_was_disabled_before_keeps_its_reason(
        self, nobody: httpx.AsyncClient, sessions: Sessions, subscribed: User, cipher: Cipher
    ):
        async with sessions.begin() as session:
            await session.execute(
                update(ContactPoint)
                .where(ContactPoint.user_id == subscribed.id, ContactPoint.channel == "email")
                .values(disabled_at=subscribed.created_at, disabled_reason=DisabledReason.GONE)
            )

        await nobody.post(path_for(subscribed, cipher, "scenario.created"), data=ONE_CLICK)

        assert await disabled_channels(sessions, subscribed) == {"email": DisabledReason.GONE}


class TestPage:
    async def test_opening_the_link_changes_nothing_and_offers_a_button(
        self, nobody: httpx.AsyncClient, sessions: Sessions, subscribed: User, cipher: Cipher
    ):
        response = await nobody.get(path_for(subscribed, cipher))

        assert (response.status_code, response.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert '<form method="post">' in response.text
        assert "<button>Unsubscribe</button>" in response.text
        assert "scenario.executed" in response.text
        assert await channels_of(sessions, subscribed) == ["in_app", "email", "webhook"]
        assert await disabled_channels(sessions, subscribed) == {}

    @pytest.mark.parametrize(
        ("accepted", "language"),
        [
            ("de", "de"),
            ("de-AT,de;q=0.9,en;q=0.5", "de"),
            ("en-GB,de;q=0.9", "en"),
            ("fr,de;q=0.5,en;q=0.8", "en"),
            ("fr", "en"),
            ("de;q=0", "en"),
            ("de;q=nonsense", "en"),
            ("page", "en"),
            ("*", "en"),
            ("", "en"),
        ],
    )
    async def test_it_is_in_the_language_that_the_browser_likes_best(
        self, nobody: httpx.AsyncClient, subscribed: User, cipher: Cipher, accepted: str, language: str
    ):
        response = await nobody.get(path_for(subscribed, cipher), headers={"Accept-Language": accepted})

        assert f'<html lang="{language}">' in response.text
        assert ("Abbestellen" in response.text) == (language == "de")

    @pytest.mark.parametrize("language", ["en", "de"])
    async def test_afterwards_it_says_what_has_ended(
        self, nobody: httpx.AsyncClient, subscribed: User, cipher: Cipher, language: str
    ):
        headers = {"Accept-Language": language}

        of_type = await nobody.post(path_for(subscribed, cipher), headers=headers)
        of_channel = await nobody.post(path_for(subscribed, cipher, "scenario.created"), headers=headers)

        assert "scenario.executed" in of_type.text
        assert "scenario.created" not in of_channel.text
        assert all("<form" not in page.text for page in (of_type, of_channel))

    async def test_it_can_run_and_load_and_tell_nothing(
        self, nobody: httpx.AsyncClient, subscribed: User, cipher: Cipher
    ):
        response = await nobody.get(path_for(subscribed, cipher))

        policy = response.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        assert "form-action 'self'; frame-ancestors 'none'; base-uri 'none'" in policy
        assert response.headers["referrer-policy"] == "no-referrer"
        assert response.headers["cache-control"] == "no-store"
        assert not re.search(r"<script|\son\w+=|https?://|style=", response.text)

    async def test_what_the_link_says_is_escaped(self, nobody: httpx.AsyncClient, subscribed: User, cipher: Cipher):
        response = await nobody.get(path_for(subscribed, cipher, "<script>alert(1)</script>"))

        assert "<script" not in response.text
        assert "&lt;script&gt;" in response.text


class TestLink:
    @pytest.mark.parametrize("method", ["GET", "POST"])
    async def test_one_that_is_not_ours_is_not_found(
        self, nobody: httpx.AsyncClient, subscribed: User, cipher: Cipher, method: str
    ):
        ours = path_for(subscribed, cipher)
        address = cipher.encrypt(subscribed.tenant_id, "alice@example.com")
        for path in (f"{PATH}nonsense", f"{PATH}{address}", ours[:-1], f"{ours[:-2]}AA", f"{PATH}%F0%9F%92%A9"):
            response = await nobody.request(method, path)

            assert (response.status_code, response.json()["code"]) == (404, "unsubscribe_link_not_found")

    async def test_one_that_names_a_user_of_another_tenant_changes_nothing(
        self,
        nobody: httpx.AsyncClient,
        sessions: Sessions,
        subscribed: User,
        tenants: dict[str, Tenant],
        cipher: Cipher,
    ):
        wish = Unsubscription(
            tenant_id=tenants["other"].id, user_id=subscribed.id, event_type="scenario.executed", channel="email"
        )

        response = await nobody.post(wish.to_url(PublicSettings(public_url="http://api"), cipher))

        assert response.status_code == 200
        assert await channels_of(sessions, subscribed) == ["in_app", "email", "webhook"]
        assert await disabled_channels(sessions, subscribed) == {}

    @pytest.mark.parametrize("method", ["GET", "POST"])
    async def test_it_is_not_in_the_log(self, nobody: httpx.AsyncClient, subscribed: User, cipher: Cipher, method: str):
        path = path_for(subscribed, cipher)

        with capture_logs() as logs:
            await nobody.request(method, path)

        [entry] = [entry for entry in logs if entry["event"] == "request.handled"]
        assert entry["path"] == f"{PATH}…"
        assert path.removeprefix(PATH) not in repr(logs)
