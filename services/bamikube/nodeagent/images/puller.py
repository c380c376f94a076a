"""The node's pulls: how many at a time, and with whose credentials.

By default all pulls go on side by side, so that one which stalls delays nobody; ``serialize`` lets one go after the other,
``most`` bounds how many go on at once, ``pace`` how many begin in a second: who comes too early fails, and tries again later.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from bamikube.kit.clock import Clock
from bamikube.kit.pace import Pace
from bamikube.nodeagent.images.accounts import Account
from bamikube.nodeagent.images.keyring import Keyring
from bamikube.nodeagent.images.names import Name
from bamikube.nodeagent.runtime.port import Credentials, Runtime, RuntimeFailure

log = logging.getLogger(__name__)

NodeCredentials = Callable[[Name, Account | None], Awaitable[list[Credentials]]]


class PullFailed(Exception):
    """No attempt succeeded; the text holds what the runtime said, as Kubernetes prints it."""


def in_words(failure: RuntimeFailure) -> str:
    """What a runtime says of a pull: a code that says nothing (Unknown) is left out. Pure."""
    return failure.message if failure.code == "UNKNOWN" else failure.in_go()


async def no_credentials(name: Name, account: Account | None) -> list[Credentials]:
    return []


class Puller:
    """One for the whole node. ``node`` finds the node's own credentials for an image."""

    def __init__(
        self,
        *,
        serialize: bool = False,
        most: int = 0,
        node: NodeCredentials = no_credentials,
        pace: Pace | None = None,
    ) -> None:
        self._pace = pace
        bound = 1 if serialize else most
        self._gate = asyncio.Semaphore(bound) if bound else None
        self._node = node

    async def pull(
        self,
        runtime: Runtime,
        clock: Clock,
        image: str,
        name: Name,
        keyring: Keyring,
        account: Account | None = None,
    ) -> float:
        """Pull an image with the first credentials that work, without any if there are none. The seconds it took.

        ``account``: the pod's service account, for credential providers that ask for it.

        Raises PullFailed.
        """
        choices: list[Credentials | None] = list(keyring.lookup(name.repository))
        choices += [one for one in await self._node(name, account) if one not in choices]
        if self._pace is not None and not self._pace.take():
            raise PullFailed("pull QPS exceeded")
        async with AsyncExitStack() as stack:
            if self._gate is not None:
                await stack.enter_async_context(self._gate)
            begun = clock.monotonic()
            said: list[str] = []
            for choice in choices or [None]:
                try:
                    await runtime.pull_image(image, choice)
                    return clock.monotonic() - begun
                except RuntimeFailure as failure:
                    if (words := in_words(failure)) not in said:
                        said.append(words)
        raise PullFailed(said[0] if len(said) == 1 else f"[{', '.join(said)}]")
