"""Whatever happens to a pod, in whatever order: its status stays a legal one, and once all is quiet it is settled.

The plan is carried out by a small model of a runtime; between two steps anything may happen to it: containers exit or
are forgotten, the sandbox dies, starts and pulls fail, probes speak, the node agent loses its memory, the pod is deleted.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.pod.decision import Action
from bamikube.nodeagent.pod.plan import plan
from bamikube.nodeagent.pod.state import Memory, ProbeState, Rejection, RuntimeState, Trouble
from bamikube.nodeagent.pod.status import HostFacts
from bamikube.nodeagent.runtime.port import Container, Sandbox

JSON = dict[str, Any]
HOST = HostFacts(("192.0.2.1",))
REASONS = {
    "ContainerCreating", "PodInitializing", "CrashLoopBackOff", "ErrImagePull", "RunContainerError",
}  # fmt: skip

specs = st.fixed_dictionaries(
    {"restartPolicy": st.sampled_from(["Always", "OnFailure", "Never"])},
    optional={"activeDeadlineSeconds": st.sampled_from([20, 200])},
)
kinds = st.lists(st.sampled_from(["init", "side", "main", "probed", "debug"]), max_size=4)
events = st.lists(
    st.one_of(
        st.tuples(st.just("exit"), st.integers(0, 4), st.sampled_from([0, 1, 137])),
        st.tuples(st.just("forget"), st.integers(0, 4), st.just(0)),
        st.tuples(st.just("sandbox"), st.just(0), st.just(0)),
        st.tuples(st.just("fail"), st.integers(0, 4), st.just(0)),
        st.tuples(st.just("pull"), st.integers(0, 4), st.just(0)),
        st.tuples(st.just("probe"), st.integers(0, 4), st.integers(0, 5)),
        st.tuples(st.just("time"), st.sampled_from([1, 10, 100, 700]), st.just(0)),
        st.tuples(st.just("restart"), st.just(0), st.just(0)),
        st.tuples(st.just("reboot"), st.just(0), st.just(0)),
        st.tuples(st.just("delete"), st.just(0), st.just(0)),
        st.tuples(st.just("evict"), st.just(0), st.just(0)),
    ),
    max_size=14,
)


def made(spec: JSON, chosen: list[str]) -> JSON:
    """A pod of these containers and one more."""
    init, main, debug = [], [{"name": "app"}], []
    for number, kind in enumerate(chosen):
        item: JSON = {"name": f"{kind}{number}"}
        if kind == "init":
            init.append(item)
        elif kind == "side":
            init.append(item | {"restartPolicy": "Always", "startupProbe": {"exec": {}}})
        elif kind == "debug":
            debug.append(item)
        else:
            probes = (
                {"livenessProbe": {"exec": {}}, "readinessProbe": {"exec": {}}} if kind == "probed" else {}
            )
            main.append(item | probes)
    more = {"initContainers": init, "ephemeralContainers": debug}
    return {
        "metadata": {"name": "web", "namespace": "default", "uid": "u", "generation": 1},
        "spec": {"containers": main} | {k: v for k, v in more.items() if v} | spec,
        "status": {},
    }


class World:
    """One pod, the runtime's records of it, and what its worker remembers."""

    def __init__(self, pod: JSON) -> None:
        self.pod, self.now = pod, 1_700_000_000.0
        self.sandboxes: list[Sandbox] = []
        self.containers: list[Container] = []
        self.memory = Memory()
        self.failing: set[str] = set()
        self.pulling: set[str] = set()
        self.gone = False
        self.names = [c["name"] for c in facts.all_containers(pod)]
        self.names += [c["name"] for c in facts.ephemeral_containers(pod)]

    def state(self) -> RuntimeState:
        return RuntimeState(tuple(self.sandboxes), tuple(self.containers))

    def change(self, identity: str, **what: Any) -> None:
        self.containers = [replace(c, **what) if c.id == identity else c for c in self.containers]

    # -- what happens ------------------------------------------------------------------------------------------

    def happen(self, event: tuple[str, int, int]) -> None:
        kind, which, what = event
        name = self.names[which % len(self.names)]
        latest = self.state().latest(name)
        if kind == "exit" and latest is not None and latest.state == "running":
            self.change(latest.id, state="exited", exit_code=what, finished_at=self.now)
        elif kind == "forget":
            self.containers = [c for c in self.containers if c.name != name]
        elif kind == "sandbox":
            self.sandboxes = [replace(s, ready=False) for s in self.sandboxes]
        elif kind == "fail":
            self.failing ^= {name}
        elif kind == "pull":
            self.pulling ^= {name}
        elif kind == "probe" and latest is not None and latest.state == "running":
            verdict = self.memory.probes.setdefault(latest.id, ProbeState())
            verdict.started = (None, True, True, True, True, False)[what]
            verdict.ready = (None, True, False, True, False, None)[what]
            verdict.alive = (None, True, True, False, True, None)[what]
            verdict.why = "failed"
        elif kind == "time":
            self.now += which
        elif kind == "restart":
            self.memory = Memory()
        elif kind == "reboot":
            self.memory, self.sandboxes, self.containers = Memory(), [], []
        elif kind == "evict" and self.state().running() and not facts.terminal(self.pod):
            self.memory.rejected = self.memory.rejected or Rejection("Evicted", "The node was low", 1.0, True)
        elif kind == "delete":
            meta = self.pod["metadata"] | {"deletionTimestamp": "x", "deletionGracePeriodSeconds": 30}
            self.pod = self.pod | {"metadata": meta}

    # -- what the plan wants -----------------------------------------------------------------------------------

    def step(self) -> float | None:
        before = self.pod["status"]
        decision = plan(self.pod, self.state(), self.memory, self.now, HOST)
        legal(self.pod, before, decision.status, self.state())
        self.pod = self.pod | {"status": decision.status}
        for action in decision.actions:
            self.act(action)
        self.now += 0.1
        return decision.wake_at

    def act(self, action: Action) -> None:
        if action.kind == "MountVolumes":
            self.memory.volumes_ready = True
        elif action.kind == "CreateSandbox":
            name = f"s{action.attempt}"
            self.sandboxes.append(
                Sandbox(name, "web", "default", "u", action.attempt, True, self.now, ips=("10.0.0.1",))
            )
        elif action.kind == "StartContainer":
            self.start(action)
        elif action.kind == "StopContainer":
            self.change(action.id, state="exited", exit_code=143, finished_at=self.now)
        elif action.kind == "StopSandbox":
            self.sandboxes = [replace(s, ready=False) if s.id == action.id else s for s in self.sandboxes]
            self.memory.emptied.add(action.id)
        elif action.kind == "RemoveContainer":
            self.containers = [c for c in self.containers if c.id != action.id]
        elif action.kind == "RemoveSandbox":
            self.sandboxes = [s for s in self.sandboxes if s.id != action.id]
        elif action.kind == "Cleanup":
            self.memory.cleaned = True
        elif action.kind == "DeletePod":
            self.gone = True

    def start(self, action: Action) -> None:
        if action.name in self.pulling:
            self.memory.troubles[action.name] = Trouble("ErrImagePull", "no such image", self.now + 10)
            return
        sandbox = self.state().sandbox()
        if sandbox is None:
            return
        check_order(self, action.name, sandbox)
        if action.backoff is not None:
            self.memory.backoffs[action.name] = action.backoff
        self.memory.troubles.pop(action.name, None)
        identity = f"{action.name}-{action.attempt}"
        assert identity not in {c.id for c in self.containers}, "an attempt is given to one container only"
        fails = action.name in self.failing
        self.containers.append(
            Container(
                identity, sandbox.id, action.name, action.attempt, "exited" if fails else "running", self.now,
                image="i", started_at=self.now, finished_at=self.now if fails else 0.0,
                exit_code=128 if fails else 0, reason="StartError" if fails else "",
            )
        )  # fmt: skip
        if fails:
            self.memory.troubles[action.name] = Trouble(
                "RunContainerError", "no", self.now, settles=self.now + 5
            )


