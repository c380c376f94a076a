"""The node agent's flags; names and meanings are the kubelet's where it has the flag.

Most of them may stand in a KubeletConfiguration as well (:mod:`bamikube.nodeagent.configuration`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator

from bamikube.kit.options import Options
from bamikube.nodeagent.configuration import load
from bamikube.nodeagent.eviction import thresholds

log = logging.getLogger(__name__)


class NodeAgentOptions(Options):
    """Flags of ``bamikube-nodeagent``."""

    healthz_port: int = Field(10248, ge=0, le=65535, description="port of the health server; 0 turns it off")
    kubeconfig: str = Field(
        "/etc/kubernetes/kubelet.conf", description="how to reach the API server, and as whom"
    )
    config_dir: str = Field(
        "", description="folder of *.conf files, each a KubeletConfiguration laid over that of --config"
    )
    node_ip: list[str] = Field(
        default_factory=list, description="the node's addresses, the primary one first"
    )
    hostname_override: str = Field("", description="the node's name; default: the machine's host name")
    address: str = Field("0.0.0.0", description="address the node's HTTPS API listens on")
    port: int = Field(10250, ge=1, le=65535, description="port of the node's HTTPS API")
    tls_cert_file: str = Field(
        "",
        description="certificate of the HTTPS API (PEM); without one and a key the node agent makes both itself",
    )
    cert_dir: str = Field("", description="where it puts them; default: pki below --root-dir")
    tls_private_key_file: str = Field("", description="key of the HTTPS API (PEM)")
    rotate_certificates: bool = Field(
        False,
        description="ask the cluster for a new certificate to be known by, before the old one's time is over",
    )
    rotate_server_certificates: bool = Field(
        False, description="ask the cluster for the certificate of the HTTPS API; somebody has to approve it"
    )
    tls_min_version: Literal["", "VersionTLS12", "VersionTLS13"] = Field(
        "", description="the oldest version of TLS spoken there: VersionTLS12 (as without it) or VersionTLS13"
    )
    tls_cipher_suites: list[str] = Field(
        default_factory=list,
        description="what TLS 1.2 is spoken with, by Go's names; those of TLS 1.3 cannot be chosen",
    )
    enable_server: bool = Field(True, description="serve the node's API")
    read_only_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="port on which everybody may read pods and figures, without TLS; 0: none",
    )
    enable_debugging_handlers: bool = Field(
        True, description="let the node's API look into pods: logs, exec, attach, port-forward, run"
    )
    enable_system_log_handler: bool = Field(True, description="serve the files of --log-dir as /logs")
    enable_profiling_handler: bool = Field(
        False, description="serve /debug/pprof: tasks, and where the time goes"
    )
    enable_debug_flags_handler: bool = Field(
        False, description="let PUT /debug/flags/v set the verbosity of the log"
    )
    anonymous_auth: bool = Field(False, description="let in who does not say who it is, as system:anonymous")
    authentication_token_webhook: bool = Field(True, description="ask the API server whose a token is")
    authentication_token_webhook_cache_ttl: str = Field("2m", description="how long its answer is good")
    authorization_mode: Literal["Webhook", "AlwaysAllow"] = Field(
        "Webhook",
        description="Webhook: ask the API server who may do what; AlwaysAllow: whoever has a name may do everything",
    )
    authorization_webhook_cache_authorized_ttl: str = Field(
        "5m", description="how long the answer that somebody may is good"
    )
    authorization_webhook_cache_unauthorized_ttl: str = Field(
        "30s", description="how long the answer that somebody may not is good"
    )
    client_ca_file: str = Field(
        "/etc/kubernetes/pki/ca.crt", description="CA whose client certificates are accepted"
    )
    container_runtime_endpoint: str = Field(
        "unix:///run/containerd/containerd.sock", description="CRI socket of containerd"
    )
    image_service_endpoint: str = Field(
        "", description="CRI socket of the image service, if it is another than containerd's"
    )
    runtime_request_timeout: str = Field(
        "2m", description="how long the runtime is waited for, but for pulls and stops"
    )
    pod_infra_container_image: str = Field(
        "",
        description="the pause image, never removed; which one it is is set in containerd's own configuration",
    )
    root_dir: str = Field("/var/lib/kubelet", description="where pods' volumes and files lie")
    log_dir: str = Field("/var/log", description="folder of pods/ and containers/ logs")
    cluster_dns: list[str] = Field(
        default_factory=list, description="addresses of the cluster's DNS for pods"
    )
    cluster_domain: str = Field("cluster.local", description="DNS domain of the cluster")
    resolv_conf: str = Field("/etc/resolv.conf", description="the resolver configuration pods inherit")
    node_labels: dict[str, str] = Field(default_factory=dict, description="labels of the Node, a=b,c=d")
    register_with_taints: list[str] = Field(
        default_factory=list, description="taints at registration, key=value:Effect,..."
    )
    pod_manifest_path: str = Field(
        "", description="file or folder of manifests of static pods, which run without an API server"
    )
    manifest_url: str = Field("", description="address of a manifest of static pods, a Pod or a PodList")
    manifest_url_header: list[str] = Field(
        default_factory=list, description="headers for it, name:value; a name may be given again"
    )
    http_check_frequency: str = Field("20s", description="how often the address of manifests is asked")
    provider_id: str = Field("", description="what the machine is called where it was rented")
    register_node: bool = Field(
        True, description="make the Node; else the node agent waits until somebody has made it"
    )
    enable_controller_attach_detach: bool = Field(
        True, description="say on the Node that a controller attaches its volumes"
    )
    node_status_update_frequency: str = Field("10s", description="how often the machine is looked at")
    node_status_report_frequency: str = Field(
        "",
        description="how often a status that has not changed is written; default: 5m, or --node-status-update-frequency if given",
    )
    node_status_max_images: int = Field(
        50, ge=-1, description="images told of in the node's status, the largest first; -1: all"
    )
    node_lease_duration_seconds: int = Field(
        40,
        gt=0,
        description="how long the node's lease lasts; it is renewed when a quarter of that has passed",
    )
    event_qps: float = Field(0, ge=0, description="events written a second; 0: no bound")
    event_burst: int = Field(100, ge=0, description="events written at once, with --event-qps")
    oom_score_adj: int = Field(
        -999, ge=-1000, le=1000, description="how soon the kernel kills the node agent when memory runs out"
    )
    max_open_files: int = Field(1000000, ge=1, description="files the node agent may have open")
    cgroup_root: str = Field("/", description="cgroup below which pods' cgroups are made")
    cgroup_driver: Literal["cgroupfs", "systemd"] = Field("cgroupfs", description="who makes pods' cgroups")
    fail_swap_on: bool = Field(True, description="do not start on a machine that swaps")
    protect_kernel_defaults: bool = Field(
        False, description="do not start where the kernel's settings are not what the kubelet wants"
    )
    fail_cgroupv1: bool = Field(False, description="do not start on a machine with cgroups of version 1")
    max_pods: int = Field(110, ge=1, description="pods this node takes")
    pods_per_core: int = Field(
        0,
        ge=0,
        description="pods this node takes for each processor, up to --max-pods; 0: no matter how many",
    )
    local_storage_capacity_isolation: bool = Field(
        True, description="hand out ephemeral-storage, and hold pods to what they were given of it"
    )
    cpu_cfs_quota: bool = Field(True, description="hold containers to their limits of cpu")
    cpu_cfs_quota_period: str = Field(
        "100ms", description="the time in which a limit of cpu is counted, 1ms to 1s"
    )
    memory_swap_behavior: Literal["", "NoSwap", "LimitedSwap"] = Field(
        "",
        description="NoSwap (as without it): containers do not swap; LimitedSwap: those of burstable pods may, by what they request "
        "of the machine's memory (cgroup v2)",
    )
    single_process_oom_kill: bool | None = Field(
        None,
        description="memory that runs out costs one process of a container, not all of them; default: only with cgroup v1, which "
        "knows nothing else",
    )
    sync_frequency: str = Field(
        "1m", description="how often what volumes hold is compared with what it should be"
    )
    volume_stats_agg_period: str = Field(
        "1m", description="how old figures of what volumes take may be at most"
    )
    user_namespaces_ids_per_pod: int = Field(
        65536,
        ge=65536,
        lt=2**32,
        multiple_of=65536,
        description="ids of the machine that a pod with users of its own gets, a multiple of 65536",
    )
    crash_loop_back_off_max_container_restart_period: str = Field(
        "5m", description="the longest wait before a container that fails is started again, 1s to 5m"
    )
    pod_max_pids: int = Field(
        -1, ge=-1, description="processes a pod may have; -1: as many as all pods together"
    )
    image_gc_high_threshold: int = Field(
        85,
        ge=0,
        le=100,
        description="percent of the images' disk above which unused images are removed; 100: never",
    )
    image_gc_low_threshold: int = Field(
        80, ge=0, le=100, description="percent of the images' disk to come down to"
    )
    minimum_image_ttl_duration: str = Field(
        "2m", description="an image is not removed before it has been known for so long"
    )
    image_maximum_gc_age: str = Field(
        "0s", description="an image that nobody has used for so long is removed; 0s: never for its age"
    )
    serialize_image_pulls: bool = Field(
        False, description="pull one image at a time; else one that stalls delays nobody"
    )
    max_parallel_image_pulls: int = Field(
        0, ge=0, description="images pulled at once; 0: as many as are wanted"
    )
    registry_qps: float = Field(
        0, ge=0, description="pulls that may begin a second, others fail for now; 0: no bound"
    )
    registry_burst: int = Field(10, ge=0, description="pulls that may begin at once, with --registry-qps")
    image_credential_provider_config: str = Field(
        "",
        description="file (or folder of .json, .yaml and .yml files) that names the credential providers of this node",
    )
    image_credential_provider_bin_dir: str = Field("", description="folder of the credential providers")
    container_log_max_size: str = Field(
        "10Mi", description="a container's log of that size is rotated; a negative size: never"
    )
    container_log_max_files: int = Field(
        5, ge=2, description="log files kept of a container, the one being written among them"
    )
    container_log_monitor_interval: str = Field(
        "10s", description="how often logs are looked at, 3s at least"
    )
    container_log_max_workers: int = Field(1, ge=1, description="logs rotated at once")
    shutdown_grace_period: str = Field(
        "0s", description="how long a shutdown of the machine waits for pods to end; 0s: it does not"
    )
    shutdown_grace_period_critical_pods: str = Field(
        "0s", description="how much of that is for critical pods, which end last"
    )
    shutdown_grace_period_by_pod_priority: dict[int, int] = Field(
        default_factory=dict,
        description="in place of the two: seconds for pods of each priority and above, 0=20,1000=10",
    )
    allowed_unsafe_sysctls: list[str] = Field(
        default_factory=list,
        description="sysctls that pods may set beside the safe ones, by name or as net.core.*",
    )
    seccomp_default: bool = Field(
        False, description="confine containers that name no seccomp profile by the runtime's"
    )
    cpu_manager_policy: Literal["none", "static"] = Field(
        "none",
        description="static: containers of guaranteed pods that ask for whole processors get them for themselves",
    )
    cpu_manager_policy_options: dict[str, str] = Field(
        default_factory=dict,
        description="full-pcpus-only, distribute-cpus-across-numa, align-by-socket, strict-cpu-reservation, "
        "prefer-align-cpus-by-uncorecache; each =true",
    )
    cpu_manager_reconcile_period: str = Field(
        "10s", description="how often containers are moved to the processors that are theirs"
    )
    memory_manager_policy: Literal["None", "Static"] = Field(
        "None",
        description="Static: containers of guaranteed pods get their memory of as few NUMA nodes as can hold it",
    )
    reserved_memory: list[str] = Field(
        default_factory=list,
        description="which part of the reserved memory is of which NUMA node, 0:memory=1Gi,hugepages-2Mi=1Gi;1:memory=1Gi",
    )
    topology_manager_policy: Literal["none", "best-effort", "restricted", "single-numa-node"] = Field(
        "none",
        description="whether processors, memory and devices of a container have to be of the same NUMA nodes",
    )
    topology_manager_scope: Literal["container", "pod"] = Field(
        "container", description="pod: all containers of a pod are to be of the same NUMA nodes"
    )
    topology_manager_policy_options: dict[str, str] = Field(
        default_factory=dict,
        description="prefer-closest-numa-nodes=true; max-allowable-numa-nodes=16 for machines with more than 8",
    )
    kube_reserved: dict[str, str] = Field(
        default_factory=dict,
        description="kept from pods for the node agent and the runtime: cpu=100m,memory=1Gi,ephemeral-storage=1Gi,pid=100",
    )
    system_reserved: dict[str, str] = Field(
        default_factory=dict, description="kept from pods for everything else on the machine"
    )
    reserved_cpus: str = Field(
        "", description="processors kept from pods, 0-1,4; in place of the cpu of the two reservations"
    )
    enforce_node_allocatable: list[str] = Field(
        default_factory=lambda: ["pods"],
        description="pods: all pods together are bound to what is not reserved; system-reserved, kube-reserved: daemons are bound to "
        "what is reserved for them, with -compressible in cpu alone; none: nothing is bound",
    )
    kube_reserved_cgroup: str = Field("", description="the cgroup of the node agent and the runtime")
    system_reserved_cgroup: str = Field("", description="the cgroup of the other daemons of the machine")
    eviction_hard: dict[str, str] = Field(
        default_factory=lambda: dict(thresholds.DEFAULT_HARD),
        description="when pods are evicted at once, signal<value,...; a value of 0% or 100% switches a signal off",
    )
    merge_default_eviction_settings: bool = Field(
        False, description="signals that --eviction-hard does not name keep their defaults"
    )
    eviction_soft: dict[str, str] = Field(
        default_factory=dict, description="when pods are evicted after a grace period, signal<value,..."
    )
    eviction_soft_grace_period: dict[str, str] = Field(
        default_factory=dict, description="how long each soft threshold has to be met, signal=duration,..."
    )
    eviction_max_pod_grace_period: int = Field(
        0, ge=0, description="seconds a pod that is evicted at a soft threshold is given at most"
    )
    eviction_pressure_transition_period: str = Field(
        "5m", description="how long the node keeps a condition of pressure after it has passed"
    )
    eviction_minimum_reclaim: dict[str, str] = Field(
        default_factory=dict, description="how far beyond a threshold the node has to come, signal=value,..."
    )

    @classmethod
    def read_files(cls, path: str, flags: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
        """``--config`` is a KubeletConfiguration, or a file of options like those of the other services."""
        loaded = load.read(path, flags.get("config_dir", ""))
        if loaded is None:
            return super().read_files(path, flags)
        for text in loaded.unused:
            log.warning("%s", text)
        return loaded.values, loaded.names

    @field_validator("eviction_hard", "eviction_soft", mode="before")
    @classmethod
    def _langle(cls, given: object) -> object:
        return thresholds.langle(given) if isinstance(given, dict) else given
