"""Aggregation without servers: what is registered, what is available and why, and how documents become one."""

from __future__ import annotations

from typing import Any

import pytest

from bamikube.api import table
from bamikube.apiserver.aggregation import availability, documents, registration
from bamikube.apiserver.aggregation.documents import Offer
from bamikube.apiserver.aggregation.proxying import named
from bamikube.apiserver.discovery import Discovery
from bamikube.apiserver.identity import User
from bamikube.apiserver.openapi import OpenApi
from bamikube.apiserver.outbound.destination import SERVICES, SLICES
from bamikube.kit.http import Request
from tests.unit.apiserver_edges.conftest import DictReader
from tests.unit.apiserver_edges.test_outbound_destinations import endpoint_slice, service

SPEC: dict[str, Any] = {
    "group": "wardle.example.com",
    "version": "v1alpha1",
    "groupPriorityMinimum": 2000,
    "versionPriority": 200,
    "service": {"namespace": "web", "name": "judge", "port": 443},
}


# -- registration ------------------------------------------------------------------------------------------------------


def test_every_group_version_served_here_is_registered() -> None:
    wanted = {one["metadata"]["name"]: one for one in registration.desired(table.TABLE)}
    assert {"v1.", "v1.apps", "v1.autoscaling", "v2.autoscaling"} <= wanted.keys()
    assert "v1.apiregistration.k8s.io" not in wanted
    assert wanted["v1."]["spec"] == {"version": "v1", "groupPriorityMinimum": 18000, "versionPriority": 1}
    assert wanted["v2.autoscaling"]["spec"]["versionPriority"] == 30
    assert wanted["v1.apps"]["metadata"]["labels"] == {registration.LABEL: "onstart"}


def stored(name: str, label: str | None, **spec: Any) -> dict[str, Any]:
    labels = {} if label is None else {registration.LABEL: label}
    return {"metadata": {"name": name, "labels": labels}, "spec": spec}


def test_only_what_is_managed_is_put_right() -> None:
    apps = next(one for one in registration.desired(table.TABLE) if one["metadata"]["name"] == "v1.apps")
    changed = stored("v1.apps", "onstart", group="apps", version="v1")
    assert registration.plan([apps], {"v1.apps": changed}, starting=True).update[0]["spec"] == apps["spec"]
    assert registration.plan([apps], {"v1.apps": changed}, starting=False) == registration.Plan()
    theirs = stored("v1.apps", None, group="apps", version="v1")
    assert registration.plan([apps], {"v1.apps": theirs}, starting=True) == registration.Plan()


def test_what_is_no_longer_served_goes() -> None:
    there = {
        "v1.gone.example.com": stored("v1.gone.example.com", "true"),
        "v1.old": stored("v1.old", "onstart"),
        "v1.theirs.example.com": stored("v1.theirs.example.com", None),
    }
    assert registration.plan([], there, starting=False).delete == ["v1.gone.example.com"]
    assert registration.plan([], there, starting=True).delete == ["v1.gone.example.com", "v1.old"]


# -- availability ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("described", "slices", "reason", "message"),
    [
        (None, [], "ServiceNotFound", 'service/judge in "web" is not present'),
        (
            {"ports": [{"port": 80}]},
            [],
            "ServicePortError",
            'service/judge in "web" is not listening on port 443',
        ),
        ({}, [], "EndpointsNotFound", 'cannot find endpointslices for service/judge in "web"'),
        (
            {},
            [endpoint_slice("a", 8443, ("10.0.0.1", False))],
            "MissingEndpoints",
            'endpointslices for service/judge in "web" have no addresses with port name "https"',
        ),
        ({}, [endpoint_slice("a", 8443, ("10.0.0.1", True))], None, None),
        ({"type": "ExternalName", "externalName": "x"}, [], None, None),
    ],
)
def test_what_the_cluster_says(
    reader: DictReader,
    described: dict[str, Any] | None,
    slices: list[dict[str, Any]],
    reason: str | None,
    message: str | None,
) -> None:
    if described is not None:
        reader.put(SERVICES, service(**described))
    for one in slices:
        reader.put(SLICES, one)
    verdict = availability.judged(SPEC, reader)
    assert (None if verdict is None else (verdict.reason, verdict.message)) == (
        None if reason is None else (reason, message)
    )
    assert availability.judged({**SPEC, "service": None}, reader) == availability.LOCAL


def test_a_condition_moves_only_when_its_status_does() -> None:
    first = availability.with_condition({"spec": SPEC}, availability.PASSED, "2026-01-01T00:00:00Z")
    assert first is not None and availability.available(first)
    assert availability.with_condition(first, availability.PASSED, "2026-01-01T00:01:00Z") is None
    lost = availability.with_condition(first, availability.failed("u", "x"), "2026-01-01T00:02:00Z")
    assert lost is not None and not availability.available(lost)
    again = availability.with_condition(lost, availability.failed("u", "y"), "2026-01-01T00:03:00Z")
    assert again is not None
    condition = availability.condition_of(again)
    assert condition is not None and condition["lastTransitionTime"] == "2026-01-01T00:02:00Z"
    assert condition["message"] == "failing or missing response from u: y"


