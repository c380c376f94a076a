"""Several versions of a custom resource: converted by their names alone, and by a webhook of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from tests.integration.apiserver.conftest import Api
from tests.integration.customresources.conftest import (
    CRDS,
    definition,
    established,
    gone,
    serving,
    update,
)
from tests.support.etcd import EtcdServer
from tests.support.tls_server import TlsServer

NAME = "hosts.example.com"


def at(version: str) -> str:
    return f"/apis/example.com/{version}/namespaces/default/hosts"


def said(version: str) -> dict[str, Any]:
    return {"apiVersion": f"example.com/{version}", "kind": "Host"}


def hosts(strategy: dict[str, Any] | None = None) -> dict[str, Any]:
    """v1 keeps ``hostPort: a:1``, v2 ``host`` and ``port``."""
    text = {"type": "string"}
    crd = definition("example.com", "Host", schema={"type": "object", "properties": {"hostPort": text}})
    v2 = {"type": "object", "properties": {"host": text, "port": text}}
    crd["spec"]["versions"].append(
        {"name": "v2", "served": True, "storage": False, "schema": {"openAPIV3Schema": v2}}
    )
    if strategy is not None:
        crd["spec"]["conversion"] = strategy
    return crd


def store_v2(crd: dict[str, Any]) -> None:
    for version in crd["spec"]["versions"]:
        version["storage"] = version["name"] == "v2"


async def test_versions_that_differ_in_name_only(api: Api) -> None:
    await established(api, hosts())
    made = await api.post(at("v1"), {**said("v1"), "metadata": {"name": "a"}, "hostPort": "x:1"})
    assert made["apiVersion"] == "example.com/v1"
    seen = await api.get(f"{at('v2')}/a")
    assert seen["apiVersion"] == "example.com/v2" and "hostPort" not in seen
    assert (await api.get(at("v2")))["items"][0]["apiVersion"] == "example.com/v2"
    watch = await api.watch(at("v2"))
    assert (await watch.next())["object"]["apiVersion"] == "example.com/v2"
    await watch.close()
    group = await api.get("/apis/example.com")
    assert [each["version"] for each in group["versions"]] == ["v2", "v1"]
    await update(api, NAME, store_v2)
    assert (await api.get(f"{CRDS}/{NAME}"))["status"]["storedVersions"] == ["v1", "v2"]
    assert (await api.get(f"{at('v1')}/a"))["apiVersion"] == "example.com/v1"

    async def kept() -> bytes:
        kv = await api.store.get(b"/registry/example.com/hosts/default/a")
        assert kv is not None
        return kv.value

    assert orjson.loads(await kept())["apiVersion"] == "example.com/v1"  # until somebody writes it
    obj = await api.get(f"{at('v2')}/a")
    await api.put(f"{at('v2')}/a", obj)
    assert orjson.loads(await kept())["apiVersion"] == "example.com/v2"
    crd = await api.get(f"{CRDS}/{NAME}")
    crd["spec"]["versions"] = crd["spec"]["versions"][1:]
    refused = await api.put(f"{CRDS}/{NAME}", crd, 422)  # v1 may still lie in the store
    assert refused["details"]["causes"] == [
        {
            "reason": "FieldValueInvalid",
            "message": 'Invalid value: "v1": must appear in spec.versions',
            "field": "status.storedVersions[0]",
        }
    ]
    crd = await api.get(f"{CRDS}/{NAME}")
    crd["status"]["storedVersions"] = ["v2"]
    crd = await api.put(f"{CRDS}/{NAME}/status", crd)
    crd["spec"]["versions"] = crd["spec"]["versions"][1:]
    await api.put(f"{CRDS}/{NAME}", crd)
    await api.get(at("v1"), 404)


async def test_a_deprecated_version_warns(api: Api) -> None:
    crd = hosts()
    crd["spec"]["versions"][0] |= {"deprecated": True}
    await established(api, crd)
    answer = await api.raw("GET", at("v1"))
    assert answer.headers["Warning"] == '299 - "example.com/v1 Host is deprecated"'
    assert "Warning" not in (await api.raw("GET", at("v2"))).headers


class Webhook:
    """A conversion webhook as its author would write it. ``spoil`` may change what it answers."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.spoil: Callable[[dict[str, Any]], Any] = lambda answer: answer

    async def answer(self, request: web.Request) -> web.StreamResponse:
        review = orjson.loads(await request.read())
        asked = review["request"]
        self.calls.append(len(asked["objects"]))
        converted = [_converted(obj, asked["desiredAPIVersion"]) for obj in asked["objects"]]
        response = {"uid": asked["uid"], "result": {"status": "Success"}, "convertedObjects": converted}
        body = {"apiVersion": review["apiVersion"], "kind": "ConversionReview", "response": response}
        return web.json_response(self.spoil(body))


