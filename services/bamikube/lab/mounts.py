"""What a node sees of the file system: the machine's own, with a node's private places laid over it.

Inside its mount namespace a node has

* ``/run``: an empty tmpfs, as after a boot;
* ``/etc``, ``/opt``, ``/var/lib``, ``/var/log``: overlays whose changes go to that tmpfs, so a node can have files
  and mount points of its own there and the machine's folders stay untouched;
* its disk, bound to the paths that Kubernetes uses on any machine (``/var/lib/containerd``, ``/etc/kubernetes``, ...).

So every path and every configuration file in a node is exactly what it would be on a machine of its own.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from pathlib import Path

_MS_REC, _MS_PRIVATE, _MS_SHARED, _MS_BIND = 0x4000, 0x40000, 0x100000, 0x1000
_MS_NOSUID, _MS_NODEV = 0x2, 0x4

_libc = ctypes.CDLL(None, use_errno=True)

# Folder of the node's disk -> where the node sees it.
BINDS: Mapping[str, str] = {
    "var-lib-containerd": "/var/lib/containerd",
    "var-lib-kubelet": "/var/lib/kubelet",
    "var-lib-etcd": "/var/lib/etcd",
    "var-lib-cni": "/var/lib/cni",
    "var-lib-bamikube": "/var/lib/bamikube",
    "etc-kubernetes": "/etc/kubernetes",
    "etc-containerd": "/etc/containerd",
    "etc-cni": "/etc/cni",
    "opt-cni": "/opt/cni",
    "var-log-pods": "/var/log/pods",
    "var-log-containers": "/var/log/containers",
}
OVERLAYS = ("/etc", "/opt", "/var/lib", "/var/log")
_PRIVATE = Path("/run/bamikube")


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2). Raises OSError naming the target."""
    result = _libc.mount(
        source.encode(), target.encode(), kind.encode() or None, ctypes.c_ulong(flags), data.encode() or None
    )
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"mounting {kind or source} failed: {os.strerror(number)}", target)


def set_up(disk: Path) -> None:
    """Build the node's view. To be called once, in a mount namespace of its own."""
    resolver = usable_resolver()
    mount("none", "/", flags=_MS_REC | _MS_PRIVATE)
    # Shared again, but only with mounts made from here on: containers may ask for mount propagation.
    mount("none", "/", flags=_MS_REC | _MS_SHARED)
    # The disk may lie below a folder that is about to be covered: hold on to it first.
    held = os.open(disk, os.O_PATH | os.O_DIRECTORY)
    mount("tmpfs", "/run", "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=755")
    _PRIVATE.mkdir()
    for folder in ("lock", "bamikube/disk"):
        (Path("/run") / folder).mkdir()
    mount(f"/proc/self/fd/{held}", str(_PRIVATE / "disk"), flags=_MS_BIND | _MS_REC)
    os.close(held)
    for lower in OVERLAYS:
        if not Path(lower).is_dir():
            continue
        place = _PRIVATE / "overlay" / lower.strip("/").replace("/", "-")
        upper, work = place / "upper", place / "work"
        upper.mkdir(parents=True)
        work.mkdir()
        mount("overlay", lower, "overlay", 0, f"lowerdir={lower},upperdir={upper},workdir={work}")
    for folder, target in BINDS.items():
        source = _PRIVATE / "disk" / folder
        source.mkdir(parents=True, exist_ok=True)
        Path(target).mkdir(parents=True, exist_ok=True)
        mount(str(source), target, flags=_MS_BIND)
    _write_resolver(resolver)


def usable_resolver() -> str:
    """The machine's resolv.conf as it can be used from another network namespace: without servers on loopback."""
    for candidate in ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"):
        try:
            text = Path(candidate).read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        lines = [
            line for line in text.splitlines() if not line.startswith(("nameserver 127.", "nameserver ::1"))
        ]
        if any(line.startswith("nameserver") for line in lines):
            return "\n".join(lines) + "\n"
    return ""


def _write_resolver(text: str) -> None:
    target = Path("/etc/resolv.conf")
    if target.is_symlink():
        target.unlink()
    target.write_text(text, encoding="utf-8")


def write_hosts(name: str, names: Mapping[str, str]) -> None:
    """The node's hostname and hosts file; ``names`` maps addresses to names."""
    Path("/etc/hostname").write_text(name + "\n", encoding="utf-8")
    lines = ["127.0.0.1 localhost", *(f"{address} {host}" for address, host in names.items())]
    Path("/etc/hosts").write_text("\n".join(lines) + "\n", encoding="utf-8")
