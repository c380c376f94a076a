"""What kinds that make pods have in common: a selector that matches, a template that is a good pod, counts and shares."""

from __future__ import annotations

from typing import Any

from bamikube.api.errors import Cause
from bamikube.api.memory import Approved
from bamikube.api.names import is_percent
from bamikube.api.selectors import from_object
from bamikube.api.validation.pod import pod_template
from bamikube.api.validation.rules import (
    forbidden,
    invalid,
    label_selector,
    not_negative,
    not_supported,
    required,
)

SELECTOR_MISMATCH = "`selector` does not match template `labels`"
_FITTING = Approved(1024)  # selectors, with the labels they match


def selector(spec: dict[str, Any], field: str = "spec", kind: str = "deployment") -> list[Cause]:
    """The selector has to be there, select something, and match the template."""
    given = spec.get("selector")
    if given is None:
        return [required(f"{field}.selector")]
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    return _FITTING.judge([given, labels], lambda: _selector(given, labels, field, kind))


def _selector(given: dict[str, Any], labels: dict[str, str], field: str, kind: str) -> list[Cause]:
    causes = label_selector(f"{field}.selector", given)
    if not given.get("matchLabels") and not given.get("matchExpressions"):
        causes.append(invalid(f"{field}.selector", given, f"empty selector is invalid for {kind}"))
    if causes:
        return causes
    if not from_object(given).matches(labels):
        causes.append(invalid(f"{field}.template.metadata.labels", labels, SELECTOR_MISMATCH))
    return causes


def template(spec: dict[str, Any], kind: str = "ReplicaSet") -> list[Cause]:
    """The template of pods that run for ever."""
    given = spec.get("template")
    if given is None:
        return [required("spec.template")]
    causes = pod_template(given, "spec.template")
    pod = given.get("spec") or {}
    policy = pod.get("restartPolicy", "")
    if policy and policy != "Always":
        causes.append(not_supported("spec.template.spec.restartPolicy", policy, ("Always",)))
    if pod.get("activeDeadlineSeconds") is not None:
        detail = f"activeDeadlineSeconds in {kind} is not Supported"
        causes.append(forbidden("spec.template.spec.activeDeadlineSeconds", detail))
    return causes


def int_or_percent(field: str, value: Any) -> list[Cause]:
    """A number not below zero, or a percentage."""
    if isinstance(value, str):
        return [invalid(field, value, message) for message in is_percent(value)]
    return not_negative(field, value)


def at_most_all(field: str, value: Any) -> list[Cause]:
    """A percentage not above 100."""
    if isinstance(value, str) and not is_percent(value) and int(value[:-1]) > 100:
        return [invalid(field, value, "must not be greater than 100%")]
    return []


def is_zero(value: Any) -> bool:
    """Whether a number or percentage is none at all."""
    return value == 0 or (isinstance(value, str) and value.rstrip("%").lstrip("0") == "")
