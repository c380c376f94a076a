"""A KubeletConfiguration given to a lab that runs: node agents begin anew by it, their containers do not notice."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

HEAD = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"
WORKER = "worker-1"


@pytest.mark.slow
def test_node_agents_of_a_running_lab_take_a_configuration(
    lab: Any, kubectl: Any, namespace: str, eventually: Callable[..., Any], tmp_path: Path
) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "stays"},
        "spec": {
            "nodeName": WORKER,
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "app", "image": "busybox", "command": ["sleep", "1000"]}],
        },
    }
    (tmp_path / "pod.json").write_text(json.dumps(pod))
    kubectl("apply", "-n", namespace, "-f", str(tmp_path / "pod.json"))
    kubectl("wait", "-n", namespace, "--for=condition=Ready", "pod/stays", "--timeout=60s")
    started = (
        "get",
        "pod",
        "stays",
        "-n",
        namespace,
        "-o",
        "jsonpath={.status.containerStatuses[0].containerID}",
    )
    before = kubectl(*started)
    mine = tmp_path / "mine.yaml"
    mine.write_text(HEAD + "podsPerCore: 3\nmaxPods: 40\nnodeStatusUpdateFrequency: 5s\n")
    folders = sorted(lab.folder.glob("nodes/*/disk/etc-kubernetes/kubelet.conf.d"))
    assert len(folders) == 3
    try:
        said = lab("up", "--kubelet-config", str(mine)).stdout
        assert "have the configuration given" in said
        node = ("get", "node", WORKER, "-o", "json")
        cores = int(json.loads(kubectl(*node))["status"]["capacity"]["cpu"])
        pods = str(min(40, 3 * cores))
        eventually(lambda: json.loads(kubectl(*node))["status"]["capacity"]["pods"] == pods, 30)
        shown = json.loads(kubectl("get", "--raw", f"/api/v1/nodes/{WORKER}/proxy/configz"))["kubeletconfig"]
        assert (shown["podsPerCore"], shown["maxPods"], shown["nodeStatusReportFrequency"]) == (3, 40, "5s")
        assert shown["failSwapOn"] is False, "what the lab says stays below it"
        described = kubectl("describe", "node", WORKER)
        assert "Kubelet Version:" in described and f"pods:               {pods}" in described
        assert kubectl(*started) == before

        mine.write_text(HEAD + "serverTLSBootstrap: true\n")
        lab("up", "--kubelet-config", str(mine))

        def waiting() -> list[str]:
            found = json.loads(kubectl("get", "csr", "-o", "json"))["items"]
            assert all(csr["spec"]["signerName"] == "kubernetes.io/kubelet-serving" for csr in found)
            return [csr["metadata"]["name"] for csr in found]

        eventually(lambda: len(waiting()) == 3, 30)
        kubectl("certificate", "approve", *waiting())
        current = (
            lab.folder / "nodes" / WORKER / "disk" / "var-lib-kubelet" / "pki" / "kubelet-server-current.pem"
        )
        eventually(current.is_file, 30)
        serial = x509.load_pem_x509_certificate(current.read_bytes()).serial_number

        def served() -> int:
            text = ssl.get_server_certificate(("10.99.0.11", 10250))
            return x509.load_pem_x509_certificate(text.encode()).serial_number

        eventually(lambda: served() == serial, 10)
        assert kubectl("get", "--raw", f"/api/v1/nodes/{WORKER}/proxy/healthz") == "ok", (
            "the API server trusts it"
        )
        mine.write_text(HEAD + "maxPod: 40\n")
        refused = lab("up", "--kubelet-config", str(mine), check=False)
        assert refused.returncode == 1 and 'unknown field "maxPod"; do you mean maxPods?' in refused.stderr
    finally:
        for folder in folders:
            (folder / "50-up.conf").unlink(missing_ok=True)
            lab("node", "restart-unit", folder.parents[2].name, "nodeagent")
        eventually(
            lambda: (
                json.loads(kubectl("get", "node", WORKER, "-o", "json"))["status"]["capacity"]["pods"]
                == "110"
            ),
            60,
        )
