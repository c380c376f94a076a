"""The table of messages, loaded on first use: which field has which number and type, and which message a kind is."""

from __future__ import annotations

import gzip
import importlib.resources
import json
from dataclasses import dataclass
from functools import cache

from bamikube.api.omitted import says_nothing

META = "k8s.io.apimachinery.pkg.apis.meta.v1."
RAW_EXTENSION = "k8s.io.apimachinery.pkg.runtime.RawExtension"

_PACKAGES = {
    "": "k8s.io.api.core.",
    "apiextensions.k8s.io": "k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.",
    "apiregistration.k8s.io": "k8s.io.kube_aggregator.pkg.apis.apiregistration.",
    "meta.k8s.io": "k8s.io.apimachinery.pkg.apis.meta.",
}

# Kinds that clients send and get under any group and version.
_EVERYWHERE = {
    "APIGroup",
    "APIGroupList",
    "APIResourceList",
    "APIVersions",
    "CreateOptions",
    "DeleteOptions",
    "GetOptions",
    "ListOptions",
    "PatchOptions",
    "Status",
    "UpdateOptions",
    "WatchEvent",
}


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a message. ``label`` is optional, repeated, map (``type`` is the values') or inline."""

    number: int
    name: str
    type: str
    label: str
    keeps_zero: bool


@cache
def _load() -> dict[str, list[tuple[int, str, str, str]]]:
    packed = importlib.resources.files(__package__).joinpath("k8s-wire.json.gz").read_bytes()
    table: dict[str, list[tuple[int, str, str, str]]] = json.loads(gzip.decompress(packed))
    return table


@cache
def fields(message: str) -> tuple[Field, ...]:
    """The fields of a message, by number. Raises ``KeyError`` for unknown messages."""
    result = []
    for number, name, kind, label in _load()[message]:
        keeps = not says_nothing(message, name, text=kind == "string")
        result.append(Field(number, name, kind, label, keeps))
    return tuple(sorted(result, key=lambda field: field.number))


@cache
def message_of(api_version: str, kind: str) -> str | None:
    """The message of a kind: ``apps/v1 Deployment`` is ``k8s.io.api.apps.v1.Deployment``. None when there is none."""
    group, _, version = api_version.rpartition("/")
    package = _PACKAGES.get(group) or f"k8s.io.api.{group.partition('.')[0]}."
    table = _load()
    name = f"{package}{version}.{kind}"
    if name in table and kind not in _EVERYWHERE:
        return name
    if kind in _EVERYWHERE and META + kind in table:
        return META + kind
    return None
