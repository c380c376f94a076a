"""Every check of the Pod Security Standards: what it says, at which level, and since which version."""

from __future__ import annotations

from typing import Any

import pytest

from bamikube.api import podsecurity
from bamikube.api.podsecurity import LATEST, PolicyLevel, details, reasons

Object = dict[str, Any]


def pod(context: Object | None = None, containers: list[Object] | None = None, **spec: Any) -> Object:
    """A pod with container ``a``, whose securityContext is ``context``."""
    made: Object = {"name": "a", "image": "i"}
    if context is not None:
        made["securityContext"] = context
    return {"metadata": {"name": "p"}, "spec": {"containers": containers or [made], **spec}}


GOOD = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def good(**more: Any) -> Object:
    return GOOD | more


def told(obj: Object, level: str, version: int = LATEST) -> str:
    return details(podsecurity.evaluate(PolicyLevel(level, version), obj["metadata"], obj["spec"]))


APPARMOR = "container.apparmor.security.beta.kubernetes.io/a"


@pytest.mark.parametrize(
    ("obj", "message"),
    [
        (pod(), ""),
        (
            pod({"privileged": True}),
            'privileged (container "a" must not set securityContext.privileged=true)',
        ),
        (
            pod(hostNetwork=True, hostPID=True, hostIPC=True),
            "host namespaces (hostIPC=true, hostNetwork=true, hostPID=true)",
        ),
        (
            pod(volumes=[{"name": "v", "hostPath": {}}, {"name": "w", "hostPath": {}}]),
            'hostPath volumes (volumes "v", "w")',
        ),
        (
            pod(containers=[{"name": "a", "ports": [{"hostPort": 80}, {"hostPort": 8080}, {}]}]),
            'hostPort (container "a" uses hostPorts 80, 8080)',
        ),
        (
            pod(
                containers=[{"name": "a", "ports": [{"hostPort": 80}]}],
                initContainers=[{"name": "i", "ports": [{"hostPort": 80}]}],
            ),
            'hostPort (containers "i", "a" use hostPort 80)',
        ),
        (
            pod({"capabilities": {"add": ["NET_RAW", "SYS_ADMIN", "KILL"]}}),
            'non-default capabilities (container "a" must not include "NET_RAW", "SYS_ADMIN" in '
            "securityContext.capabilities.add)",
        ),
        (
            pod({"procMount": "Unmasked"}),
            'procMount (container "a" must not set securityContext.procMount to "Unmasked")',
        ),
        (
            pod(
                {"seLinuxOptions": {"type": "spc_t", "user": "u"}},
                securityContext={"seLinuxOptions": {"role": "r"}},
            ),
            'seLinuxOptions (pod and container "a" set forbidden securityContext.seLinuxOptions: type "spc_t"; '
            "user may not be set; role may not be set)",
        ),
        (
            pod(
                {"seccompProfile": {"type": "Unconfined"}},
                securityContext={"seccompProfile": {"type": "Unconfined"}},
            ),
            'seccompProfile (pod and container "a" must not set securityContext.seccompProfile.type to "Unconfined")',
        ),
        (
            pod(
                securityContext={"sysctls": [{"name": "kernel.msgmax"}, {"name": "net.ipv4.tcp_syncookies"}]}
            ),
            "forbidden sysctls (kernel.msgmax)",
        ),
        (
            pod({"windowsOptions": {"hostProcess": True}}),
            'hostProcess (container "a" must not set securityContext.windowsOptions.hostProcess=true)',
        ),
        (
            pod(securityContext={"appArmorProfile": {"type": "Unconfined"}}),
            'forbidden AppArmor profile (pod must not set AppArmor profile type to "Unconfined")',
        ),
        (
            pod() | {"metadata": {"annotations": {APPARMOR: "unconfined"}}},
            f'forbidden AppArmor profile (annotation "{APPARMOR}" must not set AppArmor profile type to "unconfined")',
        ),
        (pod() | {"metadata": {"annotations": {APPARMOR: "localhost/mine"}}}, ""),
        (
            pod(containers=[{"name": "a", "livenessProbe": {"httpGet": {"host": "10.0.0.1"}}}]),
            'probe or lifecycle host (container "a" uses probe or lifecycle host "10.0.0.1")',
        ),
        (
            pod(containers=[{"name": "a", "lifecycle": {"preStop": {"httpGet": {"host": "h"}}}}]),
            'probe or lifecycle host (container "a" uses probe or lifecycle host "h")',
        ),
        (
            pod(ephemeralContainers=[{"name": "e", "securityContext": {"privileged": True}}]),
            'privileged (container "e" must not set securityContext.privileged=true)',
        ),
    ],
)
def test_baseline(obj: Object, message: str) -> None:
    assert told(obj, "baseline") == message
    assert told(obj, "privileged") == ""


