"""Whether a machine can be a node: findings, each with the way out. Pure.

A *fatal* finding ends the node agent at once; with the others it runs, and the node may not become ready. Everything is said
in one go: who mends one thing should not have to start again to hear of the next.

The words about swap are the kubelet's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bamikube.nodeagent.runtime.port import Condition

NEEDED = ("cpu", "memory")  # controllers without which no pod can be bound to anything
WANTED = ("cpuset", "hugetlb", "pids")
SKEW = 2.0  # seconds between this clock and the API server's from which on it is said


@dataclass(frozen=True, slots=True)
class Machine:
    """What was found. ``root_fault``: why nothing can be written below ``--root-dir``, "" when it can."""

    user: int
    root: str
    root_fault: str
    controllers: frozenset[str]
    cgroups_v2: bool
    swap: tuple[str, ...]  # what is swapped to


@dataclass(frozen=True, slots=True)
class Finding:
    """``text`` says what is wrong, ``fix`` what to do."""

    text: str
    fix: str
    fatal: bool = False

    def __str__(self) -> str:
        return f"{self.text}; {self.fix}"


# What the kubelet wants of the kernel (--protect-kernel-defaults).
KERNEL = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1000000,
    "kernel/keys/root_maxbytes": 25000000,
}


def of_kernel(seen: Mapping[str, int]) -> list[Finding]:
    """Settings that are not what they should be; those that this kernel does not have are left out of ``seen``."""
    different = {name: value for name, value in KERNEL.items() if seen.get(name, value) != value}
    if not different:
        return []
    text = ", ".join(
        f"invalid kernel flag: {name}, expected value: {value}, actual value: {seen[name]}"
        for name, value in different.items()
    )
    settings = " ".join(f"{name.replace('/', '.')}={value}" for name, value in different.items())
    return [Finding(text, f"sysctl -w {settings}, or set --protect-kernel-defaults to false", True)]


def of_machine(seen: Machine, *, fail_swap_on: bool, fail_cgroup_v1: bool = False) -> list[Finding]:
    """What stands in the way of running pods here."""
    found = []
    if seen.user != 0:
        found.append(
            Finding(
                f"it runs as user {seen.user}, not as root",
                "start it with sudo or as a service of root",
                True,
            )
        )
    if seen.root_fault:
        text = f"--root-dir {seen.root} cannot be written to: {seen.root_fault}"
        found.append(Finding(text, "make room, or give a folder on another disk", True))
    version = "v2" if seen.cgroups_v2 else "v1"
    if missing := [name for name in NEEDED if name not in seen.controllers]:
        text = f"the cgroup controllers {', '.join(missing)} are not there ({version})"
        fix = (
            "take them into /sys/fs/cgroup/cgroup.subtree_control"
            if seen.cgroups_v2
            else "mount them below /sys/fs/cgroup, and take cgroup_disable off the kernel's command line"
        )
        found.append(Finding(text, fix, True))
    if missing := [name for name in WANTED if name not in seen.controllers]:
        text = f"the cgroup controllers {', '.join(missing)} are not there ({version})"
        found.append(Finding(text, "limits of these are not kept"))
    if fail_cgroup_v1 and not seen.cgroups_v2:
        text = "kubelet is configured to not run on a host using cgroup v1"
        fix = "boot with systemd.unified_cgroup_hierarchy=1, or set --fail-cgroupv1 to false"
        found.append(Finding(text, fix, True))
    if seen.swap and fail_swap_on:
        text = (
            "running with swap on is not supported, please disable swap or set --fail-swap-on flag to false"
        )
        found.append(Finding(text, f"swapped to: {', '.join(seen.swap)}", True))
    return found


def of_driver(driver: str, systemd: bool) -> Finding | None:
    """Whether cgroups can be made by this driver; ``systemd``: it runs this machine."""
    if driver != "systemd" or systemd:
        return None
    text = "the cgroup driver is systemd, and systemd does not run this machine"
    fix = "give --cgroup-driver cgroupfs, and SystemdCgroup = false to containerd"
    return Finding(text, fix, True)


def of_runtime(endpoint: str, failure: str, conditions: Sequence[Condition]) -> list[Finding]:
    """What keeps pods from being run; ``failure``: why the runtime did not answer, "" when it did."""
    if "unimplemented" in failure.lower() or "unknown service runtime.v1" in failure:
        text = f"the runtime at {endpoint} does not speak CRI v1: {failure}"
        return [
            Finding(text, 'update containerd to 1.6 or later, and take "cri" out of its disabled_plugins')
        ]
    if failure:
        text = f"the container runtime at {endpoint} does not answer: {failure}"
        return [Finding(text, "start containerd, or name its socket with --container-runtime-endpoint")]
    fixes = {"NetworkReady": "put a network configuration into /etc/cni/net.d (bamikube-network does)"}
    return [
        Finding(
            f"the container runtime is not ready: {one.type}: {one.message}",
            fixes.get(one.type, "look into the log of containerd"),
        )
        for one in conditions
        if not one.status
    ]


def of_clock(here: float, there: float) -> Finding | None:
    """Whether this machine's clock and the API server's (seconds since the epoch) agree."""
    if abs(here - there) <= SKEW:
        return None
    which = "ahead of" if here > there else "behind"
    text = f"the clock of this machine is {abs(here - there):.0f} s {which} the API server's"
    fix = "keep both by one source of time (chrony, systemd-timesyncd), or tokens and certificates will not be valid"
    return Finding(text, fix)
