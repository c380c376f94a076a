"""How long a lab takes from nothing: API, nodes, a Service that answers, its DNS name. Run as root: ``python bench/up.py``.

Runs ``bamikube up`` (what ``make up`` calls when packages and images are there), watches from outside what comes up, and
``bamikube down``. As soon as the API answers, a Deployment of one pod and a NodePort Service are created; the Service
answers when an HTTP request from this machine to a worker's address and the node port gets 200. A lab that runs is left
alone, unless ``--restart`` says that it may be stopped.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import socket
import struct
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "services")]

import aiohttp  # noqa: E402
import lab  # noqa: E402
import report  # noqa: E402

from bamikube.api.errors import ApiError  # noqa: E402
from bamikube.client import Client  # noqa: E402
from bamikube.kit.http import Response  # noqa: E402
from bamikube.kit.world import World  # noqa: E402

APP = "bench-up"
IMAGE = "kubetm/app:v1"
LIMIT = 120.0
POLL = 0.02
FAULTS = (OSError, ApiError, ValueError, KeyError, aiohttp.ClientError, asyncio.TimeoutError)
STEPS = ("API ready", "first node Ready", "three nodes Ready", "Service answers", "DNS answers", "up returns")

DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": APP, "namespace": "default"},
    "spec": {
        "replicas": 1,
        "selector": {"matchLabels": {"app": APP}},
        "template": {
            "metadata": {"labels": {"app": APP}},
            "spec": {
                "containers": [{"name": "app", "image": IMAGE, "ports": [{"containerPort": 8080}]}],
                "terminationGracePeriodSeconds": 0,
            },
        },
    },
}
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": APP, "namespace": "default"},
    "spec": {"type": "NodePort", "selector": {"app": APP}, "ports": [{"port": 80, "targetPort": 8080}]},
}


def dns_query(name: str) -> bytes:
    """An A question."""
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    return struct.pack(">HHHHHH", 4711, 0x0100, 1, 0, 0, 0) + labels + b"\0\0\1\0\1"


class Start:
    """One start of a lab, seen from outside. ``seen`` holds seconds since ``bamikube up`` was called."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.seen: dict[str, float] = {}
        self._began = 0.0

    def _note(self, what: str) -> None:
        self.seen.setdefault(what, time.perf_counter() - self._began)

    async def run(self, kubeconfig: Path) -> None:
        """Start the lab and take the times. SystemExit if ``up`` failed or something never came."""
        self._began = time.perf_counter()
        process = await asyncio.create_subprocess_exec(
            *lab.command("up", folder=self.folder),
            env=lab.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        outside = asyncio.ensure_future(self._outside(kubeconfig))
        said = (await process.communicate())[0].decode()
        self._note("up returns")
        if process.returncode:
            outside.cancel()
            raise SystemExit(f"bamikube up failed:\n{said}")
        try:
            await asyncio.wait_for(outside, LIMIT)
        except TimeoutError:
            missing = [step for step in STEPS if step not in self.seen]
            raise SystemExit(f"after {LIMIT:.0f} s still missing: {', '.join(missing)}") from None

    async def _outside(self, kubeconfig: Path) -> None:
        while not kubeconfig.is_file():  # noqa: ASYNC110 (another process writes it)
            await asyncio.sleep(POLL)
        client = Client.from_kubeconfig(str(kubeconfig), World(), user_agent="bamikube-bench")
        try:
            while not await self._api(client):  # noqa: ASYNC110 (as above)
                await asyncio.sleep(POLL)
            self._note("API ready")
            await asyncio.gather(self._nodes(client), self._app(client))
        finally:
            await client.close()

    async def _api(self, client: Client) -> bool:
        with contextlib.suppress(*FAULTS):
            answer = await asyncio.wait_for(client.raw("GET", "/readyz"), 2.0)
            return isinstance(answer, Response) and answer.status == 200
        return False

    async def _nodes(self, client: Client) -> None:
        ready: set[str] = set()
        while len(ready) < 3:
            with contextlib.suppress(*FAULTS):
                for node in (await client.list("nodes"))["items"]:
                    conditions = node.get("status", {}).get("conditions") or []
                    if any(each["type"] == "Ready" and each["status"] == "True" for each in conditions):
                        ready.add(node["metadata"]["name"])
                        self._note("first node Ready")
            await asyncio.sleep(POLL)
        self._note("three nodes Ready")

    async def _app(self, client: Client) -> None:
        await client.create("deployments.apps", DEPLOYMENT)
        service = await client.create("services", SERVICE)
        port = service["spec"]["ports"][0]["nodePort"]
        await asyncio.gather(self._http(port), self._dns(service["spec"]["clusterIP"]))

    async def _http(self, port: int) -> None:
        timeout = aiohttp.ClientTimeout(total=1.0)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                with contextlib.suppress(*FAULTS):
                    async with session.get(f"http://10.99.0.11:{port}/hostname") as answer:
                        if answer.status == 200:
                            break
                await asyncio.sleep(POLL)
        self._note("Service answers")

    async def _dns(self, address: str) -> None:
        """Ask the DNS server on the control plane's address until it knows the Service."""
        loop = asyncio.get_running_loop()
        while True:
            with contextlib.suppress(*FAULTS), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.connect(("10.99.0.10", 53))
                await loop.sock_sendall(sock, dns_query(f"{APP}.default.svc.cluster.local"))
                if (await asyncio.wait_for(loop.sock_recv(sock, 512), 0.5)).endswith(
                    socket.inet_aton(address)
                ):
                    break
            await asyncio.sleep(POLL)
        self._note("DNS answers")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeat", type=int, default=3, help="starts (default 3)")
    parser.add_argument("--restart", action="store_true", help="stop a lab that runs")
    parser.add_argument("--keep", action="store_true", help="leave the last lab running")
    parser.add_argument("--lab-dir", type=Path, metavar="DIR", help="default: .lab of this tree")
    args = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("run this as root: a lab is made of namespaces")
    found = lab.status(args.lab_dir)
    if lab.running(found):
        if not args.restart:
            raise SystemExit("a lab runs, and it is left alone; '--restart' stops it and starts others")
        lab.bamikube("down", folder=args.lab_dir)
    folder = args.lab_dir or report.PROJECT / ".lab"
    print(report.machine())
    times: dict[str, list[float]] = defaultdict(list)
    for index in range(args.repeat):
        start = Start(folder)
        try:
            asyncio.run(start.run(folder / "kubeconfig"))
            for step, seconds in start.seen.items():
                times[step].append(seconds)
        finally:
            if not args.keep or index < args.repeat - 1:
                began = time.perf_counter()
                lab.bamikube("down", folder=folder)
                times["down"].append(time.perf_counter() - began)
    report.show(
        f"seconds from 'bamikube up', medians of {args.repeat} starts (packages and images present)",
        ("", "median", "longest"),
        [
            (step, f"{report.median(times[step]):.2f}", f"{max(times[step]):.2f}")
            for step in (*STEPS, "down")
            if times[step]
        ],
    )


if __name__ == "__main__":
    main()
