"""Connections that are only ever made to permitted addresses.

The address is checked where it is connected to: there is no time between the check and the connection in which the name
of a host could come to mean another address (DNS rebinding), and no spelling of an address that was not thought of.
"""

import asyncio
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeAlias

from aiohttp.abc import AbstractResolver, ResolveResult
from typing_extensions import override

# What `socket.getaddrinfo` is.
LookUp: TypeAlias = Callable[..., list[tuple[Any, ...]]]
IsPermitted: TypeAlias = Callable[[str], bool]

# Each waits for one name. The loop's own few threads would all wait for a tenant whose name server says nothing.
LOOK_UP_THREADS = 64


class AddressRefused(OSError):
    """No address of the host is one that anything may be sent to."""


class GuardedResolver(AbstractResolver):
    """Looks names up, and answers with those of their addresses that are permitted."""

    def __init__(self, is_permitted: IsPermitted, look_up: LookUp) -> None:
        self._is_permitted = is_permitted
        self._look_up = look_up
        self._threads = ThreadPoolExecutor(LOOK_UP_THREADS, thread_name_prefix="look-up")

    @override
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the permitted addresses of a host.

        Raises:
            AddressRefused: It has none but others.
            OSError: It has none at all, or nobody knows.
        """
        look_up = partial(self._look_up, host, port, family=family, type=socket.SOCK_STREAM)
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
        except UnicodeError:
            # Labels that are empty or too long.
            raise socket.gaierror(socket.EAI_NONAME, "the name is none of a host") from None
        permitted = [entry for entry in found if self._is_permitted(entry[4][0])]
        if not permitted:
            raise AddressRefused
        return [
            ResolveResult(
                hostname=host,
                host=address[0],
                port=address[1],
                family=family,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for family, _, protocol, _, address in permitted
        ]

    @override
    async def close(self) -> None:
        """Wait for nobody: a look-up cannot be stopped, but it ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def make_socket(info: tuple[Any, ...], *, is_permitted: IsPermitted) -> socket.socket:
    """Return the socket for a connection that is about to be made.

    This is the wall: every connection passes here, numeric hosts and whatever a resolver may say included.

    Args:
        info: Where to, as `socket.getaddrinfo` says it.
        is_permitted: Tells whether an address may be connected to.

    Raises:
        AddressRefused: That is no permitted address.
    """
    family, kind, protocol, _, address = info
    if not is_permitted(address[0]):
        raise AddressRefused
    return socket.socket(family, kind, protocol)
