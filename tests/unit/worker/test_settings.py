import pytest

from shared.settings import SettingsInvalid
from worker.settings import ContradictorySettings, Settings


@pytest.fixture(autouse=True)
def database_url(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://localhost/notifications")


def test_the_defaults_agree_with_each_other():
    settings = Settings.from_environment()

    assert settings.database.statement_timeout.total_seconds() == 30


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SQS_VISIBILITY_TIMEOUT", "15"),
        ("DATABASE_LOCK_TIMEOUT", "30"),
        ("WORKER_GRACE_PERIOD", "10"),
        ("WORKER_STALL_TIMEOUT", "40"),
        ("DATABASE_STATEMENT_TIMEOUT", "300"),
    ],
)
def test_contradictions_are_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str):
    monkeypatch.setenv(name, value)

    with pytest.raises(ContradictorySettings, match=r"must be (more|less) than"):
        Settings.from_environment()


@pytest.mark.parametrize(("name", "value"), [("WORKER_BATCH_SIZE", "31"), ("WORKER_POLL_WAIT", "0.5")])
def test_values_out_of_bounds_are_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str):
    monkeypatch.setenv(name, value)

    with pytest.raises(SettingsInvalid):
        Settings.from_environment()
