"""The api as its callers see it: a running application, and a client for each of three people."""

from collections.abc import AsyncIterator
from functools import partial

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from api.cors import CorsSettings
from api.rate_limiter import RateLimitSettings
from api.relay import RelaySettings
from api.revalidation import PollSettings
from api.scopes import Scope
from api.settings import ApiSettings, Settings
from shared.channels import load_channel_settings
from shared.models import Tenant, User
from shared.queue.memory import MemoryQueue
from shared.settings import DatabaseSettings, ExpirySettings, LogSettings, QueueSettings
from shared.unsubscribe import PublicSettings
from tests.factories import (
    NOON,
    make_api_key,
    make_event,
    make_execution,
    make_notification,
    make_scenario,
    make_subscription,
    make_tenant,
    make_user,
)
from tests.fakes.channel import FakeChannel
from tests.integration.api.clients import (
    ENCRYPTION_SETTINGS,
    JWT_SETTINGS,
    OpenClient,
    client_of,
    make_channels,
    running_app,
    token_for,
)


@pytest.fixture
def queue() -> MemoryQueue:
    return MemoryQueue()


@pytest.fixture
def settings(api_database_url: str) -> Settings:
    return Settings(
        api=ApiSettings(),
        jwt=JWT_SETTINGS,
        database=DatabaseSettings.model_validate({"url": api_database_url}),
        queue=QueueSettings(),
        relay=RelaySettings(),
        # No test but those of the limits should meet them.
        rate_limit=RateLimitSettings.model_validate({"reads": 1_000_000, "writes": 1_000_000}),
        poll=PollSettings(),
        cors=CorsSettings(),
        channels=load_channel_settings(),
        encryption=ENCRYPTION_SETTINGS,
        public=PublicSettings(),
        expiry=ExpirySettings(),
        log=LogSettings(),
    )


@pytest.fixture
def channels() -> dict[str, FakeChannel]:
    """All channels are on offer; each takes every message, and sends it nowhere."""
    return make_channels()


@pytest.fixture
async def app(settings: Settings, queue: MemoryQueue, channels: dict[str, FakeChannel]) -> AsyncIterator[FastAPI]:
    async with running_app(settings, queue, channels) as app:
        yield app


@pytest.fixture
async def tenants(sessions: async_sessionmaker[AsyncSession]) -> dict[str, Tenant]:
    async with sessions.begin() as session:
        return {slug: await make_tenant(session, slug) for slug in ("demo", "other")}


@pytest.fixture
async def users(sessions: async_sessionmaker[AsyncSession], tenants: dict[str, Tenant]) -> dict[str, User]:
    """Alice and bob share a tenant; mallory belongs to another one.

    A third tenant has people of the same names with rows in every table: whoever lists, counts or changes too much
    meets them.
    """
    async with sessions.begin() as session:
        await add_neighbours(session)
        return {
            name: await make_user(session, tenants[slug], name)
            for name, slug in (("alice", "demo"), ("bob", "demo"), ("mallory", "other"))
        }


async def add_neighbours(session: AsyncSession) -> None:
    tenant = await make_tenant(session, "neighbours")
    namesakes = [await make_user(session, tenant, name) for name in ("alice", "bob", "mallory")]
    scenario = await make_scenario(session, namesakes[0])
    await make_execution(session, scenario, namesakes[0])
    event = await make_event(session, scenario, namesakes[0], published_at=NOON, fanned_out_at=NOON)
    for namesake in namesakes:
        await make_subscription(session, namesake, event_type="scenario.executed")
        await make_subscription(session, namesake, scenario_id=scenario.id)
        await make_notification(session, namesake, event)


@pytest.fixture
def open_client(app: FastAPI) -> OpenClient:
    return partial(client_of, app)


@pytest.fixture
async def alice(app: FastAPI, users: dict[str, User]) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app, token_for(users["alice"].external_id)) as client:
        yield client


@pytest.fixture
async def bob(app: FastAPI, users: dict[str, User]) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app, token_for(users["bob"].external_id)) as client:
        yield client


@pytest.fixture
async def mallory(app: FastAPI, users: dict[str, User]) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app, token_for(users["mallory"].external_id, "other")) as client:
        yield client


@pytest.fixture
async def nobody(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a token."""
    async with client_of(app) as client:
        yield client


@pytest.fixture
async def api_keys(sessions: async_sessionmaker[AsyncSession], tenants: dict[str, Tenant]) -> dict[str, str]:
    """A key with every scope for each tenant, by the tenant's slug."""
    async with sessions.begin() as session:
        return {slug: (await make_api_key(session, tenant, *Scope))[1] for slug, tenant in tenants.items()}


@pytest.fixture
async def program(app: FastAPI, api_keys: dict[str, str]) -> AsyncIterator[httpx.AsyncClient]:
    """A program of alice's tenant that may do everything a program can."""
    async with client_of(app, api_keys["demo"]) as client:
        yield client
