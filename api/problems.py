"""Errors as problem details (RFC 9457): one class per fact, one shape for all of them."""

import inspect
import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar

from fastapi import Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import Scope

MEDIA_TYPE = "application/problem+json"


class InvalidField(BaseModel):
    """One thing that is wrong with the input."""

    pointer: str = Field(
        description="Where it is: a JSON pointer into the body (`#/labels/0`), a query parameter (`?limit`) or the "
        "name of a header (`Idempotency-Key`)."
    )
    detail: str = Field(description="What is wrong, for people.")
    code: str = Field(description="What is wrong, for programs.")


class ProblemDetails(BaseModel):
    """Why a request was refused (RFC 9457). Nothing was changed by it."""

    model_config = ConfigDict(title="Problem")

    type: str = Field(description="Identifies the kind of problem; `urn:problem-type:` and the code.")
    title: str = Field(description="What kind of problem it is; the same for every occurrence.")
    status: int = Field(description="The HTTP status code.")
    detail: str = Field(description="What happened this time.")
    instance: str = Field(description="Path of the request.")
    code: str = Field(description="The kind of problem, for programs.")
    request_id: str = Field(description="Identifies the request in our logs; the same as the `X-Request-Id` header.")
    errors: list[InvalidField] = Field(default=[], description="What is wrong with the input; only where it is.")


class Problem(Exception):
    """Something the caller is told about. The class says what never changes, the instance what happened this time.

    A problem raised without a detail tells the docstring of its class.
    """

    status: ClassVar[HTTPStatus]
    code: ClassVar[str]
    title: ClassVar[str]
    headers: ClassVar[Mapping[str, str]] = {}

    def __init__(
        self,
        detail: str | None = None,
        *,
        errors: Sequence[InvalidField] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Say what happened this time, what in the input is to blame, and which headers differ from the general."""
        self.detail = detail or inspect.cleandoc(type(self).__doc__ or self.title)
        self.errors = errors
        self._own_headers = headers or {}
        super().__init__(self.detail)

    def to_response(self, scope: Scope) -> Response:
        """Return the answer to the request of this scope."""
        body: dict[str, Any] = {
            "type": f"urn:problem-type:{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "instance": scope["path"],
            "code": self.code,
            "request_id": scope["state"]["request_id"],
        }
        if self.errors:
            body["errors"] = [error.model_dump() for error in self.errors]
        # Escaped to ASCII: what a path or a field name may hold is not always valid Unicode.
        return Response(
            json.dumps(body), int(self.status), headers={**self.headers, **self._own_headers}, media_type=MEDIA_TYPE
        )


class MalformedRequest(Problem):
    """The request is not well-formed."""

    status = HTTPStatus.BAD_REQUEST
    code = "malformed_request"
    title = "Malformed request"


class MalformedJson(Problem):
    """The body is not valid JSON."""

    status = HTTPStatus.BAD_REQUEST
    code = "malformed_json"
    title = "Malformed JSON"


class Unauthenticated(Problem):
    """Send a token: `Authorization: Bearer <token>`."""

    status = HTTPStatus.UNAUTHORIZED
    code = "unauthenticated"
    title = "Authentication required"
    headers: ClassVar[Mapping[str, str]] = {"WWW-Authenticate": "Bearer"}


class InvalidToken(Problem):
    """The token is not valid here, or not any more."""

    status = HTTPStatus.UNAUTHORIZED
    code = "invalid_token"
    title = "Invalid token"
    headers: ClassVar[Mapping[str, str]] = {"WWW-Authenticate": 'Bearer error="invalid_token"'}


class UserTokenRequired(Problem):
    """This is for people: an API key belongs to a program, which has no inbox. Send a user's token (a JWT)."""

    status = HTTPStatus.FORBIDDEN
    code = "user_token_required"
    title = "User token required"


class ApiKeyRequired(Problem):
    """This is for programs: a user's token does not allow it, whoever the user is. Send an API key (`nsk_…`)."""

    status = HTTPStatus.FORBIDDEN
    code = "api_key_required"
    title = "API key required"


class InsufficientScope(Problem):
    """This API key lacks the scope that the operation needs. Scopes are fixed: create another key."""

    status = HTTPStatus.FORBIDDEN
    code = "insufficient_scope"
    title = "Insufficient scope"
    headers: ClassVar[Mapping[str, str]] = {"WWW-Authenticate": 'Bearer error="insufficient_scope"'}


class RouteNotFound(Problem):
    """Nothing has this address."""

    status = HTTPStatus.NOT_FOUND
    code = "not_found"
    title = "Not found"


class MethodNotAllowed(Problem):
    """This address does not know that method; the `Allow` header lists those it knows."""

    status = HTTPStatus.METHOD_NOT_ALLOWED
    code = "method_not_allowed"
    title = "Method not allowed"


class ContentTooLarge(Problem):
    """The body is larger than this service accepts."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    code = "content_too_large"
    title = "Content too large"


class UnsupportedMediaType(Problem):
    """Send the body as `Content-Type: application/json`, in UTF-8 and not compressed."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    code = "unsupported_media_type"
    title = "Unsupported media type"


class InvalidInput(Problem):
    """The request is well-formed, but what it says cannot be accepted; `errors` lists why."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    code = "invalid_input"
    title = "Invalid input"


class InternalError(Problem):
    """Something went wrong on our side. Quote the request id when you report it."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR
    code = "internal_error"
    title = "Internal error"


class ServiceUnavailable(Problem):
    """The service cannot answer at the moment. Try again shortly."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "service_unavailable"
    title = "Service unavailable"
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": "2"}


def problems(*kinds: type[Problem]) -> dict[int | str, dict[str, Any]]:
    """Return what an endpoint declares as `responses`: the problems it can answer with."""
    responses: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        response = responses.setdefault(
            int(kind.status),
            {
                "description": "",
                "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}}},
            },
        )
        response["description"] = ". ".join(filter(None, [response["description"], kind.title]))
        response["content"][MEDIA_TYPE]["examples"][kind.code] = {"summary": kind.title, "value": _example(kind)}
    return responses


def _example(kind: type[Problem]) -> dict[str, Any]:
    example = kind()
    return {
        "type": f"urn:problem-type:{kind.code}",
        "title": kind.title,
        "status": int(kind.status),
        "detail": example.detail,
        "instance": "/v1/…",
        "code": kind.code,
        "request_id": "019a2f3e-7c1b-7d52-9a40-3b6f0c7f1e55",
    }
