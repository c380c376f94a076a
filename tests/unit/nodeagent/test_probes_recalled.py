"""A node agent that starts anew believes what the API remembers of its containers' probes."""

from __future__ import annotations

from typing import Any

from bamikube.nodeagent.pod.state import ProbeState
from bamikube.nodeagent.probing.prober import recalled

STATUS: dict[str, Any] = {
    "containerStatuses": [
        {"name": "up", "containerID": "containerd://a", "started": True, "ready": True},
        {"name": "slow", "containerID": "containerd://b", "started": False, "ready": False},
        {"name": "waiting", "started": False, "ready": False},
    ],
    "initContainerStatuses": [
        {"name": "side", "containerID": "containerd://c", "started": True, "ready": False}
    ],
}


def test_what_was_found_out_is_known_again() -> None:
    assert recalled(STATUS, "a") == ProbeState(started=True, ready=True)
    assert recalled(STATUS, "c") == ProbeState(started=True)


def test_no_is_no_verdict_yet_and_strangers_have_none() -> None:
    for container in ("b", "d", ""):
        assert recalled(STATUS, container) == ProbeState()
    assert recalled({}, "a") == ProbeState()
