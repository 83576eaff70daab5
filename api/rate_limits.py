"""Rate limits: how much one caller may ask for in a minute, and what tells them so.

They protect callers from each other, not the service from the network: requests without a
valid token are refused before they cost a query, and are not counted. To count them by address
would lock out everybody behind one proxy for the mistakes of one; a flood belongs to the balancer.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, ClassVar

from fastapi import Depends, Request

from api.answers import add_headers
from api.callers import CurrentCaller
from api.problems import Problem
from api.rate_limiter import RateLimiter


class RateLimited(Problem):
    """You have sent too many requests. Try again after as many seconds as `Retry-After` says."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    code = "rate_limited"
    title = "Too many requests"
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": "60"}


def get_limiter(request: Request) -> RateLimiter:
    """Return what counts the requests of this process."""
    limiter: RateLimiter = request.app.state.limiter
    return limiter


async def limit_rate(
    request: Request, caller: CurrentCaller, limiter: Annotated[RateLimiter, Depends(get_limiter)]
) -> None:
    """Count the request, and refuse it when it is one too many.

    Raises:
        RateLimited: It is.
    """
    quota = await limiter.spend(caller.id, request.method)
    if quota is None:
        return
    add_headers(request, quota.to_headers())
    if quota.is_exceeded:
        raise RateLimited(headers={"Retry-After": str(quota.reset_after)})


RATE_LIMITED = Depends(limit_rate)
