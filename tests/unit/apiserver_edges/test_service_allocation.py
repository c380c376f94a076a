"""Cluster IPs and node ports: given once, given back, and put right after a restart."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from bamikube.apiserver.allocators.addresses import PREFIX as IP_PREFIX
from bamikube.apiserver.allocators.addresses import Range
from bamikube.apiserver.allocators.pool import Exhausted, Ledger, choose, static_band
from bamikube.apiserver.allocators.ports import PREFIX as PORT_PREFIX
from bamikube.apiserver.allocators.ports import NodePorts
from bamikube.kit.metrics import REGISTRY
from bamikube.kit.world import World
from bamikube.store.model import ModelStore
from bamikube.store.port import Delete, Put
from tests.unit.apiserver_edges.conftest import Caller, running

SERVICES = "/api/v1/namespaces/default/services"


def service(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"ports": [{"port": 80}], **spec},
    }


async def records(caller: Caller) -> set[str]:
    store = caller.server.registry.store
    found = [await store.range(prefix.encode()) for prefix in (IP_PREFIX, PORT_PREFIX)]
    return {kv.key.decode().rsplit("/", 1)[-1] for part in found for kv in part.kvs}


async def test_addresses_and_ports_are_recorded_and_given_back(call: Caller) -> None:
    status, made = await call("POST", SERVICES, service("a", type="NodePort"))
    assert status == 201
    ip, port = made["spec"]["clusterIP"], str(made["spec"]["ports"][0]["nodePort"])
    assert made["spec"]["clusterIPs"] == [ip] and made["spec"]["ipFamilies"] == ["IPv4"]
    assert {ip, port} <= await records(call)
    for field, value in (("clusterIP", ip), ("ports", [{"port": 1, "nodePort": int(port)}])):
        status, answer = await call("POST", SERVICES, service("b", type="NodePort", **{field: value}))
        assert status == 422 and "already allocated" in answer["message"], answer
    made["spec"]["type"] = "ClusterIP"
    made["spec"]["ports"][0].pop("nodePort")
    status, changed = await call("PUT", f"{SERVICES}/a", made)
    assert status == 200 and changed["spec"]["clusterIP"] == ip, changed
    assert port not in await records(call) and ip in await records(call)
    assert (await call("DELETE", f"{SERVICES}/a"))[0] == 200
    assert ip not in await records(call)
    status, answer = await call("POST", SERVICES, service("c", clusterIP=ip))
    assert status == 201, answer


async def test_addresses_are_objects(call: Caller) -> None:
    _, made = await call("POST", SERVICES, service("a"))
    ip = made["spec"]["clusterIP"]
    addresses = "/apis/networking.k8s.io/v1/ipaddresses"
    status, address = await call("GET", f"{addresses}/{ip}")
    assert status == 200, address
    assert address["spec"]["parentRef"] == {"resource": "services", "namespace": "default", "name": "a"}
    assert address["metadata"]["labels"] == {
        "ipaddress.kubernetes.io/ip-family": "IPv4",
        "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
    }
    assert (await call("DELETE", f"{SERVICES}/a"))[0] == 200
    assert (await call("GET", f"{addresses}/{ip}"))[0] == 404
    mine = {"metadata": {"name": ip}, "spec": {"parentRef": {"resource": "things", "name": "mine"}}}
    assert (await call("POST", addresses, mine))[0] == 201
    status, answer = await call("POST", SERVICES, service("b", clusterIP=ip))
    assert status == 422 and "provided IP is already allocated" in answer["message"], answer


async def test_headless_external_name_and_both_protocols(call: Caller) -> None:
    _, headless = await call("POST", SERVICES, service("h", clusterIP="None"))
    assert headless["spec"]["clusterIPs"] == ["None"]
    _, external = await call("POST", SERVICES, service("e", type="ExternalName", externalName="x.example"))
    assert "clusterIP" not in external["spec"]
    ports = [{"name": "t", "port": 53, "protocol": "TCP"}, {"name": "u", "port": 53, "protocol": "UDP"}]
    status, both = await call("POST", SERVICES, service("d", type="NodePort", ports=ports))
    assert status == 201, both
    assert both["spec"]["ports"][0]["nodePort"] == both["spec"]["ports"][1]["nodePort"]
    status, answer = await call("POST", SERVICES, service("o", clusterIP="192.168.0.1"))
    words = "failed to allocate IP 192.168.0.1: the provided network does not match the current range"
    assert status == 422 and answer["message"].endswith(
        f'spec.clusterIPs: Invalid value: ["192.168.0.1"]: {words}'
    )
    status, answer = await call(
        "POST", SERVICES, service("o", type="NodePort", ports=[{"port": 1, "nodePort": 80}])
    )
    assert (
        status == 422
        and "not in the valid range. The range of valid ports is 30000-32767" in answer["message"]
    )


async def test_two_servers_never_give_one_port_to_two_services(world: World) -> None:
    store = ModelStore(world)
    narrow = {"service_node_port_range": "30000-30019"}
    async with running(store, world, **narrow) as one, running(store, world, **narrow) as two:
        answers = await asyncio.gather(
            *(
                (one, two)[index % 2]("POST", SERVICES, service(f"s{index}", type="NodePort"))
                for index in range(16)
            )
        )
        assert [status for status, _ in answers] == [201] * 16, [
            body for status, body in answers if status != 201
        ]
        ports = [body["spec"]["ports"][0]["nodePort"] for _, body in answers]
        ips = [body["spec"]["clusterIP"] for _, body in answers]
        assert len(set(ports)) == len(set(ips)) == 16
    await store.close()


async def test_repair_at_start_puts_records_right(world: World) -> None:
    store = ModelStore(world)
    async with running(store, world) as caller:
        _, made = await caller("POST", SERVICES, service("a"))
    ip = made["spec"]["clusterIP"]
    key, stale = f"{IP_PREFIX}{ip}".encode(), f"{PORT_PREFIX}30007".encode()
    await store.txn([], [Delete(key), Put(stale, orjson.dumps({"service": "default/gone"}))])
    async with running(store, world) as caller:
        for _ in range(200):
            if await store.get(key) is not None and await store.get(stale) is None:
                break
            await asyncio.sleep(0.01)
        assert await store.get(key) is not None and await store.get(stale) is None
        status, answer = await caller("POST", SERVICES, service("b", clusterIP=ip))
        assert status == 422, answer
    await store.close()


DUAL = {"service_cluster_ip_range": "10.96.0.0/16,fd00:10:96::/112"}
CIDRS = "/apis/networking.k8s.io/v1/servicecidrs"
ADDRESSES = "/apis/networking.k8s.io/v1/ipaddresses"


def figure(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"kube_apiserver_{name}", labels) or 0.0


async def test_what_is_given_is_counted(call: Caller) -> None:
    wide = {"cidr": "10.96.0.0/12"}
    before = [
        figure("clusterip_allocator_allocation_total", scope="dynamic", **wide),
        figure("clusterip_allocator_allocation_errors_total", scope="static", **wide),
        figure("nodeport_allocator_allocation_total", scope="static"),
    ]
    ports = [{"port": 80, "nodePort": 30007}]
    _, made = await call("POST", SERVICES, service("a", type="NodePort", ports=ports))
    await call("POST", f"{SERVICES}?dryRun=All", service("b"))
    await call("POST", SERVICES, service("c", clusterIP=made["spec"]["clusterIP"]))
    after = [
        figure("clusterip_allocator_allocation_total", scope="dynamic", **wide),
        figure("clusterip_allocator_allocation_errors_total", scope="static", **wide),
        figure("nodeport_allocator_allocation_total", scope="static"),
    ]
    assert [new - old for new, old in zip(after, before, strict=True)] == [1, 1, 1]
    call.server.allocator.tell()
    assert figure("clusterip_allocator_allocated_ips", **wide) == 1
    assert figure("clusterip_allocator_available_ips", **wide) == (1 << 20) - 3
    assert figure("nodeport_allocator_allocated_ports") == 1


async def test_single_and_dual_stack_and_back(world: World) -> None:
    store = ModelStore(world)
    async with running(store, world, **DUAL) as caller:
        _, made = await caller("POST", SERVICES, service("a", ipFamilyPolicy="RequireDualStack"))
        four, six = made["spec"]["clusterIPs"]
        assert made["spec"]["clusterIP"] == four and made["spec"]["ipFamilies"] == ["IPv4", "IPv6"]
        _, address = await caller("GET", f"{ADDRESSES}/{six}")
        assert address["metadata"]["labels"]["ipaddress.kubernetes.io/ip-family"] == "IPv6"
        merge = {"content_type": "application/merge-patch+json"}
        single = {"spec": {"ipFamilyPolicy": "SingleStack"}}
        status, less = await caller("PATCH", f"{SERVICES}/a", single, **merge)
        assert (
            status == 200 and less["spec"]["clusterIPs"] == [four] and less["spec"]["ipFamilies"] == ["IPv4"]
        )
        assert await records(caller) >= {four} and six not in await records(caller)
        wanted = "FD00:10:96:0::0:5"  # not as IPAddresses are called
        more = {"spec": {"ipFamilyPolicy": "PreferDualStack", "clusterIPs": [four, wanted]}}
        status, again = await caller("PATCH", f"{SERVICES}/a", more, **merge)
        assert status == 200 and again["spec"]["clusterIPs"] == [four, wanted], again
        assert "fd00:10:96::5" in await records(caller)
        status, answer = await caller("POST", SERVICES, service("b", clusterIP="fd00:10:96::5"))
        assert status == 422 and "provided IP is already allocated" in answer["message"], answer
        name = {"spec": {"type": "ExternalName", "externalName": "a.example"}}
        status, named = await caller("PATCH", f"{SERVICES}/a", name, **merge)
        assert status == 200 and not {"clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"} & set(
            named["spec"]
        )
        assert not {four, "fd00:10:96::5"} & await records(caller)
        status, back = await caller("PATCH", f"{SERVICES}/a", {"spec": {"type": "ClusterIP"}}, **merge)
        assert (
            status == 200 and len(back["spec"]["clusterIPs"]) == 1 and back["spec"]["ipFamilies"] == ["IPv4"]
        )
    await store.close()


async def test_addresses_come_from_every_ready_range(world: World) -> None:
    store = ModelStore(world)
    small = {"service_cluster_ip_range": "10.96.0.0/29"}
    async with running(store, world, **small) as one, running(store, world, **small) as two:
        for index in range(6):
            status, answer = await one("POST", SERVICES, service(f"s{index}"))
            assert status == 201, answer
        status, answer = await two("POST", SERVICES, service("late"))
        assert status == 500 and answer["message"] == (
            "Internal error occurred: failed to allocate a serviceIP: range is full"
        )
        body = {"metadata": {"name": "more"}, "spec": {"cidrs": ["10.97.0.0/28", "fd00:10:97::/112"]}}
        assert (await one("POST", CIDRS, body))[0] == 201
        # The other server has it at once as well: it asks before it refuses.
        status, late = await two("POST", SERVICES, service("late"))
        assert status == 201 and late["spec"]["clusterIP"].startswith("10.97.0."), late
        for ip in ("10.97.0.0", "10.97.0.15", "10.98.0.1"):
            status, answer = await two("POST", SERVICES, service("x", clusterIP=ip))
            assert (
                status == 422 and "the provided network does not match the current range" in answer["message"]
            )
        # A cluster of one family stays one, whatever ranges there are.
        status, answer = await one("POST", SERVICES, service("x", ipFamilyPolicy="RequireDualStack"))
        assert status == 422 and "this cluster is not configured for dual-stack services" in answer["message"]
        said = {"status": {"conditions": [{"type": "Ready", "status": "False", "reason": "Terminating"}]}}
        said["status"]["conditions"][0] |= {"message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        merge = {"content_type": "application/merge-patch+json"}
        assert (await one("PATCH", f"{CIDRS}/more/status", said, **merge))[0] == 200
        status, answer = await one("POST", SERVICES, service("x"))
        assert status == 500 and "range is full" in answer["message"]
        assert (await one("DELETE", f"{SERVICES}/late"))[0] == 200
        assert late["spec"]["clusterIP"] not in await records(one)
    await store.close()


async def test_overlapping_ranges_share_what_is_taken(world: World) -> None:
    store = ModelStore(world)
    async with running(store, world, service_cluster_ip_range="10.96.0.0/29") as call:
        body = {"metadata": {"name": "same"}, "spec": {"cidrs": ["10.96.0.0/29"]}}
        assert (await call("POST", CIDRS, body))[0] == 201
        body = {"metadata": {"name": "around"}, "spec": {"cidrs": ["10.96.0.0/28"]}}
        assert (await call("POST", CIDRS, body))[0] == 201
        given = set()
        for index in range(14):
            status, made = await call("POST", SERVICES, service(f"s{index}"))
            assert status == 201, made
            given.add(made["spec"]["clusterIP"])
        assert given == {f"10.96.0.{number}" for number in range(1, 15)}
        assert (await call("POST", SERVICES, service("x")))[0] == 500
    await store.close()


async def eventually(caller: Caller, path: str, holds: Callable[[int, Any], Any]) -> Any:
    for _ in range(300):
        status, body = await caller("GET", path)
        if holds(status, body):
            return body
        await asyncio.sleep(0.01)
    raise AssertionError((path, status, body))


async def test_records_written_by_others_are_put_right_and_told(call: Caller) -> None:
    _, made = await call("POST", SERVICES, service("a"))
    ip = made["spec"]["clusterIP"]
    _, before = await call("GET", f"{ADDRESSES}/{ip}")
    assert (await call("DELETE", f"{ADDRESSES}/{ip}"))[0] == 200
    after = await eventually(call, f"{ADDRESSES}/{ip}", lambda status, _: status == 200)
    assert after["metadata"]["uid"] != before["metadata"]["uid"] and after["spec"] == before["spec"]
    labels = before["metadata"]["labels"]
    wrong = {"metadata": {"name": "10.96.9.9", "labels": labels}, "spec": before["spec"]}
    assert (await call("POST", ADDRESSES, wrong))[0] == 201
    await eventually(call, f"{ADDRESSES}/10.96.9.9", lambda status, _: status == 404)
    events = "/api/v1/namespaces/default/events"
    listed = await eventually(call, events, lambda _, body: len(body["items"]) >= 2)
    told = {each["reason"]: each for each in listed["items"]}
    lost = told["ClusterIPNotAllocated"]
    assert lost["message"] == f"Cluster IP [IPv4]: {ip} is not allocated; repairing"
    assert lost["type"] == "Warning" and lost["action"] == "ClusterIPAllocation"
    assert lost["involvedObject"]["kind"] == "Service" and lost["involvedObject"]["name"] == "a"
    assert lost["source"]["component"] == "ipallocator-repair-controller"
    assert told["IPAddressWrongReference"]["involvedObject"]["name"] == "10.96.9.9"


async def test_node_ports_of_protocols(call: Caller) -> None:
    pair = [
        {"name": "t", "port": 53, "protocol": "TCP"},
        {"name": "u", "port": 53, "protocol": "UDP", "nodePort": 30053},
    ]
    _, made = await call("POST", SERVICES, service("a", type="NodePort", ports=pair))
    assert [port["nodePort"] for port in made["spec"]["ports"]] == [30053, 30053]
    other = [
        {"name": "t", "port": 1, "protocol": "TCP", "nodePort": 30054},
        {"name": "u", "port": 2, "protocol": "UDP", "nodePort": 30054},
    ]
    status, answer = await call("POST", SERVICES, service("b", type="NodePort", ports=other))
    assert status == 422 and answer["details"]["causes"] == [
        {
            "reason": "FieldValueInvalid",
            "message": "Invalid value: 30054: provided port is already allocated",
            "field": "spec.ports[1].nodePort",
        }
    ]
    # An update gives each port its own, and leaves those that are named alike as they are.
    made["spec"]["ports"] = [
        {"name": "t", "port": 54, "protocol": "TCP"},
        {"name": "v", "port": 53, "protocol": "UDP"},
    ]
    _, changed = await call("PUT", f"{SERVICES}/a", made)
    first, second = (port["nodePort"] for port in changed["spec"]["ports"])
    assert first == 30053 and second != 30053


async def test_health_check_node_ports(call: Caller) -> None:
    local: dict[str, Any] = {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}
    _, made = await call("POST", SERVICES, service("a", **local))
    port = made["spec"]["healthCheckNodePort"]
    assert str(port) in await records(call)
    status, answer = await call("POST", SERVICES, service("b", **local, healthCheckNodePort=port))
    words = f"failed to allocate requested HealthCheck NodePort {port}: provided port is already allocated"
    assert status == 422 and words in answer["message"], answer
    made["spec"]["healthCheckNodePort"] = port + 1
    status, answer = await call("PUT", f"{SERVICES}/a", made)
    assert status == 422 and "spec.healthCheckNodePort: Forbidden: field is immutable" in answer["message"]
    made["spec"] |= {"healthCheckNodePort": port, "externalTrafficPolicy": "Cluster"}
    status, cluster = await call("PUT", f"{SERVICES}/a", made)
    assert status == 200 and "healthCheckNodePort" not in cluster["spec"], cluster
    assert str(port) not in await records(call)


def test_bands() -> None:
    assert [static_band(size, 32, 16, 128) for size in (2768, 16, 17, 4097)] == [86, 0, 16, 128]
    assert [static_band(1 << bits, 16, 16, 256) for bits in (3, 4, 5, 8, 9, 20, 64)] == [
        0,
        0,
        16,
        16,
        32,
        256,
        256,
    ]


@pytest.mark.parametrize(
    ("network", "size"),
    [("10.0.0.0/29", 6), ("10.0.0.0/31", 0), ("10.0.0.0/32", 0), ("fd00::/125", 7), ("fd00::/127", 1), ("fd00::/128", 0)],
)  # fmt: skip
def test_what_a_range_has_to_give(network: str, size: int) -> None:
    one = Range.of(ipaddress.ip_network(network))
    assert one.end - one.first == size and one.first == one.band


async def test_a_range_that_gives_nothing_harms_nobody(call: Caller) -> None:
    for number, cidr in enumerate(("10.97.0.1/32", "10.97.0.2/31", "fd00::/128", "fd00::/40")):
        body = {"metadata": {"name": f"tiny-{number}"}, "spec": {"cidrs": [cidr]}}
        assert (await call("POST", CIDRS, body))[0] == 201
    for number in range(4):
        status, made = await call("POST", SERVICES, service(f"s{number}"))
        assert status == 201 and made["spec"]["clusterIP"].startswith("10."), made
    status, answer = await call("POST", SERVICES, service("x", clusterIP="10.97.0.1"))
    assert status == 201, answer  # 10.96.0.0/12 gives it


def test_free_choices_come_from_the_upper_band_while_it_lasts(world: World) -> None:
    ports = NodePorts("30000-30039", world)
    picked = [ports.pick() for _ in range(24)]
    assert sorted(picked) == list(range(30016, 30040))
    for port in picked:
        ports.ledger.take(port)
    assert sorted(ports.pick() for _ in range(16)) == list(range(30000, 30016))
    with pytest.raises(Exhausted):
        ports.pick()
    ports.ledger.release(30021)
    assert ports.pick() == 30021


def test_a_reservation_ends(world: World) -> None:
    ledger = Ledger(world.clock)
    ledger.reserve(3)
    assert choose(3, 4, ledger.is_free, world.chance) is None
    ledger.take(3)
    ledger.release(3)
    assert (
        choose(3, 4, ledger.is_free, world.chance) == 3 and choose(3, 3, ledger.is_free, world.chance) is None
    )
