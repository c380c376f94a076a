"""Who owns which fields of an object: ``metadata.managedFields``, plain writes and server-side apply.

- :mod:`bamikube.api.ownership.managers` reads and writes ``managedFields``;
- :mod:`bamikube.api.ownership.updating` says who owns what after a create, an update or a patch;
- :mod:`bamikube.api.ownership.applying` is server-side apply;
- :mod:`bamikube.api.ownership.lastapplied` lets client-side apply's annotation and server-side apply live together.

All of it is pure: a function takes the live object, what somebody wants and who that is, and returns the outcome.

Source: Kubernetes' "Server-Side Apply", KEP-555, and the API reference of ``ManagedFieldsEntry``.
"""

from __future__ import annotations

from bamikube.api.ownership.applying import Applied, Conflict, apply, conflict_error
from bamikube.api.ownership.managers import Author, Managers, Version, Versions, written
from bamikube.api.ownership.updating import track

__all__ = [
    "Applied",
    "Author",
    "Conflict",
    "Managers",
    "Version",
    "Versions",
    "apply",
    "conflict_error",
    "track",
    "written",
]
