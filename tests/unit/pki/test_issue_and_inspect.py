"""Issuing a cluster's certificates, keeping them, renewing them, and listing them."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
from cryptography import x509

from bamikube.kit.chance import Chance
from bamikube.kit.world import World
from bamikube.lab import certs_verbs
from bamikube.pki import inspect, issue, kubeconfig
from bamikube.pki.authority import DAY, Authority, Request
from bamikube.pki.profiles import ClusterNames, NodeNames

NODES = [NodeNames(name="master", address="10.99.0.10"), NodeNames(name="worker-1", address="10.99.0.11")]
CLUSTER = ClusterNames(api_sans=("api.example", "203.0.113.7"))


class FrozenClock:
    """A clock that a test sets."""

    def __init__(self, now: float) -> None:
        self.time = now

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds
        await asyncio.sleep(0)


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock(1_800_000_000.0)


@pytest.fixture
def world(clock: FrozenClock) -> World:
    return World(clock, Chance(7))


def issue_cluster(
    tmp_path: Path, world: World, cluster: ClusterNames = CLUSTER
) -> dict[str, list[issue.Outcome]]:
    return issue.issue_all({node.name: tmp_path / node.name for node in NODES}, cluster, NODES, world)


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_layout_is_kubeadms(tmp_path: Path, world: World) -> None:
    outcomes = issue_cluster(tmp_path, world)
    assert {outcome.action for found in outcomes.values() for outcome in found} == {"created"}
    master = tmp_path / "master"
    for base in (
        *(
            "ca",
            "etcd/ca",
            "front-proxy-ca",
            "apiserver",
            "apiserver-kubelet-client",
            "apiserver-etcd-client",
        ),
        *("front-proxy-client", "etcd/server", "etcd/peer", "etcd/healthcheck-client"),
    ):
        assert (master / "pki" / f"{base}.crt").stat().st_mode & 0o777 == 0o644
        assert (master / "pki" / f"{base}.key").stat().st_mode & 0o777 == 0o600
    assert b"RSA PRIVATE KEY" in (master / "pki/sa.key").read_bytes()
    assert (master / "pki/sa.pub").exists()
    for name in ("admin", "scheduler", "controller-manager", "kubelet", "proxy", "network", "dns"):
        assert (master / f"{name}.conf").stat().st_mode & 0o777 == 0o600
    worker = {str(path.relative_to(tmp_path / "worker-1")) for path in (tmp_path / "worker-1").rglob("*.*")}
    assert worker == {
        *("pki/ca.crt", "pki/kubelet.crt", "pki/kubelet.key"),
        *("kubelet.conf", "proxy.conf", "network.conf", "dns.conf"),
    }


def test_identities_and_usages(tmp_path: Path, world: World) -> None:
    issue_cluster(tmp_path, world)
    apiserver = certificate(tmp_path / "master/pki/apiserver.crt")
    assert {"kubernetes.default.svc.cluster.local", "10.96.0.1", "10.99.0.10", "203.0.113.7"} <= set(
        issue.sans(apiserver)
    )
    assert issue.usages(apiserver) == ("server",)
    assert issue.usages(certificate(tmp_path / "master/pki/etcd/server.crt")) == ("server", "client")
    kubelet = kubeconfig.load(tmp_path / "worker-1/kubelet.conf")
    client = x509.load_pem_x509_certificate(kubelet.cert_pem)
    assert (issue.common_name(client), issue.organizations(client)) == (
        "system:node:worker-1",
        ("system:nodes",),
    )
    assert kubelet.server == "https://10.99.0.10:6443"
    admin = x509.load_pem_x509_certificate(kubeconfig.load(tmp_path / "master/admin.conf").cert_pem)
    assert issue.organizations(admin) == ("system:masters",)


def test_a_second_time_keeps_everything(tmp_path: Path, world: World) -> None:
    issue_cluster(tmp_path, world)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    outcomes = issue_cluster(tmp_path, world)
    assert {outcome.action for found in outcomes.values() for outcome in found} == {"kept"}
    assert {path: path.read_bytes() for path in before} == before


def test_what_nears_its_end_is_renewed_under_the_same_authority(
    tmp_path: Path, world: World, clock: FrozenClock
) -> None:
    issue_cluster(tmp_path, world)
    authority = (tmp_path / "master/pki/ca.crt").read_bytes()
    clock.time += 340 * DAY
    found = {outcome.name: outcome for outcome in issue_cluster(tmp_path, world)["master"]}
    assert found["apiserver"].action == "renewed" and "25 days only" in found["apiserver"].reason
    assert found["admin"].action == "renewed"
    assert found["ca"].action == found["sa"].action == "kept"
    assert (tmp_path / "master/pki/ca.crt").read_bytes() == authority


def test_a_new_name_or_another_server_renews_only_what_it_touches(tmp_path: Path, world: World) -> None:
    issue_cluster(tmp_path, world)
    changed = ClusterNames(api_sans=("new.example",), server="https://new.example:6443")
    found = {outcome.name: outcome for outcome in issue_cluster(tmp_path, world, changed)["master"]}
    assert found["apiserver"].reason == "lacks new.example"
    assert found["admin"].reason == "points at https://10.99.0.10:6443, not https://new.example:6443"
    assert found["etcd-server"].action == "kept"


def test_a_key_of_another_certificate_is_noticed(tmp_path: Path, world: World) -> None:
    issue_cluster(tmp_path, world)
    pki = tmp_path / "master/pki"
    (pki / "apiserver.key").write_bytes((pki / "front-proxy-client.key").read_bytes())
    found = {outcome.name: outcome for outcome in issue_cluster(tmp_path, world)["master"]}
    assert found["apiserver"].reason == "does not belong to its key"


def test_half_an_authority_is_not_papered_over(tmp_path: Path, world: World) -> None:
    issue_cluster(tmp_path, world)
    (tmp_path / "master/pki/ca.key").unlink()
    with pytest.raises(ValueError, match=r"ca\.key is missing"):
        issue_cluster(tmp_path, world)


def test_python_trusts_what_was_issued() -> None:
    """A TLS handshake in memory, client certificate demanded."""
    world = World()
    authority = Authority.create("ca", world)
    server = authority.issue(Request("s", sans=("localhost", "10.96.0.1"), server=True))
    client = authority.issue(Request("c", ("o",), client=True))
    peer = _handshake(authority.certificate_pem, server, client)
    assert peer is not None
    assert issue.common_name(x509.load_der_x509_certificate(peer)) == "c"


def _handshake(ca: bytes, server: issue.Issued, client: issue.Issued) -> bytes | None:
    import tempfile

    sides = []
    for is_server, issued in ((True, server), (False, client)):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if is_server else ssl.PROTOCOL_TLS_CLIENT)
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        context.load_verify_locations(cadata=ca.decode())
        with tempfile.NamedTemporaryFile() as file:
            file.write(issued.certificate_pem + issued.key_pem)
            file.flush()
            context.load_cert_chain(file.name)
        sides.append(context)
    a_to_b, b_to_a = ssl.MemoryBIO(), ssl.MemoryBIO()
    here = sides[0].wrap_bio(a_to_b, b_to_a, server_side=True)
    there = sides[1].wrap_bio(b_to_a, a_to_b, server_hostname="10.96.0.1")
    done = 0
    for _ in range(10):
        done = 0
        for side in (there, here):
            try:
                side.do_handshake()
                done += 1
            except ssl.SSLWantReadError:
                pass
        if done == 2:
            break
    assert done == 2
    return here.getpeercert(binary_form=True)


def test_list_tells_ok_expiring_expired_missing_and_mismatch(
    tmp_path: Path, world: World, clock: FrozenClock
) -> None:
    issue_cluster(tmp_path, world)
    master = tmp_path / "master"
    assert {fact.status for fact in inspect.inspect(master, clock.now())} == {"OK"}
    assert {fact.status for fact in inspect.inspect(tmp_path / "worker-1", clock.now())} == {"OK"}
    (master / "dns.conf").unlink()
    Authority.create("etcd-ca", world).save(master / "pki/etcd/ca")
    facts = {fact.name: fact for fact in inspect.inspect(master, clock.now() + 345 * DAY)}
    assert facts["apiserver"].status == "expiring"
    assert facts["ca"].status == "OK"
    assert facts["dns"].status == "missing"
    assert facts["etcd-server"].status == "mismatch"
    assert inspect.inspect(master, clock.now() + 400 * DAY)[3].status == "expired"
    shown = inspect.table(list(facts.values()), wide=True)
    assert "203.0.113.7" in shown and "mismatch: not signed by this node's etcd-ca" in shown


def test_names_are_read_off_the_material(tmp_path: Path, world: World) -> None:
    issue_cluster(tmp_path, world)
    assert certs_verbs.names(tmp_path / "master") == (CLUSTER, NODES[0])
    assert certs_verbs.names(tmp_path / "worker-1")[1] == NODES[1]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "expired"), (59, "59s"), (3600, "1h"), (364.9 * DAY, "364d"), (3650 * DAY, "10y")],
)
def test_residual(seconds: float, text: str) -> None:
    assert inspect.residual(seconds) == text
