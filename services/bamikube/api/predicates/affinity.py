"""Node selectors and node affinity: which nodes a pod accepts, and which it would rather have.

Source: "Assigning Pods to Nodes" in the Kubernetes documentation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bamikube.api.selectors import SelectorError, from_node_requirements

Labels = Mapping[str, str]
Test = Callable[[Labels, str], bool]


def term(wanted: Mapping[str, Any]) -> Test:
    """One node selector term as a test of a node's labels and name. An empty or unreadable term matches no node."""
    expressions, fields = wanted.get("matchExpressions") or [], wanted.get("matchFields") or []
    if not expressions and not fields:
        return lambda labels, name: False
    try:
        by_label, by_field = from_node_requirements(expressions), from_node_requirements(fields)
    except SelectorError:
        return lambda labels, name: False
    return lambda labels, name: by_label.matches(labels) and by_field.matches({"metadata.name": name})


def required(spec: Mapping[str, Any]) -> Test:
    """``nodeSelector`` and required node affinity together: every label of the first, any term of the second."""
    labels_wanted = dict(spec.get("nodeSelector") or {})
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    selector = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    terms = None if selector is None else [term(t) for t in selector.get("nodeSelectorTerms") or []]

    def test(labels: Labels, name: str) -> bool:
        if any(labels.get(key) != value for key, value in labels_wanted.items()):
            return False
        return terms is None or any(t(labels, name) for t in terms)

    return test


def preferred(spec: Mapping[str, Any]) -> list[tuple[int, Test]]:
    """The preferred terms with their weights (1-100)."""
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    return [
        (int(item.get("weight") or 0), term(item.get("preference") or {}))
        for item in affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or []
        if item.get("weight")
    ]
