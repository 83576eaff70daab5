"""What can be done with users: by what their tokens say of them, and by programs of their tenant."""

from sqlalchemy.ext.asyncio import AsyncSession

from api.api_keys import Program
from api.authentication import Identity
from api.problems import InvalidToken
from api.users import repository
from api.users.schemas import User, UserProvision
from shared.clock import utc_now
from shared.models import User as UserRow
from shared.unit_of_work import UnitOfWork


async def get_user(identity: Identity, session: AsyncSession) -> UserRow:
    """Return the user whom a token names: created when seen for the first time, changed when the token brings news.

    Two statements as a rule. What it writes is committed at once: it holds whatever becomes of the request, and no lock
    on the user outlives it.

    Raises:
        InvalidToken: Its tenant does not exist.
    """
    user = await repository.find_user(identity, session)
    if user is None:
        await repository.create_user(identity, session)
        await session.commit()
        user = await repository.find_user(identity, session)
    if user is None:
        raise InvalidToken
    news = _news(user, identity)
    if news:
        await repository.update_profile(user, session, news, stated_at=identity.issued_at)
        await session.commit()
    return user


async def provision_user(
    work: UnitOfWork, program: Program, external_id: str, provision: UserProvision
) -> tuple[User, bool]:
    """Make what is known of a user what the program says; return the user, and whether it is new."""
    row, is_new = await repository.upsert_user(program, work.session, external_id, provision, stated_at=utc_now())
    return User.model_validate(row), is_new


def _news(user: UserRow, identity: Identity) -> dict[str, str]:
    """Return what a token says of its bearer that is not known yet.

    A claim that is missing says nothing: it does not make anyone forget. A token that is older than what is known
    brings no news either; without that, two tokens that differ would take turns in writing at every request.
    """
    stated_at, issued_at = user.profile_stated_at, identity.issued_at
    if stated_at is not None and (issued_at is None or issued_at <= stated_at):
        return {}
    claims = {
        "name": identity.name,
        "email": identity.email,
        "locale": identity.locale,
        "time_zone": identity.time_zone,
    }
    return {column: value for column, value in claims.items() if value is not None and value != getattr(user, column)}
