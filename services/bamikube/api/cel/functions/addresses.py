"""Addresses and networks in expressions: ``cidr("10.0.0.0/8").containsIP("10.1.2.3")``."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bamikube.api.cel.functions.model import (
    STRING_FACTOR,
    Function,
    a_string,
    declare,
    length,
    succeeds,
    walk,
)
from bamikube.api.cel.types import CelError, NoOverload

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Ip:
    address: _Address
    type_name = "net.IP"

    @property
    def text(self) -> str:
        return str(self.address)


@dataclass(frozen=True, slots=True)
class Cidr:
    """An address with a prefix length; bits behind the prefix are kept, as written."""

    interface: ipaddress.IPv4Interface | ipaddress.IPv6Interface
    type_name = "net.CIDR"

    @property
    def text(self) -> str:
        return str(self.interface)


def _parse_ip(text: Any) -> Ip:
    written = a_string(text)
    try:
        address = ipaddress.ip_address(written)
    except ValueError:
        raise CelError(
            f'IP Address "{written}" parse error during conversion from string: unable to parse IP'
        ) from None
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id:
            raise CelError(f'IP address "{written}" with zone value is not allowed')
        if address.ipv4_mapped is not None:
            raise CelError(f'IPv4-mapped IPv6 address "{written}" is not allowed')
    return Ip(address)


def _ip(value: Any) -> Ip:
    if type(value) is Cidr:
        return Ip(value.interface.ip)
    return _parse_ip(value)


def _cidr(text: Any) -> Cidr:
    written = a_string(text)
    address, slash, bits = written.partition("/")
    try:
        if not slash or not (bits.isascii() and bits.isdigit()) or (len(bits) > 1 and bits[0] == "0"):
            raise ValueError
        _parse_ip(address)
        return Cidr(ipaddress.ip_interface(written))
    except ValueError:
        raise CelError(
            f'network address parse error during conversion from string: netip.ParsePrefix("{written}"): invalid prefix'
        ) from None


def _network(value: Any) -> Any:
    if type(value) is not Cidr:
        raise NoOverload()
    return value.interface.network


def _contains_ip(cidr: Any, ip: Any) -> bool:
    address = (ip if type(ip) is Ip else _parse_ip(ip)).address
    return address in _network(cidr)


def _contains_cidr(cidr: Any, other: Any) -> bool:
    outer, inner = _network(cidr), _network(other if type(other) is Cidr else _cidr(other))
    return outer.version == inner.version and bool(inner.subnet_of(outer))


def _masked(cidr: Any) -> Cidr:
    return Cidr(ipaddress.ip_interface(str(_network(cidr))))


def _of_ip(check: Callable[[_Address], Any]) -> Callable[[Any], Any]:
    def call(value: Any) -> Any:
        if type(value) is not Ip:
            raise NoOverload()
        return check(value.address)

    return call


def _canonical(text: Any) -> bool:
    return _parse_ip(text).text == text


def _link_local_multicast(address: _Address) -> bool:
    if address.version == 4:
        return str(address).startswith("224.0.0.")
    return address.is_multicast and address.packed[1] & 0x0F == 2


def _global_unicast(address: _Address) -> bool:
    broadcast = address == ipaddress.IPv4Address("255.255.255.255")
    return not (
        broadcast
        or address.is_unspecified
        or address.is_loopback
        or address.is_multicast
        or address.is_link_local
    )


def _ip_cost(args: tuple[Any, ...], result: Any) -> int:
    return math.ceil(length(args[0]) * STRING_FACTOR) if type(args[0]) is str else 1


def _containing(extra: int) -> Callable[[tuple[Any, ...], Any], int]:
    def cost(args: tuple[Any, ...], result: Any) -> int:
        size = 4 if args[0].interface.version == 4 else 16
        total = math.ceil(2 * size * STRING_FACTOR)
        if extra:
            total += math.ceil(size * STRING_FACTOR) + 1
        return total + (math.ceil(len(args[1]) * STRING_FACTOR) if type(args[1]) is str else 0)

    return cost


FUNCTIONS: dict[str, Function] = {
    "ip": Function(_ip, _ip_cost),
    "isIP": Function(succeeds(_parse_ip), walk()),
    "ip.isCanonical": Function(_canonical, walk(2 * STRING_FACTOR)),
    "family": Function(_of_ip(lambda address: address.version)),
    "isUnspecified": Function(_of_ip(lambda address: address.is_unspecified)),
    "isLoopback": Function(_of_ip(lambda address: address.is_loopback)),
    "isLinkLocalMulticast": Function(_of_ip(_link_local_multicast)),
    "isLinkLocalUnicast": Function(_of_ip(lambda address: address.is_link_local)),
    "isGlobalUnicast": Function(_of_ip(_global_unicast)),
    "cidr": Function(_cidr, walk()),
    "isCIDR": Function(succeeds(_cidr), walk()),
    "containsIP": Function(_contains_ip, _containing(0)),
    "containsCIDR": Function(_contains_cidr, _containing(1)),
    "masked": Function(_masked),
    "prefixLength": Function(lambda cidr: _network(cidr).prefixlen),
}

DECLARED = declare(
    [
        "ip(string) -> IP",
        "isIP(string) -> bool",
        "ip.isCanonical(string) -> bool",
        "IP.family() -> int",
        "IP.isUnspecified() -> bool",
        "IP.isLoopback() -> bool",
        "IP.isLinkLocalMulticast() -> bool",
        "IP.isLinkLocalUnicast() -> bool",
        "IP.isGlobalUnicast() -> bool",
        "string(IP) -> string",
        "cidr(string) -> CIDR",
        "isCIDR(string) -> bool",
        *(f"CIDR.containsIP({each}) -> bool" for each in ("string", "IP")),
        *(f"CIDR.containsCIDR({each}) -> bool" for each in ("string", "CIDR")),
        "CIDR.ip() -> IP",
        "CIDR.masked() -> CIDR",
        "CIDR.prefixLength() -> int",
        "string(CIDR) -> string",
    ]
)
