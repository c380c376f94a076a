"""Flow control in a whole API server on the model store: turns, refusals, headers, and the objects behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from bamikube.apiserver.attributes import Attributes
from bamikube.apiserver.flow import control, figures
from bamikube.apiserver.flow.control import width_of
from bamikube.apiserver.identity import ALL_AUTHENTICATED, MASTERS, User
from bamikube.apiserver.options import ApiServerOptions
from bamikube.apiserver.server import ApiServer
from bamikube.kit.http import Request, Response
from bamikube.kit.world import World
from bamikube.store.model import ModelStore

Object = dict[str, Any]
FLOW = "/apis/flowcontrol.apiserver.k8s.io/v1"
MAPS = "/api/v1/namespaces/default/configmaps"


class NamedUsers:
    async def authenticate(self, request: Request) -> User | None:
        name = request.headers.get("x-user", "root")
        return User(name, (MASTERS, ALL_AUTHENTICATED) if name == "root" else (ALL_AUTHENTICATED,))


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    """Eight seats in all; everybody may do everything."""
    world = World()
    options = ApiServerOptions(
        max_requests_inflight=6, max_mutating_requests_inflight=2, authorization_mode=["AlwaysAllow"]
    )
    made = ApiServer(ModelStore(world), options, world, methods=(NamedUsers(),))
    running = asyncio.ensure_future(made.run())
    await asyncio.wait_for(made.ready.wait(), 10)
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def send(
    server: ApiServer, target: str, user: str = "root", method: str = "GET", body: Any = None
) -> Response:
    data = orjson.dumps(body) if body is not None else b""
    answer = await server.handle(Request.make(method, target, headers={"x-user": user}, body=data))
    assert isinstance(answer, Response)
    return answer


async def test_the_objects_are_there_and_say_so(server: ApiServer) -> None:
    schemas = orjson.loads((await send(server, f"{FLOW}/flowschemas")).joined())["items"]
    levels = orjson.loads((await send(server, f"{FLOW}/prioritylevelconfigurations")).joined())["items"]
    assert {obj["metadata"]["name"] for obj in schemas} >= {
        "exempt",
        "catch-all",
        "probes",
        "service-accounts",
    }
    assert len(levels) == 8
    uids = {obj["metadata"]["name"]: obj["metadata"]["uid"] for obj in levels}
    answer = await send(server, MAPS, "jane")
    assert answer.headers["X-Kubernetes-PF-PriorityLevel-UID"] == uids["global-default"]
    missing = await send(server, f"{MAPS}/missing")
    assert missing.status == 404 and missing.headers["X-Kubernetes-PF-PriorityLevel-UID"] == uids["exempt"]
    metrics = (await send(server, "/metrics")).joined()
    assert b'apiserver_flowcontrol_dispatched_requests_total{flow_schema="global-default"' in metrics


async def test_dangling_schemas_are_marked(server: ApiServer) -> None:
    spec = {"priorityLevelConfiguration": {"name": "gone"}, "matchingPrecedence": 1000, "rules": []}
    await send(server, f"{FLOW}/flowschemas", method="POST", body={"metadata": {"name": "x"}, "spec": spec})

    async def condition(name: str) -> str:
        while True:
            found = orjson.loads((await send(server, f"{FLOW}/flowschemas/{name}")).joined())
            if conditions := (found.get("status") or {}).get("conditions"):
                assert conditions[0]["type"] == "Dangling"
                return str(conditions[0]["status"])
            await asyncio.sleep(0.01)

    assert await asyncio.wait_for(condition("x"), 5) == "True"
    assert await asyncio.wait_for(condition("exempt"), 5) == "False"


def asking(user: str) -> Attributes:
    who = User(user, (ALL_AUTHENTICATED,))
    return Attributes(who, "get", version="v1", resource="configmaps", namespace="default", name="a")


async def test_flows_take_turns(server: ApiServer) -> None:
    """One user fills his level's seats and queues up; another is let in next."""
    flow = server.flow
    first = flow.enter(asking("flood"))
    assert first is not None
    taken = [first]
    while (more := flow.enter(asking("flood"))) is not None:
        taken.append(more)
    order: list[str] = []

    async def one(user: str) -> None:
        got = await flow.wait(asking(user))
        order.append(user)
        await asyncio.sleep(0)
        flow.leave(got)

    level = first.level
    borrowed = []
    while level.fits(1, flow._lent(level)):
        borrowed.append(await flow.wait(asking("flood")))
    flood = [asyncio.ensure_future(one("flood")) for _ in range(60)]
    await asyncio.sleep(0)
    small = asyncio.ensure_future(one("small"))
    await asyncio.sleep(0)
    assert level.waiting == 61 and not order
    for got in [*taken, *borrowed]:
        flow.leave(got)
    await asyncio.gather(*flood, small)
    assert order.index("small") < 10
    assert level.in_use == level.waiting == 0


