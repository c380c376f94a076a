"""Devices: the book of who was given which, and a real plugin (ours) over real sockets."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from bamikube.kit.metrics import REGISTRY
from bamikube.kit.world import World
from bamikube.nodeagent.container.env import ConfigError
from bamikube.nodeagent.cpus.choice import Processor
from bamikube.nodeagent.cpus.policy import PolicyOptions
from bamikube.nodeagent.cpus.pool import CpuPool
from bamikube.nodeagent.devices.book import Book, Device, Given, Unavailable, loaded
from bamikube.nodeagent.devices.manager import DeviceManager, equipped
from bamikube.nodeagent.devices.resources import ENDPOINT, PodResources
from bamikube.nodeagent.node import status
from bamikube.nodeagent.numa.managers import Managers
from bamikube.nodeagent.numa.memory import MemoryBook
from bamikube.nodeagent.numa.nodes import NumaNode
from bamikube.nodeagent.numa.state import Block
from bamikube.nodeagent.runtime.port import ContainerSpec, Mount
from bamikube.nodeagent.runtime.port import Device as ContainerDevice
from bamikube.rpc.deviceplugin import deviceplugin_pb2 as pb
from bamikube.rpc.podresources import podresources_pb2 as resources_pb
from bamikube.rpc.podresources import podresources_pb2_grpc
from tests.support.device_plugin import SamplePlugin

JSON = dict[str, Any]
THING = "example.com/thing"


def container(name: str, number: int = 0, **more: Any) -> JSON:
    return {"name": name, **({"resources": {"limits": {THING: str(number)}}} if number else {}), **more}


def pod(uid: str, *containers: JSON, init: tuple[JSON, ...] = ()) -> JSON:
    meta = {"name": f"pod-{uid}", "namespace": "default", "uid": uid}
    return {"metadata": meta, "spec": {"containers": list(containers), "initContainers": list(init)}}


def book(given: dict[tuple[str, str], tuple[str, ...]] | None = None, **devices: bool) -> Book:
    known = {name: Device(healthy) for name, healthy in devices.items()}
    return Book({THING: known}, {(u, c, THING): Given(i, b"") for (u, c), i in (given or {}).items()})


def test_a_container_keeps_its_devices_while_their_plugin_has_not_come_back() -> None:
    found = Book({}, {("1", "app", THING): Given(("a",), b"")})
    assert found.choose(pod("1", container("app", 1)), "app", THING, 1) is None
    with pytest.raises(Unavailable, match="unregistered"):
        found.choose(pod("2", container("app", 1)), "app", THING, 1)


def test_amounts_and_shortage() -> None:
    found = book({("1", "app"): ("a",)}, a=True, b=True, c=False)
    assert found.amounts() == {THING: (3, 2)}
    found.short(pod("2", container("app", 1), container("other")))
    with pytest.raises(Unavailable) as caught:
        found.short(pod("2", container("app", 2)))
    assert (
        str(caught.value)
        == f"requested number of devices unavailable for {THING}. Requested: 2, Available: 1"
    )
    with pytest.raises(Unavailable):
        found.short(pod("2", container("app", 1), container("beside", 1)))
    assert found.given.keys() == {("1", "app", THING)}, "asking gives nothing away"
    assert found.wants({"name": "x", "resources": {"limits": {"cpu": "1", "example.com/other": "1"}}}) == {}


def test_words_of_what_cannot_be_given() -> None:
    for made, said in (
        (Book({}, {("9", "x", THING): Given((), b"")}), f"cannot allocate unregistered device {THING}"),
        (book(a=False), f"no healthy devices present; cannot allocate unhealthy devices {THING}"),
        (
            book({("1", "app"): ("a",)}, a=False, b=True),
            f"previously allocated devices are no longer healthy; cannot allocate unhealthy devices {THING}",
        ),
        (
            book({("1", "app"): ("a", "b")}, a=True, b=True),
            f'pod "1" container "app" changed request for resource "{THING}" from 2 to 1',
        ),
    ):
        with pytest.raises(Unavailable) as caught:
            made.choose(pod("1", container("app", 1)), "app", THING, 1)
        assert str(caught.value) == said


def test_init_containers_leave_their_devices_to_those_after_them() -> None:
    side = container("side", 1, restartPolicy="Always")
    one = pod("1", container("app", 2), container("last", 1), init=(container("init", 2), side))
    found = book({("1", "init"): ("a", "b"), ("1", "side"): ("b",)}, a=True, b=True, c=True, d=True)
    assert found.reusable(one, "side", THING) == ("a", "b")
    assert found.reusable(one, "app", THING) == ("a",), "a sidecar keeps its own"
    choice = found.choose(one, "app", THING, 2)
    assert choice is not None and (choice.must, choice.free, choice.wanted) == (("a",), ("c", "d"), 1)
    found.given["1", "app", THING] = Given(("a", "c"), b"")
    assert found.reusable(one, "last", THING) == ()
    assert found.forget(["2"]) and not found.given and not found.forget(["2"])


def test_the_file_brings_back_what_was_given() -> None:
    found = book({("1", "app"): ("a", "b")}, a=True, b=True)
    found.given["1", "app", THING] = Given(("a", "b"), b"\x01\x02")
    again = loaded(found.dump())
    assert again.given == found.given
    assert again.amounts() == {THING: (0, 0)}, "known, until its plugin has come back"
    for text in ("", "{}", '{"Data": 1}', '{"Data": {"PodDeviceEntries": [{}]}}', "[]"):
        with pytest.raises(ValueError, match="not what the node agent writes"):
            loaded(text)


def plain(**more: Any) -> ContainerSpec:
    fields: dict[str, Any] = {
        "name": "app", "attempt": 0, "image": "i", "command": (), "args": (), "working_dir": "",
        "env": (("A", "own"),), "mounts": (), "labels": {}, "annotations": {"kept": "own"}, "log_path": "",
    }  # fmt: skip
    return ContainerSpec(**(fields | more))


def test_what_a_plugin_says_is_done_to_the_container() -> None:
    answer = pb.ContainerAllocateResponse(
        envs={"A": "plugin", "B": "plugin"},
        mounts=[pb.Mount(container_path="/x", host_path="/y", read_only=True)],
        devices=[pb.DeviceSpec(container_path="/dev/x", host_path="/dev/y", permissions="rw")],
        annotations={"kept": "plugin", "more": "plugin"},
        cdi_devices=[pb.CDIDevice(name="example.com/thing=a")],
    )
    found = equipped(plain(), answer)
    assert found.env == (("B", "plugin"), ("A", "own"))
    assert found.mounts == (Mount("/x", "/y", True),)
    assert found.devices == (ContainerDevice("/dev/x", "/dev/y", "rw"),)
    assert found.annotations == {"kept": "own", "more": "plugin"}
    assert found.cdi_devices == ("example.com/thing=a",)


def test_resources_that_others_added_are_no_change() -> None:
    mine = {"capacity": {"cpu": "2"}, "allocatable": {"cpu": "2"}, "conditions": []}
    theirs = {"cpu": "2", "example.com/added": "1"}
    assert not status.meaningful(mine | {"capacity": theirs, "allocatable": theirs}, mine)
    assert status.meaningful(mine, mine | {"capacity": theirs})


# -- over sockets ------------------------------------------------------------------------------------------------


@pytest.fixture
def root() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="bami-dev-", dir="/tmp"))  # paths of sockets have to be short
    yield path
    shutil.rmtree(path, ignore_errors=True)


class Turns:
    """Counts changes of the node's devices, and knows which pods there are."""

    def __init__(self) -> None:
        self.count = 0
        self.active: set[str] = set()

    def __call__(self) -> None:
        self.count += 1


