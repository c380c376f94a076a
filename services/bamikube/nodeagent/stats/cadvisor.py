"""``/metrics/cadvisor``: every cgroup in the names dashboards use, and the machine. Pure.

A sample has the labels ``container id image name namespace pod``, empty where they make no sense: a pod's own cgroup has
no container, the node's has the id ``/`` and nothing else. Networks are told of once a pod, at its sandbox.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from bamikube.nodeagent.stats.disks import Disk, Taken
from bamikube.nodeagent.stats.exposition import Exposition, Labels
from bamikube.nodeagent.stats.groups import DeviceUse, Figures
from bamikube.nodeagent.stats.network import Interface
from bamikube.nodeagent.stats.sampler import NODE, Files, Sample
from bamikube.nodeagent.stats.subjects import Subject

PAUSE = "pause"


@dataclass(frozen=True, slots=True)
class Processor:
    """The machine, as far as its metrics name it."""

    cpus: int
    memory: int
    swap: int
    machine_id: str
    system_uuid: str
    boot_id: str
    kernel: str
    os_image: str


# name, type, help, how it follows from the figures
_FIGURES = (
    ("container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed in seconds.", lambda f: f.cpu / 1e9),
    ("container_cpu_user_seconds_total", "counter", "Cumulative user cpu time consumed in seconds.", lambda f: f.user / 1e9),
    ("container_cpu_system_seconds_total", "counter", "Cumulative system cpu time consumed in seconds.", lambda f: f.system / 1e9),
    ("container_memory_usage_bytes", "gauge", "Current memory usage in bytes, including all memory regardless of when it was accessed", lambda f: f.memory),
    ("container_memory_working_set_bytes", "gauge", "Current working set in bytes.", lambda f: f.working_set),
    ("container_memory_rss", "gauge", "Size of RSS in bytes.", lambda f: f.rss),
    ("container_memory_cache", "gauge", "Number of bytes of page cache memory.", lambda f: f.cache),
    ("container_memory_mapped_file", "gauge", "Size of memory mapped files in bytes.", lambda f: f.mapped),
    ("container_memory_swap", "gauge", "Container swap usage in bytes.", lambda f: f.swap),
    ("container_memory_kernel_usage", "gauge", "Size of kernel memory allocated in bytes.", lambda f: f.kernel),
    ("container_memory_max_usage_bytes", "gauge", "Maximum memory usage recorded in bytes", lambda f: f.peak),
    ("container_memory_failcnt", "counter", "Number of memory usage hits limits", lambda f: f.failures),
    ("container_oom_events_total", "counter", "Count of out of memory events observed for the container", lambda f: f.oom_kills),
    ("container_processes", "gauge", "Number of processes running inside the container.", lambda f: len(f.processes)),
    ("container_file_descriptors", "gauge", "Number of open file descriptors for the container.", lambda f: f.descriptors),
    ("container_sockets", "gauge", "Number of open sockets for the container.", lambda f: f.sockets),
    ("container_threads", "gauge", "Number of threads running inside the container", lambda f: f.threads),
    ("container_threads_max", "gauge", "Maximum number of threads allowed inside the container, infinity if value is zero", lambda f: f.threads_max),
    ("container_spec_cpu_period", "gauge", "CPU period of the container.", lambda f: f.period),
    ("container_spec_cpu_shares", "gauge", "CPU share of the container.", lambda f: f.shares),
    ("container_spec_memory_limit_bytes", "gauge", "Memory limit for the container.", lambda f: f.limit),
    ("container_spec_memory_reservation_limit_bytes", "gauge", "Memory reservation limit for the container.", lambda f: f.reservation),
    ("container_spec_memory_swap_limit_bytes", "gauge", "Memory swap limit for the container.", lambda f: f.swap_limit),
)  # fmt: skip
_LIMITED = (
    ("container_spec_cpu_quota", "gauge", "CPU quota of the container.", lambda f: f.quota),
    ("container_cpu_cfs_periods_total", "counter", "Number of elapsed enforcement period intervals.", lambda f: f.periods),
    ("container_cpu_cfs_throttled_periods_total", "counter", "Number of throttled period intervals.", lambda f: f.throttled),
    ("container_cpu_cfs_throttled_seconds_total", "counter", "Total time duration the container has been throttled.", lambda f: f.throttled_time / 1e9),
)  # fmt: skip
_NETWORK = (
    ("receive_bytes", "bytes received", "rx_bytes"),
    ("receive_packets", "packets received", "rx_packets"),
    ("receive_packets_dropped", "packets dropped while receiving", "rx_dropped"),
    ("receive_errors", "errors encountered while receiving", "rx_errors"),
    ("transmit_bytes", "bytes transmitted", "tx_bytes"),
    ("transmit_packets", "packets transmitted", "tx_packets"),
    ("transmit_packets_dropped", "packets dropped while transmitting", "tx_dropped"),
    ("transmit_errors", "errors encountered while transmitting", "tx_errors"),
)
_DEVICES = (
    ("container_fs_reads_bytes_total", "Cumulative count of bytes read", "read_bytes"),
    ("container_fs_writes_bytes_total", "Cumulative count of bytes written", "written_bytes"),
    ("container_fs_reads_total", "Cumulative count of reads completed", "reads"),
    ("container_fs_writes_total", "Cumulative count of writes completed", "writes"),
)
_STALLS = (
    ("waiting", "some", "Total time duration tasks in the container have waited due to {} congestion."),
    ("stalled", "full", "Total time duration no tasks in the container could make progress due to {} congestion."),
)  # fmt: skip
_CONGESTED = {"cpu": "CPU", "memory": "memory", "io": "IO"}
_FAILURES = (("pgfault", "page_faults"), ("pgmajfault", "major_faults"))


def cadvisor_metrics(sample: Sample, files: Files, machine: Processor) -> bytes:
    """The text of the page."""
    out = Exposition()
    for labels, group, started in _entities(sample):
        figures = sample.figures.get(group)
        if figures is not None and group == NODE:  # its limits are those of the machine
            figures = replace(figures, limit=machine.memory, swap_limit=machine.swap)
        if figures is not None:
            _figures(out, labels, figures, files)
            if started:
                out.add(
                    "container_start_time_seconds", "gauge",
                    "Start time of the container since unix epoch in seconds.", labels, started,
                )  # fmt: skip
    for uid, found in sample.networks.items():
        _network(out, sample, uid, found)
    _disks(out, sample, files)
    _machine(out, machine)
    failed = "1 if there was an error while getting container metrics, 0 otherwise"
    out.add("container_scrape_error", "gauge", failed, {}, float(sample.failed))
    return out.text()


def _labels(group: str, subject: Subject | None = None, container: str = "", image: str = "", name: str = "") -> Labels:  # fmt: skip
    return Labels(
        {
            "container": container,
            "id": group,
            "image": image,
            "name": name,
            "namespace": subject.namespace if subject is not None else "",
            "pod": subject.name if subject is not None else "",
        }
    )


def _entities(sample: Sample) -> Iterator[tuple[Labels, str, float]]:
    """Labels, cgroup and start of everything that has figures."""
    pods = {g for s in sample.subjects for g in s.groups()}
    for group in sample.figures:
        if group not in pods:
            yield _labels(group), group, 0.0
    for subject in sample.subjects:
        yield _labels(subject.group, subject), subject.group, subject.started
        yield _sandbox(subject), subject.sandbox_group, subject.started
        for member in subject.members:
            one = member.container
            labels = _labels(member.group, subject, one.name, one.image, one.id)
            yield labels, member.group, one.started_at or one.created_at


def _sandbox(subject: Subject) -> Labels:
    return _labels(subject.sandbox_group, subject, image=PAUSE, name=subject.sandbox)


def _figures(out: Exposition, labels: Labels, figures: Figures, files: Files) -> None:
    at = figures.time
    for name, kind, text, value in _FIGURES:
        more = labels.and_(cpu="total") if name == "container_cpu_usage_seconds_total" else labels
        stamped = None if "_spec_" in name else at
        out.add(name, kind, text, more, value(figures), stamped)
    if figures.quota:
        for name, kind, text, value in _LIMITED:
            out.add(name, kind, text, labels, value(figures), None if "_spec_" in name else at)
    _block_devices(out, labels, figures, files)
    if figures.open_files is not None:
        more = labels.and_(ulimit="max_open_files")
        text = "Soft ulimit values for the container root process. Unlimited if -1, except priority and nice"
        out.add("container_ulimits_soft", "gauge", text, more, figures.open_files, at)
    for pressure in figures.pressure:
        for word, field, text in _STALLS:
            name = f"container_pressure_{pressure.kind}_{word}_seconds_total"
            seconds = getattr(pressure, field).total / 1e6
            out.add(name, "counter", text.format(_CONGESTED[pressure.kind]), labels, seconds, at)
    for failure, field in _FAILURES:
        more = labels.and_(failure_type=failure, scope="hierarchy")
        text = "Cumulative count of memory allocation failures."
        out.add("container_memory_failures_total", "counter", text, more, getattr(figures, field), at)
    seen = "Last time a container was seen by the exporter"
    out.add("container_last_seen", "gauge", seen, labels, int(at), at)


def _block_devices(out: Exposition, labels: Labels, figures: Figures, files: Files) -> None:
    """What was read and written; a container that has not touched a device yet has zeros for that of its files."""
    untouched = (DeviceUse(files.block, 0, 0, 0, 0),) if labels["container"] else ()
    for device in figures.devices or untouched:
        path = files.device_names.get(device.device) or (
            files.devices[1] if not figures.devices else device.device
        )
        more = labels.and_(device=path)
        for name, text, field in _DEVICES:
            out.add(name, "counter", text, more, getattr(device, field), figures.time)
        major, _, minor = device.device.partition(":")
        for operation, value in (("Read", device.read_bytes), ("Write", device.written_bytes)):
            more = labels.and_(device=path, major=major, minor=minor, operation=operation)
            text = "Blkio Device bytes usage"
            out.add("container_blkio_device_usage_total", "counter", text, more, value, figures.time)


def _network(out: Exposition, sample: Sample, uid: str, found: tuple[Interface, ...]) -> None:
    if uid:
        subject = next((s for s in sample.subjects if s.uid == uid), None)
        if subject is None or subject.pod["spec"].get("hostNetwork"):
            return
        labels = _sandbox(subject)
    else:
        labels = _labels(NODE)
    for interface in found:
        one = labels.and_(interface=interface.name)
        for name, text, field in _NETWORK:
            out.add(
                f"container_network_{name}_total", "counter", f"Cumulative count of {text}",
                one, getattr(interface, field), sample.time,
            )  # fmt: skip


def _disks(out: Exposition, sample: Sample, files: Files) -> None:
    def tell(labels: Labels, device: str, disk: Disk, used: Taken) -> None:
        labels = labels.and_(device=device)
        for name, text, value in (
            ("usage_bytes", "Number of bytes that are consumed by the container on this filesystem.", used.bytes),
            ("limit_bytes", "Number of bytes that can be consumed by the container on this filesystem.", disk.capacity),
            ("inodes_total", "Number of Inodes", disk.inodes),
            ("inodes_free", "Number of available Inodes", disk.inodes_free),
        ):  # fmt: skip
            out.add(f"container_fs_{name}", "gauge", text, labels, value, sample.time)

    tell(_labels(NODE), files.devices[0], files.node, Taken(files.node.used))
    if files.images != files.node:
        tell(_labels(NODE), files.devices[1], files.images, Taken(files.images.used))
    for subject in sample.subjects:
        for member in subject.members:
            one = member.container
            layer = files.layers.get(one.id)
            if layer is not None:
                labels = _labels(member.group, subject, one.name, one.image, one.id)
                tell(labels, files.devices[1], files.images, Taken(layer.bytes, layer.inodes))


def _machine(out: Exposition, machine: Processor) -> None:
    who = {
        "boot_id": machine.boot_id,
        "machine_id": machine.machine_id,
        "system_uuid": machine.system_uuid,
    }
    for name, text, value in (
        ("machine_cpu_cores", "Number of logical CPU cores.", machine.cpus),
        ("machine_memory_bytes", "Amount of memory installed on the machine.", machine.memory),
        ("machine_swap_bytes", "Amount of swap memory available on the machine.", machine.swap),
    ):
        out.add(name, "gauge", text, who, value)
    version = {
        "cadvisorRevision": "", "cadvisorVersion": "", "dockerVersion": "",
        "kernelVersion": machine.kernel, "osVersion": machine.os_image,
    }  # fmt: skip
    text = "A metric with a constant '1' value labeled by kernel version, OS version, docker version, cadvisor version & cadvisor revision."
    out.add("cadvisor_version_info", "gauge", text, version, 1)
    out.add("machine_scrape_error", "gauge", "1 if there was an error while getting machine metrics, 0 otherwise.", {}, 0)  # fmt: skip
