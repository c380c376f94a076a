"""PodSecurity: who is refused, who is warned, and what a namespace's labels are answered with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from bamikube.api.podsecurity import PolicyLevel
from bamikube.apiserver.admission import configuration
from bamikube.apiserver.admission import pod_security_figures as figures
from bamikube.apiserver.admission.pod_security import LOOKED_AT, PodSecurity, would_not_return
from bamikube.apiserver.identity import User

from .conftest import DictReader, Object, admit, context, pod, refusal

PREFIX = "pod-security.kubernetes.io/"


def label(reader: DictReader, **labels: str) -> Object:
    named = {f"{PREFIX}{name.replace('_', '-')}": value for name, value in labels.items()}
    namespace = {"metadata": {"name": "default", "labels": named}}
    reader.put(("", "namespaces"), namespace)
    return namespace


BAD = pod(containers=[{"name": "c", "image": "i", "securityContext": {"privileged": True}}])
WHY = 'privileged (container "c" must not set securityContext.privileged=true)'


async def test_a_namespace_without_labels_lets_everything_in(reader: DictReader) -> None:
    ctx = context("pods", BAD)
    await admit(PodSecurity(reader), ctx)
    assert not ctx.warnings and ctx.annotations == {f"{PREFIX}enforce-policy": "privileged:latest"}


async def test_the_file_gives_defaults_and_exemptions(reader: DictReader, tmp_path: Path) -> None:
    section = {
        "apiVersion": "pod-security.admission.config.k8s.io/v1",
        "kind": "PodSecurityConfiguration",
        "defaults": {"enforce": "baseline", "enforce-version": "v1.30", "warn": "restricted"},
        "exemptions": {"namespaces": ["infra"], "usernames": ["root"], "runtimeClasses": ["vm"]},
    }
    plugins = [{"name": "PodSecurity", "configuration": section}]
    head = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration"}
    file = tmp_path / "admission.yaml"
    file.write_text(yaml.safe_dump(head | {"plugins": plugins}))
    plugin = PodSecurity(reader, configuration.read(str(file)).pod_security)
    error = await refusal(plugin, context("pods", BAD))
    assert f'violates PodSecurity "baseline:v1.30": {WHY}' in error.message
    label(reader, enforce="privileged", warn="privileged")
    ctx = context("pods", BAD)
    await admit(plugin, ctx)
    assert ctx.annotations == {f"{PREFIX}enforce-policy": "privileged:v1.30"}
    label(reader)
    ctx = context("pods", BAD, user=User("root", ()))
    await admit(plugin, ctx)
    assert ctx.annotations == {f"{PREFIX}exempt": "user"} and not ctx.warnings
    vm = {**BAD, "spec": {**BAD["spec"], "runtimeClassName": "vm"}}
    ctx = context("pods", vm)
    await admit(plugin, ctx)
    assert ctx.annotations == {f"{PREFIX}exempt": "runtimeClass"}
    reader.put(("", "pods"), vm)
    old = {"metadata": {"name": "default", "labels": {f"{PREFIX}enforce": "privileged"}}}
    ctx = context("namespaces", {"metadata": {"name": "default", "labels": {}}}, "UPDATE", old=old)
    await admit(plugin, ctx)
    assert not ctx.warnings
    labels = {f"{PREFIX}enforce": "restricted", f"{PREFIX}warn-version": "v1.29"}
    infra: Object = {"metadata": {"name": "infra", "labels": labels}}
    said = (
        'namespace "infra" is exempt from Pod Security, and the policy '
        "(enforce=restricted:v1.30, warn=restricted:v1.29) will be ignored"
    )
    for ctx in (
        context("namespaces", infra),
        context("namespaces", infra, "UPDATE", old={"metadata": {"name": "infra"}}),
    ):
        await admit(plugin, ctx)
        assert ctx.warnings == [said]
    same = context("namespaces", infra, "UPDATE", old=infra)
    await admit(plugin, same)
    assert not same.warnings
    for wrong, why in (
        ({"defaults": {"enforce": "strict"}}, "must be one of privileged, baseline, restricted"),
        ({"exemptions": {"users": ["a"]}}, "unknown fields users"),
    ):
        with pytest.raises(ValueError, match=why):
            configuration.pod_security(section | wrong, "file")


async def test_enforce_refuses_pods(reader: DictReader) -> None:
    plugin = PodSecurity(reader)
    label(reader, enforce="baseline", warn="baseline")
    ctx = context("pods", BAD)
    error = await refusal(plugin, ctx)
    assert (error.code, error.message) == (
        403,
        f'pods "p" is forbidden: violates PodSecurity "baseline:latest": {WHY}',
    )
    assert not ctx.warnings
    label(reader)
    await admit(plugin, context("pods", BAD))


async def test_warn_and_audit_tell(reader: DictReader) -> None:
    plugin = PodSecurity(reader)
    label(reader, warn="baseline", warn_version="v1.30", audit="baseline")
    ctx = context("pods", BAD)
    await admit(plugin, ctx)
    assert ctx.warnings == [f'would violate PodSecurity "baseline:v1.30": {WHY}']
    assert (
        ctx.annotations[f"{PREFIX}audit-violations"] == f'would violate PodSecurity "baseline:latest": {WHY}'
    )


@pytest.mark.parametrize(
    ("resource", "spec"),
    [
        ("deployments.apps", {"template": BAD}),
        ("jobs.batch", {"template": BAD}),
        ("cronjobs.batch", {"jobTemplate": {"spec": {"template": BAD}}}),
        ("replicationcontrollers", {"template": BAD}),
    ],
)
async def test_what_makes_pods_is_only_told(reader: DictReader, resource: str, spec: Any) -> None:
    plugin = PodSecurity(reader)
    label(reader, enforce="restricted", warn="baseline")
    ctx = context(resource, {"metadata": {"name": "d"}, "spec": spec})
    await admit(plugin, ctx)
    assert ctx.warnings == [f'would violate PodSecurity "baseline:latest": {WHY}']
    empty = context("replicationcontrollers", {"metadata": {"name": "d"}, "spec": {}})
    await admit(plugin, empty)
    assert not empty.warnings


async def test_updates_that_change_nothing_of_importance_pass(reader: DictReader) -> None:
    plugin = PodSecurity(reader)
    label(reader, enforce="baseline")
    labelled = BAD | {"metadata": BAD["metadata"] | {"labels": {"a": "b"}}}
    await admit(plugin, context("pods", labelled, "UPDATE", old=BAD))
    await admit(plugin, context("pods", BAD, "UPDATE", old=pod(), subresource="status"))
    image = pod(containers=[BAD["spec"]["containers"][0] | {"image": "j"}])
    await refusal(plugin, context("pods", image, "UPDATE", old=BAD))
    debug = BAD | {"spec": BAD["spec"] | {"ephemeralContainers": [{"name": "e", "image": "i"}]}}
    await refusal(plugin, context("pods", debug, "UPDATE", old=BAD, subresource="ephemeralcontainers"))


async def test_tightening_a_namespace_names_the_pods_that_would_not_return(reader: DictReader) -> None:
    plugin = PodSecurity(reader)
    old = {"metadata": {"name": "default", "labels": {}}}
    new = label(reader, enforce="baseline")
    for name in ("c", "b", "a"):
        reader.put(("", "pods"), BAD | {"metadata": {"name": name, "namespace": "default"}})
    reader.put(("", "pods"), pod("z", hostNetwork=True))
    reader.put(("", "pods"), pod("fine"))
    ctx = context("namespaces", new, "UPDATE", old=old)
    await admit(plugin, ctx)
    assert ctx.warnings == [
        'existing pods in namespace "default" violate the new PodSecurity enforce level "baseline:latest"',
        "a (and 2 other pods): privileged",
        "z: host namespaces",
    ]
    same = context("namespaces", new, "UPDATE", old=new)
    await admit(plugin, same)
    assert not same.warnings


async def test_labels_that_cannot_be_read_are_refused(reader: DictReader) -> None:
    plugin = PodSecurity(reader)
    wrong = label(reader, enforce="strict")
    error = await refusal(plugin, context("namespaces", wrong))
    assert (
        error.code == 422 and 'Invalid value: "strict": must be one of privileged, baseline' in error.message
    )
    await admit(plugin, context("namespaces", wrong, "UPDATE", old=wrong))
    ctx = context("pods", pod())
    error = await refusal(plugin, ctx)
    assert 'violates PodSecurity "restricted:latest"' in error.message
    said = f'metadata.labels[{PREFIX}enforce]: Invalid value: "strict": must be one of privileged, baseline, restricted'
    assert ctx.annotations[f"{PREFIX}error"] == f"Failed to parse policy: {said}"


def test_of_too_many_pods_one_of_each_controller_is_looked_at_first() -> None:
    owner = [{"uid": "rs", "controller": True}]
    many = [
        BAD | {"metadata": {"name": f"p{at:05}", "ownerReferences": owner}} for at in range(LOOKED_AT + 1)
    ]
    last = pod("z", hostNetwork=True)
    said = would_not_return("default", [*many, last], PolicyLevel("baseline"))
    assert said[0] == (
        f"new PodSecurity enforce level only checked against the first {LOOKED_AT} of {LOOKED_AT + 2} existing pods"
    )
    assert said[2:] == [f"p00000 (and {LOOKED_AT - 2} other pods): privileged", "z: host namespaces"]


async def test_decisions_are_counted(reader: DictReader) -> None:
    plugin = PodSecurity(reader)
    labels = ("deny", "baseline", "latest", "enforce", "create", "pod", "")
    before = figures._EVALUATIONS.labels(*labels)._value.get()
    label(reader, enforce="baseline")
    await refusal(plugin, context("pods", BAD))
    assert figures._EVALUATIONS.labels(*labels)._value.get() == before + 1
