"""How long a pod took to start, from its first sight and from its creation."""

from __future__ import annotations

from bamikube.kit.clock import parse_rfc3339
from bamikube.nodeagent import figures
from bamikube.nodeagent.pod.facts import JSON


class StartTiming:
    """One for each pod; times are seconds since the epoch. ``pulled`` is told how long images took."""

    def __init__(self, seen: float) -> None:
        self._seen = seen
        self._begun = False
        self._pulling = 0.0

    def pulled(self, seconds: float) -> None:
        self._pulling += seconds

    def stepped(self, pod: JSON, before: JSON, after: JSON, now: float, took: float) -> None:
        """A round of the worker has ended: it took that long, and made this status of that one."""
        if not self._begun:
            figures.WORKER_START.observe(max(0.0, now - took - self._seen))
            figures.CONTAINERS_PER_POD.observe(len(pod["spec"]["containers"]))
        kind = "sync" if self._begun else "create"
        if pod["metadata"].get("deletionTimestamp"):
            kind = "kill"
        figures.WORKER_SECONDS.labels(kind).observe(took)
        self._begun = True
        if before.get("phase") in (None, "Pending") and after.get("phase") == "Running":
            figures.POD_START.observe(max(0.0, now - self._seen))
            created = pod["metadata"].get("creationTimestamp")
            if created:
                total = max(0.0, now - parse_rfc3339(created))
                figures.POD_START_TOTAL.observe(total)
                figures.POD_START_SLI.observe(max(0.0, total - self._pulling))
