"""What a node of the lab has on the machine, by name: two looks are compared to find what was left behind."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from bamikube.lab import cgroups
from bamikube.lab.topology import Topology

Footprint = dict[str, set[str]]


def footprint(lab: Any, node: str) -> Footprint:
    """Mounts, links, namespaces, addresses, folders, cgroups, shims, and what containerd itself holds."""
    init = int(lab.node(node)["pid"])
    root = Path(f"/proc/{init}/root")

    def names(folder: str) -> set[str]:
        path = root / folder
        return {entry.name for entry in path.iterdir()} if path.is_dir() else set()

    def held(*words: str) -> set[str]:
        socket = f"{root}/run/containerd/containerd.sock"
        command = ["ctr", "--address", socket, "--namespace", "k8s.io", "--connect-timeout", "5s", *words]
        return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())

    mounts = Path(f"/proc/{init}/mountinfo").read_text().splitlines()
    links = Path(f"/proc/{init}/net/dev").read_text().splitlines()[2:]
    group = f"{Topology().cgroup}/{node}"
    groups = [g for h in cgroups.hierarchies() for g in (h / group).glob("kubepods*/**/*pod*") if g.is_dir()]
    return {
        "mounts": {line.split()[4] for line in mounts},
        "links": {line.split(":")[0].strip() for line in links},
        "network namespaces": names("run/netns"),
        "addresses": {n for n in names("var/lib/cni/networks/bamikube") if not n.startswith(".")},
        "folders of pods": names("var/lib/kubelet/pods"),
        "logs of pods": names("var/log/pods"),
        "links to logs": names("var/log/containers"),
        "cgroups of pods": {str(g) for g in groups},
        "containers": held("containers", "list", "--quiet"),
        "tasks": held("tasks", "list", "--quiet"),
        "shims": {str(pid) for pid in shims(init)},
    }


def left_behind(before: Footprint, now: Footprint) -> Footprint:
    """What is there now and was not, by kind; nothing for kinds that are as they were."""
    return {kind: more for kind, names in now.items() if (more := names - before[kind])}


def shims(init: int) -> list[int]:
    """The shims in the process namespace that ``init`` is the first of, as the machine numbers them."""
    room, found = os.readlink(f"/proc/{init}/ns/pid"), []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
                if words[0].endswith(b"containerd-shim-runc-v2") and os.readlink(folder / "ns/pid") == room:
                    found.append(int(folder.name))
            except OSError:
                continue
    return sorted(found)
