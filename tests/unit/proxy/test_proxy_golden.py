"""Input YAML (a node, services, slices) to the table as ``nft`` writes it. ``UPDATE_GOLDEN=1`` rewrites the files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from bamikube.proxy.ledger import plan
from bamikube.proxy.model import service_of, slice_of
from bamikube.proxy.plan import Node, frame

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "proxy"


@pytest.mark.parametrize(
    "path", sorted(GOLDEN.glob("*.input.yaml")), ids=lambda path: path.name.split(".")[0]
)
def test_table_is_as_recorded(path: Path) -> None:
    given = yaml.safe_load(path.read_text())
    node = Node(**given["node"])
    services = [service for obj in given["services"] if (service := service_of(obj))]
    slices = [part for obj in given["endpointSlices"] if (part := slice_of(obj))]
    table = plan(services, slices, node)
    # the chains that are always there are recorded once, in frame.output.nft
    always = frame(node).chains
    table.chains = {name: chain for name, chain in table.chains.items() if name not in always}
    table.sets = {name: part for name, part in table.sets.items() if part.elements or part.timeout}
    _compare(path.with_name(path.name.replace(".input.yaml", ".output.nft")), table.render())


def test_frame_is_as_recorded() -> None:
    node = Node("worker-1", cluster_cidr="10.244.0.0/16", nodeport_addresses=("10.99.0.0/24", "192.0.2.1/32"))
    _compare(GOLDEN / "frame.output.nft", frame(node).render())


def _compare(path: Path, text: str) -> None:
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert path.exists(), f"{path.name} is missing: look at the plan, then record it with UPDATE_GOLDEN=1"
    assert text == path.read_text()
