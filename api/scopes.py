"""What API keys can be allowed to do. A scope exists from the first route that asks for it; this is the whole list."""

from enum import StrEnum
from typing import Self


class Scope(StrEnum):
    """A permission of a program."""

    description: str

    def __new__(cls, value: str, description: str) -> Self:
        """Make a member that is its name and knows what it allows."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.description = description
        return member

    DEAD_LETTERS_READ = "dead_letters:read", "See the events that could not be handled."
    DEAD_LETTERS_WRITE = "dead_letters:write", "Send events that could not be handled round once more."
    DELIVERIES_READ = "deliveries:read", "See the tenant's delivery log."
    DELIVERIES_WRITE = "deliveries:write", "Have deliveries tried again."
    USERS_WRITE = "users:write", "Create users of the tenant and change what is known of them."
