"""The README's tour, as somebody pastes it into a shell, line by line, with the answers printed there."""

import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.fixtures.local_system import RunningSystem, run_system

README = Path(__file__).resolve().parents[2] / "README.md"
CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)
MARK = "=== next ==="

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")


def parse_tour(text: str) -> Iterator[tuple[str, str]]:
    """Yield the commands of the README with the output printed under each."""
    for block in CONSOLE.findall(text):
        lines = block.splitlines()
        starts = [n for n, line in enumerate(lines) if line.startswith("$ ")]
        for start, end in pairwise([*starts, len(lines)]):
            yield lines[start].removeprefix("$ "), "\n".join(lines[start + 1 : end])


def mask(text: str) -> str:
    """Return the text without what differs from run to run."""
    return TIME.sub("<time>", UUID.sub("<id>", text)).strip()


@pytest.fixture
def system() -> Iterator[RunningSystem]:
    """A system in which nothing has happened yet."""
    with TemporaryDirectory(prefix="notify-") as directory, run_system(Path(directory)) as system:
        yield system


def test_the_tour_prints_what_the_readme_says(system: RunningSystem):
    tour = list(parse_tour(README.read_text()))
    notify = f"{sys.executable} -m local.cli"
    # Nobody pastes the next line within a second; by then whoever is to be told has been told.
    script = "\n".join(f"{command}\necho; echo '{MARK}'; sleep 1" for command, _ in tour)
    script = script.replace("http://127.0.0.1:8000", system.url)
    script = script.replace("http://127.0.0.1:8025", system.await_line("The messages").split()[2])
    script = script.replace(".venv/bin/notify token", f"{notify} token --directory {system.directory}")

    result = subprocess.run(["bash", "-eu", "-c", script], capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stderr
    printed = [mask(output) for output in result.stdout.split(MARK)][:-1]
    assert len(tour) > 5
    assert printed == [mask(output) for _, output in tour]
