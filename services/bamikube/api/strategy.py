"""What happens to an object between "accepted" and "validated": the parts that belong to the server, per kind.

Three rules cover most kinds, and rows of small tables say which kinds they hold for:

- **status** is not the author's: it is reset on create and kept from the stored object on update; an update of the
  ``status`` subresource keeps everything else;
- **generation** counts changes of what was asked for (``spec``), never of what was observed;
- **allocated values** (cluster IPs, node ports) that an update leaves out are taken over from the stored object.

A Node may bring its status along, because its node agent is the one that creates it.

Worked example: a Deployment with generation 4 is updated, with a new image and ``status.replicas: 99``. It is stored
with generation 5 and the old status.

Source: the API conventions ("Spec and Status", "Metadata") and the API reference of v1.34.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bamikube.api import servicefields
from bamikube.api.defaults.cluster import NAME_LABEL
from bamikube.api.qos import qos_class
from bamikube.api.resources import Resource
from bamikube.api.schema.source import definition
from bamikube.api.schema.written import fill

DEFAULT_GRACE = 30  # seconds a pod gets when nobody said otherwise

# Kinds whose status is reset on create.
_RESET_STATUS = frozenset(
    [
        ("", "services"),
        ("", "persistentvolumes"),
        ("", "persistentvolumeclaims"),
        ("", "replicationcontrollers"),
        ("", "resourcequotas"),
        ("", "namespaces"),
        ("", "pods"),
        ("apps", "deployments"),
        ("apps", "replicasets"),
        ("apps", "statefulsets"),
        ("apps", "daemonsets"),
        ("batch", "jobs"),
        ("batch", "cronjobs"),
        ("autoscaling", "horizontalpodautoscalers"),
        ("policy", "poddisruptionbudgets"),
        ("networking.k8s.io", "ingresses"),
        ("networking.k8s.io", "servicecidrs"),
        ("certificates.k8s.io", "certificatesigningrequests"),
        ("storage.k8s.io", "volumeattachments"),
        ("admissionregistration.k8s.io", "validatingadmissionpolicies"),
        ("apiextensions.k8s.io", "customresourcedefinitions"),
        ("apiregistration.k8s.io", "apiservices"),
        ("flowcontrol.apiserver.k8s.io", "flowschemas"),
        ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations"),
        ("resource.k8s.io", "resourceclaims"),
    ]
)
_FIRST_PHASE = {"persistentvolumeclaims": "Pending", "namespaces": "Active"}

# Kinds that count generations, and the fields whose change counts.
_SPEC = ("spec",)
_GENERATION: dict[tuple[str, str], tuple[str, ...]] = {
    ("", "pods"): _SPEC,
    ("", "podtemplates"): ("template",),
    ("", "replicationcontrollers"): _SPEC,
    ("apps", "deployments"): _SPEC,
    ("apps", "replicasets"): _SPEC,
    ("apps", "statefulsets"): _SPEC,
    ("apps", "daemonsets"): _SPEC,
    ("batch", "jobs"): _SPEC,
    ("batch", "cronjobs"): _SPEC,
    ("policy", "poddisruptionbudgets"): _SPEC,
    ("networking.k8s.io", "ingresses"): _SPEC,
    ("networking.k8s.io", "ingressclasses"): _SPEC,
    ("networking.k8s.io", "networkpolicies"): _SPEC,
    ("scheduling.k8s.io", "priorityclasses"): (),
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"): ("webhooks",),
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations"): ("webhooks",),
    ("admissionregistration.k8s.io", "mutatingadmissionpolicies"): _SPEC,
    ("admissionregistration.k8s.io", "mutatingadmissionpolicybindings"): _SPEC,
    ("admissionregistration.k8s.io", "validatingadmissionpolicies"): _SPEC,
    ("admissionregistration.k8s.io", "validatingadmissionpolicybindings"): _SPEC,
    ("apiextensions.k8s.io", "customresourcedefinitions"): _SPEC,
    ("flowcontrol.apiserver.k8s.io", "flowschemas"): _SPEC,
    ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations"): _SPEC,
    ("resource.k8s.io", "deviceclasses"): _SPEC,
    ("resource.k8s.io", "resourceslices"): _SPEC,
}


def has_own_status(resource: Resource) -> bool:
    """Whether the main endpoint leaves ``status`` alone on updates."""
    return "status" in resource.subresources


def counts_generation(resource: Resource) -> bool:
    """Whether objects carry ``metadata.generation``. Custom resources always do."""
    return resource.key in _GENERATION or not resource.definition


# --- create ---------------------------------------------------------------------------------------------------------


def _create_pod(obj: dict[str, Any]) -> None:
    status: dict[str, Any] = {"phase": "Pending", "qosClass": qos_class(obj.get("spec") or {})}
    if (obj.get("spec") or {}).get("schedulingGates"):
        status["conditions"] = [
            {
                "type": "PodScheduled",
                "status": "False",
                "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
            }
        ]
    obj["status"] = status


def _create_namespace(obj: dict[str, Any]) -> None:
    finalizers = obj.setdefault("spec", {}).setdefault("finalizers", [])
    if "kubernetes" not in finalizers:
        finalizers.append("kubernetes")
    _canonical_namespace(obj)


def _canonical_namespace(obj: dict[str, Any]) -> None:
    metadata = obj.setdefault("metadata", {})
    if metadata.get("name"):
        metadata.setdefault("labels", {})[NAME_LABEL] = metadata["name"]


def _create_job(obj: dict[str, Any]) -> None:
    """A job's selector is made from its uid, unless its author takes that upon himself."""
    spec, metadata = obj.setdefault("spec", {}), obj.setdefault("metadata", {})
    uid = metadata.get("uid")
    if spec.get("manualSelector") or not uid:
        return
    template = spec.setdefault("template", {})
    labels = template.setdefault("metadata", {}).setdefault("labels", {})
    for key in ("batch.kubernetes.io/controller-uid", "controller-uid"):
        labels.setdefault(key, uid)
    for key in ("batch.kubernetes.io/job-name", "job-name"):
        labels.setdefault(key, metadata.get("name", ""))
    selector = spec.setdefault("selector", {}).setdefault("matchLabels", {})
    if "controller-uid" not in selector:
        selector.setdefault("batch.kubernetes.io/controller-uid", uid)


