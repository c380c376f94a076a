"""The formats of strings that Kubernetes checks; any other ``format`` is a comment.

Source: the list of supported formats on Kubernetes' CustomResourceDefinition page, and the patterns of go-openapi's
``strfmt`` (behaviour).
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable
from datetime import date
from urllib.parse import urlsplit

from bamikube.api.names import is_dns1123_label, is_dns1123_subdomain

Check = Callable[[str], bool]

_TIME = re.compile(r"([0-9]{2}):([0-9]{2}):([0-9]{2})(.[0-9]+)?(z|[+-][0-9]{2}:[0-9]{2})\Z")
_HOSTNAME = re.compile(
    r"([a-zA-Z0-9_]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9_])?)(\.[a-zA-Z0-9_]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9_])?)*\.?\Z"
)
_DURATION = re.compile(r"[+-]?(0|(([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)\Z")
_SPOKEN = re.compile(
    r"([0-9]+\s*(ns|nano|us|µs|micro|ms|milli|s|sec|second|m|min|minute|h|hr|hour|d|day|w|wk|week)s?)+\Z"
)
_UUID = r"[0-9a-f]{8}-?[0-9a-f]{4}-?%s-?%s-?[0-9a-f]{12}\Z"
_EMAIL = re.compile(r"[^\s@<>()\[\],;:\\\"]+@[^\s@<>()\[\],;:\\\"]+\Z")
_MAC = re.compile(
    r"([0-9a-fA-F]{2}([:-])([0-9a-fA-F]{2}\2){4}[0-9a-fA-F]{2}|([0-9a-fA-F]{2}[:-]){7}[0-9a-fA-F]{2}"
    r"|([0-9a-fA-F]{4}\.){2}[0-9a-fA-F]{4})\Z"
)


def _date(text: str) -> bool:
    try:
        return len(text) == 10 and bool(date.fromisoformat(text))
    except ValueError:
        return False


def _date_time(text: str) -> bool:
    day, separator, rest = text.lower().partition("t")
    found = _TIME.match(rest) if separator and _date(day) else None
    return found is not None and found[1] <= "23" and found[2] <= "59" and found[3] <= "59"


def _address(version: int) -> Check:
    def check(text: str) -> bool:
        try:
            return ipaddress.ip_address(text).version == version and "%" not in text
        except ValueError:
            return False

    return check


def _cidr(text: str) -> bool:
    address, slash, length = text.partition("/")
    try:
        return bool(slash) and length.isdigit() and bool(ipaddress.ip_interface(f"{address}/{length}"))
    except ValueError:
        return False


def _uri(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return not re.search(r"[\s\x00-\x1f\x7f]", text) and (text.startswith("/") or bool(parts.scheme))


def _byte(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _matching(pattern: str) -> Check:
    compiled = re.compile(pattern, re.IGNORECASE)
    return lambda text: compiled.match(text) is not None


def _luhn(text: str) -> bool:
    if re.search(r"[^0-9 -]", text):
        return False
    digits = [int(each) for each in text if each.isdigit()]
    if not 12 <= len(digits) <= 19:
        return False
    total = 0
    for position, digit in enumerate(reversed(digits)):
        doubled = digit * (1 + position % 2)
        total += doubled - 9 * (doubled > 9)
    return total % 10 == 0


def _isbn10(text: str) -> bool:
    plain = text.replace("-", "").replace(" ", "")
    if not re.fullmatch(r"[0-9]{9}[0-9X]", plain):
        return False
    values = [10 if each == "X" else int(each) for each in plain]
    return sum((position + 1) * each for position, each in enumerate(values)) % 11 == 0


def _isbn13(text: str) -> bool:
    plain = text.replace("-", "").replace(" ", "")
    if not re.fullmatch(r"[0-9]{13}", plain):
        return False
    return sum(int(each) * (1 + 2 * (position % 2)) for position, each in enumerate(plain)) % 10 == 0


_ANY = r"[0-9a-f]{4}"
_VARIANT = r"[89ab][0-9a-f]{3}"
FORMATS: dict[str, Check] = {
    "bsonobjectid": _matching(r"[0-9a-f]{24}\Z"),
    "byte": _byte,
    "cidr": _cidr,
    "creditcard": _luhn,
    "date": _date,
    "date-time": _date_time,
    "datetime": _date_time,
    "duration": lambda text: bool(_DURATION.match(text) or _SPOKEN.match(text)),
    "email": lambda text: _EMAIL.match(text) is not None,
    "hexcolor": _matching(r"#?([0-9a-f]{3}|[0-9a-f]{6})\Z"),
    "hostname": lambda text: len(text) <= 255 and _HOSTNAME.match(text) is not None,
    "ipv4": _address(4),
    "ipv6": _address(6),
    "isbn": lambda text: _isbn10(text) or _isbn13(text),
    "isbn10": _isbn10,
    "isbn13": _isbn13,
    "k8s-long-name": lambda text: not is_dns1123_subdomain(text),
    "k8s-short-name": lambda text: not is_dns1123_label(text),
    "mac": lambda text: _MAC.match(text) is not None,
    "password": lambda text: True,
    "rgbcolor": _matching(r"rgb\(\s*([0-9]{1,3})\s*,\s*([0-9]{1,3})\s*,\s*([0-9]{1,3})\s*\)\Z"),
    "ssn": _matching(r"[0-9]{3}[- ]?[0-9]{2}[- ]?[0-9]{4}\Z"),
    "uri": _uri,
    "uuid": _matching(_UUID % (_ANY, _ANY)),
    "uuid3": _matching(_UUID % (r"3[0-9a-f]{3}", _ANY)),
    "uuid4": _matching(_UUID % (r"4[0-9a-f]{3}", _VARIANT)),
    "uuid5": _matching(_UUID % (r"5[0-9a-f]{3}", _VARIANT)),
}
