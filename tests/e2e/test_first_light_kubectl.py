"""apply, output forms, selectors, watches, edits: kubectl's everyday verbs."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.kubectl import Kubectl, until

pytestmark = pytest.mark.e2e

DOCUMENTS = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, labels: {part: one}}
data: {colour: blue, size: "3"}
---
apiVersion: v1
kind: Secret
metadata: {name: hidden, labels: {part: one}}
data: {password: b3BlbiBzZXNhbWU=}
---
apiVersion: v1
kind: Pod
metadata: {name: reader, labels: {part: two}}
spec:
  # Without the token's volume: a list the server adds to makes kubectl send a patch every time.
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 0
  containers:
    - name: main
      image: busybox
      command: [sh, -c, "cat /settings/colour /hidden/password; echo $COLOUR; sleep 36000"]
      env:
        - {name: COLOUR, valueFrom: {configMapKeyRef: {name: settings, key: colour}}}
      volumeMounts:
        - {name: settings, mountPath: /settings}
        - {name: hidden, mountPath: /hidden}
  volumes:
    - {name: settings, configMap: {name: settings}}
    - {name: hidden, secret: {secretName: hidden}}
"""


@pytest.fixture(scope="module")
def k(kubeconfig: str) -> Iterator[Kubectl]:
    kubectl = Kubectl(Path(kubeconfig))
    kubectl("create", "namespace", "verbs")
    yield kubectl.within("verbs")
    kubectl("delete", "namespace", "verbs", "--wait=true", timeout=120)


def test_apply_twice_a_change_and_a_folder(k: Kubectl, tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"
    file.write_text(DOCUMENTS)
    first = k("apply", "-f", str(file))
    assert first.count("created") == 3
    assert k("apply", "-f", str(file)).count("unchanged") == 3
    file.write_text(DOCUMENTS.replace('colour: blue, size: "3"', "colour: green"))
    assert "configmap/settings configured" in k("apply", "-f", str(file))
    assert k.json("get", "configmap", "settings")["data"] == {"colour": "green"}
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / f"{name}.yaml").write_text(f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\n")
    assert k("apply", "-f", str(folder)).count("created") == 2
    k("wait", "--for=condition=Ready", "pod/reader", "--timeout=60s")
    assert until(lambda: k("logs", "reader"), what="the pod's words").split() == ["blueopen", "sesameblue"]


def test_output_forms(k: Kubectl) -> None:
    assert "kind: ConfigMap" in k("get", "configmap", "a", "-o", "yaml")
    assert k("get", "configmap", "settings", "-o", "jsonpath={.data.colour}") == "green"
    assert k("get", "configmaps", "-o", "name").split() == [
        "configmap/a",
        "configmap/b",
        "configmap/kube-root-ca.crt",
        "configmap/settings",
    ]
    columns = k("get", "configmaps", "-o", "custom-columns=N:.metadata.name,C:.data.colour").splitlines()
    assert columns[0].split() == ["N", "C"] and "settings" in columns[-1]
    assert json.loads(k("get", "pod", "reader", "-o", "json"))["spec"]["restartPolicy"] == "Always"


def test_selectors(k: Kubectl) -> None:
    assert k("get", "configmaps", "-l", "part=one", "-o", "name").split() == ["configmap/settings"]
    assert k("get", "configmaps", "-l", "part in (one, two), part notin (two)", "-o", "name").split() == [
        "configmap/settings"
    ]
    assert "configmap/settings" not in k("get", "configmaps", "-l", "!part", "-o", "name")
    assert k(
        "get", "pods", "--field-selector", "status.phase=Running,metadata.name=reader", "-o", "name"
    ).split() == ["pod/reader"]
    assert (
        k("get", "configmaps", "--field-selector", "metadata.name!=a", "-o", "name").count("configmap/") == 3
    )
    assert "not supported" in k.fails("get", "pods", "--field-selector", "spec.nothing=1")


def test_watches(k: Kubectl, tmp_path: Path) -> None:
    for words in (("-w",), ("--watch-only",)):
        out = tmp_path / "watch.txt"
        out.touch()
        with out.open("w") as sink:
            watching = k.start("get", "configmaps", "-o", "name", *words, stdout=sink)
            try:
                if words == ("-w",):
                    until(lambda out=out: "configmap/a" in out.read_text(), timeout=20, what="the list")
                    k("create", "configmap", "seen")
                    until(lambda out=out: "configmap/seen" in out.read_text(), timeout=20, what="the new one")
                else:
                    # Nothing says when the watch stands, so keep changing until it is told.
                    until(
                        lambda out=out: _beat(k) and "configmap/seen" in out.read_text(),
                        timeout=20,
                        what="a change",
                    )
                    assert "configmap/a" not in out.read_text()
            finally:
                watching.terminate()
                watching.wait(10)
    k("delete", "configmap", "seen")


def _beat(k: Kubectl) -> str:
    return k("annotate", "configmap", "seen", f"beat={time.monotonic()}", "--overwrite")


def test_label_annotate_patch_replace_edit(k: Kubectl, tmp_path: Path) -> None:
    k("label", "configmap", "a", "tier=front")
    assert "already has a value" in k.fails("label", "configmap", "a", "tier=back")
    k("label", "configmap", "a", "tier=back", "--overwrite")
    k("annotate", "configmap", "a", "note=written by hand")
    k("label", "configmap", "a", "tier-")
    meta = k.json("get", "configmap", "a")["metadata"]
    assert "tier" not in meta.get("labels", {}) and meta["annotations"]["note"] == "written by hand"
    k("patch", "configmap", "a", "--type=merge", "-p", '{"data":{"x":"1","y":"2"}}')
    k("patch", "configmap", "a", "--type=json", "-p", '[{"op":"remove","path":"/data/y"}]')
    assert k.json("get", "configmap", "a")["data"] == {"x": "1"}
    old = k.json("get", "configmap", "a")
    old["data"] = {"z": "9"}
    file = tmp_path / "a.json"
    file.write_text(json.dumps(old))
    k("replace", "-f", str(file))
    assert k.json("get", "configmap", "a")["data"] == {"z": "9"}
    assert "the object has been modified" in k.fails("replace", "-f", str(file))
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i \'s/z: "9"/z: edited/\' "$1"\n')
    editor.chmod(0o755)
    done = subprocess.run(
        k.command("edit", "configmap", "a"),
        env={"KUBE_EDITOR": str(editor), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "edited" in done.stdout, done.stderr
    assert k.json("get", "configmap", "a")["data"] == {"z": "edited"}


def test_explain_and_api_resources(k: Kubectl) -> None:
    assert "RESOURCE" in k("explain", "pods.spec.containers.livenessProbe") or "FIELD" in k(
        "explain", "pods.spec"
    )
    listed = k("api-resources")
    for row in ("deployments", "pods", "customresourcedefinitions", "leases"):
        assert row in listed
    assert "v1.34" in k("version")


def test_wrong_manifests_are_refused_with_the_field(k: Kubectl, tmp_path: Path) -> None:
    said = k.fails(
        "apply", "-f", "-", stdin="apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: []}\n"
    )
    assert "spec.containers: Required value" in said
    said = k.fails(
        "create", "-f", "-", stdin="apiVersion: v1\nkind: ConfigMap\nmetadata: {name: Not_A_Name}\n"
    )
    assert 'metadata.name: Invalid value: "Not_A_Name"' in said
    said = k.fails(
        "apply", "-f", "-", stdin="apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndatum: {}\n"
    )
    assert 'unknown field "datum"' in said
