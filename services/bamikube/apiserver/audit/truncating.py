"""Events that are too large for a backend: without the bodies, they are recorded all the same.

::

    an event of 300 KB, limit 100 KB    requestObject and responseObject go, "audit.k8s.io/truncated": "true" says so
    still over the limit                lost, and counted

Source: Kubernetes' ``--audit-log-truncate-enabled`` and ``--audit-webhook-truncate-enabled`` (behaviour).
"""

from __future__ import annotations

import logging
from typing import Any, Protocol

import orjson

from bamikube.apiserver.audit import figures

log = logging.getLogger(__name__)

MARK = "audit.k8s.io/truncated"
_BODIES = ("requestObject", "responseObject")


class Sink(Protocol):
    """Where events go. ``write`` says whether it could: with ``--audit-log-mode=blocking-strict`` nothing goes on else."""

    def write(self, event: dict[str, Any]) -> bool: ...

    def close(self) -> None: ...


class Truncating:
    """In front of ``sink``: lets events of up to ``limit`` bytes pass."""

    def __init__(self, sink: Sink, limit: int) -> None:
        self.sink = sink
        self._limit = limit

    def write(self, event: dict[str, Any]) -> bool:
        """What ``sink`` says. An event that is too large is lost, and nobody is refused for it."""
        if len(orjson.dumps(event)) > self._limit:
            event = truncated(event)
            if len(orjson.dumps(event)) > self._limit:
                figures.lost("truncate")
                log.error("the audit event %s is too large even without its bodies", event.get("auditID"))
                return True
        return self.sink.write(event)

    def close(self) -> None:
        self.sink.close()


def truncated(event: dict[str, Any]) -> dict[str, Any]:
    """The event without bodies, marked; as it is when it has none."""
    if not any(name in event for name in _BODIES):
        return event
    annotations = {**(event.get("annotations") or {}), MARK: "true"}
    return {name: value for name, value in event.items() if name not in _BODIES} | {
        "annotations": annotations
    }
