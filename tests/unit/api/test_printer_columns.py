"""Cells as kubectl users know them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bamikube.api import columns, conversion, table
from bamikube.api.columns.age import human, seconds_of

NOW = seconds_of("2026-01-01T01:00:00Z") or 0.0
CREATED = "2026-01-01T00:50:00Z"
PODS = table.by_name("pods")


def cells(name: str, obj: dict[str, Any]) -> dict[str, Any]:
    resource = table.by_name(name)
    names = [each["name"] for each in columns.columns(resource)]
    return dict(zip(names, columns.row(resource, obj, NOW), strict=True))


def pod(
    statuses: list[dict[str, Any]], init: list[dict[str, Any]] | None = None, **more: Any
) -> dict[str, Any]:
    status: dict[str, Any] = {"phase": "Pending" if init else "Running", "containerStatuses": statuses}
    spec: dict[str, Any] = {"containers": [{"name": each["name"]} for each in statuses]}
    if init:
        status["initContainerStatuses"] = init
        spec["initContainers"] = [{"name": each["name"]} for each in init]
    metadata = {"name": "p", "creationTimestamp": CREATED} | more.pop("metadata", {})
    return {"metadata": metadata, "spec": spec, "status": status | more}


def running(ready: bool = True, **more: Any) -> dict[str, Any]:
    return {"name": "a", "ready": ready, "restartCount": 0, "state": {"running": {}}} | more


WAITING = {
    "name": "b",
    "ready": False,
    "restartCount": 0,
    "state": {"waiting": {"reason": "PodInitializing"}},
}


@pytest.mark.parametrize(
    ("obj", "ready", "status"),
    [
        (pod([running()]), "1/1", "Running"),
        (
            pod([running(state={"waiting": {"reason": "ContainerCreating"}}, ready=False)]),
            "0/1",
            "ContainerCreating",
        ),
        (pod([running(state={"terminated": {"reason": "Completed"}}, ready=False)]), "0/1", "Completed"),
        (pod([running(state={"terminated": {"exitCode": 3}}, ready=False)]), "0/1", "ExitCode:3"),
        (pod([running(state={"terminated": {"signal": 9}}, ready=False)]), "0/1", "Signal:9"),
        (pod([WAITING], [running(False)]), "0/1", "Init:0/1"),
        (pod([WAITING], [running(False, state={"terminated": {"exitCode": 0}})]), "0/1", "PodInitializing"),
        (
            pod([WAITING], [running(False, state={"terminated": {"exitCode": 1, "reason": "Error"}})]),
            "0/1",
            "Init:Error",
        ),
        (pod([running()], metadata={"deletionTimestamp": CREATED}), "1/1", "Terminating"),
        (pod([running()], phase="Failed", reason="Evicted", containerStatuses=[]), "0/1", "Evicted"),
        (
            pod(
                [running(), running(False, name="b", state={"terminated": {"reason": "Completed"}})],
                conditions=[{"type": "Ready", "status": "False"}],
            ),
            "1/2",
            "NotReady",
        ),
    ],
)
def test_the_story_of_a_pod(obj: dict[str, Any], ready: str, status: str) -> None:
    shown = cells("pods", obj)
    assert (shown["Ready"], shown["Status"]) == (ready, status)


def test_completed_first_container_with_a_running_one() -> None:
    done = running(False, state={"terminated": {"reason": "Completed"}})
    both = [done, running(name="b")]
    assert cells("pods", pod(both))["Status"] == "NotReady"
    assert cells("pods", pod(both, conditions=[{"type": "Ready", "status": "True"}]))["Status"] == "Running"


def test_restarts_say_when() -> None:
    last = {"terminated": {"finishedAt": "2026-01-01T00:55:00Z"}}
    crashing = running(
        False, restartCount=3, lastState=last, state={"waiting": {"reason": "CrashLoopBackOff"}}
    )
    shown = cells("pods", pod([crashing]))
    assert (shown["Status"], shown["Restarts"], shown["Age"]) == ("CrashLoopBackOff", "3 (5m ago)", "10m")


def test_sidecars_count_as_containers() -> None:
    obj = pod([running()], [running(True, name="side", started=True, restartCount=2)])
    obj["spec"]["initContainers"][0]["restartPolicy"] = "Always"
    shown = cells("pods", obj)
    assert (shown["Ready"], shown["Restarts"]) == ("2/2", "2")


def test_nodes() -> None:
    node = {
        "metadata": {"name": "master", "labels": {"node-role.kubernetes.io/control-plane": ""}},
        "spec": {"unschedulable": True},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": "10.99.0.10"}],
            "nodeInfo": {"kubeletVersion": "v1.34.0"},
        },
    }
    shown = cells("nodes", node)
    assert shown["Status"] == "Ready,SchedulingDisabled"
    assert (shown["Roles"], shown["Version"]) == ("control-plane", "v1.34.0")
    assert (shown["Internal-IP"], shown["External-IP"], shown["Age"]) == ("10.99.0.10", "<none>", "<unknown>")


def test_services() -> None:
    spec = {
        "type": "NodePort",
        "clusterIPs": ["10.96.0.7"],
        "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}],
    }
    shown = cells("services", {"metadata": {"name": "a"}, "spec": spec})
    assert (shown["Cluster-IP"], shown["External-IP"], shown["Port(s)"]) == (
        "10.96.0.7",
        "<none>",
        "80:30080/TCP",
    )
    given = {"metadata": {"name": "a"}, "spec": spec | {"type": "LoadBalancer", "externalIPs": ["9.9.9.9"]}}
    assert cells("services", given | {"spec": spec | {"type": "LoadBalancer"}})["External-IP"] == "<pending>"
    given["status"] = {"loadBalancer": {"ingress": [{"ip": "2.2.2.2"}, {"hostname": "1.example"}, {}]}}
    assert cells("services", given)["External-IP"] == "1.example,2.2.2.2,9.9.9.9"


def test_deployments_and_wide_columns() -> None:
    obj = {
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"spec": {"containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "y"}]}},
        },
        "status": {"readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 2},
    }
    shown = cells("deployments.apps", obj)
    assert (shown["Ready"], shown["Up-to-date"], shown["Available"]) == ("2/3", 3, 2)
    assert (shown["Containers"], shown["Images"], shown["Selector"]) == ("a,b", "x,y", "app=web")


@pytest.mark.parametrize("row", table.TABLE, ids=lambda row: f"{row.api_version}/{row.kind}")
def test_every_kind_shows_an_empty_object(row: Any) -> None:
    shown = columns.row(row, {"metadata": {"name": "x"}}, NOW)
    assert len(shown) == len(columns.columns(row))


def test_table() -> None:
    obj = {"metadata": {"name": "p", "namespace": "n"}, "status": {"phase": "Succeeded"}}
    made = columns.table(PODS, [obj], now=NOW, metadata={"resourceVersion": "7"})
    assert made["kind"] == "Table" and made["metadata"] == {"resourceVersion": "7"}
    assert made["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    assert made["rows"][0]["conditions"][0]["type"] == "Completed"
    assert [each["name"] for each in made["columnDefinitions"] if each["priority"] == 0] == [
        "Name",
        "Ready",
        "Status",
        "Restarts",
        "Age",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (125, "2m5s"),
        (600, "10m"),
        (10799, "179m"),
        (3 * 3600, "3h"),
        (3 * 3600 + 600, "3h10m"),
        (26 * 3600, "26h"),
        (52 * 3600, "2d4h"),
        (30 * 86400, "30d"),
        (745 * 86400, "2y15d"),
        (9 * 365 * 86400, "9y"),
        (-5, "<invalid>"),
    ],
)
def test_ages(seconds: int, text: str) -> None:
    assert human(seconds) == text


GOLDEN = Path(__file__).parents[2] / "golden/api/columns/columns.txt"


def test_columns_are_those_of_kubernetes() -> None:
    """Names, types where they are not string, formats, and which are wide; for every kind with a printer of its own."""
    lines = []
    for row in table.TABLE:
        if columns.has(row):
            shown = [
                ":".join(
                    filter(
                        None,
                        (
                            each["name"],
                            "" if each["type"] == "string" else each["type"],
                            f"format={each['format']}" if each["format"] and each["name"] != "Name" else "",
                            "wide" if each["priority"] else "",
                        ),
                    )
                )
                for each in columns.columns(row)
            ]
            lines.append(f"{row.api_version} {row.kind}: {' | '.join(shown)}")
    assert lines == GOLDEN.read_text().splitlines()


def test_columns_are_described_in_the_words_of_the_api() -> None:
    described = {each["name"]: each["description"] for each in columns.columns(PODS)}
    assert described["Name"].startswith("Name must be unique within a namespace.")
    assert described["Node"].startswith("NodeName indicates in which node this pod is scheduled.")
    for row in table.TABLE:
        assert not any(each["description"].startswith("=") for each in columns.columns(row))


_METRICS: list[dict[str, Any]] = [
    {"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 80}}},
    {"type": "External", "external": {"target": {"averageValue": "5"}}},
    {"type": "Object", "object": {"target": {"value": "7"}}},
]


@pytest.mark.parametrize(
    ("kind", "obj", "wanted"),
    [
        ("endpoints", {"subsets": [{"notReadyAddresses": [{"ip": "1.1.1.1"}], "ports": [{"port": 80}]}]}, {"Endpoints": ""}),
        ("endpoints", {}, {"Endpoints": "<none>"}),
        ("endpoints", {"subsets": [{"addresses": [{"ip": f"1.1.1.{i}"} for i in range(5)], "ports": [{"port": 80}]}]}, {"Endpoints": "1.1.1.0:80,1.1.1.1:80,1.1.1.2:80 + 2 more..."}),
        ("endpointslices.discovery.k8s.io", {"ports": [{"name": "web"}, {}, {"port": 9}]}, {"Ports": "web,*,9", "Endpoints": "<unset>"}),
        ("ingresses.networking.k8s.io", {"spec": {"rules": [{"host": "a"}, {}, {"host": "b"}, {"host": "c"}, {}]}}, {"Hosts": "a,b,c + 2 more...", "Class": "<none>", "Ports": "80"}),
        ("certificatesigningrequests.certificates.k8s.io", {"status": {"conditions": [{"type": "Approved"}, {"type": "Denied"}, {"type": "Failed"}]}}, {"Condition": "Denied,Failed"}),
        ("prioritylevelconfigurations.flowcontrol.apiserver.k8s.io", {"spec": {"limited": {"nominalConcurrencyShares": 30, "limitResponse": {"queuing": {"queues": 64, "handSize": 6, "queueLengthLimit": 50}}}}}, {"NominalConcurrencyShares": 30, "Queues": 64, "HandSize": 6, "QueueLengthLimit": 50}),
        ("prioritylevelconfigurations.flowcontrol.apiserver.k8s.io", {"spec": {"exempt": {"nominalConcurrencyShares": 5}}}, {"NominalConcurrencyShares": "<none>", "Queues": "<none>"}),
        ("events", {"reportingComponent": "c", "reportingInstance": "i", "series": {"count": 4}}, {"Source": "c, i", "Count": 4, "Last Seen": "<unknown>"}),
        ("persistentvolumes", {"spec": {"volumeAttributesClassName": ""}}, {"Capacity": "0", "VolumeAttributesClass": "", "VolumeMode": "<unset>"}),
        ("volumeattributesclasses.storage.k8s.io", {"metadata": {"name": "x", "annotations": {"volumeattributesclass.alpha.kubernetes.io/is-default-class": "true"}}}, {"Name": "x (default)"}),
        ("validatingadmissionpolicybindings.admissionregistration.k8s.io", {"spec": {"paramRef": {"name": "p"}}}, {"ParamRef": "*/p"}),
        ("validatingadmissionpolicybindings.admissionregistration.k8s.io", {"spec": {"paramRef": {"selector": {"matchLabels": {"a": "b"}}}}}, {"ParamRef": "&LabelSelector{MatchLabels:map[string]string{a: b,},MatchExpressions:[]LabelSelectorRequirement{},}"}),
        ("apiservices.apiregistration.k8s.io", {"status": {"conditions": [{"type": "Available", "status": "Unknown", "reason": "R"}]}}, {"Service": "Local", "Available": "Unknown (R)"}),
        ("horizontalpodautoscalers.autoscaling", {"spec": {"metrics": _METRICS}, "status": {"currentMetrics": [{"type": "Resource", "resource": {"current": {"averageUtilization": 12}}}]}}, {"Targets": "cpu: 12%/80%, <unknown>/5 (avg) + 1 more..."}),
        ("deployments.apps", {}, {"Selector": "", "Ready": "0/0"}),
        ("replicasets.apps", {"spec": {"selector": {"matchLabels": {"b": "1"}, "matchExpressions": [{"key": "a", "operator": "Exists"}, {"key": "c", "operator": "NotIn", "values": ["y", "x"]}]}}}, {"Selector": "a,b=1,c notin (x,y)"}),
        ("cronjobs.batch", {}, {"Suspend": "<unset>", "Last Schedule": "<none>", "Timezone": "<none>"}),
        ("nodes", {"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}, "spec": {"unschedulable": True}}, {"Status": "NotReady,SchedulingDisabled"}),
    ],
)  # fmt: skip
def test_cells_of_rarer_objects(kind: str, obj: dict[str, Any], wanted: dict[str, Any]) -> None:
    shown = cells(kind, {"metadata": {"name": "x"}} | obj)
    assert {name: shown[name] for name in wanted} == wanted


def test_flow_schemas_are_shown_in_the_order_in_which_they_match() -> None:
    row = table.by_name("flowschemas.flowcontrol.apiserver.k8s.io")
    objs = [{"metadata": {"name": name}, "spec": {"matchingPrecedence": at}} for name, at in (("c", 9), ("b", 9), ("a", 10))]  # fmt: skip
    made = columns.table(row, objs, now=NOW)
    assert [each["cells"][0] for each in made["rows"]] == ["b", "c", "a"]


def test_an_autoscaler_of_v1_shows_all_its_metrics() -> None:
    row = table.find("autoscaling", "v1", "horizontalpodautoscalers")
    assert row is not None
    stored = {"apiVersion": "autoscaling/v2", "metadata": {"name": "x"}, "spec": {"metrics": _METRICS}}
    shown = columns.row(row, conversion.from_storage(row, stored), NOW)
    assert shown[2] == "cpu: <unknown>/80%, <unknown>/5 (avg) + 1 more..."
