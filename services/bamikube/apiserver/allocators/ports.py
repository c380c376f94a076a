"""Node ports: the range of ``--service-node-port-range``, and what a service asks of it.

Who has a port is recorded under a key that no API shows.

Source: KEP-3668 (reserve node port ranges), KEP-1864 (``allocateLoadBalancerNodePorts``), the Service API.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from bamikube.api.predicates.services import has_node_ports, needs_health_check, needs_node_ports
from bamikube.api.validation.rules import invalid
from bamikube.apiserver.allocators.pool import Exhausted, Ledger, Refused, choose, static_band
from bamikube.kit.world import World

PREFIX = "/registry/bami/nodeports/"
TAKEN = "provided port is already allocated"
_HEALTH = "spec.healthCheckNodePort"


@dataclass(frozen=True, slots=True)
class Claim:
    """A port to be recorded. ``requested``: the client asked for this very one, and is refused with ``wording`` when it
    is taken; otherwise another one will do."""

    port: int
    requested: bool
    field: str
    wording: str


class NodePorts:
    """``given`` is FIRST-LAST, both included. Raises ValueError when it is not."""

    def __init__(self, given: str, world: World) -> None:
        first, _, last = given.partition("-")
        self.first, self.last = int(first), int(last)
        if not 0 < self.first <= self.last < 65536:
            raise ValueError(
                f"the node port range {given!r} is not FIRST-LAST with 1 <= FIRST <= LAST <= 65535"
            )
        self._chance = world.chance
        self._band = self.first + static_band(self.last - self.first + 1, 32, 16, 128)
        self.ledger = Ledger(world.clock)

    @staticmethod
    def key(port: int) -> bytes:
        """The record's key in the store."""
        return f"{PREFIX}{port}".encode()

    def contains(self, port: int) -> bool:
        return self.first <= port <= self.last

    def pick(self) -> int:
        """A port that is free as far as is known here. Raises Exhausted."""
        self.ledger.forget_old()
        for low, high in ((self._band, self.last + 1), (self.first, self._band)):
            port = choose(low, high, self.ledger.is_free, self._chance)
            if port is not None:
                self.ledger.reserve(port)
                return port
        raise Exhausted

    def refusal(self, port: int) -> str:
        """Why a port can never be had; "" when it can."""
        if self.contains(port):
            return ""
        return (
            f"provided port is not in the valid range. The range of valid ports is {self.first}-{self.last}"
        )

    def claims(self, spec: dict[str, Any], old: dict[str, Any] | None) -> list[Claim]:
        """Gives ``spec`` the node ports it lacks, in place; returns all it is to be given that ``old`` has not.

        Raises Refused and Exhausted.
        """
        if not has_node_ports(spec):
            return []
        mine = set(held(old)) if old is not None else set()
        found = list(self._of_ports(spec, old is None, mine))
        if needs_health_check(spec) and not (old is not None and needs_health_check(old)):
            found.append(self._of_health_check(spec, {claim.port for claim in found} | mine))
        return found

    def _of_ports(self, spec: dict[str, Any], new: bool, mine: set[int]) -> Iterator[Claim]:
        """Ports of a new service that differ in their protocol alone share a node port."""
        shared: dict[int, int] = {}  # service port -> the node port it got
        for index, port in enumerate(spec.get("ports") or ()):
            given, number = port.get("nodePort") or 0, port.get("port")
            if not given and not needs_node_ports(spec):
                continue
            twin = shared.get(number, 0)
            if new and not given:
                given = twin or _asked_for(spec, number)
            if new and given and given == twin:
                port["nodePort"] = given
                continue
            requested = bool(given)
            port["nodePort"] = given = given or self.pick()
            shared[number] = twin or given
            field = f"spec.ports[{index}].nodePort"
            if given in mine:
                if new:
                    raise Refused(invalid(field, given, TAKEN))
                continue
            if wrong := self.refusal(given):
                raise Refused(invalid(field, given, wrong))
            mine.add(given)
            yield Claim(given, requested, field, TAKEN)

    def _of_health_check(self, spec: dict[str, Any], mine: set[int]) -> Claim:
        given = spec.get("healthCheckNodePort") or 0
        if not given:
            spec["healthCheckNodePort"] = picked = self.pick()
            return Claim(picked, False, _HEALTH, TAKEN)
        words = f"failed to allocate requested HealthCheck NodePort {given}: "
        wrong = TAKEN if given in mine else self.refusal(given)
        if wrong:
            raise Refused(invalid(_HEALTH, given, words + wrong))
        return Claim(given, True, _HEALTH, words + TAKEN)


def held(spec: dict[str, Any]) -> tuple[int, ...]:
    """The node ports that a stored service holds."""
    if not has_node_ports(spec):
        return ()
    ports = [port.get("nodePort") for port in spec.get("ports") or ()]
    if needs_health_check(spec):
        ports.append(spec.get("healthCheckNodePort"))
    return tuple(dict.fromkeys(int(port) for port in ports if port))


def record(service: dict[str, Any]) -> bytes:
    """What is stored for a port: who has it."""
    metadata = service["metadata"]
    name = f"{metadata.get('namespace', '')}/{metadata.get('name', '')}"
    return orjson.dumps({"service": name, "uid": metadata.get("uid", "")})


def _asked_for(spec: dict[str, Any], number: int | None) -> int:
    """The node port that was given for a service port in any protocol; 0 when there is none."""
    for port in spec.get("ports") or ():
        if port.get("port") == number and port.get("nodePort"):
            return int(port["nodePort"])
    return 0
