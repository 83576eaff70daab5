"""Logins for api and worker, as `notify roles grant` makes them."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from pydantic import SecretStr

from local.postgres import EmbeddedPostgres
from local.roles import Login, grant_roles
from shared import roles
from shared.db import create_engine
from tests.fixtures.database import database_settings

PASSWORD = "it's a 'secret' with ünusual: characters%"


@pytest.fixture
def server(unused_tcp_port: int) -> Iterator[EmbeddedPostgres]:
    """A server of its own, that asks for passwords."""
    with (
        tempfile.TemporaryDirectory(prefix="postgres-") as directory,
        EmbeddedPostgres(Path(directory), durable=False, port=unused_tcp_port) as server,
    ):
        yield server


def notify(server: EmbeddedPostgres, *arguments: str, **environment: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "local.cli", *arguments],
        env={**os.environ, "DATABASE_URL": server.dsn("postgres"), **environment},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


async def test_the_command_makes_logins_that_can_connect_with_their_passwords(
    server: EmbeddedPostgres, unused_tcp_port: int
):
    notify(server, "migrate")

    for outcome in ("created, has", "has"):
        told = notify(
            *(server, "roles", "grant", "--api", "the-api", "--worker", "the-worker"),
            API_DATABASE_PASSWORD=PASSWORD,
            WORKER_DATABASE_PASSWORD=PASSWORD * 2,
        )
        assert told.splitlines() == [
            f"the-api: {outcome} the rights of {roles.API}",
            f"the-worker: {outcome} the rights of {roles.WORKER}",
        ]

    for user, password, role in (("the-api", PASSWORD, roles.API), ("the-worker", PASSWORD * 2, roles.WORKER)):
        connection = await asyncpg.connect(
            host="127.0.0.1", port=unused_tcp_port, user=user, password=password, database="postgres"
        )
        assert await connection.fetchval("SELECT pg_has_role($1, 'USAGE')", role)
        assert await connection.fetchval("SELECT row_security_active('users')")
        await connection.close()


async def test_a_login_that_is_there_keeps_its_password(database_url: str):
    engine = create_engine(database_settings(database_url), application_name="tests")
    stored = "SELECT rolpassword FROM pg_authid WHERE rolname = 'kept'"
    try:
        created = await grant_roles(engine, Login("kept", roles.API, SecretStr("secret")))
        async with engine.connect() as connection:
            before = (await connection.exec_driver_sql(stored)).scalar_one()

        assert await grant_roles(engine, Login("kept", roles.API)) == []

        async with engine.begin() as connection:
            assert (await connection.exec_driver_sql(stored)).scalar_one() == before
            await connection.exec_driver_sql("DROP ROLE kept")
        assert [login.name for login in created] == ["kept"]
        assert before.startswith("SCRAM-SHA-256$4096:")
    finally:
        await engine.dispose()
