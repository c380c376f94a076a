"""What bounds pods and those who write them: accounts, mirror pods, priorities, rights, tolerations."""

from __future__ import annotations

import pytest

from bamikube.api.predicates.tolerations import covers, merged
from bamikube.api.table import by_name
from bamikube.api.validation import validate_create
from bamikube.apiserver.admission.priority import Priority
from bamikube.apiserver.admission.rbac_escalation import RbacEscalation
from bamikube.apiserver.admission.service_account import ServiceAccount
from bamikube.apiserver.admission.toleration_restriction import (
    ClusterTolerations,
    PodTolerationRestriction,
)
from bamikube.apiserver.authz.authorizer import Authorizer
from bamikube.apiserver.identity import MASTERS, User
from bamikube.kit.world import World

from .conftest import DictReader, Object, admit, container, context, pod, refusal

ROOT = User("root", (MASTERS,))
ANNOTATED = {"kubernetes.io/enforce-mountable-secrets": "true"}


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"volumes": [{"name": "v", "secret": {"secretName": "mine"}}]}, ""),
        (
            {"volumes": [{"name": "v", "secret": {"secretName": "x"}}]},
            'volume with secret.secretName="x" is not allowed because service account bot does not reference that secret',
        ),
        (
            {"initContainers": [{"name": "i", "envFrom": [{"secretRef": {"name": "x"}}]}]},
            'init container i with envFrom referencing secret.secretName="x" is not allowed because',
        ),
        (
            {
                "containers": [
                    {
                        "name": "c",
                        "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "x", "key": "k"}}}],
                    }
                ]
            },
            'container c with envVar A referencing secret.secretName="x" is not allowed because',
        ),
        ({"imagePullSecrets": [{"name": "pull"}]}, ""),
        (
            {"imagePullSecrets": [{"name": "pull"}, {"name": "x"}]},
            'imagePullSecrets[1].name="x" is not allowed because service account bot does not reference that '
            "imagePullSecret",
        ),
    ],
)
async def test_an_account_may_limit_the_secrets_of_its_pods(
    reader: DictReader, spec: Object, why: str
) -> None:
    account: Object = {
        "metadata": {"name": "bot", "namespace": "default", "annotations": ANNOTATED},
        "secrets": [{"name": "mine"}],
        "imagePullSecrets": [{"name": "pull"}],
    }
    reader.put(("", "serviceaccounts"), account)
    plugin = ServiceAccount(reader, World())
    made = pod(serviceAccountName="bot", **spec)
    if why:
        assert why in (await refusal(plugin, context("pods", made))).message
        reader.put(("", "serviceaccounts"), {**account, "metadata": {"name": "bot", "namespace": "default"}})
    await admit(plugin, context("pods", made))
    debug = [{"name": "d", "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "x", "key": "k"}}}]}]
    reader.put(("", "serviceaccounts"), account)
    debugged = pod(serviceAccountName="bot", ephemeralContainers=debug)
    asked = context("pods", debugged, "UPDATE", old=made, subresource="ephemeralcontainers")
    said = (await refusal(plugin, asked)).message
    assert (
        'ephemeral container d with envVar A referencing secret.secretName="x" is not allowed because' in said
    )


async def test_mirror_pods_open_nothing_to_their_node(reader: DictReader) -> None:
    plugin = ServiceAccount(reader, World())
    token = {"sources": [{"serviceAccountToken": {"path": "t"}}]}
    for spec, why in (
        ({"serviceAccountName": "bot"}, "a mirror pod may not reference service accounts"),
        ({"imagePullSecrets": [{"name": "x"}]}, "a mirror pod may not reference secrets"),
        (
            {"volumes": [{"name": "v", "projected": token}]},
            "a mirror pod may not use ServiceAccountToken volume projections",
        ),
    ):
        mirror = pod(**spec)
        mirror["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "hash"}
        assert why in (await refusal(plugin, context("pods", mirror))).message


async def test_a_priority_class_that_another_server_has_just_made_counts(reader: DictReader) -> None:
    plugin = Priority(reader)
    said = (await refusal(plugin, context("pods", pod(priorityClassName="high")))).message
    assert "no PriorityClass with name high was found" in said

    async def consistent(timeout: float = 3.0) -> bool:
        reader.put(("scheduling.k8s.io", "priorityclasses"), {"metadata": {"name": "high"}, "value": 7})
        return True

    reader.consistent = consistent  # type: ignore[method-assign]
    assert (await admit(plugin, context("pods", pod(priorityClassName="high"))))["spec"]["priority"] == 7


async def test_who_hands_out_rights_he_lacks_is_named_with_his_groups(reader: DictReader) -> None:
    plugin = RbacEscalation(Authorizer(reader))
    rules = [{"verbs": ["get"], "apiGroups": ["apps"], "resources": ["deployments"]}]
    role = {"metadata": {"name": "r", "namespace": "default"}, "rules": rules}
    bob = User("bob", ("dev", "system:authenticated"))
    error = await refusal(plugin, context("roles.rbac.authorization.k8s.io", role, user=bob))
    assert error.message == (
        'roles.rbac.authorization.k8s.io "r" is forbidden: user "bob" (groups=["dev" "system:authenticated"]) is '
        "attempting to grant RBAC permissions not currently held:\n"
        '{APIGroups:["apps"], Resources:["deployments"], Verbs:["get"]}'
    )
    await admit(plugin, context("roles.rbac.authorization.k8s.io", role, user=ROOT))


@pytest.mark.parametrize(
    ("name", "value", "default", "why"),
    [
        ("system-node-critical", 2_000_001_000, False, ""),
        ("system-node-critical", 5, False, "value of system-node-critical PriorityClass must be 2000001000"),
        (
            "system-node-critical",
            2_000_001_000,
            True,
            "globalDefault of system-node-critical PriorityClass must be false",
        ),
        ("system-mine", 5, False, "system-mine is not a known system priority class"),
    ],
)
def test_priority_classes_of_the_system(name: str, value: int, default: bool, why: str) -> None:
    policy = "PreemptLowerPriority"
    made = {"metadata": {"name": name}, "value": value, "globalDefault": default, "preemptionPolicy": policy}
    causes = validate_create(by_name("priorityclasses.scheduling.k8s.io"), made)
    reserved = (
        "Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: "
    )
    assert [cause.message for cause in causes] == ([reserved + why] if why else [])


async def test_what_the_pods_of_a_namespace_tolerate(reader: DictReader) -> None:
    gpu = {"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}
    cluster = ClusterTolerations((gpu,), ({"operator": "Exists", "effect": "NoSchedule"},))
    plugin = PodTolerationRestriction(reader, cluster)
    reader.put(("", "namespaces"), {"metadata": {"name": "default"}})
    made = await admit(plugin, context("pods", pod()))
    assert made["spec"]["tolerations"] == [gpu]
    asking = pod(containers=[container("c", requests={"cpu": "1"})], tolerations=[{"operator": "Exists"}])
    assert "conflict with its cluster whitelist" in (await refusal(plugin, context("pods", asking))).message
    notes = {
        "scheduler.alpha.kubernetes.io/defaultTolerations": '[{"key": "a", "operator": "Equal", "value": "b"}]',
        "scheduler.alpha.kubernetes.io/tolerationsWhitelist": '[{"key": "a"}, {"key": "a", "value": "b"}]',
    }
    reader.put(("", "namespaces"), {"metadata": {"name": "default", "annotations": notes}})
    made = await admit(plugin, context("pods", pod()))
    assert made["spec"]["tolerations"] == [{"key": "a", "operator": "Equal", "value": "b"}]
    other = pod(tolerations=[{"key": "c", "operator": "Exists"}])
    assert "conflict with its namespace whitelist" in (await refusal(plugin, context("pods", other))).message
    notes["scheduler.alpha.kubernetes.io/tolerationsWhitelist"] = "[]"
    made = await admit(plugin, context("pods", asking))
    assert made["spec"]["tolerations"] == [
        {"operator": "Exists"}
    ]  # covers what was given, and memory pressure
    notes["scheduler.alpha.kubernetes.io/defaultTolerations"] = "a"
    assert "is no list of tolerations" in (await refusal(plugin, context("pods", pod()))).message


def test_one_toleration_may_cover_another() -> None:
    ever, hour = {"key": "k", "operator": "Exists", "effect": "NoExecute"}, 3600
    bounded = {**ever, "tolerationSeconds": hour}
    assert covers({"operator": "Exists"}, bounded) and covers(ever, bounded) and not covers(bounded, ever)
    assert covers(bounded, {**ever, "tolerationSeconds": 60})
    equal = {"key": "k", "value": "v"}
    assert covers(equal, {**equal, "effect": "NoSchedule"}) and not covers(
        equal, {"key": "k", "operator": "Exists"}
    )
    assert not covers(equal, {"key": "k", "value": "w"}) and not covers(
        {"key": "x", "operator": "Exists"}, equal
    )
    assert merged([bounded, equal], [ever, equal]) == [equal, ever]
