"""Who must be more patient than whom: the numbers of container image, compose file, balancer and settings agree."""

import re
from pathlib import Path

from api.relay import RelaySettings
from api.sending import SEND_TIMEOUT
from api.settings import ApiSettings

ROOT = Path(__file__).parents[2]


def seconds_in(file: str, pattern: str) -> float:
    [seconds] = re.findall(pattern, (ROOT / file).read_text())
    return float(seconds)


def drain_delay() -> float:
    return seconds_in("Dockerfile.api", r"DRAIN_DELAY=(\d+)")


def balancer_keep_alive() -> float:
    return seconds_in("compose/nginx.conf", r"\n\s+keepalive_timeout (\d+)s;")


def test_the_balancer_closes_idle_connections_before_the_api_does():
    assert balancer_keep_alive() < ApiSettings().keep_alive.total_seconds()


def test_no_idle_connection_outlives_the_drain():
    assert balancer_keep_alive() < drain_delay()


def test_a_message_that_somebody_waits_for_has_an_outcome_before_requests_are_broken_off():
    assert ApiSettings().shutdown_timeout > SEND_TIMEOUT


def test_a_container_is_not_killed_before_it_has_stopped():
    [grace] = re.findall(r"(?ms)^  api:$.*?stop_grace_period: (\d+)s", (ROOT / "compose.yaml").read_text())
    longest = (
        drain_delay() + ApiSettings().shutdown_timeout.total_seconds() + RelaySettings().drain_timeout.total_seconds()
    )

    assert float(grace) > longest + 2
