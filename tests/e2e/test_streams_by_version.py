"""exec, cp and port-forward with every kubectl there is from 1.27 on: SPDY, websocket v5, SPDY in a websocket."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.kubectl import Kubectl, find_kubectl

pytestmark = pytest.mark.slow

BIG = 100_000_000  # bytes
VERSIONS = [f"1.{minor}" for minor in range(27, 35)]


@pytest.fixture(scope="module")
def target(kubectl: Kubectl, eventually: Callable[..., Any]) -> Iterator[Kubectl]:
    made = kubectl.within(f"t-streams-by-version-{os.getpid()}")
    kubectl("create", "namespace", made.namespace)
    eventually(lambda: made.run("get", "serviceaccount", "default").returncode == 0, 20, "account")
    container = {"name": "c", "image": "busybox:1.36", "command": ["sleep", "10000"]}
    spec = {"terminationGracePeriodSeconds": 0, "containers": [container]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "shell"}, "spec": spec}
    made("create", "-f", "-", stdin=json.dumps(pod))
    made("wait", "--for=condition=Ready", "pod/shell", "--timeout=60s")
    yield made
    kubectl.run("delete", "namespace", made.namespace, "--wait=false")


@pytest.fixture(params=VERSIONS)
def room(target: Kubectl, request: pytest.FixtureRequest) -> Kubectl:
    path = find_kubectl(request.param)
    if not path.endswith(request.param):
        pytest.skip(f"there is no kubectl {request.param}")
    return Kubectl(target.kubeconfig, target.namespace, path)


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("big") / "big"
    path.write_bytes(os.urandom(BIG))
    return path


def test_commands_end_as_they_end(room: Kubectl) -> None:
    for code in (0, 7, 137):
        assert room.run("exec", "shell", "--", "sh", "-c", f"exit {code}").returncode == code
    both = room.run("exec", "shell", "--", "sh", "-c", "echo out; echo err >&2; exit 2")
    assert (both.stdout, both.returncode) == ("out\n", 2) and both.stderr.startswith("err\n")
    missing = room.run("exec", "shell", "--", "no-such-command")
    assert missing.returncode != 0 and "no-such-command" in missing.stderr
    # The end of the input reaches the command, which goes on to speak.
    assert room("exec", "-i", "shell", "--", "sh", "-c", "cat; echo end", stdin="word\n") == "word\nend\n"


def test_a_terminal_has_the_size_of_ours(room: Kubectl) -> None:
    master, slave = pty.openpty()

    def resize(rows: int, columns: int) -> None:
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    resize(31, 97)
    script = "trap 'stty size' WINCH; while true; do stty size; sleep 0.2; done"
    command = room.command("exec", "-it", "shell", "--", "sh", "-c", script)
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    seen = b""
    deadline = time.monotonic() + 20
    try:
        for size in ((31, 97), (40, 120)):
            resize(*size)
            process.send_signal(signal.SIGWINCH)
            wanted = b"%d %d\r\n" % size
            while wanted not in seen:
                assert time.monotonic() < deadline, seen
                seen += os.read(master, 4096)
    finally:
        process.kill()
        process.wait()
        os.close(master)
        os.close(slave)


def test_large_files_go_both_ways(room: Kubectl, big: Path, tmp_path: Path) -> None:
    room("cp", str(big), "shell:/tmp/big")
    room("cp", "shell:/tmp/big", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == big.read_bytes()


def test_a_closed_port_is_told(room: Kubectl) -> None:
    pipe = subprocess.PIPE
    forwarding = room.start("port-forward", "pod/shell", ":81", stdout=pipe, stderr=subprocess.STDOUT)
    assert forwarding.stdout is not None
    try:
        found = re.search(r"127\.0\.0\.1:(\d+)", forwarding.stdout.readline())
        assert found
        with pytest.raises(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{found.group(1)}/", timeout=10)
        said = next(line for line in forwarding.stdout if "an error occurred forwarding" in line)
        assert "connection refused" in said and "-> 81" in said
    finally:
        forwarding.terminate()
        forwarding.communicate(timeout=10)
