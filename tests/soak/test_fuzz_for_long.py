"""Every route of the API under strange requests, for minutes, with one seed after the other.

``FUZZ_SECONDS`` is how long in all (600), ``FUZZ_SEED`` where the seeds begin (the time, so that no run repeats another).
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from bamikube.api import table
from bamikube.apiserver.authn import Method
from bamikube.apiserver.identity import MASTERS, User
from bamikube.apiserver.options import ApiServerOptions
from bamikube.apiserver.server import ApiServer
from bamikube.kit.http import Request
from bamikube.kit.world import World
from bamikube.store.etcd import EtcdStore
from tests.support.etcd import etcd_server
from tests.support.fuzz_run import fuzz
from tests.support.objects import example

EACH = 60.0  # seconds of a seed
_CALLS_OUT = ("admissionregistration.k8s.io", "apiregistration.k8s.io", "apiextensions.k8s.io")


class Administrator:
    """Whoever asks."""

    async def authenticate(self, request: Request) -> User | None:
        return User("admin", (MASTERS,))


async def test_no_request_makes_the_server_fail(tmp_path: Path) -> None:
    whole = float(os.environ.get("FUZZ_SECONDS", "600"))
    seed = int(os.environ.get("FUZZ_SEED", str(int(time.time()))))
    method: Method = Administrator()
    with etcd_server(tmp_path / "etcd") as etcd:
        world = World()
        store = EtcdStore(etcd.endpoints, world=world, prefix=b"/soak")
        options = ApiServerOptions(etcd_compaction_interval=10, etcd_compaction_window=30)
        server = ApiServer(store, options, world, methods=(method,))
        running = asyncio.ensure_future(server.run())
        await asyncio.wait_for(server.ready.wait(), 30)
        try:
            account = example(table.by_name("serviceaccounts"), "default")
            await server.registry.create(table.by_name("serviceaccounts"), account, namespace="default")
            for row in table.TABLE:
                if not row.virtual and row.group not in _CALLS_OUT and table.storage_row(row) is row:
                    await server.registry.create(
                        row, example(row, "fuzz"), namespace="default" * row.namespaced
                    )
            for number in range(max(1, round(whole / EACH))):
                print(f"seed {seed + number}:", dict(await fuzz(server, seed + number, min(EACH, whole))))
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await store.close()
