"""Programs that use the generated SDKs, against the running service. `make sdk` generates and compiles them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from local import tokens
from tests.fixtures.local_system import RunningSystem

ROOT = Path(__file__).resolve().parents[2]
SDK = ROOT / "build" / "sdk"
JOURNEYS: dict[str, list[str | Path]] = {
    "Python": [sys.executable, ROOT / "tests" / "e2e" / "sdks" / "journey.py"],
    "TypeScript": [
        Path(sys.executable).with_name("node"),
        SDK / "javascript" / "tests" / "e2e" / "sdks" / "journey.js",
    ],
}


@pytest.mark.parametrize("language", JOURNEYS)
def test_a_program_gets_everywhere_with_the_sdk(system: RunningSystem, language: str):
    assert (SDK / "compiled").exists(), "The SDKs are not there: run `make sdk` first."
    secret = tokens.ensure_secret(system.directory)
    # People of its own: what it leaves in their inboxes is in no other test's way.
    people = [tokens.issue_token(secret, user=f"{user}-{language}", tenant="demo") for user in ("alice", "bob")]

    journey = subprocess.run(
        [*JOURNEYS[language], system.url, *people],
        env={"PYTHONPATH": str(SDK / "python")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert journey.returncode == 0, journey.stderr
    assert json.loads(journey.stdout) == {
        "subscribed": ["scenario.executed", True],
        "pages": [2, 2, 1],
        "told": f"“{language} SDK” failed",
        "read": [True, True],
        "problems": [[422, "invalid_input"], [404, "notification_not_found"], [401, "invalid_token"]],
        "pointers": ["#/name"],
    }