def check_order(world: World, name: str, sandbox: Sandbox) -> None:
    """A container of the pod proper starts only when every init container has done its work in this sandbox."""
    if name not in {c["name"] for c in facts.containers(world.pod)}:
        return
    state = world.state()
    mains = {c["name"] for c in facts.containers(world.pod)}
    if any(c.name in mains and c.sandbox_id == sandbox.id for c in state.containers):
        return  # begun before
    for spec in facts.init_containers(world.pod):
        latest = state.latest(spec["name"])
        assert latest is not None and latest.sandbox_id == sandbox.id
        if not facts.is_sidecar(spec):
            assert latest.state == "exited" and latest.exit_code == 0


def legal(pod: JSON, before: JSON, status: JSON, state: RuntimeState) -> None:
    """What every reader of a status may rely on."""
    assert status["phase"] in ("Pending", "Running", "Succeeded", "Failed")
    if before.get("phase") in ("Succeeded", "Failed"):
        assert status["phase"] == before["phase"]
    elif status["phase"] in ("Succeeded", "Failed"):
        assert not state.running()
    wanted = {
        "initContainerStatuses": [c["name"] for c in facts.init_containers(pod)],
        "containerStatuses": sorted(c["name"] for c in facts.containers(pod)),
        "ephemeralContainerStatuses": sorted(c["name"] for c in facts.ephemeral_containers(pod)),
    }
    for field, names in wanted.items():
        items = status.get(field) or []
        assert [item["name"] for item in items] == names
        old = {item["name"]: item for item in before.get(field) or ()}
        for item in items:
            _legal_entry(item, old.get(item["name"]), field)
    _legal_conditions(pod, before, status)


