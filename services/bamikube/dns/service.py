"""The DNS server at work: informers feed the zone, sockets ask it.

The sockets are open from the start, so that a node without an API server can still resolve the world; cluster names get
SERVFAIL until the informers have synced, because "not found" before that would be believed and kept.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

from bamikube.api.errors import ApiError
from bamikube.client import Client
from bamikube.client.informer import Informer, wait_synced
from bamikube.dns.model import namespace_of, pod_of, service_of, slice_of
from bamikube.dns.options import DnsOptions
from bamikube.dns.register import keep_registered, put_slice, slice_for
from bamikube.dns.resolver import Resolver, Udp, serve_tcp
from bamikube.dns.upstream import Upstream, resolv_conf, servers_of
from bamikube.dns.zone import Zone
from bamikube.kit.health import HealthServer
from bamikube.kit.tasks import Tasks
from bamikube.kit.world import World

log = logging.getLogger(__name__)


class Dns:
    """``run()`` serves until cancelled. Raises ValueError for an upstream server that is no address."""

    name = "dns"

    def __init__(self, client: Client, world: World, options: DnsOptions) -> None:
        self.ready = asyncio.Event()
        self._client = client
        self._world = world
        self._options = options
        self.zone = Zone(
            options.cluster_domain, ttl=options.ttl, pods=options.pods, server_address=options.cluster_dns_ip
        )
        texts = options.upstream or resolv_conf(Path(options.resolv_conf))
        own = {*options.bind_address, options.cluster_dns_ip, options.advertise_address}
        if "0.0.0.0" in own and options.port == 53:
            own |= {"127.0.0.1", "127.0.0.53"} if not options.upstream else {"127.0.0.1"}
        self.upstream = Upstream(world, servers_of(texts, own))
        self.resolver = Resolver(self.zone, self.upstream, world)

    async def run(self) -> None:
        """Listen, follow the API, register, serve."""
        tasks = Tasks("dns")
        health: list[HealthServer] = []
        sockets: list[asyncio.BaseTransport | asyncio.Server] = []
        advertised = self._options.advertise_address or self._options.bind_address[0]
        try:
            await self._listen(tasks, sockets, health)
            if not self.upstream.servers:
                log.warning(
                    "no upstream server: names outside %s get SERVFAIL (see --upstream)", self.zone.domain
                )
            informers = self._informers()
            for informer in informers:
                tasks.spawn(informer.run(), informer.resource)
            await wait_synced(*informers)
            self.resolver.synced = True
            self.ready.set()
            log.info("serving %s on %s", self.zone.domain, ", ".join(self._options.bind_address))
            await keep_registered(
                self._client,
                self._world,
                self._options.cluster_dns_ip,
                advertised,
                self._options.hostname_override,
            )
        finally:
            if self.ready.is_set():
                await self._sign_off(advertised)
            for item in sockets:
                item.close()
            for server in health:
                await server.close()
            await tasks.close()
            self.upstream.close()

    async def _listen(
        self, tasks: Tasks, sockets: list[asyncio.BaseTransport | asyncio.Server], health: list[HealthServer]
    ) -> None:
        loop = asyncio.get_running_loop()
        for address in self._options.bind_address:
            transport, _ = await loop.create_datagram_endpoint(
                lambda: Udp(self.resolver, tasks), local_addr=(address, self._options.port)
            )
            sockets.append(transport)

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await serve_tcp(self.resolver, reader, writer)

            sockets.append(await asyncio.start_server(serve, address, self._options.port))
            if self._options.metrics_port:
                server = HealthServer(self)
                await server.start(address, self._options.metrics_port)
                health.append(server)

    def _informers(self) -> list[Informer]:
        services = Informer(self._client, "services", self._world, project=service_of)
        services.on_change(lambda key, _old, new: self.zone.service(key, new))
        slices = Informer(self._client, "endpointslices.discovery.k8s.io", self._world, project=slice_of)
        slices.on_change(self.zone.slice)
        namespaces = Informer(self._client, "namespaces", self._world, project=namespace_of)
        namespaces.on_change(lambda key, _old, new: self.zone.namespace(key, new is not None))
        found = [services, slices, namespaces]
        if self._options.pods == "verified":
            pods = Informer(self._client, "pods", self._world, project=pod_of)
            pods.on_change(self._pod_changed)
            found.append(pods)
        return found

    def _pod_changed(self, _key: str, old: Any, new: Any) -> None:
        self.zone.pod(old, new)

    async def _sign_off(self, address: str) -> None:
        """Take ourselves out of the Service while we still can; a server that is gone must not be asked."""
        try:
            async with asyncio.timeout(2.0):
                await put_slice(
                    self._client, slice_for(address, self._options.hostname_override, ready=False)
                )
        except (ApiError, OSError, TimeoutError) as error:
            log.info("could not take %s out of the DNS service: %s", address, error)
