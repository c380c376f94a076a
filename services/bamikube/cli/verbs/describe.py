"""``bamictl describe``: an object for people, with its events.

Pods, nodes, services, deployments and replica sets have a layout of their own; every other kind is shown field by
field. A layout is a list of lines: a label, a value, and how far it is set in.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from typing import Any

from bamikube.api.resources import Resource
from bamikube.api.selectors import format_object
from bamikube.api.times import seconds
from bamikube.cli.errors import ServerError
from bamikube.cli.printers import dump_yaml, format_rows
from bamikube.cli.resources import path_of
from bamikube.cli.selection import select
from bamikube.cli.session import Session
from bamikube.kit.clock import SystemClock

SUMMARY = "Show details of a specific resource or group of resources"
Map = dict[str, Any]
_WIDTH = 18


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="*", metavar="TYPE [NAME...] | TYPE/NAME")
    parser.add_argument("-l", "--selector", default="")
    parser.add_argument("-A", "--all-namespaces", action="store_true")
    parser.add_argument("--show-events", nargs="?", const="true", default="true", choices=["true", "false"])


def run(args: argparse.Namespace, session: Session) -> int:
    shown = 0
    for resource, name in select(session.catalogue, args.words):
        namespace = "" if args.all_namespaces else session.namespace
        if name:
            objects = [session.connection.call("GET", path_of(resource, namespace, name))]
        else:
            answer = session.connection.call(
                "GET", path_of(resource, namespace), {"labelSelector": args.selector}
            )
            objects = answer.get("items") or []
        for obj in objects:
            if shown:
                sys.stdout.write("\n\n")
            shown += 1
            sys.stdout.write(
                "".join(line + "\n" for line in describe(resource, obj, _extra(session, resource, obj)))
            )
            if args.show_events == "true":
                sys.stdout.write(_events(session, obj))
    if not shown:
        print(f"No resources found in {session.namespace} namespace.", file=sys.stderr)
    return 0


def _extra(session: Session, resource: Resource, obj: Map) -> list[Map]:
    """The pods that run on a node."""
    if resource.key != ("", "nodes"):
        return []
    name = obj["metadata"]["name"]
    fields = f"spec.nodeName={name},status.phase!=Succeeded,status.phase!=Failed"
    try:
        answer = session.connection.call("GET", "/api/v1/pods", {"fieldSelector": fields})
    except ServerError:
        return []
    return list(answer.get("items") or [])


def describe(resource: Resource, obj: Map, pods: list[Map]) -> list[str]:
    """The lines of an object."""
    lines = _head(obj)
    layout = {
        ("", "pods"): _pod,
        ("", "services"): _service,
        ("apps", "deployments"): _deployment,
        ("apps", "replicasets"): _deployment,
    }.get(resource.key)
    if resource.key == ("", "nodes"):
        return lines + _node(obj, pods)
    return lines + (layout(obj) if layout else _generic(obj))


def line(label: str, value: Any, depth: int = 0) -> str:
    text = "<none>" if value in (None, "", [], {}) else str(value)
    return "  " * depth + f"{label}:".ljust(_WIDTH - 2 * depth if depth else _WIDTH) + text


def mapping(label: str, values: Map | None, depth: int = 0, sign: str = "=") -> list[str]:
    """A map: the first entry beside the label, the others below it."""
    entries = [f"{key}{sign}{value}" for key, value in sorted((values or {}).items())]
    first = line(label, entries[0] if entries else None, depth)
    return [first, *(" " * _WIDTH + entry for entry in entries[1:])]


def _head(obj: Map) -> list[str]:
    metadata = obj["metadata"]
    annotations = {
        key: value
        for key, value in (metadata.get("annotations") or {}).items()
        if key != "kubectl.kubernetes.io/last-applied-configuration"
    }
    lines = [line("Name", metadata["name"])]
    if metadata.get("namespace"):
        lines.append(line("Namespace", metadata["namespace"]))
    lines.append(line("Created", metadata.get("creationTimestamp")))
    owners = [owner for owner in metadata.get("ownerReferences") or [] if owner.get("controller")]
    lines += [line("Controlled By", f"{owner['kind']}/{owner['name']}") for owner in owners]
    return lines + mapping("Labels", metadata.get("labels")) + mapping("Annotations", annotations, sign=": ")


def _conditions(obj: Map) -> list[str]:
    found = (obj.get("status") or {}).get("conditions") or []
    if not found:
        return []
    rows = [[c["type"], c["status"], c.get("reason", ""), c.get("message", "")] for c in found]
    return _indented("Conditions:", ["Type", "Status", "Reason", "Message"], rows)


def _indented(title: str, headers: list[str], rows: Iterable[list[str]]) -> list[str]:
    return [title, *("  " + text for text in format_rows(headers, rows).splitlines())]


def _amounts(values: Map | None) -> str:
    return ", ".join(f"{key}: {value}" for key, value in sorted((values or {}).items())) or "<none>"


def _pod(obj: Map) -> list[str]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    phase = "Terminating" if obj["metadata"].get("deletionTimestamp") else status.get("phase")
    lines = [
        line("Service Account", spec.get("serviceAccountName")),
        line("Node", f"{spec.get('nodeName', '<none>')}/{status.get('hostIP', '')}".rstrip("/")),
        line("Start Time", status.get("startTime")),
        line("Status", phase),
    ]
    if status.get("reason"):
        lines += [line("Reason", status["reason"]), line("Message", status.get("message"))]
    lines.append(line("IP", status.get("podIP")))
    for title, listed, states in (
        ("Init Containers", "initContainers", "initContainerStatuses"),
        ("Containers", "containers", "containerStatuses"),
    ):
        known = {one["name"]: one for one in status.get(states) or []}
        if spec.get(listed):
            lines.append(f"{title}:")
        for container in spec.get(listed) or []:
            lines += _container(container, known.get(container["name"], {}))
    lines += _conditions(obj)
    if spec.get("volumes"):
        lines.append("Volumes:")
    for volume in spec.get("volumes") or []:
        source = next((key for key in volume if key != "name"), "")
        lines += [f"  {volume['name']}:", line("Type", source, 2)]
    lines.append(line("QoS Class", status.get("qosClass")))
    lines += mapping("Node-Selectors", spec.get("nodeSelector"))
    tolerations = [_toleration(one) for one in spec.get("tolerations") or []]
    lines.append(line("Tolerations", tolerations[0] if tolerations else None))
    return lines + [" " * _WIDTH + one for one in tolerations[1:]]


def _toleration(one: Map) -> str:
    text = one.get("key", "")
    if one.get("value"):
        text += f"={one['value']}"
    if one.get("effect"):
        text += f":{one['effect']}"
    if one.get("operator") == "Exists":
        text += " op=Exists"
    seconds = one.get("tolerationSeconds")
    return f"{text} for {seconds}s" if seconds is not None else text


def _container(container: Map, status: Map) -> list[str]:
    resources = container.get("resources") or {}
    ports = ", ".join(
        f"{port['containerPort']}/{port.get('protocol', 'TCP')}" for port in container.get("ports") or []
    )
    lines = [
        f"  {container['name']}:",
        line("Container ID", status.get("containerID"), 2),
        line("Image", container.get("image"), 2),
        line("Ports", ports, 2),
    ]
    for label, key in (("Command", "command"), ("Args", "args")):
        if container.get(key):
            lines.append(line(label, " ".join(container[key]), 2))
    for label, key in (("State", "state"), ("Last State", "lastState")):
        for name, detail in (status.get(key) or {}).items():
            lines.append(line(label, name.capitalize(), 2))
            shown = ("reason", "message", "exitCode", "startedAt", "finishedAt")
            lines += [line(field, detail[field], 3) for field in shown if detail.get(field) not in (None, "")]
    lines += [
        line("Ready", str(status.get("ready", False)), 2),
        line("Restart Count", str(status.get("restartCount", 0)), 2),
        line("Limits", _amounts(resources.get("limits")), 2),
        line("Requests", _amounts(resources.get("requests")), 2),
        line("Environment", ", ".join(env["name"] for env in container.get("env") or []), 2),
    ]
    mounts = [f"{mount['mountPath']} from {mount['name']}" for mount in container.get("volumeMounts") or []]
    return [*lines, line("Mounts", ", ".join(mounts), 2)]


def _node(obj: Map, pods: list[Map]) -> list[str]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    taints = [
        f"{t['key']}{'=' + t['value'] if t.get('value') else ''}:{t['effect']}"
        for t in spec.get("taints") or []
    ]
    lines = [
        line("Taints", ", ".join(taints)),
        line("Unschedulable", str(bool(spec.get("unschedulable"))).lower()),
    ]
    lines += _conditions(obj)
    addresses = [f"{address['type']}={address['address']}" for address in status.get("addresses") or []]
    lines.append(line("Addresses", ", ".join(addresses)))
    lines += mapping("Capacity", status.get("capacity"), sign=": ")
    lines += mapping("Allocatable", status.get("allocatable"), sign=": ")
    lines += mapping("System Info", status.get("nodeInfo"), sign=": ")
    lines.append(line("PodCIDR", spec.get("podCIDR")))
    rows = [[pod["metadata"]["namespace"], pod["metadata"]["name"], *_requests(pod)] for pod in pods]
    headers = ["Namespace", "Name", "CPU Requests", "Memory Requests"]
    return lines + _indented(f"Non-terminated Pods: ({len(pods)} in total)", headers, rows)


def _requests(pod: Map) -> list[str]:
    from bamikube.api.quantity import Quantity, total

    wanted = [(one.get("resources") or {}).get("requests") or {} for one in pod["spec"]["containers"]]
    return [
        str(total(Quantity.parse(one[name]) for one in wanted if name in one)) for name in ("cpu", "memory")
    ]


def _service(obj: Map) -> list[str]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    ingress = [
        one.get("ip") or one.get("hostname", "")
        for one in (status.get("loadBalancer") or {}).get("ingress") or []
    ]
    lines = [
        *mapping("Selector", spec.get("selector")),
        line("Type", spec.get("type")),
        line("IP Families", ", ".join(spec.get("ipFamilies") or [])),
        line("IP", spec.get("clusterIP")),
        line("External Name", spec["externalName"]) if spec.get("externalName") else "",
        line("LoadBalancer", ", ".join(ingress)) if ingress else "",
    ]
    for port in spec.get("ports") or []:
        lines.append(
            line("Port", f"{port.get('name') or '<unset>'}  {port['port']}/{port.get('protocol', 'TCP')}")
        )
        lines.append(
            line("TargetPort", f"{port.get('targetPort', port['port'])}/{port.get('protocol', 'TCP')}")
        )
        if port.get("nodePort"):
            lines.append(line("NodePort", f"{port['nodePort']}/{port.get('protocol', 'TCP')}"))
    lines.append(line("Session Affinity", spec.get("sessionAffinity")))
    return [text for text in lines if text]


def _deployment(obj: Map) -> list[str]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    counts = f"{spec.get('replicas', 1)} desired | {status.get('replicas', 0)} total | {status.get('availableReplicas', 0)} available"
    if "strategy" in spec:
        counts = counts.replace(" total", f" total | {status.get('updatedReplicas', 0)} updated")
    lines = [line("Selector", format_object(spec.get("selector"))), line("Replicas", counts)]
    strategy = spec.get("strategy") or {}
    if strategy:
        lines.append(line("StrategyType", strategy.get("type")))
        rolling = strategy.get("rollingUpdate") or {}
        if rolling:
            surge = f"{rolling.get('maxUnavailable')} max unavailable, {rolling.get('maxSurge')} max surge"
            lines.append(line("RollingUpdate", surge))
    lines.append("Pod Template:")
    template = spec.get("template") or {}
    lines += ["  " + text for text in mapping("Labels", (template.get("metadata") or {}).get("labels"))]
    lines.append("  Containers:")
    for container in (template.get("spec") or {}).get("containers") or []:
        lines += ["  " + text for text in _container(container, {})[:4]]
    return lines + _conditions(obj)


def _generic(obj: Map) -> list[str]:
    hidden = ("apiVersion", "kind", "metadata")
    rest = {key: value for key, value in obj.items() if key not in hidden}
    lines = [line("API Version", obj.get("apiVersion")), line("Kind", obj.get("kind"))]
    return lines + (dump_yaml(rest).rstrip("\n").splitlines() if rest else [])


def _events(session: Session, obj: Map) -> str:
    metadata = obj["metadata"]
    fields = {
        "name": metadata["name"],
        "namespace": metadata.get("namespace", ""),
        "uid": metadata.get("uid", ""),
    }
    if obj.get("kind") == "Node":
        fields = {"name": metadata["name"], "kind": "Node"}  # events of nodes carry the node's name as uid
    selector = ",".join(f"involvedObject.{key}={value}" for key, value in fields.items() if value)
    place = f"/namespaces/{metadata['namespace']}" if metadata.get("namespace") else ""
    try:
        items = (
            session.connection.call("GET", f"/api/v1{place}/events", {"fieldSelector": selector}).get("items")
            or []
        )
    except ServerError:
        return ""
    if not items:
        return line("Events", None) + "\n"
    items.sort(key=_last_seen)
    now = SystemClock().now()
    rows = [
        [
            event.get("type", ""),
            event.get("reason", ""),
            _age(_last_seen(event), now),
            event.get("reportingComponent") or (event.get("source") or {}).get("component", ""),
            str(event.get("message", "")).strip(),
        ]
        for event in items
    ]
    return "\n".join(_indented("Events:", ["Type", "Reason", "Age", "From", "Message"], rows)) + "\n"


def _last_seen(event: Map) -> str:
    series = (event.get("series") or {}).get("lastObservedTime")
    return str(
        series
        or event.get("lastTimestamp")
        or event.get("eventTime")
        or event["metadata"].get("creationTimestamp")
    )


def _age(text: str, now: float) -> str:
    since = seconds(text)
    if not since:
        return "<unknown>"
    passed = int(now - since)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if passed >= 2 * size:
            return f"{passed // size}{unit}"
    return f"{max(0, passed)}s"
