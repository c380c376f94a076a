"""The trail a request leaves: one event for each of its stages.

::

    RequestReceived    it came, and who it is from is known
    ResponseStarted    the answer's head is sent, its body goes on (watches, logs, exec)
    ResponseComplete   the answer is given

All events of a request have one auditID, which the client finds in the header ``Audit-Id``. What admission and
authorization have to add arrives as annotations (:func:`annotate`), wherever they stand.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast

import orjson
import yaml

from bamikube.api import errors, protobuf
from bamikube.api.errors import ApiError
from bamikube.apiserver import negotiation
from bamikube.apiserver.attributes import Attributes
from bamikube.apiserver.audit.policy import API_VERSION, NAMES, Decision, Level
from bamikube.apiserver.decoding import decode_body
from bamikube.apiserver.identity import User, user_info
from bamikube.kit.clock import rfc3339_micro
from bamikube.kit.http import Answer, RawConnection, Request, Response, Stream, Tunnel

if TYPE_CHECKING:
    from bamikube.apiserver.audit.auditor import Auditor

Event = dict[str, Any]

_TRAIL: ContextVar[Trail | None] = ContextVar("audit", default=None)


def records_bodies() -> bool:
    """Whether the record of the running request holds what was sent (level Request and above)."""
    trail = _TRAIL.get()
    return trail is not None and trail.records_bodies


def annotate(annotations: Mapping[str, str]) -> None:
    """Put annotations into the record of the running request, if there is one. The first value of a key stays."""
    trail = _TRAIL.get()
    if trail is not None:
        for key, value in annotations.items():
            trail.annotations.setdefault(key, value)


class Trail:
    """One request on its way. Whoever answers it tells the trail what becomes known, in this order: ``starts``,
    ``judged``, ``ends``."""

    def __init__(self, auditor: Auditor, request: Request, ident: str, received: float) -> None:
        self._auditor = auditor
        self._request = request
        self._ident = ident
        self._received = received
        self._decision: Decision | None = None
        self._event: Event = {}
        self.annotations: dict[str, str] = {}

    @property
    def records_bodies(self) -> bool:
        return self._decision is not None and self._decision.level >= Level.REQUEST

    async def follow(self, handle: Callable[[Request, Trail], Awaitable[Answer]]) -> Answer:
        """Let ``handle`` answer the request, and record it."""
        token = _TRAIL.set(self)
        try:
            answer = await handle(self._request, self)
        finally:
            _TRAIL.reset(token)
        return self.ends(answer)

    def starts(self, attributes: Attributes) -> None:
        """Who it is from, and what it asks: the policy decides. The first stage is recorded."""
        decision = self._decision = self._auditor.policy.decide(attributes)
        self._auditor.figures.decided(NAMES[decision.level])
        if decision.level is Level.NONE:
            return
        request = self._request
        target = request.raw_path or request.path
        self._event = {
            "kind": "Event",
            "apiVersion": API_VERSION,
            "level": NAMES[decision.level],
            "auditID": self._ident,
            "stage": "",
            "requestURI": f"{target}?{request.raw_query}" if request.raw_query else target,
            "verb": attributes.verb,
            "user": user_info(attributes.user),
        }
        forwarded = request.headers.get("x-forwarded-for", "").replace("\n", ",").split(",")
        sources = [one.strip() for one in forwarded if one.strip()]
        if request.peer.address and request.peer.address not in sources:
            sources.append(request.peer.address)
        if sources:
            self._event["sourceIPs"] = sources
        if agent := request.headers.get("user-agent"):
            self._event["userAgent"] = agent
        if attributes.is_resource:
            self._event["objectRef"] = _reference(attributes)
        if not self._emit("RequestReceived") and self._auditor.strict:
            raise errors.internal("failed to store audit event")
        if request.body:
            self._asked(decision)

    def _asked(self, decision: Decision) -> None:
        """The body: what it is about, and from level Request on all of it."""
        reference = self._event.get("objectRef")
        creates = reference is not None and "name" not in reference and self._event["verb"] == "create"
        if not creates and decision.level < Level.REQUEST:
            return
        body = _body(self._request)
        if body is None:
            return
        if creates and isinstance(body, dict) and reference is not None:
            metadata = body.get("metadata")
            named = metadata if isinstance(metadata, dict) else {}
            for field in ("name", "namespace", "uid"):
                if named.get(field):
                    reference.setdefault(field, named[field])
        if decision.level >= Level.REQUEST:
            self._event["requestObject"] = _without_managed(body) if decision.omit_managed_fields else body

    def impersonates(self, user: User) -> None:
        if self._event:
            self._event["impersonatedUser"] = user_info(user)

    def judged(self, allowed: bool, reason: str) -> None:
        """What authorization said."""
        self.annotations["authorization.k8s.io/decision"] = "allow" if allowed else "forbid"
        self.annotations["authorization.k8s.io/reason"] = reason

    # -- the end -------------------------------------------------------------------------------------------------

    def ends(self, answer: Answer) -> Answer:
        """The answer, followed to its end where it is still being made."""
        if not self._event:
            if self._decision is None:
                self._unknown()
            if not self._event:
                return answer
        if isinstance(answer, Response):
            self._event["responseStatus"] = _status(answer)
            decision = cast(Decision, self._decision)
            if decision.level is Level.REQUEST_RESPONSE and (shown := _shown(answer)) is not None:
                self._event["responseObject"] = (
                    _without_managed(shown) if decision.omit_managed_fields else shown
                )
            self._emit("ResponseComplete")
            return answer
        if isinstance(answer, Stream):
            self._event["responseStatus"] = {"metadata": {}, "code": answer.status}
            self._emit("ResponseStarted")
            answer.chunks = self._followed(answer.chunks)
            return answer
        self._event["responseStatus"] = {"metadata": {}, "code": 101}
        self._emit("ResponseStarted")
        return Tunnel(self._tunnelled(answer))

    def _unknown(self) -> None:
        """Refused before anybody knew who it is from."""
        self.starts(Attributes(User(""), self._request.method.lower(), self._request.path, is_resource=False))

    async def _followed(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        try:
            if hasattr(chunks, "aclose"):
                async with aclosing(cast(Any, chunks)):
                    async for chunk in chunks:
                        yield chunk
            else:
                async for chunk in chunks:
                    yield chunk
        finally:
            self._emit("ResponseComplete")

    def _tunnelled(self, tunnel: Tunnel) -> Callable[[RawConnection], Awaitable[None]]:
        async def serve(connection: RawConnection) -> None:
            try:
                await tunnel.serve(connection)
            finally:
                self._emit("ResponseComplete")

        return serve

    def _emit(self, stage: str) -> bool:
        """Whether the stage is recorded, as far as it is to be."""
        if stage in cast(Decision, self._decision).omit_stages:
            return True
        now = self._auditor.world.clock.now()
        event = {
            **self._event,
            "stage": stage,
            "requestReceivedTimestamp": rfc3339_micro(self._received),
            "stageTimestamp": rfc3339_micro(now),
        }
        if self.annotations:
            event["annotations"] = dict(self.annotations)
        return self._auditor.record(event)


def _reference(attributes: Attributes) -> Event:
    found = {
        "resource": attributes.resource,
        "namespace": attributes.namespace,
        "name": attributes.name,
        "apiGroup": attributes.group,
        "apiVersion": attributes.version,
        "subresource": attributes.subresource,
    }
    return {key: value for key, value in found.items() if value}


def _body(request: Request) -> Any:
    """The request's body as a value, None when it is none: it is the answer's business to say so."""
    media = negotiation.content_type(request)
    try:
        if media.endswith("patch+json"):
            return orjson.loads(request.body)
        if media.endswith("+yaml"):
            return yaml.safe_load(request.body)
        return decode_body(request, "")
    except (ApiError, ValueError, yaml.YAMLError, RecursionError):
        return None


def _shown(answer: Response) -> Any:
    try:
        if answer.content_type.startswith("application/json"):
            return orjson.loads(answer.joined())
        if answer.content_type.startswith("application/vnd.kubernetes.protobuf"):
            return protobuf.decode(answer.joined())
    except ValueError:
        return None
    return None


def _status(answer: Response) -> Event:
    """``responseStatus``: the code, and what a refusal said."""
    status: Event = {"metadata": {}, "code": answer.status}
    if answer.status >= 400:
        said = _shown(answer)
        if isinstance(said, dict) and said.get("kind") == "Status":
            for field in ("status", "message", "reason", "details"):
                if said.get(field):
                    status[field] = said[field]
    return status


def _without_managed(obj: Any) -> Any:
    """A copy without managedFields, of an object or of all objects of a list."""
    if not isinstance(obj, dict):
        return obj
    metadata = obj.get("metadata")
    if isinstance(metadata, dict) and "managedFields" in metadata:
        obj = {**obj, "metadata": {key: value for key, value in metadata.items() if key != "managedFields"}}
    if isinstance(obj.get("items"), list):
        obj = {**obj, "items": [_without_managed(one) for one in obj["items"]]}
    return obj
