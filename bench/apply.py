"""What ownership of fields costs: plain writes that keep ``managedFields``, and server-side apply of 4 KB.

It is a Deployment of three containers that is applied, and over the wire a ConfigMap, too: the kind with most fields that
people apply, and the one with fewest.

CPU microseconds each, the median of several runs. First the decisions alone, then whole requests through the API server
on its in-memory store (no etcd, no HTTP): admission, defaults, validation and encoding included. At last the same over the
wire: an API server and an etcd as ``bench/api.py`` starts them, one client on one TLS connection, and the CPU time of the
API server's process, all its threads. ``--no-wire`` leaves that out.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import itertools
import ssl
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import orjson

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "services")]

import api  # noqa: E402
import report  # noqa: E402

from bamikube.api import defaults, table  # noqa: E402
from bamikube.api.ownership import Author  # noqa: E402
from bamikube.apiserver.identity import MASTERS, User  # noqa: E402
from bamikube.apiserver.options import ApiServerOptions  # noqa: E402
from bamikube.apiserver.registry import applying, ownership  # noqa: E402
from bamikube.apiserver.server import ApiServer  # noqa: E402
from bamikube.kit.http import Request, Response  # noqa: E402
from bamikube.kit.world import World  # noqa: E402
from bamikube.store.model import ModelStore  # noqa: E402

RUNS, ROUNDS = 7, 200
NOW = "2026-01-01T00:00:00Z"
TARGET = "/apis/apps/v1/namespaces/default/deployments"


def container(number: int) -> dict[str, Any]:
    return {
        "name": f"c{number}",
        "image": "registry.example.com/shop/web:1.25.3",
        "ports": [{"containerPort": 80 + number}, {"containerPort": 8080 + number, "name": f"x{number}"}],
        "resources": {
            "limits": {"cpu": "1", "memory": "512Mi"},
            "requests": {"cpu": "100m", "memory": "128Mi"},
        },
        "env": [{"name": f"SETTING_{index}", "value": "some value " * 2} for index in range(14)],
        "volumeMounts": [{"name": f"v{index}", "mountPath": f"/data/{index}"} for index in range(4)],
        "livenessProbe": {"httpGet": {"path": "/healthz", "port": 80}, "periodSeconds": 5},
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": 80}},
    }


def deployment() -> dict[str, Any]:
    """About 4 KB."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "web",
            "labels": {f"example.com/label-{index}": "value" for index in range(6)},
            "annotations": {f"example.com/note-{index}": "words " * 6 for index in range(4)},
        },
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {
                    "containers": [container(number) for number in range(3)],
                    "volumes": [{"name": f"v{index}", "configMap": {"name": "m"}} for index in range(4)],
                },
            },
        },
    }


def configmap() -> dict[str, Any]:
    """About 4 KB."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "web", "labels": {"app": "web"}},
        "data": {f"key-{number}": "the same value 1.25.3 " * 5 for number in range(33)},
    }


def pod() -> dict[str, Any]:
    spec = {"containers": [{"name": "web", "image": "nginx", "ports": [{"containerPort": 80}]}]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "generateName": "p-", "labels": {"app": "web", "pod-template-hash": "x"}},
        "spec": spec,
    }


def microseconds(work: Callable[[], object]) -> str:
    """CPU time of one call, the median of the runs."""
    took: list[float] = []
    for _ in range(RUNS):
        start = time.process_time()
        for _ in range(ROUNDS):
            work()
        took.append((time.process_time() - start) / ROUNDS)
    return f"{report.median(took) * 1e6:.0f}"


def decisions() -> list[tuple[str, str]]:
    pods, deployments = table.by_name("pods"), table.by_name("deployments.apps")
    made = pod()
    defaults.apply(pods, made)

    def create() -> None:
        made["metadata"].pop("managedFields", None)
        ownership.track(pods, None, made, "kube-controller-manager", "", NOW)

    create()
    old = orjson.loads(orjson.dumps(made | {"status": {"phase": "Pending"}}))
    new = orjson.loads(orjson.dumps(made | {"status": {"phase": "Running", "podIP": "10.0.0.1"}}))
    managed = new["metadata"]["managedFields"]

    def status() -> None:
        new["metadata"]["managedFields"] = managed
        ownership.track(pods, old, new, "kubelet", "status", NOW)

    author = Author("kubectl", "Apply", "apps/v1")
    same = orjson.dumps(deployment())
    other = same.replace(b"1.25.3", b"1.26.0")

    def document(body: bytes) -> applying.Document:
        return applying.check_document(
            deployments, applying.parse_document(body, "Warn")[0], "default", "web"
        )

    live = applying.applied(deployments, None, document(same), author, NOW, False)
    defaults.apply(deployments, live)
    return [
        ("create of a pod", microseconds(create)),
        ("status of a pod", microseconds(status)),
        (
            f"apply, {len(same) / 1000:.1f} KB, nothing new",
            microseconds(lambda: applying.applied(deployments, live, document(same), author, NOW, False)),
        ),
        (
            "apply, new images",
            microseconds(lambda: applying.applied(deployments, live, document(other), author, NOW, False)),
        ),
    ]


class Everybody:
    async def authenticate(self, request: Request) -> User | None:
        return User("admin", (MASTERS,))


async def requests() -> list[tuple[str, str]]:
    world = World()
    server = ApiServer(ModelStore(world), ApiServerOptions(), world, methods=(Everybody(),))
    running = asyncio.ensure_future(server.run())
    await server.ready.wait()
    images = [orjson.dumps(deployment()).replace(b"1.25.3", f"2.{number}".encode()) for number in range(2)]

    async def apply(body: bytes) -> None:
        headers = {"content-type": "application/apply-patch+yaml"}
        target = f"{TARGET}/web?fieldManager=kubectl"
        answer = await server.handle(Request.make("PATCH", target, headers=headers, body=body))
        assert isinstance(answer, Response) and answer.status in (200, 201), answer
        await asyncio.sleep(0)

    async def measure(work: Callable[[int], Awaitable[None]]) -> str:
        took: list[float] = []
        for _ in range(RUNS):
            start = time.process_time()
            for number in range(ROUNDS):
                await work(number)
            took.append((time.process_time() - start) / ROUNDS)
        return f"{report.median(took) * 1e6:.0f}"

    await apply(images[0])
    rows = [
        ("apply, nothing new", await measure(lambda number: apply(images[0]))),
        ("apply, new images", await measure(lambda number: apply(images[number % 2]))),
    ]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return rows


def cpu_seconds(pid: int) -> float:
    """What all threads of a process have used so far, to the nanosecond (``/proc/PID/stat`` counts hundredths)."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((each / "schedstat").read_text().split()[0]) for each in threads) / 1e9


