"""Nodes, a Deployment, a Service, and what kubectl says about them: the first tour of a new cluster."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.kubectl import Kubectl, until

pytestmark = pytest.mark.e2e


# As ``kubectl create deployment NAME --image=busybox --replicas=2 -- sleep 36000`` makes it, but quick to end.
SLEEPERS = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: NAME, labels: {app: NAME}}
spec:
  replicas: 2
  selector: {matchLabels: {app: NAME}}
  template:
    metadata: {labels: {app: NAME}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: busybox, image: busybox, command: [sleep, "36000"]}]
"""


@pytest.fixture(scope="module")
def k(kubeconfig: str) -> Iterator[Kubectl]:
    kubectl = Kubectl(Path(kubeconfig))
    kubectl("create", "namespace", "tour")
    inside = kubectl.within("tour")
    yield inside
    kubectl("delete", "namespace", "tour", "--wait=true", timeout=120)


@pytest.fixture(scope="module")
def web(k: Kubectl) -> Kubectl:
    k("create", "deployment", "web", "--image=nginx", "--replicas=3")
    k("expose", "deployment", "web", "--port=80", "--type=NodePort")
    k("rollout", "status", "deployment/web", "--timeout=90s", timeout=100)
    return k


@pytest.fixture(scope="module")
def shell(k: Kubectl) -> str:
    """A busybox pod to look around from."""
    k("run", "shell", "--image=busybox", "--restart=Never", "--command", "--", "sleep", "36000")
    k("wait", "--for=condition=Ready", "pod/shell", "--timeout=60s")
    return "shell"


def test_three_ready_nodes_with_all_their_columns(k: Kubectl) -> None:
    lines = k("get", "nodes", "-o", "wide").splitlines()
    assert lines[0].split()[:6] == ["NAME", "STATUS", "ROLES", "AGE", "VERSION", "INTERNAL-IP"]
    nodes = {line.split()[0]: line.split() for line in lines[1:]}
    assert set(nodes) == {"master", "worker-1", "worker-2"}
    assert {row[1] for row in nodes.values()} == {"Ready"}
    assert nodes["master"][2] == "control-plane"
    assert [nodes[name][5] for name in sorted(nodes)] == ["10.99.0.10", "10.99.0.11", "10.99.0.12"]
    assert all(row[4].startswith("v1.34") for row in nodes.values())


def test_describe_node(web: Kubectl) -> None:
    text = web("describe", "node", "worker-1")
    for expected in (
        "MemoryPressure",
        "DiskPressure",
        "PIDPressure",
        "KubeletReady",
        "Capacity:",
        "Allocatable:",
        "PodCIDR:",
    ):
        assert expected in text
    assert re.search(r"Non-terminated Pods:\s+\(\d+ in total\)", text)
    assert "10.244." in text


def test_get_all_events_and_describe_pod(web: Kubectl) -> None:
    text = web("get", "all", "-o", "wide")
    for kind in ("pod/web-", "service/web", "deployment.apps/web", "replicaset.apps/web-"):
        assert kind in text
    events = web("get", "events")
    for reason in ("Scheduled", "Pulled", "Created", "Started", "SuccessfulCreate", "ScalingReplicaSet"):
        assert reason in events, reason
    pod = web("get", "pods", "-l", "app=web", "-o", "name").split()[0]
    described = web("describe", pod)
    for expected in (
        "Controlled By:  ReplicaSet/web-",
        "Image:          nginx",
        "PodReadyToStartContainers",
        "Started",
        "QoS Class:",
    ):
        assert expected in described, described


def test_the_service_answers_by_address_and_by_name_and_spreads(web: Kubectl, shell: str) -> None:
    service = web.json("get", "service", "web")
    address = service["spec"]["clusterIP"]
    pods = web.json("get", "pods", "-l", "app=web")["items"]
    for pod in pods:
        name = pod["metadata"]["name"]
        web("exec", name, "--", "sh", "-c", f"echo {name} > /usr/share/nginx/html/who")
    for host in (address, "web", "web.tour", "web.tour.svc.cluster.local"):
        page = web("exec", shell, "--", "wget", "-q", "-O-", f"http://{host}/")
        assert "Welcome to nginx" in page, host
    seen = web(
        "exec", shell, "--", "sh", "-c", f"for i in $(seq 40); do wget -q -O- http://{address}/who; done"
    ).split()
    assert set(seen) == {pod["metadata"]["name"] for pod in pods}
    port = service["spec"]["ports"][0]["nodePort"]
    for node in ("10.99.0.10", "10.99.0.11", "10.99.0.12"):
        with urllib.request.urlopen(f"http://{node}:{port}/", timeout=10) as answer:
            assert b"Welcome to nginx" in answer.read()