@pytest.fixture
async def node(root: Path) -> AsyncIterator[tuple[DeviceManager, Turns]]:
    turns = Turns()
    manager = DeviceManager(World(), root, turns, lambda: turns.active)
    await manager.start()
    yield manager, turns
    await manager.close()


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come to that")


async def test_a_plugin_registers_gives_and_goes(node: tuple[DeviceManager, Turns], root: Path) -> None:
    manager, turns = node

    def counted(name: str) -> float:
        return REGISTRY.get_sample_value(f"kubelet_device_plugin_{name}", {"resource_name": THING}) or 0

    before = counted("registration_total"), counted("alloc_duration_seconds_count")
    plugin = SamplePlugin(
        manager.folder,
        THING,
        ["a", "b", "c"],
        get_preferred_allocation_available=True,
        pre_start_required=True,
    )
    await plugin.start()
    await until(lambda: manager.amounts() == {THING: (3, 3)})
    plugin.turn("a", False)
    await until(lambda: manager.amounts() == {THING: (3, 2)})
    assert turns.count >= 2
    first = pod("1", container("app", 1))
    assert manager.wanted(first) and not manager.wanted(pod("0", container("app")))
    assert manager.refusal(first) is None and await manager.allocate(first) is None
    turns.active.add("1")
    assert plugin.asked == [("prefer", ("b", "c")), ("allocate", ("c",))], "as the plugin likes it"
    assert await manager.allocate(first) is None and len(plugin.asked) == 2, "it has them"
    after = counted("registration_total"), counted("alloc_duration_seconds_count")
    assert after == (before[0] + 1, before[1] + 1)
    config = await manager.equip(first, first["spec"]["containers"][0], plain())
    assert dict(config.env)["THINGS"] == "c" and plugin.asked[-1] == ("start", ("c",))
    words = f"requested number of devices unavailable for {THING}. Requested: 2, Available: 1"
    assert manager.refusal(pod("2", container("app", 2))) == (
        "UnexpectedAdmissionError",
        f"Allocate failed due to {words}, which is unexpected",
    )
    plugin.fault = "it burns"
    assert await manager.allocate(pod("2", container("app", 1))) == (
        "UnexpectedAdmissionError",
        "Allocate failed due to rpc error: code = Unknown desc = it burns, which is unexpected",
    )
    plugin.fault = ""
    turns.active.clear()  # the first pod has ended
    assert await manager.allocate(pod("3", container("app", 2))) is None
    turns.active.add("3")
    await plugin.stop()
    await until(lambda: manager.amounts() == {THING: (3, 0)})
    assert "no healthy devices" in str(manager.refusal(pod("4", container("app", 1))))
    three = pod("3", container("app", 2))
    with pytest.raises(
        ConfigError,
        match=r"PreStartContainer rpc failed with err: endpoint example\.com/thing has been stopped",
    ):
        await manager.equip(three, three["spec"]["containers"][0], plain())
    await plugin.start()
    await until(lambda: manager.amounts() == {THING: (3, 2)})
    await plugin.stop()
    await until(lambda: manager.amounts() == {THING: (3, 0)})


