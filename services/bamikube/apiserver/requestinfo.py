"""From a path to what is being asked.

::

    GET  /api/v1/namespaces/web/pods?watch=true         watch   pods        in web
    PUT  /apis/apps/v1/namespaces/web/deployments/a/status   update  deployments/status a
    GET  /api/v1/watch/namespaces/web/pods/a            watch   pods a      (the old form)
    GET  /api/v1/namespaces/web                         get     namespaces web   (namespace is web, too)
    GET  /apis/apps, /healthz                           not a resource

Source: ``k8s.io/apiserver/pkg/endpoints/request/requestinfo.go`` (behaviour).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote

from bamikube.api.memory import LONGEST
from bamikube.kit.http import Request

_VERBS = {
    "GET": "get",
    "HEAD": "get",
    "POST": "create",
    "PUT": "update",
    "PATCH": "patch",
    "DELETE": "delete",
}
_NAMESPACE_SUBRESOURCES = frozenset({"status", "finalize"})


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """What a request asks for. ``parts`` beyond the subresource are ``rest`` (proxied paths)."""

    is_resource: bool
    verb: str
    path: str
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    rest: str = ""


def parse(request: Request) -> RequestInfo:
    """The request's info; query parameters that change the verb or the name are looked at."""
    path = request.path
    info = _of_path(request.method, path) if len(path) <= LONGEST else _read(request.method, path)
    if (
        not info.is_resource
        or info.verb not in ("list", "deletecollection", "watch")
        or not request.raw_query
    ):
        return info
    verb = info.verb
    if verb == "list" and request.flag("watch"):
        verb = "watch"
    name = info.name or _selected_name(request.param("fieldSelector"))
    if verb == info.verb and name == info.name:
        return info
    return RequestInfo(
        True,
        verb,
        info.path,
        info.group,
        info.version,
        info.resource,
        info.subresource,
        info.namespace,
        name,
        info.rest,
    )


_ITEM = {"get": ("GET", "HEAD"), "update": ("PUT",), "patch": ("PATCH",), "delete": ("DELETE",)}
_COLLECTION = {"list": ("GET", "HEAD"), "create": ("POST",), "deletecollection": ("DELETE",)}


def allowed_methods(verbs: Sequence[str], named: bool) -> list[str]:
    """The HTTP methods behind verbs: of an object (or a part of one) when ``named``, else of its collection."""
    known = (
        {**_ITEM, "create": ("POST",)} if named and "list" not in verbs else _ITEM if named else _COLLECTION
    )
    return [method for verb, methods in known.items() if verb in verbs for method in methods]


def _selected_name(selector: str) -> str:
    """The one name that a field selector asks for; authorization by name applies to it."""
    if "metadata.name" not in selector:
        return ""
    for term in unquote(selector).split(","):
        field, separator, value = term.partition("=")
        if separator and field.strip() == "metadata.name":
            return value.removeprefix("=").strip()
    return ""


def _read(method: str, path: str) -> RequestInfo:
    parts = [part for part in path.split("/") if part]
    other = RequestInfo(False, method.lower(), path)
    if len(parts) >= 3 and parts[0] == "api":
        group, version, rest = "", parts[1], parts[2:]
    elif len(parts) >= 4 and parts[0] == "apis":
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return other
    verb = _VERBS.get(method, method.lower())
    if rest[0] == "watch" and len(rest) > 1 and method in ("GET", "HEAD"):
        verb, rest = "watch", rest[1:]
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 1:
        namespace = rest[1]
        if len(rest) > 2 and rest[2] not in _NAMESPACE_SUBRESOURCES:
            rest = rest[2:]
    resource = rest[0]
    name = rest[1] if len(rest) > 1 else ""
    subresource = rest[2] if len(rest) > 2 else ""
    tail = "/".join(rest[3:])
    if len(rest) > 3 and path.endswith("/"):
        tail += "/"
    if not name:
        verb = {"get": "list", "delete": "deletecollection"}.get(verb, verb)
    return RequestInfo(True, verb, path, group, version, resource, subresource, namespace, name, tail)


_of_path = lru_cache(maxsize=8192)(_read)
