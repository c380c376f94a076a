"""The API server as a proxy to pods, services and nodes.

``/api/v1/namespaces/<ns>/pods/[scheme:]<name>[:port]/proxy/<path>`` and alike: the request is sent on to the pod, to
a ready endpoint of the service, or to the node, and the answer comes back as it is. Credentials stay here.

Targets are addresses of the cluster. Loopback, link-local, multicast and unspecified addresses are refused: a pod
whose status claims such an address must not be able to make the API server talk to itself or to a metadata
service. A node's agent, which is shown a certificate, is no API server either.

Source: Kubernetes' "Access Services Running on Clusters"; the address rule is upstream's ``IsProxyableIP``.
"""

from __future__ import annotations

import ipaddress
import ssl as tls
from dataclasses import dataclass, replace
from urllib.parse import quote

from bamikube.api import errors
from bamikube.api.numbers import whole
from bamikube.apiserver.call import Call
from bamikube.apiserver.outbound.caller import explained
from bamikube.apiserver.outbound.destination import Destination, endpoints
from bamikube.apiserver.registry.reader import Reader
from bamikube.apiserver.subresources.dialing import Exchange, Place, fetch, unreachable
from bamikube.apiserver.subresources.links import Links, pages
from bamikube.apiserver.subresources.rewriting import Object, current
from bamikube.apiserver.subresources.streams import dialer_of, forwarded, node_place, splice
from bamikube.kit.http import Answer, Response, Stream
from bamikube.kit.tunnel import dial, request_head

_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
# What a pod allows other sites, it does not allow them at the API server's address.
_FOREIGN = {f"access-control-allow-{what}" for what in ("credentials", "headers", "methods", "origin")}
NOT_RETURNED = _HOP_BY_HOP | {"content-length", "date"}


@dataclass(frozen=True, slots=True)
class Target:
    """``[scheme:]name[:port]`` of a proxy path. ``port`` is a number, a name, or ""."""

    scheme: str
    name: str
    port: str


def parse_target(text: str, kind: str) -> Target:
    """Raises ApiError 400 for what is not of that form."""
    parts = text.split(":")
    match parts:
        case [name]:
            target = Target("http", name, "")
        case [name, port]:
            target = Target("http", name, port)
        case [scheme, name, port]:
            target = Target(scheme or "http", name, port)
        case _:
            target = Target("", "", "")
    if target.scheme not in ("http", "https") or not target.name:
        raise errors.bad_request(f'invalid {kind} request "{text}"')
    return target


def check_address(address: str) -> str:
    """Raises ApiError 400 for an address that must not be proxied to."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        raise errors.bad_request("address not allowed") from None
    mapped = getattr(ip, "ipv4_mapped", None)
    ip = mapped or ip
    if (
        ip.is_loopback
        or ip.is_link_local
        or ip.is_multicast
        or ip.is_unspecified
        or str(ip) == "255.255.255.255"
    ):
        raise errors.bad_request("address not allowed")
    return address


def check_agent(reader: Reader, place: Place) -> None:
    """Raises ApiError 400 for a node that claims to be reached where no agent may be.

    An agent is shown our client certificate, and a node writes its own status: it must not be able to send a request
    back to an API server, where that certificate may do everything.
    """
    if is_address(place.host):
        check_address(place.host)
    if (place.host, place.port) in endpoints(reader, "default", "kubernetes", "https")[0]:
        raise errors.bad_request("address not allowed")


def is_address(text: str) -> bool:
    """Whether it is an IP address, not a name."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


async def proxy_pod(call: Call) -> Answer:
    """``pods/<target>/proxy``."""
    target = parse_target(call.name, "pod")
    pod = await _named(call, target.name)
    address = check_address((pod.get("status") or {}).get("podIP") or "")
    port = target.port or _first_port(pod)
    number = whole(port)
    if number is None:
        number = int(_named_port(pod, port))
    return await _send(call, target.scheme, address, number)


async def proxy_service(call: Call) -> Answer:
    """``services/<target>/proxy``."""
    target = parse_target(call.name, "service")
    service = await _named(call, target.name)
    ports = (service.get("spec") or {}).get("ports") or []
    chosen = [
        one
        for one in ports
        if target.port in (one.get("name", ""), str(one.get("port"))) or (not target.port and len(ports) == 1)
    ]
    if not chosen:
        number = whole(target.port)
        missing = f"no service port {number} found" if number is not None else "no endpoints available"
        named = target.name if number is not None else call.name
        raise errors.unavailable(f'{missing} for service "{named}"')
    places = _endpoints(call, target.name, chosen[0].get("name") or "")
    if not places:
        raise errors.unavailable(f'no endpoints available for service "{target.name}"')
    address, port = call.world.chance.choice(places)
    return await _send(call, target.scheme, check_address(address), port)


async def proxy_node(call: Call) -> Answer:
    """``nodes/<target>/proxy``: the node agent by default, any port of the node when one is named."""
    target = parse_target(call.name, "node")
    place = node_place(call, target.name)
    if target.port and target.port != str(place.port):
        return await _send(call, target.scheme, check_address(place.host), whole(target.port) or 0)
    check_agent(call.services.reader, place)
    exchange = await dialer_of(call).open(
        place, call.request.method, _rest(call), headers=_headers(call, place), body=call.request.body
    )
    links = Links(_parts(call)[0], f"{place.host}:{place.port}", call.request.headers.get("host") or "")
    return _linked(call, exchange, *_returned(exchange.headers), links)


