"""A channel in memory that does as it is told."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from typing_extensions import override

from shared.channel import WEBHOOK, Channel, OutboundMessage, Receipt

Answer = Callable[[OutboundMessage], Awaitable[object]]


class FakeChannel(Channel):
    """Takes every message, unless the answer for its address says otherwise."""

    name = WEBHOOK
    provider = "fake"

    def __init__(self, name: str = WEBHOOK, *, repeats_unknown: bool = True) -> None:
        self.name = name
        self.repeats_unknown = repeats_unknown
        self.sent: list[OutboundMessage] = []
        self.answers: dict[str, BaseException | Answer] = {}
        self.answer: BaseException | Answer | None = None
        self.in_hand: list[str] = []
        self.most_in_hand: dict[str, int] = {}
        self.received = asyncio.Event()

    @override
    async def send(self, message: OutboundMessage) -> Receipt:
        self.sent.append(message)
        self.in_hand.append(message.address)
        count = self.in_hand.count(message.address)
        self.most_in_hand[message.address] = max(self.most_in_hand.get(message.address, 0), count)
        self.received.set()
        try:
            answer: Any = self.answers.get(message.address, self.answer)
            if isinstance(answer, BaseException):
                raise answer
            await (asyncio.sleep(0) if answer is None else answer(message))
        finally:
            self.in_hand.remove(message.address)
        return Receipt(provider=self.provider, provider_id=str(message.id))
