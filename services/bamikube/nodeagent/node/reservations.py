"""What of a node its pods may have: its capacity without what is reserved, and without what eviction keeps free. Pure.

``--kube-reserved`` is for the node agent and the runtime, ``--system-reserved`` for the rest of the machine. Huge pages are set aside
by the kernel at its start, so they are no memory for anybody else. The pods together are bound to the capacity without the
reservations (``--enforce-node-allocatable=pods``), and told of less: what lies between is where eviction sets in.

Source: "Reserve Compute Resources for System Daemons".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bamikube.api.quantity import BINARY, DECIMAL, Quantity, QuantityError
from bamikube.nodeagent.eviction.thresholds import Threshold
from bamikube.nodeagent.node.facts import Machine
from bamikube.nodeagent.pod.qos import shares

RESERVABLE = ("cpu", "memory", "ephemeral-storage", "pid")
ENFORCED = (
    "pods",
    "system-reserved",
    "kube-reserved",
    "system-reserved-compressible",
    "kube-reserved-compressible",
    "none",
)

COMPRESSIBLE = "-compressible"

Amounts = Mapping[str, Quantity]


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a cgroup may have: CPU shares, bytes of memory, processes; None for no bound of this kind."""

    shares: int | None = None
    memory: int | None = None
    pids: int | None = None


@dataclass(frozen=True, slots=True)
class Daemons:
    """A cgroup of daemons that is bound to what is reserved for them; ``name``: ``kube`` or ``system``.

    ``compressible``: in CPU alone, which costs them time and not their lives.
    """

    name: str
    cgroup: str
    bounds: Bounds
    compressible: bool = False


@dataclass(frozen=True, slots=True)
class Reservation:
    """``system``: what pods cannot have; ``eviction``: what they had better not use up. ``enforced``: pods are bound to it,
    and ``daemons`` to their own part."""

    system: Amounts
    eviction: Amounts
    enforced: bool = True
    daemons: tuple[Daemons, ...] = ()


NOTHING = Reservation({}, {}, enforced=False)


def parse(flag: str, given: Mapping[str, str]) -> dict[str, Quantity]:
    """``cpu=100m,memory=1Gi``. Raises ValueError that names the flag."""
    found = {}
    for name, text in given.items():
        if name not in RESERVABLE:
            raise ValueError(f'{flag}: cannot reserve "{name}" resource; there are {", ".join(RESERVABLE)}')
        try:
            found[name] = Quantity.parse(text)
        except QuantityError as error:
            raise ValueError(
                f'{flag}: failed to parse quantity "{text}" for "{name}" resource: {error}'
            ) from error
        if found[name].sign() < 0:
            raise ValueError(f'{flag}: resource quantity for "{name}" cannot be negative: {text}')
    return found


def processors(flag: str, text: str) -> frozenset[int]:
    """The processors of a list like ``0-3,8``. Raises ValueError that names the flag."""
    found: set[int] = set()
    for part in text.split(",") if text else ():
        first, _, last = part.partition("-")
        if not first.isdigit() or (last and not last.isdigit()) or (last and int(last) < int(first)):
            raise ValueError(f"{flag}: {part!r} is no processor and no range of them; give for example 0-1,4")
        found |= set(range(int(first), int(last or first) + 1))
    return frozenset(found)


