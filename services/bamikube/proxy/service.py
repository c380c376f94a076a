"""The proxy at work: informers feed the state, one loop programs the kernel.

Changes are gathered for a moment (10 ms by default), decided together and sent as one transaction. When the kernel
refuses - somebody changed our table, or our account of it is wrong - the whole table is replaced in one atomic step
instead of guessing. Every half minute a one-message question makes sure that the table is still there.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

from bamikube.client import Client
from bamikube.client.informer import Informer, wait_synced
from bamikube.kit.metrics import REGISTRY
from bamikube.kit.tasks import Tasks
from bamikube.kit.world import World
from bamikube.netlink.conntrack import Conntrack
from bamikube.netlink.links import Links, Route, sysctl
from bamikube.netlink.nftables import Nftables
from bamikube.proxy.model import service_of, slice_of
from bamikube.proxy.plan import Node
from bamikube.proxy.state import State, Step

log = logging.getLogger(__name__)

SYNC_SECONDS = Histogram(
    "kubeproxy_sync_proxy_rules_duration_seconds",
    "Time to decide and program a change, in seconds",
    buckets=[0.0005 * 2**n for n in range(15)],
    registry=REGISTRY,
)
LAST_SYNC = Gauge(
    "kubeproxy_sync_proxy_rules_last_timestamp_seconds", "When rules were last programmed", registry=REGISTRY
)
LAST_QUEUED = Gauge(
    "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
    "When a change was last noticed",
    registry=REGISTRY,
)
SERVICE_CHANGES = Counter(
    "kubeproxy_sync_proxy_rules_service_changes", "Changes of services seen", registry=REGISTRY
)
ENDPOINT_CHANGES = Counter(
    "kubeproxy_sync_proxy_rules_endpoint_changes", "Changes of endpoint slices seen", registry=REGISTRY
)
FAILURES = Counter(
    "kubeproxy_sync_proxy_rules_nftables_sync_failures", "Transactions the kernel refused", registry=REGISTRY
)
REPLACEMENTS = Counter(
    "bamikube_proxy_table_replacements", "Times the whole table was replaced", registry=REGISTRY
)


class Proxy:
    """``run()`` programs the network namespace it is called in."""

    name = "proxy"

    def __init__(
        self,
        client: Client,
        world: World,
        node: Node,
        *,
        service_range: str = "",
        min_sync_period: float = 0.01,
        sync_period: float = 30.0,
    ) -> None:
        self.ready = asyncio.Event()
        self.state = State(node)
        self._client = client
        self._world = world
        self._service_range = service_range
        self._min_sync_period = min_sync_period
        self._sync_period = sync_period
        self._changed = asyncio.Event()
        self._programmed = False

    async def run(self) -> None:
        """Follow services and endpoint slices until cancelled. The table stays when we stop: traffic goes on."""
        services = Informer(self._client, "services", self._world, project=service_of)
        slices = Informer(self._client, "endpointslices.discovery.k8s.io", self._world, project=slice_of)
        node = Informer(
            self._client,
            "nodes",
            self._world,
            fields=f"metadata.name={self.state.node.name}",
            project=_slim_node,
        )
        services.on_change(self._service_changed)
        slices.on_change(self._slice_changed)
        node.on_change(self._node_changed)
        tasks = Tasks("proxy")
        tables, connections, links = Nftables(), Conntrack(), Links()
        try:
            features = await tables.probe()
            log.info("netfilter: owner tables %s, forgiving deletes %s", features.owner, features.destroy)
            sysctl("net/ipv4/ip_forward", "1")
            for informer in (services, slices, node):
                tasks.spawn(informer.run(), informer.resource)
            await wait_synced(services, slices, node)
            while True:
                await self._sync(tables, connections)
                if not self.ready.is_set():
                    await self._route(links, node)
                    self.ready.set()
                await self._wait(tables)
        finally:
            await tasks.close()
            tables.close()
            connections.close()
            links.close()

    async def _wait(self, tables: Nftables) -> None:
        """Until something changed, or our table was taken from us."""
        while True:
            try:
                async with asyncio.timeout(self._sync_period):
                    await self._changed.wait()
                await self._world.clock.sleep(self._min_sync_period)
                return
            except TimeoutError:
                if not await tables.exists(self.state.ledger.table_name):
                    log.warning(
                        "the netfilter table %s is gone; making it again", self.state.ledger.table_name
                    )
                    self._programmed = False
                    return

    async def _sync(self, tables: Nftables, connections: Conntrack) -> None:
        started = self._world.clock.monotonic()
        self._changed.clear()
        step = self.state.take()
        while not await self._program(tables, step):
            await self._world.clock.sleep(1.0)
        try:
            await connections.forget(list(step.stale))
        except OSError as error:
            log.warning("cannot forget UDP connections of endpoints that went away: %s", error)
        seconds = self._world.clock.monotonic() - started
        SYNC_SECONDS.observe(seconds)
        LAST_SYNC.set(self._world.clock.now())
        log.debug("programmed %d services in %.1f ms", step.services, seconds * 1000)

    async def _program(self, tables: Nftables, step: Step) -> bool:
        """Send the change, or everything if that fails or nothing is there yet. False: try again."""
        if self._programmed:
            try:
                await tables.update(step.before, step.after)
                return True
            except OSError as error:
                FAILURES.inc()
                log.warning("%s; replacing the whole table", error)
        try:
            await tables.replace(self.state.ledger.table())
        except OSError as error:
            FAILURES.inc()
            self._programmed = False
            log.error("cannot program netfilter: %s; trying again", error)
            return False
        REPLACEMENTS.inc()
        self._programmed = True
        return True

    async def _route(self, links: Links, node: Informer) -> None:
        """Give the service range a route where the node has none: a packet without a route never meets netfilter."""
        address = next((slim["address"] for slim in node.items() if slim["address"]), "")
        if not self._service_range or not address:
            return
        probe = self._service_range.partition("/")[0]
        try:
            if await links.reachable(probe):
                return
            device = await links.device_with(address)
            if device is not None:
                await links.put_route(Route(self._service_range, device.name, source=address))
                log.info("no default route: routed %s to %s", self._service_range, device.name)
        except OSError as error:
            log.warning(
                "cannot route %s: %s; cluster IPs may not answer from this node", self._service_range, error
            )

    def _service_changed(self, key: str, _old: Any, new: Any) -> None:
        SERVICE_CHANGES.inc()
        self.state.service(key, new)
        self._notice()

    def _slice_changed(self, key: str, old: Any, new: Any) -> None:
        ENDPOINT_CHANGES.inc()
        self.state.slice(key, old, new)
        self._notice()

    def _node_changed(self, _key: str, _old: Any, new: Any) -> None:
        if self.state.zone(new["zone"] if new else ""):
            self._notice()

    def _notice(self) -> None:
        if self.state.dirty and not self._changed.is_set():
            LAST_QUEUED.set(self._world.clock.now())
            self._changed.set()


def _slim_node(obj: dict[str, Any]) -> dict[str, str]:
    addresses = (obj.get("status") or {}).get("addresses") or ()
    return {
        "zone": (obj["metadata"].get("labels") or {}).get("topology.kubernetes.io/zone", ""),
        "address": next((entry["address"] for entry in addresses if entry["type"] == "InternalIP"), ""),
    }
