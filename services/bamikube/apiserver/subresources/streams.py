"""Logs, exec, attach and port-forward: a client talks to the node agent of a pod, through us.

Everything that can be wrong (no such pod, no such container, no node yet, node unreachable, a refusal of the node) is
answered with a Status before anything is upgraded. After that it depends on what the client speaks:

=====================================  ===========================================================================
SPDY; websocket ``v4`` and older       bytes are copied both ways and nobody here reads them
websocket ``v5.channel.k8s.io``        translated to SPDY streams (:mod:`.translator`): a channel can be closed, which
                                       is how a command learns that its input has ended
websocket ``SPDY/3.1+...``             port-forward: SPDY carried in messages, taken out here
any websocket, for logs                the log as messages (:mod:`bamikube.apiserver.websockets`)
=====================================  ===========================================================================

The node agent's paths are the kubelet's: ``/containerLogs``, ``/exec``, ``/attach``, ``/portForward``.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

from prometheus_client import Counter

from bamikube.api import errors
from bamikube.api.errors import Cause
from bamikube.apiserver import websockets
from bamikube.apiserver.apimetrics import LOGS_BACKEND, LOGS_UNTRUSTED, STREAM_TRANSLATIONS, STREAM_TUNNELS
from bamikube.apiserver.call import Call
from bamikube.apiserver.subresources import translator
from bamikube.apiserver.subresources.dialing import (
    Exchange,
    NodeDialer,
    Place,
    place_of,
    refused_by_node,
    untrusted,
)
from bamikube.apiserver.subresources.rewriting import Object, current
from bamikube.apiserver.subresources.translator import Translator, Wanted
from bamikube.kit.http import Answer, RawConnection, Request, Response, Stream, Tunnel
from bamikube.kit.tunnel import converse, relay, request_head

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"

# What concerns only the connection between the client and us, or must not leave us.
NOT_FORWARDED = frozenset(
    {"host", "authorization", "cookie", "content-length", "transfer-encoding", "expect"}
)
_NOT_FORWARDED_PREFIXES = ("impersonate-", "x-remote-")
_TUNNELLED = "SPDY/3.1+"  # the prefix of a SPDY protocol that is carried in a websocket


async def log(call: Call) -> Answer:
    """``GET pods/<name>/log``. A pod that has no node yet has said nothing: 204."""
    if call.verb != "get":
        raise errors.method_not_allowed()
    query = log_query(call.request)
    in_websocket = websockets.asks_for_websocket(call.request)
    if in_websocket:
        websockets.plain_protocol(call.request)
    pod = await current(call)
    container = container_of(pod, call.request.param("container"))
    if not (pod.get("spec") or {}).get("nodeName"):
        return Response(204)
    place = _place(call, pod)
    target = f"/containerLogs/{quote(call.namespace)}/{quote(call.name)}/{quote(container)}"
    exchange = await _asked(call, place, target + (f"?{urlencode(query)}" if query else ""))
    if exchange.status >= 300:
        raise refused_by_node(exchange.status, await exchange.text())
    if in_websocket:
        return websockets.log_messages(call.request, exchange.chunks())
    return Stream(200, exchange.chunks(), content_type="text/plain")


async def _asked(call: Call, place: Place, target: str) -> Exchange:
    """The node agent's answer; who says so gets it from a node whose certificate is not trusted, too."""
    verify = not call.request.flag("insecureSkipTLSVerifyBackend")
    LOGS_BACKEND.labels("enforce_tls" if verify else "skip_tls_allowed").inc()
    try:
        return await dialer_of(call).open(place, "GET", target, verify=verify)
    except errors.ApiError as error:
        if untrusted(error):
            LOGS_UNTRUSTED.inc()
        raise


def log_query(request: Request) -> list[tuple[str, str]]:
    """The parameters for the node agent. Raises ApiError 400 or 422 for what cannot be."""
    query: list[tuple[str, str]] = []
    causes: list[Cause] = []
    for name in ("follow", "previous", "timestamps"):
        if request.flag(name):
            query.append((name, "true"))
    for name, least in (("tailLines", 0), ("sinceSeconds", 1), ("limitBytes", 1)):
        text = request.param(name)
        if not text:
            continue
        try:
            number = int(text)
        except ValueError:
            raise errors.bad_request(f"the parameter {name} is not a whole number: {text!r}") from None
        if number < least:
            words = "greater than 0" if least else "greater than or equal to 0"
            causes.append(Cause("FieldValueInvalid", f"Invalid value: {number}: must be {words}", name))
        query.append((name, str(number)))
    if since := request.param("sinceTime"):
        if request.param("sinceSeconds"):
            causes.append(
                Cause(
                    "FieldValueForbidden",
                    "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified",
                    "sinceSeconds",
                )
            )
        query.append(("sinceTime", since))
    if stream := request.param("stream"):
        if stream not in ("All", "Stdout", "Stderr"):
            causes.append(
                Cause(
                    "FieldValueNotSupported",
                    f'Unsupported value: "{stream}": supported values: "All", "Stderr", "Stdout"',
                    "stream",
                )
            )
        elif stream != "All" and request.param("tailLines"):
            text = "Forbidden: `tailLines` and specific `stream` are mutually exclusive for now"
            causes.append(Cause("FieldValueForbidden", text, ""))
        query.append(("stream", stream))
    if causes:
        raise errors.invalid("PodLogOptions", "", causes)
    return query


