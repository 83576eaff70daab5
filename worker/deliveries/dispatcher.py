"""Sends deliveries: a lane for each channel on offer."""

import asyncio
from collections.abc import Callable

from sqlalchemy.ext.asyncio import AsyncEngine

from shared.channel import CHANNELS, Channel
from shared.channels import Channels
from shared.encryption import Cipher
from shared.unsubscribe import PublicSettings
from worker.deliveries.composer import Composer
from worker.deliveries.lane import Lane
from worker.deliveries.repository import DeliveryRepository
from worker.deliveries.schedule import retries_of
from worker.deliveries.settings import DeliverySettings
from worker.health import Beat
from worker.stopping import Stop


class Dispatcher:
    """Sends what is due on all channels until it is stopped; several workers may do it at the same time."""

    def __init__(  # noqa: PLR0913 - those with a name of their own cannot be mixed up
        self,
        engine: AsyncEngine,
        channels: Channels,
        cipher: Cipher,
        settings: DeliverySettings,
        *,
        public: PublicSettings,
        stop: Stop,
        watch: Callable[[str], Beat],
    ) -> None:
        """Prepare a dispatcher; `run` makes it work.

        Args:
            engine: The database.
            channels: Those on offer.
            cipher: What addresses and secrets are encrypted with.
            settings: How many at once, and how long.
            public: Where links in messages lead.
            stop: Ends `run`.
            watch: Returns what the loop of a name calls with every sign of progress.
        """
        self._engine = engine
        # The best way to tell a person first.
        self._names = [name for name in CHANNELS if name in channels]
        self._cipher = cipher
        self._settings = settings
        self._public = public
        self._stop = stop
        self._lanes = {name: self._build_lane(channels[name], watch(f"deliveries.{name}")) for name in self._names}

    def wake(self) -> None:
        """Look for deliveries now: there are new ones."""
        for lane in self._lanes.values():
            lane.wake()

    async def run(self) -> None:
        """Send until stopped; then finish what is in hand."""
        async with asyncio.TaskGroup() as lanes:
            for name, lane in self._lanes.items():
                lanes.create_task(lane.run(), name=f"deliveries.{name}")
            await self._stop.wait()
            self.wake()

    def _build_lane(self, channel: Channel, beat: Beat) -> Lane:
        settings = self._settings
        repository = DeliveryRepository(
            self._engine,
            channel.name,
            channels=self._names,
            repeats_unknown=channel.repeats_unknown,
            retry_count=len(retries_of(channel.name)),
            lease=settings.lease,
            expire_after=settings.expire_after,
            disable_after=settings.disable_after,
        )
        return Lane(
            channel,
            repository,
            Composer(channel.name, self._cipher, self._public),
            concurrency=settings.concurrency_of(channel.name),
            endpoint_concurrency=settings.endpoint_concurrency,
            send_timeout=settings.send_timeout,
            poll_interval=settings.poll_interval,
            stop=self._stop,
            beat=beat,
            after_words=self.wake,
        )
