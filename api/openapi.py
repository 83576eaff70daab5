"""The OpenAPI document: what FastAPI writes, made true and complete."""

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from api.idempotency.dependency import HEADER as IDEMPOTENCY_KEY
from api.idempotency.errors import IdempotencyKeyInUse, IdempotencyKeyReused
from api.pagination import InvalidCursor
from api.problems import (
    MEDIA_TYPE,
    ApiKeyRequired,
    ContentTooLarge,
    InsufficientScope,
    InternalError,
    InvalidInput,
    InvalidToken,
    MalformedJson,
    MalformedRequest,
    Problem,
    ProblemDetails,
    ServiceUnavailable,
    Unauthenticated,
    UnsupportedMediaType,
    UserTokenRequired,
    problems,
)
from api.rate_limits import RateLimited
from api.revalidation import HEADER as IF_NONE_MATCH
from api.routes import router

OPENAPI_PATH = "/openapi.json"

TAGS = {
    "Scenarios": "Test scenarios and their executions: what people follow.",
    "Event types": "The catalogue of what can happen.",
    "Subscriptions": "Who wants to hear of what.",
    "Notifications": "The inbox: what happened, told to one user.",
    "Contact points": "Where a user is reached beside the inbox: entered, proved and tried out.",
    "Preferences": "What a user wants in general.",
    "Unsubscribe": "The links in mails: for whoever has one, without a login.",
    "Administration": "For programs: what went out of a tenant, what did not, and to try it again.",
    "Users": "Who can be told: for programs that know it before the users' own tokens do.",
}
EVERY_OPERATION: tuple[type[Problem], ...] = (InternalError, ServiceUnavailable)
IDENTIFIED: tuple[type[Problem], ...] = (Unauthenticated, InvalidToken, RateLimited)
BY_SECURITY_SCHEME: dict[str, tuple[type[Problem], ...]] = {
    "bearerAuth": (UserTokenRequired,),
    "apiKeyAuth": (ApiKeyRequired, InsufficientScope),
}
WITH_BODY: tuple[type[Problem], ...] = (MalformedJson, ContentTooLarge, UnsupportedMediaType, InvalidInput)
WITH_KEY: tuple[type[Problem], ...] = (MalformedRequest, InvalidInput, IdempotencyKeyInUse, IdempotencyKeyReused)

HEADERS: dict[str, dict[str, Any]] = {
    "X-Request-Id": {"description": "Identifies the request in our logs.", "schema": {"type": "string"}},
    "Location": {"description": "Path of what was created.", "schema": {"type": "string"}},
    "Link": {"description": 'The next page: `<…>; rel="next"`.', "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds after which to try again.", "schema": {"type": "integer"}},
    "WWW-Authenticate": {"description": "How to authenticate.", "schema": {"type": "string"}},
    "ETag": {
        "description": "Identifies this state of the answer; send it as `If-None-Match`.",
        "schema": {"type": "string"},
    },
    "Cache-Control": {
        "description": "Who may keep the answer, and whether to ask again.",
        "schema": {"type": "string"},
    },
    "Vary": {"description": "On what the answer depends beside its address.", "schema": {"type": "string"}},
    "X-Poll-Interval": {
        "description": "Seconds to wait before asking again.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "RateLimit-Policy": {
        "description": 'How many requests (`q`) you have in how many seconds (`w`): `"reads";q=600;w=60`.',
        "schema": {"type": "string"},
    },
    "RateLimit": {
        "description": "How many of them remain (`r`), and after how many seconds they are full again (`t`): "
        '`"reads";r=599;t=60`.',
        "schema": {"type": "string"},
    },
    "Idempotent-Replayed": {
        "description": "`true` where this is the answer to an earlier request with the same `Idempotency-Key`.",
        "schema": {"type": "string"},
    },
}
# What is refused before it is known who asks counts for nobody.
UNCOUNTED = ("401", "413", "415")


def build_document() -> dict[str, Any]:
    """Return the document without building the application, so without settings, database or queue."""
    app = FastAPI()
    app.include_router(router)
    return build_openapi(app)


def build_openapi(app: FastAPI) -> dict[str, Any]:
    """Return the document of what the application serves; built at the first call, then kept."""
    if app.openapi_schema is None:
        document = get_openapi(
            title="Scenario notifications",
            version="1.0.0",
            summary="Tells people, once each, what happened to the test scenarios they follow.",
            license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
            servers=[{"url": "/", "description": "This server"}],
            tags=[{"name": name, "description": description} for name, description in TAGS.items()],
            routes=app.routes,
        )
        _replace_fastapis_own_errors(document)
        for path in document["paths"].values():
            for operation in path.values():
                _complete(operation)
                _describe_answers(operation, document["components"]["schemas"])
        document["components"]["headers"] = HEADERS
        document["components"]["examples"] = _share_examples(document)
        _drop_titles(document)
        app.openapi_schema = document
    return app.openapi_schema


