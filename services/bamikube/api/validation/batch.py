"""Rules of jobs and cron jobs.

A job's selector is the server's own: made from the job's uid, it matches the labels the server put into the template.
Whoever sets ``manualSelector`` answers for both. Source: the API reference (batch/v1), KEPs 3329 (podFailurePolicy),
3850 (backoffLimitPerIndex), 3998 (successPolicy), 3939 (podReplacementPolicy), 4368 (managedBy), 3140 (timeZone).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bamikube.api.errors import Cause
from bamikube.api.names import is_qualified_name
from bamikube.api.numbers import whole
from bamikube.api.validation.cron import schedule, time_zone
from bamikube.api.validation.pod import pod_template
from bamikube.api.validation.rules import (
    domain_prefixed_path,
    duplicate,
    immutable,
    invalid,
    label_selector,
    named,
    not_negative,
    not_supported,
    one_of,
    required,
    too_many,
)
from bamikube.api.validation.templates import selector as selector_and_template

CRON_NAME_LIMIT = 52  # eleven characters less than a job's name, for the time that is appended
MOST_RULES = 20
MOST_CODES = 255
MOST_INDEXES = 100_000  # parallelism and failures of an indexed job
MOST_OF_MANY = 10_000  # the same, when there are more than MOST_INDEXES completions
_MODES = ("NonIndexed", "Indexed")
_ACTIONS = ("Count", "FailIndex", "FailJob", "Ignore")
_UID_LABELS = ("batch.kubernetes.io/controller-uid", "controller-uid")
_NAME_LABELS = ("batch.kubernetes.io/job-name", "job-name")
_SUSPENDED_POD = ("affinity", "nodeSelector", "schedulingGates", "tolerations")


# --- jobs -----------------------------------------------------------------------------------------------------------


def _counts(spec: dict[str, Any], field: str) -> list[Cause]:
    causes: list[Cause] = []
    for name in (
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "maxFailedIndexes",
        "backoffLimitPerIndex",
    ):
        causes += not_negative(f"{field}.{name}", spec.get(name))
    if spec.get("managedBy") is not None:
        causes += domain_prefixed_path(f"{field}.managedBy", spec["managedBy"])
    return causes


def _limit(field: str, value: Any, most: int, when: str) -> list[Cause]:
    if value is None or value <= most:
        return []
    return [invalid(field, value, f"must be less than or equal to {most} {when}")]


def _indexed(spec: dict[str, Any], field: str) -> list[Cause]:
    """What only indexed jobs have, and how far they may go."""
    causes: list[Cause] = []
    mode, completions = spec.get("completionMode"), spec.get("completions")
    failed, per_index = spec.get("maxFailedIndexes"), spec.get("backoffLimitPerIndex")
    if mode is not None and mode not in _MODES:
        causes.append(not_supported(f"{field}.completionMode", mode, _MODES))
    if mode != "Indexed":
        if per_index is not None:
            causes.append(
                invalid(f"{field}.backoffLimitPerIndex", per_index, "requires indexed completion mode")
            )
        return causes
    if completions is None:
        causes.append(required(f"{field}.completions", "when completion mode is Indexed"))
    when = "when completion mode is Indexed"
    causes += _limit(f"{field}.parallelism", spec.get("parallelism"), MOST_INDEXES, when)
    if failed is not None:
        if completions is not None and failed > completions:
            causes.append(
                invalid(f"{field}.maxFailedIndexes", failed, "must be less than or equal to completions")
            )
        causes += _limit(f"{field}.maxFailedIndexes", failed, MOST_INDEXES, when)
    if completions is not None and completions > MOST_INDEXES and per_index is not None:
        if failed is None:
            detail = f"must be specified when completions is above {MOST_INDEXES}"
            causes.append(required(f"{field}.maxFailedIndexes", detail))
        when = f"when completions are above {MOST_INDEXES} and used with backoff limit per index"
        causes += _limit(f"{field}.parallelism", spec.get("parallelism"), MOST_OF_MANY, when)
        causes += _limit(f"{field}.maxFailedIndexes", failed, MOST_OF_MANY, when)
    return causes


def _exit_codes(field: str, codes: dict[str, Any], containers: set[str]) -> list[Cause]:
    operator, values = codes.get("operator"), codes.get("values") or []
    causes = one_of(f"{field}.operator", operator, ("In", "NotIn"))
    name = codes.get("containerName")
    if name is not None and name not in containers:
        detail = "must be one of the container or initContainer names in the pod template"
        causes.append(invalid(f"{field}.containerName", name, detail))
    if not values:
        return [*causes, invalid(f"{field}.values", values, "at least one value is required")]
    if len(values) > MOST_CODES:
        causes.append(too_many(f"{field}.values", len(values), MOST_CODES))
    seen: set[int] = set()
    for index, value in enumerate(values):
        if operator == "In" and value == 0:
            causes.append(invalid(f"{field}.values[{index}]", value, "must not be 0 for the In operator"))
        if value in seen:
            causes.append(duplicate(f"{field}.values[{index}]", value))
        seen.add(value)
    if values != sorted(values):
        causes.append(invalid(f"{field}.values", values, "must be ordered"))
    return causes


def _failure_rule(path: str, rule: dict[str, Any], spec: dict[str, Any], containers: set[str]) -> list[Cause]:
    action = rule.get("action")
    causes = one_of(f"{path}.action", action, _ACTIONS)
    if action == "FailIndex" and spec.get("backoffLimitPerIndex") is None:
        causes.append(invalid(f"{path}.action", action, "requires the backoffLimitPerIndex to be set"))
    codes, conditions = rule.get("onExitCodes"), rule.get("onPodConditions") or []
    if codes is not None:
        causes += _exit_codes(f"{path}.onExitCodes", codes, containers)
    if len(conditions) > MOST_RULES:
        causes.append(too_many(f"{path}.onPodConditions", len(conditions), MOST_RULES))
    for index, pattern in enumerate(conditions):
        where = f"{path}.onPodConditions[{index}]"
        causes += named(f"{where}.type", pattern.get("type"), is_qualified_name)
        causes += one_of(f"{where}.status", pattern.get("status"), ("False", "True", "Unknown"))
    if codes is not None and conditions:
        detail = "specifying both OnExitCodes and OnPodConditions is not supported"
        causes.append(invalid(path, rule, detail))
    elif codes is None and not conditions:
        detail = "specifying one of OnExitCodes and OnPodConditions is required"
        causes.append(invalid(path, rule, detail))
    return causes


def _failure_policy(spec: dict[str, Any], field: str) -> list[Cause]:
    policy = spec.get("podFailurePolicy")
    if policy is None:
        return []
    pod = (spec.get("template") or {}).get("spec") or {}
    containers = {
        each.get("name", "") for kind in ("containers", "initContainers") for each in pod.get(kind) or ()
    }
    rules = policy.get("rules") or []
    causes: list[Cause] = []
    if len(rules) > MOST_RULES:
        causes.append(too_many(f"{field}.podFailurePolicy.rules", len(rules), MOST_RULES))
    for index, rule in enumerate(rules):
        causes += _failure_rule(f"{field}.podFailurePolicy.rules[{index}]", rule, spec, containers)
    return causes


def index_count(text: str, completions: int | None) -> int:
    """How many indexes ``0,2-4`` names. Raises ``ValueError`` saying what is wrong with it."""
    total, last = 0, -1
    for part in text.split(","):
        first, dash, end = part.partition("-")
        for number in (first, end) if dash else (first,):
            index = whole(number)
            if index is None:
                raise ValueError(f'cannot convert string to integer for index: "{number}"')
            if completions is not None and index >= completions:
                raise ValueError(f'too large index: "{number}"')
        low, high = int(first), int(end or first)
        if dash and low >= high:
            raise ValueError(f'non-increasing order, previous: "{low}", current: "{high}"')
        if low <= last:
            raise ValueError(f'non-increasing order, previous: "{last}", current: "{low}"')
        total, last = total + high - low + 1, high
    return total


def _success_policy(spec: dict[str, Any], field: str) -> list[Cause]:
    policy = spec.get("successPolicy")
    if policy is None:
        return []
    path = f"{field}.successPolicy"
    if spec.get("completionMode") != "Indexed":
        return [invalid(path, policy, "requires indexed completion mode")]
    rules = policy.get("rules") or []
    if not rules:
        return [
            required(
                f"{path}.rules", "at least one rules must be specified when the successPolicy is specified"
            )
        ]
    causes = [too_many(f"{path}.rules", len(rules), MOST_RULES)] if len(rules) > MOST_RULES else []
    for index, rule in enumerate(rules):
        causes += _success_rule(f"{path}.rules[{index}]", rule, spec.get("completions"))
    return causes


def _success_rule(path: str, rule: dict[str, Any], completions: int | None) -> list[Cause]:
    indexes, count = rule.get("succeededIndexes"), rule.get("succeededCount")
    if indexes is None and count is None:
        detail = "at least one of succeededCount or succeededIndexes must be specified"
        return [required(path, detail)]
    causes: list[Cause] = []
    most: int | None = completions
    if indexes is not None:
        try:
            most = index_count(indexes, completions)
        except ValueError as error:
            causes.append(
                invalid(f"{path}.succeededIndexes", indexes, f"error parsing succeededIndexes: {error}")
            )
    if count is not None:
        causes += not_negative(f"{path}.succeededCount", count)
        if most is not None and count > most:
            detail = f"must be less than or equal to {most} (the number of specified completions)"
            if indexes is not None:
                detail = f"must be less than or equal to {most} (the number of indexes in the specified succeededIndexes field)"
            causes.append(invalid(f"{path}.succeededCount", count, detail))
    return causes


def _job_template(spec: dict[str, Any], field: str) -> list[Cause]:
    """The template of pods that end."""
    template = spec.get("template")
    if template is None:
        return [required(f"{field}.template")]
    causes = pod_template(template, f"{field}.template")
    policy = (template.get("spec") or {}).get("restartPolicy")
    path = f"{field}.template.spec.restartPolicy"
    if policy not in ("OnFailure", "Never"):
        causes.append(required(path, 'valid values: "OnFailure", "Never"'))
    elif spec.get("podFailurePolicy") is not None and policy != "Never":
        causes.append(invalid(path, policy, 'only "Never" is supported when podFailurePolicy is specified'))
    return causes


def job_spec(spec: dict[str, Any], field: str) -> list[Cause]:
    """The rules a job and a cron job's template share."""
    causes = _counts(spec, field) + _indexed(spec, field) + _failure_policy(spec, field)
    causes += _success_policy(spec, field)
    replacement = spec.get("podReplacementPolicy")
    if replacement is not None:
        policies = (
            ("Failed",) if spec.get("podFailurePolicy") is not None else ("Failed", "TerminatingOrFailed")
        )
        causes += one_of(f"{field}.podReplacementPolicy", replacement, policies)
    return causes + _job_template(spec, field)


