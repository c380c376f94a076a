"""Every file tests/golden/controllers/<case>.input.yaml has an .output.yaml: what a controller's plan() makes of it.

``BAMIKUBE_GOLDEN=write`` writes the outputs anew; read the difference before committing it. An input names its
``plan``; everything else in it is as an API server would show it, but shorter: see the builders below.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from bamikube.controllers import (
    deployment,
    deployment_sets,
    endpoints,
    endpoints_model,
    endpointslice,
    endpointslicemirroring,
    garbage,
    namespace,
    nodeipam,
    nodelifecycle,
    podgc,
    replicaset,
)
from bamikube.kit.clock import parse_rfc3339

Object = dict[str, Any]

FOLDER = Path(__file__).parents[2] / "golden" / "controllers"
CASES = sorted(path.name.removesuffix(".input.yaml") for path in FOLDER.glob("*.input.yaml"))
NOW = parse_rfc3339("2026-01-01T12:00:00Z")


def pod(short: Object) -> Object:
    """``{name, phase, ready, since, ip, node, ...}`` as a pod."""
    meta = {"name": short["name"], "namespace": "default", "uid": f"uid-{short['name']}"}
    meta |= {"labels": short.get("labels", {"app": "web"}), **short.get("metadata", {})}
    status: Object = {"phase": short.get("phase", "Running")}
    if "ip" in short:
        status["podIP"] = short["ip"]
        status["podIPs"] = [{"ip": ip} for ip in (short["ip"], *short.get("ips", ()))]
    if "ready" in short:
        condition = {"type": "Ready", "status": "True" if short["ready"] else "False"}
        status["conditions"] = [
            condition | {"lastTransitionTime": short.get("since", "2026-01-01T11:00:00Z")}
        ]
    status |= short.get("status", {})
    spec: Object = {"containers": [{"name": "c", "image": "app:1"}], **short.get("spec", {})}
    if "node" in short:
        spec["nodeName"] = short["node"]
    return {"metadata": meta, "spec": spec, "status": status}


def replica_set(short: Object) -> Object:
    """``{name, image, replicas, available, revision, ...}`` as a ReplicaSet of the Deployment ``web``."""
    size, available = short.get("replicas", 0), short.get("available", short.get("replicas", 0))
    annotations = {deployment_sets.REVISION: str(short.get("revision", 1)), **short.get("annotations", {})}
    template = {
        "metadata": {"labels": {"app": "web", deployment_sets.HASH_LABEL: short["name"]}},
        "spec": {"containers": [{"name": "c", "image": short["image"]}]},
    }
    return {
        "metadata": {
            "name": f"web-{short['name']}",
            "namespace": "default",
            "uid": f"uid-{short['name']}",
            "generation": 1,
            "creationTimestamp": short.get("created", "2026-01-01T10:00:00Z"),
            "annotations": annotations,
        },
        "spec": {"replicas": size, "template": template, **short.get("spec", {})},
        "status": {
            "replicas": short.get("there", size),
            "readyReplicas": available,
            "availableReplicas": available,
            "observedGeneration": 1,
            **short.get("status", {}),
        },
    }


def a_deployment(case: Object) -> Object:
    spec = {
        "replicas": 3,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": case.get("image", "app:1")}]},
        },
        "strategy": {"type": "RollingUpdate"},
        "revisionHistoryLimit": 10,
        "progressDeadlineSeconds": 600,
    } | case.get("spec", {})
    meta = {"name": "web", "namespace": "default", "uid": "uid-web", "generation": 2} | case.get(
        "metadata", {}
    )
    return {"metadata": meta, "spec": spec, "status": case.get("status", {})}


def decide_deployment(case: Object) -> Object:
    sets = [replica_set(short) for short in case.get("sets", [])]
    made = deployment.plan(a_deployment(case), sets, case.get("old_pods", False), NOW)
    shown: Object = {
        "scale": [f"{s.rs['metadata']['name']}: {s.before} -> {s.replicas} ({s.reason})" for s in made.scale],
        "annotate": made.annotate,
        "delete": [rs["metadata"]["name"] for rs in made.delete],
        "revision": made.revision,
        "status": made.status,
        "again": made.again,
    }
    if made.create is not None:
        shown["create"] = made.create
    return shown | {"min_ready": made.min_ready} if made.min_ready else shown


def decide_replica_set(case: Object) -> Object:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {}}
    meta = {"name": "web", "namespace": "default", "uid": "uid-web", "generation": 3} | case.get(
        "metadata", {}
    )
    spec = {"replicas": 3, "template": template} | case.get("spec", {})
    rs = {"metadata": meta, "spec": spec, "status": case.get("status", {})}
    pods = [pod(short) for short in case.get("pods", [])]
    made = replicaset.plan(rs, pods, NOW, crowd=case.get("crowd"), failure=case.get("failure", ""))
    return {
        "create": made.create,
        "delete": [one["metadata"]["name"] for one in made.delete],
        "reason": made.reason,
        "status": made.status,
        "again": made.again,
    }


def a_service(case: Object) -> Object:
    meta = {"name": "web", "namespace": "default", "uid": "uid-svc"} | case.get("metadata", {})
    spec = {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}], **case.get("spec", {})}
    return {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec}


def decide_endpoints(case: Object) -> Any:
    service = a_service(case)
    found = endpoints_model.backends(service, [pod(short) for short in case.get("pods", [])])
    return endpoints.plan(service, found, case.get("current"))


def shown_slices(made: Any) -> Object:
    return {
        "create": made.create,
        "update": made.update,
        "delete": [one["metadata"]["name"] for one in made.delete],
    }


def a_slice(short: Object) -> Object:
    """``{name, pods: [names], ports}``: a slice as it was written when those pods were ready."""
    ends = [
        pod({"name": name, "ready": True, "ip": f"10.244.1.{number}"})
        for number, name in short["pods"].items()
    ]
    service = a_service({})
    made = endpointslice.plan(service, endpoints_model.backends(service, ends), [], {})
    body: Object = made.create[0]
    body["metadata"].pop("generateName")
    body["metadata"]["name"] = short["name"]
    return body | {"ports": short.get("ports", body["ports"])}


def decide_slices(case: Object) -> Object:
    service = a_service(case)
    found = endpoints_model.backends(service, [pod(short) for short in case.get("pods", [])])
    held = [a_slice(short) for short in case.get("slices", [])]
    return shown_slices(endpointslice.plan(service, found, held, case.get("zones", {})))


def decide_mirror(case: Object) -> Object:
    service = a_service(case) if case.get("service", True) else None
    if service is not None and not case.get("selector"):
        service["spec"].pop("selector")
    meta = {"name": "web", "namespace": "default", "uid": "uid-ep", **case.get("endpoints_metadata", {})}
    source = {"apiVersion": "v1", "kind": "Endpoints", "metadata": meta, "subsets": case.get("subsets", [])}
    held = [a_slice(short) for short in case.get("slices", [])]
    return shown_slices(endpointslicemirroring.plan(service, source, held))


def decide_node(case: Object) -> Object:
    meta = {"name": "n", "creationTimestamp": "2026-01-01T11:00:00Z"}
    conditions = [{"lastTransitionTime": "2026-01-01T11:00:00Z", **one} for one in case.get("conditions", [])]
    node = {"metadata": meta, "spec": case.get("spec", {}), "status": {"conditions": conditions}}
    made = nodelifecycle.plan(node, case.get("silent", 0), 40, NOW, evict=case.get("evict", True))
    return {"conditions": made.conditions, "taints": made.taints, "ready": made.ready, "again": made.again}


def decide_eviction(case: Object) -> Object:
    when = nodelifecycle.evict_at(pod(case["pod"]), case["taints"], NOW)
    return {"in": None if when is None else when - NOW}


def decide_collection(case: Object) -> Object:
    row = garbage.table.by_name("pods")

    def node(short: Object) -> garbage.Node:
        return garbage.Node(
            short["uid"],
            row,
            f"default/{short['uid']}",
            tuple(short.get("owners", [])),
            tuple(short.get("finalizers", [])),
            short.get("deleting", False),
        )

    owners = garbage.Owners(*(tuple(case.get(kind, [])) for kind in ("solid", "dangling", "waiting")))
    made = garbage.plan(node(case["node"]), owners, [node(short) for short in case.get("dependents", [])])
    fields = ("kind", "reason", "propagation", "remove", "unblock")
    return {name: _plain(getattr(made, name)) for name in fields if getattr(made, name)}


def decide_pod_gc(case: Object) -> Any:
    nodes = {node["metadata"]["name"]: node for node in case.get("nodes", [])}
    pods = [pod(short) for short in case["pods"]]
    made = podgc.plan(pods, nodes, case.get("missing", {}), case.get("now", 1000.0), case.get("keep", 0))
    return [f"{one.pod['metadata']['name']}: {one.reason}" for one in made]


def decide_namespace(case: Object) -> Any:
    left = [
        namespace.Left(one["resource"], one["count"], tuple(one.get("finalizers", {}).items()))
        for one in case["left"]
    ]
    return namespace.conditions_of({"status": {}}, left, case.get("failures", []), NOW)


def decide_cidr(case: Object) -> Object:
    made = nodeipam.allocate(case["cluster"], case["mask"], case["taken"])
    return {"cidr": made.cidr, "reason": made.reason}


PLANS: dict[str, Callable[[Object], Any]] = {
    "deployment": decide_deployment,
    "replicaset": decide_replica_set,
    "endpoints": decide_endpoints,
    "endpointslice": decide_slices,
    "mirror": decide_mirror,
    "node": decide_node,
    "eviction": decide_eviction,
    "garbage": decide_collection,
    "podgc": decide_pod_gc,
    "namespace": decide_namespace,
    "cidr": decide_cidr,
}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("name", CASES)
def test_plan_matches_its_golden_file(name: str) -> None:
    text = (FOLDER / f"{name}.input.yaml").read_text()
    case = yaml.safe_load(text)
    made = PLANS[case["plan"]](case)
    output = FOLDER / f"{name}.output.yaml"
    if os.environ.get("BAMIKUBE_GOLDEN") == "write":
        dumper = yaml.SafeDumper
        dumper.ignore_aliases = lambda *_: True  # type: ignore[assignment,method-assign]
        output.write_text(yaml.dump(made, Dumper=dumper, sort_keys=False, width=110))
    assert made == yaml.safe_load(output.read_text())
    assert case == yaml.safe_load(text), "plan() has changed what it was given"
