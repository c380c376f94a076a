"""What a running process does: its tasks with their stacks, and a sampled profile. For ``/debug/pprof`` of a service.

A profile is in *folded* form, one stack a line from the outside in, with how often it was met; what draws flame graphs reads it::

    run (service.py:12);handle (server.py:310);decode (decoding.py:44) 17
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from collections import Counter
from types import FrameType

INTERVAL = 0.01  # seconds between samples


def tasks() -> str:
    """Every task of this event loop: its name, and where it waits."""
    parts = []
    for task in sorted(asyncio.all_tasks(), key=lambda one: one.get_name()):
        stack = "".join(traceback.format_stack(frame)[-1] for frame in task.get_stack())
        where = stack or "  (about to start)\n"
        parts.append(f"task {task.get_name()}:\n{where}")
    return f"{len(parts)} tasks\n\n" + "\n".join(parts)


async def profile(seconds: float) -> str:
    """Where the thread of this event loop spends its time, looked at for ``seconds`` from another thread."""
    return await asyncio.to_thread(_sample, threading.get_ident(), seconds)


def _sample(thread: int, seconds: float) -> str:
    met: Counter[str] = Counter()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        frame = sys._current_frames().get(thread)
        if frame is None:
            break
        met[_folded(frame)] += 1
        time.sleep(INTERVAL)
    return "".join(f"{stack} {count}\n" for stack, count in met.most_common())


def _folded(frame: FrameType | None) -> str:
    stack: list[str] = []
    while frame is not None:
        code = frame.f_code
        stack.append(f"{code.co_name} ({code.co_filename.rsplit('/', 1)[-1]}:{frame.f_lineno})")
        frame = frame.f_back
    return ";".join(reversed(stack))
