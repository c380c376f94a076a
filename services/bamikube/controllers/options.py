"""Flags of ``bamikube-controllers``, named as kube-controller-manager's."""

from __future__ import annotations

import ipaddress

from pydantic import Field, field_validator, model_validator

from bamikube.kit.options import Options
from bamikube.pki import signers

# The signers as flags call them.
SIGNERS = {
    "kube-apiserver-client": signers.CLIENT,
    "kubelet-client": signers.KUBELET_CLIENT,
    "kubelet-serving": signers.KUBELET_SERVING,
    "legacy-unknown": signers.LEGACY,
}


class ControllersOptions(Options):
    """The controllers: they bring the cluster from what it is to what its objects say."""

    kubeconfig: str = Field(description="kubeconfig file with the API server's address and our credentials")
    healthz_port: int = Field(
        10257, ge=0, le=65535, description="port of /healthz /livez /readyz /metrics; 0 turns it off"
    )
    leader_elect: bool = Field(
        True, description="lead only while holding the Lease kube-system/kube-controller-manager"
    )
    cluster_cidr: str = Field("10.244.0.0/16", description="addresses of all pods")
    node_cidr_mask_size: int = Field(
        24, ge=8, le=30, description="size of one node's piece of --cluster-cidr, in bits"
    )
    allocate_node_cidrs: bool = Field(True, description="give every node a pod CIDR")
    root_ca_file: str = Field("", description="CA certificate that is published to every namespace")
    service_account_private_key_file: str = Field(
        "", description="key that signs the tokens in Secrets of service accounts; without it none are made"
    )
    cluster_signing_cert_file: str = Field(
        "", description="CA certificate that requests for certificates are signed with; without it none are"
    )
    cluster_signing_key_file: str = Field("", description="the key of --cluster-signing-cert-file")
    cluster_signing_kube_apiserver_client_cert_file: str = Field(
        "", description="the same for one signer only: kubernetes.io/kube-apiserver-client"
    )
    cluster_signing_kube_apiserver_client_key_file: str = Field("", description="the key of that file")
    cluster_signing_kubelet_client_cert_file: str = Field(
        "", description="the same for one signer only: kubernetes.io/kube-apiserver-client-kubelet"
    )
    cluster_signing_kubelet_client_key_file: str = Field("", description="the key of that file")
    cluster_signing_kubelet_serving_cert_file: str = Field(
        "", description="the same for one signer only: kubernetes.io/kubelet-serving"
    )
    cluster_signing_kubelet_serving_key_file: str = Field("", description="the key of that file")
    cluster_signing_legacy_unknown_cert_file: str = Field(
        "", description="the same for one signer only: kubernetes.io/legacy-unknown"
    )
    cluster_signing_legacy_unknown_key_file: str = Field("", description="the key of that file")
    cluster_signing_duration: float = Field(
        365 * 86_400.0, ge=600, description="seconds a certificate runs when its request asks for no less"
    )
    legacy_service_account_token_clean_up_period: float = Field(
        365 * 86_400.0,
        gt=0,
        description="seconds without a use after which an auto-generated token is marked invalid, later deleted",
    )
    node_monitor_grace_period: float = Field(
        40.0, gt=0, description="seconds of silence after which a node is not ready"
    )
    node_startup_grace_period: float = Field(
        60.0, gt=0, description="the same for a node that has never been ready"
    )
    terminated_pod_gc_threshold: int = Field(12500, description="finished pods to keep; 0 or less keeps all")

    @field_validator("cluster_cidr")
    @classmethod
    def _is_cidr(cls, value: str) -> str:
        try:
            ipaddress.ip_network(value)
        except ValueError as error:
            raise ValueError(f"{value!r} is not a network such as 10.244.0.0/16 ({error})") from error
        return value

    @model_validator(mode="after")
    def _authorities_are_whole(self) -> ControllersOptions:
        pairs = {"": (self.cluster_signing_cert_file, self.cluster_signing_key_file), **self._own_files()}
        for name, (certificate, key) in pairs.items():
            flag = f"--cluster-signing-{name}-" if name else "--cluster-signing-"
            if bool(certificate) != bool(key):
                raise ValueError(f"{flag}cert-file and {flag}key-file are given together or not at all")
        if any(pairs[""]) and any(any(pair) for name, pair in pairs.items() if name):
            raise ValueError(
                "cannot specify --cluster-signing-{cert,key}-file and other --cluster-signing-*-file flags "
                "at the same time"
            )
        return self

    def _own_files(self) -> dict[str, tuple[str, str]]:
        """Certificate and key of one signer's own, by the flags' name for it."""
        found = {}
        for name in SIGNERS:
            field = f"cluster_signing_{name.replace('-', '_')}"
            found[name] = (getattr(self, f"{field}_cert_file"), getattr(self, f"{field}_key_file"))
        return found

    def signing_files(self) -> dict[str, tuple[str, str]]:
        """Certificate and key of the CA of each signer that signs, by the signer's name."""
        if self.cluster_signing_cert_file:
            pair = self.cluster_signing_cert_file, self.cluster_signing_key_file
            return dict.fromkeys(SIGNERS.values(), pair)
        return {SIGNERS[name]: pair for name, pair in self._own_files().items() if pair[0]}

    @model_validator(mode="after")
    def _piece_fits(self) -> ControllersOptions:
        prefix = ipaddress.ip_network(self.cluster_cidr).prefixlen
        if self.allocate_node_cidrs and self.node_cidr_mask_size < prefix:
            raise ValueError(
                f"--node-cidr-mask-size {self.node_cidr_mask_size} is larger than --cluster-cidr {self.cluster_cidr}"
            )
        return self
