"""Pods of a RuntimeClass on real containerd: its handler runs them, and what stands in the way is said as Kubernetes says it."""

from __future__ import annotations

from typing import Any

APP = {"name": "app", "command": ["sleep", "1000"]}
RESOURCE = "runtimeclasses.node.k8s.io"


async def test_the_handler_of_the_class_runs_the_pod(node: Any, until: Any, containerd: Any) -> None:
    node.api.objects[RESOURCE, "own"] = {"metadata": {"name": "own"}, "handler": "second"}
    spec = {"runtimeClassName": "own", "containers": [APP], "overhead": {"cpu": "10m", "memory": "16Mi"}}
    worker = node.run(node.pod("classed", spec))
    await until(lambda: worker.status.get("phase") == "Running")
    kept = {path.name for path in (containerd.base / "second" / "k8s.io").iterdir()}
    assert {sandbox.id for sandbox in worker.state.sandboxes} | {c.id for c in worker.state.running()} <= kept


async def test_a_handler_that_the_runtime_does_not_know(node: Any, until: Any) -> None:
    node.api.objects[RESOURCE, "other"] = {"metadata": {"name": "other"}, "handler": "kata"}
    worker = node.run(node.pod("unknown", {"runtimeClassName": "other", "containers": [APP]}))
    await until(lambda: node.api.said("FailedCreatePodSandBox"))
    said = node.api.said("FailedCreatePodSandBox")[0]
    assert said.startswith("Failed to create pod sandbox: rpc error: code = Unknown desc = ")
    assert 'no runtime for "kata" is configured' in said
    assert worker.status["phase"] == "Pending"


async def test_a_class_that_is_gone_may_come_back(node: Any, until: Any) -> None:
    worker = node.run(node.pod("early", {"runtimeClassName": "late", "containers": [APP]}))
    await until(lambda: node.api.said("FailedCreatePodSandBox"))
    assert node.api.said("FailedCreatePodSandBox")[0] == (
        'Failed to create pod sandbox: runtimeclass.node.k8s.io "late" not found'
    )
    node.api.objects[RESOURCE, "late"] = {"metadata": {"name": "late"}, "handler": "second"}
    await until(lambda: worker.status.get("phase") == "Running")
