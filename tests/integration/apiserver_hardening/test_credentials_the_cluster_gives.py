"""The credentials a cluster gives out: a certificate for a person, one for a node, a token in a Secret."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import kubernetes as official
import pytest
from cryptography import x509
from kubernetes.client import ApiException

from tests.integration.apiserver_hardening.conftest import Wire
from tests.support.kubectl import Kubectl, until
from tests.support.private_api import PrivateApi

TOKEN = "kubernetes.io/service-account-token"


def openssl_request(folder: Path, subject: str) -> tuple[Path, str]:
    """A new key, and a request for it as a CertificateSigningRequest carries it."""
    key, request = folder / "user.key", folder / "user.csr"
    words = ["openssl", "req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", subject]
    subprocess.run([*words, "-keyout", str(key), "-out", str(request)], check=True, capture_output=True)
    return key, base64.b64encode(request.read_bytes()).decode()


def manifest(name: str, request: str, signer: str, *usages: str, **spec: Any) -> str:
    body = {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": name},
        "spec": {"request": request, "signerName": signer, "usages": list(usages)} | spec,
    }
    return json.dumps(body)


def test_a_person_gets_a_certificate_and_rights(
    kubectl: Kubectl, private: PrivateApi, namespace: str, tmp_path: Path
) -> None:
    key, request = openssl_request(tmp_path, "/O=developers/CN=jane")
    name, signer = f"jane-{namespace}", "kubernetes.io/kube-apiserver-client"
    csr = manifest(name, request, signer, "client auth", expirationSeconds=3600)
    kubectl("apply", "-f", "-", stdin=csr)
    assert "Pending" in kubectl("get", "csr", name)
    kubectl("certificate", "approve", name)
    path = "jsonpath={.status.certificate}"
    text = until(lambda: kubectl("get", "csr", name, "-o", path), what="the certificate")
    assert "Approved,Issued" in kubectl("get", "csr", name)
    pem = base64.b64decode(text)
    signed = x509.load_pem_x509_certificate(pem)
    assert 3500 < (signed.not_valid_after_utc - signed.not_valid_before_utc).total_seconds() <= 3900
    assert not signed.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    (tmp_path / "jane.crt").write_bytes(pem)
    config = tmp_path / "jane.conf"
    jane = Kubectl(config, namespace)
    jane("config", "set-cluster", "c", f"--server={private.url}", f"--certificate-authority={private.ca}")
    jane(
        "config",
        "set-credentials",
        "jane",
        f"--client-key={key}",
        f"--client-certificate={tmp_path}/jane.crt",
    )
    jane("config", "set-context", "c", "--cluster=c", "--user=jane")
    jane("config", "use-context", "c")
    who = json.loads(jane("auth", "whoami", "-o", "json"))["status"]["userInfo"]
    assert (who["username"], who["groups"]) == ("jane", ["developers", "system:authenticated"])
    said = jane.fails("get", "pods")
    assert f'User "jane" cannot list resource "pods" in API group "" in the namespace "{namespace}"' in said
    kubectl("create", "role", "reader", "--verb=get,list", "--resource=pods")
    kubectl("create", "rolebinding", "jane", "--role=reader", "--user=jane")
    until(lambda: jane.run("get", "pods").returncode == 0, what="the right")


def test_what_a_signer_does_not_take_fails_with_the_reason(
    kubectl: Kubectl, namespace: str, tmp_path: Path
) -> None:
    _, request = openssl_request(tmp_path, "/O=system:nodes/CN=system:node:n1")
    signer, name = "kubernetes.io/kubelet-serving", f"n1-{namespace}"
    usages = ("digital signature", "key encipherment", "server auth")
    kubectl("create", "-f", "-", stdin=manifest(name, request, signer, *usages))
    kubectl("certificate", "approve", name)
    until(lambda: "Approved,Failed" in kubectl("get", "csr", name), what="the failure")
    failed = kubectl.json("get", "csr", name)["status"]["conditions"][-1]
    assert failed["reason"] == "SignerValidationFailure"
    assert failed["message"] == "DNS or IP subjectAltName is required"
    masters = openssl_request(tmp_path, "/O=system:masters/CN=eve")[1]
    client = "kubernetes.io/kube-apiserver-client"
    said = kubectl.fails(
        "create", "-f", "-", stdin=manifest(f"eve-{namespace}", masters, client, "client auth")
    )
    assert "signer with system:masters group is not allowed" in said
    # A kubelet's own client certificate approves itself, for whoever has that right and for nobody else.
    kubelet = manifest(
        f"k-{namespace}", request, f"{client}-kubelet", "digital signature", "key encipherment", "client auth"
    )
    role = "system:certificates.k8s.io:certificatesigningrequests:nodeclient"
    starter = ["--as=starter", "--as-group=system:bootstrappers"]
    kubectl("create", "clusterrolebinding", f"a-{namespace}", f"--clusterrole={role}", "--user=starter")
    bootstrapper = "--clusterrole=system:node-bootstrapper"
    kubectl("create", "clusterrolebinding", f"b-{namespace}", bootstrapper, "--user=starter")
    until(lambda: kubectl.run(*starter, "get", "csr").returncode == 0, what="the right to ask")
    kubectl(*starter, "create", "-f", "-", stdin=kubelet)
    until(lambda: "Approved,Issued" in kubectl("get", "csr", f"k-{namespace}"), what="the certificate")
    approved = kubectl.json("get", "csr", f"k-{namespace}")["status"]["conditions"][0]
    assert (approved["reason"], approved["message"]) == (
        "AutoApproved",
        "Auto approving kubelet client certificate after SubjectAccessReview.",
    )


def test_a_secret_of_an_account_is_filled_and_dies_with_it(
    private: PrivateApi, wire: Wire, namespace: str
) -> None:
    api = official.config.new_client_from_config(str(private.kubeconfig))
    core = official.client.CoreV1Api(api)
    account = official.client.V1ServiceAccount(metadata=official.client.V1ObjectMeta(name="robot"))
    made = core.create_namespaced_service_account(namespace, account)
    meta = official.client.V1ObjectMeta(
        name="robot-token", annotations={"kubernetes.io/service-account.name": "robot"}
    )
    core.create_namespaced_secret(namespace, official.client.V1Secret(metadata=meta, type=TOKEN))

    def filled() -> Any:
        secret = core.read_namespaced_secret("robot-token", namespace)
        return secret if secret.data else None

    secret = until(filled, what="the token")
    assert base64.b64decode(secret.data["ca.crt"]) == private.ca.read_bytes()
    assert base64.b64decode(secret.data["namespace"]).decode() == namespace
    assert secret.metadata.annotations["kubernetes.io/service-account.uid"] == made.metadata.uid
    config = official.client.Configuration()
    config.host, config.ssl_ca_cert = private.url, str(private.ca)
    config.api_key = {"authorization": "Bearer " + base64.b64decode(secret.data["token"]).decode()}
    robot = official.client.AuthenticationV1Api(official.client.ApiClient(config))
    ask = official.client.V1SelfSubjectReview()
    who = robot.create_self_subject_review(ask).status.user_info
    assert who.username == f"system:serviceaccount:{namespace}:robot"
    core.delete_namespaced_service_account("robot", namespace)
    with pytest.raises(ApiException) as refused:
        robot.create_self_subject_review(ask)
    assert refused.value.status == 401
    path = f"/api/v1/namespaces/{namespace}/secrets/robot-token"
    until(lambda: wire.send("GET", path).status == 404, what="the secret is removed")


def test_a_machine_becomes_a_node_with_nothing_but_a_bootstrap_token(
    kubectl: Kubectl, private: PrivateApi, namespace: str, tmp_path: Path
) -> None:
    data = {
        "token-id": "abcdef",
        "token-secret": "0123456789abcdef",
        "usage-bootstrap-authentication": "true",
        "auth-extra-groups": "system:bootstrappers:worker",
    }
    meta = {"name": "bootstrap-token-abcdef", "namespace": "kube-system"}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": "bootstrap.kubernetes.io/token"}
    kubectl("-n", "kube-system", "create", "-f", "-", stdin=json.dumps(secret | {"stringData": data}))
    machine = [
        f"--server={private.url}",
        f"--certificate-authority={private.ca}",
        "--token=abcdef.0123456789abcdef",
        "--kubeconfig=/dev/null",
    ]
    who = json.loads(kubectl(*machine, "auth", "whoami", "-o", "json"))["status"]["userInfo"]
    assert who["username"] == "system:bootstrap:abcdef"
    assert who["groups"] == ["system:bootstrappers", "system:bootstrappers:worker", "system:authenticated"]
    approving = "system:certificates.k8s.io:certificatesigningrequests:nodeclient"
    for name, role in (("ask", "system:node-bootstrapper"), ("approve", approving)):
        group = "--group=system:bootstrappers:worker"
        kubectl("create", "clusterrolebinding", f"{name}-{namespace}", f"--clusterrole={role}", group)
    key, request = openssl_request(tmp_path, "/O=system:nodes/CN=system:node:n9")
    usages = ("digital signature", "key encipherment", "client auth")
    csr = manifest(f"n9-{namespace}", request, "kubernetes.io/kube-apiserver-client-kubelet", *usages)
    until(lambda: kubectl.run(*machine, "get", "csr").returncode == 0, what="the right to ask")
    kubectl(*machine, "create", "-f", "-", stdin=csr)
    path = "jsonpath={.status.certificate}"
    text = until(
        lambda: kubectl(*machine, "get", "csr", f"n9-{namespace}", "-o", path), what="the certificate"
    )
    (tmp_path / "n9.crt").write_bytes(base64.b64decode(text))
    node = [*machine[:2], f"--client-certificate={tmp_path}/n9.crt", f"--client-key={key}", machine[3]]
    assert 'nodes "n9" not found' in kubectl.fails(*node, "get", "node", "n9")
    # The token goes when its time has come.
    past = base64.b64encode(b"2020-01-01T00:00:00Z").decode()
    change = json.dumps({"data": {"expiration": past}})
    kubectl("-n", "kube-system", "patch", "secret", "bootstrap-token-abcdef", "-p", change)
    gone = ["-n", "kube-system", "get", "secret", "bootstrap-token-abcdef"]
    until(lambda: kubectl.run(*gone).returncode != 0, what="the token is removed")
    assert "You must be logged in to the server" in kubectl.fails(*machine, "get", "csr")
