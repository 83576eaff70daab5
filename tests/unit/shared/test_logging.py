"""What a process writes about itself."""

import logging
import secrets
from collections.abc import Iterator

import pytest
import structlog

from shared.logging import configure_logging
from shared.settings import LogSettings


@pytest.fixture
def untouched_logging() -> Iterator[None]:
    """Leave the logging of the other tests as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def fail(password: str) -> None:
    raise RuntimeError(len(password))


@pytest.mark.usefixtures("untouched_logging")
@pytest.mark.parametrize("format_", ["console", "json"])
def test_an_exception_is_logged_without_the_values_of_variables(format_: str, capsys: pytest.CaptureFixture[str]):
    configure_logging(LogSettings.model_validate({"format": format_}))
    canary = secrets.token_hex(4)

    try:
        fail(canary)
    except RuntimeError:
        structlog.stdlib.get_logger("test").exception("request.failed")

    output = capsys.readouterr().out
    assert "RuntimeError: 8" in output
    assert canary not in output
