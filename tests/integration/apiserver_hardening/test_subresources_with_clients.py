"""Subresources as their users use them: kubectl, and the official Python client."""

from __future__ import annotations

import base64
import http.server
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from kubernetes import client, config

from tests.support.kubectl import Kubectl, until
from tests.support.private_api import PrivateApi

from .conftest import Wire

RUNNING = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
RESOURCES = {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "200m", "memory": "64Mi"}}


@pytest.fixture
def connection(private: PrivateApi) -> client.ApiClient:
    return config.new_client_from_config(str(private.kubeconfig))


@pytest.fixture
def pod(kubectl: Kubectl) -> str:
    """A pod that nobody schedules."""
    until(lambda: "default" in kubectl("get", "serviceaccounts"))
    spec = {"containers": [{"name": "c", "image": "i", "resources": RESOURCES}], "schedulerName": "nobody"}
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "labels": {"app": "a"}},
        "spec": spec,
    }
    kubectl("create", "-f", "-", stdin=json.dumps(manifest))
    return "p"


def test_resize(kubectl: Kubectl, pod: str) -> None:
    wanted = {"spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "300m"}}}]}}
    before = kubectl.json("get", "pod", pod)["metadata"]["generation"]
    kubectl("patch", "pod", pod, "--subresource=resize", "-p", json.dumps(wanted))
    now = kubectl.json("get", "pod", pod)
    assert now["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "300m", "memory": "64Mi"}
    assert now["metadata"]["generation"] == before + 1
    wanted["spec"]["containers"][0]["resources"]["limits"]["cpu"] = "50m"
    said = kubectl.fails("patch", "pod", pod, "--subresource=resize", "-p", json.dumps(wanted))
    assert "must be less than or equal to cpu limit of 50m" in said


def test_ephemeral_containers(kubectl: Kubectl, pod: str) -> None:
    kubectl("debug", pod, "--image=busybox", "-c", "debugger", "--profile=general", "--attach=false")
    listed = kubectl.json("get", "pod", pod)["spec"]["ephemeralContainers"]
    assert [each["name"] for each in listed] == ["debugger"]
    said = kubectl.fails("debug", pod, "--image=busybox", "-c", "c", "--profile=general", "--attach=false")
    assert "c" in said


def test_eviction_asks_the_budget(
    kubectl: Kubectl, connection: client.ApiClient, pod: str, namespace: str, wire: Wire
) -> None:
    core, policy = client.CoreV1Api(connection), client.PolicyV1Api(connection)
    core.patch_namespaced_pod_status(pod, namespace, RUNNING)
    selector = client.V1LabelSelector(match_labels={"app": "a"})
    spec = client.V1PodDisruptionBudgetSpec(min_available=1, selector=selector)
    budget = client.V1PodDisruptionBudget(metadata=client.V1ObjectMeta(name="b"), spec=spec)
    policy.create_namespaced_pod_disruption_budget(namespace, budget)

    def status(**counts: Any) -> None:
        whole = {
            "currentHealthy": 1,
            "desiredHealthy": 1,
            "expectedPods": 1,
            "disruptionsAllowed": 0,
        } | counts
        policy.patch_namespaced_pod_disruption_budget_status("b", namespace, {"status": whole})

    eviction = client.V1Eviction(metadata=client.V1ObjectMeta(name=pod, namespace=namespace))
    status(observedGeneration=1)
    with pytest.raises(client.ApiException) as refused:
        core.create_namespaced_pod_eviction(pod, namespace, eviction)
    assert refused.value.status == 429 and "Retry-After" not in refused.value.headers
    body = json.loads(refused.value.body)
    assert body["message"] == "Cannot evict pod as it would violate the pod's disruption budget."
    assert body["details"]["causes"] == [
        {"reason": "DisruptionBudget", "message": "The disruption budget b needs 1 healthy pods and has 1 currently"}
    ]  # fmt: skip
    status(observedGeneration=1, disruptionsAllowed=1)
    core.patch_namespaced_pod(pod, namespace, {"metadata": {"finalizers": ["example.com/stay"]}})
    core.create_namespaced_pod_eviction(pod, namespace, eviction)
    conditions = core.read_namespaced_pod(pod, namespace).status.conditions
    [why] = [c for c in conditions if c.type == "DisruptionTarget"]
    assert (why.reason, why.observed_generation) == ("EvictionByEvictionAPI", 1)
    core.patch_namespaced_pod(pod, namespace, {"metadata": {"finalizers": None}})
    until(lambda: core.list_namespaced_pod(namespace).items == [])
    assert policy.read_namespaced_pod_disruption_budget("b", namespace).status.disrupted_pods.keys() == {pod}


def test_tokens_bound_to_objects(kubectl: Kubectl, pod: str) -> None:
    token = kubectl("create", "token", "default", "--bound-object-kind=Pod", f"--bound-object-name={pod}")
    claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    assert claims["kubernetes.io"]["pod"]["name"] == pod
    token = kubectl("create", "token", "default", "--audience=vault", "--duration=20m")
    claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    assert claims["aud"] == ["vault"] and claims["exp"] - claims["iat"] == 1200
    said = kubectl.fails("create", "token", "default", "--duration=1m")
    assert "may not specify a duration less than 10 minutes" in said
    said = kubectl.fails("create", "token", "default", "--bound-object-kind=Pod", "--bound-object-name=none")
    assert 'pods "none" not found' in said


def test_certificates_are_approved_once(kubectl: Kubectl, namespace: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "someone")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    pem = base64.b64encode(request.public_bytes(serialization.Encoding.PEM)).decode()
    names = [f"{namespace}-{word}" for word in ("yes", "no")]
    for name in names:
        spec = {"request": pem, "signerName": "example.com/signer", "usages": ["client auth"]}
        manifest = {
            "apiVersion": "certificates.k8s.io/v1",
            "kind": "CertificateSigningRequest",
            "metadata": {"name": name},
            "spec": spec,
        }
        kubectl("create", "-f", "-", stdin=json.dumps(manifest))
    kubectl("certificate", "approve", names[0])
    kubectl("certificate", "deny", names[1])
    assert "Approved" in kubectl("get", "csr", names[0]) and "Denied" in kubectl("get", "csr", names[1])
    condition = {"type": "Approved", "status": "True", "reason": "R"}
    patch = json.dumps({"status": {"conditions": [condition]}})
    said = kubectl.fails("patch", "csr", names[1], "--subresource=approval", "--type=merge", "-p", patch)
    assert 'updates may not remove a condition of type "Denied"' in said
    said = kubectl.fails("patch", "csr", names[1], "--subresource=status", "--type=merge", "-p", patch)
    assert 'updates may not add a condition of type "Approved"' in said


class _Echo(http.server.BaseHTTPRequestHandler):
    """Says how it was asked."""

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        said = {
            "method": self.command,
            "path": self.path,
            "body": self.rfile.read(length).decode(),
            "authorization": self.headers.get("Authorization"),
            "uri": self.headers.get("X-Forwarded-Uri"),
        }
        if self.path.startswith("/page"):
            self._page()
            return
        body = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _page(self) -> None:
        """A page with a link, or the way to one."""
        moved = self.path == "/page/moved"
        body = b"" if moved else f'<a href="/next">{self.headers["Host"]}</a>'.encode()
        self.send_response(302 if moved else 200)
        if moved:
            self.send_header("Location", f"http://{self.headers['Host']}/page")
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = _answer

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


def own_address() -> str:
    """An address of this machine that is not loopback; "" without one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return ""
        address: str = probe.getsockname()[0]
        return "" if address.startswith("127.") else address


@pytest.fixture
def backend() -> Iterator[tuple[str, int]]:
    """A web server at an address the API server may proxy to."""
    address = own_address()
    if not address:
        pytest.skip("this machine has no address but loopback")
    server = http.server.ThreadingHTTPServer((address, 0), _Echo)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield address, server.server_address[1]
    server.shutdown()
    server.server_close()


def test_every_method_through_a_service(wire: Wire, namespace: str, backend: tuple[str, int]) -> None:
    """The service's own name begins like the subresource; only reads are redirected to a slash."""
    address, port = backend
    root = f"/api/v1/namespaces/{namespace}/services"
    body = {"metadata": {"name": "proxy-service"}, "spec": {"ports": [{"name": "http", "port": 80}]}}
    wire.send("POST", root, body).must(201)
    endpoints = {
        "metadata": {"name": "s", "labels": {"kubernetes.io/service-name": "proxy-service"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": port}],
        "endpoints": [{"addresses": [address]}],
    }
    wire.send("POST", f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices", endpoints).must(201)
    until(lambda: wire.send("GET", f"{root}/proxy-service/proxy/").status == 200)
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        data = b"hello" if method in ("POST", "PUT", "PATCH") else None
        for name in ("proxy-service", "proxy-service:http", "http:proxy-service:80"):
            base = f"{root}/{name}/proxy"
            told = wire.send(method, f"{base}/a/proxy/{method}?q=1", data)
            assert told.status == 200
            if method != "HEAD":
                expected = {
                    "method": method,
                    "path": f"/a/proxy/{method}?q=1",
                    "body": (data or b"").decode(),
                }
                assert told.json == expected | {"uri": f"{base}/a/proxy/{method}", "authorization": None}
        bare = wire.send(method, f"{base}?q=1", data)
        if method in ("GET", "HEAD"):
            assert (bare.status, bare.headers["Location"]) == (301, f"{base}/?q=1")
        else:
            assert (bare.status, bare.json["path"]) == (200, "/?q=1")


def test_links_of_proxied_pages_lead_through_the_proxy(
    kubectl: Kubectl, pod: str, namespace: str, wire: Wire, backend: tuple[str, int]
) -> None:
    pods = f"/api/v1/namespaces/{namespace}/pods"
    wire.send("GET", f"{pods}/{pod}/proxy/").must(400, "address not allowed")  # it has none yet
    wire.send("GET", f"{pods}/ftp:{pod}:80/proxy/").must(400, f'invalid pod request "ftp:{pod}:80"')
    address, port = backend
    status = {"status": {"phase": "Running", "podIPs": [{"ip": address}], "podIP": address}}
    kubectl("patch", "pod", pod, "--subresource=status", "--type=merge", "-p", json.dumps(status))
    base = f"{pods}/{pod}:{port}/proxy"
    page = wire.send("GET", f"{base}/page")
    us = wire.api.url.removeprefix("https://")
    assert page.body.decode() == f'<a href="{base}/next">{us}</a>'
    assert "Access-Control-Allow-Origin" not in page.headers
    moved = wire.send("GET", f"{base}/page/moved")
    assert (moved.status, moved.headers["Location"]) == (302, f"http://{us}{base}/page")
    refused = wire.send("GET", f"{pods}/{pod}:1/proxy/")
    assert refused.status == 503
    assert (
        refused.message == f"error trying to reach service: dial tcp {address}:1: connect: connection refused"
    )


def test_the_proxy_passes_on_everything_but_credentials(
    kubectl: Kubectl, pod: str, namespace: str, wire: Wire, backend: tuple[str, int], tmp_path: Path
) -> None:
    address, port = backend
    status = {"status": {"phase": "Running", "podIPs": [{"ip": address}]}}
    kubectl("patch", "pod", pod, "--subresource=status", "--type=merge", "-p", json.dumps(status))
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "s"},
        "spec": {"ports": [{"port": 80}]},
    }
    slices = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "s-1", "labels": {"kubernetes.io/service-name": "s"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address]}],
        "ports": [{"port": port}],
    }
    for manifest in (service, slices):
        kubectl("create", "-f", "-", stdin=json.dumps(manifest))
    base = f"/api/v1/namespaces/{namespace}"
    for target in (f"{base}/pods/{pod}:{port}/proxy", f"{base}/services/s:80/proxy"):
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            body = b"hello" if method in ("POST", "PUT", "PATCH") else None
            headers = {"Authorization": "Bearer not-for-you", "Content-Type": "text/plain"}
            answer = wire.send(method, f"{target}/a%20b/c?d=e&f=%2F", body, headers if body else {})
            said = answer.must(200)
            assert (said["method"], said["path"]) == (method, "/a%20b/c?d=e&f=%2F")
            assert said["body"] == ("hello" if body else "") and said["authorization"] is None
    assert json.loads(kubectl("get", "--raw", f"{base}/services/s:80/proxy/x"))["path"] == "/x"
    moved = wire.send("GET", f"{base}/pods/{pod}:{port}/proxy")
    assert moved.status == 301 and moved.headers["Location"].endswith("/proxy/")
    for forbidden in ("127.0.0.1", "169.254.169.254", "::1", "0.0.0.0"):
        status = {"status": {"podIPs": [{"ip": forbidden}], "podIP": forbidden}}
        kubectl("patch", "pod", pod, "--subresource=status", "--type=merge", "-p", json.dumps(status))
        wire.send("GET", f"{base}/pods/{pod}:{port}/proxy/").must(400, "address not allowed")
