"""The words of validation: one function per way a field can be wrong, worded as Kubernetes words it.

Clients and people match on these texts (``Required value``, ``Unsupported value: "x": supported values: "a", "b"``),
and ``reason`` is what programs look at.

Rules are plain functions, not pydantic models: they run on every write, and measured ten times cheaper that way.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import orjson

from bamikube.api.errors import Cause
from bamikube.api.memory import FEW, Approved
from bamikube.api.names import is_dns1123_subdomain, is_label_value, is_qualified_name
from bamikube.api.quantity import Quantity

IMMUTABLE = "field is immutable"
NOT_NEGATIVE = "must be greater than or equal to 0"
POSITIVE = "must be greater than 0"


def shown(value: Any) -> str:
    """A value as it appears in a message: quoted text, plain numbers, JSON for the rest."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    if isinstance(value, (int, float)):
        return str(value)
    return orjson.dumps(value).decode()


def required(field: str, detail: str = "") -> Cause:
    return Cause("FieldValueRequired", "Required value" + (f": {detail}" if detail else ""), field)


def invalid(field: str, value: Any, detail: str) -> Cause:
    return Cause("FieldValueInvalid", f"Invalid value: {shown(value)}: {detail}", field)


def not_supported(field: str, value: Any, supported: Iterable[str]) -> Cause:
    names = ", ".join(f'"{each}"' for each in supported)
    tail = f": supported values: {names}" if names else ""
    return Cause("FieldValueNotSupported", f"Unsupported value: {shown(value)}{tail}", field)


def duplicate(field: str, value: Any) -> Cause:
    return Cause("FieldValueDuplicate", f"Duplicate value: {shown(value)}", field)


def forbidden(field: str, detail: str) -> Cause:
    return Cause("FieldValueForbidden", f"Forbidden: {detail}", field)


def not_found(field: str, value: Any) -> Cause:
    return Cause("FieldValueNotFound", f"Not found: {shown(value)}", field)


def too_long(field: str, limit: int) -> Cause:
    return Cause("FieldValueTooLong", f"Too long: may not be more than {limit} bytes", field)


def too_many(field: str, count: int, limit: int) -> Cause:
    return Cause("FieldValueTooMany", f"Too many: {count}: must have at most {limit} items", field)


# --- checks that answer with a list ---------------------------------------------------------------------------------


def named(
    field: str, value: Any, predicate: Callable[[str], list[str]], *, needed: bool = True
) -> list[Cause]:
    """The value has to satisfy a predicate of :mod:`bamikube.api.names`."""
    if not value:
        return [required(field)] if needed else []
    return [invalid(field, value, message) for message in predicate(value)]


def one_of(field: str, value: Any, supported: Sequence[str], *, needed: bool = True) -> list[Cause]:
    """The value has to be one of a few words."""
    if not value:
        return [required(field)] if needed else []
    return [] if value in supported else [not_supported(field, value, supported)]


def not_negative(field: str, value: Any) -> list[Cause]:
    """The number, when given, must not be below zero."""
    return [invalid(field, value, NOT_NEGATIVE)] if value is not None and value < 0 else []


def not_negative_amount(field: str, amount: Any) -> list[Cause]:
    """The quantity must not be below zero."""
    return [invalid(field, str(amount), NOT_NEGATIVE)] if Quantity.parse(amount).sign() < 0 else []


def port_number(field: str, value: Any) -> list[Cause]:
    """A port: 1 to 65535."""
    return (
        []
        if isinstance(value, int) and 1 <= value <= 65535
        else [invalid(field, value, "must be between 1 and 65535, inclusive")]
    )


def immutable(field: str, new: Any, old: Any) -> list[Cause]:
    """The value may not change. Absent and empty are the same."""
    return [] if (new or None) == (old or None) else [invalid(field, new, IMMUTABLE)]


