"""What Kubernetes always writes, whether anybody said it or not.

Go leaves out a field that says nothing only when it was told to (``omitempty``) and when it can: a struct that is no
pointer is written as ``{}``, a time that is no pointer as ``null``, and required numbers, flags and texts with their
zero. Typed clients count on it (``status.loadBalancer.ingress`` of a Service nobody looked at), diff tools see it, and
managedFields name it. The published schema does not tell such fields from others, hence the table.

Where Go writes ``null`` for a list that has to be there, we write ``[]``: to Go it is the same, and clients generated
from the schema refuse the ``null``.

Worked example: a Node that is created with nothing but a name is stored with ``spec: {}`` and ``status:
{daemonEndpoints: {kubeletEndpoint: {Port: 0}}, nodeInfo: {machineID: "", ...}}``.

Source: the Go types behind the API reference of v1.34 (whose metadata leaves out an empty creationTimestamp).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from bamikube.api.schema.source import REF, definition

Fill = Callable[[dict[str, Any]], None]

_MOMENT = {"lastTransitionTime": None}
_PROBED = {"lastProbeTime": None, "lastTransitionTime": None}
_UPDATED = {"lastUpdateTime": None, "lastTransitionTime": None}

# Package, version and name of a Go struct to its fields and their zeros. What is inside a zero struct is its own row's.
WRITTEN: dict[str, dict[str, Any]] = {
    # core
    "core.v1.Container": {"resources": {}},
    "core.v1.ContainerImage": {"names": []},
    "core.v1.ContainerStateRunning": {"startedAt": None},
    "core.v1.ContainerStateTerminated": {"exitCode": 0, "startedAt": None, "finishedAt": None},
    "core.v1.ContainerStatus": {
        "state": {},
        "lastState": {},
        "ready": False,
        "restartCount": 0,
        "image": "",
        "imageID": "",
    },
    "core.v1.DaemonEndpoint": {"Port": 0},
    "core.v1.EphemeralContainer": {"resources": {}},
    "core.v1.Event": {
        "involvedObject": {},
        "source": {},
        "firstTimestamp": None,
        "lastTimestamp": None,
        "eventTime": None,
        "reportingComponent": "",
        "reportingInstance": "",
    },
    "core.v1.EventSeries": {"lastObservedTime": None},
    "core.v1.LimitRange": {"spec": {}},
    "core.v1.LimitRangeSpec": {"limits": []},
    "core.v1.Namespace": {"spec": {}, "status": {}},
    "core.v1.NamespaceCondition": _MOMENT,
    "core.v1.Node": {"spec": {}, "status": {}},
    "core.v1.NodeCondition": {"lastHeartbeatTime": None, "lastTransitionTime": None},
    "core.v1.NodeDaemonEndpoints": {"kubeletEndpoint": {}},
    "core.v1.NodeRuntimeHandler": {"name": ""},
    "core.v1.NodeStatus": {"daemonEndpoints": {}, "nodeInfo": {}},
    "core.v1.NodeSystemInfo": dict.fromkeys(
        (
            "machineID",
            "systemUUID",
            "bootID",
            "kernelVersion",
            "osImage",
            "containerRuntimeVersion",
            "kubeletVersion",
            "kubeProxyVersion",
            "operatingSystem",
            "architecture",
        ),
        "",
    ),
    "core.v1.PersistentVolume": {"spec": {}, "status": {}},
    "core.v1.PersistentVolumeClaim": {"spec": {}, "status": {}},
    "core.v1.PersistentVolumeClaimCondition": _PROBED,
    "core.v1.PersistentVolumeClaimSpec": {"resources": {}},
    "core.v1.PersistentVolumeClaimTemplate": {"metadata": {}},
    "core.v1.Pod": {"spec": {}, "status": {}},
    "core.v1.PodCondition": _PROBED,
    "core.v1.PodTemplate": {"template": {}},
    "core.v1.PodTemplateSpec": {"metadata": {}, "spec": {}},
    "core.v1.ProjectedVolumeSource": {"sources": []},
    "core.v1.ReplicationController": {"spec": {}, "status": {}},
    "core.v1.ReplicationControllerCondition": _MOMENT,
    "core.v1.ReplicationControllerStatus": {"replicas": 0},
    "core.v1.ResourceFieldSelector": {"divisor": "0"},
    "core.v1.ResourceQuota": {"spec": {}, "status": {}},
    "core.v1.Service": {"spec": {}, "status": {}},
    "core.v1.ServiceStatus": {"loadBalancer": {}},
    # workloads
    "apps.v1.ControllerRevision": {"data": None, "revision": 0},
    "apps.v1.DaemonSet": {"spec": {}, "status": {}},
    "apps.v1.DaemonSetCondition": _MOMENT,
    "apps.v1.DaemonSetSpec": {"updateStrategy": {}},
    "apps.v1.DaemonSetStatus": {
        "currentNumberScheduled": 0,
        "numberMisscheduled": 0,
        "desiredNumberScheduled": 0,
        "numberReady": 0,
    },
    "apps.v1.Deployment": {"spec": {}, "status": {}},
    "apps.v1.DeploymentCondition": _UPDATED,
    "apps.v1.DeploymentSpec": {"strategy": {}},
    "apps.v1.ReplicaSet": {"spec": {}, "status": {}},
    "apps.v1.ReplicaSetCondition": _MOMENT,
    "apps.v1.ReplicaSetSpec": {"template": {}},
    "apps.v1.ReplicaSetStatus": {"replicas": 0},
    "apps.v1.StatefulSet": {"spec": {}, "status": {}},
    "apps.v1.StatefulSetCondition": _MOMENT,
    "apps.v1.StatefulSetSpec": {"updateStrategy": {}},
    "apps.v1.StatefulSetStatus": {"replicas": 0, "availableReplicas": 0},
    "autoscaling.v1.HorizontalPodAutoscaler": {"spec": {}, "status": {}},
    "autoscaling.v1.HorizontalPodAutoscalerStatus": {"currentReplicas": 0, "desiredReplicas": 0},
    "autoscaling.v2.HorizontalPodAutoscaler": {"spec": {}, "status": {}},
    "autoscaling.v2.HorizontalPodAutoscalerCondition": _MOMENT,
    "autoscaling.v2.HorizontalPodAutoscalerStatus": {"desiredReplicas": 0, "currentMetrics": []},
    "batch.v1.CronJob": {"spec": {}, "status": {}},
    "batch.v1.Job": {"spec": {}, "status": {}},
    "batch.v1.JobCondition": _PROBED,
    "batch.v1.JobTemplateSpec": {"metadata": {}, "spec": {}},
    "policy.v1.PodDisruptionBudget": {"spec": {}, "status": {}},
    "policy.v1.PodDisruptionBudgetStatus": {
        "disruptionsAllowed": 0,
        "currentHealthy": 0,
        "desiredHealthy": 0,
        "expectedPods": 0,
    },
    # network
    "discovery.v1.Endpoint": {"conditions": {}},
    "discovery.v1.EndpointSlice": {"endpoints": [], "ports": []},
    "networking.v1.IPAddress": {"spec": {}},
    "networking.v1.Ingress": {"spec": {}, "status": {}},
    "networking.v1.IngressClass": {"spec": {}},
    "networking.v1.IngressServiceBackend": {"port": {}},
    "networking.v1.IngressStatus": {"loadBalancer": {}},
    "networking.v1.NetworkPolicy": {"spec": {}},
    "networking.v1.NetworkPolicySpec": {"podSelector": {}},
    "networking.v1.ServiceCIDR": {"spec": {}, "status": {}},
    # cluster
    "admissionregistration.v1.ValidatingAdmissionPolicy": {"spec": {}, "status": {}},
    "admissionregistration.v1.ValidatingAdmissionPolicyBinding": {"spec": {}},
    "admissionregistration.v1beta1.MutatingAdmissionPolicy": {"spec": {}},
    "admissionregistration.v1beta1.MutatingAdmissionPolicyBinding": {"spec": {}},
    "apiextensions.v1.CustomResourceDefinition": {"spec": {}, "status": {}},
    "apiextensions.v1.CustomResourceDefinitionCondition": _MOMENT,
    "apiextensions.v1.CustomResourceDefinitionNames": {"plural": "", "kind": ""},
    "apiextensions.v1.CustomResourceDefinitionStatus": {
        "conditions": [],
        "acceptedNames": {},
        "storedVersions": [],
    },
    "apiregistration.v1.APIService": {"spec": {}, "status": {}},
    "apiregistration.v1.APIServiceCondition": _MOMENT,
    "certificates.v1.CertificateSigningRequest": {"spec": {}, "status": {}},
    "certificates.v1.CertificateSigningRequestCondition": _UPDATED,
    "coordination.v1.Lease": {"spec": {}},
    "events.v1.Event": {
        "regarding": {},
        "eventTime": None,
        "deprecatedSource": {},
        "deprecatedFirstTimestamp": None,
        "deprecatedLastTimestamp": None,
    },
    "flowcontrol.v1.FlowSchema": {"spec": {}, "status": {}},
    "flowcontrol.v1.FlowSchemaCondition": _MOMENT,
    "flowcontrol.v1.PriorityLevelConfiguration": {"spec": {}, "status": {}},
    "flowcontrol.v1.PriorityLevelConfigurationCondition": _MOMENT,
    "rbac.v1.ClusterRole": {"rules": []},
    "rbac.v1.Role": {"rules": []},
    "resource.v1.AllocatedDeviceStatus": {"conditions": []},
    "resource.v1.DeviceClass": {"spec": {}},
    "resource.v1.ResourceClaim": {"spec": {}, "status": {}},
    "resource.v1.ResourceClaimSpec": {"devices": {}},
    "resource.v1.ResourceClaimTemplate": {"spec": {}},
    "resource.v1.ResourceClaimTemplateSpec": {"metadata": {}, "spec": {}},
    "resource.v1.ResourceSlice": {"spec": {}},
    "storage.v1.CSIDriver": {"spec": {}},
    "storage.v1.CSINode": {"spec": {}},
    "storage.v1.CSINodeDriver": {"topologyKeys": []},
    "storage.v1.CSINodeSpec": {"drivers": []},
    "storage.v1.VolumeAttachment": {"spec": {}, "status": {}},
    "storage.v1.VolumeAttachmentSpec": {"source": {}},
    "storage.v1.VolumeAttachmentStatus": {"attached": False},
    "storage.v1.VolumeError": {"time": None},
}


def zeros(name: str) -> dict[str, Any]:
    """The fields that are always written of the definition ``name`` (``io.k8s.api.core.v1.Pod``), and their zeros."""
    return WRITTEN.get(".".join(name.rsplit(".", 3)[-3:]), {})


def fill(name: str, obj: dict[str, Any]) -> None:
    """Write into ``obj``, of the definition ``name``, in place, what is always written and not there."""
    filler = _filler(name)
    if filler is not None:
        filler(obj)


@functools.cache
def _holds(name: str) -> bool:
    """Whether there is anything to be written in a struct or in what it holds. A struct that holds itself does not."""
    return _reaches(name, set())


def _reaches(name: str, seen: set[str]) -> bool:
    if zeros(name):
        return True
    if name in seen:
        return False
    seen.add(name)
    return any(
        _reaches(inner, seen)
        for each in _properties(name).values()
        if (inner := _inside(each)[1]) is not None
    )


def _properties(name: str) -> dict[str, Any]:
    found: dict[str, Any] = definition(name).get("properties", {})
    return found


def _inside(schema: dict[str, Any]) -> tuple[str, str | None]:
    """What a property holds, one struct, a list or a map of them, and which; None when it holds none."""
    if ref := schema.get("$ref"):
        return "struct", str(ref).removeprefix(REF)
    for kind, key in (("list", "items"), ("map", "additionalProperties")):
        inner = schema.get(key)
        if isinstance(inner, dict) and (ref := inner.get("$ref")):
            return kind, str(ref).removeprefix(REF)
    return "", None


@functools.cache
def _filler(name: str) -> Fill | None:
    """The compiled function of a definition; None when nothing of it is ever written on its own."""
    if not _holds(name):
        return None
    own = tuple(zeros(name).items())
    inner: list[tuple[str, str, Fill]] = []
    for field, schema in _properties(name).items():
        kind, ref = _inside(schema)
        if ref is not None and _holds(ref) and (below := _filler(ref)) is not None:
            inner.append((field, kind, below))

    def visit(obj: dict[str, Any]) -> None:
        for field, zero in own:
            if field not in obj:
                obj[field] = {} if type(zero) is dict else [] if type(zero) is list else zero
        for field, kind, below in inner:
            value = obj.get(field)
            if value is None:
                continue
            if kind == "struct":
                below(value)
            else:
                for each in value if kind == "list" else value.values():
                    if each is not None:
                        below(each)

    return visit
