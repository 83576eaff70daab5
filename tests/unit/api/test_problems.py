"""Every problem says what it must."""

import json
import re
from collections.abc import Iterator

import pytest

from api import main  # noqa: F401 - imports all features, and with them all problems
from api.problem_handlers import to_problem
from api.problems import Problem, ProblemDetails, ServiceUnavailable, problems


def kinds_below(kind: type[Problem]) -> Iterator[type[Problem]]:
    for subclass in kind.__subclasses__():
        yield subclass
        yield from kinds_below(subclass)


# What the same request may meet no more a little later.
PASSING = {"code_not_sent", "idempotency_key_in_use", "rate_limited", "sent_too_often", "service_unavailable"}
KINDS = sorted(kinds_below(Problem), key=lambda kind: kind.code)


class TestKinds:
    def test_no_two_share_a_code(self):
        codes = [kind.code for kind in KINDS]

        assert len(set(codes)) == len(codes)

    @pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.code)
    def test_each_is_complete(self, kind: type[Problem]):
        response = kind().to_response({"path": "/v1/x", "state": {"request_id": "1"}})

        problem = ProblemDetails.model_validate(json.loads(bytes(response.body)))
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", problem.code)
        assert problem.status == response.status_code >= 400
        assert problem.detail.endswith(".")
        assert response.headers["content-type"] == "application/problem+json"
        assert ("retry-after" in response.headers) == (problem.code in PASSING)
        # RFC 6750, section 3.1: of what is forbidden, only a scope can be asked for.
        asks = problem.status == 401 or problem.code == "insufficient_scope"
        assert ("www-authenticate" in response.headers) == asks

    def test_what_happened_this_time_takes_the_place_of_the_general(self):
        assert KINDS[0]("Now.").detail == "Now."

    def test_so_do_headers(self):
        response = ServiceUnavailable(headers={"Retry-After": "7"}).to_response(
            {"path": "/v1/x", "state": {"request_id": "1"}}
        )

        assert response.headers["retry-after"] == "7"


class TestDeclaration:
    def test_problems_of_one_status_are_declared_together(self):
        declared = problems(*KINDS)

        codes = {
            code
            for response in declared.values()
            for code in response["content"]["application/problem+json"]["examples"]
        }
        assert codes == {kind.code for kind in KINDS}
        assert set(declared) == {int(kind.status) for kind in KINDS}


class TestInvalidInput:
    @pytest.mark.parametrize(
        ("location", "pointer"),
        [
            (("body",), "#"),
            (("body", "labels", 0), "#/labels/0"),
            (("body", "a/b~c"), "#/a~1b~0c"),
            (("query", "limit"), "?limit"),
            (("header", "Idempotency-Key"), "Idempotency-Key"),
        ],
    )
    def test_it_points_to_the_place(self, location: tuple[str | int, ...], pointer: str):
        problem = to_problem([{"type": "missing", "loc": location, "msg": "Field required", "input": "secret"}])

        [error] = problem.errors
        assert (error.pointer, error.detail, error.code) == (pointer, "Field required", "missing")
