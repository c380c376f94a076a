"""Cluster IPs and node ports: given once, given back, and put right after a restart."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from bamikube.apiserver.allocators.pool import Exhausted, Pool, static_band
from bamikube.apiserver.allocators.services import IP_PREFIX, PORT_PREFIX
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
    assert status == 422 and "not in the valid range" in answer["message"]
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


def test_a_pool_prefers_its_upper_band_and_ends(world: World) -> None:
    assert (
        static_band(2768, 32, 16, 128) == 86
        and static_band(1 << 20, 16, 16, 256) == 256
        and static_band(8, 16, 16, 256) == 0
    )
    pool = Pool("/x/", 40, 16, world, str, int)
    picked = [int(pool.pick()) for _ in range(24)]
    assert sorted(picked) == list(range(16, 40))
    for number in picked:
        pool.take(str(number), "s")
    assert sorted(int(pool.pick()) for _ in range(16)) == list(range(16))
    with pytest.raises(Exhausted):
        pool.pick()
    pool.release("20", "somebody-else")
    pool.release("21", "s")
    assert pool.pick() == "21"
