"""Making the server known to the cluster: the Service kube-dns, and our own EndpointSlice behind it.

Pods ask the cluster IP of kube-dns, as on every Kubernetes cluster. The Service has no selector, because DNS runs as a
process of the node, not as a pod; each server keeps a slice of its own under the Service, ready once it knows the cluster
and not ready when it stops.
"""

from __future__ import annotations

import logging
from typing import Any

from bamikube.api.errors import ApiError
from bamikube.client import Client
from bamikube.kit.world import World

log = logging.getLogger(__name__)

NAMESPACE = "kube-system"
SERVICE = "kube-dns"
MANAGER = "bamikube-dns"
SLICES = "endpointslices.discovery.k8s.io"


def service(cluster_ip: str) -> dict[str, Any]:
    """The Service as kubeadm's CoreDNS has it, without a selector."""
    ports = [
        {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53},
        {"name": "metrics", "port": 9153, "protocol": "TCP", "targetPort": 9153},
    ]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": SERVICE,
            "namespace": NAMESPACE,
            "labels": {
                "k8s-app": "kube-dns",
                "kubernetes.io/cluster-service": "true",
                "kubernetes.io/name": "CoreDNS",
            },
            "annotations": {"prometheus.io/port": "9153", "prometheus.io/scrape": "true"},
        },
        "spec": {"type": "ClusterIP", "clusterIP": cluster_ip, "clusterIPs": [cluster_ip], "ports": ports},
    }


def slice_for(address: str, node: str, *, ready: bool) -> dict[str, Any]:
    """Our own slice. Its name comes from the address: a restarted server finds its own again."""
    endpoint: dict[str, Any] = {
        "addresses": [address],
        "conditions": {"ready": ready, "serving": ready, "terminating": False},
    }
    if node:
        endpoint["nodeName"] = node
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{SERVICE}-{address.replace('.', '-').replace(':', '-')}",
            "namespace": NAMESPACE,
            "labels": {
                "kubernetes.io/service-name": SERVICE,
                "endpointslice.kubernetes.io/managed-by": MANAGER,
                "k8s-app": "kube-dns",
            },
        },
        "addressType": "IPv4",
        "endpoints": [endpoint],
        "ports": [
            {"name": "dns", "port": 53, "protocol": "UDP"},
            {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
            {"name": "metrics", "port": 9153, "protocol": "TCP"},
        ],
    }


async def register(client: Client, cluster_ip: str, address: str, node: str) -> None:
    """Create what is missing, update what differs. Raises ApiError."""
    try:
        held = await client.get("services", SERVICE, NAMESPACE)
        given = (held.get("spec") or {}).get("clusterIP")
        if given != cluster_ip:
            log.warning(
                "Service %s/%s has the cluster IP %s, not %s (--cluster-dns-ip): pods whose resolv.conf names %s get no "
                "answers. Delete the Service to have it made again",
                NAMESPACE,
                SERVICE,
                given,
                cluster_ip,
                cluster_ip,
            )
    except ApiError as error:
        if error.code != 404:
            raise
        await _create(client, "services", service(cluster_ip))
    await put_slice(client, slice_for(address, node, ready=True))


async def put_slice(client: Client, wanted: dict[str, Any]) -> None:
    try:
        held = await client.get(SLICES, wanted["metadata"]["name"], NAMESPACE)
    except ApiError as error:
        if error.code != 404:
            raise
        await _create(client, SLICES, wanted)
        return
    if held.get("endpoints") != wanted["endpoints"] or held.get("ports") != wanted["ports"]:
        await client.update(
            SLICES, {**wanted, "metadata": {**held["metadata"], "labels": wanted["metadata"]["labels"]}}
        )


async def _create(client: Client, resource: str, obj: dict[str, Any]) -> None:
    try:
        await client.create(resource, obj, NAMESPACE)
    except ApiError as error:
        if error.reason != "AlreadyExists":  # another server was faster
            raise


async def keep_registered(client: Client, world: World, cluster_ip: str, address: str, node: str) -> None:
    """Register, and look again every half minute: somebody may delete the Service or the slice."""
    while True:
        try:
            await register(client, cluster_ip, address, node)
            delay = 30.0
        except (ApiError, OSError, TimeoutError) as error:
            log.warning("cannot register the DNS service: %s; trying again", error)
            delay = 2.0
        await world.clock.sleep(delay)
