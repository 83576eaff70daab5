"""How we talk to SQS: configuration, connection, deadlines, and what its errors mean to us."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Self

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import (
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
)
from botocore.exceptions import ConnectionError as BotocoreConnectionError

from shared.queue.ports import QueueMisconfigured, QueueUnavailable
from shared.settings import QueueSettings

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient

# Batch calls side by side, in one process. Waiting for a free connection would count against a call's deadline, so
# there are more connections than that: the others are for three long polls, the health check and the command line.
MAX_BATCH_CALLS = 8
_CONNECTIONS = 16

# Longer than the longest poll (20 s). Deadlines are ours to keep; this only ends a wait that nothing else ended.
_READ_TIMEOUT = timedelta(seconds=30)

_THROTTLED = frozenset(
    {
        "KmsThrottled",
        "OverLimit",
        "RequestLimitExceeded",
        "RequestThrottled",
        "ServiceUnavailable",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
_NO_SUCH_QUEUE = frozenset({"NonExistentQueue", "QueueDoesNotExist"})


@dataclass(frozen=True, slots=True, kw_only=True)
class SqsConfig:
    """Which queues to use, how they are set up, and how long to wait for SQS.

    Attributes:
        queue_name: Queue of domain events.
        dead_letter_queue_name: Queue of messages that could not be handled.
        endpoint_url: Address of an SQS look-alike; AWS itself when None.
        region: AWS region of the queues.
        visibility_timeout: How long a received message stays hidden.
        max_receive_count: How often SQS lends a message out before it becomes a dead letter by itself. The
            consumer gives up earlier and says why; this is the net below it.
        retention: How long the queue keeps a message nobody deletes.
        dead_letter_retention: The same for dead letters. SQS counts from the first sending, not from the move.
        call_timeout: Total deadline of one call, retries included; a long poll may take its wait in addition.
        access_key_id: Key for a look-alike; when None, AWS's own chain finds one (environment, profile, role).
        secret_access_key: The secret that belongs to it.
    """

    queue_name: str
    dead_letter_queue_name: str
    region: str
    endpoint_url: str | None = None
    visibility_timeout: timedelta = timedelta(seconds=30)
    max_receive_count: int = 10
    retention: timedelta = timedelta(days=4)
    dead_letter_retention: timedelta = timedelta(days=14)
    call_timeout: timedelta = timedelta(seconds=5)
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)

    @classmethod
    def from_settings(cls, settings: QueueSettings) -> Self:
        """Return what the environment asks for, with AWS's own way to find the credentials."""
        return cls(**settings.model_dump())


class RefusedBySqs(QueueMisconfigured):
    """SQS answered that it will not do this, and will not later either.

    Attributes:
        code: AWS's word for it, without its legacy prefix.
        detail: AWS's sentence.
    """

    def __init__(self, operation: str, code: str, detail: str) -> None:
        """Say what was refused, and in SQS's words why."""
        super().__init__(f"SQS refused {operation}: {code}: {detail}")
        self.code = code
        self.detail = detail


@asynccontextmanager
async def open_client(config: SqsConfig) -> "AsyncIterator[SQSClient]":
    """Open a client with a pool of connections; opening does not connect yet."""
    async with get_session().create_client(
        "sqs",
        region_name=config.region,
        endpoint_url=config.endpoint_url,
        aws_access_key_id=config.access_key_id,
        aws_secret_access_key=config.secret_access_key,
        config=AioConfig(
            connect_timeout=config.call_timeout.total_seconds(),
            read_timeout=_READ_TIMEOUT.total_seconds(),
            max_pool_connections=_CONNECTIONS,
            # One try and two more for what passes by itself, within the deadline of the call.
            retries={"mode": "standard", "total_max_attempts": 3},
        ),
    ) as client:
        yield client


@asynccontextmanager
async def sqs_call(operation: str, *, timeout: timedelta) -> AsyncIterator[None]:  # noqa: ASYNC109 - that is its job
    """Make one call to SQS, and read its answer, under a total deadline; raise its errors as ours.

    Botocore's own timeouts are per read and per attempt: an endpoint that drips, or
    retries that add up, would go beyond any of them.

    Raises:
        RefusedBySqs: SQS answered that this cannot be done.
        QueueMisconfigured: There are no credentials to call it with.
        QueueUnavailable: It did not answer in time or as SQS does, is throttling, or has an error of its own.
    """
    try:
        async with asyncio.timeout(timeout.total_seconds()):
            yield
    except TimeoutError as error:
        message = f"SQS did not answer {operation} within {timeout.total_seconds():g} s."
        raise QueueUnavailable(message) from error
    except ClientError as error:
        raise _translate(operation, error) from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        message = f"No AWS credentials for {operation}: {error}"
        raise QueueMisconfigured(message) from error
    except (BotocoreConnectionError, HTTPClientError, CredentialRetrievalError) as error:
        message = f"SQS could not be reached for {operation}: {error}"
        raise QueueUnavailable(message) from error
    except KeyError as error:
        # Botocore takes whatever comes with status 200 for an answer, even the page of some proxy.
        message = f"What answered {operation} is not SQS: it did not say {error}."
        raise QueueUnavailable(message) from error


async def find_queue_url(client: "SQSClient", config: SqsConfig, name: str) -> str | None:
    """Return the URL by which SQS wants the queue to be called, or None if there is no such queue."""
    try:
        async with sqs_call("GetQueueUrl", timeout=config.call_timeout):
            return (await client.get_queue_url(QueueName=name))["QueueUrl"]
    except RefusedBySqs as error:
        if error.code in _NO_SUCH_QUEUE:
            return None
        raise


async def get_queue_url(client: "SQSClient", config: SqsConfig, name: str) -> str:
    """Return the URL of a queue that has to exist.

    Raises:
        QueueMisconfigured: It does not.
    """
    url = await find_queue_url(client, config, name)
    if url is None:
        place = config.endpoint_url or f"AWS region {config.region}"
        message = f"There is no queue {name} at {place}. Run `notify queues create`."
        raise QueueMisconfigured(message)
    return url


def whole_seconds(duration: timedelta) -> int:
    """Return the duration in the unit of SQS, rounded up: hidden a little longer is safe, shorter is not."""
    return math.ceil(duration.total_seconds())


def _translate(operation: str, error: ClientError) -> QueueUnavailable:
    # SQS's older protocol wrote `AWS.SimpleQueueService.NonExistentQueue`, and some codes look like it still.
    code = error.response["Error"].get("Code", "").rpartition(".")[2]
    detail = error.response["Error"].get("Message", "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or code in _THROTTLED:
        return QueueUnavailable(f"SQS cannot do {operation} now: {code}: {detail}")
    return RefusedBySqs(operation, code, detail)
