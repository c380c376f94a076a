"""API servers on real etcd, spoken to without sockets, and definitions to create on them."""

from __future__ import annotations

import asyncio
import copy
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bamikube.apiserver.options import ApiServerOptions
from bamikube.apiserver.outbound import Caller
from bamikube.apiserver.server import ApiServer
from bamikube.kit.world import World
from bamikube.store.etcd import EtcdStore
from tests.integration.apiserver.conftest import Api, HeaderMethod, etcd
from tests.support.etcd import EtcdServer
from tests.support.kubectl import Kubectl
from tests.support.private_api import PrivateApi, private_api

__all__ = ["etcd"]

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_numbers = itertools.count(1)

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "required": ["cronSpec"],
            "properties": {
                "cronSpec": {"type": "string", "pattern": r"^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$"},
                "image": {"type": "string"},
                "replicas": {"type": "integer", "minimum": 1, "maximum": 10, "default": 1},
                "color": {"type": "string"},
            },
        },
        "status": {
            "type": "object",
            "properties": {"replicas": {"type": "integer"}, "labelSelector": {"type": "string"}},
        },
    },
}


def definition(
    group: str = "stable.example.com",
    kind: str = "CronTab",
    *,
    schema: dict[str, Any] | None = None,
    scope: str = "Namespaced",
    **version: Any,
) -> dict[str, Any]:
    """A definition with one version, v1."""
    plural = kind.lower() + "s"
    one = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": copy.deepcopy(schema or SCHEMA)},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": scope,
            "names": {
                "plural": plural,
                "singular": kind.lower(),
                "kind": kind,
                "shortNames": [kind.lower()[:2]],
            },
            "versions": [one | version],
        },
    }


def cron(name: str = "a", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "stable.example.com/v1",
        "kind": "CronTab",
        "metadata": {"name": name},
        "spec": {"cronSpec": "* * * * *"} | spec,
    }


async def established(api: Api, crd: dict[str, Any]) -> dict[str, Any]:
    """Create a definition and wait until it is established."""
    await api.post(CRDS, crd)
    return await settled(api, crd["metadata"]["name"], lambda obj: condition(obj, "Established") == "True")


def condition(obj: dict[str, Any], kind: str) -> str:
    for each in (obj.get("status") or {}).get("conditions") or ():
        if each["type"] == kind:
            return str(each["status"])
    return ""


async def settled(api: Api, name: str, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The definition, once ``wanted`` holds for it."""
    watch = await api.watch(f"{CRDS}?fieldSelector=metadata.name%3D{name}")
    try:
        while True:
            event = await watch.next()
            if event["type"] != "DELETED" and wanted(event["object"]):
                found: dict[str, Any] = event["object"]
                return found
    finally:
        await watch.close()


async def update(api: Api, name: str, change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Change a definition; tried again when its status moved meanwhile."""
    for _ in range(10):
        crd = await api.get(f"{CRDS}/{name}")
        change(crd)
        answer = await api.raw("PUT", f"{CRDS}/{name}", crd)
        if answer.status != 409:
            assert answer.status == 200, answer.joined()
            return crd
    raise AssertionError("the definition kept changing")


async def gone(api: Api, name: str) -> None:
    """Return when the definition is no more."""
    watch = await api.watch(f"{CRDS}?fieldSelector=metadata.name%3D{name}")
    try:
        if (await api.raw("GET", f"{CRDS}/{name}")).status == 404:
            return
        while (await watch.next(10))["type"] != "DELETED":
            pass
    finally:
        await watch.close()


@asynccontextmanager
async def serving(etcd: EtcdServer, prefix: str, caller: Caller | None = None) -> AsyncIterator[Api]:
    """A server on the key space ``prefix``."""
    world = World()
    store = EtcdStore(etcd.endpoints, world=world, prefix=prefix.encode())
    options = ApiServerOptions(etcd_compaction_interval=0)
    server = ApiServer(store, options, world, methods=(HeaderMethod(),), caller=caller)
    running = asyncio.ensure_future(server.run())
    try:
        await asyncio.wait_for(server.ready.wait(), 20)
        yield Api(server, store)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await store.close()


@pytest.fixture(scope="package")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateApi]:
    """An API server and controllers as processes of their own, for clients that want TLS."""
    with private_api(tmp_path_factory.mktemp("private")) as one:
        yield one


@pytest.fixture
def kubectl(private: PrivateApi) -> Kubectl:
    """kubectl 1.33 in a fresh namespace."""
    one = Kubectl(private.kubeconfig, f"custom-{next(_numbers)}")
    one("create", "namespace", one.namespace)
    return one


@pytest.fixture
def prefix() -> str:
    return f"/custom-{next(_numbers)}"


@pytest.fixture
async def api(etcd: EtcdServer, prefix: str) -> AsyncIterator[Api]:
    """A server with an empty key space of its own."""
    async with serving(etcd, prefix) as one:
        yield one
