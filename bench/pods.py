"""How long pods take to start, on the running lab: one by one, and many at once. Run: ``python bench/pods.py``.

The clock starts before the POST of the pod and stops when our own watch delivers it with phase Running: what a client
sees, scheduler and all. The image is pulled on every node before anything is timed. ``scheduled`` is when the watch shows
the node's name. Pods go to a namespace of their own, which is removed at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "services")]

import lab  # noqa: E402
import report  # noqa: E402

from bamikube.api.errors import ApiError  # noqa: E402
from bamikube.client import Client  # noqa: E402
from bamikube.kit.world import World  # noqa: E402

IMAGE = "busybox:1.36"
POD_SECONDS = 120.0
REST_SECONDS = 3.0


def pod(name: str, node: str = "", *, bound: bool = False) -> dict[str, Any]:
    """A pod that sleeps; on ``node`` if given: by a node selector, or ``bound`` to it, past the scheduler."""
    spec: dict[str, Any] = {
        "containers": [
            {"name": "c", "image": IMAGE, "command": ["sleep", "3600"], "imagePullPolicy": "IfNotPresent"}
        ],
        "terminationGracePeriodSeconds": 0,
    }
    if node and bound:
        spec["nodeName"] = node
    elif node:
        spec["nodeSelector"] = {"kubernetes.io/hostname": node}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def takes_pods(node: dict[str, Any]) -> bool:
    """Whether the node is Ready and nothing keeps an ordinary pod away."""
    conditions = node.get("status", {}).get("conditions") or []
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
    taints = node["spec"].get("taints") or []
    kept_away = any(taint["effect"] in ("NoSchedule", "NoExecute") for taint in taints)
    return ready and not kept_away and not node["spec"].get("unschedulable")


class Times:
    """When which pod was first seen in which state, in seconds of the monotonic clock."""

    def __init__(self) -> None:
        self.created: dict[str, float] = {}
        self.seen: dict[str, dict[str, float]] = {"scheduled": {}, "running": {}, "gone": {}}
        self._changed = asyncio.Event()

    def look(self, event: str, found: dict[str, Any]) -> None:
        """Take in one watch event."""
        now, name = time.perf_counter(), found["metadata"]["name"]
        if found.get("spec", {}).get("nodeName"):
            self.seen["scheduled"].setdefault(name, now)
        if found.get("status", {}).get("phase") == "Running":
            self.seen["running"].setdefault(name, now)
        if event == "DELETED":
            self.seen["gone"].setdefault(name, now)
        self._changed.set()

    async def until(self, state: str, names: list[str]) -> None:
        """Wait until all ``names`` were seen in ``state``. SystemExit naming those that never were."""
        deadline = time.perf_counter() + POD_SECONDS
        while missing := [name for name in names if name not in self.seen[state]]:
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), deadline - time.perf_counter())
            except TimeoutError:
                raise SystemExit(f"not {state} after {POD_SECONDS:.0f} s: {', '.join(missing[:5])}") from None

    def took(self, state: str, names: list[str]) -> list[float]:
        """Seconds from creation to ``state``."""
        return [self.seen[state][name] - self.created[name] for name in names]


class Bench:
    """A namespace, a watch over its pods, and the measurements."""

    def __init__(self, client: Client, namespace: str, *, bound: bool) -> None:
        self.client = client
        self.namespace = namespace
        self.bound = bound
        self.times = Times()
        self._count = 0

    async def open(self) -> None:
        """Make the namespace, and wait until pods may be created in it."""
        await self.client.create("namespaces", {"metadata": {"name": self.namespace}})
        for _ in range(600):
            with contextlib.suppress(ApiError):
                await self.client.get("serviceaccounts", "default", self.namespace)
                return
            await asyncio.sleep(0.05)
        raise SystemExit(f"namespace {self.namespace} got no service account: do the lab's controllers run?")

    async def watch(self) -> None:
        """Feed the clock, forever."""
        listed = await self.client.list("pods", self.namespace)
        version = listed["metadata"]["resourceVersion"]
        async for event in self.client.watch("pods", self.namespace, resource_version=version):
            if event.type != "BOOKMARK":
                self.times.look(event.type, event.object)
        raise SystemExit("the watch ended early")

    def names(self, stem: str, count: int) -> list[str]:
        """Names nobody had before."""
        self._count += 1
        return [f"{stem}-{self._count}-{index:03d}" for index in range(count)]

    async def start(self, names: list[str], place: Callable[[int], str]) -> float:
        """Create all at once and wait until they run; returns seconds from the first POST to the last Running."""
        began = time.perf_counter()

        async def one(index: int, name: str) -> None:
            self.times.created[name] = time.perf_counter()
            await self.client.create("pods", pod(name, place(index), bound=self.bound), self.namespace)

        await asyncio.gather(*(one(index, name) for index, name in enumerate(names)))
        await self.times.until("running", names)
        return max(self.times.seen["running"][name] for name in names) - began

    async def remove(self, names: list[str]) -> float:
        """Delete pods and wait until they are gone from the API; returns seconds. Then let the nodes come to rest:
        with no grace period the API forgets a pod before its containers have ended."""
        began = time.perf_counter()
        await asyncio.gather(*(self.client.delete("pods", name, self.namespace) for name in names))
        await self.times.until("gone", names)
        took = time.perf_counter() - began
        await asyncio.sleep(REST_SECONDS)
        return took


async def measure(
    kubeconfig: str, sequence: int, crowds: list[tuple[int, bool]], repeat: int, *, bound: bool
) -> None:
    """Print the tables."""
    client = Client.from_kubeconfig(kubeconfig, World(), user_agent="bamikube-bench")
    nodes = sorted(
        node["metadata"]["name"] for node in (await client.list("nodes"))["items"] if takes_pods(node)
    )
    if not nodes:
        raise SystemExit("no node takes pods: see 'bamikube status'")
    bench = Bench(client, f"bench-pods-{os.getpid()}", bound=bound)
    await bench.open()
    watching = asyncio.ensure_future(bench.watch())
    rows = []
    try:
        await asyncio.sleep(0.2)  # the watch is on its way; the warm-up below proves that it works
        warm = bench.names("warm", len(nodes))
        await bench.start(warm, lambda index: nodes[index])
        await bench.remove(warm)

        alone: dict[str, list[float]] = {"scheduled": [], "running": []}
        for _ in range(repeat):
            names = bench.names("one", sequence)
            for name in names:
                await bench.start([name], lambda _: nodes[0] if bound else "")
            for state, values in alone.items():
                values += bench.times.took(state, names)
            await bench.remove(names)
        for label, values in (
            ("one by one: Running", alone["running"]),
            ("  scheduled", alone["scheduled"]),
        ):
            rows.append((label, len(values), *_spread(values), "-"))

        for count, one_node in crowds:
            lasts, each, going = [], [], []
            for _ in range(repeat):
                names = bench.names("crowd", count)
                lasts.append(
                    await bench.start(
                        names, lambda index, one=one_node: nodes[0 if one else index % len(nodes)]
                    )
                )
                each += bench.times.took("running", names)
                going.append(await bench.remove(names))
            where = f"on {nodes[0]}" if one_node else f"over {len(nodes)} nodes"
            rows.append(
                (
                    f"{count} at once {where}: Running",
                    len(each),
                    *_spread(each),
                    f"{report.median(lasts):.2f}",
                )
            )
            rows.append((f"  {count} gone after DELETE", len(each), "-", "-", f"{report.median(going):.2f}"))
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        with contextlib.suppress(ApiError, OSError):
            await client.delete("namespaces", bench.namespace)
        await client.close()
    report.show(
        f"pods, image present, {repeat} runs", ("", "pods", "p50 ms", "p99 ms", "all of them s"), rows
    )


def _spread(values: list[float]) -> tuple[str, str]:
    return report.milliseconds(report.median(values)), report.milliseconds(report.percentile(values, 99))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kubeconfig", help="default: the running lab's")
    parser.add_argument(
        "--sequence", type=int, default=10, help="pods started one by one, each run (default 10)"
    )
    parser.add_argument("--at-once", type=int, default=30, help="pods at once over the nodes (default 30)")
    parser.add_argument(
        "--one-node", type=int, default=50, help="pods at once on one worker (default 50; 0: none)"
    )
    parser.add_argument("--repeat", type=int, default=3, help="runs (default 3)")
    parser.add_argument(
        "--bound", action="store_true", help="name the node in the pod: the node agent's share alone"
    )
    args = parser.parse_args()
    kubeconfig = args.kubeconfig
    if not kubeconfig:
        found = lab.status()
        if not lab.running(found):
            raise SystemExit(lab.NONE)
        kubeconfig = found["kubeconfig"]
    crowds = [(count, one) for count, one in ((args.at_once, False), (args.one_node, True)) if count]
    print(report.machine())
    asyncio.run(measure(kubeconfig, args.sequence, crowds, args.repeat, bound=args.bound))


if __name__ == "__main__":
    main()
