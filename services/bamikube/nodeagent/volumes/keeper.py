"""The volumes of one pod, as its worker sees them: set up before it starts, kept true while it runs.

Every volume goes its own way: what it needs is fetched, then it is made; one that cannot be had holds up the others no
more than it must. What went wrong is told as events in Kubernetes' words, one for each volume.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from bamikube.api.errors import ApiError
from bamikube.nodeagent.container.env import ConfigError
from bamikube.nodeagent.host.port import HostFailure
from bamikube.nodeagent.pod.context import Shared
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.volumes.kinds import plugin_of
from bamikube.nodeagent.volumes.plugin import Given, TokenNeed

DAY = 86_400.0  # seconds
TOKEN_LIFE = 0.8  # the part of a token's life after which it is replaced


class PodVolumes:
    """Makes and refreshes; ``faults`` of a round are by volume."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._ready: set[str] = set()
        self._tokens: dict[TokenNeed, tuple[str, float, float]] = {}  # token, issued, expires
        self._asking: dict[TokenNeed, asyncio.Lock] = {}
        self._versions = 0

    async def set_up(self, pod: JSON, ips: tuple[str, ...]) -> list[str]:
        """Make what is not there yet; one message for each volume that cannot be had now."""
        wanted = [v for v in pod["spec"].get("volumes") or () if v["name"] not in self._ready]
        return await self._all(pod, wanted, ips)

    async def refresh(self, pod: JSON, ips: tuple[str, ...]) -> list[str]:
        """Bring up to date what may have changed; what cannot be had stays as it is."""
        return await self._all(pod, [v for v in pod["spec"].get("volumes") or () if refreshes(v)], ips)

    async def _all(self, pod: JSON, volumes: list[JSON], ips: tuple[str, ...]) -> list[str]:
        said = await asyncio.gather(*(self._one(pod, volume, ips) for volume in volumes))
        return [text for text in said if text]

    async def _one(self, pod: JSON, volume: JSON, ips: tuple[str, ...]) -> str:
        name = volume["name"]
        try:
            needs = plugin_of(volume).needs(pod, volume)
            tokens = dict(
                zip(
                    needs.tokens,
                    await asyncio.gather(*(self._token(pod, n) for n in needs.tokens)),
                    strict=True,
                )
            )
            known = await self._shared.sources(pod, set(needs.objects), ips)
            await self._shared.host.set_up(pod, volume, Given(known, tokens), self._version())
        except (HostFailure, ConfigError, ApiError, OSError) as error:
            return f'MountVolume.SetUp failed for volume "{name}" : {_text(error)}'
        self._ready.add(name)
        return ""

    def _version(self) -> str:
        """The name of a version of files, as ``2026_01_02_03_04_05.17``; never used twice for a pod."""
        self._versions += 1
        at = self._shared.world.clock.now()
        return f"{datetime.fromtimestamp(at, UTC):%Y_%m_%d_%H_%M_%S}.{int(at % 1 * 1e9) + self._versions}"

    async def _token(self, pod: JSON, need: TokenNeed) -> str:
        """A token younger than 80 % of its life and than a day; asked for once, however many volumes want it."""
        async with self._asking.setdefault(need, asyncio.Lock()):
            held, now = self._tokens.get(need), self._shared.world.clock.now()
            if held is not None and now < min(held[1] + TOKEN_LIFE * (held[2] - held[1]), held[1] + DAY):
                return held[0]
            token, expires = await self._shared.api.token(pod, need.audience, need.seconds)
            self._tokens[need] = (token, now, expires)
            return token


def refreshes(volume: JSON) -> bool:
    """Whether what a volume shows may change while its pod runs."""
    try:
        return plugin_of(volume).refreshes
    except HostFailure:
        return False


def _text(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)
