"""What the flags about a node's resources and its end mean, as values. All raise ValueError naming the flag."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from pathlib import Path

from bamikube.kit.options import flag
from bamikube.kit.world import World
from bamikube.nodeagent import durations
from bamikube.nodeagent.cpus import choice, policy, pool
from bamikube.nodeagent.eviction import thresholds
from bamikube.nodeagent.eviction.loop import Policy
from bamikube.nodeagent.images import collector
from bamikube.nodeagent.node import reservations
from bamikube.nodeagent.node.facts import Machine
from bamikube.nodeagent.node.log_rotation import Limits
from bamikube.nodeagent.numa import memory, nodes, topology
from bamikube.nodeagent.numa import reserved as numa_reserved
from bamikube.nodeagent.numa.managers import Managers
from bamikube.nodeagent.options import NodeAgentOptions
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.pod.kernel import Kernel
from bamikube.nodeagent.pod.state import BACKOFF_CAP
from bamikube.nodeagent.quantity import number
from bamikube.nodeagent.server import auth
from bamikube.nodeagent.shutdown import plan as shutdown
from bamikube.nodeagent.sources.files import ManifestFiles
from bamikube.nodeagent.sources.joined import Joined
from bamikube.nodeagent.sources.urls import ManifestUrl, headers
from bamikube.nodeagent.users import delegated, ranges
from bamikube.nodeagent.users.ranges import Ranges


def duration(options: NodeAgentOptions, field: str, *, positive: bool = False) -> float:
    """The seconds that a flag says."""
    try:
        found = durations.seconds(getattr(options, field))
        if positive and found <= 0:
            raise ValueError("has to be longer than 0s")
    except ValueError as error:
        raise ValueError(f"{flag(field)}: {error}") from error
    return found


def status_frequencies(options: NodeAgentOptions) -> tuple[float, float]:
    """How often the machine is looked at, and how often its status is written if nothing has changed, in seconds. Who says only the
    first means both."""
    looking = duration(options, "node_status_update_frequency", positive=True)
    if options.node_status_report_frequency:
        return looking, duration(options, "node_status_report_frequency", positive=True)
    return looking, looking if "node_status_update_frequency" in options.model_fields_set else 300.0


def node_ips(given: list[str]) -> tuple[str, ...]:
    """``--node-ip``: one address, or one of each family, the primary one first. 0.0.0.0 and :: stand for the machine's own address of
    that family."""
    try:
        found = [ipaddress.ip_address(text) for text in given]
    except ValueError as error:
        raise ValueError(f"--node-ip: could not parse {error}") from error
    if len(found) > 2 or (len(found) == 2 and found[0].version == found[1].version):
        raise ValueError("--node-ip: must contain either a single IP or a dual-stack pair of IPs")
    if len(found) == 2 and any(one.is_unspecified for one in found):
        raise ValueError("--node-ip: dual-stack node IP cannot include '0.0.0.0' or '::'")
    for one in found:
        if one.is_multicast:
            raise ValueError(f"--node-ip {one}: nodeIP can't be multicast address")
    return tuple(str(one) for one in found)


def node_name(override: str, hostname: str) -> str:
    """What the node is called: ``--hostname-override``, or the machine's whole name."""
    found = (override or hostname).strip().lower()
    if not found:
        raise ValueError("--hostname-override: empty hostname is invalid")
    return found


def certificates(options: NodeAgentOptions) -> Path:
    """Where certificates lie that the node agent makes, or asks for, itself."""
    return Path(options.cert_dir or f"{options.root_dir}/pki")


def image_policy(options: NodeAgentOptions) -> collector.Policy:
    """When images are removed."""
    low, high = options.image_gc_low_threshold, options.image_gc_high_threshold
    if low >= high:
        raise ValueError(f"--image-gc-low-threshold {low} must be less than --image-gc-high-threshold {high}")
    ages = [duration(options, field) for field in ("minimum_image_ttl_duration", "image_maximum_gc_age")]
    if 0 < ages[1] <= ages[0]:
        raise ValueError(
            f"--image-maximum-gc-age {options.image_maximum_gc_age} must be greater than "
            f"--minimum-image-ttl-duration {options.minimum_image_ttl_duration}"
        )
    return collector.Policy(high, low, ages[0], ages[1], options.pod_infra_container_image)