def _update_definition(new: dict[str, Any], old: dict[str, Any]) -> None:
    """A new storage version is one that objects may lie in from now on."""
    spec, status = new.get("spec") or {}, dict(new.get("status") or {})
    stored = list(status.get("storedVersions") or ())
    for each in spec.get("versions") or ():
        if each.get("storage") and each.get("name") and each["name"] not in stored:
            stored.append(each["name"])
    status["storedVersions"] = stored
    new["status"] = status


def _create_definition(obj: dict[str, Any]) -> None:
    versions = (obj.get("spec") or {}).get("versions") or ()
    obj["status"]["storedVersions"] = [
        each["name"] for each in versions if each.get("storage") and each.get("name")
    ]


def _create_volume(obj: dict[str, Any]) -> None:
    born = (obj.get("metadata") or {}).get("creationTimestamp")
    obj["status"] = {"phase": "Pending"} | ({"lastPhaseTransitionTime": born} if born else {})


_ON_CREATE: dict[tuple[str, str], Callable[[dict[str, Any]], None]] = {
    ("", "pods"): _create_pod,
    ("", "services"): servicefields.prepare_create,
    ("", "namespaces"): _create_namespace,
    ("", "persistentvolumes"): _create_volume,
    ("batch", "jobs"): _create_job,
    ("apiextensions.k8s.io", "customresourcedefinitions"): _create_definition,
}


def prepare_create(resource: Resource, obj: dict[str, Any]) -> None:
    """Make ``obj`` what a new object may be, in place. Name and uid should be set already (a job's selector uses them)."""
    metadata = obj.setdefault("metadata", {})
    for field in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation"):
        metadata.pop(field, None)
    if counts_generation(resource):
        metadata["generation"] = 1
    if resource.key in _RESET_STATUS:
        phase = _FIRST_PHASE.get(resource.plural)
        obj["status"] = {"phase": phase} if phase else {}
    elif not resource.definition and has_own_status(resource):
        obj.pop("status", None)
    special = _ON_CREATE.get(resource.key)
    if special is not None:
        special(obj)
    if resource.definition:
        fill(resource.definition, obj)


