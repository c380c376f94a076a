"""What Kubernetes adds to CEL: quantities, addresses, URLs, named formats, versions.

Each value is a small immutable class; ``type_name`` is what ``type(x)`` says, ``text`` what ``string(x)`` gives.

Source: Kubernetes' "Common Expression Language in Kubernetes", Kubernetes CEL libraries.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import math
import re
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bamikube.api import names
from bamikube.api.cel import moments
from bamikube.api.cel.functions.model import STRING_FACTOR, Function, declare, length, walk
from bamikube.api.cel.types import ABSENT, CelError, NoOverload, Optional
from bamikube.api.numbers import whole
from bamikube.api.quantity import NANOS, Quantity, QuantityError


def _text(value: Any) -> str:
    if type(value) is not str:
        raise NoOverload()
    return value


def _succeeds(call: Callable[..., Any]) -> Callable[..., bool]:
    """``isX`` of ``x``: whether it would not fail."""

    def test(*args: Any) -> bool:
        try:
            call(*args)
        except CelError as error:
            if isinstance(error, NoOverload):
                raise
            return False
        return True

    return test


# -- quantities ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Amount:
    """``kubernetes.Quantity``; equal by amount."""

    quantity: Quantity
    type_name = "kubernetes.Quantity"

    @property
    def text(self) -> str:
        return str(self.quantity)


def quantity(text: Any) -> Amount:
    try:
        return Amount(Quantity.parse(_text(text)))
    except QuantityError as error:
        raise CelError(str(error)) from None


def _nanos(value: Any) -> int:
    if type(value) is Amount:
        return value.quantity.nanos
    if type(value) is int:
        return int(value) * NANOS
    raise NoOverload()


def _amount(value: Any) -> Amount:
    if type(value) is not Amount:
        raise NoOverload()
    return value


def _is_integer(value: Any) -> bool:
    nanos = _nanos(_amount(value))
    return nanos % NANOS == 0 and -(2**63) <= nanos // NANOS < 2**63


def _as_integer(value: Any) -> int:
    if not _is_integer(value):
        raise CelError("cannot convert value to integer")
    return _nanos(value) // NANOS


def _sign(value: Any) -> int:
    nanos = _nanos(_amount(value))
    return (nanos > 0) - (nanos < 0)


def _compare(left: Any, right: Any) -> int:
    if type(left) is Semver:
        return _compare_versions(left, right)
    ours, theirs = _nanos(_amount(left)), _nanos(_amount(right))
    return (ours > theirs) - (ours < theirs)


def _combined(sign: int) -> Callable[[Any, Any], Amount]:
    def call(left: Any, right: Any) -> Amount:
        base = _amount(left).quantity
        return Amount(Quantity(base.nanos + sign * _nanos(right), base.format))

    return call


# -- addresses -------------------------------------------------------------------------------------------------------

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
    written = _text(text)
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
    written = _text(text)
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


# -- URLs ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Url:
    text: str
    parts: urllib.parse.SplitResult
    type_name = "kubernetes.URL"


_BAD_IN_URL = re.compile(r"[\x00-\x20\x7f]|%(?![0-9A-Fa-f]{2})")


def _url(text: Any) -> Url:
    """An absolute URI or an absolute path."""
    written = _text(text)
    refused = CelError(
        f'URL parse error during conversion from string: parse "{written}": invalid URI for request'
    )
    if not written or _BAD_IN_URL.search(written):
        raise refused
    try:
        parts = urllib.parse.urlsplit(written)
        _ = parts.port
    except ValueError:
        raise refused from None
    if not parts.scheme and not written.startswith("/"):
        raise refused
    if parts.scheme and not parts.netloc and not parts.path.startswith("/"):
        raise refused
    return Url(written, parts)


def _of_url(part: Callable[[urllib.parse.SplitResult], Any]) -> Callable[[Any], Any]:
    def call(value: Any) -> Any:
        if type(value) is not Url:
            raise NoOverload()
        return part(value.parts)

    return call


def _host(parts: urllib.parse.SplitResult) -> str:
    return parts.netloc.rpartition("@")[2]


def _hostname(parts: urllib.parse.SplitResult) -> str:
    host = _host(parts)
    if host.startswith("["):
        return host[1 : host.index("]")]
    return host.rpartition(":")[0] if ":" in host else host


def _port(parts: urllib.parse.SplitResult) -> str:
    return "" if parts.port is None else str(parts.port)


def _query(parts: urllib.parse.SplitResult) -> dict[str, list[str]]:
    return urllib.parse.parse_qs(parts.query, keep_blank_values=True)


# -- named formats ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Format:
    name: str
    check: Callable[[str], list[str]]
    type_name = "kubernetes.NamedFormat"


def _by_pattern(pattern: str, message: str) -> Callable[[str], list[str]]:
    compiled = re.compile(pattern)
    return lambda text: [] if compiled.fullmatch(text) else [message]


def _byte(text: str) -> list[str]:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return ["invalid base64"]
    return []


def _by_parsing(parse: Callable[[str], Any], message: str) -> Callable[[str], list[str]]:
    succeeds = _succeeds(parse)
    return lambda text: [] if succeeds(text) else [message]


def _prefix(check: Callable[[str], list[str]]) -> Callable[[str], list[str]]:
    return lambda text: check(text[:-1] + "a" if text.endswith("-") else text)


FORMATS: dict[str, Format] = {
    each.name: each
    for each in (
        Format("dns1123Label", names.is_dns1123_label),
        Format("dns1123Subdomain", names.is_dns1123_subdomain),
        Format("dns1035Label", names.is_dns1035_label),
        Format("qualifiedName", names.is_qualified_name),
        Format("dns1123LabelPrefix", _prefix(names.is_dns1123_label)),
        Format("dns1123SubdomainPrefix", _prefix(names.is_dns1123_subdomain)),
        Format("dns1035LabelPrefix", _prefix(names.is_dns1035_label)),
        Format("labelValue", names.is_label_value),
        Format("uri", _by_parsing(_url, "invalid URI")),
        Format(
            "uuid",
            _by_pattern(
                r"(?i)[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}",
                "does not match the UUID format",
            ),
        ),
        Format("byte", _byte),
        Format("date", _by_pattern(r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])", "invalid date")),
        Format("datetime", _by_parsing(moments.parse_timestamp, "invalid datetime")),
    )
}


def _named(name: Any) -> Optional:
    found = FORMATS.get(_text(name))
    return ABSENT if found is None else Optional(True, found)


def _validate(form: Any, text: Any) -> Optional:
    if type(form) is not Format:
        raise NoOverload()
    wrong = form.check(_text(text))
    return Optional(True, wrong) if wrong else ABSENT


# -- semantic versions -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Semver:
    major: int
    minor: int
    patch: int
    pre: tuple[str, ...]
    text: str
    type_name = "kubernetes.Semver"


_SEMVER = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-((?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?"
    r"(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?",
    re.ASCII,
)


def _normal(text: str) -> str:
    """``v1.02`` becomes ``1.2.0``."""
    head = re.match(r"v?([\d.]*)(.*)\Z", text, re.DOTALL)
    assert head is not None
    numbers = [part.lstrip("0") or "0" for part in head.group(1).split(".")]
    return ".".join([*numbers, "0", "0"][: max(3, len(numbers))]) + head.group(2)


def _semver(text: Any, normalize: Any = False) -> Semver:
    written = _normal(_text(text)) if normalize else _text(text)
    match = _SEMVER.fullmatch(written)
    if match is None:
        raise CelError(f"semver parse error: {written} is no semantic version")
    major, minor, patch = (whole(part) for part in match.groups()[:3])
    if major is None or minor is None or patch is None:
        raise CelError(f"semver parse error: a number of {written[:80]} is out of range")
    pre = match.group(4)
    return Semver(major, minor, patch, tuple(pre.split(".")) if pre else (), written)


def _rank(version: Semver) -> tuple[Any, ...]:
    # Numbers have no zeros in front: the longer is the larger.
    pre = tuple((0, len(part), part) if part.isdigit() else (1, 0, part) for part in version.pre)
    return (version.major, version.minor, version.patch, not version.pre, pre)


def _compare_versions(left: Semver, right: Any) -> int:
    if type(right) is not Semver:
        raise NoOverload()
    ours, theirs = _rank(left), _rank(right)
    return (ours > theirs) - (ours < theirs)


def _version_part(name: str) -> Callable[[Any], int]:
    def call(value: Any) -> int:
        if type(value) is not Semver:
            raise NoOverload()
        return int(getattr(value, name))

    return call


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
    "quantity": Function(quantity, walk()),
    "isQuantity": Function(_succeeds(quantity), walk()),
    "sign": Function(_sign),
    "isInteger": Function(_is_integer),
    "asInteger": Function(_as_integer),
    "asApproximateFloat": Function(lambda value: _nanos(_amount(value)) / NANOS),
    "isGreaterThan": Function(lambda left, right: _compare(left, right) > 0),
    "isLessThan": Function(lambda left, right: _compare(left, right) < 0),
    "compareTo": Function(_compare),
    "add": Function(_combined(1)),
    "sub": Function(_combined(-1)),
    "ip": Function(_ip, _ip_cost),
    "isIP": Function(_succeeds(_parse_ip), walk()),
    "ip.isCanonical": Function(_canonical, walk(2 * STRING_FACTOR)),
    "family": Function(_of_ip(lambda address: address.version)),
    "isUnspecified": Function(_of_ip(lambda address: address.is_unspecified)),
    "isLoopback": Function(_of_ip(lambda address: address.is_loopback)),
    "isLinkLocalMulticast": Function(_of_ip(_link_local_multicast)),
    "isLinkLocalUnicast": Function(_of_ip(lambda address: address.is_link_local)),
    "isGlobalUnicast": Function(_of_ip(_global_unicast)),
    "cidr": Function(_cidr, walk()),
    "isCIDR": Function(_succeeds(_cidr), walk()),
    "containsIP": Function(_contains_ip, _containing(0)),
    "containsCIDR": Function(_contains_cidr, _containing(1)),
    "masked": Function(_masked),
    "prefixLength": Function(lambda cidr: _network(cidr).prefixlen),
    "url": Function(_url, walk()),
    "isURL": Function(_succeeds(_url), walk()),
    "getScheme": Function(_of_url(lambda parts: parts.scheme)),
    "getHost": Function(_of_url(_host)),
    "getHostname": Function(_of_url(_hostname)),
    "getPort": Function(_of_url(_port)),
    "getEscapedPath": Function(
        _of_url(lambda parts: urllib.parse.quote(urllib.parse.unquote(parts.path), "/:@!$&'()*+,;=~"))
    ),
    "getQuery": Function(_of_url(_query)),
    "format.named": Function(_named),
    **{f"format.{name}": Function(lambda form=form: form) for name, form in FORMATS.items()},
    "validate": Function(_validate, walk(argument=1)),
    "jsonpatch.escapeKey": Function(lambda key: _text(key).replace("~", "~0").replace("/", "~1"), walk()),
    "semver": Function(_semver, walk()),
    "isSemver": Function(_succeeds(_semver), walk()),
    "major": Function(_version_part("major")),
    "minor": Function(_version_part("minor")),
    "patch": Function(_version_part("patch")),
}

DECLARED = declare(
    [
        "quantity(string) -> Quantity",
        "isQuantity(string) -> bool",
        "Quantity.sign() -> int",
        "Quantity.isInteger() -> bool",
        "Quantity.asInteger() -> int",
        "Quantity.asApproximateFloat() -> double",
        *(
            f"{kind}.{name}({kind}) -> bool"
            for kind in ("Quantity", "Semver")
            for name in ("isGreaterThan", "isLessThan")
        ),
        "Quantity.compareTo(Quantity) -> int",
        "Semver.compareTo(Semver) -> int",
        *(
            f"Quantity.{name}({other}) -> Quantity"
            for name in ("add", "sub")
            for other in ("Quantity", "int")
        ),
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
        "url(string) -> URL",
        "isURL(string) -> bool",
        *(
            f"URL.{name}() -> string"
            for name in ("getScheme", "getHost", "getHostname", "getPort", "getEscapedPath")
        ),
        "URL.getQuery() -> map",
        "format.named(string) -> optional<NamedFormat>",
        *(f"format.{name}() -> NamedFormat" for name in FORMATS),
        "NamedFormat.validate(string) -> optional<list<string>>",
        "jsonpatch.escapeKey(string) -> string",
        "semver(string) -> Semver",
        "semver(string, bool) -> Semver",
        "isSemver(string) -> bool",
        "isSemver(string, bool) -> bool",
        *(f"Semver.{name}() -> int" for name in ("major", "minor", "patch")),
    ]
)
