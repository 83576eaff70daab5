"""Turns whatever stops a request into a problem: ours, the framework's, and what nobody expected."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException

from api.problems import (
    InvalidField,
    InvalidInput,
    MalformedRequest,
    MethodNotAllowed,
    Problem,
    RouteNotFound,
)

# A body of 256 KiB can be wrong in thousands of ways; whoever sent it needs the first few.
MAX_ERRORS = 50
MAX_POINTER_LENGTH = 200

BY_STATUS: dict[int, type[Problem]] = {problem.status: problem for problem in (RouteNotFound, MethodNotAllowed)}


def add_problem_handlers(app: FastAPI) -> None:
    """Make the application answer with problem details where it would answer with its own errors."""
    app.exception_handler(Problem)(_answer)
    app.exception_handler(RequestValidationError)(_answer_invalid_input)
    app.exception_handler(HTTPException)(_answer_http_exception)


async def _answer(request: Request, problem: Problem) -> Response:
    return problem.to_response(request.scope)


async def _answer_invalid_input(request: Request, error: RequestValidationError) -> Response:
    return to_problem(error.errors()).to_response(request.scope)


async def _answer_http_exception(request: Request, error: HTTPException) -> Response:
    # FastAPI wraps what reading the body raised into an error of its own.
    cause = error.__cause__
    problem = cause if isinstance(cause, Problem) else BY_STATUS.get(error.status_code, MalformedRequest)()
    response = problem.to_response(request.scope)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        response.headers["Allow"] = ", ".join(_allowed_methods(request))
    return response


def to_problem(errors: Sequence[Any]) -> InvalidInput:
    """Return the problem for what pydantic found, without repeating what was sent."""
    return InvalidInput(
        errors=[
            InvalidField(pointer=_pointer(error["loc"]), detail=error["msg"], code=error["type"])
            for error in errors[:MAX_ERRORS]
        ]
    )


def _pointer(location: Sequence[str | int]) -> str:
    place, *path = location
    if place == "body":
        steps = (str(step).replace("~", "~0").replace("/", "~1") for step in path)
        pointer = "#" + "".join(f"/{step}" for step in steps)
    elif place == "header":
        pointer = str(path[0])
    else:
        pointer = "?" + "/".join(str(step) for step in path)
    return pointer[:MAX_POINTER_LENGTH]


def _allowed_methods(request: Request) -> list[str]:
    """Return all methods of this address; the framework's own error knows those of one route only."""
    app: FastAPI = request.app
    matching = (
        route.methods
        for route in iter_route_contexts(app.routes)
        if route.methods and route.path_regex.match(request.url.path)
    )
    return sorted(set[str]().union(*matching))
