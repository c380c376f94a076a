"""Schemas: what fields objects have, driven by one source, the OpenAPI definitions of ``kubernetes-validate``.

- :mod:`bamikube.api.schema.source` reads the definitions and puts right what that package widened;
- :mod:`bamikube.api.schema.compile` turns a definition into nested closures, on first use;
- :mod:`bamikube.api.schema.check` is what the API server calls on every body;
- :mod:`bamikube.api.schema.merge` answers the questions of strategic merge and server-side apply.
"""

from __future__ import annotations

from bamikube.api.schema.check import (
    NO_REPEATS,
    Repeats,
    SchemaReport,
    check,
    check_definition,
    decode_error,
    ensure,
    prune,
)
from bamikube.api.schema.merge import Property, property
from bamikube.api.schema.patched import Patched
from bamikube.api.schema.source import all_definitions, definition, definition_names

__all__ = [
    "NO_REPEATS",
    "Patched",
    "Property",
    "Repeats",
    "SchemaReport",
    "all_definitions",
    "check",
    "check_definition",
    "decode_error",
    "definition",
    "definition_names",
    "ensure",
    "property",
    "prune",
]
