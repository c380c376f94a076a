"""The values that fields of type string may have, for ``/openapi`` and so for ``kubectl explain``.

The definitions we start from come without them (the snapshot in Kubernetes' repository is made so), while Kubernetes
itself publishes them. They are shown only: what is refused, and in which words, is the business of ``api/validation``.

Worked example::

    Service "type"   {"type": "string"}   becomes   {"type": "string", "enum": ["ClusterIP", "ExternalName", ...]}

A field that is a list has them on its elements.

Source: KEP-2887 (OpenAPI enum types), the API reference.
"""

from __future__ import annotations

import functools
from typing import Any

from bamikube.api.schema.source import definition

_CORE = "io.k8s.api.core.v1."
_ADMISSION = "io.k8s.api.admissionregistration."

# The package of the definitions, the values divided by |, and the fields that have them.
_TABLE: tuple[tuple[str, str, str], ...] = (
    # --- pods
    (_CORE, "Always|IfNotPresent|Never", "Container.imagePullPolicy EphemeralContainer.imagePullPolicy"),
    (_CORE, "Always|IfNotPresent|Never", "ImageVolumeSource.pullPolicy"),
    (_CORE, "Always|Never|OnFailure", "PodSpec.restartPolicy"),
    (_CORE, "ClusterFirst|ClusterFirstWithHostNet|Default|None", "PodSpec.dnsPolicy"),
    (_CORE, "Never|PreemptLowerPriority", "PodSpec.preemptionPolicy"),
    ("io.k8s.api.scheduling.v1.", "Never|PreemptLowerPriority", "PriorityClass.preemptionPolicy"),
    (
        _CORE,
        "FallbackToLogsOnError|File",
        "Container.terminationMessagePolicy EphemeralContainer.terminationMessagePolicy",
    ),
    (_CORE, "Bidirectional|HostToContainer|None", "VolumeMount.mountPropagation"),
    (_CORE, "HTTP|HTTPS", "HTTPGetAction.scheme"),
    (_CORE, "DoNotSchedule|ScheduleAnyway", "TopologySpreadConstraint.whenUnsatisfiable"),
    (
        _CORE,
        "Honor|Ignore",
        "TopologySpreadConstraint.nodeAffinityPolicy TopologySpreadConstraint.nodeTaintsPolicy",
    ),
    (_CORE, "DoesNotExist|Exists|Gt|In|Lt|NotIn", "NodeSelectorRequirement.operator"),
    (_CORE, "NoExecute|NoSchedule|PreferNoSchedule", "Taint.effect Toleration.effect"),
    (_CORE, "Equal|Exists", "Toleration.operator"),
    (_CORE, "Always|OnRootMismatch", "PodSecurityContext.fsGroupChangePolicy"),
    (_CORE, "Merge|Strict", "PodSecurityContext.supplementalGroupsPolicy"),
    (_CORE, "Localhost|RuntimeDefault|Unconfined", "SeccompProfile.type AppArmorProfile.type"),
    (_CORE, "Default|Unmasked", "SecurityContext.procMount"),
    (_CORE, "Failed|Pending|Running|Succeeded|Unknown", "PodStatus.phase"),
    (_CORE, "BestEffort|Burstable|Guaranteed", "PodStatus.qosClass"),
    # --- services and networks
    (_CORE, "ClusterIP|ExternalName|LoadBalancer|NodePort", "ServiceSpec.type"),
    (_CORE, "ClientIP|None", "ServiceSpec.sessionAffinity"),
    (_CORE, "Cluster|Local", "ServiceSpec.externalTrafficPolicy ServiceSpec.internalTrafficPolicy"),
    (_CORE, "PreferDualStack|RequireDualStack|SingleStack", "ServiceSpec.ipFamilyPolicy"),
    (
        _CORE,
        "SCTP|TCP|UDP",
        "ContainerPort.protocol ServicePort.protocol EndpointPort.protocol PortStatus.protocol",
    ),
    ("io.k8s.api.discovery.v1.", "SCTP|TCP|UDP", "EndpointPort.protocol"),
    ("io.k8s.api.discovery.v1.", "FQDN|IPv4|IPv6", "EndpointSlice.addressType"),
    ("io.k8s.api.networking.v1.", "SCTP|TCP|UDP", "NetworkPolicyPort.protocol"),
    ("io.k8s.api.networking.v1.", "Egress|Ingress", "NetworkPolicySpec.policyTypes"),
    ("io.k8s.api.networking.v1.", "Exact|ImplementationSpecific|Prefix", "HTTPIngressPath.pathType"),
    # --- volumes
    (_CORE, "Delete|Recycle|Retain", "PersistentVolumeSpec.persistentVolumeReclaimPolicy"),
    ("io.k8s.api.storage.v1.", "Delete|Recycle|Retain", "StorageClass.reclaimPolicy"),
    ("io.k8s.api.storage.v1.", "Immediate|WaitForFirstConsumer", "StorageClass.volumeBindingMode"),
    ("io.k8s.api.storage.v1.", "Ephemeral|Persistent", "CSIDriverSpec.volumeLifecycleModes"),
    (_CORE, "Block|Filesystem", "PersistentVolumeSpec.volumeMode PersistentVolumeClaimSpec.volumeMode"),
    (
        _CORE,
        "ReadOnlyMany|ReadWriteMany|ReadWriteOnce|ReadWriteOncePod",
        "PersistentVolumeSpec.accessModes PersistentVolumeClaimSpec.accessModes PersistentVolumeClaimStatus.accessModes",
    ),
    (_CORE, "Available|Bound|Failed|Pending|Released", "PersistentVolumeStatus.phase"),
    (_CORE, "Bound|Lost|Pending", "PersistentVolumeClaimStatus.phase"),
    (
        _CORE,
        "|BlockDevice|CharDevice|Directory|DirectoryOrCreate|File|FileOrCreate|Socket",
        "HostPathVolumeSource.type",
    ),
    # --- workloads
    ("io.k8s.api.apps.v1.", "Recreate|RollingUpdate", "DeploymentStrategy.type"),
    (
        "io.k8s.api.apps.v1.",
        "OnDelete|RollingUpdate",
        "DaemonSetUpdateStrategy.type StatefulSetUpdateStrategy.type",
    ),
    ("io.k8s.api.apps.v1.", "OrderedReady|Parallel", "StatefulSetSpec.podManagementPolicy"),
    ("io.k8s.api.batch.v1.", "Allow|Forbid|Replace", "CronJobSpec.concurrencyPolicy"),
    ("io.k8s.api.batch.v1.", "Indexed|NonIndexed", "JobSpec.completionMode"),
    ("io.k8s.api.batch.v1.", "Failed|TerminatingOrFailed", "JobSpec.podReplacementPolicy"),
    ("io.k8s.api.batch.v1.", "Count|FailIndex|FailJob|Ignore", "PodFailurePolicyRule.action"),
    ("io.k8s.api.batch.v1.", "In|NotIn", "PodFailurePolicyOnExitCodesRequirement.operator"),
    (
        "io.k8s.api.policy.v1.",
        "AlwaysAllow|IfHealthyBudget",
        "PodDisruptionBudgetSpec.unhealthyPodEvictionPolicy",
    ),
    # --- clusters
    (_CORE, "Active|Terminating", "NamespaceStatus.phase"),
    (_CORE, "Pending|Running|Terminated", "NodeStatus.phase"),
    (
        _CORE,
        "BestEffort|CrossNamespacePodAffinity|NotBestEffort|NotTerminating|PriorityClass|Terminating"
        "|VolumeAttributesClass",
        "ResourceQuotaSpec.scopes ScopedResourceSelectorRequirement.scopeName",
    ),
    (_CORE, "DoesNotExist|Exists|In|NotIn", "ScopedResourceSelectorRequirement.operator"),
    (
        _ADMISSION + "v1.",
        "Fail|Ignore",
        "MutatingWebhook.failurePolicy ValidatingWebhook.failurePolicy ValidatingAdmissionPolicySpec.failurePolicy",
    ),
    (
        _ADMISSION + "v1.",
        "Equivalent|Exact",
        "MutatingWebhook.matchPolicy ValidatingWebhook.matchPolicy MatchResources.matchPolicy",
    ),
    (
        _ADMISSION + "v1.",
        "None|NoneOnDryRun|Some|Unknown",
        "MutatingWebhook.sideEffects ValidatingWebhook.sideEffects",
    ),
    (_ADMISSION + "v1.", "IfNeeded|Never", "MutatingWebhook.reinvocationPolicy"),
    (
        _ADMISSION + "v1.",
        "*|CONNECT|CREATE|DELETE|UPDATE",
        "RuleWithOperations.operations NamedRuleWithOperations.operations",
    ),
    (_ADMISSION + "v1.", "*|Cluster|Namespaced", "RuleWithOperations.scope NamedRuleWithOperations.scope"),
    (_ADMISSION + "v1.", "Audit|Deny|Warn", "ValidatingAdmissionPolicyBindingSpec.validationActions"),
    (
        "io.k8s.api.certificates.v1.",
        "any|cert sign|client auth|code signing|content commitment|crl sign|data encipherment|decipher only"
        "|digital signature|email protection|encipher only|ipsec end system|ipsec tunnel|ipsec user|key agreement"
        "|key encipherment|microsoft sgc|netscape sgc|ocsp signing|s/mime|server auth|signing|timestamping",
        "CertificateSigningRequestSpec.usages",
    ),
)


