"""The roles of the cluster's own components, each with just what the component does.

Names are Kubernetes' where Kubernetes has the component; ``system:bamikube-network`` and ``system:bamikube-dns`` are
ours. The controllers run in one process as ``system:kube-controller-manager``; they also exist one by one as service
accounts (``system:controller:*``), for whoever runs a single one of them.
"""

from __future__ import annotations

from bamikube.apiserver.authz.node import NODE_RULES
from bamikube.apiserver.bootstrap.rules import EVENTS, READ, Rule, rule

_LEASES = "coordination.k8s.io"
_SLICES = rule("create delete get list update watch", "discovery.k8s.io", "endpointslices")


def _leader(name: str) -> list[Rule]:
    return [
        rule("create list watch", _LEASES, "leases"),
        rule("get update patch", _LEASES, "leases", name),
    ]


_SCHEDULER: list[Rule] = [
    EVENTS,
    *_leader("kube-scheduler"),
    rule(READ, "core", "nodes"),
    rule(f"{READ} delete", "core", "pods"),
    rule("create", "core", "bindings pods/binding"),
    rule("patch update", "core", "pods/status"),
    rule(READ, "core", "namespaces replicationcontrollers services"),
    rule(READ, "apps", "replicasets statefulsets"),
    rule(READ, "policy", "poddisruptionbudgets"),
    rule(READ, "core", "persistentvolumeclaims persistentvolumes"),
    rule("patch update", "core", "persistentvolumeclaims"),
    rule(READ, "scheduling.k8s.io", "priorityclasses"),
    rule(READ, "storage.k8s.io", "csidrivers csinodes csistoragecapacities storageclasses volumeattachments"),
    rule(READ, "resource.k8s.io", "deviceclasses resourceclaims resourceslices"),
    rule("patch update", "resource.k8s.io", "resourceclaims resourceclaims/status"),
    rule("create", "authentication.k8s.io", "tokenreviews"),
    rule("create", "authorization.k8s.io", "subjectaccessreviews"),
]

