"""What to do next for one pod: the kubelet's decision, as a pure function.

``plan`` looks at the pod, at what the runtime reports and at the worker's memory, and returns the actions to take
now (each with its reason), the status to publish, and the time to look again if nothing happens before. It does
nothing itself, so every rule below can be read in a golden file under ``tests/golden/nodeagent``.

The order of a pod's life::

    volumes -> sandbox -> init containers, one after the other (sidecars stay) -> containers
    deletion or deadline -> containers stop -> sidecars stop, last first -> sandbox stops -> cleanup -> API delete

A container belongs to the *current* sandbox or it is history: after a sandbox was lost everything starts again in
a new one, and only attempts (restart counts) and last states are carried over.
"""

from __future__ import annotations

from bamikube.nodeagent import durations
from bamikube.nodeagent.pod import facts, renewing, status
from bamikube.nodeagent.pod.container_status import next_attempt
from bamikube.nodeagent.pod.decision import Decision, Plan
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.pod.state import Backoff, Memory, RuntimeState
from bamikube.nodeagent.runtime.port import Container, Sandbox


def plan(pod: JSON, state: RuntimeState, memory: Memory, now: float, host: status.HostFacts) -> Plan:
    """The next step for ``pod``. Pure: same input, same plan; ``now`` in seconds since the epoch."""
    d = Decision(pod, state, memory, now, host.restart_max)
    ending = _ending(d)
    if ending is not None:
        _end(d, *ending)
    else:
        _run(d)
    _collect_garbage(d)
    failure = None
    if ending is not None and ending[0] in ("DeadlineExceeded", "Rejected"):
        put_out = memory.rejected
        failure = (put_out.reason, put_out.message) if put_out is not None else ending
    d.wakes.extend(t.settles for t in memory.troubles.values() if t.settles > now)
    return Plan(
        d.actions,
        status.compute(
            pod, state, memory, now, host, waiting=d.waiting, ending=ending is not None, failure=failure
        ),
        min(d.wakes, default=None),
        ending[0] if ending is not None else "",
        d.verdict,
    )


def _ending(d: Decision) -> tuple[str, str] | None:
    """Why the pod has to end, or None if it may run."""
    if facts.deleted(d.pod):
        return "Deleted", "The pod was deleted"
    if d.memory.rejected is not None:
        return "Rejected", d.memory.rejected.message
    if facts.terminal(d.pod):
        return "Terminal", "The pod has already ended"
    limit = d.pod["spec"].get("activeDeadlineSeconds")
    started = facts.start_time(d.pod)
    if limit is not None and started is not None:
        if d.now >= started + limit:
            return "DeadlineExceeded", status.DEADLINE_MESSAGE
        d.wake(started + limit)
    if status.completed(d.pod, d.state, d.memory.renewed):
        return "Completed", "All containers have ended and none is to be restarted"
    return None


# -- ending ----------------------------------------------------------------------------------------------------


def _end(d: Decision, reason: str, message: str) -> None:
    """Stop what runs, then the sandbox, then tidy up.

    All containers are told at once and share one grace: their preStop hooks run side by side, but a sidecar gets its
    signal only after the containers it serves have ended: the regular ones and the sidecars behind it.
    """
    d.verdict = message
    alive = [c for c in d.state.containers if c.state in ("running", "unknown")]
    put_out = d.memory.rejected
    grace = facts.grace(d.pod)
    if put_out is not None and put_out.grace is not None:
        grace = min(grace, put_out.grace)  # also of a pod that is being deleted: it had to hurry
    for container in alive:
        text = f"Stopping container {container.name}"
        d.stop(container, "Killing", text, grace, _before(d.pod, container, alive))
    if alive:
        return
    if d.memory.starting:
        return  # a start is being abandoned; what it left behind is seen when it has ended
    if _networked(d, reason, "No container of the pod runs any more"):
        return
    if not d.memory.cleaned:
        d.add("Cleanup", reason=reason, message="Unmount volumes, remove cgroups")
        if facts.deleted(d.pod):
            return
    if facts.deleted(d.pod):
        d.add("DeletePod", reason=reason, message="Nothing of the pod is left on the node")


def _networked(d: Decision, reason: str, message: str) -> bool:
    """Stop every sandbox, also one that has died by itself, which still has its address; whether there is one yet."""
    there = [s for s in d.state.sandboxes if s.ready or s.id not in d.memory.emptied]
    for sandbox in there:
        if sandbox.id not in d.memory.stopping:
            d.add("StopSandbox", id=sandbox.id, reason=reason, message=message)
    return bool(there)


