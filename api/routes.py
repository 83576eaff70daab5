"""All that is public and versioned, in one tree."""

from fastapi import APIRouter

from api.event_types.router import router as event_types
from api.notifications.router import router as notifications
from api.preferences.router import router as preferences
from api.rate_limits import RATE_LIMITED
from api.scenarios.router import router as scenarios
from api.subscriptions.router import router as subscriptions
from api.users.router import router as users

router = APIRouter(prefix="/v1", dependencies=[RATE_LIMITED], generate_unique_id_function=lambda route: route.name)
for feature in (scenarios, event_types, subscriptions, notifications, preferences, users):
    router.include_router(feature)
