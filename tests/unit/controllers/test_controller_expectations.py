"""Expectations are met by what the informer has come to, not by hope."""

from __future__ import annotations

import asyncio
from typing import Any

from bamikube.controllers.expectations import PATIENCE, Expectations
from bamikube.kit.clock import LoopClock
from tests.simulation.virtual import run


class Copy:
    def __init__(self) -> None:
        self.revision = "100"
        self.held: dict[str, Any] = {}

    def get(self, key: str) -> Any:
        return self.held.get(key)


def made(version: int, uid: str = "u", **meta: Any) -> Any:
    return {"metadata": {"resourceVersion": str(version), "uid": uid, **meta}}


def test_creations_deletions_and_patience() -> None:
    async def main() -> None:
        copy: Any = Copy()
        expectations = Expectations(copy, LoopClock())
        assert expectations.met("k")
        expectations.created("k", made(101))
        expectations.created("k", made(104))
        copy.revision = "103"
        assert not expectations.met("k") and expectations.met("other")
        copy.revision = "104"
        assert expectations.met("k")
        # Seen before the answer came, and gone again by now: nothing to wait for.
        copy.revision = "200"
        expectations.created("k", made(150))
        assert expectations.met("k")
        copy.held["a"] = made(1)
        expectations.deleted("k", "a", "u")
        assert not expectations.met("k")
        copy.held["a"] = made(1, deletionTimestamp="now")
        assert expectations.met("k")
        copy.held["a"] = made(1, uid="another")
        expectations.deleted("k", "a", "u")
        assert expectations.met("k")
        expectations.created("k", made(999))
        assert not expectations.met("k")
        await asyncio.sleep(PATIENCE)
        assert expectations.met("k")
        expectations.created("k", made(999))
        expectations.forget("k")
        assert expectations.met("k")

    run(main())
