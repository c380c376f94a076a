"""kubectl's dialect of JSONPath."""

from __future__ import annotations

import pytest

from bamikube.cli import jsonpath
from bamikube.cli.errors import CliError

DATA = {
    "kind": "List",
    "items": [
        {
            "metadata": {"name": "a", "labels": {"x.y/z": "1"}},
            "n": 1,
            "status": [{"type": "Ready", "ok": True}],
        },
        {"metadata": {"name": "b"}, "n": 2, "status": [{"type": "Disk", "ok": False}]},
    ],
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{.kind}", "List"),
        (".kind", "List"),
        ("kind is {.kind}!", "kind is List!"),
        ("{.items[*].metadata.name}", "a b"),
        ("{.items[0].metadata.name}", "a"),
        ("{.items[-1:].metadata.name}", "b"),
        ("{.items[0:1].n}", "1"),
        ("{.items[0].metadata.labels.x\\.y/z}", "1"),
        ("{.items[0].metadata.labels['x.y/z']}", "1"),
        ("{.items[0]['n','status']}", '1 [{"type":"Ready","ok":true}]'),
        ("{.items[?(@.n>1)].metadata.name}", "b"),
        ('{.items[?(@.metadata.name=="a")].n}', "1"),
        ('{.items[0].status[?(@.type=="Ready")].ok}', "true"),
        ("{..name}", "a b"),
        ('{range .items[*]}{.metadata.name}{"\\t"}{.n}{"\\n"}{end}', "a\t1\nb\t2\n"),
        ("{.items[*].missing}", ""),
        ("{.items[0].metadata}", '{"name":"a","labels":{"x.y/z":"1"}}'),
        ("{$.kind}", "List"),
        ("{.items[?(@.metadata.labels)].metadata.name}", "a"),
    ],
)
def test_expressions(template: str, text: str) -> None:
    assert jsonpath.render(template, DATA) == text


@pytest.mark.parametrize(
    "template", ["{.items[", "{.items", "{range .items[*]}x", "{end}", "{.items[x]}", "{.items[9]}"]
)
def test_faulty_templates(template: str) -> None:
    with pytest.raises(CliError, match="jsonpath"):
        jsonpath.render(template, DATA)
