"""What a Service is given when it is written: cluster IP, node ports, health-check node port.

The planning (:func:`wanted_ports`, :func:`held`) is pure; :class:`ServiceAllocator` turns it into guards and writes
that join the service's own transaction.

Worked example, a NodePort service with ports 80/TCP and 80/UDP and nothing chosen: one cluster IP and one node
port are picked; both ports get that node port (they have the same service port); the transaction carries two
guards (both records absent) and two puts. Changing the type to ClusterIP deletes the record of the node port in the
transaction that stores the new type.

The record of a cluster IP is its IPAddress object, so that ``kubectl get ipaddresses`` shows who has which, and one that
somebody made by hand keeps its address from services. Node ports have records that no API shows.

Source: the Service API, "Service ClusterIP allocation", KEP-1880 (IPAddress objects), and KEP-1864 for
``allocateLoadBalancerNodePorts``.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Sequence
from typing import Any

import orjson

from bamikube.api import errors
from bamikube.api.errors import Cause
from bamikube.api.resources import Resource
from bamikube.api.times import stamp
from bamikube.apiserver.allocators.pool import Exhausted, Pool, static_band
from bamikube.apiserver.cache.item import encode
from bamikube.apiserver.registry.hooks import NOTHING, Extra
from bamikube.apiserver.registry.reader import Reader
from bamikube.kit.world import World
from bamikube.store.port import Compare, Delete, Put, Store

SERVICES = ("", "services")
IP_PREFIX = "/registry/networking.k8s.io/ipaddresses/"
PORT_PREFIX = "/registry/bami/nodeports/"
HEADLESS = "None"
# Labels of the IPAddresses that services hold, as Kubernetes' allocator writes them.
MANAGED_BY = "ipaddress.kubernetes.io/managed-by"
ALLOCATOR = "ipallocator.k8s.io"
_FAMILY = "ipaddress.kubernetes.io/ip-family"
_WITH_CLUSTER_IP = ("ClusterIP", "NodePort", "LoadBalancer")


class ServiceAllocator:
    """The :class:`~bamikube.apiserver.registry.hooks.WriteHook` of services.

    ``cidr`` is ``--service-cluster-ip-range`` (IPv4), ``ports`` ``--service-node-port-range`` (both ends included).
    """

    def __init__(
        self,
        store: Store,
        reader: Reader,
        world: World,
        cidr: str = "10.96.0.0/12",
        ports: str = "30000-32767",
    ) -> None:
        self._store = store
        self._world = world
        self.network = ipaddress.IPv4Network(cidr)
        first, _, last = ports.partition("-")
        self._first, self._last = int(first), int(last)
        if not 0 < self._first <= self._last < 65536:
            raise ValueError(
                f"the node port range {ports!r} is not FIRST-LAST with 1 <= FIRST <= LAST <= 65535"
            )
        # Neither the network's address nor its broadcast address is handed out.
        size = min(self.network.num_addresses - 2, 1 << 24)
        if size < 1:
            raise ValueError(f"the service range {cidr} is too small: use a /30 or larger")
        self.ips = Pool(
            IP_PREFIX, size, static_band(size, 16, 16, 256), world, self._ip_text, self._ip_number
        )
        count = self._last - self._first + 1
        self.ports = Pool(
            PORT_PREFIX, count, static_band(count, 32, 16, 128), world, self._port_text, self._port_number
        )
        reader.subscribe(SERVICES, self._changed)

    def applies(self, resource: Resource) -> bool:
        return resource.key == SERVICES

    async def on_create(self, obj: dict[str, Any]) -> Extra:
        """Fills in what is missing in ``obj`` and claims all of it. Raises ApiError 422 for what is taken."""
        return await self._claim({}, obj)

    async def on_update(self, old: dict[str, Any], obj: dict[str, Any]) -> Extra:
        """Claims what is new, gives back what is gone."""
        return await self._claim(old, obj)

    async def on_delete(self, obj: dict[str, Any]) -> Extra:
        ips, ports = held(obj)
        if not ips and not ports:
            return NOTHING
        return Extra(
            [], [*(Delete(self.ips.key(ip)) for ip in ips), *(Delete(self.ports.key(p)) for p in ports)]
        )

    async def _claim(self, old: dict[str, Any], obj: dict[str, Any]) -> Extra:
        old_ips, old_ports = held(old)
        spec = obj.setdefault("spec", {})
        guards: list[Compare] = []
        writes: list[Put | Delete] = []

        async def claim(
            pool: Pool, value: str, record: bytes, requested: bool, field: str, shown: str, wording: str
        ) -> None:
            if requested and await self._store.get(pool.key(value)) is not None:
                raise _taken(obj, field, shown, wording)
            guards.append(Compare(pool.key(value), 0))
            writes.append(Put(pool.key(value), record))

        for ip, requested in self._cluster_ips(obj, old_ips):
            wording = f"failed to allocate IP {ip}: provided IP is already allocated"
            await claim(
                self.ips, ip, self.ip_record(ip, obj), requested, "spec.clusterIPs", json.dumps([ip]), wording
            )
        for port, requested, field in self._node_ports(obj, old_ports):
            record, wording = port_record(obj), "provided port is already allocated"
            await claim(self.ports, port, record, requested, field, port, wording)
        new_ips, new_ports = held(obj)
        writes.extend(Delete(self.ips.key(ip)) for ip in old_ips if ip not in new_ips)
        writes.extend(Delete(self.ports.key(port)) for port in old_ports if port not in new_ports)
        if not spec.get("ports"):
            spec.pop("ports", None)
        return Extra(guards, writes) if guards or writes else NOTHING

    def ip_record(self, ip: str, service: dict[str, Any]) -> bytes:
        """The IPAddress of ``service``'s cluster IP, as it is stored."""
        meta = service["metadata"]
        parent = {"resource": "services", "namespace": meta["namespace"], "name": meta["name"]}
        metadata = {
            "name": ip,
            "uid": self._world.chance.uuid(),
            "creationTimestamp": stamp(self._world.clock.now()),
            "labels": {_FAMILY: "IPv4", MANAGED_BY: ALLOCATOR},
        }
        kind = {"kind": "IPAddress", "apiVersion": "networking.k8s.io/v1"}
        return encode({**kind, "metadata": metadata, "spec": {"parentRef": parent}})

    def _cluster_ips(self, obj: dict[str, Any], old: Sequence[str]) -> list[tuple[str, bool]]:
        """Sets the cluster IP fields; returns the addresses to claim, each with whether the client asked for it."""
        spec = obj["spec"]
        if spec.get("type", "ClusterIP") not in _WITH_CLUSTER_IP:
            return []
        ip = spec.get("clusterIP") or next(iter(spec.get("clusterIPs") or []), "")
        if ip == HEADLESS:
            spec["clusterIP"], spec["clusterIPs"] = HEADLESS, [HEADLESS]
            spec.setdefault("ipFamilies", ["IPv4"])
            spec.setdefault("ipFamilyPolicy", "SingleStack")
            return []
        requested = bool(ip)
        if "IPv6" in (spec.get("ipFamilies") or []) and spec.get("ipFamilyPolicy") != "PreferDualStack":
            cause = Cause(
                "FieldValueInvalid",
                'Invalid value: "IPv6": not configured on this cluster',
                f"spec.ipFamilies[{spec['ipFamilies'].index('IPv6')}]",
            )
            raise errors.invalid("Service", obj["metadata"].get("name", ""), [cause])
        if not ip:
            try:
                ip = self.ips.pick()
            except Exhausted:
                raise errors.internal(
                    f"failed to allocate a serviceIP: range {self.network} is full"
                ) from None
        elif ip not in old and not self.ips.contains(ip):
            raise _taken(
                obj,
                "spec.clusterIPs",
                json.dumps([ip]),
                f"failed to allocate IP {ip}: the provided IP ({ip}) is not in the valid range. "
                f"The range of valid IPs is {self.network}",
            )
        spec["clusterIP"], spec["clusterIPs"] = ip, [ip]
        spec["ipFamilies"] = ["IPv4"]
        spec.setdefault("ipFamilyPolicy", "SingleStack")
        return [] if ip in old else [(ip, requested)]

    def _node_ports(self, obj: dict[str, Any], old: Sequence[str]) -> list[tuple[str, bool, str]]:
        """Sets node ports; returns those to claim: port, whether asked for, field."""
        spec = obj["spec"]
        claims: list[tuple[str, bool, str]] = []
        mine = set(old)
        for field, holder, name in wanted_ports(spec):
            given = holder.get(name) or 0
            requested = bool(given)
            if not requested:
                twin = _twin(spec, holder) if name == "nodePort" else 0
                if twin:
                    holder[name] = given = twin
                else:
                    try:
                        given = int(self.ports.pick())
                    except Exhausted:
                        raise errors.internal(
                            f"failed to allocate a nodePort: range {self._first}-{self._last} is full"
                        ) from None
                    holder[name] = given
            port = str(given)
            if port in mine:
                continue
            if not self.ports.contains(port):
                raise _taken(
                    obj,
                    field,
                    port,
                    "provided port is not in the valid range. "
                    f"The range of valid ports is {self._first}-{self._last}",
                )
            mine.add(port)
            claims.append((port, requested, field))
        return claims

    def _changed(self, _type: str, old: dict[str, Any] | None, new: dict[str, Any] | None) -> None:
        before = held(old) if old is not None else ((), ())
        after = held(new) if new is not None else ((), ())
        key = _key(new or old or {"metadata": {}})
        for pool, gone, here in ((self.ips, before[0], after[0]), (self.ports, before[1], after[1])):
            for value in gone:
                if value not in here:
                    pool.release(value, key)
            for value in here:
                pool.take(value, key)

    def _ip_text(self, number: int) -> str:
        return str(self.network.network_address + 1 + number)

    def _ip_number(self, text: str) -> int | None:
        try:
            number = int(ipaddress.IPv4Address(text)) - int(self.network.network_address) - 1
        except ValueError:
            return None
        return number if 0 <= number < self.ips.size else None

    def _port_text(self, number: int) -> str:
        return str(self._first + number)

    def _port_number(self, text: str) -> int | None:
        number = int(text) - self._first if text.isdigit() else -1
        return number if 0 <= number <= self._last - self._first else None


