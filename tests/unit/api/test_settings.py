"""Settings of the api, as the environment holds them."""

from datetime import timedelta

import pytest

from api.settings import Settings
from shared.encryption import make_key
from shared.settings import SettingsInvalid

ENVIRONMENT = {
    "DATABASE_URL": "postgresql://localhost/none",
    "JWT_SECRET": "a secret of the tests, long enough for HS256",
    "JWT_ISSUER": "issuer",
    "JWT_AUDIENCE": "audience",
    "ENCRYPTION_KEYS": make_key(),
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


class TestFromEnvironment:
    def test_connections_outlive_those_of_a_load_balancer(self):
        assert Settings.from_environment().api.keep_alive > timedelta(seconds=60)

    @pytest.mark.parametrize(("given", "delay"), [("0", 0), ("2.5", 2.5), ("PT3S", 3)])
    def test_a_delay_is_written_in_seconds(self, monkeypatch: pytest.MonkeyPatch, given: str, delay: float):
        monkeypatch.setenv("DRAIN_DELAY", given)

        assert Settings.from_environment().api.drain_delay == timedelta(seconds=delay)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("DATABASE_URL", "short"),
            ("DATABASE_URL", "mysql://user:short@localhost/none"),
            ("JWT_SECRET", "short"),
            ("JWT_ISSUER", ""),
            ("ENCRYPTION_KEYS", ""),
            ("ENCRYPTION_KEYS", "short"),
            ("ENCRYPTION_KEYS", f"{make_key()},short"),
            ("PORT", "65536"),
            ("DRAIN_DELAY", "-1"),
            ("KEEP_ALIVE", "0"),
            ("FORWARDED_ALLOW_IPS", "*"),
            ("FORWARDED_ALLOW_IPS", "10.0.0.1/8"),
            ("FORWARDED_ALLOW_IPS", "127.0.0.1, balancer"),
        ],
    )
    def test_a_wrong_value_is_named_but_not_repeated(self, monkeypatch: pytest.MonkeyPatch, name: str, value: str):
        monkeypatch.setenv(name, value)

        with pytest.raises(SettingsInvalid, match=f"{name}: ") as refusal:
            Settings.from_environment()

        assert "short" not in str(refusal.value)

    @pytest.mark.parametrize("value", ["", "10.0.0.0/8", "127.0.0.1, ::1,fd00::/8"])
    def test_balancers_are_addresses_and_networks(self, monkeypatch: pytest.MonkeyPatch, value: str):
        monkeypatch.setenv("FORWARDED_ALLOW_IPS", value)

        assert Settings.from_environment().api.forwarded_allow_ips == value

    def test_a_missing_value_is_named(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.delenv("JWT_AUDIENCE")

        with pytest.raises(SettingsInvalid, match="JWT_AUDIENCE: "):
            Settings.from_environment()

    @pytest.mark.parametrize("secret", [None, ""])
    def test_a_key_server_takes_the_place_of_a_secret(self, monkeypatch: pytest.MonkeyPatch, secret: str | None):
        monkeypatch.setenv("JWT_JWKS_URL", "https://issuer.example/keys")
        monkeypatch.delenv("JWT_SECRET") if secret is None else monkeypatch.setenv("JWT_SECRET", secret)

        settings = Settings.from_environment().jwt

        assert (settings.jwt_jwks_url, settings.jwt_secret) == ("https://issuer.example/keys", None)

    @pytest.mark.parametrize(
        "changes",
        [
            {"JWT_SECRET": ""},
            {"JWT_SECRET": "", "JWT_JWKS_URL": ""},
            {"JWT_JWKS_URL": "https://issuer.example/keys"},
        ],
    )
    def test_neither_and_both_are_refused(self, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str]):
        for name, value in changes.items():
            monkeypatch.setenv(name, value)

        with pytest.raises(SettingsInvalid, match="exactly one of JWT_JWKS_URL and JWT_SECRET must be set"):
            Settings.from_environment()


class TestRateLimits:
    def test_they_are_on(self):
        limits = Settings.from_environment().rate_limit

        assert (limits.enabled, limits.storage_url) == (True, None)
        assert limits.reads > limits.writes > 0

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("READS", "0"),
            ("WRITES", "many"),
            ("ENABLED", "perhaps"),
            ("STORAGE_URL", "memcached://secret"),
            ("STORAGE_URL", ""),
        ],
    )
    def test_a_wrong_value_is_named_but_not_repeated(self, monkeypatch: pytest.MonkeyPatch, name: str, value: str):
        monkeypatch.setenv(f"RATE_LIMIT_{name}", value)

        with pytest.raises(SettingsInvalid, match=f"RATE_LIMIT_{name}: ") as refusal:
            Settings.from_environment()

        assert "secret" not in str(refusal.value)

    def test_redis_needs_its_extra(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("RATE_LIMIT_STORAGE_URL", "redis://127.0.0.1:1")
        monkeypatch.setattr("api.rate_limiter.find_spec", lambda _name: None)

        with pytest.raises(SettingsInvalid, match=r"scenario-notifications\[redis\]"):
            Settings.from_environment()


class TestCorsOrigins:
    @pytest.mark.parametrize(
        ("given", "origins"),
        [
            ("", ()),
            (" , ", ()),
            ("https://app.example.com", ("https://app.example.com",)),
            (
                "https://app.example.com, http://localhost:5173,http://[::1]:8080",
                ("https://app.example.com", "http://localhost:5173", "http://[::1]:8080"),
            ),
        ],
    )
    def test_they_stand_between_commas(self, monkeypatch: pytest.MonkeyPatch, given: str, origins: tuple[str, ...]):
        monkeypatch.setenv("CORS_ORIGINS", given)

        assert Settings.from_environment().cors.origins == origins

    @pytest.mark.parametrize(
        "given",
        [
            "*",
            "https://app.example.com,*",
            "https://*.example.com",
            "null",
            "app.example.com",
            "https://app.example.com/",
            "https://app.example.com/path",
            "https://App.example.com",
            "https://user@app.example.com",
            "ftp://app.example.com",
            "https://app.example.com https://other.example.com",
        ],
    )
    def test_anything_but_origins_is_refused(self, monkeypatch: pytest.MonkeyPatch, given: str):
        monkeypatch.setenv("CORS_ORIGINS", given)

        with pytest.raises(SettingsInvalid, match="CORS_ORIGINS: "):
            Settings.from_environment()

    def test_a_star_is_refused_with_the_reason(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("CORS_ORIGINS", "*")

        with pytest.raises(SettingsInvalid, match="every web page"):
            Settings.from_environment()


class TestPollInterval:
    @pytest.mark.parametrize("given", ["0", "0.5", "-1", "soon"])
    def test_it_is_at_least_a_second(self, monkeypatch: pytest.MonkeyPatch, given: str):
        monkeypatch.setenv("POLL_INTERVAL", given)

        with pytest.raises(SettingsInvalid, match="POLL_INTERVAL: "):
            Settings.from_environment()
