"""Flags of ``bamikube-scheduler``, named as kube-scheduler's."""

from __future__ import annotations

from pydantic import Field

from bamikube.kit.options import Options


class SchedulerOptions(Options):
    """The scheduler: it picks a node for every pod, and says why."""

    kubeconfig: str = Field(
        "", description="kubeconfig file with the API server's address and our credentials"
    )
    healthz_port: int = Field(
        10259, ge=0, le=65535, description="port of /healthz /livez /readyz /metrics; 0 turns it off"
    )
    leader_elect: bool = Field(
        True, description="schedule only while holding the Lease kube-system/kube-scheduler"
    )
    scheduler_name: str = Field("default-scheduler", description="pods with this spec.schedulerName are ours")
    max_in_flight: int = Field(64, gt=0, description="bindings on their way to the API server together")
    pod_initial_backoff_seconds: float = Field(
        1.0, gt=0, description="first wait of a pod that fitted nowhere"
    )
    pod_max_backoff_seconds: float = Field(
        10.0, gt=0, description="longest wait of a pod that fitted nowhere"
    )
    pod_max_in_unschedulable_pods_duration: float = Field(
        300.0,
        gt=0,
        description="seconds after which a pod that fitted nowhere is tried again without a cause",
    )
