"""What the API server calls by itself: admission and conversion webhooks, aggregated API servers, audit collectors.

::

    clientConfig ──destination.py──► Destination (address, port, TLS name, trust) ──Caller──► Reply

Where a call goes is decided from the cache, without I/O; how it gets there is a port (:class:`Caller`), so that a
simulation can put another network in its place. Over real sockets it is :class:`~.caller.HttpCaller`.
"""

from bamikube.apiserver.outbound.destination import (
    Destination,
    Unresolved,
    of_client_config,
    of_service,
)
from bamikube.apiserver.outbound.port import JSON_HEADERS, Caller, CallError, Incoming, Reply

__all__ = [
    "JSON_HEADERS",
    "CallError",
    "Caller",
    "Destination",
    "Incoming",
    "Reply",
    "Unresolved",
    "of_client_config",
    "of_service",
]
