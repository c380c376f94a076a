"""Numbers as strangers write them: digits that are none to Go, and more of them than any number has."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bamikube.api import defaults, table
from bamikube.api.cel.moments import parse_duration
from bamikube.api.cel.types import CelError
from bamikube.api.custom.formats import FORMATS
from bamikube.api.numbers import whole
from bamikube.api.validation.batch import index_count
from bamikube.api.validation.cron import schedule
from bamikube.apiserver.openapi.operations import operations

LONG = "9" * 5000


@given(st.one_of(st.text(), st.integers(0, 2**80).map(str)))
def test_whole_is_what_go_reads_as_an_unsigned_int64(text: str) -> None:
    number = whole(text)
    if number is None:
        assert not (text.isascii() and text.isdigit()) or int(text) >= 1 << 63
    else:
        assert number == int(text) and 0 <= number < 1 << 63


def test_zeros_in_front_do_not_count() -> None:
    assert whole("0" * 50 + "7") == 7 and whole("0" * 50) == 0


@pytest.mark.parametrize("number", ["²", "٣", LONG, "1" * 20])
def test_no_digits_of_strangers_stop_a_rule(number: str) -> None:
    assert schedule("f", f"{number} * * * *")[0].message.startswith("Invalid value")
    assert schedule("f", f"*/{number} * * * *")[0].message.startswith("Invalid value")
    with pytest.raises(ValueError, match="cannot convert string to integer for index"):
        index_count(number, 5)
    assert not FORMATS["creditcard"](f"4111{number}11111111")
    with pytest.raises(CelError):
        parse_duration(f"{LONG}h")


ZEROS: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    ("priorityclasses", "scheduling.k8s.io", {}, {"value": 0}),
    ("controllerrevisions", "apps", {}, {"revision": 0}),
    ("resourceslices", "resource.k8s.io", {"spec": {"pool": {"name": "a"}}}, {"spec": {"pool": {"name": "a", "generation": 0}}}),
]  # fmt: skip


@pytest.mark.parametrize(("plural", "group", "given", "wanted"), ZEROS)
def test_what_typed_clients_need_is_there_though_nobody_said_it(
    plural: str, group: str, given: dict[str, Any], wanted: dict[str, Any]
) -> None:
    row = next(row for row in table.TABLE if (row.plural, row.group) == (plural, group))
    defaults.apply(row, given)
    assert {name: given.get(name) for name in wanted} == wanted


def test_documents_say_what_delete_answers() -> None:
    answers = {one.path: one.answers for one in operations(table.TABLE) if one.action == "delete"}
    assert answers["/api/v1/namespaces/{namespace}/pods/{name}"] == "io.k8s.api.core.v1.Pod"
    assert answers["/apis/storage.k8s.io/v1/csinodes/{name}"] == "io.k8s.api.storage.v1.CSINode"
    assert answers["/api/v1/namespaces/{namespace}/configmaps/{name}"].endswith(".Status")
