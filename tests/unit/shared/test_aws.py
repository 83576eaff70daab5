import asyncio
from datetime import timedelta

import pytest

from shared.aws import aws_call
from shared.channel import OutcomeUnknown, TemporaryFailure

SOON = timedelta(milliseconds=10)


class TestDeadline:
    async def test_a_call_without_an_answer_has_an_unknown_outcome(self):
        with pytest.raises(OutcomeUnknown):
            async with aws_call(asyncio.Semaphore(1), timeout=SOON, secret="bob@example.com"):
                await asyncio.Event().wait()

    async def test_a_message_that_waits_for_a_connection_has_not_been_sent(self):
        with pytest.raises(TemporaryFailure, match="busy"):
            async with aws_call(asyncio.Semaphore(0), timeout=SOON, secret="bob@example.com"):
                pytest.fail("There was no connection.")

    async def test_a_call_that_ended_makes_room_for_the_next(self):
        slots = asyncio.Semaphore(1)
        with pytest.raises(OutcomeUnknown):
            async with aws_call(slots, timeout=SOON, secret=""):
                await asyncio.Event().wait()

        async with aws_call(slots, timeout=timedelta(seconds=30), secret=""):
            pass
