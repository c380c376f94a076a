"""exec, cp and port-forward with every kubectl there is from 1.27 on: SPDY, websocket v5, SPDY in a websocket."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.kubectl import Kubectl, find_kubectl

pytestmark = pytest.mark.slow

BIG = 100_000_000  # bytes
PAGE = b"a page\n"
SERVE = f"mkdir /www; echo {PAGE.decode().strip()} > /www/index.html; httpd -f -p 80 -h /www"
VERSIONS = [f"1.{minor}" for minor in range(27, 35)]


@pytest.fixture(scope="module")
def target(kubectl: Kubectl, eventually: Callable[..., Any]) -> Iterator[Kubectl]:
    made = kubectl.within(f"t-streams-by-version-{os.getpid()}")
    kubectl("create", "namespace", made.namespace)
    eventually(lambda: made.run("get", "serviceaccount", "default").returncode == 0, 20, "account")
    image = {"image": "busybox:1.36"}
    containers = [
        {"name": "c", "command": ["sh", "-c", SERVE], **image},
        {"name": "term", "command": ["sh"], "tty": True, "stdin": True, **image},
    ]
    spec = {"terminationGracePeriodSeconds": 0, "containers": containers}
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
        assert room.run("exec", "shell", "-c", "c", "--", "sh", "-c", f"exit {code}").returncode == code
    both = room.run("exec", "shell", "-c", "c", "--", "sh", "-c", "echo out; echo err >&2; exit 2")
    assert (both.stdout, both.returncode) == ("out\n", 2) and both.stderr.startswith("err\n")
    missing = room.run("exec", "shell", "-c", "c", "--", "no-such-command")
    assert missing.returncode != 0 and "no-such-command" in missing.stderr
    # The end of the input reaches the command, which goes on to speak.
    assert (
        room("exec", "-i", "shell", "-c", "c", "--", "sh", "-c", "cat; echo end", stdin="word\n")
        == "word\nend\n"
    )


class Terminal:
    """A terminal of our own with kubectl at its other end."""

    def __init__(self, room: Kubectl, *words: str) -> None:
        self._master, self._slave = pty.openpty()
        self.resize(31, 97)
        ends = {"stdin": self._slave, "stdout": self._slave, "stderr": self._slave}
        self.process = subprocess.Popen(room.command(*words), **ends, start_new_session=True)  # type: ignore[call-overload]
        self._seen = b""

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def tell_of_size(self) -> None:
        self.process.send_signal(signal.SIGWINCH)

    def write(self, text: str) -> None:
        os.write(self._master, text.encode())

    def until(self, wanted: str) -> None:
        """Read until the text has come."""
        while wanted.encode() not in self._seen:
            ready, _, _ = select.select([self._master], [], [], 20)
            assert ready, f"{wanted!r} did not come: {self._seen!r}"
            self._seen += os.read(self._master, 4096)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)
        os.close(self._slave)


def test_a_terminal_has_the_size_of_ours(room: Kubectl) -> None:
    script = "trap 'stty size' WINCH; while true; do stty size; sleep 0.2; done"
    terminal = Terminal(room, "exec", "-it", "shell", "-c", "c", "--", "sh", "-c", script)
    try:
        terminal.until("31 97\r\n")
        terminal.resize(40, 120)
        terminal.tell_of_size()
        terminal.until("40 120\r\n")
    finally:
        terminal.close()


def test_attached_to_a_terminal_we_talk_to_what_runs_there(room: Kubectl) -> None:
    terminal = Terminal(room, "attach", "-it", "shell", "-c", "term")
    word = f"word{time.monotonic_ns()}"
    try:
        terminal.until("command prompt")
        terminal.write(f"echo {word[:4]}''{word[4:]}\n")
        terminal.until(f"{word}\r\n")
        terminal.resize(22, 66)
        terminal.tell_of_size()
        terminal.write("sleep 0.3; stty size\n")
        terminal.until("22 66\r\n")
    finally:
        terminal.close()


def test_large_files_go_both_ways(room: Kubectl, big: Path, tmp_path: Path) -> None:
    room("cp", str(big), "shell:/tmp/big", "-c", "c")
    room("cp", "shell:/tmp/big", str(tmp_path / "back"), "-c", "c")
    assert (tmp_path / "back").read_bytes() == big.read_bytes()


def test_many_connections_at_once(room: Kubectl) -> None:
    pipe = subprocess.PIPE
    forwarding = room.start("port-forward", "pod/shell", ":80", stdout=pipe, stderr=subprocess.STDOUT)
    assert forwarding.stdout is not None

    def ask(number: int) -> bytes:
        with urllib.request.urlopen(f"{url}?{number}", timeout=30) as answer:
            return bytes(answer.read())

    try:
        found = re.search(r"127\.0\.0\.1:(\d+)", forwarding.stdout.readline())
        assert found
        url = f"http://127.0.0.1:{found.group(1)}/"
        with ThreadPoolExecutor(50) as pool:
            assert set(pool.map(ask, range(100))) == {PAGE}
    finally:
        forwarding.terminate()
        forwarding.communicate(timeout=10)


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
