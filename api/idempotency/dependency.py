"""The dependency that every POST declares: `dependencies=[ANSWERED_ONCE]`.

It claims the key before the endpoint runs and stores the answer after it, both in the
transaction of the change. What fails is rolled back together with the claim, so a retry
after a failure is carried out.

An endpoint that sends something pauses its unit of work before that, and commits the claim:
whatever happens then, to this process as well, a repeat does not send it again. While there
is no answer yet, a repeat is told that the key is in use, and so it stays if there never
comes one. A problem releases the key: the endpoint knows what happened, and says so.
"""

import hashlib
import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated

from fastapi import Depends, Header, Request, Response
from pydantic import StringConstraints

from api.answers import AnsweredInstead, finish_with
from api.callers import Caller, CurrentCaller
from api.dependencies import CurrentCipher, Work
from api.idempotency import repository
from api.idempotency.errors import IdempotencyKeyInUse, IdempotencyKeyReused
from api.json_route import parse_json
from api.problems import MalformedRequest, Problem
from shared.encryption import Cipher
from shared.unit_of_work import UnitOfWork

HEADER = "Idempotency-Key"
MAX_LENGTH = 255
VISIBLE_ASCII = r"^[!-~]+$"
# All other headers are those of the request at hand: its id, its quota, its origin.
REPLAYED_HEADERS = ("content-type", "location")

Key = Annotated[str, StringConstraints(min_length=1, max_length=MAX_LENGTH, pattern=VISIBLE_ASCII)]


async def answer_once(
    request: Request,
    caller: CurrentCaller,
    work: Work,
    cipher: CurrentCipher,
    key: Annotated[
        Key | None,
        Header(
            alias=HEADER,
            description="Makes it safe to repeat the request: within 24 hours, the same request with the same key is "
            "answered as it was the first time and changes nothing more. A UUID is a good key.",
        ),
    ] = None,
) -> AsyncIterator[None]:
    """Carry the request out only if its key is new; otherwise answer as before.

    Raises:
        AnsweredInstead: It was carried out before.
        IdempotencyKeyReused: Another request was.
        IdempotencyKeyInUse: One with this key is under way, and takes long.
        MalformedRequest: There is more than one key.
    """
    if key is None:
        yield
        return
    if len(request.headers.getlist(HEADER)) > 1:
        message = f"There is more than one {HEADER} header."
        raise MalformedRequest(message)
    fingerprint = await _fingerprint(request)
    if await repository.claim_key(caller, work.session, key, fingerprint):
        finish_with(request, partial(_keep, work, caller, key, cipher if _is_concealed(request) else None))
        try:
            yield
        except Problem:
            if work.has_paused:
                await repository.release_key(caller, work.session, key)
                await work.session.commit()
            raise
        return
    answer = await repository.get_answer(caller, work.session, key)
    if answer.fingerprint != fingerprint:
        raise IdempotencyKeyReused
    if answer.status is None:
        raise IdempotencyKeyInUse
    body = cipher.decrypt(caller.tenant_id, answer.body.decode()) if _is_concealed(request) else answer.body
    raise AnsweredInstead(Response(body, answer.status, headers={**answer.headers, "Idempotent-Replayed": "true"}))


# Scope "function", as that of the unit of work that it needs.
ANSWERED_ONCE = Depends(answer_once, scope="function")


async def conceal_answer(request: Request) -> None:
    """Have the answer stored encrypted: it shows a secret, which the database holds nowhere in plain text."""
    request.state.is_concealed = True


# Before `ANSWERED_ONCE`.
CONCEALED = Depends(conceal_answer)


def _is_concealed(request: Request) -> bool:
    return getattr(request.state, "is_concealed", False)


async def _keep(work: UnitOfWork, caller: Caller, key: str, cipher: Cipher | None, response: Response) -> Response:
    headers = {name: response.headers[name] for name in REPLAYED_HEADERS if name in response.headers}
    body = bytes(response.body)
    if cipher is not None:
        body = cipher.encrypt(caller.tenant_id, body.decode()).encode()
    answer = repository.Answer(response.status_code, headers, body)
    await repository.record_answer(caller, work.session, key, answer)
    return response


async def _fingerprint(request: Request) -> bytes:
    """Return a digest of what is asked, the same however the JSON of the body is laid out."""
    body = await request.body()
    canonical = json.dumps(parse_json(body), sort_keys=True) if body else ""
    asked = [request.method, request.url.path, request.url.query, canonical]
    return hashlib.sha256(json.dumps(asked).encode()).digest()
