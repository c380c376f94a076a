"""Published conformance behaviours of the area apimachinery, as far as they concern the API alone.

Each test quotes the behaviour it stands for; where the original takes a ReplicationController to show what the garbage
collector does, a ReplicaSet stands in. Those of webhooks, custom resources, quotas and of running containers have
their tests where those things are built.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

from kubernetes import client, config, watch

from .conftest import Wire


def until(condition: Callable[[], Any], seconds: float = 40) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "this did not come true in time"
        time.sleep(0.05)
    return found


def core(wire: Wire) -> client.CoreV1Api:
    return client.CoreV1Api(config.new_client_from_config(str(wire.api.kubeconfig)))


def test_api_metadata_http_return(wire: Wire) -> None:
    """API metadata HTTP return: HTTP request MUST return a HTTP status code of 406."""
    headers = {"Accept": "application/json;as=PartialObjectMetadata;v=v1;g=unknown.example.com"}
    wire.send("GET", "/api/v1/namespaces/default/configmaps", None, headers).must(406)
    review = {"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "spec": {}}
    table = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    wire.send("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review, table).must(406)


def test_server_version(wire: Wire) -> None:
    """Confirm a server version: both the major and minor versions MUST only be an integer."""
    version = wire.send("GET", "/version").must(200)
    assert version["major"].isdigit() and version["minor"].isdigit()


def test_preferred_versions(wire: Wire) -> None:
    """Discovery: each api group found MUST return a valid PreferredVersion."""
    for group in wire.send("GET", "/apis").must(200)["groups"]:
        assert group["preferredVersion"] in group["versions"]
        alone = wire.send("GET", f"/apis/{group['name']}").must(200)
        assert alone["preferredVersion"] == group["preferredVersion"]
        for version in group["versions"]:
            listed = wire.send("GET", f"/apis/{version['groupVersion']}").must(200)
            assert listed["groupVersion"] == version["groupVersion"]


def test_webhook_kinds_are_discovered(wire: Wire) -> None:
    """The admissionregistration.k8s.io API group and its webhook configurations MUST exist in discovery."""
    groups = {group["name"] for group in wire.send("GET", "/apis").must(200)["groups"]}
    assert {"admissionregistration.k8s.io", "apiextensions.k8s.io"} <= groups
    listed = wire.send("GET", "/apis/admissionregistration.k8s.io/v1").must(200)["resources"]
    assert {"mutatingwebhookconfigurations", "validatingwebhookconfigurations"} <= {r["name"] for r in listed}


def test_event_lifecycle_and_collection(wire: Wire, namespace: str) -> None:
    """Events are created, found, patched and deleted; a set of them is deleted by label."""
    path = f"/api/v1/namespaces/{namespace}/events"
    about = {"kind": "Pod", "namespace": namespace, "name": "p"}
    for name in ("one", "two", "three"):
        body = {
            "metadata": {"name": name, "labels": {"set": "yes"}},
            "involvedObject": about,
            "message": "old",
        }
        wire.send("POST", path, body).must(201)
    merge = {"Content-Type": "application/strategic-merge-patch+json"}
    wire.send("PATCH", f"{path}/one", {"message": "new"}, merge).must(200)
    assert wire.send("GET", f"{path}/one").must(200)["message"] == "new"
    newer = wire.send("GET", f"/apis/events.k8s.io/v1/namespaces/{namespace}/events/one").must(200)
    assert newer["note"] == "new"
    wire.send("DELETE", f"{path}/one").must(200)
    everywhere = wire.send("GET", "/api/v1/events").must(200)["items"]
    assert "one" not in {e["metadata"]["name"] for e in everywhere if e["metadata"]["namespace"] == namespace}
    assert len(wire.send("GET", f"{path}?labelSelector=set%3Dyes").must(200)["items"]) == 2
    wire.send("DELETE", f"{path}?labelSelector=set%3Dyes").must(200)
    assert wire.send("GET", f"{path}?labelSelector=set%3Dyes").must(200)["items"] == []


def test_namespace_patching(wire: Wire, namespace: str) -> None:
    """A Namespace is patched and MUST now include the new label."""
    patch = {"metadata": {"labels": {"testLabel": "testValue"}}}
    headers = {"Content-Type": "application/merge-patch+json"}
    wire.send("PATCH", f"/api/v1/namespaces/{namespace}", patch, headers).must(200)
    assert wire.send("GET", f"/api/v1/namespaces/{namespace}").must(200)["metadata"]["labels"]["testLabel"] == "testValue"  # fmt: skip


TEMPLATE = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}


def pods(wire: Wire, namespace: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = wire.send("GET", f"/api/v1/namespaces/{namespace}/pods").must(200)["items"]
    return found


def controller(wire: Wire, namespace: str, name: str, replicas: int) -> str:
    path = f"/api/v1/namespaces/{namespace}/replicationcontrollers"
    spec = {"replicas": replicas, "selector": {"a": "b"}, "template": TEMPLATE}
    wire.send("POST", path, {"metadata": {"name": name}, "spec": spec}).must(201)
    return f"{path}/{name}"


def test_deleting_a_controller_in_the_background(wire: Wire, namespace: str) -> None:
    """Deleting the Replication Controller MUST cause pods created by that RC to be deleted."""
    path = controller(wire, namespace, "rc", 2)
    until(lambda: len(pods(wire, namespace)) == 2)
    wire.send("DELETE", path, {"propagationPolicy": "Background"}).must(200)
    until(lambda: not pods(wire, namespace))


def test_deleting_a_controller_that_leaves_orphans(wire: Wire, namespace: str) -> None:
    """Deleting the Replication Controller MUST cause pods created by that RC to be orphaned."""
    path = controller(wire, namespace, "rc", 10)
    until(lambda: len(pods(wire, namespace)) == 10)
    wire.send("DELETE", path, {"propagationPolicy": "Orphan"}).must(200)
    until(lambda: wire.send("GET", path).status == 404)
    left = pods(wire, namespace)
    assert len(left) == 10
    assert not any(pod["metadata"].get("ownerReferences") for pod in left)


def test_deleting_a_deployment_that_leaves_orphans(wire: Wire, namespace: str) -> None:
    """Deleting the deployment MUST cause the replicaset created by it to be orphaned, and the Pods with it."""
    root = f"/apis/apps/v1/namespaces/{namespace}"
    spec = {"replicas": 2, "selector": {"matchLabels": {"a": "b"}}, "template": TEMPLATE}
    wire.send("POST", f"{root}/deployments", {"metadata": {"name": "d"}, "spec": spec}).must(201)
    until(lambda: len(pods(wire, namespace)) == 2)
    wire.send("DELETE", f"{root}/deployments/d", {"propagationPolicy": "Orphan"}).must(200)
    until(lambda: wire.send("GET", f"{root}/deployments/d").status == 404)
    (left,) = wire.send("GET", f"{root}/replicasets").must(200)["items"]
    assert not left["metadata"].get("ownerReferences")
    assert len(pods(wire, namespace)) == 2


def test_several_owners(wire: Wire, namespace: str) -> None:
    """Pods that have a second, living owner MUST not be deleted with the first one."""
    first = controller(wire, namespace, "first", 4)
    until(lambda: len(pods(wire, namespace)) == 4)
    labels = {"z": "y"}
    idle = {
        "replicas": 0,
        "selector": {"matchLabels": labels},
        "template": TEMPLATE | {"metadata": {"labels": labels}},
    }
    path = f"/apis/apps/v1/namespaces/{namespace}/replicasets"
    made = wire.send("POST", path, {"metadata": {"name": "second"}, "spec": idle}).must(201)
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "second", "uid": made["metadata"]["uid"]}
    merge = {"Content-Type": "application/strategic-merge-patch+json"}
    kept = {pod["metadata"]["name"] for pod in pods(wire, namespace)[:2]}
    for name in kept:
        body = {"metadata": {"ownerReferences": [owner]}}
        wire.send("PATCH", f"/api/v1/namespaces/{namespace}/pods/{name}", body, merge).must(200)
    wire.send("DELETE", first, {"propagationPolicy": "Foreground"}).must(200)
    until(lambda: wire.send("GET", first).status == 404)
    left = pods(wire, namespace)
    assert {pod["metadata"]["name"] for pod in left} == kept
    assert not any("deletionTimestamp" in pod["metadata"] for pod in left)


def test_deleting_a_namespace_removes_its_content(wire: Wire, namespace: str) -> None:
    """If a namespace is deleted then all pods and all services are removed from that namespace."""
    root = f"/api/v1/namespaces/{namespace}"
    until(lambda: wire.send("GET", f"{root}/serviceaccounts/default").status == 200)
    wire.send("POST", f"{root}/pods", {"metadata": {"name": "p"}, "spec": TEMPLATE["spec"]}).must(201)
    wire.send(
        "POST", f"{root}/services", {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}
    ).must(201)
    assert wire.send("DELETE", root).must(200)["status"]["phase"] == "Terminating"
    refused = wire.send("POST", f"{root}/configmaps", {"metadata": {"name": "late"}})
    assert refused.status in (403, 404)
    until(lambda: wire.send("GET", root).status == 404)
    wire.send("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}}).must(201)
    assert wire.send("GET", f"{root}/pods").must(200)["items"] == []
    assert wire.send("GET", f"{root}/services").must(200)["items"] == []


def events(api: client.CoreV1Api, namespace: str, count: int, **options: Any) -> list[tuple[str, Any]]:
    """The first ``count`` events of a watch of config maps."""
    found = []
    watcher = watch.Watch()
    for event in watcher.stream(api.list_namespaced_config_map, namespace, timeout_seconds=20, **options):
        found.append((event["type"], event["object"]))
        if len(found) == count:
            watcher.stop()
    assert len(found) == count, found
    return found


def test_watches_from_a_version_and_again(wire: Wire, namespace: str) -> None:
    """Only notifications after the resource version are observed; a watch can go on where the last one ended."""
    api = core(wire)
    made = api.create_namespaced_config_map(namespace, {"metadata": {"name": "w"}, "data": {"n": "0"}})
    versions = [made.metadata.resource_version]
    for number in ("1", "2"):
        changed = api.patch_namespaced_config_map("w", namespace, {"data": {"n": number}})
        versions.append(changed.metadata.resource_version)
    api.delete_namespaced_config_map("w", namespace)
    only = {"field_selector": "metadata.name=w"}
    seen = events(api, namespace, 2, resource_version=versions[1], **only)
    assert [(kind, obj.data["n"]) for kind, obj in seen] == [("MODIFIED", "2"), ("DELETED", "2")]
    (first,) = events(api, namespace, 1, resource_version=versions[0], **only)
    again = events(api, namespace, 2, resource_version=first[1].metadata.resource_version, **only)
    assert [kind for kind, _ in again] == ["MODIFIED", "DELETED"]


def test_a_watched_label_changes(wire: Wire, namespace: str) -> None:
    """An object that stops meeting the selector is DELETED to the watch, and ADDED when it meets it again."""
    api = core(wire)
    body = {"metadata": {"name": "w", "labels": {"watch": "yes"}}, "data": {"n": "0"}}
    start = api.create_namespaced_config_map(namespace, body).metadata.resource_version
    for patch in (
        {"data": {"n": "1"}},
        {"metadata": {"labels": {"watch": "no"}}},
        {"data": {"n": "2"}},
        {"metadata": {"labels": {"watch": "yes"}}},
        {"data": {"n": "3"}},
    ):
        api.patch_namespaced_config_map("w", namespace, patch)
    seen = events(api, namespace, 4, resource_version=start, label_selector="watch=yes")
    shown = [(kind, obj.data["n"]) for kind, obj in seen]
    assert shown == [("MODIFIED", "1"), ("DELETED", "1"), ("ADDED", "2"), ("MODIFIED", "3")]


def test_concurrent_watches_agree(wire: Wire, namespace: str) -> None:
    """Watches started at the version of each event see the following events with the same versions, in order."""
    api = core(wire)
    start = api.list_namespaced_config_map(namespace).metadata.resource_version
    count = 30

    def write() -> None:
        writer = core(wire)
        for number in range(count):
            name = f"w-{number % 7}"
            if number < 7:
                writer.create_namespaced_config_map(namespace, {"metadata": {"name": name}})
            elif number % 5 == 4:
                writer.delete_namespaced_config_map(name, namespace)
                writer.create_namespaced_config_map(namespace, {"metadata": {"name": name}})
            else:
                writer.patch_namespaced_config_map(name, namespace, {"data": {"n": str(number)}})

    thread = threading.Thread(target=write)
    thread.start()
    only = {"field_selector": "metadata.name!=kube-root-ca.crt"}
    first = [
        obj.metadata.resource_version
        for _, obj in events(api, namespace, count, resource_version=start, **only)
    ]
    assert sorted(first, key=int) == first
    for position in range(0, count - 1, 6):
        rest = events(api, namespace, count - position - 1, resource_version=first[position], **only)
        assert [obj.metadata.resource_version for _, obj in rest] == first[position + 1 :]
    thread.join()


def test_tables_and_chunks(wire: Wire, namespace: str) -> None:
    """Lists in chunks show one version; the server prints tables (behaviours of newer releases)."""
    path = f"/api/v1/namespaces/{namespace}/podtemplates"
    for number in range(12):
        wire.send("POST", path, {"metadata": {"name": f"t-{number:02}"}, "template": TEMPLATE}).must(201)
    names: list[str] = []
    versions, token = set(), ""
    while True:
        page = wire.send("GET", f"{path}?limit=5&continue={token}").must(200)
        names += [item["metadata"]["name"] for item in page["items"]]
        versions.add(page["metadata"]["resourceVersion"])
        token = page["metadata"].get("continue", "")
        if not token:
            break
    assert names == [f"t-{number:02}" for number in range(12)] and len(versions) == 1
    table = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    shown = json.loads(wire.send("GET", f"{path}?limit=2", None, table).body)
    assert (
        shown["kind"] == "Table"
        and len(shown["rows"]) == 2
        and shown["columnDefinitions"][0]["name"] == "Name"
    )