def _by_definition() -> dict[str, dict[str, list[str]]]:
    found: dict[str, dict[str, list[str]]] = {}
    for package, values, places in _TABLE:
        for place in places.split():
            kind, _, field = place.partition(".")
            found.setdefault(package + kind, {})[field] = values.split("|")
    return found


ENUMS = _by_definition()  # name of a definition -> field -> values


def _told(description: str, allowed: list[str]) -> str:
    """A description that names the values too, for clients that do not look at ``enum`` (kubectl before 1.30)."""
    lines = "\n".join(f' - `"{value}"`' for value in allowed)
    return f"{description}\n\nPossible enum values:\n{lines}"


@functools.cache
def published_definition(name: str) -> dict[str, Any]:
    """The definition as it is published; shared, not to be changed. Raises ``KeyError`` for a name that does not exist."""
    plain = definition(name)
    values = ENUMS.get(name)
    if values is None:
        return plain
    properties = dict(plain["properties"])
    for field, allowed in values.items():
        schema = properties[field]
        if schema["type"] == "array":
            properties[field] = {**schema, "items": {**schema["items"], "enum": allowed}}
        else:
            properties[field] = {
                **schema,
                "enum": allowed,
                "description": _told(schema["description"], allowed),
            }
    return {**plain, "properties": properties}
