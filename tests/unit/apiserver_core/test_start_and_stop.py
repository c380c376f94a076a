"""The order of a start, and what a stop must not swallow. On the in-memory store."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from bamikube.api import table
from bamikube.apiserver import server as server_module
from bamikube.apiserver.bootstrap import Bootstrap
from bamikube.apiserver.identity import User
from bamikube.apiserver.kubernetes_service import KubernetesService
from bamikube.apiserver.options import ApiServerOptions
from bamikube.apiserver.registry.deletion import DeleteOptions
from bamikube.apiserver.server import ApiServer
from bamikube.kit.http import Request, Response
from bamikube.kit.world import World
from bamikube.pki.authority import Authority
from bamikube.store.model import ModelStore
from bamikube.store.port import Compare, Delete, Put, Txn, Unavailable


class AsProxy:
    """Everybody is the service proxy: somebody who may do nothing until the roles are there."""

    async def authenticate(self, request: Request) -> User | None:
        return User("system:kube-proxy", ("system:authenticated",))


class SlowToWrite(ModelStore):
    """A store whose writes wait until ``go`` is set, and fail first, ``failures`` times."""

    def __init__(self, world: World, failures: int = 0) -> None:
        super().__init__(world)
        self.go = asyncio.Event()
        self.failures = failures

    async def txn(self, guards: Sequence[Compare], writes: Sequence[Put | Delete]) -> Txn:
        await self.go.wait()
        if self.failures:
            self.failures -= 1
            raise Unavailable("not now")
        return await super().txn(guards, writes)


@contextlib.asynccontextmanager
async def running(store: ModelStore, world: World, **options: Any) -> AsyncIterator[ApiServer]:
    made = ApiServer(store, ApiServerOptions(**options), world, methods=(AsProxy(),))
    task = asyncio.ensure_future(made.run())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.wait_for(asyncio.gather(task, return_exceptions=True), 10)


async def status(server: ApiServer, target: str) -> tuple[int, dict[str, str]]:
    answer = await server.handle(Request.make("GET", target))
    assert isinstance(answer, Response)
    return answer.status, answer.headers


async def test_requests_wait_for_the_roles_instead_of_being_forbidden() -> None:
    world = World()
    store = SlowToWrite(world, failures=2)
    async with running(store, world) as server:
        early = asyncio.ensure_future(status(server, "/api/v1/services"))
        await asyncio.wait_for(server.cache.synced.wait(), 5)
        code, headers = await status(server, "/readyz")
        assert code == 503 and headers["Retry-After"] == "1"
        assert not early.done() and not server.ready.is_set()
        store.go.set()
        assert (await asyncio.wait_for(early, 10))[0] == 200
        await asyncio.wait_for(server.ready.wait(), 5)
        assert (await status(server, "/api/v1/secrets"))[0] == 403


async def test_requests_that_waited_too_long_are_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "OPENING", 0.05)
    world = World()
    async with running(SlowToWrite(world), world) as server:
        code, headers = await status(server, "/api/v1/services")
        assert code == 503 and headers["Retry-After"] == "1"


async def test_the_first_start_has_nothing_to_warn_of(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    async with running(ModelStore(world), world, advertise_address="10.0.0.1") as server:
        await asyncio.wait_for(server.ready.wait(), 10)
        published = asyncio.Event()
        server.cache.subscribe(
            ("discovery.k8s.io", "endpointslices"), lambda _type, _old, _new: published.set()
        )
        await asyncio.wait_for(published.wait(), 10)
    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []


async def test_the_trust_of_extension_servers_is_published(tmp_path: Path) -> None:
    world = World()
    file = tmp_path / "ca.crt"
    file.write_bytes(Authority.create("a-ca", world).certificate_pem)
    options: dict[str, Any] = {"client_ca_file": str(file), "requestheader_client_ca_file": str(file)}
    async with running(
        ModelStore(world), world, requestheader_allowed_names=["front-proxy-client"], **options
    ) as server:
        await asyncio.wait_for(server.ready.wait(), 10)
        found = server.cache.get(("", "configmaps"), "kube-system", "extension-apiserver-authentication")
        assert found is not None
        data = found["data"]
        assert data["client-ca-file"] == data["requestheader-client-ca-file"] == file.read_text()
        assert orjson.loads(data["requestheader-allowed-names"]) == ["front-proxy-client"]
        assert orjson.loads(data["requestheader-username-headers"]) == ["X-Remote-User"]


async def test_who_asks_about_one_object_hears_of_no_other() -> None:
    world = World()
    async with running(ModelStore(world), world) as server:
        await asyncio.wait_for(server.ready.wait(), 10)
        heard: list[tuple[str, str]] = []

        def told(kind: str, old: Any, new: Any) -> None:
            heard.append((kind, (new or old)["metadata"]["name"]))

        configmaps = table.by_name("configmaps")
        await server.registry.create(configmaps, {"metadata": {"name": "early", "namespace": "default"}})
        await server.cache.consistent()
        for name in ("early", "late"):
            server.cache.subscribe(("", "configmaps"), told, f"default/{name}")
        for name in ("late", "other"):
            made = await server.registry.create(
                configmaps, {"metadata": {"name": name, "namespace": "default"}}
            )
            await server.registry.update(configmaps, {**made, "data": {"a": "b"}})
        await server.registry.delete_item(configmaps, "default", "early", DeleteOptions())
        await server.cache.consistent()
        expected = [("ADDED", "early"), ("ADDED", "late"), ("MODIFIED", "late"), ("DELETED", "early")]
        assert heard == expected
        # What nobody asked about has not even been decoded.
        assert server.cache.slot(("", "configmaps")).items["default/other"]._obj is None


async def test_a_write_that_is_cancelled_says_so_wherever_it_stands() -> None:
    """Cancel a create after every number of steps of the loop: it is either done or cancelled, nothing else."""
    world = World()
    async with running(ModelStore(world), world) as server:
        await asyncio.wait_for(server.ready.wait(), 10)
        configmaps = table.by_name("configmaps")
        finished = 0
        for steps in range(400):
            body = {"metadata": {"name": f"c{steps}"}}
            task = asyncio.ensure_future(server.registry.create(configmaps, body, namespace="default"))
            for _ in range(steps):
                await asyncio.sleep(0)
            asked = task.cancel()  # False: it had ended before
            await asyncio.gather(task, return_exceptions=True)
            assert task.cancelled() == asked
            finished += not asked
            if finished > 3:
                return
        raise AssertionError("a create never came to an end")


@pytest.mark.parametrize("loop_of", ["bootstrap", "kubernetes-service"])
async def test_loops_end_when_they_are_told_to(loop_of: str) -> None:
    """However deep in a write a loop is when the server stops, it ends."""
    for steps in (0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144):
        world = World()
        store = ModelStore(world)
        made = ApiServer(store, ApiServerOptions(), world)
        loading = asyncio.ensure_future(made.cache.run())
        await made.cache.synced.wait()
        loop: Bootstrap | KubernetesService = made.bootstrap
        if loop_of == "kubernetes-service":
            loop = KubernetesService(store, made.cache, made.registry, world, address="10.0.0.1")
        task = asyncio.ensure_future(loop.run())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=5)
        assert done and task.cancelled()
        loading.cancel()
        await asyncio.gather(loading, return_exceptions=True)


async def test_readers_that_wait_when_the_server_stops_get_an_answer() -> None:
    world = World()
    store = ModelStore(world)
    made = ApiServer(store, ApiServerOptions(), world, methods=(AsProxy(),))
    task = asyncio.ensure_future(made.run())
    await asyncio.wait_for(made.ready.wait(), 10)
    store.pause()
    asked = [asyncio.ensure_future(status(made, "/api/v1/services")) for _ in range(3)]
    for _ in range(20):
        await asyncio.sleep(0)
    assert made.cache._question is not None
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert [code for code, _ in await asyncio.wait_for(asyncio.gather(*asked), 5)] == [503, 503, 503]


async def test_a_namespace_and_an_account_made_by_another_server_are_found() -> None:
    """The other server's writes are in the store; our watch has not brought them yet."""
    world = World()
    store = ModelStore(world)
    async with running(store, world) as ours, running(store, world) as theirs:
        await asyncio.wait_for(asyncio.gather(ours.ready.wait(), theirs.ready.wait()), 10)
        feed, held = ours.cache.feed, []
        ours.cache.feed = lambda changes: held.append(changes)  # type: ignore[method-assign]
        namespaces, accounts = table.by_name("namespaces"), table.by_name("serviceaccounts")
        await theirs.registry.create(namespaces, {"metadata": {"name": "new"}})
        await theirs.registry.create(accounts, {"metadata": {"name": "robot"}}, namespace="new")
        pod = {
            "metadata": {"name": "p"},
            "spec": {"serviceAccountName": "robot", "containers": [{"name": "c", "image": "i"}]},
        }
        making = asyncio.ensure_future(ours.registry.create(table.by_name("pods"), pod, namespace="new"))
        for _ in range(50):
            await asyncio.sleep(0)
        assert not making.done()
        ours.cache.feed = feed  # type: ignore[method-assign]
        for changes in held:
            feed(changes)
        made = await asyncio.wait_for(making, 5)
        assert made["spec"]["serviceAccountName"] == "robot"
