"""Network namespaces for tests: a node (which the test itself is moved into), pods and outside machines around it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
import sys
from collections.abc import Iterator

from bamikube.netlink.links import Links
from bamikube.netlink.pods import Plug, names, plug

_libc = ctypes.CDLL(None, use_errno=True)

SERVER = """
import socket, sys, threading
name, proto, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
if proto == "tcp":
    s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(("0.0.0.0", port)); s.listen(64)
    print("ready", flush=True)
    while True:
        c, peer = s.accept(); c.sendall(f"{name} {peer[0]}".encode()); c.close()
else:
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("0.0.0.0", port))
    print("ready", flush=True)
    while True:
        data, peer = s.recvfrom(2048); s.sendto(f"{name} {peer[0]}".encode(), peer)
"""


@contextlib.contextmanager
def within(path: str) -> Iterator[None]:
    """The calling thread is in another network namespace."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    target = os.open(path, os.O_RDONLY)
    try:
        assert _libc.setns(target, 0x40000000) == 0
        yield
    finally:
        assert _libc.setns(home, 0x40000000) == 0
        os.close(home)
        os.close(target)


def ip(command: str, namespace: str = "") -> str:
    where = ["-n", namespace] if namespace else []
    done = subprocess.run(["ip", *where, *command.split()], capture_output=True, text=True)
    assert done.returncode == 0, f"ip {command}: {done.stderr}"
    return done.stdout


class Sandbox:
    """Everything it made is gone after ``close``."""

    def __init__(self, tag: str) -> None:
        self._tag = f"bt-{tag}-{os.getpid()}"
        self._namespaces: list[str] = []
        self._processes: list[subprocess.Popen[str]] = []

    def namespace(self, name: str) -> str:
        """A new namespace with lo up; its path."""
        full = f"{self._tag}-{name}"
        ip(f"netns add {full}")
        self._namespaces.append(full)
        ip("link set lo up", full)
        return f"/run/netns/{full}"

    def path(self, name: str) -> str:
        return f"/run/netns/{self._tag}-{name}"

    def ip(self, command: str, name: str) -> str:
        return ip(command, f"{self._tag}-{name}")

    def join(self, left: str, left_address: str, right: str, right_address: str) -> None:
        """A wire between two namespaces; addresses with prefix length. Interfaces are called ``to-<other>``."""
        self.ip(f"link add to-{right} type veth peer name to-{left} netns {self._tag}-{right}", left)
        for here, there, address in ((left, right, left_address), (right, left, right_address)):
            self.ip(f"addr add {address} dev to-{there}", here)
            self.ip(f"link set to-{there} up", here)

    async def pod(self, links: Links, name: str, address: str) -> str:
        """A pod wired to the namespace we are in."""
        path = self.namespace(name)
        host, mac, host_mac = names(name, "eth0")
        await plug(links, Plug(path, "eth0", host, address, 1500, mac, host_mac))
        return path

    def serve(self, name: str, protocol: str, port: int) -> None:
        """A server in namespace ``name`` that answers with its name and the client's address."""
        with within(self.path(name)):
            process = subprocess.Popen(
                [sys.executable, "-S", "-c", SERVER, name, protocol, str(port)],
                stdout=subprocess.PIPE,
                text=True,
            )
        assert process.stdout is not None
        self._processes.append(process)
        assert process.stdout.readline() == "ready\n"

    def ask(
        self, name: str, address: str, port: int, protocol: str = "tcp", timeout: float = 2.0
    ) -> tuple[str, str]:
        """(who answered, whom it saw) for a request from namespace ``name``; raises as sockets do."""
        kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
        with within(self.path(name)):
            connection = socket.socket(socket.AF_INET, kind)
        with connection:
            connection.settimeout(timeout)
            connection.connect((address, port))
            if protocol == "udp":
                connection.send(b"?")
            answer = connection.recv(200).decode().split()
            return answer[0], answer[1]

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
        for name in self._namespaces:
            subprocess.run(["ip", "netns", "del", name], check=False)


@contextlib.contextmanager
def on_node(tag: str) -> Iterator[Sandbox]:
    """A sandbox whose namespace ``node`` the calling thread is in."""
    sandbox = Sandbox(tag)
    try:
        with within(sandbox.namespace("node")):
            yield sandbox
    finally:
        sandbox.close()
