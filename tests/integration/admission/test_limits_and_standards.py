"""Limit ranges, Pod Security Standards and default classes, as kubectl and the Python client meet them."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from kubernetes import client

from tests.support.kubectl import Kubectl
from tests.support.private_api import SERVICES

from .conftest import until

LIMITS = """
apiVersion: v1
kind: LimitRange
metadata: {name: limits}
spec:
  limits:
  - type: Container
    max: {cpu: "1", memory: 1Gi}
    min: {cpu: 50m}
    default: {cpu: 500m, memory: 512Mi}
    defaultRequest: {cpu: 100m, memory: 128Mi}
    maxLimitRequestRatio: {cpu: "10"}
  - type: PersistentVolumeClaim
    max: {storage: 2Gi}
"""
CLAIM = """
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: %s}}}
"""


def overrides(**resources: Any) -> str:
    import json

    one = {"name": "big", "image": "app:1", "resources": resources}
    return "--overrides=" + json.dumps({"spec": {"containers": [one]}})


def test_limit_ranges(kubectl: Kubectl) -> None:
    """LimitRange: defaults are filled in, pods beyond the limits are refused."""
    kubectl("apply", "-f", "-", stdin=LIMITS)
    assert "Container" in kubectl("describe", "limits", "limits")
    kubectl("run", "plain", "--image=app:1")
    made = kubectl.json("get", "pod", "plain")
    assert made["spec"]["containers"][0]["resources"] == {
        "limits": {"cpu": "500m", "memory": "512Mi"},
        "requests": {"cpu": "100m", "memory": "128Mi"},
    }
    assert made["metadata"]["annotations"]["kubernetes.io/limit-ranger"].startswith(
        "LimitRanger plugin set: cpu"
    )
    assert made["status"]["qosClass"] == "Burstable"
    text = kubectl.fails("run", "big", "--image=app:1", overrides(limits={"cpu": "2"}))
    assert (
        'Error from server (Forbidden): pods "big" is forbidden: maximum cpu usage per Container is 1, but limit is 2'
        in text
    )
    text = kubectl.fails(
        "run", "big", "--image=app:1", overrides(requests={"cpu": "10m"}, limits={"cpu": "1"})
    )
    assert (
        "[minimum cpu usage per Container is 50m, but request is 10m, cpu max limit to request ratio" in text
    )
    text = kubectl.fails("apply", "-f", "-", stdin=CLAIM % "5Gi")
    assert "maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 5Gi" in text
    kubectl("apply", "-f", "-", stdin=CLAIM % "1Gi")
    kubectl("delete", "pvc", "data")  # protected, and released because nobody uses it


def test_pod_security(kubectl: Kubectl, namespace: str) -> None:
    kubectl("run", "early", "--image=app:1")
    labels = ("pod-security.kubernetes.io/enforce=restricted", "pod-security.kubernetes.io/warn=restricted")
    done = kubectl.run("label", "--dry-run=server", "--overwrite", "namespace", namespace, labels[0])
    for line in (
        f'Warning: existing pods in namespace "{namespace}" violate the new PodSecurity enforce level '
        '"restricted:latest"',
        "Warning: early: allowPrivilegeEscalation != false, unrestricted capabilities, runAsNonRoot != true, "
        "seccompProfile",
    ):
        assert line in done.stderr
    kubectl("label", "namespace", namespace, *labels)
    text = kubectl.fails("run", "late", "--image=app:1")
    assert (
        'Error from server (Forbidden): pods "late" is forbidden: violates PodSecurity "restricted:latest": '
        'allowPrivilegeEscalation != false (container "late" must set securityContext.allowPrivilegeEscalation=false), '
        'unrestricted capabilities (container "late" must set securityContext.capabilities.drop=["ALL"]), '
        'runAsNonRoot != true (pod or container "late" must set securityContext.runAsNonRoot=true), '
        'seccompProfile (pod or container "late" must set securityContext.seccompProfile.type to "RuntimeDefault" or '
        '"Localhost")' in text
    )
    done = kubectl.run("create", "deployment", "web", "--image=app:1")
    assert done.returncode == 0
    assert (
        'Warning: would violate PodSecurity "restricted:latest": allowPrivilegeEscalation != false'
        in done.stderr
    )
    until(lambda: "violates PodSecurity" in kubectl("get", "replicaset", "-o", "yaml"))
    text = kubectl.fails(
        "label", "--overwrite", "namespace", namespace, "pod-security.kubernetes.io/enforce=strict"
    )
    assert 'Invalid value: "strict": must be one of privileged, baseline, restricted' in text


def test_default_classes(core: client.CoreV1Api, kubectl: Kubectl) -> None:
    kubectl(
        "apply",
        "-f",
        "-",
        stdin="""
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: mine, annotations: {storageclass.kubernetes.io/is-default-class: "true"}}
provisioner: example.com/none
""",
    )
    kubectl("apply", "-f", "-", stdin=CLAIM % "1Gi")
    claim = kubectl.json("get", "pvc", "data")
    assert claim["spec"]["storageClassName"] == "mine"
    assert claim["metadata"]["finalizers"] == ["kubernetes.io/pvc-protection"]
    kubectl("delete", "storageclass", "mine")
    text = kubectl.fails("run", "p", "--image=app:1", '--overrides={"spec":{"runtimeClassName":"gvisor"}}')
    assert 'pods "p" is forbidden: pod rejected: RuntimeClass "gvisor" not found' in text


def test_unknown_plugins_stop_the_server_at_its_start() -> None:
    code = "import sys; from bamikube.apiserver.main import main; sys.exit(main())"
    flags = ["--bind-address=127.0.0.1", "--secure-port=0", "--enable-admission-plugins=LimitRangr"]
    done = subprocess.run(
        [sys.executable, "-c", code, *flags],
        env=os.environ | {"PYTHONPATH": str(SERVICES)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert (
        "--enable-admission-plugins: unknown admission plugins LimitRangr; known are Namespace" in done.stderr
    )