async def test_bad_registrations_are_told(node: tuple[DeviceManager, Turns]) -> None:
    plugin = SamplePlugin(node[0].folder, THING, ["a"])
    for version, resource, said in (
        ("v1alpha", THING, 'requested API version "v1alpha" is not supported by kubelet. Supported version is ["v1beta1"]'),
        ("v1beta1", "cpu", 'the ResourceName "cpu" is invalid'),
    ):  # fmt: skip
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await plugin.register(version, resource)
        assert caught.value.details() == said
    assert node[0].amounts() == {}


async def test_a_new_node_agent_knows_what_was_given_and_has_plugins_register_again(root: Path) -> None:
    turns = Turns()
    old = DeviceManager(World(), root, turns, lambda: turns.active)
    await old.start()
    plugin = SamplePlugin(old.folder, THING, ["a", "b"])
    await plugin.start()
    await until(lambda: old.amounts() == {THING: (2, 2)})
    one = pod("1", container("app", 1))
    assert await old.allocate(one) is None
    await old.close()
    turns.active.add("1")
    new = DeviceManager(World(), root, turns, lambda: turns.active)
    await new.start()
    try:
        assert not (new.folder / plugin.socket).exists(), "that is how plugins notice"
        assert new.amounts() == {THING: (0, 0)}
        config = await new.equip(one, one["spec"]["containers"][0], plain())
        assert dict(config.env)["THINGS"] == "a", "also before the plugin is back"
        await plugin.stop()
        await plugin.start()
        await until(lambda: new.amounts() == {THING: (2, 2)})
        assert "Requested: 2, Available: 1" in str(new.refusal(pod("2", container("app", 2))))
    finally:
        await new.close()
        await plugin.stop()


