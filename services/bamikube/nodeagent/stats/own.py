"""What the node agent's ``/metrics`` and ``/metrics/probes`` tell of how things stand. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from bamikube.nodeagent.node.certificates import UNUSED
from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.pod.worker import PodWorker
from bamikube.nodeagent.stats.exposition import Exposition
from bamikube.nodeagent.stats.sampler import Files
from bamikube.nodeagent.stats.subjects import Subject

_RESULTS = "[BETA] Cumulative number of a liveness, readiness or startup probe for a container by result."
_TOOK = "Duration in seconds for a probe response."


@dataclass(frozen=True, slots=True)
class Standing:
    """How the node agent itself stands: when the runtime was last asked for everything, until when its certificates are
    good (seconds since the epoch), how many mirrors of static pods the API knows, and the version of its cgroups."""

    relisted: float = 0.0
    client_until: float = UNUSED
    server_until: float = UNUSED
    mirrors: int = 0
    cgroups: int = 1


def own_metrics(
    node: str, workers: list[PodWorker], running: list[Subject], files: Files, standing: Standing, now: float
) -> bytes:
    """Gauges; ``now`` in seconds since the epoch."""
    out = Exposition()
    out.add("kubelet_node_name", "gauge", "The node's name. The count is always 1.", {"node": node}, 1)
    text = "Number of pods that have a running pod sandbox"
    out.add("kubelet_running_pods", "gauge", text, {}, len(running))
    text = "Timestamp in seconds when PLEG was last seen active."
    out.add("kubelet_pleg_last_seen_seconds", "gauge", text, {}, standing.relisted)
    for whose, until, ttl, certificate in (
        ("client", standing.client_until, "TTL", "client"),
        ("server", standing.server_until, "shortest TTL", "serving"),
    ):
        text = (
            f"Gauge of the {ttl} (time-to-live) of the Kubelet's {certificate} certificate. The value is in seconds until "
            f"certificate expiry (negative if already expired). If {certificate} certificate is invalid or unused, the value will "
            "be +INF."
        )
        name = f"kubelet_certificate_manager_{whose}_ttl_seconds"
        out.add(name, "gauge", text, {}, until - now if until == UNUSED else int(until - now))
    out.add("kubelet_cgroup_version", "gauge", "cgroup version on the hosts.", {}, standing.cgroups)
    text = "The number of mirror pods the kubelet will try to create (one per admitted static pod)"
    out.add("kubelet_mirror_pods", "gauge", text, {}, standing.mirrors)
    _containers(out, workers)
    _pods(out, workers)
    _files(out, running, files)
    return out.text()


def _containers(out: Exposition, workers: Iterable[PodWorker]) -> None:
    states = Counter({"created": 0, "exited": 0, "running": 0, "unknown": 0})
    states.update(c.state for worker in workers for c in worker.state.containers)
    for state, number in states.items():
        text = "Number of containers currently running"
        out.add("kubelet_running_containers", "gauge", text, {"container_state": state}, number)


def _pods(out: Exposition, workers: list[PodWorker]) -> None:
    active = [w for w in workers if not facts.terminal({"status": w.status}) and not w.absent]
    for static in ("", "true"):
        label = {"static": static}
        text = "The number of pods the kubelet is being instructed to run. static is true if the pod is not from the apiserver."
        desired = [w for w in workers if facts.static(w.pod) is bool(static) and not w.absent]
        out.add("kubelet_desired_pods", "gauge", text, label, len(desired))
        text = (
            "The number of pods the kubelet considers active and which are being considered when admitting new pods. "
            "static is true if the pod is not from the apiserver."
        )
        here = [w for w in active if facts.static(w.pod) is bool(static)]
        out.add("kubelet_active_pods", "gauge", text, label, len(here))
    text = "Current number of ephemeral containers in pods managed by this kubelet."
    guests = sum(len(facts.ephemeral_containers(w.pod)) for w in workers)
    out.add("kubelet_managed_ephemeral_containers", "gauge", text, {}, guests)
    _working(out, workers)
    _resizes(out, active)
    volumes = Counter(
        f"kubernetes.io/{kind}"
        for worker in active
        for volume in worker.pod["spec"].get("volumes") or ()
        for kind in volume
        if kind != "name"
    )
    text = "Number of volumes in Volume Manager"
    for plugin, number in sorted(volumes.items()):
        for state in ("actual_state_of_world", "desired_state_of_world"):
            labels = {"plugin_name": plugin, "state": state}
            out.add("volume_manager_total_volumes", "gauge", text, labels, number)


def _resizes(out: Exposition, active: Iterable[PodWorker]) -> None:
    memories = [worker.memory for worker in active]
    waiting = Counter(memory.resize.reason.lower() for memory in memories if memory.resize is not None)
    for reason, number in sorted(waiting.items()):
        text = "Number of pending resizes for pods."
        out.add("kubelet_pod_pending_resizes", "gauge", text, {"reason": reason}, number)
    under_way = sum(memory.resizing is not None for memory in memories)
    out.add(
        "kubelet_pod_in_progress_resizes", "gauge", "Number of in-progress resizes for pods.", {}, under_way
    )


def _working(out: Exposition, workers: Iterable[PodWorker]) -> None:
    found: Counter[tuple[str, str, str]] = Counter()
    for worker in workers:
        done = facts.terminal({"status": worker.status})
        ending = worker.absent or facts.deleted(worker.pod)
        lifecycle = "terminated" if done else "terminating" if ending else "sync"
        found[
            lifecycle, "orphan" if worker.absent else "desired", "true" if facts.static(worker.pod) else ""
        ] += 1
    text = (
        "Number of pods the kubelet is actually running, broken down by lifecycle phase, whether the pod is desired, orphaned, or "
        "runtime only (also orphaned), and whether the pod is static. An orphaned pod has been removed from local configuration "
        "or force deleted in the API and consumes resources that are not otherwise visible."
    )
    for lifecycle in ("sync", "terminating", "terminated"):
        for config, static in (
            ("desired", ""),
            ("desired", "true"),
            ("orphan", ""),
            ("orphan", "true"),
            ("runtime_only", "unknown"),
        ):
            labels = {"config": config, "lifecycle": lifecycle, "static": static}
            out.add("kubelet_working_pods", "gauge", text, labels, found[lifecycle, config, static])


def _files(out: Exposition, running: Iterable[Subject], files: Files) -> None:
    for subject in running:
        pod = {"uid": subject.uid, "namespace": subject.namespace, "pod": subject.name}
        for member in subject.members:
            name = member.container.name
            if (taken := files.logs.get((subject.uid, name))) is not None:
                text = "Bytes used by the container's logs on the filesystem."
                labels = pod | {"container": name}
                out.add("kubelet_container_log_filesystem_used_bytes", "gauge", text, labels, taken.bytes)
        for volume in subject.pod["spec"].get("volumes") or ():
            claim = volume.get("persistentVolumeClaim")
            found = files.volumes.get((subject.uid, volume["name"]))
            if not claim or found is None:
                continue
            labels = {"namespace": subject.namespace, "persistentvolumeclaim": claim["claimName"]}
            disk = found[0]
            for name, text, value in (
                ("capacity_bytes", "Capacity in bytes of the volume", disk.capacity),
                ("available_bytes", "Number of available bytes in the volume", disk.available),
                ("used_bytes", "Number of used bytes in the volume", disk.used),
                ("inodes", "Maximum number of inodes in the volume", disk.inodes),
                ("inodes_free", "Number of free inodes in the volume", disk.inodes_free),
                ("inodes_used", "Number of used inodes in the volume", disk.inodes_used),
            ):
                out.add(f"kubelet_volume_stats_{name}", "gauge", text, labels, value)


def probe_metrics(workers: Iterable[PodWorker], began: float) -> bytes:
    """How the probes of each container came out, since its pod was first seen; ``began``: the node agent's start."""
    out = Exposition()
    text = "Start time of the process since unix epoch in seconds."
    out.add("process_start_time_seconds", "gauge", text, {}, began)
    for worker in workers:
        meta = worker.pod["metadata"]
        pod = {"namespace": meta["namespace"], "pod": meta["name"], "pod_uid": worker.uid}
        for (container, kind, result), number in worker.probed.items():
            labels = {"container": container, "probe_type": kind, "result": result, **pod}
            out.add("prober_probe_total", "counter", _RESULTS, labels, number)
        del pod["pod_uid"]
        for (container, kind), series in worker.probes_took.items():
            labels = {"container": container, "probe_type": kind, **pod}
            out.histogram("prober_probe_duration_seconds", _TOOK, labels, series)
    return out.text()