def _before(pod: JSON, container: Container, alive: list[Container]) -> tuple[str, ...]:
    """The ids of the containers that end before this one."""
    sidecars = [c["name"] for c in facts.init_containers(pod) if facts.is_sidecar(c)]
    if container.name not in sidecars:
        return ()
    earlier = sidecars[: sidecars.index(container.name) + 1]
    return tuple(c.id for c in alive if c.name not in earlier)


# -- running ---------------------------------------------------------------------------------------------------


def _run(d: Decision) -> None:
    sandbox = d.state.sandbox()
    newest = d.state.newest_sandbox()
    if sandbox is None:
        _prepare(d, newest)
        return
    if not d.memory.volumes_ready and not d.memory.starting and _unblocked(d):
        d.add("MountVolumes", reason="Restored", message="The pod runs; its volumes are looked after again")
    for container in d.state.running():
        if container.sandbox_id != sandbox.id:
            d.stop(container, "Killing", f"Stopping container {container.name}", facts.grace(d.pod))
    renewing.renew(d, sandbox)
    renewing.judge_probes(d, sandbox)
    renewing.resize(d, sandbox)
    for spec in facts.ephemeral_containers(
        d.pod
    ):  # before all others: they may be there to look at a failing init
        if status.exit_code(d.pod, d.state, spec["name"]) is None:
            _drive(d, sandbox, spec, False)
    if _initialize(d, sandbox):
        for spec in facts.containers(d.pod):
            code = status.exit_code(d.pod, d.state, spec["name"], d.memory.renewed)
            again = facts.restarts(facts.restart_policy(d.pod), code)
            if code is None or again:  # else it has ended for good, in whichever sandbox
                _drive(d, sandbox, spec, again)
    if not d.verdict:
        d.verdict = "Containers are as wanted" if not d.actions else d.actions[0].message


def _unblocked(d: Decision) -> bool:
    trouble = d.memory.blocked
    if trouble is not None and trouble.until > d.now:
        d.verdict = trouble.message
        d.wake(trouble.until)
        return False
    return True


def _prepare(d: Decision, newest: Sandbox | None) -> None:
    """No usable sandbox: volumes first, then a new one."""
    if newest is not None:
        for container in d.state.running():
            d.stop(container, "Killing", f"Stopping container {container.name}", facts.grace(d.pod))
        if any(c.state == "running" for c in d.state.containers):
            d.verdict = "The old sandbox' containers have to end first"
            return
        if not d.memory.starting and _networked(d, "SandboxChanged", "The sandbox has died"):
            d.verdict = "The old sandbox has to give its address back first"
            return
    if d.memory.starting or not _unblocked(d):
        return
    if not d.memory.volumes_ready:
        d.add("MountVolumes", reason="Volumes", message="Prepare volumes")
    attempt = newest.attempt + 1 if newest is not None else 0
    reason = "SandboxChanged" if newest is not None else "NewPod"
    message = (
        "Pod sandbox changed, it will be killed and re-created."
        if newest is not None
        else "Create the sandbox"
    )
    d.add("CreateSandbox", attempt=attempt, reason=reason, message=message)
    d.verdict = message


def _initialize(d: Decision, sandbox: Sandbox) -> bool:
    """Drive init containers; True when the pod's containers may start.

    The last one that has begun tells how far the pod has come: what stands before it was done once, also where nothing
    remembers it any more. Sidecars among those are started again, but nobody waits for them a second time.
    """
    specs, mains = facts.init_containers(d.pod), {c["name"] for c in facts.containers(d.pod)}
    here = {c.name for c in d.state.containers if c.sandbox_id == sandbox.id}
    begun = bool(mains & here)
    reached = max((index for index, spec in enumerate(specs) if spec["name"] in here), default=0)
    for index, spec in enumerate(specs):
        name, passed = spec["name"], begun or index < reached
        latest = d.state.latest(name)
        own = latest if latest is not None and latest.sandbox_id == sandbox.id else None
        if facts.is_sidecar(spec):
            _drive(d, sandbox, spec, True)
            if not passed and not _sidecar_up(d, spec, own):
                d.verdict = f"Waiting for sidecar {name} to start"
                return False
            continue
        if passed or (own is not None and own.state == "exited" and own.exit_code == 0):
            continue
        policy = "OnFailure" if facts.restart_policy(d.pod) == "Always" else facts.restart_policy(d.pod)
        _drive(d, sandbox, spec, facts.restarts(policy, status.exit_code(d.pod, d.state, name)))
        d.verdict = f"Waiting for init container {name}"
        return False
    return True


