"""The table of resources: one row per built-in kind, and nothing else that knows which kinds exist.

The generic handler, discovery, OpenAPI, RBAC and ``kubectl api-resources`` are all functions of these rows. A row is
written as one line of :func:`_row`; what is not said has the usual value (all verbs, selectable by name and
namespace, ``status`` as the only subresource when ``status=True``).

Two pairs of rows show one stored object in two shapes, see :mod:`bamikube.api.conversion`:

- ``events`` and ``events.events.k8s.io`` are both kept as core/v1 events (``storage_group=""``);
- ``horizontalpodautoscalers.autoscaling`` v1 and v2 are both kept as v2.

Within a group the first row of a plural is the preferred version.

Source: the API reference of Kubernetes v1.34 and the answers of ``/api`` and ``/apis``.
"""

from __future__ import annotations

from collections.abc import Sequence

from bamikube.api.resources import ALL_VERBS, Resource

_PACKAGES = {
    "": "io.k8s.api.core",
    "apiextensions.k8s.io": "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions",
    "apiregistration.k8s.io": "io.k8s.kube-aggregator.pkg.apis.apiregistration",
    "flowcontrol.apiserver.k8s.io": "io.k8s.api.flowcontrol",
    "rbac.authorization.k8s.io": "io.k8s.api.rbac",
}
_CREATE_ONLY = ("create",)
_NO_COLLECTION_DELETE = ("create", "delete", "get", "list", "patch", "update", "watch")
_SCALABLE = ("scale", "status")
_STATUS = ("status",)


def _definition(group: str, version: str, kind: str) -> str:
    package = _PACKAGES.get(group) or "io.k8s.api." + group.removesuffix(".k8s.io")
    return f"{package}.{version}.{kind}"


def _row(
    group_version: str,
    kind: str,
    plural: str,
    short: Sequence[str] = (),
    *,
    namespaced: bool = True,
    categories: Sequence[str] = (),
    sub: Sequence[str] = (),
    verbs: tuple[str, ...] = ALL_VERBS,
    fields: Sequence[str] = (),
    storage_version: str = "",
    storage_group: str | None = None,
    virtual: bool = False,
    deprecation: str = "",
) -> Resource:
    group, _, version = group_version.rpartition("/")
    base = ("metadata.name", "metadata.namespace") if namespaced else ("metadata.name",)
    return Resource(
        group=group,
        version=version,
        kind=kind,
        plural=plural,
        singular=kind.lower(),
        namespaced=namespaced,
        definition=_definition(group, version, kind),
        short_names=tuple(short),
        categories=tuple(categories),
        subresources=tuple(sub),
        verbs=verbs,
        storage_version=storage_version or version,
        selectable_fields=base + tuple(fields),
        virtual=virtual,
        storage_group=storage_group,
        deprecation=deprecation,
    )


_ALL = ("all",)
_EXTENSIONS = ("api-extensions",)
_CORE_EVENT_FIELDS = (
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
)
_EVENT_FIELDS = (
    "regarding.kind",
    "regarding.namespace",
    "regarding.name",
    "regarding.uid",
    "regarding.apiVersion",
    "regarding.resourceVersion",
    "regarding.fieldPath",
    "reason",
    "reportingController",
    "type",
)
_POD_FIELDS = (
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "status.phase",
    "status.podIP",
    "status.nominatedNodeName",
)
_POD_SUBRESOURCES = (
    "attach",
    "binding",
    "ephemeralcontainers",
    "eviction",
    "exec",
    "log",
    "portforward",
    "proxy",
    "resize",
    "status",
)

