"""gRPC for the store, over HTTP/2 spoken by hand.

grpc.aio costs 130-470 us of CPU a call and as much for each message of a watch, and a consistent read or a write of the
API server is little more than one call to etcd. What is needed of HTTP/2 is small: one request of a known shape, then one
answer or message after message; no server push, no compressed headers of our own. This package is that part and nothing
else.

::

    EtcdStore -> Http2Client -> Connection (one an endpoint) -> socket
                 deadlines,     streams, windows, pings
                 endpoints       | call.py, flow.py: one answer, or many
                                 | frames.py, headers.py: bytes only

Sources: RFC 9113 (HTTP/2), RFC 7541 (HPACK), "gRPC over HTTP2" of the gRPC project.
"""

from bamikube.store.http2.call import CallError
from bamikube.store.http2.client import Http2Client, Method, client_context
from bamikube.store.http2.flow import Flow

__all__ = ["CallError", "Flow", "Http2Client", "Method", "client_context"]
