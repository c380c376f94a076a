"""The outcome of an authorization question."""

from __future__ import annotations

from typing import NamedTuple


class Verdict(NamedTuple):
    """``reason`` names the rule that allowed it, or what stood in the way; it may be empty when nothing matched."""

    allowed: bool
    reason: str = ""


NO_OPINION = Verdict(False, "")
