"""All that is public and versioned, in one tree."""

from fastapi import APIRouter
from fastapi.routing import APIRoute

from api.contact_points.router import router as contact_points
from api.dead_letters.router import router as dead_letters
from api.deliveries.router import router as deliveries
from api.event_types.router import router as event_types
from api.notifications.router import router as notifications
from api.preferences.router import router as preferences
from api.rate_limits import RATE_LIMITED
from api.scenarios.router import router as scenarios
from api.subscriptions.router import router as subscriptions
from api.unsubscribe.router import router as unsubscribe
from api.users.router import router as users


def _name_operation(route: APIRoute) -> str:
    return route.name


# What is counted for somebody asks who calls; the links in mails are for whoever has one.
identified = APIRouter(dependencies=[RATE_LIMITED])
for feature in (
    scenarios,
    event_types,
    subscriptions,
    notifications,
    deliveries,
    preferences,
    contact_points,
    users,
    dead_letters,
):
    identified.include_router(feature)

router = APIRouter(prefix="/v1", generate_unique_id_function=_name_operation)
for part in (identified, unsubscribe):
    router.include_router(part)
