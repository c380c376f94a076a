"""What a special endpoint is given: the request, taken apart, and the services it may use.

The generic verbs are answered by the registry. A few endpoints do something of their own (bind a pod, evict it,
follow its log, review an access); each is a function ``async def handler(call: Call) -> Answer``, registered in
``apiserver.subresources.SPECIAL`` under ``(group, plural, subresource)``. By the time it runs the caller is
authenticated and authorized; decoding, admission and storage are the handler's own, through ``services``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from bamikube.api.resources import Resource
from bamikube.apiserver.attributes import Attributes
from bamikube.apiserver.identity import User
from bamikube.apiserver.warnings import with_warnings
from bamikube.kit.http import Answer, Request
from bamikube.kit.world import World

if TYPE_CHECKING:
    from bamikube.apiserver.registry import Registry
    from bamikube.apiserver.registry.reader import Reader


# Versions of a body that are no longer served as such, but read: their objects have the same fields.
_OLDER = {"policy/v1": ("policy/v1beta1",)}


@dataclass(slots=True)
class Services:
    """What special endpoints share. Fields typed ``Any`` belong to other rooms of the API server.

    ``options`` is the server's ``ApiServerOptions``; ``authenticator``, ``authorizer`` and ``admission`` are the
    values the server itself uses; ``signer`` signs service-account tokens (None when no key was given);
    ``dialer`` reaches node agents, ``caller`` everything else (:mod:`bamikube.apiserver.outbound`);
    ``tasks`` owns background work; ``more`` is room for what an endpoint keeps for itself, by name.
    """

    reader: Reader
    options: Any = None
    authenticator: Any = None
    authorizer: Any = None
    admission: Any = None
    signer: Any = None
    dialer: Any = None
    caller: Any = None
    tasks: Any = None
    more: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Call:
    """One call of a special endpoint. ``verb`` is the request's Kubernetes verb (``create``, ``get`` ...)."""

    request: Request
    user: User
    resource: Resource
    namespace: str
    name: str
    subresource: str
    verb: str
    attributes: Attributes
    registry: Registry
    world: World
    services: Services
    told: list[str] = field(default_factory=list)  # warnings about the body
    warnings: list[str] = field(default_factory=list)  # what admission has to say to the client

    async def decode(self) -> dict[str, Any]:
        """The body as an object (JSON, YAML or protobuf by its Content-Type), its kind, types and fields checked.

        What the body is follows from the subresource (of ``pods/binding`` a Binding). Unknown and repeated fields are
        warned of or refused as ``fieldValidation`` wants it. Raises ApiError 400, 415, or 422 for bad options.
        """
        from bamikube.apiserver import endpoints
        from bamikube.apiserver.decoding import decode_body

        options = endpoints.write_options(self.request, f"{self.verb.capitalize()}Options")
        row = self.body_row()
        body = decode_body(self.request, row.kind)
        if body.get("apiVersion") in _OLDER.get(row.api_version, ()):
            body["apiVersion"] = row.api_version
        self.told[:] = endpoints.checked(self.request, row, body, options["fieldValidation"])
        body.setdefault("metadata", {})  # whoever looks at the object may count on it
        return body

    def body_row(self) -> Resource:
        """What bodies of this endpoint are: the resource itself, or what its subresource takes instead."""
        from bamikube.apiserver.discovery import subresource

        row = self.resource
        group, version, kind, _ = subresource(row, self.subresource) if self.subresource else ("", "", "", ())
        if not kind or (group, version, kind) == (row.group, row.version, row.kind):
            return row
        definition = f"io.k8s.api.{group.partition('.')[0] or 'core'}.{version}.{kind}"
        return replace(row, group=group, version=version, kind=kind, definition=definition)

    def answer(self, obj: dict[str, Any], status: int = 200) -> Answer:
        """``obj`` in the representation the caller asked for."""
        from bamikube.apiserver import negotiation

        answer = negotiation.answer_object(self.request, obj, status)
        if self.told or self.warnings:
            answer.headers.update(with_warnings({}, [*self.told, *self.warnings]))
        return answer


SpecialHandler = Callable[[Call], Awaitable[Answer]]
