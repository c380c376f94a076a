"""A real login manager waits for the lock, and tells of a shutdown before and after it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bamikube.nodeagent.host.bus import Bus
from bamikube.nodeagent.shutdown.logind import DROP_IN, LOGIN
from tests.support.private_systemd import LOGIND, PrivateSystemd, usable

pytestmark = pytest.mark.skipif(
    not (usable() and LOGIND.exists()), reason="no systemd, or no cgroups of version 1"
)
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[PrivateSystemd]:
    made = PrivateSystemd(tmp_path / "systemd", login=True)
    try:
        made.start()
        yield made
    finally:
        made.stop()


async def test_a_shutdown_waits_for_the_lock(systemd: PrivateSystemd) -> None:
    holder = await asyncio.create_subprocess_exec(
        *systemd.inside, sys.executable, "-m", "tests.support.holds_shutdown",
        cwd=ROOT, env={**os.environ, "PYTHONPATH": f"{ROOT}/services:{ROOT}"},
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdin is not None and holder.stdout is not None

    async def said() -> str:
        assert holder.stdout is not None
        async with asyncio.timeout(15):
            return (await holder.stdout.readline()).decode().strip()

    assert await said() == "holds 30.0"  # it waited for five seconds only, and has been told otherwise
    drop_in = systemd.file(DROP_IN)
    assert drop_in.read_text().endswith("[Login]\nInhibitDelayMaxSec=30\n")
    bus = await Bus.connect(systemd.address)
    await bus.call(LOGIN, "PowerOff", "b", [False])
    assert await said() == "coming"
    assert systemd.show("poweroff.target", "ActiveState") == "inactive"
    holder.stdin.write(b"\n")
    assert await said() == "over"
    assert systemd.show("poweroff.target", "ActiveState") == "active"
    assert await holder.wait() == 0
    await bus.close()
