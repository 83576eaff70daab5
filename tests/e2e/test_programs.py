"""A program's way: a key from the command line, users from the program, and the end of the key."""

import subprocess
import sys
import time
from datetime import timedelta

import httpx

from tests.fixtures.local_system import RunningSystem, wait_for

REVOKED_WITHIN = timedelta(seconds=60)


def notify(system: RunningSystem, *arguments: str) -> str:
    command = [sys.executable, "-m", "local.cli", *arguments, "--directory", str(system.directory)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_key_works_until_it_is_revoked_and_then_within_a_minute_no_more(system: RunningSystem):
    key = notify(system, "keys", "create", "--tenant", "acme", "--name", "hr", "--scope", "users:write").strip()
    client = httpx.Client(base_url=system.url, headers={"Authorization": f"Bearer {key}"}, trust_env=False)
    with client, system.client("wile", tenant="acme") as wile:
        provisioned = client.put("/v1/users/wile", json={"name": "Wile E.", "locale": "en-US"})
        assert provisioned.status_code == 201
        assert wile.get("/v1/notifications").status_code == 200
        assert client.get("/v1/notifications").json()["code"] == "user_token_required"

        notify(system, "keys", "revoke", key[:16], "--by", "the test")
        revoked_at = time.monotonic()
        wait_for(
            lambda: client.put("/v1/users/wile", json={"name": "Wile"}).status_code == 401, deadline=REVOKED_WITHIN
        )

        assert time.monotonic() - revoked_at < REVOKED_WITHIN.total_seconds()
    listed = notify(system, "keys", "list", "--tenant", "acme")
    assert "revoked" in listed
    assert "by the test" in listed
    assert key not in listed
