"""Rows of the kinds that make pods."""

from __future__ import annotations

from typing import Any

from bamikube.api import conversion
from bamikube.api.columns import age
from bamikube.api.columns.model import (
    AGE,
    CONTAINERS,
    IMAGES,
    NAME,
    NONE,
    UNSET,
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
    selector = selector_text(_spec(obj).get("selector"), empty="")
    return [name(obj), ready, *counts, age.of(obj, now), *containers(obj), selector]


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
        UNSET if spec.get("suspend") is None else str(bool(spec["suspend"])),
        len(status.get("active") or ()),
        age.since(last, now) if last else NONE,
        age.of(obj, now),
        *_template(job),
    ]


_UNKNOWN = "<unknown>"


def _metric(metric: dict[str, Any], current: dict[str, Any] | None) -> str:
    """``cpu: 12%/80%``: what is, and what is wanted, of one metric."""
    kind = metric.get("type") or ""
    if kind not in ("External", "Pods", "Object", "Resource", "ContainerResource"):
        return "<unknown type>"
    field = kind[:1].lower() + kind[1:]
    source, seen = metric.get(field) or {}, ((current or {}).get(field) or {}).get("current") or {}
    target = source.get("target") or {}
    prefix = f"{source.get('name', '')}: " if kind.endswith("Resource") else ""
    if kind == "Pods" or target.get("averageValue") is not None:
        suffix = " (avg)" if kind in ("External", "Object") else ""
        return f"{prefix}{seen.get('averageValue', _UNKNOWN)}/{target.get('averageValue', _UNKNOWN)}{suffix}"
    if prefix:
        now, wanted = seen.get("averageUtilization"), target.get("averageUtilization")
        shown = _UNKNOWN if now is None else f"{now}%"
        return f"{prefix}{shown}/{'<auto>' if wanted is None else f'{wanted}%'}"
    return f"{seen.get('value', _UNKNOWN)}/{target.get('value', _UNKNOWN)}"


def _metrics(obj: dict[str, Any]) -> str:
    wanted, current = _spec(obj).get("metrics") or [], _status(obj).get("currentMetrics") or []
    if not wanted:
        return NONE
    shown = [_metric(each, current[i] if i < len(current) else None) for i, each in enumerate(wanted[:2])]
    more = f" + {len(wanted) - 2} more..." if len(wanted) > 2 else ""
    return ", ".join(shown) + more


def _autoscaler(obj: dict[str, Any], now: float) -> list[Any]:
    if obj.get("apiVersion") == "autoscaling/v1":
        obj = conversion.newer_autoscaler(obj)
    spec, status = _spec(obj), _status(obj)
    target = spec.get("scaleTargetRef") or {}
    least = spec.get("minReplicas")
    return [
        name(obj),
        f"{target.get('kind', '')}/{target.get('name', '')}",
        _metrics(obj),
        UNSET if least is None else str(least),
        spec.get("maxReplicas", 0),
        status.get("currentReplicas", 0),
        age.of(obj, now),
    ]


def _scale(obj: dict[str, Any], now: float) -> list[Any]:
    return [name(obj), _spec(obj).get("replicas", 0), _status(obj).get("replicas", 0), age.of(obj, now)]


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


def _wide(spec: str) -> tuple[dict[str, Any], ...]:
    return (CONTAINERS, IMAGES, column("Selector", wide=True, about=f"={spec}.selector"))


def _replicas(spec: str, status: str) -> tuple[dict[str, Any], ...]:
    return (
        NAME,
        _number("Desired", f"={spec}.replicas"),
        _number("Current", f"={status}.replicas"),
        _number("Ready", f"={status}.readyReplicas"),
        AGE,
        *_wide(spec),
    )


_READY_OF = column("Ready", about="Number of the pod with ready state")
_DEPLOYMENT, _DAEMONS = "apps.v1.DeploymentStatus", "apps.v1.DaemonSetStatus"
_CRON, _SCALER = "batch.v1.CronJobSpec", "autoscaling.v2.HorizontalPodAutoscalerSpec"

