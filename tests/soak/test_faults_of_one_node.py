"""A node whose parts fail, as its cluster sees it: real etcd, API server, controllers, node agent and containerd, real deadlines.

containerd stands still for four minutes; the disk fills; the node agent is killed in the middle of everything and comes
back with other flags; the machine loses its power. Each time the conditions, events and pods of the API are what the
kubelet's would be, nobody waits for what hangs, and in the end nothing is left behind.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.one_node import NAME, OneNode, container, is_ready
from tests.support.private_containerd import image_archive, images, network_namespace

JSON = dict[str, Any]
FOREVER = ["sh", "-c", "trap 'exit 0' TERM; sleep 100000 & wait"]
DOWN = "container runtime is down"
UNUSED = "bamikube.test/unused:1"

pytestmark = pytest.mark.slow


def app(command: list[str] | None = None, **more: Any) -> JSON:
    return {"name": "app", "command": command or FOREVER} | more


def script(text: str, **more: Any) -> JSON:
    return app(["sh", "-c", text], **more)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneNode]:
    """A disk of its own, on which pods, logs and images lie."""
    base = Path(tempfile.mkdtemp(prefix="bami-n-", dir="/var/tmp"))
    archives = images()
    archives.append(image_archive(UNUSED, {"filler": os.urandom(12 << 20)}, {}, {"Cmd": ["sh"]}))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160m", "none", base], check=True)
    flags = (
        "--eviction-hard=nodefs.available<20%",
        "--eviction-pressure-transition-period=5s",
        "--minimum-image-ttl-duration=0s",
        "--eviction-minimum-reclaim=nodefs.available=1Mi",
    )
    try:
        with network_namespace(), OneNode(base, archives, *flags, api=tmp_path_factory.mktemp("api")) as made:
            yield made
    finally:
        subprocess.run(["umount", "-l", base], check=True)
        base.rmdir()


@pytest.fixture(autouse=True)
def left(node: OneNode) -> Iterator[None]:
    """Whatever a test does to the node, nothing is left of its pods."""
    yield
    node.containerd.resume()
    if node.agent.poll() is not None:
        node.start_agent()
    for pod in node.get("pods", "", "default")["items"]:
        node.delete(pod["metadata"]["name"], 0)

    def rest() -> dict[str, Any]:
        mounts = Path("/proc/self/mountinfo").read_text()
        found = {
            "pods": [p["metadata"]["name"] for p in node.get("pods", "", "default")["items"]],
            "folders": [p.name for p in (node.root / "pods").iterdir()],
            "logs": [p.name for folder in ("pods", "containers") for p in (node.logs / folder).iterdir()],
            "mounts": re.findall(rf"{node.root}/pods/\S+", mounts),
            "cgroups": [str(p) for p in Path("/sys/fs/cgroup").glob(f"*{node.group}/kubepods/**/*pod*-*")],
            "addresses": sorted(node.containerd.addresses()),
            "namespaces": sorted(node.containerd.namespaces()),
            "shims": node.containerd.shims(),
        }
        return {key: value for key, value in found.items() if value}

    try:
        node.until(lambda: not rest(), 60, "a node as it was")
        node.until(lambda: node.condition("DiskPressure")["status"] == "False", 40, "a disk with room")
    except AssertionError as error:
        raise AssertionError(f"left behind: {rest()}\n{error}") from None


def lease(node: OneNode) -> str:
    path = f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{NAME}"
    return str(json.loads(node.ask("GET", path))["spec"]["renewTime"])


def test_a_containerd_that_stands_still_shows_in_conditions_and_not_in_a_stuck_agent(node: OneNode) -> None:
    probe = {"exec": {"command": ["true"]}, "periodSeconds": 2}
    node.create("runs", {"containers": [script("echo said; exec sleep 100000", readinessProbe=probe)]})
    node.create("goes", {"containers": [app()]})
    node.until(lambda: is_ready(node.pod("runs")) and is_ready(node.pod("goes")), what="two pods")
    before = container(node.pod("runs"))
    node.containerd.pause()
    begun, renewed = time.monotonic(), lease(node)
    node.create("comes", {"containers": [app()]})
    node.delete("goes")

    ready = node.until(lambda: c if (c := node.condition("Ready"))["status"] == "False" else None, 45)
    assert 20 < time.monotonic() - begun < 40, "after half a minute"
    assert (ready["reason"], ready["message"]) == ("KubeletNotReady", DOWN)
    assert node.events("NodeNotReady", NAME) == [f"Node {NAME} status is now: NodeNotReady"]
    assert lease(node) > renewed and node.health() == "ok"
    shown = {p["metadata"]["name"] for p in json.loads(node.own_api("/pods"))["items"]}
    assert shown == {"runs", "goes", "comes"}
    assert b"kubelet_running_pods" in node.own_api("/metrics")
    assert b"said" in node.own_api("/containerLogs/default/runs/app")
    assert node.pod("comes")["status"]["phase"] == "Pending" and is_ready(node.pod("runs"))

    # Three minutes after the last look at containers the second reason is there, too.
    words = r"\[container runtime is down, PLEG is not healthy: pleg was last seen active 3m\S+ ago; threshold is 3m0s\]"
    node.until(lambda: re.fullmatch(words, node.condition("Ready")["message"]), 240, words)
    assert 170 < time.monotonic() - begun < 230
    assert lease(node) > renewed

    node.containerd.resume()
    begun = time.monotonic()
    node.until(lambda: node.condition("Ready")["status"] == "True", 20, "a node that is ready again")
    node.until(
        lambda: is_ready(node.pod("comes")) and not node.pod("goes"), 20, "what was asked for meanwhile"
    )
    assert time.monotonic() - begun < 20
    node.until(lambda: is_ready(node.pod("runs")), 20)
    after = container(node.pod("runs"))
    assert (after["containerID"], after["restartCount"]) == (before["containerID"], 0)


def images_there(node: OneNode) -> set[str]:
    listed = subprocess.run(
        ["ctr", "--address", f"{node.containerd.base}/containerd.sock", "-n", "k8s.io", "images", "list", "-q"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return {line for line in listed.split() if line.startswith("bamikube.test/")}


def test_a_disk_that_fills_costs_images_first_and_then_whoever_filled_it(node: OneNode) -> None:
    fills = "head -c 131072000 /dev/zero > /full; exec sleep 100000"  # 125 MiB
    node.create("modest", {"containers": [app()]})
    node.until(lambda: is_ready(node.pod("modest")), what="a pod")
    assert UNUSED in images_there(node)
    available = os.statvfs(node.root).f_bavail * os.statvfs(node.root).f_frsize
    assert available > (32 + 24) << 20, "the disk is not full yet"

    # First so much that the images nobody uses are enough.
    rest = available - (31 << 20)
    (node.root / "filler").write_bytes(b"x" * rest)
    node.until(lambda: UNUSED not in images_there(node), 40, "the unused image is removed")
    assert node.events("EvictionThresholdMet", NAME)[-1] == "Attempting to reclaim ephemeral-storage"
    node.until(lambda: node.condition("DiskPressure")["status"] == "True", 20, "pressure")
    node.until(lambda: node.condition("DiskPressure")["status"] == "False", 40, "no more pressure")
    assert is_ready(node.pod("modest")) and not node.events("Evicted")
    (node.root / "filler").unlink()

    # Then a pod takes what is left.
    node.create("greedy", {"containers": [script(fills)]})
    pressed = node.until(lambda: c if (c := node.condition("DiskPressure"))["status"] == "True" else None, 40)
    assert (pressed["reason"], pressed["message"]) == ("KubeletHasDiskPressure", "kubelet has disk pressure")
    node.create("late", {"containers": [app()], "tolerations": [{"operator": "Exists"}]})
    node.until(lambda: node.pod("greedy")["status"]["phase"] == "Failed", 40, "the eviction")
    status = node.pod("greedy")["status"]
    text = "The node was low on resource: ephemeral-storage. Threshold quantity: "
    assert status["reason"] == "Evicted" and status["message"].startswith(text), status
    assert "Container app was using " in status["message"], status
    late = node.pod("late")["status"]
    assert (late["phase"], late["reason"]) == ("Failed", "Evicted"), late
    assert late["message"] == "Pod was rejected: The node had condition: [DiskPressure]. "
    node.until(lambda: node.condition("DiskPressure")["status"] == "False", 40, "no more pressure")
    said = {f"Node {NAME} status is now: NodeHas{word}" for word in ("DiskPressure", "NoDiskPressure")}
    node.until(lambda: said <= {e["message"] for e in node.get("events")["items"]}, 10, "both turns are told")
    assert is_ready(node.pod("modest")) and container(node.pod("modest"))["restartCount"] == 0
    node.create("after", {"containers": [app()]})
    node.until(lambda: is_ready(node.pod("after")), 20, "a pod after all that")


def test_a_full_disk_stops_nothing_for_good(node: OneNode) -> None:
    """Not a byte is left, for containerd and the node agent alike; nothing is evicted fast enough to help."""
    probe = {"exec": {"command": ["true"]}, "periodSeconds": 1}
    node.create("runs", {"priority": 0, "containers": [app(readinessProbe=probe)]})
    node.until(lambda: is_ready(node.pod("runs")), what="a pod")
    filler = node.root / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    node.until(lambda: node.condition("DiskPressure")["status"] == "True", 40, "pressure")
    assert node.condition("Ready")["status"] == "True" and node.health() == "ok"
    node.until(lambda: (node.pod("runs")["status"].get("reason")) == "Evicted", 40, "the eviction")
    filler.unlink()
    node.until(lambda: node.condition("DiskPressure")["status"] == "False", 60, "no more pressure")
    node.create("after", {"containers": [app()]})
    node.until(lambda: is_ready(node.pod("after")), 20, "a pod after all that")


def runs(word: bytes) -> bool:
    """Whether a process sleeps for that long."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cmdline").read_bytes().split(b"\0")[:2] == [b"sleep", word]:
                return True
        except OSError:
            continue
    return False


