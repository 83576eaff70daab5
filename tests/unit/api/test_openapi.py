"""The document from which clients are generated."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.routing import iter_route_contexts

from api.json_route import JsonRoute
from api.openapi import TAGS, build_document
from api.routes import router
from api.scopes import Scope

DOCUMENT = build_document()
OPERATIONS = {
    f"{method} {path}": operation
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
}
# Everything but what is for whoever has a link.
IDENTIFIED = {name: operation for name, operation in OPERATIONS.items() if operation["security"]}
POSTS = {name: operation for name, operation in IDENTIFIED.items() if name.startswith("post ")}
PROBLEM = {"$ref": "#/components/schemas/Problem"}


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for value in part.values():
            yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)


class TestDocument:
    def test_it_is_openapi_3_1_and_plain_json(self):
        assert DOCUMENT["openapi"].startswith("3.1.")
        assert json.loads(json.dumps(DOCUMENT)) == DOCUMENT

    def test_it_is_the_same_every_time(self):
        assert json.dumps(build_document()) == json.dumps(DOCUMENT)

    def test_every_reference_leads_somewhere(self):
        for reference in references(DOCUMENT):
            part: Any = DOCUMENT
            for step in reference.removeprefix("#/").split("/"):
                part = part[step]

    def test_members_are_described_rather_than_titled(self):
        for schema in DOCUMENT["components"]["schemas"].values():
            assert all("title" not in member for member in schema.get("properties", {}).values())

    def test_nothing_of_fastapis_own_errors_is_left(self):
        assert "HTTPValidationError" not in json.dumps(DOCUMENT)

    def test_health_is_not_part_of_it(self):
        assert all(path.startswith("/v1/") for path in DOCUMENT["paths"])

    def test_operation_ids_are_unique(self):
        ids = [operation["operationId"] for operation in OPERATIONS.values()]

        assert len(set(ids)) == len(ids)

    def test_it_has_every_operation_of_this_version(self):
        assert {operation["operationId"] for operation in OPERATIONS.values()} >= {
            "archiveNotification",
            "createScenario",
            "deleteScenario",
            "disableEventType",
            "enableEventType",
            "executeScenario",
            "getNotification",
            "getNotificationCounts",
            "getPreferences",
            "getScenario",
            "listEventTypes",
            "listExecutions",
            "listNotifications",
            "listScenarios",
            "listSubscriptions",
            "markAllNotificationsRead",
            "markAllNotificationsSeen",
            "markNotificationRead",
            "markNotificationUnread",
            "provisionUser",
            "unarchiveNotification",
            "updatePreferences",
            "listNotificationDeliveries",
            "listDeliveries",
            "getDelivery",
            "retryDelivery",
            "retryDeliveries",
            "listDeadLetters",
            "redriveDeadLetters",
            "showUnsubscription",
            "confirmUnsubscription",
        }


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS.keys())
class TestOperation:
    def test_its_id_is_a_verb_and_a_noun(self, operation: dict[str, Any]):
        assert re.fullmatch(r"[a-z]+([A-Z][a-z]+)+", operation["operationId"])

    def test_it_has_one_declared_tag(self, operation: dict[str, Any]):
        [tag] = operation["tags"]

        assert tag in TAGS
        assert tag in [declared["name"] for declared in DOCUMENT["tags"]]

    def test_it_is_described(self, operation: dict[str, Any]):
        assert operation["summary"].endswith(".")
        assert operation.get("description") != operation["summary"]
        assert all(parameter["description"] for parameter in operation.get("parameters", []))
        assert "Successful Response" not in [answer["description"] for answer in operation["responses"].values()]

    def test_its_errors_are_problems_and_nothing_else(self, operation: dict[str, Any]):
        errors = {status: answer for status, answer in operation["responses"].items() if status >= "400"}

        assert {"500", "503"} <= errors.keys()
        for answer in errors.values():
            assert list(answer["content"]) == ["application/problem+json"]
            assert answer["content"]["application/problem+json"]["schema"] == PROBLEM
            assert answer["description"]

    def test_its_answers_name_the_request_id(self, operation: dict[str, Any]):
        assert all("X-Request-Id" in answer["headers"] for answer in operation["responses"].values())


@pytest.mark.parametrize("operation", IDENTIFIED.values(), ids=IDENTIFIED.keys())
class TestIdentifiedOperation:
    def test_it_is_for_people_or_for_programs(self, operation: dict[str, Any]):
        [[(scheme, scopes)]] = [requirement.items() for requirement in operation["security"]]
        refusals = operation["responses"]["403"]["content"]["application/problem+json"]["examples"].keys()

        assert scheme in DOCUMENT["components"]["securitySchemes"]
        if operation["tags"][0] in {"Administration", "Users"}:
            assert (scheme, refusals) == ("apiKeyAuth", {"api_key_required", "insufficient_scope"})
            assert scopes
            assert all(scope in set(Scope) and f"`{scope}`" in operation["description"] for scope in scopes)
        else:
            assert (scheme, scopes, refusals) == ("bearerAuth", [], {"user_token_required"})

    def test_it_says_who_may_not(self, operation: dict[str, Any]):
        assert {"401", "403", "429"} <= operation["responses"].keys()

    def test_its_errors_fit_its_input(self, operation: dict[str, Any]):
        has_body = "requestBody" in operation
        has_query = any(parameter["in"] == "query" for parameter in operation.get("parameters", []))
        has_key = any(parameter["name"] == "Idempotency-Key" for parameter in operation.get("parameters", []))
        has_id = any(parameter["in"] == "path" for parameter in operation.get("parameters", []))
        has_key = any(parameter["name"] == "Idempotency-Key" for parameter in operation.get("parameters", []))

        assert ({"400", "413", "415"} <= operation["responses"].keys()) == has_body
        assert ("422" in operation["responses"]) == (has_body or has_query or has_key)
        assert "404" in operation["responses"] or not has_id

    def test_its_answers_name_the_quota_of_whoever_asks(self, operation: dict[str, Any]):
        for status, answer in operation["responses"].items():
            counted = status not in {"401", "413", "415"}
            assert ({"RateLimit", "RateLimit-Policy"} <= answer["headers"].keys()) == counted

    def test_it_says_when_to_try_again(self, operation: dict[str, Any]):
        assert all("Retry-After" in operation["responses"][status]["headers"] for status in ("429", "503"))


@pytest.mark.parametrize("operation", POSTS.values(), ids=POSTS.keys())
class TestPost:
    def test_it_takes_an_idempotency_key(self, operation: dict[str, Any]):
        [key] = [parameter for parameter in operation["parameters"] if parameter["name"] == "Idempotency-Key"]

        assert key["in"] == "header"
        assert key["required"] is False
        assert key["schema"].items() >= {"type": "string", "minLength": 1, "maxLength": 255}.items()

    def test_it_says_what_may_be_wrong_with_it(self, operation: dict[str, Any]):
        answers = operation["responses"]

        assert "idempotency_key_in_use" in answers["409"]["content"]["application/problem+json"]["examples"]
        assert "Retry-After" in answers["409"]["headers"]
        assert "idempotency_key_reused" in answers["422"]["content"]["application/problem+json"]["examples"]
        assert "invalid_input" in answers["422"]["content"]["application/problem+json"]["examples"]

    def test_a_replayed_answer_can_be_told(self, operation: dict[str, Any]):
        assert all(
            "Idempotent-Replayed" in answer["headers"]
            for status, answer in operation["responses"].items()
            if status < "300"
        )


def test_only_the_links_in_mails_are_for_whoever_has_one():
    assert OPERATIONS.keys() - IDENTIFIED.keys() == {
        "get /v1/unsubscribe/{token}",
        "post /v1/unsubscribe/{token}",
    }


def test_every_post_is_of_a_route_that_keeps_its_answer():
    # On any other route a key would be claimed and never be completed.
    posts = [
        route
        for route in iter_route_contexts(router.routes)
        if route.methods and "POST" in route.methods and f"post {route.path}" in POSTS
    ]

    assert len(posts) == len(POSTS)
    assert all(isinstance(route.original_route, JsonRoute) for route in posts)


@pytest.mark.parametrize("path", ["/v1/notifications", "/v1/notifications/counts"])
class TestRevalidation:
    def test_the_tag_one_has_can_be_sent(self, path: str):
        [known] = [
            parameter for parameter in OPERATIONS[f"get {path}"]["parameters"] if parameter["name"] == "If-None-Match"
        ]

        assert (known["in"], known["schema"]["type"]) == ("header", "string")

    def test_both_answers_have_what_is_needed_to_ask_again(self, path: str):
        answers = OPERATIONS[f"get {path}"]["responses"]

        assert "content" not in answers["304"]
        for status in ("200", "304"):
            assert {"ETag", "Cache-Control", "Vary", "X-Poll-Interval"} <= answers[status]["headers"].keys()


class TestSchemas:
    def test_answers_have_every_member_and_no_closed_lists_of_values(self):
        answers = {
            reference.rpartition("/")[2]
            for operation in OPERATIONS.values()
            for status, answer in operation["responses"].items()
            if status < "300"
            for reference in references(answer.get("content", {}))
        }

        for name in answers:
            schema = DOCUMENT["components"]["schemas"][name]
            assert set(schema["required"]) == set(schema["properties"])
            for member in schema["properties"].values():
                assert "default" not in member
                assert "enum" not in member

    def test_input_refuses_what_it_does_not_know(self):
        inputs = {
            reference.rpartition("/")[2]
            for operation in OPERATIONS.values()
            for reference in references(operation.get("requestBody", {}))
        }

        assert inputs
        for name in inputs:
            assert DOCUMENT["components"]["schemas"][name]["additionalProperties"] is False