def _generated_selector(obj: dict[str, Any]) -> list[Cause]:
    spec, metadata = obj.get("spec") or {}, obj.get("metadata") or {}
    uid, name = metadata.get("uid") or "", metadata.get("name") or ""
    if spec.get("manualSelector") or not uid:
        return []
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    causes: list[Cause] = []
    for key, wanted in (*((key, uid) for key in _UID_LABELS), *((key, name) for key in _NAME_LABELS)):
        field = f"spec.template.metadata.labels[{key}]"
        if key not in labels:
            causes.append(required(field, f"must be '{wanted}'"))
        elif labels[key] != wanted:
            causes.append(invalid(field, labels, f"must be '{wanted}'"))
    selector = spec.get("selector") or {}
    chosen = selector.get("matchLabels") or {}
    if selector.get("matchExpressions") or not any(chosen == {key: uid} for key in _UID_LABELS):
        causes.append(invalid("spec.selector", selector, "`selector` not auto-generated"))
    return causes


def _job(obj: dict[str, Any]) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes = _generated_selector(obj) + job_spec(spec, "spec")
    causes += selector_and_template(spec, kind="job")
    name = (obj.get("metadata") or {}).get("name") or ""
    completions = spec.get("completions")
    if spec.get("completionMode") == "Indexed" and completions:
        longest = f"{name}-{completions - 1}"
        if len(longest) > 63:
            detail = (
                f"will not able to create pod with invalid DNS name: {longest}: must be no more than 63 bytes"
            )
            causes.append(invalid("metadata.name", name, detail))
    return causes


