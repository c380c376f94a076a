"""Scheduling decisions a second, in this process alone: plan, then take the node. Run: ``python bench/scheduler.py``.

Pods are parsed beforehand (the informer does that when they arrive); one figure is the median of the runs.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "services"))

from bamikube.kit.chance import Chance
from bamikube.scheduler.columns import Columns
from bamikube.scheduler.model import HOSTNAME, ZONE, node_info, pod_info
from bamikube.scheduler.plan import plan
from bamikube.scheduler.static import StaticAnswers

RUNS = 3
PODS = 1000
WEB = {"matchLabels": {"app": "web"}}
ANTI = {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": HOSTNAME, "labelSelector": WEB}]}
NEAR = {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": ZONE, "labelSelector": WEB}]}
SPREAD = {"topologyKey": ZONE, "maxSkew": 5, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": WEB}
KINDS: dict[str, dict[str, Any]] = {
    "basic": {},
    "node selector": {"nodeSelector": {ZONE: "zone-1"}},
    "zone spread": {"topologySpreadConstraints": [SPREAD]},
    "zone affinity": {"affinity": {"podAffinity": NEAR}},
    "host anti-affinity": {"affinity": {"podAntiAffinity": ANTI}},
}


def node(number: int) -> dict[str, Any]:
    labels = {HOSTNAME: f"node-{number}", ZONE: f"zone-{number % 3}"}
    status = {"allocatable": {"cpu": "32", "memory": "64Gi", "pods": "110"}}
    return {"metadata": {"name": f"node-{number}", "labels": labels}, "spec": {}, "status": status}


def pod(number: int, spec: dict[str, Any]) -> dict[str, Any]:
    container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}}}
    owner = {"kind": "ReplicaSet", "name": "web", "uid": "web", "controller": True}
    meta = {"name": f"web-{number}", "namespace": "default", "uid": str(number), "labels": {"app": "web"}}
    meta["ownerReferences"] = [owner]
    return {"metadata": meta, "spec": {"containers": [container]} | spec}


def once(nodes: int, spec: dict[str, Any]) -> float:
    """Decisions a second."""
    columns, answers, chance = Columns(), StaticAnswers(), Chance(1)
    for number in range(nodes):
        columns.put_node(node_info(node(number)))
    waiting = [info for number in range(PODS) if (info := pod_info(pod(number, spec)))]
    started = time.perf_counter()
    for info in waiting:
        decision = plan(info, columns, answers, chance)
        if decision.node:
            columns.place(info.on(decision.node))
    return len(waiting) / (time.perf_counter() - started)


def main() -> None:
    for nodes in (100, 1000, 5000):
        for kind, spec in KINDS.items():
            figure = statistics.median(once(nodes, spec) for _ in range(RUNS))
            print(f"{nodes:5} nodes  {kind:20} {figure:8.0f} decisions/s", flush=True)


if __name__ == "__main__":
    main()
