"""A whole node with its cluster: etcd, API server and controllers, and a node agent on a containerd of its own, each a process.

::

    with network_namespace(), OneNode(folder, ["bamikube.test/busybox:1"]) as node:
        node.agent.pid, node.containerd.pause(), node.get("nodes", "master")

To be used within :func:`tests.support.private_containerd.network_namespace`. Pods are bound by their ``nodeName``: there is no scheduler. Everything is stopped by pid.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tests.support.etcd import free_ports
from tests.support.private_api import PrivateApi
from tests.support.private_containerd import PrivateContainerd

JSON = dict[str, Any]
T = TypeVar("T")
NAME = "master"
PLURALS = {"leases": "/apis/coordination.k8s.io/v1", "runtimeclasses": "/apis/node.k8s.io/v1"}


class OneNode:
    """``base`` needs room for sockets' names: a short path. ``flags`` are more of the node agent's; ``api`` is a folder for
    etcd and the logs, should they not lie on the node's disk."""

    def __init__(
        self,
        base: Path,
        archives: Sequence[bytes],
        *flags: str,
        api: Path | None = None,
        api_flags: tuple[str, ...] = (),
    ) -> None:
        self.base, self.flags, self._archives = base, flags, archives
        self.api = PrivateApi(api or base / "api", flags=api_flags)
        self.containerd = PrivateContainerd(base)
        self.group = f"/bamikube-node-{os.getpid()}"
        self.root, self.logs = base / "kubelet", base / "log"
        self.port, self.health_port = free_ports(2)
        self.agent: subprocess.Popen[bytes] = None  # type: ignore[assignment]

    # -- processes -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        self.containerd.start()
        self.containerd.load_images(self._archives)
        self.api.start()
        self.start_agent()
        self.until(lambda: self.condition("Ready")["status"] == "True", what="a node that is ready")

    def start_agent(self, *more: str) -> None:
        """Begin the node agent, with ``more`` flags beside its own."""
        pki = self.api.home / "pki"
        self.agent = self.api.spawn(
            "nodeagent",
            f"--kubeconfig={self.api.home}/kubelet.conf",
            f"--hostname-override={NAME}",
            "--node-ip=127.0.0.1",
            f"--container-runtime-endpoint={self.containerd.endpoint}",
            f"--root-dir={self.root}",
            f"--log-dir={self.logs}",
            f"--cgroup-root={self.group}",
            "--cluster-dns=10.96.0.10",
            "--address=127.0.0.1",
            f"--port={self.port}",
            f"--healthz-port={self.health_port}",
            f"--client-ca-file={pki}/ca.crt",
            f"--tls-cert-file={pki}/kubelet.crt",
            f"--tls-private-key-file={pki}/kubelet.key",
            "--fail-swap-on=false",
            *self.flags,
            *more,
        )

    def end_agent(self, number: int = signal.SIGKILL) -> None:
        self.agent.send_signal(number)
        self.agent.wait(20)

    def stop(self) -> None:
        self.containerd.resume()
        try:
            self.api.stop()
        finally:
            self.containerd.stop()
            for path in Path("/sys/fs/cgroup").glob(f"*{self.group}"):
                for folder, _, _ in os.walk(path, topdown=False):
                    if not path.is_symlink():
                        os.rmdir(folder)
            shutil.rmtree(self.base, ignore_errors=True)

    def __enter__(self) -> OneNode:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- the cluster's side ----------------------------------------------------------------------------------------

    def path(self, resource: str, name: str = "", namespace: str = "") -> str:
        where = f"/namespaces/{namespace}" if namespace else ""
        return f"{PLURALS.get(resource, '/api/v1')}{where}/{resource}" + (f"/{name}" if name else "")

    def ask(self, method: str, path: str, body: Any = None, *, url: str = "", timeout: float = 20.0) -> bytes:
        """The answer of the API server, or of whoever is at ``url``. Raises HTTPError."""
        request = urllib.request.Request(f"{url or self.api.url}{path}", method=method)
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        context = self.api.context if not url.startswith("http:") else None
        if context is not None:
            context.check_hostname = False
        with urllib.request.urlopen(request, data, timeout=timeout, context=context) as answer:
            return bytes(answer.read())

    def get(self, resource: str, name: str = "", namespace: str = "") -> JSON:
        return dict(json.loads(self.ask("GET", self.path(resource, name, namespace))))

    def pod(self, name: str) -> JSON:
        """The pod as the API has it; {} when it does not."""
        try:
            return self.get("pods", name, "default")
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return {}
            raise

    def create(self, name: str, spec: JSON, **meta: Any) -> JSON:
        """A pod bound to the node."""
        defaults: JSON = {"nodeName": NAME, "terminationGracePeriodSeconds": 1}
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            container.setdefault("image", "bamikube.test/busybox:1")
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name} | meta,
            "spec": defaults | spec,
        }
        return dict(json.loads(self.ask("POST", self.path("pods", "", "default"), pod)))

    def make(self, resource: str, document: JSON) -> None:
        self.ask("POST", self.path(resource, "", "default"), document)

    def delete(self, name: str, grace: int | None = None) -> None:
        query = "" if grace is None else f"?gracePeriodSeconds={grace}"
        self.ask("DELETE", self.path("pods", name, "default") + query)

    def condition(self, kind: str) -> JSON:
        conditions = (self.get("nodes", NAME).get("status") or {}).get("conditions") or ()
        return next((c for c in conditions if c["type"] == kind), {"status": "Unknown", "message": ""})

    def events(self, reason: str, name: str = "") -> list[str]:
        """The messages of events with that reason, about whatever bears that name."""
        items = self.get("events")["items"]
        return [
            e["message"] for e in items if e["reason"] == reason and name in ("", e["involvedObject"]["name"])
        ]

    def health(self, path: str = "/healthz") -> str:
        return self.ask("GET", path, url=f"http://127.0.0.1:{self.health_port}", timeout=5).decode()

    def own_api(self, path: str) -> bytes:
        """What the node's own API answers."""
        return self.ask("GET", path, url=f"https://127.0.0.1:{self.port}", timeout=15)

    def until(self, condition: Callable[[], T], seconds: float = 30.0, what: str = "") -> T:
        """Wait until ``condition`` tells something true. Raises AssertionError with what the node agent said last."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                if found := condition():
                    return found
            except (OSError, ssl.SSLError) as error:
                found = error  # type: ignore[assignment]
            if time.monotonic() > deadline:
                said = self.api.log("nodeagent")[-4000:]
                raise AssertionError(f"not within {seconds:g} s: {what} ({found!r})\n{said}")
            time.sleep(0.05)


def container(pod: JSON, index: int = 0, kind: str = "containerStatuses") -> JSON:
    """The status of one container; {} while there is none."""
    found = (pod.get("status") or {}).get(kind) or ()
    return dict(found[index]) if len(found) > index else {}


def is_ready(pod: JSON) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
