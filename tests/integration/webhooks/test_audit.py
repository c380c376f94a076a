"""An API server that records what it is asked: in a file, and in batches to a collector, driven by kubectl."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from tests.support.etcd import free_ports
from tests.support.kubectl import Kubectl, KubectlError, until
from tests.support.private_api import PrivateApi
from tests.support.tls_server import TlsServer


class Recorder:
    """The collector, and the file."""

    def __init__(self, folder: Path) -> None:
        self.collected: list[dict[str, Any]] = []
        self.tokens: set[str | None] = set()
        self.file = folder / "audit.log"
        self.server = TlsServer(folder / "collector", self.answer)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        assert (body["kind"], body["apiVersion"]) == ("EventList", "audit.k8s.io/v1")
        self.tokens.add(request.headers.get("Authorization"))
        self.collected += body["items"]
        return web.Response()

    def logged(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.file.read_text().splitlines()]


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorder]:
    made = Recorder(tmp_path_factory.mktemp("audit"))
    with made.server:
        yield made


@pytest.fixture(scope="module")
def audited(private: PrivateApi, recorder: Recorder, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    """kubectl at a second API server of the same cluster, which records."""
    folder = tmp_path_factory.mktemp("audited")
    policy = {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "None", "nonResourceURLs": ["/healthz*", "/readyz*", "/api*", "/openapi*"]},
            {"level": "Metadata", "resources": [{"group": "", "resources": ["secrets"]}]},
            {"level": "RequestResponse", "resources": [{"group": "", "resources": ["configmaps"]}]},
        ],
    }
    (folder / "policy.yaml").write_text(yaml.safe_dump(policy))
    collector = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "c",
                "cluster": {
                    "server": f"{recorder.server.url}/events",
                    "certificate-authority-data": recorder.server.ca_bundle,
                },
            }
        ],
        "users": [{"name": "u", "user": {"token": "let-me-in"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (folder / "collector.yaml").write_text(yaml.safe_dump(collector))
    (port,) = free_ports(1)
    private.spawn(
        "apiserver",
        *private.server_flags(port, [private.etcd.endpoint]),
        f"--audit-policy-file={folder}/policy.yaml",
        f"--audit-log-path={recorder.file}",
        f"--audit-webhook-config-file={folder}/collector.yaml",
        "--audit-webhook-batch-max-wait=0.2",
    )
    config = folder / "admin.conf"
    config.write_text(private.kubeconfig.read_text().replace(private.url, f"https://127.0.0.1:{port}"))
    one = Kubectl(config)

    def ready() -> bool:
        try:
            return "ok" in one("get", "--raw", "/readyz")
        except KubectlError:
            return False

    until(ready, timeout=30)
    return one


def test_what_is_recorded(audited: Kubectl, recorder: Recorder) -> None:
    audited("create", "secret", "generic", "s", "--from-literal=password=hunter2")
    audited("create", "configmap", "m", "--from-literal=a=b")
    audited("delete", "configmap", "m")
    audited.fails("get", "secrets", "--as=jane")
    recorded = recorder.logged()
    secret = next(event for event in recorded if event["objectRef"]["resource"] == "secrets")
    assert secret["objectRef"]["name"] == "s" and secret["user"]["username"] == "kubernetes-admin"
    assert secret["userAgent"].startswith("kubectl") and secret["sourceIPs"] == ["127.0.0.1"]
    assert not {"requestObject", "responseObject"} & secret.keys()
    assert "hunter2" not in recorder.file.read_text()
    made = next(event for event in recorded if event["objectRef"]["resource"] == "configmaps")
    assert made["requestObject"]["data"] == {"a": "b"}
    assert made["responseObject"]["metadata"]["uid"]
    refused = recorded[-1]
    assert refused["impersonatedUser"]["username"] == "jane"
    assert refused["annotations"]["authorization.k8s.io/decision"] == "forbid"
    assert {event["stage"] for event in recorded} == {"ResponseComplete"}
    idents = {event["auditID"] for event in recorded}
    until(lambda: {event["auditID"] for event in recorder.collected} >= idents, timeout=10)
    assert recorder.tokens == {"Bearer let-me-in"}


def test_streams_have_two_stages(audited: Kubectl, recorder: Recorder) -> None:
    audited("create", "configmap", "w")
    # A watch that ends by itself.
    audited("get", "--raw", "/api/v1/namespaces/default/configmaps?watch=1&timeoutSeconds=1")
    watched = [event for event in recorder.logged() if event["verb"] == "watch"]
    assert [event["stage"] for event in watched] == ["ResponseStarted", "ResponseComplete"]
    assert watched[0]["auditID"] == watched[1]["auditID"]
    audited("delete", "configmap", "w")
    assert "apiserver_audit_event_total" in audited("get", "--raw", "/metrics")
