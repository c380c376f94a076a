"""Certificates that a node asks the cluster for: when, with which request, and what becomes of the answer."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from bamikube.client.client import Client
from bamikube.client.transport import HttpTransport
from bamikube.kit.http import Answer, Response, Stream
from bamikube.kit.http import Request as HttpRequest
from bamikube.kit.httpserver import serve
from bamikube.kit.tasks import Tasks
from bamikube.kit.world import World
from bamikube.nodeagent.node import rotation
from bamikube.nodeagent.node.certificates import Known
from bamikube.nodeagent.node.rotation import CLIENT, SERVER, Kind, Rotation, Unanswered, answer, asked, due
from bamikube.nodeagent.options import NodeAgentOptions
from bamikube.nodeagent.server.tls import Serving
from bamikube.pki import keys, kubeconfig, signers
from bamikube.pki.authority import Authority, Request
from tests.simulation import virtual
from tests.support.hollow_pods import HollowNode

JSON = dict[str, Any]
NAMES = ("worker-1", "192.0.2.1", "2001:db8::1")
DAY = 86400


@pytest.mark.parametrize("kind", [SERVER, CLIENT])
def test_requests_are_what_the_clusters_signers_take(kind: Kind) -> None:
    made = asked(kind, "worker-1", NAMES, keys.new_ec_key())
    spec = made["spec"]
    read = signers.read(spec["request"])
    assert signers.refusal(spec["signerName"], read, spec["usages"]) == ""
    assert signers.common_name(read) == "system:node:worker-1"
    given = [str(getattr(name, "value", name)) for name in signers.alternative_names(read)]
    assert given == (list(NAMES) if kind is SERVER else [])


def test_a_certificate_is_asked_for_anew_late_in_its_time_or_when_it_lacks_a_name() -> None:
    world = World()
    authority = Authority.create("ca", world)
    pem = authority.issue(Request("n", sans=NAMES, server=True, lifetime=100 * DAY)).certificate_pem
    begun = x509.load_pem_x509_certificate(pem).not_valid_before_utc.timestamp()
    whole = x509.load_pem_x509_certificate(pem).not_valid_after_utc.timestamp() - begun
    assert due(pem, NAMES, 0.0) == pytest.approx(begun + 0.7 * whole)
    assert due(pem, NAMES[:1], 1.0) == pytest.approx(begun + 0.9 * whole)
    assert due(pem, (*NAMES, "192.0.2.2"), 0.5) == 0.0, "the node has got another address"
    assert due(b"", (), 0.5) == due(b"nonsense", NAMES, 0.5) == 0.0
    bare = authority.issue(Request("n", client=True)).certificate_pem
    assert due(bare, (), 0.0) > 0.0 and due(bare, NAMES, 0.0) == 0.0


def test_what_is_answered() -> None:
    assert answer({}) == answer({"status": {"conditions": [{"type": "Approved", "status": "True"}]}}) == b""
    assert answer({"status": {"certificate": base64.b64encode(b"pem").decode()}}) == b"pem"
    refused = {"type": "Denied", "status": "True", "reason": "No", "message": "not here"}
    with pytest.raises(Unanswered, match="request is denied, reason: No, message: not here"):
        answer({"status": {"conditions": [refused]}})


class Cluster:
    """Takes requests, and signs those that somebody has approved."""

    def __init__(self, world: World, now: Any) -> None:
        self.authority, self._now = Authority.create("ca", world), now
        self.requests: dict[str, JSON] = {}

    async def create(self, resource: str, body: JSON) -> JSON:
        assert resource == rotation.REQUESTS
        name = f"csr-{len(self.requests)}"
        self.requests[name] = body | {"metadata": {"name": name}}
        return self.requests[name]

    async def get(self, resource: str, name: str) -> JSON:
        return self.requests[name]

    def approve(self, name: str) -> None:
        spec = self.requests[name]["spec"]
        made = signers.certificate(
            self.authority, signers.read(spec["request"]), spec["usages"], 10 * DAY, self._now()
        )
        self.requests[name]["status"] = {"certificate": base64.b64encode(made).decode()}

    def deny(self, name: str) -> None:
        self.requests[name]["status"] = {"conditions": [{"type": "Denied", "status": "True"}]}


def test_a_node_asks_waits_takes_and_asks_again_in_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    async def life() -> None:
        node = HollowNode()
        world, clock = node.shared.world, node.clock
        cluster, taken = Cluster(world, clock.now), list[Path]()
        held = [b""]

        def take(file: Path) -> None:
            taken.append(file)
            held[0] = file.read_bytes()

        one = Rotation(
            cluster, world, SERVER, tmp_path, "worker-1", NAMES, lambda: held[0], take  # type: ignore[arg-type]
        )  # fmt: skip
        running = asyncio.ensure_future(one.run())
        await clock.sleep(100)
        assert list(cluster.requests) == ["csr-0"] and not taken, "it waits for a person"
        assert "certificate request csr-0 waits: kubectl certificate approve csr-0" in caplog.messages
        cluster.deny("csr-0")
        await clock.sleep(8)
        assert list(cluster.requests) == ["csr-0"], "not again at once"
        await clock.sleep(5)
        cluster.approve("csr-1")
        await clock.sleep(2)
        assert taken == [tmp_path / "kubelet-server-current.pem"]
        assert taken[0].stat().st_mode & 0o777 == 0o600
        key = keys.load_private(held[0][held[0].rindex(b"-----BEGIN") :])
        first = x509.load_pem_x509_certificate(held[0])
        assert first.public_key() == key.public_key()
        await clock.sleep(6.9 * DAY)
        assert len(cluster.requests) == 2
        for _ in range(2200):  # minutes, to 9 days
            if len(cluster.requests) > 2:
                break
            await clock.sleep(86.4)
        assert len(cluster.requests) == 3, "between 70 and 90 percent of its ten days"
        cluster.approve("csr-2")
        await clock.sleep(2)
        assert x509.load_pem_x509_certificate(held[0]).serial_number != first.serial_number
        await clock.sleep(10 * DAY)
        assert len(cluster.requests) > 4, "nobody answered for a quarter of an hour, so it asked once more"
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    virtual.run(life())


def pair(authority: Authority, file: Path, **what: Any) -> Path:
    issued = authority.issue(Request("system:node:w", **what))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(issued.certificate_pem + issued.key_pem)
    return file


def test_an_api_serves_what_was_asked_for_also_after_a_restart(tmp_path: Path) -> None:
    given = NodeAgentOptions(root_dir=str(tmp_path), client_ca_file="", rotate_server_certificates=True)
    serving = Serving(given, "w", ("192.0.2.1",), World())
    assert serving.current() == b"", "its own is none that the cluster has signed"
    before = serving.good_until
    file = pair(Authority.create("ca", World()), tmp_path / "pki" / SERVER.file, server=True, lifetime=5000)
    serving.take(file)
    assert serving.current() == file.read_bytes() and serving.good_until < before
    assert Serving(given, "w", (), World()).current() == file.read_bytes()
    plain = NodeAgentOptions(root_dir=str(tmp_path), client_ca_file="")
    assert Serving(plain, "w", (), World()).current() == b""


async def test_a_node_is_known_by_the_newer_certificate(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority = Authority.create("ca", World())
    old = authority.issue(Request("system:node:w", client=True, lifetime=5000))
    config = kubeconfig.build(
        cluster="c", server="https://127.0.0.1:1", user="u", cert_pem=old.certificate_pem, key_pem=old.key_pem,
        ca_pem=authority.certificate_pem,
    )  # fmt: skip
    path = tmp_path / "kubelet.conf"
    kubeconfig.write(path, config)
    client = Client(HttpTransport(kubeconfig.load(path)), World())
    given = NodeAgentOptions(kubeconfig=str(path), root_dir=str(tmp_path), rotate_certificates=True)
    known = Known(given, client)
    assert known.current() == old.certificate_pem
    file = pair(authority, tmp_path / "pki" / CLIENT.file, client=True, lifetime=9000)
    assert Known(given, client).current() == file.read_bytes(), "after a restart"
    before = known.good_until
    file.write_bytes(b"half of it")
    known.take(file)
    assert known.good_until == before and "cannot be used" in caplog.messages[-1]
    pair(authority, file, client=True, lifetime=9000)
    known.take(file)
    assert known.good_until > before
    await client.close()


async def test_a_client_shows_another_certificate_from_the_next_request_on(tmp_path: Path) -> None:
    world, tasks, goes_on = World(), Tasks("test"), asyncio.Event()
    authority = Authority.create("ca", world)
    seen: list[int] = []

    async def slowly() -> AsyncIterator[bytes]:
        yield b'{"a":1}\n'
        await goes_on.wait()
        yield b'{"a":2}\n'

    async def handle(request: HttpRequest) -> Answer:
        seen.append(x509.load_der_x509_certificate(request.peer.certificate or b"").serial_number)
        return Stream(200, slowly()) if request.path == "/watch" else Response(200, b"{}")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair(authority, tmp_path / "server.pem", server=True, sans=("127.0.0.1",)))
    context.load_verify_locations(cadata=authority.certificate_pem.decode())
    context.verify_mode = ssl.CERT_REQUIRED
    server = await serve(handle, host="127.0.0.1", port=0, ssl=context, tasks=tasks)
    first = authority.issue(Request("u", client=True))
    transport = HttpTransport(
        kubeconfig.Access(
            f"https://127.0.0.1:{server.port}",
            authority.certificate_pem,
            first.certificate_pem,
            first.key_pem,
        )
    )
    client = Client(transport, world)
    watch = await client.raw("GET", "/watch", stream=True)
    assert isinstance(watch, Stream)
    chunks = watch.chunks.__aiter__()
    assert await chunks.__anext__() == b'{"a":1}\n'
    file = pair(authority, tmp_path / "client.pem", client=True)
    client.show(file)
    await client.raw("GET", "/next")
    goes_on.set()
    assert await chunks.__anext__() == b'{"a":2}\n', "what is under way goes on"
    old, new = (
        x509.load_pem_x509_certificate(pem).serial_number
        for pem in (first.certificate_pem, file.read_bytes())
    )
    assert seen == [old, new]
    await client.close()
    await server.close()
    await tasks.close()
