"""The input of a command that has ended, read away from a real named pipe."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

from bamikube.nodeagent.runtime import exec_input


def test_the_pipe_is_found_where_containerd_says(tmp_path: Path) -> None:
    assert exec_input.state_folder('{"stateDir": "/run/x"}') == "/run/x"
    assert exec_input.state_folder("{}") == exec_input.state_folder("?") == ""
    folder = tmp_path / "containers/c/io/123"
    folder.mkdir(parents=True)
    (folder / "other-stdin").touch()
    assert exec_input.pipe_of(str(tmp_path), "c", "e") is None
    os.mkfifo(folder / "e-stdin")
    assert exec_input.pipe_of(str(tmp_path), "c", "e") == folder / "e-stdin"
    assert exec_input.pipe_of(str(tmp_path), "gone", "e") is exec_input.pipe_of("", "c", "e") is None


async def test_who_writes_into_it_gets_on_though_the_other_reader_has_stopped(tmp_path: Path) -> None:
    pipe = tmp_path / "e-stdin"
    os.mkfifo(pipe)
    idle_reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)  # as the shim, which reads no more
    opened, written = threading.Event(), threading.Event()

    def write() -> None:
        with pipe.open("wb") as out:
            opened.set()
            out.write(b"x" * 1_000_000)
        written.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert await asyncio.to_thread(opened.wait, 10)
        assert await exec_input.read_away(pipe) == 1_000_000 and written.wait(5)
    finally:
        os.close(idle_reader)
        writer.join(5)
    assert await exec_input.read_away(tmp_path / "gone") == 0
