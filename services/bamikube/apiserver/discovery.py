"""Discovery: which groups, versions and resources there are.

Clients ask in three ways: group by group (``/api``, ``/apis``, ``/apis/apps``, ``/apis/apps/v1``), or for everything
at once with an Accept header that names ``apidiscovery.k8s.io`` in version v2 or, older, v2beta1, as JSON, YAML or protobuf. All are functions of
the rows of the resource table; they are made when first asked for and kept, as JSON, until the rows change. Who asks
group by group gets them in any form that objects come in: YAML, protobuf, indented for curl.

Source: the API concepts page ("API discovery"), KEP-3352 (aggregated discovery).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import orjson

from bamikube.api import protobuf
from bamikube.api.resources import Resource
from bamikube.apiserver.aggregation import documents
from bamikube.apiserver.aggregation.documents import Offer
from bamikube.apiserver.aggregation.registration import version_rank
from bamikube.apiserver.negotiation import (
    JSON,
    PROTOBUF,
    SUPPORTED,
    YAML,
    accepted,
    answer_object,
    check_route,
    dump_yaml,
    takes_plain,
)
from bamikube.kit.http import Request, Response

Rows = Callable[[], Sequence[Resource]]

# Groups in the order in which clients look for a kind; groups not named here follow, by name.
_GROUP_ORDER = (
    "apiregistration.k8s.io",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "discovery.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "resource.k8s.io",
)

_GET_PATCH_UPDATE = ("get", "patch", "update")
_PROXY = ("create", "delete", "get", "patch", "update")

# subresource -> (group, version, kind, verbs); kind "" means the parent's own.
_SUBRESOURCES: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    "status": ("", "", "", _GET_PATCH_UPDATE),
    "scale": ("autoscaling", "v1", "Scale", _GET_PATCH_UPDATE),
    "attach": ("", "v1", "PodAttachOptions", ("create", "get")),
    "binding": ("", "v1", "Binding", ("create",)),
    "ephemeralcontainers": ("", "v1", "Pod", _GET_PATCH_UPDATE),
    "eviction": ("policy", "v1", "Eviction", ("create",)),
    "exec": ("", "v1", "PodExecOptions", ("create", "get")),
    "log": ("", "v1", "Pod", ("get",)),
    "portforward": ("", "v1", "PodPortForwardOptions", ("create", "get")),
    "resize": ("", "v1", "Pod", _GET_PATCH_UPDATE),
    "token": ("authentication.k8s.io", "v1", "TokenRequest", ("create",)),
    "finalize": ("", "", "", ("update",)),
    "approval": ("", "", "", _GET_PATCH_UPDATE),
}

_AGGREGATED = {"v2": "apidiscovery.k8s.io/v2", "v2beta1": "apidiscovery.k8s.io/v2beta1"}


class Discovery:
    """Answers discovery requests. ``rows`` is called each time, so that rows may come and go (CRDs); so is ``offers``,
    what aggregated API servers serve.

    ``server_address`` is the ``host:port`` shown in ``/api``.
    """

    def __init__(
        self, rows: Rows, server_address: str = "", *, offers: Callable[[], tuple[Offer, ...]] = tuple
    ) -> None:
        self._rows = rows
        self._offers = offers
        self._offered: tuple[Offer, ...] = ()
        self._server_address = server_address
        self._seen: tuple[Resource, ...] = ()
        self._documents: dict[str, tuple[bytes, str]] = {}

    async def handle(self, request: Request) -> Response | None:
        """None when the path is no discovery path. Serves GET and HEAD."""
        path = request.path.rstrip("/")
        if not (path in ("/api", "/apis") or path.startswith(("/api/", "/apis/"))):
            return None
        parts = path.split("/")[1:]
        if (parts[0] == "api" and len(parts) > 2) or len(parts) > 3:
            return None
        if len(parts) == 1 and (form := _aggregated_form(request.headers.get("accept", ""))):
            return self._aggregated(parts[0], *form, request)
        body = self._plain(path, parts)
        if body is None:
            return None
        if takes_plain(request.headers) and not request.raw_query:
            return Response(200, body)
        if parts[0] == "apis" and len(parts) < 3:
            accepted(request, transforms=False)  # answered by the aggregator, which has no router before it
        else:
            check_route(request, *SUPPORTED.split(", "))
        return answer_object(request, orjson.loads(body))

    def _refresh(self) -> tuple[Resource, ...]:
        rows, offered = tuple(self._rows()), self._offers()
        if rows != self._seen or offered != self._offered:
            self._seen, self._offered = rows, offered
            self._documents.clear()
        return rows

    def _plain(self, path: str, parts: Sequence[str]) -> bytes | None:
        rows = self._refresh()
        known = self._documents.get(path)
        if known is None:
            document = self._document(rows, parts)
            if document is None:
                return None
            known = self._documents[path] = (orjson.dumps(document), "")
        return known[0]

    def _document(self, rows: Sequence[Resource], parts: Sequence[str]) -> dict[str, Any] | None:
        match list(parts):
            case ["api"]:
                return {
                    "kind": "APIVersions",
                    "versions": ["v1"],
                    "serverAddressByClientCIDRs": [
                        {"clientCIDR": "0.0.0.0/0", "serverAddress": self._server_address}
                    ],
                }
            case ["apis"]:
                found = [_api_group(group, versions) for group, versions in groups(rows) if group]
                listed = {"kind": "APIGroupList", "apiVersion": "v1", "groups": found}
                return documents.with_groups(listed, self._offered) if self._offered else listed
            case ["api", version]:
                return resource_list(rows, "", version)
            case ["apis", group]:
                versions = dict(groups(rows)).get(group, []) if group else []
                if any(offer.group == group for offer in self._offered):
                    described = documents.group_of(group, versions, self._offered)
                    return {"kind": "APIGroup", "apiVersion": "v1", **described}
                if versions:
                    return {"kind": "APIGroup", "apiVersion": "v1", **_api_group(group, versions)}
                return None
            case ["apis", group, version]:
                return resource_list(rows, group, version) if group else None
        return None

    def _aggregated(self, root: str, media: str, version: str, request: Request) -> Response:
        rows = self._refresh()
        key = f"{root}#{version}#{media}"
        known = self._documents.get(key)
        if known is None:
            document = aggregated(rows, core=root == "api", version=version)
            if self._offered and root == "apis":
                document = documents.with_discovery(document, self._offered)
            body = _written(media, document)
            known = self._documents[key] = (body, '"' + hashlib.sha512(body).hexdigest().upper() + '"')
        body, etag = known
        headers = {"ETag": etag, "Vary": "Accept", "Cache-Control": "public"}
        content_type = f"{media};g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
        if request.headers.get("if-none-match", "").strip() == etag:
            return Response(304, b"", headers, content_type)
        return Response(200, body, headers, content_type)


_ALL = ("apidiscovery.k8s.io", "APIGroupDiscoveryList")
_FORMS = {JSON: JSON, PROTOBUF: PROTOBUF, YAML: YAML, "application/*": JSON, "*/*": JSON}


def _aggregated_form(accept: str) -> tuple[str, str] | None:
    """The media type and version of aggregated discovery that the client likes best; None for plain discovery."""
    wanted: list[tuple[float, tuple[str, str] | None]] = []
    for option in accept.split(","):
        media, *parameters = (part.strip() for part in option.split(";"))
        said = dict(parameter.partition("=")[::2] for parameter in parameters)
        form = _FORMS.get(media.lower())
        if form is None:
            continue
        try:
            quality = float(said.get("q", "1"))
        except ValueError:
            quality = 1.0
        if "as" not in said:
            wanted.append((-quality, None))
        elif (said.get("g"), said["as"]) == _ALL and said.get("v", "") in _AGGREGATED:
            wanted.append((-quality, (form, said["v"])))
    return min(wanted, key=lambda entry: entry[0])[1] if wanted else None


def _written(media: str, document: dict[str, Any]) -> bytes:
    if media == PROTOBUF:
        return protobuf.encode(document)
    return dump_yaml(document) if media == YAML else orjson.dumps(document)


def groups(rows: Iterable[Resource]) -> list[tuple[str, list[str]]]:
    """Groups in order of preference, each with its versions, best first."""
    versions: dict[str, list[str]] = {}
    for row in rows:
        known = versions.setdefault(row.group, [])
        if row.version not in known:
            known.append(row.version)
    for known in versions.values():
        known.sort(key=version_rank)

    def rank(group: str) -> tuple[int, str]:
        if not group:
            return (-1, "")
        return (_GROUP_ORDER.index(group) if group in _GROUP_ORDER else len(_GROUP_ORDER), group)

    return [(group, versions[group]) for group in sorted(versions, key=rank)]


def _api_group(group: str, versions: Sequence[str]) -> dict[str, Any]:
    listed = [{"groupVersion": f"{group}/{version}", "version": version} for version in versions]
    return {"name": group, "versions": listed, "preferredVersion": listed[0]}


def storage_version_hash(row: Resource) -> str:
    """What tells storage migrators that objects of two versions are kept alike."""
    group = getattr(row, "storage_group", None)
    text = f"{row.group if group is None else group}/{row.storage_version or row.version}/{row.kind}"
    return base64.b64encode(hashlib.sha256(text.encode()).digest()[:8]).decode()


def verbs_of(row: Resource) -> tuple[str, ...]:
    """The verbs that are advertised: of a custom resource whose definition is going, those that do not add to it."""
    if row.custom is None or not row.custom.family.terminating:
        return row.verbs
    return tuple(verb for verb in row.verbs if verb not in ("create", "patch", "update"))


def subresource(row: Resource, name: str) -> tuple[str, str, str, tuple[str, ...]]:
    """Group, version and kind of a subresource's body, and its verbs."""
    if name == "proxy":
        return ("", "v1", f"{row.kind}ProxyOptions", _PROXY)
    group, version, kind, verbs = _SUBRESOURCES.get(name, ("", "", "", _GET_PATCH_UPDATE))
    if not kind:
        return (row.group, row.version, row.kind, verbs)
    return (group, version, kind, verbs)


