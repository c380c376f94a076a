"""The zone: questions and answers, recorded; and that prepared answers never outlive what they say."""

from __future__ import annotations

import os
from pathlib import Path

import dnslib
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bamikube.dns.model import Endpoint, Port, Service, Slice, service_of, slice_of
from bamikube.dns.resolver import Resolver
from bamikube.dns.upstream import Upstream, resolv_conf, servers_of
from bamikube.dns.wire import Question, parse
from bamikube.dns.zone import Zone
from bamikube.kit.world import World

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "dns"


def _zone(**more: str) -> Zone:
    given_objects = yaml.safe_load((GOLDEN / "cluster.input.yaml").read_text())
    zone = Zone(server_address="10.96.0.10", **more)  # type: ignore[arg-type]
    for obj in given_objects["services"]:
        service = service_of(obj)
        zone.service(service.key, service)
    for obj in given_objects["endpointSlices"]:
        part = slice_of(obj)
        assert part is not None
        zone.slice(part.key, None, part)
    for text in given_objects["namespaces"]:
        zone.namespace(text, True)
    return zone


def _resolver(zone: Zone) -> Resolver:
    resolver = Resolver(zone, Upstream(World(), []), World())
    resolver.synced = True
    return resolver


async def _ask(resolver: Resolver, owner: str, kind: str, **header: int) -> dnslib.DNSRecord:
    query = bytes(dnslib.DNSRecord.question(owner, kind).pack())
    found = resolver.now(query)
    if isinstance(found, Question):
        found = await resolver.later(query, found, 1232)
    assert found is not None
    assert found[:2] == query[:2]
    return dnslib.DNSRecord.parse(found)


async def test_answers_are_as_recorded() -> None:
    resolver = _resolver(_zone())
    questions = yaml.safe_load((GOLDEN / "cluster.input.yaml").read_text())["questions"]
    lines = []
    for line in questions.splitlines():
        answer = await _ask(resolver, *line.split())
        flags = "aa" if answer.header.aa else "--"
        lines.append(f"? {line}  {dnslib.RCODE[answer.header.rcode]} {flags}")
        for mark, found in (("=", answer.rr), ("!", answer.auth), ("+", answer.ar)):
            lines += [
                f"  {mark} {part.rname} {part.ttl} {dnslib.QTYPE[part.rtype]} {part.rdata}" for part in found
            ]
    text = "\n".join(lines) + "\n"
    path = GOLDEN / "cluster.output.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


async def test_before_sync_cluster_names_are_unknown_not_missing() -> None:
    resolver = _resolver(_zone())
    resolver.synced = False
    assert (await _ask(resolver, "web.shop.svc.cluster.local", "A")).header.rcode == dnslib.RCODE.SERVFAIL


async def test_prepared_answers_end_with_any_change() -> None:
    zone = _zone()
    resolver = _resolver(zone)
    assert str((await _ask(resolver, "web.shop.svc.cluster.local", "A")).rr[0].rdata) == "10.96.0.20"
    zone.service("shop/web", Service("shop/web", ("10.96.0.99",), ()))
    assert str((await _ask(resolver, "web.shop.svc.cluster.local", "A")).rr[0].rdata) == "10.96.0.99"
    zone.service("shop/web", None)
    answer = await _ask(resolver, "web.shop.svc.cluster.local", "A")
    assert answer.header.rcode == dnslib.RCODE.NXDOMAIN
    assert answer.auth[0].rtype == dnslib.QTYPE.SOA


async def test_several_addresses_are_handed_out_in_turn() -> None:
    resolver = _resolver(_zone())
    first = {str((await _ask(resolver, "db.shop.svc.cluster.local", "A")).rr[0].rdata) for _ in range(6)}
    assert first == {"10.244.1.7", "10.244.2.8"}


async def test_the_questions_letters_come_back_as_they_were_sent() -> None:
    resolver = _resolver(_zone())
    answer = await _ask(resolver, "wEb.ShOp.SVC.cluster.local", "A")
    assert str(answer.q.qname) == "wEb.ShOp.SVC.cluster.local."


