"""PodSecurity: the pods of a namespace keep to the standard that the namespace's labels name.

``enforce`` refuses pods; ``warn`` and ``audit`` only tell, and look at what makes pods (deployments, jobs ...), too. Who
tightens ``enforce`` of a namespace hears which pods that are there already would not be let in again.

What holds where no label says anything, and who is exempt, comes from the file of ``--admission-control-config-file``.

Source: Kubernetes' "Pod Security Admission".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from bamikube.api import errors, podsecurity
from bamikube.api.errors import Cause
from bamikube.api.podsecurity import PREFIX, Policy, PolicyLevel, Violation, details, reasons
from bamikube.apiserver.admission import pod_security_figures as figures
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
_WHOLE = frozenset({""})


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
        pods = ctx.resource.key == PODS
        if ctx.subresource not in (_POD_PARTS if pods else _WHOLE):
            return
        if exempt := self._exempt(ctx):
            _let_off(ctx, exempt)
            return
        policy = self._policies.get(ctx.namespace, self._defaults.policy)
        if pods:
            if policy.asks_nothing:
                ctx.annotations[f"{PREFIX}enforce-policy"] = str(policy.enforce)
                figures.evaluated(ctx, "enforce", policy.enforce, allowed=True)
            elif ctx.old is None or _matters(ctx.object, ctx.old):
                self._judge(ctx, policy, ctx.object, enforced=True)
        elif policy.tells and (template := _template(ctx.resource.key, ctx.object)) is not None:
            self._judge(ctx, policy, template, enforced=False)

    def _exempt(self, ctx: AdmissionContext) -> str:
        """What exempts a request whatever it is about, in the words of the audit annotation; "" when nothing does."""
        if ctx.namespace in self._defaults.namespaces:
            return "namespace"
        return "user" if ctx.user.name in self._defaults.usernames else ""

    def _may_run_as_it_likes(self, pod: Object) -> bool:
        return (pod.get("spec") or {}).get("runtimeClassName") in self._defaults.runtime_classes

    def _judge(self, ctx: AdmissionContext, policy: Policy, pod: Object, *, enforced: bool) -> None:
        if self._may_run_as_it_likes(pod):
            _let_off(ctx, "runtimeClass")
            return
        if policy.causes:
            ctx.annotations[f"{PREFIX}error"] = f"Failed to parse policy: {_joined(policy.causes)}"
            figures.misread(ctx)
        known: dict[PolicyLevel, list[Violation]] = {}

        def found(level: PolicyLevel) -> list[Violation]:
            if level not in known:
                known[level] = podsecurity.evaluate(level, pod.get("metadata") or {}, pod.get("spec") or {})
            return known[level]

        if violated := found(policy.audit):
            told = f'would violate PodSecurity "{policy.audit}": {details(violated)}'
            ctx.annotations[f"{PREFIX}audit-violations"] = told
            figures.evaluated(ctx, "audit", policy.audit, allowed=False)
        if enforced:
            ctx.annotations[f"{PREFIX}enforce-policy"] = str(policy.enforce)
            violated = found(policy.enforce)
            figures.evaluated(ctx, "enforce", policy.enforce, allowed=not violated)
            if violated:
                why = f'violates PodSecurity "{policy.enforce}": {details(violated)}'
                raise errors.forbidden("pods", ctx.name, why)
        if violated := found(policy.warn):
            ctx.warnings.append(f'would violate PodSecurity "{policy.warn}": {details(violated)}')
            figures.evaluated(ctx, "warn", policy.warn, allowed=False)

    # -- namespaces ----------------------------------------------------------------------------------------------

    def _namespace(self, ctx: AdmissionContext, namespace: Object) -> None:
        new, old = self._policy(namespace), self._policy(ctx.old)
        if new.causes and (ctx.operation == "CREATE" or new.causes != old.causes):
            raise errors.invalid("Namespace", ctx.name, list(new.causes))
        if ctx.operation == "UPDATE" and not podsecurity.stricter(new.enforce, old.enforce):
            return
        if ctx.name in self._defaults.namespaces:
            if not new.all_privileged and new != self._defaults.policy:
                asked = podsecurity.asked((namespace.get("metadata") or {}).get("labels") or {}, new)
                ctx.warnings.append(
                    f'namespace "{ctx.name}" is exempt from Pod Security, and the policy ({asked}) will be ignored'
                )
        elif ctx.operation == "UPDATE":
            pods = self._reader.list(PODS, ctx.name)
            ctx.warnings.extend(
                would_not_return(ctx.name, pods, new.enforce, exempt=self._may_run_as_it_likes)
            )


def would_not_return(
    namespace: str,
    pods: list[Object],
    enforce: PolicyLevel,
    *,
    exempt: Callable[[Object], bool] = lambda pod: False,
) -> list[str]:
    """Warnings about pods that are there and would not be let in. Pods with the same violations share a line."""
    first: dict[str, list[str]] = {}
    for pod in _telling(pods):
        violated = (
            [] if exempt(pod) else podsecurity.evaluate(enforce, pod["metadata"], pod.get("spec") or {})
        )
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


def _telling(pods: list[Object]) -> list[Object]:
    """Not more than are looked at: of many, first one of each controller, for its others are made from one template."""
    if len(pods) <= LOOKED_AT:
        return pods
    seen: set[str] = set()
    leaders: list[Object] = []
    others: list[Object] = []
    for pod in pods:
        owners = pod["metadata"].get("ownerReferences") or ()
        controller = next((one.get("uid", "") for one in owners if one.get("controller")), "")
        (others if controller in seen else leaders).append(pod)
        if controller:
            seen.add(controller)
    return [*leaders, *others][:LOOKED_AT]


def _let_off(ctx: AdmissionContext, exempt: str) -> None:
    ctx.annotations[f"{PREFIX}exempt"] = exempt
    figures.exempted(ctx)


def _joined(causes: Iterable[Cause]) -> str:
    said = [f"{cause.field}: {cause.message}" for cause in causes]
    return said[0] if len(said) == 1 else f"[{', '.join(said)}]"


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
