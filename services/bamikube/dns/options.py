"""Flags of ``bamikube-dns``."""

from __future__ import annotations

import ipaddress
from typing import Literal

from pydantic import Field, field_validator

from bamikube.kit.options import Options


class DnsOptions(Options):
    """bamikube-dns: answers the names of services and pods, and forwards the rest."""

    kubeconfig: str = Field(description="kubeconfig file with the API server's address and our certificate")
    bind_address: list[str] = Field(
        default_factory=lambda: ["0.0.0.0"], description="addresses to listen on, UDP and TCP"
    )
    port: int = Field(53, ge=1, le=65535, description="port to listen on")
    cluster_domain: str = Field("cluster.local", description="the cluster's zone")
    cluster_dns_ip: str = Field("10.96.0.10", description="cluster IP of the Service kube-system/kube-dns")
    advertise_address: str = Field(
        "", description="address of ours that goes behind the Service; default: the first bind address"
    )
    hostname_override: str = Field(
        "", description="name of the Node object of this machine, for the endpoint"
    )
    upstream: list[str] = Field(
        default_factory=list, description="servers for all other names; default: /etc/resolv.conf's"
    )
    resolv_conf: str = Field(
        "/etc/resolv.conf", description="where to find upstream servers when --upstream is not given"
    )
    ttl: int = Field(5, ge=0, le=30, description="seconds resolvers may keep an answer")
    pods: Literal["disabled", "insecure", "verified"] = Field(
        "insecure",
        description="a-b-c-d.NAMESPACE.pod names: never, for any address, or only for pods that exist",
    )
    metrics_port: int = Field(
        9153, ge=0, le=65535, description="port of /metrics on the bind addresses; 0 turns it off"
    )
    healthz_port: int = Field(
        8181, ge=0, le=65535, description="port of /healthz /livez /readyz /metrics; 0 turns it off"
    )

    @field_validator("bind_address")
    @classmethod
    def _addresses(cls, value: list[str]) -> list[str]:
        if not value:
            raise ValueError("give at least one address")
        for text in value:
            ipaddress.ip_address(text)
        return value

    @field_validator("cluster_dns_ip", "advertise_address")
    @classmethod
    def _address(cls, value: str) -> str:
        if value:
            ipaddress.ip_address(value)
        return value
