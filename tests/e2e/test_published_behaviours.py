"""Published conformance behaviours that need a whole cluster: an application of several services, and tokens in pods.

``Kubectl, guestbook application``, ``Service Account Tokens Must AutoMount``, ``Service account tokens auto mount
optionally``, ``TokenRequestProjection``, and that whoever is shown a token can check it by what the issuer publishes.
"""

from __future__ import annotations

import base64
import itertools
import json
import ssl
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.kubectl import Kubectl, until

pytestmark = pytest.mark.e2e

# A guestbook of three layers: what is written goes through the frontend to the primary, what is read comes from a replica.
PRIMARY = """
cat > get <<'EOF'
#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\n'; cat /tmp/entries
EOF
cat > set <<'EOF'
#!/bin/sh
echo "$QUERY_STRING" >> /tmp/entries; printf 'Content-Type: text/plain\\r\\n\\r\\nUpdated\\n'
EOF
touch /tmp/entries
"""
REPLICA = """
cat > get <<'EOF'
#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\n'; wget -q -O - http://primary:6379/cgi-bin/get
EOF
"""
FRONTEND = """
cat > guestbook <<'EOF'
#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\n'
case "$QUERY_STRING" in
  set*) wget -q -O - "http://primary:6379/cgi-bin/set?${QUERY_STRING#set=}" ;;
  *) wget -q -O - http://replica:6379/cgi-bin/get ;;
esac
EOF
"""
LAYERS = (("primary", 1, 6379, PRIMARY), ("replica", 2, 6379, REPLICA), ("frontend", 3, 80, FRONTEND))


@pytest.fixture(scope="module")
def k(kubeconfig: str) -> Iterator[Kubectl]:
    kubectl = Kubectl(Path(kubeconfig))
    kubectl("create", "namespace", "published")
    yield kubectl.within("published")
    kubectl("delete", "namespace", "published", "--wait=true", timeout=120)


def layer(name: str, replicas: int, port: int, scripts: str) -> list[dict[str, Any]]:
    labels = {"app": "guestbook", "tier": name}
    serve = f"mkdir -p /tmp/www/cgi-bin && cd /tmp/www/cgi-bin\n{scripts}\nchmod +x *; exec httpd -f -p {port} -h /tmp/www"
    container = {
        "name": name,
        "image": "busybox",
        "command": ["sh", "-c", serve],
        "ports": [{"containerPort": port}],
        "readinessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 1},
    }
    template = {
        "metadata": {"labels": labels},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
    }
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "labels": labels}, "spec": {"ports": [{"port": port}], "selector": labels}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec},
    ]  # fmt: skip


def test_a_guestbook_keeps_what_is_written_into_it(k: Kubectl) -> None:
    items = [each for one in LAYERS for each in layer(*one)]
    k("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    for name, *_ in LAYERS:
        k("rollout", "status", f"deployment/{name}", "--timeout=60s", timeout=70)
    assert len(k("get", "pods", "-l", "app=guestbook", "-o", "name").split()) == 6

    def ask(query: str) -> str:
        return k(
            "get",
            "--raw",
            f"/api/v1/namespaces/published/services/frontend:80/proxy/cgi-bin/guestbook?{query}",
        )

    until(lambda: ask("get") == "", timeout=20)
    assert ask("set=TestEntry") == "Updated\n"
    until(lambda: ask("get") == "TestEntry\n", timeout=20)
    ask("set=Another")
    assert {ask("get") for _ in range(6)} == {"TestEntry\nAnother\n"}
    for name in ("frontend", "replica"):  # neither keeps anything itself
        k("rollout", "restart", f"deployment/{name}")
        k("rollout", "status", f"deployment/{name}", "--timeout=60s", timeout=70)
    until(lambda: ask("get") == "TestEntry\nAnother\n", timeout=20)


FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"


def test_every_container_finds_the_token_the_authority_and_the_namespace(k: Kubectl) -> None:
    files = ("token", "ca.crt", "namespace")
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "reader"},
        "spec": {
            "restartPolicy": "Never",
            "containers": [
                {"name": f"c{number}", "image": "busybox", "command": ["cat", f"{FOLDER}/{file}"]}
                for number, file in enumerate(files)
            ],
        },
    }
    k("apply", "-f", "-", stdin=json.dumps(pod))
    until(lambda: k("get", "pod", "reader", "-o", "jsonpath={.status.phase}") == "Succeeded", timeout=30)
    token, authority, namespace = (k("logs", "reader", "-c", f"c{number}") for number in range(3))
    claims = claims_of(token)
    assert claims["sub"] == "system:serviceaccount:published:default"
    assert claims["kubernetes.io"]["pod"]["name"] == "reader"
    assert authority.startswith("-----BEGIN CERTIFICATE-----")
    assert (
        authority.strip()
        == k("get", "configmap", "kube-root-ca.crt", "-o", "jsonpath={.data.ca\\.crt}").strip()
    )
    assert namespace == "published"


