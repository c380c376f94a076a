"""Keys given twice, and YAML that stands for more than it says."""

from __future__ import annotations

import json

import pytest
import yaml

from bamikube.apiserver.bodies import HostileYaml, duplicate_keys, survey_yaml


@pytest.mark.parametrize(
    ("body", "paths"),
    [
        ('{"a":1}', []),
        ('{ "a" : 1 }\n', []),
        ('{"a":1,"a":1}', ["a"]),
        ('{"a":{"b":[{"c":1,"d":2},{"c":1,"c":2}]}}', ["a.b[1].c"]),
        ('{"a":"\\u003c","b":{"x":1,"x":2,"x":3}}', ["b.x"]),
        ('{"a":"\\u0022\\u0022", "a" : 1}', ["a"]),
        ('{"a" : "\\"b", "c":[ 1.0 ]}', []),
    ],
)
def test_repeated_keys_of_json(body: str, paths: list[str]) -> None:
    found = duplicate_keys(body.encode(), json.loads(body))
    assert list(found.texts) == [f'duplicate field "{path}"' for path in paths]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a: 1\nb: [1, {c: 2}]\n", []),
        ("a: {b: 1, b: 2}\n", ['line 1: key "b" already set in map']),
        ("a:\n- x: 1\n  x: 2\n", ['line 3: key "x" already set in map']),
        ("\n1: x\n1: y\n", ["line 3: key 1 already set in map"]),
        ("base: &b {k: 1}\na:\n  <<: *b\n  k: 2\n", []),
    ],
)
def test_repeated_keys_of_yaml(text: str, found: list[str]) -> None:
    assert list(survey_yaml(text.encode()).texts) == found


def test_aliases_are_counted_before_they_are_built() -> None:
    lines = ["a0: &a0 [x, x, x, x]"] + [
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 40)
    ]
    with pytest.raises(HostileYaml, match="excessive aliasing"):
        survey_yaml("\n".join(lines).encode())


def test_what_contains_itself_is_refused() -> None:
    with pytest.raises(HostileYaml, match=r"\*a"):
        survey_yaml(b"a: &a [*a]")


def test_depth_is_bounded() -> None:
    with pytest.raises(HostileYaml, match="deeper"):
        survey_yaml(b"[" * 600 + b"]" * 600)


def test_broken_yaml_stays_a_yaml_error() -> None:
    with pytest.raises(yaml.YAMLError):
        survey_yaml(b"a: [")


def test_a_null_in_a_list_is_the_types_zero_value() -> None:
    from bamikube.api import schema

    rules = {"rules": [None, {"verbs": ["get", None]}]}
    assert not schema.check_definition("io.k8s.api.rbac.v1.Role", rules).errors
    assert rules == {"rules": [{}, {"verbs": ["get", ""]}]}
