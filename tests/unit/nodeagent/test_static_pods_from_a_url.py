"""Static pods that a web server describes (a real one, on loopback)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from bamikube.kit.world import World
from bamikube.nodeagent.options import NodeAgentOptions
from bamikube.nodeagent.settings import sources
from bamikube.nodeagent.sources.joined import Joined
from bamikube.nodeagent.sources.urls import ManifestUrl, headers

JSON = dict[str, Any]
ITEM = '{"metadata": {"name": "%s"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}'
LIST = '{"apiVersion": "v1", "kind": "PodList", "items": [' + ITEM % "a" + "," + ITEM % "b" + "]}"
ONE = "apiVersion: v1\nkind: Pod\nmetadata: {name: one}\nspec: {containers: [{name: c, image: i}]}\n"


class Server:
    """Answers with ``said``, a status and a text, and remembers what it was sent."""

    def __init__(self) -> None:
        self.said = (200, LIST)
        self.heard: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.heard.append(str(self.headers.get("Metadata-Flavor")))
                status, text = outer.said
                if not status:
                    self.wfile.write(b"no HTTP at all")
                    return
                self.send_response(status)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/pods"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


async def test_a_list_is_taken_and_nothing_that_is_faulty(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    taken: list[list[str]] = []
    source = ManifestUrl(
        World(),
        server.url,
        headers(["Metadata-Flavor: lab", "Metadata-Flavor:two"]),
        "node-1",
        0.01,
        lambda pods: taken.append([pod["metadata"]["name"] for pod in pods]),
    )

    async def asked(more: int = 3) -> None:
        until = len(server.heard) + more
        async with asyncio.timeout(10):
            while len(server.heard) < until:  # noqa: ASYNC110 - a thread counts
                await asyncio.sleep(0.01)

    task = asyncio.ensure_future(source.run())
    try:
        await asked()
        assert taken == [["a-node-1", "b-node-1"]] and set(server.heard) == {"lab, two"}
        for status, text in (
            (500, "no"),
            (200, ""),
            (200, "kind: PodList"),
            (200, "["),
            (0, ""),
            (200, "[" * 9000),
        ):
            server.said = (status, text)
            await asked()
        assert len(taken) == 1, "a web server that is down or wrong ends no pod"
        server.said = (200, ONE)
        await asked()
        assert taken[1:] == [["one-node-1"]]
    finally:
        task.cancel()
        await asyncio.wait({task})
    assert caplog.text.count("HTTP Error 500") == 1, "what is wrong is said once"


def test_sources_are_whole_when_all_have_spoken() -> None:
    kept: list[tuple[list[str], bool]] = []
    joined = Joined(
        ("files", "url"), lambda pods, whole: kept.append(([p["metadata"]["name"] for p in pods], whole))
    )
    here: JSON = {"metadata": {"namespace": "default", "name": "x"}}
    other: JSON = {"metadata": {"namespace": "default", "name": "y"}}
    joined.take("files")([here])
    joined.take("url")([dict(here), other])
    joined.take("files")([])
    assert kept == [(["x"], False), (["x", "y"], True), (["x", "y"], True)]


def test_faulty_flags_are_named() -> None:
    for given, said in (
        ({"manifest_url": "ftp://x"}, "--manifest-url ftp://x: give an address"),
        (
            {"manifest_url": "http://x", "manifest_url_header": ["a"]},
            "--manifest-url-header: 'a' is not name:value",
        ),
        ({"manifest_url": "http://x", "http_check_frequency": "1 h"}, "--http-check-frequency: '1 h' is not"),
    ):
        with pytest.raises(ValueError, match=said):
            sources(NodeAgentOptions(**given), World(), "n", lambda pods, whole: None)  # type: ignore[arg-type]
