"""``down`` leaves nothing behind, and the next ``up`` is as good as the first. Sorted last: it ends the shared lab."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Any

from bamikube.lab import cgroups
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
    assert len(kubectl("get", "nodes", "-o", "name").split()) == 3


def test_a_lab_that_was_killed_is_taken_away_by_the_next_up(
    lab: Any, eventually: Any, tmp_path: Path
) -> None:
    """Its folder stays as it is; its links, rules and cgroups do not stand in the way of another lab."""
    elsewhere = type(lab)(tmp_path / "lab")
    cache = ("--cache-dir", str(LabPaths.at(lab.folder).cache))
    refused = elsewhere(*cache, "up", check=False)
    assert refused.returncode == 1
    assert f"bamikube --lab-dir {lab.folder} down" in refused.stderr
    refused = elsewhere(*cache, "down", check=False)
    assert refused.returncode == 1, "nobody takes a running lab's network away"

    for pid in cgroups.processes(Topology().cgroup):
        with contextlib.suppress(ProcessLookupError):  # the first to go take others along
            os.kill(pid, signal.SIGKILL)
    eventually(lambda: not cgroups.processes(Topology().cgroup), 20, "the end of the killed processes")
    said = elsewhere(*cache, "up").stdout
    assert f"the lab at {lab.folder}, which no longer runs: removed" in said
    assert "ready" in said
    assert lab.folder.is_dir(), "another lab's state is not ours to delete"
    elsewhere(*cache, "down")
    assert leftovers(Topology(), LabPaths.at(elsewhere.folder)) == []
