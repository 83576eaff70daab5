"""What counts as breaking; the document that is compared in earnest is in test_openapi_document.py."""

import copy
from typing import Any

import pytest

from tests.breaking_changes import find_breaking_changes

INPUT = {
    "type": "object",
    "required": ["name"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[^\n]*$"},
        "outcome": {
            "anyOf": [{"$ref": "#/components/schemas/Outcome"}, {"type": "null"}],
            "description": "How it went.",
        },
        "labels": {"type": "array", "items": {"type": "string", "maxLength": 64}, "maxItems": 20},
    },
}
OUTPUT = {
    "type": "object",
    "required": ["id", "name"],
    "properties": {
        "id": {"type": "string", "format": "uuid"},
        "name": {"type": "string"},
        "url": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "level": {"type": "string", "enum": ["all", "muted"]},
        "children": {"type": "array", "items": {"$ref": "#/components/schemas/Scenario"}},
    },
}
DOCUMENT: dict[str, Any] = {
    "paths": {
        "/scenarios": {
            "post": {
                "operationId": "createScenario",
                "tags": ["Scenarios"],
                "security": [{"bearerAuth": []}, {"apiKey": []}],
                "parameters": [
                    {"name": "limit", "in": "query", "schema": {"type": "integer", "maximum": 100, "default": 20}},
                ],
                "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/New"}}}},
                "responses": {
                    "201": {
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Scenario"}}},
                        "headers": {"Location": {"schema": {"type": "string"}}},
                    },
                    "404": {},
                },
            }
        }
    },
    "components": {
        "schemas": {
            "New": INPUT,
            "Scenario": OUTPUT,
            "Outcome": {"type": "string", "enum": ["passed", "failed"]},
            "Verdict": {"type": "string", "enum": ["passed", "failed"]},
        }
    },
}
OPERATION = "paths /scenarios post"
BODY = f"{OPERATION} requestBody content application/json schema"
NEW = "components schemas New"
SCENARIO = "components schemas Scenario"
GONE = object()


def changed(place: str, value: Any) -> dict[str, Any]:
    """Return the document with another value in one place, or without it."""
    document: Any = copy.deepcopy(DOCUMENT)
    *path, last = [int(step) if step.isdecimal() and len(step) == 1 else step for step in place.split()]
    part = document
    for step in path:
        part = part[step]
    if value is GONE:
        del part[last]
    else:
        part[last] = value
    return dict(document)


