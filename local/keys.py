"""`notify keys`: the API keys of programs."""

import getpass
import os
import sys
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

from cyclopts import App, Parameter
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from api.profile import MAX_NAME_LENGTH, parse_line
from api.scopes import Scope
from local.database import CommandFailed, LocalDirectory, get_tenant, open_database, print_table
from shared.clock import utc_now
from shared.models import ApiKey, ApiKeyAction, ApiKeyAuditEntry, Tenant
from shared.models.api_key import SCHEME, parse_prefix

LONGEST = timedelta(days=10 * 365)

keys = App(name="keys", help="The API keys of programs: made, shown once, listed with their history, revoked.")

Actor = Annotated[
    str | None, Parameter(name="--by", help="Who does this, for the audit; you, by your login name, when left out.")
]


@keys.command
async def create(  # noqa: PLR0913 - the options of a command
    *,
    tenant: Annotated[str, Parameter(help="Slug of the tenant whose key it is.")],
    name: Annotated[str, Parameter(help="What the key is for.")],
    scope: Annotated[
        list[str], Parameter(help=f"What it may do; may be repeated. There are: {', '.join(Scope)}.", negative=())
    ],
    expires_in: Annotated[
        timedelta | None, Parameter(help="How long it works, such as 90d or 12h; left out: ever.")
    ] = None,
    by: Actor = None,
    directory: LocalDirectory = None,
) -> None:
    """Create a key and print it. This is the only time it is shown: only a digest of it is stored."""
    unknown = sorted(set(scope) - set(Scope))
    if unknown:
        message = f"There is no scope {', '.join(unknown)}. There are: {', '.join(Scope)}."
        raise CommandFailed(message)
    if expires_in is not None and not timedelta(0) < expires_in <= LONGEST:
        message = "--expires-in should be more than nothing and at most ten years, such as 90d."
        raise CommandFailed(message)
    now = utc_now()
    async with open_database(directory) as session:
        owner = await get_tenant(session, tenant)
        key, text = ApiKey.create(
            owner.id,
            _line("--name", name),
            scopes=scope,
            expires_at=now + expires_in if expires_in else None,
            actor=_actor(by),
            at=now,
        )
        session.add(key)
    # The key alone goes to standard output, so that a script can take it from there.
    print(text)
    until = f"until {_show(key.expires_at)}" if key.expires_at else "until it is revoked"
    sys.stderr.write(
        f"Keep it now: it is not shown again. It works {until}, for tenant {tenant}, with {', '.join(key.scopes)}.\n"
        f"To end it: notify keys revoke {SCHEME}{key.prefix}\n"
    )


@keys.command(name="list")
async def list_keys(
    *,
    tenant: Annotated[str | None, Parameter(help="Slug of a tenant; left out: of all.")] = None,
    directory: LocalDirectory = None,
) -> None:
    """List the keys with what became of them, newest first. The keys themselves are not stored anywhere."""
    query = select(ApiKey, Tenant.slug).join(Tenant, Tenant.id == ApiKey.tenant_id).order_by(ApiKey.id.desc())
    async with open_database(directory) as session:
        if tenant is not None:
            query = query.where(ApiKey.tenant_id == (await get_tenant(session, tenant)).id)
        rows = (await session.execute(query)).all()
        audit = await _read_audit(session, [key.id for key, _ in rows])
    if not rows:
        print("There are no keys yet: `notify keys create` makes one.")
        return
    now = utc_now()
    print_table([_describe(key, slug, audit, now) for key, slug in rows])


@keys.command
async def revoke(
    key: Annotated[str, Parameter(help="Its prefix (nsk_… as listed), its id, or the complete key.")],
    *,
    by: Actor = None,
    directory: LocalDirectory = None,
) -> None:
    """End a key for good. Within a minute no api process accepts it any more. Safe to repeat."""
    async with open_database(directory) as session:
        row = await _claim_key(session, key)
        was_revoked = row.revoked_at is not None
        row.revoke(actor=_actor(by), at=utc_now())
        ended_at = row.revoked_at
    print(f"{SCHEME}{row.prefix} ({row.name}) {'was revoked already,' if was_revoked else 'revoked'} {_show(ended_at)}")


async def _claim_key(session: AsyncSession, given: str) -> ApiKey:
    """Return the key that somebody means, locked: of two who revoke it, one is second and sees that."""
    query = select(ApiKey).with_for_update()
    try:
        query = query.where(ApiKey.id == UUID(given))
    except ValueError:
        prefix = given.removeprefix(SCHEME)
        with suppress(ValueError):
            prefix = parse_prefix(given)
        query = query.where(ApiKey.prefix == prefix)
    row = await session.scalar(query)
    if row is None:
        # What was given is not repeated: it may be a whole key, mistyped.
        message = "There is no such key: `notify keys list` shows prefixes and ids."
        raise CommandFailed(message)
    return row


async def _read_audit(session: AsyncSession, key_ids: list[UUID]) -> dict[tuple[UUID, ApiKeyAction], ApiKeyAuditEntry]:
    entries = await session.scalars(select(ApiKeyAuditEntry).where(ApiKeyAuditEntry.api_key_id.in_(key_ids)))
    return {(entry.api_key_id, entry.action): entry for entry in entries}


def _describe(
    key: ApiKey, tenant: str, audit: dict[tuple[UUID, ApiKeyAction], ApiKeyAuditEntry], now: datetime
) -> dict[str, str]:
    """Return the columns of one key."""

    def who_and_when(action: ApiKeyAction) -> str:
        entry = audit.get((key.id, action))
        return f"{_show(entry.occurred_at)} by {entry.actor}" if entry else ""

    expired = key.is_expired(now)
    return {
        "KEY": f"{SCHEME}{key.prefix}",
        "TENANT": tenant,
        "NAME": key.name,
        "SCOPES": ",".join(key.scopes),
        "STATE": "revoked" if key.revoked_at else "expired" if expired else "active",
        "CREATED": who_and_when(ApiKeyAction.CREATED),
        "LAST USED": _show(key.last_used_at),
        "EXPIRES": _show(key.expires_at),
        "REVOKED": who_and_when(ApiKeyAction.REVOKED),
        "ID": str(key.id),
    }


def _show(instant: datetime | None) -> str:
    return f"{instant:%Y-%m-%d %H:%MZ}" if instant else "never"


def _actor(given: str | None) -> str:
    """Return who is doing this: as given, or the operating system's name for whoever runs the command."""
    if given is not None:
        return _line("--by", given)
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # In containers a user often has a number only.
        return f"uid {os.getuid()}"


def _line(option: str, value: str) -> str:
    try:
        return parse_line(value, max_length=MAX_NAME_LENGTH).strip()
    except ValueError as error:
        message = f"{option} {error} of at most {MAX_NAME_LENGTH} characters."
        raise CommandFailed(message) from error
