"""Pure parts of the API server's core: paths, spliced bytes, the window, continue tokens."""

from __future__ import annotations

import orjson
import pytest

from bamikube.api import errors, table
from bamikube.apiserver.cache import keys
from bamikube.apiserver.cache.item import Item, encode
from bamikube.apiserver.cache.window import Event, Window
from bamikube.apiserver.registry.reading import make_token, read_token
from bamikube.apiserver.requestinfo import parse
from bamikube.kit.http import Request

POD = {
    "kind": "Pod",
    "apiVersion": "v1",
    "metadata": {"name": "a", "namespace": "n", "labels": {"x": "y"}},
    "spec": {},
}


@pytest.mark.parametrize(
    ("method", "target", "verb", "resource", "subresource", "namespace", "name"),
    [
        ("GET", "/api/v1/pods", "list", "pods", "", "", ""),
        ("GET", "/api/v1/pods?watch=true", "watch", "pods", "", "", ""),
        ("GET", "/api/v1/pods?watch=false", "list", "pods", "", "", ""),
        ("GET", "/api/v1/watch/namespaces/n/pods/a", "watch", "pods", "", "n", "a"),
        ("GET", "/api/v1/namespaces/n", "get", "namespaces", "", "n", "n"),
        ("PUT", "/api/v1/namespaces/n/finalize", "update", "namespaces", "finalize", "n", "n"),
        ("GET", "/api/v1/namespaces/n/pods/a/log", "get", "pods", "log", "n", "a"),
        ("POST", "/apis/apps/v1/namespaces/n/deployments", "create", "deployments", "", "n", ""),
        ("DELETE", "/apis/apps/v1/namespaces/n/deployments", "deletecollection", "deployments", "", "n", ""),
        ("GET", "/api/v1/nodes?fieldSelector=metadata.name%3Dw", "list", "nodes", "", "", "w"),
    ],
)
def test_paths(
    method: str, target: str, verb: str, resource: str, subresource: str, namespace: str, name: str
) -> None:
    info = parse(Request.make(method, target))
    assert info.is_resource
    assert (info.verb, info.resource, info.subresource, info.namespace, info.name) == (
        verb,
        resource,
        subresource,
        namespace,
        name,
    )


@pytest.mark.parametrize("target", ["/", "/healthz", "/api", "/apis/apps", "/apis/apps/v1", "/version"])
def test_paths_that_are_no_resources(target: str) -> None:
    info = parse(Request.make("GET", target))
    assert not info.is_resource and info.verb == "get" and info.path == target


def test_proxied_paths_keep_their_rest() -> None:
    info = parse(Request.make("GET", "/api/v1/namespaces/n/services/s:http/proxy/a/b/"))
    assert (info.subresource, info.name, info.rest) == ("proxy", "s:http", "a/b/")


def test_the_revision_is_spliced_in_and_out() -> None:
    pods = table.by_name("pods")
    stored = encode(POD | {"metadata": POD["metadata"] | {"resourceVersion": "1"}})  # type: ignore[operator]
    assert b"resourceVersion" not in stored
    item = Item.of(pods, stored, 812)
    assert orjson.loads(item.raw)["metadata"]["resourceVersion"] == "812"
    assert orjson.loads(item.at(9000))["metadata"]["resourceVersion"] == "9000"
    assert item.stored == stored and item.key == "n/a" and item.labels == {"x": "y"}


def test_keys_resolve_both_ways() -> None:
    resolver = keys.Resolver(table.TABLE)
    for name in ("pods", "nodes", "deployments.apps", "clusterroles.rbac.authorization.k8s.io"):
        resource = table.by_name(name)
        key = keys.key(resource, "n" if resource.namespaced else "", "a")
        assert resolver.resolve(key) == (resource, "n/a" if resource.namespaced else "a")
    for foreign in (
        b"/elsewhere",
        b"/registry/",
        b"/registry/pods/",
        b"/registry/bami/x/y",
        b"/registry/pods/a",
    ):
        assert resolver.resolve(foreign) is None


def test_a_window_knows_how_far_back_it_reaches() -> None:
    item = Item.of(table.by_name("pods"), encode(POD), 5)
    window = Window(4)
    for revision in (5, 6, 6, 9):
        window.append(Event(None, item, revision, 0.0))
    assert window.since(3) is None
    assert [event.revision for event in window.since(5) or ()] == [6, 6, 9]
    assert window.since(9) == []
    for revision in range(10, 2000):
        window.append(Event(None, item, revision, revision * 1.0))
    assert window.floor > 4 and window.since(4) is None
    assert len(window.since(window.floor) or ()) > 200


def test_tokens_are_ours_or_refused() -> None:
    assert read_token(make_token(7, "n/a\0")) == (7, "n/a\0")
    for bad, why in {
        "a.b": "illegal base64 data at input byte 1",
        "x": "illegal base64 data at input byte 1",
        "": "unexpected end of JSON input",
        "W10": "json: cannot unmarshal array into Go value of type storage.continueToken",
        "eyJ2IjoidjAifQ": 'server does not recognize this encoded version "v0"',
        "eyJ2IjoibWV0YS5rOHMuaW8vdjEifQ": "incorrect encoded start resourceVersion (version meta.k8s.io/v1)",
        make_token(7, ""): "encoded start key empty (version meta.k8s.io/v1)",
    }.items():
        with pytest.raises(errors.ApiError) as caught:
            read_token(bad)
        assert caught.value.message == f"invalid continue token: continue key is not valid: {why}"
