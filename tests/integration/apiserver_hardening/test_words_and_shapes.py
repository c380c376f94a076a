"""What goes over the wire is Kubernetes' own: fields that are always written, dry runs, pages for what is not there."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bamikube.api import table
from tests.support.kubectl import Kubectl

from .conftest import Wire

MERGE = {"Content-Type": "application/merge-patch+json"}
STATUS = {"Content-Type": "application/strategic-merge-patch+json"}


# --- what is always written -----------------------------------------------------------------------------------------

TYPED = {
    "deployment": ["deployment", "x", "--image=nginx", "--port=80"],
    "job": ["job", "x", "--image=nginx"],
    "cronjob": ["cronjob", "x", "--image=nginx", "--schedule=* * * * *"],
    "poddisruptionbudget": ["poddisruptionbudget", "x", "--selector=a=b", "--min-available=1"],
    "service": ["service", "nodeport", "x", "--tcp=80"],
    "ingress": ["ingress", "x", "--rule=a.example.com/*=s:80"],
    "quota": ["quota", "x", "--hard=pods=1"],
    "clusterrole": ["clusterrole", "x", "--verb=get", "--resource=pods"],
    "namespace": ["namespace", "x"],
    "priorityclass": ["priorityclass", "x", "--value=7"],
}


def fields(value: Any, path: str = "") -> set[str]:
    """Every path below ``value``; what stands at a path does not count."""
    found = {path} if path else set()
    if isinstance(value, dict):
        for key, inner in value.items():
            if (key, inner) != ("creationTimestamp", None):  # v1.34's metadata leaves it out
                found |= fields(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for inner in value:
            found |= fields(inner, f"{path}[]")
    return found


@pytest.mark.parametrize("kind", TYPED)
def test_what_gos_types_write_is_there(kubectl: Kubectl, kind: str) -> None:
    """kubectl's own types write what nobody said; the server's answer has all of it."""
    words = ["create", *TYPED[kind], "-o", "json"]
    typed = json.loads(kubectl(*words, "--dry-run=client"))
    answered = json.loads(kubectl(*words, "--dry-run=server"))
    assert fields(typed) - fields(answered) == set()


def test_a_node_and_an_event_of_few_words(wire: Wire, namespace: str) -> None:
    node = wire.send("POST", "/api/v1/nodes?dryRun=All", {"metadata": {"name": "n"}}).must(201)
    assert node["status"]["daemonEndpoints"] == {"kubeletEndpoint": {"Port": 0}}
    assert set(node["status"]["nodeInfo"].values()) == {""} and len(node["status"]["nodeInfo"]) == 10
    path = f"/api/v1/namespaces/{namespace}/events"
    about = {"kind": "Pod", "name": "p", "namespace": namespace}
    event = wire.send("POST", path, {"metadata": {"name": "e"}, "involvedObject": about}).must(201)
    assert {name: event[name] for name in event if name not in ("metadata", "kind", "apiVersion")} == {
        "involvedObject": about, "source": {}, "firstTimestamp": None, "lastTimestamp": None, "eventTime": None,
        "reportingComponent": "", "reportingInstance": "",
    }  # fmt: skip
    new = wire.send("GET", f"/apis/events.k8s.io/v1/namespaces/{namespace}/events/e").must(200)
    assert {name: new[name] for name in new if name not in ("metadata", "kind", "apiVersion")} == {
        "regarding": about, "eventTime": None, "deprecatedSource": {}, "deprecatedFirstTimestamp": None,
        "deprecatedLastTimestamp": None,
    }  # fmt: skip
    # An event is sent back as it came: nothing changes.
    assert wire.send("PUT", f"{path}/e", event).must(200) == event


def test_times_of_conditions_nobody_gave(wire: Wire, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods"
    wire.send(
        "POST", path, {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    )
    state = {"name": "c", "state": {"running": {}}, "lastState": {}}
    patch = {"status": {"conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": [state]}}
    status = wire.send("PATCH", f"{path}/p/status", patch, STATUS).must(200)["status"]
    assert {"type": "Ready", "status": "True", "lastProbeTime": None, "lastTransitionTime": None} in status["conditions"]  # fmt: skip
    assert status["containerStatuses"] == [
        {
            "name": "c", "state": {"running": {"startedAt": None}}, "lastState": {}, "ready": False, "restartCount": 0,
            "image": "", "imageID": "",
        }
    ]  # fmt: skip
    again = wire.send("PATCH", f"{path}/p/status", patch, STATUS).must(200)
    assert (
        again["metadata"]["resourceVersion"]
        == wire.send("GET", f"{path}/p").json["metadata"]["resourceVersion"]
    )


# --- dry runs -------------------------------------------------------------------------------------------------------


def test_what_a_dry_run_would_create_has_no_version(wire: Wire, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    made = wire.send("POST", f"{path}?dryRun=All", {"metadata": {"name": "c"}}).must(201)
    assert made["metadata"]["uid"] and "resourceVersion" not in made["metadata"]
    put = wire.send("PUT", f"/api/v1/namespaces/{namespace}/events/e?dryRun=All", {"metadata": {"name": "e"}, "involvedObject": {"namespace": namespace}})  # fmt: skip
    assert put.status == 201 and "resourceVersion" not in put.json["metadata"]
    wire.send("GET", f"{path}/c").must(404)


def test_every_dry_run_shows_what_it_would_do_and_does_nothing(wire: Wire, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    body = {"metadata": {"name": "c", "finalizers": ["example.com/f"]}, "data": {"a": "1"}}
    before = wire.send("POST", path, body).must(201)
    version = before["metadata"]["resourceVersion"]
    put = wire.send("PUT", f"{path}/c?dryRun=All", {**body, "data": {"a": "2"}}).must(200)
    patched = wire.send("PATCH", f"{path}/c?dryRun=All", {"data": {"a": "2"}}, MERGE).must(200)
    for shown in (put, patched):
        assert (shown["data"], shown["metadata"]["resourceVersion"]) == ({"a": "2"}, version)
    gone = wire.send("DELETE", f"{path}/c?dryRun=All").must(200)
    assert gone["metadata"]["deletionTimestamp"] and gone["metadata"]["resourceVersion"] == version
    wire.send("DELETE", f"{path}?dryRun=All").must(200)
    assert wire.send("GET", f"{path}/c").json == before


# --- what is wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", [row for row in table.TABLE if not row.virtual], ids=lambda row: f"{row.api_version}/{row.kind}")  # fmt: skip
def test_all_that_an_empty_object_lacks_is_told_at_once(wire: Wire, row: Any) -> None:
    root = f"/apis/{row.group}/{row.version}" if row.group else f"/api/{row.version}"
    place = "/namespaces/default" if row.namespaced else ""
    told = wire.send("POST", f"{root}{place}/{row.plural}", {})
    causes = told.must(422)["details"]["causes"]
    missing = {"reason": "FieldValueRequired", "message": "Required value: name or generateName is required", "field": "metadata.name"}  # fmt: skip
    assert missing in causes
    if row.kind in ("Pod", "Deployment", "Service", "PersistentVolume"):
        assert any(each["field"].startswith("spec") for each in causes)


# --- what is not there ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "plain"),
    [
        ("/nothing", True), ("/apis/nobody.io", True), ("/apis/nobody.io/v1/things", True), ("/healthz/none", True),
        ("/openapi/v4", True), ("/api/v2", False), ("/api/v1/nothing", False), ("/apis/apps/v9", False),
        ("/apis/apps/v1/nothing", False), ("/version/x", False),
    ],
)  # fmt: skip
def test_pages_and_statuses_of_paths_that_are_not_there(wire: Wire, path: str, plain: bool) -> None:
    answer = wire.send("GET", path)
    assert (answer.status, answer.page) == (404, plain)
    if plain:
        kind, sniff = answer.headers["Content-Type"], answer.headers["X-Content-Type-Options"]
        assert (kind, sniff) == ("text/plain; charset=utf-8", "nosniff")
    else:
        assert answer.json == {
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "NotFound",
            "message": "the server could not find the requested resource", "details": {}, "code": 404,
        }  # fmt: skip


def test_kubectl_tells_what_is_not_there(kubectl: Kubectl) -> None:
    told = "Error from server (NotFound): the server could not find the requested resource\n"
    assert kubectl.fails("get", "--raw", "/nothing") == told
    assert kubectl.fails("get", "--raw", "/api/v1/nothing") == told


def test_forms_and_methods_that_are_not_there(wire: Wire) -> None:
    pods = "/api/v1/namespaces/default/pods"
    kinds = "application/json, application/yaml, application/vnd.kubernetes.protobuf"
    streams = "application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch"
    html = wire.send("GET", pods, None, {"Accept": "text/html"})
    assert html.must(406)["details"] == {}
    assert html.message == f"406: Not Acceptable\n\nAvailable representations: {kinds}, {streams}"
    odd = wire.send("GET", pods, None, {"Accept": "application/json;as=Foo;g=meta.k8s.io;v=v1"})
    assert odd.must(406) and odd.message == f"only the following media types are accepted: {kinds}"
    put = wire.send("PUT", pods, {}).must(
        405, "the server does not allow this method on the requested resource"
    )
    assert put["details"] == {}
    patched = wire.send("PATCH", f"{pods}/x", {}, {"Content-Type": "application/json"})
    assert patched.must(415)["details"] == {} and patched.message == "415: Unsupported Media Type"


# --- discovery ------------------------------------------------------------------------------------------------------


def test_discovery_documents(wire: Wire) -> None:
    core, apps = wire.send("GET", "/api/v1").must(200), wire.send("GET", "/apis/apps/v1").must(200)
    assert list(core) == ["kind", "groupVersion", "resources"]
    assert list(apps) == ["kind", "apiVersion", "groupVersion", "resources"]
    maps = next(each for each in core["resources"] if each["name"] == "configmaps")
    assert (maps["singularName"], maps["shortNames"], maps["storageVersionHash"]) == ("configmap", ["cm"], "qFsyl6wFWjQ=")  # fmt: skip
    wanted = {"Accept": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"}
    assert wire.send("GET", "/api", None, wanted).must(200)["items"][0]["metadata"] == {}
    assert wire.send("GET", "/apis", None, wanted).must(200)["items"][1]["metadata"] == {"name": "apps"}


def test_every_path_that_the_root_names_is_there(wire: Wire) -> None:
    paths = wire.send("GET", "/").must(200)["paths"]
    assert {"/readyz/etcd", "/livez/ping", "/apis/", "/openid/v1/jwks", "/.well-known/openid-configuration"} <= set(paths)  # fmt: skip
    assert paths == sorted(paths)
    for path in paths:
        assert wire.send("GET", path).status == 200, path


# --- tables ---------------------------------------------------------------------------------------------------------

TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}


def test_a_watched_table_says_once_what_its_columns_are(wire: Wire, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    for name in "abc":
        wire.send("POST", path, {"metadata": {"name": name}}).must(201)
    watched = wire.send("GET", f"{path}?watch=1&timeoutSeconds=1", None, TABLE)
    told = [json.loads(line)["object"]["columnDefinitions"] for line in watched.body.splitlines()]
    assert len(told) >= 3 and [each and each[0]["name"] for each in told][:3] == ["Name", None, None]


def test_a_scale_is_shown_as_a_table(wire: Wire, namespace: str, kubectl: Kubectl) -> None:
    kubectl("create", "deployment", "d", "--image=i", "--replicas=3")
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/d/scale"
    shown = wire.send("GET", path, None, TABLE).must(200)
    assert shown["kind"] == "Table" and shown["rows"][0]["cells"][:2] == ["d", 3]
    lines = kubectl("get", "deployment", "d", "--subresource=scale").splitlines()
    assert lines[0].split() == ["NAME", "DESIRED", "AVAILABLE", "AGE"] and lines[1].split()[:2] == ["d", "3"]
