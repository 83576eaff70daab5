"""What can be done with dead letters: look at them, and send them round once more."""

from api.api_keys import Program
from api.dead_letters import repository
from api.dead_letters.schemas import DeadLetter, DeadLetterPage, DeadLetterQuery, Redrive, RedriveRequest
from api.pagination import Window
from shared.unit_of_work import UnitOfWork


async def list_dead_letters(work: UnitOfWork, program: Program, query: DeadLetterQuery) -> DeadLetterPage:
    """Return a page of the tenant's dead letters, newest event first."""
    window = Window.of(query, program)
    rows = await repository.list_dead_letters(program, work.session, window)
    page = window.cut(rows, key=lambda row: row.event_id)
    return DeadLetterPage.model_validate(page.to_page(DeadLetter.model_validate))


async def redrive_dead_letters(work: UnitOfWork, program: Program, request: RedriveRequest) -> Redrive:
    """Put the oldest dead letters back into the outbox, or only tell which ones they are."""
    oldest = await repository.list_oldest(program, work.session, request.limit + 1)
    if request.dry_run:
        event_ids = oldest[: request.limit]
    else:
        event_ids = await repository.redrive_oldest(program, work.session, request.limit)
    return Redrive(
        dry_run=request.dry_run,
        count=len(event_ids),
        has_more=len(oldest) > request.limit,
        event_ids=list(event_ids),
    )
