"""Creates the queues and says whether they are as they should be."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from shared.queue.ports import QueueMisconfigured
from shared.queue.sqs.client import SqsConfig, find_queue_url, get_queue_url, open_client, sqs_call, whole_seconds

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient

_LONG_POLL_SECONDS = 20
# What the consumer cannot do without: dead letters that arrive, and loans as long as its heartbeat expects.
_ESSENTIAL = ("RedrivePolicy", "VisibilityTimeout")


@dataclass(frozen=True, slots=True)
class QueueChange:
    """What `create_queues` did to one queue.

    Attributes:
        queue_name: The queue.
        change: Whether it was created, changed or left as it was.
        attributes: Names of the attributes that were set on a queue that existed.
    """

    queue_name: str
    change: Literal["created", "changed", "unchanged"]
    attributes: tuple[str, ...] = ()


async def create_queues(config: SqsConfig) -> list[QueueChange]:
    """Bring both queues into the state the configuration asks for; return what it took, dead-letter queue first.

    Safe to repeat and safe on queues in use: nothing is deleted, attributes that
    differ are set, attributes we do not care for stay. AWS may take a minute until
    changed attributes show everywhere.

    Raises:
        QueueMisconfigured: SQS refuses, for want of permissions for example.
        QueueUnavailable: SQS does not answer.
    """
    async with open_client(config) as client:
        dead_letter_queue = await _bring_about(
            client, config, config.dead_letter_queue_name, dead_letter_queue_attributes(config)
        )
        arn = (await _get_attributes(client, config, config.dead_letter_queue_name))["QueueArn"]
        queue = await _bring_about(client, config, config.queue_name, queue_attributes(config, arn))
        return [dead_letter_queue, queue]


async def check_queues(client: "SQSClient", config: SqsConfig) -> None:
    """Return if both queues are as the consumer needs them.

    Attributes on which nothing depends, such as retention, are not compared: an
    operator may have changed them with a reason.

    Raises:
        QueueMisconfigured: They are not; the text says in what, and what to do.
        QueueUnavailable: SQS does not answer.
    """
    arn = (await _get_attributes(client, config, config.dead_letter_queue_name))["QueueArn"]
    current = await _get_attributes(client, config, config.queue_name)
    differing = find_differences(current, queue_attributes(config, arn))
    if wrong := [f"{name} should be {differing[name]}" for name in _ESSENTIAL if name in differing]:
        message = f"Queue {config.queue_name} is set up differently: {', '.join(wrong)}. Run `notify queues create`."
        raise QueueMisconfigured(message)


def queue_attributes(config: SqsConfig, dead_letter_arn: str) -> dict[str, str]:
    """Return the SQS attributes of the queue itself."""
    return {
        "VisibilityTimeout": str(whole_seconds(config.visibility_timeout)),
        "MessageRetentionPeriod": str(whole_seconds(config.retention)),
        "ReceiveMessageWaitTimeSeconds": str(_LONG_POLL_SECONDS),
        "RedrivePolicy": json.dumps(
            {"deadLetterTargetArn": dead_letter_arn, "maxReceiveCount": config.max_receive_count}
        ),
    }


def dead_letter_queue_attributes(config: SqsConfig) -> dict[str, str]:
    """Return the SQS attributes of the dead-letter queue."""
    return {"MessageRetentionPeriod": str(whole_seconds(config.dead_letter_retention))}


def find_differences(current: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str]:
    """Return the wanted attributes whose current value differs.

    A queue without dead letters reports no redrive policy at all, which is a
    difference. Any other attribute that is not reported is one that a look-alike
    of SQS does not know, and setting it would fail or repeat itself for ever.
    """
    return {
        name: value
        for name, value in wanted.items()
        if (name in current or name == "RedrivePolicy") and _comparable(current.get(name)) != _comparable(value)
    }


def _comparable(value: str | None) -> str | dict[str, str] | None:
    """Return a redrive policy as what it says: key order, spaces and quotes around the count mean nothing."""
    if value is None or not value.startswith("{"):
        return value
    return {key: str(item) for key, item in json.loads(value).items()}


async def _bring_about(client: "SQSClient", config: SqsConfig, name: str, wanted: dict[str, str]) -> QueueChange:
    url = await find_queue_url(client, config, name)
    if url is None:
        async with sqs_call("CreateQueue", timeout=config.call_timeout):
            await client.create_queue(QueueName=name, Attributes=cast("Any", wanted))
        return QueueChange(name, "created")
    differing = find_differences(await _get_attributes(client, config, name), wanted)
    if not differing:
        return QueueChange(name, "unchanged")
    async with sqs_call("SetQueueAttributes", timeout=config.call_timeout):
        await client.set_queue_attributes(QueueUrl=url, Attributes=cast("Any", differing))
    return QueueChange(name, "changed", tuple(differing))


async def _get_attributes(client: "SQSClient", config: SqsConfig, name: str) -> Mapping[str, str]:
    url = await get_queue_url(client, config, name)
    async with sqs_call("GetQueueAttributes", timeout=config.call_timeout):
        response = await client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
        return cast("Mapping[str, str]", response["Attributes"])
