"""Zeros that say nothing: fields whose value Go leaves out when it writes them, because it cannot tell them from unset ones.

``hostNetwork: false`` of a pod is never seen again: the Go type is a plain ``bool`` told to leave out its zero
(``omitempty``). ``automountServiceAccountToken: false`` stays: it is a pointer, and to say no is something else than to say
nothing. Neither the published schema nor the wire tells one from the other, hence these tables: numbers and flags
are pointers unless they are named here, texts are none unless they are.

    Deployment.spec.paused: false          left out        DeploymentSpec.paused is a bool
    Deployment.spec.replicas: 0            stays           a pointer
    Pod.spec.nodeName: ""                  left out        a text
    PersistentVolumeClaim...storageClassName: ""  stays    a pointer: no class at all, not the default one

What a type requires is written whatever it is, and is no business of this module. Source: the Go types behind the API
reference of v1.34.
"""

from __future__ import annotations

from typing import Any

# Numbers and flags that are no pointers: of every struct, or of one.
_SILENT = frozenset(
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
# The same names, where they are pointers after all.
_POINTERS = frozenset({"AzureDiskVolumeSource.readOnly", "CSIVolumeSource.readOnly"})

# Texts that are pointers: of every struct, or of one; of the package, where two structs have one name.
_SPEAKING = frozenset(
    [
        "appProtocol",
        "currentVolumeAttributesClassName",
        "failurePolicy",
        "fsGroupChangePolicy",
        "hostnameOverride",
        "ingressClassName",
        "internalTrafficPolicy",
        "ipFamilyPolicy",
        "ipMode",
        "loadBalancerClass",
        "localhostProfile",
        "matchPolicy",
        "mountPropagation",
        "parameterNotFoundAction",
        "pathType",
        "preemptionPolicy",
        "procMount",
        "recursiveReadOnly",
        "runtimeClassName",
        "seLinuxChangePolicy",
        "selectPolicy",
        "sideEffects",
        "stopSignal",
        "supplementalGroupsPolicy",
        "timeZone",
        "trafficDistribution",
        "unhealthyPodEvictionPolicy",
        "volumeAttributesClassName",
        "volumeMode",
        "AzureDiskVolumeSource.cachingMode",
        "AzureDiskVolumeSource.fsType",
        "AzureDiskVolumeSource.kind",
        "AzureFilePersistentVolumeSource.secretNamespace",
        "CSIDriverSpec.fsGroupPolicy",
        "CSIVolumeSource.fsType",
        "ClusterTrustBundleProjection.name",
        "ClusterTrustBundleProjection.signerName",
        "Container.restartPolicy",
        "EphemeralContainer.restartPolicy",
        "CustomResourceDefinitionVersion.deprecationWarning",
        "CustomResourceSubresourceScale.labelSelectorPath",
        "DeleteOptions.propagationPolicy",
        "EndpointAddress.nodeName",
        "discovery.v1.Endpoint.hostname",
        "discovery.v1.Endpoint.nodeName",
        "discovery.v1.Endpoint.zone",
        "discovery.v1.EndpointPort.name",
        "discovery.v1.EndpointPort.protocol",
        "GRPCAction.service",
        "GlusterfsPersistentVolumeSource.endpointsNamespace",
        "HostPathVolumeSource.type",
        "ISCSIPersistentVolumeSource.initiatorName",
        "ISCSIVolumeSource.initiatorName",
        "IngressClassParametersReference.apiGroup",
        "IngressClassParametersReference.namespace",
        "IngressClassParametersReference.scope",
        "IngressPortStatus.error",
        "PortStatus.error",
        "JSONSchemaProps.x-kubernetes-list-type",
        "JSONSchemaProps.x-kubernetes-map-type",
        "JobSpec.completionMode",
        "JobSpec.managedBy",
        "JobSpec.podReplacementPolicy",
        "JobStatus.failedIndexes",
        "LeaseSpec.holderIdentity",
        "LeaseSpec.preferredHolder",
        "LeaseSpec.strategy",
        "LocalVolumeSource.fsType",
        "MutatingWebhook.reinvocationPolicy",
        "NetworkPolicyPort.protocol",
        "PersistentVolumeClaimSpec.storageClassName",
        "PodDNSConfigOption.value",
        "PodFailurePolicyOnExitCodesRequirement.containerName",
        "PodResourceClaim.resourceClaimName",
        "PodResourceClaim.resourceClaimTemplateName",
        "PodResourceClaimStatus.resourceClaimName",
        "Preconditions.resourceVersion",
        "Preconditions.uid",
        "RuleWithOperations.scope",
        "admissionregistration.v1.ServiceReference.path",
        "apiextensions.v1.ServiceReference.path",
        "StorageClass.reclaimPolicy",
        "StorageClass.volumeBindingMode",
        "SuccessPolicyRule.succeededIndexes",
        "TopologySpreadConstraint.nodeAffinityPolicy",
        "TopologySpreadConstraint.nodeTaintsPolicy",
        "TypedLocalObjectReference.apiGroup",
        "TypedObjectReference.apiGroup",
        "TypedObjectReference.namespace",
        "Validation.reason",
        "ValidationRule.reason",
        "VolumeAttachmentSource.persistentVolumeName",
        "WebhookClientConfig.url",
        "WindowsSecurityContextOptions.gmsaCredentialSpec",
        "WindowsSecurityContextOptions.gmsaCredentialSpecName",
        "WindowsSecurityContextOptions.runAsUserName",
    ]
)
# Packages nobody has gone through: their texts stay.
_UNREAD = frozenset({"apiserverinternal", "resource", "storagemigration"})


def says_nothing(struct: str, field: str, *, text: bool) -> bool:
    """Whether the zero of a number, flag or (``text``) text says nothing. ``struct`` is a full name, of the schema or of the
    wire: ``io.k8s.api.core.v1.PodSpec``."""
    package, version, short = ["", "", *struct.split(".")][-3:]
    names = {field, f"{short}.{field}", f"{package}.{version}.{short}.{field}"}
    if text:
        return package not in _UNREAD and names.isdisjoint(_SPEAKING)
    return not names.isdisjoint(_SILENT) and names.isdisjoint(_POINTERS)


_PLAIN = {"string": str, "boolean": bool, "integer": int}


def left_out(struct: str, field: str, schema: dict[str, Any]) -> type | None:
    """The Python type of what Go writes only when there is something in it: lists, maps, and values that are no pointers.

    None for everything else. ``struct`` is the definition that has the field, ``schema`` the field's own.
    """
    kind = str(schema.get("type"))
    if kind == "array":
        return list
    if "additionalProperties" in schema:
        return dict
    plain = _PLAIN.get(kind) if schema.get("format") != "date-time" else None
    return plain if plain is not None and says_nothing(struct, field, text=plain is str) else None
