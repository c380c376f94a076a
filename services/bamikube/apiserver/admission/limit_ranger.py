"""LimitRanger: what a container, a pod or a claim may ask for in a namespace, and what it gets when it does not say.

A limit range fills in requests and limits that containers of a new pod leave out, and then every limit range judges:
per container, per pod (all containers together) and per claim, the least, the most, and how far a limit may be above
its request. Everything that is wrong is told at once.

Worked example: ``min: {cpu: 100m}, max: {cpu: 1}, default: {cpu: 500m}`` on a container that says nothing gives it a
request and a limit of 500m; one that asks for 50m hears ``minimum cpu usage per Container is 100m, but request is 50m``.

Source: Kubernetes' "Limit Ranges" and the admission controller reference, LimitRanger.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bamikube.api import errors, podresources
from bamikube.api.podresources import Amounts, amounts
from bamikube.api.quantity import Quantity
from bamikube.apiserver.admission.chain import Plugin
from bamikube.apiserver.admission.context import AdmissionContext
from bamikube.apiserver.admission.index import ByNamespace
from bamikube.apiserver.registry.reader import Reader

Object = dict[str, Any]

RANGES = ("", "limitranges")
PODS = ("", "pods")
CLAIMS = ("", "persistentvolumeclaims")
ANNOTATION = "kubernetes.io/limit-ranger"


class LimitRanger(Plugin):
    name = "LimitRanger"
    kinds = frozenset({PODS, CLAIMS})
    operations = frozenset({"CREATE", "UPDATE"})

    def __init__(self, reader: Reader) -> None:
        self._ranges = ByNamespace(reader, RANGES)

    async def mutate(self, ctx: AdmissionContext) -> None:
        """Containers are fixed when their pod is created, so only then is there anything to fill in."""
        ranges = self._ranges.of(ctx.namespace)
        if ranges and ctx.operation == "CREATE" and ctx.concerns(*PODS) and ctx.object is not None:
            for _, one in sorted(ranges.items()):
                fill_in(ctx.object, _items(one))

    async def validate(self, ctx: AdmissionContext) -> None:
        ranges = self._ranges.of(ctx.namespace)
        if not ranges or ctx.object is None or ctx.object["metadata"].get("deletionTimestamp"):
            return
        if ctx.resource.key == PODS:
            if (ctx.operation, ctx.subresource) not in (("CREATE", ""), ("UPDATE", "resize")):
                return
        elif ctx.subresource:
            return
        judge = judge_pod if ctx.resource.key == PODS else judge_claim
        for _, one in sorted(ranges.items()):
            if wrong := list(dict.fromkeys(judge(ctx.object.get("spec") or {}, _items(one)))):
                why = wrong[0] if len(wrong) == 1 else f"[{', '.join(wrong)}]"
                raise errors.forbidden(ctx.resource.plural, ctx.name, why)


def _items(limit_range: Object) -> list[Object]:
    return (limit_range.get("spec") or {}).get("limits") or []


def fill_in(pod: Object, items: Iterable[Object]) -> None:
    """Give the containers of ``pod`` the requests and limits they lack, and note in an annotation which."""
    requests: dict[str, Any] = {}
    limits: dict[str, Any] = {}
    for item in items:
        if item.get("type") == "Container":
            requests.update(item.get("defaultRequest") or {})
            limits.update(item.get("default") or {})
    if not requests and not limits:
        return
    notes: list[str] = []
    spec = pod.get("spec") or {}
    for field, kind in (("containers", "container"), ("initContainers", "init container")):
        for container in spec.get(field) or ():
            for part, given in (("requests", requests), ("limits", limits)):
                if added := _complete(container, part, given):
                    notes.append(f"{', '.join(added)} {part[:-1]} for {kind} {container.get('name', '')}")
    if notes:
        annotations = pod["metadata"].get("annotations") or {}
        pod["metadata"]["annotations"] = annotations | {
            ANNOTATION: f"LimitRanger plugin set: {'; '.join(notes)}"
        }


def _complete(container: Object, part: str, given: Mapping[str, Any]) -> list[str]:
    """Which resources were added."""
    resources = container.get("resources") or {}
    held = resources.get(part) or {}
    added = sorted(name for name in given if name not in held)
    if added:
        container["resources"] = resources | {part: held | {name: given[name] for name in added}}
    return added


def judge_pod(spec: Object, items: Iterable[Object]) -> Iterator[str]:
    """What a pod does that the items do not allow."""
    for item in items:
        if item.get("type") == "Container":
            for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
                resources = container.get("resources") or {}
                held = amounts(resources.get("requests")), amounts(resources.get("limits"))
                yield from _judge(item, "Container", *held)
        elif item.get("type") == "Pod":
            yield from _judge(item, "Pod", podresources.requests(spec), podresources.limits(spec))


def _judge(item: Object, kind: str, requests: Amounts, limits: Amounts) -> Iterator[str]:
    for name, least in sorted(amounts(item.get("min")).items()):
        yield from too_little(kind, name, least, requests.get(name), limits.get(name))
    for name, most in sorted(amounts(item.get("max")).items()):
        yield from too_much(kind, name, most, requests.get(name), limits.get(name))
    for name, ratio in sorted(amounts(item.get("maxLimitRequestRatio")).items()):
        yield from too_far(kind, name, ratio, requests.get(name), limits.get(name))


def too_little(
    kind: str, name: str, least: Quantity, request: Quantity | None, limit: Quantity | None
) -> Iterator[str]:
    rule = f"minimum {name} usage per {kind} is {least}"
    if request is None:
        yield f"{rule}.  No request is specified"
    elif request < least:
        yield f"{rule}, but request is {request}"
    elif limit is not None and limit < least:
        yield f"{rule}, but limit is {limit}"


def too_much(
    kind: str, name: str, most: Quantity, request: Quantity | None, limit: Quantity | None
) -> Iterator[str]:
    rule = f"maximum {name} usage per {kind} is {most}"
    if limit is None:
        yield f"{rule}.  No limit is specified"
    elif limit > most:
        yield f"{rule}, but limit is {limit}"
    elif request is not None and request > most:
        yield f"{rule}, but request is {request}"


def too_far(
    kind: str, name: str, ratio: Quantity, request: Quantity | None, limit: Quantity | None
) -> Iterator[str]:
    rule = f"{name} max limit to request ratio per {kind} is {ratio}"
    if not request:
        yield f"{rule}, but no request is specified or request is 0"
    elif not limit:
        yield f"{rule}, but no limit is specified or limit is 0"
    elif limit.nanos * 10**9 > request.nanos * ratio.nanos:
        yield f"{rule}, but provided ratio is {limit.nanos / request.nanos:.6f}"


def judge_claim(spec: Object, items: Iterable[Object]) -> Iterator[str]:
    """What a claim asks for that the items do not allow. Claims have requests only."""
    requests = amounts((spec.get("resources") or {}).get("requests"))
    for item in items:
        if item.get("type") != "PersistentVolumeClaim":
            continue
        for name, least in sorted(amounts(item.get("min")).items()):
            yield from too_little("PersistentVolumeClaim", name, least, requests.get(name), None)
        for name, most in sorted(amounts(item.get("max")).items()):
            asked = requests.get(name)
            rule = f"maximum {name} usage per PersistentVolumeClaim is {most}"
            if asked is None:
                yield f"{rule}.  No request is specified"
            elif asked > most:
                yield f"{rule}, but request is {asked}"
