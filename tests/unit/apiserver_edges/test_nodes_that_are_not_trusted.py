"""A node whose certificate is signed by somebody else: nothing is asked of it, unless the client says that it may be."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bamikube.api.errors import ApiError
from bamikube.apiserver.subresources.dialing import NodeDialer, Place, untrusted
from bamikube.kit.http import Answer, Request, Response
from bamikube.kit.httpserver import serve
from bamikube.kit.tasks import Tasks
from bamikube.kit.world import World
from bamikube.pki.authority import Authority
from bamikube.pki.authority import Request as Wanted


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    """A node agent with a certificate of its own making; ``ca.crt`` is the cluster's authority."""
    world, tasks = World(), Tasks("test")
    Authority.create("cluster", world).save(tmp_path / "ca")
    made = Authority.create("node", world).issue(Wanted("worker", sans=("127.0.0.1",), server=True))
    (tmp_path / "node.crt").write_bytes(made.certificate_pem)
    (tmp_path / "node.key").write_bytes(made.key_pem)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "node.crt", tmp_path / "node.key")

    async def handle(request: Request) -> Answer:
        return Response(200, request.path.encode(), content_type="text/plain")

    server = await serve(handle, host="127.0.0.1", port=0, ssl=context, tasks=tasks)
    yield Place("worker", "127.0.0.1", server.port)
    await server.close()
    await tasks.close()


async def test_only_who_says_so_reads_from_it(place: Place, tmp_path: Path) -> None:
    dialer = NodeDialer.from_files("", "", str(tmp_path / "ca.crt"))
    with pytest.raises(ApiError, match="CERTIFICATE_VERIFY_FAILED") as caught:
        await dialer.open(place, "GET", "/containerLogs")
    assert untrusted(caught.value) and caught.value.code == 500
    assert await (await dialer.open(place, "GET", "/containerLogs", verify=False)).text() == "/containerLogs"
    gone = Place("worker", "127.0.0.1", 1)
    with pytest.raises(ApiError) as caught:
        await dialer.open(gone, "GET", "/containerLogs", verify=False)
    assert not untrusted(caught.value)
