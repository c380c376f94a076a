"""What a failed request is told: an ``ApiError`` for every exception, so that nobody is answered without a ``Status``.

The client's mistakes are 4xx; what the store could not do is 5xx and logged, with the request it happened to.
"""

from __future__ import annotations

import logging

from bamikube.api import errors, table
from bamikube.api.errors import ApiError
from bamikube.apiserver import deadline
from bamikube.kit.http import Request, Response
from bamikube.store.port import NoSpace, StoreError, TooLarge, Unavailable

log = logging.getLogger(__name__)


PAGE = b"404 page not found\n"
TOO_DEEP = "Recursion limit reached"  # orjson's TypeError for what is nested deeper than it writes
_GROUPS = frozenset(row.group for row in table.TABLE)


def page(path: str, refusal: ApiError) -> Response | None:
    """The plain page Go answers where nothing is served at all; None: the refusal is told as a ``Status``.

    Below ``/api`` and the built-in groups Kubernetes routes by resource, and answers with a Status what it does not know.
    """
    parts = path.split("/")
    routed = parts[1:2] in (["api"], ["version"]) or (
        parts[1:2] == ["apis"] and parts[2:3] and parts[2] in _GROUPS
    )
    if refusal.code != 404 or refusal.details or routed:
        return None
    plain = {"X-Content-Type-Options": "nosniff"}
    return Response(404, PAGE, plain, content_type="text/plain; charset=utf-8")


def told(request: Request, error: Exception) -> ApiError:
    """The refusal that ``error`` becomes."""
    match error:
        case ApiError():
            return error
        case TimeoutError():
            return errors.timeout(deadline.LATE)
        case TooLarge():
            return errors.too_large(f"the object is larger than the store takes: {error}")
        case NoSpace():
            log.error("%s", error)
            return errors.internal("the store's quota is used up: see bamikube etcd alarms")
        case Unavailable():
            log.warning("%s %s: the store is unavailable: %s", request.method, request.path, error)
            return errors.unavailable("the store cannot be reached at present; try again")
        case StoreError():
            log.error("%s %s: %s", request.method, request.path, error)
            return errors.internal("the store refused the request")
        case RecursionError() | OverflowError():
            return errors.bad_request(f"the request cannot be processed: {error}")
        case TypeError() if str(error) == TOO_DEEP:
            return errors.bad_request("the request cannot be processed: the object is nested too deep")
    log.error("%s %s failed", request.method, request.path, exc_info=error)
    return errors.internal("the request failed; the server's log has the details")
