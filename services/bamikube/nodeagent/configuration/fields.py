"""Every field of KubeletConfiguration (``kubelet.config.k8s.io/v1beta1``, v1.34), and what the node agent does with it. Pure.

A field has the meaning of the flag of the same thing, so the file says no more than flags can (``HONOURED``). Of the others the
node agent does one thing and no other (``FIXED``), or nothing at all (``UNUSED``, with why): whoever sets those is told so, unless what
he asks for is what happens anyway. Zero durations, empty texts and nulls stand for the default, as kubeadm writes them.

Source: the API reference of KubeletConfiguration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Convert = Callable[[Any], Any]


def _as_it_is(value: Any) -> Any:
    return value


def _texts(value: Any) -> Any:
    """A map whose values may have been written as numbers: ``cpu: 1``."""
    if not isinstance(value, dict):
        raise ValueError("expected a map")
    return {
        str(key): str(item).lower() if isinstance(item, bool) else str(item) for key, item in value.items()
    }


def _taints(value: Any) -> Any:
    """The objects of ``registerWithTaints`` as the flag writes them."""
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise ValueError("expected a list of taints with key, value and effect")
    return [
        f"{one.get('key', '')}{'=' if one.get('value') else ''}{one.get('value') or ''}:{one.get('effect', '')}"
        for one in value
    ]


def _headers(value: Any) -> Any:
    """The map of ``staticPodURLHeader`` as the flag writes it."""
    if not isinstance(value, dict) or not all(isinstance(texts, list) for texts in value.values()):
        raise ValueError("expected a map of header names to lists of values")
    return [f"{name}:{text}" for name, texts in value.items() for text in texts]


def _memory(value: Any) -> Any:
    """The objects of ``reservedMemory`` as the flag writes them."""
    try:
        return [
            f"{int(one['numaNode'])}:{','.join(f'{name}={amount}' for name, amount in one['limits'].items())}"
            for one in value
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            "expected a list of objects with numaNode, a whole number, and limits, a map"
        ) from error


def _above_pods(value: Any) -> Any:
    """``podLogsDir`` as ``--log-dir`` has it: the folder that also has ``containers``."""
    folder, _, last = str(value).rstrip("/").rpartition("/")
    if last != "pods" or not folder.startswith("/"):
        raise ValueError(
            f"{value!r} is not an absolute path that ends in /pods, beside which containers lies"
        )
    return folder


def _by_priority(value: Any) -> Any:
    try:
        return {int(one["priority"]): int(one["shutdownGracePeriodSeconds"]) for one in value}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            "expected a list of objects with priority and shutdownGracePeriodSeconds, both whole numbers"
        ) from error


HONOURED: Mapping[str, tuple[str, Convert]] = {  # by the field's path: the option's field
    path: (option, convert)
    for path, option, convert in (
        ("address", "address", _as_it_is),
        ("port", "port", _as_it_is),
        ("healthzPort", "healthz_port", _as_it_is),
        ("healthzBindAddress", "healthz_bind_address", _as_it_is),
        ("tlsCertFile", "tls_cert_file", _as_it_is),
        ("tlsPrivateKeyFile", "tls_private_key_file", _as_it_is),
        ("rotateCertificates", "rotate_certificates", _as_it_is),
        ("serverTLSBootstrap", "rotate_server_certificates", _as_it_is),
        ("tlsMinVersion", "tls_min_version", _as_it_is),
        ("tlsCipherSuites", "tls_cipher_suites", _as_it_is),
        ("enableServer", "enable_server", _as_it_is),
        ("readOnlyPort", "read_only_port", _as_it_is),
        ("enableDebuggingHandlers", "enable_debugging_handlers", _as_it_is),
        ("enableProfilingHandler", "enable_profiling_handler", _as_it_is),
        ("enableDebugFlagsHandler", "enable_debug_flags_handler", _as_it_is),
        ("enableSystemLogHandler", "enable_system_log_handler", _as_it_is),
        ("authentication.anonymous.enabled", "anonymous_auth", _as_it_is),
        ("authentication.webhook.enabled", "authentication_token_webhook", _as_it_is),
        ("authentication.webhook.cacheTTL", "authentication_token_webhook_cache_ttl", _as_it_is),
        ("authorization.mode", "authorization_mode", _as_it_is),
        (
            "authorization.webhook.cacheAuthorizedTTL",
            "authorization_webhook_cache_authorized_ttl",
            _as_it_is,
        ),
        (
            "authorization.webhook.cacheUnauthorizedTTL",
            "authorization_webhook_cache_unauthorized_ttl",
            _as_it_is,
        ),
        ("authentication.x509.clientCAFile", "client_ca_file", _as_it_is),
        ("staticPodPath", "pod_manifest_path", _as_it_is),
        ("staticPodURL", "manifest_url", _as_it_is),
        ("staticPodURLHeader", "manifest_url_header", _headers),
        ("httpCheckFrequency", "http_check_frequency", _as_it_is),
        ("containerRuntimeEndpoint", "container_runtime_endpoint", _as_it_is),
        ("imageServiceEndpoint", "image_service_endpoint", _as_it_is),
        ("runtimeRequestTimeout", "runtime_request_timeout", _as_it_is),
        ("clusterDomain", "cluster_domain", _as_it_is),
        ("clusterDNS", "cluster_dns", _as_it_is),
        ("resolvConf", "resolv_conf", _as_it_is),
        ("providerID", "provider_id", _as_it_is),
        ("registerWithTaints", "register_with_taints", _taints),
        ("registerNode", "register_node", _as_it_is),
        ("enableControllerAttachDetach", "enable_controller_attach_detach", _as_it_is),
        ("nodeStatusUpdateFrequency", "node_status_update_frequency", _as_it_is),
        ("nodeStatusReportFrequency", "node_status_report_frequency", _as_it_is),
        ("nodeStatusMaxImages", "node_status_max_images", _as_it_is),
        ("nodeLeaseDurationSeconds", "node_lease_duration_seconds", _as_it_is),
        ("eventRecordQPS", "event_qps", _as_it_is),
        ("eventBurst", "event_burst", _as_it_is),
        ("oomScoreAdj", "oom_score_adj", _as_it_is),
        ("maxOpenFiles", "max_open_files", _as_it_is),
        ("cgroupRoot", "cgroup_root", _as_it_is),
        ("cgroupDriver", "cgroup_driver", _as_it_is),
        ("failSwapOn", "fail_swap_on", _as_it_is),
        ("protectKernelDefaults", "protect_kernel_defaults", _as_it_is),
        ("failCgroupV1", "fail_cgroupv1", _as_it_is),
        ("podsPerCore", "pods_per_core", _as_it_is),
        ("userNamespaces.idsPerPod", "user_namespaces_ids_per_pod", _as_it_is),
        ("localStorageCapacityIsolation", "local_storage_capacity_isolation", _as_it_is),
        ("cpuCFSQuota", "cpu_cfs_quota", _as_it_is),
        ("cpuCFSQuotaPeriod", "cpu_cfs_quota_period", _as_it_is),
        ("memorySwap.swapBehavior", "memory_swap_behavior", _as_it_is),
        ("singleProcessOOMKill", "single_process_oom_kill", _as_it_is),
        ("syncFrequency", "sync_frequency", _as_it_is),
        ("volumeStatsAggPeriod", "volume_stats_agg_period", _as_it_is),
        (
            "crashLoopBackOff.maxContainerRestartPeriod",
            "crash_loop_back_off_max_container_restart_period",
            _as_it_is,
        ),
        ("maxPods", "max_pods", _as_it_is),
        ("podPidsLimit", "pod_max_pids", _as_it_is),
        ("seccompDefault", "seccomp_default", _as_it_is),
        ("allowedUnsafeSysctls", "allowed_unsafe_sysctls", _as_it_is),
        ("cpuManagerPolicy", "cpu_manager_policy", _as_it_is),
        ("cpuManagerPolicyOptions", "cpu_manager_policy_options", _texts),
        ("cpuManagerReconcilePeriod", "cpu_manager_reconcile_period", _as_it_is),
        ("memoryManagerPolicy", "memory_manager_policy", _as_it_is),
        ("reservedMemory", "reserved_memory", _memory),
        ("topologyManagerPolicy", "topology_manager_policy", _as_it_is),
        ("topologyManagerScope", "topology_manager_scope", _as_it_is),
        ("topologyManagerPolicyOptions", "topology_manager_policy_options", _texts),
        ("reservedSystemCPUs", "reserved_cpus", _as_it_is),
        ("kubeReserved", "kube_reserved", _texts),
        ("systemReserved", "system_reserved", _texts),
        ("kubeReservedCgroup", "kube_reserved_cgroup", _as_it_is),
        ("systemReservedCgroup", "system_reserved_cgroup", _as_it_is),
        ("enforceNodeAllocatable", "enforce_node_allocatable", _as_it_is),
        ("evictionHard", "eviction_hard", _texts),
        ("mergeDefaultEvictionSettings", "merge_default_eviction_settings", _as_it_is),
        ("evictionSoft", "eviction_soft", _texts),
        ("evictionSoftGracePeriod", "eviction_soft_grace_period", _texts),
        ("evictionMaxPodGracePeriod", "eviction_max_pod_grace_period", _as_it_is),
        ("evictionPressureTransitionPeriod", "eviction_pressure_transition_period", _as_it_is),
        ("evictionMinimumReclaim", "eviction_minimum_reclaim", _texts),
        ("imageMinimumGCAge", "minimum_image_ttl_duration", _as_it_is),
        ("imageMaximumGCAge", "image_maximum_gc_age", _as_it_is),
        ("imageGCHighThresholdPercent", "image_gc_high_threshold", _as_it_is),
        ("imageGCLowThresholdPercent", "image_gc_low_threshold", _as_it_is),
        ("serializeImagePulls", "serialize_image_pulls", _as_it_is),
        ("maxParallelImagePulls", "max_parallel_image_pulls", _as_it_is),
        ("registryPullQPS", "registry_qps", _as_it_is),
        ("registryBurst", "registry_burst", _as_it_is),
        ("podLogsDir", "log_dir", _above_pods),
        ("containerLogMonitorInterval", "container_log_monitor_interval", _as_it_is),
        ("containerLogMaxWorkers", "container_log_max_workers", _as_it_is),
        ("containerLogMaxSize", "container_log_max_size", _as_it_is),
        ("containerLogMaxFiles", "container_log_max_files", _as_it_is),
        ("shutdownGracePeriod", "shutdown_grace_period", _as_it_is),
        ("shutdownGracePeriodCriticalPods", "shutdown_grace_period_critical_pods", _as_it_is),
        ("shutdownGracePeriodByPodPriority", "shutdown_grace_period_by_pod_priority", _by_priority),
        ("logging.format", "log_format", _as_it_is),
        ("logging.verbosity", "v", _as_it_is),
    )
}

FIXED: Mapping[str, Any] = {  # what happens, whatever the file says
    "enableSystemLogQuery": False,
    "cgroupsPerQOS": True,
    "contentType": "application/json",
    "hairpinMode": "hairpin-veth",
    "configMapAndSecretChangeDetectionStrategy": "Watch",
    "imagePullCredentialsVerificationPolicy": "NeverVerify",
}

_GATE = "its feature gate is off in v1.34"
_NETWORK = "services are the matter of bamikube-proxy, pods' links of bamikube-network"
UNUSED: Mapping[str, str] = {  # what has no effect at all, and why
    "enableContentionProfiling": "there are no locks whose waits could be profiled",
    "featureGates": "what is on in v1.34 is on here, and nothing else",
    "fileCheckFrequency": "manifests are looked at every second",
    "iptablesDropBit": _NETWORK,
    "iptablesMasqueradeBit": _NETWORK,
    "kernelMemcgNotification": "memory is looked at every ten seconds",
    "kubeAPIBurst": "requests to the API server are not held back here, it does that itself",
    "kubeAPIQPS": "requests to the API server are not held back here, it does that itself",
    "kubeletCgroups": "whoever starts the node agent puts it into a cgroup",
    "logging": "logs are written at once",
    "makeIPTablesUtilChains": _NETWORK,
    "memoryThrottlingFactor": _GATE,
    "podCIDR": "the Node says which addresses its pods have",
    "preloadedImagesVerificationAllowlist": _GATE,
    "qosReserved": _GATE,
    "runOnce": "it is no longer supported by the kubelet either",
    "showHiddenMetricsForVersion": "no metric is hidden",
    "streamingConnectionIdleTimeout": "streams end where containerd says, by its stream_idle_timeout",
    "systemCgroups": "whoever starts the system's daemons puts them into cgroups",
    "tracing": "no traces are written",
    "volumePluginDir": "there are no FlexVolumes",
}

_ZEROS = ("", "0", "0s", "0m", "0h", "0m0s", "0h0m0s")


def unset(path: str, value: Any) -> bool:
    """Whether ``value`` says nothing: null, an empty text, a duration of nothing, and the 0 of a field where 0 is no value."""
    numbers = (
        "nodeLeaseDurationSeconds",
        "port",
        "maxPods",
        "containerLogMaxFiles",
        "containerLogMaxWorkers",
        "maxOpenFiles",
        "podPidsLimit",
    )
    return value is None or value in _ZEROS or (path in numbers and value == 0)