_CORE = (
    _row("v1", "Binding", "bindings", verbs=_CREATE_ONLY, virtual=True),
    _row(
        "v1",
        "ComponentStatus",
        "componentstatuses",
        ["cs"],
        namespaced=False,
        verbs=("get", "list"),
        virtual=True,
        deprecation="v1 ComponentStatus is deprecated in v1.19+",
    ),
    _row("v1", "ConfigMap", "configmaps", ["cm"]),
    _row(
        "v1",
        "Endpoints",
        "endpoints",
        ["ep"],
        deprecation="v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
    ),
    _row("v1", "Event", "events", ["ev"], fields=_CORE_EVENT_FIELDS),
    _row("v1", "LimitRange", "limitranges", ["limits"]),
    _row(
        "v1",
        "Namespace",
        "namespaces",
        ["ns"],
        namespaced=False,
        sub=("finalize", "status"),
        verbs=_NO_COLLECTION_DELETE,
        fields=("status.phase",),
    ),
    _row(
        "v1",
        "Node",
        "nodes",
        ["no"],
        namespaced=False,
        sub=("proxy", "status"),
        fields=("spec.unschedulable",),
    ),
    _row("v1", "PersistentVolume", "persistentvolumes", ["pv"], namespaced=False, sub=_STATUS),
    _row("v1", "PersistentVolumeClaim", "persistentvolumeclaims", ["pvc"], sub=_STATUS),
    _row("v1", "Pod", "pods", ["po"], categories=_ALL, sub=_POD_SUBRESOURCES, fields=_POD_FIELDS),
    _row("v1", "PodTemplate", "podtemplates"),
    _row(
        "v1",
        "ReplicationController",
        "replicationcontrollers",
        ["rc"],
        categories=_ALL,
        sub=_SCALABLE,
        fields=("status.replicas",),
    ),
    _row("v1", "ResourceQuota", "resourcequotas", ["quota"], sub=_STATUS),
    _row("v1", "Secret", "secrets", fields=("type",)),
    _row("v1", "ServiceAccount", "serviceaccounts", ["sa"], sub=("token",)),
    _row(
        "v1",
        "Service",
        "services",
        ["svc"],
        categories=_ALL,
        sub=("proxy", "status"),
        fields=("spec.clusterIP", "spec.type"),
    ),
)

_WORKLOADS = (
    _row("apps/v1", "ControllerRevision", "controllerrevisions"),
    _row("apps/v1", "DaemonSet", "daemonsets", ["ds"], categories=_ALL, sub=_STATUS),
    _row("apps/v1", "Deployment", "deployments", ["deploy"], categories=_ALL, sub=_SCALABLE),
    _row(
        "apps/v1",
        "ReplicaSet",
        "replicasets",
        ["rs"],
        categories=_ALL,
        sub=_SCALABLE,
        fields=("status.replicas",),
    ),
    _row("apps/v1", "StatefulSet", "statefulsets", ["sts"], categories=_ALL, sub=_SCALABLE),
    _row(
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        "horizontalpodautoscalers",
        ["hpa"],
        categories=_ALL,
        sub=_STATUS,
    ),
    _row(
        "autoscaling/v1",
        "HorizontalPodAutoscaler",
        "horizontalpodautoscalers",
        ["hpa"],
        categories=_ALL,
        sub=_STATUS,
        storage_version="v2",
    ),
    _row("batch/v1", "CronJob", "cronjobs", ["cj"], categories=_ALL, sub=_STATUS),
    _row("batch/v1", "Job", "jobs", categories=_ALL, sub=_STATUS, fields=("status.successful",)),
    _row("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets", ["pdb"], sub=_STATUS),
)

_NETWORK = (
    _row("networking.k8s.io/v1", "IngressClass", "ingressclasses", namespaced=False),
    _row("networking.k8s.io/v1", "Ingress", "ingresses", ["ing"], sub=_STATUS),
    _row(
        "networking.k8s.io/v1",
        "IPAddress",
        "ipaddresses",
        ["ip"],
        namespaced=False,
        fields=("spec.parentRef",),
    ),
    _row("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies", ["netpol"]),
    _row("networking.k8s.io/v1", "ServiceCIDR", "servicecidrs", namespaced=False, sub=_STATUS),
    _row("discovery.k8s.io/v1", "EndpointSlice", "endpointslices"),
)

