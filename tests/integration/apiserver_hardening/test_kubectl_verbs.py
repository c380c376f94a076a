"""kubectl's rarer verbs and generators, with an old and a new client: what they print, and what is there afterwards."""

from __future__ import annotations

import datetime
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.kubectl import Kubectl, find_kubectl, until
from tests.support.private_api import PrivateApi

from .conftest import Wire


@pytest.fixture(autouse=True)
def _settled(wire: Wire, namespace: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The namespace has its service account; kubectl keeps its cache here."""
    monkeypatch.setenv("HOME", str(tmp_path))
    until(lambda: wire.send("GET", f"/api/v1/namespaces/{namespace}/serviceaccounts/default").status == 200)


@pytest.fixture(params=["1.27", "1.33"])
def k(request: pytest.FixtureRequest, private: PrivateApi, namespace: str) -> Kubectl:
    path = find_kubectl(request.param)
    if request.param not in path and request.param != "1.33":
        pytest.skip(f"no kubectl {request.param} here")
    return Kubectl(private.kubeconfig, namespace, path)


# What is typed, and what kubectl says of it: everything (made) or the words that matter (refused).
MADE = [
    ("cronjob cj --image=i --schedule=@daily", "cronjob.batch/cj created"),
    ("job j --from=cronjob/cj", "job.batch/j created"),
    (
        "ingress ing --rule=a.io/b=svc:80,tls=cert --rule=a.io/p*=svc:http --default-backend=d:80",
        "ingress.networking.k8s.io/ing created",
    ),
    ("pdb p --selector=a=b --max-unavailable=50%", "poddisruptionbudget.policy/p created"),
    ("quota q --hard=pods=9 --scopes=BestEffort", "resourcequota/q created"),
    ("secret docker-registry s --docker-username=u --docker-password=p", "secret/s created"),
    ("service externalname e --external-name=a.io", "service/e created"),
    ("role r --verb=get --resource=pods,replicasets.apps/scale", "role.rbac.authorization.k8s.io/r created"),
]
REFUSED = [
    (
        "cronjob c --image=i --schedule=*/5",
        'spec.schedule: Invalid value: "*/5": expected exactly 5 fields, found 1: [*/5]',
    ),
    (
        "quota x --hard=cpu=1 --scopes=BestEffort",
        'spec.scopes: Invalid value: ["BestEffort"]: unsupported scope applied to resource',
    ),
    ("token default --duration=1m", "may not specify a duration less than 10 minutes"),
    ("service nodeport n --tcp=80 --node-port=10", "The range of valid ports is 30000-32767"),
    ("priorityclass system-x --value=1", "priority class names with 'system-' prefix are reserved"),
]


def test_generators(k: Kubectl) -> None:
    for words, said in MADE:
        assert k("create", *words.split()) == f"{said}\n", words
    for words, said in REFUSED:
        assert said in k.fails("create", *words.split()), words
    (rule,) = {one["host"]: one for one in k.json("get", "ingress", "ing")["spec"]["rules"]}.values()
    assert [path["pathType"] for path in rule["http"]["paths"]] == ["Exact", "Prefix"]
    assert k.json("get", "job", "j")["metadata"]["annotations"] == {
        "cronjob.kubernetes.io/instantiate": "manual"
    }


def test_pods_without_a_node(k: Kubectl) -> None:
    """They have said nothing, which is no error; they cannot be entered; containers can be added to them."""
    k("run", "p", "--image=i")
    assert k("logs", "p") == "" and k("logs", "p", "-f") == ""
    assert "container x is not valid for pod p" in k.fails("logs", "p", "-c", "x")
    refused = "Error from server (BadRequest): pod p does not have a host assigned"
    assert refused in k.fails("exec", "p", "--", "ls")
    k("debug", "p", "--image=busybox", "-c", "dbg", "--attach=false")
    k("debug", "p", "--image=busybox", "--copy-to=copy", "--attach=false")
    assert [one["name"] for one in k.json("get", "pod", "p")["spec"]["ephemeralContainers"]] == ["dbg"]
    assert len(k.json("get", "pod", "copy")["spec"]["containers"]) == 2


def test_explaining_values(k: Kubectl) -> None:
    told = [line.strip() for line in k("explain", "service.spec.type").splitlines()]
    values = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]
    first = told.index("Possible enum values:") + 1
    assert told[first : first + 4] == [f'- `"{value}"`' for value in values]
    if "1.27" not in k.path:
        assert told[told.index("ENUM:") + 1 :][:4] == values
        assert "enum: Always, Never, OnFailure" in k("explain", "pod.spec", "--recursive")


def test_what_is_empty_makes_no_difference(k: Kubectl) -> None:
    """An empty map is no map, whoever sends it: nothing to write, nothing for diff to show."""
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "labels": {}}, "data": {}}
    k("create", "-f", "-", stdin=json.dumps(body))
    made = k.json("get", "configmap", "c")
    assert "data" not in made and "labels" not in made["metadata"]
    assert k.run("diff", "-f", "-", stdin=json.dumps(body)).returncode == 0
    assert (
        k("patch", "configmap", "c", "-p", '{"metadata":{"annotations":{}}}')
        == "configmap/c patched (no change)\n"
    )
    k("label", "configmap", "c", "a=b")
    k("label", "configmap", "c", "a-")
    assert "labels" not in k.json("get", "configmap", "c")["metadata"]


def test_events_name_the_controller_that_wrote_them(k: Kubectl) -> None:
    k("create", "deployment", "web", "--image=i")
    until(lambda: "deployment-controller  Scaled up replica set" in k("describe", "deployment", "web"))
    until(lambda: "replicaset-controller  Created pod" in k("describe", "replicaset", "-l", "app=web"))
    (event,) = k.json("get", "events", "--field-selector=reason=ScalingReplicaSet")["items"]
    assert event["reportingComponent"] == event["source"]["component"] == "deployment-controller"


def test_what_was_applied_last(k: Kubectl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is shown, set and edited; and the next apply takes away what it says was there."""

    def body(**data: str) -> str:
        return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": data})

    def last() -> Any:
        return json.loads(k("apply", "view-last-applied", "configmap/c", "-o", "json"))["data"]

    k("create", "-f", "-", stdin=body(a="1", b="2"))
    path = tmp_path / "c.json"
    path.write_text(body(a="1", b="2"))
    assert "configured" in k("apply", "set-last-applied", "--create-annotation", "-f", str(path))
    assert last() == {"a": "1", "b": "2"}
    assert k("apply", "-f", "-", stdin=body(a="1")) == "configmap/c configured\n"
    assert k.json("get", "configmap", "c")["data"] == {"a": "1"}, (
        "b was said to be applied, and is not any more"
    )
    monkeypatch.setenv("KUBE_EDITOR", 'sed -i \'s/a: "1"/a: "9"/\'')
    assert k("apply", "edit-last-applied", "configmap/c") == "configmap/c edited\n"
    assert last() == {"a": "9"} and k.json("get", "configmap", "c")["data"] == {"a": "1"}
    assert (
        k("apply", "--server-side", "-f", "-", stdin=body(a="1", d="5")) == "configmap/c serverside-applied\n"
    )
    assert last() == {"a": "1", "d": "5"}, "kept up to date for those who still apply at their side"


def test_apply_sets_and_reconciling(k: Kubectl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBECTL_APPLYSET", "true")
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    for path in (one, two):
        path.write_text(
            json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": path.stem}})
        )
    apply = ("apply", "--prune", "--applyset=set", "-f", str(one))
    assert k(*apply, "-f", str(two)) == "configmap/one created\nconfigmap/two created\n"
    assert k(*apply) == "configmap/one unchanged\nconfigmap/two pruned\n"
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "r", "namespace": k.namespace},
        "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}],
    }
    assert "r reconciled\n" in k("auth", "reconcile", "-f", "-", stdin=json.dumps(role))
    assert k("create", "rolebinding", "b", "--role=r", "--user=joe").endswith("created\n")
    assert k("auth", "can-i", "get", "pods", "--as=joe") == "yes\n"
    assert 'cannot list resource "pods" in API group ""' in k.fails("get", "pods", "--as=joe")


