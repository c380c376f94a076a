"""A node whose client certificate is about to end asks for a new one, and is there when the old one has ended."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from cryptography import x509

from bamikube.kit.world import World
from bamikube.pki import issue, kubeconfig
from bamikube.pki.authority import Authority, Request
from bamikube.pki.profiles import ClusterNames

NODE = "worker-1"
HEAD = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"
BINDING = "t-nodes-renew-themselves"
ROLE = "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient"
SECONDS = 40  # the certificate that ends is good for


@pytest.mark.slow
def test_a_node_renews_the_certificate_it_is_known_by(
    lab: Any, kubectl: Any, eventually: Callable[..., Any]
) -> None:
    disk = lab.folder / "nodes" / NODE / "disk"
    file, current = (
        disk / "etc-kubernetes" / "kubelet.conf",
        disk / "var-lib-kubelet" / "pki" / "kubelet-client-current.pem",
    )
    given = disk / "etc-kubernetes" / "kubelet.conf.d" / "60-test.conf"
    before = file.read_bytes()
    pki = lab.folder / "nodes" / "master" / "disk" / "etc-kubernetes" / "pki"
    authority = Authority.load(pki / "ca.crt", pki / "ca.key", World())
    name = f"system:node:{NODE}"
    short = authority.issue(Request(name, ("system:nodes",), client=True, lifetime=SECONDS))
    ends = x509.load_pem_x509_certificate(short.certificate_pem).not_valid_after_utc.timestamp()
    cluster = ClusterNames(server=kubeconfig.load(file).server)

    def renewed() -> float:
        lease = json.loads(kubectl("get", "lease", NODE, "-n", "kube-node-lease", "-o", "json"))
        return datetime.fromisoformat(lease["spec"]["renewTime"]).timestamp()

    kubectl("create", "clusterrolebinding", BINDING, f"--clusterrole={ROLE}", "--group=system:nodes")
    try:
        kubeconfig.write(file, issue.access(cluster, name, authority, short))
        given.write_text(HEAD + "rotateCertificates: true\n")
        lab("node", "restart-unit", NODE, "nodeagent")
        eventually(current.is_file, 30, "a new certificate")
        made = x509.load_pem_x509_certificate(current.read_bytes())
        assert made.not_valid_after_utc.timestamp() > ends + 3600
        requests = json.loads(kubectl("get", "csr", "-o", "json"))["items"]
        (request,) = [one for one in requests if one["spec"]["username"] == name]
        assert request["spec"]["signerName"] == "kubernetes.io/kube-apiserver-client-kubelet"
        (approved,) = request["status"]["conditions"]
        assert (approved["type"], approved["reason"]) == ("Approved", "AutoApproved")
        # The old one has ended, by the clock of everybody: the node is known by the new one, also after a restart.
        eventually(lambda: time.time() > ends and renewed() > ends + 1, SECONDS + 40, "a lease written later")
        lab("node", "restart-unit", NODE, "nodeagent")
        again = time.time()
        eventually(lambda: renewed() > again, 40, "a lease written after the restart")
        kubectl("wait", "--for=condition=Ready", f"node/{NODE}", "--timeout=30s")
    finally:
        file.write_bytes(before)
        given.unlink(missing_ok=True)
        current.unlink(missing_ok=True)
        lab("node", "restart-unit", NODE, "nodeagent")
        kubectl("delete", "clusterrolebinding", BINDING)
