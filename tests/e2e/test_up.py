"""The command that runs the whole system: how it starts, watches and stops."""

import os
import re
import signal
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest

from tests.fixtures.local_system import RunningSystem, free_port, run_system, wait_for

REVIVAL_DEADLINE = timedelta(seconds=20)


@pytest.fixture
def directory():
    with TemporaryDirectory(prefix="notify-") as directory:
        yield Path(directory)


def processes_that_mention(text: str) -> list[str]:
    found = []
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = command.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # It has just ended.
        if text in words:
            found.append(words)
    return found


def notify(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-m", "local.cli", *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all_of_it(directory: Path, number: signal.Signals):
    with run_system(directory) as system:
        assert system.stop(number) == 0

    assert processes_that_mention(str(directory)) == []
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{system.url}/livez", trust_env=False)


def test_a_signal_during_the_start_stops_what_was_started(directory: Path):
    with RunningSystem(directory, free_port()) as system:
        system.await_line("PostgreSQL")

        assert system.stop() == 0

    assert processes_that_mention(str(directory)) == []


def test_nothing_is_left_running_when_it_is_killed(directory: Path):
    with run_system(directory) as system:
        api, worker = system.pid_of("api"), system.pid_of("worker")
        system.stop(signal.SIGKILL)

    wait_for(lambda: not processes_that_mention(str(directory)))
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in (api, worker)))


def test_the_data_are_there_again_after_a_restart(directory: Path):
    with run_system(directory) as system, system.client("alice") as alice:
        alice.post("/v1/scenarios", json={"name": "Kept"}).raise_for_status()

    with run_system(directory) as system, system.client("alice") as alice:
        names = [scenario["name"] for scenario in alice.get("/v1/scenarios").json()["data"]]

    assert names[0] == "Kept"
    assert len(names) == 4


def test_the_printed_tokens_and_addresses_work(system: RunningSystem):
    text = "\n".join(system.lines)
    [token] = re.findall(r"BOB=(\S+)", text)

    answer = httpx.get(f"{system.url}/v1/notifications", headers={"Authorization": f"Bearer {token}"}, trust_env=False)

    assert answer.status_code == 200
    assert f"Ready: {system.url}" in text


@pytest.mark.parametrize("part", ["api", "worker"])
def test_a_process_that_dies_is_restarted_and_the_work_goes_on(directory: Path, part: str):
    with run_system(directory) as system, system.client("alice") as alice, system.client("bob") as bob:
        bob.put("/v1/subscriptions/scenario.created", json={}).raise_for_status()

        killed = system.kill(part)
        system.await_line(f"{part} has died")
        wait_for(lambda: system.pid_of(part) not in {None, killed}, deadline=REVIVAL_DEADLINE)

        wait_for(lambda: is_ready(system), deadline=REVIVAL_DEADLINE)
        alice.post("/v1/scenarios", json={"name": "Afterwards"}).raise_for_status()
        wait_for(lambda: bob.get("/v1/notifications").json()["data"])


def test_a_restarted_queue_loses_no_notification(directory: Path):
    with run_system(directory) as system, system.client("alice") as alice, system.client("bob") as bob:
        bob.put("/v1/subscriptions/scenario.created", json={}).raise_for_status()
        worker = system.pid_of("worker")
        assert worker is not None

        # With the worker held, the message is in the queue's memory and nowhere else when the queue dies.
        os.kill(worker, signal.SIGSTOP)
        alice.post("/v1/scenarios", json={"name": "Lost on the way"}).raise_for_status()
        unpublished = "SELECT count(*) FROM events WHERE published_at IS NULL"
        wait_for(lambda: system.query(unpublished)[0][0] == 0)
        system.kill("local.sqs")
        system.await_line("sqs has died")
        os.kill(worker, signal.SIGCONT)

        wait_for(lambda: bob.get("/v1/notifications").json()["data"], deadline=timedelta(seconds=45))


def test_a_taken_port_is_said_so_and_changes_nothing(directory: Path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]

        result = notify("up", "--port", str(port), "--directory", str(directory))

    assert result.returncode == 1
    assert f"Port {port} is taken" in result.stderr
    assert list(directory.iterdir()) == []


def test_a_second_system_in_the_same_directory_is_refused(system: RunningSystem):
    result = notify("up", "--port", str(free_port()), "--directory", str(system.directory))

    assert result.returncode == 1
    assert "already running" in result.stderr


def is_ready(system: RunningSystem) -> bool:
    try:
        return httpx.get(f"{system.url}/readyz", trust_env=False).is_success
    except httpx.TransportError:
        return False