_CONTROLLERS: dict[str, list[Rule]] = {
    "attachdetach-controller": [
        rule("list watch get", "core", "persistentvolumeclaims persistentvolumes pods nodes"),
        rule("patch update", "core", "nodes/status"),
        rule(f"create delete {READ}", "storage.k8s.io", "volumeattachments"),
        rule(READ, "storage.k8s.io", "csidrivers csinodes"),
        EVENTS,
    ],
    "certificate-controller": [
        rule(f"delete {READ}", "certificates.k8s.io", "certificatesigningrequests"),
        rule(
            "update",
            "certificates.k8s.io",
            "certificatesigningrequests/approval certificatesigningrequests/status",
        ),
        rule(
            "approve",
            "certificates.k8s.io",
            "signers",
            "kubernetes.io/kube-apiserver-client-kubelet kubernetes.io/kubelet-serving",
        ),
        rule(
            "sign",
            "certificates.k8s.io",
            "signers",
            "kubernetes.io/kube-apiserver-client kubernetes.io/kube-apiserver-client-kubelet "
            "kubernetes.io/kubelet-serving kubernetes.io/legacy-unknown",
        ),
        rule("create", "authorization.k8s.io", "subjectaccessreviews"),
        EVENTS,
    ],
    "clusterrole-aggregation-controller": [
        rule("escalate get list patch update watch", "rbac.authorization.k8s.io", "clusterroles")
    ],
    "cronjob-controller": [
        rule(f"update {READ}", "batch", "cronjobs"),
        rule(f"create delete patch update {READ}", "batch", "jobs"),
        rule("update", "batch", "cronjobs/finalizers cronjobs/status"),
        rule("delete list", "core", "pods"),
        EVENTS,
    ],
    "daemon-set-controller": [
        rule(READ, "apps", "daemonsets"),
        rule("update", "apps", "daemonsets/finalizers daemonsets/status"),
        rule("list watch get", "core", "nodes"),
        rule(f"create delete patch {READ}", "core", "pods"),
        rule("create", "core", "pods/binding"),
        rule(f"create delete patch update {READ}", "apps", "controllerrevisions"),
        EVENTS,
    ],
    "deployment-controller": [
        rule(f"update {READ}", "apps", "deployments"),
        rule("update", "apps", "deployments/finalizers deployments/status"),
        rule(f"create delete patch update {READ}", "apps", "replicasets"),
        rule(f"update {READ}", "core", "pods"),
        EVENTS,
    ],
    "disruption-controller": [
        rule(READ, "apps", "deployments replicasets statefulsets"),
        rule(READ, "core", "replicationcontrollers"),
        rule(READ, "policy", "poddisruptionbudgets"),
        rule("update", "policy", "poddisruptionbudgets/status"),
        rule(READ, "core", "pods"),
        rule("patch update", "core", "pods/status"),
        rule("get", "*", "*/scale"),
        EVENTS,
    ],
    "endpoint-controller": [
        rule(READ, "core", "pods services"),
        rule(f"create delete update {READ}", "core", "endpoints"),
        rule("create", "core", "endpoints/restricted"),
        EVENTS,
    ],
    "endpointslice-controller": [
        rule(READ, "core", "nodes pods services"),
        rule("update", "core", "services/finalizers"),
        _SLICES,
        rule("create", "discovery.k8s.io", "endpointslices/restricted"),
        EVENTS,
    ],
    "endpointslicemirroring-controller": [
        rule(READ, "core", "endpoints services"),
        rule("update", "core", "endpoints/finalizers services/finalizers"),
        _SLICES,
        rule("create", "discovery.k8s.io", "endpointslices/restricted"),
        EVENTS,
    ],
    "generic-garbage-collector": [rule(f"delete patch update {READ}", "*", "*"), EVENTS],
    "horizontal-pod-autoscaler": [
        rule(READ, "autoscaling", "horizontalpodautoscalers"),
        rule("update", "autoscaling", "horizontalpodautoscalers/status"),
        rule("get update", "*", "*/scale"),
        rule("list", "core", "pods"),
        rule("list", "metrics.k8s.io", "pods"),
        rule("get list", "custom.metrics.k8s.io external.metrics.k8s.io", "*"),
        EVENTS,
    ],
    "job-controller": [
        rule(f"patch update {READ}", "batch", "jobs"),
        rule("update", "batch", "jobs/finalizers jobs/status"),
        rule(f"create delete patch {READ}", "core", "pods"),
        EVENTS,
    ],
    "namespace-controller": [
        rule("delete get list watch", "core", "namespaces"),
        rule("update", "core", "namespaces/finalize namespaces/status"),
        rule("delete deletecollection get list", "*", "*"),
    ],
    "node-controller": [
        rule(f"delete patch update {READ}", "core", "nodes"),
        rule("patch update", "core", "nodes/status"),
        rule("delete get list watch", "core", "pods"),
        rule("patch update", "core", "pods/status"),
        rule("patch", "core", "pods"),
        rule(READ, _LEASES, "leases"),
        EVENTS,
    ],
    "persistent-volume-binder": [
        rule(f"create delete update {READ}", "core", "persistentvolumes"),
        rule("update", "core", "persistentvolumes/status"),
        rule(f"update {READ}", "core", "persistentvolumeclaims"),
        rule("update", "core", "persistentvolumeclaims/status"),
        rule(f"create delete {READ}", "core", "pods"),
        rule(READ, "storage.k8s.io", "storageclasses"),
        rule("get list watch", "core", "nodes"),
        EVENTS,
    ],
    "pod-garbage-collector": [
        rule("delete list watch", "core", "pods"),
        rule("get list", "core", "nodes"),
        rule("patch", "core", "pods/status"),
    ],
    "pv-protection-controller": [rule(f"update {READ}", "core", "persistentvolumes"), EVENTS],
    "pvc-protection-controller": [
        rule(f"update {READ}", "core", "persistentvolumeclaims"),
        rule(READ, "core", "pods"),
        EVENTS,
    ],
    "volumeattributesclass-protection-controller": [
        rule(READ, "core", "persistentvolumeclaims persistentvolumes"),
        rule(f"update {READ}", "storage.k8s.io", "volumeattributesclasses"),
        EVENTS,
    ],
    "replicaset-controller": [
        rule(f"update {READ}", "apps", "replicasets"),
        rule("update", "apps", "replicasets/finalizers replicasets/status"),
        rule(f"create delete patch {READ}", "core", "pods"),
        EVENTS,
    ],
    "replication-controller": [
        rule(f"update {READ}", "core", "replicationcontrollers"),
        rule("update", "core", "replicationcontrollers/finalizers replicationcontrollers/status"),
        rule(f"create delete patch {READ}", "core", "pods"),
        EVENTS,
    ],
    "resourcequota-controller": [
        rule("list watch", "*", "*"),
        rule("update", "core", "resourcequotas/status"),
        EVENTS,
    ],
    "legacy-service-account-token-cleaner": [
        rule("get", "core", "configmaps", "kube-apiserver-legacy-service-account-token-tracking"),
        rule("delete patch update", "core", "secrets"),
    ],
    "root-ca-cert-publisher": [rule("create update get list watch", "core", "configmaps"), EVENTS],
    "service-account-controller": [
        rule("create get list watch", "core", "serviceaccounts"),
        rule(READ, "core", "namespaces"),
        EVENTS,
    ],
    "service-cidrs-controller": [
        rule(f"patch update {READ}", "networking.k8s.io", "servicecidrs"),
        rule("patch update", "networking.k8s.io", "servicecidrs/finalizers servicecidrs/status"),
        rule(READ, "networking.k8s.io", "ipaddresses"),
        EVENTS,
    ],
    "statefulset-controller": [
        rule(READ, "apps", "statefulsets"),
        rule("update", "apps", "statefulsets/finalizers statefulsets/status"),
        rule(f"create delete patch update {READ}", "core", "pods"),
        rule(f"create delete patch update {READ}", "apps", "controllerrevisions"),
        rule(f"create delete update {READ}", "core", "persistentvolumeclaims"),
        EVENTS,
    ],
    "taint-eviction-controller": [
        rule("delete get list watch", "core", "pods"),
        rule("patch update", "core", "pods/status"),
        rule(READ, "core", "nodes"),
        EVENTS,
    ],
    "ttl-after-finished-controller": [rule(f"delete {READ}", "batch", "jobs"), EVENTS],
    "ttl-controller": [rule(f"patch update {READ}", "core", "nodes"), EVENTS],
    "validatingadmissionpolicy-status-controller": [
        rule(READ, "admissionregistration.k8s.io", "validatingadmissionpolicies"),
        rule("get patch update", "admissionregistration.k8s.io", "validatingadmissionpolicies/status"),
        EVENTS,
    ],
}

