"""The options of the CPU manager's static policy: which there are, and which go together. Pure.

Source: "Control CPU Management Policies on the Node", v1.34. The kubelet keeps ``align-by-socket`` behind a feature gate; here it is
there for whoever asks for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bamikube.nodeagent.cpus.choice import Machine, node_of, socket_of

FLAG = "--cpu-manager-policy-options"
BY_SOCKET = "align-by-socket"
_FIELDS = {
    "full-pcpus-only": "full_cores",
    "distribute-cpus-across-numa": "spread",
    BY_SOCKET: "by_socket",
    "strict-cpu-reservation": "strict",
    "prefer-align-cpus-by-uncorecache": "by_cache",
}
_TRUE, _FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")


@dataclass(frozen=True, slots=True)
class PolicyOptions:
    """``full_cores``: only whole cores are given away; ``spread``: evenly over the NUMA nodes that are needed; ``by_socket``: near is
    what is of the same socket; ``strict``: nobody but the system runs on what is reserved; ``by_cache``: behind one cache, if
    possible."""

    full_cores: bool = False
    spread: bool = False
    by_socket: bool = False
    strict: bool = False
    by_cache: bool = False


def truth(option: str, text: str) -> bool:
    """As Go reads a bool. Raises ValueError."""
    if text not in (*_TRUE, *_FALSE):
        raise ValueError(
            f'bad value for option "{option}": strconv.ParseBool: parsing "{text}": invalid syntax'
        )
    return text in _TRUE


def options(policy: str, given: Mapping[str, str]) -> PolicyOptions:
    """Raises ValueError for an option that is not known, or whose value is none."""
    if given and policy != "static":
        shown = " ".join(f"{name}:{given[name]}" for name in sorted(given))
        raise ValueError(
            f"{FLAG}: None policy: received unsupported options=map[{shown}]; --cpu-manager-policy static takes them"
        )
    found = {}
    for name, text in given.items():
        if name not in _FIELDS:
            raise ValueError(
                f'{FLAG}: unknown CPU Manager Policy option: "{name}"; there are {", ".join(_FIELDS)}'
            )
        try:
            found[_FIELDS[name]] = truth(name, text)
        except ValueError as error:
            raise ValueError(f"{FLAG}: {error}") from error
    return PolicyOptions(**found)


def check(given: PolicyOptions, machine: Machine, topology: str) -> None:
    """Whether the options go with the machine and the policy of the topology manager. Raises ValueError."""
    if not given.by_socket:
        return
    if topology == "single-numa-node":
        raise ValueError(
            f"{FLAG}: Topolgy manager {topology} policy is incompatible with CPUManager {BY_SOCKET} policy option"
        )
    if len(set(map(socket_of, machine))) > len(set(map(node_of, machine))):
        raise ValueError(
            f"{FLAG}: Align by socket is not compatible with hardware where number of sockets are more than number of NUMA"
        )
