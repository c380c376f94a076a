"""HTTP to the API server over ``http.client``: one connection, kept open for the requests of one command."""

from __future__ import annotations

import base64
import http.client
import json
import os
import socket
import ssl
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from bamikube.cli.errors import CliError, ServerError
from bamikube.cli.kubeconfig import Target

Map = dict[str, Any]
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


def _tls(target: Target) -> ssl.SSLContext:
    try:
        data = base64.b64decode(target.ca_data).decode() if target.ca_data and not target.ca_file else None
        context = ssl.create_default_context(cafile=target.ca_file or None, cadata=data)
        if target.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if target.cert_file or target.cert_data:
            _client_certificate(context, target)
    except (OSError, ValueError) as error:
        raise CliError(f"error: cannot use the certificates of the kubeconfig: {error}") from None
    return context


def _client_certificate(context: ssl.SSLContext, target: Target) -> None:
    """Python takes certificates from files only; embedded ones pass through files that are gone at once."""
    passing: list[str] = []
    try:
        paths = []
        for path, data in ((target.cert_file, target.cert_data), (target.key_file, target.key_data)):
            if not path:
                descriptor, path = tempfile.mkstemp(prefix="bamictl-")
                passing.append(path)
                with os.fdopen(descriptor, "wb") as stream:
                    stream.write(base64.b64decode(data))
            paths.append(path)
        context.load_cert_chain(paths[0], paths[1])
    finally:
        for path in passing:
            os.unlink(path)


class Connection:
    """Requests to one server."""

    def __init__(self, target: Target, timeout: float | None = None) -> None:
        self.target = target
        self.timeout = timeout
        parts = urlsplit(target.server)
        self.host = parts.hostname or "localhost"
        self.port = parts.port or (443 if parts.scheme == "https" else 80)
        self.prefix = parts.path.rstrip("/")
        self.tls = _tls(target) if parts.scheme == "https" else None
        self._open: http.client.HTTPConnection | None = None

    def headers(self) -> dict[str, str]:
        """Credentials and who we are."""
        headers = {"User-Agent": "bamictl", "Accept": "application/json"}
        if self.target.token:
            headers["Authorization"] = f"Bearer {self.target.token}"
        elif self.target.username:
            pair = f"{self.target.username}:{self.target.password}".encode()
            headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        return headers

    def socket(self) -> socket.socket:
        """A fresh connection, TLS included, for tunnels."""
        try:
            plain = socket.create_connection((self.host, self.port), self.timeout)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls is None:
                return plain
            return self.tls.wrap_socket(plain, server_hostname=self.target.tls_server_name or self.host)
        except OSError as error:
            raise self._failure(error) from None

    def _connected(self) -> http.client.HTTPConnection:
        if self._open is None:
            connection = http.client.HTTPConnection(self.host, self.port, timeout=self.timeout)
            connection.sock = self.socket()
            self._open = connection
        return self._open

    def _failure(self, error: Exception) -> CliError:
        where = f"{self.host}:{self.port}"
        if isinstance(error, ConnectionRefusedError):
            return CliError(
                f"The connection to the server {where} was refused - did you specify the right host or port?"
            )
        if isinstance(error, TimeoutError):
            return CliError(f"Unable to connect to the server: no answer from {where} in time")
        if isinstance(error, ssl.SSLCertVerificationError):
            return CliError(
                f"Unable to connect to the server: tls: failed to verify certificate: {error.verify_message}"
            )
        return CliError(f"Unable to connect to the server: {error}")

    def open(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> http.client.HTTPResponse:
        """Send a request; the answer's body is still to be read. Raises :class:`ServerError` for answers above 399."""
        shown = {key: value for key, value in (query or {}).items() if value not in (None, "")}
        url = self.prefix + path + (f"?{urlencode(shown, doseq=True)}" if shown else "")
        try:
            connection = self._connected()
            connection.request(method, url, body, self.headers() | dict(headers or {}))
            answer = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            self._open = None
            raise self._failure(error) from None
        if answer.status >= 400:
            raise ServerError(answer.status, _status(answer.read(), answer.status))
        return answer

    def call(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        *,
        accept: str = "",
        content_type: str = "application/json",
    ) -> Map:
        """Send JSON, get JSON."""
        headers = {"Content-Type": content_type} if body is not None else {}
        if accept:
            headers["Accept"] = accept
        data = None if body is None else json.dumps(body).encode()
        result: Map = json.loads(self.open(method, path, query, data, headers).read() or b"{}")
        return result

    def lines(self, path: str, query: Mapping[str, Any], accept: str = "") -> Iterator[Map]:
        """A watch: JSON documents line by line, until the server ends it."""
        answer = self.open("GET", path, query, headers={"Accept": accept} if accept else None)
        self._open = None  # this connection belongs to the watch now
        while line := answer.readline():
            if line.strip():
                yield json.loads(line)

    def get_or_none(self, path: str) -> Map | None:
        try:
            return self.call("GET", path)
        except ServerError as error:
            if error.http_code == 404:
                return None
            raise


def _status(body: bytes, code: int) -> Map:
    try:
        status = json.loads(body)
    except ValueError:
        status = None
    if isinstance(status, dict) and status.get("kind") == "Status":
        return status
    reason = http.client.responses.get(code, "")
    return {"reason": reason.replace(" ", ""), "message": body.decode("utf-8", "replace").strip() or reason}
