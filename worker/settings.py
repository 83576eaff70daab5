"""Settings of the worker; the values come from environment variables."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Self

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.channels import ChannelSettings, load_channel_settings, names_on_offer
from shared.encryption import EncryptionSettings
from shared.settings import DatabaseSettings, Duration, LogSettings, QueueSettings, load_settings
from shared.unsubscribe import PublicSettings
from worker.deliveries.settings import TRANSACTION_TIMEOUT, DeliverySettings
from worker.heartbeat import BEATS_PER_VISIBILITY

# The driver gives up 5 s after the server should have; the rest is for what is no statement, such as closing.
TRANSACTION_GRACE = timedelta(seconds=10)


class ContradictorySettings(ValueError):
    """Each setting is valid, but together they cannot work."""


class WorkerSettings(BaseSettings):
    """How messages are collected, worked through and given up."""

    model_config = SettingsConfigDict(env_prefix="WORKER_")

    batch_size: int = Field(default=30, ge=1, le=30, description="Messages worked on together.")
    poll_wait: Duration = Field(
        default=timedelta(seconds=5),
        ge=timedelta(seconds=1),
        le=timedelta(seconds=20),
        description="How long one call waits for messages; an idle worker takes up to this long to stop.",
    )
    collect_window: Duration = Field(
        default=timedelta(seconds=0.2),
        le=timedelta(seconds=1),
        description="How long the first message waits for others to share its batch.",
    )
    chunk_size: int = Field(
        default=5000, ge=1, le=50_000, description="Users of one event who are told in one transaction."
    )
    grace_period: Duration = Field(
        default=timedelta(seconds=25), description="How long work in hand may take to finish after SIGTERM."
    )
    reconcile_interval: Duration = Field(
        default=timedelta(seconds=15), description="How often to look for events that the queue lost."
    )
    reconcile_after: Duration = Field(
        default=timedelta(seconds=60),
        description="How long after its publication an event without notifications counts as lost; doubles each time.",
    )
    housekeeping_interval: Duration = Field(
        default=timedelta(seconds=30), description="How often to delete what has expired."
    )
    stall_timeout: Duration = Field(
        default=timedelta(seconds=90),
        description="How long a loop may make no progress before the worker is unhealthy.",
    )
    health_file: Path = Field(
        default=Path(tempfile.gettempdir(), "scenario-notifications-worker"),
        description="File that is touched while all is well; one for each worker of a machine. In the temporary "
        "directory when unset.",
    )


class WorkerDatabaseSettings(DatabaseSettings):
    """How to reach PostgreSQL: as everywhere, but a statement that tells thousands of users may take longer."""

    statement_timeout: Duration = Field(
        default=timedelta(seconds=30), description="Longest time one statement may take."
    )

    @property
    def transaction_timeout(self) -> timedelta:
        """How long a transaction of one statement can take at most, its connection included."""
        return self.pool_timeout + self.connect_timeout + self.statement_timeout + TRANSACTION_GRACE


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All that a worker process needs to know."""

    worker: WorkerSettings
    database: WorkerDatabaseSettings
    queue: QueueSettings
    delivery: DeliverySettings
    channels: ChannelSettings
    # None where no channel is on offer: then there is nothing to decrypt.
    encryption: EncryptionSettings | None
    public: PublicSettings
    log: LogSettings

    @classmethod
    def from_environment(cls) -> Self:
        """Read all settings.

        Raises:
            SettingsInvalid: One is missing or invalid.
            ContradictorySettings: They cannot work together.
        """
        channels = load_channel_settings()
        settings = cls(
            worker=load_settings(WorkerSettings),
            database=load_settings(WorkerDatabaseSettings),
            queue=load_settings(QueueSettings),
            delivery=load_settings(DeliverySettings),
            channels=channels,
            encryption=load_settings(EncryptionSettings) if names_on_offer(channels) else None,
            public=load_settings(PublicSettings),
            log=load_settings(LogSettings),
        )
        if contradictions := list(settings.find_contradictions()):
            raise ContradictorySettings("\n".join(contradictions))
        return settings

    def find_contradictions(self) -> Iterator[str]:
        """Yield a sentence for each pair of settings with which messages would be lost, doubled or stuck."""
        worker, database, queue = self.worker, self.database, self.queue
        if queue.call_timeout >= queue.visibility_timeout / BEATS_PER_VISIBILITY:
            yield (
                f"SQS_CALL_TIMEOUT must be less than a third of SQS_VISIBILITY_TIMEOUT ({queue.visibility_timeout}), "
                "or one failed heartbeat would lose the messages in hand to another worker."
            )
        if database.lock_timeout >= database.statement_timeout:
            yield "DATABASE_LOCK_TIMEOUT must be less than DATABASE_STATEMENT_TIMEOUT, or it never applies."
        longest_receive = worker.poll_wait + queue.call_timeout
        if worker.grace_period <= longest_receive:
            yield (
                "WORKER_GRACE_PERIOD must be more than WORKER_POLL_WAIT and SQS_CALL_TIMEOUT together "
                f"({longest_receive}), or a worker could not even finish the receive under way."
            )
        longest_step = max(
            longest_receive + timedelta(seconds=15),
            database.transaction_timeout,
            worker.reconcile_interval,
            worker.housekeeping_interval,
            self.delivery.poll_interval + TRANSACTION_TIMEOUT * 2,
        )
        yield from self._find_contradictions_of_deliveries()
        if worker.stall_timeout <= longest_step:
            yield (
                f"WORKER_STALL_TIMEOUT must be more than {longest_step}, which a step of a healthy worker may take "
                "with the other settings."
            )

    def _find_contradictions_of_deliveries(self) -> Iterator[str]:
        worker, delivery = self.worker, self.delivery
        longest_attempt = delivery.send_timeout + TRANSACTION_TIMEOUT * 2
        if delivery.lease <= longest_attempt:
            yield (
                f"DELIVERY_LEASE must be more than {longest_attempt}, which claiming, sending (DELIVERY_SEND_TIMEOUT) "
                "and recording may take together, or another worker would send the same message."
            )
        if names_on_offer(self.channels) and worker.grace_period <= delivery.send_timeout:
            yield (
                f"WORKER_GRACE_PERIOD must be more than DELIVERY_SEND_TIMEOUT ({delivery.send_timeout}), or a stop "
                "would leave messages with an unknown outcome."
            )
