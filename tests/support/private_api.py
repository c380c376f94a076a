"""A private API as clients meet it: etcd, API server with TLS and RBAC, and the controllers, each a process of its own.

::

    with private_api(tmp_path) as api:
        api.url, api.kubeconfig, api.ca        # https://127.0.0.1:PORT, an administrator's kubeconfig, the CA's PEM

There are no nodes: objects are all there is, so pods stay pending. Everything listens on free ports of loopback and
is stopped by pid at the end.
"""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from bamikube.kit.world import World
from bamikube.pki.issue import issue_all
from bamikube.pki.profiles import ClusterNames, NodeNames
from tests.support.etcd import EtcdServer, free_ports

SERVICES = Path(__file__).resolve().parents[2] / "services"


class PrivateApi:
    """``controllers=False`` leaves the controllers out: an API and nothing that moves by itself. ``flags`` are the API server's."""

    def __init__(
        self,
        directory: Path,
        *,
        controllers: bool = True,
        etcd_flags: tuple[str, ...] = (),
        flags: tuple[str, ...] = (),
    ) -> None:
        self.directory = directory
        self.etcd = EtcdServer(directory / "etcd", flags=etcd_flags)
        self.port, self.controllers_port = free_ports(2)
        self.url = f"https://127.0.0.1:{self.port}"
        self.home = directory / "kubernetes"
        self.kubeconfig = self.home / "admin.conf"
        self.ca = self.home / "pki/ca.crt"
        self._controllers, self._flags = controllers, flags
        self._processes: list[tuple[str, subprocess.Popen[bytes]]] = []

    @property
    def context(self) -> ssl.SSLContext:
        """For clients without kubeconfig: trusts the CA and shows the certificate of a member of system:masters."""
        context = ssl.create_default_context(cafile=str(self.ca))
        pair = self.home / "pki/apiserver-kubelet-client"
        context.load_cert_chain(f"{pair}.crt", f"{pair}.key")
        return context

    def log(self, name: str) -> str:
        """Everything ``apiserver`` or ``controllers`` has said."""
        return (self.directory / f"{name}.log").read_text(errors="replace")

    def start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.etcd.start()
        node = NodeNames(name="master", address="127.0.0.1")
        issue_all({"master": self.home}, ClusterNames(server=self.url), [node], World())
        pki = self.home / "pki"
        self.spawn("apiserver", *self.server_flags(self.port, [self.etcd.endpoint]))
        self._wait("apiserver", f"{self.url}/readyz", self.context)
        if self._controllers:
            self.spawn(
                "controllers",
                f"--kubeconfig={self.home}/controller-manager.conf",
                f"--healthz-port={self.controllers_port}",
                f"--root-ca-file={pki}/ca.crt",
                f"--service-account-private-key-file={pki}/sa.key",
                f"--cluster-signing-cert-file={pki}/ca.crt",
                f"--cluster-signing-key-file={pki}/ca.key",
            )
            account = f"{self.url}/api/v1/namespaces/default/serviceaccounts/default"
            self._wait("controllers", account, self.context)

    def server_flags(self, port: int, etcd: Sequence[str]) -> list[str]:
        """What an API server on ``port`` is started with."""
        pki = self.home / "pki"
        return [
            f"--etcd-servers={','.join(etcd)}",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            f"--tls-cert-file={pki}/apiserver.crt",
            f"--tls-private-key-file={pki}/apiserver.key",
            f"--client-ca-file={pki}/ca.crt",
            "--enable-bootstrap-token-auth",
            f"--service-account-key-file={pki}/sa.pub",
            f"--service-account-signing-key-file={pki}/sa.key",
            f"--requestheader-client-ca-file={pki}/front-proxy-ca.crt",
            "--requestheader-allowed-names=front-proxy-client",
            f"--proxy-client-cert-file={pki}/front-proxy-client.crt",
            f"--proxy-client-key-file={pki}/front-proxy-client.key",
            f"--kubelet-client-certificate={pki}/apiserver-kubelet-client.crt",
            f"--kubelet-client-key={pki}/apiserver-kubelet-client.key",
            f"--kubelet-certificate-authority={pki}/ca.crt",
            *self._flags,
        ]

    def spawn(self, name: str, *flags: str) -> subprocess.Popen[bytes]:
        """Start one more service; it is stopped with the others."""
        code = f"import sys; from bamikube.{name}.main import main; sys.exit(main())"
        with (self.directory / f"{name}.log").open("ab") as out:
            process = subprocess.Popen(
                [sys.executable, "-c", code, *flags],
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": str(SERVICES)},
            )
        self._processes.append((name, process))
        return process

    def _wait(self, name: str, url: str, context: ssl.SSLContext) -> None:
        deadline = time.monotonic() + 60
        process = self._processes[-1][1]
        while time.monotonic() < deadline and process.poll() is None:
            try:
                with urllib.request.urlopen(url, timeout=2, context=context) as answer:
                    if answer.status == 200:
                        return
            except OSError:
                pass
            time.sleep(0.05)
        self.stop()
        raise AssertionError(f"{name} did not come up:\n{self.log(name)[-3000:]}")

    def stop(self) -> None:
        for _, process in reversed(self._processes):
            process.terminate()
        for _, process in reversed(self._processes):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()
        self.etcd.stop()

    def __enter__(self) -> PrivateApi:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def private_api(directory: Path, *, controllers: bool = True) -> PrivateApi:
    """A context manager around a private API."""
    return PrivateApi(Path(directory), controllers=controllers)
