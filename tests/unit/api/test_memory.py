"""What is remembered, and that it stays small."""

from __future__ import annotations

from typing import Any

import pytest

from bamikube.api import defaults, fields, schema, table, validation
from bamikube.api.memory import Approved


def test_what_was_found_good_is_not_asked_about_again() -> None:
    asked: list[Any] = []
    approved = Approved(2)

    def judge(value: Any, wrong: list[str]) -> list[str]:
        def rule() -> list[str]:
            asked.append(value)
            return wrong

        return approved.judge(value, rule)

    assert judge({"a": 1}, []) == judge({"a": 1}, ["never asked"]) == []
    for other in (1.0, True, "1"):  # equal to Python, or to a reader, but not the same JSON
        assert judge({"a": other}, ["asked"]) == ["asked"]
    assert asked == [{"a": 1}, {"a": 1.0}, {"a": True}, {"a": "1"}]


def test_what_was_found_bad_is_asked_about_each_time() -> None:
    approved = Approved(2)
    assert [approved.judge("x", lambda n=n: [n]) for n in (1, 2)] == [[1], [2]]


def test_only_so_many_are_kept() -> None:
    approved = Approved(2)
    for value in range(3):
        assert approved.judge(value, list) == []
    assert approved.judge(2, lambda: ["asked"]) == []
    assert approved.judge(0, lambda: ["asked"]) == ["asked"]


def test_what_is_no_json_is_judged_without_being_remembered() -> None:
    approved = Approved(2)
    assert [approved.judge(2**70, lambda n=n: [n]) for n in (1, 2)] == [[1], [2]]


PODS, DEPLOYMENTS = table.by_name("pods"), table.by_name("deployments.apps")


def pod(*variables: Any, image: str = "a") -> dict[str, Any]:
    container = {"name": "web", "image": image, "env": list(variables)}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": {"containers": [container]},
    }


GOOD = [{"name": f"V{number}", "value": "x"} for number in range(5)]


def test_a_long_list_is_checked_again_as_soon_as_anything_is_wrong_with_it() -> None:
    for _ in range(2):
        assert schema.check(PODS, pod(*GOOD)).unknown == []
        assert schema.check(PODS, pod(*GOOD, {"name": "A", "odd": 1})).unknown == [
            "spec.containers[0].env[5].odd"
        ]
        null = pod(*GOOD, {"name": "A", "value": None})
        schema.check(PODS, null)
        assert null["spec"]["containers"][0]["env"][5] == {"name": "A"}


def test_what_a_long_list_states_is_that_of_its_own_elements() -> None:
    kind = fields.defined_object_type(PODS.definition)
    for image in ("a", "b"):
        for last in ({"name": "A"}, {"name": "B"}, {"name": "A", "value": "x"}):
            stated = kind.stated(pod(*GOOD, last, image=image))
            variables = stated["f:spec"]["f:containers"]['k:{"name":"web"}']["f:env"]
            assert list(variables) == [
                *(f'k:{{"name":"{one["name"]}"}}' for one in GOOD),
                f'k:{{"name":"{last["name"]}"}}',
            ]
            assert ("f:value" in variables[f'k:{{"name":"{last["name"]}"}}']) is ("value" in last)
        with pytest.raises(fields.Unfit):
            kind.stated(pod(*GOOD, GOOD[0], image=image))


def test_elements_with_many_parts_state_their_own() -> None:
    kind = fields.defined_object_type(PODS.definition)
    parts: dict[str, Any] = {
        "ports": [{"containerPort": 80}],
        "env": [{"name": "A", "value": "x"}],
        "volumeMounts": [{"name": "v", "mountPath": "/v"}],
        "livenessProbe": {"periodSeconds": 5},
        "readinessProbe": {"periodSeconds": 5},
    }
    seen = []
    for more in ({}, {"image": "b"}, {"tty": True}, {"ports": [{"containerPort": 81}]}, {"tty": False}):
        obj = pod()
        obj["spec"]["containers"] = [{"name": "web", **parts, **more}]
        seen.append(kind.stated(obj)["f:spec"]["f:containers"]['k:{"name":"web"}'])
    assert "f:image" not in seen[0] and "f:image" in seen[1] and "f:image" not in seen[2]
    assert seen[2] == seen[4] == seen[0] | {"f:tty": {}}
    assert list(seen[3]["f:ports"]) == ['k:{"containerPort":81,"protocol":"TCP"}']


def test_a_template_is_approved_without_its_images() -> None:
    def causes(image: str | None, **spec: Any) -> list[str]:
        container = {"name": "web"} if image is None else {"name": "web", "image": image}
        template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container], **spec}}
        obj = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "n"},
            "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template},
        }
        defaults.apply(DEPLOYMENTS, obj)
        return [cause.field for cause in validation.validate_create(DEPLOYMENTS, obj)]

    image = "spec.template.spec.containers[0].image"
    for _ in range(2):
        assert causes("a") == causes("b") == []
        assert causes(" a") == causes("") == causes(None) == [image]
        assert causes("a", nodeName="B!") == ["spec.template.spec.nodeName"]
        twice = [{"name": "v", "emptyDir": {}}, {"name": "v", "emptyDir": {}}]
        assert causes("a", volumes=twice) == ["spec.template.spec.volumes[1].name"]
