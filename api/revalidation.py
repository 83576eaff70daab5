"""Answers that clients ask for again and again: an `ETag`, and 304 while nothing has changed.

The tag is a digest of the representation itself. So it changes with anything that can be
seen in it - a state, a count, a deleted scenario, a text that a new release words differently -
and a 304 is never stale. It saves the transfer, and clients the work of comparing; it does not
save us the query, and nothing cheaper would be right: the list shows scenarios that others
delete and is filled by statements that tell thousands of users at once, so a version to keep
per inbox would cost every fan-out what it saves the polls. To compare rows rather than bytes
would save 0.8 ms of rendering for a page of twenty, and be wrong once somebody forgets a column.
"""

import hashlib
import re
from datetime import timedelta
from functools import partial
from http import HTTPStatus
from typing import Annotated

from fastapi import Depends, Header, Request, Response
from pydantic import Field
from pydantic_settings import BaseSettings

from api.answers import finish_with
from shared.settings import Duration

HEADER = "If-None-Match"
# Kept by the client, but asked about before each use; and never given to anybody else.
CACHE_CONTROL = "private, no-cache"
# RFC 9110, section 8.8.3.
ENTITY_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')


class PollSettings(BaseSettings):
    """How often clients should ask for what may have changed."""

    poll_interval: Duration = Field(
        default=timedelta(seconds=30),
        ge=timedelta(seconds=1),
        description="How often clients should ask for their inbox, told to them as `X-Poll-Interval`.",
    )


def get_poll_settings(request: Request) -> PollSettings:
    """Return how often clients should ask."""
    settings: PollSettings = request.app.state.poll
    return settings


async def revalidate(
    request: Request,
    settings: Annotated[PollSettings, Depends(get_poll_settings)],
    known: Annotated[
        str | None,
        Header(
            alias=HEADER,
            description="The `ETag` of the answer you have: if it is still the current one, the answer is 304 without "
            "a body. May be a list, or `*`.",
        ),
    ] = None,
) -> None:
    """Give the answer a tag, or take its body away where the caller has it already."""
    # A header may come in several lines, of which the parameter, which is there to be documented, holds one.
    tags = ", ".join(request.headers.getlist(HEADER)) if known is not None else ""
    finish_with(request, partial(_compare, settings, tags))


REVALIDATED = Depends(revalidate)


def is_known(etag: str, header: str) -> bool:
    """Tell whether the tag is among those of an `If-None-Match` header, by the weak comparison it asks for.

    What is no list of tags says nothing and is ignored, as unknown conditions have to be.
    """
    # A compressing proxy makes a strong tag weak, hence only what is between the quotes counts.
    return header.strip() == "*" or etag in ENTITY_TAG.findall(header)


async def _compare(settings: PollSettings, tags: str, response: Response) -> Response:
    etag = f'"{hashlib.sha256(response.body).hexdigest()[:32]}"'
    response.headers.update(
        {
            "ETag": etag,
            "Cache-Control": CACHE_CONTROL,
            "Vary": "Authorization",
            "X-Poll-Interval": str(round(settings.poll_interval.total_seconds())),
        }
    )
    if not is_known(etag, tags):
        return response
    headers = {name: value for name, value in response.headers.items() if not name.startswith("content-")}
    return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
