"""GETs answered inline say the same as GETs answered the ordinary way, over real sockets on loopback.

Two edges stand before one API server: one that offers GETs to ``quick`` first, one that does not.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bamikube.api import table
from bamikube.apiserver.options import ApiServerOptions
from bamikube.apiserver.server import ApiServer
from bamikube.kit.http import Answer, Request, Response
from bamikube.kit.httpserver import Server, serve
from bamikube.kit.inline import Notes, Reply
from bamikube.kit.tasks import Tasks
from bamikube.kit.world import World
from bamikube.pki import keys
from bamikube.store.model import ModelStore

CM = "/api/v1/namespaces/default/configmaps/a"


@dataclass
class Both:
    """The server, its two edges, a token, and the paths that were answered inline."""

    api: ApiServer
    store: ModelStore
    quick: Server
    plain: Server
    token: str
    inline: list[str] = field(default_factory=list)

    def get(self, path: str, *lines: str, method: str = "GET", token: str | None = None) -> bytes:
        bearer = f"Authorization: Bearer {self.token if token is None else token}"
        return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", bearer, *lines, "", ""]).encode()


@pytest.fixture
async def both(tmp_path: Path) -> AsyncIterator[Both]:
    world = World()
    store = ModelStore(world)
    key = tmp_path / "sa.key"
    key.write_bytes(keys.private_pem(keys.new_rsa_key()))
    static = tmp_path / "tokens.csv"
    static.write_text("root,root,u1,system:masters\nnobody,nobody,u2\n")
    options = ApiServerOptions(token_auth_file=str(static), service_account_signing_key_file=str(key))
    api = ApiServer(store, options, world)
    tasks = Tasks("edges")
    running = tasks.spawn(api.run(), "api")
    await asyncio.wait_for(api.ready.wait(), 10)
    inline: list[str] = []

    def counted(request: Request, notes: Notes, reply: Reply) -> bool:
        def told(answer: Response | None) -> None:
            if answer is not None:
                inline.append(request.path)
            reply(answer)

        return api.quick(request, notes, told)

    quick = await serve(api.handle, host="127.0.0.1", port=0, tasks=tasks, quick=counted)
    plain = await serve(api.handle, host="127.0.0.1", port=0, tasks=tasks)
    await api.registry.create(
        table.by_name("configmaps"),
        {"metadata": {"name": "a"}, "data": {"k": "ä" * 100}},
        namespace="default",
    )
    yield Both(api, store, quick, plain, "root", inline)
    await quick.close(0.2)
    await plain.close(0.2)
    running.cancel()
    await tasks.close()


async def answers(server: Server, *requests: bytes, together: bool = False) -> list[bytes]:
    """What comes back for each request on one connection, without what differs from time to time."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    found = []
    with contextlib.closing(writer):
        if together:
            writer.write(b"".join(requests))
        for request in requests:
            if not together:
                writer.write(request)
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
            length = re.search(rb"Content-Length: (\d+)", head)
            body = b""
            if length is not None and not request.startswith(b"HEAD"):
                body = await reader.readexactly(int(length.group(1)))
            age = re.sub(rb'"\d+s"', b'"age"', body)  # of an object in a table
            found.append(re.sub(rb"(Audit-Id|Date): [^\r]*\r\n", b"", head) + age)
    return found


async def compare(both: Both, *requests: bytes, together: bool = False) -> list[bytes]:
    ours = await answers(both.quick, *requests, together=together)
    assert ours == await answers(both.plain, *requests, together=together)
    return ours


async def test_repeated_gets_are_answered_inline_and_alike(both: Both) -> None:
    found = await compare(both, *[both.get(CM)] * 5)
    assert all(answer.startswith(b"HTTP/1.1 200 OK\r\n") for answer in found) and len(set(found)) == 1
    assert both.inline == [CM] * 4  # the first one taught the header lines
    audited = both.get(CM, "Audit-Id: mine")
    await answers(both.quick, audited, audited)
    assert both.inline == [CM] * 5


