import pytest

from shared.encryption import make_key
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
        ("DELIVERY_LEASE", "40"),
    ],
)
def test_contradictions_are_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str):
    monkeypatch.setenv(name, value)

    with pytest.raises(ContradictorySettings, match=r"must be (more|less) than"):
        Settings.from_environment()


def test_a_stop_has_to_wait_for_messages_only_where_there_are_any(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DELIVERY_SEND_TIMEOUT", "25")
    Settings.from_environment()
    monkeypatch.setenv("WEBHOOK_ENABLED", "true")
    monkeypatch.setenv("ENCRYPTION_KEYS", make_key())

    with pytest.raises(ContradictorySettings, match="WORKER_GRACE_PERIOD must be more than DELIVERY_SEND_TIMEOUT"):
        Settings.from_environment()


def test_channels_need_keys_for_the_addresses(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("ENCRYPTION_KEYS", raising=False)
    monkeypatch.setenv("WEBHOOK_ENABLED", "true")

    with pytest.raises(SettingsInvalid, match="ENCRYPTION_KEYS"):
        Settings.from_environment()


@pytest.mark.parametrize(("name", "value"), [("WORKER_BATCH_SIZE", "31"), ("WORKER_POLL_WAIT", "0.5")])
def test_values_out_of_bounds_are_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str):
    monkeypatch.setenv(name, value)

    with pytest.raises(SettingsInvalid):
        Settings.from_environment()
