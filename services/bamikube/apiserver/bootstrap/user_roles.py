"""The roles meant for people: cluster-admin, admin, edit, view, and what everybody may see.

``admin``, ``edit`` and ``view`` hold no rules of their own: they collect those of every ClusterRole that carries their
label, so that an add-on (a CRD's author, say) extends them by one labelled role. What is built in lies in the three
``system:aggregate-to-*`` roles.

Source: Kubernetes' "Using RBAC Authorization", default roles; v1.34.
"""

from __future__ import annotations

from typing import Any

from bamikube.apiserver.bootstrap.rules import READ, READ_WRITE, WRITE, Rule, paths, rule

AGGREGATE = "rbac.authorization.k8s.io/aggregate-to-{}"

_APPS = (
    "daemonsets deployments deployments/scale replicasets replicasets/scale statefulsets statefulsets/scale"
)
_STATUS = "daemonsets/status deployments/status replicasets/status statefulsets/status"

VIEW: list[Rule] = [
    rule(
        READ,
        "core",
        "configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods replicationcontrollers "
        "replicationcontrollers/scale serviceaccounts services services/status",
    ),
    rule(
        READ,
        "core",
        "bindings events limitranges namespaces/status pods/log pods/status replicationcontrollers/status "
        "resourcequotas resourcequotas/status",
    ),
    rule(READ, "core", "namespaces"),
    rule(READ, "discovery.k8s.io", "endpointslices"),
    rule(READ, "apps", f"controllerrevisions {_APPS} {_STATUS}"),
    rule(READ, "autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status"),
    rule(READ, "batch", "cronjobs cronjobs/status jobs jobs/status"),
    rule(READ, "policy", "poddisruptionbudgets poddisruptionbudgets/status"),
    rule(READ, "networking.k8s.io", "ingresses ingresses/status networkpolicies"),
    rule(READ, "resource.k8s.io", "resourceclaims resourceclaims/status resourceclaimtemplates"),
]

EDIT: list[Rule] = [
    rule(READ, "core", "pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy"),
    rule("impersonate", "core", "serviceaccounts"),
    rule(WRITE, "core", "pods pods/attach pods/exec pods/portforward pods/proxy"),
    rule("create", "core", "pods/eviction"),
    rule(
        WRITE,
        "core",
        "configmaps events persistentvolumeclaims replicationcontrollers replicationcontrollers/scale secrets "
        "serviceaccounts services services/proxy",
    ),
    rule("create", "core", "serviceaccounts/token"),
    rule(WRITE, "apps", _APPS + " deployments/rollback"),
    rule(WRITE, "autoscaling", "horizontalpodautoscalers"),
    rule(WRITE, "batch", "cronjobs jobs"),
    rule(WRITE, "policy", "poddisruptionbudgets"),
    rule(WRITE, "networking.k8s.io", "ingresses networkpolicies"),
    rule(READ_WRITE, "coordination.k8s.io", "leases"),
    rule(WRITE, "resource.k8s.io", "resourceclaims resourceclaimtemplates"),
]

ADMIN: list[Rule] = [
    rule("create", "authorization.k8s.io", "localsubjectaccessreviews"),
    rule(READ_WRITE, "rbac.authorization.k8s.io", "rolebindings roles"),
]

DISCOVERY = "/api /api/* /apis /apis/* /healthz /livez /openapi /openapi/* /readyz /version /version/"

ROLES: dict[str, list[Rule]] = {
    "cluster-admin": [rule("*", "*", "*"), paths("*", "*")],
    "system:discovery": [paths("get", DISCOVERY)],
    "system:public-info-viewer": [paths("get", "/healthz /livez /readyz /version /version/")],
    "system:monitoring": [
        paths("get", "/healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/*")
    ],
    "system:basic-user": [
        rule("create", "authorization.k8s.io", "selfsubjectaccessreviews selfsubjectrulesreviews"),
        rule("create", "authentication.k8s.io", "selfsubjectreviews"),
    ],
    "system:service-account-issuer-discovery": [
        paths(
            "get",
            "/.well-known/openid-configuration /.well-known/openid-configuration/ /openid/v1/jwks /openid/v1/jwks/",
        )
    ],
    "system:auth-delegator": [
        rule("create", "authentication.k8s.io", "tokenreviews"),
        rule("create", "authorization.k8s.io", "subjectaccessreviews"),
    ],
}

AGGREGATED: dict[str, list[Rule]] = {
    "system:aggregate-to-admin": ADMIN,
    "system:aggregate-to-edit": EDIT,
    "system:aggregate-to-view": VIEW,
}

# Role -> the label its parts carry, and the labels it carries itself (edit is a part of admin, view of edit).
COLLECTING: dict[str, tuple[str, ...]] = {"admin": (), "edit": ("admin",), "view": ("edit",)}


def roles() -> list[dict[str, Any]]:
    """All of them as ClusterRoles, without the metadata that every bootstrap object gets."""
    made: list[dict[str, Any]] = [
        {"metadata": {"name": name}, "rules": rules} for name, rules in ROLES.items()
    ]
    for name, rules in AGGREGATED.items():
        label = AGGREGATE.format(name.rsplit("-", 1)[-1])
        made.append({"metadata": {"name": name, "labels": {label: "true"}}, "rules": rules})
    for name, parts in COLLECTING.items():
        labels = {AGGREGATE.format(part): "true" for part in parts}
        made.append(
            {
                "metadata": {"name": name, "labels": labels},
                "aggregationRule": {
                    "clusterRoleSelectors": [{"matchLabels": {AGGREGATE.format(name): "true"}}]
                },
            }
        )
    return made


BINDINGS: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "cluster-admin": ("cluster-admin", [("Group", "system:masters")]),
    "system:monitoring": ("system:monitoring", [("Group", "system:monitoring")]),
    "system:discovery": ("system:discovery", [("Group", "system:authenticated")]),
    "system:basic-user": ("system:basic-user", [("Group", "system:authenticated")]),
    "system:public-info-viewer": (
        "system:public-info-viewer",
        [("Group", "system:authenticated"), ("Group", "system:unauthenticated")],
    ),
    "system:service-account-issuer-discovery": (
        "system:service-account-issuer-discovery",
        [("Group", "system:serviceaccounts")],
    ),
}
