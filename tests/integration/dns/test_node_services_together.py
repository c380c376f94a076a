"""A node's three traffic services on a real API server, with their own identities, and a pod that uses them all.

The API server keeps its state in the in-memory model of etcd and is reached in process; netfilter, links, sockets and
packets are the kernel's own, in namespaces made for the test.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import dnslib
import pytest

from bamikube.apiserver.identity import ALL_AUTHENTICATED, User
from bamikube.apiserver.options import ApiServerOptions
from bamikube.apiserver.server import ApiServer
from bamikube.client import Client, InProcessTransport
from bamikube.dns.options import DnsOptions
from bamikube.dns.service import Dns
from bamikube.kit.http import Request
from bamikube.kit.tasks import Tasks
from bamikube.kit.world import World
from bamikube.network.options import NetworkOptions
from bamikube.network.service import Network
from bamikube.proxy.plan import Node
from bamikube.proxy.service import Proxy
from bamikube.store.model import ModelStore
from tests.integration.netlink.sandbox import Sandbox, on_node, within

DNS = "10.96.0.10"


class ByHeader:
    """Takes the user from a header: in process there are no certificates."""

    async def authenticate(self, request: Request) -> User | None:
        name = request.headers.get("x-test-user")
        groups = ("system:masters",) if name == "admin" else ()
        return User(name, (*groups, ALL_AUTHENTICATED)) if name else None


async def until(condition: Callable[[], Any], what: str, seconds: float = 15.0) -> Any:
    """Wait for a condition (sync or async); its last exception or a plain failure says what was missing."""
    async with asyncio.timeout(seconds):
        while True:
            found = condition()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return found
            await asyncio.sleep(0.02)


class World3:
    """An API server, and the services of node ``worker-1`` at 10.99.0.11."""

    def __init__(self, box: Sandbox, directory: Path) -> None:
        self.box, self.directory = box, directory
        self.world = World()
        self.tasks = Tasks("test")
        options = ApiServerOptions(anonymous_auth=False, etcd_compaction_interval=0)
        self.api = ApiServer(ModelStore(self.world), options, self.world, methods=(ByHeader(),))
        self.admin = self.client("admin")
        self.proxy = Proxy(
            self.client("system:kube-proxy"),
            self.world,
            Node("worker-1", cluster_cidr="10.244.0.0/16"),
            service_range="10.96.0.0/12",
            sync_period=0.5,
        )
        network = NetworkOptions(
            kubeconfig="none",
            cni_bin_dir=str(directory / "bin"),
            cni_conf_dir=str(directory / "conf"),
            cni_socket=str(directory / "network.sock"),
            state_dir=str(directory / "state"),
        )
        self.network = Network(self.client("system:bamikube-network"), self.world, network, "worker-1")
        dns = DnsOptions(
            kubeconfig="none",
            bind_address=["10.99.0.11"],
            upstream=["10.99.0.1"],
            hostname_override="worker-1",
        )
        self.dns = Dns(self.client("system:bamikube-dns"), self.world, dns)

    def client(self, user: str) -> Client:
        return Client(InProcessTransport(self.api.handle, {"x-test-user": user}), self.world)

    async def start(self) -> None:
        self.tasks.spawn(self.api.run(), "api")
        await self.api.ready.wait()
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": "worker-1"},
            "spec": {"podCIDR": "10.244.1.0/24"},
        }
        node = await self.admin.create("nodes", node)
        node["status"] = {"addresses": [{"type": "InternalIP", "address": "10.99.0.11"}]}
        await self.admin.update("nodes", node, subresource="status")
        self.running = [
            self.tasks.spawn(part.run(), part.name) for part in (self.proxy, self.network, self.dns)
        ]
        for part in (self.proxy, self.network, self.dns):
            async with asyncio.timeout(20):
                await part.ready.wait()

    async def pod(self, name: str) -> str:
        """A pod by way of the installed plugin; its address."""
        path = self.box.namespace(name)
        process = await asyncio.create_subprocess_exec(
            str(self.directory / "bin" / "bamikube-cni"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={"CNI_COMMAND": "ADD", "CNI_CONTAINERID": name, "CNI_NETNS": path, "CNI_IFNAME": "eth0"},
        )
        out, _ = await process.communicate(b'{"cniVersion":"1.0.0"}')
        answer = json.loads(out)
        assert process.returncode == 0, answer
        return str(answer["ips"][0]["address"].partition("/")[0])

    async def resolve(self, origin: str, owner: str, kind: str = "A", server: str = DNS) -> dnslib.DNSRecord:
        """What a pod is answered."""
        with within(self.box.path(origin)):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        try:
            sock.connect((server, 53))
            async with asyncio.timeout(3):
                await loop.sock_sendall(sock, dnslib.DNSRecord.question(owner, kind).pack())
                return dnslib.DNSRecord.parse(await loop.sock_recv(sock, 4096))
        finally:
            sock.close()


@pytest.fixture
async def three(tmp_path: Path) -> AsyncIterator[World3]:
    with on_node("three") as box:
        box.namespace("outside")
        box.join("node", "10.99.0.11/24", "outside", "10.99.0.1/24")
        made = World3(box, tmp_path)
        try:
            await made.start()
            yield made
        finally:
            await made.tasks.close()


def _service(name: str, **spec: Any) -> dict[str, Any]:
    ports = [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"ports": ports, "type": "NodePort"} | spec,
    }


def _slice(name: str, *addresses: str) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{name}-1",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4",
        "endpoints": [
            {"addresses": [address], "conditions": {"ready": True}, "nodeName": "worker-1"}
            for address in addresses
        ],
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    }


async def test_a_pod_finds_and_reaches_a_service_by_name(three: World3) -> None:
    # what the services told the cluster about themselves
    node = await three.admin.get("nodes", "worker-1")
    await until(lambda: _condition(three), "NetworkUnavailable False")
    assert node["metadata"]["name"] == "worker-1"
    await until(lambda: _has(three, "services", "kube-dns", "kube-system"), "the Service kube-dns")
    service = await three.admin.get("services", "kube-dns", "kube-system")
    assert service["spec"]["clusterIP"] == DNS and service["metadata"]["labels"]["k8s-app"] == "kube-dns"

    addresses = {name: await three.pod(name) for name in ("client", "one", "two")}
    for name in ("one", "two"):
        three.box.serve(name, "tcp", 8080)
    made = await three.admin.create("services", _service("web"))
    await three.admin.create(
        "endpointslices.discovery.k8s.io", _slice("web", addresses["one"], addresses["two"])
    )

    async def known() -> bool:
        try:
            return bool((await three.resolve("client", "web.default.svc.cluster.local")).rr)
        except (TimeoutError, ConnectionRefusedError):
            return False  # the proxy has not heard of kube-dns yet

    await until(known, "the name of the service")
    answer = await three.resolve("client", "web.default.svc.cluster.local")
    address = str(answer.rr[0].rdata)
    assert address == made["spec"]["clusterIP"]

    def reachable() -> bool:
        try:
            return bool(three.box.ask("client", address, 80, timeout=0.3))
        except OSError:
            return False  # not programmed yet: the packet went nowhere, or was refused

    await until(reachable, "the service")
    assert {three.box.ask("client", address, 80)[0] for _ in range(30)} == {"one", "two"}
    node_port = made["spec"]["ports"][0]["nodePort"]
    assert three.box.ask("outside", "10.99.0.11", node_port)[0] in ("one", "two")

    # an endpoint goes, then the service
    slices = "endpointslices.discovery.k8s.io"
    await three.admin.patch(
        slices, "web-1", {"endpoints": _slice("web", addresses["two"])["endpoints"]}, namespace="default"
    )
    await until(
        lambda: {three.box.ask("client", address, 80)[0] for _ in range(8)} == {"two"}, "the endpoint to go"
    )
    await three.admin.delete("services", "web", "default")

    async def forgotten() -> bool:
        found = await three.resolve("client", "web.default.svc.cluster.local")
        return bool(found.header.rcode == dnslib.RCODE.NXDOMAIN)

    await until(forgotten, "NXDOMAIN")


async def test_a_removed_table_comes_back_and_stopping_leaves_traffic_running(three: World3) -> None:
    address = await three.pod("one")
    three.box.serve("one", "tcp", 8080)
    made = await three.admin.create("services", _service("web"))
    await three.admin.create("endpointslices.discovery.k8s.io", _slice("web", address))
    vip = made["spec"]["clusterIP"]

    def answers() -> bool:
        try:
            return three.box.ask("node", vip, 80, timeout=0.3)[0] == "one"
        except OSError:
            return False

    await until(answers, "the service")
    # "flush ruleset" cannot touch a table with an owner; where the kernel has no owners, the proxy makes it again
    subprocess.run(["nft", "flush", "ruleset"], check=False, capture_output=True)
    await until(answers, "the service after a flush")
    for task in three.running:
        task.cancel()
    await asyncio.gather(*three.running, return_exceptions=True)
    assert answers(), "the kernel goes on without us"
    slices = await three.admin.list("endpointslices.discovery.k8s.io", "kube-system")
    (own,) = [item for item in slices["items"] if item["metadata"]["name"] == "kube-dns-10-99-0-11"]
    assert own["endpoints"][0]["conditions"]["ready"] is False, (
        "a stopped server takes itself out of the Service"
    )
    # started again, each takes over what it left
    again = Proxy(
        three.client("system:kube-proxy"), three.world, Node("worker-1", cluster_cidr="10.244.0.0/16")
    )
    task = three.tasks.spawn(again.run(), "again")
    async with asyncio.timeout(15):
        await again.ready.wait()
    assert answers()
    task.cancel()


async def test_other_names_are_asked_upstream_over_udp_and_tcp(three: World3) -> None:
    three.box.namespace("unused")
    with within(three.box.path("outside")):
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(("10.99.0.1", 53))
        tcp = socket.socket()
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tcp.bind(("10.99.0.1", 53))
        tcp.listen()
    asked: list[str] = []

    def respond(data: bytes, *, over_tcp: bool) -> bytes:
        query = dnslib.DNSRecord.parse(data)
        owner = str(query.q.qname)
        asked.append(f"{'tcp' if over_tcp else 'udp'} {owner}")
        reply = query.reply()
        if owner.startswith("big") and not over_tcp:
            reply.header.tc = 1
        elif owner.startswith("none"):
            reply.header.rcode = dnslib.RCODE.NXDOMAIN
        else:
            reply.add_answer(*dnslib.RR.fromZone(f"{owner} 300 A 192.0.2.80"))
        return bytes(reply.pack())

    class Server(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, address: Any) -> None:
            self.transport.sendto(respond(data, over_tcp=False), address)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = int.from_bytes(await reader.readexactly(2), "big")
        reply = respond(await reader.readexactly(size), over_tcp=True)
        writer.write(len(reply).to_bytes(2, "big") + reply)
        writer.close()

    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Server, sock=udp)
    server = await asyncio.start_server(serve, sock=tcp)
    try:
        for _ in range(3):
            answer = await three.resolve("node", "www.example.org", server="10.99.0.11")
            assert str(answer.rr[0].rdata) == "192.0.2.80"
        assert asked == ["udp www.example.org."], "asked once, then kept"
        assert (
            str((await three.resolve("node", "big.example.org", server="10.99.0.11")).rr[0].rdata)
            == "192.0.2.80"
        )
        assert "tcp big.example.org." in asked
        missing = await three.resolve("node", "none.example.org", server="10.99.0.11")
        assert missing.header.rcode == dnslib.RCODE.NXDOMAIN
        # an alias to a name outside is followed there
        await three.admin.create(
            "services",
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "api", "namespace": "default"},
                "spec": {"type": "ExternalName", "externalName": "api.example.org"},
            },
        )

        async def followed() -> bool:
            found = await three.resolve("node", "api.default.svc.cluster.local", server="10.99.0.11")
            return [str(part.rdata) for part in found.rr] == ["api.example.org.", "192.0.2.80"]

        await until(followed, "the alias")
    finally:
        server.close()
        transport.close()


async def _condition(three: World3) -> bool:
    node = await three.admin.get("nodes", "worker-1")
    conditions = {item["type"]: item["status"] for item in node["status"].get("conditions") or ()}
    return conditions.get("NetworkUnavailable") == "False"


async def _has(three: World3, resource: str, name: str, namespace: str) -> bool:
    listed = await three.admin.list(resource, namespace)
    return any(item["metadata"]["name"] == name for item in listed["items"])
