"""Every stored row of the table: created, read, listed, watched, patched and deleted over real etcd."""

from __future__ import annotations

from typing import Any

import pytest

from bamikube.api import table
from bamikube.api.resources import Resource

from .conftest import Api

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
_ROLE_REF = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}
_TARGET = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}
_CSR_PEM = ""

# What a kind needs beyond metadata.
_NEEDS: dict[str, dict[str, Any]] = {
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
            "matchConstraints": {
                "resourceRules": [
                    {
                        "apiGroups": [""],
                        "apiVersions": ["v1"],
                        "operations": ["CREATE"],
                        "resources": ["pods"],
                    }
                ]
            },
            "validations": [{"expression": "true"}],
        }
    },
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
_NAMES = {
    "CustomResourceDefinition": "things.example.com",
    "APIService": "v1.example.com",
    "IPAddress": "10.96.7.7",
}

# Kinds whose status the server itself writes as soon as there is one: what to wait for before it is compared.
_SETTLES = {"CustomResourceDefinition": "Established", "APIService": "Available"}


def _signing_request() -> dict[str, Any]:
    import base64

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "somebody")])
    pem = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    text = base64.b64encode(pem.public_bytes(serialization.Encoding.PEM)).decode()
    return {"spec": {"request": text, "signerName": "example.com/s", "usages": ["client auth"]}}


_STORED = [row for row in table.TABLE if not row.virtual]


@pytest.mark.parametrize("resource", _STORED, ids=lambda row: f"{row.plural}.{row.api_version}")
async def test_a_life_from_create_to_delete(every: Api, resource: Resource) -> None:
    name = _NAMES.get(resource.kind, "one")
    root = f"/apis/{resource.api_version}" if resource.group else "/api/v1"
    where = (
        f"{root}/namespaces/default/{resource.plural}" if resource.namespaced else f"{root}/{resource.plural}"
    )
    body: dict[str, Any] = {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {"name": name, "labels": {"test": "one"}},
    }
    body |= (
        _signing_request() if resource.kind == "CertificateSigningRequest" else _NEEDS.get(resource.kind, {})
    )
    watch = await every.watch(f"{where}?labelSelector=test%3Done&resourceVersion=0")
    if resource.kind == "Pod":
        await every.call(
            "POST", "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}}, 201
        )
    await every.post(where, body)
    if resource.kind in _SETTLES:
        settled: dict[str, Any] = {}
        while _SETTLES[resource.kind] not in str(settled.get("status")):
            settled = (await watch.next())["object"]
        await watch.close()
        watch = await every.watch(f"{where}?labelSelector=test%3Done&resourceVersion=0")
    stored = await every.get(f"{where}/{name}")
    assert stored["kind"] == resource.kind and stored["apiVersion"] == resource.api_version
    listed = await every.get(f"{where}?labelSelector=test%3Done")
    assert listed["kind"] == resource.list_kind and listed["items"] == [stored]
    table_shown = await every.get(where, accept="application/json;as=Table;v=v1;g=meta.k8s.io")
    assert len(table_shown["rows"][0]["cells"]) == len(table_shown["columnDefinitions"])
    await every.patch(f"{where}/{name}", {"metadata": {"annotations": {"a": "b"}}})
    replaced = await every.get(f"{where}/{name}")
    replaced["metadata"]["annotations"]["a"] = "c"
    assert (await every.put(f"{where}/{name}", replaced))["metadata"]["annotations"]["a"] == "c"
    await every.delete(f"{where}/{name}")
    if resource.kind == "Namespace":
        terminating = await every.get(f"{where}/{name}")
        assert terminating["status"]["phase"] == "Terminating"
        await watch.close()
        return
    for finalizer_free in (False, True):
        answer = await every.raw("GET", f"{where}/{name}")
        if (
            answer.status == 200 and not finalizer_free
        ):  # protection finalizers: their controller takes them off
            free = {"metadata": {"finalizers": None}}  # unless the server itself has been faster
            await every.raw("PATCH", f"{where}/{name}", free, content_type="application/merge-patch+json")
            continue
        assert answer.status == 404
    kinds = [(await watch.next())["type"] for _ in range(4)]
    assert kinds[:3] == ["ADDED", "MODIFIED", "MODIFIED"] and kinds[3] in ("DELETED", "MODIFIED")
    await watch.close()
