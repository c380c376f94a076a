"""Damaged bytes on the server's own sockets, for minutes, with one seed after the other.

``FUZZ_SECONDS`` is how long in all (600), ``FUZZ_SEED`` where the seeds begin (the time, so that no run repeats another).
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

import pytest

from tests.support.doors import open_doors
from tests.support.etcd import etcd_server
from tests.support.raw_run import rain

EACH = 60.0  # seconds of a seed


async def test_no_bytes_make_the_server_fail(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    whole = float(os.environ.get("FUZZ_SECONDS", "600"))
    seed = int(os.environ.get("FUZZ_SEED", str(int(time.time()))))
    with etcd_server(tmp_path / "etcd") as etcd:
        async with open_doors(etcd.endpoint, tmp_path / "home") as doors:
            for number in range(max(1, round(whole / EACH))):
                await rain(doors.port, doors.admin, seed + number, min(EACH, whole))
    assert not [(record.getMessage(), record.exc_info) for record in caplog.records if record.exc_info]
