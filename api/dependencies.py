"""What endpoints ask for in their signatures: a unit of work, the user, an id from the path."""

import re
from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

import structlog
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes
from pydantic import BeforeValidator
from sqlalchemy.exc import SQLAlchemyError

from api.api_keys import ApiKeyVerifier, Program
from api.authentication import TokenVerifier
from api.lifespan import Runtime
from api.outages import is_outage
from api.problems import (
    ApiKeyRequired,
    InsufficientScope,
    Problem,
    ServiceUnavailable,
    Unauthenticated,
    UserTokenRequired,
)
from api.users import service as users
from shared.channels import Channels
from shared.encryption import Cipher
from shared.models import User
from shared.models.api_key import is_api_key
from shared.unit_of_work import UnitOfWork, open_unit_of_work

logger = structlog.get_logger(__name__)

POSSIBLE_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")

bearer = HTTPBearer(
    scheme_name="bearerAuth",
    bearerFormat="JWT",
    description="A person's token: a JWT with `iss`, `aud`, `exp`, `sub` (the user) and `tenant` (its slug or id).",
    auto_error=False,
)
api_key_bearer = HTTPBearer(
    scheme_name="apiKeyAuth",
    bearerFormat="nsk_…",
    description="A program's API key: `Authorization: Bearer nsk_…`. Each operation names the scope that it needs.",
    auto_error=False,
)


def get_runtime(request: Request) -> Runtime:
    """Return what this process opened when it started."""
    runtime: Runtime = request.app.state.runtime
    return runtime


def get_channels(runtime: Annotated[Runtime, Depends(get_runtime)]) -> Channels:
    """Return the channels that this installation offers."""
    return runtime.channels


OfferedChannels = Annotated[Channels, Depends(get_channels)]


def get_cipher(runtime: Annotated[Runtime, Depends(get_runtime)]) -> Cipher:
    """Return what encrypts secrets at rest."""
    return runtime.cipher


CurrentCipher = Annotated[Cipher, Depends(get_cipher)]


def get_verifier(request: Request) -> TokenVerifier:
    """Return what checks tokens."""
    verifier: TokenVerifier = request.app.state.verifier
    return verifier


def get_api_key_verifier(request: Request) -> ApiKeyVerifier:
    """Return what checks API keys."""
    verifier: ApiKeyVerifier = request.app.state.api_key_verifier
    return verifier


async def open_work(runtime: Annotated[Runtime, Depends(get_runtime)]) -> AsyncIterator[UnitOfWork]:
    """Yield the transaction of this request, which commits when the endpoint has returned.

    Raises:
        ServiceUnavailable: The database is away, or too busy to answer in time.
    """
    try:
        async with open_unit_of_work(runtime.sessions, after_events=runtime.relay.wake) as work:
            yield work
    except (SQLAlchemyError, OSError) as error:
        if not is_outage(error):
            raise
        logger.warning("database.unavailable", error=f"{type(error).__name__}: {error}")
        raise ServiceUnavailable from error


# Scope "function": the commit comes before the answer, so that nobody is told of a change that then failed.
Work = Annotated[UnitOfWork, Depends(open_work, scope="function")]


async def identify(
    request: Request,
    verifier: Annotated[TokenVerifier, Depends(get_verifier)],
    api_keys: Annotated[ApiKeyVerifier, Depends(get_api_key_verifier)],
    work: Work,
) -> User | Program:
    """Return who calls: the user whom the token names, created when seen for the first time, or a program.

    Raises:
        Unauthenticated: There is neither token nor key.
        InvalidToken: It is not valid, or its tenant does not exist.
    """
    credentials = await bearer(request)
    if credentials is None:
        raise Unauthenticated
    if is_api_key(credentials.credentials):
        program = await api_keys.verify(work.session, credentials.credentials)
        structlog.contextvars.bind_contextvars(tenant_id=str(program.tenant_id), api_key=program.key_prefix)
        return program
    user = await users.get_user(await verifier.verify(credentials.credentials), work.session)
    structlog.contextvars.bind_contextvars(tenant_id=str(user.tenant_id), user_id=str(user.id))
    return user


Identity = Annotated[User | Program, Depends(identify)]


async def get_current_user(
    _scheme: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)], caller: Identity
) -> User:
    """Return the user who calls.

    Raises:
        UserTokenRequired: It is a program.
    """
    if isinstance(caller, Program):
        raise UserTokenRequired
    return caller


CurrentUser = Annotated[User, Depends(get_current_user)]


async def get_current_program(
    needed: SecurityScopes,
    _scheme: Annotated[HTTPAuthorizationCredentials | None, Depends(api_key_bearer)],
    caller: Identity,
) -> Program:
    """Return the program that calls; a router names the scopes: `Security(..., scopes=[Scope.X])`.

    Raises:
        ApiKeyRequired: It is a person.
        InsufficientScope: Its key does not have a scope that the operation needs.
    """
    if isinstance(caller, User):
        raise ApiKeyRequired
    missing = [scope for scope in needed.scopes if scope not in caller.scopes]
    if missing:
        message = f"This API key lacks the scope {', '.join(missing)}. Scopes are fixed: create another key."
        raise InsufficientScope(message)
    return caller


def id_or(not_found: type[Problem]) -> BeforeValidator:
    """Return what reads an id from the path: one that cannot exist does not exist."""

    def parse(value: str) -> UUID:
        try:
            return UUID(value)
        except ValueError as error:
            raise not_found from error

    return BeforeValidator(parse)


def name_or(not_found: type[Problem]) -> BeforeValidator:
    """Return what reads a name from the path: one that no name can be is not looked up."""

    def parse(value: str) -> str:
        if not POSSIBLE_NAME.fullmatch(value):
            raise not_found
        return value

    return BeforeValidator(parse)
