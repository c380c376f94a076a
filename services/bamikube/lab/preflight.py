"""What must be true of the machine before a lab can start, each with what to do if it is not.

Deciding is pure (:func:`judge` over :class:`Facts`); :func:`look` gathers the facts.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bamikube.lab import cgroups, hostnet
from bamikube.lab.topology import LabPaths, Topology

# Program -> the Debian package that brings it.
PROGRAMS: Mapping[str, str] = {
    "containerd": "containerd",
    "runc": "runc",
    "etcd": "etcd-server",
    "ip": "iproute2",
    "nft": "nftables",
    "conntrack": "conntrack",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "mount": "mount",
}
FREE_BYTES = 2 << 30


@dataclass(frozen=True, slots=True)
class Facts:
    """What was found on the machine."""

    root: bool
    missing: tuple[str, ...]  # programs of PROGRAMS that are not installed
    loopback_plugin: bool
    cgroups: tuple[str, ...]  # controllers (version 1) or what the unified hierarchy offers
    foreign_bridge: bool  # the lab's bridge exists but belongs to something else
    network_user: str  # another interface with an address in the lab's network; empty: none
    free_bytes: int
    forward_dropped: bool  # a firewall of the machine drops what crosses bridges
    filesystems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong and what to do. A warning does not stop the lab."""

    what: str
    do: str
    warning: bool = False


def judge(facts: Facts, topology: Topology) -> list[Problem]:
    """Everything that stands in the way, all at once."""
    problems: list[Problem] = []
    if not facts.root:
        problems.append(
            Problem("a lab needs root: it makes namespaces, mounts and network links", "run it with sudo")
        )
    if facts.missing:
        packages = " ".join(sorted({PROGRAMS[name] for name in facts.missing}))
        problems.append(
            Problem(
                f"not installed: {', '.join(facts.missing)}",
                f"make install, or: apt-get install --no-install-recommends {packages}",
            )
        )
    if not facts.loopback_plugin:
        problems.append(
            Problem(
                "the CNI plugin 'loopback' is not in /usr/lib/cni",
                "make install, or: apt-get install --no-install-recommends containernetworking-plugins",
            )
        )
    if lacking := sorted({"cpu", "memory", "pids"} - set(facts.cgroups)):
        problems.append(
            Problem(
                f"cgroup controllers are missing: {', '.join(lacking)}",
                "mount them below /sys/fs/cgroup (in a container: run it privileged, with its own cgroup namespace off)",
            )
        )
    if facts.foreign_bridge:
        problems.append(
            Problem(
                f"an interface {topology.bridge} exists that this lab did not make",
                f"bamikube down; if it is not from a lab, rename it: ip link set {topology.bridge} name NAME",
            )
        )
    if facts.network_user:
        problems.append(
            Problem(
                f"{topology.network} is in use on interface {facts.network_user}",
                "the lab's network cannot overlap with one of the machine: take that address away or use another machine",
            )
        )
    if facts.free_bytes < FREE_BYTES:
        problems.append(
            Problem(
                f"only {facts.free_bytes >> 20} MiB are free on the lab's disk, {FREE_BYTES >> 20} MiB are needed",
                "free some space, or put the lab elsewhere with --lab-dir",
            )
        )
    if "overlay" not in facts.filesystems:
        problems.append(Problem("the kernel has no overlay file system", "modprobe overlay"))
    if facts.forward_dropped:
        problems.append(
            Problem(
                "the machine's firewall drops forwarded packets (docker's does) and bridges pass through it",
                f"iptables -I FORWARD -i {topology.bridge} -j ACCEPT; iptables -I FORWARD -o {topology.bridge} -j ACCEPT",
                warning=True,
            )
        )
    return problems


def look(topology: Topology, paths: LabPaths, *, own: bool) -> Facts:
    """The facts of this machine. ``own``: a lab of ours left its bridge (an ``up`` that was interrupted)."""
    folder = paths.root
    while not folder.exists():
        folder = folder.parent
    return Facts(
        root=os.geteuid() == 0,
        missing=tuple(name for name in PROGRAMS if shutil.which(name) is None),
        loopback_plugin=Path("/usr/lib/cni/loopback").exists(),
        cgroups=_controllers(),
        foreign_bridge=hostnet.exists(topology.bridge) and not own,
        network_user=_network_user(topology),
        free_bytes=shutil.disk_usage(folder).free,
        forward_dropped=_forward_dropped(),
        filesystems=_filesystems(),
    )


def _filesystems() -> tuple[str, ...]:
    known = tuple(line.split()[-1] for line in Path("/proc/filesystems").read_text().splitlines())
    if "overlay" not in known and shutil.which("modprobe"):
        subprocess.run(["modprobe", "overlay"], capture_output=True, check=False)
        known = tuple(line.split()[-1] for line in Path("/proc/filesystems").read_text().splitlines())
    return known


def _controllers() -> tuple[str, ...]:
    if not cgroups.ROOT.is_dir():
        return ()
    if cgroups.is_v2():
        return tuple((cgroups.ROOT / "cgroup.controllers").read_text().split())
    return tuple(part for path in cgroups.hierarchies() for part in path.name.split(","))


def _network_user(topology: Topology) -> str:
    if shutil.which("ip") is None:
        return ""
    done = subprocess.run(
        ["ip", "-j", "address", "show", "to", topology.network], capture_output=True, text=True, check=False
    )
    try:
        found = json.loads(done.stdout or "[]")
    except json.JSONDecodeError:
        return ""
    names = [entry.get("ifname", "") for entry in found if entry.get("addr_info")]
    return next((name for name in names if name and name != topology.bridge), "")


def _forward_dropped() -> bool:
    called = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    if not called.exists() or called.read_text().strip() != "1" or shutil.which("iptables") is None:
        return False
    done = subprocess.run(["iptables", "-S", "FORWARD"], capture_output=True, text=True, check=False)
    return "-P FORWARD DROP" in done.stdout