_SECURITY = (
    _row("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings", namespaced=False),
    _row("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles", namespaced=False),
    _row("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings"),
    _row("rbac.authorization.k8s.io/v1", "Role", "roles"),
    _row(
        "authentication.k8s.io/v1",
        "SelfSubjectReview",
        "selfsubjectreviews",
        namespaced=False,
        verbs=_CREATE_ONLY,
        virtual=True,
    ),
    _row(
        "authentication.k8s.io/v1",
        "TokenReview",
        "tokenreviews",
        namespaced=False,
        verbs=_CREATE_ONLY,
        virtual=True,
    ),
    _row(
        "authorization.k8s.io/v1",
        "LocalSubjectAccessReview",
        "localsubjectaccessreviews",
        verbs=_CREATE_ONLY,
        virtual=True,
    ),
    _row(
        "authorization.k8s.io/v1",
        "SelfSubjectAccessReview",
        "selfsubjectaccessreviews",
        namespaced=False,
        verbs=_CREATE_ONLY,
        virtual=True,
    ),
    _row(
        "authorization.k8s.io/v1",
        "SelfSubjectRulesReview",
        "selfsubjectrulesreviews",
        namespaced=False,
        verbs=_CREATE_ONLY,
        virtual=True,
    ),
    _row(
        "authorization.k8s.io/v1",
        "SubjectAccessReview",
        "subjectaccessreviews",
        namespaced=False,
        verbs=_CREATE_ONLY,
        virtual=True,
    ),
    _row(
        "certificates.k8s.io/v1",
        "CertificateSigningRequest",
        "certificatesigningrequests",
        ["csr"],
        namespaced=False,
        sub=("approval", "status"),
        fields=("spec.signerName",),
    ),
)

_STORAGE = (
    _row("storage.k8s.io/v1", "CSIDriver", "csidrivers", namespaced=False),
    _row("storage.k8s.io/v1", "CSINode", "csinodes", namespaced=False),
    _row("storage.k8s.io/v1", "CSIStorageCapacity", "csistoragecapacities"),
    _row("storage.k8s.io/v1", "StorageClass", "storageclasses", ["sc"], namespaced=False),
    _row("storage.k8s.io/v1", "VolumeAttachment", "volumeattachments", namespaced=False, sub=_STATUS),
    _row("storage.k8s.io/v1", "VolumeAttributesClass", "volumeattributesclasses", ["vac"], namespaced=False),
)

