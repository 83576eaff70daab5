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
    """A request with this idempotency key is still under way. Repeat this one to hear how that one ended."""

    status = HTTPStatus.CONFLICT
    code = "idempotency_key_in_use"
    title = "Idempotency key in use"
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": "1"}
