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
from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.pod.context import Shared
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.volumes import claims
from bamikube.nodeagent.volumes.faults import OPTIONS, StepFailed, told
from bamikube.nodeagent.volumes.kinds import plugin_of
from bamikube.nodeagent.volumes.plugin import Given, Plugin, options_of
from bamikube.nodeagent.volumes.tokens import Tokens


class PodVolumes:
    """Makes and refreshes; ``faults`` of a round are by volume."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._ready: set[str] = set()
        self._groups: dict[str, int] = {}  # by volume: the group that its persistent volume is used with
        self._tokens = Tokens(shared.api, shared.world.clock)
        self._versions = 0

    async def set_up(self, pod: JSON, ips: tuple[str, ...]) -> list[str]:
        """Make what is used and not there yet; one message for each volume that cannot be had now."""
        names = used(pod) - self._ready
        there = pod["spec"].get("volumes") or ()
        wanted = [v for v in there if v["name"] in names and "image" not in v]
        return await self._all(pod, wanted, ips)

    def groups(self, pod: JSON) -> tuple[int, ...]:
        """The groups that containers need for persistent volumes, beside those that the pod names."""
        named = (pod["spec"].get("securityContext") or {}).get("supplementalGroups") or ()
        return tuple(sorted(set(self._groups.values()).difference(named)))

    async def show_image(self, pod: JSON, volume: JSON, image: str) -> None:
        """Make an image volume, once the image is there. Raises HostFailure, OSError or RuntimeFailure."""
        if volume["name"] in self._ready:
            return
        uid = facts.uid(pod)
        tree = await self._shared.runtime.image_tree(image, f"volume-{uid}-{volume['name']}", uid)
        known = await self._shared.sources(pod, set(), ())
        await self._shared.host.set_up(pod, volume, Given(known, tree=tree), self._version())
        self._ready.add(volume["name"])

    async def refresh(self, pod: JSON, ips: tuple[str, ...]) -> list[str]:
        """Bring up to date what may have changed; what cannot be had stays as it is."""
        there = [v for v in pod["spec"].get("volumes") or () if v["name"] in self._ready and refreshes(v)]
        return await self._all(pod, there, ips)

    async def _all(self, pod: JSON, volumes: list[JSON], ips: tuple[str, ...]) -> list[str]:
        said = await asyncio.gather(*(self._one(pod, volume, ips) for volume in volumes))
        return [text for text in said if text]

    async def _one(self, pod: JSON, volume: JSON, ips: tuple[str, ...]) -> str:
        name = inner = volume["name"]
        try:
            behind, read_only = await self._behind(pod, volume)
            if behind is not None:
                inner = behind["metadata"]["name"]
            plugin = plugin_of(volume, behind)
            if behind is not None:
                await self._judge(behind, plugin)
            needs = plugin.needs(pod, volume)
            tokens = dict(
                zip(
                    needs.tokens,
                    await asyncio.gather(*(self._tokens.get(pod, n) for n in needs.tokens)),
                    strict=True,
                )
            )
            known = await self._shared.sources(pod, set(needs.objects), ips)
            bundles = await self._shared.api.trust_bundles() if needs.trust else None
            given = Given(known, tokens, behind, read_only, bundles=bundles)
            made = await self._shared.host.set_up(pod, volume, given, self._version())
            for reason, text in made.says:
                self._shared.api.event(pod, "Warning", reason, text)
        except (HostFailure, ConfigError, ApiError, OSError) as error:
            return told(error, name, inner)
        if (group := claims.group_of(behind)) is not None:
            self._groups[name] = group
        self._ready.add(name)
        return ""

    async def _behind(self, pod: JSON, volume: JSON) -> tuple[JSON | None, bool]:
        """The persistent volume of a claim, and whether it is used for reading only. Raises NotProcessed."""
        wanted = claims.claim_of(pod, volume)
        if wanted is None:
            return None, False
        api = self._shared.api
        claim = await api.find("persistentvolumeclaims", pod["metadata"]["namespace"], wanted.name)
        name = claims.bound(pod, wanted, claim)
        found = await api.find("persistentvolumes", "", name)
        return claims.behind(pod, volume, wanted, claim or {}, found), wanted.read_only

    async def _judge(self, behind: JSON, plugin: Plugin) -> None:
        if behind["spec"].get("nodeAffinity"):
            name = self._shared.node.name
            node = await self._shared.api.find("nodes", "", name)
            claims.check_node(behind, ((node or {}).get("metadata") or {}).get("labels") or {}, name)
        if options_of(behind) and not plugin.takes_options:
            raise StepFailed(OPTIONS, "Mount options are not supported for this volume type")

    def _version(self) -> str:
        """The name of a version of files, as ``2026_01_02_03_04_05.17``; never used twice for a pod."""
        self._versions += 1
        at = self._shared.world.clock.now()
        return f"{datetime.fromtimestamp(at, UTC):%Y_%m_%d_%H_%M_%S}.{int(at % 1 * 1e9) + self._versions}"


def refreshes(volume: JSON) -> bool:
    """Whether what a volume shows may change while its pod runs."""
    try:
        return plugin_of(volume).refreshes
    except HostFailure:
        return False


def used(pod: JSON) -> set[str]:
    """The volumes that a container mounts, or has as a device; what nobody uses need not be there."""
    everyone = (*facts.all_containers(pod), *(pod["spec"].get("ephemeralContainers") or ()))
    return {
        item["name"]
        for spec in everyone
        for field in ("volumeMounts", "volumeDevices")
        for item in spec.get(field) or ()
    }