def test_a_service_out_of_another_range_answers(web: Kubectl, shell: str) -> None:
    cidr = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": "documentation"},
        "spec": {"cidrs": ["203.0.113.0/24"]},
    }
    web("create", "-f", "-", stdin=json.dumps(cidr))
    web("wait", "--for=condition=Ready", "servicecidr/documentation", "--timeout=20s")
    web("expose", "deployment", "web", "--name=far", "--port=80", "--cluster-ip=203.0.113.10")
    assert "services/tour/far" in web("get", "ipaddress", "203.0.113.10")
    for host in ("203.0.113.10", "far"):
        page = web("exec", shell, "--", "wget", "-q", "-O-", f"http://{host}/")
        assert "Welcome to nginx" in page, host
    web("delete", "servicecidr", "documentation", "--wait=false")
    web("delete", "service", "far")


def test_nslookup_and_resolv_conf(web: Kubectl, shell: str) -> None:
    assert web.json("get", "service", "web")["spec"]["clusterIP"] in web(
        "exec", shell, "--", "nslookup", "web.tour.svc.cluster.local"
    )
    resolv = web("exec", shell, "--", "cat", "/etc/resolv.conf")
    assert "nameserver 10.96.0.10" in resolv
    assert "tour.svc.cluster.local svc.cluster.local cluster.local" in resolv


def test_scale_image_rollout_and_undo(web: Kubectl) -> None:
    web("scale", "deployment", "web", "--replicas=5")
    until(
        lambda: web.json("get", "deployment", "web")["status"].get("readyReplicas") == 5,
        what="five ready pods",
    )
    web("scale", "deployment", "web", "--replicas=3")
    web("set", "image", "deployment/web", "nginx=nginx:stable")
    assert "successfully rolled out" in web(
        "rollout", "status", "deployment/web", "--timeout=90s", timeout=100
    )
    images = {pod["spec"]["containers"][0]["image"] for pod in _running(web)}
    assert images == {"nginx:stable"}
    history = web("rollout", "history", "deployment/web")
    assert re.search(r"^1\s", history, re.M) and re.search(r"^2\s", history, re.M)
    assert "nginx:stable" in web("rollout", "history", "deployment/web", "--revision=2")
    web("rollout", "undo", "deployment/web")
    web("rollout", "status", "deployment/web", "--timeout=90s", timeout=100)
    assert {pod["spec"]["containers"][0]["image"] for pod in _running(web)} == {"nginx"}
    assert re.search(r"^3\s", web("rollout", "history", "deployment/web"), re.M)
    web("rollout", "restart", "deployment/web")
    web("rollout", "status", "deployment/web", "--timeout=90s", timeout=100)


def _running(k: Kubectl) -> list[dict]:  # type: ignore[type-arg]
    items = k.json("get", "pods", "-l", "app=web")["items"]
    return [pod for pod in items if "deletionTimestamp" not in pod["metadata"]]


@pytest.mark.parametrize("cascade", ["background", "foreground", "orphan"])
def test_cascading_deletion(k: Kubectl, cascade: str) -> None:
    name = f"gone-{cascade}"
    k("apply", "-f", "-", stdin=SLEEPERS.replace("NAME", name))
    k("rollout", "status", f"deployment/{name}", "--timeout=90s", timeout=100)
    k("delete", "deployment", name, f"--cascade={cascade}", "--timeout=60s", timeout=70)
    label = f"app={name}"
    if cascade == "orphan":
        sets = k.json("get", "rs", "-l", label)["items"]
        assert sets and all(not rs["metadata"].get("ownerReferences") for rs in sets)
        assert len(k.json("get", "pods", "-l", label)["items"]) >= 2
        k("delete", "rs", "-l", label)
    elif cascade == "foreground":
        assert k.json("get", "rs", "-l", label)["items"] == []
    until(lambda: k.json("get", "rs,pods", "-l", label)["items"] == [], what="nothing owned is left")


