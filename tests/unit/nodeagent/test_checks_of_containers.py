"""What probes and hooks send, and in which words they tell of what comes back."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from bamikube.nodeagent import durations
from bamikube.nodeagent.probing.checks import NodeChecks, Result
from bamikube.nodeagent.probing.http_check import address_of
from bamikube.nodeagent.runtime.port import ExecResult, RuntimeFailure

JSON = dict[str, Any]


class Server:
    """A container's HTTP server on loopback that remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[web.Request] = []
        self.port = 0

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request)
        if request.path == "/away":
            return web.Response(status=302, headers={"Location": "http://0.0.0.0/"}, text="Found")
        if request.path == "/here":
            return web.Response(status=302, headers={"Location": "/ok"})
        if request.path == "/loop":
            return web.Response(status=302, headers={"Location": "/loop"})
        return web.Response(status=int(request.query.get("code", 200)), text="hello")


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    yield server
    await runner.cleanup()


class Commands:
    """A runtime that answers commands by script."""

    def __init__(self, answer: ExecResult | RuntimeFailure) -> None:
        self.answer = answer

    async def exec_sync(self, container_id: str, command: list[str], timeout: float) -> ExecResult:
        if isinstance(self.answer, RuntimeFailure):
            raise self.answer
        return self.answer


async def probe(handler: JSON, answer: Any = None, spec: JSON | None = None, timeout: float = 1.0) -> Result:
    checks = NodeChecks(Commands(answer))  # type: ignore[arg-type]
    try:
        return await checks.probe(handler, spec or {"name": "app"}, "c1", "127.0.0.1", timeout)
    finally:
        await checks.close()


async def hook(handler: JSON, answer: Any = None) -> Result:
    checks = NodeChecks(Commands(answer))  # type: ignore[arg-type]
    try:
        return await checks.hook(handler, {"name": "app"}, "c1", "127.0.0.1", 1.0)
    finally:
        await checks.close()


async def test_redirects_are_followed_on_the_same_host_only(server: Server) -> None:
    def get(path: str) -> JSON:
        return {"httpGet": {"path": path, "port": server.port}}

    assert await probe(get("/here")) == Result("success", "hello")
    said = Result("warning", "Probe terminated redirects, Response body: Found")
    assert await probe(get("/away")) == said
    endless = await probe(get("/loop"))
    assert endless.kind == "failure" and endless.output.endswith(": stopped after 10 redirects")
    assert len([r for r in server.asked if r.path == "/loop"]) == 10


async def test_an_answer_is_judged_by_its_status(server: Server) -> None:
    get = {"httpGet": {"path": "/?code=500", "port": server.port}}
    assert await probe(get) == Result("failure", "HTTP probe failed with statuscode: 500")
    assert await hook(get) == Result("success")


async def test_headers_may_stand_twice_and_default_ones_can_be_left_out(server: Server) -> None:
    headers = [
        {"name": "X-A", "value": "1"},
        {"name": "X-A", "value": "2"},
        {"name": "Host", "value": "web.test"},
    ]
    await probe({"httpGet": {"port": server.port, "httpHeaders": headers}})
    sent = server.asked[-1].headers
    assert sent.getall("X-A") == ["1", "2"]
    assert sent["Host"] == "web.test"
    assert (sent["User-Agent"], sent["Accept"]) == ("kube-probe/1.34", "*/*")
    assert "Accept-Encoding" not in sent
    empty = [{"name": "user-agent", "value": ""}, {"name": "Accept", "value": ""}]
    await probe({"httpGet": {"port": server.port, "httpHeaders": empty}})
    assert not {"User-Agent", "Accept"} & set(server.asked[-1].headers)


def test_a_path_is_sent_as_it_stands() -> None:
    url = address_of({"path": "a%2Fb?q=1&r=ü", "scheme": "HTTPS"}, 8443, "fd00::1")
    assert str(url) == "https://[fd00::1]:8443/a%2Fb?q=1&r=%C3%BC"


BROKEN = "net/http: HTTP/1.x transport connection broken: "


