"""Damaged bytes on the server's own sockets; the long run is in tests/soak."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.support.doors import open_doors
from tests.support.etcd import EtcdServer
from tests.support.raw_run import rain

SECONDS = 20.0
SEED = 20342


async def test_no_bytes_make_the_server_fail(
    etcd: EtcdServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    async with open_doors(etcd.endpoint, tmp_path) as doors:
        fallen = await rain(doors.port, doors.admin, SEED, SECONDS)
    assert {200, 400, 404, 422} <= set(fallen.seen), fallen.seen
    assert not [(record.getMessage(), record.exc_info) for record in caplog.records if record.exc_info]
