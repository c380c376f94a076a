"""Links of proxied pages lead through the proxy."""

from __future__ import annotations

import gzip
import time
import zlib
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bamikube.apiserver.subresources.links import LARGEST, Links, pages

BASE = "/api/v1/namespaces/n/services/s/proxy"
LINKS = Links(BASE, "10.0.0.1:80", "api.example:6443")


@pytest.mark.parametrize(
    ("link", "led"),
    [
        ("/login", f"{BASE}/login"),
        ("/", f"{BASE}/"),
        ("/a/../b//c/?q=1#f", f"{BASE}/b/c/?q=1#f"),
        ("http://10.0.0.1:80/x", f"{BASE}/x"),
        ("https://api.example:6443/x", f"https://api.example:6443{BASE}/x"),
        ("//10.0.0.1:80/x", f"{BASE}/x"),
        (f"{BASE}/x", f"{BASE}/x"),
        ("next", "next"),
        ("?q", "?q"),
        ("", ""),
        ("http://other.example/x", "http://other.example/x"),
        ("mailto:a@b", "mailto:a@b"),
        ("http://[broken/x", "http://[broken/x"),
    ],
)
def test_where_a_link_leads(link: str, led: str) -> None:
    assert LINKS.through(link) == led


@pytest.mark.parametrize(
    ("page", "led"),
    [
        (b'<a class=x href="/a?b&amp;c=1">t</a>', f'<a class=x href="{BASE}/a?b&amp;c=1">t</a>'.encode()),
        (b"<A HREF = '/a'>", f'<A HREF = "{BASE}/a">'.encode()),
        (b"<img src=/i.png alt=/alt>", f'<img src="{BASE}/i.png" alt=/alt>'.encode()),
        (b'<img src="/i" longdesc="/d"/>', f'<img src="{BASE}/i" longdesc="{BASE}/d"/>'.encode()),
        (b'<script src="/s.js">var x = "<a href=\'/no\'>";</script><a href="/y">', f'<script src="{BASE}/s.js">var x = "<a href=\'/no\'>";</script><a href="{BASE}/y">'.encode()),
        (b'<!-- <a href="/no"> --><p title="/no">\xff</p>', b'<!-- <a href="/no"> --><p title="/no">\xff</p>'),
        (b'<a href="rel"><a href="http://x/y"><div data-href="/no">', b'<a href="rel"><a href="http://x/y"><div data-href="/no">'),
        (b'<a title="href=/no" href="/yes">', f'<a title="href=/no" href="{BASE}/yes">'.encode()),
    ],
)  # fmt: skip
def test_pages(page: bytes, led: bytes) -> None:
    assert LINKS.page(page) == led


@given(st.lists(st.sampled_from([b"<a ", b"<", b">", b'"', b"'", b"href=", b"/x", b"<!--", b"-->", b"<script>", b"</script>", b" "]), max_size=30))  # fmt: skip
def test_whatever_a_page_is_it_comes_through(parts: list[bytes]) -> None:
    page = b"".join(parts)
    led = LINKS.page(page)
    assert led.replace(BASE.encode(), b"").replace(b'"', b"").replace(b"'", b"") == page.replace(b'"', b"").replace(b"'", b"")  # fmt: skip


@pytest.mark.parametrize(
    "part", [b"<a ", b'<a "', b"<a href='", b"<!--", b"<script>", b"a=", b'<a href="/x">']
)
def test_hostile_pages_cost_no_more_than_their_length(part: bytes) -> None:
    page = part * (500_000 // len(part))
    began = time.process_time()
    LINKS.page(page)
    assert time.process_time() - began < 2


async def _through(encoding: str, *chunks: bytes) -> bytes:
    async def body() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return b"".join([chunk async for chunk in pages(LINKS, encoding, body())])


async def test_pages_in_their_encodings() -> None:
    page, led = b'<a href="/x">', f'<a href="{BASE}/x">'.encode()
    assert await _through("", page[:4], page[4:]) == led
    assert gzip.decompress(await _through("gzip", gzip.compress(page))) == led
    raw = zlib.compressobj(wbits=-15)
    packed = raw.compress(page) + raw.flush()
    assert zlib.decompress(await _through("deflate", packed), -15) == led
    assert await _through("br", page) == page and await _through("gzip", b"no gzip") == b"no gzip"
    large = page + b" " * LARGEST
    assert await _through("", large, b"more") == large + b"more"
    bomb = gzip.compress(b" " * (LARGEST + 1))
    assert await _through("gzip", bomb) == bomb
