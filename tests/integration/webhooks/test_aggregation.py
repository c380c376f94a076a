"""An API server of somebody else's behind ours: kubectl, the Python client and a websocket use it as if it were one."""

from __future__ import annotations

import asyncio
import json
import ssl
import urllib.request
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest
from kubernetes import client, dynamic, watch

from tests.integration.webhooks.sample_api import GROUP, ROOT, VERSION, SampleApi
from tests.support.kubectl import Kubectl, until
from tests.support.private_api import PrivateApi

API_SERVICE = f"{VERSION}.{GROUP}"


@pytest.fixture(scope="module")
def admin(private: PrivateApi) -> Kubectl:
    return Kubectl(private.kubeconfig)


@pytest.fixture(scope="module")
def sample(
    private: PrivateApi, admin: Kubectl, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SampleApi]:
    """The sample server, registered; its service leads to loopback by name."""
    made = SampleApi(tmp_path_factory.mktemp("sample"), private.home / "pki/front-proxy-ca.crt")
    with made.server:
        admin("create", "namespace", "wardle")
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "sample-api", "namespace": "wardle"},
            "spec": {"type": "ExternalName", "externalName": "localhost"},
        }
        admin.within("wardle")("create", "-f", "-", stdin=json.dumps(service))
        body = {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": API_SERVICE},
            "spec": {
                "group": GROUP,
                "version": VERSION,
                "groupPriorityMinimum": 2000,
                "versionPriority": 200,
                "caBundle": made.server.ca_bundle,
                "service": {"namespace": "wardle", "name": "sample-api", "port": made.server.port},
            },
        }
        admin("create", "-f", "-", stdin=json.dumps(body))
        admin("wait", "--for=condition=Available", f"apiservice/{API_SERVICE}", "--timeout=20s")
        yield made
        admin("delete", "apiservice", API_SERVICE)
        groups = json.loads(admin("get", "--raw", "/apis"))["groups"]
        assert GROUP not in [group["name"] for group in groups]


def flunder(name: str) -> str:
    body = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "Flunder",
        "metadata": {"name": name},
        "spec": {"reference": "x"},
    }
    return json.dumps(body)


def discovered(private: PrivateApi) -> Any:
    """The sample's versions in aggregated discovery."""
    accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    request = urllib.request.Request(f"{private.url}/apis", headers={"Accept": accept})
    with urllib.request.urlopen(request, context=private.context) as answer:
        items = json.load(answer)["items"]
    (group,) = [item for item in items if item["metadata"]["name"] == GROUP]
    return group["versions"]


def test_our_own_group_versions_are_registered(admin: Kubectl) -> None:
    lines = until(lambda: [line.split() for line in admin("get", "apiservices").splitlines()[1:]])
    found = {line[0]: line[1:3] for line in lines}
    assert found["v1."] == found["v1.apps"] == found["v2.autoscaling"] == ["Local", "True"]


def test_the_table_names_the_service(admin: Kubectl, sample: SampleApi) -> None:
    header, line = admin("get", "apiservice", API_SERVICE).splitlines()
    assert header.split() == ["NAME", "SERVICE", "AVAILABLE", "AGE"]
    assert line.split()[:3] == [API_SERVICE, "wardle/sample-api", "True"]


def test_kubectl_works_with_its_kind(private: PrivateApi, kubectl: Kubectl, sample: SampleApi) -> None:
    assert "flunders" in kubectl("api-resources", f"--api-group={GROUP}")
    assert f"{GROUP}/{VERSION}" in kubectl("api-versions").split()
    assert discovered(private)[0]["freshness"] == "Current"
    assert kubectl("create", "-f", "-", stdin=flunder("a")) == f"flunder.{GROUP}/a created\n"
    assert "a" in kubectl("get", "fl")
    kubectl("patch", "flunder", "a", "--type=merge", "-p", '{"spec":{"reference":"y"}}')
    assert kubectl.json("get", "flunder", "a")["spec"] == {"reference": "y"}
    said = kubectl.fails("get", "flunder", "nope")
    assert f'flunders.{GROUP} "nope" not found' in said
    kubectl("delete", "flunder", "a")
    (request,) = [one for one in sample.seen if one["method"] == "DELETE"]
    assert request["credentials"] is None
    assert request["user"] == "kubernetes-admin" and "system:authenticated" in request["groups"]


def test_explain_reads_its_schema(kubectl: Kubectl, sample: SampleApi) -> None:
    assert "Another fish." in kubectl("explain", "flunders.spec.reference")
    v2 = json.loads(kubectl("get", "--raw", "/openapi/v2"))
    assert f"{ROOT}/namespaces/{{namespace}}/flunders" in v2["paths"]
    assert "com.example.wardle.v1alpha1.Flunder" in v2["definitions"]


