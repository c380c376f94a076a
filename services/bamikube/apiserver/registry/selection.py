"""From query parameters to a filter over the cache."""

from __future__ import annotations

from collections.abc import Callable

from bamikube.api import errors, selectors
from bamikube.api.resources import Resource
from bamikube.apiserver.cache.item import Item
from bamikube.apiserver.cache.watcher import Filter


def make_filter(
    resource: Resource,
    namespace: str = "",
    labels: str = "",
    fields: str = "",
    stored: Resource | None = None,
) -> Filter:
    """The filter of a list, watch or deletecollection. Raises ApiError 400 for selectors that make no sense.

    ``stored`` is the storage row when it differs from ``resource``: then fields are read from the converted object.
    """
    if not labels and not fields:
        return Filter(namespace)
    label = field = None
    deep = False
    parameter = "labelSelector"
    try:
        if labels:
            selector = selectors.parse_labels(labels)
            label = None if selector.empty else selector
            deep = label is not None
        parameter = "fieldSelector"
        if fields:
            chosen = selectors.parse_fields(fields)
            if not chosen.empty:
                others = stored.selectable_fields if stored and resource.custom is None else ()
                known = (*resource.selectable_fields, *others)
                for path in chosen.fields():
                    if path not in known and path != "metadata.name":
                        raise errors.bad_request(_unknown_field(resource, path))
                field = _field_matcher(resource, chosen)
                deep = deep or any(path not in _OF_THE_KEY for path in chosen.fields())
    except selectors.SelectorError as error:
        raise errors.bad_request(f"{parameter}: {error}") from None
    return Filter(namespace, labels, fields, label, field, deep)


def _unknown_field(resource: Resource, path: str) -> str:
    """Kinds with fields of their own say it in other words than those without."""
    if any(not field.startswith("metadata.") for field in resource.selectable_fields):
        return f"field label not supported: {path}"
    return f'"{path}" is not a known field selector: only "metadata.name", "metadata.namespace"'


def _field_matcher(resource: Resource, chosen: selectors.FieldSelector) -> Callable[[Item], bool]:
    """A matcher over items. Name, namespace and indexed fields need no decoding."""

    def value(item: Item, path: str) -> str:
        if path == "metadata.name":
            return item.name
        if path == "metadata.namespace":
            return item.namespace
        return item.fields.get(_STORED.get(path, path), "")

    if len(chosen.requirements) == 1:
        only = chosen.requirements[0]
        wanted, equal, path = only.value, only.operator == "=", only.field
        if path == "metadata.name":
            return lambda item: (item.name == wanted) == equal
        return lambda item: (value(item, path) == wanted) == equal
    paths = chosen.fields()
    return lambda item: chosen.matches({path: value(item, path) for path in paths})


_OF_THE_KEY = ("metadata.name", "metadata.namespace")

# events.k8s.io names fields of the stored core events differently.
_STORED = {
    **{
        f"regarding.{name}": f"involvedObject.{name}"
        for name in ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
    },
    "reportingController": "reportingComponent",
}
