"""What is being asked, in the words authorization uses.

Source: Kubernetes' "Authorization overview", request attributes. A request for a path that is no resource
(``/healthz``, ``/apis``) has ``is_resource`` False, its lower-case HTTP method as verb, and only ``path`` filled.
"""

from __future__ import annotations

from typing import NamedTuple

from bamikube.apiserver.identity import User


class Attributes(NamedTuple):
    """One request, reduced to what a policy may look at. (A tuple: one is made for every request.)"""

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
