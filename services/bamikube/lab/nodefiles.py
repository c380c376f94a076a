"""The files a node needs on its disk before it starts: containerd's configuration, CNI plugins, node.json."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import orjson

from bamikube.lab import cgroups, kubelet
from bamikube.lab.topology import LabPaths, Node, Topology
from bamikube.lab.units import units_for

PROJECT = Path(__file__).resolve().parents[3]
DEPLOY = PROJECT / "deploy"
CNI_PLUGINS = Path("/usr/lib/cni")
_CAP_SYS_RESOURCE, _CAP_SYS_ADMIN = 24, 21


class MissingTemplate(RuntimeError):
    """The lab is run from an incomplete installation."""


def fill(template: str, values: dict[str, str]) -> str:
    """``template`` with every ``@NAME@`` replaced. Raises KeyError for a placeholder without a value."""
    for name, value in values.items():
        template = template.replace(f"@{name}@", value)
    return template


def _template(name: str) -> str:
    path = DEPLOY / name
    if not path.is_file():
        raise MissingTemplate(
            f"{path} is missing: run the lab from the project's folder (pip install -e), not from a copied package"
        )
    return path.read_text(encoding="utf-8")


def has_capability(number: int) -> bool:
    """Whether this process holds a Linux capability."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> number & 1)
    return False


def containerd_config() -> str:
    """config.toml for this machine."""
    return fill(
        _template("containerd/config.toml.in"),
        {
            "RESTRICT_OOM": "false" if has_capability(_CAP_SYS_RESOURCE) else "true",
            "DISABLE_APPARMOR": "false" if Path("/sys/kernel/security/apparmor").is_dir() else "true",
            "SNAPSHOTTER": "overlayfs",
            "SYSTEMD_CGROUP": "false",
        },
    )


def prepare(node: Node, topology: Topology, paths: LabPaths) -> None:
    """Write everything below the node's folder; files of a node that ran before are kept or renewed."""
    own = paths.node(node.name)
    own.logs.mkdir(parents=True, exist_ok=True)
    certs = own.disk / "etc-containerd" / "certs.d" / "_default"
    certs.mkdir(parents=True, exist_ok=True)
    (own.disk / "etc-containerd" / "config.toml").write_text(containerd_config(), encoding="utf-8")
    (certs / "hosts.toml").write_text(
        fill(_template("containerd/hosts.toml.in"), {"REGISTRY_PORT": str(topology.registry_port)}),
        encoding="utf-8",
    )
    plugins = own.disk / "opt-cni" / "bin"
    plugins.mkdir(parents=True, exist_ok=True)
    (own.disk / "etc-cni" / "net.d").mkdir(parents=True, exist_ok=True)
    if CNI_PLUGINS.is_dir():
        for plugin in CNI_PLUGINS.iterdir():
            link = plugins / plugin.name
            if not link.is_symlink() and not link.exists():
                link.symlink_to(plugin)
    etcd = own.disk / "var-lib-etcd"
    etcd.mkdir(parents=True, exist_ok=True)
    etcd.chmod(0o700)
    kubelet.write(own, topology)
    own.config.write_bytes(orjson.dumps(node_config(node, topology, paths), option=orjson.OPT_INDENT_2))


def node_config(node: Node, topology: Topology, paths: LabPaths) -> dict[str, Any]:
    """What the node's init is told: ``node.json``."""
    return {
        "name": node.name,
        "folder": str(paths.node(node.name).root),
        "cgroup": f"{topology.cgroup}/{node.name}",
        "hosts": {other.address: other.name for other in topology.nodes},
        "units": [unit.as_json() for unit in units_for(node, topology, paths)],
    }


def make_cgroups(node: Node, topology: Topology) -> None:
    """The node's control groups, with one for its services."""
    cgroups.create(f"{topology.cgroup}/{node.name}/system")


def forget(paths: LabPaths) -> None:
    """Remove the lab's state; the caches beside it stay."""
    shutil.rmtree(paths.root, ignore_errors=True)