def test_logs_exec_cp_and_port_forward(web: Kubectl, shell: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    web(
        "run",
        "talk",
        "--image=busybox",
        "--restart=Never",
        "--command",
        "--",
        "sh",
        "-c",
        "i=0; while true; do echo line $i; i=$((i+1)); sleep 0.2; done",
    )
    web("wait", "--for=condition=Ready", "pod/talk", "--timeout=60s")
    until(lambda: "line 3" in web("logs", "talk"), what="four lines")
    assert web("logs", "talk", "--tail=1").startswith("line ")
    assert re.match(r"^\d{4}-\d\d-\d\dT", web("logs", "talk", "--timestamps", "--tail=1"))
    following = web.start("logs", "-f", "talk", stdout=subprocess.PIPE)
    try:
        assert following.stdout is not None
        lines = [following.stdout.readline() for _ in range(8)]
    finally:
        following.terminate()
        following.wait(10)
    assert lines[0] == "line 0\n" and lines[7] == "line 7\n"

    assert web("exec", shell, "--", "echo", "hello") == "hello\n"
    assert web("exec", "-i", shell, "--", "cat", stdin="from here\n") == "from here\n"
    assert web.run("exec", shell, "--", "sh", "-c", "exit 7").returncode == 7
    tty = subprocess.run(
        ["script", "-qec", " ".join(web.command("exec", "-it", shell, "--", "tty")), "/dev/null"],
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert "/dev/pts/" in tty.stdout or "/dev/console" in tty.stdout, tty.stdout

    source = tmp_path / "there.bin"
    source.write_bytes(bytes(range(256)) * 4000)
    web("cp", str(source), f"{shell}:/tmp/there.bin")
    web("cp", f"{shell}:/tmp/there.bin", str(tmp_path / "back.bin"))
    assert (tmp_path / "back.bin").read_bytes() == source.read_bytes()

    pod = web("get", "pods", "-l", "app=web", "-o", "name").split()[0]
    forward = web.start("port-forward", pod, ":80", stdout=subprocess.PIPE)
    try:
        assert forward.stdout is not None
        port = re.search(r"127\.0\.0\.1:(\d+)", forward.stdout.readline())
        assert port is not None
        for _ in range(3):
            with urllib.request.urlopen(f"http://127.0.0.1:{port[1]}/", timeout=10) as answer:
                assert b"Welcome to nginx" in answer.read()
    finally:
        forward.terminate()
        forward.wait(10)
    web("delete", "pod", "talk", "--grace-period=0", "--force")


def test_a_deleted_pod_is_replaced(web: Kubectl) -> None:
    before = {pod["metadata"]["name"] for pod in _running(web)}
    victim = sorted(before)[0]
    web("delete", "pod", victim, "--wait=false")
    until(
        lambda: len(after := {p["metadata"]["name"] for p in _running(web)}) == 3 and victim not in after,
        what="a replacement",
    )
    web("rollout", "status", "deployment/web", "--timeout=60s")


def test_a_crashing_container_is_restarted_with_back_off(k: Kubectl) -> None:
    k("run", "crash", "--image=busybox", "--command", "--", "sh", "-c", "exit 3")

    def crashing() -> bool:
        status = k.json("get", "pod", "crash")["status"]["containerStatuses"][0]
        waiting = status["state"].get("waiting") or {}
        return status["restartCount"] >= 1 and waiting.get("reason") == "CrashLoopBackOff"

    until(crashing, timeout=60, what="CrashLoopBackOff")
    status = k.json("get", "pod", "crash")["status"]["containerStatuses"][0]
    assert status["lastState"]["terminated"]["exitCode"] == 3
    assert "CrashLoopBackOff" in k("get", "pods")
    assert "Back-off restarting failed container" in k("get", "events")
    k("delete", "pod", "crash", "--grace-period=0", "--force")


def test_json_output_is_what_the_api_answers(web: Kubectl) -> None:
    raw = json.loads(web("get", "--raw", "/apis/apps/v1/namespaces/tour/deployments/web"))
    assert raw["kind"] == "Deployment" and raw["apiVersion"] == "apps/v1"
