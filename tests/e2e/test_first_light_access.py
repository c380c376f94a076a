"""Who may do what: certificates, bearer tokens, and a RoleBinding that changes the answer."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.kubectl import Kubectl, until

pytestmark = pytest.mark.e2e

URL = "https://10.99.0.10:6443/api/v1/namespaces/access/pods"


@pytest.fixture(scope="module")
def k(kubeconfig: str) -> Iterator[Kubectl]:
    kubectl = Kubectl(Path(kubeconfig))
    kubectl("create", "namespace", "access")
    yield kubectl.within("access")
    kubectl("delete", "namespace", "access", "--wait=false")


def ask(k: Kubectl, token: str = "", url: str = URL) -> tuple[int, Any]:
    import base64

    config = yaml.safe_load(k.kubeconfig.read_text())
    ca = base64.b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"]).decode()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(
            request, context=ssl.create_default_context(cadata=ca), timeout=10
        ) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_a_token_is_refused_until_a_role_binding_allows(k: Kubectl) -> None:
    until(lambda: k("get", "serviceaccount", "default", "-o", "name"), what="the default account")
    token = k("create", "token", "default").strip()
    code, body = ask(k, token)
    assert (code, body["kind"], body["reason"], body["status"]) == (403, "Status", "Forbidden", "Failure")
    assert body["message"] == (
        'pods is forbidden: User "system:serviceaccount:access:default" cannot list resource "pods" in API group "" '
        'in the namespace "access"'
    )
    k("create", "role", "look", "--verb=get,list", "--resource=pods")
    k("create", "rolebinding", "look", "--role=look", "--serviceaccount=access:default")
    until(lambda: ask(k, token)[0] == 200, timeout=10, what="the binding to count")
    assert ask(k, token)[1]["kind"] == "PodList"
    assert "yes" in k("auth", "can-i", "list", "pods", "--as=system:serviceaccount:access:default")
    assert (
        "no" in k.run("auth", "can-i", "delete", "pods", "--as=system:serviceaccount:access:default").stdout
    )


def test_no_credentials_or_bad_ones_are_401(k: Kubectl) -> None:
    assert ask(k, "not.a.token")[0] == 401
    code, body = ask(k)
    assert (code, body["kind"], body["reason"]) == (401, "Status", "Unauthorized")


def test_the_token_in_a_pod_works_against_the_kubernetes_service(k: Kubectl) -> None:
    k("create", "clusterrolebinding", "access-view", "--clusterrole=view", "--serviceaccount=access:default")
    try:
        k(
            "run",
            "caller",
            "--image=bamikube/client",
            "--restart=Never",
            "--command",
            "--",
            "sh",
            "-c",
            "D=/var/run/secrets/kubernetes.io/serviceaccount; curl -sS --cacert $D/ca.crt "
            '-H "Authorization: Bearer $(cat $D/token)" https://kubernetes.default.svc/api/v1/namespaces/$(cat $D/namespace)/pods',
        )
        until(lambda: k.json("get", "pod", "caller")["status"]["phase"] == "Succeeded", what="the call")
        assert json.loads(k("logs", "caller"))["kind"] == "PodList"
    finally:
        k("delete", "clusterrolebinding", "access-view")


def test_the_official_python_client_sees_the_same(k: Kubectl) -> None:
    from kubernetes import client, config, watch

    api = client.CoreV1Api(config.new_client_from_config(str(k.kubeconfig)))
    assert {node.metadata.name for node in api.list_node().items} == {"master", "worker-1", "worker-2"}
    api.create_namespaced_config_map("access", {"metadata": {"name": "by-python"}, "data": {"a": "b"}})
    seen = []
    watcher = watch.Watch()
    for event in watcher.stream(api.list_namespaced_config_map, "access", timeout_seconds=20):
        seen.append(event["object"].metadata.name)
        if "by-python" in seen:
            watcher.stop()
    assert "by-python" in seen
    with pytest.raises(client.ApiException) as refused:
        api.create_namespaced_config_map("access", {"metadata": {"name": "by-python"}})
    assert refused.value.status == 409
    api.delete_namespaced_config_map("by-python", "access")


def test_kr8s_sees_the_same(k: Kubectl) -> None:
    import kr8s

    api = kr8s.api(kubeconfig=str(k.kubeconfig), namespace="access")
    assert sorted(node.name for node in api.get("nodes")) == ["master", "worker-1", "worker-2"]
