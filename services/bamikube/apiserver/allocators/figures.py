"""What is counted of addresses and ports, under Kubernetes' names.

``scope`` is static for what a client asked for and dynamic for what was chosen here.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge

from bamikube.kit.metrics import REGISTRY

STATIC, DYNAMIC = "static", "dynamic"

ADDRESSES = Counter(
    "kube_apiserver_clusterip_allocator_allocation",
    "Cluster IPs that services were given.",
    ["cidr", "scope"],
    registry=REGISTRY,
)
ADDRESS_ERRORS = Counter(
    "kube_apiserver_clusterip_allocator_allocation_errors",
    "Cluster IPs that could not be given.",
    ["cidr", "scope"],
    registry=REGISTRY,
)
ADDRESSES_TAKEN = Gauge(
    "kube_apiserver_clusterip_allocator_allocated_ips",
    "Cluster IPs of a range that services have.",
    ["cidr"],
    registry=REGISTRY,
)
ADDRESSES_FREE = Gauge(
    "kube_apiserver_clusterip_allocator_available_ips",
    "Cluster IPs of a range that are free.",
    ["cidr"],
    registry=REGISTRY,
)
PORTS = Counter(
    "kube_apiserver_nodeport_allocator_allocation",
    "Node ports that services were given.",
    ["scope"],
    registry=REGISTRY,
)
PORT_ERRORS = Counter(
    "kube_apiserver_nodeport_allocator_allocation_errors",
    "Node ports that could not be given.",
    ["scope"],
    registry=REGISTRY,
)
PORTS_TAKEN = Gauge(
    "kube_apiserver_nodeport_allocator_allocated_ports", "Node ports that services have.", registry=REGISTRY
)
PORTS_FREE = Gauge(
    "kube_apiserver_nodeport_allocator_available_ports", "Node ports that are free.", registry=REGISTRY
)
ADDRESS_REPAIRS = Counter(
    "apiserver_clusterip_repair_ip_errors",
    "Cluster IPs found wrong: leak, repair, outOfRange, duplicate.",
    ["type"],
    registry=REGISTRY,
)
PORT_REPAIRS = Counter(
    "apiserver_nodeport_repair_port_errors",
    "Node ports found wrong: leak, repair, outOfRange, duplicate.",
    ["type"],
    registry=REGISTRY,
)
PORT_REPAIRS_FAILED = Counter(
    "apiserver_nodeport_repair_reconcile_errors",
    "Looks at all node ports that failed.",
    registry=REGISTRY,
)

# What a finding's event means to who counts.
_TYPES = {
    "ClusterIPOutOfRange": "outOfRange",
    "PortOutOfRange": "outOfRange",
    "ClusterIPAlreadyAllocated": "duplicate",
    "PortAlreadyAllocated": "duplicate",
    "IPAddressNotAllocated": "leak",
    "IPAddressWrongReference": "leak",
}


def type_of(reason: str, action: str) -> str:
    """How a finding is counted: ``reason`` is its event's, "" when it has none."""
    return _TYPES.get(reason, "leak" if action == "delete" else "repair")
