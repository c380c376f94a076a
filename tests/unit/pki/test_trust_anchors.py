"""What a bundle of trust anchors may hold."""

from __future__ import annotations

import pytest

from bamikube.api import pem
from bamikube.kit.world import World
from bamikube.pki.authority import Authority, Request
from bamikube.pki.trust_anchors import faults

WORLD = World()
ONE, OTHER = (Authority.create(name, WORLD) for name in ("one", "other"))
FIRST, SECOND = ONE.certificate_pem.decode(), OTHER.certificate_pem.decode()
LEAF = ONE.issue(Request("leaf", server=True)).certificate_pem.decode()
HEADERS = FIRST.replace("-----\n", "-----\nProc-Type: 4,ENCRYPTED\n\n", 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (FIRST, []),
        (f"garbage\n{FIRST}\nmore garbage\n{SECOND}", []),
        ("", ["at least one trust anchor must be provided"]),
        ("garbage", ["at least one trust anchor must be provided"]),
        (FIRST + pem.text("PRIVATE KEY", b"x"), ["entry 1 has bad block type: PRIVATE KEY"]),
        (pem.text("CERTIFICATE", b"x"), ["entry 0 does not parse as X.509"]),
        (LEAF, ["entry 0 does not have the CA bit set"]),
        (HEADERS, ["entry 0 has PEM block headers"]),
        (FIRST + SECOND + FIRST, ["duplicate trust anchor (indices [0 2])"]),
        (FIRST + LEAF + FIRST, ["entry 1 does not have the CA bit set"]),  # what is malformed comes first
    ],
)
def test_a_bundle_holds_authorities_each_once(text: str, said: list[str]) -> None:
    assert faults(text) == said


def test_pem_comes_back_as_it_was() -> None:
    (block,) = pem.blocks(FIRST.encode())
    assert pem.text(block.kind, block.data) == FIRST and not block.headers
