"""Histories of services that come and go in ranges that are nearly full, on two API servers, under faults.

What must hold at every revision of the store, whichever server wrote it and whatever it had heard by then:

* every cluster IP and node port of a service has a record that names it, and every such record has its service;
* so no two services hold the same;
* every cluster IP lies in a ServiceCIDR that exists, though protected ones are deleted all the time.

And in the end nothing was ever repaired: repair is for what others broke, not for what a server has not heard of yet.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
from typing import Any

import orjson
import pytest

from bamikube.api.errors import ApiError
from bamikube.api.predicates.servicecidrs import FINALIZER, holds
from bamikube.apiserver.allocators import ports
from bamikube.apiserver.allocators.addresses import PREFIX
from bamikube.apiserver.allocators.services import held_addresses
from bamikube.store.port import Store
from tests.simulation.cluster import Cluster
from tests.simulation.faults import FAULTS, work_through
from tests.simulation.virtual import run

SEEDS = (
    [int(os.environ["BAMIKUBE_SEED"])]
    if "BAMIKUBE_SEED" in os.environ
    else list(range(1, max(3, int(os.environ.get("BAMIKUBE_SEEDS", "20")) // 30) + 1))
)
SERVICES = "/registry/services/"
RANGES = "/registry/networking.k8s.io/servicecidrs/"
CIDRS = "servicecidrs.networking.k8s.io"
MORE = (("10.97.0.0/29",), ("10.97.0.0/28", "fd00:97::/125"), ("10.96.0.0/28",))

Object = dict[str, Any]


class Witness:
    """Looks at every change as the store makes it, and weighs at the end of each revision."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.services: dict[str, Object] = {}
        self.ranges: dict[str, Object] = {}
        self.records: dict[str, str] = {}  # address or port -> the service it names
        self.given = 0
        self.problems: list[str] = []

    async def run(self) -> None:
        revision = 0
        async for batch in self._store.watch(b"/registry/", 1):
            for change in batch:
                if change.mod_revision != revision:
                    self._weigh(revision)
                    revision = change.mod_revision
                self._take(change.key.decode(), orjson.loads(change.value) if change.value else None)
            self._weigh(revision)

    def _take(self, key: str, obj: Object | None) -> None:
        if key.startswith(PREFIX):
            parent = (obj or {}).get("spec", {}).get("parentRef", {})
            self._record(key.removeprefix(PREFIX), f"{parent.get('namespace')}/{parent.get('name')}", obj)
        elif key.startswith(ports.PREFIX):
            self._record(key.removeprefix(ports.PREFIX), (obj or {}).get("service", ""), obj)
        elif key.startswith((SERVICES, RANGES)):
            kept = self.services if key.startswith(SERVICES) else self.ranges
            if obj is None:
                kept.pop(key, None)
            elif obj["kind"] in ("Service", "ServiceCIDR"):
                kept[key] = obj

    def _record(self, value: str, owner: str, obj: Object | None) -> None:
        if obj is None:
            self.records.pop(value, None)
        else:
            self.given += 1
            self.records[value] = owner

    def _weigh(self, revision: int) -> None:
        wanted: dict[str, str] = {}
        for key, service in self.services.items():
            spec, name = service["spec"], key.removeprefix(SERVICES)
            for value in (*held_addresses(spec), *map(str, ports.held(spec))):
                if value in wanted:
                    self.problems.append(f"{revision}: {wanted[value]} and {name} both hold {value}")
                wanted[value] = name
            for ip in held_addresses(spec):
                if not any(holds(one, ipaddress.ip_address(ip)) for one in self.ranges.values()):
                    self.problems.append(f"{revision}: {name} holds {ip}, which is in no range")
        if wanted != self.records:
            self.problems.append(f"{revision}: services hold {wanted}, recorded are {self.records}")


async def _use(cluster: Cluster, number: int) -> None:
    """Somebody makes, changes and deletes services, through the server of his connection."""
    world, client = cluster.world, cluster.client(f"user-{number}")
    while True:
        await world.clock.sleep(world.chance.uniform(0.05, 0.8))
        name = f"s{world.chance.randrange(0, 16)}"
        with contextlib.suppress(ApiError, OSError):
            act = world.chance.choice(("create", "create", "create", "patch", "patch", "delete"))
            if act == "delete":
                await client.delete("services", name, "default")
                continue
            kind = world.chance.choice(("ClusterIP", "NodePort", "ExternalName"))
            policy = world.chance.choice(("SingleStack", "PreferDualStack", "RequireDualStack"))
            spec: Object = {"type": kind, "ports": [{"port": 80}]}
            if kind == "ExternalName":
                spec["externalName"] = "a.example"
            else:
                spec["ipFamilyPolicy"] = policy
            if act == "patch":
                await client.patch("services", name, {"spec": spec}, "default")
                continue
            if kind != "ExternalName" and world.chance.random() < 0.3:
                spec["clusterIP"] = f"10.96.0.{world.chance.randrange(1, 15)}"
            meta = {"name": name, "namespace": "default"}
            await client.create(
                "services", {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec}
            )


async def _extend(cluster: Cluster) -> None:
    """Somebody adds ranges and takes them away again."""
    world, client = cluster.world, cluster.client("operator")
    while True:
        await world.clock.sleep(world.chance.uniform(0.5, 6.0))
        number = world.chance.randrange(0, len(MORE))
        with contextlib.suppress(ApiError, OSError):
            if world.chance.random() < 0.5:
                # As in Kubernetes, one that no controller has protected yet would go at once, whoever has its addresses.
                held = await client.get(CIDRS, f"more-{number}")
                if FINALIZER in (held["metadata"].get("finalizers") or ()):
                    await client.delete(CIDRS, f"more-{number}")
                continue
            body = {"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR"}
            cidrs = {"metadata": {"name": f"more-{number}"}, "spec": {"cidrs": list(MORE[number])}}
            await client.create(CIDRS, {**body, **cidrs})


async def _repairs(cluster: Cluster) -> list[str]:
    """What servers told of as put right."""
    client = cluster.client("judge")
    for _ in range(60):
        await cluster.world.clock.sleep(2.0)
        with contextlib.suppress(ApiError, OSError):
            listed = (await client.list("events"))["items"]
            told = [one for one in listed if one["source"]["component"].endswith("-repair-controller")]
            return [f"{one['reason']}: {one['message']}" for one in told]
    return ["no server answers"]


async def _play(seed: int) -> int:
    cluster = Cluster(
        seed,
        nodes=1,
        service_cluster_ip_range="10.96.0.0/29,fd00:96::/125",
        service_node_port_range="30000-30009",
    )
    witness = Witness(cluster.store)
    cluster.tasks.spawn(witness.run(), "witness")
    try:
        await cluster.up()
        work = [_extend(cluster), *(_use(cluster, number) for number in range(4))]
        killed = ("apiserver-1", "apiserver-2", "controllers-1", "controllers-2")
        await work_through(cluster, work, killed, (*FAULTS, "kill"))
        problems = witness.problems[:5] + await _repairs(cluster)
        assert not problems, f"seed {seed}:\n" + "\n".join(problems)
        return witness.given
    finally:
        await cluster.close()


@pytest.mark.parametrize("seed", SEEDS)
def test_services_and_what_they_are_given_agree(seed: int) -> None:
    assert run(_play(seed)) > 20
