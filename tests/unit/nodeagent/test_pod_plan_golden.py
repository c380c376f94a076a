"""Every file tests/golden/nodeagent/<case>.input.yaml has an .output.yaml: what plan() makes of it.

``BAMIKUBE_GOLDEN=write`` writes the outputs anew; read the difference before committing it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from bamikube.kit.clock import parse_rfc3339, rfc3339
from bamikube.nodeagent import labels
from bamikube.nodeagent.pod.plan import plan
from bamikube.nodeagent.pod.state import (
    Backoff,
    Memory,
    PendingResize,
    ProbeState,
    Rejection,
    ResizeUnderWay,
    RuntimeState,
    Trouble,
)
from bamikube.nodeagent.pod.status import HostFacts
from bamikube.nodeagent.runtime.port import Container, Sandbox, User

FOLDER = Path(__file__).parents[2] / "golden" / "nodeagent"
CASES = sorted(path.name.removesuffix(".input.yaml") for path in FOLDER.glob("*.input.yaml"))
NOW = parse_rfc3339("2026-01-01T12:00:00Z")


def _time(seconds_ago: float | None) -> float:
    return 0.0 if seconds_ago is None else NOW - seconds_ago


def _sandbox(item: dict[str, Any]) -> Sandbox:
    attempt = item.get("attempt", 0)
    return Sandbox(
        f"sandbox-{attempt}", "web", "default", "uid-1", attempt, item.get("ready", True), _time(item.get("age", 60)),
        ips=tuple(item.get("ips", ["10.244.1.5"])),
    )  # fmt: skip


def _container(item: dict[str, Any]) -> Container:
    attempt = item.get("attempt", 0)
    ended = item["state"] in ("exited", "unknown")
    return Container(
        id=f"{item['name']}-{attempt}",
        sandbox_id=f"sandbox-{item.get('sandbox', 0)}",
        name=item["name"],
        attempt=attempt,
        state=item["state"],
        created_at=_time(item.get("age", 30)),
        image="busybox:1",
        image_ref="sha256:abc",
        started_at=0.0 if item["state"] == "created" or item.get("unborn") else _time(item.get("age", 30)),
        finished_at=_time(item.get("ended", 5)) if ended else 0.0,
        exit_code=item.get("exit", 0),
        reason=item.get("reason", ""),
        message=item.get("message", ""),
        annotations={labels.CONTAINER_HASH: item["hash"]} if "hash" in item else {},
        user=User(item["user"][0], item["user"][1], tuple(item["user"][2:])) if "user" in item else None,
    )


def _later(item: list[Any]) -> float:
    return NOW + item[2] if len(item) > 2 else 0.0


def _memory(item: dict[str, Any]) -> Memory:
    def trouble(value: dict[str, Any]) -> Trouble:
        times = {k: NOW + v for k, v in value.items() if k in ("until", "settles")}
        return Trouble(**(value | times))

    return Memory(
        volumes_ready=item.get("volumes_ready", True),
        starting=item.get("starting", False),
        blocked=trouble(item["blocked"]) if "blocked" in item else None,
        troubles={k: trouble(v) for k, v in item.get("troubles", {}).items()},
        backoffs={k: Backoff(v["period"], _time(v["ago"])) for k, v in item.get("backoffs", {}).items()},
        probes={k: ProbeState(**v) for k, v in item.get("probes", {}).items()},
        hooking=set(item.get("hooking", [])),
        stopping=set(item.get("stopping", [])),
        messages=item.get("messages", {}),
        rejected=Rejection(*item["rejected"]) if "rejected" in item else None,
        given=item.get("given", {}),
        resize=PendingResize(*item["resize"]) if "resize" in item else None,
        resizing=ResizeUnderWay(*item["resizing"][:2], _later(item["resizing"]))
        if "resizing" in item
        else None,
        renewed=set(item.get("renewed", [])),
        keep_dead=item.get("keep_dead", True),
        cleaned=item.get("cleaned", False),
    )


def decide(case: dict[str, Any]) -> dict[str, Any]:
    meta = {"name": "web", "namespace": "default", "uid": "uid-1", "generation": 1} | case.get("metadata", {})
    pod = {"metadata": meta, "spec": case["spec"], "status": case.get("status", {})}
    state = RuntimeState(
        tuple(_sandbox(s) for s in case.get("sandboxes", [])),
        tuple(_container(c) for c in case.get("containers", [])),
    )
    memory = _memory(case.get("memory", {}))
    # Which is not ready was stopped by the node agent, but for one that has died by itself.
    memory.emptied = {
        _sandbox(s).id for s in case.get("sandboxes", []) if not s.get("ready", True) and not s.get("died")
    }
    made = plan(pod, state, memory, NOW, HostFacts(("10.99.0.11",)))
    actions = []
    for action in made.actions:
        fields = ("kind", "name", "id", "attempt", "grace", "reason", "message")
        shown = {f: getattr(action, f) for f in fields if getattr(action, f)}
        if action.backoff is not None:
            shown["backoff"] = action.backoff.period
        if action.again:
            shown["again"] = True
        if action.after:
            shown["after"] = list(action.after)
        actions.append(shown)
    return {
        "verdict": made.verdict,
        "actions": actions,
        "wake": None if made.wake_at is None else rfc3339(made.wake_at),
        "status": made.status,
    }


@pytest.mark.parametrize("name", CASES)
def test_plan_matches_its_golden_file(name: str) -> None:
    case = yaml.safe_load((FOLDER / f"{name}.input.yaml").read_text())
    made = decide(case)
    output = FOLDER / f"{name}.output.yaml"
    if os.environ.get("BAMIKUBE_GOLDEN") == "write":
        output.write_text(yaml.safe_dump(made, sort_keys=False, width=110))
    assert made == yaml.safe_load(output.read_text())


def test_plan_is_pure() -> None:
    """The same case decided twice gives the same plan, and the input stays as it was."""
    for name in CASES:
        text = (FOLDER / f"{name}.input.yaml").read_text()
        case = yaml.safe_load(text)
        assert decide(case) == decide(case)
        assert case == yaml.safe_load(text)
