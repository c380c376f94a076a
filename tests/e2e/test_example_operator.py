"""The project's example operator, run by kopf: a custom resource with status, scale, owned objects and a finalizer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/website-operator"


@pytest.fixture
def operator(kubectl: Any, namespace: str, tmp_path: Path, eventually: Any) -> Iterator[str]:
    """The namespace of a running operator."""
    kubectl("apply", "-f", str(EXAMPLE / "crd.yaml"))
    kubectl("wait", "--for=condition=Established", "crd/websites.examples.bamikube.io", "--timeout=20s")
    log = tmp_path / "operator.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "kopf", "run", str(EXAMPLE / "operator.py"), f"--namespace={namespace}"],
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "KUBECONFIG": str(kubectl.kubeconfig)},
        )
    try:
        eventually(
            lambda: "authentication has finished" in log.read_text() or process.poll() is not None, 30, "kopf"
        )
        assert process.poll() is None, log.read_text()
        yield namespace
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        kubectl.run("delete", "-f", str(EXAMPLE / "crd.yaml"), "--wait=false")


def test_a_website_lives_grows_and_leaves_a_record(operator: str, kubectl: Any, eventually: Any) -> None:
    within = kubectl.within(operator)
    within("apply", "-f", str(EXAMPLE / "website.yaml"))
    within("wait", "--for=jsonpath={.status.phase}=Built", "website/hello", "--timeout=30s")
    assert within("get", "site", "hello", "-o", "jsonpath={.metadata.finalizers}").strip() == (
        '["examples.bamikube.io/farewell"]'
    )
    within("rollout", "status", "deployment/hello", "--timeout=60s")
    assert within("get", "website").split()[:4] == ["NAME", "REPLICAS", "PHASE", "AGE"]
    within("scale", "website/hello", "--replicas=3")
    eventually(
        lambda: within("get", "deployment", "hello", "-o", "jsonpath={.spec.replicas}") == "3",
        20,
        "three replicas",
    )
    assert "should be less than or equal to 10" in within.fails("scale", "website/hello", "--replicas=11")

    within("delete", "website", "hello", "--timeout=30s")
    assert within("get", "configmap", "websites-that-were", "-o", "jsonpath={.data.hello}") == "gone"
    eventually(
        lambda: (
            not within(
                "get",
                "deployment/hello",
                "service/hello",
                "configmap/hello",
                "-o",
                "name",
                "--ignore-not-found",
            ).split()
        ),
        30,
        "the end of what belonged to the website",
    )
