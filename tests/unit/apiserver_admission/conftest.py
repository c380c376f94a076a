"""One plugin at a time, or the whole chain, over a reader of plain dictionaries."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from bamikube.api import table
from bamikube.api.errors import ApiError
from bamikube.apiserver.admission import AdmissionContext, Plugin
from bamikube.apiserver.identity import User

Key = tuple[str, str]
Object = dict[str, Any]


class DictReader:
    """The Reader protocol over dictionaries; ``put`` and ``drop`` tell subscribers."""

    def __init__(self) -> None:
        self.synced = asyncio.Event()
        self.synced.set()
        self.objects: dict[Key, dict[tuple[str, str], Object]] = {}
        self.callbacks: dict[Key, list[Callable[..., None]]] = {}

    def get(self, resource_key: Key, namespace: str, name: str) -> Object | None:
        return self.objects.get(resource_key, {}).get((namespace, name))

    def list(self, resource_key: Key, namespace: str = "") -> list[Object]:
        found = self.objects.get(resource_key, {})
        return [found[key] for key in sorted(found) if not namespace or key[0] == namespace]

    async def consistent(self, timeout: float = 3.0) -> bool:
        return True

    def subscribe(self, resource_key: Key, callback: Callable[..., None], only: str = "") -> None:
        assert not only, "nobody here asks about one object"
        self.callbacks.setdefault(resource_key, []).append(callback)
        for obj in self.list(resource_key):
            callback("ADDED", None, obj)

    def put(self, resource_key: Key, obj: Object) -> None:
        key = (obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
        old = self.objects.setdefault(resource_key, {}).get(key)
        self.objects[resource_key][key] = obj
        for callback in self.callbacks.get(resource_key, []):
            callback("MODIFIED" if old else "ADDED", old, obj)

    def drop(self, resource_key: Key, namespace: str, name: str) -> None:
        old = self.objects[resource_key].pop((namespace, name))
        for callback in self.callbacks.get(resource_key, []):
            callback("DELETED", old, None)


@pytest.fixture
def reader() -> DictReader:
    return DictReader()


def context(
    resource: str,
    obj: Object | None,
    operation: str = "CREATE",
    *,
    old: Object | None = None,
    subresource: str = "",
    user: User | None = None,
    namespace: str = "default",
) -> AdmissionContext:
    """A request about ``obj`` in ``default``. ``resource`` is ``plural`` or ``plural.group``."""
    row = table.by_name(resource)
    name = ((obj or old or {}).get("metadata") or {}).get("name", "x")
    who = user or User("jane", ("system:authenticated",))
    where = namespace if row.namespaced else ""
    return AdmissionContext(operation, row, where, name, who, obj, old, subresource)  # type: ignore[arg-type]


async def admit(plugin: Plugin, ctx: AdmissionContext) -> Object:
    """Both steps, as far as the plugin is concerned; the object afterwards."""
    if plugin.concerned(ctx.resource.key, ctx.operation):
        await plugin.mutate(ctx)
        await plugin.validate(ctx)
    assert ctx.object is not None
    return ctx.object


async def refusal(plugin: Plugin, ctx: AdmissionContext) -> ApiError:
    """The error a request is refused with."""
    with pytest.raises(ApiError) as caught:
        await admit(plugin, ctx)
    return caught.value


def pod(name: str = "p", **spec: Any) -> Object:
    spec.setdefault("containers", [{"name": "c", "image": "i:1"}])
    return {"metadata": {"name": name, "namespace": "default"}, "spec": spec}


def container(name: str = "c", **resources: Any) -> Object:
    """``container(requests={...}, limits={...})``."""
    return {"name": name, "image": "i:1", "resources": resources}
