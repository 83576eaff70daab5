"""What a program does that uses the generated Python SDK; type-checked strictly against it by `make sdk`.

Takes the URL of the service and the tokens of two people of one tenant, and prints what it saw as JSON.
"""

import json
import sys
import time
from collections.abc import Iterator
from uuid import UUID, uuid4

from notifications_client import AuthenticatedClient
from notifications_client.api.notifications import (
    get_notification,
    list_notifications,
    mark_notification_read,
)
from notifications_client.api.scenarios import create_scenario, execute_scenario
from notifications_client.api.subscriptions import enable_event_type
from notifications_client.models import (
    EventTypeSubscription,
    EventTypeSubscriptionUpdate,
    Execution,
    ExecutionCreate,
    Notification,
    NotificationPage,
    NotificationState,
    Outcome,
    Problem,
    Scenario,
    ScenarioCreate,
)
from notifications_client.types import UNSET, Unset

EXECUTIONS = 5
PAGE = 2
DEADLINE_SECONDS = 30


def main(url: str, alices_token: str, bobs_token: str) -> None:
    """Go the whole way, from a subscription to a problem."""
    alice = AuthenticatedClient(base_url=url, token=alices_token, raise_on_unexpected_status=True)
    bob = AuthenticatedClient(base_url=url, token=bobs_token, raise_on_unexpected_status=True)

    subscription = enable_event_type.sync("scenario.executed", client=bob, body=EventTypeSubscriptionUpdate())
    assert isinstance(subscription, EventTypeSubscription)

    scenario = create_scenario.sync(client=alice, body=ScenarioCreate(name="Python SDK", labels=["sdk"]))
    assert isinstance(scenario, Scenario)
    for _ in range(EXECUTIONS):
        body = ExecutionCreate(outcome=Outcome.FAILED, duration_ms=1200)
        execution = execute_scenario.sync(scenario.id, client=alice, body=body)
        assert isinstance(execution, Execution)

    pages = await_pages(bob, scenario.id)
    newest = pages[0][0]
    state = mark_notification_read.sync(newest.id, client=bob)
    assert isinstance(state, NotificationState)
    again = get_notification.sync(newest.id, client=bob)
    assert isinstance(again, Notification)

    refused = create_scenario.sync(client=alice, body=ScenarioCreate(name=""))
    assert isinstance(refused, Problem)
    assert not isinstance(refused.errors, Unset)
    missing = get_notification.sync(uuid4(), client=bob)
    assert isinstance(missing, Problem)
    stranger = AuthenticatedClient(base_url=url, token=f"{bobs_token}x", raise_on_unexpected_status=True)
    unknown = get_notification.sync(newest.id, client=stranger)
    assert isinstance(unknown, Problem)

    seen = {
        "subscribed": [subscription.event_type, subscription.enabled],
        "pages": [len(page) for page in pages],
        "told": newest.title,
        "read": [state.notification.read_at == again.read_at, again.read_at is not None],
        "problems": [[problem.status, problem.code] for problem in (refused, missing, unknown)],
        "pointers": [error.pointer for error in refused.errors],
    }
    sys.stdout.write(json.dumps(seen))


def await_pages(bob: AuthenticatedClient, scenario_id: UUID) -> list[list[Notification]]:
    """Return the pages of the inbox once all executions are in it."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        pages = list(list_pages(bob, scenario_id))
        if sum(map(len, pages)) == EXECUTIONS:
            return pages
        assert time.monotonic() < deadline, "Nobody was told in time."
        time.sleep(0.1)


def list_pages(bob: AuthenticatedClient, scenario_id: UUID) -> Iterator[list[Notification]]:
    """Yield one page after the other."""
    cursor: str | Unset = UNSET
    while True:
        page = list_notifications.sync(client=bob, scenario_id=scenario_id, limit=PAGE, cursor=cursor)
        assert isinstance(page, NotificationPage)
        yield page.data
        if page.next_cursor is None:
            return
        cursor = page.next_cursor


if __name__ == "__main__":
    main(*sys.argv[1:])
