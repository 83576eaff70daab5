"""The database's shape: bring it to the newest revision, and tell whether it is there."""

from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"


async def migrate(engine: AsyncEngine, revision: str = "head") -> None:
    """Upgrade the database to the given revision; nothing happens if it is there already.

    Safe to call from several processes at once: they wait for each other.
    """

    def upgrade(connection: Connection) -> None:
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)

    async with engine.connect() as connection:
        await connection.run_sync(upgrade)


async def current_revision(engine: AsyncEngine) -> str | None:
    """Return the revision the database is at, None where no migration ever ran."""
    async with engine.connect() as connection:
        # Asked directly: this is looked up every few seconds, and alembic would write two log lines each time.
        if await connection.scalar(text("SELECT to_regclass('alembic_version')")) is None:
            return None
        revision: str | None = await connection.scalar(text("SELECT version_num FROM alembic_version"))
        return revision


@cache
def head_revision() -> str:
    """Return the newest revision this code knows."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if head is None:
        message = f"no migrations in {MIGRATIONS}"
        raise RuntimeError(message)
    return head


def is_behind(revision: str | None) -> bool:
    """Tell whether a database at this revision lacks a migration that this code needs.

    A revision this code does not know comes from newer code: migrations only expand what
    older code uses, so processes that are about to be replaced go on serving.
    """
    return revision is None or (revision in _known_revisions() and revision != head_revision())


@cache
def _known_revisions() -> frozenset[str]:
    return frozenset(script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config
