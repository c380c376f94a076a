"""The machine's side of the lab's network: one bridge, one cable a node, one nftables table.

All of it carries the lab's name and is removed by :func:`remove`. The one setting of the machine that is changed,
``net.ipv4.ip_forward``, is put back as it was.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from bamikube.lab.topology import Node, Topology

# What the bridge says of itself, so that a lab knows one that another lab left behind.
_ALIAS = "bamikube lab"
_IP_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")


class NetworkError(RuntimeError):
    """A command of the network set-up failed; the message has the command and what it said."""


def run(command: Sequence[str], given: str | None = None) -> str:
    """The output of a command. Raises NetworkError."""
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NetworkError(f"'{' '.join(command)}' failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def quietly(command: Sequence[str]) -> bool:
    """Run a command whose failure only means that there was nothing to do."""
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def exists(link: str) -> bool:
    return Path("/sys/class/net", link).exists()


def is_labs(bridge: str) -> bool:
    """Whether a lab made this bridge, as far as it tells."""
    try:
        return Path("/sys/class/net", bridge, "ifalias").read_text().strip() == _ALIAS
    except OSError:
        return False


def ruleset(topology: Topology) -> str:
    """The lab's nftables table: what leaves the machine gets its address, what crosses it is let through."""
    inside = f"{{ {topology.network}, {topology.pod_cidr} }}"
    return f"""table ip {topology.table}
delete table ip {topology.table}
table ip {topology.table} {{
    comment "Bamikube lab: removed by 'bamikube down'"
    chain postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr {inside} ip daddr != {inside} oifname != "{topology.bridge}" masquerade
    }}
    chain forward {{
        type filter hook forward priority filter - 1; policy accept;
        iifname "{topology.bridge}" accept
        oifname "{topology.bridge}" accept
    }}
}}
"""


def set_up(topology: Topology, state: Path) -> None:
    """Bridge, table and forwarding. ``state`` is the folder where the old forwarding setting is kept."""
    if not exists(topology.bridge):
        run(["ip", "link", "add", topology.bridge, "type", "bridge"])
        run(["ip", "link", "set", topology.bridge, "alias", _ALIAS])
    run(["ip", "address", "replace", f"{topology.gateway}/{topology.prefix}", "dev", topology.bridge])
    run(["ip", "link", "set", topology.bridge, "up"])
    run(["nft", "-f", "-"], ruleset(topology))
    before = _IP_FORWARD.read_text().strip()
    kept = state / "ip_forward"
    if not kept.exists():
        kept.write_text(before)
    if before != "1":
        _IP_FORWARD.write_text("1")


def connect(node: Node, topology: Topology, pid: int) -> None:
    """Plug the node whose first process is ``pid`` into the bridge, and give it its address and its way out."""
    quietly(["ip", "link", "del", node.link])
    run(["ip", "link", "add", node.link, "type", "veth", "peer", "name", "eth0", "netns", str(pid)])
    run(["ip", "link", "set", node.link, "master", topology.bridge, "up"])
    inside = (
        f"address add {node.address}/{topology.prefix} dev eth0\nlink set lo up\nlink set eth0 up\n"
        f"route add default via {topology.gateway}\n"
    )
    run(["nsenter", f"--net=/proc/{pid}/ns/net", "ip", "-batch", "-"], inside)


def unplug(node: Node) -> None:
    """Take the node's cable down: it is cut off, but goes on running."""
    run(["ip", "link", "set", node.link, "down"])


def pull_out(node: Node) -> None:
    """Remove the node's cable: a crashed node's sockets may keep its network alive in the kernel for minutes."""
    quietly(["ip", "link", "del", node.link])


def plug(node: Node) -> None:
    run(["ip", "link", "set", node.link, "up"])


def is_plugged(node: Node) -> bool:
    """Whether the machine's end of the cable is up."""
    try:
        return bool(int(Path("/sys/class/net", node.link, "flags").read_text(), 16) & 1)
    except OSError:
        return False


def remove(topology: Topology, state: Path) -> None:
    """Take away everything :func:`set_up` and :func:`connect` made. Fine to call when nothing is there."""
    for node in topology.nodes:
        if exists(node.link):
            quietly(["ip", "link", "del", node.link])
    if exists(topology.bridge):
        quietly(["ip", "link", "del", topology.bridge])
    quietly(["nft", "delete", "table", "ip", topology.table])
    kept = state / "ip_forward"
    if kept.exists():
        if kept.read_text().strip() == "0":
            _IP_FORWARD.write_text("0")
        kept.unlink()
    for node in topology.nodes:
        quietly(["conntrack", "-D", "-s", node.address])


def table_exists(topology: Topology) -> bool:
    return quietly(["nft", "list", "table", "ip", topology.table])
