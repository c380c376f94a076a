"""The service account of a pod, as credential providers may ask for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from bamikube.nodeagent.api import PodApi
from bamikube.nodeagent.pod.facts import JSON

TOKEN_SECONDS = 3600  # a token for a provider is good for


class Account(Protocol):
    """Asked only when a provider wants to know."""

    async def describe(self) -> JSON | None:
        """The ServiceAccount, None when the pod has none."""

    async def token(self, audience: str) -> str:
        """A token of the account that is bound to the pod."""


@dataclass(frozen=True, slots=True)
class PodAccount:
    """The account of one pod, from the API server."""

    api: PodApi
    pod: JSON

    async def describe(self) -> JSON | None:
        name = self.pod["spec"].get("serviceAccountName")
        if not name:
            return None
        return await self.api.find("serviceaccounts", self.pod["metadata"]["namespace"], name)

    async def token(self, audience: str) -> str:
        return (await self.api.token(self.pod, audience, TOKEN_SECONDS))[0]