def over_the_wire() -> list[tuple[str, str, str]]:
    """CPU of the API server's process for each apply, and how long the client waited for it."""
    rows = []
    with api.private_cluster() as cluster:
        pid = cluster.processes["apiserver"].pid
        host, _, port = cluster.server.removeprefix("https://").partition(":")
        trust = ssl.create_default_context(cafile=cluster.ca)
        connection = http.client.HTTPSConnection(host, int(port), timeout=10, context=trust)
        headers = {
            "Authorization": f"Bearer {cluster.token}",
            "Content-Type": "application/apply-patch+yaml",
            "Accept": "application/json",
        }

        def apply(target: str, body: bytes) -> None:
            connection.request("PATCH", target, body=body, headers=headers)
            answer = connection.getresponse()
            said = answer.read()
            if answer.status not in (200, 201):
                raise SystemExit(f"PATCH {target}: {answer.status} {said[:300]!r}")

        def measure(name: str, target: str, documents: Iterable[bytes]) -> None:
            used: list[float] = []
            waited: list[float] = []
            for _ in range(RUNS):
                cpu, start = cpu_seconds(pid), time.perf_counter()
                for document in itertools.islice(documents, ROUNDS):
                    apply(target, document)
                used.append((cpu_seconds(pid) - cpu) / ROUNDS)
                waited.append((time.perf_counter() - start) / ROUNDS)
            rows.append((name, f"{report.median(used) * 1e6:.0f}", f"{report.median(waited) * 1e3:.2f}"))

        for kind, path, obj in (
            ("Deployment", "/apis/apps/v1/namespaces/load/deployments", deployment()),
            ("ConfigMap", "/api/v1/namespaces/load/configmaps", configmap()),
        ):
            target = f"{path}/web?fieldManager=kubectl"
            same = orjson.dumps(obj)
            # None is applied twice.
            fresh = (same.replace(b"1.25.3", b"2.%d" % number) for number in itertools.count())
            for _ in range(ROUNDS):  # until every path has been taken
                apply(target, next(fresh))
                apply(target, same)
            # The same document in bytes that nobody has seen: a number in blanks and line ends behind it.
            blanks = str.maketrans("01", " \n")
            reworded = (same + f"{number:b}".translate(blanks).encode() for number in itertools.count())
            title = f"{kind} of {len(same) / 1000:.1f} KB"
            measure(f"{title}, nothing new, the same bytes", target, itertools.repeat(same))
            measure(f"{title}, nothing new, in other bytes", target, reworded)
            measure(f"{title}, new {'images' if kind == 'Deployment' else 'data'}", target, fresh)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--no-wire", action="store_true", help="leave out what needs an etcd")
    args = parser.parse_args()
    print(report.machine())
    report.show("decisions alone", ("", "CPU us"), decisions())
    report.show("whole requests, in-memory store", ("", "CPU us"), asyncio.run(requests()))
    if not args.no_wire:
        report.show("over TLS, on etcd", ("", "API server's CPU us", "ms each"), over_the_wire())


if __name__ == "__main__":
    main()