@pytest.mark.parametrize(
    ("line", "inline"),
    [
        ("Accept: application/json, */*", 2),  # as Go's clients ask
        ("Accept: application/json;q=0.9, application/yaml;q=0.5", 2),
        ("Accept: application/vnd.kubernetes.protobuf, application/json", 0),
        ("Accept: application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1, application/json", 0),
        ("User-Agent: curl/8.5.0", 0),  # reads it indented
        ("User-Agent: kubectl/v1.33.0 (linux/amd64)", 2),
    ],
)
async def test_who_takes_the_plain_object_gets_it_inline(both: Both, line: str, inline: int) -> None:
    await compare(both, both.get(f"{CM}?pretty=false", line), *[both.get(CM, line)] * 2)
    assert len(both.inline) == inline


async def test_what_is_no_plain_success_goes_the_ordinary_way(both: Both) -> None:
    paths = [
        f"{CM}b",  # 404
        f"{CM}?resourceVersion=0",
        f"{CM}/status",
        "/api/v1/namespaces/default",
        "/api/v1/nodes/none",
        "/api/v1/namespaces/default/nodes/none",
        "/api/v1/namespaces//configmaps/a",
        "/apis/apps/v1/nothing/x",
        "/api/v1/namespaces/default/configmaps/%61",
        "/version",
        "/nowhere",
    ]
    for path in paths:
        await compare(both, *[both.get(path)] * 3)
    # A list tells the revision, which the server's own loops move at any time.
    listed = await answers(both.quick, *[both.get("/api/v1/namespaces/default/configmaps")] * 3)
    assert all(b'"kind":"ConfigMapList"' in answer for answer in listed)
    known = both.get(CM)
    for lines in (
        ["Accept: application/json;as=Table;v=v1;g=meta.k8s.io"],
        ["Accept: application/yaml"],
        ["Accept: text/html"],
        ["Impersonate-User: nobody"],
        ["Connection: keep-alive"],
    ):
        await compare(both, *[both.get(CM, *lines)] * 3)
    await compare(both, known, both.get(CM, method="HEAD"), known)
    for token in ("nobody", "wrong", ""):
        denied = await compare(both, *[both.get(CM, token=token)] * 3)
        assert denied[-1].startswith((b"HTTP/1.1 401", b"HTTP/1.1 403"))


async def test_pipelined_bodied_and_torn_requests_stay_in_order(both: Both) -> None:
    known, other = both.get(CM), both.get("/api/v1/namespaces/default")
    await compare(both, known, known, other, known, together=True)
    body = b'{"metadata":{"name":"b"}}' + b" " * 50
    dry = both.get(
        "/api/v1/namespaces/default/configmaps?dryRun=All", f"Content-Length: {len(body)}", method="POST"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", both.quick.port)
    with contextlib.closing(writer):
        before = len(both.inline)
        for pieces in (
            [known],
            [known],
            [dry, body[:10], body[10:]],
            [known],
            [known[:30], known[30:]],
            [known],
        ):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.02)  # so that the pieces arrive one by one
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
            assert head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 201"))
            length = re.search(rb"Content-Length: (\d+)", head)
            assert length is not None
            await reader.readexactly(int(length.group(1)))
        # Inline before and right after the body; never again once a head came in two pieces.
        assert len(both.inline) - before == 2


async def test_a_body_that_looks_like_a_request_is_a_body(both: Both) -> None:
    known = both.get(CM)
    trick = both.get("/api/v1/namespaces/default", f"Content-Length: {len(known)}")
    found: dict[int, list[bytes]] = {}
    for server in (both.quick, both.plain):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)

        async def body(reader: asyncio.StreamReader = reader) -> bytes:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
            length = re.search(rb"Content-Length: (\d+)", head)
            assert length is not None
            return await reader.readexactly(int(length.group(1)))

        with contextlib.closing(writer):
            told = found[server.port] = []
            for _ in range(2):
                writer.write(known)
                told.append(await body())
            for piece in (trick, known[:7], known[7:] + known):
                writer.write(piece)
                await asyncio.sleep(
                    0.05
                )  # so that the pieces mostly arrive one by one; together they mean the same
            told += [await body(), await body()]
    ours, theirs = found.values()
    assert ours == theirs and ours[2].count(b'"kind":"Namespace"') == 1 and ours[3] == ours[0]
    assert both.inline == [CM]