BREAKING = {
    "a path is gone": ("paths /scenarios", GONE, "POST /scenarios is gone"),
    "an operation is gone": (OPERATION, GONE, "POST /scenarios is gone"),
    "an operation has another id": (f"{OPERATION} operationId", "addScenario", "`operationId` changed"),
    "an operation has another tag": (f"{OPERATION} tags", ["Tests"], "`tags` changed"),
    "a credential does not suffice": (f"{OPERATION} security", [{"bearerAuth": []}], "apiKey does not suffice"),
    "a parameter is gone": (f"{OPERATION} parameters", [], "`limit` is gone"),
    "a parameter is required": (f"{OPERATION} parameters 0 required", True, "`limit` is required now"),
    "a parameter has another default": (f"{OPERATION} parameters 0 schema default", 10, "is not 20 any more"),
    "a parameter has a lower maximum": (f"{OPERATION} parameters 0 schema maximum", 50, "`maximum` is 50 now"),
    "a parameter has another type": (f"{OPERATION} parameters 0 schema type", "string", "must not be integer"),
    "a parameter repeats otherwise": (f"{OPERATION} parameters 0 explode", False, "is written differently"),
    "the body is gone": (f"{OPERATION} requestBody", GONE, "the body is gone"),
    "the body is required": (f"{OPERATION} requestBody required", True, "the body is required now"),
    "the body has another media type": (
        f"{OPERATION} requestBody content",
        {"text/plain": {"schema": {"type": "string"}}},
        "is not application/json any more",
    ),
    "a schema has another name": (BODY, {"$ref": "#/components/schemas/Scenario"}, "must not be New"),
    "an input member is gone": (f"{NEW} properties labels", GONE, "`labels` is gone"),
    "an input member is required": (f"{NEW} required", ["name", "labels"], "`labels` is required now"),
    "an input is shorter": (f"{NEW} properties name maxLength", 100, "`maxLength` is 100 now"),
    "an input has a new bound": (f"{NEW} properties labels minItems", 1, "`minItems` is 1 now"),
    "an input item is shorter": (f"{NEW} properties labels items maxLength", 10, "`maxLength` is 10 now"),
    "an input has another pattern": (f"{NEW} properties name pattern", "^[a-z]*$", "`pattern` is"),
    "input items are unique": (f"{NEW} properties labels uniqueItems", True, "`uniqueItems` is True now"),
    "an input must not be null": (
        f"{NEW} properties outcome anyOf",
        [{"$ref": "#/components/schemas/Outcome"}],
        "null",
    ),
    "an input has fewer values": ("components schemas Outcome enum", ["passed"], "'failed' is gone"),
    "an input has only some values": (f"{NEW} properties name enum", ["a"], "only some values"),
    "an input has something unheard of": (f"{NEW} properties name not", {"const": "x"}, "`not` changed"),
    "a success is gone": (f"{OPERATION} responses 201", GONE, "does not answer with 201 any more"),
    "a success is new": (f"{OPERATION} responses 202", {}, "may answer with 202 now"),
    "an answer has no header": (f"{OPERATION} responses 201 headers", {}, "no header `Location`"),
    "an answer has no body": (f"{OPERATION} responses 201 content", {}, "is not application/json any more"),
    "an output member is gone": (f"{SCENARIO} properties url", GONE, "`url` is gone"),
    "an output member may be missing": (f"{SCENARIO} required", ["id"], "`name` may be missing now"),
    "an output has another type": (f"{SCENARIO} properties name type", "integer", "may be integer now"),
    "an output may be null": (f"{SCENARIO} properties name type", ["string", "null"], "may be null now"),
    "an output has another format": (f"{SCENARIO} properties id format", GONE, "another format"),
    "an output has a new value": (f"{SCENARIO} properties level enum", ["all", "muted", "some"], "'some' is new"),
    "an output has fewer values": (f"{SCENARIO} properties level enum", ["all"], "'muted' is gone"),
    "an output may have any value": (f"{SCENARIO} properties level enum", GONE, "may have any value now"),
    "an output item has another type": (
        f"{SCENARIO} properties children items",
        {"$ref": "#/components/schemas/New"},
        "may be New now",
    ),
}
HARMLESS = {
    "nothing": (f"{OPERATION} operationId", "createScenario"),
    "a path is new": ("paths /labels", {"get": {}}),
    "an operation is new": ("paths /scenarios get", {}),
    "a further credential suffices": (f"{OPERATION} security", [{"bearerAuth": []}, {"apiKey": []}, {"cookie": []}]),
    "a header may be sent": (
        f"{OPERATION} parameters",
        [*DOCUMENT["paths"]["/scenarios"]["post"]["parameters"], {"name": "X", "in": "header", "schema": {}}],
    ),
    "a description changed": (f"{NEW} properties outcome description", "How it ended."),
    "an input member is new": (f"{NEW} properties url", {"type": "string"}),
    "an input is no longer required": (f"{NEW} required", []),
    "an input is longer": (f"{NEW} properties name maxLength", 300),
    "an input has no pattern": (f"{NEW} properties name pattern", GONE),
    "an input may be null": (f"{NEW} properties name type", ["string", "null"]),
    "an input has more values": ("components schemas Outcome enum", ["passed", "failed", "skipped"]),
    "an error is new": (f"{OPERATION} responses 429", {}),
    "an error is gone": (f"{OPERATION} responses 404", GONE),
    "an answer has a further header": (f"{OPERATION} responses 201 headers ETag", {"schema": {"type": "string"}}),
    "an output member is new": (f"{SCENARIO} properties created_at", {"type": "string"}),
    "an output is always there": (f"{SCENARIO} required", ["id", "name", "url"]),
    "an output is never null": (f"{SCENARIO} properties url", {"type": "string"}),
}


@pytest.mark.parametrize(("place", "value", "sentence"), BREAKING.values(), ids=BREAKING)
def test_this_breaks_clients(place: str, value: Any, sentence: str):
    [found] = find_breaking_changes(DOCUMENT, changed(place, value))

    assert sentence in found


@pytest.mark.parametrize(("place", "value"), HARMLESS.values(), ids=HARMLESS)
def test_this_does_not(place: str, value: Any):
    assert find_breaking_changes(DOCUMENT, changed(place, value)) == []
