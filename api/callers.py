"""Who calls, as far as idempotency keys and rate limits are concerned."""

from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import Depends

from api.api_keys import Program
from api.dependencies import Identity


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller whose keys and whose quota are nobody else's.

    Attributes:
        tenant_id: The caller's tenant.
        id: The caller, unique among all kinds of callers, as UUIDv7 are.
    """

    tenant_id: UUID
    id: UUID


async def get_caller(caller: Identity) -> Caller:
    """Return the caller of this request: a user, or the key of a program."""
    return Caller(tenant_id=caller.tenant_id, id=caller.key_id if isinstance(caller, Program) else caller.id)


CurrentCaller = Annotated[Caller, Depends(get_caller)]
