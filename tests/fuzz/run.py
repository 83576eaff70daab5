"""Fuzzes the running service by its OpenAPI document: `make fuzz`.

Schemathesis derives requests from the document, valid ones and broken ones, and holds every answer against it. Behind
the api are a real PostgreSQL, a queue and a worker, so what it accepted has to make its way into inboxes as well.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from api.scopes import Scope
from local import tokens
from local.system import ENCRYPTION_KEY_FILE
from shared.encryption import Cipher
from shared.unsubscribe import PublicSettings, Unsubscription
from tests.fixtures.local_system import RunningSystem, run_system, wait_for

CONFIG = Path(__file__).with_name("schemathesis.toml")
# Enough for every operation to be called a hundred times or more, in half a minute.
MAX_EXAMPLES = 25
SEED = 1

# Alice is the one who acts. Eve's tenant is another: she must not get what alice gets.
PEOPLE = {"alice": "demo", "eve": "acme"}
ADDRESSES = {
    "email": "alice@demo.example",
    "slack": "{}/services/alice",
    "sms": "+12025550101",
    "webhook": "{}/hooks/alice",
}
SCENARIOS = 3
EXECUTIONS = 10


def main() -> None:
    """Run the service, fuzz it, and exit with a status other than 0 if anything is wrong."""
    arguments = _parse_arguments()
    # Thousands of requests of one user within seconds are the point here.
    os.environ["RATE_LIMIT_ENABLED"] = "false"
    with tempfile.TemporaryDirectory(prefix="fuzz-") as parent, run_system(Path(parent) / "data") as system:
        directory = Path(parent)
        shutil.copy(CONFIG, directory)
        for name, words in _add_data(system).items():
            (directory / f"{name}.dict").write_text("".join(f'"{word}"\n' for word in words))
        (directory / "identities.json").write_text(json.dumps(_identities(system)))
        status = _fuzz(system, directory, arguments)
        problems = _find_aftermath(system)
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    sys.exit(status or bool(problems))


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--max-examples", type=int, help=f"cases per operation and phase (default: {MAX_EXAMPLES})")
    parser.add_argument(
        "--seed", type=int, help=f"where chance starts (default: {SEED}, or a new one when --max-examples is given)"
    )
    return parser.parse_args()


def _add_data(system: RunningSystem) -> dict[str, list[str]]:
    """Give alice an inbox of more than one page, all of it sent to her webhook as well.

    Returns what chance would not guess, by the names of the dictionaries: ids from the inbox and from the log of
    deliveries, addresses that lead nowhere but to this machine, and the last part of a link to unsubscribe.
    """
    sink = system.await_line("The messages").split()[2]
    for name, tenant in PEOPLE.items():
        with system.client(name, tenant=tenant) as person:
            for channel, address in ADDRESSES.items():
                person.put(f"/v1/contact-points/{channel}", json={"address": address.format(sink)}).raise_for_status()
    with system.client("alice") as alice, system.client("bob") as bob:
        subscription = {"channels": ["webhook"]}
        alice.put("/v1/subscriptions/scenario.executed", json=subscription).raise_for_status()
        for number in range(SCENARIOS):
            scenario = bob.post("/v1/scenarios", json={"name": f"Scenario {number}"}).raise_for_status().json()
            for _ in range(EXECUTIONS):
                bob.post(f"/v1/scenarios/{scenario['id']}/executions", json={}).raise_for_status()
        system.await_fan_out()
        inbox = alice.get("/v1/notifications", params={"limit": SCENARIOS * EXECUTIONS}).raise_for_status().json()
    wait_for(lambda: not system.query("SELECT FROM deliveries WHERE status = 'pending'"))
    # So that there is something to try again.
    failed = system.query("UPDATE deliveries SET status = 'failed', reason = 'retries_exhausted' RETURNING id")
    return {
        "notifications": [notification["id"] for notification in inbox["data"]],
        "deliveries": [str(delivery["id"]) for delivery in failed],
        "addresses": [address.format(sink) for address in ADDRESSES.values()],
        "tokens": [_make_unsubscribe_token(system)],
    }


def _make_unsubscribe_token(system: RunningSystem) -> str:
    """Return the last part of the link in a mail to alice."""
    [alice] = system.query("SELECT tenant_id, id FROM users WHERE external_id = 'alice'")
    wish = Unsubscription(
        tenant_id=alice["tenant_id"], user_id=alice["id"], event_type="scenario.executed", channel="email"
    )
    cipher = Cipher([(system.directory / ENCRYPTION_KEY_FILE).read_text()])
    return wish.to_url(PublicSettings(), cipher).rpartition("/")[2]


def _identities(system: RunningSystem) -> dict[str, object]:
    """Return who may call, in the format of Web Fuzzing Commons: whom an operation refuses, the next one replaces."""
    secret = tokens.ensure_secret(system.directory)
    credentials = {name: tokens.issue_token(secret, user=name, tenant=tenant) for name, tenant in PEOPLE.items()}
    credentials["program"] = _create_api_key(system)
    return {
        "auth": [
            {"name": name, "fixedHeaders": [{"name": "Authorization", "value": f"Bearer {credential}"}]}
            for name, credential in credentials.items()
        ]
    }


def _create_api_key(system: RunningSystem) -> str:
    """Return the key of a program that may do all that people may not."""
    command = [sys.executable, "-m", "local.cli", "keys", "create", "--tenant", "demo", "--name", "fuzz"]
    command += ["--directory", str(system.directory), *(word for scope in Scope for word in ("--scope", scope))]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def _fuzz(system: RunningSystem, directory: Path, arguments: argparse.Namespace) -> int:
    """Return the exit status of Schemathesis, which writes its report to our output."""
    seed: int = arguments.seed or (random.randrange(2**32) if arguments.max_examples else SEED)  # noqa: S311
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", CONFIG.name, "run"]
    command += [f"{system.url}/openapi.json", "--seed", str(seed)]
    command += ["--max-examples", str(arguments.max_examples or MAX_EXAMPLES)]
    return subprocess.run(command, cwd=directory, check=False).returncode


def _find_aftermath(system: RunningSystem) -> list[str]:
    """Return what went wrong out of the caller's sight: everything that was accepted has to reach its readers."""
    system.await_fan_out()
    [stuck] = system.query(
        "SELECT count(*) FROM events WHERE dead_lettered_at IS NOT NULL OR quarantined_at IS NOT NULL"
    )
    problems = [line for line in system.lines if "has died" in line or "request.failed" in line]
    if stuck["count"]:
        problems.append(f"{stuck['count']} events were accepted, but could not be told to anybody.")
    return problems


if __name__ == "__main__":
    main()
