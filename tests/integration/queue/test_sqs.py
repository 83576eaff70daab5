"""The SQS adapter on a server that speaks its protocol, and on endpoints that misbehave."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from itertools import chain, combinations
from time import monotonic
from typing import Any, cast

import pytest

from shared.queue.ports import OutgoingMessage, QueueMisconfigured, QueueUnavailable, ReceivedMessage
from shared.queue.sqs import QueueChange, SqsConfig, SqsQueue, create_queues, open_client, open_sqs
from shared.queue.sqs.setup import find_differences
from tests.fixtures.sqs import take_dead_letters

NOW = timedelta(0)
WAIT = timedelta(seconds=5)
MESSAGES = [OutgoingMessage(id=letter, body=letter) for letter in "abcd"]
SUBSETS = list(chain.from_iterable(combinations("abcd", size) for size in range(5)))


class SelectiveClient:
    """A client whose batch calls fail for chosen entries only, as SQS's may; all else goes through.

    Entries are chosen by the body they send, or by the receipt they settle.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self.failing: frozenset[str] = frozenset()
        self.says_so = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def send_message_batch(self, **request: Any) -> Any:
        return await self._call(self._client.send_message_batch, "MessageBody", request)

    async def delete_message_batch(self, **request: Any) -> Any:
        return await self._call(self._client.delete_message_batch, "ReceiptHandle", request)

    async def change_message_visibility_batch(self, **request: Any) -> Any:
        return await self._call(self._client.change_message_visibility_batch, "ReceiptHandle", request)

    async def _call(self, call: Any, key: str, request: dict[str, Any]) -> Any:
        good = [entry for entry in request["Entries"] if entry[key] not in self.failing]
        bad = [entry for entry in request["Entries"] if entry[key] in self.failing]
        response = await call(**{**request, "Entries": good}) if good else {}
        failed = [{"Id": entry["Id"], "Code": "InternalError", "SenderFault": False} for entry in bad]
        return {"Successful": response.get("Successful", []), "Failed": failed if self.says_so else []}


class BrokenClient:
    """A client that loses the connection on every batch whose entries include a chosen body or receipt."""

    def __init__(self, client: Any, victim: str) -> None:
        self._client = client
        self._victim = victim

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)

        async def call_or_break(**request: Any) -> Any:
            if self._victim in json.dumps(request):
                raise TimeoutError
            return await call(**request)

        return call_or_break


@pytest.fixture
async def selective(sqs_config: SqsConfig) -> AsyncIterator[tuple[SelectiveClient, SqsQueue]]:
    await create_queues(sqs_config)
    async with open_client(sqs_config) as client:
        selective = SelectiveClient(client)
        yield selective, SqsQueue(cast("Any", selective), sqs_config)


@pytest.fixture
async def hanging_endpoint() -> AsyncIterator[str]:
    """A server that accepts connections and says nothing."""
    writers: list[asyncio.StreamWriter] = []

    async def say_nothing(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)

    async with await asyncio.start_server(say_nothing, "127.0.0.1") as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for writer in writers:
            writer.close()


@pytest.fixture
async def closed_endpoint() -> str:
    """An address where nobody listens."""
    async with await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1") as server:
        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.fixture
async def answering_endpoint(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """A server that gives every request the same answer: the status and body of the parameter."""
    status, body = request.param

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            f"HTTP/1.1 {status} X\r\nContent-Type: application/x-amz-json-1.0\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()
        )
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1") as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def attributes_of(config: SqsConfig, name: str) -> dict[str, str]:
    async with open_client(config) as client:
        url = (await client.get_queue_url(QueueName=name))["QueueUrl"]
        response = await client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
        return cast("dict[str, str]", response["Attributes"])


async def set_attributes(config: SqsConfig, name: str, **attributes: str) -> None:
    async with open_client(config) as client:
        url = (await client.get_queue_url(QueueName=name))["QueueUrl"]
        await client.set_queue_attributes(QueueUrl=url, Attributes=cast("Any", attributes))


async def send_and_receive(queue: SqsQueue, *bodies: str) -> list[ReceivedMessage]:
    assert await queue.send([OutgoingMessage(id=body, body=body) for body in bodies]) == []
    received: list[ReceivedMessage] = []
    while len(received) < len(bodies):
        received += await queue.receive(max_messages=10, wait=WAIT)
    return received


