"""Rows of the kinds that make pods."""

from __future__ import annotations

from typing import Any

from bamikube.api.columns import age
from bamikube.api.columns.model import (
    AGE,
    CONTAINERS,
    IMAGES,
    NAME,
    NONE,
    SELECTOR,
    Printer,
    column,
    condition,
    containers,
    label_text,
    name,
    selector_text,
)


def _number(name_: str, about: str) -> dict[str, Any]:
    return column(name_, "integer", about=about)


def _spec(obj: dict[str, Any]) -> dict[str, Any]:
    return obj.get("spec") or {}


def _status(obj: dict[str, Any]) -> dict[str, Any]:
    return obj.get("status") or {}


def _template(obj: dict[str, Any]) -> list[str]:
    return [*containers(obj), selector_text(_spec(obj).get("selector"))]


def _deployment(obj: dict[str, Any], now: float) -> list[Any]:
    status = _status(obj)
    ready = f"{status.get('readyReplicas', 0)}/{_spec(obj).get('replicas', 0)}"
    counts = [status.get("updatedReplicas", 0), status.get("availableReplicas", 0)]
    return [name(obj), ready, *counts, age.of(obj, now), *_template(obj)]


def _replica_set(obj: dict[str, Any], now: float) -> list[Any]:
    status = _status(obj)
    counts = [_spec(obj).get("replicas", 0), status.get("replicas", 0), status.get("readyReplicas", 0)]
    return [name(obj), *counts, age.of(obj, now), *_template(obj)]


def _replication_controller(obj: dict[str, Any], now: float) -> list[Any]:
    cells = _replica_set({**obj, "spec": {**_spec(obj), "selector": None}}, now)
    return [*cells[:-1], label_text(_spec(obj).get("selector"))]


def _stateful_set(obj: dict[str, Any], now: float) -> list[Any]:
    ready = f"{_status(obj).get('readyReplicas', 0)}/{_spec(obj).get('replicas', 0)}"
    return [name(obj), ready, age.of(obj, now), *containers(obj)]


def _daemon_set(obj: dict[str, Any], now: float) -> list[Any]:
    status = _status(obj)
    fields = (
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "numberReady",
        "updatedNumberScheduled",
        "numberAvailable",
    )
    selector = ((_spec(obj).get("template") or {}).get("spec") or {}).get("nodeSelector")
    counts = [status.get(field, 0) for field in fields]
    return [name(obj), *counts, label_text(selector), age.of(obj, now), *_template(obj)]


def _job_state(obj: dict[str, Any]) -> str:
    for kind in ("Complete", "Failed"):
        found = condition(obj, kind)
        if found and found.get("status") == "True":
            return kind
    if (obj.get("metadata") or {}).get("deletionTimestamp"):
        return "Terminating"
    for kind, word in (
        ("Suspended", "Suspended"),
        ("FailureTarget", "FailureTarget"),
        ("SuccessCriteriaMet", "SuccessCriteriaMet"),
    ):
        found = condition(obj, kind)
        if found and found.get("status") == "True":
            return word
    return "Running"


def _completions(obj: dict[str, Any]) -> str:
    spec, done = _spec(obj), _status(obj).get("succeeded", 0)
    if spec.get("completions") is not None:
        return f"{done}/{spec['completions']}"
    parallel = spec.get("parallelism", 0)
    return f"{done}/1 of {parallel}" if parallel > 1 else f"{done}/1"


def _job(obj: dict[str, Any], now: float) -> list[Any]:
    start, end = (age.seconds_of(_status(obj).get(key) or "") for key in ("startTime", "completionTime"))
    duration = "" if start is None else age.human((now if end is None else end) - start)
    return [name(obj), _job_state(obj), _completions(obj), duration, age.of(obj, now), *_template(obj)]


def _cron_job(obj: dict[str, Any], now: float) -> list[Any]:
    spec, status = _spec(obj), _status(obj)
    last = status.get("lastScheduleTime")
    job = {"spec": (spec.get("jobTemplate") or {}).get("spec") or {}}
    return [
        name(obj),
        spec.get("schedule", ""),
        spec.get("timeZone") or NONE,
        "True" if spec.get("suspend") else "False",
        len(status.get("active") or ()),
        age.since(last, now) if last else NONE,
        age.of(obj, now),
        *_template(job),
    ]


def _metric(metric: dict[str, Any], current: dict[str, Any] | None) -> str:
    """``cpu: 12%/80%``: what is, and what is wanted, of one metric."""
    kind = metric.get("type") or ""
    field = kind[:1].lower() + kind[1:]
    source, seen = metric.get(field) or {}, (current or {}).get(field) or {}
    target, value = source.get("target") or {}, seen.get("current") or {}
    prefix = f"{source.get('name', '')}: " if kind in ("Resource", "ContainerResource") else ""
    if target.get("averageUtilization") is not None and prefix:
        now = (
            f"{value['averageUtilization']}%" if value.get("averageUtilization") is not None else "<unknown>"
        )
        return f"{prefix}{now}/{target['averageUtilization']}%"
    if target.get("averageValue") is not None:
        suffix = " (avg)" if kind in ("External", "Object") else ""
        return f"{prefix}{value.get('averageValue', '<unknown>')}/{target['averageValue']}{suffix}"
    return f"{prefix}{value.get('value', '<unknown>')}/{target.get('value', '<auto>')}"