def _without_directives(template: Any) -> Any:
    """A template without what may change while the job is suspended and has not begun."""
    if not isinstance(template, dict):
        return template
    metadata = {
        key: value
        for key, value in (template.get("metadata") or {}).items()
        if key not in ("labels", "annotations")
    }
    pod = {key: value for key, value in (template.get("spec") or {}).items() if key not in _SUSPENDED_POD}
    return {"metadata": metadata, "spec": pod}


def _job_change(new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
    after, before = new.get("spec") or {}, old.get("spec") or {}
    causes: list[Cause] = []
    if after.get("completions") != before.get("completions"):
        if before.get("completionMode") != "Indexed":
            causes += immutable("spec.completions", after.get("completions"), before.get("completions"))
        elif after.get("completions") != after.get("parallelism"):
            detail = "can only be modified in tandem with parallelism"
            causes.append(invalid("spec.completions", after.get("completions"), detail))
    causes += immutable("spec.selector", after.get("selector"), before.get("selector"))
    waiting = bool(before.get("suspend")) and not (old.get("status") or {}).get("startTime")
    now, was = after.get("template"), before.get("template")
    if waiting:
        now, was = _without_directives(now), _without_directives(was)
    if now != was:
        causes += immutable("spec.template", after.get("template"), before.get("template"))
    for field in ("completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"):
        causes += immutable(f"spec.{field}", after.get(field), before.get(field))
    return causes


# --- cron jobs ------------------------------------------------------------------------------------------------------


def _cron_job_spec(spec: dict[str, Any]) -> list[Cause]:
    zone = spec.get("timeZone")
    causes = schedule("spec.schedule", spec.get("schedule") or "", zoned=zone is not None)
    causes += not_negative("spec.startingDeadlineSeconds", spec.get("startingDeadlineSeconds"))
    causes += time_zone("spec.timeZone", zone)
    causes += one_of("spec.concurrencyPolicy", spec.get("concurrencyPolicy"), ("Allow", "Forbid", "Replace"))
    job = (spec.get("jobTemplate") or {}).get("spec") or {}
    causes += job_spec(job, "spec.jobTemplate.spec")
    if job.get("manualSelector"):
        supported = ("<nil>", "false")
        causes.append(not_supported("spec.jobTemplate.spec.manualSelector", True, supported))
    causes += label_selector("spec.jobTemplate.spec.selector", job.get("selector"))
    for name in ("successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
        causes += not_negative(f"spec.{name}", spec.get(name))
    return causes


def _cron_job(obj: dict[str, Any]) -> list[Cause]:
    causes = _cron_job_spec(obj.get("spec") or {})
    name = (obj.get("metadata") or {}).get("name") or ""
    if len(name) > CRON_NAME_LIMIT:
        causes.append(invalid("metadata.name", name, f"must be no more than {CRON_NAME_LIMIT} characters"))
    return causes


# --- status ---------------------------------------------------------------------------------------------------------


def _job_status(new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
    """Counts are counts, and a job that ended stays ended."""
    status, before = new.get("status") or {}, old.get("status") or {}
    causes: list[Cause] = []
    for name in ("active", "succeeded", "failed", "ready", "terminating"):
        causes += not_negative(f"status.{name}", status.get(name))

    def holds(conditions: Any, kind: str) -> bool:
        return any(each.get("type") == kind and each.get("status") == "True" for each in conditions or ())

    now, was = status.get("conditions"), before.get("conditions")
    for kind in ("Complete", "Failed"):
        if holds(was, kind) and not holds(now, kind):
            causes.append(
                invalid("status.conditions", now, f"cannot disable the terminal {kind}=True condition")
            )
    if holds(now, "Complete") and holds(now, "Failed"):
        causes.append(
            invalid("status.conditions", now, "cannot set Complete=True and Failed=True conditions")
        )
    if status.get("completionTime") and not holds(now, "Complete"):
        detail = "cannot set completionTime when there is no Complete=True condition"
        causes.append(invalid("status.completionTime", status["completionTime"], detail))
    return causes


CREATE: dict[tuple[str, str], Callable[[dict[str, Any]], list[Cause]]] = {
    ("batch", "jobs"): _job,
    ("batch", "cronjobs"): _cron_job,
}
UPDATE: dict[tuple[str, str], Callable[[dict[str, Any], dict[str, Any]], list[Cause]]] = {
    ("batch", "jobs"): _job_change,
}
STATUS: dict[tuple[str, str], Callable[[dict[str, Any], dict[str, Any]], list[Cause]]] = {
    ("batch", "jobs"): _job_status,
}
