"""Each API server keeps a Lease; those of servers that are gone are removed."""

from __future__ import annotations

from typing import Any

from bamikube.apiserver.identity_lease import LEASES, IdentityLease, expired, lease_name
from bamikube.kit.chance import Chance
from bamikube.kit.clock import parse_rfc3339
from bamikube.kit.world import World
from bamikube.store.model import ModelStore
from tests.unit.apiserver_edges.conftest import running

IN_SYSTEM = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"
SELECTOR = "?labelSelector=apiserver.kubernetes.io/identity%3Dkube-apiserver"


def test_the_name_is_the_hosts_and_stays() -> None:
    assert lease_name("master") == lease_name("master") != lease_name("worker-1")
    name = lease_name("master")
    assert name.startswith("apiserver-") and len(name) == 36 and name == name.lower()


def test_a_lease_that_does_not_say_how_long_it_holds_is_over() -> None:
    spec: dict[str, Any] = {"renewTime": "2026-01-02T03:04:05.000000Z", "leaseDurationSeconds": 3600}
    renewed = parse_rfc3339(spec["renewTime"])
    assert not expired({"spec": spec}, renewed + 3600) and expired({"spec": spec}, renewed + 3601)
    assert expired({"spec": {**spec, "leaseDurationSeconds": None}}, renewed)
    assert expired({"spec": {"leaseDurationSeconds": 3600}}, renewed) and expired({}, renewed)


async def test_a_restarted_server_takes_its_lease_over_and_removes_those_of_servers_that_are_gone() -> None:
    world = World(chance=Chance(7))
    store = ModelStore(world)
    async with running(store, world) as call:
        cache, registry = call.server.cache, call.server.registry
        first = IdentityLease(cache, registry, world, "master")
        await first.renew()
        await cache.consistent()
        name = lease_name("master")
        before = cache.get(LEASES, "kube-system", name)
        assert before is not None
        assert before["metadata"]["labels"] == {
            "apiserver.kubernetes.io/identity": "kube-apiserver",
            "kubernetes.io/hostname": "master",
        }
        assert before["spec"]["leaseDurationSeconds"] == 3600
        assert before["spec"]["holderIdentity"].startswith(f"{name}_")
        await first.renew()
        second = IdentityLease(cache, registry, world, "master")
        await cache.consistent()
        await second.renew()
        await cache.consistent()
        after = cache.get(LEASES, "kube-system", name)
        assert after is not None and after["spec"]["holderIdentity"] != before["spec"]["holderIdentity"]
        assert after["spec"]["renewTime"] > before["spec"]["renewTime"]
        # The first, should it run on the same host, renews and leaves the holder alone.
        await first.renew()
        await cache.consistent()
        assert (
            cache.get(LEASES, "kube-system", name)["spec"]["holderIdentity"]
            == after["spec"]["holderIdentity"]
        )  # type: ignore[index]
        gone = {
            "metadata": {"name": "apiserver-gone", "labels": dict(before["metadata"]["labels"])},
            "spec": {"renewTime": "2020-01-01T00:00:00.000000Z", "leaseDurationSeconds": 3600},
        }
        other = {"metadata": {"name": "kube-scheduler"}, "spec": gone["spec"]}
        for lease in (gone, other):
            assert (await call("POST", IN_SYSTEM, lease))[0] == 201
        await second.remove_expired()
        _, left = await call("GET", IN_SYSTEM)
        assert sorted(one["metadata"]["name"] for one in left["items"]) == [name, "kube-scheduler"]
        _, mine = await call("GET", IN_SYSTEM + SELECTOR)
        assert [one["metadata"]["name"] for one in mine["items"]] == [name]
    await store.close()
