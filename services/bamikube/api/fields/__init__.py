"""Which fields of an object somebody means: sets of field paths, and what objects look like to them.

- :mod:`bamikube.api.fields.sets` holds sets of paths as Kubernetes writes them into ``managedFields``;
- :mod:`bamikube.api.fields.elements` names the steps of a path, for machines (``k:{"name":"web"}``) and for people;
- :mod:`bamikube.api.fields.types` walks objects along their schema: compare, merge, take away, list the fields;
- :mod:`bamikube.api.fields.lists` are the types of lists whose elements are told apart;
- :mod:`bamikube.api.fields.compile` makes such types from OpenAPI, once.
"""

from __future__ import annotations

from bamikube.api.fields.compile import defined_object_type, object_type, type_of
from bamikube.api.fields.sets import FieldSet
from bamikube.api.fields.types import Faults, Object, Type, Unfit

__all__ = ["Faults", "FieldSet", "Object", "Type", "Unfit", "defined_object_type", "object_type", "type_of"]
