"""PodSecurity: the pods of a namespace keep to the standard that the namespace's labels name.

``enforce`` refuses pods; ``warn`` and ``audit`` only tell, and look at what makes pods (deployments, jobs ...), too. Who
tightens ``enforce`` of a namespace hears which pods that are there already would not be let in again.

What holds where no label says anything, and who is exempt, comes from the file of ``--admission-control-config-file``.

Source: Kubernetes' "Pod Security Admission".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bamikube.api import errors, podsecurity
from bamikube.api.podsecurity import Policy, PolicyLevel, Violation, details, reasons
from bamikube.apiserver.admission.chain import Plugin
from bamikube.apiserver.admission.configuration import NO_DEFAULTS, PodSecurityDefaults
from bamikube.apiserver.admission.context import AdmissionContext
from bamikube.apiserver.registry.reader import Reader

Object = dict[str, Any]

NAMESPACES, PODS = ("", "namespaces"), ("", "pods")
# Where the template of the pods stands in what makes pods.
TEMPLATES: dict[tuple[str, str], tuple[str, ...]] = {
    ("", "podtemplates"): ("template",),
    ("", "replicationcontrollers"): ("spec", "template"),
    ("apps", "daemonsets"): ("spec", "template"),
    ("apps", "deployments"): ("spec", "template"),
    ("apps", "replicasets"): ("spec", "template"),
    ("apps", "statefulsets"): ("spec", "template"),
    ("batch", "cronjobs"): ("spec", "jobTemplate", "spec", "template"),
    ("batch", "jobs"): ("spec", "template"),
}
LOOKED_AT = 3000  # pods of a namespace that are looked at when its labels change
_POD_PARTS = frozenset({"", "ephemeralcontainers", "resize"})


class PodSecurity(Plugin):
    name = "PodSecurity"
    kinds = frozenset({NAMESPACES, PODS, *TEMPLATES})
    operations = frozenset({"CREATE", "UPDATE"})

    def __init__(self, reader: Reader, defaults: PodSecurityDefaults = NO_DEFAULTS) -> None:
        self._reader = reader
        self._defaults = defaults
        self._policies: dict[str, Policy] = {}  # of namespaces that ask for something else than the defaults
        reader.subscribe(NAMESPACES, self._namespace_changed)

    def _namespace_changed(self, _type: str, old: Object | None, new: Object | None) -> None:
        metadata = (new or old or {})["metadata"]
        policy = self._policy(new) if new is not None else self._defaults.policy
        if policy == self._defaults.policy:
            self._policies.pop(metadata["name"], None)
        else:
            self._policies[metadata["name"]] = policy

    def _policy(self, namespace: Object | None) -> Policy:
        labels = ((namespace or {}).get("metadata") or {}).get("labels")
        return podsecurity.policy_of(labels, self._defaults.policy)

    async def validate(self, ctx: AdmissionContext) -> None:
        if ctx.object is None:
            return
        if ctx.resource.key == NAMESPACES:
            if not ctx.subresource:
                self._namespace(ctx, ctx.object)
            return
        policy = self._policies.get(ctx.namespace, self._defaults.policy)
        if policy.asks_nothing:
            return
        if exempt := self._exempt(ctx, ctx.object):
            ctx.annotations["pod-security.kubernetes.io/exempt"] = exempt
            return
        if ctx.resource.key == PODS:
            if ctx.subresource in _POD_PARTS and (ctx.old is None or _matters(ctx.object, ctx.old)):
                self._judge(ctx, policy, ctx.object, enforced=True)
        elif not ctx.subresource and (template := _template(ctx.resource.key, ctx.object)) is not None:
            self._judge(ctx, policy, template, enforced=False)

    def _exempt(self, ctx: AdmissionContext, obj: Object) -> str:
        """What exempts a request, in the words of the audit annotation; "" when nothing does."""
        defaults = self._defaults
        if ctx.namespace in defaults.namespaces:
            return "namespace"
        if ctx.user.name in defaults.usernames:
            return "user"
        if defaults.runtime_classes:
            pod = obj if ctx.resource.key == PODS else _template(ctx.resource.key, obj)
            if ((pod or {}).get("spec") or {}).get("runtimeClassName") in defaults.runtime_classes:
                return "runtimeClass"
        return ""

    def _judge(self, ctx: AdmissionContext, policy: Policy, pod: Object, *, enforced: bool) -> None:
        known: dict[PolicyLevel, list[Violation]] = {}

        def found(level: PolicyLevel) -> list[Violation]:
            if level not in known:
                known[level] = podsecurity.evaluate(level, pod.get("metadata") or {}, pod.get("spec") or {})
            return known[level]

        if violated := found(policy.audit):
            told = f'would violate PodSecurity "{policy.audit}": {details(violated)}'
            ctx.annotations["pod-security.kubernetes.io/audit-violations"] = told
        if enforced:
            ctx.annotations["pod-security.kubernetes.io/enforce-policy"] = str(policy.enforce)
            if violated := found(policy.enforce):
                why = f'violates PodSecurity "{policy.enforce}": {details(violated)}'
                raise errors.forbidden("pods", ctx.name, why)
        if violated := found(policy.warn):
            ctx.warnings.append(f'would violate PodSecurity "{policy.warn}": {details(violated)}')

    # -- namespaces ----------------------------------------------------------------------------------------------

    def _namespace(self, ctx: AdmissionContext, namespace: Object) -> None:
        new, old = self._policy(namespace), self._policy(ctx.old)
        if new.causes and (ctx.operation == "CREATE" or new.causes != old.causes):
            raise errors.invalid("Namespace", ctx.name, list(new.causes))
        if ctx.name in self._defaults.namespaces:
            return
        if ctx.operation == "UPDATE" and podsecurity.stricter(new.enforce, old.enforce):
            pods = self._reader.list(PODS, ctx.name)
            ctx.warnings.extend(would_not_return(ctx.name, pods, new.enforce))


def would_not_return(namespace: str, pods: list[Object], enforce: PolicyLevel) -> list[str]:
    """Warnings about pods that are there and would not be let in. Pods with the same violations share a line."""
    first: dict[str, list[str]] = {}
    for pod in pods[:LOOKED_AT]:
        violated = podsecurity.evaluate(enforce, pod["metadata"], pod.get("spec") or {})
        if violated:
            first.setdefault(reasons(violated), []).append(pod["metadata"]["name"])
    warnings = []
    if len(pods) > LOOKED_AT:
        warnings.append(
            f"new PodSecurity enforce level only checked against the first {LOOKED_AT} of {len(pods)} existing pods"
        )
    if first:
        warnings.append(
            f'existing pods in namespace "{namespace}" violate the new PodSecurity enforce level "{enforce}"'
        )
    return warnings + sorted(f"{_counted(names)}: {why}" for why, names in first.items())


def _counted(names: list[str]) -> str:
    """``a``, ``a (and 1 other pod)``, ``a (and 2 other pods)``."""
    others = len(names) - 1
    rest = "" if not others else f" (and {others} other {'pod' if others == 1 else 'pods'})"
    return f"{min(names)}{rest}"


def _template(key: tuple[str, str], obj: Object) -> Object | None:
    found: Any = obj
    for step in TEMPLATES[key]:
        found = (found or {}).get(step)
    return found if found else None


def _matters(new: Object, old: Object) -> bool:
    """Whether an update changes what a standard looks at: images, and containers that were not there."""
    return _facts(new) != _facts(old)


def _facts(pod: Object) -> list[Any]:
    spec, annotations = pod.get("spec") or {}, pod["metadata"].get("annotations") or {}
    marks: Iterable[str] = (name for name in annotations if "seccomp.security.alpha.kubernetes.io/" in name)
    return [
        *(
            (field, one.get("name"), one.get("image"))
            for field in ("initContainers", "containers", "ephemeralContainers")
            for one in spec.get(field) or ()
        ),
        *(sorted((name, annotations[name]) for name in marks)),
    ]