def _replace_fastapis_own_errors(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    _, definitions = models_json_schema(
        [(ProblemDetails, "serialization")], ref_template="#/components/schemas/{model}"
    )
    definitions["$defs"]["Problem"] = definitions["$defs"].pop("ProblemDetails")
    schemas.update(definitions["$defs"])
    document["components"]["schemas"] = dict(sorted(schemas.items()))


def _complete(operation: dict[str, Any]) -> None:
    """Say of one operation what its signature does not: name, problems, headers."""
    operation["operationId"] = _camel_case(operation["operationId"])
    operation["summary"], _, description = operation.pop("description").partition("\n\n")
    needs = [
        f"Needs an API key with the scope `{scope}`."
        for scheme in operation["security"]
        for scopes in scheme.values()
        for scope in scopes
    ]
    if description := "\n\n".join(filter(None, [description, *needs])):
        operation["description"] = description
    parameters = operation.get("parameters", [])
    for parameter in parameters:
        if parameter["in"] != "path":
            _refuse_null(parameter)
    names = {(parameter["in"], parameter["name"]) for parameter in parameters}
    if ("header", IF_NONE_MATCH) in names:
        operation["responses"]["304"] = {"description": "Not modified: the answer you have is the current one"}
    _declare_problems(operation, names)
    _declare_headers(operation, names)


def _declare_problems(operation: dict[str, Any], parameters: set[tuple[str, str]]) -> None:
    kinds = [*EVERY_OPERATION, *_problems_of_callers(operation)]
    if "requestBody" in operation:
        # A form is not read, but its size is.
        kinds += WITH_BODY if "application/json" in operation["requestBody"]["content"] else (ContentTooLarge,)
        for content in operation["requestBody"]["content"].values():
            # The default of a body that may be left out; generators stumble over one beside a reference.
            content["schema"].pop("default", None)
    if any(place == "query" for place, _ in parameters):
        kinds.append(InvalidInput)
    if ("query", "cursor") in parameters:
        kinds.append(InvalidCursor)
    if ("header", IDEMPOTENCY_KEY) in parameters:
        kinds += WITH_KEY
    responses = operation["responses"]
    if MEDIA_TYPE not in responses.get("422", {}).get("content", {}):
        responses.pop("422", None)
    for status, response in problems(*dict.fromkeys(kinds)).items():
        declared = responses.setdefault(str(status), response)
        declared["content"][MEDIA_TYPE]["examples"].update(response["content"][MEDIA_TYPE]["examples"])
    operation["responses"] = dict(sorted(responses.items()))


def _problems_of_callers(operation: dict[str, Any]) -> Iterator[type[Problem]]:
    """Yield what can be wrong with whoever asks, where that matters."""
    for scheme in operation["security"]:
        yield from IDENTIFIED
        for name in scheme:
            yield from BY_SECURITY_SCHEME[name]


def _declare_headers(operation: dict[str, Any], parameters: set[tuple[str, str]]) -> None:
    success = ["Link"] if ("query", "cursor") in parameters else []
    if ("header", IDEMPOTENCY_KEY) in parameters:
        success.append("Idempotent-Replayed")
    validated = ["ETag", "Cache-Control", "Vary", "X-Poll-Interval"] if ("header", IF_NONE_MATCH) in parameters else []
    particular = {
        "304": validated,
        "401": ["WWW-Authenticate"],
        "409": ["Retry-After"] if ("header", IDEMPOTENCY_KEY) in parameters else [],
        "429": ["Retry-After"],
        "503": ["Retry-After"],
    }
    for status, response in operation["responses"].items():
        counted = [] if status in UNCOUNTED or not operation["security"] else ["RateLimit-Policy", "RateLimit"]
        own = [*success, *validated] if status < "300" else particular.get(status, [])
        for name in ["X-Request-Id", *counted, *own]:
            response.setdefault("headers", {})[name] = {"$ref": f"#/components/headers/{name}"}


def _describe_answers(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Say of each good answer what its model says of itself."""
    for status, response in operation["responses"].items():
        if status < "300":
            [content] = response.get("content", {}).values() or [{"schema": {}}]
            _, _, model = content["schema"].get("$ref", "").rpartition("/")
            if model:
                response["description"] = schemas[model]["description"].partition("\n")[0]
            else:
                response["description"] = "A page for people." if content["schema"] else "Done."


def _share_examples(document: dict[str, Any]) -> dict[str, Any]:
    """Replace the examples of all problems by references, and return what they refer to."""
    shared: dict[str, Any] = {}
    for path in document["paths"].values():
        for operation in path.values():
            for response in operation["responses"].values():
                for code, example in response.get("content", {}).get(MEDIA_TYPE, {}).get("examples", {}).items():
                    shared[code] = example
                    response["content"][MEDIA_TYPE]["examples"][code] = {"$ref": f"#/components/examples/{code}"}
    return dict(sorted(shared.items()))


def _drop_titles(document: dict[str, Any]) -> None:
    """Remove the titles that are only a member's name in capitals: in generated clients they hide the description."""
    for schema in document["components"]["schemas"].values():
        for member in schema.get("properties", {}).values():
            member.pop("title", None)
    for path in document["paths"].values():
        for operation in path.values():
            for parameter in operation.get("parameters", []):
                parameter["schema"].pop("title", None)


def _refuse_null(parameter: dict[str, Any]) -> None:
    """A parameter of the query or a header is there or not; it is never null."""
    kinds = [kind for kind in parameter["schema"].get("anyOf", []) if kind != {"type": "null"}]
    if len(kinds) == 1:
        del parameter["schema"]["anyOf"]
        parameter["schema"].update(kinds[0])


def _camel_case(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
