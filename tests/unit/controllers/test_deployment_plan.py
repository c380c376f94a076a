"""The rolling update keeps its two promises at every step, whatever the numbers."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bamikube.controllers import deployment as d
from bamikube.controllers.deployment_sets import limits, revision_of

Object = dict[str, Any]
NOW = 1_700_000_000.0


def deployment(
    replicas: int, image: str, surge: Any = "25%", unavailable: Any = "25%", **spec: Any
) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default", "uid": "u", "generation": 1},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": image}]},
            },
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable},
            },
            "revisionHistoryLimit": 10,
            "progressDeadlineSeconds": 600,
        }
        | spec,
    }


class World:
    """ReplicaSets as an apply() would leave them; statuses follow when ``settle`` is called."""

    def __init__(self) -> None:
        self.sets: list[Object] = []

    def apply(self, plan: d.Plan) -> bool:
        changed = False
        if plan.create is not None:
            body = plan.create
            body["metadata"] |= {
                "uid": body["metadata"]["name"],
                "creationTimestamp": f"2026-01-01T00:00:{len(self.sets):02}Z",
            }
            body["metadata"]["generation"] = 1
            body["status"] = {"replicas": 0}
            self.sets.append(body)
            changed = True
        for scale in plan.scale:
            scale.rs["spec"]["replicas"] = scale.replicas
            changed = True
        for name, wanted in plan.annotate.items():
            for rs in self.sets:
                if rs["metadata"]["name"] == name and rs["metadata"].get("annotations") != wanted:
                    rs["metadata"]["annotations"] = wanted
                    changed = True
        for rs in plan.delete:
            self.sets.remove(rs)
            changed = True
        return changed

    def settle(self, available: bool = True) -> None:
        for rs in self.sets:
            size = rs["spec"]["replicas"]
            old = rs["status"].get("availableReplicas", 0)
            rs["status"] = {
                "replicas": size,
                "availableReplicas": size if available else min(old, size),
                "readyReplicas": size if available else min(old, size),
                "observedGeneration": 1,
            }


def roll(world: World, dep: Object, steps: int = 200) -> Object:
    promised = False
    for _ in range(steps):
        plan = d.plan(dep, world.sets, False, NOW)
        dep["status"] = plan.status
        changed = world.apply(plan)
        total = sum(rs["spec"]["replicas"] for rs in world.sets)
        surge, unavailable = limits(dep)
        assert total <= dep["spec"]["replicas"] + surge
        available = sum(
            min(rs["spec"]["replicas"], rs["status"].get("availableReplicas", 0)) for rs in world.sets
        )
        # Once as many as promised have been available, a step never takes more away than it may.
        if promised:
            assert available >= dep["spec"]["replicas"] - unavailable
        promised = promised or available >= dep["spec"]["replicas"] - unavailable
        world.settle()
        if not changed:
            return plan.status
    raise AssertionError("the rollout does not end")


amounts = st.one_of(st.integers(0, 6), st.integers(0, 100).map(lambda value: f"{value}%"))


@settings(max_examples=150, deadline=None)
@given(replicas=st.integers(0, 12), surge=amounts, unavailable=amounts)
def test_a_rollout_ends_with_only_new_pods_and_never_exceeds_the_surge(
    replicas: int, surge: Any, unavailable: Any
) -> None:
    world = World()
    dep = deployment(replicas, "a", surge, unavailable)
    roll(world, dep)
    dep["spec"]["template"]["spec"]["containers"][0]["image"] = "b"
    status = roll(world, dep)
    sizes = {
        rs["spec"]["template"]["spec"]["containers"][0]["image"]: rs["spec"]["replicas"] for rs in world.sets
    }
    assert sizes == {"a": 0, "b": replicas}
    assert status.get("updatedReplicas", 0) == replicas
    reasons = {condition["type"]: condition["reason"] for condition in status["conditions"]}
    assert reasons == {"Available": "MinimumReplicasAvailable", "Progressing": "NewReplicaSetAvailable"}


@settings(max_examples=100, deadline=None)
@given(replicas=st.integers(1, 12), surge=amounts, unavailable=amounts)
def test_old_pods_stay_while_new_ones_are_not_available(replicas: int, surge: Any, unavailable: Any) -> None:
    world = World()
    dep = deployment(replicas, "a", surge, unavailable)
    roll(world, dep)
    dep["spec"]["template"]["spec"]["containers"][0]["image"] = "broken"
    for _ in range(50):
        world.apply(d.plan(dep, world.sets, False, NOW))
        world.settle(available=False)
    _, allowed = limits(dep)
    available = sum(rs["status"].get("availableReplicas", 0) for rs in world.sets)
    assert available >= replicas - allowed


def test_rolling_back_reuses_the_old_set_and_counts_the_revision_on() -> None:
    world = World()
    dep = deployment(3, "a")
    roll(world, dep)
    dep["spec"]["template"]["spec"]["containers"][0]["image"] = "b"
    roll(world, dep)
    dep["spec"]["template"]["spec"]["containers"][0]["image"] = "a"
    roll(world, dep)
    assert len(world.sets) == 2
    by_image = {rs["spec"]["template"]["spec"]["containers"][0]["image"]: rs for rs in world.sets}
    assert (revision_of(by_image["a"]), revision_of(by_image["b"])) == (3, 2)
    assert by_image["a"]["metadata"]["annotations"][d.HISTORY] == "1"


def test_recreate_waits_until_old_pods_are_gone() -> None:
    world = World()
    dep = deployment(3, "a", strategy={"type": "Recreate"})
    roll(world, dep)
    dep["spec"]["template"]["spec"]["containers"][0]["image"] = "b"
    first = d.plan(dep, world.sets, True, NOW)
    assert first.create is None and [scale.replicas for scale in first.scale] == [0]
    world.apply(first)
    world.settle()
    waiting = d.plan(dep, world.sets, True, NOW)
    assert not waiting.scale and waiting.create is None
    reasons = {condition["type"]: condition["reason"] for condition in waiting.status["conditions"]}
    assert reasons["Available"] == "MinimumReplicasUnavailable"
    going = d.plan(dep, world.sets, False, NOW)
    assert going.create is not None and going.create["spec"]["replicas"] == 3


def test_history_is_cut_to_its_limit() -> None:
    world = World()
    dep = deployment(1, "v0", revisionHistoryLimit=2)
    for version in range(6):
        dep["spec"]["template"]["spec"]["containers"][0]["image"] = f"v{version}"
        roll(world, dep)
    assert sorted(rs["spec"]["template"]["spec"]["containers"][0]["image"] for rs in world.sets) == [
        "v3",
        "v4",
        "v5",
    ]


def test_a_paused_deployment_scales_but_does_not_roll() -> None:
    world = World()
    dep = deployment(2, "a")
    roll(world, dep)
    dep["spec"]["paused"] = True
    dep["spec"]["replicas"] = 5
    dep["spec"]["template"]["spec"]["containers"][0]["image"] = "b"
    plan = d.plan(dep, world.sets, False, NOW)
    assert plan.create is None
    assert [scale.replicas for scale in plan.scale] == [5]


def test_no_progress_in_time_is_said() -> None:
    world = World()
    dep = deployment(1, "a")
    plan = d.plan(dep, world.sets, False, NOW)
    world.apply(plan)
    dep["status"] = plan.status
    plan = d.plan(dep, world.sets, False, NOW + 700)
    reasons = {condition["type"]: condition["reason"] for condition in plan.status["conditions"]}
    assert reasons["Progressing"] == "ProgressDeadlineExceeded"


@settings(max_examples=150, deadline=None)
@given(
    replicas=st.integers(1, 12),
    surge=amounts,
    unavailable=amounts,
    lag=st.lists(st.booleans(), min_size=1, max_size=40),
)
def test_statuses_that_lag_behind_never_break_the_promises(
    replicas: int, surge: Any, unavailable: Any, lag: list[bool]
) -> None:
    """Statuses follow their sets only now and then; the pods themselves follow at once."""
    world = World()
    dep = deployment(replicas, "a", surge, unavailable)
    roll(world, dep)
    dep["spec"]["template"]["spec"]["containers"][0]["image"] = "b"
    most, fewest = limits(dep)
    pods = {rs["metadata"]["name"]: rs["spec"]["replicas"] for rs in world.sets}
    for step in range(200):
        plan = d.plan(dep, world.sets, False, NOW)
        dep["status"] = plan.status
        changed = world.apply(plan)
        assert sum(rs["spec"]["replicas"] for rs in world.sets) <= replicas + most
        # Pods that are available now: a shrunk set loses some at once, a grown one gains them when its status moves.
        for rs in world.sets:
            name = rs["metadata"]["name"]
            pods[name] = min(pods.get(name, 0), rs["spec"]["replicas"])
        assert sum(pods.values()) >= replicas - fewest
        if lag[step % len(lag)] or not changed:
            world.settle()
            pods = {rs["metadata"]["name"]: rs["spec"]["replicas"] for rs in world.sets}
            if not changed and not d.plan(dep, world.sets, False, NOW).scale:
                break
    assert {rs["spec"]["replicas"] for rs in world.sets} <= {0, replicas}