def port_record(service: dict[str, Any]) -> bytes:
    """Who has a node port."""
    return orjson.dumps({"service": _key(service), "uid": service["metadata"].get("uid", "")})


def wanted_ports(spec: dict[str, Any]) -> list[tuple[str, dict[str, Any], str]]:
    """The places in a service's spec that hold a node port or need one: field path, the dictionary, its key.

    Ports already chosen come first, so that a twin (same service port, other protocol) can share them.
    """
    kind = spec.get("type", "ClusterIP")
    if kind not in ("NodePort", "LoadBalancer"):
        return []
    allocate = kind == "NodePort" or spec.get("allocateLoadBalancerNodePorts") is not False
    places: list[tuple[str, dict[str, Any], str]] = [
        (f"spec.ports[{index}].nodePort", port, "nodePort")
        for index, port in enumerate(spec.get("ports") or [])
        if allocate or port.get("nodePort")
    ]
    if kind == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local":
        places.append(("spec.healthCheckNodePort", spec, "healthCheckNodePort"))
    return sorted(places, key=lambda place: not place[1].get(place[2]))


def _twin(spec: dict[str, Any], port: dict[str, Any]) -> int:
    """The node port of another protocol on the same service port, 0 when there is none."""
    for other in spec.get("ports") or []:
        if (
            other is not port
            and other.get("port") == port.get("port")
            and other.get("protocol") != port.get("protocol")
            and other.get("nodePort")
        ):
            return int(other["nodePort"])
    return 0


def held(service: dict[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The cluster IPs and node ports that a stored service holds."""
    spec = service.get("spec") or {}
    kind = spec.get("type", "ClusterIP")
    ips: tuple[str, ...] = ()
    if kind in _WITH_CLUSTER_IP:
        listed = spec.get("clusterIPs") or [spec.get("clusterIP")]
        ips = tuple(ip for ip in listed if ip and ip != HEADLESS)
    ports = [port.get("nodePort") for port in spec.get("ports") or [] if kind in ("NodePort", "LoadBalancer")]
    if kind == "LoadBalancer":
        ports.append(spec.get("healthCheckNodePort"))
    return ips, tuple(dict.fromkeys(str(port) for port in ports if port))


def _key(service: dict[str, Any]) -> str:
    metadata = service["metadata"]
    return f"{metadata.get('namespace', '')}/{metadata.get('name', '')}"


def _taken(service: dict[str, Any], field: str, shown: str, why: str) -> errors.ApiError:
    cause = Cause("FieldValueInvalid", f"Invalid value: {shown}: {why}", field)
    return errors.invalid("Service", service["metadata"].get("name", ""), [cause])
