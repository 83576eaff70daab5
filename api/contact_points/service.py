"""What can be done with contact points."""

import math
import secrets
from datetime import datetime, timedelta
from hmac import compare_digest

from api.contact_points import repository
from api.contact_points.errors import (
    AddressRefused,
    CodeNotSent,
    ContactPointDisabled,
    ContactPointUnverified,
    ContactPointVerified,
    NoCodeExpected,
    SentTooOften,
    WrongCode,
)
from api.contact_points.schemas import (
    CODE_LENGTH,
    ContactPoint,
    ContactPoints,
    ContactPointUpdate,
    TestResult,
    Verification,
)
from api.problems import InvalidField, InvalidInput
from api.sending import send_now
from shared.addresses import Address, parse_address
from shared.channel import EMAIL, SLACK, SMS, WEBHOOK, Channel, Content, OutboundMessage
from shared.clock import utc_now
from shared.encryption import CannotDecrypt, Cipher
from shared.ids import new_id
from shared.messages import Reader, render_code, render_test
from shared.models import AttemptResult, SendPurpose, User
from shared.models import ContactPoint as ContactPointRow
from shared.signing import add_secret, list_valid_secrets, make_secret
from shared.unit_of_work import UnitOfWork

# Whoever enters an address here must be able to read what arrives there; most of the others are secrets themselves.
PROVED_BY_CODE = frozenset({EMAIL, SLACK, SMS})

# Five guesses at one of a million codes, ten times a day.
CODE_LIFETIME = timedelta(minutes=10)
CODE_INTERVAL = timedelta(minutes=1)
MAX_CODE_TRIES = 5
MAX_CODES_A_DAY = 10
TEST_INTERVAL = timedelta(seconds=10)
MAX_TESTS_AN_HOUR = 10


async def list_contact_points(work: UnitOfWork, me: User) -> ContactPoints:
    """Return where I am reached."""
    rows = await repository.list_contact_points(me, work.session)
    return ContactPoints(data=[_describe(row) for row in rows])


async def set_contact_point(
    work: UnitOfWork, me: User, cipher: Cipher, channel: str, update: ContactPointUpdate
) -> ContactPoint:
    """Make this my address on a channel. The one that is known already keeps its verification."""
    address = _parse(channel, update.address)
    encrypted_address = cipher.encrypt(me.tenant_id, address.value)
    is_new = await repository.create_contact_point(
        me,
        work.session,
        channel,
        encrypted_address=encrypted_address,
        masked_address=address.masked,
        endpoint=address.endpoint,
    )
    point = await repository.claim_contact_point(me, work.session, channel)
    if not is_new and not _reaches(point, cipher, address):
        point.move(encrypted_address=encrypted_address, masked_address=address.masked, endpoint=address.endpoint)
    now = utc_now()
    if point.verified_at is None and not _needs_proof(channel, address):
        point.verify(at=now)
    if update.enabled:
        point.enable()
    else:
        point.disable(at=now)
    secret = _renew_secret(point, cipher, at=now) if channel == WEBHOOK and is_new else None
    return _describe(point, secret)


async def delete_contact_point(work: UnitOfWork, me: User, channel: str) -> None:
    """Forget my address on a channel."""
    await repository.delete_contact_point(me, work.session, channel)


async def rotate_secret(work: UnitOfWork, me: User, cipher: Cipher) -> ContactPoint:
    """Give my webhook a new secret; the one before it goes on to be signed with for a day.

    Raises:
        ContactPointNotFound: I have no webhook.
    """
    point = await repository.claim_contact_point(me, work.session, WEBHOOK)
    return _describe(point, _renew_secret(point, cipher, at=utc_now()))


async def send_code(work: UnitOfWork, me: User, cipher: Cipher, channel: Channel) -> Verification:
    """Send a new code to my address on a channel.

    Raises:
        ContactPointNotFound: I have none there.
        ContactPointVerified: There is nothing to prove.
        SentTooOften: The last one is too young, or there were too many today.
        AddressRefused: The provider will never take a message to it.
        CodeNotSent: The provider could not take it now.
    """
    point = await repository.claim_contact_point(me, work.session, channel.name)
    if point.verified_at is not None:
        raise ContactPointVerified
    now = utc_now()
    await _spend(
        work, me, channel, SendPurpose.CODE, window=timedelta(days=1), most=MAX_CODES_A_DAY, interval=CODE_INTERVAL
    )
    code = f"{secrets.randbelow(10**CODE_LENGTH):0{CODE_LENGTH}}"
    point.expect_code(code, at=now, until=now + CODE_LIFETIME)
    minutes = CODE_LIFETIME // timedelta(minutes=1)
    message = _compose(point, me, cipher, render_code(channel.name, code, _reader(me), minutes=minutes), at=now)
    # Only a code that is known for certain may go out, and no transaction is open while the provider thinks.
    await work.pause()
    sent = await send_now(channel, message)
    match sent.result:
        case AttemptResult.PERMANENT_FAILURE:
            message_ = f"The provider refuses this address for good: {sent.detail}."
            raise AddressRefused(message_)
        case AttemptResult.TEMPORARY_FAILURE | AttemptResult.RATE_LIMITED:
            raise CodeNotSent
    return Verification(
        channel=point.channel,
        address=point.masked_address,
        expires_at=now + CODE_LIFETIME,
        next_code_at=now + CODE_INTERVAL,
    )


