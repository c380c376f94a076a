"""The shape of a row in the table of resources.

One row says everything the generic handler has to know about a resource. The rows of the built-in kinds stand in
:mod:`bamikube.api.table`; a CustomResourceDefinition adds rows at run time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bamikube.api.custom.kind import CustomKind

ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True, eq=False)
class Resource:
    """A resource: group, version, kind and how it behaves.

    ``plural`` is the name in the path; ``definition`` the key of its schema (``io.k8s.api.apps.v1.Deployment``);
    ``subresources`` those the API advertises (``status``, ``scale``, ``log`` ...).
    ``storage_version`` is the version its objects are kept in (equal to ``version`` for single-version resources).
    ``virtual`` kinds are answered but never stored (reviews, token requests). ``custom`` is what a row made from a
    CustomResourceDefinition brings along: its schema and everything compiled from it; such a row has no ``definition``.
    ``deprecation`` is what every answer about a built-in resource warns of ("" for nearly all).

    A row is nobody but itself: rows are keys of tables that are asked several times a request.
    """

    group: str
    version: str
    kind: str
    plural: str
    singular: str
    namespaced: bool
    definition: str
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ALL_VERBS
    storage_version: str = ""
    selectable_fields: tuple[str, ...] = ("metadata.name", "metadata.namespace")
    virtual: bool = False
    storage_group: str | None = (
        None  # when objects are shared with another group (events); None: the group itself
    )
    custom: CustomKind | None = None
    deprecation: str = ""

    @property
    def storage_key(self) -> tuple[str, str]:
        """Group and plural under which objects are kept (both kinds of events share ``("", "events")``)."""
        return (self.group if self.storage_group is None else self.storage_group, self.plural)

    @property
    def api_version(self) -> str:
        """``v1`` or ``apps/v1``."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def list_kind(self) -> str:
        return f"{self.kind}List" if self.custom is None else self.custom.list_kind

    @property
    def key(self) -> tuple[str, str]:
        """Group and plural: what a resource is, whatever its version."""
        return (self.group, self.plural)
