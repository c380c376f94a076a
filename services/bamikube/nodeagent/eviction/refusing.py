"""Which pods a node under pressure does not take in. Pure."""

from __future__ import annotations

from collections.abc import Collection

from bamikube.api.predicates.tolerations import tolerates
from bamikube.api.qos import qos_class
from bamikube.nodeagent.eviction import words
from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.pod.facts import JSON

_MEMORY_TAINT = {"key": "node.kubernetes.io/memory-pressure", "effect": "NoSchedule"}


def refusal(pod: JSON, conditions: Collection[str]) -> tuple[str, str] | None:
    """Reason and message, or None. Short of memory alone, a node still takes pods that say how much they need."""
    if not conditions or facts.critical(pod):
        return None
    if set(conditions) == {"MemoryPressure"} and (
        qos_class(pod["spec"]) != "BestEffort"
        or any(tolerates(t, _MEMORY_TAINT) for t in pod["spec"].get("tolerations") or ())
    ):
        return None
    return words.REASON, words.refused(conditions)
