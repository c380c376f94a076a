"""Static pods on a node of the lab: a manifest in its folder runs, and kubectl sees and reads it by its mirror."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

NODE = "worker-1"
MIRROR = f"t-static-{NODE}"
MANIFEST = """
apiVersion: v1
kind: Pod
metadata: {name: t-static, labels: {said: %s}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: app
    image: busybox:1.36
    command: [sh, -c, "echo %s; trap 'exit 0' TERM; while true; do sleep 0.2; done"]
"""


@pytest.fixture
def manifest(bamikube: Any, kubectl: Any, eventually: Callable[..., Any]) -> Iterator[Path]:
    """A file in the folder of the node's manifests, as the node sees it."""
    folder = Path(f"/proc/{bamikube.unit_pid(NODE, 'nodeagent')}/root/etc/kubernetes/manifests")
    folder.mkdir(exist_ok=True)
    path = folder / "t-static.yaml"
    yield path
    path.unlink(missing_ok=True)
    eventually(lambda: kubectl.run("get", "pod", MIRROR).returncode != 0, 30, "the mirror to go")


def test_a_manifest_runs_and_is_mirrored(
    kubectl: Any, manifest: Path, eventually: Callable[..., Any]
) -> None:
    def shown(phase: str, said: str, other_than: str = "") -> dict[str, Any] | None:
        if kubectl.run("get", "pod", MIRROR).returncode:
            return None
        found = dict(kubectl.json("get", "pod", MIRROR))
        fits = (found["status"].get("phase"), found["metadata"]["labels"]["said"]) == (phase, said)
        return found if fits and found["metadata"]["uid"] != other_than else None

    manifest.write_text(MANIFEST % ("hello", "hello"))
    first = eventually(lambda: shown("Running", "hello"), 40, "the static pod to run")
    meta = first["metadata"]
    assert meta["ownerReferences"][0]["kind"] == "Node" and first["spec"]["nodeName"] == NODE
    assert meta["annotations"]["kubernetes.io/config.source"] == "file"
    eventually(lambda: kubectl("logs", MIRROR) == "hello\n", 10, "its log")
    assert kubectl("exec", MIRROR, "--", "hostname") == f"{MIRROR}\n"
    container = first["status"]["containerStatuses"][0]["containerID"]

    kubectl("delete", "pod", MIRROR, "--wait=false")
    again = eventually(lambda: shown("Running", "hello", meta["uid"]), 30, "the mirror to come back")
    assert again["status"]["containerStatuses"][0]["containerID"] == container, "the pod itself went on"

    manifest.write_text(MANIFEST % ("bye", "bye"))
    eventually(lambda: shown("Running", "bye"), 40, "the pod of the changed manifest")
    eventually(lambda: kubectl("logs", MIRROR) == "bye\n", 10, "its log")
