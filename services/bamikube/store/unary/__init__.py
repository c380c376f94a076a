"""Unary gRPC calls for the store, over HTTP/2 spoken by hand.

grpc.aio costs 130-470 us of CPU a call, and a consistent read or a write of the API server is little more than one call
to etcd. What such a call needs of HTTP/2 is small: one request of a known shape, one answer, no streaming, no server
push, no compressed headers of our own. This package is that part and nothing else; streams (watches, keep-alives of
leases, snapshots) stay with grpc.aio.

::

    EtcdStore -> UnaryClient -> Connection (one an endpoint) -> socket
                 deadlines,     streams, windows, pings
                 endpoints       | frames.py, headers.py: bytes only

Sources: RFC 9113 (HTTP/2), RFC 7541 (HPACK), "gRPC over HTTP2" of the gRPC project.
"""

from bamikube.store.unary.call import CallError
from bamikube.store.unary.client import Method, UnaryClient, client_context

__all__ = ["CallError", "Method", "UnaryClient", "client_context"]
