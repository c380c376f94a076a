"""Links of proxied pages, made to lead through the proxy again.

A page at ``/api/v1/namespaces/n/services/s/proxy/`` that links to ``/next`` means ``/next`` of its own server; a browser
would ask the API server for it. So links with an absolute path to the page's own host get the proxy's path in front,
in ``Location`` and in the attributes of HTML that hold one::

    Location: /login            Location: /api/v1/namespaces/n/services/s/proxy/login
    <a href="/next">            <a href="/api/v1/namespaces/n/services/s/proxy/next">

Relative links work as they are, and links to other hosts are nobody's business. Everything else of a page stays byte for
byte; pages over :data:`LARGEST`, and those in an encoding we cannot read, are passed on as they come.

Source: Kubernetes' proxying transport (apimachinery ``util/proxy``).
"""

from __future__ import annotations

import html
import posixpath
import re
import zlib
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

LARGEST = 3 * 1024 * 1024

_ATTRIBUTES = {
    "a": "href",
    "applet": "codebase",
    "area": "href",
    "audio": "src",
    "base": "href",
    "blockquote": "cite",
    "body": "background",
    "button": "formaction",
    "command": "icon",
    "del": "cite",
    "embed": "src",
    "form": "action",
    "frame": "longdesc src",
    "head": "profile",
    "html": "manifest",
    "iframe": "longdesc src",
    "img": "longdesc src usemap",
    "input": "src usemap formaction",
    "ins": "cite",
    "link": "href",
    "object": "classid codebase data usemap",
    "q": "cite",
    "script": "src",
    "source": "src",
    "video": "poster src",
}
# A comment, or a tag with its attributes. A tag is not looked for beyond the next "<" outside of quotes, which keeps the
# search linear whatever comes.
_TAG = re.compile(
    rb"""<!--.*?(?:-->|\Z)|<([a-zA-Z][a-zA-Z0-9]*+)((?:[^<>"']|"[^"]*"|'[^']*')*+)>""", re.DOTALL
)
_ATTRIBUTE = re.compile(
    rb"""([\s/"'])([a-zA-Z]+)(\s*=\s*)("[^"]*"|'[^']*'|[^\s"'>]++)""",
)
# What is inside of these is text, whatever it looks like.
_TEXT = frozenset(["script", "style", "textarea", "title", "iframe", "noembed", "noframes", "xmp"])


@dataclass(frozen=True, slots=True)
class Links:
    """``prefix`` is the path up to ``/proxy``, ``source`` the ``host:port`` that answered, ``host`` what the client calls
    this server."""

    prefix: str
    source: str
    host: str

    def through(self, link: str) -> str:
        """``link`` as it has to be to lead through the proxy."""
        try:
            parts = urlsplit(link)
        except ValueError:
            return link
        place = parts.netloc.rpartition("@")[2]
        if (place and place not in (self.source, self.host)) or not parts.path.startswith("/"):
            return link
        scheme, netloc = (parts.scheme, parts.netloc) if place and place == self.host else ("", "")
        path = parts.path
        if not path.startswith(self.prefix):
            path = posixpath.normpath(f"{self.prefix}{path}") + ("/" if path.endswith("/") else "")
        return urlunsplit((scheme, netloc, path, parts.query, parts.fragment))

    def page(self, text: bytes) -> bytes:
        """An HTML page with its links led through the proxy."""
        pieces: list[bytes] = []
        at = done = 0
        while found := _TAG.search(text, at):
            at = found.end()
            name = (found[1] or b"").decode("ascii").lower()
            if wanted := _ATTRIBUTES.get(name):
                inside = _ATTRIBUTE.sub(lambda one, wanted=wanted: self._attribute(one, wanted), found[2])  # type: ignore[misc]
                pieces += (text[done : found.start(2)], inside)
                done = found.end(2)
            if name in _TEXT:
                end = re.compile(rb"</" + name.encode() + rb"[\s/>]", re.IGNORECASE).search(text, at)
                at = end.start() if end else len(text)
        return b"".join((*pieces, text[done:]))

    def _attribute(self, found: re.Match[bytes], wanted: str) -> bytes:
        if found[2].decode("ascii").lower() not in wanted.split():
            return found[0]
        raw = found[4]
        quote = raw[:1] if raw[:1] in (b'"', b"'") else b""
        link = html.unescape(raw[len(quote) : len(raw) - len(quote)].decode("utf-8", "surrogateescape"))
        led = self.through(link)
        if led == link:
            return found[0]
        value = html.escape(led).encode("utf-8", "surrogateescape")
        return found[1] + found[2] + found[3] + b'"' + value + b'"'


def _read(encoding: str, body: bytes) -> bytes | None:
    """The page in a body; None when it cannot be read, or would be too large."""
    windows = {"gzip": 31, "deflate": -15}
    if not encoding:
        return body
    if encoding not in windows:
        return None
    reader = zlib.decompressobj(windows[encoding])
    try:
        page = reader.decompress(body, LARGEST + 1)
    except zlib.error:
        return None
    return page if reader.eof and len(page) <= LARGEST else None


def _written(encoding: str, page: bytes) -> bytes:
    if not encoding:
        return page
    writer = zlib.compressobj(wbits=31 if encoding == "gzip" else -15)
    return writer.compress(page) + writer.flush()


async def pages(links: Links, encoding: str, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The body of a page whose links lead through the proxy."""
    async with aclosing(chunks) as rest:  # type: ignore[type-var]
        gathered: list[bytes] = []
        size = 0
        async for chunk in rest:
            gathered.append(chunk)
            size += len(chunk)
            if size > LARGEST:
                break
        body = b"".join(gathered)
        page = _read(encoding, body) if size <= LARGEST else None
        yield body if page is None else _written(encoding, links.page(page))
        async for chunk in rest:
            yield chunk
