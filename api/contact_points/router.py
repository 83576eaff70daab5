"""The endpoints of contact points."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Path

from api.contact_points import service
from api.contact_points.errors import (
    AddressRefused,
    ChannelNotOffered,
    CodeNotSent,
    ContactPointDisabled,
    ContactPointNotFound,
    ContactPointUnverified,
    ContactPointVerified,
    NoCodeExpected,
    SentTooOften,
    WrongCode,
)
from api.contact_points.schemas import (
    ContactPoint,
    ContactPoints,
    ContactPointUpdate,
    TestResult,
    Verification,
    VerificationAttempt,
)
from api.dependencies import CurrentCipher, CurrentUser, OfferedChannels, Work, name_or
from api.idempotency.dependency import ANSWERED_ONCE, CONCEALED
from api.json_route import JsonRoute
from api.problems import problems
from shared.channel import CHANNELS, IN_APP, WEBHOOK, Channel

router = APIRouter(prefix="/contact-points", tags=["Contact points"], route_class=JsonRoute)

ChannelName = Annotated[
    str,
    name_or(ChannelNotOffered),
    Path(description=f"One of {', '.join(f'`{name}`' for name in CHANNELS if name != IN_APP)}."),
]


async def get_channel(_me: CurrentUser, channel: ChannelName, offered: OfferedChannels) -> Channel:
    """Return the channel that the path names; whoever is not to use the operation is told that first.

    Raises:
        ChannelNotOffered: This installation has none of this name.
    """
    if channel not in offered:
        raise ChannelNotOffered
    return offered[channel]


OfferedChannel = Annotated[Channel, Depends(get_channel)]


@router.get("")
async def list_contact_points(work: Work, me: CurrentUser) -> ContactPoints:
    """List where I am reached."""
    return await service.list_contact_points(work, me)


@router.put("/{channel}", responses=problems(ChannelNotOffered))
async def set_contact_point(
    channel: OfferedChannel, update: ContactPointUpdate, work: Work, me: CurrentUser, cipher: CurrentCipher
) -> ContactPoint:
    """Say where to reach me on a channel.

    An e-mail address, a phone number and the id of a Slack member or channel have to be proved before anything else is
    sent there: POST to `verification`, and the code that arrives to `verify`. The same address again enables what was
    disabled, and keeps its proof. The answer about a new webhook holds the secret that its messages are signed with,
    this once.
    """
    return await service.set_contact_point(work, me, cipher, channel.name, update)


@router.delete("/{channel}", status_code=HTTPStatus.NO_CONTENT, responses=problems(ChannelNotOffered))
async def delete_contact_point(channel: ChannelName, work: Work, me: CurrentUser) -> None:
    """Forget where to reach me on a channel, if you know."""
    await service.delete_contact_point(work, me, channel)


@router.post(
    f"/{WEBHOOK}/secret",
    dependencies=[CONCEALED, ANSWERED_ONCE],
    responses=problems(ContactPointNotFound),
)
async def rotate_webhook_secret(work: Work, me: CurrentUser, cipher: CurrentCipher) -> ContactPoint:
    """Give my webhook a new secret, and show it once.

    For a day messages are signed with the old one as well, so that the receiver can change it in peace.
    """
    return await service.rotate_secret(work, me, cipher)


@router.post(
    "/{channel}/verification",
    dependencies=[ANSWERED_ONCE],
    responses=problems(
        ChannelNotOffered, ContactPointNotFound, ContactPointVerified, AddressRefused, SentTooOften, CodeNotSent
    ),
)
async def send_verification_code(
    channel: OfferedChannel, work: Work, me: CurrentUser, cipher: CurrentCipher
) -> Verification:
    """Send a code to my address, to prove that I read what arrives there.

    It is valid for ten minutes and five tries. There is one a minute, and ten a day.
    """
    return await service.send_code(work, me, cipher, channel)


@router.post(
    "/{channel}/verify",
    dependencies=[ANSWERED_ONCE],
    responses=problems(ContactPointNotFound, ContactPointVerified, NoCodeExpected, WrongCode),
)
async def verify_contact_point(
    channel: ChannelName, attempt: VerificationAttempt, work: Work, me: CurrentUser
) -> ContactPoint:
    """Prove my address by the code that arrived there."""
    return await service.verify(work, me, channel, attempt.code)


@router.post(
    "/{channel}/test",
    dependencies=[ANSWERED_ONCE],
    responses=problems(
        ChannelNotOffered, ContactPointNotFound, ContactPointUnverified, ContactPointDisabled, SentTooOften
    ),
)
async def test_contact_point(channel: OfferedChannel, work: Work, me: CurrentUser, cipher: CurrentCipher) -> TestResult:
    """Send a real message to my address now, and tell what came of it.

    The answer is 200 whatever that is. There is one every ten seconds, and ten an hour.
    """
    return await service.send_test(work, me, cipher, channel)
