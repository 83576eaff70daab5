"""What can be wrong with an idempotency key."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import ClassVar

from api.problems import Problem


class IdempotencyKeyReused(Problem):
    """This idempotency key came with another request before. Use a new key for every new request."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    code = "idempotency_key_reused"
    title = "Idempotency key reused"


class IdempotencyKeyInUse(Problem):
    """A request with this key is under way, or was broken off. Repeat this one; after a minute, with a new key."""

    status = HTTPStatus.CONFLICT
    code = "idempotency_key_in_use"
    title = "Idempotency key in use"
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": "1"}
