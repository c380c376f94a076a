"""Every stored row of the table: created, read, listed, watched, patched and deleted over real etcd."""

from __future__ import annotations

from typing import Any

import pytest

from bamikube.api import table
from bamikube.api.resources import Resource
from tests.support.objects import example
from tests.support.objects import where as collection_of

from .conftest import Api

# Kinds whose status the server itself writes as soon as there is one: what to wait for before it is compared.
_SETTLES = {"CustomResourceDefinition": "Established", "APIService": "Available", "FlowSchema": "Dangling"}


_STORED = [row for row in table.TABLE if not row.virtual]


@pytest.mark.parametrize("resource", _STORED, ids=lambda row: f"{row.plural}.{row.api_version}")
async def test_a_life_from_create_to_delete(every: Api, resource: Resource) -> None:
    body = example(resource)
    name = body["metadata"]["name"]
    where = collection_of(resource)
    watch = await every.watch(f"{where}?labelSelector=test%3Done&resourceVersion=0")
    if resource.kind == "Pod":
        await every.call(
            "POST", "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}}, 201
        )
    await every.post(where, body)
    if resource.kind in _SETTLES:
        settled: dict[str, Any] = {}
        while _SETTLES[resource.kind] not in str(settled.get("status")):
            settled = (await watch.next())["object"]
        await watch.close()
        watch = await every.watch(f"{where}?labelSelector=test%3Done&resourceVersion=0")
    stored = await every.get(f"{where}/{name}")
    assert stored["kind"] == resource.kind and stored["apiVersion"] == resource.api_version
    listed = await every.get(f"{where}?labelSelector=test%3Done")
    assert listed["kind"] == resource.list_kind and listed["items"] == [stored]
    table_shown = await every.get(where, accept="application/json;as=Table;v=v1;g=meta.k8s.io")
    assert len(table_shown["rows"][0]["cells"]) == len(table_shown["columnDefinitions"])
    await every.patch(f"{where}/{name}", {"metadata": {"annotations": {"a": "b"}}})
    replaced = await every.get(f"{where}/{name}")
    replaced["metadata"]["annotations"]["a"] = "c"
    assert (await every.put(f"{where}/{name}", replaced))["metadata"]["annotations"]["a"] == "c"
    await every.delete(f"{where}/{name}")
    if resource.kind == "Namespace":
        terminating = await every.get(f"{where}/{name}")
        assert terminating["status"]["phase"] == "Terminating"
        await watch.close()
        return
    for finalizer_free in (False, True):
        answer = await every.raw("GET", f"{where}/{name}")
        if (
            answer.status == 200 and not finalizer_free
        ):  # protection finalizers: their controller takes them off
            free = {"metadata": {"finalizers": None}}  # unless the server itself has been faster
            await every.raw("PATCH", f"{where}/{name}", free, content_type="application/merge-patch+json")
            continue
        assert answer.status == 404
    kinds = [(await watch.next())["type"] for _ in range(4)]
    assert kinds[:3] == ["ADDED", "MODIFIED", "MODIFIED"] and kinds[3] in ("DELETED", "MODIFIED")
    await watch.close()