def resource_list(rows: Iterable[Resource], group: str, version: str) -> dict[str, Any] | None:
    """``APIResourceList`` of one group version, None when there is no such."""
    found: list[dict[str, Any]] = []
    for row in sorted(rows, key=lambda one: one.plural):
        if (row.group, row.version) != (group, version):
            continue
        entry: dict[str, Any] = {
            "name": row.plural,
            "singularName": row.singular,
            "namespaced": row.namespaced,
            "kind": row.kind,
            "verbs": list(verbs_of(row)),
        }
        if row.short_names:
            entry["shortNames"] = list(row.short_names)
        if row.categories:
            entry["categories"] = list(row.categories)
        if not row.virtual:
            entry["storageVersionHash"] = storage_version_hash(row)
        found.append(entry)
        for name in sorted(row.subresources):
            sub_group, sub_version, kind, verbs = subresource(row, name)
            part: dict[str, Any] = {
                "name": f"{row.plural}/{name}",
                "singularName": "",
                "namespaced": row.namespaced,
                "kind": kind,
                "verbs": list(verbs),
            }
            if (sub_group, sub_version) != (group, version):
                part["group"], part["version"] = sub_group, sub_version
            found.append(part)
    if not found:
        return None
    if not group:  # the oldest document says of itself only what it is
        return {"kind": "APIResourceList", "groupVersion": version, "resources": found}
    listed = {"groupVersion": f"{group}/{version}", "resources": found}
    return {"kind": "APIResourceList", "apiVersion": "v1", **listed}


