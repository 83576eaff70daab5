"""The endpoints of preferences."""

from fastapi import APIRouter

from api.dependencies import CurrentUser
from api.json_route import JsonRoute
from api.preferences import service
from api.preferences.schemas import Preferences, PreferencesUpdate

router = APIRouter(prefix="/preferences", tags=["Preferences"], route_class=JsonRoute)


@router.get("")
async def get_preferences(me: CurrentUser) -> Preferences:
    """Return my preferences."""
    return service.get_preferences(me)


@router.put("")
async def update_preferences(update: PreferencesUpdate, me: CurrentUser) -> Preferences:
    """Change my preferences."""
    return service.update_preferences(me, update)
