"""What Go's types write even when nobody gave it, where the published schema does not say so.

A field that is ``required`` in the schema is always written. So are structs that are no pointers; the schema does not
tell those from others, hence the table: definition (version and name) to fields. It only has to hold the structs that
can be reached from an object without passing a list or an optional part: inside those, everything is new together.

Source: the Go types behind the API reference of v1.34.
"""

from __future__ import annotations

# Metadata that is the server's, or said by the path: nobody owns it.
UNTRACKED = frozenset(
    {
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    }
)

_OBJECT = ("metadata", "spec", "status")

ALWAYS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        (
            "v1.APIService",
            "v1.CertificateSigningRequest",
            "v1.CronJob",
            "v1.CSIDriver",
            "v1.CSINode",
            "v1.CustomResourceDefinition",
            "v1.DaemonSet",
            "v1.Deployment",
            "v1.FlowSchema",
            "v1.HorizontalPodAutoscaler",
            "v2.HorizontalPodAutoscaler",
            "v1.IPAddress",
            "v1.Ingress",
            "v1.IngressClass",
            "v1.Job",
            "v1.Lease",
            "v1.LimitRange",
            "v1.Namespace",
            "v1.NetworkPolicy",
            "v1.Node",
            "v1.PersistentVolume",
            "v1.PersistentVolumeClaim",
            "v1.Pod",
            "v1.PodDisruptionBudget",
            "v1.PriorityLevelConfiguration",
            "v1.ReplicaSet",
            "v1.ReplicationController",
            "v1.ResourceClaim",
            "v1.ResourceClaimTemplate",
            "v1.ResourceQuota",
            "v1.ResourceSlice",
            "v1.Service",
            "v1.ServiceCIDR",
            "v1.StatefulSet",
            "v1.ValidatingAdmissionPolicy",
            "v1.ValidatingAdmissionPolicyBinding",
            "v1.VolumeAttachment",
        ),
        _OBJECT,
    ),
    "v1.CronJobSpec": ("jobTemplate", "schedule"),
    "v1.CustomResourceDefinitionSpec": ("names",),
    "v1.CustomResourceDefinitionStatus": ("acceptedNames", "conditions", "storedVersions"),
    "v1.DaemonSetSpec": ("template", "updateStrategy"),
    "v1.DeploymentSpec": ("strategy", "template"),
    "v1.FlowSchemaSpec": ("priorityLevelConfiguration",),
    "v1.HorizontalPodAutoscalerSpec": ("scaleTargetRef",),
    "v2.HorizontalPodAutoscalerSpec": ("scaleTargetRef",),
    "v1.IngressStatus": ("loadBalancer",),
    "v1.JobSpec": ("template",),
    "v1.JobTemplateSpec": ("metadata", "spec"),
    "v1.NetworkPolicySpec": ("podSelector",),
    "v1.NodeDaemonEndpoints": ("kubeletEndpoint",),
    "v1.NodeStatus": ("daemonEndpoints", "nodeInfo"),
    "v1.PersistentVolumeClaimSpec": ("resources",),
    "v1.PodTemplate": ("metadata", "template"),
    "v1.PodTemplateSpec": ("metadata", "spec"),
    "v1.ReplicaSetSpec": ("template",),
    "v1.ResourceClaimSpec": ("devices",),
    "v1.ResourceClaimTemplateSpec": ("metadata", "spec"),
    "v1.RoleBinding": ("roleRef",),
    "v1.ClusterRoleBinding": ("roleRef",),
    "v1.ServiceStatus": ("loadBalancer",),
    "v1.StatefulSetSpec": ("serviceName", "template", "updateStrategy"),
    "v1.VolumeAttachmentSpec": ("source",),
    "v1.Event": (
        "firstTimestamp",
        "involvedObject",
        "lastTimestamp",
        "eventTime",
        "metadata",
        "reportingComponent",
        "reportingInstance",
        "source",
    ),
}

# Defaults of keys by which list elements are known: the published schema has lost them.
KEY_DEFAULTS: dict[tuple[str, str], str] = {
    ("ContainerPort", "protocol"): "TCP",
    ("ServicePort", "protocol"): "TCP",
    ("LocalObjectReference", "name"): "",
}
