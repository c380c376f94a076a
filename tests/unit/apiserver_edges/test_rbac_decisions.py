"""Who may do what, and the sentences in which it is refused."""

from __future__ import annotations

from typing import Any

import pytest

from bamikube.apiserver.attributes import Attributes
from bamikube.apiserver.authz import Authorizer, denied
from bamikube.apiserver.authz.rules import describe, path_matches, uncovered
from bamikube.apiserver.identity import User

RBAC = "rbac.authorization.k8s.io"
ALICE = User("alice", ("dev", "system:authenticated"))


def role(name: str, rules: list[dict[str, Any]], namespace: str = "", **more: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            **({"namespace": namespace} if namespace else {}),
            **more.pop("metadata", {}),
        },
        "rules": rules,
        **more,
    }


def binding(
    name: str, kind: str, target: str, subjects: list[dict[str, Any]], namespace: str = ""
) -> dict[str, Any]:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"metadata": metadata, "roleRef": {"kind": kind, "name": target}, "subjects": subjects}


def ask(user: User, verb: str, resource: str, **more: Any) -> Attributes:
    resource, _, subresource = resource.partition("/")
    return Attributes(user, verb, resource=resource, subresource=subresource, **more)


READ_PODS = [{"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "pods/log"]}]


def test_a_role_binding_counts_in_its_namespace_only_and_at_once(reader: Any) -> None:
    authorizer = Authorizer(reader)
    assert not authorizer.authorize(ask(ALICE, "list", "pods", namespace="web")).allowed
    reader.put((RBAC, "roles"), role("r", READ_PODS, "web"))
    reader.put((RBAC, "rolebindings"), binding("b", "Role", "r", [{"kind": "Group", "name": "dev"}], "web"))
    verdict = authorizer.authorize(ask(ALICE, "list", "pods", namespace="web"))
    assert verdict.allowed
    assert verdict.reason == 'RBAC: allowed by RoleBinding "b/web" of Role "r" to Group "dev"'
    assert authorizer.authorize(ask(ALICE, "get", "pods/log", namespace="web", name="p")).allowed
    assert not authorizer.authorize(ask(ALICE, "get", "pods/exec", namespace="web", name="p")).allowed
    assert not authorizer.authorize(ask(ALICE, "list", "pods", namespace="other")).allowed
    assert not authorizer.authorize(ask(ALICE, "list", "pods")).allowed
    reader.drop((RBAC, "rolebindings"), "web", "b")
    assert not authorizer.authorize(ask(ALICE, "list", "pods", namespace="web")).allowed


def test_service_accounts_names_and_wildcards(reader: Any) -> None:
    authorizer = Authorizer(reader)
    rules = [
        {"verbs": ["get"], "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["mine"]},
        {"verbs": ["*"], "apiGroups": ["apps"], "resources": ["*/scale"]},
        {"verbs": ["get"], "nonResourceURLs": ["/metrics", "/logs/*"]},
    ]
    reader.put((RBAC, "clusterroles"), role("c", rules))
    subject = {"kind": "ServiceAccount", "name": "bot", "namespace": "web"}
    reader.put((RBAC, "clusterrolebindings"), binding("b", "ClusterRole", "c", [subject]))
    bot = User("system:serviceaccount:web:bot")
    assert authorizer.authorize(ask(bot, "get", "configmaps", namespace="x", name="mine")).allowed
    assert not authorizer.authorize(ask(bot, "get", "configmaps", namespace="x", name="other")).allowed
    assert not authorizer.authorize(ask(bot, "list", "configmaps", namespace="x")).allowed
    assert authorizer.authorize(
        ask(bot, "update", "deployments/scale", group="apps", namespace="x", name="d")
    ).allowed
    assert not authorizer.authorize(
        ask(bot, "update", "deployments", group="apps", namespace="x", name="d")
    ).allowed
    for path, allowed in (("/metrics", True), ("/logs/a/b", True), ("/metrics/x", False)):
        assert authorizer.authorize(Attributes(bot, "get", path=path, is_resource=False)).allowed is allowed


def test_aggregation_follows_labels_through_two_steps(reader: Any) -> None:
    authorizer = Authorizer(reader)

    def collecting(name: str, label: str, labels: dict[str, str]) -> dict[str, Any]:
        selectors = {"clusterRoleSelectors": [{"matchLabels": {label: "true"}}]}
        return role(name, [], aggregationRule=selectors, metadata={"labels": labels})

    reader.put((RBAC, "clusterroles"), collecting("edit", "to-edit", {}))
    reader.put((RBAC, "clusterroles"), collecting("view", "to-view", {"to-edit": "true"}))
    reader.put(
        (RBAC, "clusterrolebindings"),
        binding("b", "ClusterRole", "edit", [{"kind": "User", "name": "alice"}]),
    )
    assert not authorizer.authorize(ask(ALICE, "get", "pods", name="p")).allowed
    reader.put((RBAC, "clusterroles"), role("crd-view", READ_PODS, metadata={"labels": {"to-view": "true"}}))
    assert authorizer.authorize(ask(ALICE, "get", "pods", name="p")).allowed


def test_masters_may_everything_and_missing_roles_are_named(reader: Any) -> None:
    authorizer = Authorizer(reader)
    assert authorizer.authorize(ask(User("x", ("system:masters",)), "delete", "nodes", name="n")).allowed
    reader.put(
        (RBAC, "clusterrolebindings"),
        binding("b", "ClusterRole", "gone", [{"kind": "User", "name": "alice"}]),
    )
    verdict = authorizer.authorize(ask(ALICE, "get", "pods", name="p"))
    assert verdict.reason == f'RBAC: clusterrole.{RBAC} "gone" not found'


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        (
            ask(User("x"), "list", "pods", namespace="default"),
            'pods is forbidden: User "x" cannot list resource "pods" in API group "" in the namespace "default"',
        ),
        (
            ask(User("x"), "get", "deployments/scale", group="apps", namespace="d", name="w"),
            'deployments.apps "w" is forbidden: User "x" cannot get resource "deployments/scale" in API group "apps" '
            'in the namespace "d"',
        ),
        (
            ask(User("x"), "list", "nodes"),
            'nodes is forbidden: User "x" cannot list resource "nodes" in API group "" at the cluster scope',
        ),
        (
            Attributes(User("x"), "get", path="/metrics", is_resource=False),
            'forbidden: User "x" cannot get path "/metrics"',
        ),
    ],
)
def test_refusals_are_worded_as_kubernetes_words_them(attributes: Attributes, message: str) -> None:
    error = denied(attributes)
    assert (error.code, error.reason, error.message) == (403, "Forbidden", message)


def test_what_is_not_covered_is_found_atom_by_atom() -> None:
    owned = [
        {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]},
        {"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["a"]},
        {"verbs": ["get"], "nonResourceURLs": ["/logs/*"]},
    ]
    assert uncovered(owned, READ_PODS[:0]) == []
    assert (
        uncovered(
            owned, [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["p"]}]
        )
        == []
    )
    assert uncovered(owned, [{"verbs": ["get"], "nonResourceURLs": ["/logs/x"]}]) == []
    wanted = [{"verbs": ["get", "delete"], "apiGroups": [""], "resources": ["pods", "secrets"]}]
    lines = describe(uncovered(owned, wanted))
    assert lines == [
        '{APIGroups:[""], Resources:["pods"], Verbs:["delete"]}',
        '{APIGroups:[""], Resources:["secrets"], Verbs:["get", "delete"]}',
    ]
    assert uncovered([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}], wanted) == []


def test_path_patterns() -> None:
    assert (
        path_matches("*", "/x") and path_matches("/api/*", "/api/v1") and not path_matches("/api/*", "/apis")
    )
