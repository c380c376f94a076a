"""Where the API server calls: from clientConfig and services to an address and the name TLS must prove."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from bamikube.api.errors import ApiError
from bamikube.apiserver.outbound import Destination, Unresolved, of_client_config, of_service
from bamikube.apiserver.outbound.destination import SERVICE_NAME, SERVICES, SLICES
from bamikube.apiserver.subresources.dialing import Place
from bamikube.apiserver.subresources.proxy import check_agent
from bamikube.kit.chance import Chance
from tests.unit.apiserver_edges.conftest import DictReader


def service(**spec: Any) -> dict[str, Any]:
    spec = {"type": "ClusterIP", "clusterIP": "10.96.0.7", "ports": [{"name": "https", "port": 443}]} | spec
    return {"metadata": {"name": "judge", "namespace": "web"}, "spec": spec}


def endpoint_slice(name: str, port: int | None, *endpoints: tuple[str, bool | None]) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "web", "labels": {"kubernetes.io/service-name": "judge"}},
        "ports": [{"name": "metrics", "port": 9090}, {"name": "https", "port": port}],
        "endpoints": [
            {"addresses": [address], "conditions": {} if ready is None else {"ready": ready}}
            for address, ready in endpoints
        ],
    }


def test_a_ready_endpoint_is_dialled_under_the_services_name(reader: DictReader) -> None:
    reader.put(SERVICES, service())
    reader.put(SLICES, endpoint_slice("judge-1", 8443, ("10.244.1.7", True), ("10.244.1.8", False)))
    config = {
        "service": {"namespace": "web", "name": "judge", "path": "/a b?c", "port": 443},
        "caBundle": base64.b64encode(b"PEM").decode(),
    }
    found = of_client_config(config, reader, Chance(1))
    assert found == Destination(
        "10.244.1.7", 8443, "judge.web.svc", "judge.web.svc:443", "/a%20b%3Fc", "", b"PEM"
    )
    assert found.shown("/x") == "https://judge.web.svc:443/x"


def test_ready_unknown_counts_as_ready_and_all_are_used(reader: DictReader) -> None:
    reader.put(SERVICES, service())
    reader.put(SLICES, endpoint_slice("judge-1", 8443, ("10.244.1.7", None)))
    reader.put(SLICES, endpoint_slice("judge-2", 9443, ("10.244.1.8", True)))
    chance = Chance(1)
    found = {of_service(reader, chance, "web", "judge", 443).host for _ in range(50)}
    assert found == {"10.244.1.7", "10.244.1.8"}


@pytest.mark.parametrize(
    ("spec", "slices", "port", "outcome"),
    [
        (None, [], 443, 'service "judge" not found'),
        ({}, [], 8080, 'no service port 8080 found for service "judge"'),
        ({}, [], 443, ("10.96.0.7", 443)),  # no slice at all: whoever steers service traffic may know
        ({"clusterIP": "None"}, [], 443, 'no endpoints available for service "judge"'),
        ({}, [endpoint_slice("s", 8443)], 443, 'no endpoints available for service "judge"'),
        (
            {},
            [endpoint_slice("s", None, ("10.0.0.1", True))],
            443,
            'no endpoints available for service "judge"',
        ),
        (
            {"type": "ExternalName", "externalName": "judge.example.com"},
            [],
            8443,
            ("judge.example.com", 8443),
        ),
    ],
)
def test_services(
    reader: DictReader,
    spec: dict[str, Any] | None,
    slices: list[dict[str, Any]],
    port: int,
    outcome: str | tuple[str, int],
) -> None:
    if spec is not None:
        reader.put(SERVICES, service(**spec))
    for one in slices:
        reader.put(SLICES, one)
    if isinstance(outcome, str):
        with pytest.raises(Unresolved, match=outcome):
            of_service(reader, Chance(1), "web", "judge", port)
    else:
        found = of_service(reader, Chance(1), "web", "judge", port)
        assert (found.host, found.port) == outcome
        assert found.name == "judge.web.svc"


@pytest.mark.parametrize(
    ("url", "outcome"),
    [
        ("https://a.example.com/x?y=1", ("a.example.com", 443, "a.example.com", "/x", "y=1")),
        ("https://[::1]:8443/x", ("::1", 8443, "[::1]:8443", "/x", "")),
        ("https://a.example.com", ("a.example.com", 443, "a.example.com", "", "")),
    ],
)
def test_urls(reader: DictReader, url: str, outcome: tuple[Any, ...]) -> None:
    found = of_client_config({"url": url}, reader, Chance(1))
    assert (found.host, found.port, found.authority, found.path, found.query) == outcome


@pytest.mark.parametrize("config", [{}, {"url": "https:///x"}, {"url": "https://a:99999/"}])
def test_what_names_no_place(reader: DictReader, config: dict[str, Any]) -> None:
    with pytest.raises(Unresolved):
        of_client_config(config, reader, Chance(1))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "169.254.169.254", "::ffff:127.0.0.1", "10.0.0.10"])
def test_a_node_cannot_send_us_back_to_ourselves(reader: DictReader, host: str) -> None:
    kubernetes = {
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": {SERVICE_NAME: "kubernetes"}},
        "ports": [{"name": "https", "port": 6443}],
        "endpoints": [{"addresses": ["10.0.0.10"]}],
    }
    reader.put(SLICES, kubernetes)
    with pytest.raises(ApiError, match="address not allowed"):
        check_agent(reader, Place("evil", host, 6443))
    check_agent(reader, Place("master", "10.0.0.10", 10250))
    check_agent(reader, Place("worker", "worker.example.com", 10250))