def _converted(obj: dict[str, Any], wanted: str) -> dict[str, Any]:
    obj = {**obj, "apiVersion": wanted}
    if wanted.endswith("v2"):
        obj["host"], _, obj["port"] = obj.pop("hostPort", "").partition(":")
    else:
        obj["hostPort"] = f"{obj.pop('host')}:{obj.pop('port')}"
    return obj


@pytest.fixture
def webhook() -> Webhook:
    return Webhook()


@pytest.fixture
async def converted(
    etcd: EtcdServer, prefix: str, tmp_path: Path, webhook: Webhook
) -> AsyncIterator[tuple[Api, TlsServer]]:
    """A server on which hosts are converted by ``webhook``."""
    with TlsServer(tmp_path / "tls", webhook.answer) as tls:
        async with serving(etcd, prefix) as api:
            client = {"url": f"{tls.url}/convert", "caBundle": tls.ca_bundle}
            strategy = {
                "strategy": "Webhook",
                "webhook": {"clientConfig": client, "conversionReviewVersions": ["v1"]},
            }
            await established(api, hosts(strategy))
            yield api, tls


async def test_a_webhook_converts(converted: tuple[Api, TlsServer], webhook: Webhook) -> None:
    api, _ = converted
    await api.post(at("v1"), {**said("v1"), "metadata": {"name": "a"}, "hostPort": "x:1"})
    assert webhook.calls == []
    seen = await api.get(f"{at('v2')}/a")
    assert (seen["host"], seen["port"], seen["apiVersion"]) == ("x", "1", "example.com/v2")
    made = await api.post(at("v2"), {**said("v2"), "metadata": {"name": "b"}, "host": "y", "port": "2"})
    assert made["host"] == "y" and (await api.get(f"{at('v1')}/b"))["hostPort"] == "y:2"
    webhook.calls.clear()
    listed = await api.get(at("v2"))
    assert [item["host"] for item in listed["items"]] == ["x", "y"] and webhook.calls == [2]
    watch = await api.watch(f"{at('v2')}?resourceVersion={listed['metadata']['resourceVersion']}")
    changed = await api.patch(f"{at('v2')}/a", {"port": "3"})
    assert changed["port"] == "3" and changed["metadata"]["generation"] == 2
    event = await watch.next()
    assert (event["type"], event["object"]["port"]) == ("MODIFIED", "3")
    assert (await api.get(f"{at('v1')}/a"))["hostPort"] == "x:3"
    # Metadata needs no conversion: collectors work whatever becomes of the webhook.
    webhook.calls.clear()
    partial = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
    assert len((await api.get(at("v2"), accept=partial))["items"]) == 2 and webhook.calls == []
    # Another storage version: what lies in the store is converted when it is read.
    await update(api, NAME, store_v2)
    await api.post(at("v2"), {**said("v2"), "metadata": {"name": "c"}, "host": "z", "port": "4"})
    assert [item["host"] for item in (await api.get(at("v2")))["items"]] == ["x", "y", "z"]
    assert [item["hostPort"] for item in (await api.get(at("v1")))["items"]] == ["x:3", "y:2", "z:4"]
    await api.patch(f"{at('v1')}/a", {"hostPort": "x:5"})
    kv = await api.store.get(b"/registry/example.com/hosts/default/a")
    assert kv is not None and orjson.loads(kv.value)["port"] == "5"
    await watch.close()


async def test_selectors_look_at_what_the_webhook_made(converted: tuple[Api, TlsServer]) -> None:
    """As Kubernetes' own test of selectable fields: each version has its own, whatever version is stored."""
    api, _ = converted

    def selectable(crd: dict[str, Any]) -> None:
        for version, paths in zip(crd["spec"]["versions"], ((".hostPort",), (".host", ".port")), strict=True):
            version["selectableFields"] = [{"jsonPath": path} for path in paths]

    await update(api, NAME, selectable)
    by_host, by_both, by_text = (
        f"{at('v2')}?fieldSelector=host%3Dx",
        f"{at('v2')}?fieldSelector=host%3Dx,port%3D1",
        f"{at('v1')}?fieldSelector=hostPort%3Dx:1",
    )
    watches = [await api.watch(target) for target in (by_host, by_both, by_text)]
    for name, host, port in (("a", "x", "1"), ("b", "x", "2"), ("c", "y", "1")):
        await api.post(at("v2"), {**said("v2"), "metadata": {"name": name}, "host": host, "port": port})

    async def names(target: str) -> list[str]:
        return [item["metadata"]["name"] for item in (await api.get(target))["items"]]

    assert [await names(each) for each in (by_host, by_both, by_text)] == [["a", "b"], ["a"], ["a"]]
    assert await names(f"{at('v2')}?fieldSelector=port%3D1,metadata.name!%3Da") == ["c"]
    assert "hostPort" in (await api.get(f"{at('v2')}?fieldSelector=hostPort%3Dx:1", 400))["message"]
    since = (await api.get(by_host))["metadata"]["resourceVersion"]
    await api.delete(by_both)
    await api.patch(f"{at('v2')}/b", {"host": "y"})
    assert await names(by_host) == [] and await names(at("v2")) == ["b", "c"]
    assert await watches[0].take(4) == [("ADDED", "a"), ("ADDED", "b"), ("DELETED", "a"), ("DELETED", "b")]
    for watch in watches[1:]:
        assert await watch.take(2) == [("ADDED", "a"), ("DELETED", "a")]
    resumed = await api.watch(f"{by_host}&resourceVersion={since}")
    first, second = await resumed.next(), await resumed.next()
    assert (first["type"], second["type"]) == ("DELETED", "DELETED")
    # The last state that was in the selection, at the version at which it left.
    assert (second["object"]["host"], second["object"]["apiVersion"]) == ("x", "example.com/v2")
    assert int(second["object"]["metadata"]["resourceVersion"]) > int(since)
    for watch in (*watches, resumed):
        await watch.close()