async def verify(work: UnitOfWork, me: User, channel: str, code: str) -> ContactPoint:
    """Take my address for proved if this is the code that was sent to it.

    Raises:
        ContactPointNotFound: I have none there.
        ContactPointVerified: There is nothing to prove.
        NoCodeExpected: None is valid any more.
        WrongCode: It is another one.
    """
    point = await repository.claim_contact_point(me, work.session, channel)
    if point.verified_at is not None:
        raise ContactPointVerified
    now = utc_now()
    if (
        point.code_hash is None
        or point.code_expires_at is None
        or point.code_expires_at <= now
        or point.code_try_count >= MAX_CODE_TRIES
    ):
        raise NoCodeExpected
    if compare_digest(point.code_hash, point.hash_code(code)):
        point.verify(at=now)
        return _describe(point)
    point.code_try_count += 1
    left = MAX_CODE_TRIES - point.code_try_count
    # A try counts, although the request fails. Until here the row was locked: of many at once none is free.
    await work.pause()
    more = f"{left} more {'try' if left == 1 else 'tries'}" if left else "no more tries: ask for a new code"
    message = f"This is not the code that was sent last. It has {more}."
    raise WrongCode(message)


async def send_test(work: UnitOfWork, me: User, cipher: Cipher, channel: Channel) -> TestResult:
    """Send a message to my address on a channel, and tell what came of it.

    Raises:
        ContactPointNotFound: I have none there.
        ContactPointUnverified: Nobody knows yet whose address it is.
        ContactPointDisabled: Nothing is to be sent there.
        SentTooOften: I had enough of them.
    """
    point = await repository.claim_contact_point(me, work.session, channel.name)
    if point.verified_at is None:
        raise ContactPointUnverified
    if point.disabled_at is not None:
        raise ContactPointDisabled
    await _spend(
        work, me, channel, SendPurpose.TEST, window=timedelta(hours=1), most=MAX_TESTS_AN_HOUR, interval=TEST_INTERVAL
    )
    message = _compose(point, me, cipher, render_test(channel.name, _reader(me)), at=utc_now())
    # The quota is spent, whatever comes, and no transaction is open while the provider thinks.
    await work.pause()
    sent = await send_now(channel, message)
    await repository.record_result(me, work.session, point, sent.result, at=utc_now())
    return TestResult(result=sent.result, detail=sent.detail, provider=sent.provider)


def _parse(channel: str, text: str) -> Address:
    try:
        return parse_address(channel, text)
    except ValueError as error:
        field = InvalidField(pointer="#/address", detail=f"Value {error}", code="invalid_address")
        raise InvalidInput(errors=[field]) from None


def _needs_proof(channel: str, address: Address) -> bool:
    """Tell whether anybody could enter it for anybody: the bot of a Slack workspace reaches all members."""
    return channel in PROVED_BY_CODE and "://" not in address.value


def _reaches(point: ContactPointRow, cipher: Cipher, address: Address) -> bool:
    """Tell whether the contact point has this address; one that cannot be opened any more has another."""
    try:
        return cipher.decrypt(point.tenant_id, point.encrypted_address) == address.value
    except CannotDecrypt:
        return False


def _renew_secret(point: ContactPointRow, cipher: Cipher, *, at: datetime) -> str:
    """Give the contact point a new secret and return it."""
    secret = make_secret()
    known = cipher.decrypt(point.tenant_id, point.encrypted_secrets) if point.encrypted_secrets else None
    point.encrypted_secrets = cipher.encrypt(point.tenant_id, add_secret(known, secret, at=at))
    return secret


async def _spend(  # noqa: PLR0913 - whose quota, and which
    work: UnitOfWork,
    me: User,
    channel: Channel,
    purpose: SendPurpose,
    *,
    window: timedelta,
    most: int,
    interval: timedelta,
) -> None:
    now = utc_now()
    free_at = await repository.claim_send(
        me, work.session, channel.name, purpose, window=window, most=most, interval=interval, at=now
    )
    if free_at is not None:
        wait = max(1, math.ceil((free_at - now).total_seconds()))
        raise SentTooOften(headers={"Retry-After": str(wait)})


def _compose(point: ContactPointRow, me: User, cipher: Cipher, content: Content, *, at: datetime) -> OutboundMessage:
    signed_with = cipher.decrypt(me.tenant_id, point.encrypted_secrets) if point.encrypted_secrets else None
    return OutboundMessage(
        id=new_id(),
        address=cipher.decrypt(me.tenant_id, point.encrypted_address),
        content=content,
        created_at=at,
        secrets=tuple(list_valid_secrets(signed_with, at=at)) if signed_with else (),
    )


def _reader(me: User) -> Reader:
    return Reader(locale=me.locale, time_zone=me.time_zone)


def _describe(point: ContactPointRow, secret: str | None = None) -> ContactPoint:
    return ContactPoint(
        channel=point.channel,
        address=point.masked_address,
        verified=point.verified_at is not None,
        enabled=point.disabled_at is None,
        disabled_reason=point.disabled_reason,
        last_result=point.last_result,
        last_attempt_at=point.last_attempt_at,
        secret=secret,
    )
