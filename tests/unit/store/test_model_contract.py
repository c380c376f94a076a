"""The model keeps the store's contract (the same functions run against etcd in tests/integration/store)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from bamikube.kit.chance import Chance
from bamikube.kit.clock import LoopClock
from bamikube.kit.world import World
from bamikube.store.model import ModelStore
from tests.support.store_contract import *  # noqa: F403


@pytest.fixture
async def store() -> AsyncIterator[ModelStore]:
    model = ModelStore(World(LoopClock(), Chance(1)))
    yield model
    await model.close()