def most_pods(options: NodeAgentOptions, machine: Machine) -> int:
    """How many pods the node takes."""
    most = options.max_pods
    return min(most, options.pods_per_core * machine.cpus) if options.pods_per_core else most


def user_ranges(options: NodeAgentOptions, most: int) -> Ranges:
    """The ids of the machine that pods may have for users of their own."""
    length = options.user_namespaces_ids_per_pod
    try:
        first, size = delegated.ids(length)
        ranges.check(first, size, length, most)
    except ValueError as error:
        raise ValueError(f"create user namespace manager: {error}") from error
    return Ranges(first, size, length)


def kernel(options: NodeAgentOptions, machine: Machine) -> Kernel:
    """How containers are held to their resources."""
    field = "cpu_cfs_quota_period"
    period = duration(options, field)
    if not 0.001 <= period <= 1:
        raise ValueError(
            f"invalid configuration: cpuCFSQuotaPeriod ({flag(field)}) {options.cpu_cfs_quota_period} "
            "must be between 1ms and 1sec, inclusive"
        )
    single = options.single_process_oom_kill
    if single is False and not machine.cgroups_v2:
        raise ValueError(
            "invalid configuration: singleProcessOOMKill must not be explicitly set to false when using cgroup v1"
        )
    return Kernel(
        memory=machine.memory,
        swap=machine.swap,
        v2=machine.cgroups_v2,
        bounds_swap=machine.bounds_swap,
        limited_swap=options.memory_swap_behavior == "LimitedSwap",
        single_kill=not machine.cgroups_v2 if single is None else single,
        huge_pages=tuple(size for size, _ in machine.huge_pages),
        quotas=options.cpu_cfs_quota,
        period=round(period * 1_000_000),
    )


def restart_max(options: NodeAgentOptions) -> float:
    """The longest wait before a restart, in seconds."""
    field = "crash_loop_back_off_max_container_restart_period"
    found = duration(options, field)
    if not 1.0 <= found <= BACKOFF_CAP:
        raise ValueError(
            f"invalid configuration: crashLoopBackOff.maxContainerRestartPeriod ({flag(field)}) "
            f"(got: {durations.go(found)}) must be set between 1s and {durations.go(BACKOFF_CAP)}"
        )
    return found


def log_limits(options: NodeAgentOptions) -> Limits:
    """When logs are rotated, and how."""
    try:
        size = int(number(options.container_log_max_size))
    except ValueError as error:
        raise ValueError(
            f"--container-log-max-size {options.container_log_max_size}: {error}; give for example 10Mi"
        ) from error
    period = duration(options, "container_log_monitor_interval")
    if period < 3:
        raise ValueError(
            "invalid configuration: containerLogMonitorInterval must be a positive time duration greater than or equal to 3s"
        )
    return Limits(size, options.container_log_max_files, period, options.container_log_max_workers)


def who_may(options: NodeAgentOptions) -> auth.Policy:
    """Who is let in to the node's API."""
    return auth.Policy(
        anonymous=options.anonymous_auth,
        tokens=options.authentication_token_webhook,
        everything=options.authorization_mode == "AlwaysAllow",
        token_ttl=duration(options, "authentication_token_webhook_cache_ttl"),
        allowed_ttl=duration(options, "authorization_webhook_cache_authorized_ttl"),
        denied_ttl=duration(options, "authorization_webhook_cache_unauthorized_ttl"),
    )


