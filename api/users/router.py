"""The endpoint of users."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Response, Security
from pydantic import BeforeValidator

from api.api_keys import Program
from api.dependencies import Work, get_current_program
from api.json_route import JsonRoute
from api.problems import problems
from api.profile import MAX_EXTERNAL_ID_LENGTH, parse_line
from api.scopes import Scope
from api.users import service
from api.users.errors import UserNotFound
from api.users.schemas import User, UserProvision

router = APIRouter(prefix="/users", tags=["Users"], route_class=JsonRoute)

# What a path is decoded to where it was not UTF-8: many ids would become the same.
REPLACEMENT_CHARACTER = "\ufffd"


def _read_external_id(value: str) -> str:
    try:
        external_id = parse_line(value, max_length=MAX_EXTERNAL_ID_LENGTH)
    except ValueError as error:
        raise UserNotFound from error
    if REPLACEMENT_CHARACTER in external_id:
        raise UserNotFound
    return external_id


ExternalId = Annotated[str, Path(description="The `sub` of the user's tokens."), BeforeValidator(_read_external_id)]


# A path rather than one segment of it: identity providers have ids with slashes.
@router.put(
    "/{external_id:path}",
    responses={HTTPStatus.CREATED: {"model": User, "description": "The user is new."}, **problems(UserNotFound)},
)
async def provision_user(
    external_id: ExternalId,
    provision: UserProvision,
    work: Work,
    program: Annotated[Program, Security(get_current_program, scopes=[Scope.USERS_WRITE])],
    response: Response,
) -> User:
    """Create a user, or change what is known of one.

    Answers 201 when the user is new and 200 otherwise; repeating it changes nothing. What is left out of the body is
    forgotten. Later tokens of the user may bring later news.
    """
    user, is_new = await service.provision_user(work, program, external_id, provision)
    if is_new:
        response.status_code = HTTPStatus.CREATED
    return user
