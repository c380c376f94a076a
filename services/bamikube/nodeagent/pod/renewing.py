"""What ends a container that runs: another image, a failed probe, resources that need a new start. Pure.

The restart rules of :mod:`plan` do the rest.
"""

from __future__ import annotations

from bamikube.nodeagent import labels
from bamikube.nodeagent.pod import facts, resizing
from bamikube.nodeagent.pod.decision import Decision
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.runtime.port import Container, Sandbox


def renew(d: Decision, sandbox: Sandbox) -> None:
    """A container whose image was changed in the pod starts anew, whatever the policy."""
    for spec in resizing.resizable(d.pod):
        latest = d.state.latest(spec["name"])
        if latest is None or latest.state != "running" or latest.sandbox_id != sandbox.id:
            continue
        if changed(spec, latest):
            name = latest.name
            text = f"Container {name} definition changed, will be restarted"
            if facts.is_sidecar(spec):
                text = f"Init container {name} definition changed"
            d.stop(latest, "Killing", text, facts.grace(d.pod), again=True)


def changed(spec: JSON, container: Container) -> bool:
    """Whether the spec names another image than the container was made of."""
    made = container.annotations.get(labels.CONTAINER_HASH)
    return made is not None and made != facts.fingerprint(spec)


def judge_probes(d: Decision, sandbox: Sandbox) -> None:
    """A container that failed its liveness or startup probe is stopped; the restart rules do the rest."""
    for container in d.state.running():
        verdict = d.memory.probes.get(container.id)
        if container.sandbox_id != sandbox.id or verdict is None:
            continue
        spec = facts.container(d.pod, container.name) or {}
        for failed, probe in (
            (verdict.started is False and verdict.why, "startup"),
            (verdict.alive is False, "liveness"),
        ):
            if failed:
                grace = (spec.get(f"{probe}Probe") or {}).get("terminationGracePeriodSeconds")
                seconds = facts.grace(d.pod) if grace is None else float(grace)
                d.stop(container, "Killing", _failed(d.pod, spec, probe), seconds)
                break


def _failed(pod: JSON, spec: JSON, probe: str) -> str:
    """The event's words: whether a container starts anew is said of regular ones only."""
    if facts.is_sidecar(spec):
        return f"Init container {spec['name']} failed {probe} probe"
    again = "" if facts.restart_policy(pod) == "Never" else ", will be restarted"
    return f"Container {spec['name']} failed {probe} probe{again}"


def resize(d: Decision, sandbox: Sandbox) -> None:
    """Give running containers what they have been promised since they started; some policies ask for a new start."""
    for spec in resizing.resizable(d.pod):
        name, latest = spec["name"], d.state.latest(spec["name"])
        if latest is None or latest.state != "running" or latest.sandbox_id != sandbox.id:
            continue
        given = d.memory.given.get(latest.id)
        if given is None or resizing.same(given, spec.get("resources") or {}):
            continue
        if resizing.restarts(spec, given):
            text = f"Container {name} resize requires restart"
            d.stop(latest, "Killing", text, facts.grace(d.pod), again=True)
        elif d.memory.resizing is not None and d.memory.resizing.until > d.now:
            d.wake(d.memory.resizing.until)
        else:
            text = f"Container {name} was promised other resources"
            d.add("ResizeContainer", name=name, id=latest.id, reason="Resize", message=text)
