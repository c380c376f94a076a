"""Audit: what the policy decides, and the events a request leaves, on a whole API server over the model store."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from bamikube.apiserver.attributes import Attributes
from bamikube.apiserver.audit.buffered import Buffered
from bamikube.apiserver.audit.collector import Collector
from bamikube.apiserver.audit.log import LogFile
from bamikube.apiserver.audit.policy import Level, policy_of
from bamikube.apiserver.audit.truncating import Truncating
from bamikube.apiserver.identity import User
from bamikube.kit.clock import SystemClock
from bamikube.kit.http import Request, Response, Stream
from bamikube.kit.world import World
from bamikube.pki.kubeconfig import Access
from bamikube.store.model import ModelStore
from tests.unit.apiserver_edges.conftest import running

HEAD = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy"}


def asked(**fields: Any) -> Attributes:
    known = {"user": User("jane", ("dev", "system:authenticated")), "verb": "get", "version": "v1"}
    return Attributes(**{**known, **fields})


@pytest.mark.parametrize(
    ("rule", "attributes", "matches"),
    [
        ({}, asked(resource="pods"), True),
        ({"users": ["jane"]}, asked(resource="pods"), True),
        ({"users": ["joe"]}, asked(resource="pods"), False),
        ({"userGroups": ["ops", "dev"]}, asked(resource="pods"), True),
        ({"userGroups": ["ops"]}, asked(resource="pods"), False),
        ({"verbs": ["list"]}, asked(resource="pods"), False),
        ({"namespaces": ["web"]}, asked(resource="pods", namespace="web"), True),
        ({"namespaces": [""]}, asked(resource="nodes"), True),
        ({"namespaces": ["web"]}, asked(path="/healthz", is_resource=False), False),
        ({"resources": [{"group": ""}]}, asked(resource="pods"), True),
        ({"resources": [{"group": "apps"}]}, asked(resource="pods"), False),
        ({"resources": [{"resources": ["pods"]}]}, asked(resource="pods"), True),
        ({"resources": [{"resources": ["pods"]}]}, asked(resource="pods", subresource="log"), False),
        ({"resources": [{"resources": ["pods/*"]}]}, asked(resource="pods", subresource="log"), True),
        ({"resources": [{"resources": ["*/log"]}]}, asked(resource="pods", subresource="log"), True),
        ({"resources": [{"resources": ["*"]}]}, asked(resource="pods", subresource="log"), True),
        (
            {"resources": [{"resources": ["pods"], "resourceNames": ["a"]}]},
            asked(resource="pods", name="b"),
            False,
        ),
        ({"nonResourceURLs": ["/healthz*"]}, asked(path="/healthz/etcd", is_resource=False), True),
        ({"nonResourceURLs": ["/healthz"]}, asked(path="/healthz/etcd", is_resource=False), False),
        ({"nonResourceURLs": ["*"]}, asked(resource="pods"), False),
    ],
)
def test_rules(rule: dict[str, Any], attributes: Attributes, matches: bool) -> None:
    policy = policy_of({**HEAD, "rules": [{"level": "Request", **rule}]})
    assert policy.decide(attributes).level is (Level.REQUEST if matches else Level.NONE)


def test_the_first_rule_decides() -> None:
    rules = [
        {"level": "None", "users": ["jane"], "omitStages": ["Panic"]},
        {"level": "Metadata", "omitManagedFields": False},
    ]
    policy = policy_of({**HEAD, "rules": rules, "omitStages": ["RequestReceived"], "omitManagedFields": True})
    first, second = policy.decide(asked(resource="x")), policy.decide(asked(user=User("joe"), resource="x"))
    assert first.level is Level.NONE and first.omit_managed_fields
    assert first.omit_stages == {"RequestReceived", "Panic"}
    assert second.level is Level.METADATA and not second.omit_managed_fields


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ([], "it holds no object"),
        ({"kind": "Policy"}, "must be of apiVersion audit.k8s.io/v1"),
        (HEAD, "rules: it needs at least one rule"),
        ({**HEAD, "rules": [{"level": "All"}]}, r"rules\[0\].level: 'All' is none of None, Metadata"),
        ({**HEAD, "rules": [{"level": "None", "user": []}]}, r"rules\[0\]: unknown field user"),
        ({**HEAD, "rules": [{"level": "None", "verbs": "get"}]}, r"rules\[0\].verbs: it is no list"),
        ({**HEAD, "omitStages": ["Late"], "rules": [{"level": "None"}]}, "omitStages: 'Late' is none of"),
        ({**HEAD, "rules": [{"level": "None", "nonResourceURLs": ["/a*b"]}]}, "may end with one"),
    ],
)
def test_policies_that_are_none(document: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        policy_of(document)


def files(folder: Path, *rules: dict[str, Any]) -> dict[str, str]:
    policy = folder / "policy.yaml"
    policy.write_text(yaml.safe_dump({**HEAD, "omitManagedFields": True, "rules": list(rules)}))
    return {"audit_policy_file": str(policy), "audit_log_path": str(folder / "audit.log")}


def events(folder: Path, user: str = "admin") -> list[dict[str, Any]]:
    lines = (folder / "audit.log").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["user"].get("username") == user]


async def test_what_a_request_leaves(tmp_path: Path) -> None:
    world = World()
    store = ModelStore(world)
    rules = [
        {"level": "Metadata", "resources": [{"resources": ["secrets"]}]},
        {"level": "RequestResponse", "users": ["admin"]},
    ]
    async with running(store, world, **files(tmp_path, *rules)) as call:
        secret = {"metadata": {"name": "s"}, "stringData": {"password": "hunter2"}}
        status, _ = await call("POST", "/api/v1/namespaces/default/secrets", secret, user_agent="test/1")
        assert status == 201
        received, complete = events(tmp_path)
        assert (received["stage"], complete["stage"]) == ("RequestReceived", "ResponseComplete")
        assert received["auditID"] == complete["auditID"] and "objectRef" in received
        assert complete["level"] == "Metadata" and complete["verb"] == "create"
        assert complete["requestURI"] == "/api/v1/namespaces/default/secrets"
        assert complete["objectRef"] == {
            "resource": "secrets",
            "namespace": "default",
            "name": "s",
            "apiVersion": "v1",
        }
        assert complete["responseStatus"] == {"metadata": {}, "code": 201}
        assert complete["userAgent"] == "test/1"
        assert complete["annotations"]["authorization.k8s.io/decision"] == "allow"
        assert "hunter2" not in (tmp_path / "audit.log").read_text()
        await call(
            "POST", "/api/v1/namespaces/default/configmaps", {"metadata": {"name": "m"}, "data": {"a": "b"}}
        )
        event = events(tmp_path)[-1]
        assert event["requestObject"]["data"] == {"a": "b"}
        assert event["responseObject"]["metadata"]["name"] == "m"
        assert "managedFields" not in event["responseObject"]["metadata"]
        await call(
            "PATCH",
            "/api/v1/namespaces/default/configmaps/m",
            {"data": {"a": "c"}},
            content_type="application/merge-patch+json",
        )
        event = events(tmp_path)[-1]
        assert (event["verb"], event["requestObject"]) == ("patch", {"data": {"a": "c"}})
        await call("GET", "/api/v1/namespaces/default/configmaps/nope")
        event = events(tmp_path)[-1]
        assert event["responseStatus"]["reason"] == "NotFound" and event["responseStatus"]["code"] == 404
        headers = {"x-test-user": "admin", "x-test-groups": "system:masters", "audit-id": "mine"}
        target = "/api/v1/namespaces/default/configmaps?watch=true&timeoutSeconds=1"
        answer = await call.server.handle(Request.make("GET", target, headers=headers))
        assert isinstance(answer, Stream) and answer.headers["Audit-Id"] == "mine"
        assert events(tmp_path)[-1]["stage"] == "ResponseStarted"
        async for _ in answer.chunks:
            pass
        event = events(tmp_path)[-1]
        assert (event["stage"], event["auditID"]) == ("ResponseComplete", "mine")
    await store.close()


async def test_who_is_refused_is_recorded(tmp_path: Path) -> None:
    world = World()
    store = ModelStore(world)
    flags = files(tmp_path, {"level": "Metadata", "omitStages": ["RequestReceived"]})
    async with running(store, world, **flags, anonymous_auth=False) as call:
        status, _ = await call("GET", "/api/v1/secrets", user="jane", groups="")
        assert status == 403
        (event,) = events(tmp_path, "jane")
        assert event["annotations"]["authorization.k8s.io/decision"] == "forbid"
        assert event["responseStatus"]["code"] == 403
        status, _ = await call("GET", "/api/v1/secrets", user="")
        assert status == 401
        assert events(tmp_path, "")[-1]["responseStatus"]["code"] == 401
        impersonated = {"impersonate_user": "joe"}
        await call("GET", "/api/v1/namespaces/default/secrets", **impersonated)
        event = events(tmp_path)[-1]
        assert event["impersonatedUser"]["username"] == "joe" and event["responseStatus"]["code"] == 403
    await store.close()


async def test_what_nobody_wants_costs_no_event(tmp_path: Path) -> None:
    world = World()
    store = ModelStore(world)
    async with running(store, world, **files(tmp_path, {"level": "None"})) as call:
        await call("GET", "/api/v1/secrets")
        assert (tmp_path / "audit.log").read_text() == ""
    await store.close()


def test_a_bad_policy_stops_the_server_at_its_start(tmp_path: Path) -> None:
    from bamikube.apiserver.options import ApiServerOptions
    from bamikube.apiserver.server import ApiServer

    world = World()
    flags = files(tmp_path, {"level": "Everything"})
    with pytest.raises(
        ValueError, match=r"--audit-policy-file .*policy.yaml: rules\[0\].level: 'Everything'"
    ):
        ApiServer(ModelStore(world), ApiServerOptions(**flags), world)
    with pytest.raises(ValueError, match="--audit-policy-file /nowhere: No such file"):
        ApiServer(ModelStore(world), ApiServerOptions(audit_policy_file="/nowhere"), world)


def test_the_log_is_rotated(tmp_path: Path) -> None:
    clock = SystemClock()
    log = LogFile(str(tmp_path / "audit.log"), clock, size=200, backups=2, age=0)
    for number in range(12):
        log.write({"number": number, "text": "x" * 60})
    log.close()
    names = sorted(os.listdir(tmp_path))
    assert "audit.log" in names and 2 <= len(names) <= 3
    last = [json.loads(line)["number"] for line in (tmp_path / "audit.log").read_text().splitlines()]
    assert last[-1] == 11
    assert all((tmp_path / name).stat().st_size <= 200 for name in names)


BIG = {"kind": "Event", "auditID": "a", "annotations": {"x": "y"}, "requestObject": {"data": "x" * 500}}


class Kept:
    """A sink that remembers, and fails when it is told to."""

    def __init__(self, works: bool = True) -> None:
        self.events: list[dict[str, Any]] = []
        self.works = works
        self.closed = False

    def write(self, event: dict[str, Any]) -> bool:
        self.events.append(event)
        return self.works

    def close(self) -> None:
        self.closed = True


def test_what_is_too_large_is_recorded_without_its_bodies() -> None:
    kept = Kept()
    sink = Truncating(kept, 300)
    small = {"auditID": "b", "responseObject": {"a": 1}}
    for event in (small, BIG, {"auditID": "c", "userAgent": "x" * 500}, {**BIG, "requestURI": "x" * 500}):
        assert sink.write(event)
    marked = {"x": "y", "audit.k8s.io/truncated": "true"}
    assert kept.events == [small, {"kind": "Event", "auditID": "a", "annotations": marked}]
    sink.close()
    assert kept.closed


async def test_a_log_in_batches_holds_nobody_up_and_loses_what_finds_no_room() -> None:
    kept = Kept(works=False)
    buffered = Buffered(kept, World(), size=2, wait=0.0, buffer=3)
    for number in range(5):
        assert buffered.write({"number": number})
    assert kept.events == []
    writing = asyncio.ensure_future(buffered.run())
    for _ in range(100):
        await asyncio.sleep(0)
    buffered.write({"number": 5})
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    buffered.close()
    assert [event["number"] for event in kept.events] == [0, 1, 2, 5] and kept.closed


async def test_batches_have_as_many_events_as_fit() -> None:
    collector = Collector(
        Access("https://collector"),
        None,
        World(),
        size=10,
        wait=1.0,
        buffer=10,
        pause=1.0,
        most=150,  # type: ignore[arg-type]
    )
    for number in range(5):
        collector.write({"number": number, "text": "x" * (20 if number != 3 else 300)})
    assert [[event["number"] for event in collector._batch()] for _ in range(4)] == [[0, 1, 2], [3], [4], []]


async def test_what_cannot_be_recorded_does_not_happen_when_that_is_wanted(tmp_path: Path) -> None:
    flags = files(tmp_path, {"level": "Metadata"})
    headers = {"x-test-user": "admin", "x-test-groups": "system:masters"}
    for mode, status in (("blocking", 200), ("blocking-strict", 500)):
        world = World()
        async with running(ModelStore(world), world, audit_log_mode=mode, **flags) as call:
            assert call.server.auditor is not None
            call.server.auditor._backends[:] = [Kept(works=False)]
            answer = await call.server.handle(
                Request.make("GET", "/api/v1/namespaces/default", headers=headers)
            )
            assert isinstance(answer, Response) and answer.status == status
            assert (b"failed to store audit event" in answer.joined()) is (status == 500)
