"""CNI calls and answers as values (CNI specification 1.0.0)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from bamikube.netlink.pods import GATEWAY

VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0")

# error codes of the specification; 100 and above are a plugin's own
INCOMPATIBLE, BAD_ENVIRONMENT, BAD_INPUT, BAD_CONFIG, TRY_LATER = 1, 4, 6, 7, 11
FAILED = 100


class CniError(Exception):
    """A call that failed: the specification's code, what happened and what to do about it."""

    def __init__(self, code: int, message: str, details: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.details = details

    def encode(self, version: str) -> bytes:
        return orjson.dumps(
            {"cniVersion": version, "code": self.code, "msg": str(self), "details": self.details}
        )


@dataclass(frozen=True, slots=True)
class HostPort:
    """A port of the node that leads to the pod. ``address`` empty: every address of the node."""

    protocol: str
    port: int
    target: int
    address: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """One call. ``plugin``: the name it was called by (``loopback`` is answered too)."""

    command: str
    container: str
    netns: str
    interface: str
    plugin: str
    version: str
    ports: tuple[HostPort, ...] = ()


def parse(data: bytes) -> Call:
    """A call as :mod:`.plugin` sends it. Raises CniError."""
    head, _, body = data.partition(b"\0\0")
    given = dict(part.decode().partition("=")[::2] for part in head.split(b"\0"))
    try:
        config = orjson.loads(body or b"{}")
        version = str(config.get("cniVersion") or "0.3.1")
    except (ValueError, AttributeError):
        raise CniError(
            BAD_INPUT, "the network configuration on standard input is not a JSON object"
        ) from None
    if version not in VERSIONS:
        raise CniError(
            INCOMPATIBLE, f"CNI version {version} is not supported", f"supported: {', '.join(VERSIONS)}"
        )
    command = given.get("CNI_COMMAND", "")
    if command not in ("ADD", "DEL", "CHECK"):
        raise CniError(BAD_ENVIRONMENT, f"CNI_COMMAND {command!r} is not one of ADD, DEL, CHECK, VERSION")
    for name in ("CNI_CONTAINERID", "CNI_IFNAME", *(() if command == "DEL" else ("CNI_NETNS",))):
        if not given.get(name):
            raise CniError(BAD_ENVIRONMENT, f"{name} is not set, and {command} needs it")
    return Call(
        command,
        given["CNI_CONTAINERID"],
        given.get("CNI_NETNS", ""),
        given["CNI_IFNAME"],
        given.get("PLUGIN", "bamikube-cni"),
        version,
        _ports((config.get("runtimeConfig") or {}).get("portMappings") or ()),
    )


def _ports(mappings: Any) -> tuple[HostPort, ...]:
    found = []
    try:
        for mapping in mappings:
            # containerd writes Go's field names (HostPort), the specification has hostPort: the case says nothing.
            entry = {str(name).lower(): value for name, value in mapping.items()}
            if not entry.get("hostport"):
                continue
            address = entry.get("hostip") or ""
            if ":" in address:
                continue  # an IPv6 address of the node: not ours to serve
            protocol = str(entry.get("protocol") or "tcp").upper()
            if protocol not in ("TCP", "UDP", "SCTP"):
                raise CniError(BAD_CONFIG, f"portMappings: {protocol} is not a protocol host ports can have")
            found.append(
                HostPort(
                    protocol,
                    int(entry["hostport"]),
                    int(entry["containerport"]),
                    "" if address == "0.0.0.0" else address,
                )
            )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CniError(BAD_CONFIG, f"runtimeConfig.portMappings cannot be read: {error!r}") from None
    return tuple(found)


def result(call: Call, address: str, host_interface: str, host_mac: str, mac: str) -> bytes:
    """The answer to ADD."""
    where: dict[str, Any] = {"address": f"{address}/32", "gateway": GATEWAY, "interface": 1}
    if call.version.startswith("0."):
        where["version"] = "4"
    return orjson.dumps(
        {
            "cniVersion": call.version,
            "interfaces": [
                {"name": host_interface, "mac": host_mac},
                {"name": call.interface, "mac": mac, "sandbox": call.netns},
            ],
            "ips": [where],
            "routes": [{"dst": "0.0.0.0/0", "gw": GATEWAY}],
            "dns": {},
        }
    )


def loopback_result(call: Call) -> bytes:
    where: dict[str, Any] = {"address": "127.0.0.1/8", "interface": 0}
    if call.version.startswith("0."):
        where["version"] = "4"
    return orjson.dumps(
        {
            "cniVersion": call.version,
            "interfaces": [{"name": call.interface, "mac": "00:00:00:00:00:00", "sandbox": call.netns}],
            "ips": [where],
            "dns": {},
        }
    )
