"""EventRateLimit: nobody fills the store with events.

Buckets of tokens, each with so many a second and room for so many at once: one for the server, one for each namespace,
user, or source and object. An event that finds one of its buckets empty is refused with 429; who records events drops
it. Which buckets there are says the file of ``--admission-control-config-file``::

    apiVersion: eventratelimit.admission.k8s.io/v1alpha1
    kind: Configuration
    limits:
    - {type: Namespace, qps: 50, burst: 100, cacheSize: 2000}     # of the 2000 namespaces that wrote last

Each API server counts for itself.

Source: Kubernetes' admission controller reference, EventRateLimit.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bamikube.api.errors import ApiError
from bamikube.apiserver.admission.chain import Plugin
from bamikube.apiserver.admission.configuration_file import complaint, items, only, within
from bamikube.apiserver.admission.context import AdmissionContext
from bamikube.kit.clock import Clock

Object = dict[str, Any]

TYPES = ("Namespace", "Server", "SourceAndObject", "User")
CACHE_SIZE = 4096
_FIELDS = ("apiVersion", "kind", "limits")


@dataclass(frozen=True, slots=True)
class EventLimit:
    """``qps`` tokens a second, ``burst`` at once, for each of the ``cache_size`` keys that were used last."""

    type: str
    qps: int
    burst: int
    cache_size: int = CACHE_SIZE


def limits_of(section: dict[str, Any], where: str) -> tuple[EventLimit, ...]:
    """The limits of a Configuration. Raises ValueError."""
    only(section, _FIELDS, where)
    found = []
    for index, limit in enumerate(items(section, "limits", where)):
        at = within(where, f"limits[{index}]")
        only(limit, ("type", "qps", "burst", "cacheSize"), at)
        if (kind := limit.get("type")) not in TYPES:
            known = ", ".join(f'"{one}"' for one in TYPES)
            raise complaint(f"{at}.type", f'Unsupported value: "{kind or ""}": supported values: {known}')
        numbers = {field: limit.get(field) or 0 for field in ("burst", "qps", "cacheSize")}
        for field, number in numbers.items():
            if not isinstance(number, int):
                raise complaint(f"{at}.{field}", "expected an integer")
            if number < 0 or (number == 0 and field != "cacheSize"):
                why = "must not be negative" if field == "cacheSize" else "must be positive"
                raise complaint(f"{at}.{field}", f"Invalid value: {number}: {why}")
        size = numbers["cacheSize"] or CACHE_SIZE
        found.append(EventLimit(kind, numbers["qps"], numbers["burst"], size))
    if not found:
        raise complaint(within(where, "limits"), "Invalid value: []: must not be empty")
    return tuple(found)


class Buckets:
    """The buckets of one limit, by key."""

    def __init__(self, limit: EventLimit, clock: Clock) -> None:
        self.limit = limit
        self._clock = clock
        self._held: OrderedDict[str, tuple[float, float]] = OrderedDict()  # key -> tokens, at which time

    def take(self, key: str) -> bool:
        """Take a token; False when there is none."""
        now = self._clock.monotonic()
        tokens, since = self._held.pop(key, (float(self.limit.burst), now))
        tokens = min(float(self.limit.burst), tokens + (now - since) * self.limit.qps)
        let_in = tokens >= 1.0
        self._held[key] = (tokens - 1.0 if let_in else tokens, now)
        if len(self._held) > self.limit.cache_size:
            self._held.popitem(last=False)
        return let_in


class EventRateLimit(Plugin):
    name = "EventRateLimit"
    kinds = frozenset({("", "events")})
    operations = frozenset({"CREATE", "UPDATE"})

    def __init__(self, limits: Sequence[EventLimit], clock: Clock) -> None:
        if not limits:
            raise ValueError("EventRateLimit: --admission-control-config-file has to name its limits")
        self._buckets = [Buckets(limit, clock) for limit in limits]

    async def validate(self, ctx: AdmissionContext) -> None:
        if ctx.dry_run or ctx.object is None:
            return
        empty = []
        for buckets in self._buckets:
            kind = buckets.limit.type
            key = _key(kind, ctx, ctx.object)
            if not buckets.take(key):
                empty.append(f"limit reached on type {kind} for key {key}")
        if empty:
            said = empty[0] if len(empty) == 1 else f"[{', '.join(empty)}]"
            raise ApiError(429, "TooManyRequests", f"Too many requests: {said}")


def _key(kind: str, ctx: AdmissionContext, event: Object) -> str:
    match kind:
        case "Namespace":
            return ctx.namespace
        case "User":
            return ctx.user.name
        case "SourceAndObject":
            source, about = event.get("source") or {}, event.get("involvedObject") or {}
            parts = [source.get("component"), source.get("host")]
            parts += [about.get(field) for field in ("kind", "namespace", "name", "uid", "apiVersion")]
            return "".join(str(part or "") for part in parts)
    return ""
