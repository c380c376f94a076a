"""A node whose parts fail under running pods: containers stay the processes they were, and Ready does not flap.

The node agent begins anew with nothing but containerd and what the API last held; containerd is killed, or stands still;
the disk of the volumes is full. What was to start meanwhile starts when the fault is over.
"""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bamikube.nodeagent.runtime.port import RuntimeFailure
from tests.integration.nodeagent.conftest import Node

JSON = dict[str, Any]
SLEEPS: JSON = {"name": "app", "command": ["sleep", "1000"]}
PROBED = SLEEPS | {"readinessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 1}}
SIDECAR = SLEEPS | {"name": "side", "restartPolicy": "Always"}
CRASHED: JSON = {
    "name": "app",
    "command": ["sh", "-c", "test -e /v/once && exec sleep 1000; touch /v/once; exit 3"],
    "volumeMounts": [{"name": "v", "mountPath": "/v"}],
}
SPECS: dict[str, JSON] = {
    "probed": {"containers": [PROBED], "initContainers": [SIDECAR]},
    "crashed": {"containers": [CRASHED], "volumes": [{"name": "v", "emptyDir": {}}]},
}


def ready(status: JSON) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or ())


def shown(status: JSON) -> list[tuple[str, str, int, bool]]:
    """What a user sees of each container, and what no restart of the node's services may change."""
    every = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    return [(c["name"], c["containerID"], c["restartCount"], c["ready"]) for c in every]


async def pids(node: Node) -> set[str]:
    """Tasks as containerd lists them: id and process."""
    socket = node.endpoint.removeprefix("unix://")
    words = ["ctr", "--address", socket, "--namespace", "k8s.io", "tasks", "list"]
    process = await asyncio.create_subprocess_exec(*words, stdout=subprocess.PIPE)
    out, _ = await process.communicate()
    return {line for line in out.decode().splitlines() if "RUNNING" in line}


async def begin(node: Node, until: Any) -> list[JSON]:
    """The pods of SPECS, all ready; the second after a crash."""
    pods = [node.pod(name, spec) for name, spec in SPECS.items()]
    workers = [node.run(pod) for pod in pods]
    await until(lambda: all(ready(node.api.statuses.get(w.uid, {})) for w in workers))
    return pods


def watch_ready(node: Node, uids: set[str]) -> list[JSON]:
    """From now on, every condition that says that one of these pods is not ready."""
    write, said = node.api.write_status, []

    async def written(pod: JSON, patch: JSON) -> JSON:
        if pod["metadata"]["uid"] in uids:
            said.extend(
                c for c in patch.get("conditions") or () if "Ready" in c["type"] and c["status"] != "True"
            )
        return await write(pod, patch)

    node.api.write_status = written  # type: ignore[method-assign]
    return said


async def test_nothing_notices_that_the_services_of_a_node_die(
    node: Node, containerd: Any, until: Any, tmp_path: Path
) -> None:
    pods = await begin(node, until)
    uids = [pod["metadata"]["uid"] for pod in pods]
    before, processes = {u: shown(node.api.statuses[u]) for u in uids}, await pids(node)
    assert before[uids[1]][0][2] == 1  # restarts
    lost = watch_ready(node, set(uids))

    for _ in range(2):  # the node agent: other workers, which know only what the API holds
        old, node.workers = list(node.workers.values()), {}
        await asyncio.gather(*(worker.close() for worker in old))
        workers = [node.run(pod | {"status": node.api.statuses[pod["metadata"]["uid"]]}) for pod in pods]
        await until(lambda found=workers: all(w.state.running() and w.verdict for w in found))
        await asyncio.sleep(1.2)  # a period of the probe
        assert {u: shown(node.workers[u].status) for u in uids} == before

    containerd.kill()
    with pytest.raises(RuntimeFailure):
        await node.runtime.version()
    for worker in node.workers.values():
        worker.wake()
    await asyncio.sleep(0.5)
    containerd.start()
    late = node.run(node.pod("late", {"containers": [dict(SLEEPS)]}))
    await until(lambda: ready(node.api.statuses.get(late.uid, {})))
    assert {u: shown(node.workers[u].status) for u in uids} == before
    assert processes <= await pids(node)
    assert lost == []


async def test_a_runtime_that_stands_still_holds_up_nobody_for_good(
    node: Node, containerd: Any, until: Any
) -> None:
    first = node.run(node.pod("first", {"containers": [dict(PROBED)]}))
    await until(lambda: ready(node.api.statuses.get(first.uid, {})))
    before, lost = shown(first.status), watch_ready(node, {first.uid})
    containerd.pause()
    try:
        late = node.run(node.pod("late", {"containers": [dict(SLEEPS)]}))
        await asyncio.sleep(1.5)
        assert not late.state.running()
    finally:
        containerd.resume()
    await until(lambda: ready(node.api.statuses.get(late.uid, {})))
    await until(lambda: ready(node.api.statuses.get(first.uid, {})))
    assert shown(first.status) == before and lost == []


async def test_a_full_disk_is_told_and_got_over(node: Node, until: Any) -> None:
    root = node.root
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", root], check=True)
    try:
        (root / "pods").mkdir()
        filler = root / "filler"
        with pytest.raises(OSError, match="No space left"), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        node.api.objects["ConfigMap", "words"] = {"data": {"word": "hello" * 1000}}
        volume = {"name": "v", "configMap": {"name": "words"}}
        mounts = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
        worker = node.run(node.pod("thirsty", {"containers": [SLEEPS | mounts], "volumes": [volume]}))
        await until(lambda: node.api.said("FailedMount"))
        said = node.api.said("FailedMount")
        assert (
            said[0].startswith('MountVolume.SetUp failed for volume "v" : ')
            and "no space left on device" in said[0]
        )
        filler.unlink()
        await until(lambda: ready(node.api.statuses.get(worker.uid, {})))
        node.delete(worker)
        await until(lambda: worker.uid not in node.workers)
        assert list((root / "pods").iterdir()) == []
    finally:
        subprocess.run(["umount", "-l", root], check=True)
