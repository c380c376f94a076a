"""Flags of ``bamikube-network``."""

from __future__ import annotations

import ipaddress
from typing import Literal

from pydantic import Field, field_validator

from bamikube.kit.options import Options


class NetworkOptions(Options):
    """bamikube-network: gives pods their network, and keeps the routes to the other nodes' pods."""

    kubeconfig: str = Field(description="kubeconfig file with the API server's address and our certificate")
    hostname_override: str = Field(
        "", description="name of the Node object of this machine; default: the host name"
    )
    cluster_cidr: str = Field(
        "10.244.0.0/16", description="addresses of all pods; traffic that leaves it is masqueraded"
    )
    overlay: Literal["auto", "none", "vxlan"] = Field(
        "auto",
        description="auto: plain routes on one network, VXLAN to nodes elsewhere; none: routes only; vxlan: always",
    )
    cni_bin_dir: str = Field("/opt/cni/bin", description="where the container runtime looks for CNI plugins")
    cni_conf_dir: str = Field("/etc/cni/net.d", description="where the container runtime looks for networks")
    cni_socket: str = Field("/run/bamikube/network.sock", description="socket the CNI plugin talks to us on")
    state_dir: str = Field(
        "/var/lib/cni/networks/bamikube", description="where the addresses in use are written down"
    )
    healthz_port: int = Field(
        10255, ge=0, le=65535, description="port of /healthz /livez /readyz /metrics; 0 turns it off"
    )

    @field_validator("cluster_cidr")
    @classmethod
    def _network(cls, value: str) -> str:
        ipaddress.IPv4Network(value)
        return value
