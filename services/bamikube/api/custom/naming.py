"""Which names a definition gets, and when it is established.

Within a group a name belongs to the definition that had it first. What a definition asks for and nobody else holds
is accepted, name by name; a name that is taken leaves the condition ``NamesAccepted`` false with a reason. Once all
names are accepted the definition is ``Established``, for good: from then on its objects are served.

``status_of`` is pure: it is given all definitions and returns the new status, equal to the old one when nothing is
to be done. Source: ``apiextensions-apiserver``'s naming and establishing controllers (behaviour).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bamikube.api.predicates.conditions import find, is_true, put

Object = dict[str, Any]

_APPROVED = "api-approved.kubernetes.io"
_REASONS = {
    "plural": "PluralConflict",
    "singular": "SingularConflict",
    "shortNames": "ShortNamesConflict",
    "kind": "KindConflict",
    "listKind": "ListKindConflict",
}


def protected(group: str) -> bool:
    """Groups of the Kubernetes community: their APIs need an approval."""
    return group in ("k8s.io", "kubernetes.io") or group.endswith((".k8s.io", ".kubernetes.io"))


def _taken(definition: Object, others: Iterable[Object]) -> tuple[set[str], set[str]]:
    """The resource names and the kinds that other definitions of the group hold."""
    resources: set[str] = set()
    kinds: set[str] = set()
    for other in others:
        if (
            other["spec"]["group"] != definition["spec"]["group"]
            or other["metadata"]["name"] == definition["metadata"]["name"]
        ):
            continue
        held = (other.get("status") or {}).get("acceptedNames") or {}
        resources |= {held.get("plural", ""), held.get("singular", ""), *(held.get("shortNames") or ())}
        kinds |= {held.get("kind", ""), held.get("listKind", "")}
    return resources - {""}, kinds - {""}


def status_of(definition: Object, others: Iterable[Object], now: str) -> Object:
    """The status ``definition`` should have. ``now`` is the time of a transition."""
    asked = definition["spec"]["names"]
    status = dict(definition.get("status") or {})
    held = status.get("acceptedNames") or {}
    resources, kinds = _taken(definition, others)
    accepted: Object = {}
    reason = message = ""
    for name, used in (("plural", resources), ("singular", resources), ("shortNames", resources)):
        wanted, before = asked.get(name), held.get(name)
        refused = [each for each in _listed(wanted) if each in used and each not in _listed(before)]
        if refused:
            reason = _REASONS[name]
            message = _joined([f'"{each}" is already in use' for each in refused])
            wanted = before
        if wanted:
            accepted[name] = wanted
    for name in ("kind", "listKind"):
        wanted, before = asked.get(name), held.get(name)
        if wanted in kinds and wanted != before:
            reason, message, wanted = _REASONS[name], f'"{wanted}" is already in use', before
        if wanted:
            accepted[name] = wanted
    accepted.setdefault("plural", "")
    accepted.setdefault("kind", "")
    if asked.get("categories"):
        accepted["categories"] = asked["categories"]
    status["acceptedNames"] = accepted
    status["conditions"] = _conditions(definition, reason, message, now)
    return status


def _conditions(definition: Object, reason: str, message: str, now: str) -> list[Object]:
    conditions = list((definition.get("status") or {}).get("conditions") or ())
    names = {
        "type": "NamesAccepted",
        "status": "False" if reason else "True",
        "reason": reason or "NoConflicts",
        "message": message or "no conflicts found",
    }
    conditions = put(conditions, names, now)
    if not is_true(definition, "Established"):
        established = {
            "type": "Established",
            "status": "False" if reason else "True",
            "reason": "NotAccepted" if reason else "InitialNamesAccepted",
            "message": "not all names are accepted" if reason else "the initial names have been accepted",
        }
        conditions = put(conditions, established, now)
    if protected(definition["spec"]["group"]):
        conditions = put(conditions, _approval(definition), now)
    return conditions


def _approval(definition: Object) -> Object:
    value = (definition["metadata"].get("annotations") or {}).get(_APPROVED, "")
    condition = {"type": "KubernetesAPIApprovalPolicyConformant"}
    if value.startswith("unapproved"):
        text = f'not approved: "{value}"'
        return condition | {"status": "False", "reason": "UnapprovedAnnotation", "message": text}
    return condition | {"status": "True", "reason": "ApprovedAnnotation", "message": f"approved in {value}"}


def _listed(value: Any) -> list[str]:
    return [] if not value else value if isinstance(value, list) else [value]


def _joined(messages: list[str]) -> str:
    return messages[0] if len(messages) == 1 else f"[{', '.join(messages)}]"


# --- the end of a definition ----------------------------------------------------------------------------------------

CLEANUP = "customresourcecleanup.apiextensions.k8s.io"


def marked(definition: Object, now: str) -> None:
    """What a definition's deletion writes into it, in place: its objects go first, and nothing new is created."""
    finalizers = definition["metadata"].setdefault("finalizers", [])
    if CLEANUP not in finalizers:
        finalizers.append(CLEANUP)
    condition = find(definition, "Terminating")
    if condition is None or condition.get("status") != "True":
        text = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon"
        terminating(definition, "InstanceDeletionPending", text, now)


def terminating(definition: Object, reason: str, message: str, now: str, *, status: str = "True") -> None:
    """Set the condition ``Terminating``, in place."""
    place = definition.setdefault("status", {})
    new = {"type": "Terminating", "status": status, "reason": reason, "message": message}
    place["conditions"] = put(list(place.get("conditions") or ()), new, now)
