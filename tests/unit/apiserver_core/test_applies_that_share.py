"""Server-side apply copies nothing it need not: what is shared with the stored object is never changed, and a document
that says what is there already is judged all the same."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from bamikube.api import errors
from bamikube.apiserver.admission.chain import Admission, Plugin
from bamikube.apiserver.admission.context import AdmissionContext
from bamikube.apiserver.cache.item import encode
from bamikube.apiserver.identity import MASTERS, User
from bamikube.apiserver.options import ApiServerOptions
from bamikube.apiserver.registry.recent import LONGEST, TOTAL, Recent
from bamikube.apiserver.server import ApiServer
from bamikube.kit.http import Request, Response
from bamikube.kit.world import World
from bamikube.store.model import ModelStore
from bamikube.store.port import Change

Object = dict[str, Any]
APPLY = {"content-type": "application/apply-patch+yaml"}
CONTAINER = {
    "name": "web",
    "image": "nginx:1",
    "ports": [{"containerPort": 80}],
    "env": [{"name": "A", "value": "b"}],
}
DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web", "labels": {"app": "web"}},
    "spec": {
        "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [CONTAINER]}},
    },
}
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web"},
    "spec": {
        "type": "NodePort",
        "selector": {"app": "web"},
        "ports": [{"port": 80}, {"port": 81, "name": "b"}],
    },
}
SERVICE["spec"]["ports"][0]["name"] = "a"  # type: ignore[index]
NAMESPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "one", "labels": {"a": "b"}}}
PATHS = {
    "Deployment": "/apis/apps/v1/namespaces/default/deployments/web",
    "Service": "/api/v1/namespaces/default/services/web",
    "Namespace": "/api/v1/namespaces/one",
}


class Everybody:
    async def authenticate(self, request: Request) -> User | None:
        return User("admin", (MASTERS,))


class Witness(Plugin):
    """Remembers what every update was shown of the stored object; refuses when told to."""

    name = "Witness"

    def __init__(self) -> None:
        self.seen: list[tuple[Object, Object]] = []
        self.refuses = False

    async def validate(self, ctx: AdmissionContext) -> None:
        if (
            ctx.operation == "UPDATE"
            and ctx.old is not None
            and ctx.object is not None
            and ctx.user.name == "admin"
        ):
            self.seen.append((copy.deepcopy(ctx.old), copy.deepcopy(ctx.object)))
            if self.refuses:
                raise errors.forbidden(ctx.resource.plural, ctx.name, "told to refuse", ctx.resource.group)


class Labeller(Plugin):
    """Writes a label into every object, in place."""

    name = "Labeller"

    async def mutate(self, ctx: AdmissionContext) -> None:
        if ctx.operation == "UPDATE" and ctx.object is not None and ctx.user.name == "admin":
            ctx.object["metadata"].setdefault("labels", {})["seen"] = "yes"


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    world = World()
    made = ApiServer(ModelStore(world), ApiServerOptions(), world, methods=(Everybody(),))
    running = asyncio.ensure_future(made.run())
    await asyncio.wait_for(made.ready.wait(), 10)
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def joined_by(server: ApiServer, plugin: Plugin) -> None:
    assert server.registry.admission is not None
    server.registry.admission = Admission([*server.registry.admission.plugins, plugin])


async def apply(server: ApiServer, doc: Object, manager: str = "me") -> tuple[int, Object]:
    target = f"{PATHS[doc['kind']]}?fieldManager={manager}"
    answer = await server.handle(Request.make("PATCH", target, headers=APPLY, body=orjson.dumps(doc)))
    assert isinstance(answer, Response)
    return answer.status, orjson.loads(answer.joined())


async def caught_up(server: ApiServer, obj: Object) -> None:
    assert await server.cache.reach(int(obj["metadata"]["resourceVersion"]))


def changed(doc: Object, *path: str | int, value: Any) -> Object:
    new = copy.deepcopy(doc)
    place: Any = new
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return new


def stored(obj: Object) -> Object:
    obj = copy.deepcopy(obj)
    del obj["metadata"]["resourceVersion"]
    return obj


@pytest.mark.parametrize(
    ("doc", "then"),
    [
        (
            DEPLOYMENT,
            changed(DEPLOYMENT, "spec", "template", "spec", "containers", 0, "image", value="nginx:2"),
        ),
        (DEPLOYMENT, changed(DEPLOYMENT, "spec", "template", "spec", "containers", 0, "env", value=None)),
        (DEPLOYMENT, changed(DEPLOYMENT, "metadata", "labels", value={"app": "web", "more": "x"})),
        (SERVICE, changed(SERVICE, "spec", "type", value="ClusterIP")),
        (SERVICE, changed(SERVICE, "spec", "ports", value=[{"name": "b", "port": 81}])),
        (NAMESPACE, changed(NAMESPACE, "metadata", "labels", value={"a": "c"})),
    ],
    ids=["image", "null", "label", "type", "ports", "namespace"],
)
async def test_the_stored_object_is_shown_as_it_was(server: ApiServer, doc: Object, then: Object) -> None:
    witness = Witness()
    joined_by(server, witness)
    assert (await apply(server, doc))[0] == 201
    _, before = await apply(server, doc)
    witness.seen.clear()
    status, after = await apply(server, then)
    assert status == 200 and after["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"]
    ((old, new),) = witness.seen
    assert old == stored(before) and new == stored(after)


async def test_applying_again_is_judged_and_writes_nothing(server: ApiServer) -> None:
    witness = Witness()
    joined_by(server, witness)
    _, first = await apply(server, DEPLOYMENT)
    await caught_up(server, first)
    status, second = await apply(server, DEPLOYMENT)
    assert status == 200 and second == first
    ((old, new),) = witness.seen
    assert old == new == stored(first)
    witness.refuses = True
    status, refused = await apply(server, DEPLOYMENT)
    assert status == 403 and refused["message"].endswith("told to refuse")


async def test_what_admission_adds_to_an_apply_of_nothing_new_is_written(server: ApiServer) -> None:
    _, first = await apply(server, DEPLOYMENT)
    witness = Witness()
    joined_by(server, Labeller())
    joined_by(server, witness)
    status, second = await apply(server, DEPLOYMENT)
    assert status == 200 and second["metadata"]["labels"] == {"app": "web", "seen": "yes"}
    ((old, new),) = witness.seen
    assert old == stored(first) and new == stored(second)


async def test_an_apply_of_nothing_new_looks_whether_its_state_was_old(server: ApiServer) -> None:
    """The cache says that nothing is new; the store knows better."""
    await caught_up(server, (await apply(server, DEPLOYMENT))[1])
    other = changed(DEPLOYMENT, "spec", "template", "spec", "containers", 0, "image", value="nginx:2")
    slot = server.cache.slot(("apps", "deployments"))
    item = slot.items["default/web"]
    await caught_up(server, (await apply(server, other))[1])
    server.cache.feed = lambda changes: None  # type: ignore[method-assign]
    slot.items["default/web"] = item
    status, done = await apply(server, DEPLOYMENT)
    assert status == 200 and done["spec"]["template"]["spec"]["containers"][0]["image"] == "nginx:1"
    assert int(done["metadata"]["resourceVersion"]) > item.revision


async def test_a_document_is_whole_again_when_somebody_was_faster(server: ApiServer) -> None:
    """The first try makes parts of it parts of an object, and fills in defaults; nobody may own those by the second."""
    await caught_up(server, (await apply(server, changed(DEPLOYMENT, "spec", "replicas", value=2)))[1])
    slot = server.cache.slot(("apps", "deployments"))
    item = slot.items["default/web"]
    other = changed(DEPLOYMENT, "metadata", "labels", value={"other": "x"})
    await caught_up(server, (await apply(server, other, manager="other"))[1])
    slot.items["default/web"] = item  # older than the store: the first try fails
    more = {"name": "side", "image": "side:1", "livenessProbe": {"httpGet": {"port": 80}}}
    status, done = await apply(
        server, changed(DEPLOYMENT, "spec", "template", "spec", "containers", value=[CONTAINER, more])
    )
    assert status == 200
    mine = next(one for one in done["metadata"]["managedFields"] if one["manager"] == "me")
    containers = mine["fieldsV1"]["f:spec"]["f:template"]["f:spec"]["f:containers"]
    assert containers['k:{"name":"side"}']["f:livenessProbe"] == {"f:httpGet": {"f:port": {}}}
    assert "f:imagePullPolicy" not in containers['k:{"name":"side"}']
    assert done["spec"]["template"]["spec"]["containers"][1]["imagePullPolicy"] == "IfNotPresent"
    _, again = await apply(
        server, changed(DEPLOYMENT, "spec", "template", "spec", "containers", value=[CONTAINER, more])
    )
    assert again == done


async def test_the_same_bytes_again_are_applied_to_whatever_stands_there_now(server: ApiServer) -> None:
    _, first = await apply(server, DEPLOYMENT)
    _, again = await apply(server, DEPLOYMENT)
    assert again == first
    other = changed(DEPLOYMENT, "spec", "template", "spec", "containers", 0, "image", value="nginx:2")
    for doc, image in ((other, "nginx:2"), (DEPLOYMENT, "nginx:1"), (other, "nginx:2"), (other, "nginx:2")):
        status, done = await apply(server, doc)
        assert status == 200 and done["spec"]["template"]["spec"]["containers"][0]["image"] == image
    # A field that somebody else took is a conflict, for the kept document as for any other.
    taken = {"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "nginx:3"}]}}}}
    target = f"{PATHS['Deployment']}?fieldManager=you"
    media = {"content-type": "application/strategic-merge-patch+json"}
    await server.handle(Request.make("PATCH", target, headers=media, body=orjson.dumps(taken)))
    status, refused = await apply(server, other)
    assert status == 409 and 'conflict with "you"' in refused["message"]


async def test_what_was_written_is_kept_for_the_next_apply_and_never_changed(server: ApiServer) -> None:
    """Whoever reads it is shown what the store holds, whatever others, admission and defaults made of it meanwhile."""
    recent, slot = server.registry.recent, server.cache.slot(("apps", "deployments"))
    key = server.registry.key(slot.resource, "default", "web")
    await apply(server, DEPLOYMENT)
    doc = DEPLOYMENT
    for round_ in range(6):
        if round_ == 3:
            joined_by(server, Labeller())
        image = ("spec", "template", "spec", "containers", 0, "image")
        doc = changed(doc, *image, value=f"nginx:{round_ + 2}")
        if round_ % 2:
            probe = {"httpGet": {"port": 80 + round_}}
            doc = changed(doc, "spec", "template", "spec", "containers", 0, "livenessProbe", value=probe)
        status, done = await apply(server, doc)
        assert status == 200
        kept = recent.at(key, int(done["metadata"]["resourceVersion"]))
        assert kept == done
        assert recent.at(key, 1) is None
    await caught_up(server, done)
    assert orjson.loads(slot.items["default/web"].raw) == done


def test_only_so_much_of_what_was_written_is_kept() -> None:
    recent = Recent()
    obj: Object = {"metadata": {"name": "a"}}
    for number in range(40):
        recent.keep(b"%d" % number, 7, obj, LONGEST)
    kept = [number for number in range(40) if recent.at(b"%d" % number, 7)]
    assert kept == list(range(40 - TOTAL // LONGEST, 40))
    recent.keep(b"39", 8, obj, LONGEST + 1)
    assert recent.at(b"39", 7) is recent.at(b"39", 8) is None


async def test_a_write_that_the_watch_brings_before_its_answer_is_not_read_again(server: ApiServer) -> None:
    slot = server.cache.slot(("", "configmaps"))
    key, revision = server.registry.key(slot.resource, "default", "one"), server.cache.revision
    metadata = {"name": "one", "namespace": "default"}
    value = encode({"kind": "ConfigMap", "apiVersion": "v1", "metadata": metadata})
    told = {"metadata": {**metadata, "labels": {"from": "the writer"}}}
    server.cache.writes(key, value, told)
    server.cache.feed([Change(key, value, revision + 1)])
    assert slot.items["default/one"].labels == {"from": "the writer"}
    other = value.replace(b'"default"}', b'"default","labels":{"from":"another"}}')
    server.cache.feed([Change(key, other, revision + 2)])
    assert slot.items["default/one"].labels == {"from": "another"}
    server.cache.wrote(key, {})  # somebody else's
    assert key in server.cache._written
    server.cache.wrote(key, told)
    server.cache.feed([Change(key, value, revision + 3)])
    assert slot.items["default/one"].labels == {}


async def test_a_zero_that_is_never_written_is_owned_all_the_same(server: ApiServer) -> None:
    """``hostPID: false`` is not seen again, and changes nothing; who says it holds the field against others."""
    pod = ("spec", "template", "spec")
    doc = changed(DEPLOYMENT, *pod, "hostPID", value=False)
    _, first = await apply(server, doc)
    assert "hostPID" not in first["spec"]["template"]["spec"]
    owned = first["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:template"]["f:spec"]
    assert owned["f:hostPID"] == {}
    await caught_up(server, first)
    _, again = await apply(server, doc)
    _, more = await apply(server, changed(doc, *pod, "nodeName", value=""))
    assert again == first and more.get("spec") == first["spec"], more
    status, refused = await apply(server, changed(DEPLOYMENT, *pod, "hostPID", value=True), manager="other")
    assert status == 409 and 'conflict with "me"' in refused["message"]
    _, on = await apply(server, changed(DEPLOYMENT, *pod, "hostPID", value=True))
    assert on["spec"]["template"]["spec"]["hostPID"] is True
    _, off = await apply(server, doc)
    assert off["spec"]["template"]["spec"] == first["spec"]["template"]["spec"]
    assert (
        off["metadata"]["managedFields"][0]["fieldsV1"] == first["metadata"]["managedFields"][0]["fieldsV1"]
    )
