"""What can be wrong with a request about contact points."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import ClassVar

from api.problems import Problem


class ChannelNotOffered(Problem):
    """This installation sends nothing by a channel of this name."""

    status = HTTPStatus.NOT_FOUND
    code = "channel_not_offered"
    title = "Channel not offered"


class ContactPointNotFound(Problem):
    """You have no contact point on this channel. PUT an address first."""

    status = HTTPStatus.NOT_FOUND
    code = "contact_point_not_found"
    title = "Contact point not found"


class ContactPointVerified(Problem):
    """This address is verified already, or its channel needs no proof."""

    status = HTTPStatus.CONFLICT
    code = "contact_point_verified"
    title = "Contact point verified already"


class ContactPointUnverified(Problem):
    """This address is not verified yet. POST to `verification`, and the code that arrives to `verify`."""

    status = HTTPStatus.CONFLICT
    code = "contact_point_unverified"
    title = "Contact point unverified"


class ContactPointDisabled(Problem):
    """This contact point is disabled. PUT its address again to enable it."""

    status = HTTPStatus.CONFLICT
    code = "contact_point_disabled"
    title = "Contact point disabled"


class NoCodeExpected(Problem):
    """No code is valid: none was sent, it has expired, or was tried too often. POST to `verification` for a new one."""

    status = HTTPStatus.CONFLICT
    code = "no_code_expected"
    title = "No code expected"


class WrongCode(Problem):
    """This is not the code that was sent last."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    code = "wrong_code"
    title = "Wrong code"


class AddressRefused(Problem):
    """The provider refuses this address for good. PUT another one."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    code = "address_refused"
    title = "Address refused"


class SentTooOften(Problem):
    """You had enough messages sent to this channel for now. Try again after as many seconds as `Retry-After` says."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    code = "sent_too_often"
    title = "Sent too often"
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": "60"}


class CodeNotSent(Problem):
    """The provider could not take the code. Ask for another one after as many seconds as `Retry-After` says."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "code_not_sent"
    title = "Code not sent"
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": "60"}
