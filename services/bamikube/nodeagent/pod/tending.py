"""Which containers of a pod are probed, by whom, and when that ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from bamikube.kit.tallies import Series
from bamikube.nodeagent import figures
from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.pod.context import Shared
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.pod.state import Memory, RuntimeState
from bamikube.nodeagent.probing.prober import Prober, recalled
from bamikube.nodeagent.runtime.port import Container


class ProbeTender:
    """The probers of one pod. ``pod`` and ``address`` are asked anew each time; ``wake`` is called on a new verdict."""

    def __init__(
        self,
        shared: Shared,
        memory: Memory,
        pod: Callable[[], JSON],
        address: Callable[[], str],
        wake: Callable[[], None],
    ) -> None:
        self.probed: Counter[tuple[str, str, str]] = Counter()  # container, kind, result
        self.took: dict[
            tuple[str, str], Series
        ] = {}  # container, kind: how long those took that were not failures
        self._shared, self._memory, self._pod, self._address, self._wake = shared, memory, pod, address, wake
        self._probers: dict[str, Prober] = {}

    async def close(self) -> None:
        for prober in list(self._probers.values()):
            await prober.stop()

    async def tend(self, state: RuntimeState) -> None:
        """Probe what runs, and nothing else."""
        ending = facts.deleted(self._pod()) or self._memory.rejected is not None
        wanted = self._wanted(state)
        for gone in set(self._probers) - set(wanted):
            await self._probers.pop(gone).stop()
        running = {c.id for c in state.running()}
        for stale in set(self._memory.probes) - running:
            self._memory.probes.pop(stale)
        for cid, container in wanted.items():
            if ending and cid in self._probers:
                await self._probers[cid].spare()
            elif not ending and cid not in self._probers:
                self._probers[cid] = self._prober(container)
                self._probers[cid].start()

    def _wanted(self, state: RuntimeState) -> dict[str, Container]:
        sandbox = state.sandbox()
        if sandbox is None:
            return {}
        return {
            container.id: container
            for container in state.running()
            if (spec := facts.container(self._pod(), container.name)) is not None
            and Prober.wanted(spec)
            and container.sandbox_id == sandbox.id
            and container.id not in self._memory.hooking
        }

    def _prober(self, container: Container) -> Prober:
        cid, name = container.id, container.name
        if cid not in self._memory.probes:
            self._memory.probes[cid] = recalled(self._pod().get("status") or {}, cid)

        def event(reason: str, text: str) -> None:
            self._shared.api.event(self._pod(), "Warning", reason, text, name)

        def count(kind: str, result: str, seconds: float) -> None:
            self.probed.update([(name, kind, result)])
            if result != "failed":
                self.took.setdefault((name, kind), Series(figures.COMMON)).observe(seconds)

        return Prober(
            self._shared.world,
            self._shared.checks,
            facts.container(self._pod(), name) or {},
            cid,
            container.started_at,
            self._address,
            self._memory.probes[cid],
            self._wake,
            event,
            spread=container.started_at < self._shared.began,
            count=count,
        )
