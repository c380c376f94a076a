"""A request sent on to the API server that answers for its group version.

Who the user is was found out here, and whether he may was decided here; both travel as headers that count because of
the certificate they come with (the front proxy's). Credentials stay here. Path and query go on as they came; watches,
upgrades and whatever else streams are passed through.

Source: Kubernetes' "Configure the Aggregation Layer", authentication flow.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from bamikube.api import errors
from bamikube.apiserver.identity import User
from bamikube.apiserver.outbound import Caller, CallError, Destination, Incoming, Unresolved, of_service
from bamikube.apiserver.outbound.destination import trusted
from bamikube.apiserver.registry.reader import Reader
from bamikube.apiserver.subresources.proxy import NOT_RETURNED
from bamikube.apiserver.subresources.streams import forwarded, splice
from bamikube.kit.chance import Chance
from bamikube.kit.http import Answer, Request, Response, Stream
from bamikube.kit.tunnel import request_head

WHOLE = 1024 * 1024  # bytes up to which an answer is read before it is passed on
_STAYS_HERE = frozenset({"connection", "keep-alive", "te", "trailer", "upgrade", "accept-encoding"})


def destination(spec: Mapping[str, Any], reader: Reader, chance: Chance) -> Destination:
    """Where an APIService's server is. Raises Unresolved."""
    service = spec["service"]
    return of_service(
        reader,
        chance,
        service.get("namespace") or "",
        service.get("name") or "",
        service.get("port") or 443,
        trust=trusted(spec.get("caBundle")),
        verify=not spec.get("insecureSkipTLSVerify"),
        identify=True,
    )


def named(user: User) -> list[tuple[str, str]]:
    """The headers that say who the user is."""
    headers = [("X-Remote-User", user.name)]
    if user.uid:
        headers.append(("X-Remote-Uid", user.uid))
    headers += [("X-Remote-Group", group) for group in user.groups]
    for key, values in user.extra.items():
        headers += [(f"X-Remote-Extra-{quote(key.lower(), safe='')}", value) for value in values]
    return headers


async def send_on(
    request: Request, user: User, spec: Mapping[str, Any], reader: Reader, chance: Chance, caller: Caller
) -> Answer:
    """Raises ApiError 503 when the server cannot be reached."""
    try:
        to = destination(spec, reader, chance)
        target = request.raw_path or quote(request.path)
        if request.raw_query:
            target = f"{target}?{request.raw_query}"
        headers = forwarded(request, to.authority)
        if "upgrade" in request.headers.get("connection", "").lower():
            head = request_head(request.method, target, [*headers, *named(user)])
            return splice(await caller.raw(to), head, request.body)
        kept = [(name, value) for name, value in headers if name.lower() not in _STAYS_HERE]
        incoming = await caller.open(
            to, request.method, target, headers=[*kept, *named(user)], body=request.body
        )
    except (Unresolved, CallError) as problem:
        raise errors.unavailable(f"error trying to reach service: {problem}") from None
    return await passed_on(incoming)


async def passed_on(incoming: Incoming) -> Answer:
    """The other server's answer as ours: whole when it is short, else as it comes."""
    headers = {name: value for name, value in incoming.headers.items() if name not in NOT_RETURNED}
    content_type = headers.pop("content-type", "")
    length = incoming.headers.get("content-length", "")
    if length.isdigit() and int(length) <= WHOLE:
        try:
            body = b"".join([chunk async for chunk in incoming.chunks()])
        except ConnectionResetError as problem:
            raise errors.unavailable(f"error trying to reach service: {problem}") from None
        return Response(incoming.status, body, headers, content_type)
    return Stream(incoming.status, incoming.chunks(), headers, content_type)
