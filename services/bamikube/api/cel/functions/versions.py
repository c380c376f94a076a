"""Semantic versions in expressions: ``semver("1.2.3").isLessThan(semver("2.0.0"))``."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bamikube.api.cel.functions.model import Function, a_string, declare, succeeds, walk
from bamikube.api.cel.types import CelError, NoOverload
from bamikube.api.numbers import whole


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
    written = _normal(a_string(text)) if normalize else a_string(text)
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


def compare(left: Semver, right: Any) -> int:
    """Negative, zero or positive. Raises NoOverload when ``right`` is no version."""
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


FUNCTIONS: dict[str, Function] = {
    "semver": Function(_semver, walk()),
    "isSemver": Function(succeeds(_semver), walk()),
    "major": Function(_version_part("major")),
    "minor": Function(_version_part("minor")),
    "patch": Function(_version_part("patch")),
}

DECLARED = declare(
    [
        "semver(string) -> Semver",
        "semver(string, bool) -> Semver",
        "isSemver(string) -> bool",
        "isSemver(string, bool) -> bool",
        *(f"Semver.{name}() -> int" for name in ("major", "minor", "patch")),
    ]
)
