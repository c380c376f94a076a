"""What a node agent that has begun anew takes from what its predecessor told of a static pod. Pure.

The API's pods come with their status, static ones without: theirs is on the mirror, which may be seen long after the pod was begun
with. Of it count the beginnings (the pod's, and those of conditions that have not turned since) and, where the runtime
has forgotten a container, how often that had been started. Whether the pod has ended is seen in the runtime alone.
"""

from __future__ import annotations

from bamikube.kit.clock import parse_rfc3339
from bamikube.nodeagent.pod.facts import JSON


def recalled(status: JSON, told: JSON) -> JSON:
    """``status`` with what an older status of the same pod tells. One that is younger, or says nothing, changes nothing."""
    since, before = status.get("startTime"), told.get("startTime")
    if not before or (since and parse_rfc3339(since) <= parse_rfc3339(before)):
        return status
    result = status | {"startTime": before}
    old = {c["type"]: c for c in told.get("conditions") or ()}
    conditions = status.get("conditions") or list(
        old.values()
    )  # nothing was decided yet: that is compared with what was told
    result["conditions"] = [_turned(c, old.get(c["type"])) for c in conditions]
    for field in ("initContainerStatuses", "containerStatuses"):
        entries = {item["name"]: item for item in told.get(field) or ()}
        known = {item["name"]: item for item in status.get(field) or ()}
        both = [item if item.get("containerID") else entries.get(name, item) for name, item in known.items()]
        if both or entries:
            result[field] = both or list(entries.values())
    return result


def _turned(condition: JSON, before: JSON | None) -> JSON:
    if before is None or before.get("status") != condition.get("status"):
        return condition
    return condition | {"lastTransitionTime": before.get("lastTransitionTime")}