# --- update ---------------------------------------------------------------------------------------------------------


def _take_over_metadata(new: dict[str, Any], old: dict[str, Any]) -> None:
    """Server-owned metadata an update may leave out: it is taken from the stored object."""
    after, before = new.setdefault("metadata", {}), old.get("metadata") or {}
    for field in ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"):
        if field in before and after.get(field) is None:
            after[field] = before[field]
    after.pop("selfLink", None)
    if "generation" in before:
        after["generation"] = before["generation"]
    else:
        after.pop("generation", None)


def _keep(new: dict[str, Any], old: dict[str, Any], field: str) -> None:
    if field in old:
        new[field] = old[field]
    else:
        new.pop(field, None)


def _changed(resource: Resource, new: dict[str, Any], old: dict[str, Any]) -> bool:
    if not resource.definition:  # custom resources: everything but metadata and a status of its own
        ignored = {"metadata", "status"} if has_own_status(resource) else {"metadata"}
        fields: set[str] = {*new, *old} - ignored
        return any(new.get(field) != old.get(field) for field in fields)
    if any(new.get(field) != old.get(field) for field in _GENERATION[resource.key]):
        return True
    if resource.key == ("apps", "deployments"):
        # A deployment's annotations travel to its replica sets, so they count.
        return (new["metadata"].get("annotations") or {}) != (
            (old.get("metadata") or {}).get("annotations") or {}
        )
    return False


def _update_namespace(new: dict[str, Any], old: dict[str, Any]) -> None:
    _keep(new, old, "spec")  # its finalizers are changed through the finalize subresource only
    _canonical_namespace(new)


def _update_pod(new: dict[str, Any], old: dict[str, Any]) -> None:
    """Scheduling gates can be lifted by an update; the last one takes the condition along."""
    gated = (old.get("spec") or {}).get("schedulingGates")
    if gated and not (new.get("spec") or {}).get("schedulingGates"):
        status = dict(new.get("status") or {})
        kept = [each for each in status.get("conditions") or () if each.get("reason") != "SchedulingGated"]
        status["conditions"] = kept
        if not kept:
            del status["conditions"]
        new["status"] = status


def _update_signing_request(new: dict[str, Any], old: dict[str, Any]) -> None:
    _keep(new, old, "spec")  # what is asked for is said once


_ON_UPDATE: dict[tuple[str, str], Callable[[dict[str, Any], dict[str, Any]], None]] = {
    ("", "services"): servicefields.prepare_update,
    ("", "namespaces"): _update_namespace,
    ("", "pods"): _update_pod,
    ("certificates.k8s.io", "certificatesigningrequests"): _update_signing_request,
    ("apiextensions.k8s.io", "customresourcedefinitions"): _update_definition,
}


def prepare_update(resource: Resource, new: dict[str, Any], old: dict[str, Any]) -> None:
    """Make ``new`` what may follow ``old``, in place: status kept, generation counted, allocated values taken over.

    ``old`` is read only; parts of it may become parts of ``new``.
    """
    _take_over_metadata(new, old)
    if has_own_status(resource):
        _keep(new, old, "status")
    special = _ON_UPDATE.get(resource.key)
    if special is not None:
        special(new, old)
    if counts_generation(resource) and _changed(resource, new, old):
        new["metadata"]["generation"] = (old.get("metadata") or {}).get("generation", 0) + 1


# Metadata that an update of the status subresource leaves alone. Most built-in kinds leave none alone, by history.
_AUTHORS = ("labels", "annotations", "finalizers", "ownerReferences")
_KEPT_BY_STATUS: dict[tuple[str, str], tuple[str, ...]] = {
    ("", "pods"): ("ownerReferences", "deletionTimestamp", "deletionGracePeriodSeconds"),
    ("apps", "deployments"): ("labels",),
    ("admissionregistration.k8s.io", "validatingadmissionpolicies"): _AUTHORS,
    ("apiextensions.k8s.io", "customresourcedefinitions"): _AUTHORS,
    ("apiregistration.k8s.io", "apiservices"): _AUTHORS,
    ("flowcontrol.apiserver.k8s.io", "flowschemas"): _AUTHORS,
    ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations"): _AUTHORS,
    ("networking.k8s.io", "servicecidrs"): _AUTHORS,
    ("resource.k8s.io", "resourceclaims"): _AUTHORS,
    ("storage.k8s.io", "volumeattachments"): _AUTHORS,
}


