"""URLs in expressions: ``url("https://a.example/b").getHost()``."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bamikube.api.cel.functions.model import Function, a_string, declare, succeeds, walk
from bamikube.api.cel.types import CelError, NoOverload


@dataclass(frozen=True, slots=True)
class Url:
    text: str
    parts: urllib.parse.SplitResult
    type_name = "kubernetes.URL"


_BAD_IN_URL = re.compile(r"[\x00-\x20\x7f]|%(?![0-9A-Fa-f]{2})")


def parse(text: Any) -> Url:
    """An absolute URI or an absolute path."""
    written = a_string(text)
    refused = CelError(
        f'URL parse error during conversion from string: parse "{written}": invalid URI for request'
    )
    if not written or _BAD_IN_URL.search(written):
        raise refused
    try:
        parts = urllib.parse.urlsplit(written)
        _ = parts.port
    except ValueError:
        raise refused from None
    if not parts.scheme and not written.startswith("/"):
        raise refused
    if parts.scheme and not parts.netloc and not parts.path.startswith("/"):
        raise refused
    return Url(written, parts)


def _of_url(part: Callable[[urllib.parse.SplitResult], Any]) -> Callable[[Any], Any]:
    def call(value: Any) -> Any:
        if type(value) is not Url:
            raise NoOverload()
        return part(value.parts)

    return call


def _host(parts: urllib.parse.SplitResult) -> str:
    return parts.netloc.rpartition("@")[2]


def _hostname(parts: urllib.parse.SplitResult) -> str:
    host = _host(parts)
    if host.startswith("["):
        return host[1 : host.index("]")]
    return host.rpartition(":")[0] if ":" in host else host


def _port(parts: urllib.parse.SplitResult) -> str:
    return "" if parts.port is None else str(parts.port)


def _query(parts: urllib.parse.SplitResult) -> dict[str, list[str]]:
    return urllib.parse.parse_qs(parts.query, keep_blank_values=True)


FUNCTIONS: dict[str, Function] = {
    "url": Function(parse, walk()),
    "isURL": Function(succeeds(parse), walk()),
    "getScheme": Function(_of_url(lambda parts: parts.scheme)),
    "getHost": Function(_of_url(_host)),
    "getHostname": Function(_of_url(_hostname)),
    "getPort": Function(_of_url(_port)),
    "getEscapedPath": Function(
        _of_url(lambda parts: urllib.parse.quote(urllib.parse.unquote(parts.path), "/:@!$&'()*+,;=~"))
    ),
    "getQuery": Function(_of_url(_query)),
}

DECLARED = declare(
    [
        "url(string) -> URL",
        "isURL(string) -> bool",
        *(
            f"URL.{name}() -> string"
            for name in ("getScheme", "getHost", "getHostname", "getPort", "getEscapedPath")
        ),
        "URL.getQuery() -> map",
    ]
)
