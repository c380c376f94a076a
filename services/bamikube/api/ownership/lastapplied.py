"""Client-side apply's annotation, seen from server-side apply.

``kubectl apply`` used to remember its last document in an annotation. When the same object is applied by the server
(manager ``kubectl``), that document still counts: a field it says, and that still has the value it said, is kubectl's own,
whoever the managers say owns it. It is no conflict. And an annotation that is there is kept up to date, so that going
back to client-side apply does no harm.

Source: Kubernetes' "Server-Side Apply", "Upgrading from client-side apply".
"""

from __future__ import annotations

from typing import Any

import orjson

from bamikube.api.fields import FieldSet, Object, sets

ANNOTATION = "kubectl.kubernetes.io/last-applied-configuration"
MANAGER = "kubectl"
MAX_ANNOTATIONS = 256 * 1024  # bytes of all annotations together


def last_document(live: dict[str, Any], api_version: str) -> dict[str, Any] | None:
    """The document in the annotation; None when there is none, or it cannot be compared."""
    text = ((live.get("metadata") or {}).get("annotations") or {}).get(ANNOTATION)
    if not text:
        return None
    try:
        said = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return said if isinstance(said, dict) and said.get("apiVersion") == api_version else None


def excused(live: dict[str, Any], said: dict[str, Any], kind: Object) -> FieldSet:
    """The fields of the last document ``said`` that the live object still has as it said them."""
    fields = kind.stated(said)
    for changed in kind.compare(said, live):
        if changed:
            fields = sets.difference(fields, changed)
    return fields


def noted_in(obj: dict[str, Any]) -> bool:
    """Whether ``obj`` has the annotation."""
    return bool(((obj.get("metadata") or {}).get("annotations") or {}).get(ANNOTATION))


def renew(obj: dict[str, Any], doc: dict[str, Any]) -> None:
    """Write ``doc`` into the annotation of ``obj``, in place."""
    metadata = obj["metadata"]
    annotations = metadata["annotations"]
    told = {**doc, "metadata": dict(doc.get("metadata") or {})}
    others = {
        name: value
        for name, value in (told["metadata"].get("annotations") or {}).items()
        if name != ANNOTATION
    }
    told["metadata"]["annotations"] = others
    text = orjson.dumps(told, option=orjson.OPT_SORT_KEYS).decode() + "\n"
    rest = sum(len(name) + len(value) for name, value in annotations.items() if name != ANNOTATION)
    renewed = {name: value for name, value in annotations.items() if name != ANNOTATION}
    if rest + len(ANNOTATION) + len(text) <= MAX_ANNOTATIONS:
        renewed[ANNOTATION] = text
    obj["metadata"] = {**metadata, "annotations": renewed}
