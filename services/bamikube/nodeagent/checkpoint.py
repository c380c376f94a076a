"""Files in which the managers of resources remember who has what: the kubelet's form, and its checksum.

The checksum is FNV-1a (32 bits) of the state as Go's spew library prints it, with a checksum of 0. So a node can go over from a kubelet
to this node agent and back; the printed form stands beside each state, as in :mod:`bamikube.nodeagent.cpus.pool`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

JSON = dict[str, Any]
Printed = Callable[[Mapping[str, Any]], str]


def checksum(text: str) -> int:
    """FNV-1a with 32 bits."""
    found = 0x811C9DC5
    for byte in text.encode():
        found = ((found ^ byte) * 0x01000193) & 0xFFFFFFFF
    return found


def printed_map(items: Mapping[str, str]) -> str:
    """A map as Go's spew prints it: by keys in order."""
    return "map[" + " ".join(f"{key}:{items[key]}" for key in sorted(items)) + "]"


def write(path: Path, state: JSON, printed: Printed) -> None:
    """Write a state as a whole; what cannot be written is told of, since what it says holds anyway."""
    half = path.with_name(f".{path.name}")
    try:
        half.write_text(json.dumps(state | {"checksum": checksum(printed(state))}, separators=(",", ":")))
        half.replace(path)
    except OSError as error:
        log.warning("cannot note who has what of the node in %s: %s", path, error.strerror)


def read(path: Path, policy: str, printed: Printed, who: str = "") -> JSON | None:
    """What was written under this ``policy``, None if nothing was. Raises ValueError. A checksum of 0 is that of an old file."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read it: {error}") from error
    try:
        state = json.loads(text)
        right = not state.get("checksum") or state["checksum"] == checksum(printed(state))
    except (ValueError, AttributeError, TypeError, KeyError, RecursionError) as error:
        raise ValueError("checkpoint is corrupted") from error
    if not right:
        raise ValueError("checkpoint is corrupted")
    if (before := state.get("policyName")) != policy:
        raise ValueError(f'{who}configured policy "{policy}" differs from state checkpoint policy "{before}"')
    return dict(state)
