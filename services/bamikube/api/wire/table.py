"""The table of messages, loaded on first use: which field has which number and type, and which message a kind is."""

from __future__ import annotations

import gzip
import importlib.resources
import json
from dataclasses import dataclass
from functools import cache

META = "k8s.io.apimachinery.pkg.apis.meta.v1."
RAW_EXTENSION = "k8s.io.apimachinery.pkg.runtime.RawExtension"

_PACKAGES = {
    "": "k8s.io.api.core.",
    "apiextensions.k8s.io": "k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.",
    "apiregistration.k8s.io": "k8s.io.kube_aggregator.pkg.apis.apiregistration.",
    "meta.k8s.io": "k8s.io.apimachinery.pkg.apis.meta.",
}

# Kinds that clients send and get under any group and version.
_EVERYWHERE = {
    "APIGroup",
    "APIGroupList",
    "APIResourceList",
    "APIVersions",
    "CreateOptions",
    "DeleteOptions",
    "GetOptions",
    "ListOptions",
    "PatchOptions",
    "Status",
    "UpdateOptions",
    "WatchEvent",
}

# Go writes fields that are not pointers even when they are zero; its JSON leaves those out again. The wire does not
# tell a pointer from a value, so the fields whose zero says nothing are named here (``field`` or ``Message.field``).
# A zero that is not named is kept: for a pointer it means something (``replicas: 0``), else it is the default anyway.
_SILENT_ZEROS = frozenset(
    [
        "DeploymentStatus.replicas",
        "active",
        "availableReplicas",
        "code",
        "completedIndexes",
        "count",
        "currentReplicas",
        "failed",
        "generation",
        "healthCheckNodePort",
        "hostIPC",
        "hostNetwork",
        "hostPID",
        "hostPort",
        "insecureSkipTLSVerify",
        "minReadySeconds",
        "nodePort",
        "numberAvailable",
        "numberUnavailable",
        "observedGeneration",
        "paused",
        "publishNotReadyAddresses",
        "readOnly",
        "readyReplicas",
        "retryAfterSeconds",
        "signal",
        "stdin",
        "stdinOnce",
        "succeeded",
        "tty",
        "unavailableReplicas",
        "unschedulable",
        "updatedNumberScheduled",
        "updatedReplicas",
        "Probe.failureThreshold",
        "Probe.initialDelaySeconds",
        "Probe.periodSeconds",
        "Probe.successThreshold",
        "Probe.timeoutSeconds",
        "ContainerImage.sizeBytes",
        "CustomResourceColumnDefinition.priority",
        "CustomResourceDefinitionSpec.preserveUnknownFields",
        "CustomResourceDefinitionVersion.deprecated",
        "Event.deprecatedCount",
        "JSONSchemaProps.exclusiveMaximum",
        "JSONSchemaProps.exclusiveMinimum",
        "JSONSchemaProps.nullable",
        "JSONSchemaProps.uniqueItems",
        "JSONSchemaProps.x-kubernetes-embedded-resource",
        "JSONSchemaProps.x-kubernetes-int-or-string",
        "PriorityClass.globalDefault",
        "QueuingConfiguration.handSize",
        "QueuingConfiguration.queueLengthLimit",
        "QueuingConfiguration.queues",
        "ReplicaSetStatus.fullyLabeledReplicas",
        "ReplicationControllerStatus.fullyLabeledReplicas",
        "ResourcePolicyRule.clusterScope",
        "ServiceBackendPort.number",
        "SubjectAccessReviewStatus.denied",
        "TokenReviewStatus.authenticated",
        "chapAuthDiscovery",
        "chapAuthSession",
        "sslEnabled",
        "GCEPersistentDiskVolumeSource.partition",
        "AWSElasticBlockStoreVolumeSource.partition",
    ]
)
# Strings for which the empty text is a statement of its own.
_SPEAKING_STRINGS = frozenset(
    {"PersistentVolumeClaimSpec.storageClassName", "PersistentVolumeClaimSpec.volumeAttributesClassName"}
)


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a message. ``label`` is optional, repeated, map (``type`` is the values') or inline."""

    number: int
    name: str
    type: str
    label: str
    keeps_zero: bool


@cache
def _load() -> dict[str, list[tuple[int, str, str, str]]]:
    packed = importlib.resources.files(__package__).joinpath("k8s-wire.json.gz").read_bytes()
    table: dict[str, list[tuple[int, str, str, str]]] = json.loads(gzip.decompress(packed))
    return table


@cache
def fields(message: str) -> tuple[Field, ...]:
    """The fields of a message, by number. Raises ``KeyError`` for unknown messages."""
    short = message.rpartition(".")[2]
    result = []
    for number, name, kind, label in _load()[message]:
        if kind == "string":
            keeps = f"{short}.{name}" in _SPEAKING_STRINGS
        else:
            keeps = name not in _SILENT_ZEROS and f"{short}.{name}" not in _SILENT_ZEROS
        result.append(Field(number, name, kind, label, keeps))
    return tuple(sorted(result, key=lambda field: field.number))


@cache
def message_of(api_version: str, kind: str) -> str | None:
    """The message of a kind: ``apps/v1 Deployment`` is ``k8s.io.api.apps.v1.Deployment``. None when there is none."""
    group, _, version = api_version.rpartition("/")
    package = _PACKAGES.get(group) or f"k8s.io.api.{group.partition('.')[0]}."
    table = _load()
    name = f"{package}{version}.{kind}"
    if name in table and kind not in _EVERYWHERE:
        return name
    if kind in _EVERYWHERE and META + kind in table:
        return META + kind
    return None
