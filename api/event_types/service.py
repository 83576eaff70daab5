"""What can be asked of the catalogue."""

from api.event_types import repository
from api.event_types.schemas import EventType, EventTypePage, EventTypeQuery
from api.pagination import Window
from shared.models import User
from shared.unit_of_work import UnitOfWork


async def list_event_types(work: UnitOfWork, me: User, query: EventTypeQuery) -> EventTypePage:
    """Return a page of the catalogue."""
    window = Window.of(query, me)
    rows = await repository.list_event_types(work.session, window)
    page = window.cut(rows, key=lambda event_type: event_type.name)
    return EventTypePage.model_validate(page.to_page(EventType.model_validate))