async def test_monitors_see_who_has_what(root: Path) -> None:
    made = Book(
        {THING: {"a": Device(True, (0,)), "b": Device(False)}}, {("1", "app", THING): Given(("a",), b"")}
    )
    pods = [pod("1", container("app", 1), init=(container("init"),)), pod("2", container("app"))]
    machine = tuple(Processor(n, n, 0) for n in range(4))
    cpus = CpuPool(machine, frozenset({0}), PolicyOptions(), root / "cpus", {"1": {"app": frozenset({2, 3})}})
    blocks = {"1": {"app": (Block((0, 1), "memory", 512),)}}
    memory = MemoryBook(
        (NumaNode(0, 2048), NumaNode(1, 2048)), {0: {"memory": 1024}}, root / "memory", blocks
    )
    served = PodResources(root, lambda: made, lambda: pods, Managers(cpus, memory))
    await served.start()
    try:
        authority = [("grpc.default_authority", "localhost")]
        async with grpc.aio.insecure_channel(f"unix:{root}/pod-resources/kubelet.sock", authority) as channel:
            stub = podresources_pb2_grpc.PodResourcesListerStub(channel)
            listed = (await stub.List(resources_pb.ListPodResourcesRequest())).pod_resources
            assert [(p.name, [c.name for c in p.containers]) for p in listed] == [
                ("pod-1", ["app"]),
                ("pod-2", ["app"]),
            ]
            request = resources_pb.GetPodResourcesRequest(pod_name="pod-1", pod_namespace="default")
            device = (await stub.Get(request)).pod_resources.containers[0].devices[0]
            assert (device.resource_name, list(device.device_ids)) == (THING, ["a"])
            assert [n.ID for n in device.topology.nodes] == [0]
            assert [list(p.containers[0].cpu_ids) for p in listed] == [[2, 3], []]
            free = await stub.GetAllocatableResources(resources_pb.AllocatableResourcesRequest())
            assert [list(d.device_ids) for d in free.devices] == [["a"]]
            assert list(free.cpu_ids) == [1, 2, 3]
            assert [(m.memory_type, m.size, [n.ID for n in m.topology.nodes]) for m in free.memory] == [
                ("memory", 1024, [0]),
                ("memory", 2048, [1]),
            ]
            [block] = listed[0].containers[0].memory
            assert (block.size, [n.ID for n in block.topology.nodes]) == (512, [0, 1])
            assert not listed[1].containers[0].memory
            with pytest.raises(grpc.aio.AioRpcError, match="pod x in namespace y not found"):
                await stub.Get(resources_pb.GetPodResourcesRequest(pod_name="x", pod_namespace="y"))
            counted = {name: counter.of("v1").value for name, counter in ENDPOINT.items()}
            assert counted == {
                "requests": 4,
                "requests_list": 1,
                "requests_get": 2,
                "errors_get": 1,
                "requests_get_allocatable": 1,
            }
    finally:
        await served.close()