def aggregated(rows: Sequence[Resource], *, core: bool, version: str) -> dict[str, Any]:
    """``APIGroupDiscoveryList``: everything under ``/api`` (``core``) or ``/apis`` at once."""
    items: list[dict[str, Any]] = []
    for group, versions in groups(rows):
        if bool(group) == core:
            continue
        items.append(
            {
                "metadata": {"name": group} if group else {},
                "versions": [
                    {
                        "version": one,
                        "resources": [
                            _resource_discovery(row)
                            for row in sorted(rows, key=lambda row: row.plural)
                            if (row.group, row.version) == (group, one)
                        ],
                        "freshness": "Current",
                    }
                    for one in versions
                ],
            }
        )
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": _AGGREGATED[version],
        "metadata": {},
        "items": items,
    }


def _resource_discovery(row: Resource) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "resource": row.plural,
        "responseKind": {"group": row.group, "version": row.version, "kind": row.kind},
        "scope": "Namespaced" if row.namespaced else "Cluster",
        "singularResource": row.singular,
        "verbs": list(verbs_of(row)),
    }
    if row.short_names:
        entry["shortNames"] = list(row.short_names)
    if row.categories:
        entry["categories"] = list(row.categories)
    subresources = []
    for name in sorted(row.subresources):
        group, version, kind, verbs = subresource(row, name)
        subresources.append(
            {
                "subresource": name,
                "responseKind": {"group": group, "version": version, "kind": kind},
                "verbs": list(verbs),
            }
        )
    if subresources:
        entry["subresources"] = subresources
    return entry
