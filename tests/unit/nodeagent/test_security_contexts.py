"""What a pod's and a container's security contexts come to, in the kubelet's words where they cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bamikube.nodeagent.container import security
from bamikube.nodeagent.container.env import ConfigError
from bamikube.nodeagent.container.security import NodeSecurity
from bamikube.nodeagent.node.facts import throttles
from bamikube.nodeagent.pod.admission import apparmor
from bamikube.nodeagent.runtime.port import Handler, Image, Profile
from tests.simulation import virtual
from tests.support.hollow_pods import HollowNode

JSON = dict[str, Any]
WHERE = '(pod: "web_default(u)", container: c)'
ROOT = Image("i")


def pod(own: JSON | None = None, whole: JSON | None = None, **annotations: str) -> tuple[JSON, JSON]:
    container: JSON = {"name": "c", "image": "i"} | ({"securityContext": own} if own else {})
    meta = {"name": "web", "namespace": "default", "uid": "u", "annotations": annotations}
    return {
        "metadata": meta,
        "spec": {"containers": [container], "securityContext": whole or {}},
    }, container


@pytest.mark.parametrize(
    ("own", "whole", "image", "said"),
    [
        ({"runAsUser": 0}, {}, ROOT, f"container's runAsUser breaks non-root policy {WHERE}"),
        ({}, {"runAsUser": 0}, ROOT, f"container's runAsUser breaks non-root policy {WHERE}"),
        ({}, {}, ROOT, f"container has runAsNonRoot and image will run as root {WHERE}"),
        ({}, {}, Image("i", uid=0), f"container has runAsNonRoot and image will run as root {WHERE}"),
        (
            {},
            {},
            Image("i", username="nginx"),
            "container has runAsNonRoot and image has non-numeric user (nginx), "
            f"cannot verify user is non-root {WHERE}",
        ),
        (
            {},
            {},
            Image("i", uid=2**31),
            "container has runAsNonRoot and image has an invalid user id (2147483648). (Must be 1-(2147483647)): "
            f"must be between 0 and 2147483647, inclusive {WHERE}",
        ),
    ],
)
def test_root_is_refused_where_it_may_not_be(own: JSON, whole: JSON, image: Image, said: str) -> None:
    made, container = pod(own, whole | {"runAsNonRoot": True})
    with pytest.raises(ConfigError) as refused:
        security.user(made, container, image)
    assert str(refused.value) == said


def test_whoever_is_not_root_may_run() -> None:
    made, container = pod({"runAsUser": 7}, {"runAsNonRoot": True, "runAsUser": 0})
    assert security.user(made, container, ROOT) == (7, "", None)
    made, container = pod({}, {"runAsNonRoot": True})
    assert security.user(made, container, Image("i", uid=65534)) == (65534, "", None)
    made, container = pod({"runAsNonRoot": False}, {"runAsNonRoot": True, "runAsGroup": 5})
    assert security.user(made, container, ROOT) == (0, "", 5)
    assert security.user(made, container, Image("i", username="nginx")) == (None, "nginx", 5)


def test_the_group_of_the_volumes_comes_first() -> None:
    made, _ = pod(whole={"supplementalGroups": [4000, 2000, 1], "fsGroup": 2000})
    assert security.supplemental_groups(made) == (2000, 4000, 1)
    assert security.supplemental_groups(pod()[0]) == ()


def test_seccomp_profiles_of_the_node_lie_in_its_folder() -> None:
    node = NodeSecurity("/k/seccomp")
    for own, whole, expected in (
        ({}, {}, Profile("Unconfined")),
        ({}, {"type": "RuntimeDefault"}, Profile("RuntimeDefault")),
        ({"type": "Unconfined"}, {"type": "RuntimeDefault"}, Profile("Unconfined")),
        (
            {"type": "Localhost", "localhostProfile": "a/b.json"},
            {},
            Profile("Localhost", "/k/seccomp/a/b.json"),
        ),
    ):
        made, container = pod(
            {"seccompProfile": own} if own else None, {"seccompProfile": whole} if whole else None
        )
        assert security.seccomp(made, container, node) == expected
    made, container = pod({"seccompProfile": {"type": "Localhost", "localhostProfile": ""}})
    with pytest.raises(ConfigError, match="localhostProfile must be set if seccompProfile type is Localhost"):
        security.seccomp(made, container, node)


def test_the_node_may_confine_all_that_say_nothing() -> None:
    node = NodeSecurity(seccomp_default=True)
    assert security.seccomp(*pod(), node) == Profile("RuntimeDefault")
    made, container = pod({"seccompProfile": {"type": "Unconfined"}})
    assert security.seccomp(made, container, node) == Profile("Unconfined")


def test_apparmor_by_field_and_by_annotation() -> None:
    key = security.APPARMOR + "c"
    assert security.apparmor(*pod()) is None
    assert security.apparmor(*pod(**{key: "runtime/default"})) == Profile("RuntimeDefault")
    assert security.apparmor(*pod(**{key: "localhost/k8s"})) == Profile("Localhost", "k8s")
    assert security.apparmor(*pod(**{key: "nonsense"})) is None
    whole = {"appArmorProfile": {"type": "RuntimeDefault"}}
    assert security.apparmor(*pod(None, whole)) == Profile("RuntimeDefault")
    assert security.apparmor(*pod(None, whole, **{key: "unconfined"})) == Profile("Unconfined")
    own = {"appArmorProfile": {"type": "Localhost", "localhostProfile": "mine"}}
    assert security.apparmor(*pod(own, whole, **{key: "unconfined"})) == Profile("Localhost", "mine")
    with pytest.raises(ConfigError, match="missing localhost apparmor profile name"):
        security.apparmor(*pod({"appArmorProfile": {"type": "Localhost"}}))


def test_an_annotation_asks_for_apparmor_too() -> None:
    key = security.APPARMOR + "c"
    assert apparmor(pod(**{key: "unconfined"})[0], False) is None
    assert apparmor(pod(**{key: "localhost/k8s"})[0], True) is None
    refusal = apparmor(pod(**{key: "localhost/k8s"})[0], False)
    assert refusal == ("AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host")


def test_heat_is_hidden_where_processors_tell_of_it(tmp_path: Path) -> None:
    (tmp_path / "cpu0/thermal_throttle").mkdir(parents=True)
    (tmp_path / "cpu1").mkdir()
    node = NodeSecurity(masked=throttles(tmp_path))
    masked, readonly = security.hidden({"name": "c"}, node)
    assert masked[-1] == str(tmp_path / "cpu0/thermal_throttle") and "/proc/kcore" in masked
    assert readonly == security.READONLY
    for own in ({"privileged": True}, {"procMount": "Unmasked"}):
        assert security.hidden({"name": "c", "securityContext": own}, node) == ((), ())


@pytest.mark.parametrize(
    ("handler", "said"),
    [
        ("", "runtime does not support user namespaces"),
        ("able", None),
        ("old", 'RuntimeClass handler "old" does not support user namespaces'),
        (
            "gone",
            'RuntimeClass handler "gone" does not support user namespaces: the handler "gone" is not known',
        ),
    ],
)
def test_a_handler_has_to_say_that_it_maps_users(handler: str, said: str | None) -> None:
    told = (Handler(""), Handler("able", user_namespaces=True), Handler("old"))
    if said is None:
        security.check_user_namespace(handler, told)
    else:
        with pytest.raises(ConfigError) as caught:
            security.check_user_namespace(handler, told)
        assert str(caught.value) == f"can't set `spec.hostUsers: false`, {said}"


def test_users_of_its_own_are_refused_not_ignored() -> None:
    async def story() -> None:
        async with HollowNode() as node:
            node.run("web", containers=[{"name": "app"}], hostUsers=False)
            await node.until(lambda: bool(node.api.said("FailedCreatePodSandBox")))
            text = "can't set `spec.hostUsers: false`, runtime does not support user namespaces"
            assert node.api.said("FailedCreatePodSandBox")[0] == f"Failed to create pod sandbox: {text}"
            node.run("other", containers=[{"name": "app"}], hostUsers=True)
            await node.until(lambda: bool(node.api.said("Started")))

    virtual.run(story())