def prepare_status_update(
    resource: Resource, new: dict[str, Any], old: dict[str, Any], now: str = ""
) -> None:
    """An update of the status subresource: all but ``status`` (and unprotected metadata) is kept from ``old``.

    ``now`` (RFC 3339) is when a volume's phase changes, unless the update says itself when.
    """
    status = new.get("status")
    metadata = new.setdefault("metadata", {})
    for field in [field for field in new if field not in ("apiVersion", "kind", "metadata", "status")]:
        del new[field]
    for field, value in old.items():
        if field not in ("apiVersion", "kind", "metadata", "status"):
            new[field] = value
    if status is None:
        new.pop("status", None)
    before = old.get("metadata") or {}
    _take_over_metadata(new, old)
    protected = _KEPT_BY_STATUS.get(resource.key, ())
    if resource.key == ("", "pods"):
        qos = (old.get("status") or {}).get("qosClass")
        if qos and isinstance(new.get("status"), dict):
            new["status"].setdefault("qosClass", qos)
    elif resource.key == ("certificates.k8s.io", "certificatesigningrequests"):
        _keep_approval(new, old)
    elif resource.key == ("", "persistentvolumes"):
        after, earlier = new.setdefault("status", {}), old.get("status") or {}
        unsaid = after.get("lastPhaseTransitionTime") in (None, earlier.get("lastPhaseTransitionTime"))
        if now and unsaid and after.get("phase") != earlier.get("phase"):
            after["lastPhaseTransitionTime"] = now
    elif not resource.definition:
        protected = _AUTHORS
    for field in protected:
        if field in before:
            metadata[field] = before[field]
        else:
            metadata.pop(field, None)
    if resource.definition:
        fill(resource.definition, new)


def _keep_approval(new: dict[str, Any], old: dict[str, Any]) -> None:
    """Approval and denial are another subresource's: a status that leaves them out leaves them be."""
    status = new.setdefault("status", {})
    given = list(status.get("conditions") or ())
    for kind in ("Approved", "Denied"):
        if not any(each.get("type") == kind for each in given):
            before = (old.get("status") or {}).get("conditions") or ()
            given += [each for each in before if each.get("type") == kind]
    if given:
        status["conditions"] = given


# --- ownership ------------------------------------------------------------------------------------------------------


def reset_fields(resource: Resource, subresource: str) -> dict[str, Any]:
    """What an endpoint does not write, whatever the body says, as a set of fields: nobody can own it by writing there."""
    if subresource == "":
        return {"f:status": {}} if has_own_status(resource) else {}
    if subresource != "status":
        return {}
    schema = (
        resource.custom.compiled.schema if resource.custom is not None else definition(resource.definition)
    )
    fields = {"spec", *schema.get("properties", ())} - {"apiVersion", "kind", "metadata", "status"}
    reset: dict[str, Any] = {f"f:{field}": {} for field in sorted(fields)}
    if resource.custom is not None:
        reset["f:metadata"] = {}
    protected = _KEPT_BY_STATUS.get(resource.key)
    if protected:
        reset["f:metadata"] = {f"f:{field}": {} for field in protected}
    return reset


# --- delete ---------------------------------------------------------------------------------------------------------


def deletion_grace(resource: Resource, obj: dict[str, Any], requested: int | None) -> int:
    """Seconds between the request and the removal; 0 means at once.

    Only pods end gracefully: their node agent finishes the deletion. A pod that never reached a node, or has already
    ended, has nobody to wait for.
    """
    if resource.key != ("", "pods"):
        return 0
    spec, phase = obj.get("spec") or {}, (obj.get("status") or {}).get("phase")
    if not spec.get("nodeName") or phase in ("Succeeded", "Failed"):
        return 0
    period = spec.get("terminationGracePeriodSeconds", DEFAULT_GRACE) if requested is None else requested
    return 1 if period < 0 else int(period)
