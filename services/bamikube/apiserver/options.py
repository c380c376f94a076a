"""The API server's flags, under Kubernetes' names."""

from __future__ import annotations

import ipaddress
from typing import Literal

from pydantic import Field, field_validator

from bamikube.api import table
from bamikube.apiserver import switches
from bamikube.kit.options import Options


class ApiServerOptions(Options):
    """Serves the Kubernetes API from etcd."""

    etcd_servers: list[str] = Field(
        ["http://127.0.0.1:2379"], description="etcd endpoints, as https://HOST:PORT"
    )
    etcd_cafile: str = Field("", description="CA that signed etcd's certificate")
    etcd_certfile: str = Field("", description="client certificate shown to etcd")
    etcd_keyfile: str = Field("", description="key of --etcd-certfile")
    etcd_prefix: str = Field("", description="put before every key, so that clusters can share one etcd")
    etcd_compaction_interval: float = Field(
        60.0, ge=0, description="seconds between compactions of etcd's history; 0 leaves compaction to others"
    )
    etcd_compaction_window: float = Field(
        600.0, ge=10, description="seconds of history that compaction keeps"
    )
    event_ttl: float = Field(3600.0, ge=0, description="seconds events are kept; 0 keeps them for ever")

    access_log: bool = Field(
        False, description="log a line for every request: what was asked, by which tool, how long"
    )

    profiling: bool = Field(
        False, description="serve /debug: the tasks, a profile, the queues of priority and fairness"
    )

    bind_address: str = Field("0.0.0.0", description="address to listen on")
    secure_port: int = Field(6443, ge=0, le=65535, description="port of the API; 0 takes any free one")
    advertise_address: str = Field(
        "",
        description="address the kubernetes service points at; empty: --bind-address, or for 0.0.0.0 that of the default "
        "route; a server on loopback has none, and no kubernetes service",
    )
    external_hostname: str = Field("", description="name or address of the API in links handed out")
    tls_cert_file: str = Field(
        "", description="server certificate; without one the API is served in plain HTTP on loopback only"
    )
    tls_private_key_file: str = Field("", description="key of --tls-cert-file")
    client_ca_file: str = Field("", description="CA whose client certificates are users")

    service_cluster_ip_range: str = Field(
        "10.96.0.0/12",
        description="network cluster IPs are taken from; two of different families, with a comma, for dual-stack",
    )
    service_node_port_range: str = Field("30000-32767", description="ports node ports are taken from")

    service_account_key_file: list[str] = Field(
        [], description="public keys that service-account tokens may be signed with"
    )
    service_account_signing_key_file: str = Field(
        "", description="private key that signs service-account tokens"
    )
    service_account_issuer: list[str] = Field(
        ["https://kubernetes.default.svc.cluster.local"], description="issuers of tokens; the first one signs"
    )
    service_account_jwks_uri: str = Field(
        "", description="where others find the keys of tokens; empty: this server's /openid/v1/jwks"
    )
    service_account_extend_token_expiration: bool = Field(
        True,
        description="let tokens that admission asked for live a year, and count who uses them after an hour",
    )
    service_account_max_token_expiration: float = Field(
        0.0, ge=0, description="seconds tokens may be asked for at most; 0: as long as anybody likes"
    )
    api_audiences: list[str] = Field([], description="audiences of the API; empty: the issuer")
    token_auth_file: str = Field("", description="CSV file of static tokens: token,user,uid,groups")
    enable_bootstrap_token_auth: bool = Field(
        False, description="take Secrets of the type bootstrap.kubernetes.io/token in kube-system for tokens"
    )
    anonymous_auth: bool = Field(True, description="let requests without credentials in as system:anonymous")
    anonymous_auth_paths: list[str] = Field(
        [], description="the only paths anonymous requests are let in at, such as /healthz; empty: all paths"
    )
    authorization_mode: list[str] = Field(["Node", "RBAC"], description="Node, RBAC, AlwaysAllow, AlwaysDeny")

    requestheader_client_ca_file: str = Field(
        "", description="CA of front proxies that name users in headers"
    )
    requestheader_allowed_names: list[str] = Field(
        [], description="common names front proxies may have; empty: any"
    )
    requestheader_username_headers: list[str] = Field(
        ["X-Remote-User"], description="headers that name the user"
    )
    requestheader_group_headers: list[str] = Field(["X-Remote-Group"], description="headers that name groups")
    requestheader_extra_headers_prefix: list[str] = Field(
        ["X-Remote-Extra-"], description="prefixes of extra headers"
    )
    proxy_client_cert_file: str = Field("", description="certificate shown to aggregated API servers")
    proxy_client_key_file: str = Field("", description="key of --proxy-client-cert-file")

    kubelet_client_certificate: str = Field("", description="certificate shown to node agents")
    kubelet_client_key: str = Field("", description="key of --kubelet-client-certificate")
    kubelet_certificate_authority: str = Field("", description="CA that signed the node agents' certificates")
    kubelet_preferred_address_types: list[str] = Field(
        ["InternalIP", "Hostname", "ExternalIP"],
        description="which of a node's addresses to call, best first",
    )

    enable_admission_plugins: list[str] = Field([], description="plugins to add to the default ones")
    disable_admission_plugins: list[str] = Field([], description="default plugins to leave out")
    admission_control_config_file: str = Field(
        "",
        description="AdmissionConfiguration: how PodSecurity, ResourceQuota, EventRateLimit and webhooks are meant",
    )
    default_not_ready_toleration_seconds: int = Field(
        300, ge=0, description="seconds a pod stays on a node that is not ready, when it says nothing"
    )
    default_unreachable_toleration_seconds: int = Field(
        300, ge=0, description="seconds a pod stays on a node that is unreachable, when it says nothing"
    )
    feature_gates: dict[str, str] = Field(
        {}, description="Name=true,...; what is so anyway, and ClusterTrustBundle, which is off"
    )
    runtime_config: dict[str, str] = Field(
        {},
        description="GROUP/VERSION=true,...; what is served anyway, and certificates.k8s.io/v1beta1, which is off",
    )
    enable_priority_and_fairness: bool = Field(
        True, description="always on: raise --max-requests-inflight to let more in"
    )
    max_requests_inflight: int = Field(
        400, ge=1, description="seats of flow control, together with --max-mutating-requests-inflight"
    )
    max_mutating_requests_inflight: int = Field(
        200, ge=0, description="seats of flow control, together with --max-requests-inflight"
    )
    audit_policy_file: str = Field("", description="audit policy; empty: nothing is recorded")
    audit_log_path: str = Field("", description="file audit events are written to; - is standard output")
    audit_log_maxage: int = Field(0, ge=0, description="days rotated audit logs are kept; 0: no limit")
    audit_log_maxbackup: int = Field(0, ge=0, description="rotated audit logs that are kept; 0: all")
    audit_log_maxsize: int = Field(100, ge=0, description="megabytes of an audit log; 0: never rotated")
    audit_log_mode: Literal["batch", "blocking", "blocking-strict"] = Field(
        "blocking",
        description="blocking: written before the request goes on; blocking-strict: or it is refused; batch: beside it",
    )
    audit_log_batch_max_size: int = Field(1, ge=1, description="events written in one go in mode batch")
    audit_log_batch_max_wait: float = Field(
        0.0, ge=0, description="seconds an event waits for others in mode batch"
    )
    audit_log_batch_buffer_size: int = Field(
        10_000, ge=1, description="events that may wait for the log in mode batch"
    )
    audit_log_truncate_enabled: bool = Field(
        False, description="record events that are too large without their bodies"
    )
    audit_log_truncate_max_event_size: int = Field(102_400, ge=1, description="bytes of an event for the log")
    audit_log_truncate_max_batch_size: int = Field(
        10_485_760, ge=1, description="accepted; events are written into the log one by one"
    )
    audit_webhook_mode: Literal["batch"] = Field(
        "batch", description="the collector is sent batches; no request waits for it"
    )
    audit_webhook_truncate_enabled: bool = Field(
        False, description="send events that are too large without their bodies"
    )
    audit_webhook_truncate_max_event_size: int = Field(
        102_400, ge=1, description="bytes of an event for the collector"
    )
    audit_webhook_truncate_max_batch_size: int = Field(
        10_485_760, ge=1, description="bytes of a batch for the collector"
    )
    audit_webhook_config_file: str = Field("", description="kubeconfig of a collector of audit events")
    audit_webhook_batch_max_size: int = Field(400, ge=1, description="events of a batch for the collector")
    audit_webhook_batch_max_wait: float = Field(
        30.0, gt=0, description="seconds an audit event waits for others before its batch goes"
    )
    audit_webhook_batch_buffer_size: int = Field(
        10_000, ge=1, description="audit events that may wait for delivery"
    )
    audit_webhook_initial_backoff: float = Field(
        10.0, gt=0, description="seconds before a failed batch is delivered again"
    )
    max_request_body_bytes: int = Field(
        3 * 1024 * 1024,
        ge=1024,
        description="largest request body; etcd's --max-request-bytes must not be smaller",
    )
    request_timeout: float = Field(60.0, gt=0, description="seconds a request other than a watch may take")

    @field_validator("service_cluster_ip_range")
    @classmethod
    def _networks(cls, value: str) -> str:
        ranges = [
            ipaddress.ip_network(part.strip()) for part in value.split(",")
        ]  # ValueError says what is wrong
        if len(ranges) > 2 or (len(ranges) == 2 and ranges[0].version == ranges[1].version):
            raise ValueError(f"{value!r} is neither one range nor an IPv4 and an IPv6 one")
        for network in ranges:
            if network.num_addresses < 8:
                raise ValueError(f"{network} holds {network.num_addresses} addresses: at least 8 are needed")
            if network.version == 6 and network.prefixlen < 64:
                raise ValueError(f"{network} is too large: the shortest IPv6 prefix is 64")
        return ",".join(str(network) for network in ranges)

    @field_validator("service_node_port_range")
    @classmethod
    def _ports(cls, value: str) -> str:
        low, dash, high = value.partition("-")
        if not dash or not low.isdigit() or not high.isdigit() or not 0 < int(low) <= int(high) <= 65535:
            raise ValueError(f"{value!r} is not a range of ports such as 30000-32767")
        return value

    @field_validator("service_account_max_token_expiration")
    @classmethod
    def _longest(cls, value: float) -> float:
        if value and not 3600 <= value <= 1 << 32:
            raise ValueError(
                "the service-account-max-token-expiration must be between 1 hour and 2^32 seconds"
            )
        return value

    @field_validator("anonymous_auth_paths")
    @classmethod
    def _paths(cls, value: list[str]) -> list[str]:
        for path in value:
            if not path.startswith("/"):
                raise ValueError(f"{path!r} is not a path: it must begin with /")
        return value

    @field_validator("feature_gates")
    @classmethod
    def _gates(cls, value: dict[str, str]) -> dict[str, str]:
        switches.check_gates(value)
        return value

    @field_validator("runtime_config")
    @classmethod
    def _apis(cls, value: dict[str, str]) -> dict[str, str]:
        switches.check_runtime_config(value, {row.api_version for row in table.TABLE})
        return value

    @field_validator("enable_priority_and_fairness")
    @classmethod
    def _fair(cls, value: bool) -> bool:
        if not value:
            raise ValueError(
                "priority and fairness cannot be turned off; raise --max-requests-inflight instead"
            )
        return value

    @property
    def jwks_uri(self) -> str:
        """What the issuer's discovery document says of the keys."""
        if self.service_account_jwks_uri:
            return self.service_account_jwks_uri
        address = self.public_address
        return f"{f'https://{address}' if address else self.service_account_issuer[0]}/openid/v1/jwks"

    @property
    def public_address(self) -> str:
        """``host:port`` under which clients outside reach this server, "" when nobody has said."""
        host = self.external_hostname or self.advertise_address
        return f"{f'[{host}]' if ':' in host else host}:{self.secure_port}" if host else ""

    @property
    def service_ranges(self) -> list[str]:
        """The networks of --service-cluster-ip-range; the first one's family is the default one of services."""
        return self.service_cluster_ip_range.split(",")

    @property
    def node_ports(self) -> tuple[int, int]:
        """Lowest and highest node port."""
        low, _, high = self.service_node_port_range.partition("-")
        return int(low), int(high)

    @property
    def audiences(self) -> list[str]:
        """Audiences of the API itself."""
        return list(self.api_audiences) or list(self.service_account_issuer)
