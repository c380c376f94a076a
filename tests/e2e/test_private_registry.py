"""A registry that asks who one is, seen from pods of the lab: secrets of a pod and of its ServiceAccount; and images nobody uses go."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.private_registry import docker_config

ROOT = Path(__file__).parents[2]
NODE = "worker-1"
PORT = 5077
PLACE = f"127.0.0.1:{PORT}"
IMAGE = f"{PLACE}/private/app:1"
HEAD = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"

pytestmark = pytest.mark.slow


@pytest.fixture
def registry(bamikube: Any, kubectl: Any, tmp_path: Path) -> Iterator[None]:
    """The registry on the node's own loopback."""
    argv = ["nsenter", "-t", str(bamikube.unit_pid(NODE, "nodeagent")), "-n", "--", sys.executable]
    argv += ["-m", "tests.support.private_registry", str(tmp_path), str(PORT)]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}/services:{ROOT}"}
    process = subprocess.Popen(argv, env=environment, cwd=ROOT, stderr=subprocess.DEVNULL)
    yield
    process.kill()
    process.wait()


def pod(name: str, **spec: Any) -> dict[str, Any]:
    container = {"name": "app", "image": IMAGE, "imagePullPolicy": "Always"}
    spec = {"nodeName": NODE, "terminationGracePeriodSeconds": 0, "containers": [container]} | spec
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def secret(name: str, password: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "type": "kubernetes.io/dockerconfigjson",
        "stringData": {".dockerconfigjson": docker_config(PLACE, password)},
    }


def test_a_private_image_is_pulled_with_the_right_secret_alone_and_goes_when_unused(
    lab: Any, kubectl: Any, namespace: str, eventually: Callable[..., Any], registry: None, tmp_path: Path
) -> None:
    def apply(*objects: dict[str, Any]) -> None:
        file = tmp_path / "objects.json"
        file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
        kubectl("apply", "-n", namespace, "-f", str(file))

    def seen(name: str) -> dict[str, Any]:
        return dict(json.loads(kubectl("get", "pod", name, "-n", namespace, "-o", "json")))

    def waiting(name: str) -> dict[str, Any]:
        (status,) = seen(name)["status"].get("containerStatuses") or [{}]
        return dict((status.get("state") or {}).get("waiting") or {})

    def events(name: str) -> list[tuple[str, str]]:
        which = f"involvedObject.name={name}"
        found = json.loads(kubectl("get", "events", "-n", namespace, "--field-selector", which, "-o", "json"))
        return [(one["reason"], one["message"]) for one in found["items"]]

    def ready(name: str) -> None:
        kubectl("wait", "-n", namespace, "--for=condition=Ready", f"pod/{name}", "--timeout=60s")

    apply(
        secret("wrong", "guessed"),
        secret("right", "right"),
        pod("nobody"),
        pod("mistaken", imagePullSecrets=[{"name": "wrong"}]),
        pod("knowing", imagePullSecrets=[{"name": "wrong"}, {"name": "right"}, {"name": "missing"}]),
    )
    ready("knowing")
    told = dict(events("knowing"))
    assert told["FailedToRetrieveImagePullSecret"] == (
        "Unable to retrieve some image pull secrets (missing); attempting to pull the image may not succeed."
    )
    assert told["Pulled"].startswith(f'Successfully pulled image "{IMAGE}" in ')
    for name in ("nobody", "mistaken"):
        eventually(lambda name=name: waiting(name).get("reason") == "ImagePullBackOff", 60)
        said = waiting(name)["message"]
        assert said.startswith(f'Back-off pulling image "{IMAGE}": ErrImagePull: ')
        cause = said.removeprefix(f'Back-off pulling image "{IMAGE}": ErrImagePull: ')
        told_here = events(name)
        assert ("Failed", f'Failed to pull image "{IMAGE}": {cause}') in told_here
        assert {("Failed", "Error: ErrImagePull"), ("Failed", "Error: ImagePullBackOff")} <= set(told_here)
        assert ("BackOff", f'Back-off pulling image "{IMAGE}"') in told_here
        assert seen(name)["status"]["phase"] == "Pending"

    # The ServiceAccount's secrets are those of pods that name none.
    word = json.dumps({"imagePullSecrets": [{"name": "right"}]})
    kubectl("patch", "serviceaccount", "default", "-n", namespace, "-p", word)
    apply(pod("served"))
    ready("served")
    assert seen("served")["spec"]["imagePullSecrets"] == [{"name": "right"}]
    # A wrong secret that becomes right is used at the next try.
    apply(secret("wrong", "right"))
    ready("mistaken")

    # Nobody uses the image any more, and the disk is fuller than its threshold: it goes.
    node = ("get", "node", NODE, "-o", "json")

    def images() -> set[str]:
        return {name for image in json.loads(kubectl(*node))["status"]["images"] for name in image["names"]}

    eventually(lambda: IMAGE in images(), 30)
    kubectl("delete", "pod", "-n", namespace, "--all", "--timeout=60s")
    keeper = pod(
        "keeper", containers=[{"name": "app", "image": "busybox:1.36", "command": ["sleep", "1000"]}]
    )
    apply(keeper)
    ready("keeper")
    given = lab.folder / "nodes" / NODE / "disk" / "etc-kubernetes" / "kubelet.conf.d" / "60-test.conf"
    given.write_text(
        HEAD + "imageGCHighThresholdPercent: 1\nimageGCLowThresholdPercent: 0\nimageMinimumGCAge: 1us\n"
    )
    try:
        lab("node", "restart-unit", NODE, "nodeagent")
        eventually(lambda: IMAGE not in images(), 60)
        assert "docker.io/library/busybox:1.36" in images()
        which = f"involvedObject.name={NODE},reason=FreeDiskSpaceFailed"

        def short() -> bool:
            found = json.loads(kubectl("get", "events", "-A", "--field-selector", which, "-o", "json"))
            return any("bytes eligible to free." in one["message"] for one in found["items"])

        eventually(short, 20, "an event, for no disk is ever empty")
    finally:
        given.unlink()
        lab("node", "restart-unit", NODE, "nodeagent")