def reserve(
    kube: Amounts,
    system: Amounts,
    cpus: frozenset[int],
    thresholds: Iterable[Threshold],
    enforce: Iterable[str],
    machine: Machine,
    cgroups: Mapping[str, str],
) -> Reservation:
    """All reservations together; named processors take the place of amounts of CPU.

    ``cgroups``: those of the daemons, by ``kube`` and ``system``. Raises ValueError for what cannot be.
    """
    for name in (ways := tuple(enforce)):
        if name not in ENFORCED:
            raise ValueError(f"--enforce-node-allocatable: {name!r} is none of {', '.join(ENFORCED)}")
    if "none" in ways and len(ways) > 1:
        raise ValueError("--enforce-node-allocatable: none cannot be given beside others")
    if cpus and any(cgroups.values()):
        raise ValueError(
            "--reserved-cpus: can't use reservedSystemCPUs (--reserved-cpus) with systemReservedCgroup "
            "(--system-reserved-cgroup) or kubeReservedCgroup (--kube-reserved-cgroup)"
        )
    both = (("system", system), ("kube", kube))
    for name, _ in both:
        if f"{name}-reserved" in ways and f"{name}-reserved-compressible" in ways:
            raise ValueError(
                f"--enforce-node-allocatable: {name}-reserved and {name}-reserved-compressible cannot both be given"
            )
    daemons = tuple(
        _daemons(name, cgroups.get(name, ""), amounts, f"{name}-reserved{suffix}")
        for suffix in ("", COMPRESSIBLE)
        for name, amounts in both
        if f"{name}-reserved{suffix}" in ways
    )
    total: dict[str, Quantity] = {}
    for amounts in (kube, system):
        for name, amount in amounts.items():
            total[name] = total[name].add(amount) if name in total else amount
    if cpus:
        total["cpu"] = Quantity.of(len(cpus))
    held = eviction(thresholds, machine)
    for name, most in (capacity(machine, 0) | {"pid": Quantity.of(machine.pids)}).items():
        wanted = total.get(name, Quantity(0)).add(held.get(name, Quantity(0)))
        if wanted > most:
            raise ValueError(
                f'invalid Node Allocatable configuration: resource "{name}" has a reservation of {wanted} but '
                f"capacity of {most}. Expected capacity >= reservation."
            )
    return Reservation(total, held, "pods" in ways, daemons)


def _daemons(name: str, cgroup: str, reserved: Amounts, way: str) -> Daemons:
    if not cgroup:
        raise ValueError(
            f'--enforce-node-allocatable: {name}ReservedCgroup (--{name}-reserved-cgroup) must be specified when "{way}" '
            "contained in enforceNodeAllocatable (--enforce-node-allocatable)"
        )
    cpu, memory, pids = (reserved.get(resource) for resource in ("cpu", "memory", "pid"))
    weight = shares(cpu.milli_value()) if cpu is not None else None
    if way.endswith(COMPRESSIBLE):
        return Daemons(name, cgroup, Bounds(weight), compressible=True)
    bounds = Bounds(
        weight,
        memory.value() if memory is not None else None,
        pids.value() if pids is not None else None,
    )
    return Daemons(name, cgroup, bounds)


def eviction(thresholds: Iterable[Threshold], machine: Machine) -> dict[str, Quantity]:
    """What the hard thresholds keep free of memory and of the node's disk."""
    found = {}
    for threshold in thresholds:
        if threshold.hard and threshold.signal == "memory.available":
            found["memory"] = threshold.value.of(machine.memory, threshold.signal)
        elif threshold.hard and threshold.signal == "nodefs.available":
            found["ephemeral-storage"] = threshold.value.of(machine.disk, threshold.signal)
    return found


def capacity(machine: Machine, max_pods: int) -> dict[str, Quantity]:
    """What the node has."""
    found = {
        "cpu": Quantity.of(machine.cpus),
        "ephemeral-storage": Quantity.of(machine.disk, BINARY),
        "memory": Quantity.of(machine.memory, BINARY),
        "pods": Quantity.of(max_pods, DECIMAL),
    }
    if not machine.disk:  # pods are not told apart there
        del found["ephemeral-storage"]
    for size, number in machine.huge_pages:
        found[f"hugepages-{Quantity.of(size, BINARY)}"] = Quantity.of(size * number, BINARY)
    return dict(sorted(found.items()))


def allocatable(machine: Machine, max_pods: int, reservation: Reservation) -> dict[str, Quantity]:
    """What pods may request of it."""
    found = capacity(machine, max_pods)
    for amounts in (reservation.system, reservation.eviction):
        _take(found, amounts)
    huge = sum(size * number for size, number in machine.huge_pages)
    _take(found, {"memory": Quantity.of(huge)})
    return found


def _take(found: dict[str, Quantity], amounts: Amounts) -> None:
    for name, amount in amounts.items():
        if name in found:
            rest = found[name].sub(amount)
            found[name] = rest if rest.sign() > 0 else Quantity(0, found[name].format)


def bounds(machine: Machine, reservation: Reservation) -> Bounds:
    left = capacity(machine, 0) | {"pid": Quantity.of(machine.pids)}
    _take(left, reservation.system)
    return Bounds(shares(left["cpu"].milli_value()), left["memory"].value(), left["pid"].value())
