"""Ephemeral containers on real containerd: they join a running pod, see a container's processes, and end once."""

from __future__ import annotations

from typing import Any

JSON = dict[str, Any]


def entry(worker: Any, name: str) -> JSON:
    items = worker.status.get("ephemeralContainerStatuses") or []
    return next((item for item in items if item["name"] == name), {"state": {}})


def add(worker: Any, *containers: JSON) -> None:
    """As the subresource ephemeralcontainers changes the pod."""
    for container in containers:
        container.setdefault("image", "bamikube.test/busybox:1")
    spec = worker.pod["spec"]
    more = [*(spec.get("ephemeralContainers") or ()), *containers]
    worker.update(worker.pod | {"spec": spec | {"ephemeralContainers": more}})


async def test_a_debug_container_sees_its_target_and_ends_once(node: Any, until: Any) -> None:
    worker = node.run(node.pod("web", {"containers": [{"name": "app", "command": ["sleep", "4321"]}]}))
    await until(lambda: worker.state.running())
    add(
        worker,
        {"name": "sees", "targetContainerName": "app", "command": ["sleep", "1000"]},
        {"name": "alone", "command": ["sh", "-c", "exit 3"]},
        {"name": "mighty", "command": ["sleep", "1000"], "securityContext": {"privileged": True}},
    )
    await until(lambda: "running" in entry(worker, "mighty")["state"])  # kubectl debug --profile=sysadmin
    able = await node.runtime.exec_sync(
        worker.state.latest("mighty").id, ["ls", "/dev/mem", "/dev/kmsg"], 5.0
    )
    assert b"/dev/kmsg" in able.stdout
    await until(lambda: "running" in entry(worker, "sees")["state"])
    seen = await node.runtime.exec_sync(worker.state.latest("sees").id, ["ps"], 5.0)
    assert b"sleep 4321" in seen.stdout
    await until(lambda: "terminated" in entry(worker, "alone")["state"])
    assert entry(worker, "alone")["state"]["terminated"]["exitCode"] == 3
    assert worker.status["phase"] == "Running" and worker.status["containerStatuses"][0]["ready"]
    add(worker, {"name": "lost", "targetContainerName": "none", "command": ["sleep", "1000"]})
    await until(lambda: "waiting" in entry(worker, "lost")["state"] and node.api.said("Failed"))
    assert node.api.said("Failed") == ["Error: unable to find target container none"]
    assert len(worker.state.history("alone")) == 1
    node.delete(worker)
    await until(lambda: not node.workers)
    assert await node.runtime.list_containers(worker.uid) == []