def test_the_python_client_watches(kubectl: Kubectl, sample: SampleApi, python: client.ApiClient) -> None:
    flunders = dynamic.DynamicClient(python).resources.get(api_version=f"{GROUP}/{VERSION}", kind="Flunder")
    custom = client.CustomObjectsApi(python)
    seen: list[tuple[str, str]] = []
    watcher = watch.Watch()
    stream = watcher.stream(
        custom.list_cluster_custom_object, GROUP, VERSION, "flunders", _request_timeout=20
    )
    created = False
    sample.listening.clear()

    async def once_it_listens() -> None:
        await sample.listening.wait()
        body = json.loads(flunder("w"))
        body["metadata"]["namespace"] = kubectl.namespace
        sample._put("ADDED", (kubectl.namespace, "w"), body)

    asyncio.run_coroutine_threadsafe(once_it_listens(), sample.server._loop)
    for event in stream:
        seen.append((event["type"], event["object"]["metadata"]["name"]))
        if not created:
            created = True
            flunders.delete(name="w", namespace=kubectl.namespace)
        else:
            watcher.stop()
    assert seen == [("ADDED", "w"), ("DELETED", "w")]


def test_rights_are_decided_here(kubectl: Kubectl, sample: SampleApi) -> None:
    before = len(sample.seen)
    said = kubectl.fails("get", "flunders", "--as=jane")
    assert f'flunders.{GROUP} is forbidden: User "jane" cannot list resource "flunders"' in said
    assert not [request for request in sample.seen[before:] if request["user"] == "jane"]
    kubectl("create", "role", "fisher", "--verb=list", f"--resource=flunders.{GROUP}")
    kubectl("create", "rolebinding", "fisher", "--role=fisher", "--user=jane")
    kubectl("get", "flunders", "--as=jane")
    assert sample.seen[-1]["user"] == "jane"


def test_upgrades_go_through(private: PrivateApi, sample: SampleApi) -> None:
    async def talk() -> str:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{private.url}{ROOT}/echo", ssl=private.context) as socket,
        ):
            await socket.send_str("hello")
            return str((await socket.receive(timeout=10)).data)

    assert asyncio.run(talk()) == "kube-apiserver-kubelet-client said hello"


def test_nobody_gets_round_us(sample: SampleApi) -> None:
    """The sample believes no header without the front proxy's certificate: what we rely on is really so."""

    async def ask() -> int:
        context = ssl.create_default_context(cadata=sample.server.ca_pem.decode())
        context.check_hostname = False
        async with aiohttp.ClientSession() as session:
            headers = {"X-Remote-User": "admin"}
            url = f"{sample.server.url}{ROOT}"
            async with session.get(url, ssl=context, headers=headers) as answer:
                return answer.status

    assert asyncio.run(ask()) == 401


def test_who_does_not_answer_is_unavailable(private: PrivateApi, kubectl: Kubectl, sample: SampleApi) -> None:
    sample.healthy = False
    kubectl("annotate", "service", "sample-api", "--namespace=wardle", "touched=1")

    def condition() -> Any:
        conditions = kubectl.json("get", "apiservice", API_SERVICE)["status"]["conditions"]
        (found,) = [one for one in conditions if one["type"] == "Available"]
        return found if found["status"] == "False" else None

    found = until(condition, timeout=20)
    assert found["reason"] == "FailedDiscoveryCheck" and "bad status from" in found["message"]
    said = kubectl.fails("get", "--raw", f"{ROOT}/flunders")
    assert "the server is currently unable to handle the request" in said
    assert "False (FailedDiscoveryCheck)" in kubectl("get", "apiservice", API_SERVICE)
    assert f'aggregator_unavailable_apiservice{{name="{API_SERVICE}"}} 1.0' in kubectl(
        "get", "--raw", "/metrics"
    )
    (version,) = discovered(private)
    assert version["freshness"] == "Stale" and version["resources"][0]["resource"] == "flunders"
    kubectl("delete", "service", "sample-api", "--namespace=wardle")
    until(lambda: condition()["reason"] == "ServiceNotFound", timeout=20)


def test_trust_in_us_is_published(admin: Kubectl) -> None:
    config = admin.within("kube-system").json("get", "configmap", "extension-apiserver-authentication")
    data = config["data"]
    assert data["requestheader-allowed-names"] == '["front-proxy-client"]'
    assert data["requestheader-username-headers"] == '["X-Remote-User"]'
    assert data["requestheader-client-ca-file"].startswith("-----BEGIN CERTIFICATE-----")