def eviction_policy(options: NodeAgentOptions) -> Policy:
    """What the flags say about eviction."""
    kept = thresholds.DEFAULT_HARD if options.merge_default_eviction_settings else {}
    transition = duration(options, "eviction_pressure_transition_period")
    found = thresholds.parse(
        {**kept, **options.eviction_hard},
        options.eviction_soft,
        options.eviction_soft_grace_period,
        options.eviction_minimum_reclaim,
        enforced="pods" in options.enforce_node_allocatable,
    )
    return Policy(found, transition, float(options.eviction_max_pod_grace_period))


def shutdown_periods(options: NodeAgentOptions) -> tuple[shutdown.Period, ...]:
    """What the flags say about a shutdown of the machine."""
    whole, critical = (
        duration(options, field) for field in ("shutdown_grace_period", "shutdown_grace_period_critical_pods")
    )
    return shutdown.periods(whole, critical, options.shutdown_grace_period_by_pod_priority)


def reserved(
    options: NodeAgentOptions, limits: tuple[thresholds.Threshold, ...], machine: Machine
) -> reservations.Reservation:
    """What the flags keep from pods."""
    return reservations.reserve(
        reservations.parse("--kube-reserved", options.kube_reserved),
        reservations.parse("--system-reserved", options.system_reserved),
        reservations.processors("--reserved-cpus", options.reserved_cpus),
        limits,
        options.enforce_node_allocatable,
        machine,
        {"kube": options.kube_reserved_cgroup, "system": options.system_reserved_cgroup},
    )


def resource_managers(options: NodeAgentOptions, given: reservations.Reservation, root: Path) -> Managers:
    """What pods are given of the machine's processors, memory and topology."""
    chosen = topology.topology(
        options.topology_manager_policy,
        options.topology_manager_scope,
        options.topology_manager_policy_options,
        nodes.nodes,
    )
    return Managers(cpu_pool(options, given, root), memory_book(options, given, root), chosen)


def memory_book(
    options: NodeAgentOptions, given: reservations.Reservation, root: Path
) -> memory.MemoryBook | None:
    """The memory that pods may have of NUMA nodes; None with policy ``None``, when it is the kernel's choice."""
    parts = numa_reserved.parse(options.reserved_memory)
    if options.memory_manager_policy == "None":
        memory.nobody(root)
        return None
    kept = dict(given.system)
    for name, amount in given.eviction.items():
        kept[name] = kept[name].add(amount) if name in kept else amount
    there = nodes.nodes()
    book = memory.MemoryBook(there, numa_reserved.of_nodes(there, parts, kept), root / memory.STATE)
    book.load()
    return book


def cpu_pool(options: NodeAgentOptions, given: reservations.Reservation, root: Path) -> pool.CpuPool | None:
    """The processors that pods may have for themselves; None with policy ``none``, when no pod has."""
    given_options = policy.options(options.cpu_manager_policy, options.cpu_manager_policy_options)
    if options.cpu_manager_policy == "none":
        pool.nobody(root)
        return None
    machine = choice.machine()
    policy.check(given_options, machine, options.topology_manager_policy)
    named = reservations.processors("--reserved-cpus", options.reserved_cpus)
    amount = given.system.get("cpu")
    return pool.static(machine, named, amount.milli_value() / 1000 if amount else 0, given_options, root)


def reconcile_period(options: NodeAgentOptions) -> float:
    """How often containers are moved to the processors that are theirs, in seconds."""
    return duration(options, "cpu_manager_reconcile_period", positive=True)


def sources(
    options: NodeAgentOptions, world: World, node: str, keep: Callable[[list[JSON], bool], None]
) -> list[ManifestFiles | ManifestUrl]:
    """Where static pods come from, as the flags say; ``keep`` is called with all of them."""
    path, url = options.pod_manifest_path, options.manifest_url
    joined = Joined(tuple(filter(None, (path, url))), keep)
    found: list[ManifestFiles | ManifestUrl] = []
    if path:
        found.append(ManifestFiles(world, path, node, joined.take(path)))
    if url:
        every = duration(options, "http_check_frequency")
        sent = headers(options.manifest_url_header)
        found.append(ManifestUrl(world, url, sent, node, every or 20.0, joined.take(url)))
    return found
