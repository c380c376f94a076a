"""A real etcd for tests: on free loopback ports, in a directory of its own, with or without TLS.

    async with etcd_server(tmp_path) as etcd:
        store = EtcdStore(etcd.endpoints, world=World(), **etcd.credentials)

It is a plain context manager as well (``with etcd_server(tmp_path) as etcd``). ``restart()`` keeps data and ports;
``kill()`` is the crash, ``freeze()`` and ``thaw()`` the silent death.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listened on a moment ago."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


class EtcdServer:
    """One etcd process: a cluster of its own, or one member of ``members`` (see :func:`etcd_members`)."""

    def __init__(
        self, directory: Path, *, tls: bool = False, flags: tuple[str, ...] = (), name: str = "test"
    ) -> None:
        self.directory = directory
        self.tls = tls
        self.flags = flags
        self.name = name
        self.members: list[EtcdServer] = [self]
        self.client_port, self.peer_port, self.metrics_port = free_ports(3)
        self.ca: Path | None = None
        self.cert: Path | None = None
        self.key: Path | None = None
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.client_port}"

    @property
    def endpoints(self) -> list[str]:
        return [self.endpoint]

    @property
    def credentials(self) -> dict[str, Any]:
        """``ca``, ``cert`` and ``key``: paths of PEM files for a client, empty without TLS."""
        return {"ca": str(self.ca), "cert": str(self.cert), "key": str(self.key)} if self.tls else {}

    @property
    def peer(self) -> str:
        return f"http://127.0.0.1:{self.peer_port}"

    def start(self) -> None:
        """Start the process and wait until it answers. Fails the test with etcd's last words if it does not."""
        self.launch()
        self.wait()

    def launch(self) -> None:
        """Start the process. A member of several is healthy only once most of them run."""
        self.directory.mkdir(parents=True, exist_ok=True)
        command = [
            "etcd",
            f"--name={self.name}",
            f"--data-dir={self.directory / 'data'}",
            f"--listen-client-urls={self.endpoint}",
            f"--advertise-client-urls={self.endpoint}",
            f"--listen-peer-urls={self.peer}",
            f"--initial-advertise-peer-urls={self.peer}",
            f"--initial-cluster={','.join(f'{member.name}={member.peer}' for member in self.members)}",
            f"--listen-metrics-urls=http://127.0.0.1:{self.metrics_port}",
            "--unsafe-no-fsync",
            *self.flags,
        ]
        if self.tls:
            command += self._tls_flags()
        with (self.directory / "etcd.log").open("ab") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL)

    def wait(self) -> None:
        """Until it answers as healthy: it is up and its cluster has a leader."""
        assert self.process is not None, "launch it first"
        log = self.directory / "etcd.log"
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                with urllib.request.urlopen(
                    f"http://127.0.0.1:{self.metrics_port}/health", timeout=1
                ) as answer:
                    if b'"true"' in answer.read():
                        return
            except OSError:
                pass
            time.sleep(0.02)
        self.stop()
        pytest.fail(f"etcd did not start:\n{log.read_text(errors='replace')[-2000:]}")

    def _tls_flags(self) -> list[str]:
        if self.ca is None:
            self._issue()
        return [
            f"--cert-file={self.directory / 'server.crt'}",
            f"--key-file={self.directory / 'server.key'}",
            f"--trusted-ca-file={self.ca}",
            "--client-cert-auth=true",
        ]

    def _issue(self) -> None:
        """A CA, a server certificate (serverAuth and clientAuth, as etcd's JSON gateway needs) and a client's."""
        from bamikube.kit.world import World
        from bamikube.pki.authority import Authority, Request

        authority = Authority.create("etcd-ca", World())
        self.ca, self.cert, self.key = (
            self.directory / name for name in ("ca.crt", "client.crt", "client.key")
        )
        self.ca.write_bytes(authority.certificate_pem)
        for name, request in {
            "server": Request("test", sans=("localhost", "127.0.0.1"), server=True, client=True),
            "client": Request("kube-apiserver-etcd-client", client=True),
        }.items():
            issued = authority.issue(request)
            (self.directory / f"{name}.crt").write_bytes(issued.certificate_pem)
            (self.directory / f"{name}.key").write_bytes(issued.key_pem)

    def signal(self, number: int) -> None:
        if self.process is not None and self.process.poll() is None:
            os.kill(self.process.pid, number)

    def freeze(self) -> None:
        """Silent death: connections stay open, nothing is answered. Returns when every thread has stopped."""
        self.signal(signal.SIGSTOP)
        if self.process is not None and self.process.poll() is None:
            threads = Path(f"/proc/{self.process.pid}/task")
            while any(
                (thread / "stat").read_text().rpartition(")")[2].split()[0] != "T"
                for thread in threads.iterdir()
            ):
                time.sleep(0.001)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """Crash."""
        self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()

    def stop(self) -> None:
        self.thaw()
        self.signal(signal.SIGTERM)
        if self.process is not None:
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()

    def restart(self) -> None:
        """Stop and start on the same data and ports."""
        self.stop()
        self.start()

    def __enter__(self) -> EtcdServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __aenter__(self) -> EtcdServer:
        return self.__enter__()

    async def __aexit__(self, *_: object) -> None:
        self.stop()


def etcd_server(directory: Path, *, tls: bool = False, flags: tuple[str, ...] = ()) -> EtcdServer:
    """A context manager, sync and async, around a real etcd. The test is skipped where there is no etcd binary."""
    if shutil.which("etcd") is None:
        pytest.skip("no etcd binary in PATH (Debian: apt install etcd-server)")
    return EtcdServer(Path(directory), tls=tls, flags=flags)


def etcd_members(directory: Path, count: int = 3) -> list[EtcdServer]:
    """The members of one cluster, not yet started: launch all, then wait for each."""
    members = [EtcdServer(directory / f"m{number}", name=f"m{number}") for number in range(count)]
    for member in members:
        member.members = members
    return members
