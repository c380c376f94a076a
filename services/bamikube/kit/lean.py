"""aiohttp, imported without the certificate authorities of the machine.

As soon as it is imported, aiohttp makes two TLS contexts that know all of them: some 50 ms of each start, and 2 MiB of each
process, for contexts that nobody uses, since whoever asks for TLS here brings a context of its own. So that import is made
here, while OpenSSL finds no authorities, and every module takes aiohttp from here. The environment is as before afterwards.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _no_authorities() -> Iterator[None]:
    """OpenSSL reads where they lie from the environment, each time that a context asks for them."""
    before = {name: os.environ.get(name) for name in ("SSL_CERT_FILE", "SSL_CERT_DIR")}
    os.environ.update(dict.fromkeys(before, os.devnull))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


with _no_authorities():
    import aiohttp
    from aiohttp import http_exceptions, http_parser, web, web_protocol

__all__ = ["aiohttp", "http_exceptions", "http_parser", "web", "web_protocol"]
