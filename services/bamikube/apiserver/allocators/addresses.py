"""Cluster IPs: out of every ServiceCIDR that is ready, of the families that ``--service-cluster-ip-range`` names.

Who has an address is recorded as an IPAddress object, so that ``kubectl get ipaddresses`` shows it, and one that somebody
made by hand keeps its address from services. Ranges may overlap: there is one ledger of taken addresses for all ranges
of a family, fed by the IPAddresses. Which ranges are ready is looked at when the ServiceCIDRs change.

Worked example: 10.96.0.0/28 is full, somebody creates a ServiceCIDR with 10.97.0.0/16. As soon as this server has seen
it, services get addresses of its upper band, 10.97.1.1 and above; 10.97.0.1 to 10.97.1.0 are left to who asks for one.

Source: KEP-1880 (multiple service CIDRs), KEP-3070 (reserve service IP ranges).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bamikube.api.predicates.servicecidrs import (
    ALLOCATOR,
    FAMILY_LABEL,
    MANAGED_BY_LABEL,
    Address,
    Network,
    address_of,
    family,
    gives,
    is_ready,
    networks,
)
from bamikube.api.predicates.servicecidrs import address as parsed
from bamikube.api.times import stamp
from bamikube.apiserver.allocators import figures
from bamikube.apiserver.allocators.pool import Exhausted, Ledger, choose, static_band
from bamikube.apiserver.cache.item import encode
from bamikube.apiserver.registry.reader import Reader
from bamikube.kit.world import World

SERVICE_CIDRS = ("networking.k8s.io", "servicecidrs")
IP_ADDRESSES = ("networking.k8s.io", "ipaddresses")
PREFIX = "/registry/networking.k8s.io/ipaddresses/"
TAKEN = "provided IP is already allocated"
OUT_OF_RANGE = "the provided network does not match the current range"
_LONGEST = 64  # bits of the largest IPv6 network addresses are given of


@dataclass(frozen=True, slots=True)
class Range:
    """A network as numbers: ``first`` up to ``band`` is left to those who ask for an address, the rest is given."""

    network: Network
    first: int
    band: int
    end: int

    @classmethod
    def of(cls, network: Network) -> Range:
        first = int(network.network_address) + 1
        last = int(network.broadcast_address) - (1 if network.version == 4 else 0)
        end = max(first, last + 1)  # a network of one or two addresses has none to give
        band = first + static_band(network.num_addresses, 16, 16, 256)
        return cls(network, first, min(band, end), end)


class Addresses:
    """``cidrs`` are those of ``--service-cluster-ip-range``; their order is that of the families."""

    def __init__(self, reader: Reader, world: World, cidrs: Sequence[str]) -> None:
        self._reader = reader
        self._world = world
        self.families = tuple(family(ipaddress.ip_network(cidr)) for cidr in cidrs)
        self._ledgers = {name: Ledger(world.clock) for name in self.families}
        self._ready: list[Range] = []
        self.networks: list[Network] = []  # of all ServiceCIDRs, ready or not
        reader.subscribe(IP_ADDRESSES, self._address_changed)
        reader.subscribe(SERVICE_CIDRS, self._cidr_changed)

    @property
    def ready(self) -> list[str]:
        """The ranges that addresses are given of."""
        return [str(one.network) for one in self._ready if family(one.network) in self._ledgers]

    @staticmethod
    def key(ip: str) -> bytes:
        """Where the IPAddress of a cluster IP is kept, however that is written."""
        return f"{PREFIX}{parsed(ip)}".encode()

    def pick(self, name: str) -> str:
        """An address of a family that is free as far as is known here. Raises Exhausted."""
        ledger = self._ledgers[name]
        ledger.forget_old()
        ranges = [one for one in self._ready if family(one.network) == name]
        made: Callable[[int], Address] = ipaddress.IPv4Address if name == "IPv4" else ipaddress.IPv6Address
        for bands in (
            [(one.band, one.end) for one in ranges],
            [(one.first, one.band) for one in ranges],
        ):
            while bands:
                low, high = bands.pop(self._by_size(bands))
                number = choose(low, high, ledger.is_free, self._world.chance)
                if number is not None:
                    ledger.reserve(number)
                    return str(made(number))
        raise Exhausted

    def _by_size(self, bands: Sequence[tuple[int, int]]) -> int:
        """Any of the bands; a larger one is likelier, as it has room for more."""
        total = sum(high - low for low, high in bands)
        place = self._world.chance.randrange(0, total) if total else 0
        for index, (low, high) in enumerate(bands):
            place -= high - low
            if place < 0:
                return index
        return 0

    def refusal(self, ip: str) -> str:
        """Why an address cannot be had, whoever has it; "" when a range that is ready gives it."""
        return "" if self.range_of(ip) else OUT_OF_RANGE

    def range_of(self, ip: str) -> str:
        """A ready range that gives an address, "" when there is none."""
        address = parsed(ip)
        return next((str(one.network) for one in self._ready if gives(one.network, address)), "")

    def tell(self) -> None:
        """Bring the figures of what is taken and free up to date."""
        for gauge in (figures.ADDRESSES_TAKEN, figures.ADDRESSES_FREE):
            gauge.clear()  # a range may be gone
        for one in self._ready:
            ledger = self._ledgers.get(family(one.network))
            if ledger is not None:
                taken = ledger.count(one.first, one.end)
                figures.ADDRESSES_TAKEN.labels(str(one.network)).set(taken)
                figures.ADDRESSES_FREE.labels(str(one.network)).set(one.end - one.first - taken)

    def record(self, ip: str, service: dict[str, Any]) -> bytes:
        """The IPAddress of a service's cluster IP, as it is stored."""
        address = parsed(ip)
        meta = service["metadata"]
        parent = {"resource": "services", "namespace": meta["namespace"], "name": meta["name"]}
        metadata = {
            "name": str(address),
            "uid": self._world.chance.uuid(),
            "creationTimestamp": stamp(self._world.clock.now()),
            "labels": {FAMILY_LABEL: family(address), MANAGED_BY_LABEL: ALLOCATOR},
        }
        kind = {"kind": "IPAddress", "apiVersion": "networking.k8s.io/v1"}
        return encode({**kind, "metadata": metadata, "spec": {"parentRef": parent}})

    def _address_changed(self, _type: str, old: dict[str, Any] | None, new: dict[str, Any] | None) -> None:
        address = address_of(new or old or {"metadata": {"name": ""}})
        ledger = self._ledgers.get(family(address)) if address is not None else None
        if address is None or ledger is None:
            return
        if new is None:
            ledger.release(int(address))
        else:
            ledger.take(int(address))

    def _cidr_changed(self, _type: str, old: dict[str, Any] | None, new: dict[str, Any] | None) -> None:
        cidrs = self._reader.list(SERVICE_CIDRS)
        self.networks = [network for cidr in cidrs for network in networks(cidr)]
        ready = {network for cidr in cidrs if is_ready(cidr) for network in networks(cidr)}
        self._ready = [
            Range.of(network)
            for network in dict.fromkeys(self.networks)
            if network in ready and (network.version == 4 or network.prefixlen >= _LONGEST)
        ]
