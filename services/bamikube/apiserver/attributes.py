"""What is being asked, in the words authorization uses.

Source: Kubernetes' "Authorization overview", request attributes. A request for a path that is no resource
(``/healthz``, ``/apis``) has ``is_resource`` False, its lower-case HTTP method as verb, and only ``path`` filled.
"""

from __future__ import annotations

from typing import NamedTuple

from bamikube.apiserver.identity import User
from bamikube.apiserver.requestinfo import RequestInfo
from bamikube.kit.http import Request


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


def attributes_of(request: Request, info: RequestInfo, user: User) -> Attributes:
    """What an authorizer is asked about a request."""
    if not info.is_resource:
        return Attributes(user, info.verb, info.path, is_resource=False)
    labels = fields = ""
    if request.raw_query and "Selector" in request.raw_query:
        labels, fields = request.param("labelSelector"), request.param("fieldSelector")
    return Attributes(
        user,
        info.verb,
        info.path,
        info.group,
        info.version,
        info.resource,
        info.subresource,
        info.namespace,
        info.name,
        True,
        labels,
        fields,
    )
