"""PodTolerationRestriction: which taints the pods of a namespace tolerate, by default and at most. Off by default.

Annotations of the namespace say it, as JSON: ``scheduler.alpha.kubernetes.io/defaultTolerations`` is merged into every new
pod's tolerations; what a pod then tolerates must be covered by ``scheduler.alpha.kubernetes.io/tolerationsWhitelist``, if
there is one. For namespaces without, the file of ``--admission-control-config-file`` may have a ``default`` and a
``whitelist``. Pods that ask for resources tolerate nodes under memory pressure.

Source: Kubernetes' admission controller reference, PodTolerationRestriction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from bamikube.api import errors
from bamikube.api.predicates.tolerations import covers, merged
from bamikube.api.qos import qos_class
from bamikube.apiserver.admission.chain import Plugin
from bamikube.apiserver.admission.configuration_file import items, only
from bamikube.apiserver.admission.context import AdmissionContext
from bamikube.apiserver.registry.reader import Reader

Object = dict[str, Any]

NAMESPACES = ("", "namespaces")
DEFAULT = "scheduler.alpha.kubernetes.io/defaultTolerations"
WHITELIST = "scheduler.alpha.kubernetes.io/tolerationsWhitelist"
MEMORY_PRESSURE = {"key": "node.kubernetes.io/memory-pressure", "operator": "Exists", "effect": "NoSchedule"}


@dataclass(frozen=True, slots=True)
class ClusterTolerations:
    """What holds for namespaces that say nothing."""

    default: tuple[Object, ...] = ()
    whitelist: tuple[Object, ...] = ()


NO_TOLERATIONS = ClusterTolerations()


def tolerations_of(section: Object, where: str) -> ClusterTolerations:
    """A Configuration of the plugin. Raises ValueError."""
    only(section, ("apiVersion", "kind", "default", "whitelist"), where)
    fields = ("key", "operator", "value", "effect", "tolerationSeconds")
    lists = [items(section, field, where) for field in ("default", "whitelist")]
    for field, listed in zip(("default", "whitelist"), lists, strict=True):
        for index, one in enumerate(listed):
            only(one, fields, f"{where}.{field}[{index}]")
    return ClusterTolerations(tuple(lists[0]), tuple(lists[1]))


class PodTolerationRestriction(Plugin):
    name = "PodTolerationRestriction"
    kinds = frozenset({("", "pods")})
    operations = frozenset({"CREATE", "UPDATE"})

    def __init__(self, reader: Reader, cluster: ClusterTolerations) -> None:
        self._reader = reader
        self._cluster = cluster

    async def mutate(self, ctx: AdmissionContext) -> None:
        if ctx.subresource or ctx.object is None:
            return
        spec = ctx.object.setdefault("spec", {})
        held = list(spec.get("tolerations") or ())
        if ctx.operation == "CREATE":
            given = self._of_namespace(ctx, DEFAULT)
            held = merged(self._cluster.default if given is None else given, held)
        if qos_class(spec) != "BestEffort":
            held = merged(held, [MEMORY_PRESSURE])
        if held:
            spec["tolerations"] = held

    async def validate(self, ctx: AdmissionContext) -> None:
        if ctx.subresource or ctx.object is None:
            return
        held = (ctx.object.get("spec") or {}).get("tolerations") or ()
        if not held:
            return
        allowed, whose = self._of_namespace(ctx, WHITELIST), "namespace"
        if allowed is None:
            allowed, whose = list(self._cluster.whitelist), "cluster"
        if allowed and not all(any(covers(most, one) for most in allowed) for one in held):
            raise errors.forbidden(
                "pods",
                ctx.name,
                "pod tolerations (possibly merged with namespace default tolerations) conflict with its "
                f"{whose} whitelist",
            )

    def _of_namespace(self, ctx: AdmissionContext, annotation: str) -> list[Object] | None:
        """The tolerations in an annotation; None when there is none. Raises ApiError 403 for one that cannot be read."""
        namespace = self._reader.get(NAMESPACES, "", ctx.namespace) or {"metadata": {}}
        text = (namespace["metadata"].get("annotations") or {}).get(annotation)
        if not text:
            return None
        try:
            found = orjson.loads(text)
        except orjson.JSONDecodeError:
            found = None
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            why = f"namespace {ctx.namespace}: the annotation {annotation} is no list of tolerations"
            raise errors.forbidden("pods", ctx.name, why)
        return found
