"""Logins for api and worker: members of the roles that hold their rights."""

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

# PostgreSQL's own defaults (scram-common.h).
SCRAM_ITERATIONS = 4096
SCRAM_SALT_BYTES = 16


class LoginSettings(BaseSettings):
    """Passwords for the logins that `notify roles grant` makes; without one a login stays as it is."""

    api_database_password: SecretStr | None = Field(default=None, description="Password of the api's database login.")
    worker_database_password: SecretStr | None = Field(
        default=None, description="Password of the worker's database login."
    )


@dataclass(frozen=True, slots=True)
class Login:
    """Somebody who may connect, and the role whose rights they are given."""

    name: str
    role: str
    password: SecretStr | None = None


async def grant_roles(engine: AsyncEngine, *logins: Login) -> list[Login]:
    """Make each login a member of its role and return those that had to be created. Safe to repeat.

    The engine's own login has to be allowed to create roles, or be an administrator of these.
    """
    quote = engine.dialect.identifier_preparer.quote_identifier
    created: list[Login] = []
    async with engine.begin() as connection:
        for login in logins:
            known = text("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = :name)")
            if not await connection.scalar(known, {"name": login.name}):
                await connection.exec_driver_sql(f"CREATE ROLE {quote(login.name)} LOGIN")
                created.append(login)
            if login.password is not None:
                # Hashed here, so that the password itself appears in no log of the server.
                verifier = scram_verifier(login.password.get_secret_value())
                await connection.exec_driver_sql(f"ALTER ROLE {quote(login.name)} PASSWORD '{verifier}'")
            member = text("SELECT pg_has_role(:name, :role, 'USAGE')")
            if not await connection.scalar(member, {"name": login.name, "role": login.role}):
                await connection.exec_driver_sql(f"GRANT {quote(login.role)} TO {quote(login.name)}")
    return created


def scram_verifier(password: str) -> str:
    """Return what PostgreSQL stores for a password (RFC 5802), as its own clients send it."""
    salt = secrets.token_bytes(SCRAM_SALT_BYTES)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, SCRAM_ITERATIONS)
    client_key, server_key = (hmac.digest(salted, name, "sha256") for name in (b"Client Key", b"Server Key"))
    stored_key = hashlib.sha256(client_key).digest()
    salt_, stored, server = (base64.b64encode(part).decode() for part in (salt, stored_key, server_key))
    return f"SCRAM-SHA-256${SCRAM_ITERATIONS}:{salt_}${stored}:{server}"
