"""ClusterTrustBundles from kubectl to the files of a pod, with an API server that is asked to serve them.

etcd, the API server, containerd and the node agent are processes; what a pod shows is read where its volume lies.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import kubernetes
import pytest

from bamikube.kit.world import World
from bamikube.pki.authority import Authority
from tests.support.kubectl import Kubectl, until
from tests.support.one_node import OneNode, is_ready
from tests.support.private_containerd import images, network_namespace

FLAGS = (
    "--feature-gates=ClusterTrustBundle=true,ClusterTrustBundleProjection=true",
    "--runtime-config=certificates.k8s.io/v1beta1/clustertrustbundles=true",
)
FIRST, SECOND, THIRD = (Authority.create(name, World()).certificate_pem.decode() for name in "abc")
SOURCES = [
    {"clusterTrustBundle": {"name": "roots", "path": "roots.pem"}},
    {"clusterTrustBundle": {"signerName": "lab.test/web", "labelSelector": {}, "path": "web.pem"}},
    {"clusterTrustBundle": {"name": "none", "path": "none.pem", "optional": True}},
]
ATTESTS = """
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: attests}
rules: [{apiGroups: [certificates.k8s.io], resources: [signers], resourceNames: ["lab.test/*"], verbs: [attest]}]
"""


@pytest.fixture
def node() -> Iterator[OneNode]:
    base = Path(tempfile.mkdtemp(prefix="bami-t-", dir="/var/tmp"))
    with network_namespace(), OneNode(base, images(), api_flags=FLAGS) as made:
        yield made


def bundle(name: str, text: str, signer: str = "") -> str:
    spec = {"trustBundle": text} | ({"signerName": signer} if signer else {})
    body = {"apiVersion": "certificates.k8s.io/v1beta1", "kind": "ClusterTrustBundle"}
    return json.dumps(body | {"metadata": {"name": name}, "spec": spec})


def test_trust_anchors_reach_a_pod_and_follow_their_bundles(node: OneNode) -> None:
    kubectl = Kubectl(node.api.kubeconfig)
    # The pod waits for what is not there yet, and says for what.
    mounts = [{"name": "trust", "mountPath": "/trust"}]
    app = {"name": "app", "command": ["sleep", "1000"], "volumeMounts": mounts}
    made = node.create(
        "shows", {"containers": [app], "volumes": [{"name": "trust", "projected": {"sources": SOURCES}}]}
    )
    missing = (
        'MountVolume.SetUp failed for volume "trust" : [while getting ClusterTrustBundle: '
        'clustertrustbundle.certificates.k8s.io "roots" not found, '
        "combination of signerName and labelSelector matched zero ClusterTrustBundles]"
    )
    until(lambda: missing in kubectl("get", "events", "-o", "jsonpath={.items[*].message}"))

    kubectl("create", "-f", "-", stdin=bundle("roots", FIRST))
    refused = kubectl.run("create", "-f", "-", stdin=bundle("bad", "nothing"))
    assert 'spec.trustBundle: Invalid value: "<value omitted>": at least one trust anchor' in refused.stderr
    web = bundle("lab.test:web:one", FIRST + SECOND, "lab.test/web")
    kubectl("create", "clusterrole", "bundler", "--verb=create,get", "--resource=clustertrustbundles")
    kubectl("create", "clusterrolebinding", "bundler", "--clusterrole=bundler", "--user=jane")
    refused = kubectl.run("create", "--as=jane", "-f", "-", stdin=web)
    assert 'user not permitted to attest for signerName "lab.test/web"' in refused.stderr
    kubectl("create", "-f", "-", stdin=ATTESTS)
    kubectl("create", "clusterrolebinding", "attests", "--clusterrole=attests", "--user=jane")
    until(lambda: kubectl.run("create", "--as=jane", "-f", "-", stdin=web).returncode == 0)
    shown = kubectl("get", "clustertrustbundles").split()
    assert shown == ["NAME", "SIGNERNAME", "lab.test:web:one", "lab.test/web", "roots", "<none>"]
    assert "trustBundle" in kubectl("explain", "clustertrustbundles.spec")

    until(lambda: is_ready(node.get("pods", "shows", "default")))
    volume = node.root / "pods" / made["metadata"]["uid"] / "volumes/kubernetes.io~projected/trust"
    assert (volume / "roots.pem").read_text() == FIRST
    text = (volume / "web.pem").read_text()
    assert text in (FIRST + SECOND, SECOND + FIRST) and (volume / "none.pem").read_text() == ""

    # Another independent client changes a bundle; the pod's file follows.
    kubernetes.config.load_kube_config(str(node.api.kubeconfig))
    bundles = kubernetes.client.CertificatesV1beta1Api()
    bundles.patch_cluster_trust_bundle("roots", {"spec": {"trustBundle": THIRD}})
    until(lambda: (volume / "roots.pem").read_text() == THIRD)
    chosen = bundles.list_cluster_trust_bundle(field_selector="spec.signerName=lab.test/web")
    assert [one.metadata.name for one in chosen.items] == ["lab.test:web:one"]
    may = ("auth", "can-i", "list", "clustertrustbundles", "--as=system:serviceaccount:default:default")
    assert kubectl(*may, "--as-group=system:serviceaccounts").strip() == "yes"
