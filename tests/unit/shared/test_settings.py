from datetime import timedelta

import pytest

from shared.db import parse_database_url
from shared.settings import DatabaseSettings, SettingsInvalid, load_settings

URL = "postgresql://user:hunter2@db.example:5432/name"


@pytest.fixture(autouse=True)
def database_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", URL)


class TestLoadSettings:
    @pytest.mark.parametrize(("written", "seconds"), [("5", 5), ("0.2", 0.2), ("PT5M", 300)])
    def test_a_duration_is_seconds_or_iso_8601(self, monkeypatch: pytest.MonkeyPatch, written: str, seconds: float):
        monkeypatch.setenv("DATABASE_POOL_TIMEOUT", written)

        assert load_settings(DatabaseSettings).pool_timeout == timedelta(seconds=seconds)

    @pytest.mark.parametrize("written", ["0", "-1", "soon", "NaN"])
    def test_what_is_no_duration_is_refused_by_the_name_of_its_variable(
        self, monkeypatch: pytest.MonkeyPatch, written: str
    ):
        monkeypatch.setenv("DATABASE_POOL_TIMEOUT", written)

        with pytest.raises(SettingsInvalid, match="DATABASE_POOL_TIMEOUT"):
            load_settings(DatabaseSettings)

    def test_a_missing_setting_is_named(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.delenv("DATABASE_URL")

        with pytest.raises(SettingsInvalid, match="DATABASE_URL: Field required"):
            load_settings(DatabaseSettings)

    @pytest.mark.parametrize("url", ["", "nonsense-hunter2", "mysql://u:hunter2@h/db", "postgresql://u:hunter2@h"])
    def test_a_wrong_url_is_refused_without_being_shown(self, monkeypatch: pytest.MonkeyPatch, url: str):
        monkeypatch.setenv("DATABASE_URL", url)

        with pytest.raises(SettingsInvalid, match="DATABASE_URL") as refused:
            load_settings(DatabaseSettings)
        assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg"])
def test_every_spelling_of_a_database_url_means_asyncpg(scheme: str):
    url = parse_database_url(URL.replace("postgresql", scheme))

    assert url.drivername == "postgresql+asyncpg"
    assert url.host == "db.example"
