"""Memory and idle CPU of the running lab's services. Run: ``python bench/footprint.py`` (root, a lab that rests).

Memory is the proportional set size (PSS: pages that several processes share are divided among them) of a unit and all
its descendants, from ``/proc/PID/smaps_rollup``. CPU is user and system time spent over ``--seconds``, as a share of one
core. Pods' own processes and containerd's shims are not counted: they are the workload's.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE)]

import lab  # noqa: E402
import report  # noqa: E402

TICKS = os.sysconf("SC_CLK_TCK")
NODE_UNITS = ("nodeagent", "proxy", "network", "registry", "containerd")
# What the Go originals' figures of docs/performance.md do not hold either.
OTHERS = ("etcd", "containerd", "registry")


def pss(pid: int) -> float:
    """MiB of a process; 0 if it has ended."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


def cpu(pid: int) -> float:
    """Seconds of CPU a process has used; 0 if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


def families(roots: dict[str, int]) -> dict[str, list[int]]:
    """The pids of every root and its descendants, without containerd's shims and what they run."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            name, _, rest = (entry / "stat").read_text().partition("(")[2].rpartition(")")
        except OSError:
            continue
        if not name.startswith("containerd-shim"):
            children.setdefault(int(rest.split()[1]), []).append(int(entry.name))
    found = {}
    for unit, root in roots.items():
        members, queue = [], [root]
        while queue:
            pid = queue.pop()
            members.append(pid)
            queue += children.get(pid, [])
        found[unit] = members
    return found


def roots_of(node: dict[str, Any]) -> dict[str, int]:
    """A node's units and the pids they have on the machine."""
    return {name: int(unit["pid"]) for name, unit in node["units"].items() if unit["pid"]}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seconds", type=float, default=30.0, help="how long to look at the CPU (default 30)"
    )
    args = parser.parse_args()
    found = lab.status()
    if not lab.running(found):
        raise SystemExit(lab.NONE)
    if os.geteuid() != 0:
        raise SystemExit("run this as root: other users' memory cannot be read")
    master = next(node for node in found["nodes"] if "control-plane" in node["roles"])
    worker = next((node for node in found["nodes"] if node is not master), master)
    shown = [("", name, pids) for name, pids in families(roots_of(master)).items() if name not in NODE_UNITS]
    shown += [("node ", name, pids) for name, pids in families(roots_of(worker)).items()]
    before = [[cpu(pid) for pid in pids] for _, _, pids in shown]
    started = time.monotonic()
    time.sleep(args.seconds)
    after = [[cpu(pid) for pid in pids] for _, _, pids in shown]
    lasted = time.monotonic() - started
    rows, memory, share = [], {True: 0.0, False: 0.0}, {True: 0.0, False: 0.0}
    for (side, name, pids), first, last in zip(shown, before, after, strict=True):
        held = sum(map(pss, pids))
        used = sum(max(0.0, b - a) for a, b in zip(first, last, strict=True)) / lasted * 100
        ours = name not in OTHERS
        memory[ours] += held
        share[ours] += used
        rows.append((f"{side}{name}", len(pids), f"{held:.0f}", f"{used:.2f}"))
    rows.append(("our services", "", f"{memory[True]:.0f}", f"{share[True]:.2f}"))
    rows.append((", ".join(OTHERS), "", f"{memory[False]:.0f}", f"{share[False]:.2f}"))
    print(report.machine())
    report.show(
        f"control plane and one node ({worker['name']}), idle over {lasted:.0f} s",
        ("", "processes", "PSS MiB", "% of a core"),
        rows,
    )


if __name__ == "__main__":
    main()
