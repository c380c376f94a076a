"""TLS at the door: whoever speaks plain HTTP there is told so, as Go's server tells him.

::

    16 03 01 ...    a client's hello: TLS, as ever
    GET /           HTTP/1.0 400 Bad Request
                    Client sent an HTTP request to an HTTPS server.

Go looks at the first five bytes of a record that makes no sense, and answers what begins like a request. The event loop
tells nobody about a handshake that failed, so the answer is given from inside: the session looks at what came before
OpenSSL does, and where that is HTTP, it hands the answer out, claims that the handshake is done and lets the connection be closed.

This leans on one private attribute of :class:`ssl.SSLObject`, ``_sslobj``, the one that does the work; the tests go
over real sockets, with uvloop and without.
"""

from __future__ import annotations

import ssl
from typing import Any

PLAIN = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
_REQUESTS = (b"GET /", b"HEAD ", b"POST ", b"PUT /", b"OPTIO")  # those that Go knows
_LENGTH = 5


class _Spoken:
    """In the place of the TLS engine once everything is said: nothing comes any more, nothing goes out."""

    def read(self, size: int, *buffer: Any) -> bytes:
        raise ssl.SSLWantReadError

    def write(self, data: bytes) -> int:
        return len(data)

    def pending(self) -> int:
        return 0

    def do_handshake(self) -> None: ...

    def shutdown(self) -> None: ...

    def getpeercert(self, binary: bool = False) -> None: ...

    def cipher(self) -> None: ...

    def compression(self) -> None: ...


class Session(ssl.SSLObject):
    """One client's session. ``plain``: it turned out to be none, and the answer has been given."""

    incoming: ssl.MemoryBIO
    outgoing: ssl.MemoryBIO
    plain = False
    _looked = False

    def do_handshake(self) -> None:
        if not self._looked:
            first = self.incoming.read()
            if first.startswith(_REQUESTS):
                self.plain = True
                self.outgoing.write(PLAIN)
                self._sslobj: Any = _Spoken()
                return
            if first:
                self.incoming.write(first)
            if len(first) < _LENGTH:
                raise ssl.SSLWantReadError
            self._looked = True
        super().do_handshake()


class ServerContext(ssl.SSLContext):
    """A server's TLS settings, with such sessions."""

    sslobject_class = Session

    def wrap_bio(
        self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *args: Any, **more: Any
    ) -> ssl.SSLObject:
        session = super().wrap_bio(incoming, outgoing, *args, **more)
        assert isinstance(session, Session)
        session.incoming, session.outgoing = incoming, outgoing
        return session


def server_settings() -> ServerContext:
    """TLS 1.2 and better, HTTP/1.1: what every server of ours begins with."""
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context