async def test_who_lost_his_rights_is_refused_at_once(both: Both) -> None:
    registry = both.api.registry
    accounts, bindings = (
        table.by_name("serviceaccounts"),
        table.by_name("clusterrolebindings.rbac.authorization.k8s.io"),
    )
    account = await registry.create(accounts, {"metadata": {"name": "robot"}}, namespace="default")
    binding = {
        "metadata": {"name": "robot"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": "robot", "namespace": "default"}],
    }
    await registry.create(bindings, binding)
    made = await answers(
        both.quick,
        both.get("/api/v1/namespaces/default/serviceaccounts/robot/token", "Content-Length: 2", method="POST")
        + b"{}",
    )
    token = re.search(rb'"token":"([^"]+)"', made[0])
    assert token is not None and account["metadata"]["uid"]
    asked = both.get(CM, token=token.group(1).decode())
    assert (await answers(both.quick, asked, asked))[1].startswith(b"HTTP/1.1 200")
    assert both.inline == [CM]
    delete = both.get("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/robot", method="DELETE")
    assert (await answers(both.quick, delete))[0].startswith(b"HTTP/1.1 200")
    assert (await answers(both.quick, asked))[0].startswith(b"HTTP/1.1 403")
    delete = both.get("/api/v1/namespaces/default/serviceaccounts/robot", method="DELETE")
    assert (await answers(both.quick, delete))[0].startswith(b"HTTP/1.1 200")
    assert (await answers(both.quick, asked))[0].startswith(b"HTTP/1.1 401")
    assert both.inline == [CM]


async def test_an_inline_answer_is_as_new_as_the_store(both: Both) -> None:
    """The watch goes deaf; another server writes; nobody is told the old state."""
    feed = both.api.cache.feed
    await answers(both.quick, both.get(CM), both.get(CM))
    both.api.cache.feed = lambda changes: None  # type: ignore[method-assign]
    updated = await both.api.registry.get(table.by_name("configmaps"), "default", "a")
    await both.api.registry.update(table.by_name("configmaps"), {**updated, "data": {"k": "new"}})
    found = await answers(both.quick, both.get(CM))
    assert b'"k":"new"' in found[0] and both.inline == [CM]
    both.api.cache.feed = feed  # type: ignore[method-assign]


async def test_a_stop_waits_for_the_answer_that_is_on_its_way() -> None:
    waiting: list[Reply] = []

    def quick(request: Request, notes: Notes, reply: Reply) -> bool:
        waiting.append(reply)
        return True

    async def handle(request: Request) -> Answer:
        return Response(200, b"ordinary")

    tasks = Tasks("edge")
    server = await serve(handle, host="127.0.0.1", port=0, tasks=tasks, quick=quick)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    with contextlib.closing(writer):
        request = b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n"
        writer.write(request)
        assert (await reader.readuntil(b"ordinary")).startswith(b"HTTP/1.1 200")
        writer.write(request)
        async with asyncio.timeout(5):
            while not waiting:  # noqa: ASYNC110 - the other side of a socket
                await asyncio.sleep(0.005)
        closing = asyncio.ensure_future(server.close(5))
        await asyncio.sleep(0.05)
        assert not closing.done()
        waiting[0](Response(200, b"inline"))
        assert b"Connection: close" in await asyncio.wait_for(reader.read(), 5)
        await asyncio.wait_for(closing, 5)
    await tasks.close()
