"""Binding, eviction, reviews and discovery through a whole API server without sockets."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from bamikube.api.table import TABLE
from bamikube.apiserver.aggregation.registration import version_rank
from bamikube.apiserver.discovery import storage_version_hash
from bamikube.apiserver.subresources import dialing

PODS = "/api/v1/namespaces/default/pods"


def pod(name: str) -> dict[str, Any]:
    spec = {"containers": [{"name": "c", "image": "i"}]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "a"}},
        "spec": spec,
    }


async def test_a_pod_is_bound_once(call: Any) -> None:
    assert (await call("POST", PODS, pod("p")))[0] == 201
    body = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": "p"},
        "target": {"kind": "Node", "name": "n1"},
    }
    status, answer = await call("POST", f"{PODS}/p/binding", body)
    assert (status, answer["status"]) == (201, "Success")
    _, bound = await call("GET", f"{PODS}/p")
    assert bound["spec"]["nodeName"] == "n1"
    assert [one["type"] for one in bound["status"]["conditions"]] == ["PodScheduled"]
    status, answer = await call("POST", "/api/v1/namespaces/default/bindings", body)
    assert status == 409 and 'already assigned to node "n1"' in answer["message"]


async def test_missing_namespaces_and_protected_ones(call: Any) -> None:
    status, answer = await call("POST", "/api/v1/namespaces/nope/pods", pod("p"))
    assert (status, answer["message"]) == (404, 'namespaces "nope" not found')
    status, answer = await call("DELETE", "/api/v1/namespaces/default")
    assert status == 403 and "this namespace may not be deleted" in answer["message"]


async def test_access_reviews_ask_the_real_authorizer(call: Any) -> None:
    body = {"spec": {"resourceAttributes": {"verb": "list", "resource": "pods", "namespace": "default"}}}
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    _, mine = await call("POST", path, body)
    assert mine["status"]["allowed"] is True
    _, theirs = await call("POST", path, body, user="alice", groups="system:authenticated")
    assert theirs["status"]["allowed"] is False
    status, answer = await call("GET", PODS, user="alice", groups="system:authenticated")
    assert status == 403 and answer["details"] == {"kind": "pods"}
    group = "/apis/authorization.k8s.io/v1"
    wish = {"verb": "list", "resource": "pods", "fieldSelector": {"requirements": [{"operator": "In"}]}}
    _, answer = await call("POST", f"{group}/subjectaccessreviews", {"spec": {"resourceAttributes": wish}})
    assert [cause["field"] for cause in answer["details"]["causes"]] == [
        "spec.user",
        "spec.resourceAttributes.fieldSelector.requirements[0].key",
        "spec.resourceAttributes.fieldSelector.requirements[0].values",
    ]
    local = {"spec": {"user": "bob", "resourceAttributes": {"verb": "get", "namespace": "other"}}}
    path = f"{group}/namespaces/default/localsubjectaccessreviews"
    _, answer = await call("POST", path, local)
    assert 'Invalid value: "other": must match metadata.namespace' in answer["message"]
    path, body = f"{group}/selfsubjectrulesreviews", {"spec": {"namespace": "default"}}
    _, answer = await call("POST", path, body, user="system:node:n1", groups="system:nodes")
    assert answer["status"]["incomplete"] is True
    assert answer["status"]["evaluationError"] == "node authorizer does not support user rule resolution"
    assert answer["spec"] == {}
    _, answer = await call("POST", path, body)
    everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
    assert everything in answer["status"]["resourceRules"] and answer["status"]["incomplete"] is False
    assert "evaluationError" not in answer["status"]
    bound = {
        "metadata": {"name": "lost", "namespace": "default"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "gone"},
        "subjects": [{"kind": "User", "name": "carol", "apiGroup": "rbac.authorization.k8s.io"}],
    }
    status, said = await call(
        "POST", "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings", bound
    )
    assert status == 201, said
    _, answer = await call("POST", path, body, user="carol", groups="")
    assert answer["status"]["evaluationError"] == 'role.rbac.authorization.k8s.io "gone" not found'


async def test_selectors_of_access_reviews_count_as_far_as_they_are_understood(call: Any) -> None:
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"

    async def ask(**selectors: Any) -> Any:
        wish = {"verb": "list", "resource": "pods", **selectors}
        spec = {"user": "system:node:n1", "groups": ["system:nodes"], "resourceAttributes": wish}
        status, answer = await call("POST", path, {"spec": spec})
        return answer["status"] if status == 201 else answer

    on_node = {"key": "spec.nodeName", "operator": "In", "values": ["n1"]}
    for selector in ({"rawSelector": "spec.nodeName=n1"}, {"requirements": [on_node]}):
        assert await ask(fieldSelector=selector) == {"allowed": True}
    refused = {"allowed": False, "reason": "can only list/watch pods with spec.nodeName field selector"}
    assert await ask(fieldSelector={"requirements": [{**on_node, "operator": "NotIn"}]}) == refused
    unclear = {**on_node, "values": ["n1", "n2"]}
    ignored = "spec.resourceAttributes.fieldSelector ignored due to parse error"
    assert await ask(fieldSelector={"requirements": [unclear]}) == {**refused, "evaluationError": ignored}
    assert await ask(
        fieldSelector={"requirements": [on_node, unclear]}, labelSelector={"rawSelector": "&"}
    ) == {
        "allowed": True,
        "evaluationError": "spec.resourceAttributes.fieldSelector partially ignored due to parse error; "
        "spec.resourceAttributes.labelSelector ignored due to parse error",
    }
    odd = {"key": "a", "operator": "Like", "values": ["b"]}
    said = await ask(labelSelector={"requirements": [odd]})
    assert (
        said["evaluationError"] == "spec.resourceAttributes.labelSelector ignored due to parse error"
    )  # an operator of a later version
    said = await ask(labelSelector={"requirements": [{"key": "-", "operator": "In", "values": ["-"]}]})
    where = "spec.resourceAttributes.labelSelector.requirements[0]"
    assert [cause["field"] for cause in said["details"]["causes"]] == [f"{where}.key", f"{where}.values[0]"]
    spec = {"user": "bob", "nonResourceAttributes": {"path": "/", "verb": "get"}}
    _, said = await call("POST", path, {"metadata": {"name": "x"}, "spec": spec})
    assert "must be empty" in said["message"]


def test_discovery_facts() -> None:
    pods = next(row for row in TABLE if row.plural == "pods" and not row.group)
    assert storage_version_hash(pods) == "xPOwRZ+Yhw8="  # what Kubernetes answers
    assert sorted(["v1beta1", "v2", "v1", "v1alpha1"], key=version_rank) == [
        "v2",
        "v1",
        "v1beta1",
        "v1alpha1",
    ]


def test_what_a_node_agent_says_in_a_status_is_not_wrapped_into_another() -> None:
    refused = orjson.dumps(
        {"kind": "Status", "message": "container dbg is not valid for pod web", "code": 400}
    )
    assert dialing.refused_by_node(400, refused.decode()).message == "container dbg is not valid for pod web"
    assert dialing.refused_by_node(500, "plain words").message.endswith("plain words")


@pytest.mark.parametrize(
    ("status", "text", "code", "reason", "message"),
    [
        (400, "tailLines", 400, "BadRequest", "tailLines"),
        (401, "Unauthorized", 401, "Unauthorized", "Unauthorized"),
        (403, "Forbidden (user=bob)", 403, "Forbidden", "Forbidden (user=bob)"),
        (404, "", 404, "NotFound", "the server could not find the requested resource"),
        (418, "tea", 418, "Unknown", "tea"),
        (422, "sinceSeconds", 422, "Invalid", "sinceSeconds"),
        (429, "busy", 429, "TooManyRequests", "busy"),
        (500, "broken", 500, "InternalError", "Internal error occurred: broken"),
        (502, "", 502, "InternalError", "the node agent answered 502"),
        (503, "containerd is away", 503, "ServiceUnavailable", "containerd is away"),
        (302, "", 500, "InternalError", "Internal error occurred: the node agent answered 302"),
        (200, "fine", 500, "InternalError", "Internal error occurred: fine"),
    ],
)
def test_the_status_of_a_node_agent_is_passed_on(
    status: int, text: str, code: int, reason: str, message: str
) -> None:
    refused = dialing.refused_by_node(status, text)
    assert (refused.code, refused.reason, refused.message) == (code, reason, message)
