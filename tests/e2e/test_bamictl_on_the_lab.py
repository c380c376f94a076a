"""bamictl's verbs on the lab: what a person types on the first day, and what it prints."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.kubectl import Bamictl, Kubectl, until

IMAGE = "busybox:1.36"
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "talks", "labels": {"app": "talks"}},
    "spec": {
        "terminationGracePeriodSeconds": 0,
        "containers": [
            {
                "name": "c",
                "image": IMAGE,
                "command": ["sh", "-c", "i=0; while true; do echo line $i; i=$((i+1)); sleep 0.1; done"],
            }
        ],
    },
}


@pytest.fixture(scope="module")
def bamictl(kubectl: Kubectl, kubeconfig: str, eventually: Callable[..., Any]) -> Iterator[Bamictl]:
    """Bound to a namespace in which one pod runs."""
    made = Bamictl(Path(kubeconfig)).within(f"t-bamictl-{os.getpid()}")
    made("create", "namespace", made.namespace)
    eventually(
        lambda: made("get", "serviceaccounts", "-o", "name") == "serviceaccount/default\n", 20, "account"
    )
    assert made("apply", "-f", "-", stdin=json.dumps(POD)) == "pod/talks created\n"
    eventually(lambda: re.search(r"^talks +1/1 +Running", made("get", "pods"), re.M), 60, "the pod")
    yield made
    kubectl.run("delete", "namespace", made.namespace, "--wait=false")


def test_tables_and_documents(bamictl: Bamictl) -> None:
    head, row = bamictl("get", "pods").splitlines()
    assert head.split() == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert row.split()[:4] == ["talks", "1/1", "Running", "0"]
    assert "NODE" in bamictl("get", "po", "-o", "wide").splitlines()[0].split()
    assert bamictl("get", "pods", "-l", "app=talks", "-o", "name") == "pod/talks\n"
    assert bamictl("get", "pod", "talks", "-o", "jsonpath={.spec.containers[0].image}") == IMAGE
    assert bamictl.json("get", "pod", "talks")["status"]["phase"] == "Running"
    assert bamictl("get", "pods", "-o", "custom-columns=N:.metadata.name").split() == ["N", "talks"]
    assert len(bamictl("get", "nodes", "--no-headers").splitlines()) == 3
    assert bamictl.fails("get", "pod", "none") == 'Error from server (NotFound): pods "none" not found\n'
    assert "server doesn't have a resource type" in bamictl.fails("get", "gizmos")


def test_watching(bamictl: Bamictl) -> None:
    watching = bamictl.start("get", "configmaps", "-w", "--no-headers", stdout=subprocess.PIPE)
    assert watching.stdout is not None
    try:
        assert watching.stdout.readline().startswith("kube-root-ca.crt")
        bamictl("apply", "-f", "-", stdin=configmap("watched", a="1"))
        assert watching.stdout.readline().split()[:2] == ["watched", "1"]
    finally:
        watching.terminate()
        watching.communicate(timeout=10)


def configmap(name: str, **data: str) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})


def test_apply_and_delete(bamictl: Bamictl) -> None:
    one, two = configmap("made", a="1", b="2"), configmap("made", a="9")
    assert bamictl("apply", "-f", "-", stdin=one) == "configmap/made created\n"
    assert bamictl("apply", "-f", "-", stdin=one) == "configmap/made unchanged\n"
    assert bamictl("apply", "-f", "-", stdin=two) == "configmap/made configured\n"
    assert bamictl.json("get", "configmap", "made")["data"] == {"a": "9"}
    assert bamictl("delete", "-f", "-", stdin=two).startswith('configmap "made" deleted')
    assert "NotFound" in bamictl.fails("delete", "configmap", "made")


def test_describe(bamictl: Bamictl) -> None:
    shown = bamictl("describe", "pod", "talks")
    assert re.search(r"^Name: +talks$", shown, re.M)
    assert "Events:" in shown and "Successfully assigned" in shown


def test_logs(bamictl: Bamictl) -> None:
    assert len(bamictl("logs", "talks", "--tail=2").splitlines()) == 2
    following = bamictl.start("logs", "-f", "talks", "--tail=1", stdout=subprocess.PIPE)
    assert following.stdout is not None
    try:
        numbers = [int(following.stdout.readline().split()[1]) for _ in range(5)]
        assert numbers == list(range(numbers[0], numbers[0] + 5))
    finally:
        following.terminate()
        following.communicate(timeout=10)


def test_exec(bamictl: Bamictl) -> None:
    assert bamictl("exec", "talks", "--", "hostname") == "talks\n"
    assert bamictl("exec", "-i", "talks", "--", "cat", stdin="hello\n") == "hello\n"
    failed = bamictl.run("exec", "talks", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (failed.returncode, failed.stdout) == (7, "out\n")
    assert failed.stderr == "err\ncommand terminated with exit code 7\n"
    assert "no-such-command" in bamictl.fails("exec", "talks", "--", "no-such-command")


def test_exec_with_a_terminal(bamictl: Bamictl, tmp_path: Path) -> None:
    """As a person has it: ``script`` gives bamictl a terminal, whose size the container learns."""
    wait = 'i=0; until [ "$(stty size)" = "33 101" ] || [ $i = 50 ]; do sleep 0.1; i=$((i+1)); done'
    words = bamictl.command("exec", "-it", "talks", "--", "sh", "-c", f"{wait}; stty size; tty; exit 5")
    inner = tmp_path / "inner"
    inner.write_text("stty rows 33 cols 101\nexec " + " ".join(map(quoted, words)) + "\n")
    done = subprocess.run(
        ["script", "-qec", f"sh {inner}", "/dev/null"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 5, done.stdout
    assert "33 101" in done.stdout and "/dev/pts/" in done.stdout


def quoted(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"


def test_config(bamictl: Bamictl, kubeconfig: str, tmp_path: Path) -> None:
    copy = tmp_path / "config"
    shutil.copy(kubeconfig, copy)
    config = Bamictl(copy)
    before = config("config", "current-context").strip()
    context = json.loads(config("config", "view", "-o", "json", "--minify"))["contexts"][0]
    assert context["name"] == before
    parts = [f"--{part}={context['context'][part]}" for part in ("cluster", "user")]
    assert config("config", "set-context", "there", *parts) == 'Context "there" created.\n'
    assert config("config", "use-context", "there") == 'Switched to context "there".\n'
    shown = [line.split()[:2] for line in config("config", "get-contexts").splitlines()]
    assert ["*", "there"] in shown
    until(lambda: config("get", "nodes", "-o", "name"), timeout=10, what="the new context to work")
    assert "deleted context there" in config("config", "delete-context", "there")
