"""The commands for the keys of what the database holds encrypted: `notify secrets`."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from local import cli, encryption
from shared.db import create_engine, create_sessions
from shared.encryption import Cipher, make_key
from shared.ids import new_id
from shared.models import ContactPoint
from tests.factories import make_contact_point, make_tenant, make_user
from tests.fixtures.database import database_settings

Run = Callable[..., tuple[Any, str]]
Result = TypeVar("Result")

OLD, NEW = make_key(), make_key()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], database_url: str, tmp_path: Path) -> Run:
    """Runs a command with keys and returns its exit status, or what it said at the end, and what it printed."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.chdir(tmp_path)

    def run(command: str, *keys: str) -> tuple[Any, str]:
        monkeypatch.setenv("ENCRYPTION_KEYS", ",".join(keys))
        monkeypatch.setattr(sys, "argv", ["notify", "secrets", command])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code, capsys.readouterr().out

    return run


def in_transaction(url: str, work: Callable[[AsyncSession], Awaitable[Result]]) -> Result:
    async def run() -> Result:
        engine = create_engine(database_settings(url), application_name="tests")
        try:
            async with create_sessions(engine).begin() as session:
                return await work(session)
        finally:
            await engine.dispose()

    return asyncio.run(run())


def add_contact_points(url: str, key: str, count: int = 1) -> None:
    """Add webhooks of people of two tenants, encrypted with the key."""
    cipher = Cipher([key])

    async def add(session: AsyncSession) -> None:
        tenants = [await make_tenant(session, f"{slug}-{key[:4].lower()}") for slug in ("demo", "other")]
        for number in range(count):
            user = await make_user(session, tenants[number % 2], f"user-{number}")
            await make_contact_point(
                session,
                user,
                channel="webhook",
                encrypted_address=cipher.encrypt(user.tenant_id, f"https://example.com/{number}"),
                encrypted_secrets=cipher.encrypt(user.tenant_id, "secret") if number % 2 else None,
            )

    in_transaction(url, add)


def read_contact_points(url: str) -> list[ContactPoint]:
    async def read(session: AsyncSession) -> list[ContactPoint]:
        return list(await session.scalars(select(ContactPoint).order_by(ContactPoint.tenant_id, ContactPoint.id)))

    return in_transaction(url, read)


class TestCreate:
    def test_a_key_is_printed_that_encrypts(self, run: Run):
        status, printed = run("create")

        assert status == 0
        assert Cipher([printed.strip()]).encrypt(new_id(), "a")


class TestRotate:
    def test_afterwards_the_newest_key_alone_opens_everything(
        self, run: Run, database_url: str, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(encryption, "BATCH_SIZE", 2)
        add_contact_points(database_url, OLD, 5)

        status, printed = run("rotate", NEW, OLD)

        assert status == 0
        assert "All 5 contact points are encrypted with the newest key" in printed
        assert len(printed.splitlines()) == 4
        newest = Cipher([NEW])
        points = read_contact_points(database_url)
        opened = [newest.decrypt(point.tenant_id, point.encrypted_address) for point in points]
        assert sorted(opened) == [f"https://example.com/{number}" for number in range(5)]
        secrets = [point.encrypted_secrets for point in points]
        assert secrets.count(None) == 3
        assert all(
            newest.decrypt(point.tenant_id, point.encrypted_secrets) == "secret"
            for point in points
            if point.encrypted_secrets
        )

    def test_repeated_it_changes_nothing(self, run: Run, database_url: str):
        add_contact_points(database_url, OLD, 2)
        run("rotate", NEW, OLD)
        before = [point.encrypted_address for point in read_contact_points(database_url)]

        status, printed = run("rotate", NEW, OLD)

        assert status == 0
        assert "2 contact points read, 0 encrypted anew" in printed
        assert [point.encrypted_address for point in read_contact_points(database_url)] == before

    def test_what_no_key_opens_is_said_and_left_and_the_rest_is_done(self, run: Run, database_url: str):
        add_contact_points(database_url, make_key(), 1)
        add_contact_points(database_url, OLD, 1)

        status, printed = run("rotate", NEW, OLD)

        assert "None of ENCRYPTION_KEYS opens 1 of 2 contact points" in status
        assert "1 encrypted anew" in printed

    def test_without_contact_points_there_is_nothing_to_do(self, run: Run):
        assert "All 0 contact points" in run("rotate", NEW)[1]

    @pytest.mark.parametrize("keys", [[], ["hunter2"], [NEW, "hunter2"]])
    def test_what_is_no_key_is_refused_without_being_shown(self, run: Run, keys: list[str]):
        status, printed = run("rotate", *keys)

        assert "ENCRYPTION_KEYS: " in status
        assert "hunter2" not in status + printed
