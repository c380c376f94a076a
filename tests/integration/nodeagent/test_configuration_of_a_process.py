"""The node agent as a process, with a KubeletConfiguration, drop-ins and a flag that wins: what comes of them.

etcd, the API server and containerd are real. The API server begins late: until then a static pod runs, and its log is rotated.
"""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import Any

import pytest

from bamikube.kit.world import World
from bamikube.pki.issue import issue_all
from bamikube.pki.profiles import ClusterNames, NodeNames
from tests.integration.nodeagent.conftest import remove_groups
from tests.support.etcd import free_ports
from tests.support.private_api import SERVICES, PrivateApi

JSON = dict[str, Any]
HEAD = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"
FILE = """
maxPods: 50
podsPerCore: 1000
failSwapOn: false
clusterDomain: lab.test
clusterDNS: [10.96.0.10]
kubeReserved: {cpu: 100m, memory: 64Mi}
evictionHard: {memory.available: 1Mi}
containerLogMaxSize: 1Ki
containerLogMonitorInterval: 3s
registerWithTaints: [{key: lab, value: config, effect: PreferNoSchedule}]
crashLoopBackOff: {maxContainerRestartPeriod: 1s}
authorization: {mode: AlwaysAllow}
enableSystemLogHandler: false
cpuCFSQuota: false
kubeAPIQPS: 5
"""
FIRST = "clusterDomain: first.test\nmaxPods: 60\nnodeStatusUpdateFrequency: 1s\n"
SECOND = "maxPods: 70\nkubeReserved: {memory: 128Mi}\ntlsMinVersion: VersionTLS13\n"
MANIFEST = """
apiVersion: v1
kind: Pod
metadata: {name: chatty, namespace: default}
spec:
  terminationGracePeriodSeconds: 0
  dnsPolicy: ClusterFirst
  containers:
  - name: app
    image: bamikube.test/busybox:1
    resources: {limits: {cpu: 700m, memory: 64Mi}}
    command: [sh, -c, "cat /etc/resolv.conf; while :; do echo a line of the log that grows; sleep 0.02; done"]
  - name: fails
    image: bamikube.test/busybox:1
    command: [sh, -c, "exit 3"]
"""


def quotas(group: str) -> set[str]:
    """The quotas of cpu below a cgroup, in the words of its version."""
    files = ("cpu.cfs_quota_us", "cpu.max")
    found = [path for file in files for path in Path("/sys/fs/cgroup").glob(f"*{group}/kubepods/**/{file}")]
    return {path.read_text().split()[0] for path in found}


def fetch(url: str, context: ssl.SSLContext | None) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=5, context=context) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


