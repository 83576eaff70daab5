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
from tests.fixtures.local_system import RunningSystem, run_system

CONFIG = Path(__file__).with_name("schemathesis.toml")
# Enough for every operation to be called a hundred times or more, in half a minute.
MAX_EXAMPLES = 25
SEED = 1

# Alice is the one who acts. Eve's tenant is another: she must not get what alice gets.
PEOPLE = {"alice": "demo", "eve": "acme"}
SCENARIOS = 3
EXECUTIONS = 10


def main() -> None:
    """Run the service, fuzz it, and exit with a status other than 0 if anything is wrong."""
    arguments = _parse_arguments()
    # Thousands of requests of one user within seconds are the point here.
    os.environ["RATE_LIMIT_ENABLED"] = "false"
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name, run_system(Path(name) / "data") as system:
        directory = Path(name)
        shutil.copy(CONFIG, directory)
        notifications = (f'"{notification}"\n' for notification in _add_notifications(system))
        (directory / "notifications.dict").write_text("".join(notifications))
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


def _add_notifications(system: RunningSystem) -> list[str]:
    """Give alice an inbox of more than one page, and return the ids of its notifications."""
    with system.client("alice") as alice, system.client("bob") as bob:
        alice.put("/v1/subscriptions/scenario.executed").raise_for_status()
        for number in range(SCENARIOS):
            scenario = bob.post("/v1/scenarios", json={"name": f"Scenario {number}"}).raise_for_status().json()
            for _ in range(EXECUTIONS):
                bob.post(f"/v1/scenarios/{scenario['id']}/executions", json={}).raise_for_status()
        system.await_fan_out()
        inbox = alice.get("/v1/notifications", params={"limit": SCENARIOS * EXECUTIONS}).raise_for_status().json()
    return [notification["id"] for notification in inbox["data"]]


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
