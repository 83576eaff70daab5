"""The demo data: what is added, and what is left as it is."""

import json
from collections.abc import Iterable
from typing import Any

from cryptography.fernet import Fernet
from sqlalchemy import select, update

from local.demo import add_contact_points, add_demo_data
from shared.encryption import Cipher
from shared.models import ContactPoint, User

CIPHER = Cipher([Fernet.generate_key().decode()])
URL = "http://127.0.0.1:8025"


async def list_points(sessions) -> list[tuple[Any, ...]]:
    async with sessions() as session:
        points: Iterable[tuple[str, ContactPoint]] = await session.execute(
            select(User.external_id, ContactPoint)
            .join(User, User.id == ContactPoint.user_id)
            .order_by(User.external_id, ContactPoint.channel)
        )
        return [
            (
                name,
                point.channel,
                CIPHER.decrypt(point.tenant_id, point.encrypted_address),
                point.verified_at is not None,
            )
            for name, point in points
        ]


class TestContactPoints:
    async def test_people_are_reached_at_the_sinks(self, sessions):
        await add_demo_data(sessions)

        await add_contact_points(sessions, cipher=CIPHER, sinks_url=URL)

        assert await list_points(sessions) == [
            ("bob", "email", "bob@demo.example", True),
            ("bob", "webhook", f"{URL}/hooks/bob", True),
            ("carol", "slack", f"{URL}/services/carol", True),
            ("dave", "sms", "+12025550104", True),
        ]

    async def test_a_webhook_has_a_secret_to_sign_with(self, sessions):
        await add_demo_data(sessions)
        await add_contact_points(sessions, cipher=CIPHER, sinks_url=URL)

        async with sessions() as session:
            point = await session.scalar(select(ContactPoint).where(ContactPoint.channel == "webhook"))

        [secret] = json.loads(CIPHER.decrypt(point.tenant_id, point.encrypted_secrets))
        assert secret["secret"].startswith("whsec_")
        assert secret["expires_at"] is None

    async def test_when_the_sinks_have_moved_so_have_their_addresses(self, sessions):
        await add_demo_data(sessions)
        await add_contact_points(sessions, cipher=CIPHER, sinks_url=URL)

        await add_contact_points(sessions, cipher=CIPHER, sinks_url="http://127.0.0.1:9999")

        points = await list_points(sessions)
        assert [address for _, channel, address, _ in points if channel in {"slack", "webhook"}] == [
            "http://127.0.0.1:9999/hooks/bob",
            "http://127.0.0.1:9999/services/carol",
        ]

    async def test_what_somebody_entered_is_left_as_it_is(self, sessions):
        await add_demo_data(sessions)
        await add_contact_points(sessions, cipher=CIPHER, sinks_url=URL)
        async with sessions.begin() as session:
            await session.execute(
                update(ContactPoint)
                .where(ContactPoint.channel == "webhook")
                .values(masked_address="https://bob.example/…", endpoint="bob's own")
            )

        await add_contact_points(sessions, cipher=CIPHER, sinks_url="http://127.0.0.1:9999")

        async with sessions() as session:
            point = await session.scalar(select(ContactPoint).where(ContactPoint.channel == "webhook"))
        assert point.endpoint == "bob's own"
