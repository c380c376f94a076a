"""Which resource somebody means by ``po``, ``deploy``, ``all`` or ``widgets.example.com``.

Built-in kinds are known without asking (:mod:`bamikube.api.table`). Anything else is looked up in the server's
discovery documents, fetched once a command, aggregated when the server can.
"""

from __future__ import annotations

from typing import Any

from bamikube.api import table
from bamikube.api.resources import Resource
from bamikube.cli.connection import Connection
from bamikube.cli.errors import CliError, ServerError

_AGGREGATED = (
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,"
    "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"
)


def path_of(resource: Resource, namespace: str = "", name: str = "", subresource: str = "") -> str:
    """The URL path of a collection, an object or a subresource."""
    parts = ["/apis", resource.group, resource.version] if resource.group else ["/api", resource.version]
    if resource.namespaced and namespace:
        parts += ["namespaces", namespace]
    parts.append(resource.plural)
    if name:
        parts.append(name)
    if subresource:
        parts.append(subresource)
    return "/".join(parts)


def full_name(resource: Resource) -> str:
    """``pods``, ``deployments.apps``: how messages name it."""
    return f"{resource.plural}.{resource.group}" if resource.group else resource.plural


def short_name(resource: Resource) -> str:
    """``pod``, ``deployment.apps``: how ``-o name`` and results name it."""
    return f"{resource.singular}.{resource.group}" if resource.group else resource.singular


class Catalogue:
    """The resources of one server."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._served: list[Resource] | None = None

    def served(self) -> list[Resource]:
        """Everything the server offers."""
        if self._served is None:
            self._served = [*self._group_list("/api"), *self._group_list("/apis")]
        return self._served

    def find(self, text: str) -> list[Resource]:
        """The resources a word means; several for a category such as ``all``. Raises :class:`CliError` for none."""
        word = text.lower()
        builtin = [row for row in table.TABLE if not row.virtual]
        found = _first_match(builtin, word)
        if found:
            return [found]
        served = self.served()
        category = [row for row in served if word in row.categories]
        if category:
            return category
        found = _first_match(served, word)
        if found:
            return [found]
        raise CliError(f'error: the server doesn\'t have a resource type "{text}"')

    def by_kind(self, api_version: str, kind: str) -> Resource:
        """The resource of an object's kind."""
        row = table.by_kind(api_version, kind)
        if row is not None:
            return row
        for row in self.served():
            if row.api_version == api_version and row.kind == kind:
                return row
        raise CliError(
            f'error: resource mapping not found: no matches for kind "{kind}" in version "{api_version}"\n'
            "ensure CRDs are installed first"
        )

    def _group_list(self, root: str) -> list[Resource]:
        answer = self.connection.call("GET", root, accept=_AGGREGATED)
        if answer.get("kind") == "APIGroupDiscoveryList":
            return [row for group in answer.get("items", []) for row in _aggregated(group)]
        if root == "/api":
            paths = [f"/api/{version}" for version in answer.get("versions", [])]
        else:
            groups = answer.get("groups", [])
            paths = [f"/apis/{version['groupVersion']}" for group in groups for version in group["versions"]]
        found: list[Resource] = []
        for path in paths:
            try:
                found += _listed(self.connection.call("GET", path))
            except ServerError:
                continue  # a group whose own server is away must not hide the others
        return found


def _first_match(rows: list[Resource], word: str) -> Resource | None:
    name, _, group = word.partition(".")
    for row in rows:
        if word in (row.plural, row.singular, row.kind.lower(), *row.short_names):
            return row
    if not group:
        return None
    for row in rows:
        if name in (row.plural, row.singular, row.kind.lower(), *row.short_names) and group in (
            row.group,
            f"{row.version}.{row.group}",
        ):
            return row
    return None


def _aggregated(group: dict[str, Any]) -> list[Resource]:
    name = group.get("metadata", {}).get("name", "")
    found: list[Resource] = []
    for version in group.get("versions", []):
        for one in version.get("resources", []):
            kind = one.get("responseKind", {}).get("kind", "")
            found.append(
                _resource(
                    name, version["version"], kind, one["resource"], one, one.get("scope") == "Namespaced"
                )
            )
    return found


def _listed(answer: dict[str, Any]) -> list[Resource]:
    group, _, version = answer.get("groupVersion", "").rpartition("/")
    return [
        _resource(group, version, one["kind"], one["name"], one, bool(one.get("namespaced")))
        for one in answer.get("resources", [])
        if "/" not in one["name"]
    ]


def _resource(
    group: str, version: str, kind: str, plural: str, one: dict[str, Any], namespaced: bool
) -> Resource:
    return Resource(
        group=group,
        version=version,
        kind=kind,
        plural=plural,
        singular=one.get("singularResource") or one.get("singularName") or kind.lower(),
        namespaced=namespaced,
        definition="",
        short_names=tuple(one.get("shortNames") or ()),
        categories=tuple(one.get("categories") or ()),
        verbs=tuple(one.get("verbs") or ()),
    )
