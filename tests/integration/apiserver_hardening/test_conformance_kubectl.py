"""Published conformance behaviours of the area kubectl, without running containers; and every kubectl there is.

Behaviours that need containers to answer (guestbook) are shown by the e2e tests.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.kubectl import Kubectl, find_kubectl, until
from tests.support.private_api import PrivateApi

from .conftest import Wire

MANIFEST = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: c, image: nginx, ports: [{containerPort: 80}]}
"""


@pytest.fixture(autouse=True)
def _settled(wire: Wire, namespace: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The namespace has its service account; kubectl keeps its cache here."""
    monkeypatch.setenv("HOME", str(tmp_path))
    until(lambda: wire.send("GET", f"/api/v1/namespaces/{namespace}/serviceaccounts/default").status == 200)


def versions() -> list[str]:
    beside = Path(os.path.realpath(shutil.which("kubectl") or "/")).parent
    found = [f"1.{minor}" for minor in (27, 30, 33) if (beside / f"kubectl.1.{minor}").exists()]
    return found or ["any"]


@pytest.mark.parametrize("version", versions())
def test_the_daily_round(private: PrivateApi, namespace: str, tmp_path: Path, version: str) -> None:
    """What people type, with old and new clients."""
    k = Kubectl(private.kubeconfig, namespace, find_kubectl(version))
    manifest = tmp_path / "web.yaml"
    manifest.write_text(MANIFEST)
    assert k("apply", "-f", str(manifest)) == "deployment.apps/web created\n"
    assert k("apply", "-f", str(manifest)) == "deployment.apps/web unchanged\n"
    manifest.write_text(MANIFEST.replace("replicas: 2", "replicas: 3"))
    changed = k.run("diff", "-f", str(manifest))
    assert changed.returncode == 1 and "+  replicas: 3" in changed.stdout
    assert k("apply", "-f", str(manifest)) == "deployment.apps/web configured\n"
    header = k("get", "deployments", "-o", "wide").splitlines()[0].split()
    assert header == ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE", "CONTAINERS", "IMAGES", "SELECTOR"]
    assert k("get", "deployment", "web", "-o", "jsonpath={.spec.replicas}") == "3"
    columns = k("get", "deployment", "-o", "custom-columns=N:.metadata.name,R:.spec.replicas")
    assert [line.split() for line in columns.splitlines()] == [["N", "R"], ["web", "3"]]
    assert k("label", "deployment", "web", "x=y") == "deployment.apps/web labeled\n"
    assert k("annotate", "deployment", "web", "note=a").startswith("deployment.apps/web annotate")
    for kind, patch in [
        ("strategic", '{"spec":{"replicas":4}}'),
        ("merge", '{"spec":{"replicas":1}}'),
        ("json", '[{"op":"replace","path":"/spec/replicas","value":2}]'),
    ]:
        assert k("patch", "deployment", "web", f"--type={kind}", "-p", patch).endswith("patched\n")
    test = '[{"op":"test","path":"/spec/replicas","value":9}]'
    assert "The request is invalid" in k.fails("patch", "deployment", "web", "--type=json", "-p", test)
    assert k("scale", "deployment", "web", "--replicas=1") == "deployment.apps/web scaled\n"
    assert k("autoscale", "deployment", "web", "--max=3").endswith("autoscaled\n")
    assert k("expose", "deployment", "web", "--port=80") == "service/web exposed\n"
    assert k("set", "image", "deployment/web", "c=nginx:2").endswith("image updated\n")
    until(lambda: len(k("rollout", "history", "deployment", "web").strip().splitlines()) >= 4)
    assert k("rollout", "undo", "deployment", "web").endswith("rolled back\n")
    assert k("rollout", "restart", "deployment", "web").endswith("restarted\n")
    described = k("describe", "deployment", "web")
    assert "StrategyType:           RollingUpdate" in described and "ScalingReplicaSet" in described
    explained = k("explain", "deployment.spec.strategy")
    assert "rollingUpdate" in explained and "DESCRIPTION" in explained
    assert "containers" in k("explain", "pod", "--recursive")
    resources = k("api-resources")
    assert "deployments" in resources and "deploy" in resources
    assert k("auth", "can-i", "create", "pods") == "yes\n"
    assert k("create", "token", "default").count(".") == 2
    assert "Metrics API not available" in k.fails("top", "pods")
    assert k("replace", "-f", str(manifest)) == "deployment.apps/web replaced\n"
    assert "condition met" in k(
        "wait", "deployment/web", "--for=jsonpath={.spec.replicas}=3", "--timeout=10s"
    )
    assert k("get", "all", "-o", "name").count("replicaset.apps/") >= 2
    assert 'Error from server (NotFound): pods "nope" not found' in k.fails("get", "pod", "nope")
    assert k("delete", "deployment", "web").startswith('deployment.apps "web" deleted')


def test_editing(kubectl: Kubectl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """edit: what the editor leaves is what the object becomes."""
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nsed -i 's/value: old/value: new/' \"$1\"\n")
    editor.chmod(0o755)
    monkeypatch.setenv("KUBE_EDITOR", str(editor))
    kubectl("create", "configmap", "c", "--from-literal=value=old")
    assert kubectl("edit", "configmap", "c") == "configmap/c edited\n"
    assert kubectl.json("get", "configmap", "c")["data"] == {"value": "new"}


def test_watching(kubectl: Kubectl) -> None:
    """get --watch prints changes as they come."""
    kubectl("create", "configmap", "c", "--from-literal=a=1")
    process = kubectl.start("get", "configmap", "c", "--watch", "--no-headers", stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().split()[:2] == ["c", "1"]
        kubectl("patch", "configmap", "c", "-p", '{"data":{"b":"2"}}')
        assert process.stdout.readline().split()[:2] == ["c", "2"]
    finally:
        process.terminate()
        process.wait()


def test_api_versions(kubectl: Kubectl) -> None:
    """Output MUST contain returned versions with 'v1' listed."""
    assert "v1" in kubectl("api-versions").splitlines()


def test_version(kubectl: Kubectl) -> None:
    """kubectl version MUST return the major, minor versions, GitCommit, etc of the Client and the Server."""
    shown = json.loads(kubectl("version", "-o", "json"))
    for side in ("clientVersion", "serverVersion"):
        assert {"major", "minor", "gitVersion", "gitCommit", "buildDate", "platform"} <= set(shown[side])


def test_run_and_label(kubectl: Kubectl) -> None:
    """run MUST create a pod with one container of the image; labels can be set, selected by, and removed."""
    assert kubectl("run", "p", "--image=nginx") == "pod/p created\n"
    pod = kubectl.json("get", "pod", "p")
    assert [each["image"] for each in pod["spec"]["containers"]] == ["nginx"]
    kubectl("label", "pod", "p", "testing-label=testing-label-value")
    assert "testing-label-value" in kubectl("get", "pod", "p", "-L", "testing-label")
    assert "p " in kubectl("get", "pod", "-l", "testing-label=testing-label-value")
    kubectl("label", "pod", "p", "testing-label-")
    assert "testing-label-value" not in kubectl("get", "pod", "p", "-L", "testing-label")


def test_replacing_a_pod(kubectl: Kubectl) -> None:
    """replace on an existing Pod MUST update the image; with --force it is created again."""
    kubectl("run", "p", "--image=nginx:1")
    pod = kubectl.json("get", "pod", "p")
    pod["spec"]["containers"][0]["image"] = "nginx:2"
    assert kubectl("replace", "-f", "-", stdin=json.dumps(pod)) == "pod/p replaced\n"
    assert kubectl.json("get", "pod", "p")["spec"]["containers"][0]["image"] == "nginx:2"
    pod["spec"]["containers"][0]["image"] = "nginx:3"
    for field in ("resourceVersion", "uid", "creationTimestamp"):
        pod["metadata"].pop(field)
    kubectl("replace", "--force", "--grace-period=0", "-f", "-", stdin=json.dumps(pod))
    assert kubectl.json("get", "pod", "p")["spec"]["containers"][0]["image"] == "nginx:3"


def test_server_side_dry_run(kubectl: Kubectl) -> None:
    """patch --dry-run=server succeeds; the image name must not change."""
    kubectl("run", "p", "--image=nginx:1")
    patch = '{"spec":{"containers":[{"name":"p","image":"busybox:9"}]}}'
    shown = json.loads(kubectl("patch", "pod", "p", "-p", patch, "--dry-run=server", "-o", "json"))
    assert shown["spec"]["containers"][0]["image"] == "busybox:9"
    assert kubectl.json("get", "pod", "p")["spec"]["containers"][0]["image"] == "nginx:1"


def test_patch_to_annotate_and_scale(kubectl: Kubectl) -> None:
    """Annotations patched on pods can be read back; a set scales to 2, to 1 and to 2 again."""
    kubectl("create", "-f", "-", stdin=MANIFEST)
    until(lambda: len(kubectl.json("get", "pods", "-l", "app=web")["items"]) == 2)
    for pod in kubectl.json("get", "pods", "-l", "app=web")["items"]:
        name = pod["metadata"]["name"]
        kubectl("patch", "pod", name, "-p", '{"metadata":{"annotations":{"x":"y"}}}')
        assert kubectl.json("get", "pod", name)["metadata"]["annotations"]["x"] == "y"
    for count in (1, 2):
        kubectl("scale", "deployment", "web", f"--replicas={count}")
        until(lambda count=count: len(kubectl.json("get", "pods", "-l", "app=web")["items"]) == count)


def test_scaling_a_replication_controller(kubectl: Kubectl) -> None:
    """The controller MUST have as many pods as it is scaled to; a service can be made for it."""
    template = {
        "metadata": {"labels": {"app": "rc"}},
        "spec": {"containers": [{"name": "c", "image": "nginx"}]},
    }
    body = {
        "apiVersion": "v1",
        "kind": "ReplicationController",
        "metadata": {"name": "rc"},
        "spec": {"replicas": 2, "template": template},
    }
    kubectl("create", "-f", "-", stdin=json.dumps(body))

    def pods() -> list[Any]:
        found: list[Any] = kubectl.json("get", "pods", "-l", "app=rc")["items"]
        return found

    for count in (2, 1, 2):
        kubectl("scale", "rc", "rc", f"--replicas={count}")
        until(lambda count=count: len(pods()) == count)
        until(lambda count=count: kubectl.json("get", "rc", "rc")["status"]["replicas"] == count)
    (owner,) = pods()[0]["metadata"]["ownerReferences"]
    assert (owner["apiVersion"], owner["kind"], owner["name"]) == ("v1", "ReplicationController", "rc")
    assert "SuccessfulCreate" in kubectl("describe", "rc", "rc")
    kubectl("expose", "rc", "rc", "--port=1234", "--target-port=6379")
    assert kubectl.json("get", "service", "rc")["spec"]["selector"] == {"app": "rc"}
    kubectl("delete", "rc", "rc", "--cascade=foreground")
    assert not pods()


def test_expose(kubectl: Kubectl) -> None:
    """The service MUST listen on the port given, with the target port given; a service can be exposed again."""
    kubectl("create", "-f", "-", stdin=MANIFEST)
    kubectl("expose", "deployment", "web", "--name=one", "--port=1234", "--target-port=6379")
    kubectl("expose", "service", "one", "--name=two", "--port=2345", "--target-port=6379")
    for name, port in (("one", 1234), ("two", 2345)):
        (shown,) = kubectl.json("get", "service", name)["spec"]["ports"]
        assert (shown["port"], shown["targetPort"]) == (port, 6379)
        address = kubectl("get", "service", name, "-o", "jsonpath={.spec.clusterIP}")
        assert f"services/{kubectl.namespace}/{name}" in kubectl("get", "ipaddresses", address)


def test_proxy_on_a_socket(kubectl: Kubectl, tmp_path: Path) -> None:
    """kubectl proxy --unix-socket: the proxy server MUST provide at least one version string."""
    path = tmp_path / "proxy.sock"
    process = kubectl.start("proxy", f"--unix-socket={path}", stdout=subprocess.DEVNULL)
    try:
        until(path.exists)
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(path))
        connection.request("GET", "/api")
        assert "v1" in json.load(connection.getresponse())["versions"]
        connection.close()
    finally:
        process.terminate()
        process.wait()


def test_component_statuses(kubectl: Kubectl) -> None:
    """The columns of the days of ComponentStatus."""
    lines = kubectl("get", "componentstatuses").splitlines()
    assert lines[0].split() == ["NAME", "STATUS", "MESSAGE", "ERROR"]
    assert lines[1].split()[:3] == ["etcd-0", "Healthy", "ok"]
