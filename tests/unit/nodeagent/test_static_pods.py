"""Static pods: what a manifest makes of itself, when their workers begin and end, and what their mirrors are like."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bamikube.api.errors import ApiError
from bamikube.kit.world import World
from bamikube.nodeagent.agent import PodAgent
from bamikube.nodeagent.cpus import pool
from bamikube.nodeagent.cpus.choice import Processor
from bamikube.nodeagent.cpus.policy import PolicyOptions
from bamikube.nodeagent.devices.book import Book, Given
from bamikube.nodeagent.devices.manager import DeviceManager
from bamikube.nodeagent.pod.recalling import recalled
from bamikube.nodeagent.sources import manifest
from bamikube.nodeagent.sources.files import ManifestFiles
from bamikube.nodeagent.sources.mirrors import Mirrors, action, mirror_of
from tests.simulation import virtual
from tests.support.hollow_pods import HollowNode, gate
from tests.unit.nodeagent.test_places_on_the_node import Informer

JSON = dict[str, Any]
WEB = """
apiVersion: v1
kind: Pod
metadata: {name: web}
spec: {containers: [{name: app, image: "busybox:%s"}]}
"""


def web(tag: str = "1") -> JSON:
    return manifest.parse((WEB % tag).encode(), "node-1", "/m/web.yaml", 0.0)


def test_a_manifest_becomes_a_pod_of_this_node() -> None:
    pod = web()
    meta = pod["metadata"]
    assert (meta["name"], meta["namespace"]) == ("web-node-1", "default")
    assert meta["annotations"] == {
        "kubernetes.io/config.hash": meta["uid"],
        "kubernetes.io/config.source": "file",
        "kubernetes.io/config.seen": "1970-01-01T00:00:00Z",
    }
    assert pod["spec"]["nodeName"] == "node-1" and pod["spec"]["restartPolicy"] == "Always"
    assert {"operator": "Exists", "effect": "NoExecute"} in pod["spec"]["tolerations"]
    assert len(meta["uid"]) == 32 and meta["uid"] == web()["metadata"]["uid"] != web("2")["metadata"]["uid"]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("a: [", "neither YAML nor JSON"),
        ("[]", "holds no object"),
        ("apiVersion: v1\nkind: Service\nmetadata: {}\nspec: {}", "it is v1, Kind=Service"),
        ("apiVersion: v1\nkind: Pod", "metadata: Required value"),
        (WEB % "1" + "---" + WEB % "1", "neither YAML nor JSON"),
        ((WEB % "1").replace("{containers", "{bad: 1, hostNetwork: 7, containers"), "hostNetwork"),
        ((WEB % "1").replace("name: app, ", ""), r"spec.containers\[0\].name"),
        (
            (WEB % "1").replace("{containers", "{serviceAccountName: x, containers"),
            "static pods may not reference serviceaccounts",
        ),
        (
            (WEB % "1").replace("name: app, ", "name: app, envFrom: [{secretRef: {name: x}}], "),
            "static pods may not reference secrets",
        ),
    ],
)
def test_what_is_no_static_pod_says_why(text: str, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        manifest.parse(text.encode(), "node-1", "/m/x.yaml", 0.0)


def test_files_come_change_and_go(tmp_path: Path) -> None:
    files = ManifestFiles(World(), str(tmp_path), "node-1", lambda pods: None)

    def names() -> list[str]:
        return [pod["spec"]["containers"][0]["image"] for pod in files.pods()]

    assert not files.look() and names() == []
    (tmp_path / "web.yaml").write_text(WEB % "1")
    (tmp_path / ".hidden").write_text(WEB % "1")
    (tmp_path / "zfaulty").write_text("a: [")
    assert not files.look(), "nor is the first file of an empty folder read while it is being written"
    assert files.look() and names() == ["busybox:1"] and not files.look()
    (tmp_path / "web.yaml").write_text("apiVersion: v1")
    os.utime(tmp_path / "web.yaml", ns=(1, 1))
    assert not files.look() and names() == ["busybox:1"], "whoever writes it may not be done"
    (tmp_path / "web.yaml").write_text(WEB % "2")
    os.utime(tmp_path / "web.yaml", ns=(2, 2))
    assert not files.look()
    assert files.look() and names() == ["busybox:2"]
    (tmp_path / "web.yaml").unlink()
    assert files.look() and names() == []
    gone = ManifestFiles(World(), str(tmp_path / "nothing"), "node-1", lambda pods: None)
    assert not gone.look() and gone.pods() == []


def test_a_mirror_is_made_replaced_and_taken_away() -> None:
    pod, node = web(), {"metadata": {"name": "node-1", "uid": "n"}}
    mirror = mirror_of(pod, node)
    assert "uid" not in mirror["metadata"] and "status" not in mirror
    assert mirror["metadata"]["annotations"]["kubernetes.io/config.mirror"] == pod["metadata"]["uid"]
    (owner,) = mirror["metadata"]["ownerReferences"]
    assert owner == {"apiVersion": "v1", "kind": "Node", "name": "node-1", "uid": "n", "controller": True}
    assert action(pod, None) == "Create" and action(pod, mirror) == "Publish" and action(None, None) == ""
    assert action(None, mirror) == "Delete" and action(web("2"), mirror) == "Delete"
    mirror["metadata"]["deletionTimestamp"] = "1970-01-01T00:00:00Z"
    assert action(pod, mirror) == "Delete"


def test_what_pods_of_the_api_have_is_theirs_while_nobody_has_heard_of_them(tmp_path: Path) -> None:
    """A restarted node agent begins static pods before it knows the others: they keep their processors and devices."""

    async def life() -> None:
        node, informer = HollowNode(), Informer()
        informer.synced.clear()
        cpus = pool.static(
            tuple(Processor(n, n, 0) for n in range(3)), frozenset({0}), 0, PolicyOptions(), tmp_path
        )
        cpus.assigned = {"before": {"app": frozenset({1})}, "gone": {"app": frozenset({2})}}
        devices = DeviceManager(
            node.shared.world,
            tmp_path,
            lambda: None,
            lambda: set(agent.workers) if agent.whole else None,
        )
        devices.book = Book({}, {("before", "app", "a.b/c"): Given(("x",), b"")})
        devices.folder.mkdir()
        cpus.whole = lambda: agent.whole
        judge = replace(gate(9), managers=cpus.admit, devices=devices)
        agent = PodAgent(node.shared, informer, informer, judge)  # type: ignore[arg-type]
        agent.manifests_read = False
        running = asyncio.ensure_future(agent.run())
        agent.keep([web()])
        await node.clock.sleep(5)
        assert cpus.assigned.keys() == {"before", "gone"} and devices.book.given
        meta = {
            "name": "before",
            "namespace": "default",
            "uid": "before",
            "creationTimestamp": "2026-01-01T00:00:00Z",
        }
        known = {"metadata": meta, "spec": web()["spec"], "status": {"startTime": "2026-01-01T00:00:00Z"}}
        arriving = known | {"metadata": meta | {"name": "new", "uid": "new"}, "status": {}}
        informer.first = [known, arriving]
        informer.synced.set()
        await node.clock.sleep(5)
        assert cpus.assigned.keys() == {"before"} and devices.book.given, "now it is known who has gone"
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    virtual.run(life())


def test_a_mirror_that_cannot_be_made_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    async def life() -> None:
        class Refusing:
            async def create(self, resource: str, obj: JSON) -> JSON:
                raise ApiError(409, "AlreadyExists", 'pods "web-node-1" already exists')

        node, informer = HollowNode(), Informer()
        own = {"metadata": {"name": "node-1", "uid": "n"}}
        mirrors = Mirrors(
            Refusing(), node.shared.world, informer, lambda: own,  # type: ignore[arg-type]
            lambda: {"default/web-node-1": (web(), {})}, lambda: True,
        )  # fmt: skip
        informer.items = list  # type: ignore[method-assign]
        running = asyncio.ensure_future(mirrors.run())
        await node.clock.sleep(10)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    virtual.run(life())
    assert caplog.text.count("already exists") == 1


def test_static_pods_need_no_api_server_and_a_new_manifest_waits_for_the_old_pods_end() -> None:
    async def life() -> None:
        node, informer = HollowNode(), Informer()
        informer.synced.clear()  # the API server does not answer
        agent = PodAgent(node.shared, informer, informer, gate(1))  # type: ignore[arg-type]
        agent.manifests_read = False
        running = asyncio.ensure_future(agent.run())
        first, second = web("1"), web("2")
        agent.keep([first])

        def runs(pod: JSON) -> bool:
            worker = agent.workers.get(pod["metadata"]["uid"])
            return worker is not None and worker.status.get("phase") == "Running"

        await node.until(lambda: runs(first))
        assert not node.api.status, "nothing is written to the API under the static pod's own uid"
        assert agent.static_pods()["default/web-node-1"][1]["phase"] == "Running"
        agent.keep([second])
        assert second["metadata"]["uid"] not in agent.workers
        ending, status = agent.static_pods()["default/web-node-1"]
        old = mirror_of(first, {"metadata": {"name": "node-1", "uid": "n"}})
        assert status["phase"] == "Running" and action(ending, old) == "Publish", (
            "its mirror stays for its grace"
        )
        assert action(ending, None) == "", "and is not made anew meanwhile"
        await node.until(lambda: runs(second))
        assert first["metadata"]["uid"] not in agent.workers
        mirror = mirror_of(second, {"metadata": {"name": "node-1", "uid": "n"}})
        mirror["metadata"]["uid"] = "m"
        informer.first = [mirror]
        informer.synced.set()
        informer.change("default/web-node-1", None, mirror)
        await node.clock.sleep(60)
        assert list(agent.workers) == [second["metadata"]["uid"]], "a mirror is nobody's work"
        assert runs(second), "and the pod is no orphan"
        agent.keep([])
        await node.until(lambda: not agent.workers)
        assert not [c for c in node.runtime.containers.values() if c.state == "running"]
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    virtual.run(life())


def test_a_static_pod_that_was_there_before_the_agent_keeps_its_beginning() -> None:
    async def life() -> None:
        node, informer = HollowNode(), Informer()
        since = "1969-12-31T23:00:00Z"
        mirror = mirror_of(web(), {"metadata": {"name": "node-1", "uid": "n"}})
        mirror["metadata"]["uid"] = "m"
        ready = {"type": "Ready", "status": "True", "lastTransitionTime": since}
        told = {
            "name": "app",
            "restartCount": 3,
            "state": {"running": {}},
            "containerID": "containerd://gone",
        }
        mirror["status"] = {
            "startTime": since,
            "conditions": [ready],
            "containerStatuses": [told],
            "phase": "Running",
        }
        agent = PodAgent(node.shared, informer, informer, gate(1))  # type: ignore[arg-type]
        agent.manifests_read = False
        informer.synced.clear()
        running = asyncio.ensure_future(agent.run())
        agent.keep([web()])
        worker = agent.workers[web()["metadata"]["uid"]]
        informer.first = [mirror]  # the API answers late
        informer.synced.set()
        informer.change("default/web-node-1", None, mirror)
        await node.until(lambda: worker.status.get("phase") == "Running")
        assert worker.status["startTime"] == since
        assert worker.status["containerStatuses"][0]["restartCount"] == 4, "the runtime has forgotten it"
        # What is written instead of it later is another life, though it has the same uid.
        agent.keep([])
        await node.until(lambda: not agent.workers)
        agent.keep([web()])
        again = agent.workers[web()["metadata"]["uid"]]
        await node.until(lambda: again.status.get("phase") == "Running")
        assert again.status["startTime"] != since
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    virtual.run(life())


def test_what_is_recalled_of_an_earlier_status() -> None:
    early, late = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
    now = {
        "startTime": late,
        "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": late},
            {"type": "Initialized", "status": "False", "lastTransitionTime": late},
        ],
        "containerStatuses": [
            {"name": "a", "containerID": "c://1", "restartCount": 1},
            {"name": "b", "restartCount": 0},
        ],
    }
    told = {
        "startTime": early,
        "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": early},
            {"type": "Initialized", "status": "True", "lastTransitionTime": early},
        ],
        "containerStatuses": [
            {"name": "a", "containerID": "c://0", "restartCount": 0},
            {"name": "b", "containerID": "c://9", "restartCount": 2},
        ],
    }
    found = recalled(now, told)
    assert found["startTime"] == early
    assert [c["lastTransitionTime"] for c in found["conditions"]] == [early, late]
    assert [c["restartCount"] for c in found["containerStatuses"]] == [1, 2]
    assert recalled(told, now) is told, "what is younger tells nothing"
    assert recalled(now, {}) is now
