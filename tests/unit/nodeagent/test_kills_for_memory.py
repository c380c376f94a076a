"""What is read of the kernel's log about processes that it kills for memory."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from bamikube.nodeagent.node import ooms
from bamikube.nodeagent.node.ooms import Kill, Reader

BEGINS = "stress invoked oom-killer: gfp_mask=0x140dca(GFP_HIGHUSER_MOVABLE|__GFP_COMP|__GFP_ZERO), order=0, oom_score_adj=999"
OF_A_POD = "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=c1,mems_allowed=0,oom_memcg=/kubepods/podu,task_memcg=/kubepods/podu/c1,task=stress,pid=47,uid=0"
OF_ALL = "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/kubepods/podu/c1,task=my app,pid=48,uid=0"


@pytest.mark.parametrize(
    ("lines", "kills"),
    [
        ((BEGINS, OF_A_POD, "Memory cgroup out of memory: Killed process 47 (stress) total-vm:1kB"), [Kill("/kubepods/podu", "stress", 47)]),
        ((BEGINS, "Mem-Info:", OF_ALL, "Out of memory: Killed process 48 (my app) total-vm:1kB"), [Kill("/", "my app", 48)]),
        ((OF_A_POD, "Out of memory: Killed process 48 (x) total-vm:1kB"), []),  # its beginning was not heard
        ((BEGINS, OF_A_POD, "Killed process 1 (a)", "Killed process 2 (b)"), [Kill("/kubepods/podu", "a", 1)]),  # all of a container
        ((BEGINS, OF_A_POD, BEGINS, "Killed process 3 (c)"), [Kill("/", "c", 3)]),
    ],
)  # fmt: skip
def test_kills_are_made_of_lines(lines: tuple[str, ...], kills: list[Kill]) -> None:
    reader = Reader()
    assert [kill for line in lines if (kill := reader.read(line)) is not None] == kills


async def test_only_the_machines_own_end_is_an_event(tmp_path: Path) -> None:
    path, told = tmp_path / "kmsg", asyncio.Queue[tuple[str, str, str]]()
    os.mkfifo(path)
    task = asyncio.ensure_future(ooms.watch(lambda *what: told.put_nowait(what), path))
    await asyncio.sleep(0)
    out = os.open(path, os.O_WRONLY)
    try:
        for text in (
            BEGINS,
            OF_A_POD,
            "Killed process 47 (stress)",
            BEGINS,
            OF_ALL,
            "Killed process 48 (my app)",
        ):
            os.write(out, f"6,1,2,-;{text}\n SUBSYSTEM=memory\n".encode())
        async with asyncio.timeout(5):
            assert await told.get() == (
                "Warning",
                "SystemOOM",
                "System OOM encountered, victim process: my app, pid: 48",
            )
        assert told.empty()
    finally:
        os.close(out)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_log_that_cannot_be_read_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    await ooms.watch(lambda *_: None, tmp_path / "none")
    assert "cannot read" in caplog.text and "No such file" in caplog.text
