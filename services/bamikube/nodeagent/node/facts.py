"""What the machine is: processors, memory, disk, kernel, operating system."""

from __future__ import annotations

import os
import platform
import socket
from dataclasses import dataclass
from pathlib import Path

VERSION = "v1.34.0+bamikube"
_ARCHITECTURES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
}


@dataclass(frozen=True, slots=True)
class Machine:
    """Facts that do not change while the node agent runs."""

    cpus: int
    memory: int  # bytes
    disk: int  # bytes of the filesystem below --root-dir
    architecture: str
    kernel: str
    os_image: str
    machine_id: str
    system_uuid: str
    boot_id: str
    pids: int = 32768  # processes there may be at once
    huge_pages: tuple[tuple[int, int], ...] = ()  # bytes of a page, and how many there are
    swap: int = 0  # bytes
    cgroups_v2: bool = False
    bounds_swap: bool = False  # whether cgroups can bound what is swapped


def inspect(root: Path) -> Machine:
    """Read the facts of this machine."""
    disk, memory = os.statvfs(root), meminfo()
    return Machine(
        cpus=os.cpu_count() or 1,
        memory=memory["MemTotal"],
        disk=disk.f_blocks * disk.f_frsize,
        architecture=_ARCHITECTURES.get(platform.machine(), platform.machine()),
        kernel=platform.release(),
        os_image=_os_image(),
        machine_id=_text("/etc/machine-id"),
        system_uuid=_text("/sys/class/dmi/id/product_uuid") or _text("/etc/machine-id"),
        boot_id=_text("/proc/sys/kernel/random/boot_id"),
        pids=min(int(_text(f"/proc/sys/kernel/{name}") or 32768) for name in ("pid_max", "threads-max")),
        huge_pages=huge_pages(Path("/sys/kernel/mm/hugepages")),
        swap=memory.get("SwapTotal", 0),
        cgroups_v2=cgroups_v2(),
        bounds_swap=bounds_swap(),
    )


CGROUPS = Path("/sys/fs/cgroup")


def cgroups_v2(base: Path = CGROUPS) -> bool:
    """Whether the machine has one tree of cgroups, and not one for each controller."""
    return (base / "cgroup.controllers").exists()


def bounds_swap(base: Path = CGROUPS, own: Path = Path("/proc/self/cgroup")) -> bool:
    """Whether cgroups can bound what is swapped. With version 2 the root has no such file, so that of one's own cgroup is looked for."""
    if not cgroups_v2(base):
        return (base / "memory/memory.memsw.limit_in_bytes").exists()
    path = next((line[3:] for line in _text(str(own)).splitlines() if line.startswith("0::")), "/")
    return (base / path.strip("/") / "memory.swap.max").exists()


def huge_pages(folder: Path) -> tuple[tuple[int, int], ...]:
    """The sizes of huge pages this kernel knows, in bytes, and how many are set aside of each."""
    found = []
    for entry in folder.glob("hugepages-*kB"):
        size = int(entry.name.removeprefix("hugepages-").removesuffix("kB")) * 1024
        found.append((size, int(_text(str(entry / "nr_hugepages")) or 0)))
    return tuple(sorted(found))


def throttles(processors: Path = Path("/sys/devices/system/cpu")) -> tuple[str, ...]:
    """What the kernel tells of each processor's heat, by which pods could learn of each other's work."""
    return tuple(sorted(str(path) for path in processors.glob("cpu[0-9]*/thermal_throttle")))


def apparmor() -> bool:
    """Whether this kernel enforces AppArmor profiles."""
    enabled = _text("/sys/module/apparmor/parameters/enabled").startswith("Y")
    return enabled and Path("/sys/kernel/security/apparmor").is_dir()


def addresses(given: tuple[str, ...]) -> tuple[str, ...]:
    """The node's addresses; those the machine would use towards elsewhere where none is named. No packet is sent."""
    family, elsewhere = (
        (socket.AF_INET6, "2001:db8::1") if given == ("::",) else (socket.AF_INET, "192.0.2.1")
    )
    if given and given not in (("::",), ("0.0.0.0",)):
        return given
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((elsewhere, 9))
        except OSError:
            return ("::1" if given == ("::",) else "127.0.0.1",)
        return (str(probe.getsockname()[0]),)


def meminfo() -> dict[str, int]:
    """``/proc/meminfo`` in bytes."""
    found = {}
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if words:
            found[name] = int(words[0]) * (1024 if words[-1] == "kB" else 1)
    return found


def _text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _os_image() -> str:
    for line in _text("/etc/os-release").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return "Linux"