def test_an_agent_killed_amid_everything_goes_on_where_it_was(node: OneNode) -> None:
    """With -9, then asked to end and begun with other flags."""
    steady = {"readinessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 1}}
    node.create("steady", {"containers": [app(**steady)]})
    node.create("gone", {"containers": [app()]})
    node.create("ends", {"restartPolicy": "Never", "containers": [script("sleep 4; exit 7")]})
    slow_end = {"lifecycle": {"preStop": {"exec": {"command": ["sleep", "3"]}}}}
    node.create("hooked", {"terminationGracePeriodSeconds": 20, "containers": [app(**slow_end)]})
    crash = script(
        "test -e /v/1 && exec sleep 100000; touch /v/1; exit 3",
        volumeMounts=[{"name": "v", "mountPath": "/v"}],
    )
    node.create("crashed", {"volumes": [{"name": "v", "emptyDir": {}}], "containers": [crash]})
    for name in ("steady", "gone", "hooked", "crashed"):
        node.until(lambda n=name: is_ready(node.pod(n)), 30, name)
    node.until(
        lambda: (c := container(node.pod("crashed")))["restartCount"] == 1 and c["ready"], 30, "a restart"
    )
    kept = {name: container(node.pod(name)) for name in ("steady", "crashed")}

    # In flight: a preStop, a postStart, an init container, a start.
    node.delete("hooked")
    node.until(lambda: "deletionTimestamp" in node.pod("hooked")["metadata"])
    slow_start = {"lifecycle": {"postStart": {"exec": {"command": ["sleep", "2.718"]}}}}
    node.create("starting", {"containers": [app(**slow_start)]})
    node.until(lambda: runs(b"2.718"), 20, "the hook runs")
    inits = [{"name": "init", "command": ["sleep", "2"]}]
    node.create("preparing", {"initContainers": inits, "containers": [app()]})
    node.until(
        lambda: container(node.pod("preparing"), kind="initContainerStatuses").get("state", {}).get("running")
    )
    node.create("fresh", {"containers": [app()]})
    node.end_agent(signal.SIGKILL)
    node.delete("gone", 0)
    assert not node.pod("gone")
    time.sleep(3)  # the job ends meanwhile
    node.start_agent()
    for name in ("steady", "crashed", "starting", "preparing", "fresh"):
        node.until(lambda n=name: is_ready(node.pod(n)), 30, name)
    node.until(lambda: node.pod("ends")["status"]["phase"] == "Failed", 30, "the job's end")
    assert container(node.pod("ends"))["state"]["terminated"]["exitCode"] == 7
    node.until(lambda: not node.pod("hooked"), 25, "the end that was under way")
    for name in ("starting", "preparing", "fresh"):
        assert container(node.pod(name))["restartCount"] == 0, container(node.pod(name))
    again = container(node.pod("preparing"), kind="initContainerStatuses")
    assert (again["state"]["terminated"]["reason"], again["restartCount"]) == ("Completed", 0)

    node.end_agent(signal.SIGTERM)
    node.start_agent("--max-pods=50", "--pod-max-pids=500")
    node.until(lambda: node.get("nodes", NAME)["status"]["capacity"]["pods"] == "50", 20, "the new flags")
    node.until(lambda: node.health("/readyz") == "ok", 20)
    for name, was in kept.items():
        now = container(node.pod(name))
        assert {k: now[k] for k in ("containerID", "restartCount", "ready")} == {
            k: was[k] for k in ("containerID", "restartCount", "ready")
        }, name
    node.until(
        lambda: len(node.containerd.addresses()) == 5, 30, "the address of the pod that is gone is free"
    )


def test_a_machine_that_loses_its_power_brings_every_pod_back(node: OneNode) -> None:
    inits = [
        {"name": "init", "command": ["true"]},
        {"name": "side", "restartPolicy": "Always", "command": FOREVER},
    ]
    volumes = [
        {"name": "disk", "emptyDir": {}},
        {"name": "memory", "emptyDir": {"medium": "Memory"}},
        {"name": "word", "configMap": {"name": "words"}},
    ]
    node.make("configmaps", {"metadata": {"name": "words"}, "data": {"word": "hello"}})
    text = "cat /word/word >> /disk/log; test ! -e /memory/x || exit 9; touch /memory/x; exec sleep 100000"
    mounts = [{"name": n, "mountPath": f"/{n}"} for n in ("disk", "memory", "word")]
    whole = {"initContainers": inits, "volumes": volumes, "containers": [script(text, volumeMounts=mounts)]}
    node.create("whole", whole)
    node.create("retried", {"restartPolicy": "OnFailure", "containers": [app()]})
    node.create("once", {"restartPolicy": "Never", "containers": [app()]})
    node.create("done", {"restartPolicy": "Never", "containers": [app(["true"])]})
    node.create("crashing", {"containers": [app(["false"])]})
    node.create("gone", {"containers": [app()]})
    for name in ("whole", "retried", "once", "gone"):
        node.until(lambda n=name: is_ready(node.pod(n)), 30, name)
    node.until(lambda: node.pod("done")["status"]["phase"] == "Succeeded")
    node.until(lambda: container(node.pod("crashing")).get("restartCount", 0) >= 1)
    crashes = container(node.pod("crashing"))["restartCount"]
    before = {name: node.pod(name)["status"] for name in ("whole", "retried", "once", "done", "crashing")}

    node.end_agent(signal.SIGKILL)
    mounted = re.findall(rf"{node.root}/pods/\S+", Path("/proc/self/mountinfo").read_text())
    node.containerd.reboot()
    for place in mounted:
        subprocess.run(["umount", "-l", place], check=False, capture_output=True)
    for path in Path("/sys/fs/cgroup").glob(f"*{node.group}"):
        for folder, _, _ in os.walk(path, topdown=False):
            if not path.is_symlink():
                os.rmdir(folder)
    node.delete("gone", 0)
    boot = {"status": {"nodeInfo": node.get("nodes", NAME)["status"]["nodeInfo"] | {"bootID": "another"}}}
    patch_status(node, boot)
    node.start_agent()

    for name in ("whole", "retried"):
        node.until(
            lambda n=name: container(node.pod(n)).get("restartCount") == 1 and is_ready(node.pod(n)), 40, name
        )
        status = node.pod(name)["status"]
        ended = container(node.pod(name))["lastState"]["terminated"]
        assert (ended["exitCode"], ended["reason"]) == (255, "Unknown"), ended
        assert ended["containerID"] == before[name]["containerStatuses"][0]["containerID"]
        assert status["startTime"] == before[name]["startTime"]
    side = container(node.pod("whole"), 1, "initContainerStatuses")
    assert side["restartCount"] == 1 and side["ready"] and side["lastState"]["terminated"]["exitCode"] == 255
    init = container(node.pod("whole"), 0, "initContainerStatuses")
    assert init["state"]["terminated"]["reason"] == "Completed" and init["restartCount"] in (0, 1), init
    uid = node.pod("whole")["metadata"]["uid"]
    folder = node.root / f"pods/{uid}/volumes/kubernetes.io~empty-dir/disk"
    assert (folder / "log").read_text() == "hellohello", "what lay on the disk is there still"
    node.until(lambda: node.pod("once")["status"]["phase"] == "Failed", 30, "a pod that runs once")
    assert container(node.pod("once"))["state"]["terminated"]["exitCode"] == 255
    assert container(node.pod("once"))["restartCount"] == 0
    done = node.pod("done")["status"]
    assert done["phase"] == "Succeeded" and done["containerStatuses"] == before["done"]["containerStatuses"]
    node.until(lambda: container(node.pod("crashing"))["restartCount"] > crashes, 60, "one more crash")
    assert node.events("Rebooted", NAME), "the machine was booted"
    assert "Pod sandbox changed, it will be killed and re-created." in node.events("SandboxChanged", "whole")
    node.until(lambda: len(node.containerd.addresses()) == 3, 30, "one address for each pod that runs")


def patch_status(node: OneNode, body: JSON) -> None:
    request = urllib.request.Request(f"{node.api.url}{node.path('nodes', NAME)}/status", method="PATCH")
    request.add_header("Content-Type", "application/merge-patch+json")
    with urllib.request.urlopen(request, json.dumps(body).encode(), context=node.api.context) as answer:
        assert answer.status == 200


def test_a_shim_that_is_killed_costs_its_pod_a_restart_and_nobody_else(node: OneNode) -> None:
    node.create("victim", {"containers": [app()]})
    node.until(lambda: is_ready(node.pod("victim")), what="a pod")
    [shim] = node.containerd.shims()
    node.create("other", {"containers": [app()]})
    node.until(lambda: is_ready(node.pod("other")), what="another pod")
    os.kill(shim, signal.SIGKILL)

    def back() -> bool:
        pod = node.pod("victim")
        return container(pod).get("restartCount") == 1 and is_ready(pod)

    node.until(back, 40, "the pod comes back")
    assert container(node.pod("victim"))["lastState"]["terminated"]["exitCode"] in (137, 255)
    assert container(node.pod("other"))["restartCount"] == 0
    node.until(
        lambda: len(node.containerd.addresses()) == 2, 30, f"two addresses: {node.containerd.addresses()}"
    )
