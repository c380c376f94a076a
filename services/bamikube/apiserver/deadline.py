"""How long a request may take: ``?timeout=5s``, which clients send along with their own patience.

It shortens the server's ``--request-timeout`` and never lengthens it. Whoever runs as long as he likes (watches,
logs, proxied requests, whose parameters are somebody else's) is not asked.

Source: ``k8s.io/apiserver/pkg/endpoints/filters/request_deadline.go`` (behaviour).
"""

from __future__ import annotations

from bamikube.api import errors
from bamikube.api.cel.moments import SECOND, parse_duration
from bamikube.api.cel.types import CelError
from bamikube.apiserver.requestinfo import RequestInfo
from bamikube.kit.http import Request

LATE = "Timeout: request did not complete within requested timeout - context deadline exceeded"
_LONG = frozenset({"attach", "exec", "log", "portforward", "proxy"})


def seconds(request: Request, info: RequestInfo, most: float) -> float:
    """Until when ``request`` has to be answered, in seconds from now. Raises 400 for what is no duration."""
    if not request.raw_query or "timeout=" not in request.raw_query:
        return most
    if info.verb in ("watch", "proxy") or info.subresource in _LONG:
        return most
    text = request.param("timeout")
    if not text:
        return most
    try:
        asked = parse_duration(text).nanos / SECOND
    except CelError as problem:
        raise errors.bad_request(f"invalid timeout specified in the request URL - {problem}") from None
    return min(asked, most) if asked > 0 else most
