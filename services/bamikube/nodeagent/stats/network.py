"""Counters of network interfaces, as ``/proc/<pid>/net/dev`` tells them for that process' network."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

# Loopback, and the other ends of pods' links: those of usual CNI plugins, and our own's.
_IGNORED = re.compile(r"lo|veth|docker|nerdctl|bk[0-9a-f]{11,13}$")


@dataclass(frozen=True, slots=True)
class Interface:
    name: str
    rx_bytes: int
    rx_packets: int
    rx_errors: int
    rx_dropped: int
    tx_bytes: int
    tx_packets: int
    tx_errors: int
    tx_dropped: int


def interfaces(text: str) -> tuple[Interface, ...]:
    """All interfaces but loopback and the node's ends of pods' links. Pure."""
    found = []
    for line in text.splitlines()[2:]:
        name, _, rest = line.partition(":")
        name, values = name.strip(), [int(word) for word in rest.split()]
        if len(values) >= 12 and not _IGNORED.match(name):
            found.append(Interface(name, *values[0:4], *values[8:12]))
    return tuple(found)


def of_process(pid: int | str, proc: Path = Path("/proc")) -> tuple[Interface, ...]:
    """The interfaces in a process' network; none when it has gone."""
    try:
        return interfaces((proc / str(pid) / "net" / "dev").read_text())
    except OSError:
        return ()


def main(found: tuple[Interface, ...]) -> Interface | None:
    """The interface that is named first in a summary: ``eth0`` where there is one."""
    return next((i for i in found if i.name == "eth0"), found[0] if found else None)