def relabelled(body: dict[str, Any], labels: dict[str, Any]) -> dict[str, Any]:
    """The answer with these labels on every object."""
    objects = [
        {**each, "metadata": {**each["metadata"], "labels": labels}}
        for each in body["response"]["convertedObjects"]
    ]
    return {**body, "response": {**body["response"], "convertedObjects": objects}}


async def test_labels_and_annotations_are_the_webhooks(
    converted: tuple[Api, TlsServer], webhook: Webhook
) -> None:
    api, _ = converted
    await api.post(
        at("v1"), {**said("v1"), "metadata": {"name": "a", "labels": {"v": "1"}}, "hostPort": "x:1"}
    )
    webhook.spoil = lambda body: relabelled(body, {"v": "2"})
    assert (await api.get(f"{at('v2')}/a"))["metadata"]["labels"] == {"v": "2"}
    assert [len((await api.get(f"{at('v2')}?labelSelector=v%3D{v}"))["items"]) for v in "12"] == [0, 1]
    assert (await api.get(f"{at('v1')}/a"))["metadata"]["labels"] == {"v": "1"}


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (
            lambda body: (
                body | {"response": body["response"] | {"result": {"status": "Failure", "message": "no"}}}
            ),
            "conversion webhook for example.com/v1, Kind=Host failed: no",
        ),
        (
            lambda body: body | {"response": body["response"] | {"convertedObjects": []}},
            "conversion webhook for example.com/v1, Kind=Host returned 0 objects, expected 1",
        ),
        (
            lambda body: body | {"response": body["response"] | {"uid": "other"}},
            "conversion webhook for example.com/v1, Kind=Host failed: expected response.uid=",
        ),
        (
            lambda body: {
                **body,
                "response": body["response"]
                | {
                    "convertedObjects": [
                        each | {"metadata": {**each["metadata"], "name": "evil"}}
                        for each in body["response"]["convertedObjects"]
                    ]
                },
            },
            "returned invalid converted object at index 0: must have the same name: a != evil",
        ),
        (
            lambda body: body | {"kind": "Review"},
            "expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got "
            "apiextensions.k8s.io/v1, Kind=Review",
        ),
        (lambda body: body | {"response": None}, "failed: no response provided"),
        (lambda body: relabelled(body, {"a": 1}), "metadata.labels[a] must be a string in converted object"),
        (
            lambda body: relabelled(body, {"a b": "c"}),
            'metadata.labels: Invalid value: "a b": name part must',
        ),
    ],
)
async def test_a_webhook_that_fails_is_named(
    converted: tuple[Api, TlsServer], webhook: Webhook, spoil: Any, text: str
) -> None:
    api, _ = converted
    await api.post(at("v1"), {**said("v1"), "metadata": {"name": "a"}, "hostPort": "x:1"})
    webhook.spoil = spoil
    refused = await api.get(f"{at('v2')}/a", 500)
    assert text in refused["message"]
    assert refused["reason"] == ""  # as of any failure that is no status of its own
    watch = await api.watch(at("v2"))
    event = await watch.next()
    assert event["type"] == "ERROR" and text in event["object"]["message"]
    await api.get(f"{at('v1')}/a")


async def test_a_webhook_that_is_not_there_is_named(converted: tuple[Api, TlsServer]) -> None:
    api, _ = converted
    await api.post(at("v1"), {**said("v1"), "metadata": {"name": "a"}, "hostPort": "x:1"})

    def elsewhere(crd: dict[str, Any]) -> None:
        crd["spec"]["conversion"]["webhook"]["clientConfig"]["url"] = "https://127.0.0.1:1/convert"

    await update(api, NAME, elsewhere)
    refused = await api.get(f"{at('v2')}/a", 500)
    assert 'failed: Post "https://127.0.0.1:1/convert?timeout=30s"' in refused["message"]
    await api.delete(f"{CRDS}/{NAME}")  # its objects can be deleted all the same
    await gone(api, NAME)
