"""A node agent as its cluster sees it. Run: ``python bench/node_on_api.py`` (root, etcd and containerd installed; no lab needed).

etcd, API server, controllers, a node agent and a containerd of its own, each a process. Everything is seen through a watch
of the API, as kubectl would:

* a container's process killed: until the watch tells of its end;
* ``--crowd`` pods at once, each with an HTTP probe every 10 s: until the last runs, and the node agent's CPU for it;
* the node agent with all of them at rest: CPU over ``--seconds``, memory (resident, and PSS).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "services"), str(HERE.parent)]

import footprint  # noqa: E402
import report  # noqa: E402

from tests.support.one_node import OneNode, is_ready  # noqa: E402
from tests.support.private_containerd import images, network_namespace  # noqa: E402

PERIOD = 10
SERVES = "mkdir -p /tmp/www && echo ok > /tmp/www/index.html && exec httpd -f -p 8080 -h /tmp/www"
PROBE = {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": PERIOD, "timeoutSeconds": 5}


class Watch:
    """The pods as a watch tells of them, and when it told what."""

    def __init__(self, node: OneNode) -> None:
        self.pods: dict[str, Any] = {}
        self._changed = threading.Condition()
        request = urllib.request.Request(f"{node.api.url}/api/v1/namespaces/default/pods?watch=1")
        self._answer = urllib.request.urlopen(request, context=node.api.context)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            for line in self._answer:
                event = json.loads(line)
                with self._changed:
                    self.pods[event["object"]["metadata"]["name"]] = event["object"]
                    self._changed.notify_all()
        except (OSError, ValueError, AttributeError):
            return  # the node is being stopped

    def until(self, condition: Callable[[dict[str, Any]], bool], seconds: float = 180.0) -> float:
        """Seconds until the watch has told enough."""
        begun = time.perf_counter()
        with self._changed:
            if not self._changed.wait_for(lambda: condition(self.pods), seconds):
                raise SystemExit("the pods did not get there")
        return time.perf_counter() - begun


def crashes(node: OneNode, watch: Watch, number: int) -> list[float]:
    took = []
    for index in range(number):
        name, seconds = f"crash-{index}", f"77{os.getpid()}{index:03}"
        container = {"name": "app", "command": ["sleep", seconds]}
        node.create(name, {"restartPolicy": "Never", "containers": [container]})
        watch.until(lambda pods, n=name: n in pods and is_ready(pods[n]))
        time.sleep(0.7)  # the start is over, for the runtime too
        pid = report.process("sleep", seconds)
        os.kill(pid, signal.SIGKILL)
        took.append(watch.until(lambda pods, n=name: pods[n]["status"]["phase"] == "Failed"))
        node.delete(name, 0)
    return took


def own(node: OneNode, index: int, number: int) -> dict[str, Any]:
    """The variables of a container from ``number`` ConfigMaps and Secrets that no other refers to."""
    sources = []
    for one in range(number):
        resource, kind = (("configmaps", "configMapRef"), ("secrets", "secretRef"))[one % 2]
        name = f"own-{index}-{one}"
        node.ask("POST", node.path(resource, namespace="default"), {"metadata": {"name": name}})
        sources.append({kind: {"name": name}})
    return {"envFrom": sources} if sources else {}


def resident(pid: int) -> float:
    """MiB of a process that are in memory, shared or not."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def work(node: OneNode, args: Any) -> None:
    watch, pid = Watch(node), node.agent.pid
    rows: list[tuple[str, str]] = []
    if args.crashes:
        ended = crashes(node, watch, args.crashes)
        rows.append(
            ("killed container, p50 until a watch tells: ms", report.milliseconds(report.median(ended)))
        )
        rows.append(("  least, most", " ".join(report.milliseconds(f(ended)) for f in (min, max))))
    if args.crowd:
        before, empty = footprint.cpu(pid), resident(pid)
        spec = {"name": "app", "command": ["sh", "-c", SERVES], "readinessProbe": PROBE}
        begun = time.perf_counter()
        for index in range(args.crowd):
            node.create(f"one-{index}", {"containers": [dict(spec) | own(node, index, args.referred)]})

        def are(what: Callable[[Any], bool]) -> Callable[[dict[str, Any]], bool]:
            return lambda pods: sum(what(p) for n, p in pods.items() if n.startswith("one-")) == args.crowd

        watch.until(are(lambda pod: pod["status"]["phase"] == "Running"))
        rows.append((f"{args.crowd} at once, until the last runs: s", f"{time.perf_counter() - begun:.1f}"))
        rows.append(
            (
                "  the node agent's CPU for each: ms",
                f"{(footprint.cpu(pid) - before) / args.crowd * 1000:.1f}",
            )
        )
        watch.until(are(is_ready))
        time.sleep(PERIOD)
        before, begun = footprint.cpu(pid), time.perf_counter()
        time.sleep(args.seconds)
        share = (footprint.cpu(pid) - before) / (time.perf_counter() - begun)
        rows.append((f"at rest, a probe every {PERIOD} s in each: % of a core", f"{share * 100:.2f}"))
        rows.append(("  resident, PSS: MiB", f"{resident(pid):.0f} {footprint.pss(pid):.0f}"))
        rows.append(("  resident without pods: MiB", f"{empty:.0f}"))
    print(report.machine())
    report.show("a node agent below an API server", ("", ""), rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--crashes", type=int, default=10, help="containers that are killed (default 10)")
    parser.add_argument("--crowd", type=int, default=100, help="pods at once (default 100)")
    parser.add_argument(
        "--referred", type=int, default=0, help="ConfigMaps and Secrets of each pod's own (default 0)"
    )
    parser.add_argument("--seconds", type=float, default=30.0, help="how long to look at rest (default 30)")
    args = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="bami-bench-", dir="/var/tmp"))
    archives = images()
    with network_namespace(), OneNode(base, archives) as node:
        work(node, args)


if __name__ == "__main__":
    main()