@pytest.mark.parametrize(
    ("obj", "message"),
    [
        (pod(good()), ""),
        (
            pod(),
            'allowPrivilegeEscalation != false (container "a" must set securityContext.allowPrivilegeEscalation=false), '
            'unrestricted capabilities (container "a" must set securityContext.capabilities.drop=["ALL"]), '
            'runAsNonRoot != true (pod or container "a" must set securityContext.runAsNonRoot=true), '
            'seccompProfile (pod or container "a" must set securityContext.seccompProfile.type to "RuntimeDefault" or '
            '"Localhost")',
        ),
        (
            pod(
                {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                securityContext={"runAsNonRoot": True, "seccompProfile": {"type": "Localhost"}},
            ),
            "",
        ),
        (
            pod(good(capabilities={"drop": ["NET_RAW"], "add": ["CHOWN"]})),
            'unrestricted capabilities (container "a" must set securityContext.capabilities.drop=["ALL"]; '
            'container "a" must not include "CHOWN" in securityContext.capabilities.add)',
        ),
        (
            pod(good(runAsUser=0), securityContext={"runAsNonRoot": False}),
            "runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false), "
            'runAsUser=0 (container "a" must not set runAsUser=0)',
        ),
        (
            pod(good(), volumes=[{"name": "v", "nfs": {}}, {"name": "s", "secret": {}}, {"name": "n"}]),
            'restricted volume types (volumes "v", "n" use restricted volume types "nfs", "unknown")',
        ),
        (
            pod(good(), volumes=[{"name": "v", "hostPath": {}}]),
            'restricted volume types (volume "v" uses restricted volume type "hostPath")',
        ),
        (
            pod(good(seccompProfile={"type": "Unconfined"})),
            'seccompProfile (container "a" must not set securityContext.seccompProfile.type to "Unconfined")',
        ),
        (
            pod(good(privileged=True)),
            'privileged (container "a" must not set securityContext.privileged=true)',
        ),
    ],
)
def test_restricted(obj: Object, message: str) -> None:
    assert told(obj, "restricted") == message


@pytest.mark.parametrize(
    ("obj", "level", "before", "since"),
    [
        (pod(containers=[{"name": "a", "startupProbe": {"tcpSocket": {"host": "h"}}}]), "baseline", 33, -34),
        (pod(securityContext={"sysctls": [{"name": "net.ipv4.tcp_rmem"}]}), "baseline", -31, 32),
        (pod(securityContext={"sysctls": [{"name": "net.ipv4.tcp_fin_timeout"}]}), "baseline", -28, 29),
        (
            pod(securityContext={"sysctls": [{"name": "net.ipv4.ip_local_reserved_ports"}]}),
            "baseline",
            -26,
            27,
        ),
        (pod({"seLinuxOptions": {"type": "container_engine_t"}}), "baseline", -30, 31),
        (pod({"seccompProfile": {"type": "Unconfined"}}), "baseline", 18, -19),
        (pod(good(runAsUser=0)), "restricted", 22, -23),
        (pod({**GOOD, "allowPrivilegeEscalation": None}), "restricted", 7, -8),
        (pod({**GOOD, "capabilities": {}}), "restricted", 21, -22),
        (pod({"runAsNonRoot": True}, os={"name": "windows"}), "restricted", -24, 25),
    ],
)
def test_versions(obj: Object, level: str, before: int, since: int) -> None:
    """A negative version is one in which the pod is forbidden."""
    for version in (before, since):
        assert bool(told(obj, level, abs(version))) is (version < 0), version


def test_seccomp_was_an_annotation_before_1_19() -> None:
    annotations = {"seccomp.security.alpha.kubernetes.io/pod": "unconfined"}
    obj = pod({"allowPrivilegeEscalation": False, "runAsNonRoot": True}) | {
        "metadata": {"annotations": annotations}
    }
    for level in ("baseline", "restricted"):
        assert told(obj, level, 18) == (
            'seccompProfile (forbidden annotation seccomp.security.alpha.kubernetes.io/pod="unconfined")'
        )


def test_short_form() -> None:
    obj = pod({"privileged": True}, hostNetwork=True)
    found = podsecurity.evaluate(PolicyLevel("baseline"), obj["metadata"], obj["spec"])
    assert reasons(found) == "host namespaces, privileged"


def test_labels() -> None:
    prefix = "pod-security.kubernetes.io/"
    policy = podsecurity.policy_of(
        {f"{prefix}enforce": "baseline", f"{prefix}enforce-version": "v1.28", f"{prefix}warn": "restricted"}
    )
    assert (str(policy.enforce), str(policy.warn), str(policy.audit)) == (
        "baseline:v1.28",
        "restricted:latest",
        "privileged:latest",
    )
    assert podsecurity.policy_of({"a": "b"}).asks_nothing
    wrong = podsecurity.policy_of(
        {f"{prefix}enforce": "strict", f"{prefix}warn": "x", f"{prefix}warn-version": "1.2"}
    )
    assert (wrong.enforce.level, wrong.warn.level) == ("restricted", "privileged")
    assert [cause.field for cause in wrong.causes] == [
        f"metadata.labels[{prefix}{name}]" for name in ("enforce", "warn", "warn-version")
    ]
    assert (
        wrong.causes[0].message == 'Invalid value: "strict": must be one of privileged, baseline, restricted'
    )


@pytest.mark.parametrize(
    ("new", "old", "verdict"),
    [
        ("baseline", "privileged", True),
        ("baseline", "restricted", False),
        ("restricted", "restricted", False),
        ("privileged", "restricted", False),
    ],
)
def test_what_is_stricter(new: str, old: str, verdict: bool) -> None:
    assert podsecurity.stricter(PolicyLevel(new), PolicyLevel(old)) is verdict
    if new != "privileged":
        assert podsecurity.stricter(PolicyLevel(new, 30), PolicyLevel(new, 20))
