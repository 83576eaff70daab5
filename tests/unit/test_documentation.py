"""The documents name every setting and every problem, and none that does not exist."""

import inspect
import re
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from api.cors import CorsSettings
from api.main import create_app
from api.problems import Problem
from api.rate_limiter import RateLimitSettings
from api.relay import RelaySettings
from api.revalidation import PollSettings
from api.settings import ApiSettings, JwtSettings
from shared.channels import OfferSettings
from shared.channels.apprise import AppriseSettings
from shared.channels.ses import SesSettings
from shared.channels.slack import SlackSettings
from shared.channels.smtp import SmtpSettings
from shared.channels.sns import SnsSettings
from shared.channels.twilio import TwilioSettings
from shared.channels.webhook import WebhookSettings
from shared.encryption import EncryptionSettings
from shared.mail import MailSettings
from shared.outbound import OutboundSettings
from shared.settings import DatabaseSettings, ExpirySettings, LogSettings, QueueSettings
from shared.unsubscribe import PublicSettings
from worker.deliveries.settings import DeliverySettings
from worker.settings import WorkerSettings

ROOT = Path(__file__).resolve().parents[2]
SETTINGS: dict[str, list[type[BaseSettings]]] = {
    "all": [
        DatabaseSettings,
        QueueSettings,
        LogSettings,
        EncryptionSettings,
        PublicSettings,
        ExpirySettings,
        OfferSettings,
        MailSettings,
        SmtpSettings,
        SesSettings,
        SnsSettings,
        TwilioSettings,
        OutboundSettings,
        SlackSettings,
        WebhookSettings,
        AppriseSettings,
    ],
    "api": [ApiSettings, JwtSettings, RateLimitSettings, PollSettings, CorsSettings, RelaySettings],
    "worker": [WorkerSettings, DeliverySettings],
}
SECTION = re.compile(r"<!-- settings[^>]*-->\n(.*)<!-- /settings -->", re.DOTALL)


def name_of(settings: type[BaseSettings], field: str, info: FieldInfo) -> str:
    alias = info.validation_alias
    return alias if isinstance(alias, str) else f"{settings.model_config.get('env_prefix', '')}{field}".upper()


def show_default(info: FieldInfo) -> str:
    default: Any = info.default
    if info.is_required():
        return "required"
    if isinstance(default, timedelta):
        return f"`{default.total_seconds():g}`"
    if isinstance(default, Path):
        return f"`{default.name}`" if default.parent == Path(tempfile.gettempdir()) else f"`{default}`"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return "" if default is None or default in ("", ()) else f"`{default}`"


def settings_table() -> str:
    rows = [
        f"| `{name_of(settings, field, info)}` | {show_default(info)} | {process} | {info.description} |"
        for process, classes in SETTINGS.items()
        for settings in classes
        for field, info in settings.model_fields.items()
        # What a class inherits is described with its parent.
        if field in inspect.get_annotations(settings)
    ]
    return "\n".join(["| variable | default | used by | what it is |", "|---|---|---|---|", *rows]) + "\n"


def problem_classes() -> list[type[Problem]]:
    def below(kind: type[Problem]) -> list[type[Problem]]:
        return [kind, *(found for child in kind.__subclasses__() for found in below(child))]

    assert callable(create_app)  # Its import loads every feature, and so every problem.
    return sorted(
        (kind for kind in below(Problem) if hasattr(kind, "code") and kind.__module__.startswith("api.")),
        key=lambda kind: (kind.status, kind.code),
    )


def problems_table() -> str:
    rows = [f"| {int(kind.status)} | `{kind.code}` | {kind().detail} |" for kind in problem_classes()]
    return "\n".join(["| status | code | what it says |", "|---|---|---|", *rows]) + "\n"


def test_every_setting_is_described():
    found = SECTION.search((ROOT / "docs" / "settings.md").read_text())

    assert found
    assert found[1] == settings_table(), f"The table should be:\n{settings_table()}"


def test_every_settings_class_is_in_the_table():
    def below(kind: type[BaseSettings]) -> set[type[BaseSettings]]:
        return {kind}.union(*(below(child) for child in kind.__subclasses__()))

    ours = {kind for kind in below(BaseSettings) if kind.__module__.split(".")[0] in {"api", "worker", "shared"}}
    described = {kind for classes in SETTINGS.values() for kind in classes}

    # A subclass that only changes a default is described with its parent.
    assert all(kind in described or kind.__bases__[0] in described for kind in ours)


def test_the_problems_are_all_listed():
    text = (ROOT / "docs" / "problems.md").read_text()

    assert problems_table() in text, f"The table should be:\n{problems_table()}"


@pytest.mark.parametrize("name", [name for line in settings_table().splitlines()[2:] for name in [line.split("`")[1]]])
def test_the_example_environment_lists_every_setting(name: str):
    example = (ROOT / ".env.example").read_text()

    assert re.search(rf"^(# )?{name}=", example, re.MULTILINE), f"{name} is missing."
