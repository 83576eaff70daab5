"""An endpoint that takes JSON and nothing else, by the letter of RFC 8259."""

import json
import math
from collections.abc import Callable, Coroutine
from email.message import Message
from typing import Any, NoReturn

from fastapi import Request, Response
from fastapi.routing import APIRoute
from typing_extensions import override

from api.answers import AnsweredInstead, finish_answer
from api.problems import MalformedJson, UnsupportedMediaType


class JsonRoute(APIRoute):
    """Refuses bodies of other media types, and what Python takes for JSON although it is none.

    It also lets dependencies have their say about the answer (see `api.answers`).

    PostgreSQL's `jsonb` refuses such values too, but only when the change is written, or
    worse, when the worker reads it.
    """

    @override
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_json(request: Request) -> Response:
            if self.body_field and _has_body(request) and not _is_json(request):
                raise UnsupportedMediaType
            try:
                response = await handle(_StrictRequest(request.scope, request.receive))
            except AnsweredInstead as answered:
                return answered.response
            # Still inside the transaction, which commits when the answer has been returned from here.
            return await finish_answer(request, response)

        return handle_json


class _StrictRequest(Request):
    """A request whose JSON is read strictly."""

    @override
    async def json(self) -> Any:
        return parse_json(await self.body())


def parse_json(body: bytes) -> Any:
    """Return the value of a JSON text.

    Raises:
        MalformedJson: It is not JSON in UTF-8, holds NaN, Infinity or a number beyond all bounds,
            names a member twice, or is nested too deeply.
    """
    try:
        return json.loads(
            body.decode(), object_pairs_hook=_unique_members, parse_constant=_refuse_constant, parse_float=_finite
        )
    except json.JSONDecodeError as error:
        message = f"The body is not valid JSON: {error.msg} at character {error.pos}."
        raise MalformedJson(message) from error
    except UnicodeDecodeError as error:
        message = "The body is not UTF-8."
        raise MalformedJson(message) from error
    except (ValueError, RecursionError) as error:
        # Python's own bounds: digits of an integer, depth of nesting.
        message = "The body holds a number that is too long, or is nested too deeply."
        raise MalformedJson(message) from error


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        message = "The body names a member of an object twice."
        raise MalformedJson(message)
    if not all(name.isascii() or _is_unicode(name) for name in members):
        message = "The name of a member is not valid Unicode."
        raise MalformedJson(message)
    return members


def _refuse_constant(name: str) -> NoReturn:
    message = f"The body holds {name}, which JSON does not have."
    raise MalformedJson(message)


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        message = "The body holds a number that is too large."
        raise MalformedJson(message)
    return number


def _is_unicode(text: str) -> bool:
    """Tell whether the text can be encoded, which lone surrogates cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _has_body(request: Request) -> bool:
    return request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers


def _is_json(request: Request) -> bool:
    header = Message()
    header["content-type"] = request.headers.get("content-type", "")
    charset = header.get_content_charset("utf-8")
    encoding = request.headers.get("content-encoding", "identity")
    return header.get_content_type() == "application/json" and charset == "utf-8" and encoding == "identity"
