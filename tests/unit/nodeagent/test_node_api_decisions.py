"""What a request to the node's API means: which container, which options, which permission, which file."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from bamikube.client.client import Client
from bamikube.client.transport import InProcessTransport
from bamikube.kit.http import Request, Response, Stream
from bamikube.kit.world import World
from bamikube.nodeagent import labels
from bamikube.nodeagent.configz import configuration
from bamikube.nodeagent.options import NodeAgentOptions
from bamikube.nodeagent.pod.state import RuntimeState
from bamikube.nodeagent.runtime.port import Container, Sandbox
from bamikube.nodeagent.server import logfiles
from bamikube.nodeagent.server.auth import Delegated, subresources
from bamikube.nodeagent.server.checkpoints import checkpoint
from bamikube.nodeagent.server.logoptions import log_options
from bamikube.nodeagent.server.lookup import log_owner
from bamikube.nodeagent.server.refusal import Refusal
from bamikube.nodeagent.server.running import running_pods

POD: dict[str, Any] = {
    "metadata": {"name": "web"},
    "spec": {"containers": [{"name": "app"}], "ephemeralContainers": [{"name": "debug"}]},
}


def ended(container: str) -> dict[str, Any]:
    return {"terminated": {"containerID": f"containerd://{container}" if container else ""}}


def owner(
    state: dict[str, Any], last: dict[str, Any] | None = None, previous: bool = False, **more: Any
) -> str:
    item = {"name": "app", "state": state, "lastState": last or {}, **more}
    return log_owner(POD, {"containerStatuses": [item]}, "app", previous)


def refused(act: Callable[[], object]) -> tuple[int, str]:
    with pytest.raises(Refusal) as caught:
        act()
    return caught.value.code, caught.value.text


def test_the_log_that_is_meant_follows_from_the_status() -> None:
    waiting = {"waiting": {"reason": "CrashLoopBackOff"}}
    assert owner({"running": {}}, containerID="containerd://now") == "now"
    assert owner(ended("over")) == "over"
    assert owner(waiting, ended("last")) == "last"
    assert owner(waiting, ended("last"), previous=True) == "last"
    assert owner({"running": {}}, ended("last"), previous=True) == "last"
    assert owner(ended(""), ended("last")) == "last"
    status = {
        "ephemeralContainerStatuses": [{"name": "debug", "state": {"running": {}}, "containerID": "c://d"}]
    }
    assert log_owner(POD, status, "debug", False) == "d"


def test_without_a_log_the_kubelets_words_say_why() -> None:
    who = 'container "app" in pod "web"'
    for reason, words in (
        ("ErrImagePull", "image can't be pulled"),
        ("ImagePullBackOff", "trying and failing to pull image"),
        ("ContainerCreating", "ContainerCreating"),
    ):
        state = {"waiting": {"reason": reason}}
        assert refused(lambda s=state: owner(s)) == (400, f"{who} is waiting to start: {words}")  # type: ignore[misc]
    assert refused(lambda: owner({"running": {}}, previous=True)) == (
        400,
        f"previous terminated {who} not found",
    )
    assert refused(lambda: log_owner(POD, {}, "app", False)) == (400, f"{who} is not available")
    assert refused(lambda: log_owner(POD, {}, "no", False)) == (
        404,
        'container "no" not found in pod "web"\n',
    )


def options(query: str) -> Any:
    return log_options(Request.make("GET", f"/containerLogs/a/b/c?{query}"), 1000.0)


def test_log_options_are_read_and_checked() -> None:
    assert options("tailLines=0&sinceSeconds=10&limitBytes=3&follow=true&timestamps=1") == options(
        "tail=0&sinceTime=1970-01-01T00:16:30Z&limitBytes=3&follow=1&timestamps=true"
    )
    assert options("tail=all").tail is None and options("stream=Stderr").stream == "Stderr"
    for query, code in (
        ("tailLines=x", 400), ("sinceTime=yesterday", 400), ("tailLines=²", 400),
        ("tailLines=-1", 422), ("limitBytes=0", 422), ("sinceSeconds=0", 422), ("stream=stderr", 422),
        ("sinceSeconds=1&sinceTime=1970-01-01T00:16:30Z", 422), ("stream=Stdout&tailLines=1", 422),
    ):  # fmt: skip
        assert refused(lambda q=query: options(q))[0] == code, query  # type: ignore[misc]


def test_every_path_needs_a_subresource_and_the_fine_ones_may_be_replaced_by_proxy() -> None:
    assert subresources("/pods") == subresources("/runningpods/") == ("pods", "proxy")
    assert subresources("/healthz/ping") == ("healthz", "proxy")
    assert subresources("/configz") == ("configz", "proxy")
    assert subresources("/logs/x") == ("log",) and subresources("/metrics/cadvisor") == ("metrics",)
    assert subresources("/stats/summary") == ("stats",) and subresources("/exec/a/b/c") == ("proxy",)


async def test_permission_is_asked_from_the_finest_to_proxy_and_remembered() -> None:
    asked: list[tuple[str, str]] = []

    async def reviews(request: Request) -> Response:
        body = orjson.loads(request.body)
        if body["kind"] == "TokenReview":
            user = {"username": body["spec"]["token"], "extra": {"scope": ["a"]}}
            body["status"] = {"authenticated": True, "user": user}
        else:
            spec = body["spec"]
            assert spec["extra"] == {"scope": ["a"]}
            part = spec["resourceAttributes"]["subresource"]
            if spec["user"] == "unlucky":
                return Response(503, b"{}")
            asked.append((spec["user"], part))
            body["status"] = {"allowed": (spec["user"], part) in (("fine", "pods"), ("coarse", "proxy"))}
        return Response(201, orjson.dumps(body))

    world = World()
    auth = Delegated(Client(InProcessTransport(reviews), world), world, "node-1")

    def request(user: str) -> Request:
        return Request.make("GET", "/pods", headers={"authorization": f"Bearer {user}"})

    for user in ("fine", "coarse", "coarse"):
        assert (await auth.check(request(user))).name == user
    assert asked == [("fine", "pods"), ("coarse", "pods"), ("coarse", "proxy")]
    with pytest.raises(Refusal) as caught:
        await auth.check(request("none"))
    text = "Forbidden (user=none, verb=get, resource=nodes, subresource(s)=[pods proxy])"
    assert (caught.value.code, caught.value.text) == (403, text)
    with pytest.raises(Refusal) as caught:
        await auth.check(request("unlucky"))
    text = "Authorization error (user=unlucky, verb=get, resource=nodes, subresource=pods)"
    assert (caught.value.code, caught.value.text) == (500, text)


async def test_a_checkpoint_is_told_by_its_file(tmp_path: Path) -> None:
    class Able:
        state = RuntimeState((), (Container("c", "s", "app", 0, "running", 1.0),))
        pod = POD | {"metadata": {"name": "web", "namespace": "shop"}}

        async def checkpoint(self, container_id: str, file: str, timeout: float) -> None:
            Path(file).write_text(f"{container_id} {timeout}")

    able: Any = Able()

    async def ask(query: str, name: str = "app") -> Response:
        request = Request.make("POST", f"/checkpoint/shop/web/{name}{query}")
        return await checkpoint(request, able, name, able, tmp_path / "made", 0.0)

    file = tmp_path / "made" / "checkpoint-web_shop-app-1970-01-01T00:00:00Z.tar"
    assert orjson.loads((await ask("?timeout=1&timeout=30")).body) == {"items": [str(file)]}  # type: ignore[arg-type]
    assert file.read_text() == "c 30.0" and file.parent.stat().st_mode & 0o777 == 0o700
    for query, name, words in (
        ("?timeout=soon", "app", "cannot parse value of timeout parameter"),
        ("", "none", "container none does not exist"),
        ("", "debug", "checkpointing of shop/web/debug failed (container debug not found)"),
    ):
        with pytest.raises(Refusal, match=re.escape(words)):
            await ask(query, name)


def test_running_pods_are_what_the_runtime_runs() -> None:
    names = {labels.POD_UID: "u", labels.POD_NAME: "web", labels.POD_NAMESPACE: "default"}
    up = Container("c1", "s1", "app", 0, "running", 1.0, image="nginx:1", labels=names)
    dead = Container("c0", "s1", "app", 0, "exited", 1.0, labels=names)
    gone = Sandbox("s0", "old", "default", "o", 0, ready=False, created_at=1.0)
    (pod,) = running_pods([Sandbox("s1", "web", "default", "u", 0, True, 1.0), gone], [up, dead])
    assert pod["metadata"] == {"name": "web", "namespace": "default", "uid": "u"}
    assert pod["spec"]["containers"] == [{"name": "app", "image": "nginx:1", "resources": {}}]


async def test_log_files_are_listed_and_read_and_links_lead_nowhere_else(tmp_path: Path) -> None:
    root = tmp_path / "log"
    (root / "pods").mkdir(parents=True)
    (root / "a.log").write_text("hello\n")
    (root / "link.log").symlink_to("a.log")
    (root / "evil").symlink_to("/etc/hostname")
    listing = logfiles.answer(root, "/")
    assert isinstance(listing, Response) and b'<a href="pods/">pods/</a>' in listing.joined()
    for name in ("/a.log", "/link.log"):
        file = logfiles.answer(root, name)
        assert isinstance(file, Stream) and [c async for c in file.chunks] == [b"hello\n"]
    moved = logfiles.answer(root, "/pods")
    assert isinstance(moved, Response) and (moved.status, moved.headers["Location"]) == (301, "pods/")
    for name in ("/evil", "/none", "/../log2", "/../../etc/hostname", "/a\0b"):
        assert refused(lambda n=name: logfiles.answer(root, n))[0] == 404, name  # type: ignore[misc]


def test_the_configuration_carries_kubelets_names() -> None:
    shown = configuration(NodeAgentOptions(max_pods=7, register_with_taints=["a=b:NoSchedule"]))
    assert shown["kind"] == "KubeletConfiguration" and shown["maxPods"] == 7
    assert shown["registerWithTaints"] == [{"key": "a", "value": "b", "effect": "NoSchedule"}]
    assert shown["podLogsDir"] == "/var/log/pods"


def test_a_refusal_of_a_stream_that_yaml_would_misread_is_an_object() -> None:
    plain, odd = Refusal(500, 'container not found ("x")'), Refusal(400, "it is so: no")
    assert plain.response(to_stream=True).joined() == b'container not found ("x")'
    assert odd.response().joined() == b"it is so: no"
    said = orjson.loads(odd.response(to_stream=True).joined())
    assert (said["kind"], said["code"], said["message"]) == ("Status", 400, "it is so: no")
