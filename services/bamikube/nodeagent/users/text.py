"""What is written down of a pod's users, in the kubelet's form: ``pods/<uid>/userns``. Pure."""

from __future__ import annotations

import json
from typing import Any

from bamikube.api import gojson
from bamikube.nodeagent.runtime.port import IdMap
from bamikube.nodeagent.users.ranges import IDS

_WRONG = "invalid user namespace configuration"
_BROKEN = "invalid user namespace mappings file"


def written(users: IdMap) -> bytes:
    """``{"uidMappings":[{"hostId":65536,"containerId":0,"length":65536}],"gidMappings":[...]}``"""
    one = [{"hostId": users.first, "containerId": 0, "length": users.length}]
    return json.dumps({"uidMappings": one, "gidMappings": one}, separators=(",", ":")).encode()


def read(text: bytes) -> IdMap:
    """Raises ValueError in the kubelet's words."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{_BROKEN}: {gojson.syntax_error(text) or error}") from error
    uids, gids = _mappings(found, "uidMappings"), _mappings(found, "gidMappings")
    if len(uids) != 1:
        raise ValueError(f"{_WRONG}: no more than one mapping allowed.")
    if len(gids) != 1:
        raise ValueError(f"{_WRONG}: GID and UID mappings should be identical.")
    if uids != gids:
        raise ValueError(f"{_WRONG}: GID and UID mapping should be identical")
    host, inside, length = uids[0]
    if inside:
        raise ValueError(f"{_WRONG}: UID 0 must be mapped")
    return IdMap(host, length)


def _mappings(found: Any, field: str) -> list[tuple[int, int, int]]:
    """The mappings under a name, as host's first, pod's first, and length."""
    listed = found.get(field) if isinstance(found, dict) else found
    result = []
    for one in [] if listed is None else listed if isinstance(listed, list) else [None]:
        if not isinstance(one, dict):
            raise ValueError(f"{_BROKEN}: {field}: expected a list of objects")
        numbers = tuple(one.get(name) or 0 for name in ("hostId", "containerId", "length"))
        if not all(type(number) is int and 0 <= number < IDS for number in numbers):
            raise ValueError(f"{_BROKEN}: {field}: expected whole numbers from 0 to {IDS - 1}")
        result.append((numbers[0], numbers[1], numbers[2]))
    return result
