"""Which flow schema takes a request: the suggested configuration, and every kind of rule."""

from __future__ import annotations

from typing import Any

import pytest

from bamikube.apiserver.attributes import Attributes
from bamikube.apiserver.flow import objects
from bamikube.apiserver.flow.matching import classify, compiled
from bamikube.apiserver.identity import ALL_AUTHENTICATED, ANONYMOUS, MASTERS, User

LEVELS = [obj["metadata"]["name"] for obj in objects.LEVELS]
SCHEMAS = compiled(objects.SCHEMAS, LEVELS)


def user(name: str, *groups: str) -> User:
    return User(name, (*groups, ALL_AUTHENTICATED))


def account(namespace: str, name: str) -> User:
    full = f"system:serviceaccount:{namespace}:{name}"
    return user(full, "system:serviceaccounts", f"system:serviceaccounts:{namespace}")


def ask(
    who: User, verb: str = "get", resource: str = "pods", group: str = "", namespace: str = "a"
) -> Attributes:
    plural, _, part = resource.partition("/")
    return Attributes(
        who, verb, group=group, version="v1", resource=plural, subresource=part, namespace=namespace
    )


NODE = user("system:node:n", "system:nodes")
MANAGER, SCHEDULER = user("system:kube-controller-manager"), user("system:kube-scheduler")
LEASES = {"resource": "leases", "group": "coordination.k8s.io"}


@pytest.mark.parametrize(
    ("request_", "schema", "flow"),
    [
        (ask(user("root", MASTERS)), "exempt", ""),
        (Attributes(ANONYMOUS, "get", "/healthz", is_resource=False), "probes", ""),
        (Attributes(ANONYMOUS, "get", "/version", is_resource=False), "global-default", "system:anonymous"),
        (ask(MANAGER, "update", **LEASES), "system-leader-election", MANAGER.name),
        (
            ask(account("kube-system", "x"), "get", **LEASES),
            "system-leader-election",
            account("kube-system", "x").name,
        ),
        (ask(MANAGER, "update", "endpoints"), "endpoint-controller", MANAGER.name),
        (ask(MANAGER, "list", "pods"), "kube-controller-manager", "a"),
        (ask(SCHEDULER, "create", "pods/binding"), "kube-scheduler", "a"),
        (ask(NODE, "patch", "nodes/status", namespace=""), "system-node-high", NODE.name),
        (ask(NODE, "update", namespace="kube-node-lease", **LEASES), "system-node-high", NODE.name),
        (ask(NODE, "get", "secrets"), "system-nodes", NODE.name),
        (ask(account("kube-system", "dns"), "list"), "kube-system-service-accounts", "a"),
        (ask(account("web", "app"), "list"), "service-accounts", account("web", "app").name),
        (ask(user("jane"), "list"), "global-default", "jane"),
    ],
)
def test_the_suggested_schemas(request_: Attributes, schema: str, flow: str) -> None:
    found = classify(SCHEMAS, request_)
    assert found is not None and (found.name, found.flow_of(request_)) == (schema, flow)


def one(
    rule: dict[str, Any], precedence: int = 500, name: str = "x", level: str = "system"
) -> dict[str, Any]:
    spec = {
        "priorityLevelConfiguration": {"name": level},
        "matchingPrecedence": precedence,
        "rules": [{"subjects": [{"kind": "User", "user": {"name": "*"}}], **rule}],
    }
    return {"metadata": {"name": name}, "spec": spec}


def rule(**named: Any) -> dict[str, Any]:
    everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]}
    return {"resourceRules": [everything | named]}


@pytest.mark.parametrize(
    ("wanted", "request_", "taken"),
    [
        (rule(), ask(user("u")), True),
        (rule(), ask(user("u"), namespace=""), False),
        (rule(clusterScope=True), ask(user("u"), namespace=""), True),
        (rule(namespaces=["b"]), ask(user("u")), False),
        (rule(resources=["pods"]), ask(user("u"), resource="pods/log"), False),
        (rule(resources=["pods/log"]), ask(user("u"), resource="pods/log"), True),
        (rule(verbs=["list"]), ask(user("u")), False),
        (rule(apiGroups=["apps"]), ask(user("u")), False),
        (rule(), Attributes(user("u"), "get", "/metrics", is_resource=False), False),
        (
            {"nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz/*", "/metrics"]}]},
            Attributes(user("u"), "get", "/healthz/etcd", is_resource=False),
            True,
        ),
    ],
)
def test_rules(wanted: dict[str, Any], request_: Attributes, taken: bool) -> None:
    assert (classify(compiled([one(wanted)], ["system"]), request_) is not None) is taken


def test_order_and_what_points_nowhere() -> None:
    schemas = [
        one(rule(), 2, "b"),
        one(rule(), 2, "a"),
        one(rule(), 1, "nowhere", level="gone"),
        one(rule(), 3, "c"),
    ]
    assert [schema.name for schema in compiled(schemas, ["system"])] == ["a", "b", "c"]