def container_of(pod: Object, wanted: str) -> str:
    """The container meant. Raises ApiError 400 when it has to be said, or does not exist."""
    name, spec = pod["metadata"]["name"], pod.get("spec") or {}
    groups = [
        [one["name"] for one in spec.get(field) or []]
        for field in ("containers", "initContainers", "ephemeralContainers")
    ]
    if wanted:
        if not any(wanted in group for group in groups):
            raise errors.bad_request(f"container {wanted} is not valid for pod {name}")
        return wanted
    if len(groups[0]) == 1:
        return str(groups[0][0])
    default = (pod["metadata"].get("annotations") or {}).get(DEFAULT_CONTAINER)
    if default and any(default in group for group in groups):
        return str(default)
    others = "".join(
        f" or one of the {word} containers: [{' '.join(group)}]"
        for word, group in (("init", groups[1]), ("ephemeral", groups[2]))
        if group
    )
    raise errors.bad_request(
        f"a container name must be specified for pod {name}, choose one of: [{' '.join(groups[0])}]{others}"
    )


async def exec_(call: Call) -> Answer:
    """``pods/<name>/exec``."""
    _only_get_and_create(call)
    if not call.request.query.get("command"):
        raise errors.bad_request("you must specify at least one command for the container")
    return await _in_container(call, "exec")


async def attach(call: Call) -> Answer:
    """``pods/<name>/attach``."""
    return await _in_container(call, "attach")


async def port_forward(call: Call) -> Answer:
    """``pods/<name>/portforward``."""
    pod = await _checked(call)
    query = [
        ("port", value) for value in call.request.query.get("ports", []) + call.request.query.get("port", [])
    ]
    target = f"/portForward/{quote(call.namespace)}/{quote(call.name)}"
    tunnelled = [one.removeprefix(_TUNNELLED) for one in _offered(call.request) if one.startswith(_TUNNELLED)]
    if tunnelled:
        return await _unwrapped(call, _place(call, pod), _with(target, query), tunnelled)
    return await _tunnel(call, pod, target, query)


async def _in_container(call: Call, verb: str) -> Answer:
    pod = await _checked(call)
    container = container_of(pod, call.request.param("container"))
    query = stream_query(call.request)
    target = f"/{verb}/{quote(call.namespace)}/{quote(call.name)}/{quote(container)}"
    if translator.PROTOCOL in _offered(call.request):
        terminal = verb == "attach" and _has_terminal(pod, container)
        if terminal:
            query = [*(one for one in query if one[0] not in ("error", "tty")), ("tty", "1")]
        wanted = _wanted(call.request, terminal=terminal)
        return await _translated(call, _place(call, pod), _with(target, query), wanted)
    return await _tunnel(call, pod, target, query)


def stream_query(request: Request) -> list[tuple[str, str]]:
    """The node agent's names for what is wanted. Raises ApiError 400 when nothing is."""
    query = [("command", value) for value in request.query.get("command", [])]
    wanted = [
        (short, "1")
        for name, short in (("stdin", "input"), ("stdout", "output"), ("stderr", "error"))
        if request.flag(name)
    ]
    if not wanted:
        raise errors.bad_request("you must specify at least 1 of stdin, stdout, stderr")
    if request.flag("tty"):
        if ("error", "1") in wanted and len(wanted) == 1:
            raise errors.bad_request("a terminal has no separate stderr: ask for stdout")
        wanted.append(("tty", "1"))
    return [*query, *wanted]


def _only_get_and_create(call: Call) -> None:
    if call.verb not in ("get", "create"):
        raise errors.method_not_allowed()


async def _checked(call: Call) -> Object:
    _only_get_and_create(call)
    headers = call.request.headers
    if "upgrade" not in headers.get("connection", "").lower() or not headers.get("upgrade"):
        raise errors.bad_request("Upgrade request required")
    if websockets.asks_for_websocket(call.request):
        websockets.check(call.request)
    pod = await current(call)
    if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        phase = pod["status"]["phase"]
        raise errors.bad_request(f"cannot exec into a container in a completed pod; current phase is {phase}")
    return pod


async def _tunnel(call: Call, pod: Object, target: str, query: list[tuple[str, str]]) -> Tunnel:
    place = _place(call, pod)
    target = _with(target, query)
    head = request_head(call.request.method, target, forwarded(call.request, f"{place.host}:{place.port}"))
    node: RawConnection = await dialer_of(call).raw(place)
    return splice(node, head, call.request.body)


def _with(target: str, query: list[tuple[str, str]]) -> str:
    return f"{target}?{urlencode(query)}" if query else target


def _offered(request: Request) -> list[str]:
    """The websocket protocols offered; none for SPDY."""
    return websockets.offered(request) if websockets.asks_for_websocket(request) else []


