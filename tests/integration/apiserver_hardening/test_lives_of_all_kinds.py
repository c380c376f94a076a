"""Every built-in kind through the official dynamic client: what the published lifecycle tests ask of each of them."""

from __future__ import annotations

import copy
import functools
from typing import Any

import pytest
from kubernetes import config, dynamic

from bamikube.api import table
from bamikube.api.resources import Resource
from tests.support.objects import example

from .conftest import Wire

_STORED = [row for row in table.TABLE if not row.virtual and row.kind != "Namespace"]
_MERGE, _STRATEGIC, _JSON = (
    f"application/{each}+json" for each in ("merge-patch", "strategic-merge-patch", "json-patch")
)
# An update of their status leaves what authors write into metadata alone.
_STATUS_ALONE = {
    "APIService", "CustomResourceDefinition", "FlowSchema", "PriorityLevelConfiguration", "ResourceClaim", "ServiceCIDR",
    "ValidatingAdmissionPolicy", "VolumeAttachment",
}  # fmt: skip


@pytest.fixture(scope="module")
def dynamically(wire: Wire) -> dynamic.DynamicClient:
    return dynamic.DynamicClient(config.new_client_from_config(str(wire.api.kubeconfig)))


@pytest.fixture(scope="module")
def lives(wire: Wire) -> str:
    """One namespace for all of them."""
    wire.send("POST", "/api/v1/namespaces", {"metadata": {"name": "lives"}}).must(201)
    path = "/api/v1/namespaces/lives/serviceaccounts"
    wire.send("GET", f"{path}?watch=1&fieldSelector=metadata.name%3Ddefault").check()  # there now
    return "lives"


def _body(row: Resource, namespace: str, label: str) -> dict[str, Any]:
    body = copy.deepcopy(example(row))
    body["metadata"]["labels"] = {"life": label}
    if row.namespaced:
        body["metadata"]["namespace"] = namespace
    if row.kind == "CustomResourceDefinition":  # a group of its own: with it come and go API services
        body["spec"]["group"] = "lives.example.com"
        body["metadata"]["name"] = "things.lives.example.com"
    for field in ("involvedObject", "regarding"):
        if field in body:
            body[field]["namespace"] = namespace
    return body


@functools.cache
def _document(wire: Wire, path: str) -> dict[str, Any]:
    found: dict[str, Any] = wire.send("GET", f"/openapi/v3/{path}").must(200)["paths"]
    return found


def _deleted_kind(wire: Wire, row: Resource) -> str:
    """What the OpenAPI document says DELETE answers with."""
    base = f"apis/{row.group}/{row.version}" if row.group else f"api/{row.version}"
    scope = "namespaces/{namespace}/" if row.namespaced else ""
    operation = _document(wire, base)[f"/{base}/{scope}{row.plural}/{{name}}"]["delete"]
    reference = operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"]
    return str(reference.rpartition(".")[2])


@pytest.mark.parametrize("row", _STORED, ids=lambda row: f"{row.plural}.{row.api_version}")
def test_a_life(wire: Wire, dynamically: dynamic.DynamicClient, lives: str, row: Resource) -> None:
    api = dynamically.resources.get(api_version=row.api_version, kind=row.kind)
    here = {"namespace": lives} if row.namespaced else {}
    body = _body(row, lives, row.version)
    name, chosen = body["metadata"]["name"], f"life={row.version}"
    assert api.create(body=body, **here).kind == row.kind
    listed = api.get(label_selector=chosen)  # in all namespaces
    assert (listed.kind, len(listed.items)) == (f"{row.kind}List", 1)
    since = listed.metadata.resourceVersion
    for media, patch in (
        (_MERGE, {"metadata": {"annotations": {"merged": "1"}}}),
        (_STRATEGIC, {"metadata": {"annotations": {"strategic": "1"}}}),
        (_JSON, [{"op": "add", "path": "/metadata/annotations/operated", "value": "1"}]),
    ):
        patched = api.patch(name=name, body=patch, content_type=media, **here)
    assert {"merged", "strategic", "operated"} <= set(patched.metadata.annotations.to_dict())
    while True:  # controllers write as well
        whole = api.get(name=name, **here).to_dict()
        whole["metadata"]["annotations"]["replaced"] = "1"
        try:
            assert api.replace(body=whole, **here).metadata.annotations.replaced == "1"
            break
        except dynamic.exceptions.ConflictError:
            continue
    for event in api.watch(resource_version=since, label_selector=chosen, timeout=20, **here):
        assert event["type"] == "MODIFIED"
        if "replaced" in (event["raw_object"]["metadata"].get("annotations") or {}):
            break
    if "status" in row.subresources:
        patch = {"metadata": {"annotations": {"by": "status"}}}
        answered = api.status.patch(name=name, body=patch, content_type=_MERGE, **here)
        kept = "by" in api.status.get(name=name, **here).metadata.annotations.to_dict()
        assert (answered.kind, kept) == (row.kind, row.kind not in _STATUS_ALONE)
    # A finalizer holds these.
    waits = row.kind in ("CustomResourceDefinition", "ReplicationController", "Job", "ServiceCIDR")
    gone = api.delete(name=name, body={"gracePeriodSeconds": 0}, **here)
    assert gone.kind == (row.kind if waits else _deleted_kind(wire, row))
    again = _body(row, lives, "again") | {"metadata": {"name": f"{name}2"} | {"labels": {"life": "again"}}}
    if row.kind not in ("CustomResourceDefinition", "APIService", "IPAddress"):  # their names say more
        api.create(body=again, **here)
    removed = api.delete(label_selector="life=again", **here)
    assert removed.kind == f"{row.kind}List"