class TestCreateQueues:
    async def test_both_queues_are_created_as_configured(self, sqs_config: SqsConfig):
        changes = await create_queues(sqs_config)

        assert changes == [
            QueueChange(sqs_config.dead_letter_queue_name, "created"),
            QueueChange(sqs_config.queue_name, "created"),
        ]
        dead_letters = await attributes_of(sqs_config, sqs_config.dead_letter_queue_name)
        attributes = await attributes_of(sqs_config, sqs_config.queue_name)
        assert dead_letters["MessageRetentionPeriod"] == "1209600"
        assert attributes["MessageRetentionPeriod"] == "345600"
        assert attributes["VisibilityTimeout"] == "30"
        assert attributes["ReceiveMessageWaitTimeSeconds"] == "20"
        assert json.loads(attributes["RedrivePolicy"]) == {
            "deadLetterTargetArn": dead_letters["QueueArn"],
            "maxReceiveCount": 10,
        }

    async def test_a_second_time_changes_nothing(self, sqs_config: SqsConfig):
        await create_queues(sqs_config)

        changes = await create_queues(sqs_config)

        assert [change.change for change in changes] == ["unchanged", "unchanged"]

    async def test_messages_survive(self, sqs_config: SqsConfig, sqs_queue: SqsQueue):
        await sqs_queue.send([OutgoingMessage("1", "hello")])

        await create_queues(replace(sqs_config, visibility_timeout=timedelta(seconds=90)))

        assert (await sqs_queue.depth()).visible == 1

    async def test_attributes_that_drifted_are_repaired_and_named(self, sqs_config: SqsConfig):
        await create_queues(sqs_config)
        await set_attributes(sqs_config, sqs_config.dead_letter_queue_name, MessageRetentionPeriod="3600")
        await set_attributes(sqs_config, sqs_config.queue_name, VisibilityTimeout="7", RedrivePolicy="")

        changes = await create_queues(sqs_config)

        assert changes == [
            QueueChange(sqs_config.dead_letter_queue_name, "changed", ("MessageRetentionPeriod",)),
            QueueChange(sqs_config.queue_name, "changed", ("VisibilityTimeout", "RedrivePolicy")),
        ]
        assert [change.change for change in await create_queues(sqs_config)] == ["unchanged", "unchanged"]

    async def test_several_at_once_agree(self, sqs_config: SqsConfig):
        await asyncio.gather(*(create_queues(sqs_config) for _ in range(4)))

        assert [change.change for change in await create_queues(sqs_config)] == ["unchanged", "unchanged"]

    def test_attributes_that_a_look_alike_does_not_know_are_left_alone(self):
        wanted = {"MessageRetentionPeriod": "60", "VisibilityTimeout": "30", "RedrivePolicy": "{}"}

        assert find_differences({"VisibilityTimeout": "30"}, wanted) == {"RedrivePolicy": "{}"}

    def test_a_redrive_policy_is_compared_by_what_it_says(self):
        current = {"RedrivePolicy": '{"maxReceiveCount":"10", "deadLetterTargetArn":"arn"}'}
        wanted = {"RedrivePolicy": '{"deadLetterTargetArn": "arn", "maxReceiveCount": 10}'}

        assert find_differences(current, wanted) == {}


class TestCheck:
    async def test_missing_queues_are_named_with_the_remedy(self, sqs_config: SqsConfig):
        async with open_sqs(sqs_config) as queue:
            with pytest.raises(QueueMisconfigured, match=r"no queue .*-dead at http.*Run `notify queues create`"):
                await queue.check()

    @pytest.mark.parametrize(
        "drift", [{"VisibilityTimeout": "7"}, {"RedrivePolicy": ""}], ids=["visibility", "redrive policy"]
    )
    async def test_what_the_consumer_cannot_do_without_is_checked(
        self, sqs_config: SqsConfig, sqs_queue: SqsQueue, drift: dict[str, str]
    ):
        await set_attributes(sqs_config, sqs_config.queue_name, **drift)

        with pytest.raises(QueueMisconfigured, match=f"{next(iter(drift))} should be .*Run `notify queues create`"):
            await sqs_queue.check()

    async def test_another_dead_letter_queue_is_found_out(self, sqs_config: SqsConfig):
        await create_queues(replace(sqs_config, dead_letter_queue_name=f"{sqs_config.queue_name}-other"))
        await create_queues(replace(sqs_config, queue_name=f"{sqs_config.queue_name}-other"))

        async with open_sqs(sqs_config) as queue:
            with pytest.raises(QueueMisconfigured, match="RedrivePolicy"):
                await queue.check()

    async def test_what_nothing_depends_on_is_left_to_the_operator(self, sqs_config: SqsConfig, sqs_queue: SqsQueue):
        await set_attributes(sqs_config, sqs_config.queue_name, MessageRetentionPeriod="3600")

        await sqs_queue.check()