# One process runs them all, so it holds the sum; "*" on reading is what garbage collection needs anyway.
_CONTROLLER_MANAGER: list[Rule] = [
    EVENTS,
    *_leader("kube-controller-manager"),
    rule("create", "core", "secrets serviceaccounts serviceaccounts/token"),
    rule("delete", "core", "secrets"),
    rule("get", "core", "configmaps namespaces secrets serviceaccounts"),
    rule("update", "core", "secrets serviceaccounts"),
    rule("create", "authentication.k8s.io", "tokenreviews"),
    rule("create", "authorization.k8s.io", "subjectaccessreviews"),
    rule("list watch get", "*", "*"),
]


def _union() -> list[Rule]:
    merged: list[Rule] = list(_CONTROLLER_MANAGER)
    for rules in _CONTROLLERS.values():
        merged.extend(one for one in rules if one not in merged)
    return merged


ROLES: dict[str, list[Rule]] = {
    "system:kube-scheduler": _SCHEDULER,
    "system:volume-scheduler": [
        rule(f"{READ} patch update", "core", "persistentvolumes"),
        rule(READ, "storage.k8s.io", "storageclasses"),
        rule(f"{READ} patch update", "core", "persistentvolumeclaims"),
    ],
    "system:kube-controller-manager": _union(),
    "system:node": [{**one} for one in NODE_RULES],
    "system:node-proxier": [
        rule("list watch", "core", "services endpoints"),
        rule("get list watch", "core", "nodes"),
        rule("list watch", "discovery.k8s.io", "endpointslices"),
        rule("list watch", "networking.k8s.io", "servicecidrs"),
        EVENTS,
    ],
    "system:node-problem-detector": [
        rule("get", "core", "nodes"),
        rule("patch", "core", "nodes/status"),
        EVENTS,
    ],
    "system:node-bootstrapper": [rule(f"create {READ}", "certificates.k8s.io", "certificatesigningrequests")],
    "system:kubelet-api-admin": [
        rule("get list watch", "core", "nodes"),
        rule("proxy", "core", "nodes"),
        rule(
            "*",
            "core",
            "nodes/log nodes/metrics nodes/proxy nodes/stats nodes/configz nodes/healthz nodes/pods",
        ),
    ],
    "system:heapster": [
        rule(READ, "core", "events namespaces nodes pods"),
        rule(READ, "apps", "deployments"),
    ],
    "system:kube-aggregator": [rule(READ, "core", "endpoints services")],
    "system:kube-dns": [rule("list watch", "core", "endpoints services")],
    "system:persistent-volume-provisioner": [
        rule(f"create delete {READ}", "core", "persistentvolumes"),
        rule(f"update {READ}", "core", "persistentvolumeclaims"),
        rule(READ, "storage.k8s.io", "storageclasses"),
        rule("watch", "core", "events"),
        EVENTS,
    ],
    "system:certificates.k8s.io:certificatesigningrequests:nodeclient": [
        rule("create", "certificates.k8s.io", "certificatesigningrequests/nodeclient")
    ],
    "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient": [
        rule("create", "certificates.k8s.io", "certificatesigningrequests/selfnodeclient")
    ],
    **{
        f"system:certificates.k8s.io:{name}-approver": [
            rule("approve", "certificates.k8s.io", "signers", f"kubernetes.io/{name}")
        ]
        for name in (
            "kube-apiserver-client",
            "kube-apiserver-client-kubelet",
            "kubelet-serving",
            "legacy-unknown",
        )
    },
    "system:bamikube-network": [
        rule(READ, "core", "namespaces nodes pods services"),
        rule(READ, "discovery.k8s.io", "endpointslices"),
        rule(READ, "networking.k8s.io", "networkpolicies"),
        rule("patch", "core", "nodes/status"),
        EVENTS,
    ],
    "system:bamikube-dns": [
        rule(READ, "core", "endpoints namespaces nodes pods services"),
        rule(READ, "discovery.k8s.io", "endpointslices"),
    ],
    **{f"system:controller:{name}": rules for name, rules in _CONTROLLERS.items()},
}

