"""What is remembered, and that it stays small."""

from __future__ import annotations

from typing import Any

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
