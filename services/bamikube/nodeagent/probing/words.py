"""How a failed connection is told: in Go's words, which people know from Kubernetes' events."""

from __future__ import annotations

import asyncio
import errno
import re
import socket
import ssl

_WORDS = {
    errno.ECONNREFUSED: "connect: connection refused",
    errno.EHOSTUNREACH: "connect: no route to host",
    errno.ENETUNREACH: "connect: network is unreachable",
    errno.ETIMEDOUT: "connect: connection timed out",
    errno.ECONNRESET: "connect: connection reset by peer",
}
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")


def joined(host: str, port: int) -> str:
    """``10.0.0.1:80``, ``[fd00::1]:80``."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def dialled(host: str, port: int, error: BaseException) -> str:
    """Why no connection came about."""
    if isinstance(error, socket.gaierror):
        return f"dial tcp: lookup {host}: no such host"
    if isinstance(error, TimeoutError) and not (isinstance(error, OSError) and error.errno):
        return f"dial tcp {joined(host, port)}: i/o timeout"
    return f"dial tcp {joined(host, port)}: {reason(error)}"


def reason(error: BaseException) -> str:
    """What is wrong with a connection, in a few words."""
    if isinstance(error, ssl.SSLError):
        return f"tls: {error.reason or error}".lower()
    if isinstance(error, asyncio.IncompleteReadError):
        return "EOF"
    if isinstance(error, OSError) and error.errno is not None:
        return _WORDS.get(error.errno, (error.strerror or str(error)).lower())
    return str(error) or type(error).__name__


def no_tls(error: BaseException) -> str:
    """Why a TLS handshake failed. What speaks no TLS at all mostly speaks HTTP."""
    if isinstance(error, ssl.SSLError) and error.reason in _NO_TLS:
        return "http: server gave HTTP response to HTTPS client"
    return reason(error)


def malformed(message: str) -> str:
    """What is wrong with an answer that is not HTTP. ``message`` is the parser's, with the line it stumbled over."""
    found = re.search(r"""b?('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")""", message)
    line = "" if found is None else found[1][1:-1].partition("\\")[0]
    if "status code" in message:
        what = f'malformed HTTP status code "{line.partition(" ")[2].partition(" ")[0]}"'
    elif "eader" in message:
        what = f"malformed MIME header line: {line}"
    else:
        what = f'malformed HTTP response "{line}"'
    return f"net/http: HTTP/1.x transport connection broken: {what}"
