"""The endpoints of preferences."""

from typing import Any

import httpx
import pytest


class TestPreferences:
    async def test_nobody_is_told_of_their_own_actions_at_first(self, bob: httpx.AsyncClient):
        assert (await bob.get("/v1/preferences")).json() == {"notify_self": False}

    async def test_a_change_holds_for_the_one_who_made_it(self, alice: httpx.AsyncClient, bob: httpx.AsyncClient):
        response = await bob.put("/v1/preferences", json={"notify_self": True})

        assert (response.status_code, response.json()) == (200, {"notify_self": True})
        assert (await bob.get("/v1/preferences")).json() == {"notify_self": True}
        assert (await alice.get("/v1/preferences")).json() == {"notify_self": False}

    @pytest.mark.parametrize("body", [{}, {"notify_self": 1}, {"notify_self": "yes"}, {"notify_self": None}])
    async def test_only_true_and_false_are_accepted(self, bob: httpx.AsyncClient, body: dict[str, Any]):
        response = await bob.put("/v1/preferences", json=body)

        assert [error["pointer"] for error in response.json()["errors"]] == ["#/notify_self"]
