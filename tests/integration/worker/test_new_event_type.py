import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from shared import texts
from shared.clock import utc_now
from shared.models import DomainEvent, Event, EventType, UserNotification
from shared.queue import Envelope, ReceivedMessage
from tests.factories import NOON, make_scenario, make_subscription, make_tenant, make_user
from worker.fanout import FanOut
from worker.outcomes import Completed


@dataclass(frozen=True, kw_only=True)
class ScenarioPraised(DomainEvent):
    """Something that nobody foresaw happened to a scenario."""

    event_type: ClassVar[str] = "scenario.praised"


@pytest.fixture
def fan_out(worker_engine: AsyncEngine) -> FanOut:
    return FanOut(
        worker_engine, chunk_size=100, transaction_timeout=timedelta(seconds=30), expire_after=timedelta(days=4)
    )


@pytest.fixture
def templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the shipped texts, to which a test may add."""
    copy = shutil.copytree(texts.TEMPLATES, tmp_path / "templates")
    monkeypatch.setattr(texts, "TEMPLATES", copy)
    forget_templates()
    yield copy
    forget_templates()


def forget_templates() -> None:
    texts._environment.cache_clear()
    texts._event_template.cache_clear()


async def test_a_fourth_event_type_is_a_row_and_a_text(
    fan_out: FanOut, sessions: async_sessionmaker[AsyncSession], templates: Path
):
    async with sessions.begin() as session:
        session.add(
            EventType(name="scenario.praised", description="Praise", default_channels=["in_app"], mandatory=False)
        )
        await session.flush()
        tenant = await make_tenant(session)
        alice, bob = await make_user(session, tenant, "alice"), await make_user(session, tenant, "bob")
        scenario = await make_scenario(session, alice)
        await make_subscription(session, bob, event_type="scenario.praised")
        scenario.record(ScenarioPraised(scenario=scenario, actor=alice, occurred_at=NOON))
    async with sessions() as session:
        event = (await session.scalars(select(Event))).one()
    envelope = Envelope(
        id=event.id,
        tenant_id=event.tenant_id,
        type=event.event_type,
        subject=event.scenario_id,
        occurred_at=event.occurred_at,
    )
    message = ReceivedMessage(id="1", body=envelope.to_json(), receipt="1", receive_count=1, sent_at=utc_now())

    outcomes = await fan_out.handle([message])

    assert outcomes == {"1": Completed()}
    async with sessions() as session:
        notification = (await session.scalars(select(UserNotification))).one()
    assert (notification.user_id, notification.event_id) == (bob.id, event.id)
    assert texts.render_text(event.event_type, event.snapshot, locale=None).body == "Alice: scenario.praised"
    own_text = templates / "en" / "scenario.praised" / "in_app.j2"
    own_text.parent.mkdir()
    own_text.write_text("{% block title %}Praise for {{ scenario.name }}{% endblock %}{% block body %}!{% endblock %}")
    forget_templates()
    assert texts.render_text(event.event_type, event.snapshot, locale=None).title == "Praise for Checkout"
