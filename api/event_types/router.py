"""The endpoint of the catalogue."""

from typing import Annotated

from fastapi import APIRouter, Query

from api.dependencies import CurrentUser, Work
from api.event_types import service
from api.event_types.schemas import EventTypePage, EventTypeQuery
from api.pagination import NextLink

router = APIRouter(prefix="/event-types", tags=["Event types"])


@router.get("")
async def list_event_types(
    query: Annotated[EventTypeQuery, Query()], work: Work, me: CurrentUser, link: NextLink
) -> EventTypePage:
    """List what can happen, by name."""
    return link.add_next(await service.list_event_types(work, me, query))
