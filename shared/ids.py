"""Identifiers: UUIDv7 (RFC 9562), so that ids sort by the time they were made."""

from uuid import UUID

from uuid_utils.compat import uuid7


def new_id() -> UUID:
    """Return a new UUIDv7.

    Made in Python rather than by the database: a row's id is known before its
    insert, and PostgreSQL has `uuidv7()` only from version 18 on.
    """
    return uuid7()
