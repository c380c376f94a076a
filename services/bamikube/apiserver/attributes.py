"""What is being asked, in the words authorization uses.

Source: Kubernetes' "Authorization overview", request attributes. A request for a path that is no resource
(``/healthz``, ``/apis``) has ``is_resource`` False, its lower-case HTTP method as verb, and only ``path`` filled.
"""

from __future__ import annotations

from dataclasses import dataclass

from bamikube.apiserver.identity import User


@dataclass(frozen=True)
class Attributes:
    """One request, reduced to what a policy may look at."""

    user: User
    verb: str
    path: str = ""
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    is_resource: bool = True
    label_selector: str = ""
    field_selector: str = ""
