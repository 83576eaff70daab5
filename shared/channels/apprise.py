"""Apprise: the long tail of services (Teams, Discord, ntfy and a hundred more), an optional extra.

Apprise calls whatever host its URL names, by a client of its own that knows no guard. Which of its services may be used
is therefore the operator's word, and none is until that is said.
"""

import asyncio
import importlib
import logging
import re
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import timedelta
from types import ModuleType
from typing import Annotated

from pydantic import BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from typing_extensions import override

from shared.channel import (
    APPRISE,
    Channel,
    OutboundMessage,
    OutcomeUnknown,
    PermanentFailure,
    Receipt,
    TemporaryFailure,
)
from shared.settings import Duration, SettingsInvalid

SCHEMA = re.compile(r"[a-z][a-z0-9+.-]{1,30}")


def _split_schemas(value: object) -> object:
    if not isinstance(value, str):
        return value
    schemas = tuple(schema.strip().lower() for schema in value.split(",") if schema.strip())
    if not all(SCHEMA.fullmatch(schema) for schema in schemas):
        message = "must list schemas without `://`, such as `discord,ntfys`"
        raise ValueError(message)
    return schemas


class AppriseSettings(BaseSettings):
    """Which services of Apprise are on offer."""

    model_config = SettingsConfigDict(env_prefix="APPRISE_")

    schemas: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_schemas)] = Field(
        default=(),
        description="Schemas of Apprise URLs that users may give, such as `discord,ntfys`, between commas; none when "
        "empty. Those whose URLs name a host (`json`, `ntfy`, `mailto` and others) let users reach **internal hosts "
        "too**: the guard of the other channels does not apply. Needs `pip install scenario-notifications[apprise]`.",
    )
    timeout: Duration = Field(default=timedelta(seconds=15), description="Longest time to wait for one message.")
    max_threads: int = Field(
        default=8, ge=1, description="How many messages may be under way; one that hangs keeps its thread."
    )

    @property
    def is_on_offer(self) -> bool:
        """Tell whether users can choose this channel."""
        return bool(self.schemas)


class AppriseChannel(Channel):
    """Sends through Apprise, in threads, of which there are only so many."""

    name = APPRISE
    provider = "apprise"

    def __init__(self, settings: AppriseSettings, apprise: ModuleType, threads: ThreadPoolExecutor) -> None:
        """Take the settings, the library, and as many threads as the settings say."""
        self._schemas = settings.schemas
        self._timeout = settings.timeout.total_seconds()
        self._apprise = apprise
        # Nothing on disk, no waiting and no repeating of its own, and one message after the other in our thread.
        self._asset = apprise.AppriseAsset(
            async_mode=False, http_redirects=False, storage_mode="memory", service_timeout=0, allow_templates=False
        )
        self._threads = threads
        self._free = asyncio.Semaphore(settings.max_threads)

    @override
    async def send(self, message: OutboundMessage) -> Receipt:
        if message.address.partition("://")[0] not in self._schemas:
            detail = "this kind of Apprise URL is not on offer"
            raise PermanentFailure(detail)
        try:
            async with asyncio.timeout(self._timeout):
                await self._free.acquire()
        except TimeoutError:
            detail = "all threads for Apprise are busy"
            raise TemporaryFailure(detail) from None
        work = asyncio.get_running_loop().run_in_executor(self._threads, self._notify, message)
        work.add_done_callback(self._release)
        # A thread cannot be stopped. When the wait is over it goes on, and may yet deliver.
        await asyncio.wait({work}, timeout=self._timeout)
        if not work.done():
            detail = "Apprise did not finish in time"
            raise OutcomeUnknown(detail)
        if not work.result():
            detail = "Apprise could not deliver it"
            raise TemporaryFailure(detail)
        return Receipt(provider=self.provider)

    def _release(self, work: "asyncio.Future[bool]") -> None:
        self._free.release()
        if not work.cancelled():
            # Looked at, for the case that nobody waits for it any more.
            work.exception()

    def _notify(self, message: OutboundMessage) -> bool:
        """Deliver a message and tell whether that worked. Runs in a thread."""
        service = self._apprise.Apprise.instantiate(message.address, asset=self._asset)
        if service is None:
            detail = "Apprise does not understand the URL"
            raise PermanentFailure(detail)
        # Options of the URL that are for us to decide, not for who wrote it.
        service.retry = 0
        service.request_rate_per_sec = 0
        service.socket_connect_timeout = self._timeout / 2
        # Apprise calls silence a failure like any other. Our own wait ends before it can, and calls it by its name.
        service.socket_read_timeout = self._timeout * 2
        service.verify_certificate = True
        service.redirects = False
        if len(service) > 1:
            # It could work for one and not for another, and would be repeated for both.
            detail = "the Apprise URL names more than one recipient"
            raise PermanentFailure(detail)
        sender = self._apprise.Apprise(asset=self._asset)
        sender.add(service)
        return bool(
            sender.notify(
                title=message.content.subject,
                body=message.content.text,
                body_format=self._apprise.NotifyFormat.TEXT,
                interpret_escapes=False,
            )
        )


@asynccontextmanager
async def open_channel(settings: AppriseSettings) -> AsyncIterator[AppriseChannel]:
    """Open the channel, and leave threads that still wait for somebody to themselves at the end.

    Raises:
        SettingsInvalid: Apprise is not installed.
    """
    try:
        apprise = importlib.import_module("apprise")
    except ImportError:
        message = "APPRISE_SCHEMAS needs Apprise: pip install 'scenario-notifications[apprise]'"
        raise SettingsInvalid(message) from None
    # They write addresses, tokens included, into the log. What matters of it is in the outcome.
    for talkative in ("apprise", "urllib3"):
        logging.getLogger(talkative).setLevel(logging.CRITICAL)
    threads = ThreadPoolExecutor(settings.max_threads, thread_name_prefix="apprise")
    try:
        yield AppriseChannel(settings, apprise, threads)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
