"""A pod's worker over a hollow runtime: what it does in what order, and how long that takes, on virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
from collections.abc import Coroutine
from typing import Any

from bamikube.nodeagent.pod.decision import Action
from bamikube.nodeagent.pod.starter import _to_the_end
from bamikube.nodeagent.probing.checks import Result
from bamikube.nodeagent.runtime.port import Container, RuntimeFailure
from tests.simulation import virtual
from tests.support.hollow_pods import HollowNode, item, running, waiting

JSON = dict[str, Any]
APP: JSON = {"name": "app"}
HOOK: JSON = {"exec": {"command": ["true"]}}


def live(story: Coroutine[Any, Any, None]) -> None:
    virtual.run(story)


async def _never() -> Result:
    await asyncio.Event().wait()
    raise AssertionError


def test_a_start_that_fails_is_told_before_the_back_off() -> None:
    async def story() -> None:
        async with HollowNode() as node:
            node.runtime.broken["start_container"] = RuntimeFailure("UNKNOWN", 'exec: "nope": not found')
            worker = node.run("web", containers=[dict(APP)])
            await node.until(lambda: waiting(worker) == "RunContainerError")
            state = item(worker)
            assert state["state"]["waiting"]["message"] == 'exec: "nope": not found'
            assert state["lastState"]["terminated"]["reason"] == "StartError"
            await node.until(lambda: waiting(worker) == "CrashLoopBackOff")
            assert 'Error: exec: "nope": not found' in node.api.said("Failed")

    live(story())


def test_a_start_that_fails_for_good_is_an_end() -> None:
    async def story() -> None:
        async with HollowNode() as node:
            node.runtime.broken["start_container"] = RuntimeFailure("UNKNOWN", "no such command")
            worker = node.run("once", restartPolicy="Never", containers=[dict(APP)])
            await node.until(lambda: worker.status.get("phase") == "Failed")
            assert item(worker)["state"]["terminated"]["reason"] == "StartError"

    live(story())


def test_a_new_sandbox_runs_only_what_has_not_succeeded() -> None:
    async def story() -> None:
        async with HollowNode() as node:
            worker = node.run(
                "job", restartPolicy="OnFailure", containers=[{"name": "done"}, {"name": "works"}]
            )
            await node.until(lambda: len(worker.state.running()) == 2)
            node.runtime.exit("done")
            await node.until(lambda: len(worker.state.running()) == 1)
            first = worker.state.sandbox()
            assert first is not None
            await node.runtime.stop_sandbox(first.id)
            await node.until(lambda: len(worker.state.sandboxes) == 2 and worker.state.running())
            await asyncio.sleep(30)
            assert [c.name for c in worker.state.running()] == ["works"]
            assert [c.attempt for c in worker.state.history("done")] == [0]
            assert item(worker)["state"]["terminated"]["reason"] == "Completed"

    live(story())


def test_a_failed_post_start_stops_the_container_and_keeps_its_words_out_of_events() -> None:
    async def story() -> None:
        async with HollowNode() as node:
            node.checks.answers["hook/app"] = Result("failure", "the password is 1234")
            worker = node.run("web", containers=[APP | {"lifecycle": {"postStart": HOOK}}])
            node.runtime.stubborn.add("app")  # the stop takes its time; it does not run for its pod meanwhile
            await node.until(lambda: waiting(worker) == "PostStartHookError")
            told = [c["state"] for patch in node.api.patches for c in patch.get("containerStatuses", ())]
            assert told and not any("running" in state for state in told)
            message = item(worker)["state"]["waiting"]["message"]
            assert message.startswith('Exec lifecycle hook ([true]) for Container "app" in Pod "web_default(')
            assert node.api.said("FailedPostStartHook")[0] == "PostStartHook failed"
            assert node.api.said("Killing")[0] == "FailedPostStartHook"
            assert not any("1234" in text for _, _, text in node.api.events)

    live(story())


def test_a_start_that_is_called_off_before_its_first_step_holds_nothing_up() -> None:
    async def story() -> None:
        async with HollowNode() as node:
            worker = node.run("web", containers=[dict(APP)])
            act = worker._act

            def called_off(actions: list[Action]) -> None:
                act(actions)
                if worker.memory.starting and not worker.pod["metadata"].get("deletionTimestamp"):
                    node.delete(worker, 1)

            worker._act = called_off  # type: ignore[method-assign]
            await node.until(lambda: node.api.deleted == ["web"])

    live(story())


def test_a_start_that_fails_after_it_was_called_off_is_nobodys_news() -> None:
    async def story() -> None:
        said: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: said.append(context))

        async def fails() -> None:
            await asyncio.sleep(0.1)
            raise RuntimeFailure("UNKNOWN", "no such command")

        async def called_off() -> None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await _to_the_end(fails())

        await called_off()
        gc.collect()
        assert said == []

    live(story())


def test_a_look_that_the_end_of_a_start_has_overtaken_starts_nothing_twice() -> None:
    async def story() -> None:
        async with HollowNode() as node:
            runtime = node.runtime
            start, status = runtime.start_container, runtime.container_status

            async def slow_start(identity: str) -> None:
                worker.wake()
                await asyncio.sleep(0.02)
                await start(identity)

            async def slow_status(identity: str) -> Container:
                seen = await status(identity)
                await asyncio.sleep(0.05 if seen.state == "created" else 0)
                return seen

            runtime.start_container = slow_start  # type: ignore[method-assign]
            runtime.container_status = slow_status  # type: ignore[method-assign]
            worker = node.run("job", restartPolicy="Never", containers=[dict(APP)])
            await node.until(lambda: running(worker))
            await asyncio.sleep(5)
            assert [c.attempt for c in worker.state.containers] == [0]

    live(story())


def test_pre_stop_may_use_the_grace_and_leaves_two_seconds() -> None:
    async def story() -> None:
        async with HollowNode() as node:
            node.checks.answers["hook/app"] = _never
            worker = node.run("web", containers=[APP | {"lifecycle": {"preStop": HOOK}}])
            await node.until(lambda: running(worker))
            node.delete(worker, 5)
            took = await node.until(lambda: node.runtime.stops)
            assert 4.9 < took < 5.2
            assert node.runtime.stops[0][1] == 2.0
            assert node.api.said("FailedPreStopHook") == []
            await node.until(lambda: node.api.deleted)

    live(story())


def test_a_failed_pre_stop_says_only_that() -> None:
    async def story() -> None:
        async with HollowNode() as node:
            node.checks.answers["hook/app"] = Result("failure", "secret")
            worker = node.run("web", containers=[APP | {"lifecycle": {"preStop": HOOK}}])
            await node.until(lambda: running(worker))
            node.delete(worker)
            await node.until(lambda: node.api.deleted)
            assert node.api.said("FailedPreStopHook") == ["PreStopHook failed"]
            assert node.api.said("Killing") == ["Stopping container app"]

    live(story())


def test_sidecars_end_last_within_the_same_grace() -> None:
    """Every preStop runs at once; each sidecar waits for its turn; what is left of the grace is the limit of all."""

    async def story() -> None:
        async with HollowNode() as node:
            side = {"restartPolicy": "Always", "lifecycle": {"preStop": HOOK}}
            worker = node.run(
                "web",
                containers=[APP | {"lifecycle": {"preStop": HOOK}}],
                initContainers=[{"name": "one"} | side, {"name": "two"} | side],
            )
            await node.until(lambda: len(worker.state.running()) == 3)
            node.runtime.stubborn = {"two"}
            node.delete(worker, 10)
            await node.until(lambda: node.runtime.stops)
            assert {name for kind, name in node.checks.asked if kind == "hook"} == {"app", "one", "two"}
            took = await node.until(lambda: node.api.deleted)
            assert [name for name, _, _ in node.runtime.stops] == ["app", "two", "one"]
            assert [round(grace) for _, grace, _ in node.runtime.stops] == [10, 10, 2]
            assert took < 15

    live(story())


def test_a_deadline_calls_off_what_is_being_started() -> None:
    async def story() -> None:
        async with HollowNode() as node:
            node.runtime.missing.add("busybox:1")

            async def pull(name: str) -> None:
                await asyncio.sleep(60)

            node.runtime.pull = pull
            worker = node.run("late", activeDeadlineSeconds=5, containers=[dict(APP)])
            assert 5 <= await node.until(lambda: worker.status.get("phase") == "Failed") < 6
            await asyncio.sleep(120)
            assert not node.runtime.containers and worker.status["reason"] == "DeadlineExceeded"

    live(story())


def test_a_pod_has_not_failed_before_what_begins_has_ended() -> None:
    """A start that must not be cut off outlives the deadline: the container is stopped, and only then the pod has failed."""

    async def story() -> None:
        async with HollowNode() as node:
            real, phases = node.runtime.start_container, []

            async def start_container(container_id: str) -> None:
                await asyncio.sleep(10)
                phases.append(worker.status["phase"])
                await real(container_id)

            node.runtime.start_container = start_container  # type: ignore[method-assign]
            worker = node.run("late", activeDeadlineSeconds=5, containers=[dict(APP)])
            await node.until(lambda: worker.status.get("phase") == "Failed")
            assert phases == ["Pending"]
            assert [c.state for c in node.runtime.containers.values()] == ["exited"]

    live(story())


def test_a_deadline_is_told_once() -> None:
    async def story() -> None:
        async with HollowNode() as node:
            worker = node.run("late", activeDeadlineSeconds=20, containers=[dict(APP)])
            await node.until(lambda: worker.status.get("reason") == "DeadlineExceeded")
            assert worker.status["phase"] == "Failed"
            await asyncio.sleep(100)
            assert node.api.said("DeadlineExceeded") == [
                "Pod was active on the node longer than the specified deadline"
            ]

    live(story())


def test_readiness_is_asked_until_the_end_liveness_is_not() -> None:
    async def story() -> None:
        async with HollowNode() as node:
            probe = HOOK | {"periodSeconds": 1, "failureThreshold": 1}
            worker = node.run("web", containers=[APP | {"livenessProbe": probe, "readinessProbe": probe}])
            await node.until(lambda: item(worker).get("ready"))
            node.runtime.stubborn = {"app"}
            node.delete(worker, 20)
            await asyncio.sleep(1.5)
            node.checks.answers["probe/app"] = Result("failure", "draining")
            took = await node.until(lambda: not item(worker)["ready"])
            assert took < 2
            await asyncio.sleep(5)
            assert set(node.api.said("Unhealthy")) == {"Readiness probe failed: draining"}

    live(story())


def test_a_probe_that_cannot_be_made_changes_nothing() -> None:
    async def story() -> None:
        async with HollowNode() as node:
            probe = HOOK | {"periodSeconds": 1, "failureThreshold": 1}
            worker = node.run("web", containers=[APP | {"livenessProbe": probe, "readinessProbe": probe}])
            await node.until(lambda: item(worker).get("ready"))
            node.checks.answers["probe/app"] = Result("unknown", "no such task")
            await asyncio.sleep(10)
            assert item(worker)["ready"] and item(worker)["restartCount"] == 0
            text = "Liveness probe errored and resulted in unknown state: no such task"
            assert text in node.api.said("Unhealthy")
            node.checks.answers["probe/app"] = Result(
                "warning", "Probe terminated redirects, Response body: x"
            )
            await asyncio.sleep(2)
            assert item(worker)["ready"]
            said = "Readiness probe warning: Probe terminated redirects, Response body: x"
            assert said in node.api.said("ProbeWarning")

    live(story())


def test_probes_keep_their_beat() -> None:
    """A period runs from one look's beginning to the next one's, not from its end."""

    async def story() -> None:
        async with HollowNode() as node:
            times: list[float] = []

            async def slow() -> Result:
                times.append(node.clock.monotonic())
                await asyncio.sleep(0.4)
                return Result("success")

            node.checks.answers["probe/app"] = slow
            node.run("web", containers=[APP | {"readinessProbe": HOOK | {"periodSeconds": 1}}])
            await node.until(lambda: len(times) == 5)
            assert [round(b - a, 2) for a, b in itertools.pairwise(times)] == [1.0] * 4

    live(story())


def test_probes_of_found_containers_are_spread() -> None:
    """After a restart of the node agent a hundred probes do not fall on one moment."""

    async def story() -> None:
        async with HollowNode() as node:
            probe = HOOK | {"periodSeconds": 10}
            for number in range(20):
                node.run(f"web-{number}", containers=[APP | {"readinessProbe": probe}])
            await node.until(lambda: sum(running(w) for w in node.workers.values()) == 20)
            pods = {uid: worker.pod for uid, worker in node.workers.items()}
            for worker in list(node.workers.values()):
                await worker.close()
            await asyncio.sleep(60)
            node.workers.clear()
            node.checks.asked.clear()
            node.shared.began = node.clock.now()
            for pod in pods.values():
                node.run(pod["metadata"]["name"], **pod["spec"])
            await asyncio.sleep(5)
            assert 2 <= len(node.checks.asked) <= 18
            await asyncio.sleep(6)
            assert len(node.checks.asked) >= 20

    live(story())


def test_nobody_waits_for_a_slow_neighbour() -> None:
    """A hanging preStop, a pull that does not end and a stuck volume: another pod starts within a second."""

    async def story() -> None:
        async with HollowNode() as node:
            node.checks.answers["hook/hooked"] = _never
            hooked = node.run("hooked", containers=[{"name": "hooked", "lifecycle": {"preStop": HOOK}}])
            await node.until(lambda: running(hooked))
            node.delete(hooked, 600)
            node.runtime.missing = {"slow:1"}

            async def stalled(name: str) -> None:
                await asyncio.Event().wait()

            node.runtime.pull = stalled
            node.host.stuck = {"dead"}
            for number in range(5):
                node.run(f"pulling-{number}", containers=[{"name": "app", "image": "slow:1"}])
                volume = {"name": "dead", "hostPath": {"path": "/dead"}}
                mounts = {"volumeMounts": [{"name": "dead", "mountPath": "/dead"}]}
                node.run(f"mounting-{number}", volumes=[volume], containers=[APP | mounts])
            await asyncio.sleep(1)
            worker = node.run("quick", containers=[dict(APP)])
            assert await node.until(lambda: running(worker)) < 1.0
            slow = [w for uid, w in node.workers.items() if "-" in uid.removeprefix("uid-")]
            assert len(slow) == 10 and not any(running(w) for w in slow)

    live(story())


def test_pre_stop_ends_with_its_container() -> None:
    async def story() -> None:
        async with HollowNode() as node:
            node.checks.answers["hook/app"] = _never
            worker = node.run("web", containers=[APP | {"lifecycle": {"preStop": HOOK}}])
            await node.until(lambda: running(worker))
            node.delete(worker, 100)
            await asyncio.sleep(3)
            node.runtime.exit("app")
            assert await node.until(lambda: node.api.deleted) < 1

    live(story())


def test_another_image_is_another_container() -> None:
    async def story() -> None:
        async with HollowNode() as node:
            worker = node.run("web", restartPolicy="Never", containers=[dict(APP)])
            await node.until(lambda: running(worker))
            app = worker.pod["spec"]["containers"][0] | {"image": "busybox:2"}
            worker.update(worker.pod | {"spec": worker.pod["spec"] | {"containers": [app]}})
            await node.until(lambda: item(worker).get("restartCount") == 1 and running(worker))
            text = "Container app definition changed, will be restarted"
            assert node.api.said("Killing") == [text]
            await asyncio.sleep(30)
            assert item(worker)["restartCount"] == 1 and worker.status["phase"] == "Running"

    live(story())


def test_another_image_is_pulled_at_once_whatever_was_wrong_with_the_old_one() -> None:
    async def story() -> None:
        async with HollowNode() as node:
            node.runtime.missing |= {"bad:1", "good:1"}
            node.runtime.broken["pull_image"] = RuntimeFailure("NOT_FOUND", "no such image")
            worker = node.run("web", containers=[APP | {"image": "bad:1"}])
            await node.until(lambda: waiting(worker) == "ImagePullBackOff")
            await asyncio.sleep(40)
            del node.runtime.broken["pull_image"]
            spec = worker.pod["spec"] | {
                "containers": [worker.pod["spec"]["containers"][0] | {"image": "good:1"}]
            }
            worker.update(worker.pod | {"spec": spec})
            assert await node.until(lambda: running(worker)) < 1.0

    live(story())


def test_a_stop_that_fails_is_told_and_tried_again() -> None:
    async def story() -> None:
        async with HollowNode() as node:
            worker = node.run("web", containers=[dict(APP)])
            await node.until(lambda: running(worker))
            stop = node.runtime.stop_container

            async def refuses(container_id: str, grace: float) -> None:
                raise RuntimeFailure("UNKNOWN", "no")

            node.runtime.stop_container = refuses  # type: ignore[method-assign]
            node.delete(worker, 1)
            await node.until(lambda: node.api.said("FailedKillPod"))
            text = 'error killing pod: failed to "KillContainer" for "app" with KillContainerError: '
            assert node.api.said("FailedKillPod")[0] == text + '"rpc error: code = Unknown desc = no"'
            node.runtime.stop_container = stop  # type: ignore[method-assign]
            await node.until(lambda: node.api.deleted)

    live(story())
