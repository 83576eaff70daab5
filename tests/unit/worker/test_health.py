import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from worker.health import Watchdog, find_fault


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "health"


class TestWatchdog:
    def test_touches_the_file_while_all_loops_make_progress(self, file: Path):
        now = 0.0
        watchdog = Watchdog(file, stall_timeout=timedelta(seconds=60), monotonic=lambda: now)
        beat = watchdog.watch("consumer")

        now = 50
        beat()
        now = 100
        watchdog.check()

        assert find_fault(file, file.stat().st_mtime) is None

    def test_a_loop_that_hangs_is_named_although_others_go_on(self, file: Path):
        now = 0.0
        watchdog = Watchdog(file, stall_timeout=timedelta(seconds=60), monotonic=lambda: now)
        watchdog.watch("consumer")
        reconciler_beat = watchdog.watch("reconciler")

        now = 61
        reconciler_beat()
        with capture_logs() as logs:
            watchdog.check()

        assert logs == [{"event": "worker.stalled", "loops": ["consumer"], "log_level": "error"}]
        assert not file.exists()

    async def test_a_worker_that_ended_leaves_no_file(self, file: Path):
        watchdog = Watchdog(file, stall_timeout=timedelta(seconds=60))

        async with watchdog.watching():
            watchdog.check()
            assert file.exists()

        assert not file.exists()


class TestFindFault:
    def test_without_the_file_no_worker_is_running(self, file: Path):
        assert find_fault(file, 0) == f"No worker is running: {file} does not exist."

    def test_a_file_that_was_not_touched_for_long_means_a_stall(self, file: Path):
        file.touch()

        assert find_fault(file, file.stat().st_mtime + 14) is None
        assert "last touched 16 s ago" in str(find_fault(file, file.stat().st_mtime + 16))


def check_from_outside(file: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"WORKER_HEALTH_FILE": str(file)}
    command = [sys.executable, "-m", "worker.health"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


class TestCommand:
    def test_ends_with_0_for_a_healthy_worker(self, file: Path):
        file.touch()

        check = check_from_outside(file)

        assert (check.returncode, check.stdout) == (0, "The worker is healthy.\n")

    def test_ends_with_1_and_says_why_otherwise(self, file: Path):
        check = check_from_outside(file)

        assert (check.returncode, check.stderr) == (1, f"No worker is running: {file} does not exist.\n")
