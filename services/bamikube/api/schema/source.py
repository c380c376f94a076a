"""The definitions of the API, as Kubernetes publishes them.

``kubernetes-validate`` carries the OpenAPI definitions of v1.34 as data, changed for its own purpose: optional types
are widened to ``[type, "null"]``, references point into ``$defs``, ``apiVersion`` and ``kind`` are pinned by an enum,
and the formats of int-or-string and of quantities are lost. Here they are put back, one definition at a time, when it
is first asked for: reading the file costs some 10 ms, normalising all 730 definitions another 30.

Worked example::

    {"type": ["array", "null"], "items": {"$ref": "#/$defs/io.k8s.api.core.v1.Volume"}}
      becomes
    {"type": "array", "items": {"$ref": "#/definitions/io.k8s.api.core.v1.Volume"}}
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import Any

import orjson

KUBERNETES = "v1.34.0"
REF = "#/definitions/"
_FOREIGN_REF = "#/$defs/"

INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
TIME = "io.k8s.apimachinery.pkg.apis.meta.v1.Time"
MICRO_TIME = "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime"

_SPECIAL: dict[str, dict[str, Any]] = {
    INT_OR_STRING: {
        "description": "IntOrString holds either an integer or a string.",
        "format": "int-or-string",
        "type": "string",
    },
    QUANTITY: {
        "description": "Quantity is a fixed-point number with an optional decimal or binary suffix, such as 500m or 2Gi.",
        "type": "string",
    },
}


def _path() -> Path:
    """Where the data lies. The package itself is not imported: that would cost 40 ms and jsonschema's memory."""
    spec = importlib.util.find_spec("kubernetes_validate")
    if spec is None or spec.origin is None:
        raise RuntimeError(
            "the package kubernetes-validate is not installed: install it, the API's schemas come from it"
        )
    return Path(spec.origin).parent / "kubernetes-json-schema" / f"{KUBERNETES}-local" / "_definitions.json"


@functools.lru_cache(maxsize=1)
def _raw() -> dict[str, Any]:
    loaded: dict[str, Any] = orjson.loads(_path().read_bytes())["$defs"]
    return loaded


def _narrow(node: Any) -> Any:
    if isinstance(node, list):
        return [_narrow(each) for each in node]
    if not isinstance(node, dict):
        return node
    result: dict[str, Any] = {}
    for key, value in node.items():
        if key == "properties":
            result[key] = {name: _narrow(each) for name, each in value.items()}
        elif key == "type" and isinstance(value, list):
            result[key] = next(each for each in value if each != "null")
        elif key == "$ref":
            result[key] = REF + value.removeprefix(_FOREIGN_REF)
        elif key == "enum":
            continue  # only apiVersion and kind have one, and Kubernetes publishes none
        else:
            result[key] = _narrow(value)
    return result


@functools.cache
def definition(name: str) -> dict[str, Any]:
    """The normalised definition; shared, not to be changed. Raises ``KeyError`` for a name that does not exist."""
    special = _SPECIAL.get(name)
    if special is not None:
        return special
    narrowed: dict[str, Any] = _narrow(_raw()[name])
    return narrowed


def definition_names() -> list[str]:
    """All 730 names, in the order of the source."""
    return list(_raw())


def all_definitions() -> dict[str, dict[str, Any]]:
    """Every definition, normalised (for ``/openapi``)."""
    return {name: definition(name) for name in _raw()}
