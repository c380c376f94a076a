"""What the resourcequota controller decides to write, and why."""

from __future__ import annotations

from typing import Any

from bamikube.controllers.resourcequota import plan

Object = dict[str, Any]
PODS = ("", "pods")
POD: Object = {"metadata": {"name": "p", "namespace": "default"}, "spec": {"containers": []}}


def a_quota(status: Object, **metadata: Any) -> Object:
    return {
        "metadata": {"name": "q", "namespace": "default", **metadata},
        "spec": {"hard": {"pods": "5"}},
        "status": status,
    }


def test_a_new_quota_gets_its_first_status() -> None:
    decided = plan(a_quota({}), {PODS: [POD]})
    assert decided.reason == "its limits have not been counted yet"
    assert decided.obj is not None and decided.obj["status"] == {"hard": {"pods": "5"}, "used": {"pods": "1"}}


def test_what_is_right_is_left_alone() -> None:
    right = a_quota({"hard": {"pods": "5"}, "used": {"pods": "1"}})
    assert plan(right, {PODS: [POD]}).obj is None
    assert plan(a_quota({}, deletionTimestamp="x"), {}).obj is None


def test_what_was_missed_is_corrected() -> None:
    decided = plan(a_quota({"hard": {"pods": "5"}, "used": {"pods": "3"}}), {PODS: [POD]})
    assert decided.reason == "something was missed"
    assert decided.obj is not None and decided.obj["status"]["used"] == {"pods": "1"}
