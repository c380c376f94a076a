"""The configuration of the lab's node agents: a KubeletConfiguration, as on a machine that kubeadm has set up.

::

    /etc/kubernetes/kubelet.yaml          what the lab says, written at every start of a node
    /etc/kubernetes/kubelet.conf.d/*.conf laid over it, in the order of their names: yours

``bamikube up --kubelet-config FILE`` puts FILE there as ``50-up.conf`` on every node. Only what differs from node to node stays a flag.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bamikube.lab.topology import NodePaths, Topology

PKI = "/etc/kubernetes/pki"
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
FILE, FOLDER = "kubelet.yaml", "kubelet.conf.d"
GIVEN = "50-up.conf"  # what --kubelet-config named


class NotAConfiguration(RuntimeError):
    """The file given cannot be one of a node agent; the text says why."""


def configuration(topology: Topology) -> dict[str, Any]:
    """What every node of the lab is told. Pure."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"x509": {"clientCAFile": f"{PKI}/ca.crt"}},
        "clusterDNS": [topology.dns_address],
        "clusterDomain": topology.domain,
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        # The lab lives on somebody's laptop, which may well swap or be full: only what is truly short counts.
        "failSwapOn": False,
        "evictionHard": {
            "memory.available": "50Mi",
            "nodefs.available": "2%",
            "nodefs.inodesFree": "2%",
            "imagefs.available": "2%",
        },
        "healthzPort": 10248,
        "staticPodPath": "/etc/kubernetes/manifests",
        "tlsCertFile": f"{PKI}/kubelet.crt",
        "tlsPrivateKeyFile": f"{PKI}/kubelet.key",
    }


def write(own: NodePaths, topology: Topology) -> None:
    """The file of a node, and the folder of what is laid over it."""
    import yaml  # here and below: what only `up` needs

    (own.kubernetes / FOLDER).mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(configuration(topology), sort_keys=False)
    (own.kubernetes / FILE).write_text(text, encoding="utf-8")


def checked(path: Path) -> str:
    """The text of a KubeletConfiguration. Raises NotAConfiguration, or ends with what is wrong in it as the node agent would."""
    from bamikube.kit.options import parse_options
    from bamikube.nodeagent.configuration import load
    from bamikube.nodeagent.options import NodeAgentOptions

    try:
        if load.read(str(path), "") is None:
            raise NotAConfiguration(f"--kubelet-config {path}: its kind is not KubeletConfiguration")
        text = path.read_text(encoding="utf-8")
    except ValueError as error:
        raise NotAConfiguration(f"--kubelet-{str(error).removeprefix('--')}") from error
    parse_options(NodeAgentOptions, ["--config", str(path)], "bamikube up --kubelet-config")
    return text


def give(own: NodePaths, text: str) -> None:
    """Lay ``text`` over what the lab says, for one node."""
    folder = own.kubernetes / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    (folder / GIVEN).write_text(text, encoding="utf-8")