def claims_of(token: str) -> dict[str, Any]:
    body = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return found


def test_tokens_are_mounted_as_pod_and_account_want_it(k: Kubectl) -> None:
    says = {"nil": None, "true": True, "false": False}
    for name, mounts in says.items():
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": f"mount-{name}"}}
        k(
            "apply",
            "-f",
            "-",
            stdin=json.dumps(account | ({} if mounts is None else {"automountServiceAccountToken": mounts})),
        )
    pods = []
    for (pod, wants), account in itertools.product(says.items(), says):
        container = {"name": "c", "image": "busybox", "command": ["sh", "-c", f"ls {FOLDER} 2>&1 || true"]}
        spec = {"restartPolicy": "Never", "serviceAccountName": f"mount-{account}", "containers": [container]}
        spec |= {} if wants is None else {"automountServiceAccountToken": wants}
        pods.append({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"{pod}-{account}", "labels": {"matrix": "yes"}}, "spec": spec})  # fmt: skip
    k("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": pods}))
    phases = "jsonpath={.items[*].status.phase}"
    until(lambda: k("get", "pods", "-l", "matrix=yes", "-o", phases).split() == ["Succeeded"] * 9, timeout=60)
    mounted = {one["metadata"]["name"] for one in pods if "token" in k("logs", one["metadata"]["name"])}
    assert mounted == {"nil-nil", "nil-true", "true-nil", "true-true", "true-false"}


def test_a_projected_token_has_its_audience_and_the_issuer_tells_how_to_check_it(k: Kubectl) -> None:
    source = {"serviceAccountToken": {"path": "vault", "audience": "vault", "expirationSeconds": 7200}}
    container = {
        "name": "c",
        "image": "busybox",
        "command": ["sh", "-c", f"cat /tokens/vault; echo; cat {FOLDER}/token"],
        "volumeMounts": [{"name": "tokens", "mountPath": "/tokens"}],
    }
    spec = {
        "restartPolicy": "Never",
        "containers": [container],
        "volumes": [{"name": "tokens", "projected": {"sources": [source]}}],
    }
    k(
        "apply",
        "-f",
        "-",
        stdin=json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "oidc"}, "spec": spec}),
    )
    until(
        lambda: k("get", "pod", "oidc", "-o", "jsonpath={.status.phase}") in ("Succeeded", "Failed"),
        timeout=30,
    )
    projected, own = k("logs", "oidc").splitlines()
    claims = claims_of(projected)
    assert claims["aud"] == ["vault"] and claims["exp"] - claims["iat"] == 7200
    view = k.json("config", "view", "--raw")["clusters"][0]["cluster"]
    trust = ssl.create_default_context(cadata=base64.b64decode(view["certificate-authority-data"]).decode())

    def published(path: str) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{view['server']}/{path}", headers={"Authorization": f"Bearer {own}"}
        )
        with urllib.request.urlopen(request, context=trust, timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    page, keys = published(".well-known/openid-configuration"), published("openid/v1/jwks")
    assert page["issuer"] == claims["iss"] and page["jwks_uri"].endswith("/openid/v1/jwks")
    header = json.loads(base64.urlsafe_b64decode(projected.split(".")[0] + "=="))
    assert header["kid"] in {key["kid"] for key in keys["keys"]}
