"""Histories of one node, each from a seed: its agent dies at any point, and so does everything it stands on."""

from __future__ import annotations

import os

import pytest

from tests.simulation.node_history import play

SEEDS = (
    [int(os.environ["BAMIKUBE_SEED"])]
    if "BAMIKUBE_SEED" in os.environ
    else list(range(1, int(os.environ.get("BAMIKUBE_SEEDS", "20")) // 10 + 1))
)


@pytest.mark.parametrize("seed", SEEDS)
def test_history_of_a_node(seed: int) -> None:
    play(seed)


def test_a_seed_gives_the_same_history_of_a_node_again() -> None:
    assert play(SEEDS[0]) == play(SEEDS[0])