_PATH = re.compile(r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+")


def domain_prefixed_path(field: str, value: str) -> list[Cause]:
    """A name such as ``acme.io/foo``: a domain, a slash and a path (controllers of ingress classes, of jobs)."""
    if not value:
        return [required(field)]
    host, slash, path = value.partition("/")
    if not slash or not host or not path:
        return [invalid(field, value, 'must be a domain-prefixed path (such as "acme.io/foo")')]
    causes = [invalid(field, host, message) for message in is_dns1123_subdomain(host)]
    if not _PATH.fullmatch(path):
        causes.append(invalid(field, path, f"Invalid path (regex used for validation is '{_PATH.pattern}')"))
    return causes


def ip_of(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address behind a text; None when it is none. One with a zone (``fe80::1%eth0``) is none to Kubernetes."""
    try:
        return ipaddress.ip_address(text) if "%" not in text else None
    except ValueError:
        return None


def ip(field: str, text: str) -> list[Cause]:
    """An IPv4 or IPv6 address."""
    if ip_of(text) is not None:
        return []
    return [invalid(field, text, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")]


def network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """The network behind a CIDR text; None when it is none."""
    start, slash, bits = text.partition("/")
    try:
        whole = slash and bits.isdigit() and start and "%" not in start
        return ipaddress.ip_network(text, strict=False) if whole else None
    except ValueError:
        return None


def cidr(field: str, text: str) -> list[Cause]:
    """A range of addresses."""
    if network(text) is not None:
        return []
    return [invalid(field, text, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)")]


def canonical_cidr(field: str, text: str) -> list[Cause]:
    """A range of addresses, written as everybody writes it."""
    plain = re.sub(r"(^|[./])0+(?=[0-9])", r"\1", text) if ":" not in text else text
    found = network(plain)
    if found is None:
        return cidr(field, plain)
    start, _, bits = plain.partition("/")
    if plain != text or (len(bits) > 1 and bits.startswith("0")):
        return [invalid(field, text, "must not have leading 0s in IP or prefix length")]
    given = ipaddress.ip_address(start)
    if getattr(given, "ipv4_mapped", None) is not None:
        return [invalid(field, text, "must not have an IPv4-mapped IPv6 address")]
    if given != found.network_address:
        return [invalid(field, text, "must not have bits set beyond the prefix length")]
    return [] if str(found) == text else [invalid(field, text, f'must be in canonical form ("{found}")')]


_APPROVED = Approved(2048)


def labels(field: str, values: dict[str, str] | None) -> list[Cause]:
    """Keys and values of a label map."""
    if not values:
        return []
    if len(values) < FEW:
        return _labels(field, values)
    return _APPROVED.judge(values, lambda: _labels(field, values))


def _labels(field: str, values: dict[str, str]) -> list[Cause]:
    causes: list[Cause] = []
    for key, value in values.items():
        causes += [invalid(field, key, m) for m in is_qualified_name(key)]
        causes += [invalid(field, value, message) for message in is_label_value(value)]
    return causes


_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")


def label_selector(field: str, selector: dict[str, Any] | None) -> list[Cause]:
    """A ``metav1.LabelSelector``: its labels, and its expressions."""
    if selector is None:
        return []
    causes = labels(f"{field}.matchLabels", selector.get("matchLabels"))
    for index, each in enumerate(selector.get("matchExpressions") or ()):
        path = f"{field}.matchExpressions[{index}]"
        operator, values = each.get("operator", ""), each.get("values") or []
        if operator in ("In", "NotIn") and not values:
            causes.append(required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
        elif operator in ("Exists", "DoesNotExist") and values:
            causes.append(
                forbidden(
                    f"{path}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                )
            )
        elif operator not in _OPERATORS:
            causes.append(invalid(f"{path}.operator", operator, "not a valid selector operator"))
        causes += [
            invalid(f"{path}.key", each.get("key", ""), m) for m in is_qualified_name(each.get("key", ""))
        ]
        for place, value in enumerate(values):
            causes += [
                invalid(f"{path}.values[{place}]", value, message) for message in is_label_value(value)
            ]
    return causes
