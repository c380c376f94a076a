"""One private API for all tests of this folder, and a client that sends exactly what it is told."""

from __future__ import annotations

import http.client
import itertools
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.kubectl import Kubectl
from tests.support.private_api import PrivateApi, private_api


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        return str(self.json["message"])

    @property
    def page(self) -> bool:
        """Whether this is the plain page for paths where nothing is served."""
        return (self.status, self.body) == (404, b"404 page not found\n")

    def must(self, status: int, *words: str) -> Any:
        """Decoded, after checking the code; errors must be a proper Status that contains ``words``."""
        assert self.status == status, (self.status, self.body[:1000])
        self.check()
        for word in words:
            assert word in self.message, self.message
        return None if self.page or not self.body else self.json

    def check(self) -> None:
        """What holds for every answer: no 5xx, and an error is a Status whose parts agree."""
        assert self.status < 500, (self.status, self.body[:1000])
        if self.status >= 400 and not self.page:
            status = self.json
            assert (status["kind"], status["apiVersion"], status["status"]) == ("Status", "v1", "Failure")
            assert status["code"] == self.status
            assert status["message"] and status["reason"], status


class Wire:
    """HTTP without a client's manners: no quoting, no checks, any method, any bytes."""

    def __init__(self, api: PrivateApi) -> None:
        self.api = api
        self.context = api.context
        self._connection: http.client.HTTPSConnection | None = None

    def send(
        self, method: str, target: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """One request on the kept connection; dictionaries and lists go as JSON."""
        named = {"Content-Type": "application/json"} | (headers or {})
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        for attempt in (1, 2):
            kept = self._connection is not None
            connection = self._connection or http.client.HTTPSConnection(
                "127.0.0.1", self.api.port, context=self.context, timeout=30
            )
            self._connection = connection
            try:
                connection.putrequest(method, "/", skip_accept_encoding=True)
                # http.client judges targets; ours must go out as they are.
                connection._buffer[0] = f"{method} {target} HTTP/1.1".encode()  # type: ignore[attr-defined]
                for name, value in named.items():
                    connection.putheader(name, value)
                if data is not None:
                    connection.putheader("Content-Length", str(len(data)))
                connection.endheaders(data)
                answer = connection.getresponse()
                if answer.getheader("Transfer-Encoding") == "chunked" and "watch" in target:
                    got = Answer(answer.status, dict(answer.getheaders()), answer.read1(65536))
                    self.close()
                    return got
                got = Answer(answer.status, dict(answer.getheaders()), answer.read())
                if answer.will_close:
                    self.close()
                return got
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                self.close()
                if attempt == 2 or not kept:
                    raise
        raise AssertionError("unreachable")

    def bytes(self, data: bytes, timeout: float = 10) -> bytes:
        """What comes back for raw bytes on a connection of their own, until the server closes or falls silent."""
        with (
            socket.create_connection(("127.0.0.1", self.api.port), timeout) as plain,
            self.context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
        ):
            parts: list[bytes] = []
            try:
                secure.sendall(data)
                while part := secure.recv(65536):
                    parts.append(part)
                    if b"\r\n\r\n" in b"".join(parts):
                        secure.settimeout(0.3)
            except OSError:  # silence, or a closed connection
                pass
            return b"".join(parts)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@pytest.fixture(scope="package")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateApi]:
    with private_api(tmp_path_factory.mktemp("private")) as api:
        yield api


@pytest.fixture(scope="package")
def wire(private: PrivateApi) -> Iterator[Wire]:
    one = Wire(private)
    yield one
    one.close()


_numbers = itertools.count(1)


@pytest.fixture
def namespace(wire: Wire) -> str:
    """A fresh namespace."""
    name = f"case-{next(_numbers)}"
    wire.send("POST", "/api/v1/namespaces", {"metadata": {"name": name}}).must(201)
    return name


@pytest.fixture
def kubectl(private: PrivateApi, namespace: str, tmp_path: Path) -> Kubectl:
    """kubectl 1.33 in a fresh namespace."""
    return Kubectl(private.kubeconfig, namespace)
