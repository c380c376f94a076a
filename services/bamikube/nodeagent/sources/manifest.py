"""A static pod from the text of its manifest. Pure.

Its uid is a hash of the node, the file and the contents: the same file gives the same pod after a restart of the node
agent, a changed one another pod that takes the first one's place.

It is imported when the first manifest is read: with it come the defaults and the rules of every kind, megabytes that a node
without static pods has no use for.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import yaml

from bamikube.api import defaults, table
from bamikube.api.predicates.references import references
from bamikube.api.schema.check import check
from bamikube.api.validation import validate_create
from bamikube.kit.clock import rfc3339
from bamikube.nodeagent.pod.facts import CONFIG_HASH, JSON

SOURCE = "kubernetes.io/config.source"
SEEN = "kubernetes.io/config.seen"
ANY = {"operator": "Exists", "effect": "NoExecute"}


def parse(text: bytes, node: str, path: str, seen: float) -> JSON:
    """The pod that ``text`` (YAML or JSON) describes. Raises ValueError saying what is wrong with it."""
    return _pod(_loaded(text), node, "file", path, seen)


def parse_all(text: bytes, node: str, url: str, seen: float) -> list[JSON]:
    """The pods of a Pod or a PodList. Raises ValueError: one that is faulty spoils the list."""
    given = _loaded(text)
    if given.get("kind") != "PodList":
        return [_pod(given, node, "http", url, seen)]
    items = given.get("items") or []
    if given.get("apiVersion") != "v1" or not isinstance(items, list):
        raise ValueError("items: expected a list of Pods of apiVersion v1")
    # The items of a list need not say what they are.
    named = [{"apiVersion": "v1", "kind": "Pod"} | item if isinstance(item, dict) else {} for item in items]
    return [_pod(item, node, "http", url, seen) for item in named]


def _pod(given: JSON, node: str, source: str, path: str, seen: float) -> JSON:
    if given.get("kind") != "Pod" or given.get("apiVersion") != "v1":
        what = f"{given.get('apiVersion')}, Kind={given.get('kind')}"
        raise ValueError(f"it is {what}; a manifest holds one Pod of apiVersion v1")
    for part in ("metadata", "spec"):
        if not isinstance(given.get(part), dict):
            raise ValueError(f"{part}: Required value")
    resource = table.by_name("pods")
    plain = json.dumps(given, sort_keys=True, default=str)
    if errors := check(resource, given).errors:
        raise ValueError("; ".join(f"{cause.field}: {cause.message}" for cause in errors))
    uid = hashlib.md5(f"host:{node}{source}:{path}{plain}".encode(), usedforsecurity=False).hexdigest()
    meta = given.get("metadata") or {}
    meta["name"] = f"{meta.get('name') or ''}-{node}"
    meta["namespace"] = meta.get("namespace") or "default"
    meta["uid"] = uid
    own = {CONFIG_HASH: uid, SOURCE: source, SEEN: rfc3339(seen)}
    meta["annotations"] = (meta.get("annotations") or {}) | own
    spec = given.get("spec") or {}
    spec["nodeName"] = node
    if ANY not in (tolerations := spec.get("tolerations") or []):
        spec["tolerations"] = [*tolerations, dict(ANY)]
    pod: JSON = given | {"metadata": meta, "spec": spec, "status": {"phase": "Pending"}}
    defaults.apply(resource, pod)
    if causes := validate_create(resource, pod):
        raise ValueError("; ".join(f"{cause.field}: {cause.message}" for cause in causes))
    if named := sorted(reference[0] for reference in references(pod)):
        raise ValueError(f"static pods may not reference {named[0]}")
    return pod


def _loaded(text: bytes) -> dict[str, Any]:
    try:
        given = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"it is neither YAML nor JSON: {' '.join(str(error).split())}") from error
    if not isinstance(given, dict):
        raise ValueError("it holds no object; a manifest holds one Pod of apiVersion v1")
    return given
