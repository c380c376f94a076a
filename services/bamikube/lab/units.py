"""What runs in a node: programs and services with their flags, as data.

Every unit is started at once and waits by itself for what it needs; only ordering that a program cannot do for itself
is said here (``after_files``). Flags are Kubernetes' own where Kubernetes has them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from bamikube.lab import kubelet
from bamikube.lab.topology import LabPaths, Node, Topology

PKI = "/etc/kubernetes/pki"
# Largest request etcd takes. The API server's own limit on bodies is 3 MiB; an object in a transaction with its
# guards must still fit.
ETCD_MAX_REQUEST_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class UnitSpec:
    """One unit: a program if ``module`` is empty, else ``module.main(argv)`` in a forked child."""

    name: str
    argv: tuple[str, ...]
    module: str = ""
    env: dict[str, str] = field(default_factory=dict)
    after_files: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "argv": list(self.argv),
            "module": self.module,
            "env": self.env,
            "afterFiles": list(self.after_files),
        }


def _flags(**values: object) -> tuple[str, ...]:
    return tuple(f"--{name.replace('_', '-')}={value}" for name, value in values.items())


def containerd() -> UnitSpec:
    return UnitSpec("containerd", ("containerd", "--config", "/etc/containerd/config.toml"))


def registry(topology: Topology, paths: LabPaths) -> UnitSpec:
    argv = (
        f"--store={paths.loaded_images}",
        f"--store={paths.built_images}",
        f"--port={topology.registry_port}",
    )
    return UnitSpec("registry", argv, "bamikube.lab.registry")


def etcd(node: Node) -> UnitSpec:
    argv = (
        "etcd",
        *_flags(
            name=node.name,
            data_dir="/var/lib/etcd",
            listen_client_urls=f"https://127.0.0.1:2379,https://{node.address}:2379",
            advertise_client_urls=f"https://{node.address}:2379",
            listen_peer_urls=f"https://{node.address}:2380",
            initial_advertise_peer_urls=f"https://{node.address}:2380",
            initial_cluster=f"{node.name}=https://{node.address}:2380",
            listen_metrics_urls="http://127.0.0.1:2381",
            cert_file=f"{PKI}/etcd/server.crt",
            key_file=f"{PKI}/etcd/server.key",
            trusted_ca_file=f"{PKI}/etcd/ca.crt",
            client_cert_auth="true",
            peer_cert_file=f"{PKI}/etcd/peer.crt",
            peer_key_file=f"{PKI}/etcd/peer.key",
            peer_trusted_ca_file=f"{PKI}/etcd/ca.crt",
            peer_client_cert_auth="true",
            max_request_bytes=ETCD_MAX_REQUEST_BYTES,
            quota_backend_bytes=2 * 1024**3,
            snapshot_count=10000,
            logger="zap",
            log_level="warn",
        ),
    )
    return UnitSpec("etcd", argv, env={"ETCD_UNSUPPORTED_ARCH": "arm64"})


def apiserver(node: Node, topology: Topology) -> UnitSpec:
    argv = _flags(
        advertise_address=node.address,
        anonymous_auth_paths="/healthz,/livez,/readyz,/version",
        bind_address="0.0.0.0",
        secure_port=topology.api_port,
        etcd_servers="https://127.0.0.1:2379",
        etcd_cafile=f"{PKI}/etcd/ca.crt",
        etcd_certfile=f"{PKI}/apiserver-etcd-client.crt",
        etcd_keyfile=f"{PKI}/apiserver-etcd-client.key",
        client_ca_file=f"{PKI}/ca.crt",
        tls_cert_file=f"{PKI}/apiserver.crt",
        tls_private_key_file=f"{PKI}/apiserver.key",
        requestheader_client_ca_file=f"{PKI}/front-proxy-ca.crt",
        requestheader_allowed_names="front-proxy-client",
        proxy_client_cert_file=f"{PKI}/front-proxy-client.crt",
        proxy_client_key_file=f"{PKI}/front-proxy-client.key",
        kubelet_certificate_authority=f"{PKI}/ca.crt",
        kubelet_client_certificate=f"{PKI}/apiserver-kubelet-client.crt",
        kubelet_client_key=f"{PKI}/apiserver-kubelet-client.key",
        service_account_issuer=f"https://kubernetes.default.svc.{topology.domain}",
        service_account_key_file=f"{PKI}/sa.pub",
        service_account_signing_key_file=f"{PKI}/sa.key",
        service_cluster_ip_range=topology.service_cidr,
    )
    return UnitSpec("apiserver", argv, "bamikube.apiserver.main")


def scheduler() -> UnitSpec:
    argv = _flags(kubeconfig="/etc/kubernetes/scheduler.conf", healthz_port=10259)
    return UnitSpec("scheduler", argv, "bamikube.scheduler.main")


def controllers(topology: Topology) -> UnitSpec:
    argv = _flags(
        kubeconfig="/etc/kubernetes/controller-manager.conf",
        root_ca_file=f"{PKI}/ca.crt",
        service_account_private_key_file=f"{PKI}/sa.key",
        cluster_signing_cert_file=f"{PKI}/ca.crt",
        cluster_signing_key_file=f"{PKI}/ca.key",
        cluster_cidr=topology.pod_cidr,
        healthz_port=10257,
    )
    return UnitSpec("controllers", argv, "bamikube.controllers.main")


def nodeagent(node: Node, topology: Topology) -> UnitSpec:
    """Its file says the rest: :mod:`bamikube.lab.kubelet`."""
    flags = _flags(
        kubeconfig="/etc/kubernetes/kubelet.conf",
        hostname_override=node.name,
        node_ip=node.address,
        cgroup_root=f"/{topology.cgroup}/{node.name}",
        config=f"/etc/kubernetes/{kubelet.FILE}",
        config_dir=f"/etc/kubernetes/{kubelet.FOLDER}",
    )
    if node.control_plane:
        flags += ("--register-with-taints=node-role.kubernetes.io/control-plane=:NoSchedule",)
    return UnitSpec("nodeagent", flags, "bamikube.nodeagent.main")


def proxy(node: Node, topology: Topology) -> UnitSpec:
    argv = _flags(
        kubeconfig="/etc/kubernetes/proxy.conf",
        hostname_override=node.name,
        cluster_cidr=topology.pod_cidr,
        service_cluster_ip_range=topology.service_cidr,
        healthz_port=10256,
    )
    return UnitSpec("proxy", argv, "bamikube.proxy.main")


def network(node: Node, topology: Topology) -> UnitSpec:
    argv = _flags(
        kubeconfig="/etc/kubernetes/network.conf",
        hostname_override=node.name,
        cluster_cidr=topology.pod_cidr,
        healthz_port=10255,
    )
    return UnitSpec("network", argv, "bamikube.network.main")


def dns(node: Node, topology: Topology) -> UnitSpec:
    argv = _flags(
        kubeconfig="/etc/kubernetes/dns.conf",
        cluster_domain=topology.domain,
        cluster_dns_ip=topology.dns_address,
        bind_address=f"{node.address},127.0.0.1",
        advertise_address=node.address,
        hostname_override=node.name,
        healthz_port=8181,
    )
    return UnitSpec("dns", argv, "bamikube.dns.main")


def units_for(node: Node, topology: Topology, paths: LabPaths) -> tuple[UnitSpec, ...]:
    """Everything that runs in ``node``, in starting order."""
    units = [containerd()]
    if node.control_plane:
        units += [etcd(node)]
    units += [registry(topology, paths)]
    if node.control_plane:
        units += [apiserver(node, topology), controllers(topology), scheduler()]
    units += [network(node, topology), nodeagent(node, topology), proxy(node, topology)]
    if node.control_plane:
        units += [dns(node, topology)]
    return tuple(units)
