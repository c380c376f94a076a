"""Admission webhooks on a whole API server over the model store; the network is a function."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from bamikube.apiserver.options import ApiServerOptions
from bamikube.apiserver.outbound import CallError, Destination, Reply
from bamikube.apiserver.server import ApiServer
from bamikube.kit.chance import Chance
from bamikube.kit.http import Request, Response
from bamikube.kit.world import World
from bamikube.store.model import ModelStore
from tests.unit.apiserver_edges.conftest import HeaderMethod

Review = dict[str, Any]
Judge = Callable[[Review], Review | Reply | Exception]

MUTATING = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
VALIDATING = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
MAPS = "/api/v1/namespaces/default/configmaps"


def allow(request: Review, **more: Any) -> Review:
    return {"uid": request["uid"], "allowed": True, **more}


def deny(request: Review, **status: Any) -> Review:
    return {"uid": request["uid"], "allowed": False, "status": status}


def patch(request: Review, *operations: dict[str, Any]) -> Review:
    text = base64.b64encode(orjson.dumps(operations)).decode()
    return allow(request, patchType="JSONPatch", patch=text)


class Others:
    """The webhooks of a test by host name, and what they were asked."""

    def __init__(self) -> None:
        self.judges: dict[str, Judge] = {}
        self.asked: list[tuple[str, Review]] = []
        self.bodies: list[dict[str, Any]] = []
        self.called: list[Destination] = []

    def names(self) -> list[str]:
        return [name for name, _ in self.asked]

    async def call(
        self,
        to: Destination,
        method: str,
        target: str,
        *,
        headers: Any = (),
        body: bytes = b"",
        timeout: float,
    ) -> Reply:
        review = orjson.loads(body)
        name = to.name.split(".")[0]
        self.bodies.append(review)
        self.called.append(to)
        self.asked.append((name, review["request"]))
        await asyncio.sleep(0)
        answer = self.judges[name](review["request"])
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, Reply):
            return answer
        full = {"kind": "AdmissionReview", "apiVersion": review["apiVersion"], "response": answer}
        return Reply(200, {}, orjson.dumps(full))

    async def open(self, *_: Any, **__: Any) -> Any:
        raise CallError("nobody there")

    async def raw(self, *_: Any, **__: Any) -> Any:
        raise CallError("nobody there")

    async def close(self) -> None:
        return


def hook(
    name: str, judge_of: Others | None = None, judge: Judge | None = None, **fields: Any
) -> dict[str, Any]:
    """A webhook called ``<name>.example.com``, about the creation of config maps unless said otherwise."""
    if judge_of is not None and judge is not None:
        judge_of.judges[name] = judge
    return {
        "name": f"{name}.example.com",
        "clientConfig": {"url": f"https://{name}.example.com/judge"},
        "rules": [rule("CREATE", resources=["configmaps"])],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    } | fields


def rule(*operations: str, groups: str = "", versions: str = "v1", **fields: Any) -> dict[str, Any]:
    return {"operations": list(operations), "apiGroups": [groups], "apiVersions": [versions]} | fields


class Cluster:
    def __init__(self, server: ApiServer, others: Others) -> None:
        self.server = server
        self.others = others

    async def raw(self, method: str, target: str, body: Any = None, **headers: str) -> Response:
        sent = {"x-test-user": "admin", "x-test-groups": "system:masters", "content-type": "application/json"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        data = b"" if body is None else orjson.dumps(body)
        answer = await self.server.handle(Request.make(method, target, headers=sent, body=data))
        assert isinstance(answer, Response)
        return answer

    async def call(self, method: str, target: str, body: Any = None, code: int = 0, **headers: str) -> Any:
        answer = await self.raw(method, target, body, **headers)
        decoded = orjson.loads(answer.joined())
        assert answer.status == code or (not code and answer.status < 300), decoded
        return decoded

    async def configure(self, path: str, name: str, *hooks: dict[str, Any]) -> Any:
        return await self.call("POST", path, {"metadata": {"name": name}, "webhooks": list(hooks)}, 201)

    async def make(self, name: str = "one", code: int = 201, query: str = "", **fields: Any) -> Any:
        return await self.call("POST", MAPS + query, {"metadata": {"name": name}} | fields, code)


@contextlib.asynccontextmanager
async def cluster_of(others: Others, **options: Any) -> AsyncIterator[Cluster]:
    world = World(chance=Chance(7))
    store = ModelStore(world)
    server = ApiServer(store, ApiServerOptions(**options), world, methods=(HeaderMethod(),), caller=others)
    task = asyncio.ensure_future(server.run())
    try:
        async with asyncio.timeout(20):
            await server.ready.wait()
        yield Cluster(server, others)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await store.close()


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with cluster_of(Others()) as one:
        yield one


@pytest.fixture
def others(cluster: Cluster) -> Others:
    return cluster.others


# -- the question ------------------------------------------------------------------------------------------------------


async def test_what_a_webhook_is_asked(cluster: Cluster, others: Others) -> None:
    await cluster.configure(
        VALIDATING, "judge", hook("judge", others, allow, rules=[rule("*", resources=["configmaps"])])
    )
    await cluster.make(data={"a": "b"}, query="?fieldManager=me")
    (body,) = others.bodies
    assert (body["kind"], body["apiVersion"]) == ("AdmissionReview", "admission.k8s.io/v1")
    request = body["request"]
    assert request["operation"] == "CREATE"
    assert request["kind"] == request["requestKind"] == {"group": "", "version": "v1", "kind": "ConfigMap"}
    assert (
        request["resource"]
        == request["requestResource"]
        == {"group": "", "version": "v1", "resource": "configmaps"}
    )
    assert (request["name"], request["namespace"]) == ("one", "default")
    assert request["userInfo"] == {"username": "admin", "groups": ["system:masters", "system:authenticated"]}
    assert request["object"]["data"] == {"a": "b"} and request["oldObject"] is None
    assert request["dryRun"] is False
    assert request["options"] == {
        "kind": "CreateOptions",
        "apiVersion": "meta.k8s.io/v1",
        "fieldManager": "me",
    }
    made = await cluster.call("GET", f"{MAPS}/one")
    await cluster.call("PUT", f"{MAPS}/one", {"metadata": {"name": "one"}, "data": {"a": "c"}})
    request = others.asked[-1][1]
    assert (request["operation"], request["options"]["kind"]) == ("UPDATE", "UpdateOptions")
    assert request["oldObject"]["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    assert (request["oldObject"]["data"], request["object"]["data"]) == ({"a": "b"}, {"a": "c"})
    await cluster.call("DELETE", f"{MAPS}/one")
    request = others.asked[-1][1]
    assert (request["operation"], request["options"]["kind"]) == ("DELETE", "DeleteOptions")
    assert request["object"] is None and request["oldObject"]["data"] == {"a": "c"}


async def test_options_are_those_the_client_gave(cluster: Cluster, others: Others) -> None:
    await cluster.configure(
        VALIDATING, "judge", hook("judge", others, allow, rules=[rule("*", resources=["configmaps"])])
    )
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}, "data": {"a": "b"}}
    for data in ({"a": "b"}, {"a": "c"}):
        made = await cluster.call(
            "PATCH",
            f"{MAPS}/one?fieldManager=me&force=true&fieldValidation=Strict",
            body | {"data": data},
            content_type="application/apply-patch+yaml",
        )
        kind = others.asked[-1][1]["options"]["kind"]
        assert others.asked[-1][1]["options"] == {
            "kind": kind,
            "apiVersion": "meta.k8s.io/v1",
            "fieldManager": "me",
            "fieldValidation": "Strict",
        }
    options = {"gracePeriodSeconds": 5, "preconditions": {"uid": made["metadata"]["uid"]}, "dryRun": ["All"]}
    await cluster.call("DELETE", f"{MAPS}/one", options)
    assert others.asked[-1][1]["options"] == {
        "kind": "DeleteOptions",
        "apiVersion": "meta.k8s.io/v1",
        **options,
    }


async def test_nobody_is_asked_about_other_things(cluster: Cluster, others: Others) -> None:
    await cluster.configure(VALIDATING, "judge", hook("judge", others, deny))
    secret = {"metadata": {"name": "s"}}
    await cluster.call("POST", "/api/v1/namespaces/default/secrets", secret, 201)
    assert others.asked == []


async def test_webhooks_never_judge_webhook_configurations(cluster: Cluster, others: Others) -> None:
    everything = [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]}]
    await cluster.configure(VALIDATING, "no", hook("no", others, deny, rules=everything))
    await cluster.configure(MUTATING, "change", hook("change", others, deny, rules=everything))
    await cluster.call("DELETE", f"{MUTATING}/change")
    await cluster.call("DELETE", f"{VALIDATING}/no")
    groups = {request["resource"]["group"] for _, request in others.asked}
    assert "admissionregistration.k8s.io" not in groups  # the server's own writes of other kinds are judged


# -- verdicts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "reason", "message"),
    [
        (
            {"message": "not today"},
            400,
            "",
            'admission webhook "no.example.com" denied the request: not today',
        ),
        ({"reason": "Later"}, 400, "Later", 'admission webhook "no.example.com" denied the request: Later'),
        ({}, 400, "", 'admission webhook "no.example.com" denied the request without explanation'),
        (
            {"code": 403, "reason": "Forbidden", "message": "x"},
            403,
            "Forbidden",
            'admission webhook "no.example.com" denied the request: x',
        ),
        ({"code": 200, "message": "x"}, 400, "", 'admission webhook "no.example.com" denied the request: x'),
    ],
)
async def test_a_denial_in_the_webhooks_words(
    cluster: Cluster, others: Others, status: dict[str, Any], code: int, reason: str, message: str
) -> None:
    await cluster.configure(VALIDATING, "no", hook("no", others, lambda request: deny(request, **status)))
    refused = await cluster.make(code=code)
    assert (refused["message"], refused["reason"], refused["status"]) == (message, reason, "Failure")


async def test_the_first_refusal_in_order_is_the_answer(cluster: Cluster, others: Others) -> None:
    await cluster.configure(
        VALIDATING,
        "b",
        hook("b1", others, lambda request: deny(request, message="b1")),
        hook("b2", others, lambda request: deny(request, message="b2")),
    )
    await cluster.configure(VALIDATING, "a", hook("a1", others, allow))
    refused = await cluster.make(code=400)
    assert refused["message"].endswith("denied the request: b1")
    assert sorted(others.names()) == ["a1", "b1", "b2"]


async def test_warnings_arrive_with_both_outcomes(cluster: Cluster, others: Others) -> None:
    others.judges["w"] = lambda request: allow(request, warnings=["mind the gap"])
    await cluster.configure(VALIDATING, "w", hook("w"))
    answer = await cluster.raw("POST", MAPS, {"metadata": {"name": "one"}})
    assert answer.headers["Warning"] == '299 - "mind the gap"'
    others.judges["w"] = lambda request: deny(request, message="no") | {"warnings": ["told you"]}
    answer = await cluster.raw("POST", MAPS, {"metadata": {"name": "two"}})
    assert (answer.status, answer.headers["Warning"]) == (400, '299 - "told you"')


FAILURES: list[tuple[Judge, str]] = [
    (
        lambda request: CallError("dial tcp 10.0.0.1:443: connect: connection refused"),
        'failed to call webhook: Post "https://f.example.com/judge?timeout=10s": dial tcp 10.0.0.1:443: connect: connection refused',
    ),
    (
        lambda request: Reply(404, {}, b""),
        "failed to call webhook: the server could not find the requested resource",
    ),
    (
        lambda request: Reply(500, {}, b"boom"),
        'failed to call webhook: an error on the server ("boom") has prevented the request from succeeding',
    ),
    (
        lambda request: Reply(200, {}, b"{}"),
        "received invalid webhook response: webhook response was absent",
    ),
    (
        lambda request: Reply(200, {}, orjson.dumps({"response": allow(request)})),
        "received invalid webhook response: expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, "
        "got /, Kind=",
    ),
    (lambda request: allow({"uid": "other"}), "received invalid webhook response: expected response.uid="),
    (
        lambda request: allow(request) | {"allowed": "true"},
        "json: cannot unmarshal string into Go struct field AdmissionResponse.response.allowed of type bool",
    ),
    (
        lambda request: allow(request, warnings=[1]),
        "json: cannot unmarshal number into Go struct field AdmissionResponse.response.warnings of type string",
    ),
    (
        lambda request: deny(request, code="403"),
        "json: cannot unmarshal string into Go struct field Status.response.status.code of type int32",
    ),
    (lambda request: allow(request, patch="e30="), "validating webhook may not return response.patch"),
]


@pytest.mark.parametrize(("judge", "words"), FAILURES)
async def test_no_verdict_refuses_or_is_ignored(
    cluster: Cluster, others: Others, judge: Judge, words: str
) -> None:
    await cluster.configure(VALIDATING, "f", hook("f", others, judge))
    refused = await cluster.make(code=500)
    assert refused["reason"] == "InternalError"
    assert refused["message"].startswith('Internal error occurred: failed calling webhook "f.example.com": ')
    assert words in refused["message"]
    await cluster.call("DELETE", f"{VALIDATING}/f")
    await cluster.configure(VALIDATING, "f", hook("f", others, judge, failurePolicy="Ignore"))
    await cluster.make()


async def test_a_service_that_is_missing_is_named(cluster: Cluster, others: Others) -> None:
    config = {"service": {"namespace": "web", "name": "judge", "path": "/x"}}
    await cluster.configure(VALIDATING, "f", hook("f", clientConfig=config, timeoutSeconds=3))
    refused = await cluster.make(code=500)
    assert refused["message"] == (
        'Internal error occurred: failed calling webhook "f.example.com": failed to call webhook: '
        'Post "https://judge.web.svc:443/x?timeout=3s": service "judge" not found'
    )


async def test_dry_runs_only_reach_webhooks_without_side_effects(cluster: Cluster, others: Others) -> None:
    await cluster.configure(
        VALIDATING, "a", hook("a", others, allow, sideEffects="NoneOnDryRun", admissionReviewVersions=["v1"])
    )
    await cluster.make(query="?dryRun=All")
    assert others.asked[-1][1]["dryRun"] is True
    assert others.asked[-1][1]["options"]["dryRun"] == ["All"]


async def test_a_patch_that_is_none_is_never_ignored(cluster: Cluster, others: Others) -> None:
    texts = {
        "word": b"hello",
        "operation": b'{"op": "add"}',
        "nothing": b"null",
        "empty": b"[]",
    }

    def judge(request: Review) -> Review:
        patch = base64.b64encode(texts[request["name"]]).decode()
        return allow(request, patchType="JSONPatch", patch=patch)

    await cluster.configure(MUTATING, "m", hook("m", others, judge, failurePolicy="Ignore"))
    refused = await cluster.make("word", 500)
    assert refused["message"].endswith(
        "\"m.example.com\": invalid character 'h' looking for beginning of value"
    )
    await cluster.make("operation", 500)
    await cluster.make("nothing")
    await cluster.make("empty")


async def test_owners_given_twice_are_kept_once(cluster: Cluster, others: Others) -> None:
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": "u"}
    other = {**owner, "uid": "v"}
    body = {"metadata": {"name": "one", "ownerReferences": [owner, other, owner]}}
    answer = await cluster.raw("POST", MAPS, body)
    assert orjson.loads(answer.joined())["metadata"]["ownerReferences"] == [owner, other]
    assert answer.headers["Warning"].startswith(
        '299 - ".metadata.ownerReferences contains duplicate entries; '
    )
    assert answer.headers["Warning"].endswith('duplicate UID(s) observed: u"')
    add = {"op": "add", "path": "/metadata/ownerReferences/-", "value": other}
    await cluster.configure(
        MUTATING,
        "m",
        hook("m", others, lambda r: patch(r, add), rules=[rule("UPDATE", resources=["configmaps"])]),
    )
    answer = await cluster.raw("PUT", f"{MAPS}/one", body)
    assert orjson.loads(answer.joined())["metadata"]["ownerReferences"] == [owner, other]
    assert "duplicate entries after mutating admission happens" in answer.headers["Warning"]


async def test_warnings_of_a_webhook_are_bounded(cluster: Cluster, others: Others) -> None:
    """A header of any length would make the answer unreadable for the client."""
    told = ["x" * 9000, "line\nbreak", *(f"{number} " + "y" * 300 for number in range(20))]
    await cluster.configure(VALIDATING, "w", hook("w", others, lambda request: allow(request, warnings=told)))
    answer = await cluster.raw("POST", MAPS, {"metadata": {"name": "one"}})
    lines = answer.headers["Warning"].split("\n")
    assert len(lines) == 16 and lines[0] == f'299 - "{"x" * 256}"' and lines[1].startswith('299 - "0 yyy')


# -- mutation ----------------------------------------------------------------------------------------------------------


def add(key: str, value: str = "yes", when: str = "") -> Judge:
    """Adds a data key, if the key ``when`` is there already."""

    def judge(request: Review) -> Review:
        data = request["object"].get("data") or {}
        if when and when not in data:
            return allow(request)
        if key in data:
            return allow(request)
        if not data:
            return patch(request, {"op": "add", "path": "/data", "value": {key: value}})
        return patch(request, {"op": "add", "path": f"/data/{key}", "value": value})

    return judge


async def test_webhooks_change_objects_one_after_the_other(cluster: Cluster, others: Others) -> None:
    await cluster.configure(MUTATING, "b", hook("second", others, add("second", when="first")))
    await cluster.configure(MUTATING, "a", hook("first", others, add("first", when="start")))
    made = await cluster.make(data={"start": "1"})
    assert made["data"] == {"start": "1", "first": "yes", "second": "yes"}
    assert others.names() == ["first", "second"]
    assert (await cluster.call("GET", f"{MAPS}/one"))["data"] == made["data"]


async def test_who_wants_to_is_asked_again(cluster: Cluster, others: Others) -> None:
    await cluster.configure(
        MUTATING,
        "m",
        hook("late", others, add("late", when="early"), reinvocationPolicy="IfNeeded"),
        hook("never", others, add("never", when="early")),
        hook("early", others, add("early", when="start")),
    )
    made = await cluster.make(data={"start": "1"})
    assert made["data"] == {"start": "1", "early": "yes", "late": "yes"}
    assert others.names() == ["late", "never", "early", "late"]


async def test_nobody_is_asked_again_for_nothing(cluster: Cluster, others: Others) -> None:
    await cluster.configure(
        MUTATING,
        "m",
        hook("a", others, add("a", when="start"), reinvocationPolicy="IfNeeded"),
        hook("b", others, allow, reinvocationPolicy="IfNeeded"),
    )
    await cluster.make(data={"start": "1"})
    assert others.names() == ["a", "b"]  # a's own change is no news to a, and b came after it


async def test_what_a_webhook_adds_is_pruned_defaulted_and_validated(
    cluster: Cluster, others: Others
) -> None:
    service = [rule("CREATE", resources=["services"])]
    others.judges["m"] = lambda request: patch(
        request,
        {"op": "add", "path": "/spec/ports/-", "value": {"name": "b", "port": 81, "nonsense": 1}},
        {"op": "add", "path": "/spec/nonsense", "value": 1},
    )
    await cluster.configure(MUTATING, "m", hook("m", rules=service))
    body = {"metadata": {"name": "s"}, "spec": {"ports": [{"name": "a", "port": 80}]}}
    made = await cluster.call("POST", "/api/v1/namespaces/default/services", body, 201)
    assert made["spec"]["ports"][1] == {"name": "b", "port": 81, "protocol": "TCP", "targetPort": 81}
    assert "nonsense" not in made["spec"]
    others.judges["m"] = lambda request: patch(
        request, {"op": "replace", "path": "/spec/ports/0/port", "value": 0}
    )
    refused = await cluster.call(
        "POST", "/api/v1/namespaces/default/services", body | {"metadata": {"name": "t"}}, 422
    )
    assert "spec.ports[0].port" in refused["message"]


async def test_a_webhook_changes_no_more_than_the_request_may(cluster: Cluster, others: Others) -> None:
    deployments = "/apis/apps/v1/namespaces/default/deployments"
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    body = {
        "metadata": {"name": "d"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template},
    }
    others.judges["m"] = lambda request: patch(
        request,
        {"op": "add", "path": "/status", "value": {"replicas": 7}},
        {"op": "add", "path": "/metadata/uid", "value": "mine"},
    )
    everything = [{"operations": ["*"], "apiGroups": ["apps"], "apiVersions": ["*"], "resources": ["*/*"]}]
    await cluster.configure(MUTATING, "m", hook("m", rules=everything))
    made = await cluster.call("POST", deployments, body, 201)
    assert made["status"] == {} and made["metadata"]["uid"] != "mine"
    others.judges["m"] = lambda request: patch(
        request, {"op": "add", "path": "/status", "value": {"replicas": 7}}
    )
    updated = await cluster.call("PUT", f"{deployments}/d", body)
    assert updated["status"] == {} and updated["metadata"]["generation"] == 1


async def test_a_scale_is_shown_as_a_scale(cluster: Cluster, others: Others) -> None:
    deployments = "/apis/apps/v1/namespaces/default/deployments"
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    body = {
        "metadata": {"name": "d"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template},
    }
    await cluster.call("POST", deployments, body, 201)
    others.judges["m"] = lambda request: patch(
        request, {"op": "replace", "path": "/spec/replicas", "value": 3}
    )
    rules = [rule("UPDATE", groups="apps", resources=["deployments/scale"])]
    await cluster.configure(MUTATING, "m", hook("m", rules=rules))
    scale = {"metadata": {"name": "d"}, "spec": {"replicas": 5}}
    scaled = await cluster.call("PUT", f"{deployments}/d/scale", scale)
    request = others.asked[-1][1]
    assert request["kind"] == {"group": "autoscaling", "version": "v1", "kind": "Scale"}
    assert (request["subResource"], request["object"]["spec"]) == ("scale", {"replicas": 5})
    assert scaled["spec"]["replicas"] == 3


async def test_bad_patches_are_the_webhooks_fault(cluster: Cluster, others: Others) -> None:
    others.judges["m"] = lambda request: patch(request, {"op": "remove", "path": "/nothing/there"})
    await cluster.configure(MUTATING, "m", hook("m"))
    refused = await cluster.make(code=500)
    assert 'the patch of admission webhook "m.example.com"' in refused["message"]
    others.judges["m"] = lambda request: patch(request, {"op": "add", "path": "/data", "value": 7})
    await cluster.make(code=500)
    rules = [rule("DELETE", resources=["configmaps"])]
    await cluster.call("DELETE", f"{MUTATING}/m")
    await cluster.make()
    await cluster.configure(MUTATING, "m", hook("m", rules=rules))
    refused = await cluster.call("DELETE", f"{MAPS}/one", None, 500)
    assert "attempted to modify the object, which is not supported for this operation" in refused["message"]


# -- matching ----------------------------------------------------------------------------------------------------------


async def test_equivalent_versions_are_converted_there_and_back(cluster: Cluster, others: Others) -> None:
    rules = [rule("CREATE", groups="autoscaling", versions="v2", resources=["horizontalpodautoscalers"])]
    others.judges["m"] = lambda request: patch(
        request, {"op": "replace", "path": "/spec/maxReplicas", "value": 9}
    )
    others.judges["exact"] = deny
    await cluster.configure(
        MUTATING, "m", hook("m", rules=rules), hook("exact", rules=rules, matchPolicy="Exact")
    )
    body = {
        "metadata": {"name": "h"},
        "spec": {
            "maxReplicas": 3,
            "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"},
            "targetCPUUtilizationPercentage": 50,
        },
    }
    path = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers"
    made = await cluster.call("POST", path, body, 201)
    ((name, request),) = others.asked
    assert (name, request["kind"]["version"], request["requestKind"]["version"]) == ("m", "v2", "v1")
    assert request["object"]["apiVersion"] == "autoscaling/v2"
    assert request["object"]["spec"]["metrics"][0]["resource"]["name"] == "cpu"
    assert (made["apiVersion"], made["spec"]["maxReplicas"]) == ("autoscaling/v1", 9)
    assert made["spec"]["targetCPUUtilizationPercentage"] == 50


async def test_selectors_choose_by_labels_of_namespace_and_object(cluster: Cluster, others: Others) -> None:
    await cluster.call(
        "POST", "/api/v1/namespaces", {"metadata": {"name": "far", "labels": {"judged": "no"}}}, 201
    )
    chosen = {"matchExpressions": [{"key": "judged", "operator": "NotIn", "values": ["no"]}]}
    rules = [rule("*", resources=["configmaps"])]
    await cluster.configure(VALIDATING, "n", hook("n", others, allow, rules=rules, namespaceSelector=chosen))
    await cluster.configure(
        VALIDATING, "o", hook("o", others, allow, rules=rules, objectSelector={"matchLabels": {"a": "b"}})
    )
    far = "/api/v1/namespaces/far/configmaps"
    await cluster.call("POST", far, {"metadata": {"name": "x"}}, 201)
    assert others.names() == []
    await cluster.call("PUT", f"{far}/x", {"metadata": {"name": "x", "labels": {"a": "b"}}})
    assert others.names() == ["o"]
    await cluster.call("PUT", f"{far}/x", {"metadata": {"name": "x"}, "data": {"y": "z"}})
    assert others.names() == ["o", "o"]  # the old object still had the label
    await cluster.make()
    assert others.names() == ["o", "o", "n"]


async def test_namespaces_are_chosen_by_their_own_labels(cluster: Cluster, others: Others) -> None:
    rules = [rule("*", resources=["namespaces"])]
    chosen = {"matchLabels": {"judged": "yes"}}
    await cluster.configure(VALIDATING, "n", hook("n", others, allow, rules=rules, namespaceSelector=chosen))
    await cluster.call("POST", "/api/v1/namespaces", {"metadata": {"name": "a"}}, 201)
    assert others.names() == []
    body = {"metadata": {"name": "b", "labels": {"judged": "yes"}}}
    await cluster.call("POST", "/api/v1/namespaces", body, 201)
    await cluster.call("DELETE", "/api/v1/namespaces/b")
    assert [request.get("namespace") for _, request in others.asked] == [None, "b"]


async def test_connections_are_asked_about_before_anything_else(cluster: Cluster, others: Others) -> None:
    rules = [rule("CONNECT", resources=["pods/exec", "pods/attach", "services/proxy"])]
    await cluster.configure(
        VALIDATING, "c", hook("c", others, lambda request: deny(request, message="no"), rules=rules)
    )
    path = "/api/v1/namespaces/default/pods/p/exec?command=sh&command=-c&stdin=true&container=x"
    refused = await cluster.call("POST", path, None, 400)
    assert refused["message"] == 'admission webhook "c.example.com" denied the request: no'
    request = others.asked[-1][1]
    assert (request["operation"], request["subResource"], request["options"]) == ("CONNECT", "exec", None)
    assert request["kind"] == {"group": "", "version": "v1", "kind": "PodExecOptions"}
    assert request["object"] == {
        "kind": "PodExecOptions",
        "apiVersion": "v1",
        "stdin": True,
        "container": "x",
        "command": ["sh", "-c"],
    }
    await cluster.call("GET", "/api/v1/namespaces/default/services/s:80/proxy/a/b", None, 400)
    assert others.asked[-1][1]["object"] == {
        "kind": "ServiceProxyOptions",
        "apiVersion": "v1",
        "path": "/a/b",
    }


async def test_a_binding_is_shown_as_it_was_sent(cluster: Cluster, others: Others) -> None:
    await cluster.call(
        "POST", "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}}, 201
    )
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    await cluster.call("POST", "/api/v1/namespaces/default/pods", pod, 201)
    rules = [rule("CREATE", resources=["pods/binding"])]
    others.judges["m"] = lambda request: patch(
        request, {"op": "replace", "path": "/target/name", "value": "other"}
    )
    await cluster.configure(MUTATING, "m", hook("m", rules=rules))
    body = {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "one"}}
    await cluster.call("POST", "/api/v1/namespaces/default/pods/p/binding", body, 201)
    ((_, request),) = others.asked
    assert request["kind"] == {"group": "", "version": "v1", "kind": "Binding"}
    assert request["object"] == {"kind": "Binding", "apiVersion": "v1", **body}
    bound = await cluster.call("GET", "/api/v1/namespaces/default/pods/p")
    assert bound["spec"]["nodeName"] == "other"


async def test_reviews_pass_admission_as_what_is_created_does(cluster: Cluster, others: Others) -> None:
    def rename(request: Review) -> Review:
        return patch(request, {"op": "replace", "path": "/spec/user", "value": "nobody"})

    reviews = [
        rule("CREATE", groups=group, resources=["*"])
        for group in ("authorization.k8s.io", "authentication.k8s.io")
    ]
    subject = [rule("CREATE", groups="authorization.k8s.io", resources=["subjectaccessreviews"])]
    await cluster.configure(MUTATING, "m", hook("rename", others, rename, rules=subject))
    await cluster.configure(VALIDATING, "v", hook("judge", others, allow, rules=reviews))
    asked = {"resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "default"}}
    root = "/apis/authorization.k8s.io/v1"
    review = await cluster.call(
        "POST", f"{root}/subjectaccessreviews", {"spec": {**asked, "user": "jane"}}, 201
    )
    assert review["spec"]["user"] == "nobody" and others.names() == ["rename", "judge"]
    local = {"metadata": {"namespace": "default"}, "spec": {**asked, "user": "jane"}}
    await cluster.call("POST", f"{root}/namespaces/default/localsubjectaccessreviews", local, 201)
    await cluster.call("POST", f"{root}/selfsubjectaccessreviews", {"spec": asked}, 201)
    await cluster.call("POST", f"{root}/selfsubjectrulesreviews", {"spec": {"namespace": "default"}}, 201)
    root = "/apis/authentication.k8s.io/v1"
    await cluster.call("POST", f"{root}/tokenreviews", {"spec": {"token": "x"}}, 201)
    await cluster.call("POST", f"{root}/selfsubjectreviews", {}, 201)
    assert others.names() == ["rename", *["judge"] * 6]
    # What is wrong with a review is said before anybody judges it; a refusal is the answer.
    await cluster.call("POST", f"{root}/tokenreviews", {"spec": {}}, 400)
    others.judges["judge"] = lambda request: deny(request, message="not today")
    refused = await cluster.call("POST", f"{root}/tokenreviews", {"spec": {"token": "x"}}, 400)
    assert refused["message"].endswith("denied the request: not today")


async def test_what_a_webhook_patches_is_recorded_where_bodies_are(tmp_path: Path) -> None:
    policy = {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {
                "level": "Request",
                "resources": [{"group": "", "resources": ["configmaps"]}],
                "namespaces": ["default"],
            },
            {"level": "Metadata"},
        ],
    }
    (tmp_path / "policy").write_bytes(orjson.dumps(policy))
    log = tmp_path / "log"
    options = {"audit_policy_file": str(tmp_path / "policy"), "audit_log_path": str(log)}
    async with cluster_of(Others(), **options) as cluster:
        await cluster.configure(MUTATING, "m", hook("first", cluster.others, add("first", when="start")))
        for namespace in ("default", "kube-public"):
            body = {"metadata": {"name": "one"}, "data": {"start": "1"}}
            await cluster.call("POST", f"/api/v1/namespaces/{namespace}/configmaps", body, 201)
    events = [orjson.loads(line) for line in log.read_bytes().splitlines()]
    found = {
        event["objectRef"]["namespace"]: event["annotations"]
        for event in events
        if event.get("objectRef", {}).get("name") == "one"
    }
    outcome = {"configuration": "m", "webhook": "first.example.com"}
    for told_of in found.values():
        told = orjson.loads(told_of["mutation.webhook.admission.k8s.io/round_0_index_0"])
        assert told == {**outcome, "mutated": True}
    place = "patch.webhook.admission.k8s.io/round_0_index_0"
    assert place not in found["kube-public"]
    operation = {"op": "add", "path": "/data/first", "value": "yes"}
    assert orjson.loads(found["default"][place]) == {
        **outcome,
        "patch": [operation],
        "patchType": "JSONPatch",
    }


async def test_a_service_is_called_at_a_ready_endpoint(cluster: Cluster, others: Others) -> None:
    spec = {"ports": [{"name": "https", "port": 443, "targetPort": 8443}]}
    await cluster.call(
        "POST", "/api/v1/namespaces/default/services", {"metadata": {"name": "judge"}, "spec": spec}, 201
    )
    ready = {
        "metadata": {"name": "judge-1", "labels": {"kubernetes.io/service-name": "judge"}},
        "addressType": "IPv4",
        "ports": [{"name": "https", "port": 8443}],
        "endpoints": [
            {"addresses": ["10.244.1.7"], "conditions": {"ready": True}},
            {"addresses": ["10.244.1.8"], "conditions": {"ready": False}},
        ],
    }
    slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
    await cluster.call("POST", slices, ready, 201)
    config = {"service": {"namespace": "default", "name": "judge", "path": "/x"}, "caBundle": "UEVN"}
    await cluster.configure(VALIDATING, "s", hook("judge", others, allow, clientConfig=config))
    await cluster.make()
    (to,) = others.called
    assert (to.host, to.port, to.name) == ("10.244.1.7", 8443, "judge.default.svc")
    assert (to.authority, to.path, to.trust) == ("judge.default.svc:443", "/x", b"PEM")
    await cluster.call("DELETE", f"{slices}/judge-1")
    await cluster.make("two")
    service = await cluster.call("GET", "/api/v1/namespaces/default/services/judge")
    assert (others.called[-1].host, others.called[-1].port) == (service["spec"]["clusterIP"], 443)


async def test_a_changed_configuration_counts_at_once(cluster: Cluster, others: Others) -> None:
    made = await cluster.configure(
        VALIDATING, "n", hook("n", others, lambda request: deny(request, message="no"))
    )
    await cluster.make(code=400)
    made["webhooks"][0]["rules"][0]["operations"] = ["UPDATE"]
    changed = await cluster.call("PUT", f"{VALIDATING}/n", made)
    assert changed["metadata"]["generation"] == 2
    await cluster.make()
    patched = [{"op": "replace", "path": "/webhooks/0/rules/0/operations", "value": ["CREATE"]}]
    await cluster.call("PATCH", f"{VALIDATING}/n", patched, content_type="application/json-patch+json")
    await cluster.make("two", code=400)
    await cluster.call("DELETE", f"{VALIDATING}/n")
    await cluster.make("two")


async def test_v1beta1_reviews(cluster: Cluster, others: Others) -> None:
    others.judges["m"] = lambda request: {
        "allowed": True,
        "patch": base64.b64encode(b'[{"op":"add","path":"/data","value":{"a":"b"}}]').decode(),
    }
    await cluster.configure(MUTATING, "m", hook("m", admissionReviewVersions=["v1beta1", "v1"]))
    made = await cluster.make()
    assert made["data"] == {"a": "b"}
    assert others.bodies[0]["apiVersion"] == "admission.k8s.io/v1beta1"


async def test_webhooks_can_be_switched_off() -> None:
    others = Others()
    world = World(chance=Chance(7))
    store = ModelStore(world)
    options = ApiServerOptions(disable_admission_plugins=["ValidatingAdmissionWebhook"])
    server = ApiServer(store, options, world, methods=(HeaderMethod(),), caller=others)
    names = [plugin.name for plugin in server.admission.plugins]
    assert "MutatingAdmissionWebhook" in names and "ValidatingAdmissionWebhook" not in names
    await store.close()
