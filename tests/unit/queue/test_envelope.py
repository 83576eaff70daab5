"""What an envelope says, and what is none."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.queue.envelope import Envelope, MalformedEnvelope, parse_envelope

EVENT = UUID("0190c9d2-7c4e-7b1a-8f3e-2d6a5b4c3e2f")
TENANT = UUID("0190c9d2-0000-7000-8000-000000000001")
SCENARIO = UUID("0190c9d2-0000-7000-8000-000000000002")
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

ENVELOPE = Envelope(
    id=EVENT,
    tenant_id=TENANT,
    type="scenario.executed",
    subject=SCENARIO,
    occurred_at=datetime(2026, 11, 22, 17, 30, 0, 250_000, tzinfo=UTC),
    traceparent=TRACEPARENT,
)

ENVELOPES = st.builds(
    Envelope,
    id=st.uuids(),
    tenant_id=st.uuids(),
    type=st.from_regex(r"[a-z0-9][a-z0-9._-]{0,99}", fullmatch=True),
    subject=st.uuids(),
    occurred_at=st.datetimes(
        min_value=datetime(1000, 1, 2),  # noqa: DTZ001 - the time zone is drawn beside it
        max_value=datetime(9999, 12, 30),  # noqa: DTZ001
        timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30)), timezone(timedelta(hours=-9))]),
    ),
    source=st.from_regex(r"[!-~]{1,255}", fullmatch=True),
    traceparent=st.none() | st.just(TRACEPARENT),
)


def changed(**attributes: object) -> str:
    """Return a good envelope with some attributes replaced; None removes one."""
    wire: dict[str, Any] = {**json.loads(ENVELOPE.to_json()), **attributes}
    return json.dumps({name: value for name, value in wire.items() if value is not None})


class TestToJson:
    def test_it_is_a_cloud_event(self):
        assert json.loads(ENVELOPE.to_json()) == {
            "specversion": "1.0",
            "id": str(EVENT),
            "type": "scenario.executed",
            "source": "/scenario-notifications",
            "subject": str(SCENARIO),
            "time": "2026-11-22T17:30:00.250000Z",
            "tenantid": str(TENANT),
            "traceparent": TRACEPARENT,
        }

    def test_without_a_trace_there_is_no_traceparent(self):
        envelope = Envelope(
            id=EVENT, tenant_id=TENANT, type="scenario.created", subject=SCENARIO, occurred_at=ENVELOPE.occurred_at
        )

        assert "traceparent" not in json.loads(envelope.to_json())


class TestParseEnvelope:
    @settings(deadline=None)
    @given(ENVELOPES)
    def test_what_was_written_is_read(self, envelope: Envelope):
        assert parse_envelope(envelope.to_json()) == envelope

    def test_attributes_unknown_to_us_are_ignored(self):
        assert parse_envelope(changed(tracestate="vendor=1", data={"a": [1]})) == ENVELOPE

    def test_a_time_is_read_in_utc(self):
        envelope = parse_envelope(changed(time="2026-11-22T18:30:00.25+01:00"))

        assert envelope.occurred_at == ENVELOPE.occurred_at
        assert envelope.occurred_at.tzinfo is UTC

    @pytest.mark.parametrize(
        "value", ["", "nonsense", f"ff{TRACEPARENT[2:]}", f"00-{'0' * 32}-{'1' * 16}-01", 7, "\x00"]
    )
    def test_a_broken_trace_costs_only_the_trace(self, value: object):
        assert parse_envelope(changed(traceparent=value)).traceparent is None

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param("", id="empty"),
            pytest.param("hello", id="text"),
            pytest.param("\x00", id="nul"),
            pytest.param("\ud800", id="lone surrogate"),
            pytest.param("null", id="null"),
            pytest.param("[]", id="array"),
            pytest.param('"text"', id="string"),
            pytest.param("{", id="cut off"),
            pytest.param(ENVELOPE.to_json()[:-1], id="cut off late"),
            pytest.param(ENVELOPE.to_json() + "x", id="something after it"),
            pytest.param(ENVELOPE.to_json().replace('"1.0"', "NaN"), id="NaN"),
            pytest.param("[" * 16_000, id="deep"),
            pytest.param("9" * 16_000, id="long number"),
            pytest.param(changed(data="x" * 20_000), id="huge"),
            pytest.param(changed(specversion=None), id="no version"),
            pytest.param(changed(specversion="0.3"), id="old version"),
            pytest.param(changed(specversion=1.0), id="version as a number"),
            pytest.param(changed(id=None), id="no id"),
            pytest.param(changed(id=""), id="empty id"),
            pytest.param(changed(id=7), id="number as id"),
            pytest.param(changed(id=[str(EVENT)]), id="array as id"),
            pytest.param(changed(id=f"{{{EVENT}}}"), id="id in braces"),
            pytest.param(changed(id=f"urn:uuid:{EVENT}"), id="id as urn"),
            pytest.param(changed(id=EVENT.hex), id="id without hyphens"),
            pytest.param(changed(id=str(EVENT).replace("0", "\u0660")), id="id in other digits"),
            pytest.param(changed(id=f"{EVENT}\x00"), id="id with nul"),
            pytest.param(changed(id=f"{EVENT}' OR 1=1"), id="id with more"),
            pytest.param(changed(tenantid=None), id="no tenant"),
            pytest.param(changed(tenantid="demo"), id="tenant by name"),
            pytest.param(changed(subject=None), id="no subject"),
            pytest.param(changed(subject=f"scenarios/{SCENARIO}"), id="subject as path"),
            pytest.param(changed(type=None), id="no type"),
            pytest.param(changed(type=""), id="empty type"),
            pytest.param(changed(type="scenario.\x00executed"), id="type with nul"),
            pytest.param(changed(type="../../etc/passwd"), id="type as path"),
            pytest.param(changed(type="x" * 101), id="long type"),
            pytest.param(changed(source=None), id="no source"),
            pytest.param(changed(source="a\x00b"), id="source with nul"),
            pytest.param(changed(time=None), id="no time"),
            pytest.param(changed(time="2026-11-22T17:30:00"), id="time without zone"),
            pytest.param(changed(time="2026-11-22"), id="date only"),
            pytest.param(changed(time="2026-13-22T17:30:00Z"), id="month 13"),
            pytest.param(changed(time="0001-01-01T00:00:00+23:59"), id="before the first year"),
            pytest.param(changed(time=1_795_000_000), id="time as a number"),
        ],
    )
    def test_anything_else_is_malformed(self, body: str):
        with pytest.raises(MalformedEnvelope) as raised:
            parse_envelope(body)

        assert isinstance(raised.value, ValueError)

    @settings(deadline=None)
    @given(st.text())
    def test_any_text_is_parsed_or_malformed(self, body: str):
        with pytest.raises(MalformedEnvelope):
            parse_envelope(body)

    def test_the_reason_does_not_repeat_the_value(self):
        with pytest.raises(MalformedEnvelope) as raised:
            parse_envelope(changed(id="someone@example.com"))

        assert "someone" not in str(raised.value)
        assert "`id`" in str(raised.value)
