"""Schemathesis against the API's own documents, for minutes, with one seed after the other.

``FUZZ_SECONDS`` is how long in all (600), ``FUZZ_SEED`` where the seeds begin (the time, so that no run repeats another).
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.support.private_api import private_api
from tests.support.schemathesis_run import Wire, furnish, judge

EACH = 150.0  # seconds of a seed: about once through all operations


def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    whole = float(os.environ.get("FUZZ_SECONDS", "600"))
    seed = int(os.environ.get("FUZZ_SEED", str(int(time.time()))))
    for number in range(max(1, round(whole / EACH))):
        with private_api(tmp_path / str(number), controllers=False) as api:
            furnish(Wire(api))
            judge(api, seed + number, min(EACH, whole))
            assert "Traceback" not in api.log("apiserver")