BINDINGS: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "system:kube-scheduler": ("system:kube-scheduler", [("User", "system:kube-scheduler")]),
    "system:volume-scheduler": ("system:volume-scheduler", [("User", "system:kube-scheduler")]),
    "system:kube-controller-manager": (
        "system:kube-controller-manager",
        [("User", "system:kube-controller-manager")],
    ),
    "system:node-proxier": ("system:node-proxier", [("User", "system:kube-proxy")]),
    "system:kube-dns": ("system:kube-dns", [("ServiceAccount", "kube-system/kube-dns")]),
    # Empty on purpose: the node authorizer decides for nodes. The binding is there for clusters that do without it.
    "system:node": ("system:node", []),
    "system:bamikube-network": ("system:bamikube-network", [("User", "system:bamikube-network")]),
    "system:bamikube-dns": ("system:bamikube-dns", [("User", "system:bamikube-dns")]),
    **{
        f"system:controller:{name}": (
            f"system:controller:{name}",
            [("ServiceAccount", f"kube-system/{name}")],
        )
        for name in _CONTROLLERS
    },
}

# Namespaced roles: (namespace, name) -> rules, and the subjects they are bound to under the same name.
NAMESPACED: dict[tuple[str, str], tuple[list[Rule], list[tuple[str, str]]]] = {
    ("kube-system", "extension-apiserver-authentication-reader"): (
        [rule(READ, "core", "configmaps", "extension-apiserver-authentication")],
        [("User", "system:kube-controller-manager"), ("User", "system:kube-scheduler")],
    ),
    ("kube-system", "system::leader-locking-kube-scheduler"): (
        [rule("watch", "core", "configmaps"), *_leader("kube-scheduler")],
        [("User", "system:kube-scheduler"), ("ServiceAccount", "kube-system/kube-scheduler")],
    ),
    ("kube-system", "system::leader-locking-kube-controller-manager"): (
        [rule("watch", "core", "configmaps"), *_leader("kube-controller-manager")],
        [
            ("User", "system:kube-controller-manager"),
            ("ServiceAccount", "kube-system/kube-controller-manager"),
        ],
    ),
    ("kube-system", "system:bamikube-dns"): (
        [
            rule(f"create patch update {READ}", "core", "services endpoints"),
            rule(f"create patch update {READ}", "discovery.k8s.io", "endpointslices"),
            EVENTS,
        ],
        [("User", "system:bamikube-dns")],
    ),
    ("kube-system", "system:controller:token-cleaner"): (
        [rule(f"delete {READ}", "core", "secrets"), EVENTS],
        [("ServiceAccount", "kube-system/token-cleaner")],
    ),
    ("kube-public", "system:controller:bootstrap-signer"): (
        [rule(READ, "core", "configmaps"), rule("update", "core", "configmaps", "cluster-info"), EVENTS],
        [("ServiceAccount", "kube-system/bootstrap-signer")],
    ),
}
