"""What one click does."""

from enum import StrEnum

from api.unsubscribe import repository
from api.unsubscribe.errors import UnsubscribeLinkNotFound
from shared.encryption import Cipher
from shared.scope import Scope, enter_scope
from shared.unit_of_work import UnitOfWork
from shared.unsubscribe import Unsubscription


class Ended(StrEnum):
    """What has come to an end."""

    EVENT_TYPE = "event_type"
    CHANNEL = "channel"


def parse_token(token: str, cipher: Cipher) -> Unsubscription:
    """Return what the last part of a link stands for.

    Raises:
        UnsubscribeLinkNotFound: It is none of ours.
    """
    try:
        return Unsubscription.parse_token(token, cipher)
    except ValueError as error:
        raise UnsubscribeLinkNotFound from error


async def unsubscribe(work: UnitOfWork, wish: Unsubscription) -> Ended:
    """Send the user no more of the event type on the channel; repeating it changes nothing.

    Where no subscription says what goes where, because they follow the scenario or because everybody is told, the
    channel itself ends: whoever clicked wants no more of these messages, and there is no smaller way.
    """
    await enter_scope(work.session, Scope(wish.tenant_id, wish.user_id))
    if not await repository.is_mandatory(wish, work.session) and await repository.remove_channel(wish, work.session):
        return Ended.EVENT_TYPE
    await repository.mark_contact_point_disabled(wish, work.session)
    return Ended.CHANNEL
