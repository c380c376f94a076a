"""Objects that the API server keeps about itself, as kubectl shows them."""

from __future__ import annotations

import base64
import json
import socket
from datetime import UTC, date, datetime

from bamikube.apiserver.identity_lease import lease_name
from tests.support.kubectl import Kubectl, until
from tests.support.private_api import PrivateApi

SYSTEM = ("-n", "kube-system")


def test_the_servers_lease_is_renewed_under_the_hosts_name(kubectl: Kubectl) -> None:
    selector = "-l", "apiserver.kubernetes.io/identity=kube-apiserver"
    found = until(
        lambda: json.loads(kubectl(*SYSTEM, "get", "leases", *selector, "-o", "json"))["items"],
        what="the lease",
    )
    assert [one["metadata"]["name"] for one in found] == [lease_name(socket.gethostname())]
    assert found[0]["spec"]["holderIdentity"].startswith(found[0]["metadata"]["name"] + "_")
    assert found[0]["spec"]["leaseDurationSeconds"] == 3600


def test_uses_of_a_secrets_token_are_dated_and_an_auto_generated_one_warns(
    kubectl: Kubectl, private: PrivateApi, namespace: str
) -> None:
    tracking = "kube-apiserver-legacy-service-account-token-tracking"
    since = kubectl(*SYSTEM, "get", "configmap", tracking, "-o", "jsonpath={.data.since}")
    assert date.fromisoformat(since) <= datetime.now(UTC).date()
    kubectl("create", "serviceaccount", "bot")
    meta = {"name": "bot-token", "annotations": {"kubernetes.io/service-account.name": "bot"}}
    made = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/service-account-token",
        "metadata": meta,
    }
    kubectl("create", "-f", "-", stdin=json.dumps(made))
    read = ["get", "secret", "bot-token", "-o"]
    token = until(lambda: kubectl(*read, "jsonpath={.data.token}"), what="the token")
    # The administrator's kubeconfig without his certificate.
    as_bot = [
        f"--server={private.url}",
        f"--certificate-authority={private.ca}",
        f"--token={base64.b64decode(token).decode()}",
        "--kubeconfig=/dev/null",
    ]
    assert kubectl.run(*as_bot, "auth", "whoami").returncode == 0
    label = r"jsonpath={.metadata.labels.kubernetes\.io/legacy-token-last-used}"
    until(lambda: kubectl(*read, label) in (str(datetime.now(UTC).date()), since), what="the date")
    kubectl("patch", "serviceaccount", "bot", "-p", '{"secrets": [{"name": "bot-token"}]}')
    said = until(lambda: kubectl.run(*as_bot, "auth", "whoami").stderr, what="the warning")
    assert "Warning: Use tokens from the TokenRequest API or manually created secret-based tokens" in said
    kubectl("label", "secret", "bot-token", "kubernetes.io/legacy-token-invalid-since=2026-01-01")
    until(lambda: kubectl.run(*as_bot, "auth", "whoami").returncode != 0, what="the refusal")
    metrics = kubectl("get", "--raw", "/metrics")
    for name in ("invalid_legacy_auto_token_uses", "legacy_manual_token_uses", "legacy_auto_token_uses"):
        value = next(
            line for line in metrics.splitlines() if line.startswith(f"serviceaccount_{name}_total ")
        )
        assert float(value.split()[1]) >= 1, value
