"""`notify secrets`: the keys of what the database holds encrypted."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from uuid import UUID

from cyclopts import App
from sqlalchemy import select, text, tuple_

from local.database import CommandFailed, LocalDirectory, open_database
from shared.encryption import CannotDecrypt, Cipher, EncryptionSettings, build_cipher, make_key
from shared.models import ContactPoint
from shared.settings import load_settings

BATCH_SIZE = 500

secrets = App(name="secrets", help="The keys of addresses and signing secrets in the database (ENCRYPTION_KEYS).")

# Not by the model, which would set `updated_at`: an operator may not, and nothing was changed for its owner.
_REPLACE = text("""
    UPDATE contact_points
       SET encrypted_address = :encrypted_address, encrypted_secrets = :encrypted_secrets
     WHERE tenant_id = :tenant_id AND id = :id
""")

_Key: TypeAlias = tuple[UUID, UUID]


@dataclass(frozen=True, slots=True)
class _Batch:
    """What became of some contact points."""

    last: _Key
    row_count: int
    changed_count: int
    unreadable: list[UUID]


@secrets.command
def create() -> None:
    """Print a new key. Put it first in ENCRYPTION_KEYS of api and worker, then run `notify secrets rotate`."""
    print(make_key())


@secrets.command
async def rotate(*, directory: LocalDirectory = None) -> None:
    """Encrypt everything with the newest of ENCRYPTION_KEYS; after that the older ones can go.

    Works in small batches beside api and worker. Safe to repeat, and to interrupt: what is done stays done.
    """
    cipher = build_cipher(load_settings(EncryptionSettings))
    row_count = changed_count = 0
    unreadable: list[UUID] = []
    async for batch in _rotate_all(directory, cipher):
        row_count += batch.row_count
        changed_count += batch.changed_count
        unreadable += batch.unreadable
        print(f"{row_count} contact points read, {changed_count} encrypted anew")
    if unreadable:
        message = (
            f"None of ENCRYPTION_KEYS opens {len(unreadable)} of {row_count} contact points, such as {unreadable[0]}. "
            "Add the key that they were encrypted with, and repeat; without it their owners have to enter their "
            "addresses again."
        )
        raise CommandFailed(message)
    print(f"All {row_count} contact points are encrypted with the newest key: the older ones can go.")


async def _rotate_all(directory: Path | None, cipher: Cipher) -> AsyncIterator[_Batch]:
    last: _Key | None = None
    while batch := await _rotate_batch(directory, cipher, after=last):
        yield batch
        last = batch.last


async def _rotate_batch(directory: Path | None, cipher: Cipher, *, after: _Key | None) -> _Batch | None:
    """Encrypt the next contact points anew, in a transaction of their own; return None after the last ones."""
    columns = (
        ContactPoint.tenant_id,
        ContactPoint.id,
        ContactPoint.encrypted_address,
        ContactPoint.encrypted_secrets,
    )
    # Locked: an address that is entered meanwhile must not be replaced by the one before.
    query = select(*columns).order_by(ContactPoint.tenant_id, ContactPoint.id).limit(BATCH_SIZE)
    if after is not None:
        query = query.where(tuple_(ContactPoint.tenant_id, ContactPoint.id) > tuple_(*after))
    changed_count = 0
    unreadable: list[UUID] = []
    async with open_database(directory) as session:
        rows = (await session.execute(query.with_for_update(key_share=True))).all()
        for tenant_id, point_id, address, signing_secrets in rows:
            try:
                new = {
                    "encrypted_address": cipher.reencrypt(address),
                    "encrypted_secrets": cipher.reencrypt(signing_secrets) if signing_secrets else None,
                }
            except CannotDecrypt:
                unreadable.append(point_id)
                continue
            if new != {"encrypted_address": address, "encrypted_secrets": signing_secrets}:
                changed_count += 1
                await session.execute(_REPLACE, {"tenant_id": tenant_id, "id": point_id, **new})
    if not rows:
        return None
    return _Batch((rows[-1].tenant_id, rows[-1].id), len(rows), changed_count, unreadable)
