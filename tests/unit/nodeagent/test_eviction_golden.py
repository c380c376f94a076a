"""Every file tests/golden/eviction/<case>.input.yaml has an .output.yaml: what is decided at each look at the node.

``BAMIKUBE_GOLDEN=write`` writes the outputs anew; read the difference before committing it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from bamikube.nodeagent.eviction import thresholds, words
from bamikube.nodeagent.eviction.decide import Book, Observation, decide
from bamikube.nodeagent.eviction.local import above_limit
from bamikube.nodeagent.eviction.rank import ranked
from bamikube.nodeagent.eviction.usage import ContainerUse, PodUse
from bamikube.nodeagent.quantity import number
from bamikube.nodeagent.stats.disks import Taken

FOLDER = Path(__file__).parents[2] / "golden" / "eviction"
CASES = sorted(path.name.removesuffix(".input.yaml") for path in FOLDER.glob("*.input.yaml"))


def _taken(text: Any) -> Taken:
    amount, inodes = text if isinstance(text, list) else (text, 1)
    return Taken(int(number(amount)), inodes)


def _pod(name: str, item: dict[str, Any]) -> dict[str, Any]:
    containers = [
        {"name": c, "resources": {k: v for k, v in spec.items() if k in ("requests", "limits")}}
        for c, spec in item.get("containers", {}).items()
    ]
    spec = {"containers": containers, "volumes": item.get("volumes", [])}
    if "priority" in item:
        spec["priority"] = item["priority"]
    return {"metadata": {"name": name, "namespace": "default", "uid": name}, "spec": spec}


def _use(item: dict[str, Any]) -> PodUse | None:
    if item.get("unknown"):
        return None
    containers = {
        name: ContainerUse(
            int(number(c.get("memory", 0))), _taken(c.get("layer", [0, 0])), _taken(c.get("logs", [0, 0]))
        )
        for name, c in item.get("containers", {}).items()
    }
    whole = sum(c.memory for c in containers.values())
    volumes = {name: _taken(text) for name, text in item.get("taken", {}).items()}
    return PodUse(whole, item.get("processes", 1), containers, volumes)


def made(case: dict[str, Any]) -> list[dict[str, Any]]:
    flags = case.get("flags", {})
    found = thresholds.parse(
        thresholds.langle(flags.get("hard", {})),
        thresholds.langle(flags.get("soft", {})),
        flags.get("grace", {}),
        flags.get("reclaim", {}),
    )
    pods = {name: _pod(name, item) for name, item in case.get("pods", {}).items()}
    uses = {name: use for name, item in case.get("pods", {}).items() if (use := _use(item)) is not None}
    dedicated, book, result = case.get("dedicated", False), Book(), []
    for look in case["looks"]:
        observed = {
            signal: Observation(
                int(number(left)), int(number(most)), look["at"], "inodes" in signal or "pid" in signal
            )
            for signal, (left, most) in look["left"].items()
        }
        verdict = decide(found, observed, book, look["at"], case.get("transition", 300))
        book = verdict.book
        entry: dict[str, Any] = {"at": look["at"], "conditions": list(verdict.conditions)}
        if verdict.due:
            first = verdict.due[0]
            resource = first.about.resource
            order = ranked(pods.values(), uses, first.signal, resource, dedicated)
            entry["due"] = [t.signal for t in verdict.due]
            if order:
                entry["order"] = [pod["metadata"]["name"] for pod in order]
                use = uses.get(order[0]["metadata"]["name"])
                entry["message"] = words.starved(order[0], use, resource, verdict.due, observed)
        result.append(entry)
    limits = {name: above_limit(pod, uses[name], dedicated) for name, pod in pods.items() if name in uses}
    if above := {name: list(found) for name, found in limits.items() if found is not None}:
        result.append({"above limits": above})
    return result


@pytest.mark.parametrize("name", CASES)
def test_decisions_match_their_golden_file(name: str) -> None:
    case = yaml.safe_load((FOLDER / f"{name}.input.yaml").read_text())
    found = made(case)
    output = FOLDER / f"{name}.output.yaml"
    if os.environ.get("BAMIKUBE_GOLDEN") == "write":
        output.write_text(yaml.safe_dump(found, sort_keys=False, width=110))
    assert found == yaml.safe_load(output.read_text())
    assert made(case) == found, "deciding has changed its input"
