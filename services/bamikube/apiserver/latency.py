"""How long a request waited for others: for its turn, and for webhooks.

Kubernetes measures its service level (``apiserver_request_sli_duration_seconds``) without that time, because the server cannot
help it. Whoever waits in a request's stead says so with :func:`excuse`; the request has called :func:`begin` before.
"""

from __future__ import annotations

from contextvars import ContextVar

_waited: ContextVar[list[float]] = ContextVar("waited")


def begin() -> list[float]:
    """Start to gather for the request of this task: the one number in the list, in seconds, grows."""
    waited = [0.0]
    _waited.set(waited)
    return waited


def excuse(seconds: float) -> None:
    """The request of this task has waited for somebody else. Outside any request it is nobody's."""
    waited = _waited.get(None)
    if waited is not None:
        waited[0] += seconds
