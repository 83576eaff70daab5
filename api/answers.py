"""What a dependency may do with the answer of its endpoint: give it instead, finish it, add headers to it.

Answers are given and finished before the transaction of the request commits. So what is
stored about an answer is stored together with the change that it tells of, or not at all.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from fastapi import Request, Response
from starlette.types import Scope

Finish: TypeAlias = Callable[[Response], Awaitable[Response]]


class AnsweredInstead(Exception):
    """The answer is known without asking the endpoint."""

    def __init__(self, response: Response) -> None:
        """Give this answer."""
        super().__init__()
        self.response = response


def finish_with(request: Request, finish: Finish) -> None:
    """Let this function have the endpoint's answer before it is sent; failures never reach it."""
    request.state.finish = finish


async def finish_answer(request: Request, response: Response) -> Response:
    """Return the answer as the request's dependencies want it sent."""
    finish: Finish | None = getattr(request.state, "finish", None)
    return await finish(response) if finish else response


def add_headers(request: Request, headers: Mapping[str, str]) -> None:
    """Add headers to whatever the answer will be, a problem included."""
    request.scope["state"].setdefault("headers", {}).update(headers)


def added_headers(scope: Scope) -> Mapping[str, str]:
    """Return the headers that were added to the answer so far."""
    headers: Mapping[str, str] = scope["state"].get("headers", {})
    return headers