async def _named(call: Call, name: str) -> Object:
    return await current(replace(call, name=name))


def _first_port(pod: Object) -> str:
    for container in (pod.get("spec") or {}).get("containers") or []:
        for port in container.get("ports") or []:
            return str(port.get("containerPort"))
    return "80"


def _named_port(pod: Object, name: str) -> str:
    for container in (pod.get("spec") or {}).get("containers") or []:
        for port in container.get("ports") or []:
            if port.get("name") == name:
                return str(port.get("containerPort"))
    raise errors.unavailable(f'no port "{name}" found for pod "{pod["metadata"]["name"]}"')


def _endpoints(call: Call, service: str, port: str) -> list[tuple[str, int]]:
    places: list[tuple[str, int]] = []
    for found in call.services.reader.list(("discovery.k8s.io", "endpointslices"), call.namespace):
        if (found["metadata"].get("labels") or {}).get("kubernetes.io/service-name") != service:
            continue
        numbers = [
            one["port"]
            for one in found.get("ports") or []
            if (one.get("name") or "") == port and one.get("port")
        ]
        for endpoint in found.get("endpoints") or []:
            if (endpoint.get("conditions") or {}).get("ready") is False or not numbers:
                continue
            places.extend((address, int(numbers[0])) for address in (endpoint.get("addresses") or [])[:1])
    return places


def _parts(call: Call) -> tuple[str, str]:
    """The path up to ``/proxy`` and what is behind it, percent-encoded as it was sent. Names may begin with "proxy"."""
    raw = call.request.raw_path or quote(call.request.path)
    before = (
        8 if call.namespace else 6
    )  # /api/v1/namespaces/<namespace>/pods/<name>/proxy, /api/v1/nodes/<name>/proxy
    pieces = raw.split("/", before)
    return "/".join(pieces[:before]), f"/{pieces[before]}" if len(pieces) > before else ""


def _rest(call: Call) -> str:
    """The path behind ``/proxy`` with the query."""
    target = _parts(call)[1] or "/"
    return f"{target}?{call.request.raw_query}" if call.request.raw_query else target


def _headers(call: Call, place: Place) -> dict[str, str]:
    return {
        name: value
        for name, value in forwarded(call.request, f"{place.host}:{place.port}")
        if name.lower() not in _HOP_BY_HOP and name.lower() != "content-length"
    }


def _returned(headers: dict[str, str]) -> tuple[dict[str, str], str]:
    kept = {name: value for name, value in headers.items() if name.lower() not in NOT_RETURNED | _FOREIGN}
    content_type = ""
    for name in list(kept):
        if name.lower() == "content-type":
            content_type = kept.pop(name)
    return kept, content_type


async def _send(call: Call, scheme: str, host: str, port: int) -> Answer:
    base, path = _parts(call)
    if not path and call.request.method in ("GET", "HEAD"):
        # Relative links in the answer only work below a path that ends with a slash.
        query = f"?{call.request.raw_query}" if call.request.raw_query else ""
        return Response(301, b"", {"Location": f"{base}/{query}"}, "")
    if not 0 < port < 65536:
        raise errors.bad_request(f"{port} is not a port number")
    place = Place(call.name, host, port)
    context = None
    if scheme == "https":
        context = tls.create_default_context()
        context.check_hostname, context.verify_mode = (
            False,
            tls.CERT_NONE,
        )  # pods have certificates of any kind
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    asked = call.request.headers.get("host") or shown  # the pod is told what the client calls it
    if "upgrade" in call.request.headers.get("connection", "").lower():
        head = request_head(call.request.method, _rest(call), forwarded(call.request, asked))
        try:
            backend = await dial(host, port, ssl=context, server_hostname=host)
        except (OSError, TimeoutError) as problem:
            raise unreachable(place, problem) from problem
        return splice(backend, head, call.request.body)
    try:
        exchange = await fetch(
            call.request.method,
            f"{scheme}://{shown}{_rest(call)}",
            _headers(call, place) | {"Host": asked, "X-Forwarded-Uri": base + path},
            call.request.body,
            context,
            place,
        )
    except errors.ApiError as problem:
        why = explained(problem.__cause__ or problem, Destination(host, port, host, shown))
        raise errors.unavailable(f"error trying to reach service: {why}") from problem
    headers, content_type = _returned(exchange.headers)
    return _linked(call, exchange, headers, content_type, Links(base, shown, asked))


def _linked(
    call: Call, exchange: Exchange, headers: dict[str, str], content_type: str, links: Links
) -> Stream:
    """The answer, its links led through the proxy: of a redirection that one, else those of a page."""
    lower = {name.lower(): name for name in headers}
    chunks = exchange.chunks()
    if moved := lower.get("location"):
        headers[moved] = links.through(headers[moved])
    elif content_type.partition(";")[0].strip().lower() == "text/html" and call.request.method != "HEAD":
        encoding = headers.get(lower.get("content-encoding", ""), "")
        return Stream(exchange.status, pages(links, encoding, chunks), headers, content_type)
    return Stream(exchange.status, chunks, headers, content_type)