def _metrics(obj: dict[str, Any]) -> str:
    spec, status = _spec(obj), _status(obj)
    if "metrics" not in spec and spec.get("targetCPUUtilizationPercentage") is not None:  # the shape of v1
        seen = status.get("currentCPUUtilizationPercentage")
        now = "<unknown>" if seen is None else f"{seen}%"
        return f"cpu: {now}/{spec['targetCPUUtilizationPercentage']}%"
    wanted, current = spec.get("metrics") or [], status.get("currentMetrics") or []
    if not wanted:
        return NONE
    shown = [_metric(each, current[i] if i < len(current) else None) for i, each in enumerate(wanted[:2])]
    more = f" + {len(wanted) - 2} more..." if len(wanted) > 2 else ""
    return ", ".join(shown) + more


def _autoscaler(obj: dict[str, Any], now: float) -> list[Any]:
    spec, status = _spec(obj), _status(obj)
    target = spec.get("scaleTargetRef") or {}
    least = spec.get("minReplicas")
    return [
        name(obj),
        f"{target.get('kind', '')}/{target.get('name', '')}",
        _metrics(obj),
        "<unset>" if least is None else str(least),
        spec.get("maxReplicas", 0),
        status.get("currentReplicas", 0),
        age.of(obj, now),
    ]


def _budget(obj: dict[str, Any], now: float) -> list[Any]:
    spec = _spec(obj)
    limits = [
        str(spec[key]) if spec.get(key) is not None else "N/A" for key in ("minAvailable", "maxUnavailable")
    ]
    return [name(obj), *limits, _status(obj).get("disruptionsAllowed", 0), age.of(obj, now)]


def _revision(obj: dict[str, Any], now: float) -> list[Any]:
    owners = (obj.get("metadata") or {}).get("ownerReferences") or []
    owner = next((each for each in owners if each.get("controller")), None)
    controller = NONE
    if owner is not None:
        group = (owner.get("apiVersion") or "").rpartition("/")[0]
        controller = f"{owner.get('kind', '').lower()}{'.' + group if group else ''}/{owner.get('name')}"
    return [name(obj), controller, obj.get("revision", 0), age.of(obj, now)]


def _pod_template(obj: dict[str, Any], now: float) -> list[Any]:
    labels = ((obj.get("template") or {}).get("metadata") or {}).get("labels")
    return [name(obj), *containers(obj), label_text(labels)]


_WIDE = (CONTAINERS, IMAGES, SELECTOR)
_DESIRED = _number("Desired", "Pods that should run.")
_CURRENT = _number("Current", "Pods that exist.")
_READY = _number("Ready", "Pods that are ready.")
_READY_OF = column("Ready", about="Pods that are ready, of the wanted number.")
_UPDATED = _number("Up-to-date", "Pods made from the newest template.")
_AVAILABLE = _number("Available", "Pods that have been ready long enough.")
_REPLICAS = (NAME, _DESIRED, _CURRENT, _READY, AGE, *_WIDE)

PRINTERS = {
    ("apps", "deployments"): Printer((NAME, _READY_OF, _UPDATED, _AVAILABLE, AGE, *_WIDE), _deployment),
    ("apps", "replicasets"): Printer(_REPLICAS, _replica_set),
    ("", "replicationcontrollers"): Printer(_REPLICAS, _replication_controller),
    ("apps", "statefulsets"): Printer((NAME, _READY_OF, AGE, CONTAINERS, IMAGES), _stateful_set),
    ("apps", "daemonsets"): Printer(
        (
            NAME,
            _DESIRED,
            _CURRENT,
            _READY,
            _UPDATED,
            _AVAILABLE,
            column("Node Selector", about="Which nodes get a pod."),
            AGE,
            *_WIDE,
        ),
        _daemon_set,
    ),
    ("batch", "jobs"): Printer(
        (
            NAME,
            column("Status", about="Whether the job runs, completed or failed."),
            column("Completions", about="Pods that succeeded, of the wanted number."),
            column("Duration", about="How long the job took, or has been running."),
            AGE,
            *_WIDE,
        ),
        _job,
    ),
    ("batch", "cronjobs"): Printer(
        (
            NAME,
            column("Schedule", about="When jobs are made, in cron form."),
            column("Timezone", about="Time zone of the schedule."),
            column("Suspend", "boolean", about="Whether no jobs are made for now."),
            _number("Active", "Jobs that run now."),
            column("Last Schedule", about="Time since the last job was made."),
            AGE,
            *_WIDE,
        ),
        _cron_job,
    ),
    ("autoscaling", "horizontalpodautoscalers"): Printer(
        (
            NAME,
            column("Reference", about="What is scaled."),
            column("Targets", about="Metrics: what is, and what is wanted."),
            column("MinPods", about="Fewest pods."),
            column("MaxPods", about="Most pods."),
            column("Replicas", about="Pods now."),
            AGE,
        ),
        _autoscaler,
    ),
    ("policy", "poddisruptionbudgets"): Printer(
        (
            NAME,
            column("Min Available", about="Pods that have to stay available."),
            column("Max Unavailable", about="Pods that may be unavailable."),
            _number("Allowed Disruptions", "Pods that may be evicted now."),
            AGE,
        ),
        _budget,
    ),
    ("apps", "controllerrevisions"): Printer(
        (NAME, column("Controller", about="Whose revision it is."), _number("Revision", "Its number."), AGE),
        _revision,
    ),
    ("", "podtemplates"): Printer(
        (
            NAME,
            column("Containers", about="Names of the containers."),
            column("Images", about="Images of the containers."),
            column("Pod Labels", about="Labels of the pods."),
        ),
        _pod_template,
    ),
}
