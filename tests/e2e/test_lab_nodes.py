"""What can happen to a node: it crashes and comes back, it is cut off and healed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def ready(lab: Any, name: str) -> bool:
    return bool(lab.node(name)["kubernetes"] == "Ready")


def test_a_crashed_node_loses_every_process_and_comes_back_ready(
    lab: Any, eventually: Callable[..., Any]
) -> None:
    eventually(lambda: ready(lab, "worker-2"))
    before = lab.node("worker-2")
    lab("node", "crash", "worker-2")
    try:
        assert lab.node("worker-2")["state"] == "stopped"
        for unit in before["units"].values():
            assert not os.path.exists(f"/proc/{unit['pid']}") or unit["pid"] == 0
        eventually(lambda: not Path("/sys/class/net/bami-worker-2").exists())
        again = lab("node", "crash", "worker-2", check=False)
        assert again.returncode == 1
        assert "does not run" in again.stderr
    finally:
        lab("node", "start", "worker-2")
    assert lab.node("worker-2")["state"] == "running"
    eventually(lambda: lab.node("worker-2")["units"]["nodeagent"]["state"] == "running")
    eventually(lambda: ready(lab, "worker-2"), 60, "worker-2 is Ready again")
    assert "already runs" in lab("node", "start", "worker-2").stdout


def test_a_partitioned_node_runs_on_and_heals(lab: Any, eventually: Callable[..., Any]) -> None:
    pid = lab.node("worker-1")["pid"]
    lab("node", "partition", "worker-1")
    try:
        found = lab.node("worker-1")
        assert found["state"] == "partitioned"
        assert found["pid"] == pid
    finally:
        lab("node", "heal", "worker-1")
    eventually(lambda: lab.node("worker-1")["state"] == "running" and ready(lab, "worker-1"), 90)


def test_a_name_that_is_no_node_is_refused(lab: Any) -> None:
    failed = lab("node", "crash", "worker-9", check=False)
    assert failed.returncode == 1
    assert "master, worker-1, worker-2" in failed.stderr