def _wanted(request: Request, *, terminal: bool) -> Wanted:
    """The streams a node agent expects: ``terminal`` when it takes one from the container, whatever the client has."""
    return Wanted(
        stdin=request.flag("stdin"),
        stdout=request.flag("stdout"),
        stderr=request.flag("stderr"),
        tty=request.flag("tty") or terminal,
        attached=terminal,
    )


def _has_terminal(pod: Object, container: str) -> bool:
    spec = pod.get("spec") or {}
    fields = ("containers", "initContainers", "ephemeralContainers")
    return any(
        one["name"] == container and one.get("tty") for field in fields for one in spec.get(field) or []
    )


async def _translated(call: Call, place: Place, target: str, wanted: Wanted) -> Tunnel:
    """exec or attach for a client that speaks v5."""
    node, _ = await _spdy(call, place, target, [translator.NODE_PROTOCOL], STREAM_TRANSLATIONS)
    farewell = f"the connection to node {place.node} ended before the command did"
    talk = Translator(wanted, farewell)

    async def serve(client: RawConnection) -> None:
        try:
            await client.write(websockets.switching(call.request, translator.PROTOCOL))
            await _open(client, node, talk)
            await converse(client, node, talk.from_client, talk.from_node)
        finally:
            node.close()
            STREAM_TRANSLATIONS.labels("500" if talk.lost else "200").inc()

    return Tunnel(serve)


async def _open(client: RawConnection, node: RawConnection, talk: Translator) -> None:
    """Open the streams and wait until each is answered."""
    said = talk.opening()
    while True:
        for part in said.left:
            await client.write(part)
        for part in said.right:
            await node.write(part)
        if talk.opened:
            return
        try:
            data = await node.read()
        except OSError:
            data = b""
        said = talk.from_node(data)


async def _unwrapped(call: Call, place: Place, target: str, protocols: list[str]) -> Tunnel:
    """port-forward for a client that carries SPDY in a websocket."""
    node, chosen = await _spdy(call, place, target, protocols, STREAM_TUNNELS)

    async def serve(client: RawConnection) -> None:
        try:
            STREAM_TUNNELS.labels("101").inc()
            await client.write(websockets.switching(call.request, _TUNNELLED + chosen if chosen else ""))
            await relay(websockets.Carried(client), node)
        finally:
            node.close()

    return Tunnel(serve)


async def _spdy(
    call: Call, place: Place, target: str, protocols: list[str], counter: Counter
) -> tuple[RawConnection, str]:
    """A SPDY connection to the node agent; a failure is counted."""
    try:
        return await dialer_of(call).spdy(place, target, protocols)
    except errors.ApiError as error:
        counter.labels(str(error.code)).inc()
        raise


def splice(backend: RawConnection, head: bytes, body: bytes = b"") -> Tunnel:
    """Send ``head`` to ``backend`` and join it with whoever takes the tunnel."""

    async def serve(client: RawConnection) -> None:
        try:
            await backend.write(head + body)
            await relay(client, backend)
        finally:
            backend.close()

    return Tunnel(serve)


def forwarded(request: Request, host: str) -> list[tuple[str, str]]:
    """The client's headers for the next server. What came several times goes on several times, because the stream
    protocols are negotiated that way."""
    headers = [("Host", host)]
    for name, value in request.headers.items():
        if name in NOT_FORWARDED or name.startswith(_NOT_FORWARDED_PREFIXES):
            continue
        if name == "sec-websocket-protocol":
            headers.append((name, ", ".join(websockets.offered(request))))  # without a token
        elif name == "x-stream-protocol-version":
            headers.extend((name, one.strip()) for one in value.replace("\n", ",").split(",") if one.strip())
        else:
            headers.extend((name, one) for one in value.split("\n"))
    if request.body:
        headers.append(("Content-Length", str(len(request.body))))
    if request.peer.address:
        headers.append(("X-Forwarded-For", request.peer.address))
    return headers


def _place(call: Call, pod: dict[str, Any]) -> Place:
    name = (pod.get("spec") or {}).get("nodeName")
    if not name:
        raise errors.bad_request(f"pod {call.name} does not have a host assigned")
    return node_place(call, name)


def node_place(call: Call, name: str) -> Place:
    """Where the agent of a node listens. Raises ApiError 404 or 400."""
    node = call.services.reader.get(("", "nodes"), "", name)
    if node is None:
        raise errors.not_found("nodes", name)
    preferred = getattr(call.services.options, "kubelet_preferred_address_types", None)
    return place_of(node, tuple(preferred)) if preferred else place_of(node)


def dialer_of(call: Call) -> NodeDialer:
    """The dialer of this server, made from its options when it is first needed. Raises ApiError 500 naming the flag."""
    services = call.services
    if services.dialer is None:
        options = services.options
        certificate = getattr(options, "kubelet_client_certificate", "")
        try:
            services.dialer = NodeDialer.from_files(
                certificate,
                getattr(options, "kubelet_client_key", ""),
                getattr(options, "kubelet_certificate_authority", ""),
            )
        except (OSError, ValueError) as problem:
            raise errors.internal(f"--kubelet-client-certificate {certificate}: {problem}") from problem
    dialer: NodeDialer = services.dialer
    return dialer
