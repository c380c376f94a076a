"""Small tables of what differs between kinds in how they may be written."""

from __future__ import annotations

from bamikube.api.resources import Resource

# A PUT to a name that does not exist creates it (AllowCreateOnUpdate).
CREATE_ON_UPDATE = frozenset(
    {
        ("", "endpoints"),
        ("", "events"),
        ("", "limitranges"),
        ("", "services"),
        ("coordination.k8s.io", "leases"),
        ("rbac.authorization.k8s.io", "clusterrolebindings"),
        ("rbac.authorization.k8s.io", "clusterroles"),
        ("rbac.authorization.k8s.io", "rolebindings"),
        ("rbac.authorization.k8s.io", "roles"),
    }
)

# A PUT must name the resourceVersion it replaces (AllowUnconditionalUpdate is false).
CONDITIONAL_ONLY = frozenset(
    {
        ("coordination.k8s.io", "leases"),
        ("apiextensions.k8s.io", "customresourcedefinitions"),
        ("apiregistration.k8s.io", "apiservices"),
        ("node.k8s.io", "runtimeclasses"),
        ("storage.k8s.io", "csinodes"),
        ("storage.k8s.io", "csidrivers"),
        ("storage.k8s.io", "volumeattachments"),
        ("policy", "poddisruptionbudgets"),
        ("admissionregistration.k8s.io", "mutatingadmissionpolicies"),
        ("admissionregistration.k8s.io", "mutatingadmissionpolicybindings"),
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
        ("admissionregistration.k8s.io", "validatingwebhookconfigurations"),
        ("admissionregistration.k8s.io", "validatingadmissionpolicies"),
        ("admissionregistration.k8s.io", "validatingadmissionpolicybindings"),
    }
)

# DELETE answers with the object instead of a Status, even when it is gone at once (ReturnDeletedObject).
RETURNS_DELETED = frozenset(
    {
        ("", "persistentvolumeclaims"),
        ("", "persistentvolumes"),
        ("", "pods"),
        ("", "podtemplates"),
        ("", "resourcequotas"),
        ("", "serviceaccounts"),
        ("", "services"),
        ("resource.k8s.io", "deviceclasses"),
        ("resource.k8s.io", "resourceclaims"),
        ("resource.k8s.io", "resourceclaimtemplates"),
        ("resource.k8s.io", "resourceslices"),
        ("storage.k8s.io", "csidrivers"),
        ("storage.k8s.io", "csinodes"),
        ("storage.k8s.io", "storageclasses"),
        ("storage.k8s.io", "volumeattachments"),
        ("storage.k8s.io", "volumeattributesclasses"),
    }
)

DEFINITIONS = ("apiextensions.k8s.io", "customresourcedefinitions")
# Dependents stay when nobody says what becomes of them, as in the first days of these kinds.
ORPHANS_BY_DEFAULT = frozenset({("", "replicationcontrollers"), ("batch", "jobs")})
ORPHANED_PODS = (
    "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set "
    "propagationPolicy=Orphan to suppress this warning"
)

EVENTS = ("", "events")
NAMESPACES = ("", "namespaces")
PODS = ("", "pods")


def creates_on_update(resource: Resource) -> bool:
    return resource.storage_key in CREATE_ON_UPDATE


def needs_version(resource: Resource) -> bool:
    """Custom resources (no definition) always do."""
    return resource.key in CONDITIONAL_ONLY or not resource.definition
