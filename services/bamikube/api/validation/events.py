"""Rules of events, of both groups.

An event lies in the namespace of what it is about; what has no namespace is spoken of in ``default`` or
``kube-system``. A core/v1 event without ``eventTime`` is of the old kind and is held to nothing else; one with it, and
every events.k8s.io/v1 event, has to say who did what. Source: the API reference (core/v1, events.k8s.io/v1), KEP-383.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bamikube.api import table
from bamikube.api.errors import Cause
from bamikube.api.names import is_qualified_name
from bamikube.api.validation.rules import IMMUTABLE, invalid, required

_WITHOUT_NAMESPACE = ("default", "kube-system")
LONGEST_WORD = 128
LONGEST_MESSAGE = 1024


def _about(obj: dict[str, Any], field: str) -> list[Cause]:
    about = obj.get(field) or {}
    own = (obj.get("metadata") or {}).get("namespace") or ""
    named = about.get("namespace") or ""
    path = "involvedObject.namespace"
    causes: list[Cause] = []
    if (not named and own not in _WITHOUT_NAMESPACE) or (named and own != named):
        causes.append(invalid(path, named, "does not match event.namespace"))
    row = table.by_kind(about.get("apiVersion") or "", about.get("kind") or "")
    if row is not None:
        if row.namespaced and not named:
            causes.append(required(path, f"required for kind {row.kind}"))
        elif not row.namespaced and named:
            causes.append(invalid(path, named, f"not allowed for kind {row.kind}"))
    return causes


def _word(field: str, value: str) -> list[Cause]:
    if not value:
        return [required(field)]
    if len(value) > LONGEST_WORD:
        return [invalid(field, "", f"can have at most {LONGEST_WORD} characters")]
    return []


def _said_by(obj: dict[str, Any], controller: str, message: str) -> list[Cause]:
    """What an event of the new kind has to say."""
    who = obj.get(controller) or ""
    causes = [required(controller)] if not who else []
    causes += [invalid(controller, who, text) for text in is_qualified_name(who)] if who else []
    for field in ("reportingInstance", "action", "reason"):
        causes += _word(field, obj.get(field) or "")
    if len(obj.get(message) or "") > LONGEST_MESSAGE:
        causes.append(invalid(message, "", f"can have at most {LONGEST_MESSAGE} characters"))
    return causes


def _core(obj: dict[str, Any]) -> list[Cause]:
    causes = _about(obj, "involvedObject")
    return causes + _said_by(obj, "reportingComponent", "message") if obj.get("eventTime") else causes


def _unset(obj: dict[str, Any]) -> list[Cause]:
    """The fields of the old kind, which new events leave alone."""
    causes: list[Cause] = []
    for field, shown in (
        ("deprecatedFirstTimestamp", "firstTimestamp"),
        ("deprecatedLastTimestamp", "lastTimestamp"),
        ("deprecatedCount", "count"),
        ("deprecatedSource", "source"),
    ):
        if obj.get(field):
            causes.append(invalid(shown, "", "needs to be unset"))
    return causes


def _regarding(obj: dict[str, Any]) -> list[Cause]:
    return _about(obj, "regarding")


def _new(obj: dict[str, Any]) -> list[Cause]:
    causes: list[Cause] = []
    if obj.get("eventTime"):
        causes += _said_by(obj, "reportingController", "note")
    else:
        causes.append(required("eventTime"))
    if obj.get("type") not in ("Normal", "Warning"):
        causes.append(invalid("type", "", f"has invalid value: {obj.get('type') or ''}"))
    return causes + _unset(obj)


# The field in events.k8s.io/v1, and what a message calls it.
_FIXED = {
    "regarding": "involvedObject",
    "reason": "reason",
    "note": "message",
    "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedCount": "count",
    "type": "type",
    "eventTime": "eventTime",
    "action": "action",
    "related": "related",
    "reportingController": "reportingController",
    "reportingInstance": "reportingInstance",
}


def _change(new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
    """Of an events.k8s.io/v1 event only the series may change."""
    return [
        invalid(shown, new.get(field), IMMUTABLE)
        for field, shown in _FIXED.items()
        if (new.get(field) or None) != (old.get(field) or None)
    ]


CREATE: dict[tuple[str, str], Callable[[dict[str, Any]], list[Cause]]] = {
    ("", "events"): _core,
    ("events.k8s.io", "events"): _regarding,
}
ONLY_NEW: dict[tuple[str, str], Callable[[dict[str, Any]], list[Cause]]] = {
    ("events.k8s.io", "events"): _new,
}
UPDATE: dict[tuple[str, str], Callable[[dict[str, Any], dict[str, Any]], list[Cause]]] = {
    ("events.k8s.io", "events"): _change,
}
