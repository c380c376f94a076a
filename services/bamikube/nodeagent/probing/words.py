"""How a failed connection is told: in Go's words, which people know from Kubernetes' events."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl

_WORDS = {
    errno.ECONNREFUSED: "connect: connection refused",
    errno.EHOSTUNREACH: "connect: no route to host",
    errno.ENETUNREACH: "connect: network is unreachable",
    errno.ETIMEDOUT: "connect: connection timed out",
    errno.ECONNRESET: "connect: connection reset by peer",
}


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