# -- headers -----------------------------------------------------------------------------------------------------------


def test_users_travel_in_headers() -> None:
    user = User("jane", ("a", "b"), "7", {"example.com/x": ("1", "2"), "Scopes": ("all",)})
    assert named(user) == [
        ("X-Remote-User", "jane"),
        ("X-Remote-Uid", "7"),
        ("X-Remote-Group", "a"),
        ("X-Remote-Group", "b"),
        ("X-Remote-Extra-example.com%2Fx", "1"),
        ("X-Remote-Extra-example.com%2Fx", "2"),
        ("X-Remote-Extra-scopes", "all"),
    ]


# -- documents ---------------------------------------------------------------------------------------------------------

FLUNDERS = (
    {
        "name": "flunders",
        "singularName": "flunder",
        "namespaced": True,
        "kind": "Flunder",
        "verbs": ["get", "list"],
        "shortNames": ["fl"],
    },
    {"name": "flunders/status", "singularName": "", "namespaced": True, "kind": "Flunder", "verbs": ["get"]},
)


def offer(version: str = "v1alpha1", *, fresh: bool = True, priority: int = 200, v2: Any = None) -> Offer:
    return Offer(
        "wardle.example.com", version, 2000, priority, f"{version}{fresh}", fresh, FLUNDERS, "/openapi/x", v2
    )


async def test_groups_of_others_are_listed_by_priority() -> None:
    discovery = Discovery(lambda: table.TABLE, offers=lambda: (offer(), offer("v1beta1", priority=300)))
    answer = await discovery.handle(Request.make("GET", "/apis"))
    assert answer is not None
    import orjson

    listed = orjson.loads(answer.joined())["groups"]
    assert listed[0]["name"] == "apiregistration.k8s.io" and listed[1]["name"] == "apps"
    assert listed[-1] == {
        "name": "wardle.example.com",
        "versions": [
            {"groupVersion": "wardle.example.com/v1beta1", "version": "v1beta1"},
            {"groupVersion": "wardle.example.com/v1alpha1", "version": "v1alpha1"},
        ],
        "preferredVersion": {"groupVersion": "wardle.example.com/v1beta1", "version": "v1beta1"},
    }
    one = await discovery.handle(Request.make("GET", "/apis/wardle.example.com"))
    assert one is not None and orjson.loads(one.joined())["kind"] == "APIGroup"
    plain = Discovery(lambda: table.TABLE)
    without = await plain.handle(Request.make("GET", "/apis"))
    assert without is not None
    assert orjson.loads(without.joined())["groups"] == listed[:-1]  # the order of our own is the same


async def test_aggregated_discovery_says_what_is_stale() -> None:
    found = [offer(fresh=False)]
    document = documents.with_discovery({"items": [{"metadata": {"name": "apps"}, "versions": []}]}, found)
    apps, wardle = document["items"]
    assert apps["metadata"]["name"] == "apps"
    (version,) = wardle["versions"]
    assert version["freshness"] == "Stale"
    (flunders,) = version["resources"]
    assert (flunders["resource"], flunders["scope"], flunders["shortNames"]) == (
        "flunders",
        "Namespaced",
        ["fl"],
    )
    assert flunders["subresources"][0]["subresource"] == "status"


async def test_openapi_takes_the_others_in() -> None:
    import orjson

    pod = {"description": "another pod"}
    part = documents.part_of(
        {
            "paths": {
                "/apis/wardle.example.com/v1alpha1/flunders": {
                    "get": {"schema": {"$ref": "#/definitions/io.k8s.api.core.v1.Pod"}}
                },
                "/apis/other.example.com/v1/x": {},
            },
            "definitions": {"com.example.Flunder": {}, "io.k8s.api.core.v1.Pod": pod},
        },
        "wardle.example.com",
        "v1alpha1",
    )
    openapi = OpenApi(lambda: table.TABLE, offers=lambda: (offer(v2=part),))
    answer = await openapi.handle(Request.make("GET", "/openapi/v2"))
    assert answer is not None
    whole = orjson.loads(answer.joined())
    assert whole["definitions"]["io.k8s.api.core.v1.Pod_v2"] == pod
    assert (
        "com.example.Flunder" in whole["definitions"] and "/apis/other.example.com/v1/x" not in whole["paths"]
    )
    operation = whole["paths"]["/apis/wardle.example.com/v1alpha1/flunders"]["get"]
    assert operation == {"schema": {"$ref": "#/definitions/io.k8s.api.core.v1.Pod_v2"}}
    index = await openapi.handle(Request.make("GET", "/openapi/v3"))
    assert index is not None
    paths = orjson.loads(index.joined())["paths"]
    assert paths["apis/wardle.example.com/v1alpha1"] == {"serverRelativeURL": "/openapi/x"}
