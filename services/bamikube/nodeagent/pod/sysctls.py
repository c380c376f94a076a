"""Which kernel settings pods of this node may set. Pure.

The safe ones concern nobody but the pod; others are allowed by ``--allowed-unsafe-sysctls``, by name or as ``net.core.*``, and only
those that the kernel keeps apart for each pod. A setting of a namespace that a pod shares with the node would be the node's.

Source: "Using sysctls in a Kubernetes Cluster".
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from bamikube.api.podsecurity.baseline import SYSCTLS_32 as SAFE
from bamikube.nodeagent.pod.facts import JSON

REASON = "SysctlForbidden"
_PATTERN = re.compile(r"([a-z0-9][-_a-z0-9]*[./])*([a-z0-9][-_a-z0-9]*|\*)\*?")
_LONGEST = 253


def plain(name: str) -> str:
    """With dots between the parts: ``net/ipv4/conf/eth0.1/x`` is ``net.ipv4.conf.eth0/1.x``."""
    first = next((character for character in name if character in "./"), ".")
    return name if first == "." else name.translate({ord("."): "/", ord("/"): "."})


def namespace(name: str) -> str:
    """Which namespace of the kernel a setting belongs to; empty for the machine as a whole."""
    if name == "kernel.sem" or name.startswith(("kernel.shm", "kernel.msg", "fs.mqueue.")):
        return "IPC"
    return "Net" if name.startswith("net.") else ""


class Allowed:
    """The safe settings and those of the flag. Raises ValueError naming it."""

    def __init__(self, unsafe: Iterable[str] = ()) -> None:
        self._names, prefixes = set(SAFE), []
        for text in unsafe:
            if len(text) > _LONGEST or not _PATTERN.fullmatch(text):
                raise ValueError(
                    f"--allowed-unsafe-sysctls: {text!r} is no name of a sysctl; give for example net.core.*"
                )
            name = plain(text)
            if not namespace(name.removesuffix("*")):
                raise ValueError(
                    f'--allowed-unsafe-sysctls: the sysctls "{name.removesuffix("*")}" are not known to be namespaced'
                )
            if name.endswith("*"):
                prefixes.append(name.removesuffix("*"))
            else:
                self._names.add(name)
        self._prefixes = tuple(prefixes)

    def refusal(self, pod: JSON) -> tuple[str, str] | None:
        """Reason and message, or None."""
        spec = pod["spec"]
        shared = {"Net": spec.get("hostNetwork"), "IPC": spec.get("hostIPC")}
        for item in (spec.get("securityContext") or {}).get("sysctls") or ():
            name = plain(item["name"])
            if name not in self._names and not (self._prefixes and name.startswith(self._prefixes)):
                return REASON, f'forbidden sysctl: "{name}" not allowlisted'
            if shared.get(kind := namespace(name)):
                return REASON, f'forbidden sysctl: "{name}" not allowed with host {kind} enabled'
        return None