async def test_long_answers_are_truncated_unless_the_client_takes_more() -> None:
    zone = Zone()
    zone.service("ns/many", Service("ns/many", (), ()))
    found = tuple(Endpoint(f"10.244.{i // 200}.{i % 200 + 1}", "", True) for i in range(60))
    zone.slice("ns/many-1", None, Slice("ns/many-1", "ns/many", (Port("p", "tcp", 1),), found))
    resolver = _resolver(zone)
    short = await _ask(resolver, "many.ns.svc.cluster.local", "A")
    assert short.header.tc == 1 and not short.rr
    query = dnslib.DNSRecord.question("many.ns.svc.cluster.local", "A")
    query.add_ar(dnslib.EDNS0(udp_len=4096))
    whole = resolver.now(bytes(query.pack()))
    assert isinstance(whole, bytes)
    parsed = dnslib.DNSRecord.parse(whole)
    assert parsed.header.tc == 0 and len(parsed.rr) == 60
    assert [part.rtype for part in parsed.ar] == [dnslib.QTYPE.OPT]
    over_tcp = await resolver.tcp(bytes(dnslib.DNSRecord.question("many.ns.svc.cluster.local", "A").pack()))
    assert over_tcp is not None and len(dnslib.DNSRecord.parse(over_tcp).rr) == 60


async def test_pods_are_verified_when_asked_for() -> None:
    zone = _zone(pods="verified")
    resolver = _resolver(zone)
    owner = "10-244-1-7.shop.pod.cluster.local"
    assert (await _ask(resolver, owner, "A")).header.rcode == dnslib.RCODE.NXDOMAIN
    zone.pod(None, ("shop", "10.244.1.7"))
    assert str((await _ask(resolver, owner, "A")).rr[0].rdata) == "10.244.1.7"
    zone.pod(("shop", "10.244.1.7"), None)
    assert (await _ask(resolver, owner, "A")).header.rcode == dnslib.RCODE.NXDOMAIN


@given(st.binary(max_size=80))
def test_no_packet_upsets_the_server(data: bytes) -> None:
    resolver = _resolver(Zone())
    answer = resolver.now(data)
    if answer is None or isinstance(answer, Question):
        return
    assert answer[:2] == data[:2]
    assert answer[2] & 0x80, "what we send is an answer"


@given(st.binary(min_size=12, max_size=60))
def test_answers_are_never_answered(data: bytes) -> None:
    assert _resolver(Zone()).now(data[:2] + bytes([data[2] | 0x80]) + data[3:]) is None


def test_own_addresses_are_no_upstream_servers() -> None:
    assert servers_of(["10.96.0.10", "192.0.2.1", "192.0.2.2:5353"], {"10.96.0.10"})[0].host == "192.0.2.1"
    with pytest.raises(ValueError, match="example"):
        servers_of(["example"], ())


def test_a_resolv_conf_with_rubbish_still_gives_its_servers(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text(
        "# a comment\nsearch example.org\nnameserver 192.0.2.53\nnameserver fe80::1%eth0\nnameserver rubbish\n"
    )
    assert [server.host for server in servers_of(resolv_conf(path), ())] == ["192.0.2.53", "fe80::1%eth0"]
    assert resolv_conf(tmp_path / "missing") == []


def test_names_removed_leave_nothing_behind() -> None:
    zone = _zone()
    empty = Zone(server_address="10.96.0.10")
    for key in ("web", "dual", "db", "empty", "early", "api", "outside"):
        zone.service(f"shop/{key}", None)
    assert zone._names == empty._names and zone._above == empty._above


def test_a_query_is_read_whole() -> None:
    query = dnslib.DNSRecord.question("a.example.org", "SRV")
    query.add_ar(dnslib.EDNS0(udp_len=1400))
    question = parse(bytes(query.pack()))
    assert question is not None
    assert (question.kind, question.size, question.edns, question.owner) == (
        33,
        1400,
        True,
        b"\x01a\x07example\x03org\x00",
    )
