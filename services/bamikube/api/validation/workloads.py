"""Rules of the kinds that make pods, and of disruption budgets and autoscalers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from bamikube.api.errors import Cause
from bamikube.api.names import is_percent
from bamikube.api.resources import Resource
from bamikube.api.selectors import from_object
from bamikube.api.validation.pod import pod_template
from bamikube.api.validation.rules import (
    forbidden,
    immutable,
    invalid,
    label_selector,
    not_negative,
    not_supported,
    one_of,
    required,
)

CRON_NAME_LIMIT = 52  # eleven characters less than a job's name, for the time that is appended
_SELECTOR_MISMATCH = "`selector` does not match template `labels`"


def _selector(spec: dict[str, Any], field: str = "spec", kind: str = "deployment") -> list[Cause]:
    """The selector has to be there, select something, and match the template."""
    selector = spec.get("selector")
    if selector is None:
        return [required(f"{field}.selector")]
    causes = label_selector(f"{field}.selector", selector)
    if not selector.get("matchLabels") and not selector.get("matchExpressions"):
        causes.append(invalid(f"{field}.selector", selector, f"empty selector is invalid for {kind}"))
    if causes:
        return causes
    given = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    if not from_object(selector).matches(given):
        causes.append(invalid(f"{field}.template.metadata.labels", given, _SELECTOR_MISMATCH))
    return causes


def _template(
    spec: dict[str, Any],
    policies: tuple[str, ...] = ("Always",),
    field: str = "spec",
    kind: str = "ReplicaSet",
) -> list[Cause]:
    template = spec.get("template")
    if template is None:
        return [required(f"{field}.template")]
    causes = pod_template(template, f"{field}.template")
    pod = template.get("spec") or {}
    policy = pod.get("restartPolicy", "")
    if policy and policy not in policies:
        causes.append(not_supported(f"{field}.template.spec.restartPolicy", policy, policies))
    if policies == ("Always",) and pod.get("activeDeadlineSeconds") is not None:
        detail = f"activeDeadlineSeconds in {kind} is not Supported"
        causes.append(forbidden(f"{field}.template.spec.activeDeadlineSeconds", detail))
    return causes


def int_or_percent(field: str, value: Any) -> list[Cause]:
    """A number not below zero, or a percentage."""
    if isinstance(value, str):
        return [invalid(field, value, message) for message in is_percent(value)]
    return not_negative(field, value)


def _is_zero(value: Any) -> bool:
    return value == 0 or (isinstance(value, str) and value.rstrip("%").lstrip("0") == "")


def _deployment(obj: dict[str, Any]) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes = not_negative("spec.replicas", spec.get("replicas"))
    causes += _selector(spec) + _template(spec)
    strategy = spec.get("strategy") or {}
    field = "spec.strategy"
    if strategy.get("type") == "Recreate" and strategy.get("rollingUpdate") is not None:
        detail = "may not be specified when strategy `type` is 'Recreate'"
        causes.append(forbidden(f"{field}.rollingUpdate", detail))
    elif strategy.get("type") == "RollingUpdate":
        rolling = strategy.get("rollingUpdate") or {}
        unavailable, surge = rolling.get("maxUnavailable"), rolling.get("maxSurge")
        causes += int_or_percent(f"{field}.rollingUpdate.maxUnavailable", unavailable)
        causes += int_or_percent(f"{field}.rollingUpdate.maxSurge", surge)
        if _is_zero(unavailable) and _is_zero(surge):
            detail = "may not be 0 when `maxSurge` is 0"
            causes.append(invalid(f"{field}.rollingUpdate.maxUnavailable", unavailable, detail))
        if isinstance(unavailable, str) and not is_percent(unavailable) and int(unavailable[:-1]) > 100:
            causes.append(
                invalid(f"{field}.rollingUpdate.maxUnavailable", unavailable, "must not be greater than 100%")
            )
    elif strategy.get("type") != "Recreate":
        causes += one_of(f"{field}.type", strategy.get("type"), ("Recreate", "RollingUpdate"))
    for name in ("minReadySeconds", "revisionHistoryLimit"):
        causes += not_negative(f"spec.{name}", spec.get(name))
    deadline = spec.get("progressDeadlineSeconds")
    if deadline is not None:
        causes += not_negative("spec.progressDeadlineSeconds", deadline)
        if deadline <= spec.get("minReadySeconds", 0):
            detail = "must be greater than minReadySeconds"
            causes.append(invalid("spec.progressDeadlineSeconds", deadline, detail))
    return causes


def _replica_set(obj: dict[str, Any]) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes = not_negative("spec.replicas", spec.get("replicas"))
    causes += not_negative("spec.minReadySeconds", spec.get("minReadySeconds"))
    return causes + _selector(spec) + _template(spec)


def _replication_controller(obj: dict[str, Any]) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes = not_negative("spec.replicas", spec.get("replicas"))
    selector = spec.get("selector")
    if not selector:
        causes.append(required("spec.selector"))
    else:
        given = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
        if any(given.get(key) != value for key, value in selector.items()):
            causes.append(invalid("spec.template.metadata.labels", given, _SELECTOR_MISMATCH))
    return causes + _template(spec)


def _daemon_set(obj: dict[str, Any]) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes = _selector(spec, kind="daemonset") + _template(spec, kind="DaemonSet")
    causes += not_negative("spec.minReadySeconds", spec.get("minReadySeconds"))
    strategy = spec.get("updateStrategy") or {}
    causes += one_of("spec.updateStrategy.type", strategy.get("type"), ("RollingUpdate", "OnDelete"))
    if strategy.get("type") == "RollingUpdate":
        rolling, field = strategy.get("rollingUpdate") or {}, "spec.updateStrategy.rollingUpdate"
        unavailable, surge = rolling.get("maxUnavailable"), rolling.get("maxSurge")
        causes += int_or_percent(f"{field}.maxUnavailable", unavailable)
        causes += int_or_percent(f"{field}.maxSurge", surge)
        if not _is_zero(unavailable) and not _is_zero(surge):
            causes.append(
                invalid(f"{field}.maxSurge", surge, "may not be set when maxUnavailable is non-zero")
            )
        elif _is_zero(unavailable) and _is_zero(surge):
            causes.append(required(f"{field}.maxUnavailable", "cannot be 0 when maxSurge is 0"))
    return causes + not_negative("spec.revisionHistoryLimit", spec.get("revisionHistoryLimit"))


def _stateful_set(obj: dict[str, Any]) -> list[Cause]:
    spec = obj.get("spec") or {}
    policies = ("OrderedReady", "Parallel")
    causes = one_of("spec.podManagementPolicy", spec.get("podManagementPolicy"), policies)
    strategy = spec.get("updateStrategy") or {}
    causes += one_of("spec.updateStrategy.type", strategy.get("type"), ("OnDelete", "RollingUpdate"))
    rolling = strategy.get("rollingUpdate") or {}
    causes += not_negative("spec.updateStrategy.rollingUpdate.partition", rolling.get("partition"))
    retention = spec.get("persistentVolumeClaimRetentionPolicy") or {}
    for name in ("whenDeleted", "whenScaled"):
        field = f"spec.persistentVolumeClaimRetentionPolicy.{name}"
        causes += one_of(field, retention.get(name), ("Retain", "Delete"))
    for name in ("replicas", "minReadySeconds", "revisionHistoryLimit"):
        causes += not_negative(f"spec.{name}", spec.get(name))
    causes += not_negative("spec.ordinals.start", (spec.get("ordinals") or {}).get("start"))
    return causes + _selector(spec, kind="statefulset") + _template(spec, kind="StatefulSet")


def _job_spec(spec: dict[str, Any], field: str, *, selector: bool) -> list[Cause]:
    causes: list[Cause] = []
    for name in (
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
    ):
        causes += not_negative(f"{field}.{name}", spec.get(name))
    mode = spec.get("completionMode")
    if mode is not None:
        causes += one_of(f"{field}.completionMode", mode, ("NonIndexed", "Indexed"))
        if mode == "Indexed" and spec.get("completions") is None:
            detail = "when completion mode is Indexed"
            causes.append(required(f"{field}.completions", detail))
    if selector:
        if spec.get("selector") is None:
            causes.append(required(f"{field}.selector"))
        else:
            causes += _selector(spec, field)
    causes += _template(spec, ("OnFailure", "Never"), field)
    template = (spec.get("template") or {}).get("spec") or {}
    if spec.get("podFailurePolicy") is not None and template.get("restartPolicy") != "Never":
        detail = 'only "Never" is supported when podFailurePolicy is specified'
        causes.append(invalid(f"{field}.template.spec.restartPolicy", template.get("restartPolicy"), detail))
    return causes


def _job(obj: dict[str, Any]) -> list[Cause]:
    causes = _job_spec(obj.get("spec") or {}, "spec", selector=True)
    name = (obj.get("metadata") or {}).get("name") or ""
    if len(name) > 63:
        causes.append(invalid("metadata.name", name, "must be no more than 63 characters"))
    return causes


_MACROS = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_CRON_FIELDS: tuple[tuple[str, int, int, list[str]], ...] = (
    ("minute", 0, 59, []),
    ("hour", 0, 23, []),
    ("day of month", 1, 31, []),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 6, _DAYS),
)


def _cron_number(text: str, names: list[str], low: int) -> int | None:
    if text.lower() in names:
        return names.index(text.lower()) + low
    return int(text) if text.isdigit() else None


def _cron_field(text: str, low: int, high: int, names: list[str]) -> str:
    """What is wrong with one field of a schedule; "" when nothing is."""
    for part in text.split(","):
        span, slash, step = part.partition("/")
        if slash and (not step.isdigit() or int(step) == 0):
            return f"step of range should be a positive number: {part}"
        if span in ("*", "?"):
            continue
        first, dash, last = span.partition("-")
        start = _cron_number(first, names, low)
        end = _cron_number(last, names, low) if dash else start
        if start is None or end is None:
            return f"failed to parse int from {first if start is None else last}"
        if start < low:
            return f"beginning of range ({start}) below minimum ({low}): {part}"
        if end > high:
            return f"end of range ({end}) above maximum ({high}): {part}"
        if start > end:
            return f"beginning of range ({start}) beyond end of range ({end}): {part}"
    return ""


def schedule(field: str, text: str) -> list[Cause]:
    """A cron schedule: five fields, a macro such as ``@daily``, or ``@every 1h30m``."""
    if not text:
        return [required(field)]
    if "TZ" in text:
        detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
        return [invalid(field, text, detail)]
    if text.startswith("@"):
        known = text in _MACROS or text.startswith("@every ")
        return [] if known else [invalid(field, text, f"unrecognized descriptor: {text}")]
    parts = text.split()
    if len(parts) != len(_CRON_FIELDS):
        return [invalid(field, text, f"expected exactly 5 fields, found {len(parts)}: {json.dumps(parts)}")]
    wrong = [
        _cron_field(part, low, high, names)
        for part, (_, low, high, names) in zip(parts, _CRON_FIELDS, strict=True)
    ]
    return [invalid(field, text, message) for message in wrong if message][:1]


def _cron_job(obj: dict[str, Any]) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes = schedule("spec.schedule", spec.get("schedule") or "")
    causes += not_negative("spec.startingDeadlineSeconds", spec.get("startingDeadlineSeconds"))
    causes += one_of("spec.concurrencyPolicy", spec.get("concurrencyPolicy"), ("Allow", "Forbid", "Replace"))
    causes += _job_spec(
        (spec.get("jobTemplate") or {}).get("spec") or {}, "spec.jobTemplate.spec", selector=False
    )
    for name in ("successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
        causes += not_negative(f"spec.{name}", spec.get(name))
    name = (obj.get("metadata") or {}).get("name") or ""
    if len(name) > CRON_NAME_LIMIT:
        causes.append(invalid("metadata.name", name, f"must be no more than {CRON_NAME_LIMIT} characters"))
    return causes


def _disruption_budget(obj: dict[str, Any]) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes: list[Cause] = []
    least, most = spec.get("minAvailable"), spec.get("maxUnavailable")
    if least is not None and most is not None:
        causes.append(invalid("spec", spec, "minAvailable and maxUnavailable cannot be both set"))
    for name, value in (("minAvailable", least), ("maxUnavailable", most)):
        if value is not None:
            causes += int_or_percent(f"spec.{name}", value)
    causes += label_selector("spec.selector", spec.get("selector"))
    if spec.get("unhealthyPodEvictionPolicy") is not None:
        policies = ("AlwaysAllow", "IfHealthyBudget")
        causes += one_of("spec.unhealthyPodEvictionPolicy", spec["unhealthyPodEvictionPolicy"], policies)
    return causes


def _autoscaler(obj: dict[str, Any]) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes: list[Cause] = []
    least, most = spec.get("minReplicas", 1), spec.get("maxReplicas", 0)
    if least < 1:
        causes.append(invalid("spec.minReplicas", least, "must be greater than or equal to 1"))
    if most < 1:
        causes.append(invalid("spec.maxReplicas", most, "must be greater than 0"))
    elif most < least:
        causes.append(invalid("spec.maxReplicas", most, "must be greater than or equal to `minReplicas`"))
    target = spec.get("scaleTargetRef") or {}
    causes += [required(f"spec.scaleTargetRef.{name}") for name in ("kind", "name") if not target.get(name)]
    return causes


def _fixed_selector(new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
    return immutable(
        "spec.selector", (new.get("spec") or {}).get("selector"), (old.get("spec") or {}).get("selector")
    )


_STATEFUL_CHANGES = (
    "replicas",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
    "ordinals",
)


def _stateful_set_change(new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
    after, before = new.get("spec") or {}, old.get("spec") or {}
    fields = {*after, *before} - set(_STATEFUL_CHANGES)
    if all((after.get(field) or None) == (before.get(field) or None) for field in fields):
        return []
    detail = (
        "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', "
        "'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
    )
    return [forbidden("spec", detail)]


def _job_change(new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
    after, before = new.get("spec") or {}, old.get("spec") or {}
    causes = _fixed_selector(new, old)
    for field in ("completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"):
        causes += immutable(f"spec.{field}", after.get(field), before.get(field))
    if after.get("completionMode") != "Indexed":
        causes += immutable("spec.completions", after.get("completions"), before.get("completions"))
    suspended = bool(before.get("suspend")) and not (old.get("status") or {}).get("startTime")
    if not suspended:
        causes += immutable("spec.template", after.get("template"), before.get("template"))
    return causes


_COUNTS = {
    ("apps", "deployments"): (
        "replicas",
        "updatedReplicas",
        "readyReplicas",
        "availableReplicas",
        "unavailableReplicas",
    ),
    ("apps", "replicasets"): ("replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas"),
    ("apps", "statefulsets"): (
        "replicas",
        "readyReplicas",
        "currentReplicas",
        "updatedReplicas",
        "availableReplicas",
    ),
    ("", "replicationcontrollers"): (
        "replicas",
        "fullyLabeledReplicas",
        "readyReplicas",
        "availableReplicas",
    ),
}


def status_counts(resource: Resource, obj: dict[str, Any]) -> list[Cause]:
    """Counts in a status: none below zero, none above the number of replicas."""
    causes: list[Cause] = []
    status = obj.get("status") or {}
    for name in _COUNTS.get(resource.key, ()):
        value = status.get(name)
        causes += not_negative(f"status.{name}", value)
        if value and name not in ("replicas", "unavailableReplicas") and value > status.get("replicas", 0):
            causes.append(invalid(f"status.{name}", value, "cannot be greater than status.replicas"))
    return causes


CREATE: dict[tuple[str, str], Callable[[dict[str, Any]], list[Cause]]] = {
    ("apps", "deployments"): _deployment,
    ("apps", "replicasets"): _replica_set,
    ("apps", "daemonsets"): _daemon_set,
    ("apps", "statefulsets"): _stateful_set,
    ("", "replicationcontrollers"): _replication_controller,
    ("batch", "jobs"): _job,
    ("batch", "cronjobs"): _cron_job,
    ("policy", "poddisruptionbudgets"): _disruption_budget,
    ("autoscaling", "horizontalpodautoscalers"): _autoscaler,
}
UPDATE: dict[tuple[str, str], Callable[[dict[str, Any], dict[str, Any]], list[Cause]]] = {
    ("apps", "deployments"): _fixed_selector,
    ("apps", "replicasets"): _fixed_selector,
    ("apps", "daemonsets"): _fixed_selector,
    ("apps", "statefulsets"): _stateful_set_change,
    ("batch", "jobs"): _job_change,
}
