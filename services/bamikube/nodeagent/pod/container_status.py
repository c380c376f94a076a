"""One entry of containerStatuses, from what the runtime reports, the plan found out and the API remembers. Pure.

The runtime may have forgotten a container (a reboot, a cleaned disk). Then the API's old entry counts: an end that was
told stays told, and a container that ran is taken as lost, not as never begun: ContainerStatusUnknown, 137.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

from bamikube.kit.clock import rfc3339
from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.pod.state import Memory, RuntimeState
from bamikube.nodeagent.runtime.port import Container

UNKNOWN = "ContainerStatusUnknown"
LOST = "The container could not be located when the pod was deleted.  The container used to be Running"
LOST_AT_END = "The container could not be located when the pod was terminated"
MESSAGES_LIMIT = 12 * 1024  # bytes, of the termination messages of all containers of a pod together
INIT_FORGOTTEN = (
    "Unable to get init container status from container runtime and pod has been initialized, "
    "treat it as exited normally"
)


def remembered(pod: JSON, name: str) -> JSON | None:
    """The entry the API holds for a container."""
    old = pod.get("status") or {}
    for field in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
        for item in old.get(field) or ():
            if item["name"] == name:
                return dict(item)
    return None


def next_attempt(pod: JSON, name: str) -> int:
    """The restart count of the next container where the runtime has none: the API remembers how many there were."""
    item = remembered(pod, name)
    if item is None:
        return 0
    count = int(item.get("restartCount") or 0)
    if not item.get("containerID"):
        last = (item.get("lastState") or {}).get("terminated") or {}
        if last.get("reason") == UNKNOWN and not last.get("containerID"):
            return count  # was counted when it was found to be lost
        return count + 1 if count else 0
    return count + 1


def lost_at_end() -> JSON:
    """How a container is said to have ended of which nobody knows better."""
    return {"terminated": {"exitCode": 137, "reason": UNKNOWN, "message": LOST_AT_END} | _never()}


def _never() -> JSON:
    return {"startedAt": None, "finishedAt": None}


def _mounted(mount: JSON, deep: bool) -> JSON:
    """A volumeMount as the status tells it; ``deep``: what is mounted below can be made read-only, too."""
    result: JSON = {"name": mount["name"], "mountPath": mount["mountPath"]}
    if mount.get("readOnly"):
        asked = mount.get("recursiveReadOnly") in ("Enabled", "IfPossible")
        result |= {"readOnly": True, "recursiveReadOnly": "Enabled" if asked and deep else "Disabled"}
    return result


@dataclass(slots=True)
class Writer:
    """Writes the entries of one pod. ``waiting``: why containers cannot be started yet, by the plan."""

    pod: JSON
    state: RuntimeState
    memory: Memory
    now: float
    runtime: str  # its name, as in containerd://id
    deep: bool  # mounts can be made read-only with all that is mounted below them
    waiting: dict[str, tuple[str, str]]
    ending: bool

    def entry(self, spec: JSON, *, init: bool = False, once: bool = False) -> JSON:
        """``init``: of an init container; ``once``: of one that never starts again, whatever the pod's policy."""
        result = self._entry(spec, init=init, once=once)
        if once:  # nobody asks whether it is ready
            result["ready"] = False
            del result["started"]
        return result

    def _entry(self, spec: JSON, *, init: bool, once: bool) -> JSON:
        name = spec["name"]
        history = self.state.history(name)
        sandbox = self.state.newest_sandbox()
        latest = history[0] if history else None
        stale = (
            latest is not None and sandbox is not None and latest.sandbox_id != sandbox.id and not self.ending
        )
        result: JSON = {"name": name, "state": {}, "lastState": {}, "ready": False, "restartCount": 0}
        result["image"] = spec.get("image", "")
        result["imageID"] = ""
        result["started"] = False
        if spec.get("volumeMounts"):
            result["volumeMounts"] = [_mounted(mount, self.deep) for mount in spec["volumeMounts"]]
        # One that was only made (the node agent died before it was started) is no life of the container.
        before = next((c for c in history[1:] if c.state in ("exited", "unknown")), None)
        if latest is None:
            result["state"] = self._waiting(name)
            self._recall(result, spec, init=init, once=once)
            return result
        result["restartCount"] = latest.attempt
        result["image"] = latest.image or spec.get("image", "")
        result["imageID"] = latest.image_ref
        result["containerID"] = f"{self.runtime}://{latest.id}"
        self._promised(result, spec, latest)
        if latest.state == "running" and latest.id in self.memory.hooking:
            result["state"] = self._waiting(name)  # it runs for its pod once its postStart is done
        elif latest.state == "running" and not stale:
            result["state"] = {"running": {"startedAt": rfc3339(latest.started_at)}}
            result["started"] = self._started(spec, latest)
            result["ready"] = self._ready(spec, latest, init, result["started"])
        elif latest.state == "created" and not stale:
            result["state"] = self._waiting(name)
        elif name in self.waiting or (stale and not once and self._starts_anew(latest, init)):
            result["state"] = self._waiting(name)
            before = latest
        else:
            result["state"] = {"terminated": self._terminated(latest)}
            result["ready"] = init and not facts.is_sidecar(spec) and latest.exit_code == 0
        if before is not None and before.state in ("exited", "unknown"):  # ``latest`` may have become it
            result["lastState"] = {"terminated": self._terminated(before)}
        return result

    def _promised(self, result: JSON, spec: JSON, container: Container) -> None:
        """Resources and identity: what the container was promised, or has where the runtime tells."""
        promised = deepcopy(spec.get("resources") or {})
        promised.pop("claims", None)
        given = self.memory.given.get(container.id) if container.state == "running" else None
        result["resources"] = promised if given is None else deepcopy(given)
        if promised.get("requests"):
            result["allocatedResources"] = dict(promised["requests"])
        if container.user is not None:
            groups = list(container.user.groups)
            linux = {"uid": container.user.uid, "gid": container.user.gid}
            result["user"] = {"linux": linux | ({"supplementalGroups": groups} if groups else {})}

    def _starts_anew(self, ended: Container, init: bool) -> bool:
        """Whether a container of an earlier sandbox is to run in the new one."""
        code = 137 if ended.state == "unknown" else ended.exit_code
        return init or ended.state == "created" or facts.restarts(facts.restart_policy(self.pod), code)

    def _recall(self, result: JSON, spec: JSON, *, init: bool, once: bool) -> None:
        """The runtime knows nothing of this container: what the API remembers of its earlier lives."""
        item = remembered(self.pod, result["name"])
        held_back = result["name"] in self.waiting
        if item is not None:
            result["restartCount"] = item.get("restartCount", 0)
            ended = (item.get("state") or {}).get("terminated")
            if ended and held_back:
                result["lastState"] = {"terminated": ended}
            elif ended:
                keys = ("state", "lastState", "ready", "image", "imageID", "containerID")
                result.update({key: item[key] for key in keys if key in item})
            elif item.get("lastState"):
                result["lastState"] = item["lastState"]
            elif (item.get("state") or {}).get("running") and once:
                result["state"] = lost_at_end()
            elif (item.get("state") or {}).get("running") and not held_back:
                lost = {"exitCode": 137, "reason": UNKNOWN, "message": LOST} | _never()
                result["lastState"] = {"terminated": lost}
                result["restartCount"] += not facts.deleted(self.pod)
        if init and not facts.is_sidecar(spec) and "waiting" in result["state"] and self._begun():
            done = {"exitCode": 0, "reason": "Completed", "message": INIT_FORGOTTEN} | _never()
            result["state"], result["ready"] = {"terminated": done}, True

    def _begun(self) -> bool:
        sandbox = self.state.sandbox()
        mains = {c["name"] for c in facts.containers(self.pod)}
        return any(
            c.name in mains and sandbox is not None and c.sandbox_id == sandbox.id
            for c in self.state.containers
        )

    def _waiting(self, name: str) -> JSON:
        reason, message = self.waiting.get(name, ("", ""))
        if not reason and (trouble := self.memory.troubles.get(name)) is not None:
            reason, message = trouble.at(self.now)
        if not reason:
            reason = "PodInitializing" if facts.init_containers(self.pod) else "ContainerCreating"
        return {"waiting": {"reason": reason, "message": message} if message else {"reason": reason}}

    def _terminated(self, container: Container) -> JSON:
        reason = container.reason or ("Completed" if container.exit_code == 0 else "Error")
        message = self.memory.messages.get(container.id) or container.message
        code = container.exit_code
        if container.state == "unknown":
            reason, message, code = UNKNOWN, LOST_AT_END, 137
        result: JSON = {"exitCode": code, "reason": reason}
        if message:
            result["message"] = self._fitting(message)
        # One whose start failed began at no time; the kubelet says 1970 then, and a null is for what nobody knows.
        known = container.state == "exited"
        result["startedAt"] = rfc3339(container.started_at) if container.started_at or known else None
        result["finishedAt"] = rfc3339(container.finished_at) if container.finished_at or known else None
        result["containerID"] = f"{self.runtime}://{container.id}"
        return result

    def _fitting(self, message: str) -> str:
        """What a container may say at its end: all of a pod share one room, each has an equal part of it."""
        everyone = (*facts.all_containers(self.pod), *facts.ephemeral_containers(self.pod))
        part = MESSAGES_LIMIT // max(1, len(everyone))
        return message.encode()[:part].decode("utf-8", "ignore")

    def _started(self, spec: JSON, container: Container) -> bool:
        if container.id in self.memory.hooking:
            return False
        if not spec.get("startupProbe"):
            return True
        verdict = self.memory.probes.get(container.id)
        return verdict is not None and verdict.started is True

    def _ready(self, spec: JSON, container: Container, init: bool, started: bool) -> bool:
        if init and not facts.is_sidecar(spec):
            return False
        if not started:
            return False
        if not spec.get("readinessProbe"):
            return True
        verdict = self.memory.probes.get(container.id)
        return verdict is not None and verdict.ready is True