def _legal_entry(item: JSON, old: JSON | None, field: str) -> None:
    [(kind, value)] = item["state"].items()
    assert kind in ("waiting", "running", "terminated")
    if kind == "waiting":
        assert value["reason"] in REASONS
    if kind == "terminated":
        assert value["reason"] and isinstance(value["exitCode"], int)
    assert set(item["lastState"]) <= {"terminated"}
    if item["ready"]:
        assert kind == "running" or (field == "initContainerStatuses" and value.get("exitCode") == 0)
    if item.get("started"):
        assert kind == "running"
    if old is not None:
        assert item["restartCount"] >= old["restartCount"]


def _legal_conditions(pod: JSON, before: JSON, status: JSON) -> None:
    found = {c["type"]: c for c in status["conditions"]}
    assert len(found) == len(status["conditions"])
    assert set(found) - {"DisruptionTarget"} == {
        "PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled",
    }  # fmt: skip
    if "DisruptionTarget" in found:
        assert status["phase"] == "Failed" or facts.deleted(pod)
    old = {c["type"]: c for c in before.get("conditions") or ()}
    for kind, condition in found.items():
        assert condition["status"] in ("True", "False")
        if kind in old and old[kind]["status"] == condition["status"]:
            assert old[kind]["lastTransitionTime"] == condition["lastTransitionTime"]
    if found["ContainersReady"]["status"] == "True":
        assert all(item["ready"] for item in status["containerStatuses"])
        assert status["phase"] not in ("Succeeded", "Failed")
    if found["PodReadyToStartContainers"]["status"] == "True":
        assert status["podIP"] == status["podIPs"][0]["ip"]


def settle(world: World) -> None:
    """Nothing more happens: probes are content, images are there; time passes."""
    world.failing.clear()
    world.pulling.clear()
    for _ in range(60):
        for container in world.state().running():
            world.memory.probes[container.id] = ProbeState(started=True, ready=True, alive=True)
        for container in world.state().running():
            spec = facts.container(world.pod, container.name) or {}
            if spec in facts.init_containers(world.pod) and not facts.is_sidecar(spec):
                world.change(container.id, state="exited", exit_code=0, finished_at=world.now)
        wake = world.step()
        if world.gone:
            return
        if wake is not None:
            world.now = max(world.now, wake)


@settings(max_examples=150, deadline=None)
@given(specs, kinds, events)
def test_every_status_on_the_way_is_legal_and_the_last_one_final(
    spec: JSON, chosen: list[str], happens: list[tuple[str, int, int]]
) -> None:
    world = World(made(spec, chosen))
    for event in happens:
        world.step()
        world.happen(event)
        world.step()
    settle(world)
    status = world.pod["status"]
    if facts.deleted(world.pod):
        assert world.gone and status["phase"] in ("Succeeded", "Failed")
        assert not world.state().running()
    elif world.memory.rejected is not None or status["phase"] in ("Succeeded", "Failed"):
        if world.memory.rejected is not None:
            assert (status["phase"], status["reason"]) == ("Failed", "Evicted")
        assert not world.state().running() and not any(s.ready for s in world.sandboxes)
    else:
        assert status["phase"] == "Running"
        for item in status["containerStatuses"]:
            # One that was forgotten while it ran waits, as far as the status tells, after an end nobody has seen.
            ended = item["state"].get("terminated") or item["lastState"].get("terminated")
            assert item["ready"] or (ended and spec["restartPolicy"] != "Always")
