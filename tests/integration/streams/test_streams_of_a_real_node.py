"""exec, attach, cp, port-forward and logs on real containers, with every client and protocol that asks for them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import re
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.kubectl import Bamictl, Kubectl, find_kubectl, until

BIG = 20_000_000  # bytes
# 1.33 speaks websockets and never has to fall back; 1.27 knows SPDY only.
VERSIONS = ["1.33", "1.27"]


@pytest.fixture(params=VERSIONS)
def kubectl(cluster: Any, request: pytest.FixtureRequest) -> Iterator[Kubectl]:
    """kubectl of each version, which must have used what it speaks."""
    before = counted(cluster)
    yield Kubectl(cluster.kubeconfig, path=find_kubectl(request.param))
    if request.param == "1.33":
        until(lambda: counted(cluster) > before, timeout=10, what="a stream over a websocket")
    else:
        assert counted(cluster) == before


def counted(cluster: Any) -> float:
    """How many requests have been translated or unwrapped."""
    text = cluster.kubectl("get", "--raw", "/metrics")
    found = re.findall(
        r'^apiserver_stream_(?:translator|tunnel)_requests_total\{code="\d+"\} (\S+)', text, re.M
    )
    return sum(map(float, found))


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("big") / "big"
    path.write_bytes(os.urandom(BIG))
    return path


def digest(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def test_exec(kubectl: Kubectl) -> None:
    both = kubectl.run("exec", "shell", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (both.returncode, both.stdout) == (7, "out\n")
    assert both.stderr == "err\ncommand terminated with exit code 7\n"
    assert (
        kubectl("exec", "-i", "shell", "--", "sh", "-c", "cat; echo end", stdin="hello\n") == "hello\nend\n"
    )
    assert "no-such-command" in kubectl.fails("exec", "shell", "--", "no-such-command")
    assert "container nothing is not valid" in kubectl.fails("exec", "shell", "-c", "nothing", "--", "true")
    # As long as the kernel takes an argument, and three times as long on its way; empty ones are arguments, too.
    script = f"#{'%/' * 60_000}\necho $# [$1]"
    assert kubectl("exec", "shell", "--", "sh", "-c", script, "sh", "", "b") == "2 []\n"


def test_a_command_that_ends_before_its_input(kubectl: Kubectl) -> None:
    lines = "y\n" * 1000
    assert kubectl("exec", "-i", "shell", "--", "head", "-n", "1", stdin=lines) == "y\n"


def test_an_exit_status_is_told_though_much_input_stays_unread(kubectl: Kubectl, big: Path) -> None:
    def exits(status: int) -> int:
        with big.open("rb") as given:
            command = kubectl.command("exec", "-i", "shell", "--", "sh", "-c", f"head -c 10; exit {status}")
            return subprocess.run(command, stdin=given, capture_output=True, timeout=30).returncode

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(exits, range(12))) == list(range(12))


def test_a_terminal_and_its_size(kubectl: Kubectl) -> None:
    wait = 'i=0; until [ "$(stty size)" = "33 101" ] || [ $i = 50 ]; do sleep 0.1; i=$((i+1)); done'
    inner = f"stty rows 33 cols 101; {' '.join(kubectl.command('exec', '-it', 'shell', '--'))}"
    inner += f" sh -c '{wait}; stty size; tty; exit 5'"
    done = subprocess.run(
        ["script", "-qec", inner, "/dev/null"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 5
    assert "33 101" in done.stdout and "/dev/pts/" in done.stdout


def test_copies_both_ways(kubectl: Kubectl, big: Path, tmp_path: Path) -> None:
    kubectl("cp", str(big), "shell:/tmp/big")
    kubectl("cp", "shell:/tmp/big", str(tmp_path / "back"))
    assert digest((tmp_path / "back").read_bytes()) == digest(big.read_bytes())


def test_attach(kubectl: Kubectl) -> None:
    attached = kubectl.start("attach", "-i", "listens", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert attached.stdin is not None and attached.stdout is not None
    try:
        attached.stdin.write("one\n")
        attached.stdin.flush()
        assert attached.stdout.readline() == "got one\n"
    finally:
        attached.terminate()
        attached.communicate(timeout=10)


def test_a_terminal_is_attached_to_without_one(kubectl: Kubectl) -> None:
    if kubectl.path.endswith("1.27"):
        # By SPDY it asks for a standard error, which a terminal has not. A kubelet's runtime refuses that too.
        assert "tty and stderr cannot both be true" in kubectl.fails("attach", "-i", "terminal")
        return
    attached = kubectl.start("attach", "-i", "terminal", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert attached.stdin is not None and attached.stdout is not None
    try:
        attached.stdin.write("one\n")
        attached.stdin.flush()
        assert attached.stdout.readline() == "one\n"  # the terminal's echo
        assert attached.stdout.readline() == "got one\n"
    finally:
        attached.terminate()
        attached.communicate(timeout=10)


@contextmanager
def forwarding(kubectl: Kubectl) -> Iterator[str]:
    process = kubectl.start("port-forward", "pod/shell", ":8080", stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        found = re.search(r"127\.0\.0\.1:(\d+)", process.stdout.readline())
        assert found
        yield f"http://127.0.0.1:{found.group(1)}/"
    finally:
        process.terminate()
        process.communicate(timeout=10)


def test_port_forward(kubectl: Kubectl) -> None:
    kubectl("exec", "shell", "--", "sh", "-c", "head -c 5000000 /dev/urandom >/www/big")
    expected = kubectl("exec", "shell", "--", "md5sum", "/www/big").split()[0]
    with forwarding(kubectl) as url:

        def fetch(_: int) -> str:
            with urllib.request.urlopen(url + "big", timeout=30) as answer:
                return digest(answer.read())

        with ThreadPoolExecutor(5) as pool:
            assert set(pool.map(fetch, range(5))) == {expected}
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert answer.read() == b"hello\n"


def test_bamictl_ends_with_its_input(cluster: Any) -> None:
    before = counted(cluster)
    script = "cat; echo err >&2; exit 3"
    done = Bamictl(cluster.kubeconfig).run("exec", "-i", "shell", "--", "sh", "-c", script, stdin="hi\n")
    assert (done.returncode, done.stdout) == (3, "hi\n"), done.stderr
    assert done.stderr == "err\ncommand terminated with exit code 3\n"
    until(lambda: counted(cluster) == before + 1, timeout=10, what="a translated stream")


def test_the_official_python_client(cluster: Any) -> None:
    kubernetes = pytest.importorskip("kubernetes")
    from kubernetes.stream import portforward, stream

    api = kubernetes.client.CoreV1Api(kubernetes.config.new_client_from_config(str(cluster.kubeconfig)))
    ask = api.connect_get_namespaced_pod_exec
    given = {"stdout": True, "stderr": True, "tty": False}
    command = ["sh", "-c", "read x; echo got $x; exit 4"]
    talk = stream(ask, "shell", "default", command=command, stdin=True, _preload_content=False, **given)
    talk.write_stdin("abc\n")
    begun = time.monotonic()
    talk.run_forever(timeout=20)
    assert time.monotonic() - begun < 4  # it heard the end, and did not wait for it to be forced
    assert (talk.read_stdout(), talk.returncode) == ("got abc\n", 4)
    forward = portforward(api.connect_get_namespaced_pod_portforward, "shell", "default", ports="8080")
    socket = forward.socket(8080)
    socket.setblocking(True)
    socket.sendall(b"GET / HTTP/1.0\r\n\r\n")
    heard = b"".join(iter(lambda: socket.recv(4096), b""))
    assert heard.startswith(b"HTTP/1.1 200 OK") and heard.endswith(b"hello\n")
    socket.close()


async def test_kr8s(cluster: Any) -> None:
    """Its asynchronous half: the other has a thread of its own, which stays where it was made."""
    kr8s = pytest.importorskip("kr8s.asyncio")
    api = await kr8s.api(kubeconfig=str(cluster.kubeconfig))
    pod = await kr8s.objects.Pod.get("shell", "default", api=api)
    done = await pod.exec(["echo", "hello"])
    assert (done.stdout, done.returncode) == (b"hello\n", 0)


POD = "/api/v1/namespaces/default/pods"


async def test_a_bare_websocket(cluster: Any) -> None:
    """Half-close, order and end, as a client sees them that knows nothing but messages."""
    connector = aiohttp.TCPConnector(ssl=cluster.api.context)
    query = "stdin=1&stdout=1&stderr=1&command=sh&command=-c&command=cat;echo+bye+%3E%262"
    async with aiohttp.ClientSession(cluster.api.url, connector=connector) as session, asyncio.timeout(30):
        offers = ["v5.channel.k8s.io", "v4.channel.k8s.io"]
        async with session.ws_connect(f"{POD}/shell/exec?{query}", protocols=offers) as socket:
            assert socket.protocol == "v5.channel.k8s.io"
            await socket.ping(b"there?")
            for part in (b"a" * 100_000, b"b"):
                await socket.send_bytes(b"\x00" + part)
            await socket.send_bytes(b"\xff\x00")
            heard = [message.data async for message in socket]
            assert socket.close_code == 1000
        assert heard[0] == b"\x01"
        assert b"".join(one[1:] for one in heard if one[0] == 1) == b"a" * 100_000 + b"b"
        assert b"".join(one[1:] for one in heard if one[0] == 2) == b"bye\n"
        assert heard[-1][0] == 3 and json.loads(heard[-1][1:])["status"] == "Success"


async def test_a_terminal_has_its_streams_whatever_the_client_asks_for(cluster: Any) -> None:
    connector = aiohttp.TCPConnector(ssl=cluster.api.context)
    async with aiohttp.ClientSession(cluster.api.url, connector=connector) as session, asyncio.timeout(10):
        target = f"{POD}/terminal/attach?stdin=1&stdout=1"
        async with session.ws_connect(target, protocols=["v5.channel.k8s.io"]) as socket:
            await socket.send_bytes(b"\x00two\n")
            heard = b""
            while b"got two" not in heard:
                heard += (await socket.receive_bytes())[1:]


async def test_refusals_come_before_the_upgrade(cluster: Any) -> None:
    connector = aiohttp.TCPConnector(ssl=cluster.api.context)
    key = base64.b64encode(b"0123456789abcdef").decode()
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": key,
        "Sec-WebSocket-Protocol": "v5.channel.k8s.io",
    }
    async with aiohttp.ClientSession(cluster.api.url, connector=connector) as session, asyncio.timeout(30):
        for target, changed, code, words in (
            ("none/exec?command=ls&stdout=1", {}, 404, 'pods "none" not found'),
            ("shell/exec?command=ls", {}, 400, "at least 1 of stdin"),
            ("shell/exec?command=ls&stdout=1&container=x", {}, 400, "container x is not valid"),
            ("shell/exec?command=ls&stdout=1", {"Sec-WebSocket-Version": "8"}, 400, "must be 13"),
            ("shell/exec?command=ls&stdout=1", {"Sec-WebSocket-Key": "short"}, 400, "16 bytes"),
            ("shell/log", {}, 400, "v5.channel.k8s.io is spoken here"),
        ):
            async with session.get(f"{POD}/{target}", headers=upgrade | changed) as answer:
                assert (answer.status, answer.headers["Content-Type"]) == (code, "application/json"), target
                assert words in (await answer.json())["message"]


@pytest.mark.parametrize("protocol", ["", "binary.k8s.io", "base64.binary.k8s.io"])
async def test_logs_by_websocket(cluster: Any, protocol: str) -> None:
    until(lambda: "ready" in cluster.kubectl("logs", "listens"), what="a log")
    connector = aiohttp.TCPConnector(ssl=cluster.api.context)
    async with aiohttp.ClientSession(cluster.api.url, connector=connector) as session, asyncio.timeout(30):
        offers = [protocol] if protocol else []
        async with session.ws_connect(f"{POD}/listens/log?limitBytes=6", protocols=offers) as socket:
            heard = [message.data async for message in socket]
            assert socket.close_code == 1000
    said = b"".join(base64.b64decode(one) if protocol.startswith("base64") else one for one in heard)
    assert said == b"ready\n"
    if not protocol:
        read = cluster.kubectl("logs", "--insecure-skip-tls-verify-backend", "--limit-bytes=6", "listens")
        assert read == "ready\n"
        metrics = cluster.kubectl("get", "--raw", "/metrics")
        assert 'kube_apiserver_pod_logs_insecure_backend_total{usage="skip_tls_allowed"} 1.0' in metrics
