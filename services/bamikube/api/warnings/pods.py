"""Warnings about pods and the templates of pods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bamikube.api.memory import FEW, Approved
from bamikube.api.names import is_dns1123_label
from bamikube.api.quantity import Quantity

NODE_LABELS = {
    "beta.kubernetes.io/arch": 'deprecated since v1.14; use "kubernetes.io/arch" instead',
    "beta.kubernetes.io/os": 'deprecated since v1.14; use "kubernetes.io/os" instead',
    "beta.kubernetes.io/instance-type": 'deprecated since v1.17; use "node.kubernetes.io/instance-type" instead',
    "failure-domain.beta.kubernetes.io/region": 'deprecated since v1.17; use "topology.kubernetes.io/region" instead',
    "failure-domain.beta.kubernetes.io/zone": 'deprecated since v1.17; use "topology.kubernetes.io/zone" instead',
}
VOLUMES = {
    "photonPersistentDisk": "deprecated in v1.11, non-functional in v1.16+",
    "gitRepo": "deprecated in v1.11, and disabled by default in v1.33+",
    "scaleIO": "deprecated in v1.16, non-functional in v1.22+",
    "flocker": "deprecated in v1.22, non-functional in v1.25+",
    "storageos": "deprecated in v1.22, non-functional in v1.25+",
    "quobyte": "deprecated in v1.22, non-functional in v1.25+",
    "glusterfs": "deprecated in v1.25, non-functional in v1.26+",
    "cephfs": "deprecated in v1.28, non-functional in v1.31+",
    "rbd": "deprecated in v1.28, non-functional in v1.31+",
}
_SECCOMP = ("seccomp.security.alpha.kubernetes.io/pod", "container.seccomp.security.alpha.kubernetes.io/")
_APPARMOR = "container.apparmor.security.beta.kubernetes.io/"
_CRITICAL = "scheduler.alpha.kubernetes.io/critical-pod"
_NO_SELECTOR = "a null labelSelector results in matching no pod"
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
_KINDS = ("initContainers", "containers", "ephemeralContainers")


def fractional(field: str, amount: Any) -> list[str]:
    """Bytes come whole."""
    if type(amount) is not str or amount[-1:] != "m" or Quantity.parse(amount).is_whole():
        return []
    return [f'{field}: fractional byte value "{amount}" is invalid, must be an integer']


def _repeated(field: str, names: list[str], what: str = "name") -> list[str]:
    if len(names) < 2:
        return []
    return [
        f'{field}[{index}].{what}: duplicate {what} "{name}"'
        for index, name in enumerate(names)
        if name in names[:index]
    ]


def _environment(field: str, variables: list[dict[str, Any]]) -> list[str]:
    """A second definition is fine when it builds on the first."""
    found: list[str] = []
    seen: set[str] = set()
    for index, each in enumerate(variables):
        name = each.get("name") or ""
        if name in seen and f"$({name})" not in (each.get("value") or ""):
            found.append(
                f'{field}[{index}]: hides previous definition of "{name}", which may be dropped when using apply'
            )
        seen.add(name)
    return found


_APPROVED = Approved(1024)


def _container(path: str, each: dict[str, Any]) -> list[str]:
    about = (each.get("resources"), each.get("env"))
    if len(about[1] or ()) < FEW:
        return _container_parts(path, each)
    return _APPROVED.judge(about, lambda: _container_parts(path, each))


def _container_parts(path: str, each: dict[str, Any]) -> list[str]:
    found: list[str] = []
    resources = each.get("resources")
    if resources:
        for kind in ("limits", "requests"):
            amounts = resources.get(kind)
            if amounts:
                for name in ("memory", "ephemeral-storage"):
                    if name in amounts:
                        found += fractional(f"{path}.resources.{kind}[{name}]", amounts[name])
    variables = each.get("env")
    if variables and len(variables) > 1:
        found += _environment(f"{path}.env", variables)
    return found


def _ports(path: str, spec: dict[str, Any]) -> list[str]:
    """Two definitions of one port, in one container or in two."""
    found: list[str] = []
    known: dict[tuple[Any, Any], list[tuple[str, dict[str, Any]]]] = {}
    for kind in _KINDS:
        for index, each in enumerate(spec.get(kind) or ()):
            for place, port in enumerate(each.get("ports") or ()):
                field = f"{path}.{kind}[{index}].ports[{place}]"
                others = known.setdefault((port.get("containerPort"), port.get("protocol")), [])
                for where, other in others:
                    word = _clash(port, other)
                    if word:
                        found.append(f"{field}: {word} port definition with {where}")
                        break
                others.append((field, port))
    return found


def _clash(port: dict[str, Any], other: dict[str, Any]) -> str:
    host, number = port.get("hostIP") or "", port.get("hostPort") or 0
    other_host, other_number = other.get("hostIP") or "", other.get("hostPort") or 0
    if (host, number) == (other_host, other_number):
        return "duplicate"
    if not number or not other_number:
        return "overlapping"
    if number == other_number and (not host) != (not other_host):
        return "dangerously ambiguous"
    return ""


def _affinity(path: str, affinity: dict[str, Any]) -> list[str]:
    found: list[str] = []
    for kind in ("podAffinity", "podAntiAffinity"):
        given = affinity.get(kind) or {}
        for index, term in enumerate(given.get(_REQUIRED) or ()):
            if term.get("labelSelector") is None:
                found.append(f"{path}.{kind}.{_REQUIRED}[{index}].labelSelector: {_NO_SELECTOR}")
        for index, each in enumerate(given.get(_PREFERRED) or ()):
            if (each.get("podAffinityTerm") or {}).get("labelSelector") is None:
                where = f"{path}.{kind}.{_PREFERRED}[{index}].podAffinityTerm.labelSelector"
                found.append(f"{where}: {_NO_SELECTOR}")
    node = affinity.get("nodeAffinity") or {}
    terms = [
        (f"{_REQUIRED}.nodeSelectorTerms[{index}]", term)
        for index, term in enumerate((node.get(_REQUIRED) or {}).get("nodeSelectorTerms") or ())
    ]
    terms += [
        (f"{_PREFERRED}[{index}].preference", each.get("preference") or {})
        for index, each in enumerate(node.get(_PREFERRED) or ())
    ]
    for where, term in terms:
        found += selector_term(f"{path}.nodeAffinity.{where}", term)
    return found


def selector_term(path: str, term: dict[str, Any]) -> list[str]:
    """Labels of nodes that have newer names."""
    return [
        f"{path}.matchExpressions[{index}].key: {each['key']} is {NODE_LABELS[each['key']]}"
        for index, each in enumerate(term.get("matchExpressions") or ())
        if each.get("key") in NODE_LABELS
    ]


def _annotations(path: str, annotations: dict[str, str]) -> list[str]:
    found: list[str] = []
    for key in annotations:
        if key.startswith(_APPARMOR):
            found.append(f'{path}[{key}]: deprecated since v1.30; use the "appArmorProfile" field instead')
        elif key.startswith(_SECCOMP):
            found.append(f'{path}[{key}]: non-functional in v1.27+; use the "seccompProfile" field instead')
        elif key == _CRITICAL:
            found.append(
                f'{path}[{key}]: non-functional in v1.16+; use the "priorityClassName" field instead'
            )
    return found


def _volumes(path: str, volumes: list[dict[str, Any]]) -> list[str]:
    found: list[str] = []
    for index, volume in enumerate(volumes):
        for kind in volume:
            if kind in VOLUMES:
                found.append(f"{path}[{index}].{kind}: {VOLUMES[kind]}")
    return found


def spec_and_metadata(prefix: str, holder: dict[str, Any]) -> list[str]:
    """A pod (``prefix`` "") or a template (``spec.template.``)."""
    spec, path = holder.get("spec") or {}, f"{prefix}spec"
    found: list[str] = []
    for key in spec.get("nodeSelector") or ():
        if key in NODE_LABELS:
            found.append(f"{path}.nodeSelector[{key}]: {NODE_LABELS[key]}")
    if spec.get("affinity"):
        found += _affinity(f"{path}.affinity", spec["affinity"])
    for index, each in enumerate(spec.get("topologySpreadConstraints") or ()):
        where, key = f"{path}.topologySpreadConstraints[{index}]", each.get("topologyKey")
        if key in NODE_LABELS:
            found.append(f"{where}.topologyKey: {key} is {NODE_LABELS[key]}")
        if each.get("labelSelector") is None:
            found.append(f"{where}.labelSelector: {_NO_SELECTOR}")
    annotations = (holder.get("metadata") or {}).get("annotations")
    if annotations:
        found += _annotations(f"{prefix}metadata.annotations", annotations)
    if spec.get("volumes"):
        found += _volumes(f"{path}.volumes", spec["volumes"])
    if spec.get("hostAliases"):
        found += _repeated(
            f"{path}.hostAliases", [each.get("ip") or "" for each in spec["hostAliases"]], "ip"
        )
    secrets = spec.get("imagePullSecrets")
    if secrets:
        names = [each.get("name") or "" for each in secrets]
        found += [
            f'{path}.imagePullSecrets[{index}].name: invalid empty name ""'
            for index, name in enumerate(names)
            if not name
        ]
        found += _repeated(f"{path}.imagePullSecrets", names)
    if spec.get("overhead"):
        found += fractional(f"{path}.overhead[memory]", spec["overhead"].get("memory"))
    if spec.get("terminationGracePeriodSeconds", 0) < 0:
        found.append(
            f"{path}.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"
        )
    ports = 0
    for kind in _KINDS:
        for index, each in enumerate(spec.get(kind) or ()):
            found += _container(f"{path}.{kind}[{index}]", each)
            ports += len(each.get("ports") or ())
    return found + _ports(path, spec) if ports > 1 else found


# --- the kinds ------------------------------------------------------------------------------------------------------


def _name(obj: dict[str, Any], use: str) -> list[str]:
    name = (obj.get("metadata") or {}).get("name") or ""
    wrong = is_dns1123_label(name)
    if not wrong:
        return []
    return [
        f"metadata.name: this is used in {use}, which can result in surprising behavior; "
        f"a DNS label is recommended: [{' '.join(wrong)}]"
    ]


def _pod(new: dict[str, Any], old: dict[str, Any] | None) -> list[str]:
    if old is not None:
        return spec_and_metadata("", new) if new.get("spec") != old.get("spec") else []
    return _name(new, "the Pod's hostname") + spec_and_metadata("", new)


def _generation(obj: dict[str, Any]) -> Any:
    return (obj.get("metadata") or {}).get("generation")


def _maker(*steps: str, named: bool = True) -> Callable[[dict[str, Any], dict[str, Any] | None], list[str]]:
    """The warnings of a kind whose template lies at ``steps``; names matter when pods are called after them."""
    prefix = ".".join(steps) + "."

    def warn(new: dict[str, Any], old: dict[str, Any] | None) -> list[str]:
        if old is not None and _generation(new) == _generation(old):
            return []
        holder: Any = new
        for step in steps:
            holder = (holder or {}).get(step)
        found = _name(new, "Pod names and hostnames") if named and old is None else []
        return found + spec_and_metadata(prefix, holder or {})

    return warn


_STATEFUL_TEMPLATE = _maker("spec", "template", named=False)


def _stateful_set(new: dict[str, Any], old: dict[str, Any] | None) -> list[str]:
    found = _STATEFUL_TEMPLATE(new, old)
    spec = new.get("spec") or {}
    for index, claim in enumerate(spec.get("volumeClaimTemplates") or ()):
        amounts = ((claim.get("spec") or {}).get("resources") or {}).get("requests") or {}
        field = f"spec.volumeClaimTemplates[{index}].spec.resources.requests[storage]"
        found += fractional(field, amounts.get("storage"))
    if spec.get("revisionHistoryLimit", 0) < 0:
        found.append(
            "spec.revisionHistoryLimit: a negative value retains all historical revisions; "
            "a value >= 0 is recommended"
        )
    return found


WARN: dict[tuple[str, str], Callable[[dict[str, Any], dict[str, Any] | None], list[str]]] = {
    ("", "pods"): _pod,
    ("", "podtemplates"): _maker("template", named=False),
    ("", "replicationcontrollers"): _maker("spec", "template"),
    ("apps", "deployments"): _maker("spec", "template"),
    ("apps", "replicasets"): _maker("spec", "template"),
    ("apps", "daemonsets"): _maker("spec", "template", named=False),
    ("apps", "statefulsets"): _stateful_set,
    ("batch", "jobs"): _maker("spec", "template"),
    ("batch", "cronjobs"): _maker("spec", "jobTemplate", "spec", "template", named=False),
}
