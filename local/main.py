"""Runs the local system in the foreground, and tells what to try with it."""

import signal
import sys
import threading
from pathlib import Path
from types import FrameType

from local import tokens
from local.demo import TENANT
from local.postgres_programs import PostgresUnavailable
from local.sinks import SinksUnavailable
from local.sqs import SqsUnavailable
from local.system import LocalSystem, SystemFailed


class _Interrupted(BaseException):
    """A signal came during the start."""


def run(directory: Path, *, port: int) -> None:
    """Start everything, print where to look, restart what dies; return after SIGINT or SIGTERM, with all of it ended.

    Exits with status 1 and a sentence that says why when the system cannot be started.
    """
    stop = threading.Event()
    started = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        if not started.is_set() and not stop.is_set():
            # Whatever step of the start is under way ends here, and what was started is stopped.
            stop.set()
            raise _Interrupted
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    try:
        with LocalSystem(directory, port=port, report=_say) as system:
            started.set()
            _say(_tour(system, directory))
            system.supervise(stop)
            _say("Stopping ...")
    except (SystemFailed, PostgresUnavailable, SqsUnavailable, SinksUnavailable) as error:
        sys.exit(f"notify: {error}")
    except _Interrupted:
        pass
    _say("Stopped.")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _tour(system: LocalSystem, directory: Path) -> str:
    """Return what a newcomer can paste into another terminal."""
    url = system.url
    secret = tokens.ensure_secret(directory)
    alice, bob = (tokens.issue_token(secret, user=user, tenant=TENANT) for user in ("alice", "bob"))
    return f"""
Ready: {url}

  The API's document   {url}/openapi.json
  The database         psql '{system.database_url}'
  The queue            {system.sqs_endpoint} (SQS)
  The messages         {system.sinks_url} (what the channels delivered: e-mail, Slack, SMS, webhooks)

In another terminal, as alice and bob of the tenant `{TENANT}` (`notify token --user carol` makes more tokens):

  ALICE={alice}
  BOB={bob}

Bob wants to hear of executions, by mail and on his webhook too:
  curl -X PUT {url}/v1/subscriptions/scenario.executed -H "Authorization: Bearer $BOB" \\
    --json '{{"channels": ["email", "webhook"]}}'

Alice creates a scenario and executes it (the id is in the answer of the first call):
  curl {url}/v1/scenarios -H "Authorization: Bearer $ALICE" --json '{{"name": "Checkout"}}'
  curl {url}/v1/scenarios/ID/executions -H "Authorization: Bearer $ALICE" --json '{{"outcome": "failed"}}'

Bob has been told; his mail and his webhook are at {system.sinks_url}:
  curl {url}/v1/notifications -H "Authorization: Bearer $BOB"

Ctrl-C stops everything; the data stay in {directory}.
"""
