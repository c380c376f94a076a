"""An API server with a file of --admission-control-config-file: what it makes of its sections, as clients meet them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from tests.support.kubectl import Kubectl
from tests.support.private_api import PrivateApi
from tests.support.tls_server import TlsServer

API = "apiserver.config.k8s.io/v1"


def sections(hooks: Path) -> list[dict[str, Any]]:
    scope = {"scopeName": "PriorityClass", "operator": "In", "values": ["dear"]}
    return [
        {
            "name": "ResourceQuota",
            "configuration": {
                "apiVersion": API,
                "kind": "ResourceQuotaConfiguration",
                "limitedResources": [{"resource": "pods", "matchScopes": [scope]}],
            },
        },
        {
            "name": "EventRateLimit",
            "configuration": {
                "apiVersion": "eventratelimit.admission.k8s.io/v1alpha1",
                "kind": "Configuration",
                "limits": [{"type": "Namespace", "qps": 1, "burst": 3}],
            },
        },
        {
            "name": "PodSecurity",
            "configuration": {
                "apiVersion": "pod-security.admission.config.k8s.io/v1",
                "kind": "PodSecurityConfiguration",
                "defaults": {"enforce": "baseline"},
                "exemptions": {"namespaces": ["trusted"]},
            },
        },
        {
            "name": "ValidatingAdmissionWebhook",
            "configuration": {
                "apiVersion": API,
                "kind": "WebhookAdmissionConfiguration",
                "kubeConfigFile": str(hooks),
            },
        },
    ]


class Configured(PrivateApi):
    def server_flags(self, port: int, etcd: Sequence[str]) -> list[str]:
        hooks = self.directory / "hooks.conf"
        hooks.write_text(yaml.safe_dump({"users": [{"name": "127.0.0.1*", "user": {}}, TOKEN]}))
        file = self.directory / "admission.yaml"
        document = {"apiVersion": API, "kind": "AdmissionConfiguration", "plugins": sections(hooks)}
        file.write_text(yaml.safe_dump(document))
        added = [f"--admission-control-config-file={file}", "--enable-admission-plugins=EventRateLimit"]
        return [*super().server_flags(port, etcd), *added]


TOKEN = {"name": "*", "user": {"token": "it-is-me"}}


@pytest.fixture
def kubectl(tmp_path: Path) -> Iterator[Kubectl]:
    with Configured(tmp_path / "private", controllers=False) as api:
        one = Kubectl(api.kubeconfig, "judged")
        one("create", "namespace", "judged")
        yield one


def pod(name: str, **spec: Any) -> str:
    containers = [{"name": "c", "image": "i"}]
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": containers, **spec},
    }
    return json.dumps(body)


def test_every_section_of_the_file_counts(kubectl: Kubectl, folder: Path) -> None:
    kubectl("create", "serviceaccount", "default")
    # PodSecurity: what holds without labels, and who is exempt.
    said = kubectl.fails("create", "-f", "-", stdin=pod("host", hostNetwork=True))
    assert 'violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true)' in said
    kubectl("create", "namespace", "trusted")
    kubectl("-n", "trusted", "create", "serviceaccount", "default")
    kubectl("-n", "trusted", "create", "-f", "-", stdin=pod("host", hostNetwork=True))
    labelled = kubectl.run("label", "namespace", "trusted", "pod-security.kubernetes.io/enforce=restricted")
    assert (
        'Warning: namespace "trusted" is exempt from Pod Security, and the policy (enforce=restricted:latest) '
        "will be ignored"
    ) in labelled.stderr
    # ResourceQuota: a priority that takes a quota.
    kubectl("create", "priorityclass", "dear", "--value=1000")
    dear = pod("dear", priorityClassName="dear")
    said = kubectl.fails("create", "-f", "-", stdin=dear)
    assert "is forbidden: insufficient quota to match these scopes: [{PriorityClass In [dear]}]" in said
    matching = {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["dear"]}]}
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "dear"},
        "spec": {"hard": {"pods": "1"}, "scopeSelector": matching},
    }
    kubectl("create", "-f", "-", stdin=json.dumps(quota))
    kubectl("create", "-f", "-", stdin=dear)
    # EventRateLimit.
    path = "/api/v1/namespaces/judged/events"
    events = [
        json.dumps(
            {"metadata": {"name": f"e{at}", "namespace": "judged"}, "involvedObject": {"namespace": "judged"}}
        )
        for at in range(6)
    ]
    answers = [kubectl.run("create", "--raw", path, "-f", "-", stdin=event) for event in events]
    assert answers[0].returncode == 0
    refused = [one.stderr for one in answers if one.returncode]
    assert refused and "limit reached on type Namespace for key judged" in refused[0], refused
    # Webhooks are shown what the kubeconfig has for them.
    shown: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        shown.append(request.headers.get("Authorization", ""))
        body = await request.json()
        response = {"uid": body["request"]["uid"], "allowed": True}
        return web.json_response(
            {"kind": "AdmissionReview", "apiVersion": body["apiVersion"], "response": response}
        )

    with TlsServer(folder, answer, sans=("127.0.0.1",)) as server:
        rule = {
            "operations": ["CREATE"],
            "apiGroups": [""],
            "apiVersions": ["v1"],
            "resources": ["configmaps"],
        }
        hook = {
            "name": "judge.example.com",
            "clientConfig": {"url": f"{server.url}/", "caBundle": server.ca_bundle},
            "rules": [rule],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }
        body = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "judge"},
            "webhooks": [hook],
        }
        kubectl("create", "-f", "-", stdin=json.dumps(body))
        kubectl("create", "configmap", "asked")
    assert shown == ["Bearer it-is-me"]
