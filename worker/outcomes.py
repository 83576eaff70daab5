"""What can become of a message: the closed set of answers that a handler gives and the consumer carries out."""

from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Completed:
    """The work is done and committed: the message can go."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A part of the work is done and committed: hand the message over again for the next, alone or with others."""


@dataclass(frozen=True, slots=True)
class RetryLater:
    """Nothing is wrong with the message, but this is not its moment: it comes back after the delay."""

    delay: timedelta


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """The message cannot be handled, now or later.

    Attributes:
        reason: A word for machines.
        detail: A sentence for people.
    """

    reason: str
    detail: str


Outcome: TypeAlias = Completed | Unfinished | RetryLater | DeadLetter


class DependencyUnavailable(Exception):
    """What a handler needs is away: no message is to blame, and others would fare no better now."""
