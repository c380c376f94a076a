"""The ledger inside a whole API server on the model store: nothing is ever counted twice, forgotten or overdrawn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from bamikube.apiserver.identity import MASTERS, User
from bamikube.apiserver.options import ApiServerOptions
from bamikube.apiserver.server import ApiServer
from bamikube.kit.http import Request, Response
from bamikube.kit.world import World
from bamikube.store.model import ModelStore

Object = dict[str, Any]
NAMESPACE = "/api/v1/namespaces/default"
QUOTA = f"{NAMESPACE}/resourcequotas/q"


class Everybody:
    async def authenticate(self, request: Request) -> User | None:
        return User("admin", (MASTERS,))


@pytest.fixture
async def servers() -> AsyncIterator[list[ApiServer]]:
    """Two servers over one store."""
    world = World()
    store = ModelStore(world)
    options = ApiServerOptions(disable_admission_plugins=["ServiceAccount"])
    made = [ApiServer(store, options, world, methods=(Everybody(),)) for _ in range(2)]
    running = [asyncio.ensure_future(one.run()) for one in made]
    for one in made:
        await asyncio.wait_for(one.ready.wait(), 10)
    yield made
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def call(
    server: ApiServer, method: str, target: str, body: Any = None, media: str = "application/json"
) -> tuple[int, Any]:
    data = orjson.dumps(body) if body is not None else b""
    answer = await server.handle(Request.make(method, target, body=data, headers={"content-type": media}))
    assert isinstance(answer, Response)
    return answer.status, orjson.loads(answer.joined())


async def limit(server: ApiServer, **hard: str) -> None:
    spec = {"hard": {name.replace("__", "/").replace("_", "."): value for name, value in hard.items()}}
    status, made = await call(
        server, "POST", f"{NAMESPACE}/resourcequotas", {"metadata": {"name": "q"}, "spec": spec}
    )
    assert status == 201, made


async def used(server: ApiServer) -> Object:
    return (await call(server, "GET", QUOTA))[1]["status"]["used"]  # type: ignore[no-any-return]


def pod(name: str, cpu: str = "") -> Object:
    resources = {"requests": {"cpu": cpu}} if cpu else {}
    return {
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i", "resources": resources}]},
    }


async def test_fifty_at_once_against_ten_on_two_servers(servers: list[ApiServer]) -> None:
    await limit(servers[0], pods="10")
    for server in servers:
        await server.cache.consistent()
    answers = await asyncio.gather(
        *(call(servers[n % 2], "POST", f"{NAMESPACE}/pods", pod(f"p{n}")) for n in range(50))
    )
    codes = [status for status, _ in answers]
    assert (codes.count(201), codes.count(403)) == (10, 40)
    refused = next(body for status, body in answers if status == 403)
    assert refused["message"].endswith(
        "is forbidden: exceeded quota: q, requested: pods=1, used: pods=10, limited: pods=10"
    )
    assert len((await call(servers[1], "GET", f"{NAMESPACE}/pods"))[1]["items"]) == 10
    assert await used(servers[0]) == {"pods": "10"}


async def test_what_goes_is_free_in_the_same_moment(servers: list[ApiServer]) -> None:
    server, other = servers
    await call(server, "POST", f"{NAMESPACE}/pods", pod("early", "1"))
    await limit(server, pods="2", requests_cpu="3", configmaps="1")
    await call(server, "POST", f"{NAMESPACE}/pods", pod("late", "2"))
    assert await used(server) == {"pods": "2", "requests.cpu": "3", "configmaps": "0"}
    await call(server, "PATCH", f"{NAMESPACE}/pods/late/status", {"status": {"phase": "Succeeded"}}, "application/merge-patch+json")  # fmt: skip
    assert await used(server) == {"pods": "1", "requests.cpu": "1", "configmaps": "0"}
    await call(other, "DELETE", f"{NAMESPACE}/pods/early")
    assert await used(server) == {"pods": "0", "requests.cpu": "0", "configmaps": "0"}
    await call(server, "DELETE", f"{NAMESPACE}/pods/late")
    config = {"metadata": {"name": "a"}}
    assert (await call(server, "POST", f"{NAMESPACE}/configmaps", config))[0] == 201
    assert (await call(server, "POST", f"{NAMESPACE}/configmaps", {"metadata": {"name": "b"}}))[0] == 403
    assert await used(server) == {"pods": "0", "requests.cpu": "0", "configmaps": "1"}


async def test_a_write_that_fails_costs_nothing(servers: list[ApiServer]) -> None:
    server = servers[0]
    await limit(server, configmaps="5")
    config = {"metadata": {"name": "a"}}
    await asyncio.gather(*(call(server, "POST", f"{NAMESPACE}/configmaps", config) for _ in range(20)))
    assert await used(server) == {"configmaps": "1"}
    status, _ = await call(server, "POST", f"{NAMESPACE}/configmaps?dryRun=All", {"metadata": {"name": "b"}})
    assert status == 201 and await used(server) == {"configmaps": "1"}


async def test_dry_run_is_judged(servers: list[ApiServer]) -> None:
    server = servers[0]
    await limit(server, configmaps="0")
    status, answer = await call(
        server, "POST", f"{NAMESPACE}/configmaps?dryRun=All", {"metadata": {"name": "a"}}
    )
    assert status == 403 and "exceeded quota: q" in answer["message"]


async def test_services_and_what_they_hold(servers: list[ApiServer]) -> None:
    server = servers[0]
    await limit(server, services="2", services_nodeports="1", count__services="5")
    ports = [{"port": 80}]
    body: Object = {"metadata": {"name": "s"}, "spec": {"ports": ports, "type": "NodePort"}}
    assert (await call(server, "POST", f"{NAMESPACE}/services", body))[0] == 201
    body["metadata"]["name"] = "t"
    status, answer = await call(server, "POST", f"{NAMESPACE}/services", body)
    assert status == 403 and "requested: services.nodeports=1" in answer["message"]
    body["spec"]["type"] = "ClusterIP"
    assert (await call(server, "POST", f"{NAMESPACE}/services", body))[0] == 201
    grow = {"spec": {"type": "NodePort"}}
    merge = "application/merge-patch+json"
    assert (await call(server, "PATCH", f"{NAMESPACE}/services/t", grow, merge))[0] == 403
    assert await used(server) == {"services": "2", "services.nodeports": "1", "count/services": "2"}
    await call(server, "DELETE", f"{NAMESPACE}/services/s")
    assert (await call(server, "PATCH", f"{NAMESPACE}/services/t", grow, merge))[0] == 200
    assert await used(server) == {"services": "1", "services.nodeports": "1", "count/services": "1"}


async def test_quotas_count_quotas_and_go(servers: list[ApiServer]) -> None:
    server = servers[0]
    await limit(server, resourcequotas="1")
    second = {"metadata": {"name": "r"}, "spec": {"hard": {"pods": "1"}}}
    status, answer = await call(server, "POST", f"{NAMESPACE}/resourcequotas", second)
    assert status == 403 and "used: resourcequotas=1" in answer["message"]
    assert (await call(server, "DELETE", QUOTA))[0] == 200
    assert (await call(server, "POST", f"{NAMESPACE}/resourcequotas", second))[0] == 201
    ledger = server.registry.ledger
    assert ledger is not None and ledger.watches("default", ("", "pods"))
    assert not ledger.watches("kube-system", ("", "pods")) and not ledger.watches("default", ("", "events"))
    assert (await call(server, "DELETE", f"{NAMESPACE}/resourcequotas/r"))[0] == 200
    await server.cache.consistent()
    assert not ledger.watches("default", ("", "pods"))


async def test_new_limits_are_counted_by_the_next_writer(servers: list[ApiServer]) -> None:
    server = servers[0]
    await limit(server, configmaps="5")
    for name in ("a", "b"):
        await call(server, "POST", f"{NAMESPACE}/configmaps", {"metadata": {"name": name}})
    merge = "application/merge-patch+json"
    await call(server, "PATCH", QUOTA, {"spec": {"hard": {"configmaps": "2", "secrets": "3"}}}, merge)
    status, answer = await call(server, "POST", f"{NAMESPACE}/configmaps", {"metadata": {"name": "c"}})
    assert status == 403 and answer["message"].endswith("used: configmaps=2, limited: configmaps=2")
    await call(server, "POST", f"{NAMESPACE}/secrets", {"metadata": {"name": "s"}})
    assert await used(server) == {"configmaps": "2", "secrets": "1"}


async def test_what_changes_nothing_that_is_counted_waits_for_nobody(servers: list[ApiServer]) -> None:
    server = servers[0]
    await limit(server, pods="5")
    await call(server, "POST", f"{NAMESPACE}/pods", pod("a"))
    before = (await call(server, "GET", QUOTA))[1]["metadata"]["resourceVersion"]
    ledger = server.registry.ledger
    assert ledger is not None
    async with ledger._alone("default"):
        patch = {"status": {"phase": "Running"}}
        merge = "application/merge-patch+json"
        done = call(server, "PATCH", f"{NAMESPACE}/pods/a/status", patch, merge)
        assert (await asyncio.wait_for(done, 5))[0] == 200
        event = {"metadata": {"name": "e"}, "involvedObject": {"namespace": "default"}, "reason": "R"}
        assert (await asyncio.wait_for(call(server, "POST", f"{NAMESPACE}/events", event), 5))[0] == 201
    assert (await call(server, "GET", QUOTA))[1]["metadata"]["resourceVersion"] == before
