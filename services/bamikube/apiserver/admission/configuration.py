"""The file of ``--admission-control-config-file``: how plugins are meant to behave in this cluster.

::

    apiVersion: apiserver.config.k8s.io/v1
    kind: AdmissionConfiguration
    plugins:
    - name: PodSecurity
      configuration:                    # or path: a file of its own, beside this one
        apiVersion: pod-security.admission.config.k8s.io/v1
        kind: PodSecurityConfiguration
        defaults: {enforce: baseline, enforce-version: latest}
        exemptions: {namespaces: [kube-system]}

PodSecurity is the plugin that can be configured; a section about another one is refused, for it would do nothing.

Source: Kubernetes' "Pod Security Admission", configuring the admission controller.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bamikube.api.podsecurity import Policy, policy_of

FLAG = "--admission-control-config-file"
_KINDS = {
    "AdmissionConfiguration": ("apiserver.config.k8s.io/v1", "apiserver.k8s.io/v1alpha1"),
    "PodSecurityConfiguration": tuple(
        f"pod-security.admission.config.k8s.io/{version}" for version in ("v1", "v1beta1", "v1alpha1")
    ),
}
_MODES = tuple(f"{mode}{end}" for mode in ("enforce", "audit", "warn") for end in ("", "-version"))
_PRIVILEGED = Policy()
_EXEMPT = ("namespaces", "runtimeClasses", "usernames")


@dataclass(frozen=True, slots=True)
class PodSecurityDefaults:
    """What holds where a namespace's labels say nothing, and for whom nothing holds."""

    policy: Policy = _PRIVILEGED
    namespaces: frozenset[str] = frozenset()
    runtime_classes: frozenset[str] = frozenset()
    usernames: frozenset[str] = frozenset()


NO_DEFAULTS = PodSecurityDefaults()


def read(path: str) -> PodSecurityDefaults:
    """What the file at ``path`` says; without a path, nothing. Raises ValueError that names the place."""
    if not path:
        return NO_DEFAULTS
    document = _load(Path(path), "AdmissionConfiguration")
    found = NO_DEFAULTS
    for index, plugin in enumerate(_list(document, "plugins", path)):
        where = f"{path}: plugins[{index}]"
        name = plugin.get("name") if isinstance(plugin, dict) else None
        if name != "PodSecurity":
            raise ValueError(f"{FLAG} {where}.name: {name!r} takes no configuration here; PodSecurity does")
        section = plugin.get("configuration")
        if section is None and plugin.get("path"):
            section = _load(Path(path).parent / str(plugin["path"]), "PodSecurityConfiguration")
        found = pod_security(section or {}, f"{where}.configuration")
    return found


def pod_security(section: Mapping[str, Any], where: str) -> PodSecurityDefaults:
    """A PodSecurityConfiguration. Raises ValueError."""
    _is(section, "PodSecurityConfiguration", where)
    _only(section, ("apiVersion", "kind", "defaults", "exemptions"), where)
    defaults, exemptions = section.get("defaults") or {}, section.get("exemptions") or {}
    _only(defaults, _MODES, f"{where}.defaults")
    _only(exemptions, _EXEMPT, f"{where}.exemptions")
    policy = policy_of(
        {f"pod-security.kubernetes.io/{mode}": str(value) for mode, value in defaults.items() if value}
    )
    if policy.causes:
        said = "; ".join(cause.message for cause in policy.causes)
        raise ValueError(f"{FLAG} {where}.defaults: {said}")
    names = {field: frozenset(map(str, _list(exemptions, field, where))) for field in _EXEMPT}
    return PodSecurityDefaults(policy, names["namespaces"], names["runtimeClasses"], names["usernames"])


def _load(path: Path, kind: str) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{FLAG} {path}: {error}") from error
    _is(document, kind, str(path))
    return dict(document)


def _is(document: Any, kind: str, where: str) -> None:
    if not isinstance(document, dict) or document.get("kind") != kind:
        raise ValueError(f"{FLAG} {where}: expected an object of the kind {kind}")
    if document.get("apiVersion") not in _KINDS[kind]:
        raise ValueError(f"{FLAG} {where}.apiVersion: must be one of {', '.join(_KINDS[kind])}")


def _only(section: Any, known: tuple[str, ...], where: str) -> None:
    if not isinstance(section, Mapping):
        raise ValueError(f"{FLAG} {where}: expected a mapping")
    if unknown := sorted(str(field) for field in section if field not in known):
        raise ValueError(f"{FLAG} {where}: unknown fields {', '.join(unknown)}; known are {', '.join(known)}")


def _list(section: Mapping[str, Any], field: str, where: str) -> list[Any]:
    found = section.get(field) or []
    if not isinstance(found, list):
        raise ValueError(f"{FLAG} {where}: {field} must be a list")
    return found