async def test_who_finds_no_place_in_a_queue_is_sent_away(server: ApiServer) -> None:
    level = server.flow.enter(asking("x")).level  # type: ignore[union-attr]
    level.in_use = 100
    waiting = [asyncio.ensure_future(send(server, f"{MAPS}/a", "flood")) for _ in range(301)]
    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    answer = next(iter(done)).result()
    assert (answer.status, answer.headers["Retry-After"]) == (429, "1")
    status = orjson.loads(answer.joined())
    assert (status["reason"], status["message"]) == (
        "TooManyRequests",
        "Too many requests, please try again later.",
    )
    assert (await send(server, MAPS)).status == 200  # the exempt do not notice
    level.in_use = 0
    server.flow._dispatch()
    codes = [(await one).status for one in waiting]
    assert codes.count(429) == 1 and codes.count(404) == 300
    assert level.in_use == 0


async def test_who_leaves_the_queue_leaves_nothing_behind(server: ApiServer) -> None:
    flow = server.flow
    level = flow.enter(asking("x")).level  # type: ignore[union-attr]
    level.in_use = 100
    gone = asyncio.ensure_future(flow.wait(asking("x")))
    stays = asyncio.ensure_future(flow.wait(asking("x")))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    assert level.waiting == 1
    level.in_use = 0
    flow._dispatch()
    flow.leave(await stays)
    level.in_use = 100
    late = asyncio.ensure_future(flow.wait(asking("x")))
    await asyncio.sleep(0)
    level.in_use = 0
    flow._dispatch()  # its seat comes in the same moment as its end
    late.cancel()
    await asyncio.gather(late, return_exceptions=True)
    assert level.waiting == level.in_use == 0


async def test_a_change_of_the_levels_counts_at_once(server: ApiServer) -> None:
    before = server.flow.enter(asking("jane"))
    assert before is not None and before.level.name == "global-default"
    spec = {
        "priorityLevelConfiguration": {"name": "system"},
        "matchingPrecedence": 50,
        "rules": [
            {
                "subjects": [{"kind": "User", "user": {"name": "jane"}}],
                "resourceRules": [
                    {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]}
                ],
            }
        ],
    }
    made = await send(
        server, f"{FLOW}/flowschemas", method="POST", body={"metadata": {"name": "mine"}, "spec": spec}
    )
    assert made.status == 201, made.joined()
    await server.cache.consistent()
    after = server.flow.enter(asking("jane"))
    assert after is not None and (after.level.name, after.schema.name) == ("system", "mine")
    server.flow.leave(before)
    server.flow.leave(after)
    assert before.level.in_use == after.level.in_use == 0


@pytest.mark.parametrize(
    ("verb", "resource", "limit", "length", "width"),
    [
        ("get", "pods", 0, 0, 1),
        ("create", "pods", 0, 0, 5),
        ("list", "pods", 0, 0, 1),
        ("list", "pods", 0, 2000, 100),
        ("list", "pods", 0, 10**6, 100),
        ("list", "pods", 40, 2000, 2),
        ("watch", "pods", 0, 2000, 1),
        ("get", "pods/log", 0, 0, 0),
        ("create", "pods/exec", 0, 0, 0),
    ],
)
def test_how_many_seats_a_request_takes(
    verb: str, resource: str, limit: int, length: int, width: int
) -> None:
    plural, _, part = resource.partition("/")
    request = Attributes(User("u"), verb, resource=plural, subresource=part, namespace="a")
    assert width_of(request, limit, lambda: length) == width


async def test_flows_of_users_who_have_gone_are_forgotten(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "REMEMBERED", 4)
    flow = server.flow

    def asks(name: str) -> Attributes:
        return Attributes(
            User(name, (ALL_AUTHENTICATED,)), "get", resource="configmaps", namespace="default", name="x"
        )

    before = figures.DISPATCHED.total(priority_level="global-default")
    stays = flow.enter(asks("stays"))
    assert stays is not None
    stays.level.nominal = 2
    for number in range(20):
        passed = flow.enter(asks(f"user-{number}"))
        assert passed is not None
        flow.leave(passed)
        assert len(flow._flows) <= 4
    assert flow.running("global-default") == 1
    flow.leave(stays)
    assert flow.running("global-default") == 0
    flow.tell()
    assert figures.DISPATCHED.total(priority_level="global-default") == before + 21  # none is lost
