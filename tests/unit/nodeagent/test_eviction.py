"""Eviction: flags, refusals, properties of the decision, and the loops over a node that is made up."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bamikube.kit.options import parse_options
from bamikube.kit.world import World
from bamikube.nodeagent.eviction import thresholds
from bamikube.nodeagent.eviction.decide import Book, Observation, Observations, decide
from bamikube.nodeagent.eviction.loop import Evictor, Policy
from bamikube.nodeagent.eviction.refusing import refusal
from bamikube.nodeagent.eviction.usage import ContainerUse, PodUse, Uses, observations
from bamikube.nodeagent.host.threads import OneAtATime
from bamikube.nodeagent.node import status
from bamikube.nodeagent.node.facts import Machine
from bamikube.nodeagent.options import NodeAgentOptions
from bamikube.nodeagent.pod.state import Memory, Rejection, RuntimeState
from bamikube.nodeagent.runtime.port import Container
from bamikube.nodeagent.settings import eviction_policy
from bamikube.nodeagent.stats.disks import Disk, Taken
from bamikube.nodeagent.stats.groups import Figures
from bamikube.nodeagent.stats.sampler import Room, Whole

JSON = dict[str, Any]
MI = 2**20
MACHINE = Machine(2, 8 * 2**30, 100 * 2**30, "amd64", "6.1", "Linux", "m", "s", "b")


def options(*argv: str) -> NodeAgentOptions:
    return parse_options(NodeAgentOptions, list(argv), "nodeagent")


def test_flags_are_the_kubelets() -> None:
    found = eviction_policy(
        options(
            "--eviction-hard=memory.available<200Mi,nodefs.available<10%,imagefs.available<0%",
            "--eviction-soft=memory.available<1Gi",
            "--eviction-soft-grace-period=memory.available=1m30s",
            "--eviction-minimum-reclaim=memory.available=50Mi,nodefs.available=2%",
            "--eviction-max-pod-grace-period=20",
            "--eviction-pressure-transition-period=30s",
        )
    )
    assert (found.transition, found.most_grace) == (30.0, 20.0)
    assert [(t.signal, str(t.value.of(1000 * MI, t.signal)), t.grace) for t in found.thresholds] == [
        ("memory.available", "200Mi", 0.0),
        ("nodefs.available", "104857601", 0.0),
        ("memory.available", "1Gi", 90.0),
        ("allocatableMemory.available", "200Mi", 0.0),
    ]
    assert [t.reclaim is not None for t in found.thresholds] == [True, True, True, True]


def test_defaults_are_the_kubelets() -> None:
    found = eviction_policy(options()).thresholds
    assert {t.signal for t in found} == {
        "memory.available", "allocatableMemory.available", "nodefs.available", "nodefs.inodesFree",
        "imagefs.available", "imagefs.inodesFree", "containerfs.available", "containerfs.inodesFree",
    }  # fmt: skip
    assert all(t.hard for t in found) and eviction_policy(options()).transition == 300.0


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ("--eviction-hard=memory.free<1Gi", "--eviction-hard: unsupported eviction signal memory.free"),
        ("--eviction-hard=memory.available<-1Gi", "--eviction-hard: eviction threshold memory.available must be positive: -1Gi"),
        ("--eviction-hard=memory.available<0", "must be positive: 0"),
        ("--eviction-hard=nodefs.available<101%", "eviction percentage threshold nodefs.available must be <= 100%: 101%"),
        ("--eviction-hard=nodefs.available<-3%", "must be >= 0%: -3%"),
        ("--eviction-hard=nodefs.available<many%", "'many%' is not a percentage"),
        ("--eviction-hard=memory.available<lots", "--eviction-hard: 'lots'"),
        ("--eviction-soft=memory.available<1Gi", "grace period must be specified for the soft eviction threshold memory.available"),
        ("--eviction-soft-grace-period=memory.available=-3s", "invalid eviction grace period specified: -3s, must be a positive value"),
        ("--eviction-soft-grace-period=memory.available=soon", "--eviction-soft-grace-period: 'soon' is not a duration"),
        ("--eviction-minimum-reclaim=nodefs.available=0%", "eviction percentage minimum reclaim nodefs.available must be positive: 0%"),
        ("--eviction-minimum-reclaim=nodefs.available=-1Mi", "negative eviction minimum reclaim specified for nodefs.available"),
        ("--eviction-pressure-transition-period=never", "--eviction-pressure-transition-period: 'never' is not a duration"),
    ],
)  # fmt: skip
def test_bad_flags_are_named(argv: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"^--eviction") as caught:
        eviction_policy(options(argv))
    assert said in str(caught.value)


def test_a_pair_without_a_mark_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        options("--eviction-hard=memory.available")
    assert "--eviction-hard: Value error, malformed pair, expect string<string" in capsys.readouterr().err


# -- the decision ----------------------------------------------------------------------------------------------

HARD = thresholds.parse({"memory.available": "1Gi"}, {}, {}, {})[:1]
SOFT = thresholds.parse({}, {"memory.available": "1Gi"}, {"memory.available": "30s"}, {})


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 2048)), max_size=40), st.integers(0, 100))
def test_over_any_time(steps: list[tuple[int, int]], transition: int) -> None:
    """Soft thresholds wait for their grace without a break; a condition begins at once and outlasts its cause."""
    book, now, short_since, last = Book(), 0.0, None, None
    for pause, left in steps:
        now += pause
        short = left < 1024
        short_since = (short_since if short_since is not None else now) if short else None
        last = now if short else last
        seen = {"memory.available": Observation(left * MI, 4096 * MI, now)}
        verdict = decide(SOFT, seen, book, now, float(transition))
        book = verdict.book
        assert bool(verdict.due) == (short_since is not None and now - short_since >= 30)
        assert bool(verdict.conditions) == (last is not None and now - last < transition)


# -- admission -------------------------------------------------------------------------------------------------


def pod(name: str = "web", priority: int | None = None, **spec: Any) -> JSON:
    found: JSON = {"containers": [{"name": "app"}]} | spec
    if priority is not None:
        found["priority"] = priority
    return {"metadata": {"name": name, "namespace": "default", "uid": name}, "spec": found}


def test_who_is_taken_in_under_pressure() -> None:
    asking = pod(containers=[{"name": "app", "resources": {"requests": {"memory": "1Mi"}}}])
    patient = pod(tolerations=[{"key": "node.kubernetes.io/memory-pressure", "operator": "Exists"}])
    assert refusal(pod(), ()) is None
    assert refusal(pod(), ["MemoryPressure"]) == ("Evicted", "The node had condition: [MemoryPressure]. ")
    assert refusal(asking, ["MemoryPressure"]) is None and refusal(patient, ["MemoryPressure"]) is None
    said = ("Evicted", "The node had condition: [DiskPressure MemoryPressure]. ")
    assert refusal(asking, ["MemoryPressure", "DiskPressure"]) == said
    assert refusal(patient, ["PIDPressure"]) == ("Evicted", "The node had condition: [PIDPressure]. ")
    assert refusal(pod(priority=2_000_000_000), ["DiskPressure"]) is None
    assert refusal(pod(priority=1_999_999_999), ["DiskPressure"]) is not None


# -- signals ---------------------------------------------------------------------------------------------------


def test_signals_from_what_was_read() -> None:
    whole = Whole(5.0, 1000, Figures(5.0, working_set=700), Figures(5.0, working_set=50, limit=60))
    room = Room(4.0, Disk(100, 10, 90, 20, 5), Disk(200, 150, 50, 0, 0), True)
    found = observations(whole, room, {"maxpid": 100, "curproc": 60})
    assert found == {
        "memory.available": Observation(300, 1000, 5.0),
        "allocatableMemory.available": Observation(10, 60, 5.0),
        "nodefs.available": Observation(10, 100, 4.0),
        "nodefs.inodesFree": Observation(5, 20, 4.0, True),
        "imagefs.available": Observation(150, 200, 4.0),
        "containerfs.available": Observation(150, 200, 4.0),
        "pid.available": Observation(40, 100, 5.0, True),
    }
    unlimited = Whole(5.0, 1000, None, Figures(5.0, working_set=50))
    assert not observations(unlimited, Room(), {})


# -- the loops -------------------------------------------------------------------------------------------------


@dataclass
class Turned:
    """A clock that is turned by whoever sleeps."""

    time: float = 0.0

    def now(self) -> float:
        return self.time

    monotonic = now

    async def sleep(self, seconds: float) -> None:
        self.time += seconds
        await asyncio.sleep(0)


@dataclass
class Fake:
    """A pod that ends as soon as it is told to."""

    pod: JSON
    status: JSON = field(default_factory=dict)
    state: RuntimeState = field(
        default_factory=lambda: RuntimeState((), (Container("c", "s", "app", 0, "running", 0.0),))
    )
    memory: Memory = field(default_factory=Memory)
    forgotten: bool = False

    def put_out(self, why: Rejection) -> None:
        self.memory.rejected, self.memory.cleaned, self.state = why, True, RuntimeState()

    def forget_dead(self) -> None:
        self.forgotten, self.state = True, RuntimeState()


@dataclass
class Node:
    """What is left is what the test says; a pod that ends gives back what it used."""

    left: dict[str, tuple[int, int]]
    use: dict[str, PodUse] = field(default_factory=dict)
    workers: list[Fake] = field(default_factory=list)
    said: list[tuple[str, ...]] = field(default_factory=list)
    freed: int = 0  # what removing images gives back
    clock: Turned = field(default_factory=Turned)
    asked: list[str] = field(default_factory=list)

    async def glance(self) -> Observations:
        now = self.clock.now()
        return {signal: Observation(left, most, now) for signal, (left, most) in self.left.items()}

    async def uses(self) -> Uses:
        self.asked.append("uses")
        return Uses(self.use)

    async def taken(self) -> Uses:
        self.asked.append("taken")
        return Uses(self.use)

    def tell(self, pod: JSON, *words: str, annotations: Any = None) -> None:
        self.said.append((pod["metadata"]["name"], *words, *(annotations or {}).values()))

    async def free(self) -> None:
        self.left = {s: (left + self.freed, most) for s, (left, most) in self.left.items()}

    def evictor(self, policy: Policy) -> Evictor:
        return Evictor(
            World(self.clock), policy, self, lambda: self.workers, lambda *w: self.said.append(w),
            self.tell, self.free,
        )  # fmt: skip


async def test_one_pod_goes_at_a_time_and_critical_ones_stay() -> None:
    node = Node({"memory.available": (100 * MI, 4096 * MI)})
    node.workers = [Fake(pod("critical", 2_000_000_000)), Fake(pod("big")), Fake(pod("small"))]
    node.use = {
        name: PodUse(size * MI, 1, {"app": ContainerUse(size * MI)})
        for name, size in (("critical", 900), ("big", 500), ("small", 5))
    }
    evictor = node.evictor(Policy(HARD))
    assert [w.pod["metadata"]["name"] for w in await evictor.round()] == ["big"]
    message = (
        "The node was low on resource: memory. Threshold quantity: 1Gi, available: 100Mi. "
        "Container app was using 500Mi, request is 0, has larger consumption of memory. "
    )
    assert node.workers[1].memory.rejected == Rejection("Evicted", message, 1.0, True)
    assert node.said == [
        ("EvictionThresholdMet", "Attempting to reclaim memory"),
        ("big", "Warning", "Evicted", message, "app", "500Mi", "memory"),
    ]
    assert evictor.conditions == ("MemoryPressure",) and node.asked == ["uses"]
    assert await evictor.round() == [], "the same observation is not acted on twice"


async def test_the_grace_at_a_soft_threshold_is_capped() -> None:
    node = Node({"memory.available": (100 * MI, 4096 * MI)})
    long, short = pod("long"), pod("short", terminationGracePeriodSeconds=3)
    for each, expected in ((long, 20.0), (short, 3.0)):
        node.workers = [Fake(each)]
        evictor = node.evictor(Policy(SOFT, most_grace=20.0))
        assert await evictor.round() == []
        await node.clock.sleep(31)
        assert await evictor.round() == node.workers
        rejected = node.workers[0].memory.rejected
        assert rejected is not None and rejected.grace == expected


async def test_unused_images_go_before_pods() -> None:
    disk = thresholds.parse({"nodefs.available": "1Gi"}, {}, {}, {})
    node = Node({"nodefs.available": (100 * MI, 4096 * MI)}, freed=2048 * MI)
    ended = Fake(pod("ended"), status={"phase": "Succeeded"})
    ended.state = RuntimeState((), (Container("d", "s", "app", 0, "exited", 0.0),))
    node.workers = [Fake(pod("web")), ended]
    assert await node.evictor(Policy(disk)).round() == []
    assert ended.forgotten and node.workers[0].memory.rejected is None
    node = Node({"nodefs.available": (100 * MI, 4096 * MI)}, freed=1, workers=[Fake(pod("web"))])
    assert await node.evictor(Policy(disk)).round() == node.workers


async def test_limits_of_pods_end_them_without_a_disruption() -> None:
    volumes = [{"name": "cache", "emptyDir": {"sizeLimit": "1Mi"}}]
    node = Node({}, {"full": PodUse(volumes={"cache": Taken(2 * MI, 2)}), "other": PodUse()})
    node.workers = [Fake(pod("full", volumes=volumes)), Fake(pod("other"))]
    gone = await node.evictor(Policy()).hold_to_limits()
    text = 'Usage of EmptyDir volume "cache" exceeds the limit "1Mi". '
    assert gone == node.workers[:1] and node.workers[0].memory.rejected == Rejection(
        "Evicted", text, 1.0, False
    )
    assert await node.evictor(Policy()).hold_to_limits() == [] and node.asked == ["taken"], (
        "nobody has limits now"
    )


async def test_a_look_that_fails_ends_nothing() -> None:
    node = Node({})
    evictor = node.evictor(Policy(HARD))

    async def broken() -> Observations:
        raise OSError("no cgroup")

    evictor._looks.glance = broken  # type: ignore[method-assign]
    task = asyncio.ensure_future(evictor.run())
    await asyncio.sleep(0)
    assert not task.done()
    task.cancel()


# -- the node's conditions -------------------------------------------------------------------------------------


def test_conditions_and_their_events() -> None:
    config = status.NodeConfig("n", "n", (), {}, (), 10250, 110)
    calm = status.status(config, MACHINE, (), (), "c", (), {}, 0.0)
    short = status.status(
        config, MACHINE, ("MemoryPressure", "DiskPressure", "PIDPressure"), (), "c", (), calm, 1.0
    )
    said = [
        (c["type"], c["status"], c["reason"], c["message"])
        for c in (*calm["conditions"], *short["conditions"])
    ]
    assert [row for row in said if row[0] != "Ready"] == [
        ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        (
            "MemoryPressure",
            "True",
            "KubeletHasInsufficientMemory",
            "kubelet has insufficient memory available",
        ),
        ("DiskPressure", "True", "KubeletHasDiskPressure", "kubelet has disk pressure"),
        ("PIDPressure", "True", "KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
    ]
    assert status.turns({}, calm) == [
        "NodeHasSufficientMemory",
        "NodeHasNoDiskPressure",
        "NodeHasSufficientPID",
    ]
    assert status.turns(calm, short) == [
        "NodeHasInsufficientMemory",
        "NodeHasDiskPressure",
        "NodeHasInsufficientPID",
    ]
    assert status.turns(short, short) == []
    for before, now, said in (
        ("Unknown", "True", ["NodeReady"]),
        ("True", "False", ["NodeNotReady"]),
        ("True", "True", []),
    ):
        fresh = {"conditions": [*short["conditions"][:3], {"type": "Ready", "status": now}]}
        assert (
            status.turns(
                {"conditions": [*short["conditions"][:3], {"type": "Ready", "status": before}]}, fresh
            )
            == said
        )


async def test_work_that_hangs_is_not_begun_again() -> None:
    release, begun = threading.Event(), []

    def hang() -> str:
        begun.append(1)
        release.wait(5)
        return "done"

    work = OneAtATime()
    assert await work.run(hang, 0.01) is None and await work.run(hang, 0.01) is None
    release.set()
    assert await work.run(hang, 5) == "done" and begun == [1]
    assert await work.run(hang, 5) == "done" and begun == [1, 1]
