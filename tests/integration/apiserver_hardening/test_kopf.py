"""An operator in kopf with everything it has: peering, an admission server, indices, timers, daemons, retries, a finalizer.

What it keeps about its work lies in the status, of which the definition says nothing but that it may hold anything.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bamikube.kit.world import World
from bamikube.pki.authority import Authority, Request
from tests.support.kubectl import Kubectl, until
from tests.support.private_api import PrivateApi

OPERATOR = """
import kopf

GROUP, FOLDER = "kopf.example.com", {folder!r}

@kopf.on.startup()
def configure(settings, **_):
    settings.peering.name, settings.peering.clusterwide = "peers", True
    settings.persistence.finalizer = "kopf.example.com/finalizer"
    settings.persistence.progress_storage = kopf.StatusProgressStorage()
    settings.persistence.diffbase_storage = kopf.StatusDiffBaseStorage()
    settings.admission.managed = "kopf.example.com"
    settings.admission.server = kopf.WebhookServer(
        addr="127.0.0.1", certfile=f"{{FOLDER}}/cert.pem", pkeyfile=f"{{FOLDER}}/key.pem", cafile=f"{{FOLDER}}/ca.pem"
    )

@kopf.index(GROUP, "things")
def colors(spec, name, **_):
    return {{spec.get("color"): name}}

@kopf.on.mutate(GROUP, "things")
def fill(spec, patch, **_):
    if "size" not in spec:
        patch.spec["size"] = 7

@kopf.on.validate(GROUP, "things")
def judge(spec, warnings, **_):
    warnings.append("kopf has looked at it")
    if spec.get("color") == "bad":
        raise kopf.AdmissionError("no such color")

@kopf.on.create(GROUP, "things", backoff=0.1)
def create(retry, patch, colors: kopf.Index, **_):
    if retry < 1:
        raise kopf.TemporaryError("not yet", delay=0.1)
    patch.metadata.labels["by"] = "kopf"
    return {{"retry": retry, "colors": sorted(colors)}}

@kopf.on.field(GROUP, "things", field="spec.color")
def colored(old, new, **_):
    return {{"old": old, "new": new}}

@kopf.timer(GROUP, "things", interval=0.1)
def tick(patch, status, **_):
    patch.status["ticks"] = status.get("ticks", 0) + 1

@kopf.daemon(GROUP, "things", cancellation_timeout=5)
async def watch(stopped, **_):
    await stopped.wait()
    open(f"{{FOLDER}}/stopped", "w").close()
"""


def definition(group: str, plural: str, kind: str, scope: str, **properties: Any) -> dict[str, Any]:
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema = {"type": "object", "properties": {**properties, "status": anything}}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    if properties:
        version["subresources"] = {"status": {}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": scope,
            "names": {"plural": plural, "singular": kind.lower(), "kind": kind, "listKind": f"{kind}List"},
            "versions": [version],
        },
    }


@pytest.fixture
def operator(private: PrivateApi, namespace: str, tmp_path: Path) -> Iterator[Kubectl]:
    """kubectl in the namespace of an operator that runs."""
    k = Kubectl(private.kubeconfig, namespace)
    spec = {
        "type": "object",
        "properties": {"color": {"type": "string"}, "size": {"type": "integer"}},
    }
    for body in (
        definition("kopf.dev", "clusterkopfpeerings", "ClusterKopfPeering", "Cluster"),
        definition("kopf.example.com", "things", "Thing", "Namespaced", spec=spec),
    ):
        k("apply", "-f", "-", stdin=json.dumps(body))
        k("wait", "--for=condition=Established", f"crd/{body['metadata']['name']}", "--timeout=20s")
    peers = {"apiVersion": "kopf.dev/v1", "kind": "ClusterKopfPeering", "metadata": {"name": "peers"}}
    k("apply", "-f", "-", stdin=json.dumps(peers))
    authority = Authority.create("kopf-ca", World())
    issued = authority.issue(Request("kopf", sans=("127.0.0.1", "localhost"), server=True))
    (tmp_path / "ca.pem").write_bytes(authority.certificate_pem)
    (tmp_path / "cert.pem").write_bytes(issued.certificate_pem)
    (tmp_path / "key.pem").write_bytes(issued.key_pem)
    (tmp_path / "operator.py").write_text(OPERATOR.format(folder=str(tmp_path)))
    log = tmp_path / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "kopf", "run", str(tmp_path / "operator.py"), "-A"],
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "KUBECONFIG": str(private.kubeconfig)},
        )
    try:
        webhooks = ("get", "validatingwebhookconfiguration", "kopf.example.com", "-o", "name")
        until(lambda: k.run(*webhooks).stdout or process.poll() is not None, what="kopf's webhooks")
        assert process.poll() is None, log.read_text()
        yield k
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        k.run("delete", "mutatingwebhookconfiguration,validatingwebhookconfiguration", "kopf.example.com")
        k.run("delete", "crd", "things.kopf.example.com", "clusterkopfpeerings.kopf.dev", "--wait=false")


def test_an_operator_with_everything(operator: Kubectl, tmp_path: Path) -> None:
    k = operator
    thing = {"apiVersion": "kopf.example.com/v1", "kind": "Thing", "metadata": {"name": "a"}}

    def apply(color: str) -> subprocess.CompletedProcess[str]:
        return k.run("apply", "-f", "-", stdin=json.dumps({**thing, "spec": {"color": color}}))

    until(lambda: "size" in k.json("create", "--dry-run=server", "-f", _written(tmp_path, thing))["spec"])
    assert apply("red").stderr == "Warning: kopf has looked at it\n"
    made = until(lambda: (one := k.json("get", "thing", "a"))["status"]["create"] and one)
    assert made["status"]["create"] == {"retry": 1, "colors": ["red"]}
    assert made["spec"]["size"] == 7 and made["metadata"]["labels"] == {"by": "kopf"}
    assert made["metadata"]["finalizers"] == ["kopf.example.com/finalizer"]
    assert apply("blue").returncode == 0
    until(
        lambda: k.json("get", "thing", "a")["status"]["colored/spec.color"] == {"old": "red", "new": "blue"}
    )
    until(lambda: k.json("get", "thing", "a")["status"]["ticks"] > 3)
    refused = apply("bad")
    assert 'admission webhook "judge.kopf.example.com" denied the request: no such color' in refused.stderr
    assert len(k.json("get", "clusterkopfpeering", "peers")["status"]) == 1
    k("delete", "thing", "a", "--timeout=20s")
    assert (tmp_path / "stopped").exists(), "the daemon ended before its object"


def _written(folder: Path, thing: dict[str, Any]) -> str:
    path = folder / "thing.json"
    path.write_text(json.dumps({**thing, "spec": {}}))
    return str(path)
