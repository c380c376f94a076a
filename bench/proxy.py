"""How long the proxy takes for many services, in a network namespace of its own. Run as root: ``python bench/proxy.py``.

Prints, per size: deciding, packing and sending everything (wall and CPU seconds), replacing one endpoint, changing the
number of endpoints, and ``nft -f`` of the very same table for comparison.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "services"))

from bamikube.netlink.nftables import Nftables
from bamikube.proxy.model import Endpoint, Port, Service, Slice
from bamikube.proxy.plan import Node
from bamikube.proxy.state import State


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _slice(number: int, addresses: list[int]) -> Slice:
    key = f"default/s{number}"
    found = tuple(Endpoint(f"10.{128 + (a >> 16)}.{a >> 8 & 255}.{a & 255}", "other") for a in addresses)
    return Slice(f"{key}-1", key, (("http", "TCP", 8080),), found)


async def measure(services: int, endpoints: int) -> None:
    state = State(Node("node", cluster_cidr="10.128.0.0/9"))
    for number in range(services):
        address = f"10.{96 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"
        state.service(
            f"default/s{number}", Service(f"default/s{number}", (address,), (Port("http", "TCP", 80),))
        )
        part = _slice(number, [number * endpoints + index for index in range(endpoints)])
        state.slice(part.key, None, part)
    tables = Nftables()
    await tables.probe()
    gc.collect()
    wall, cpu = time.perf_counter(), _cpu()
    state.take()
    decided = time.perf_counter() - wall
    await tables.replace(state.ledger.table())
    wall, cpu = time.perf_counter() - wall, _cpu() - cpu

    one, count = [], []
    for index in range(50):
        number = index * (services // 50)
        base = number * endpoints
        old = _slice(number, [base + i for i in range(endpoints)])
        moved = _slice(number, [base + i for i in range(endpoints - 1)] + [8_000_000 + index])
        fewer = _slice(number, [base + i for i in range(endpoints - 1)])
        for kind, before, after in ((one, old, moved), (count, moved, fewer)):
            started = time.perf_counter()
            state.slice(after.key, before, after)
            step = state.take()
            await tables.update(step.before, step.after)
            kind.append((time.perf_counter() - started) * 1000)
    tables.close()

    # nft cannot write down a random number as part of a key of type mark: a mark costs it the same
    text = state.ledger.table().render().replace("bamikube-proxy", "bench-nft")
    text = re.sub(r"numgen random mod \d+ map", "meta mark map", text)
    with tempfile.NamedTemporaryFile("w", suffix=".nft") as file:
        file.write(text)
        file.flush()
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(["nft", "-f", file.name], capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    nft = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    compared = (
        f"nft -f {nft:.2f} s CPU ({nft / cpu:.1f}x)"
        if done.returncode == 0
        else f"nft -f failed: {done.stderr[:200]}"
    )
    print(
        f"{services:6d} services x {endpoints}: {cpu:.2f} s CPU, {wall:.2f} s wall (deciding {decided:.2f} s); "
        f"one endpoint {statistics.median(one):.2f} ms, one fewer {statistics.median(count):.2f} ms; {compared}"
    )


def main() -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(0x40000000) != 0:
        raise SystemExit("cannot make a network namespace: run as root")
    for services, endpoints in ((1000, 2), (10_000, 2), (10_000, 10)):
        asyncio.run(measure(services, endpoints))


if __name__ == "__main__":
    os.environ.setdefault("LANG", "C")
    main()
