"""The configuration in effect as a KubeletConfiguration, as ``/configz`` shows it.

Only what holds here is said: a field whose behaviour the node agent does not have is left out, not given its default.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bamikube.nodeagent import durations, settings
from bamikube.nodeagent.numa import reserved
from bamikube.nodeagent.options import NodeAgentOptions

JSON = dict[str, Any]


def configuration(options: NodeAgentOptions) -> JSON:
    """``kubelet.config.k8s.io/v1beta1``. Pure."""
    return {
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        **_serving(options),
        **_node(options),
        **_pods(options),
    }


def _shown(options: NodeAgentOptions) -> Callable[[str], str]:
    """A flag's duration, as Go prints it."""
    return lambda field: durations.go(settings.duration(options, field))


def _serving(options: NodeAgentOptions) -> JSON:
    shown = _shown(options)
    return {
        "rotateCertificates": options.rotate_certificates,
        "serverTLSBootstrap": options.rotate_server_certificates,
        "enableServer": options.enable_server,
        "readOnlyPort": options.read_only_port,
        "address": options.address,
        "port": options.port,
        "healthzPort": options.healthz_port,
        "healthzBindAddress": options.healthz_bind_address,
        "tlsCertFile": options.tls_cert_file,
        "tlsPrivateKeyFile": options.tls_private_key_file,
        "authentication": {
            "x509": {"clientCAFile": options.client_ca_file},
            "webhook": {
                "enabled": options.authentication_token_webhook,
                "cacheTTL": shown("authentication_token_webhook_cache_ttl"),
            },
            "anonymous": {"enabled": options.anonymous_auth},
        },
        "authorization": {
            "mode": options.authorization_mode,
            "webhook": {
                "cacheAuthorizedTTL": shown("authorization_webhook_cache_authorized_ttl"),
                "cacheUnauthorizedTTL": shown("authorization_webhook_cache_unauthorized_ttl"),
            },
        },
        "enableDebuggingHandlers": options.enable_debugging_handlers,
        "enableSystemLogHandler": options.enable_system_log_handler,
        "enableSystemLogQuery": False,
        "enableProfilingHandler": options.enable_profiling_handler,
        "enableDebugFlagsHandler": options.enable_debug_flags_handler,
    } | _given(tlsMinVersion=options.tls_min_version, tlsCipherSuites=options.tls_cipher_suites)


