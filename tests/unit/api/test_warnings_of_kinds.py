"""What authors are told about objects that are accepted: the texts, and that good objects say nothing."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from bamikube.api import table, warnings

from .test_rules_of_kinds import BACKEND, container, ingress, made, obj, pod, policy, service, stateful


def said(given: dict[str, Any]) -> list[str]:
    new = made(given)
    resource = table.by_kind(new["apiVersion"], new["kind"])
    assert resource is not None
    return warnings.on_create(resource, new)


def deployment(template: dict[str, Any], name: str = "a") -> dict[str, Any]:
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    template.setdefault("metadata", {})["labels"] = {"a": "b"}
    return obj("Deployment", "apps/v1", name, spec=spec)


TERM = {"topologyKey": "zone"}
CASES: list[tuple[dict[str, Any], list[str]]] = [
    (pod(), []),
    (service(), []),
    (stateful(), []),
    (
        pod() | {"metadata": {"name": "a.b"}},
        [
            "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; "
            "a DNS label is recommended: [must not contain dots]"
        ],
    ),
    (
        container(env=[{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]),
        ['spec.containers[0].env[1]: hides previous definition of "A", which may be dropped when using apply'],
    ),
    (container(env=[{"name": "A", "value": "1"}, {"name": "A", "value": "$(A)2"}]), []),
    (
        container(ports=[{"containerPort": 80, "name": "a"}, {"containerPort": 80, "name": "b"}]),
        ["spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]"],
    ),
    (
        container(ports=[{"containerPort": 80, "hostPort": 81}, {"containerPort": 80}]),
        ["spec.containers[0].ports[1]: overlapping port definition with spec.containers[0].ports[0]"],
    ),
    (
        container(resources={"requests": {"memory": "100m"}}),
        ['spec.containers[0].resources.requests[memory]: fractional byte value "100m" is invalid, must be an integer'],
    ),
    (
        pod(nodeSelector={"beta.kubernetes.io/os": "linux"}),
        ['spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead'],
    ),
    (
        pod(imagePullSecrets=[{"name": "a"}, {"name": "a"}]),
        ['spec.imagePullSecrets[1].name: duplicate name "a"'],
    ),
    (
        pod(affinity={"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [TERM]}}),
        [
            "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector: "
            "a null labelSelector results in matching no pod"
        ],
    ),
    (
        pod(volumes=[{"name": "v", "gitRepo": {"repository": "r"}}]),
        ["spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+"],
    ),
    (
        pod(terminationGracePeriodSeconds=-1),
        [
            "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"
        ],
    ),
    (
        deployment({"spec": {"containers": [{"name": "a", "image": "a"}],
                             "nodeSelector": {"beta.kubernetes.io/arch": "x"}}}, "d.e"),
        [
            "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; "
            "a DNS label is recommended: [must not contain dots]",
            "spec.template.spec.nodeSelector[beta.kubernetes.io/arch]: "
            'deprecated since v1.14; use "kubernetes.io/arch" instead',
        ],
    ),
    (
        stateful(revisionHistoryLimit=-1),
        [
            "spec.revisionHistoryLimit: a negative value retains all historical revisions; "
            "a value >= 0 is recommended"
        ],
    ),
    (
        service(externalName="x.io"),
        ['spec.externalName is ignored when spec.type is not "ExternalName"'],
    ),
    (
        service(clusterIP="None", sessionAffinity="ClientIP"),
        ["spec.SessionAffinity is ignored for headless services"],
    ),
    *(
        (service(externalIPs=[text]), [f"spec.externalIPs[0]: {words}"])
        for text, words in (
            (
                "::ffff:1.2.3.4",
                'non-standard IP address "::ffff:1.2.3.4" will be considered invalid in a future Kubernetes release: '
                'use "1.2.3.4"',
            ),
            ("2001:DB8::1", 'IPv6 address "2001:DB8::1" should be in RFC 5952 canonical format ("2001:db8::1")'),
        )
    ),
    *(
        (service(type="LoadBalancer", loadBalancerSourceRanges=[text]), [f"spec.loadBalancerSourceRanges[0]: {words}"])
        for text, words in (
            (
                "::ffff:1.2.3.0/120",
                'non-standard CIDR value "::ffff:1.2.3.0/120" will be considered invalid in a future Kubernetes release: '
                'use "1.2.3.0/24"',
            ),
            (
                "2001:DB8::/32",
                'IPv6 CIDR value "2001:DB8::/32" should be in RFC 5952 canonical format ("2001:db8::/32")',
            ),
        )
    ),
    (
        ingress(defaultBackend=BACKEND)
        | {"metadata": {"name": "a", "annotations": {"kubernetes.io/ingress.class": "x"}}},
        [
            "annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead"
        ],
    ),
    (
        policy(ingress=[{"from": [{"ipBlock": {"cidr": "10.1.2.3/16"}}]}]),
        [
            'spec.ingress[0].from[0].ipBlock.cidr: CIDR value "10.1.2.3/16" is ambiguous in this context '
            '(should be "10.1.0.0/16" or "10.1.2.3/32"?)'
        ],
    ),
    (
        obj(
            "PersistentVolumeClaim",
            spec={"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1500m"}}},
        ),
        ['spec.resources.requests[storage]: fractional byte value "1500m" is invalid, must be an integer'],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("given", "expected"), CASES)
def test_what_is_said(given: dict[str, Any], expected: list[str]) -> None:
    assert said(given) == expected


def test_a_change_of_the_scale_repeats_nothing() -> None:
    old = made(deployment({"spec": {"containers": [{"name": "a", "image": "a"}], "nodeSelector": {"beta.kubernetes.io/os": "x"}}}))  # fmt: skip
    resource = table.by_name("deployments.apps")
    assert warnings.on_update(resource, copy.deepcopy(old), old) == []
    new = copy.deepcopy(old)
    new["metadata"]["generation"] += 1
    assert len(warnings.on_update(resource, new, old)) == 1