async def test_a_file_its_drop_ins_and_a_flag_make_the_node(
    containerd: Any, tmp_path: Path, until: Any
) -> None:
    group = f"/bamikube-test-{uuid.uuid4().hex[:8]}"
    api = PrivateApi(tmp_path / "api", controllers=False)
    issue_all(
        {"master": api.home},
        ClusterNames(server=api.url),
        [NodeNames(name="master", address="127.0.0.1")],
        World(),
    )
    port, open_port = free_ports(2)
    manifests, drop_ins = tmp_path / "manifests", tmp_path / "conf.d"
    manifests.mkdir()
    drop_ins.mkdir()
    (manifests / "chatty.yaml").write_text(MANIFEST)
    (tmp_path / "config.yaml").write_text(f"{HEAD}{FILE}readOnlyPort: {open_port}\nport: {port}\n")
    (drop_ins / "10-first.conf").write_text(HEAD + FIRST)
    (drop_ins / "20-second.conf").write_text(HEAD + SECOND)
    (drop_ins / "ignored.yaml").write_text("nonsense")
    pki = api.home / "pki"
    flags = [
        f"--config={tmp_path}/config.yaml", f"--config-dir={drop_ins}", "--max-pods=17",
        f"--kubeconfig={api.home}/kubelet.conf", "--hostname-override=master", "--node-ip=192.0.2.1",
        "--address=127.0.0.1", f"--tls-cert-file={pki}/kubelet.crt", f"--tls-private-key-file={pki}/kubelet.key",
        f"--client-ca-file={pki}/ca.crt", f"--root-dir={tmp_path}/kubelet", f"--log-dir={tmp_path}/log",
        f"--container-runtime-endpoint={containerd.endpoint}", f"--cgroup-root={group}", "--healthz-port=0",
        f"--pod-manifest-path={manifests}",
    ]  # fmt: skip
    output = tmp_path / "nodeagent.log"
    with output.open("wb") as out:
        agent = subprocess.Popen(
            [sys.executable, "-m", "bamikube.nodeagent.main", *flags],
            stdout=out, stderr=out, stdin=subprocess.DEVNULL, env={"PYTHONPATH": str(SERVICES), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        )  # fmt: skip
    try:
        # Without an API server: the static pod, its log rotated as the file says, its restarts with the short wait.
        logs = tmp_path / "log" / "pods"
        await until(lambda: agent.poll() is None and list(logs.glob("default_chatty-*/app/0.log.*")))
        (rotated,) = logs.glob("default_chatty-*/app/0.log.*")
        said = rotated.read_text()
        assert (
            "search default.svc.first.test svc.first.test first.test" in said
            and "nameserver 10.96.0.10" in said
        )
        numbers = logs.glob("default_chatty-*/fails/[0-9]*.log")
        assert max(int(path.stem) for path in numbers) >= 2, (
            "with the kubelet's waits it were one restart by now"
        )
        assert quotas(group) <= {"-1", "max"} and quotas(group), "the limit of 700m is not kept"
        assert "kubeAPIQPS has no effect on this node agent" in output.read_text()
        score = Path(f"/proc/{agent.pid}/oom_score_adj").read_text().strip()
        assert score == "-999" or "--oom-score-adj -999: Permission denied" in output.read_text()

        context = api.context
        api.start()
        node: JSON = {}

        def registered() -> bool:
            code, body = fetch(f"{api.url}/api/v1/nodes/master", context)
            node.update(json.loads(body) if code == 200 else {})
            return code == 200

        await until(registered)
        assert node["status"]["capacity"]["pods"] == "17", "the flag wins"
        assert node["spec"]["taints"] == [
            {"key": "lab", "value": "config", "effect": "PreferNoSchedule"},
            *(t for t in node["spec"]["taints"] if t["key"] != "lab"),
        ]
        whole, usable = (
            int(node["status"][kind]["memory"].removesuffix("Ki")) for kind in ("capacity", "allocatable")
        )
        assert whole - usable == (128 + 1) * 1024, "the drop-in's memory, and what eviction keeps"
        cores = int(node["status"]["capacity"]["cpu"])
        assert node["status"]["allocatable"]["cpu"] == f"{cores * 1000 - 100}m", "the file's cpu stays"

        code, body = fetch(f"https://127.0.0.1:{port}/configz", context)
        shown = json.loads(body)["kubeletconfig"]
        assert code == 200 and (shown["kind"], shown["maxPods"]) == ("KubeletConfiguration", 17)
        assert (shown["clusterDomain"], shown["nodeStatusUpdateFrequency"]) == ("first.test", "1s")
        assert shown["nodeStatusReportFrequency"] == "1s", "as the other one, which was set alone"
        assert shown["kubeReserved"] == {"cpu": "100m", "memory": "128Mi"}
        assert shown["crashLoopBackOff"] == {"maxContainerRestartPeriod": "1s"}
        assert fetch(f"https://127.0.0.1:{port}/logs/", context) == (405, b"logs endpoint is disabled.\n")
        old = ssl.create_default_context(cafile=str(api.ca))
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(urllib.error.URLError, match="SSL"):
            fetch(f"https://127.0.0.1:{port}/healthz", old)

        code, body = fetch(f"http://127.0.0.1:{open_port}/pods", None)
        assert code == 200 and [p["metadata"]["name"] for p in json.loads(body)["items"]] == ["chatty-master"]
        refused = (405, b"Debug endpoints are disabled.\n")
        assert fetch(f"http://127.0.0.1:{open_port}/runningpods/", None) == refused

    finally:
        (manifests / "chatty.yaml").unlink()  # so that nothing of it is left
        await until(lambda: json.loads(fetch(f"http://127.0.0.1:{open_port}/pods", None)[1])["items"] == [])
        agent.terminate()
        agent.wait(15)
        api.stop()
        remove_groups(group)
