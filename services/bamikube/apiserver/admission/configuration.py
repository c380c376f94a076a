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

What ResourceQuota limits by default is in :mod:`.quota_limits`, EventRateLimit's section in :mod:`.event_rate_limit`; the
webhooks' ``kubeConfigFile`` says who the API server is to them (:mod:`bamikube.apiserver.outbound.introductions`). A
section about another plugin is refused, for it would do nothing.

Source: Kubernetes' "Admission Control", "Pod Security Admission" (configuring the admission controller).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bamikube.api.podsecurity import Policy, policy_of
from bamikube.apiserver.admission.configuration_file import check_kind, complaint, items, load, only, within
from bamikube.apiserver.admission.event_rate_limit import EventLimit, limits_of
from bamikube.apiserver.admission.quota_limits import Limited, limited_of
from bamikube.apiserver.admission.toleration_restriction import (
    NO_TOLERATIONS,
    ClusterTolerations,
    tolerations_of,
)
from bamikube.apiserver.outbound.introductions import NO_INTRODUCTIONS, Introductions
from bamikube.pki.kubeconfig import KubeconfigError

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


@dataclass(frozen=True, slots=True)
class Configured:
    """How the plugins are meant to behave."""

    pod_security: PodSecurityDefaults = NO_DEFAULTS
    limited: tuple[Limited, ...] = ()
    events: tuple[EventLimit, ...] = ()
    tolerations: ClusterTolerations = NO_TOLERATIONS
    mutating: Introductions = NO_INTRODUCTIONS  # to mutating webhooks
    validating: Introductions = NO_INTRODUCTIONS


UNCONFIGURED = Configured()


def read(path: str) -> Configured:
    """What the file at ``path`` says; without a path, nothing. Raises ValueError that names the place."""
    if not path:
        return UNCONFIGURED
    document = load(Path(path), "AdmissionConfiguration")
    only(document, ("apiVersion", "kind", "plugins"), path)
    found = UNCONFIGURED
    for index, plugin in enumerate(items(document, "plugins", path)):
        where = f"{path}: plugins[{index}]"
        only(plugin, ("name", "path", "configuration"), where)
        name = plugin.get("name")
        if name not in _SECTIONS:
            raise complaint(
                f"{where}.name", f"{name!r} takes no configuration here; known are {', '.join(_SECTIONS)}"
            )
        field, kinds, parse = _SECTIONS[name]
        section, where = plugin.get("configuration"), f"{where}.configuration"
        if section is None and plugin.get("path"):
            file = Path(path).parent / str(plugin["path"])
            section, where = load(file, *kinds), str(file)
        check_kind(section or {}, where, *kinds)
        found = replace(found, **{field: parse(section, where)})
    return found


def pod_security(section: Mapping[str, Any], where: str) -> PodSecurityDefaults:
    """A PodSecurityConfiguration. Raises ValueError."""
    only(section, ("apiVersion", "kind", "defaults", "exemptions"), where)
    defaults, exemptions = section.get("defaults") or {}, section.get("exemptions") or {}
    only(defaults, _MODES, within(where, "defaults"))
    only(exemptions, _EXEMPT, within(where, "exemptions"))
    policy = policy_of(
        {f"pod-security.kubernetes.io/{mode}": str(value) for mode, value in defaults.items() if value}
    )
    if policy.causes:
        said = "; ".join(cause.message for cause in policy.causes)
        raise complaint(within(where, "defaults"), said)
    names = {
        field: frozenset(map(str, items(exemptions, field, within(where, "exemptions")))) for field in _EXEMPT
    }
    return PodSecurityDefaults(policy, names["namespaces"], names["runtimeClasses"], names["usernames"])


def _introductions(section: Mapping[str, Any], where: str) -> Introductions:
    """A WebhookAdmissionConfiguration. Raises ValueError."""
    only(section, ("apiVersion", "kind", "kubeConfigFile"), where)
    file = section.get("kubeConfigFile") or ""
    if not file:
        return NO_INTRODUCTIONS
    if not Path(file).is_absolute():
        raise complaint(
            within(where, "kubeConfigFile"), f"Invalid value: {file!r}: must be an absolute file path"
        )
    try:
        return Introductions.read(file)
    except KubeconfigError as error:
        raise complaint(within(where, "kubeConfigFile"), str(error)) from None


_WEBHOOK_KINDS = ("WebhookAdmissionConfiguration", "WebhookAdmission")
# Plugin -> where its configuration goes, the kinds of object it is, and who reads it.
_SECTIONS: Mapping[str, tuple[str, tuple[str, ...], Callable[[Any, str], Any]]] = {
    "EventRateLimit": ("events", ("Configuration",), limits_of),
    "MutatingAdmissionWebhook": ("mutating", _WEBHOOK_KINDS, _introductions),
    "PodSecurity": ("pod_security", ("PodSecurityConfiguration",), pod_security),
    "PodTolerationRestriction": ("tolerations", ("Configuration",), tolerations_of),
    "ResourceQuota": ("limited", ("ResourceQuotaConfiguration", "Configuration"), limited_of),
    "ValidatingAdmissionWebhook": ("validating", _WEBHOOK_KINDS, _introductions),
}
