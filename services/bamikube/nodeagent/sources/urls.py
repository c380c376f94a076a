"""A manifest that a web server gives: asked every twenty seconds, taken when it is another one.

An answer that is empty, faulty or none changes nothing: a web server that is down ends no pod. What is wrong is said when
it begins, not every time.
"""

from __future__ import annotations

import asyncio
import http.client
import logging
import urllib.request
from collections.abc import Callable, Sequence

from bamikube.kit.world import World
from bamikube.nodeagent.pod.facts import JSON

log = logging.getLogger(__name__)

TIMEOUT = 10.0  # seconds for one answer
LARGEST = 10 << 20  # bytes


def headers(flags: Sequence[str]) -> list[tuple[str, str]]:
    """``name:value`` as pairs. Raises ValueError naming the flag."""
    found = []
    for text in flags:
        name, mark, value = text.partition(":")
        if not mark or not name.strip():
            raise ValueError(f"--manifest-url-header: {text!r} is not name:value")
        found.append((name.strip(), value.strip()))
    return found


class ManifestUrl:
    """``take`` is called with all pods of the answer, first and whenever it has changed."""

    def __init__(
        self,
        world: World,
        url: str,
        sent: Sequence[tuple[str, str]],
        node: str,
        every: float,
        take: Callable[[list[JSON]], None],
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"--manifest-url {url}: give an address that begins with http:// or https://")
        self._world, self._url, self._sent, self._node = world, url, sent, node
        self._every, self._take = every, take
        self._last = b""
        self._told = ""

    async def run(self) -> None:
        from bamikube.nodeagent.sources import manifest  # large: see there

        while True:
            try:
                text = await asyncio.to_thread(self._ask)
                if not text.strip():
                    raise ValueError("the answer is empty")
                if text != self._last:
                    self._take(manifest.parse_all(text, self._node, self._url, self._world.clock.now()))
                    self._last = text
                self._told = ""
            except (OSError, ValueError, http.client.HTTPException) as error:
                self._say(str(error) or type(error).__name__)
            except Exception as error:  # whatever an answer holds, the next one is asked for
                self._say(f"the answer cannot be read as a pod: {error!r}")
            await self._world.clock.sleep(self._every)

    def _say(self, what: str) -> None:
        if what != self._told:
            log.error("--manifest-url %s: %s", self._url, what)
        self._told = what

    def _ask(self) -> bytes:
        request = urllib.request.Request(self._url)
        for name, value in self._sent:
            before = request.get_header(name.capitalize())
            request.add_header(name, f"{before}, {value}" if before else value)
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            text: bytes = answer.read(LARGEST + 1)
        if len(text) > LARGEST:
            raise ValueError(f"the answer has more than {LARGEST} bytes")
        return text
