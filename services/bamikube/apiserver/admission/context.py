"""What an admission plugin is told about a request, and may change of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from bamikube.api.resources import Resource
from bamikube.apiserver.admission.rounds import Rounds
from bamikube.apiserver.identity import User

Operation = Literal["CREATE", "UPDATE", "DELETE", "CONNECT"]


@dataclass(slots=True)
class AdmissionContext:
    """One write on its way to the store.

    ``object`` is the object as it would be stored; mutating plugins change it in place. It is None for DELETE.
    ``old`` is what is stored now (UPDATE and DELETE; None for a delete of a collection's name-less check).
    ``options`` are the request's own options (``DeleteOptions`` and such).
    ``warnings`` reach the client as headers, whether the request succeeds or not; ``annotations`` reach the audit.
    ``revision`` is that of the stored object (0: none). ``patched`` says that somebody outside this server changed the
    object; ``rounds`` is kept by those who may be asked twice.
    """

    operation: Operation
    resource: Resource
    namespace: str
    name: str
    user: User
    object: dict[str, Any] | None = None
    old: dict[str, Any] | None = None
    subresource: str = ""
    dry_run: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    annotations: dict[str, str] = field(default_factory=dict)
    revision: int = 0
    patched: bool = False
    rounds: Rounds | None = None

    def concerns(self, group: str, plural: str, subresource: str = "") -> bool:
        """Whether the request is about this resource (any version) and exactly this subresource."""
        return self.resource.key == (group, plural) and self.subresource == subresource
