"""Calls over real sockets and TLS: trust, names, timeouts, kept connections, and words for what went wrong."""

from __future__ import annotations

import asyncio
import dataclasses
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiohttp import web

from bamikube.apiserver.outbound import CallError, Destination
from bamikube.apiserver.outbound.caller import HttpCaller
from bamikube.apiserver.outbound.introductions import held_pair
from bamikube.kit.world import World
from bamikube.pki.authority import Authority, Request
from tests.support.etcd import free_ports
from tests.support.tls_server import TlsServer


async def answer(request: web.Request) -> web.StreamResponse:
    match request.path:
        case "/late":
            await asyncio.sleep(30)
        case "/who":
            certificate = request.get_extra_info("peercert") or {}
            names = [
                value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"
            ]
            return web.json_response({"names": names, "host": request.headers["Host"]})
        case "/moved":
            raise web.HTTPFound("https://127.0.0.1/elsewhere")
        case "/slowly":
            stream = web.StreamResponse()
            await stream.prepare(request)
            for number in range(3):
                await stream.write(b"%d\n" % number)
            return stream
    return web.Response(body=await request.read(), headers={"X-Was": request.headers.get("X-Is", "")})


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The front proxy's CA, and a client certificate of it."""
    folder = tmp_path_factory.mktemp("front-proxy")
    made = Authority.create("front-proxy-ca", World())
    made.save(folder / "ca")
    issued = made.issue(Request("front-proxy-client", client=True))
    (folder / "client.crt").write_bytes(issued.certificate_pem)
    (folder / "client.key").write_bytes(issued.key_pem)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, authority: Path) -> Iterator[TlsServer]:
    made = TlsServer(
        tmp_path_factory.mktemp("server"),
        answer,
        sans=("judge.web.svc", "127.0.0.1"),
        client_ca=authority / "ca.crt",
    )
    with made:
        yield made


@pytest.fixture
async def caller(authority: Path) -> AsyncIterator[HttpCaller]:
    made = HttpCaller(str(authority / "client.crt"), str(authority / "client.key"))
    yield made
    await made.close()


@pytest.fixture
def place(server: TlsServer) -> Destination:
    return Destination("127.0.0.1", server.port, "judge.web.svc", "judge.web.svc:443", trust=server.ca_pem)


async def test_an_address_is_dialled_and_the_services_name_proved(
    caller: HttpCaller, place: Destination
) -> None:
    reply = await caller.call(place, "POST", "/x", headers=[("X-Is", "a")], body=b"hello", timeout=5)
    assert (reply.status, reply.body, reply.headers["x-was"]) == (200, b"hello", "a")
    reply = await caller.call(place, "GET", "/who", timeout=5)
    assert reply.body == b'{"names": [], "host": "judge.web.svc:443"}'


async def test_the_certificate_is_shown_where_it_is_asked_for(caller: HttpCaller, place: Destination) -> None:
    reply = await caller.call(dataclasses.replace(place, identify=True), "GET", "/who", timeout=5)
    assert b'"front-proxy-client"' in reply.body


async def test_a_webhook_is_shown_the_certificate_that_the_kubeconfig_has_for_it(
    authority: Path, place: Destination
) -> None:
    ca = Authority.load(authority / "ca.crt", authority / "ca.key", World())
    made = ca.issue(Request("judge-knows-me", client=True))
    pair = held_pair(made.certificate_pem, made.key_pem)
    bare = HttpCaller()
    reply = await bare.call(dataclasses.replace(place, pair=pair), "GET", "/who", timeout=5)
    assert b'"judge-knows-me"' in reply.body
    with pytest.raises(CallError, match="the client certificate cannot be used"):
        await bare.call(dataclasses.replace(place, pair="/no/such"), "GET", "/who", timeout=5)
    await bare.close()


async def test_connections_are_used_again(caller: HttpCaller, place: Destination, server: TlsServer) -> None:
    await caller.call(place, "POST", "/x", body=b"1", timeout=5)
    before = server.connections
    for _ in range(20):
        await caller.call(place, "POST", "/x", body=b"1", timeout=5)
    assert server.connections == before


async def test_redirects_are_not_followed(caller: HttpCaller, place: Destination) -> None:
    assert (await caller.call(place, "GET", "/moved", timeout=5)).status == 302


async def test_an_answer_can_be_read_as_it_comes(caller: HttpCaller, place: Destination) -> None:
    incoming = await caller.open(place, "GET", "/slowly")
    assert b"".join([chunk async for chunk in incoming.chunks()]) == b"0\n1\n2\n"


async def test_what_goes_wrong_is_said_in_known_words(caller: HttpCaller, place: Destination) -> None:
    async def fails(to: Destination, target: str = "/x", timeout: float = 5) -> str:
        with pytest.raises(CallError) as caught:
            await caller.call(to, "POST", target, timeout=timeout)
        return str(caught.value)

    assert await fails(place, "/late", 0.2) == "context deadline exceeded"
    assert (
        await fails(dataclasses.replace(place, trust=b""))
        == "tls: failed to verify certificate: x509: certificate signed by unknown authority"
    )
    assert (
        await fails(dataclasses.replace(place, name="other.web.svc"))
        == "tls: failed to verify certificate: x509: certificate is not valid for other.web.svc"
    )
    (free,) = free_ports(1)
    assert (
        await fails(dataclasses.replace(place, port=free))
        == f"dial tcp 127.0.0.1:{free}: connect: connection refused"
    )
    assert "no such host" in await fails(dataclasses.replace(place, host="nowhere.invalid"))
    assert "unable to load root certificates" in await fails(dataclasses.replace(place, trust=b"no PEM"))


async def test_no_proxy_of_the_environment_is_asked(
    caller: HttpCaller, place: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert (await caller.call(place, "POST", "/x", timeout=5)).status == 200


async def test_verification_can_be_waived(caller: HttpCaller, place: Destination) -> None:
    loose = dataclasses.replace(place, trust=b"", verify=False)
    assert (await caller.call(loose, "POST", "/x", timeout=5)).status == 200


def test_importing_the_port_brings_no_http_client() -> None:
    code = "import sys, bamikube.apiserver.outbound; sys.exit('aiohttp' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": "services"}, check=False)
    assert done.returncode == 0
