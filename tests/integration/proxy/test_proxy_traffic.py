"""Real packets through the tables the proxy plans, in network namespaces of our own."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bamikube.netlink.conntrack import Conntrack
from bamikube.netlink.links import Links
from bamikube.netlink.nftables import Nftables
from bamikube.proxy.model import Endpoint, Port, Service, Slice
from bamikube.proxy.plan import Node
from bamikube.proxy.state import State
from tests.integration.netlink.sandbox import Sandbox, on_node

VIP = "10.96.0.50"


class Bench:
    """A node with three pods and one machine outside, and a proxy state that is programmed on demand."""

    def __init__(self, box: Sandbox, links: Links) -> None:
        self.box = box
        self.links = links
        self.tables = Nftables()
        self.connections = Conntrack()
        self.state = State(Node("node", cluster_cidr="10.244.0.0/16"))
        self.slices: dict[str, Slice] = {}

    async def start(self) -> None:
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        self.box.namespace("outside")
        self.box.join("node", "10.99.0.11/24", "outside", "10.99.0.1/24")
        self.box.ip("route add default via 10.99.0.1", "node")
        self.box.ip("route add 10.96.0.0/12 via 10.99.0.11", "outside")
        for index in (1, 2, 3):
            await self.box.pod(self.links, f"pod{index}", f"10.244.1.{index}")
            self.box.serve(f"pod{index}", "tcp", 8080)
            self.box.serve(f"pod{index}", "udp", 5353)
        await self.tables.probe()
        await self.tables.replace(self.state.ledger.table())

    def endpoints(self, *indexes: int, node: str = "node", service: str = "default/web") -> None:
        old = self.slices.get(service)
        new = Slice(
            f"{service}-1",
            service,
            (("http", "TCP", 8080), ("dns", "UDP", 5353)),
            tuple(Endpoint(f"10.244.1.{index}", node) for index in indexes),
        )
        self.slices[service] = new
        self.state.slice(new.key, old, new)

    async def sync(self) -> int:
        step = self.state.take()
        sent = await self.tables.update(step.before, step.after)
        await self.connections.forget(list(step.stale))
        return sent

    def close(self) -> None:
        self.tables.close()
        self.connections.close()


PORTS = (Port("http", "TCP", 80, 30080), Port("dns", "UDP", 53, 30053))


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    with on_node("proxy") as box:
        links = Links()
        made = Bench(box, links)
        try:
            await made.start()
            yield made
        finally:
            made.close()
            links.close()


async def test_cluster_ip_spreads_over_all_endpoints_and_keeps_the_pods_address(bench: Bench) -> None:
    bench.state.service("default/web", Service("default/web", (VIP,), PORTS))
    bench.endpoints(2, 3)
    await bench.sync()
    answers = [bench.box.ask("pod1", VIP, 80) for _ in range(40)]
    assert {who for who, _ in answers} == {"pod2", "pod3"}
    assert {seen for _, seen in answers} == {"10.244.1.1"}
    assert {bench.box.ask("pod1", VIP, 53, "udp")[0] for _ in range(40)} == {"pod2", "pod3"}
    # from the node itself
    assert bench.box.ask("node", VIP, 80)[0] in ("pod2", "pod3")


async def test_a_pod_reaches_itself_through_its_service(bench: Bench) -> None:
    bench.state.service("default/web", Service("default/web", (VIP,), PORTS))
    bench.endpoints(1)
    await bench.sync()
    assert bench.box.ask("pod1", VIP, 80)[0] == "pod1"


async def test_node_port_answers_from_outside_from_the_node_and_from_pods(bench: Bench) -> None:
    bench.state.service("default/web", Service("default/web", (VIP,), PORTS))
    bench.endpoints(2, 3)
    await bench.sync()
    outside = [bench.box.ask("outside", "10.99.0.11", 30080) for _ in range(30)]
    assert {who for who, _ in outside} == {"pod2", "pod3"}
    assert "10.99.0.1" not in {seen for _, seen in outside}, "traffic from outside is masqueraded"
    assert bench.box.ask("node", "10.99.0.11", 30080)[0] in ("pod2", "pod3")
    assert bench.box.ask("pod1", "10.99.0.11", 30080)[0] in ("pod2", "pod3")
    assert bench.box.ask("outside", "10.99.0.11", 30053, "udp")[0] in ("pod2", "pod3")


async def test_local_policy_keeps_the_clients_address_and_serves_only_own_endpoints(bench: Bench) -> None:
    bench.state.service(
        "default/web",
        Service("default/web", (VIP,), PORTS, external_ips=("10.99.0.200",), external_local=True),
    )
    bench.box.ip("route add 10.99.0.200/32 via 10.99.0.11", "outside")
    bench.endpoints(2)
    other = Slice(
        "default/web-2", "default/web", (("http", "TCP", 8080),), (Endpoint("10.244.1.3", "elsewhere"),)
    )
    bench.state.slice(other.key, None, other)
    await bench.sync()
    for address, port in (("10.99.0.11", 30080), ("10.99.0.200", 80)):
        assert {bench.box.ask("outside", address, port) for _ in range(20)} == {("pod2", "10.99.0.1")}
        assert {bench.box.ask("pod1", address, port)[0] for _ in range(30)} == {"pod2", "pod3"}
    # no own endpoint left: outside is dropped (silence), inside is served
    bench.endpoints(2, node="elsewhere")
    await bench.sync()
    with pytest.raises(TimeoutError):
        bench.box.ask("outside", "10.99.0.11", 30080, timeout=0.3)
    assert bench.box.ask("node", "10.99.0.11", 30080)[0] in ("pod2", "pod3")


async def test_without_endpoints_connections_are_refused_at_once(bench: Bench) -> None:
    bench.state.service("default/web", Service("default/web", (VIP,), PORTS, external_ips=("10.99.0.200",)))
    await bench.sync()
    for origin in ("pod1", "node", "outside"):
        with pytest.raises(ConnectionRefusedError):
            bench.box.ask(origin, VIP, 80)
        # a local UDP sender whose packet is rejected on its way out is told EPERM: Linux' way, with iptables too
        with pytest.raises((ConnectionRefusedError, PermissionError)):
            bench.box.ask(origin, VIP, 53, "udp")
        with pytest.raises(ConnectionRefusedError):
            bench.box.ask(origin, "10.99.0.11", 30080)
    bench.endpoints(2)
    await bench.sync()
    assert bench.box.ask("pod1", VIP, 80)[0] == "pod2"


async def test_affinity_keeps_a_client_at_its_endpoint_while_others_come_and_go(bench: Bench) -> None:
    bench.state.service("default/web", Service("default/web", (VIP,), PORTS, affinity=60))
    bench.endpoints(1, 2)
    await bench.sync()
    first = {bench.box.ask("pod3", VIP, 80)[0] for _ in range(10)}
    assert len(first) == 1
    bench.endpoints(1, 2, 3)
    await bench.sync()
    assert {bench.box.ask("pod3", VIP, 80)[0] for _ in range(10)} == first
    assert {bench.box.ask("outside", "10.99.0.11", 30080)[0] for _ in range(10)} != set()
    # its endpoint goes: another takes over, and stays
    bench.endpoints(*(index for index in (1, 2, 3) if f"pod{index}" not in first))
    await bench.sync()
    second = {bench.box.ask("pod3", VIP, 80)[0] for _ in range(10)}
    assert len(second) == 1 and second != first
    bench.state.service("default/web", None)
    assert await bench.sync() > 0


async def test_deltas_change_only_what_changed_and_the_listing_stays_readable(bench: Bench) -> None:
    bench.state.service("default/web", Service("default/web", (VIP,), PORTS))
    bench.endpoints(1, 2)
    await bench.sync()
    bench.endpoints(1, 3)
    assert await bench.sync() <= 16
    assert {bench.box.ask("node", VIP, 80)[0] for _ in range(30)} == {"pod1", "pod3"}
    assert await bench.sync() == 0
    listed = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True)
    assert listed.returncode == 0, listed.stderr
    for line in ("10.96.0.50 . tcp . 80 : goto cluster-2", "tcp . 30080 : goto nodeport-2"):
        assert line in listed.stdout
    assert "map @endpoints" in listed.stdout
    # the kernel's table is what the ledger says: an update against it and a whole replacement are both accepted
    await bench.tables.replace(bench.state.ledger.table())
    bench.state.service("default/web", None)
    await bench.sync()
    assert (
        "10.96.0.50" not in subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True).stdout
    )


async def test_udp_clients_leave_an_endpoint_that_went_away(bench: Bench) -> None:
    import socket

    from tests.integration.netlink.sandbox import within

    bench.state.service("default/web", Service("default/web", (VIP,), PORTS))
    bench.endpoints(2)
    await bench.sync()
    with within(bench.box.path("pod1")):
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with client:
        client.settimeout(2)
        client.connect((VIP, 53))
        client.send(b"?")
        assert client.recv(100).startswith(b"pod2")
        bench.endpoints(3)
        await bench.sync()
        client.send(b"?")
        assert client.recv(100).startswith(b"pod3"), "same client port, new endpoint"


async def test_source_ranges_guard_a_load_balancer_address(bench: Bench) -> None:
    service = Service(
        "default/web", (VIP,), PORTS, balancer_ips=("10.99.0.201",), source_ranges=("192.0.2.0/24",)
    )
    bench.state.service("default/web", service)
    bench.endpoints(2)
    bench.box.ip("route add 10.99.0.201/32 via 10.99.0.11", "outside")
    await bench.sync()
    with pytest.raises(TimeoutError):
        bench.box.ask("outside", "10.99.0.201", 80, timeout=0.3)
    bench.state.service(
        "default/web",
        Service("default/web", (VIP,), PORTS, balancer_ips=("10.99.0.201",), source_ranges=("10.99.0.0/24",)),
    )
    await bench.sync()
    assert bench.box.ask("outside", "10.99.0.201", 80)[0] == "pod2"
