"""Histories of a custom resource whose definition changes all the time, on two API servers, under faults.

What must hold at every revision of the store, whichever server wrote it and whatever it had heard by then:

* a new or changed object fits the definition as it stood when the object was written;
* nothing is created for a definition that is being deleted, or is not there;
* in the end every server serves the same objects, and none without a definition.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any

import orjson
import pytest

from bamikube.api import table
from bamikube.api.errors import ApiError
from bamikube.api.resources import Resource
from bamikube.client.client import path_of
from bamikube.store.port import Store
from tests.simulation.cluster import Cluster
from tests.simulation.faults import work_through
from tests.simulation.virtual import run

SEEDS = (
    [int(os.environ["BAMIKUBE_SEED"])]
    if "BAMIKUBE_SEED" in os.environ
    else list(range(1, max(4, int(os.environ.get("BAMIKUBE_SEEDS", "20")) // 5) + 1))
)
NAME = "tabs.example.com"
TABS = Resource("example.com", "v1", "Tab", "tabs", "tab", True, "")
CRDS = table.by_name("customresourcedefinitions.apiextensions.k8s.io")

Object = dict[str, Any]


def definition(most: int) -> Object:
    number = {"type": "integer", "maximum": most}
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"n": number}}}}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": NAME},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "tabs", "kind": "Tab"},
            "versions": [version],
        },
    }


def most_of(crd: Object) -> int:
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return int(schema["properties"]["spec"]["properties"]["n"]["maximum"])


class Witness:
    """Looks at every change as the store makes it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.crd: Object | None = None
        self.objects: dict[str, Object] = {}
        self.written = 0
        self.problems: list[str] = []

    async def run(self) -> None:
        async for batch in self._store.watch(b"/registry/", 1):
            for change in batch:
                key = change.key.decode()
                obj = orjson.loads(change.value) if change.value is not None else None
                if key.endswith(f"/customresourcedefinitions/{NAME}"):
                    self.crd = obj
                    if obj is None and self.objects:
                        self.problems.append(f"the definition went and left {sorted(self.objects)}")
                elif key.startswith("/registry/example.com/tabs/"):
                    self._object(key, obj)

    def _object(self, key: str, obj: Object | None) -> None:
        before = self.objects.pop(key, None)
        if obj is None:
            return
        self.objects[key] = obj
        self.written += 1
        if self.crd is None:
            self.problems.append(f"{key} was written without a definition")
            return
        if before is None and self.crd["metadata"].get("deletionTimestamp"):
            self.problems.append(f"{key} was created while its definition was going")
        n, most = obj["spec"]["n"], most_of(self.crd)
        if n > most and (before is None or before["spec"]["n"] != n):
            self.problems.append(f"{key} was written with {n} when {most} was the most")


async def _define(cluster: Cluster) -> None:
    """Somebody widens, narrows, deletes and makes the definition again."""
    world, client = cluster.world, cluster.client("person")
    while True:
        await world.clock.sleep(world.chance.uniform(0.05, 1.5))
        with contextlib.suppress(ApiError, OSError):
            if world.chance.random() < 0.1:
                await client.call("DELETE", path_of(CRDS, name=NAME))
                continue
            most = world.chance.randrange(1, 10)
            try:
                crd = await client.call("GET", path_of(CRDS, name=NAME))
            except ApiError:
                await client.call("POST", path_of(CRDS), body=definition(most))
                continue
            await client.call(
                "PUT", path_of(CRDS, name=NAME), body=definition(most) | {"metadata": crd["metadata"]}
            )


async def _use(cluster: Cluster, number: int) -> None:
    """Somebody creates, changes and deletes objects, through the server of his connection."""
    world, client = cluster.world, cluster.client(f"user-{number}")
    while True:
        await world.clock.sleep(world.chance.uniform(0.01, 0.3))
        name, n = f"t{world.chance.randrange(0, 6)}", world.chance.randrange(0, 12)
        with contextlib.suppress(ApiError, OSError):
            act = world.chance.choice(("create", "create", "patch", "delete"))
            if act == "create":
                head = {"apiVersion": TABS.api_version, "kind": TABS.kind}
                body = {**head, "metadata": {"name": name}, "spec": {"n": n}}
                await client.call("POST", path_of(TABS, "default"), body=body)
            elif act == "patch":
                headers = {"Content-Type": "application/merge-patch+json"}
                await client.call("PATCH", path_of(TABS, "default", name), None, {"spec": {"n": n}}, headers)
            else:
                await client.call("DELETE", path_of(TABS, "default", name))


async def _agree(cluster: Cluster, witness: Witness) -> list[str]:
    """Wait until both servers serve what the store holds; what is wrong when they do not."""
    world = cluster.world
    problems = ["no server answers"]
    for _ in range(120):
        await world.clock.sleep(1.0)
        if len(cluster.servers) < 2:
            continue
        problems = []
        going = witness.crd is not None and witness.crd["metadata"].get("deletionTimestamp")
        wanted = {key.rpartition("/")[2]: obj["spec"]["n"] for key, obj in witness.objects.items()}
        for name, server in sorted(cluster.servers.items()):
            row = server.catalog.find("example.com", "v1", "tabs")
            if row is None:
                if witness.crd is not None or wanted:
                    problems.append(f"{name} does not serve tabs")
                continue
            if witness.crd is None or going:
                problems.append(f"{name} still serves tabs")
                continue
            try:
                listed = await server.registry.list(row)
            except ApiError as error:
                problems.append(f"{name}: {error}")
                continue
            found = {obj["metadata"]["name"]: obj["spec"]["n"] for obj in listed}
            if found != wanted:
                problems.append(f"{name} serves {found}, the store holds {wanted}")
        if not problems:
            return []
    return problems


async def _play(seed: int) -> int:
    cluster = Cluster(seed, nodes=1)
    witness = Witness(cluster.store)
    cluster.tasks.spawn(witness.run(), "witness")
    try:
        await cluster.up()
        work = [_define(cluster), *(_use(cluster, number) for number in range(4))]
        await work_through(cluster, work, ("apiserver-1", "apiserver-2"))
        problems = [*witness.problems, *await _agree(cluster, witness)]
        assert not problems, f"seed {seed}:\n" + "\n".join(problems)
        return witness.written
    finally:
        await cluster.close()


@pytest.mark.parametrize("seed", SEEDS)
def test_definitions_and_objects_agree(seed: int) -> None:
    assert run(_play(seed)) > 20
