"""Flags of ``bamikube-proxy``, named as kube-proxy names them."""

from __future__ import annotations

import ipaddress

from pydantic import Field, field_validator

from bamikube.kit.options import Options


class ProxyOptions(Options):
    """bamikube-proxy: steers service traffic with netfilter maps."""

    kubeconfig: str = Field(description="kubeconfig file with the API server's address and our certificate")
    hostname_override: str = Field(
        "", description="name of the Node object of this machine; default: the host name"
    )
    cluster_cidr: str = Field(
        "10.244.0.0/16",
        description="pod addresses; cluster-IP traffic from elsewhere is masqueraded; empty: none is",
    )
    nodeport_addresses: list[str] = Field(
        default_factory=list, description="networks whose node addresses answer on node ports; default: all"
    )
    masquerade_all: bool = Field(False, description="masquerade all traffic to cluster IPs")
    service_cluster_ip_range: str = Field(
        "10.96.0.0/12",
        description="cluster IPs; gets a route where the node has none, so that packets meet netfilter",
    )
    min_sync_period: float = Field(
        0.01, ge=0, description="seconds to gather changes before programming them"
    )
    sync_period: float = Field(30.0, gt=0, description="seconds between checks that our table is still there")
    healthz_port: int = Field(
        10256, ge=0, le=65535, description="port of /healthz /livez /readyz /metrics; 0 turns it off"
    )

    @field_validator("cluster_cidr", "service_cluster_ip_range")
    @classmethod
    def _network(cls, value: str) -> str:
        if value:
            ipaddress.IPv4Network(value)
        return value

    @field_validator("nodeport_addresses")
    @classmethod
    def _networks(cls, value: list[str]) -> list[str]:
        for text in value:
            ipaddress.IPv4Network(text)
        return value