_CLUSTER = (
    _row(
        "events.k8s.io/v1",
        "Event",
        "events",
        ["ev"],
        fields=_EVENT_FIELDS,
        storage_version="v1",
        storage_group="",
    ),
    _row("coordination.k8s.io/v1", "Lease", "leases"),
    _row("node.k8s.io/v1", "RuntimeClass", "runtimeclasses", namespaced=False),
    _row("scheduling.k8s.io/v1", "PriorityClass", "priorityclasses", ["pc"], namespaced=False),
    _row(
        "admissionregistration.k8s.io/v1",
        "MutatingWebhookConfiguration",
        "mutatingwebhookconfigurations",
        namespaced=False,
        categories=_EXTENSIONS,
    ),
    _row(
        "admissionregistration.k8s.io/v1beta1",
        "MutatingAdmissionPolicy",
        "mutatingadmissionpolicies",
        namespaced=False,
        categories=_EXTENSIONS,
    ),
    _row(
        "admissionregistration.k8s.io/v1beta1",
        "MutatingAdmissionPolicyBinding",
        "mutatingadmissionpolicybindings",
        namespaced=False,
        categories=_EXTENSIONS,
    ),
    _row(
        "admissionregistration.k8s.io/v1",
        "ValidatingAdmissionPolicy",
        "validatingadmissionpolicies",
        namespaced=False,
        categories=_EXTENSIONS,
        sub=_STATUS,
    ),
    _row(
        "admissionregistration.k8s.io/v1",
        "ValidatingAdmissionPolicyBinding",
        "validatingadmissionpolicybindings",
        namespaced=False,
        categories=_EXTENSIONS,
    ),
    _row(
        "admissionregistration.k8s.io/v1",
        "ValidatingWebhookConfiguration",
        "validatingwebhookconfigurations",
        namespaced=False,
        categories=_EXTENSIONS,
    ),
    _row(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        ["crd", "crds"],
        namespaced=False,
        categories=_EXTENSIONS,
        sub=_STATUS,
    ),
    _row(
        "apiregistration.k8s.io/v1",
        "APIService",
        "apiservices",
        namespaced=False,
        categories=_EXTENSIONS,
        sub=_STATUS,
    ),
    _row("flowcontrol.apiserver.k8s.io/v1", "FlowSchema", "flowschemas", namespaced=False, sub=_STATUS),
    _row(
        "flowcontrol.apiserver.k8s.io/v1",
        "PriorityLevelConfiguration",
        "prioritylevelconfigurations",
        namespaced=False,
        sub=_STATUS,
    ),
    _row("resource.k8s.io/v1", "DeviceClass", "deviceclasses", namespaced=False),
    _row("resource.k8s.io/v1", "ResourceClaim", "resourceclaims", sub=_STATUS),
    _row("resource.k8s.io/v1", "ResourceClaimTemplate", "resourceclaimtemplates"),
    _row(
        "resource.k8s.io/v1",
        "ResourceSlice",
        "resourceslices",
        namespaced=False,
        fields=("spec.driver", "spec.nodeName"),
    ),
)

TABLE: tuple[Resource, ...] = _CORE + _WORKLOADS + _NETWORK + _SECURITY + _STORAGE + _CLUSTER

# Served only by an API server that is asked to: see :mod:`bamikube.apiserver.switches`.
CLUSTER_TRUST_BUNDLES = _row(
    "certificates.k8s.io/v1beta1",
    "ClusterTrustBundle",
    "clustertrustbundles",
    namespaced=False,
    fields=("spec.signerName",),
)
OPTIONAL: tuple[Resource, ...] = (CLUSTER_TRUST_BUNDLES,)

_BY_PATH = {(row.group, row.version, row.plural): row for row in TABLE + OPTIONAL}
_BY_KIND = {(row.api_version, row.kind): row for row in TABLE + OPTIONAL}
_BY_NAME: dict[str, Resource] = {}
for _each in TABLE + OPTIONAL:
    _BY_NAME.setdefault(f"{_each.plural}.{_each.group}" if _each.group else _each.plural, _each)


def find(group: str, version: str, plural: str) -> Resource | None:
    """The row behind ``/apis/<group>/<version>/<plural>`` (group ``""`` for ``/api/v1``)."""
    return _BY_PATH.get((group, version, plural))


def stored_as(group: str, plural: str) -> bool:
    """Whether this is a built-in resource, in whichever version."""
    return (f"{plural}.{group}" if group else plural) in _BY_NAME


def by_name(name: str) -> Resource:
    """The preferred version of ``pods`` or ``deployments.apps``. Raises ``KeyError`` for an unknown name."""
    return _BY_NAME[name]


def by_kind(api_version: str, kind: str) -> Resource | None:
    """The row of an object's ``apiVersion`` and ``kind``."""
    return _BY_KIND.get((api_version, kind))


def storage_row(resource: Resource) -> Resource:
    """The row in whose shape objects of ``resource`` are kept (itself, except for the shared pairs and for versions of
    a custom resource)."""
    if resource.custom is not None:
        return resource.custom.family.storage
    if resource.storage_group is None and resource.storage_version in ("", resource.version):
        return resource
    group, plural = resource.storage_key
    return _BY_PATH.get((group, resource.storage_version, plural), resource)
