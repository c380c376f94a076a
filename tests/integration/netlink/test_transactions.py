"""Transactions against the real kernel: whole or not at all, with the message at fault; and forgetting connections."""

from __future__ import annotations

import errno
import socket
import struct
import subprocess

import pytest

from bamikube.netlink.conntrack import Conntrack, Flow
from bamikube.netlink.nftables import Features, Nftables, TransactionError
from bamikube.netlink.statements import jump, masquerade
from bamikube.netlink.tables import ADDRESS, PROTO, SERVICE, Chain, Hook, Set, Table, goto_chain
from tests.integration.netlink.sandbox import on_node, within

KEY = socket.inet_aton("10.96.0.1") + struct.pack(">BxxxHxx", 6, 443)


def _table(*targets: str, name: str = "test") -> Table:
    table = Table(name)
    elements = {
        socket.inet_aton(f"10.0.0.{i + 1}") + KEY[4:]: goto_chain(target) for i, target in enumerate(targets)
    }
    table.sets["m"] = Set("m", (ADDRESS, PROTO, SERVICE), verdicts=True, elements=elements)
    for target in {*targets}:
        table.chains[target] = Chain(target)
    return table


def _listed() -> str:
    done = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_a_batch_is_done_whole_or_not_at_all() -> None:
    with on_node("tx"):
        tables = Nftables()
        before = _table("a")
        await tables.replace(before)
        broken = _table("a", "b")
        broken.chains["b"] = Chain("b", ((jump("missing"),),))
        with pytest.raises(TransactionError) as caught:
            await tables.update(before, broken)
        assert caught.value.errno == errno.ENOENT
        assert "add rule b jump missing" in str(caught.value)
        assert "10.0.0.2" not in _listed() and "chain b" not in _listed()
        # the socket is usable afterwards, and no stale reply is taken for ours
        await tables.update(before, _table("a", "b"))
        assert "10.0.0.2 . tcp . 443 : goto b" in _listed()
        tables.close()


@pytest.mark.parametrize("features", [Features(), Features(destroy=True), None])
async def test_updates_work_with_every_set_of_kernel_features(features: Features | None) -> None:
    with on_node("feat"):
        tables = Nftables()
        await tables.probe()
        if features is not None:
            tables.features = features
        assert "probe" not in _listed()
        first, second = _table("a", "b"), _table("b", "c")
        await tables.replace(first)
        await tables.update(first, second)
        listed = _listed()
        assert "10.0.0.1 . tcp . 443 : goto b" in listed and "chain a" not in listed
        # a set of another type under the same name: everything is made anew, still in one step
        other = _table("c")
        other.sets["m"] = Set("m", (PROTO, SERVICE), verdicts=True, elements={KEY[4:]: goto_chain("c")})
        await tables.update(second, other)
        assert "tcp . 443 : goto c" in _listed()
        assert await tables.exists("test") and not await tables.exists("nobody")
        await tables.remove("test")
        assert not await tables.exists("test")
        tables.close()


async def test_a_table_with_an_owner_outlives_it_and_is_adopted() -> None:
    with on_node("own"):
        first = Nftables()
        if not (await first.probe()).owner:
            pytest.skip("this kernel has no persistent owner tables (Linux 6.9)")
        await first.replace(_table("a"))
        subprocess.run(["nft", "flush", "ruleset"], check=False, capture_output=True)
        assert "goto a" in _listed(), "nobody else can flush it"
        first.close()
        assert "goto a" in _listed(), "it outlives its owner"
        second = Nftables()
        await second.probe()
        await second.replace(_table("b"))
        assert "goto b" in _listed() and "goto a" not in _listed()
        second.close()


async def test_large_batches_pass() -> None:
    with on_node("large"):
        tables = Nftables()
        table = _table("a")
        table.sets["m"].elements = {
            struct.pack(">I", 0x0A000000 + index) + KEY[4:]: goto_chain("a") for index in range(60_000)
        }
        await tables.replace(table)
        tables.close()


@pytest.mark.parametrize("filtered", [True, False])
async def test_connections_are_forgotten_by_filter_or_one_by_one(filtered: bool) -> None:
    with on_node("ct") as box:
        box.namespace("peer")
        box.join("node", "192.0.2.1/24", "peer", "192.0.2.2/24")
        tables = Nftables()
        # a NAT statement is what turns connection tracking on in a namespace
        await tables.replace(
            Table("ct", chains={"c": Chain("c", ((masquerade(),),), Hook("nat", "postrouting", 100))})
        )
        with within(box.path("node")):
            client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with client:
            for port in (7001, 7002):
                client.sendto(b"?", ("192.0.2.2", port))
        connections = Conntrack()
        connections._filtered = filtered
        ports = {entry[1] for entry in await connections.entries()}
        assert {7001, 7002} <= ports
        await connections.forget(
            [Flow(17, "192.0.2.2", 7001, "192.0.2.2", 7001), Flow(17, "192.0.2.2", 7002, "192.0.2.9", 7002)]
        )
        ports = {entry[1] for entry in await connections.entries()}
        assert 7001 not in ports and 7002 in ports, "the other is answered by somebody else"
        await connections.forget([Flow(17, "", 7002)])
        assert 7002 not in {entry[1] for entry in await connections.entries()}
        connections.close()
        tables.close()
