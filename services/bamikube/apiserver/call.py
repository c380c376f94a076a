"""What a special endpoint is given: the request, taken apart, and the services it may use.

The generic verbs are answered by the registry. A few endpoints do something of their own (bind a pod, evict it,
follow its log, review an access); each is a function ``async def handler(call: Call) -> Answer``, registered in
``apiserver.subresources.SPECIAL`` under ``(group, plural, subresource)``. By the time it runs the caller is
authenticated and authorized; decoding, admission and storage are the handler's own, through ``services``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bamikube.api import errors, schema
from bamikube.api.resources import Resource
from bamikube.apiserver.attributes import Attributes
from bamikube.apiserver.identity import User
from bamikube.apiserver.warnings import header
from bamikube.kit.http import Answer, Request
from bamikube.kit.world import World

if TYPE_CHECKING:
    from bamikube.apiserver.registry import Registry
    from bamikube.apiserver.registry.reader import Reader


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
    warnings: list[str] = field(default_factory=list)  # what admission has to say to the client

    async def decode(self, definition: str = "") -> dict[str, Any]:
        """The body as an object (JSON, YAML or protobuf by its Content-Type), its types checked.

        ``definition`` is the body's schema when it is another than the resource's (a pod's Binding). Raises ApiError
        400 or 415.
        """
        from bamikube.apiserver import negotiation

        body = negotiation.decode_body(self.request)
        definition = definition or self.resource.definition
        if definition:
            report = schema.check_definition(definition, body)
            if report.errors:
                kind = definition.rpartition(".")[2]
                raise errors.bad_request(
                    f"the body cannot be handled as a {kind}: {report.errors[0].message}"
                )
        body.setdefault("metadata", {})  # whoever looks at the object may count on it
        return body

    def answer(self, obj: dict[str, Any], status: int = 200) -> Answer:
        """``obj`` in the representation the caller asked for."""
        from bamikube.apiserver import negotiation

        answer = negotiation.answer_object(self.request, obj, status)
        if self.warnings:
            answer.headers["Warning"] = header(self.warnings)
        return answer


SpecialHandler = Callable[[Call], Awaitable[Answer]]