def _sidecar_up(d: Decision, spec: JSON, here: Container | None) -> bool:
    if here is None or here.state != "running" or here.id in d.memory.hooking:
        return False
    if not spec.get("startupProbe"):
        return True
    verdict = d.memory.probes.get(here.id)
    return verdict is not None and verdict.started is True


def _drive(d: Decision, sandbox: Sandbox, spec: JSON, restarts: bool) -> None:
    """Bring one container to run, or say what holds it back."""
    name = spec["name"]
    latest = d.state.latest(name)
    here = latest if latest is not None and latest.sandbox_id == sandbox.id else None
    if here is not None and here.state == "running":
        return
    if here is not None and here.state == "created" and d.memory.starting:
        return
    ended = here if here is not None and here.state in ("exited", "unknown") else None
    renewed = ended is not None and ended.id in d.memory.renewed
    if ended is not None and not restarts and not renewed:
        return
    trouble = d.memory.troubles.get(name)
    if trouble is not None and trouble.until > d.now:
        d.waiting[name] = trouble.at(d.now)
        d.wake(trouble.until)
        return
    if latest is not None:
        attempt = latest.attempt + 1
    else:  # where the runtime has forgotten, the API and the logs on the disk have not
        attempt = max(next_attempt(d.pod, name), d.memory.logged.get(name, -1) + 1)
    backoff = None
    if ended is not None and not renewed:
        at = ended.finished_at or ended.created_at
        known = None if renewing.changed(spec, ended) else d.memory.backoffs.get(name)
        if known is not None and not known.expired(at) and d.now < at + known.period:
            d.waiting[name] = _backing_off(d, name, known)
            d.wake(at + known.period)
            return
        backoff = known.next(at, d.restart_max) if known is not None else Backoff.first(at, d.restart_max)
    if d.memory.starting:
        if trouble is not None:
            d.waiting[name] = trouble.at(d.now)
        return
    if trouble is not None:
        d.waiting[name] = trouble.at(d.now)
    d.add(
        "StartContainer",
        name=name,
        attempt=attempt,
        backoff=backoff,
        reason="Restart" if ended is not None else "Start",
        message=f"Container {name} ended with {ended.exit_code}"
        if ended is not None
        else f"Container {name} is wanted",
    )


def _backing_off(d: Decision, name: str, known: Backoff) -> tuple[str, str]:
    """Why a container waits for its restart: for a moment what its start failed of, then the back-off."""
    trouble = d.memory.troubles.get(name)
    if trouble is not None and trouble.settles > d.now:
        return trouble.at(d.now)
    text = f"back-off {durations.go(known.period)} restarting failed container={name} pod={facts.full_name(d.pod)}"
    return "CrashLoopBackOff", text


def _collect_garbage(d: Decision) -> None:
    """Keep one dead container per name (its log is ``logs --previous``) and no dead sandbox but the newest.

    Of a pod that was evicted none is kept: it had to go because it took too much. Of one that has ended none is kept
    once the disk is short.
    """
    newest = d.state.newest_sandbox()
    spare = facts.evicted(d.pod) or (facts.terminal(d.pod) and not d.memory.keep_dead)
    most = 0 if spare else 1
    kept: set[str] = set()
    for name in {c.name for c in d.state.containers}:
        history = d.state.history(name)
        dead = [c for c in history if c.state == "exited"]
        gone = dead[most:] + [c for c in history[1:] if c.state == "created"]  # those never ran
        kept.update(c.id for c in history if c not in gone)
        text = "Only one dead container is kept" if most else "No dead container of the pod is kept"
        for old in gone:
            d.add("RemoveContainer", name=name, id=old.id, reason="Old", message=text)
    for sandbox in d.state.sandboxes:
        if sandbox is newest or sandbox.id in d.memory.stopping:
            continue
        if sandbox.ready:
            d.add("StopSandbox", id=sandbox.id, reason="Superseded", message="A newer sandbox exists")
        elif not any(c.sandbox_id == sandbox.id and c.id in kept for c in d.state.containers):
            d.add("RemoveSandbox", id=sandbox.id, reason="Old", message="The sandbox is dead and empty")
