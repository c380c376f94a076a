"""What the node agent adds to its runtime. Run: ``python bench/node.py`` (root, containerd installed; no lab needed).

A containerd of its own in a network namespace, workers on it, and an API that only records; the image is present.

* One pod at a time, from its first sight to its status Running: how much of that is CRI calls, and how much is ours.
* ``--crowd`` pods at once, next to the same sandboxes and containers made by bare CRI calls, as many at a time.
* A container's process killed: until the status that says so is handed to the API.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import sys
import tempfile
import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "services"), str(HERE.parent)]

import report  # noqa: E402

from tests.integration.nodeagent.conftest import Node, remove_groups  # noqa: E402
from tests.support.private_containerd import PrivateContainerd, images, network_namespace  # noqa: E402

CALLS = ("run_sandbox", "create_container", "start_container", "sandbox_status", "image")
SLEEPS = {"name": "app", "command": ["sleep", "1000"]}


def ready(node: Node, uid: str) -> bool:
    conditions = node.api.statuses.get(uid, {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


async def until(condition: Any) -> None:
    async with asyncio.timeout(120):
        while not condition():  # noqa: ASYNC110 - a millisecond is what is measured
            await asyncio.sleep(0.001)


async def listen(node: Node) -> None:
    """Pass each end on to the worker that knows the container, as the agent does."""
    async for event in node.runtime.events():
        if event.kind == "exited":
            for worker in list(node.workers.values()):
                if any(c.id == event.id for c in worker.state.containers):
                    worker.exited(event.id)


def timed(node: Node) -> list[float]:
    """From now on, the seconds of each CRI call that a start waits for."""
    took: list[float] = []

    def watch(call: Any) -> Any:
        async def watched(*args: Any, **more: Any) -> Any:
            begun = time.perf_counter()
            try:
                return await call(*args, **more)
            finally:
                took.append(time.perf_counter() - begun)

        return watched

    for name in CALLS:
        setattr(node.runtime, name, watch(getattr(node.runtime, name)))
    return took


async def alone(node: Node, number: int) -> tuple[list[float], list[float]]:
    """Of each start the seconds in all, and those that are ours."""
    took, whole, ours = timed(node), [], []
    for index in range(number):
        took.clear()
        begun = time.perf_counter()
        worker = node.run(node.pod(f"one-{index}", {"containers": [dict(SLEEPS)]}))
        await until(lambda w=worker: ready(node, w.uid))
        whole.append(time.perf_counter() - begun)
        ours.append(whole[-1] - sum(took))
    return whole, ours


async def crowd(node: Node, number: int) -> tuple[float, float]:
    """Seconds until all are ready, and our CPU seconds."""
    begun, cpu = time.perf_counter(), time.process_time()
    workers = [
        node.run(node.pod(f"crowd-{index}", {"containers": [dict(SLEEPS)]})) for index in range(number)
    ]
    await until(lambda: all(ready(node, w.uid) for w in workers))
    took = time.perf_counter() - begun, time.process_time() - cpu
    for worker in workers:
        node.delete(worker, 0)
    await until(lambda: not any(w.uid in node.workers for w in workers))
    await asyncio.gather(*(worker.close() for worker in workers))
    return took


async def ceiling(node: Node, number: int) -> float:
    """Seconds for as many sandboxes with a container each by bare CRI calls, what a worker asks for and no more."""
    kept: list[tuple[Any, Any]] = []
    create = node.runtime.create_container

    async def keep(sandbox_id: str, config: Any, spec: Any) -> str:
        kept.append((config, spec))
        return str(await create(sandbox_id, config, spec))

    node.runtime.create_container = keep  # type: ignore[method-assign]
    worker = node.run(node.pod("pattern", {"containers": [dict(SLEEPS)]}))
    await until(lambda: ready(node, worker.uid))
    node.runtime.create_container = create  # type: ignore[method-assign]
    config, spec = kept[0]

    async def one(index: int) -> str:
        mine = replace(spec, name=f"bare-{index}", uid=str(uuid.uuid4()), labels={})
        async with node.shared.slots.one():
            sandbox = await node.runtime.run_sandbox(mine)
        async with node.shared.slots.one():
            await node.runtime.start_container(await create(sandbox, replace(config, labels={}), mine))
        return sandbox

    begun = time.perf_counter()
    made = await asyncio.gather(*(one(index) for index in range(number)))
    took = time.perf_counter() - begun
    for sandbox in made:
        await node.runtime.stop_sandbox(sandbox)
        await node.runtime.remove_sandbox(sandbox)
    return took


async def crashes(node: Node, number: int) -> list[float]:
    """Seconds from the kill to the status that tells of the end."""
    took = []
    for index in range(number):
        seconds = f"77{os.getpid()}{index:03}"
        container = SLEEPS | {"command": ["sleep", seconds]}
        worker = node.run(node.pod(f"crash-{index}", {"containers": [container], "restartPolicy": "Never"}))
        await until(lambda w=worker: ready(node, w.uid))
        await asyncio.sleep(0.5)  # the start is over, for the runtime too
        pid = report.process("sleep", seconds)
        begun = time.perf_counter()
        os.kill(pid, signal.SIGKILL)
        await until(lambda w=worker: node.api.statuses[w.uid]["phase"] == "Failed")
        took.append(time.perf_counter() - begun)
    return took


async def work(daemon: PrivateContainerd, base: Path, args: Any) -> None:
    group = f"/bamikube-bench-{os.getpid()}"
    node = Node(daemon, base, group)
    listener = asyncio.ensure_future(listen(node))
    rows = []
    try:
        ended = await crashes(node, args.sequence)
        rows.append(("killed container: status told", len(ended), *spread(ended)))
        bare = await ceiling(node, args.crowd)
        rows.append(("at once, bare CRI calls: s", args.crowd, f"{bare:.2f}", "-"))
        lasted, cpu = await crowd(node, args.crowd)
        rows.append(("at once, by the node agent: s (its CPU)", args.crowd, f"{lasted:.2f}", f"({cpu:.2f})"))
        whole, ours = await alone(node, args.sequence)
        rows.append(("one by one: Ready", len(whole), *spread(whole)))
        rows.append(("  of that not CRI", len(ours), *spread(ours)))
    finally:
        await node.close()
        listener.cancel()
        remove_groups(group)
    print(report.machine(), f"load {os.getloadavg()[0]:.1f}")
    report.show("the node agent on containerd", ("", "pods", "p50 ms", "least ms"), rows)


def spread(values: list[float]) -> tuple[str, str]:
    return report.milliseconds(report.median(values)), report.milliseconds(min(values))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sequence", type=int, default=20, help="pods one by one (default 20)")
    parser.add_argument("--crowd", type=int, default=100, help="pods at once (default 100)")
    args = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="bami-bench-", dir="/var/tmp"))
    archives = images()
    with network_namespace():
        daemon = PrivateContainerd(base)
        try:
            daemon.start()
            daemon.load_images(archives)
            asyncio.run(work(daemon, base, args))
        finally:
            daemon.stop()
            shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    main()
