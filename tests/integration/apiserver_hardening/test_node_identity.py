"""A node's own credentials, used by hand: what they open, and the words of what they do not."""

from __future__ import annotations

import base64
import json
from typing import Any

from tests.support.kubectl import Kubectl
from tests.support.private_api import PrivateApi


def pod(name: str, account: str) -> str:
    token = {"serviceAccountToken": {"path": "token", "audience": "vault", "expirationSeconds": 600}}
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "nodeName": "master",
            "serviceAccountName": account,
            "containers": [{"name": "c", "image": "i", "envFrom": [{"secretRef": {"name": "mine"}}]}],
            "volumes": [{"name": "v", "projected": {"sources": [token]}}],
        },
    }
    return json.dumps(body)


def payload(token: str) -> Any:
    middle = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))


def test_a_node_sees_what_belongs_to_it_and_is_told_why_no_more(
    kubectl: Kubectl, private: PrivateApi, namespace: str
) -> None:
    node = Kubectl(private.home / "kubelet.conf", namespace)
    kubectl("create", "serviceaccount", "bot")
    for name in ("mine", "other"):
        kubectl("create", "secret", "generic", name, "--from-literal=a=b")
    kubectl("create", "-f", "-", stdin=pod("p", "bot"))
    assert node("get", "pod", "p", "-o", "name").strip() == "pod/p"
    assert node("get", "secret", "mine", "-o", "name").strip() == "secret/mine"
    cannot = 'User "system:node:master" cannot'
    there = f'in API group "" in the namespace "{namespace}"'
    none = "no relationship found between node 'master' and this object"
    for words, refusal in (
        (
            ["get", "secret", "other"],
            f'secrets "other" is forbidden: {cannot} get resource "secrets" {there}: {none}',
        ),
        (
            ["get", "pods"],
            f'pods is forbidden: {cannot} list resource "pods" {there}: '
            "can only list/watch pods with spec.nodeName field selector",
        ),
        (
            ["get", "node", "other"],
            f'nodes "other" is forbidden: {cannot} get resource "nodes" in API group "" at the cluster scope: '
            "node 'master' cannot read 'other', only its own Node object",
        ),
        (["get", "persistentvolumes"], "can only get individual resources of this type"),
    ):
        assert refusal in node.fails(*words)
    assert "pod/p" in node("get", "pods", "-o", "name", "--field-selector=spec.nodeName=master")
    uid = kubectl.json("get", "pod", "p")["metadata"]["uid"]

    def asks(audience: str) -> list[str]:
        bound = ["--bound-object-kind=Pod", "--bound-object-name=p", f"--bound-object-uid={uid}"]
        return ["create", "token", "bot", f"--audience={audience}", *bound]

    assert node(*asks("vault")).count(".") == 2
    # The token that admission asks for lives a year, and says that its use after an hour is a mistake.
    own = ["create", "token", "bot", "--bound-object-kind=Pod", "--bound-object-name=p", "--duration=3607s"]
    claims = payload(kubectl(*own))
    assert claims["exp"] - claims["iat"] == 365 * 24 * 3600
    assert claims["kubernetes.io"]["warnafter"] - claims["iat"] == 3607
    assert claims["kubernetes.io"]["node"]["name"] == "master"
    other = payload(kubectl(*own[:-1], "--duration=3600s"))
    assert other["exp"] - other["iat"] == 3600 and "warnafter" not in other["kubernetes.io"]
    refused = (
        'serviceaccounts "bot" is forbidden: audience "registry" not found in pod spec volume, '
        "system:node:master is not authorized to request tokens for this audience"
    )
    assert refused in node.fails(*asks("registry"))
    role = f"audience-{namespace}"
    verb = "--verb=request-serviceaccounts-token-audience"
    rule = {"verbs": [verb.partition("=")[2]], "apiGroups": [""], "resources": ["registry"]}
    granted = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": role},
        "rules": [rule],
    }
    kubectl("create", "-f", "-", stdin=json.dumps(granted))
    kubectl("create", "clusterrolebinding", role, f"--clusterrole={role}", "--group=system:nodes")
    assert node(*asks("registry")).count(".") == 2
    said = node.run("auth", "can-i", "--list")
    assert (
        "Warning: the list may be incomplete: node authorizer does not support user rule resolution"
        in said.stderr
    )
    assert "selfsubjectreviews.authentication.k8s.io" in said.stdout
    listed = kubectl("auth", "can-i", "--list")
    assert "*.*" in listed and "selfsubjectreviews.authentication.k8s.io" in listed
