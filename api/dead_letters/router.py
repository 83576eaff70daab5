"""The endpoints of dead letters."""

from typing import Annotated

from fastapi import APIRouter, Query, Security

from api.api_keys import Program
from api.dead_letters import service
from api.dead_letters.schemas import DeadLetterPage, DeadLetterQuery, Redrive, RedriveRequest
from api.dependencies import Work, get_current_program
from api.idempotency.dependency import ANSWERED_ONCE
from api.json_route import JsonRoute
from api.pagination import NextLink
from api.scopes import Scope

router = APIRouter(prefix="/admin/dead-letters", tags=["Administration"], route_class=JsonRoute)


@router.get("")
async def list_dead_letters(
    query: Annotated[DeadLetterQuery, Query()],
    work: Work,
    program: Annotated[Program, Security(get_current_program, scopes=[Scope.DEAD_LETTERS_READ])],
    link: NextLink,
) -> DeadLetterPage:
    """List the events of the tenant that could not be handled, the newest first."""
    return link.add_next(await service.list_dead_letters(work, program, query))


@router.post("/redrive", dependencies=[ANSWERED_ONCE])
async def redrive_dead_letters(
    request: RedriveRequest,
    work: Work,
    program: Annotated[Program, Security(get_current_program, scopes=[Scope.DEAD_LETTERS_WRITE])],
) -> Redrive:
    """Send the oldest dead letters round once more.

    As long as `dry_run` is not `false`, it only tells which ones. Whoever was told already is not told again.
    """
    return await service.redrive_dead_letters(work, program, request)
