"""One real node: containerd, node agent, API server and etcd, each a process of its own, with pods to talk to.

Everything lives in a network namespace of the test's own, so that the node has its usual ports. ``shell`` sleeps and
serves ``/www`` on port 8080, ``listens`` repeats every line it hears on its standard input, and so does ``terminal``, which
has one.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.kubectl import Kubectl, until
from tests.support.private_api import PrivateApi
from tests.support.private_containerd import PrivateContainerd, images, network_namespace, unmount_below

PODS = {
    "shell": {
        "command": ["sh", "-c", "mkdir -p /www; echo hello >/www/index.html; exec httpd -f -p 8080 -h /www"]
    },
    "terminal": {
        "stdin": True,
        "tty": True,
        "command": ["sh", "-c", "while read line; do echo got $line; done"],
    },
    "listens": {
        "stdin": True,
        "command": ["sh", "-c", "echo ready; while read line; do echo got $line; done; sleep 100"],
    },
}


class OneNode:
    """A node named ``master`` and the API it belongs to; ``kubeconfig`` is an administrator's."""

    def __init__(self, base: Path, containerd: PrivateContainerd, group: str) -> None:
        self.base = base
        self.api = PrivateApi(base / "api", controllers=False)
        self.kubeconfig = self.api.kubeconfig
        self._containerd, self._group = containerd, group

    @property
    def kubectl(self) -> Kubectl:
        return Kubectl(self.kubeconfig)

    def start(self) -> None:
        self.api.start()
        home = self.api.home
        self.api.spawn(
            "nodeagent",
            f"--kubeconfig={home}/kubelet.conf",
            "--hostname-override=master",
            "--node-ip=127.0.0.1",
            "--address=127.0.0.1",
            f"--container-runtime-endpoint={self._containerd.endpoint}",
            f"--cgroup-root={self._group}",
            f"--root-dir={self.base}/kubelet",
            f"--log-dir={self.base}/log",
            f"--client-ca-file={home}/pki/ca.crt",
            f"--tls-cert-file={home}/pki/kubelet.crt",
            f"--tls-private-key-file={home}/pki/kubelet.key",
        )
        self.kubectl("create", "serviceaccount", "default")
        for name, container in PODS.items():
            self._create(name, container)
        until(self._ready, what=self.api.log("nodeagent")[-2000:])

    def _create(self, name: str, container: dict[str, Any]) -> None:
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {
                "nodeName": "master",
                "automountServiceAccountToken": False,
                "terminationGracePeriodSeconds": 0,
                "tolerations": [{"operator": "Exists"}],
                "containers": [{"name": "app", "image": "bamikube.test/busybox:1", **container}],
            },
        }
        self.kubectl("create", "-f", "-", stdin=json.dumps(pod))

    def _ready(self) -> bool:
        states = self.kubectl("get", "pods", "-o", "jsonpath={.items[*].status.phase}")
        return states.split() == ["Running"] * len(PODS)

    def stop(self) -> None:
        self.kubectl.run("delete", "pods", "--all", "--force", "--grace-period=0", timeout=20)
        self.api.stop()


@pytest.fixture(scope="module")
def cluster() -> Iterator[OneNode]:
    base = Path(tempfile.mkdtemp(prefix="bami-streams-", dir="/var/tmp"))
    group = f"/bamikube-test-{uuid.uuid4().hex[:8]}"
    archives = images()  # may fetch a Debian package, which the namespace below could not
    with network_namespace():
        containerd = PrivateContainerd(base / "containerd")
        node = OneNode(base, containerd, group)
        try:
            containerd.base.mkdir()
            containerd.start()
            containerd.load_images(archives)
            node.start()
            yield node
        finally:
            node.stop()
            containerd.stop()
            unmount_below(base)
            shutil.rmtree(base, ignore_errors=True)
            for path in sorted(Path("/sys/fs/cgroup").glob(f"*{group}/**/"), reverse=True):
                if not path.is_symlink():
                    path.rmdir()