class TestFailedEntries:
    @pytest.mark.parametrize("says_so", [True, False], ids=["listed", "unlisted"])
    async def test_exactly_the_messages_not_taken_are_reported(
        self, selective: tuple[SelectiveClient, SqsQueue], *, says_so: bool
    ):
        client, queue = selective
        client.says_so = says_so
        taken = 0

        for failing in SUBSETS:
            client.failing = frozenset(failing)

            failures = await queue.send(MESSAGES)

            taken += len(MESSAGES) - len(failing)
            assert [failure.id for failure in failures] == list(failing)
            assert not any(failure.sender_fault for failure in failures)
            assert {failure.code for failure in failures} <= {"InternalError" if says_so else "NotConfirmed"}
            assert (await queue.depth()).visible == taken

    async def test_exactly_the_messages_not_settled_are_reported(self, selective: tuple[SelectiveClient, SqsQueue]):
        client, queue = selective
        received = await send_and_receive(queue, *map(str, range(25)))
        kept = [received[3], received[12], received[24]]
        client.failing = frozenset(message.receipt for message in kept)

        assert await queue.extend(received, visibility=WAIT) == kept
        assert await queue.release(kept, after=NOW) == kept
        assert await queue.delete(received) == kept
        assert (await queue.depth()).total == 3

    async def test_a_batch_whose_call_fails_does_not_hide_the_success_of_the_others(self, sqs_config: SqsConfig):
        await create_queues(sqs_config)
        messages = [OutgoingMessage(id=f"id-{number}", body=f"body-{number:02}") for number in range(30)]
        async with open_client(sqs_config) as client:
            queue = SqsQueue(cast("Any", BrokenClient(client, "body-15")), sqs_config)

            failures = await queue.send(messages)

            assert [failure.id for failure in failures] == [f"id-{number}" for number in range(10, 20)]
            assert {failure.code for failure in failures} == {"QueueUnavailable"}
            assert (await queue.depth()).visible == 20

    async def test_one_message_that_spoils_its_batch_is_found(self, sqs_config: SqsConfig, sqs_queue: SqsQueue):
        # Moto, like SQS, refuses the whole batch when the queue's own limit is lower than ours.
        await set_attributes(sqs_config, sqs_config.queue_name, MaximumMessageSize="1024")

        failures = await sqs_queue.send([*MESSAGES, OutgoingMessage("big", "x" * 2000)])

        assert [(failure.id, failure.code, failure.sender_fault) for failure in failures] == [
            ("big", "InvalidParameterValue", True)
        ]
        assert (await sqs_queue.depth()).visible == len(MESSAGES)


class TestDeadLetter:
    async def test_any_reason_and_detail_can_be_told(self, sqs_config: SqsConfig, sqs_queue: SqsQueue):
        [message] = await send_and_receive(sqs_queue, "poison")

        await sqs_queue.dead_letter(message, reason="", detail="\x00 \ud800 " + "é" * 2000)

        [letter] = await take_dead_letters(sqs_config)
        assert letter.reason == "-"
        assert letter.detail is not None
        assert letter.detail.startswith("\ufffd \ufffd é")
        assert 1000 < len(letter.detail.encode()) <= 1024

    async def test_a_message_stays_when_the_dead_letter_queue_does_not_take_it(
        self, sqs_config: SqsConfig, sqs_queue: SqsQueue
    ):
        [message] = await send_and_receive(sqs_queue, "poison")
        elsewhere = replace(sqs_config, dead_letter_queue_name="missing")

        async with open_sqs(elsewhere) as queue:
            with pytest.raises(QueueMisconfigured, match="no queue missing"):
                await queue.dead_letter(message, reason="malformed_envelope", detail="")

        assert (await sqs_queue.depth()).in_flight == 1


