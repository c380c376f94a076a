"""What must hold on a node, whatever goes wrong with it.

* **one of a kind**: no two containers of one name run in a pod, and no container is stopped without a reason;
* **ended is ended**: what has ended for good does not start again, and a pod that the API calls ended never does;
* **told in order**: phases and restart counts never go back, a start time stays, an ended pod has no running container;
* **counted right**: a restart count is the number of containers that began before, and at most of those that were made: nobody may
  know of one that never began, once the machine has lost it;
* **back-off**: the third container of a name and those after it wait for their start;
* **users** of a pod's own are nobody else's, and the same as long as it lives;
* **volumes** are not taken from under a container;
* **in the end** the node is ready, and the API, the runtime and the disk tell of the same pods, and static pods have their mirrors.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import Any

import orjson

from bamikube.nodeagent import labels
from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.runtime.port import Container, IdMap
from bamikube.store.port import Store
from tests.simulation.machine import Machine

JSON = dict[str, Any]
ORDER = ("Pending", "Running", "Succeeded", "Failed")
SLACK = 0.5  # seconds that clocks of whole seconds may be wrong by


def owner(container: Container) -> str:
    return container.labels[labels.POD_UID]


class NodeWitness:
    """Sees what the runtime does and what the store holds, not what an agent says. ``problems`` is what did not hold."""

    def __init__(self, machine: Machine, store: Store) -> None:
        self._machine, self._store = machine, store
        self.problems: list[str] = []
        self.pods: dict[str, JSON] = {}  # by uid, as they were last stored
        self.statics: dict[str, JSON] = {}  # by uid: what the manifests of the moment describe
        self.lapsed: set[str] = (
            set()
        )  # uids of manifests that were removed once: a mirror may show the pod that came of the next
        self.unmirrored = False  # somebody has deleted a mirror: nobody may remember since when its pod runs
        self.put_out: Callable[[str], bool] = lambda uid: False  # the node itself ends that pod
        self.disturbed: set[str] = set()  # uids of pods that a fault of the machine has met
        self.lives: dict[tuple[str, str], list[Container]] = {}  # by uid and name: all that were ever started
        self.made: dict[tuple[str, str], int] = {}  # how many were made, started or not
        self._users: dict[str, IdMap] = {}  # of those that have their own and are there
        self.began = 0.0  # when the agent at work did
        self.ready = False  # the node, as it was last stored
        self._keys: dict[str, str] = {}  # of the store -> uid
        self.started: dict[str, str] = {}  # uid of a pod, or of what a mirror shows -> its start time

    def _say(self, text: str) -> None:
        self.problems.append(f"at {self._machine.world.clock.monotonic():.3f}: {text}")

    # -- the runtime -----------------------------------------------------------------------------------------------

    def lends(self, uid: str, users: IdMap | None) -> None:
        """A sandbox or a container begins with these users."""
        if (pod := self.pods.get(uid)) is not None and (users is None) != (
            pod["spec"].get("hostUsers") is not False
        ):
            self._say(f"{uid} asks for users of its own or does not, and gets {users}")
        there = {s.uid for s in self._machine.runtime.sandboxes.values() if s.ready}
        self._users = {pod: lent for pod, lent in self._users.items() if pod in there}
        for other, lent in self._users.items():
            if (other == uid) != (lent == users):
                self._say(f"{uid} gets {users} while {other} has {lent}")
        if users is not None:
            self._users[uid] = users

    def makes(self, uid: str, name: str) -> None:
        self.made[uid, name] = self.made.get((uid, name), 0) + 1

    def lapse(self, uids: Set[str]) -> None:
        """These manifests are gone; what comes of one that is written again has the same uid, and another life unless the old one
        was not noticed to have ended."""
        self.lapsed |= uids

    def forgets(self, uid: str) -> None:
        """Nothing is left of a pod: what comes under the same uid begins from nought."""
        for book in (self.made, self.lives):
            for key in [key for key in book if key[0] == uid]:
                del book[key]

    def starts(self, container: Container) -> None:
        uid, name, runtime = owner(container), container.name, self._machine.runtime
        for other in runtime.containers.values():
            if other.state == "running" and (owner(other), other.name) == (uid, name):
                self._say(f"{name} of {uid} starts while {other.id} runs")
        pod = self.pods.get(uid)
        if pod is not None and facts.terminal(pod):
            self._say(f"{name} of {uid} starts though the pod is {pod['status']['phase']}")
        before = self.lives.setdefault((uid, name), [])
        if before:
            self._again(pod, container, before)
        before.append(container)

    def _again(self, pod: JSON | None, container: Container, before: list[Container]) -> None:
        last = self._machine.runtime.containers.get(before[-1].id)
        if pod is None or last is None or container.name not in {c["name"] for c in facts.containers(pod)}:
            return
        spec = facts.container(pod, container.name) or {}
        if not facts.restarts(facts.restart_policy(pod), last.exit_code) and last.image == spec.get("image"):
            self._say(f"{container.name} of {owner(container)} starts again after {last.exit_code}")
        known = [self._machine.runtime.containers.get(one.id) for one in before[-2:]]
        if len(known) == 2 and all(
            one is not None and one.created_at > self.began and one.sandbox_id == container.sandbox_id
            for one in known
        ):
            waited = self._machine.world.clock.now() - last.finished_at
            if waited < 10.0 - SLACK and last.image == spec.get("image"):
                self._say(f"{container.name} of {owner(container)} waited for {waited:.3f} s only")

    def stops(self, container: Container) -> None:
        """Somebody stops a container that runs: is there a reason?"""
        uid, name = owner(container), container.name
        pod = self.statics.get(uid) or self.pods.get(uid)
        if pod is None or facts.deleted(pod) or facts.terminal(pod) or self.put_out(uid):
            return
        spec = facts.container(pod, name) or {}
        if not (
            uid in self.disturbed
            or container.id in self._machine.sick
            or "postStart" in (spec.get("lifecycle") or {})
            or spec.get("image") != container.image
            or "activeDeadlineSeconds" in pod["spec"]
            or facts.restart_policy(pod) != "Always"
        ):
            self._say(f"{name} of {uid} is stopped for no reason")

    def cleans(self, uid: str) -> None:
        for container in self._machine.runtime.containers.values():
            if owner(container) == uid and container.state == "running":
                self._say(f"volumes of {uid} are taken away while {container.name} runs")

    # -- the store -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        async for batch in self._store.watch(b"/registry/", 1):
            for change in batch:
                key = change.key.decode()
                if key.startswith("/registry/nodes/") and change.value is not None:
                    said = orjson.loads(change.value).get("status", {}).get("conditions") or ()
                    self.ready = any(c["type"] == "Ready" and c["status"] == "True" for c in said)
                if not key.startswith("/registry/pods/"):
                    continue
                if change.value is None:
                    self.pods.pop(self._keys.pop(key, ""), None)
                    continue
                pod = orjson.loads(change.value)
                uid = facts.uid(pod)
                before = self.pods.get(uid)
                if (known := self._keys.get(key, uid)) != uid:
                    self.pods.pop(known, None)
                self._keys[key], self.pods[uid] = uid, pod
                self._told(pod, (before or {}).get("status") or {}, pod.get("status") or {})

    def _told(self, pod: JSON, before: JSON, status: JSON) -> None:
        name, uid = pod["metadata"]["name"], facts.uid(pod)
        shown = (pod["metadata"].get("annotations") or {}).get(facts.MIRROR, uid)
        if shown in self.lapsed:
            return
        was, phase = before.get("phase", "Pending"), status.get("phase", "Pending")
        again = shown in self.disturbed and (was, phase) == ("Running", "Pending")  # init containers run anew
        if (was in ("Succeeded", "Failed") and phase != was) or (
            ORDER.index(phase) < ORDER.index(was) and not again
        ):
            self._say(f"{name} was {was} and is {phase}")
        start = status.get("startTime")
        if (
            start
            and self.started.setdefault(shown, start) != start
            and not (facts.mirror(pod) and self.unmirrored)
        ):
            self._say(f"{name} began at {self.started[shown]}, and now says {start}")
        for field in ("initContainerStatuses", "containerStatuses"):
            old = {item["name"]: item for item in before.get(field) or ()}
            for item in status.get(field) or ():
                if "running" in item["state"] and phase in ("Succeeded", "Failed"):
                    self._say(f"{name} is {phase} and {item['name']} runs")
                last = old.get(item["name"], item)
                if item["restartCount"] < last["restartCount"] and field == "containerStatuses":
                    self._say(
                        f"{name}: {item['name']} started {last['restartCount']} times, now {item['restartCount']}"
                    )
        conditions = {c["type"]: c for c in before.get("conditions") or ()}
        for condition in status.get("conditions") or ():
            last = conditions.get(condition["type"], condition)
            if (condition.get("lastTransitionTime") or "") < (last.get("lastTransitionTime") or ""):
                self._say(f"{name}: {condition['type']} turned before it turned before")

    # -- the end ---------------------------------------------------------------------------------------------------

    def unsettled(self) -> list[str]:
        """Why the node has not come to rest; empty when it has."""
        reasons, runtime, host = [], self._machine.runtime, self._machine.host
        if not self.ready:
            reasons.append("the node is not ready")
        mirrors = {
            p["metadata"]["annotations"][facts.MIRROR]: p for p in self.pods.values() if facts.mirror(p)
        }
        own = {uid: pod for uid, pod in self.pods.items() if not facts.mirror(pod)}
        if mirrors.keys() != self.statics.keys():
            reasons.append(f"mirrors of {sorted(mirrors)}, manifests of {sorted(self.statics)}")
        shown = own | {uid: pod for uid, pod in mirrors.items() if uid in self.statics}
        for what, there in (
            ("sandboxes", {s.uid for s in runtime.sandboxes.values()}),
            ("containers", {owner(c) for c in runtime.containers.values()}),
            ("folders", set(host.prepared)),
            ("volumes", {uid for uid, _ in host.volumes}),
        ):
            if left := there - shown.keys():
                reasons.append(f"{what} are left of {sorted(left)}")
        for uid, pod in shown.items():
            reasons += [f"{pod['metadata']['name']} ({uid}): {why}" for why in self._unlike(uid, pod)]
        return reasons

    def _unlike(self, uid: str, pod: JSON) -> list[str]:
        """How the status of a pod differs from what there is."""
        status, reasons = pod.get("status") or {}, []
        mine = [c for c in self._machine.runtime.containers.values() if owner(c) == uid]
        running = {c.name: c for c in mine if c.state == "running"}
        if facts.deleted(pod):
            return ["it is still there"]
        if facts.terminal(pod):
            ready = any(s.ready and s.uid == uid for s in self._machine.runtime.sandboxes.values())
            return ["it has ended, its sandbox has not"] if ready or running else []
        told = {
            item["name"]: item
            for field in ("initContainerStatuses", "containerStatuses")
            for item in status.get(field) or ()
        }
        held = False  # by an init container that fails
        for spec in facts.all_containers(pod):
            name, item = spec["name"], told.get(spec["name"])
            began = len(self.lives.get((uid, name), ()))
            held = held or (
                spec in facts.init_containers(pod) and spec["args"][0] == "exit" and spec["args"][2] != "0"
            )
            if item is None:
                reasons.append(f"nothing is told of {name}")
            elif (name in running) != ("running" in item["state"]):
                reasons.append(
                    f"{name} is told to be {item['state']}, of those running are {sorted(running)}"
                )
            elif name in running and not item["containerID"].endswith("/" + running[name].id):
                reasons.append(f"{item['containerID']} is told of, {running[name].id} runs")
            elif name not in running and not held and spec["args"][0] != "exit" and not _for_good(pod, item):
                reasons.append(f"{name} does not run: {item['state']}")
            elif name in running and not began <= item["restartCount"] + 1 <= self.made[uid, name]:
                reasons.append(
                    f"{name} began {began} and was made {self.made[uid, name]} times, told is {item['restartCount']}"
                )
        return reasons


def _for_good(pod: JSON, item: JSON) -> bool:
    """Whether a container has ended, if only by a fault of the machine, and its pod's policy has it not start again."""
    ended = item["state"].get("terminated") or (item.get("lastState") or {}).get("terminated") or {}
    code = ended.get("exitCode")
    return code is not None and not facts.restarts(facts.restart_policy(pod), code)
