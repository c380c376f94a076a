"""Pods that come, end and go at any moment, while the workers that drive them are replaced: what must hold of each of them.

A pod that is deleted in the middle of its start tells nothing that it takes back, and goes. A pod that is to run once runs once.
Source of the first: "pod-terminate-status" of Kubernetes' e2e suite. More pods: ``HURRY=40``.
"""

from __future__ import annotations

import asyncio
import copy
import os
import random
from pathlib import Path
from typing import Any

from bamikube.nodeagent.pod.worker import PodWorker

JSON = dict[str, Any]
PODS = int(os.environ.get("HURRY", "3"))  # for each of those that go on side by side
SIDE_BY_SIDE = 5
SIDECAR = {
    "name": "side",
    "restartPolicy": "Always",
    "command": ["sh", "-c", "trap 'exit 0' TERM; while true; do sleep 0.1; done"],
}


def seeded() -> random.Random:
    seed = int(os.environ.get("BAMIKUBE_SEED") or random.randrange(10**6))
    print(f"BAMIKUBE_SEED={seed}")
    return random.Random(seed)


def told(node: Any) -> dict[str, list[JSON]]:
    """Every status that is written, by pod."""
    written: dict[str, list[JSON]] = {}
    write = node.api.write_status

    async def remember(pod: JSON, patch: JSON) -> JSON:
        answer: JSON = await write(pod, patch)
        written.setdefault(pod["metadata"]["name"], []).append(copy.deepcopy(answer["status"]))
        return answer

    node.api.write_status = remember
    return written


def faults(statuses: list[JSON]) -> list[str]:
    """What a pod whose container ``fail`` ends with 1, and whose container ``blocked`` never begins, must not have told."""
    found, ended = [], False
    for status in statuses:
        items = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
        for item in items:
            if item["name"] == "blocked" and ("waiting" not in item["state"] or item["started"]):
                found.append(f"what is blocked began: {item}")
        for item in (item for item in items if item["name"] == "fail"):
            end = item["state"].get("terminated")
            if ended and end is None:
                found.append(f"its end was taken back: {item}")
            ended = ended or end is not None
            if end and (end["exitCode"], end["reason"]) not in (
                (1, "Error"), (137, "Error"), (137, "ContainerStatusUnknown"),
            ):  # fmt: skip
                found.append(f"it ended otherwise: {end}")
    if statuses and any("running" in item["state"] for item in statuses[-1].get("containerStatuses") or ()):
        found.append(f"it ran to the last: {statuses[-1]}")
    return found


async def test_pods_that_are_deleted_while_they_start(node: Any, until: Any) -> None:
    chance, statuses = seeded(), told(node)

    def spec() -> JSON:
        fail: JSON = {"name": "fail", "command": ["/bin/false"]}
        if chance.random() < 0.5:
            return {"restartPolicy": "Never", "containers": [fail]}
        blocked = {"name": "blocked", "command": ["/bin/true"]}
        return {"restartPolicy": "Never", "initContainers": [fail], "containers": [blocked]}

    async def one_after_the_other(which: int) -> None:
        for number in range(PODS):
            name = f"hurry-{which}-{number}"
            worker = node.run(node.pod(name, spec()))
            await asyncio.sleep(chance.random() * 0.7)
            node.delete(worker, 1)
            await until(lambda name=name: name in node.api.deleted)
            assert faults(statuses.get(name, [])) == []

    await asyncio.gather(*(one_after_the_other(which) for which in range(SIDE_BY_SIDE)))


async def test_what_runs_once_runs_once_whoever_looks_after_it(node: Any, until: Any, tmp_path: Path) -> None:
    chance = seeded()

    async def one(name: str) -> None:
        folder = tmp_path / name
        folder.mkdir()
        mount = {"volumeMounts": [{"name": "h", "mountPath": "/h"}]}
        codes = {"first": chance.choice([0, 0, 1]), "second": 0}
        containers = [
            {"name": who, "command": ["sh", "-c", f"echo x >> /h/{who}; sleep {chance.choice([0, 0.3])}; exit {code}"]}
            | mount
            for who, code in codes.items()
        ]  # fmt: skip
        volume = {"name": "h", "hostPath": {"path": str(folder), "type": "Directory"}}
        spec: JSON = {"restartPolicy": "Never", "volumes": [volume], "containers": containers}
        spec["initContainers"] = [copy.deepcopy(SIDECAR)] if chance.random() < 0.5 else []
        worker: PodWorker = node.run(node.pod(name, spec))
        for _ in range(chance.randrange(3)):
            await asyncio.sleep(chance.random() * 0.5)
            await worker.close()
            status = copy.deepcopy(node.api.statuses.get(worker.uid, {"phase": "Pending"}))
            worker = node.run(worker.pod | {"status": status})
        await until(lambda: node.api.statuses.get(worker.uid, {}).get("phase") in ("Succeeded", "Failed"))
        assert node.api.statuses[worker.uid]["phase"] == ("Failed" if any(codes.values()) else "Succeeded")
        assert {path.name: path.read_text() for path in folder.iterdir()} == dict.fromkeys(codes, "x\n")
        node.delete(worker, 1)
        await until(lambda: name in node.api.deleted)

    async def one_after_the_other(which: int) -> None:
        for number in range(max(1, PODS // 2)):
            await one(f"once-{which}-{number}")

    await asyncio.gather(*(one_after_the_other(which) for which in range(SIDE_BY_SIDE)))
