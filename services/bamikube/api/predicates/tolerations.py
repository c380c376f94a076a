"""Taints and tolerations: who may stay where, and for how long.

Source: "Taints and Tolerations" in the Kubernetes documentation. The scheduler, the node lifecycle controller, daemon
sets and the node agent's admission all ask these questions.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Taint = dict[str, Any]
Toleration = dict[str, Any]


def tolerates(toleration: Toleration, taint: Taint) -> bool:
    """Whether one toleration covers one taint. An empty key with Exists covers all; an empty effect, all effects."""
    effect = toleration.get("effect")
    if effect and effect != taint.get("effect"):
        return False
    key = toleration.get("key")
    if key and key != taint.get("key"):
        return False
    operator = toleration.get("operator") or "Equal"
    if operator == "Exists":
        return True
    return bool(key) and (toleration.get("value") or "") == (taint.get("value") or "")


def untolerated(
    taints: Iterable[Taint], tolerations: Iterable[Toleration], effects: tuple[str, ...]
) -> Taint | None:
    """The first taint with one of ``effects`` that nothing tolerates."""
    held = list(tolerations)
    for taint in taints:
        if taint.get("effect") in effects and not any(tolerates(toleration, taint) for toleration in held):
            return taint
    return None


def stay_seconds(taints: Iterable[Taint], tolerations: Iterable[Toleration]) -> float | None:
    """How long a pod may stay with these NoExecute taints: None for ever, 0 not at all, else seconds.

    The shortest ``tolerationSeconds`` among the tolerations used counts.
    """
    held = list(tolerations)
    shortest: float | None = None
    for taint in taints:
        if taint.get("effect") != "NoExecute":
            continue
        covering = [toleration for toleration in held if tolerates(toleration, taint)]
        if not covering:
            return 0.0
        for toleration in covering:
            limit = toleration.get("tolerationSeconds")
            if limit is not None:
                shortest = (
                    max(0.0, float(limit)) if shortest is None else min(shortest, max(0.0, float(limit)))
                )
    return shortest


def covers(wide: Toleration, narrow: Toleration) -> bool:
    """Whether ``wide`` tolerates everything that ``narrow`` does, for as long."""
    if wide == narrow:
        return True
    everything = not wide.get("key") and wide.get("operator") == "Exists"
    if (wide.get("key") or "") != (narrow.get("key") or "") and not everything:
        return False
    if wide.get("effect") and wide["effect"] != (narrow.get("effect") or ""):
        return False
    if wide.get("effect") == "NoExecute" and (most := wide.get("tolerationSeconds")) is not None:
        asked = narrow.get("tolerationSeconds")
        if asked is None or asked > most:
            return False
    if wide.get("operator") == "Exists":
        return True
    equal = (narrow.get("operator") or "Equal") == "Equal"
    return equal and (narrow.get("value") or "") == (wide.get("value") or "")


def merged(first: Iterable[Toleration], second: Iterable[Toleration]) -> list[Toleration]:
    """Both lists as one, without those that another one covers; of equal ones the first is kept."""
    both = [*first, *second]
    kept: list[Toleration] = []
    for at, one in enumerate(both):
        if any(covers(other, one) for other in kept):
            continue
        if any(other != one and covers(other, one) for other in both[at + 1 :]):
            continue
        kept.append(one)
    return kept
