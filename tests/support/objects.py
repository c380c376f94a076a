"""A small valid object of every built-in kind."""

from __future__ import annotations

import base64
import copy
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bamikube.api.resources import Resource

_POD = {"containers": [{"name": "c", "image": "nginx"}]}
_TEMPLATE = {"metadata": {"labels": {"a": "b"}}, "spec": _POD}
_WORKLOAD = {"selector": {"matchLabels": {"a": "b"}}, "template": _TEMPLATE}
_JOB = {"template": {"spec": _POD | {"restartPolicy": "Never"}}}
_WEBHOOK = {
    "name": "a.example.com",
    "clientConfig": {"url": "https://example.com/x"},
    "admissionReviewVersions": ["v1"],
    "sideEffects": "None",
}
_RULE = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
_ROLE_REF = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}
_TARGET = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}

# What a kind needs beyond metadata.
NEEDS: dict[str, dict[str, Any]] = {
    "Pod": {"spec": _POD},
    "PodTemplate": {"template": _TEMPLATE},
    "ReplicationController": {"spec": {"selector": {"a": "b"}, "template": _TEMPLATE}},
    "Event": {
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"},
        "regarding": {"kind": "Pod", "name": "p", "namespace": "default"},
        "eventTime": "2026-01-02T03:04:05.000000Z",
        "reportingComponent": "x.io/y",
        "reportingController": "x.io/y",
        "reportingInstance": "z",
        "reason": "R",
        "action": "A",
        "type": "Normal",
    },
    "Service": {"spec": {"ports": [{"port": 80}]}},
    "PersistentVolume": {
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "hostPath": {"path": "/tmp/x"},
        }
    },
    "PersistentVolumeClaim": {
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    },
    "ControllerRevision": {"revision": 1, "data": {}},
    "DaemonSet": {"spec": _WORKLOAD},
    "Deployment": {"spec": _WORKLOAD},
    "ReplicaSet": {"spec": _WORKLOAD},
    "StatefulSet": {"spec": _WORKLOAD | {"serviceName": "s"}},
    "HorizontalPodAutoscaler": {"spec": {"scaleTargetRef": _TARGET, "maxReplicas": 3}},
    "CronJob": {"spec": {"schedule": "* * * * *", "jobTemplate": {"spec": _JOB}}},
    "Job": {"spec": _JOB},
    "PodDisruptionBudget": {"spec": {"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}}},
    "IngressClass": {"spec": {"controller": "example.com/c"}},
    "Ingress": {
        "spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}},
    },
    "IPAddress": {"spec": {"parentRef": {"resource": "services", "namespace": "default", "name": "s"}}},
    "ServiceCIDR": {"spec": {"cidrs": ["10.200.0.0/16"]}},
    "NetworkPolicy": {"spec": {"podSelector": {}}},
    "EndpointSlice": {"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}]},
    "ClusterRole": {"rules": []},
    "Role": {"rules": []},
    "ClusterRoleBinding": {"roleRef": _ROLE_REF, "subjects": []},
    "RoleBinding": {"roleRef": _ROLE_REF, "subjects": []},
    "CSIDriver": {"spec": {}},
    "CSINode": {"spec": {"drivers": []}},
    "CSIStorageCapacity": {"storageClassName": "fast"},
    "StorageClass": {"provisioner": "example.com/p"},
    "VolumeAttachment": {
        "spec": {"attacher": "a.example.com", "nodeName": "n", "source": {"persistentVolumeName": "v"}}
    },
    "VolumeAttributesClass": {"driverName": "d.example.com", "parameters": {"a": "b"}},
    "RuntimeClass": {"handler": "runc"},
    "PriorityClass": {"value": 7},
    "MutatingWebhookConfiguration": {"webhooks": [_WEBHOOK]},
    "ValidatingWebhookConfiguration": {"webhooks": [_WEBHOOK]},
    "ValidatingAdmissionPolicy": {
        "spec": {
            "matchConstraints": {"resourceRules": [_RULE]},
            "validations": [{"expression": "true"}],
        }
    },
    "MutatingAdmissionPolicy": {
        "spec": {
            "matchConstraints": {"resourceRules": [_RULE]},
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}}],
            "reinvocationPolicy": "Never",
        }
    },
    "MutatingAdmissionPolicyBinding": {"spec": {"policyName": "p"}},
    "ValidatingAdmissionPolicyBinding": {"spec": {"policyName": "p", "validationActions": ["Deny"]}},
    "APIService": {
        "spec": {
            "group": "example.com",
            "version": "v1",
            "groupPriorityMinimum": 100,
            "versionPriority": 10,
            "insecureSkipTLSVerify": True,
            "service": {"name": "s", "namespace": "default"},
        }
    },
    "FlowSchema": {"spec": {"priorityLevelConfiguration": {"name": "global-default"}}},
    "PriorityLevelConfiguration": {
        "spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}}
    },
    "DeviceClass": {"spec": {}},
    "ResourceClaim": {"spec": {}},
    "ResourceClaimTemplate": {"spec": {"spec": {}}},
    "ResourceSlice": {
        "spec": {
            "driver": "d.example.com",
            "nodeName": "n",
            "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1},
        }
    },
    "CustomResourceDefinition": {
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "things", "kind": "Thing", "singular": "thing", "listKind": "ThingList"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": {"type": "object"}},
                }
            ],
        }
    },
}
NAMES = {
    "CustomResourceDefinition": "things.example.com",
    "APIService": "v1.example.com",
    "IPAddress": "10.96.7.7",
}


def _signing_request() -> dict[str, Any]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "somebody")])
    pem = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    text = base64.b64encode(pem.public_bytes(serialization.Encoding.PEM)).decode()
    return {"spec": {"request": text, "signerName": "example.com/s", "usages": ["client auth"]}}


def where(resource: Resource, namespace: str = "default") -> str:
    """The path of a resource's collection."""
    root = f"/apis/{resource.api_version}" if resource.group else "/api/v1"
    return (
        f"{root}/namespaces/{namespace}/{resource.plural}"
        if resource.namespaced
        else f"{root}/{resource.plural}"
    )


def example(resource: Resource, name: str = "one") -> dict[str, Any]:
    """A valid object; kinds whose names are not free have their own."""
    body: dict[str, Any] = {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {"name": NAMES.get(resource.kind, name), "labels": {"test": "one"}},
    }
    if resource.kind == "CertificateSigningRequest":
        return body | _signing_request()
    return body | copy.deepcopy(NEEDS.get(resource.kind, {}))
