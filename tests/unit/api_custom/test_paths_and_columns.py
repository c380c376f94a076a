"""JSONPath, and the cells of printer columns."""

from __future__ import annotations

from typing import Any

import pytest

from bamikube.api.custom import jsonpath
from bamikube.api.custom.printing import printer

OBJ: dict[str, Any] = {
    "metadata": {
        "name": "a",
        "creationTimestamp": "2024-01-01T00:00:00Z",
        "annotations": {"example.com/x": "y"},
    },
    "spec": {
        "n": 3,
        "f": 1.5,
        "on": True,
        "hosts": ["a", "b", "c"],
        "map": {"k": 1},
        "when": "2024-01-01T00:00:00Z",
    },
    "status": {
        "conditions": [
            {"type": "Ready", "status": "True", "n": 1},
            {"type": "Done", "status": "False", "n": 2},
        ]
    },
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".spec.n", [3]),
        ("{.spec.n}", [3]),
        ("$.spec.n", [3]),
        ("spec.n", [3]),
        (".spec.none", []),
        (".spec.n.deeper", []),
        (r".metadata.annotations.example\.com/x", ["y"]),
        (".metadata.annotations['example.com/x']", ["y"]),
        ('["spec"].n', [3]),
        (".spec.hosts[0]", ["a"]),
        (".spec.hosts[-1]", ["c"]),
        (".spec.hosts[5]", []),
        (".spec.hosts[*]", ["a", "b", "c"]),
        (".spec.hosts[1:]", ["b", "c"]),
        (".spec.hosts[0:3:2]", ["a", "c"]),
        (".spec.hosts[0,2]", ["a", "c"]),
        (".spec['n','f']", [3, 1.5]),
        ('.status.conditions[?(@.type=="Ready")].status', ["True"]),
        (".status.conditions[?(@.type == 'Done')].n", [2]),
        (".status.conditions[?(@.n>1)].type", ["Done"]),
        (".status.conditions[?(@.nothing)].type", []),
        ("..type", ["Ready", "Done"]),
        (".spec.map.*", [1]),
    ],
)
def test_paths(path: str, found: list[Any]) -> None:
    assert jsonpath.find(jsonpath.parse(path), OBJ) == found


@pytest.mark.parametrize(
    "path", [".a[", ".a[x]", ".a[]", ".a[?(]", ".a[?(@.b==c)]", ".a]b", ".a[1:2:0]", "..."]
)
def test_what_is_no_path(path: str) -> None:
    with pytest.raises(jsonpath.PathError):
        jsonpath.parse(path)


def test_plain_paths() -> None:
    assert jsonpath.plain_fields(".spec.n") == ["spec", "n"]
    assert jsonpath.plain_fields(r".spec.a\.b") == ["spec", "a.b"]
    for path in ("spec.n", ".spec.hosts[0]", ".spec..n", "."):
        assert jsonpath.plain_fields(path) is None


def test_cells() -> None:
    def column(kind: str, path: str) -> dict[str, Any]:
        return {"name": path, "type": kind, "jsonPath": path}

    made = printer(
        [
            column("integer", ".spec.n"),
            column("integer", ".spec.f"),
            column("integer", ".spec.on"),
            column("number", ".spec.f"),
            column("boolean", ".spec.on"),
            column("boolean", ".spec.n"),
            column("string", ".spec.n"),
            column("string", ".spec.map"),
            column("string", ".spec.on"),
            column("string", ".spec.none"),
            column("date", ".spec.when"),
            column("date", ".metadata.name"),
        ]
    )
    now = 1704067200.0 + 3600
    assert made.cells(OBJ, now) == [
        "a",
        3,
        1,
        None,
        1.5,
        True,
        None,
        "3",
        '{"k":1}',
        "true",
        None,
        "60m",
        "<invalid>",
    ]
    assert made.columns[1]["description"] == "Custom resource definition column (in JSONPath format): .spec.n"
    plain = printer(None)
    assert [each["name"] for each in plain.columns] == ["Name", "Age"] and plain.cells(OBJ, now) == [
        "a",
        "60m",
    ]
