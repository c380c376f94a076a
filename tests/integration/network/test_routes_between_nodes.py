"""Two nodes in namespaces of their own: plain routes on one network, VXLAN across a router."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from bamikube.netlink.links import Links
from bamikube.network.routes import VXLAN, Neighbour, RoutePlan, plan_routes
from tests.integration.netlink.sandbox import Sandbox, within

CIDRS = {"a": "10.244.1.0/24", "b": "10.244.2.0/24"}


@contextlib.contextmanager
def _box() -> Iterator[Sandbox]:
    box = Sandbox("routes")
    try:
        for name in ("a", "b", "pa", "pb"):
            box.namespace(name)
        yield box
    finally:
        box.close()


def _pods(box: Sandbox) -> None:
    for node, pod, address in (("a", "pa", "10.244.1.5"), ("b", "pb", "10.244.2.5")):
        box.join(node, "169.254.7.1/32", pod, f"{address}/32")
        box.ip(f"route add {address}/32 dev to-{pod}", node)
        box.ip(f"route add 169.254.7.1/32 dev to-{node}", pod)
        box.ip(f"route add default via 169.254.7.1 src {address}", pod)
        with within(box.path(node)), open("/proc/sys/net/ipv4/ip_forward", "w") as file:
            file.write("1")


async def _apply(
    box: Sandbox, own: Neighbour, others: list[Neighbour], overlay: str
) -> tuple[Links, RoutePlan]:
    """What the agent of that node does, in that node's namespace."""
    with within(box.path(own.name)):
        links = Links()
        device = await links.device_with(own.address)
        assert device is not None
        plan = plan_routes(own, device, others, overlay)  # type: ignore[arg-type]
        if plan.vxlan is not None:
            await links.put_vxlan(plan.vxlan)
            await links.put_vxlan(plan.vxlan)  # again: nothing to do
            await links.put_address(VXLAN, own.cidr.partition("/")[0])
            await links.put_peers(VXLAN, list(plan.peers))
        for route in plan.routes:
            await links.put_route(route)
        assert await links.routes() == {route.destination: route for route in plan.routes}
        return links, plan


@pytest.mark.parametrize("overlay", ["auto", "vxlan"])
async def test_pods_of_two_nodes_on_one_network(overlay: str) -> None:
    with _box() as box:
        box.join("a", "10.99.0.11/24", "b", "10.99.0.12/24")
        _pods(box)
        nodes = [Neighbour("a", "10.99.0.11", CIDRS["a"]), Neighbour("b", "10.99.0.12", CIDRS["b"])]
        made = [await _apply(box, node, nodes, overlay) for node in nodes]
        box.serve("pb", "tcp", 8080)
        assert box.ask("pa", "10.244.2.5", 8080) == ("pb", "10.244.1.5")
        assert [plan.mtu for _, plan in made] == [1500 if overlay == "auto" else 1450] * 2
        for links, _ in made:
            links.close()


async def test_pods_across_a_router_go_through_the_overlay() -> None:
    with _box() as box:
        box.namespace("router")
        box.join("a", "10.99.0.11/24", "router", "10.99.0.1/24")
        box.join("b", "192.0.2.12/24", "router", "192.0.2.1/24")
        box.ip("route add default via 10.99.0.1", "a")
        box.ip("route add default via 192.0.2.1", "b")
        with within(box.path("router")), open("/proc/sys/net/ipv4/ip_forward", "w") as file:
            file.write("1")
        _pods(box)
        nodes = [Neighbour("a", "10.99.0.11", CIDRS["a"]), Neighbour("b", "192.0.2.12", CIDRS["b"])]
        made = [await _apply(box, node, nodes, "auto") for node in nodes]
        box.serve("pb", "tcp", 8080)
        assert box.ask("pa", "10.244.2.5", 8080) == ("pb", "10.244.1.5")
        links, plan = made[0]
        assert plan.reasons == {"b": "Overlay"}
        # the other node goes: its entries go with it
        await links.put_peers(VXLAN, [])
        await links.remove_route(plan.routes[0])
        assert await links.routes() == {}
        await links.remove_link(VXLAN)
        assert VXLAN not in await links.names()
        for other, _ in made:
            other.close()
