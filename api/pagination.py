"""Lists by keyset: an opaque cursor, a page, a link to the next one."""

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Generic, Protocol, Self, TypeVar
from uuid import UUID

from fastapi import Depends, Request, Response
from pydantic import Field

from api.api_keys import Program
from api.problems import Problem
from api.schemas import Input, Line, Output
from shared.models import User

Item = TypeVar("Item")
Row = TypeVar("Row")

DEFAULT_LIMIT = 20
MAX_LIMIT = 100
MAX_CURSOR_LENGTH = 512
BINDING_BYTES = 16


class InvalidCursor(Problem):
    """This cursor does not belong to this list. Cursors go with one user, one list and one filter."""

    status = HTTPStatus.BAD_REQUEST
    code = "invalid_cursor"
    title = "Invalid cursor"


class PageQuery(Input):
    """The query of a list; a subclass adds its filters."""

    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT, description="Most items to return.")] = DEFAULT_LIMIT
    cursor: Annotated[
        Line | None, Field(max_length=MAX_CURSOR_LENGTH, description="The `next_cursor` of the page before.")
    ] = None


class Page(Output, Generic[Item]):
    """One page of a list."""

    data: list[Item]
    next_cursor: str | None = Field(description="Ask for the next page with it; null on the last page.")
    has_more: bool


@dataclass(frozen=True, slots=True)
class Slice(Generic[Row]):
    """The rows of one page, and where the next one starts."""

    rows: Sequence[Row]
    next_cursor: str | None

    @property
    def has_more(self) -> bool:
        """Whether there is a next page."""
        return self.next_cursor is not None

    def to_page(self, show: Callable[[Row], object]) -> dict[str, object]:
        """Return the members of a `Page`, each row as `show` shows it."""
        return {
            "data": [show(row) for row in self.rows],
            "next_cursor": self.next_cursor,
            "has_more": self.has_more,
        }


@dataclass(frozen=True, slots=True)
class Window:
    """Which part of a list is asked for.

    Attributes:
        limit: How many rows the page may have.
        after: Key of the last row of the page before.
        binding: Digest of the user, the list and its filters, which every cursor carries. It needs no secret: a
            cursor only says where to start in rows that are the caller's own in any case.
    """

    limit: int
    after: str | None
    binding: bytes

    @classmethod
    def of(cls, query: PageQuery, me: User | Program, *path: UUID) -> Self:
        """Return the window that the query asks for.

        Args:
            query: The query of the request.
            me: Whose list it is: a user's, or that of a program's tenant.
            path: Ids from the path, where they tell apart lists of the same kind.

        Raises:
            InvalidCursor: Its cursor is not one of this user, list and filter.
        """
        filters = query.model_dump(mode="json", exclude={"limit", "cursor"})
        owner = me.tenant_id if isinstance(me, Program) else me.id
        subject = [type(query).__name__, str(owner), *(str(part) for part in path), filters]
        binding = hashlib.sha256(json.dumps(subject).encode()).digest()[:BINDING_BYTES]
        return cls(query.limit, _parse_cursor(query.cursor, binding) if query.cursor else None, binding)

    @property
    def after_id(self) -> UUID | None:
        """The key of the last row of the page before, in lists that go by id."""
        try:
            return UUID(self.after) if self.after else None
        except ValueError as error:
            raise InvalidCursor from error

    @property
    def fetch(self) -> int:
        """How many rows to ask for: one more than the page has tells whether there is a next page."""
        return self.limit + 1

    def cut(self, rows: Sequence[Row], *, key: Callable[[Row], object], looked_until: object = None) -> Slice[Row]:
        """Return the page that these rows make.

        Args:
            rows: The next rows, `fetch` of them at most.
            key: What the list goes by.
            looked_until: The key up to which was looked, where that is not the end of the list.
        """
        shown = rows[: self.limit]
        last = key(shown[-1]) if len(rows) > self.limit else looked_until
        return Slice(shown, None if last is None else self._cursor(str(last)))

    def _cursor(self, key: str) -> str:
        return base64.urlsafe_b64encode(self.binding + key.encode()).decode().rstrip("=")


def _parse_cursor(cursor: str, binding: bytes) -> str:
    try:
        decoded = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        key = decoded.removeprefix(binding).decode()
    except (binascii.Error, ValueError) as error:
        raise InvalidCursor from error
    if not decoded.startswith(binding) or not key.isprintable():
        raise InvalidCursor
    return key


class Continued(Protocol):
    """An answer that may have a next page."""

    @property
    def next_cursor(self) -> str | None:
        """The cursor of the next page."""


Answer = TypeVar("Answer", bound=Continued)


class Links:
    """Adds to an answer the `Link` header that leads to the next page (RFC 8288)."""

    def __init__(self, request: Request, response: Response) -> None:
        """Remember what is asked and where the header goes."""
        self._url = request.url
        self._headers = response.headers

    def add_next(self, page: Answer) -> Answer:
        """Return the page, with the way to the next one in the headers.

        The address is relative, so that it holds behind any balancer.
        """
        if page.next_cursor is not None:
            url = self._url.include_query_params(cursor=page.next_cursor)
            self._headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
        return page


NextLink = Annotated[Links, Depends(Links)]
