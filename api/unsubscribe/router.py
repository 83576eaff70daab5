"""The endpoints behind the link that a mail carries. The link itself is the credential, and good for nothing else."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path
from fastapi.responses import HTMLResponse

from api.dependencies import Work, get_runtime
from api.lifespan import Runtime
from api.problems import problems
from api.unsubscribe import pages, service
from api.unsubscribe.errors import UnsubscribeLinkNotFound
from shared.unsubscribe import Unsubscription

router = APIRouter(prefix="/unsubscribe", tags=["Unsubscribe"], default_response_class=HTMLResponse)

LINK = "/{token}"
# Nobody has logged in who reads mail.
PUBLIC: dict[str, Any] = {"security": []}
# What a mail program sends (RFC 8058, section 3.1). It says nothing that the link does not, so it is not read.
ONE_CLICK: dict[str, Any] = {
    "requestBody": {
        "content": {
            "application/x-www-form-urlencoded": {
                "schema": {
                    "type": "object",
                    "properties": {"List-Unsubscribe": {"type": "string", "examples": ["One-Click"]}},
                }
            }
        }
    }
}

AcceptLanguage = Annotated[str | None, Header(include_in_schema=False)]


def get_wish(
    token: Annotated[str, Path(description="The last part of the link.")],
    runtime: Annotated[Runtime, Depends(get_runtime)],
) -> Unsubscription:
    """Return what the link stands for, before anything is asked of the database."""
    return service.parse_token(token, runtime.cipher)


Wish = Annotated[Unsubscription, Depends(get_wish)]


@router.get(LINK, responses=problems(UnsubscribeLinkNotFound), openapi_extra=PUBLIC)
async def show_unsubscription(wish: Wish, accept_language: AcceptLanguage = None) -> HTMLResponse:
    """Show a page with a button to unsubscribe.

    It changes nothing: programs open links, too.
    """
    return pages.ask(wish, accept_language)


@router.post(LINK, responses=problems(UnsubscribeLinkNotFound), openapi_extra=PUBLIC | ONE_CLICK)
async def confirm_unsubscription(wish: Wish, work: Work, accept_language: AcceptLanguage = None) -> HTMLResponse:
    """Send no more messages of this kind to this user on this channel.

    Where no subscription of the user brings them, the channel ends altogether. Repeating it changes nothing.
    """
    return pages.confirm(wish, await service.unsubscribe(work, wish), accept_language)
