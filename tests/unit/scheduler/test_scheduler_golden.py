"""Decisions against golden pairs: ``NAME.input.yaml`` (nodes, pods, pod) and ``NAME.output.yaml`` (node, message)."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from bamikube.kit.chance import Chance
from bamikube.scheduler.columns import Columns
from bamikube.scheduler.model import node_info, pod_info
from bamikube.scheduler.plan import plan
from bamikube.scheduler.plugins.default_preemption import preempt
from bamikube.scheduler.static import StaticAnswers

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "scheduler"


@pytest.mark.parametrize(
    "case", sorted(path.name[: -len(".input.yaml")] for path in GOLDEN.glob("*.input.yaml"))
)
def test_scheduler_golden(case: str) -> None:
    given = yaml.safe_load((GOLDEN / f"{case}.input.yaml").read_text())
    columns, answers = Columns(size=1), StaticAnswers()
    for node in given["nodes"]:
        columns.put_node(node_info(node))
    for placed in given.get("pods") or []:
        info = pod_info(placed)
        assert info is not None
        columns.place(info)
    pod = pod_info(given["pod"])
    assert pod is not None
    decision = plan(pod, columns, answers, Chance(1))
    found: dict[str, object] = {"node": decision.node}
    if not decision.node:
        outcome = preempt(pod, columns, answers.of(pod, columns), decision, [])
        found |= {
            "message": decision.message(outcome.message),
            "preempts": outcome.node,
            "victims": [victim.name for victim in outcome.victims],
        }
    assert found == yaml.safe_load((GOLDEN / f"{case}.output.yaml").read_text())
