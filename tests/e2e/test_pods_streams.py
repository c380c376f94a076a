"""logs, exec, attach, cp and port-forward with the real kubectl, and with Python clients over websocket."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.kubectl import Kubectl

BIG = 20_000_000  # bytes
SPEC: dict[str, dict[str, Any]] = {
    "web": {"image": "nginx:1.25"},
    "talks": {
        "image": "busybox:1.36",
        "command": ["sh", "-c", "i=0; while true; do echo line $i; i=$((i+1)); sleep 0.1; done"],
    },
    "listens": {
        "image": "busybox:1.36",
        "stdin": True,
        "command": ["sh", "-c", "while read l; do echo got $l; done"],
    },
    "ends": {"image": "busybox:1.36", "command": ["sh", "-c", "echo attempt; sleep 0.3; exit 3"]},
}


def start(room: Kubectl, *words: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return room.start(*words, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT)


@pytest.fixture(scope="module")
def room(kubectl: Kubectl, eventually: Callable[..., Any]) -> Iterator[Kubectl]:
    made = kubectl.within(f"t-pods-streams-{os.getpid()}")
    kubectl("create", "namespace", made.namespace)
    eventually(lambda: made.run("get", "serviceaccount", "default").returncode == 0, 20, "account")
    items = [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {"terminationGracePeriodSeconds": 1, "containers": [{"name": "c", **container}]},
        }
        for name, container in SPEC.items()
    ]
    made("create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    made("wait", "--for=condition=Ready", "pod/web", "pod/talks", "pod/listens", "--timeout=60s")
    yield made
    kubectl.run("delete", "namespace", made.namespace, "--wait=false")


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("big") / "big"
    path.write_bytes(os.urandom(BIG))
    return path


def digest(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def test_logs(room: Kubectl, eventually: Callable[..., Any]) -> None:
    assert len(room("logs", "talks", "--tail=2").splitlines()) == 2
    assert room("logs", "talks", "--limit-bytes=6") == "line 0"
    stamped = room("logs", "talks", "--tail=1", "--timestamps")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z line \d+\n", stamped)
    following = start(room, "logs", "-f", "talks", "--tail=1")
    assert following.stdout is not None
    numbers = [int(following.stdout.readline().split()[1]) for _ in range(5)]
    following.terminate()
    following.communicate(timeout=10)
    assert numbers == list(range(numbers[0], numbers[0] + 5))
    eventually(lambda: room.run("logs", "ends", "--previous").stdout == "attempt\n", 30, "a restart")


def test_exec(room: Kubectl) -> None:
    assert room("exec", "web", "--", "hostname") == "web\n"
    assert room.run("exec", "web", "--", "sh", "-c", "exit 7").returncode == 7
    both = room.run("exec", "web", "--", "sh", "-c", "echo out; echo err >&2")
    assert (both.stdout, both.stderr) == ("out\n", "err\n")
    assert room("exec", "-i", "web", "--", "cat", stdin="hello\n") == "hello\n"
    missing = room.run("exec", "web", "--", "no-such-command")
    assert missing.returncode != 0 and "no-such-command" in missing.stderr


def test_exec_with_terminal(room: Kubectl) -> None:
    inner = f"{' '.join(room.command('exec', '-it', 'web'))} -- sh -c 'tty; exit 5'"
    done = subprocess.run(
        ["script", "-qec", inner, "/dev/null"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 5 and "/dev/pts/" in done.stdout


def test_copy_both_ways(room: Kubectl, big: Path, tmp_path: Path) -> None:
    room("cp", str(big), "web:/tmp/big")
    room("cp", "web:/tmp/big", str(tmp_path / "back"))
    assert digest((tmp_path / "back").read_bytes()) == digest(big.read_bytes())


def test_attach(room: Kubectl) -> None:
    attached = start(room, "attach", "-i", "listens")
    assert attached.stdin is not None and attached.stdout is not None
    attached.stdin.write("one\n")
    attached.stdin.flush()
    heard = [line for line in iter(attached.stdout.readline, "got one\n") if not line]
    attached.terminate()
    attached.communicate(timeout=10)
    assert not heard


def test_a_pod_with_a_terminal_may_be_attached_to_without_one(room: Kubectl) -> None:
    """``echo ... | kubectl run -it``: kubectl has no terminal to give, and must see what comes of it, and the end.

    By SPDY (before 1.29) it is refused as a kubelet refuses it, and kubectl shows the log there is.
    """
    words = ("run", "piped", "--image=busybox:1.36", "-it", "--rm", "--restart=Never", "--", "sh", "-c")
    wait = "sleep 1;"  # the log of a container that waited for input would never end
    done = room.run(*words, f"{wait} read -t 1 line; echo got $line; exit 4", stdin="a word\n", timeout=30)
    assert done.returncode == 4
    assert "got a word" in done.stdout or "tty and stderr cannot both be true" in done.stderr


def test_port_forward(room: Kubectl, big: Path) -> None:
    room("cp", str(big), "web:/usr/share/nginx/html/big")
    forwarding = start(room, "port-forward", "pod/web", ":80")
    assert forwarding.stdout is not None
    found = re.search(r"127\.0\.0\.1:(\d+)", forwarding.stdout.readline())
    assert found
    url = f"http://127.0.0.1:{found.group(1)}/"

    def fetch(_: int) -> str:
        with urllib.request.urlopen(url + "big", timeout=60) as answer:
            return digest(answer.read())

    try:
        with ThreadPoolExecutor(5) as pool:
            assert set(pool.map(fetch, range(5))) == {digest(big.read_bytes())}
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert answer.status == 200
    finally:
        forwarding.terminate()
        forwarding.communicate(timeout=10)


def test_debug_a_node(room: Kubectl, eventually: Callable[..., Any]) -> None:
    """The machine lies at /host, and its network and processes are those of the pod."""
    script = "test -d /host/var/log/pods && ps | grep -c containerd; hostname"
    image = "--image=busybox:1.36"
    said = room.run("debug", "node/worker-1", image, "--profile=general", "--", "sh", "-c", script)
    name = re.search(r"Creating debugging pod (\S+) ", said.stdout + said.stderr)
    assert name, said
    eventually(lambda: "worker-1" in room.run("logs", name[1]).stdout, 20, "the end of the debugging pod")
    number, host = room("logs", name[1]).split()
    assert int(number) >= 1 and host == "worker-1"


def test_official_python_client(room: Kubectl, kubeconfig: str) -> None:
    kubernetes = pytest.importorskip("kubernetes")
    from kubernetes.stream import portforward, stream

    api = kubernetes.client.CoreV1Api(kubernetes.config.new_client_from_config(kubeconfig))
    ask = api.connect_get_namespaced_pod_exec
    given = {"stdout": True, "stderr": True, "tty": False}
    command = ["sh", "-c", "read x; echo got $x; exit 4"]
    talk = stream(ask, "web", room.namespace, command=command, stdin=True, _preload_content=False, **given)
    talk.write_stdin("abc\n")
    talk.run_forever(timeout=20)
    assert (talk.read_stdout(), talk.returncode) == ("got abc\n", 4)
    forward = portforward(api.connect_get_namespaced_pod_portforward, "web", room.namespace, ports="80")
    socket = forward.socket(80)
    socket.setblocking(True)
    socket.sendall(b"GET / HTTP/1.0\r\n\r\n")
    assert socket.recv(15) == b"HTTP/1.1 200 OK"
    socket.close()


def test_kr8s(room: Kubectl, kubeconfig: str) -> None:
    kr8s = pytest.importorskip("kr8s")
    pod = kr8s.objects.Pod.get("web", room.namespace, api=kr8s.api(kubeconfig=kubeconfig))
    done = pod.exec(["echo", "hello"])
    assert (done.stdout, done.returncode) == (b"hello\n", 0)