PRINTERS = {
    ("apps", "deployments"): Printer(
        (
            NAME,
            _READY_OF,
            column("Up-to-date", about=f"={_DEPLOYMENT}.updatedReplicas"),
            column("Available", about=f"={_DEPLOYMENT}.availableReplicas"),
            AGE,
            *_wide("apps.v1.DeploymentSpec"),
        ),
        _deployment,
    ),
    ("apps", "replicasets"): Printer(
        _replicas("apps.v1.ReplicaSetSpec", "apps.v1.ReplicaSetStatus"), _replica_set
    ),
    ("", "replicationcontrollers"): Printer(
        _replicas("core.v1.ReplicationControllerSpec", "core.v1.ReplicationControllerStatus"),
        _replication_controller,
    ),
    ("apps", "statefulsets"): Printer((NAME, _READY_OF, AGE, CONTAINERS, IMAGES), _stateful_set),
    ("apps", "daemonsets"): Printer(
        (
            NAME,
            _number("Desired", f"={_DAEMONS}.desiredNumberScheduled"),
            _number("Current", f"={_DAEMONS}.currentNumberScheduled"),
            _number("Ready", f"={_DAEMONS}.numberReady"),
            _number("Up-to-date", f"={_DAEMONS}.updatedNumberScheduled"),
            _number("Available", f"={_DAEMONS}.numberAvailable"),
            column("Node Selector", about="=core.v1.PodSpec.nodeSelector"),
            AGE,
            *_wide("apps.v1.DaemonSetSpec"),
        ),
        _daemon_set,
    ),
    ("batch", "jobs"): Printer(
        (
            NAME,
            column("Status", about="Status of the job."),
            column("Completions", about="=batch.v1.JobStatus.succeeded"),
            column("Duration", about="Time required to complete the job."),
            AGE,
            *_wide("batch.v1.JobSpec"),
        ),
        _job,
    ),
    ("batch", "cronjobs"): Printer(
        (
            NAME,
            column("Schedule", about=f"={_CRON}.schedule"),
            column("Timezone", about=f"={_CRON}.timeZone"),
            column("Suspend", "boolean", about=f"={_CRON}.suspend"),
            _number("Active", "=batch.v1.CronJobStatus.active"),
            column("Last Schedule", about="=batch.v1.CronJobStatus.lastScheduleTime"),
            AGE,
            *_wide("batch.v1.JobSpec"),
        ),
        _cron_job,
    ),
    ("autoscaling", "horizontalpodautoscalers"): Printer(
        (
            NAME,
            column("Reference", about=f"={_SCALER}.scaleTargetRef"),
            column("Targets", about=f"={_SCALER}.metrics"),
            column("MinPods", about=f"={_SCALER}.minReplicas"),
            column("MaxPods", about=f"={_SCALER}.maxReplicas"),
            column("Replicas", about="=autoscaling.v2.HorizontalPodAutoscalerStatus.currentReplicas"),
            AGE,
        ),
        _autoscaler,
    ),
    ("autoscaling", "scales"): Printer(
        (
            column("Name", about="=meta.v1.ObjectMeta.name"),
            _number("Desired", "=autoscaling.v1.ScaleSpec.replicas"),
            _number("Available", "=autoscaling.v1.ScaleStatus.replicas"),
            AGE,
        ),
        _scale,
    ),
    ("policy", "poddisruptionbudgets"): Printer(
        (
            NAME,
            column("Min Available", about="The minimum number of pods that must be available."),
            column("Max Unavailable", about="The maximum number of pods that may be unavailable."),
            _number("Allowed Disruptions", "Calculated number of pods that may be disrupted at this time."),
            AGE,
        ),
        _budget,
    ),
    ("apps", "controllerrevisions"): Printer(
        (
            NAME,
            column("Controller", about="Controller of the object"),
            column("Revision", about="=apps.v1.ControllerRevision.revision"),
            AGE,
        ),
        _revision,
    ),
    ("", "podtemplates"): Printer(
        (
            NAME,
            column("Containers", about="Names of each container in the template."),
            column("Images", about="Images referenced by each container in the template."),
            column("Pod Labels", about="The labels for the pod template."),
        ),
        _pod_template,
    ),
}