def _node(options: NodeAgentOptions) -> JSON:
    shown = _shown(options)
    looking, heartbeat = settings.status_frequencies(options)
    taints = []
    for text in options.register_with_taints:
        key, _, effect = text.rpartition(":")
        name, _, value = key.partition("=")
        taints.append({"key": name, "effect": effect} | ({"value": value} if value else {}))
    return {
        "registerNode": options.register_node,
        "enableControllerAttachDetach": options.enable_controller_attach_detach,
        "nodeStatusUpdateFrequency": durations.go(looking),
        "nodeStatusReportFrequency": durations.go(heartbeat),
        "nodeStatusMaxImages": options.node_status_max_images,
        "nodeLeaseDurationSeconds": options.node_lease_duration_seconds,
        "containerRuntimeEndpoint": options.container_runtime_endpoint,
        "cgroupRoot": options.cgroup_root,
        "cgroupDriver": options.cgroup_driver,
        "runtimeRequestTimeout": shown("runtime_request_timeout"),
        "cgroupsPerQOS": True,
        "protectKernelDefaults": options.protect_kernel_defaults,
        "failCgroupV1": options.fail_cgroupv1,
        "localStorageCapacityIsolation": options.local_storage_capacity_isolation,
        "podsPerCore": options.pods_per_core,
        "userNamespaces": {"idsPerPod": options.user_namespaces_ids_per_pod},
        "eventRecordQPS": options.event_qps,
        "eventBurst": options.event_burst,
        "registryPullQPS": options.registry_qps,
        "registryBurst": options.registry_burst,
        "oomScoreAdj": options.oom_score_adj,
        "maxOpenFiles": options.max_open_files,
        "volumeStatsAggPeriod": shown("volume_stats_agg_period"),
        "crashLoopBackOff": {
            "maxContainerRestartPeriod": shown("crash_loop_back_off_max_container_restart_period")
        },
        "failSwapOn": options.fail_swap_on,
        "seccompDefault": options.seccomp_default,
        "maxPods": options.max_pods,
        "podPidsLimit": options.pod_max_pids,
        "cpuManagerPolicy": options.cpu_manager_policy,
        "cpuManagerReconcilePeriod": shown("cpu_manager_reconcile_period"),
        "memoryManagerPolicy": options.memory_manager_policy,
        "topologyManagerPolicy": options.topology_manager_policy,
        "topologyManagerScope": options.topology_manager_scope,
        "imageMinimumGCAge": shown("minimum_image_ttl_duration"),
        "imageMaximumGCAge": shown("image_maximum_gc_age"),
        "imageGCHighThresholdPercent": options.image_gc_high_threshold,
        "imageGCLowThresholdPercent": options.image_gc_low_threshold,
        "serializeImagePulls": options.serialize_image_pulls,
        "contentType": "application/json",
        "shutdownGracePeriod": shown("shutdown_grace_period"),
        "shutdownGracePeriodCriticalPods": shown("shutdown_grace_period_critical_pods"),
        "enforceNodeAllocatable": options.enforce_node_allocatable,
        "evictionHard": options.eviction_hard,
        "evictionPressureTransitionPeriod": shown("eviction_pressure_transition_period"),
    } | _given(
        registerWithTaints=taints,
        allowedUnsafeSysctls=options.allowed_unsafe_sysctls,
        cpuManagerPolicyOptions=options.cpu_manager_policy_options,
        topologyManagerPolicyOptions=options.topology_manager_policy_options,
        reservedMemory=[
            {"numaNode": node, "limits": {name: str(amount) for name, amount in amounts.items()}}
            for node, amounts in reserved.parse(options.reserved_memory).items()
        ],
        mergeDefaultEvictionSettings=options.merge_default_eviction_settings,
        imageServiceEndpoint=options.image_service_endpoint,
        maxParallelImagePulls=options.max_parallel_image_pulls,
        shutdownGracePeriodByPodPriority=[
            {"priority": priority, "shutdownGracePeriodSeconds": seconds}
            for priority, seconds in sorted(options.shutdown_grace_period_by_pod_priority.items())
        ],
        staticPodPath=options.pod_manifest_path,
        staticPodURL=options.manifest_url,
        httpCheckFrequency=options.manifest_url and options.http_check_frequency,
        kubeReserved=options.kube_reserved,
        kubeReservedCgroup=options.kube_reserved_cgroup,
        systemReservedCgroup=options.system_reserved_cgroup,
        systemReserved=options.system_reserved,
        reservedSystemCPUs=options.reserved_cpus,
        evictionSoft=options.eviction_soft,
        evictionSoftGracePeriod=options.eviction_soft_grace_period,
        evictionMaxPodGracePeriod=options.eviction_max_pod_grace_period,
        evictionMinimumReclaim=options.eviction_minimum_reclaim,
    )


def _given(**fields: Any) -> JSON:
    """The fields that hold something."""
    return {name: value for name, value in fields.items() if value}


def _pods(options: NodeAgentOptions) -> JSON:
    shown = _shown(options)
    return {
        "podLogsDir": f"{options.log_dir.rstrip('/')}/pods",
        "clusterDomain": options.cluster_domain,
        "clusterDNS": list(options.cluster_dns),
        "resolvConf": options.resolv_conf,
        "cpuCFSQuota": options.cpu_cfs_quota,
        "cpuCFSQuotaPeriod": shown("cpu_cfs_quota_period"),
        "memorySwap": _given(swapBehavior=options.memory_swap_behavior),
        "syncFrequency": shown("sync_frequency"),
        "containerLogMaxSize": options.container_log_max_size,
        "containerLogMaxFiles": options.container_log_max_files,
        "containerLogMonitorInterval": shown("container_log_monitor_interval"),
        "containerLogMaxWorkers": options.container_log_max_workers,
    } | (
        {}
        if options.single_process_oom_kill is None
        else {"singleProcessOOMKill": options.single_process_oom_kill}
    )
