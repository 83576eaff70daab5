from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.fixtures.local_system import RunningSystem, run_system


@pytest.fixture(scope="session")
def system() -> Iterator[RunningSystem]:
    """A system for all tests that do not hurt it."""
    with TemporaryDirectory(prefix="notify-") as directory, run_system(Path(directory)) as system:
        yield system
