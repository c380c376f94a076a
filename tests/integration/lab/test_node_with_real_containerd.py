"""One node, made by the lab's own code on a network of its own: real namespaces, real containerd, the lab's registry.

Beside a running lab this uses another bridge, table, cgroup and address range, so both can live on one machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import orjson
import pytest

from bamikube.lab import cgroups, hostnet, launch, nodefiles
from bamikube.lab.images.archive import load_archive
from bamikube.lab.images.build import build
from bamikube.lab.images.debian import architecture, closure, fetch
from bamikube.lab.images.recipes import all_recipes
from bamikube.lab.images.store import ImageStore
from bamikube.lab.topology import LabPaths, Node, Topology

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes namespaces and mounts: needs root")

NODE = Node("test-1", "10.98.7.10")
TOPOLOGY = Topology(
    nodes=(NODE,),
    bridge="bamitest0",
    gateway="10.98.7.1",
    network="10.98.7.0/24",
    cgroup="bamikube-test",
    table="bamikube-test",
)
PROJECT_CACHE = Path(__file__).parents[3] / ".cache"


def until(look: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.02)


class RunningNode:
    """A node of the test, with a way to run commands inside it."""

    def __init__(self, paths: LabPaths) -> None:
        self.paths = paths
        self.own = paths.node(NODE.name)

    def start(self) -> None:
        nodefiles.make_cgroups(NODE, TOPOLOGY)
        nodefiles.prepare(NODE, TOPOLOGY, self.paths)
        config = json.loads(self.own.config.read_text())
        config["units"] = [unit for unit in config["units"] if unit["name"] in ("containerd", "registry")]
        self.own.config.write_text(json.dumps(config))
        hostnet.connect(NODE, TOPOLOGY, launch.launch(self.own))
        until(lambda: self.units().get("registry", {}).get("state") == "running")
        until(lambda: self.run("ctr", "version").returncode == 0)
        until(lambda: self.run("bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/5000").returncode == 0)

    def units(self) -> dict[str, dict[str, object]]:
        try:
            return dict(orjson.loads(self.own.status.read_bytes())["units"])
        except (OSError, orjson.JSONDecodeError):
            return {}

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        pid = str(launch.running_pid(self.own))
        command = ["nsenter", "-t", pid, "-m", "-u", "-n", "-p", "-i", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    def pull(self, name: str) -> subprocess.CompletedProcess[str]:
        return self.run(
            "ctr", "-n", "k8s.io", "images", "pull", "--hosts-dir", "/etc/containerd/certs.d", name
        )


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    root = tmp_path_factory.mktemp("lab")
    paths = LabPaths.at(root / ".lab", root / ".cache")
    store = ImageStore(paths.built_images)
    recipes = [recipe for recipe in all_recipes(architecture()) if recipe.name in ("busybox", "pause")]
    for recipe in recipes:
        packages = closure(recipe.packages)
        files = fetch(packages, PROJECT_CACHE / "debs")
        store.tag(build(recipe, {p.name: files[p.name] for p in packages}, store, architecture()))
    state = root / "state"
    state.mkdir()
    hostnet.set_up(TOPOLOGY, state)
    running = RunningNode(paths)
    try:
        running.start()
        yield running
    finally:
        launch.kill(running.own)
        hostnet.remove(TOPOLOGY, state)
        until(lambda: not cgroups.remove(TOPOLOGY.cgroup))


def test_the_node_sees_paths_as_on_a_machine_of_its_own(node: RunningNode) -> None:
    assert node.run("hostname").stdout.strip() == "test-1"
    assert "10.98.7.10 test-1" in node.run("cat", "/etc/hosts").stdout
    assert "10.98.7.10/24" in node.run("ip", "-br", "address", "show", "eth0").stdout
    node.run("touch", "/var/lib/kubelet/mine", "/etc/only-here")
    assert (node.own.disk / "var-lib-kubelet" / "mine").exists()
    assert not Path("/etc/only-here").exists(), "a node's /etc is its own"
    assert not Path("/var/lib/kubelet/mine").exists()


def test_names_people_use_are_pulled_from_the_nodes_own_registry(node: RunningNode) -> None:
    for name in (
        "docker.io/library/busybox:latest",
        "docker.io/library/busybox:1.28",
        "registry.k8s.io/pause:3.10",
    ):
        pulled = node.pull(name)
        assert pulled.returncode == 0, pulled.stderr
    said = node.run(
        "ctr", "-n", "k8s.io", "run", "--rm", "docker.io/library/busybox:latest", "t1", "echo", "hello"
    ).stdout
    assert said == "hello\n"


def test_a_loaded_archive_can_be_pulled_by_its_names(node: RunningNode, tmp_path: Path) -> None:
    built = ImageStore(node.paths.built_images)
    manifest_path = built.blob(built.names()["docker.io/library/busybox:latest"].digest)
    assert manifest_path is not None
    manifest = json.loads(manifest_path.read_bytes())
    archive_path = tmp_path / "saved.tar"
    with tarfile.open(archive_path, "w") as archive:

        def add(name: str, data: bytes) -> None:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, BytesIO(data))

        names = []
        for index, layer in enumerate(manifest["layers"]):
            path = built.blob(layer["digest"])
            assert path is not None
            names.append(f"{index}/layer.tar")
            add(names[-1], path.read_bytes())
        config = built.blob(manifest["config"]["digest"])
        assert config is not None
        add("config.json", config.read_bytes())
        entry = {"Config": "config.json", "RepoTags": ["my.registry/team/tool:7"], "Layers": names}
        add("manifest.json", json.dumps([entry]).encode())
    assert load_archive(archive_path, ImageStore(node.paths.loaded_images)) == ["my.registry/team/tool:7"]
    pulled = node.pull("my.registry/team/tool:7")
    assert pulled.returncode == 0, pulled.stderr


def test_an_image_nobody_has_is_not_found(node: RunningNode) -> None:
    pulled = node.pull("docker.io/nobody/has-this:1")
    assert pulled.returncode != 0


def test_a_killed_unit_is_started_again(node: RunningNode) -> None:
    before = node.units()["containerd"]
    node.run("kill", "-9", str(before["pid"]))
    until(
        lambda: (
            node.units()["containerd"]["state"] == "running"
            and node.units()["containerd"]["pid"] != before["pid"]
        )
    )
    assert node.units()["containerd"]["lastExit"] == "killed by SIGKILL"
    until(lambda: node.run("ctr", "version").returncode == 0)


def test_a_crash_takes_every_process_and_mount_and_a_start_brings_the_disk_back(node: RunningNode) -> None:
    assert node.pull("docker.io/library/busybox:latest").returncode == 0
    node.run("ctr", "-n", "k8s.io", "run", "-d", "docker.io/library/busybox:latest", "long", "sleep", "1000")
    node.run("touch", "/var/lib/kubelet/kept")
    namespace = launch.pid_namespace(launch.running_pid(node.own))
    assert len(launch.members(namespace)) >= 4
    launch.kill(node.own)
    assert launch.members(namespace) == {}
    assert launch.running_pid(node.own) == 0
    assert str(node.own.root) not in Path("/proc/self/mountinfo").read_text()
    node.start()
    assert node.run("ls", "/var/lib/kubelet/kept").returncode == 0
    assert "busybox" in node.run("ctr", "-n", "k8s.io", "images", "list").stdout


def test_unplugging_cuts_the_node_off_and_plugging_heals_it(node: RunningNode) -> None:
    def reachable() -> bool:
        command = ["sh", "-c", f"ping -c1 -W1 {NODE.address}"]
        if subprocess.run(["sh", "-c", "command -v ping"], capture_output=True, check=False).returncode != 0:
            command = [
                "bash",
                "-c",
                f"timeout 1 bash -c 'exec 3<>/dev/tcp/{NODE.address}/9' 2>&1 | grep -q refused",
            ]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    until(reachable)
    hostnet.unplug(NODE)
    assert not hostnet.is_plugged(NODE)
    until(lambda: not reachable())
    hostnet.plug(NODE)
    until(reachable)
