"""The network agent of a node.

It waits for its own Node object to have a pod CIDR and an address, sets the node's switches, makes routes and netfilter
rules, then announces itself: the CNI plugin and its configuration appear, and the Node's condition NetworkUnavailable
turns False. From then on it follows the other nodes and answers the plugin.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from pathlib import Path
from typing import Any

from bamikube.api.errors import ApiError
from bamikube.client import Client
from bamikube.client.informer import Informer
from bamikube.kit.clock import rfc3339
from bamikube.kit.tasks import Tasks
from bamikube.kit.world import World
from bamikube.netlink.links import Links, sysctl
from bamikube.netlink.nftables import Nftables
from bamikube.network.addresses import Addresses
from bamikube.network.install import install_config, install_plugin
from bamikube.network.options import NetworkOptions
from bamikube.network.pods import Pods, Site
from bamikube.network.routes import VXLAN, Neighbour, RoutePlan, plan_routes

log = logging.getLogger(__name__)

# How often routes and rules are compared with what they should be even when no node changed, in seconds.
RESYNC_SECONDS = 60.0
MAX_REQUEST = 1 << 20


def neighbour_of(obj: dict[str, Any]) -> Neighbour:
    """What routes need of a Node."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    cidrs = [cidr for cidr in spec.get("podCIDRs") or [spec.get("podCIDR") or ""] if ":" not in cidr]
    addresses = [
        entry["address"]
        for entry in status.get("addresses") or ()
        if entry["type"] == "InternalIP" and ":" not in entry["address"]
    ]
    return Neighbour(obj["metadata"]["name"], addresses[0] if addresses else "", cidrs[0] if cidrs else "")


class Network:
    """``run()`` serves the network namespace it is called in."""

    name = "network"

    def __init__(self, client: Client, world: World, options: NetworkOptions, node: str) -> None:
        self.ready = asyncio.Event()
        self._client = client
        self._world = world
        self._options = options
        self._node = node
        self._changed = asyncio.Event()
        self._reasons: dict[str, str] = {}

    async def run(self) -> None:
        """Until cancelled. What was programmed stays: pods keep their network while we are away."""
        nodes = Informer(self._client, "nodes", self._world, project=neighbour_of)
        nodes.on_change(self._node_changed)
        tasks = Tasks("network")
        links, tables = Links(), Nftables()
        server: asyncio.Server | None = None
        try:
            await tables.probe("bamikube-network-probe")
            pods = Pods(self._world, links, tables, Addresses(Path(self._options.state_dir)))
            await pods.collect()
            server = await self._listen(pods)
            tasks.spawn(nodes.run(), "nodes")
            await nodes.synced.wait()
            while True:
                self._changed.clear()
                if await self._sync(nodes, links, pods) and not self.ready.is_set():
                    install_plugin(Path(self._options.cni_bin_dir), self._options.cni_socket)
                    install_config(Path(self._options.cni_conf_dir))
                    tasks.spawn(self._announce(), "announce")
                    self.ready.set()
                    log.info("the pod network of this node is up")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(RESYNC_SECONDS):
                        await self._changed.wait()
                await pods.verify()
        finally:
            if server is not None:
                server.close()
                Path(self._options.cni_socket).unlink(missing_ok=True)
            await tasks.close()
            links.close()
            tables.close()

    def _node_changed(self, _key: str, old: Any, new: Any) -> None:
        if old != new:
            self._changed.set()

    async def _sync(self, nodes: Informer, links: Links, pods: Pods) -> bool:
        """Make routes and rules as they should be. False: this node's place is not known yet, or something failed."""
        own = nodes.get(self._node)
        if own is None or not own.cidr or not own.address:
            missing = (
                "registered" if own is None else "given a pod CIDR" if not own.cidr else "given an InternalIP"
            )
            log.info("waiting for node %s to be %s", self._node, missing)
            return False
        try:
            device = await links.device_with(own.address)
            if device is None:
                log.warning("no interface carries the node's InternalIP %s yet", own.address)
                self._again()
                return False
            for name, value in (
                ("ip_forward", "1"),
                ("conf/all/rp_filter", "0"),
                ("conf/default/rp_filter", "0"),
            ):
                sysctl(f"net/ipv4/{name}", value)
            plan = plan_routes(own, device, nodes.items(), self._options.overlay)
            await self._route(links, plan, own)
            await pods.move(Site(own.cidr, self._options.cluster_cidr, plan.mtu))
        except OSError as error:
            log.error("cannot set up the node's network: %s; trying again", error)
            self._again()
            return False
        if plan.reasons != self._reasons:
            self._reasons = plan.reasons
            log.info(
                "routes: %s",
                ", ".join(f"{name} {reason}" for name, reason in sorted(plan.reasons.items())) or "none",
            )
        return True

    def _again(self) -> None:
        asyncio.get_running_loop().call_later(1.0, self._changed.set)

    async def _route(self, links: Links, plan: RoutePlan, own: Neighbour) -> None:
        if plan.vxlan is not None:
            await links.put_vxlan(plan.vxlan)
            await links.put_address(VXLAN, own.cidr.partition("/")[0])
            await links.put_peers(VXLAN, list(plan.peers))
        wanted = {route.destination: route for route in plan.routes}
        held = await links.routes()
        for destination, route in wanted.items():
            if held.get(destination) != route:
                await links.put_route(route)
        for destination, route in held.items():
            # routes to single pods carry another protocol number; the service range's belongs to the proxy
            if destination not in wanted and (route.gateway or route.device == VXLAN):
                await links.remove_route(route)
        if plan.vxlan is None:
            await links.remove_link(VXLAN)

    async def _listen(self, pods: Pods) -> asyncio.Server:
        path = Path(self._options.cni_socket)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                request = await reader.read(MAX_REQUEST)
                while part := await reader.read(MAX_REQUEST):
                    request += part
                writer.write(await pods.answer(request))
                await writer.drain()
            except ConnectionError:
                pass  # the plugin was killed; the runtime calls DEL afterwards
            finally:
                writer.close()

        server = await asyncio.start_unix_server(serve, str(path))
        os.chmod(path, 0o600)
        return server

    async def _announce(self) -> None:
        """Tell the cluster that this node's network works; the API server may be away, so until it has heard."""
        now = rfc3339(self._world.clock.now())
        condition = {
            "type": "NetworkUnavailable",
            "status": "False",
            "reason": "BamikubeNetworkIsUp",
            "message": "bamikube-network has set up routes and the CNI plugin on this node",
            "lastHeartbeatTime": now,
            "lastTransitionTime": now,
        }
        while True:
            try:
                await self._client.patch(
                    "nodes",
                    self._node,
                    {"status": {"conditions": [condition]}},
                    kind="strategic",
                    subresource="status",
                )
                return
            except (ApiError, OSError, TimeoutError) as error:
                log.warning(
                    "cannot set NetworkUnavailable=False on node %s: %s; trying again", self._node, error
                )
                await self._world.clock.sleep(2.0)
