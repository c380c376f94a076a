"""From one service to its records: the decision, pure.

The names are those of the Kubernetes DNS specification 1.1.0:

=========  ================================================  =====================================================
cluster IP ``web.shop.svc.cluster.local``                    A / AAAA, the cluster IPs; SRV, every port
           ``_http._tcp.web.shop.svc.cluster.local``         SRV to the above
headless   ``db.shop.svc.cluster.local``                     A / AAAA, every ready endpoint
           ``db-0.db.shop.svc.cluster.local``                A of one endpoint: by hostname, or its address with dashes
           ``_pg._tcp.db.shop.svc.cluster.local``            SRV to each of them
external   ``api.shop.svc.cluster.local``                    CNAME
reverse    ``20.0.96.10.in-addr.arpa``                       PTR to the service, or to a headless endpoint's name
=========  ================================================  =====================================================
"""

from __future__ import annotations

from collections.abc import Iterable

from bamikube.dns.model import Endpoint, Port, Service, Slice
from bamikube.dns.wire import AAAA, CNAME, PTR, SRV, A, address, name, reverse, srv

# name -> type -> data of the records, in a stable order
Records = dict[bytes, dict[int, list[bytes]]]


def records(service: Service, slices: Iterable[Slice], zone: str) -> Records:
    """All records of a service. A name that DNS cannot hold is left out."""
    namespace, _, own = service.key.partition("/")
    base = f"{own}.{namespace}.svc.{zone}"
    made: Records = {}
    owner = name(base)
    if service.external:
        try:
            _put(made, owner, CNAME, name(service.external))
        except ValueError:
            made[owner] = {}
        return made
    if service.addresses:
        for text in service.addresses:
            _put(made, owner, AAAA if ":" in text else A, address(text))
            _put(made, reverse(text), PTR, owner)
        _ports(made, base, service.ports, [owner])
        return made
    made[owner] = {}  # a headless service without endpoints exists: NODATA, not NXDOMAIN
    for part in sorted(slices, key=lambda item: item.key):
        targets: list[bytes] = []
        for endpoint in part.endpoints:
            if endpoint.ready or service.publish_not_ready:
                targets.append(_endpoint(made, owner, base, endpoint))
        _ports(made, base, part.ports, targets)
    return made


def _endpoint(made: Records, owner: bytes, base: str, endpoint: Endpoint) -> bytes:
    kind = AAAA if ":" in endpoint.address else A
    packed = address(endpoint.address)
    host = endpoint.hostname or endpoint.address.replace(".", "-").replace(":", "-")
    target = name(f"{host}.{base}")
    _put(made, owner, kind, packed)
    _put(made, target, kind, packed)
    _put(made, reverse(endpoint.address), PTR, target)
    return target


def _ports(made: Records, base: str, ports: Iterable[Port], targets: list[bytes]) -> None:
    weight = max(1, 100 // len(targets)) if targets else 0
    for port in ports:
        for target in targets:
            data = srv(0, weight, port.port, target)
            _put(made, name(base), SRV, data)
            if port.name:
                _put(made, name(f"_{port.name}._{port.protocol}.{base}"), SRV, data)


def _put(made: Records, owner: bytes, kind: int, data: bytes) -> None:
    held = made.setdefault(owner, {}).setdefault(kind, [])
    if data not in held:
        held.append(data)