@pytest.mark.parametrize(
    ("scheme", "answer", "words"),
    [
        ("HTTP", b"", "EOF"),
        ("HTTP", b"hello\r\n", BROKEN + 'malformed HTTP response "hello"'),
        ("HTTP", b"HTTP/1.1 abc OK\r\n\r\n", BROKEN + 'malformed HTTP status code "abc"'),
        ("HTTP", b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n", BROKEN + "malformed MIME header line: bad header"),
        ("HTTP", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi", "unexpected EOF"),
        ("HTTPS", b"HTTP/1.1 400 Bad Request\r\n\r\n", "http: server gave HTTP response to HTTPS client"),
        ("HTTPS", b"", "EOF"),
    ],
)
async def test_what_is_no_answer_is_told_as_go_does(scheme: str, answer: bytes, words: str) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    result = await probe({"httpGet": {"port": port, "scheme": scheme}})
    assert result == Result("failure", f'Get "{scheme.lower()}://127.0.0.1:{port}/": {words}')
    server.close()


async def test_a_closed_port_is_told_as_go_does() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        refused = f"dial tcp 127.0.0.1:{port}: connect: connection refused"
        assert await probe({"tcpSocket": {"port": port}}) == Result("failure", refused)
        text = f'Get "http://127.0.0.1:{port}/": {refused}'
        assert await probe({"httpGet": {"port": port}}) == Result("failure", text)
        grpc = await probe({"grpc": {"port": port}}, timeout=0.2)
        text = f'timeout: failed to connect service "127.0.0.1:{port}" within 200ms'
        assert grpc == Result("failure", text)


async def test_a_silent_server_runs_into_the_timeout() -> None:
    server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    answer = await probe({"httpGet": {"port": port}}, timeout=0.1)
    server.close()
    assert answer.kind == "failure"
    assert answer.output.endswith(
        "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
    )


async def test_commands() -> None:
    command = {"exec": {"command": ["sh", "-c", "exit 1"]}}
    assert await probe(command, ExecResult(0, b"out", b"")) == Result("success", "out")
    assert await probe(command, ExecResult(1, b"out", b"err")) == Result("failure", "outerr")
    late = 'command timed out: "sh -c exit 1" timed out after 1s'
    assert await probe(command, RuntimeFailure("DEADLINE_EXCEEDED", "late")) == Result("failure", late)
    gone = "rpc error: code = NotFound desc = no container"
    assert await probe(command, RuntimeFailure("NOT_FOUND", "no container")) == Result("unknown", gone)
    failed = await hook(command, ExecResult(1, b"o", b"e"))
    assert failed == Result("failure", "command 'sh -c exit 1' exited with 1: e, message: \"oe\"")


async def test_a_command_that_begins_late_has_all_its_time() -> None:
    class Busy(Commands):
        async def exec_sync(self, container_id: str, command: list[str], timeout: float) -> ExecResult:
            await asyncio.sleep(5 * timeout)
            return ExecResult(0, b"", b"")

    checks = NodeChecks(Busy(ExecResult(0, b"", b"")))  # type: ignore[arg-type]
    handler = {"exec": {"command": ["true"]}}
    assert (await checks.probe(handler, {"name": "app"}, "c1", "127.0.0.1", 0.01)).ok
    await checks.close()
    checks = NodeChecks(Busy(ExecResult(0, b"", b"")), late=0.02)  # type: ignore[arg-type]
    result = await checks.probe(handler, {"name": "app"}, "c1", "127.0.0.1", 0.01)
    assert result == Result("failure", 'command timed out: "true" timed out after 10ms')
    await checks.close()


async def test_ports_by_name() -> None:
    unknown = await probe({"tcpSocket": {"port": "web"}})
    assert unknown == Result("unknown", 'strconv.Atoi: parsing "web": invalid syntax')
    spec = {"name": "app", "ports": [{"name": "web", "containerPort": 70000}]}
    assert await probe({"tcpSocket": {"port": "web"}}, spec=spec) == Result(
        "unknown", "invalid port number: 70000"
    )
    assert await probe({}) == Result("unknown", "missing probe handler")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.5125, "512ms"),
        (1, "1s"),
        (1.25, "1.25s"),
        (80, "1m20s"),
        (300, "5m0s"),
        (3725.5, "1h2m5.5s"),
    ],
)
def test_durations_are_written_as_go_writes_them(seconds: float, text: str) -> None:
    assert durations.go(seconds) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("1h1m1.5s", 3661.5), (".5s", 0.5), ("2.m", 120), ("1us", 1e-6), ("5µs", 5e-6), ("7ns", 7e-9)],
)
def test_durations_are_read_as_go_reads_them(text: str, seconds: float) -> None:
    assert durations.seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "s", "5d", "1 s", ".s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        durations.seconds(text)