class TestUnavailable:
    DEADLINE = timedelta(milliseconds=500)

    async def test_every_call_has_a_deadline(self, sqs_config: SqsConfig, hanging_endpoint: str):
        config = replace(sqs_config, endpoint_url=hanging_endpoint, call_timeout=self.DEADLINE)
        message = ReceivedMessage("id", "body", "receipt", 1, sent_at=cast("Any", None))
        async with open_sqs(config) as queue:
            for call in (
                queue.send(MESSAGES),
                queue.receive(max_messages=10, wait=NOW),
                queue.delete([message]),
                queue.extend([message], visibility=WAIT),
                queue.release([message], after=NOW),
                queue.dead_letter(message, reason="reason", detail="detail"),
                queue.depth(),
                queue.check(),
                create_queues(config),
            ):
                started = monotonic()
                with pytest.raises(QueueUnavailable, match=r"did not answer .* within 0\.5 s"):
                    await call
                assert monotonic() - started < 2

    async def test_a_long_poll_may_take_its_wait_in_addition(self, sqs_config: SqsConfig):
        config = replace(sqs_config, call_timeout=self.DEADLINE)
        await create_queues(sqs_config)

        async with open_sqs(config) as queue:
            assert await queue.receive(max_messages=10, wait=timedelta(seconds=1)) == []

    async def test_an_endpoint_that_is_away_is_unavailable_within_the_deadline(
        self, sqs_config: SqsConfig, closed_endpoint: str
    ):
        config = replace(sqs_config, endpoint_url=closed_endpoint, call_timeout=timedelta(seconds=5))
        started = monotonic()

        async with open_sqs(config) as queue:
            with pytest.raises(QueueUnavailable) as raised:
                await queue.check()

        assert not isinstance(raised.value, QueueMisconfigured)
        assert monotonic() - started < 6

    @pytest.mark.parametrize(
        "answering_endpoint",
        [
            pytest.param((500, "{}"), id="error"),
            pytest.param((503, "<html>Service Unavailable</html>"), id="proxy"),
            pytest.param((200, "<html>Welcome to the hotel</html>"), id="not SQS"),
            pytest.param((400, '{"__type": "com.amazonaws.sqs#RequestThrottled", "message": "slow"}'), id="throttled"),
        ],
        indirect=True,
    )
    async def test_trouble_that_passes_is_unavailable(self, sqs_config: SqsConfig, answering_endpoint: str):
        async with open_sqs(replace(sqs_config, endpoint_url=answering_endpoint)) as queue:
            with pytest.raises(QueueUnavailable) as raised:
                await queue.depth()

        assert not isinstance(raised.value, QueueMisconfigured)

    @pytest.mark.parametrize(
        "answering_endpoint",
        [pytest.param((400, '{"__type": "com.amazonaws.sqs#AccessDenied", "message": "not you"}'), id="denied")],
        indirect=True,
    )
    async def test_a_refusal_that_stays_is_a_misconfiguration_and_no_fault_of_the_messages(
        self, sqs_config: SqsConfig, answering_endpoint: str
    ):
        async with open_sqs(replace(sqs_config, endpoint_url=answering_endpoint)) as queue:
            with pytest.raises(QueueMisconfigured, match="AccessDenied: not you"):
                await queue.send(MESSAGES)

    async def test_missing_credentials_are_a_misconfiguration(
        self, sqs_config: SqsConfig, monkeypatch: pytest.MonkeyPatch
    ):
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")

        async with open_sqs(replace(sqs_config, access_key_id=None, secret_access_key=None)) as queue:
            with pytest.raises(QueueMisconfigured, match="No AWS credentials"):
                await queue.depth()

    async def test_it_works_again_as_soon_as_the_queue_is_there(self, sqs_config: SqsConfig):
        async with open_sqs(sqs_config) as queue:
            with pytest.raises(QueueUnavailable):
                await queue.send(MESSAGES)

            await create_queues(sqs_config)

            assert await queue.send(MESSAGES) == []


def test_secrets_are_not_shown(sqs_config: SqsConfig):
    assert "secret-value" not in repr(replace(sqs_config, secret_access_key="secret-value"))
