"""Users, as programs write and read them."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from api.profile import (
    LOCALE,
    MAX_LOCALE_LENGTH,
    MAX_NAME_LENGTH,
    MAX_TIME_ZONE_LENGTH,
    parse_locale,
    parse_time_zone,
)
from api.schemas import Input, Line, Output
from shared.addresses import EMAIL_PATTERN, MAX_EMAIL_LENGTH


def _read_by(parse: Callable[[str], str], *, code: str) -> AfterValidator:
    def read(value: str) -> str:
        try:
            return parse(value)
        except ValueError as error:
            raise PydanticCustomError(code, "Value {reason}", {"reason": str(error)}) from error

    return AfterValidator(read)


class UserProvision(Input):
    """All that is to be known of a user. What is left out or null is not known from then on."""

    name: Annotated[Line, Field(max_length=MAX_NAME_LENGTH, description="How the user is called.")]
    email: Annotated[
        Annotated[str, StringConstraints(max_length=MAX_EMAIL_LENGTH, pattern=EMAIL_PATTERN)] | None,
        Field(description="Where the user gets mail."),
    ] = None
    locale: Annotated[
        Annotated[
            str,
            StringConstraints(max_length=MAX_LOCALE_LENGTH, pattern=LOCALE),
            _read_by(parse_locale, code="unknown_locale"),
        ]
        | None,
        Field(description="The user's language: a BCP 47 tag such as `en` or `pt-BR`."),
    ] = None
    time_zone: Annotated[
        Annotated[
            str,
            StringConstraints(min_length=1, max_length=MAX_TIME_ZONE_LENGTH, pattern=r"^[A-Za-z0-9_+/-]+$"),
            _read_by(parse_time_zone, code="unknown_time_zone"),
        ]
        | None,
        Field(description="The user's time zone: a name of the IANA database such as `Europe/Berlin`."),
    ] = None


class User(Output):
    """A person who can be told."""

    id: UUID
    external_id: str = Field(description="The identity provider's name for the user, the `sub` of their tokens.")
    name: str
    email: str | None
    locale: str | None
    time_zone: str | None
    created_at: datetime
    updated_at: datetime
