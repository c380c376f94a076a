"""When a node is short of something: the eviction thresholds, as the flags give them. Pure.

A threshold names a *signal* (``memory.available``) and a value, a quantity (``100Mi``) or a share of the capacity (``10%``). A
hard one is acted on at once, a soft one when it has been met for its grace period. ``minimum reclaim`` says how far beyond the
threshold the node has to come before it counts as resolved, so that it does not sway around it.

Source: "Node-pressure Eviction" of the Kubernetes documentation.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from bamikube.api.quantity import BINARY, DECIMAL, Quantity, QuantityError
from bamikube.nodeagent import durations

DEFAULT_HARD: Mapping[str, str] = {
    "memory.available": "100Mi",
    "nodefs.available": "10%",
    "nodefs.inodesFree": "5%",
    "imagefs.available": "15%",
    "imagefs.inodesFree": "5%",
}
ALLOCATABLE = "allocatableMemory.available"


@dataclass(frozen=True, slots=True)
class Signal:
    """What a signal is about: the node's condition, and the resource as messages call it."""

    condition: str
    resource: str


SIGNALS: Mapping[str, Signal] = {
    "memory.available": Signal("MemoryPressure", "memory"),
    ALLOCATABLE: Signal("MemoryPressure", "memory"),
    "nodefs.available": Signal("DiskPressure", "ephemeral-storage"),
    "nodefs.inodesFree": Signal("DiskPressure", "inodes"),
    "imagefs.available": Signal("DiskPressure", "ephemeral-storage"),
    "imagefs.inodesFree": Signal("DiskPressure", "inodes"),
    "containerfs.available": Signal("DiskPressure", "ephemeral-storage"),
    "containerfs.inodesFree": Signal("DiskPressure", "inodes"),
    "pid.available": Signal("PIDPressure", "pids"),
}


@dataclass(frozen=True, slots=True)
class Value:
    """A quantity, or a share of what there is."""

    quantity: Quantity | None = None
    share: float = 0.0

    def of(self, capacity: int, signal: str) -> Quantity:
        """How much that is of a capacity."""
        if self.quantity is not None:
            return self.quantity
        whole = signal.endswith(".available") and not signal.startswith("pid")
        return Quantity.of(int(capacity * self.share), BINARY if whole else DECIMAL)


@dataclass(frozen=True, slots=True)
class Threshold:
    """``grace``: seconds it has to be met before it is acted on; 0 for a hard one."""

    signal: str
    value: Value
    grace: float = 0.0
    reclaim: Value | None = field(default=None, compare=False)

    @property
    def hard(self) -> bool:
        return self.grace == 0.0

    @property
    def about(self) -> Signal:
        return SIGNALS[self.signal]


def langle(given: Mapping[str, str]) -> dict[str, str]:
    """``--eviction-hard=memory.available<100Mi`` read as a map: pairs that came without ``=`` are parted at the ``<``."""
    found = {}
    for key, value in given.items():
        name, mark, rest = key.partition("<")
        if not mark and not value:
            raise ValueError(f"malformed pair, expect string<string: {key!r}")
        found[name.strip()] = (rest if mark else value).strip()
    return found


def parse(
    hard: Mapping[str, str],
    soft: Mapping[str, str],
    graces: Mapping[str, str],
    reclaims: Mapping[str, str],
    *,
    enforced: bool = True,
) -> tuple[Threshold, ...]:
    """The thresholds of the flags. ``enforced``: pods as a whole are limited, so that limit is watched like memory.

    Raises ValueError that begins with the flag.
    """
    found = _statements("--eviction-hard", hard)
    periods = _graces(graces)
    for threshold in _statements("--eviction-soft", soft):
        if threshold.signal not in periods:
            raise ValueError(
                "--eviction-soft-grace-period: grace period must be specified for the soft eviction threshold "
                f"{threshold.signal}"
            )
        found.append(replace(threshold, grace=periods[threshold.signal]))
    least = _reclaims(reclaims)
    found = [replace(t, reclaim=least.get(t.signal)) for t in found]
    # Containers write where images lie, so that one file system has one threshold.
    found = [t for t in found if not t.signal.startswith("containerfs.")]
    found += [
        replace(t, signal=t.signal.replace("imagefs", "containerfs"))
        for t in found
        if t.signal.startswith("imagefs.")
    ]
    if enforced:
        found += [replace(t, signal=ALLOCATABLE) for t in found if t.signal == "memory.available" and t.hard]
    return tuple(found)


def _known(flag: str, signal: str) -> None:
    if signal not in SIGNALS:
        raise ValueError(
            f"{flag}: unsupported eviction signal {signal}; there are {', '.join(sorted(SIGNALS))}"
        )


def _share(flag: str, text: str) -> float:
    """The share ``10%`` is, to the same 32 bits as everywhere."""
    try:
        value = float(text.rstrip("%"))
    except ValueError:
        raise ValueError(f"{flag}: {text!r} is not a percentage; give for example 10%") from None
    single = struct.unpack("f", struct.pack("f", value / 100))[0]
    return float(single)


def _quantity(flag: str, text: str) -> Quantity:
    try:
        return Quantity.parse(text)
    except QuantityError as error:
        raise ValueError(f"{flag}: {text!r}: {error}") from error


def _statements(flag: str, given: Mapping[str, str]) -> list[Threshold]:
    found = []
    for signal, text in given.items():
        _known(flag, signal)
        if text in ("0%", "100%"):
            continue  # switched off
        if text.endswith("%"):
            share = _share(flag, text)
            if share < 0:
                raise ValueError(f"{flag}: eviction percentage threshold {signal} must be >= 0%: {text}")
            if share > 1:
                raise ValueError(f"{flag}: eviction percentage threshold {signal} must be <= 100%: {text}")
            found.append(Threshold(signal, Value(share=share)))
            continue
        quantity = _quantity(flag, text)
        if quantity.sign() <= 0:
            raise ValueError(f"{flag}: eviction threshold {signal} must be positive: {text}")
        found.append(Threshold(signal, Value(quantity)))
    return found


def _graces(given: Mapping[str, str]) -> dict[str, float]:
    flag, found = "--eviction-soft-grace-period", {}
    for signal, text in given.items():
        _known(flag, signal)
        if text.startswith("-"):
            raise ValueError(
                f"{flag}: invalid eviction grace period specified: {text}, must be a positive value"
            )
        try:
            found[signal] = durations.seconds(text)
        except ValueError as error:
            raise ValueError(f"{flag}: {error}") from error
    return found


def _reclaims(given: Mapping[str, str]) -> dict[str, Value]:
    flag, found = "--eviction-minimum-reclaim", {}
    for signal, text in given.items():
        _known(flag, signal)
        if text.endswith("%"):
            share = _share(flag, text)
            if share <= 0:
                raise ValueError(
                    f"{flag}: eviction percentage minimum reclaim {signal} must be positive: {text}"
                )
            found[signal] = Value(share=share)
            continue
        quantity = _quantity(flag, text)
        if quantity.sign() < 0:
            raise ValueError(f"{flag}: negative eviction minimum reclaim specified for {signal}")
        found[signal] = Value(quantity)
    return found
