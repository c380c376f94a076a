"""``down`` leaves nothing behind, and the next ``up`` is as good as the first. Sorted last: it ends the shared lab."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bamikube.lab.topology import LabPaths, Topology
from bamikube.lab.verbs import leftovers


def test_down_leaves_nothing_and_up_works_again(lab: Any, kubectl: Any) -> None:
    paths = LabPaths.at(lab.folder)
    assert leftovers(Topology(), paths), "a running lab is seen"
    assert "gone" in lab("down").stdout
    assert leftovers(Topology(), paths) == []
    assert not Path("/run/bamikube").exists()
    assert "No lab" in lab("down").stdout, "down twice is fine"
    assert lab("status", check=False).returncode == 1
    assert "ready" in lab("up").stdout
    assert len(kubectl("get", "nodes", "-o", "name").stdout.split()) == 3