def expired(authority: Path) -> tuple[bytes, bytes]:
    """A client certificate of yesterday, and its key, in PEM."""
    ca = x509.load_pem_x509_certificate(authority.with_suffix(".crt").read_bytes())
    signer: Any = serialization.load_pem_private_key(authority.with_suffix(".key").read_bytes(), None)
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "joe")]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=2))
        .not_valid_after(now - datetime.timedelta(days=1))
        .sign(signer, hashes.SHA256())
    )
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    pem = serialization.Encoding.PEM
    return made.public_bytes(pem), key.private_bytes(pem, *form)


def test_an_expired_certificate_is_unauthorized(private: PrivateApi, tmp_path: Path) -> None:
    """kubectl is told so, not hung up on; and so is whoever goes on to use a token of no use."""
    for name, pem in zip(("joe.crt", "joe.key"), expired(private.home / "pki/ca"), strict=True):
        (tmp_path / name).write_bytes(pem)
    server = (f"--server={private.url}", f"--certificate-authority={private.ca}", "get", "pods")
    for credentials in (
        (f"--client-certificate={tmp_path}/joe.crt", f"--client-key={tmp_path}/joe.key"),
        ("--token=nonsense",),
    ):
        done = subprocess.run(
            [find_kubectl(), "--kubeconfig=/dev/null", *server, *credentials],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert "error: You must be logged in to the server" in done.stderr


def test_discovery_in_the_forms_people_ask_for(wire: Wire) -> None:
    """Indented for curl, YAML for whoever wants it; and a document whose address has its hash is kept by clients."""
    for path in ("/api", "/apis", "/apis/apps", "/apis/apps/v1"):
        plain, curled = (
            wire.send("GET", path, headers=headers) for headers in ({}, {"User-Agent": "curl/8.1.2"})
        )
        assert plain.json == curled.json and curled.body.startswith(b'{\n  "kind": "API')
        written = wire.send("GET", path, headers={"Accept": "application/yaml"})
        assert written.headers["Content-Type"] == "application/yaml" and b"kind: API" in written.body
    where = wire.send("GET", "/openapi/v3").json["paths"]["apis/apps/v1"]["serverRelativeURL"]
    assert "max-age=" in wire.send("GET", where).headers["Cache-Control"]
