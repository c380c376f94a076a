"""What probes cost a node agent, on the running lab. Run: ``python bench/probes.py`` (root).

Pods with a readiness probe each are bound to one worker, past the scheduler; when all are ready, the node agent's CPU time
is taken over ``--seconds``, once for each kind of probe; what they add to ``none`` is the probes'. Pods go to a namespace of their own, which is removed at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "services")]

import footprint  # noqa: E402
import lab  # noqa: E402
import report  # noqa: E402

from bamikube.api.errors import ApiError  # noqa: E402
from bamikube.client import Client  # noqa: E402
from bamikube.kit.world import World  # noqa: E402

IMAGE = "busybox:1.36"
SERVES = "mkdir -p /www && echo ok > /www/index.html && exec httpd -f -p 8080 -h /www"
READY_SECONDS = 240.0
PERIOD = 10
KINDS: dict[str, dict[str, Any]] = {
    "none": {},
    "http": {"httpGet": {"path": "/", "port": 8080}},
    "tcp": {"tcpSocket": {"port": 8080}},
    "exec": {"exec": {"command": ["true"]}},
}


def pod(name: str, node: str, kind: str) -> dict[str, Any]:
    container: dict[str, Any] = {"name": "c", "image": IMAGE, "command": ["sh", "-c", SERVES]}
    if KINDS[kind]:
        container["readinessProbe"] = KINDS[kind] | {"periodSeconds": PERIOD, "timeoutSeconds": 5}
    spec = {"nodeName": node, "containers": [container], "terminationGracePeriodSeconds": 0}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def ready(found: dict[str, Any]) -> bool:
    conditions = (found.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


async def _account(client: Client, namespace: str) -> None:
    for _ in range(600):
        with contextlib.suppress(ApiError):
            await client.get("serviceaccounts", "default", namespace)
            return
        await asyncio.sleep(0.05)
    raise SystemExit(f"namespace {namespace} got no service account: do the lab's controllers run?")


async def measure(
    client: Client, namespace: str, node: str, pid: int, kind: str, args: Any
) -> tuple[str, ...]:
    """CPU and memory of the node agent with pods of one kind."""
    names = [f"{kind}-{number}" for number in range(args.pods)]
    for name in names:
        await client.create("pods", pod(name, node, kind), namespace)
    deadline = time.monotonic() + READY_SECONDS
    while sum(map(ready, (await client.list("pods", namespace))["items"])) < len(names):
        if time.monotonic() > deadline:
            raise SystemExit(f"{kind}: not all pods were ready after {READY_SECONDS:g} s")
        await asyncio.sleep(1.0)
    await asyncio.sleep(PERIOD)
    before, begun = footprint.cpu(pid), time.monotonic()
    await asyncio.sleep(args.seconds)
    used, lasted = footprint.cpu(pid) - before, time.monotonic() - begun
    memory = footprint.pss(pid)
    for name in names:
        await client.delete("pods", name, namespace, grace_seconds=0)
    while (await client.list("pods", namespace))["items"]:  # noqa: ASYNC110 - the cluster is asked, not this process
        await asyncio.sleep(1.0)
    row = kind, str(len(names)), f"{used / lasted * 100:.2f}", f"{memory:.0f}"
    print(" ".join(row), file=sys.stderr)  # so that a run that is cut short has told something
    return row


async def work(args: Any) -> None:
    found = lab.status()
    if not lab.running(found):
        raise SystemExit(lab.NONE)
    worker = next(node for node in found["nodes"] if "control-plane" not in node["roles"])
    pid = footprint.roots_of(worker)["nodeagent"]
    client = Client.from_kubeconfig(found["kubeconfig"], World())
    namespace = f"bench-probes-{os.getpid()}"
    await client.create("namespaces", {"metadata": {"name": namespace}})
    try:
        await _account(client, namespace)
        rows = [
            await measure(client, namespace, worker["name"], pid, kind, args)
            for kind in args.kinds.split(",")
        ]
    finally:
        with contextlib.suppress(ApiError):
            await client.delete("namespaces", namespace)
        await client.close()
    print(report.machine())
    report.show(
        f"a node agent's CPU over {args.seconds:g} s, a probe every {PERIOD} s in each pod",
        ("probe", "pods", "% of a core", "PSS MiB"),
        rows,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pods", type=int, default=100, help="how many pods (default 100)")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long to look (default 30)")
    parser.add_argument("--kinds", default="none,http,tcp,exec", help="of probes, in this order")
    asyncio.run(work(parser.parse_args()))


if __name__ == "__main__":
    main()
