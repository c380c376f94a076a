"""Statuses of failures, as they go over the wire."""

from __future__ import annotations

from bamikube.api import errors
from bamikube.api.errors import Cause


def test_what_several_causes_say_is_said_once_and_an_empty_field_is_left_out() -> None:
    twice = Cause("FieldValueRequired", "Required value", "spec.a")
    status = errors.invalid("Pod", "p", [twice, twice]).status()
    assert status["message"] == 'Pod "p" is invalid: spec.a: Required value'
    assert len(status["details"]["causes"]) == 2
    plain = errors.invalid("Pod", "p", [Cause("FieldValueForbidden", "Forbidden: no", ""), twice]).status()
    assert plain["message"] == 'Pod "p" is invalid: [Forbidden: no, spec.a: Required value]'
    assert plain["details"]["causes"][0] == {"reason": "FieldValueForbidden", "message": "Forbidden: no"}


def test_details_are_there_where_kubernetes_makes_them_even_when_they_say_nothing() -> None:
    assert errors.no_such_path().status()["details"] == {} == errors.method_not_allowed().status()["details"]
    assert "details" not in errors.bad_request("x").status()
