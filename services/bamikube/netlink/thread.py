"""A thread that speaks rtnetlink, and can step into another network namespace.

Why a thread, in a house without threads: pyroute2's asyncio sockets want asyncio's own event loop (services run on
uvloop, which cannot carry netlink datagrams); a request may hold the kernel's rtnl lock for tens of milliseconds; and
``setns(2)`` moves a *thread*, so the namespace of a pod can be entered here without forking a helper process (16-19 ms
each) and without the event loop ever being in the wrong namespace. Work is handed in as plain functions, one at a time.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from pyroute2 import IPRoute

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot enter the network namespace: {os.strerror(number)}")


@contextmanager
def inside(path: str) -> Iterator[IPRoute]:
    """The calling thread is in the network namespace of ``path``; only ever used within :class:`RouteThread`.

    Yields a netlink connection there. Raises FileNotFoundError when the namespace is gone.
    """
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        target = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(target)
        finally:
            os.close(target)
        try:
            with IPRoute() as connection:
                yield connection
        finally:
            _setns(home)
    finally:
        os.close(home)


class RouteThread:
    """One thread with one rtnetlink connection to the namespace it started in."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="rtnetlink")
        self._connection: IPRoute | None = None

    async def call(self, work: Callable[[IPRoute], T]) -> T:
        """Run ``work(connection)`` in the thread and return what it returns."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._work, work)

    def _work(self, work: Callable[[IPRoute], T]) -> T:
        if self._connection is None:
            self._connection = IPRoute()
        return work(self._connection)

    def close(self) -> None:
        def end() -> None:
            if self._connection is not None:
                self._connection.close()

        self._pool.submit(end)
        self._pool.shutdown(wait=True)
