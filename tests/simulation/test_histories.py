"""Hundreds of histories, each from a seed. ``BAMIKUBE_SEEDS`` says how many, ``BAMIKUBE_SEED`` names one to replay."""

from __future__ import annotations

import os

import pytest

from tests.simulation.history import play

SEEDS = (
    [int(os.environ["BAMIKUBE_SEED"])]
    if "BAMIKUBE_SEED" in os.environ
    else list(range(1, int(os.environ.get("BAMIKUBE_SEEDS", "20")) + 1))
)


@pytest.mark.parametrize("seed", SEEDS)
def test_history(seed: int) -> None:
    play(seed)


def test_a_seed_gives_the_same_history_again() -> None:
    assert play(SEEDS[0]) == play(SEEDS[0])
