"""An API server behind TLS in this process: its tasks can be counted, and what it answers be looked into."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from bamikube.apiserver.main import ApiServerProcess
from bamikube.apiserver.options import ApiServerOptions
from bamikube.kit.world import World
from bamikube.pki.issue import issue_all
from bamikube.pki.profiles import ClusterNames, NodeNames
from tests.support.etcd import free_ports


@dataclass
class Doors:
    url: str
    process: ApiServerProcess
    trusting: ssl.SSLContext  # without a certificate of its own
    admin: ssl.SSLContext
    pki: Path

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    async def call(
        self, session: aiohttp.ClientSession, path: str, context: ssl.SSLContext, **more: Any
    ) -> tuple[int, Any]:
        method = more.pop("method", "GET")
        async with session.request(method, self.url + path, ssl=context, **more) as answer:
            data = await answer.read()
            return answer.status, orjson.loads(data) if data[:1] == b"{" else data


@asynccontextmanager
async def open_doors(etcd: str, home: Path) -> AsyncIterator[Doors]:
    """Issue certificates into ``home``, serve from the etcd at that endpoint, stop at the end."""
    world = World()
    (port,) = free_ports(1)
    url = f"https://127.0.0.1:{port}"
    issue_all(
        {"master": home}, ClusterNames(server=url), [NodeNames(name="master", address="127.0.0.1")], world
    )
    pki = home / "pki"
    options = ApiServerOptions(
        etcd_servers=[etcd],
        etcd_prefix=f"/doors-{port}",
        bind_address="127.0.0.1",
        secure_port=port,
        advertise_address="127.0.0.1",
        anonymous_auth_paths=["/healthz", "/livez", "/readyz", "/version"],
        tls_cert_file=str(pki / "apiserver.crt"),
        tls_private_key_file=str(pki / "apiserver.key"),
        client_ca_file=str(pki / "ca.crt"),
        requestheader_client_ca_file=str(pki / "front-proxy-ca.crt"),
        requestheader_allowed_names=["front-proxy-client"],
        service_account_key_file=[str(pki / "sa.pub")],
        service_account_signing_key_file=str(pki / "sa.key"),
        etcd_compaction_interval=0,
    )
    process = ApiServerProcess(options, world)
    running = asyncio.ensure_future(process.run())
    try:
        await asyncio.wait_for(process.ready.wait(), 20)
        trusting = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        admin = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        admin.load_cert_chain(pki / "apiserver-kubelet-client.crt", pki / "apiserver-kubelet-client.key")
        yield Doors(url, process, trusting, admin, pki)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
