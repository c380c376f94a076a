"""The access log (``--access-log``): a line for every answered request, with the fields of Kubernetes' own.

::

    HTTP verb="LIST" URI="/api/v1/pods?limit=500" latency="1.9ms" userAgent="kubectl/v1.33" audit-ID="..." srcIP="..." resp=200

Who asked is the audit log's business; bodies are nobody's.
"""

from __future__ import annotations

import logging
from typing import Any

from bamikube.apiserver.requestinfo import RequestInfo
from bamikube.kit.http import Request, Response, Stream

log = logging.getLogger(__name__)


def fields(request: Request, info: RequestInfo, answer: Response | Stream, seconds: float) -> dict[str, Any]:
    """What is written down of a request."""
    query = f"?{request.raw_query}" if request.raw_query else ""
    return {
        "verb": info.verb.upper(),
        "URI": f"{request.raw_path or request.path}{query}",
        "latency": f"{seconds * 1000:.3f}ms",
        "userAgent": request.headers.get("user-agent", ""),
        "audit-ID": answer.headers.get("Audit-Id", ""),
        "srcIP": request.peer.address,
        "resp": answer.status,
    }


def write(request: Request, info: RequestInfo, answer: Response | Stream, seconds: float) -> None:
    """One line."""
    log.info("HTTP", extra={"fields": fields(request, info, answer, seconds)})
