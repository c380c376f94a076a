"""Service account tokens of one pod's volumes: asked for when needed, anew in good time, kept while no new one can be had.

A token is replaced after 80 % of its life, or a day. While the API server cannot be reached or refuses, the old one
goes on until it has expired.
"""

from __future__ import annotations

import asyncio
import logging

from bamikube.api.errors import ApiError
from bamikube.kit.clock import Clock
from bamikube.nodeagent.api import PodApi
from bamikube.nodeagent.container.env import ConfigError
from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.volumes.plugin import TokenNeed

log = logging.getLogger(__name__)

DAY = 86_400.0  # seconds
LIFE = 0.8  # the part of a token's life after which it is replaced


class Tokens:
    """Each token is asked for once, however many volumes want it."""

    def __init__(self, api: PodApi, clock: Clock) -> None:
        self._api, self._clock = api, clock
        self._held: dict[TokenNeed, tuple[str, float, float]] = {}  # token, issued, expires
        self._asking: dict[TokenNeed, asyncio.Lock] = {}

    async def get(self, pod: JSON, need: TokenNeed) -> str:
        """A token that is good now. Raises ConfigError in the kubelet's words."""
        async with self._asking.setdefault(need, asyncio.Lock()):
            held, now = self._held.get(need), self._clock.now()
            if held is not None and now < min(held[1] + LIFE * (held[2] - held[1]), held[1] + DAY):
                return held[0]
            try:
                token, expires = await self._api.token(pod, need.audience, need.seconds)
            except (ApiError, OSError) as error:
                if held is None:
                    raise ConfigError(f"failed to fetch token: {error}") from error
                if now >= held[2]:
                    raise ConfigError(f"token expired and refresh failed: {error}") from error
                log.warning("pod %s: cannot renew its token yet: %s", facts.full_name(pod), error)
                return held[0]
            self._held[need] = (token, now, expires)
            return token
