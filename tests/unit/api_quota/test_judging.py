"""Whether a write fits, to the letter of the message, and that charges add up to what a recount finds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bamikube.api import quota

Object = dict[str, Any]
PODS, CLAIMS = ("", "pods"), ("", "persistentvolumeclaims")


def a_quota(hard: dict[str, str], used: dict[str, str] | None = None, **spec: Any) -> Object:
    status = {"hard": hard, "used": dict.fromkeys(hard, "0") | (used or {})}
    return {
        "metadata": {"name": "q", "namespace": "default"},
        "spec": {"hard": hard, **spec},
        "status": status,
    }


def pod(
    requests: dict[str, str] | None = None, limits: dict[str, str] | None = None, **status: Any
) -> Object:
    resources = {"requests": requests or {}, "limits": limits or {}}
    return {
        "metadata": {"name": "p", "namespace": "default"},
        "spec": {"containers": [{"name": "c", "resources": resources}]},
        "status": status,
    }


def test_a_pod_that_fits_is_added() -> None:
    found = a_quota({"pods": "10", "requests.cpu": "4"}, {"pods": "9", "requests.cpu": "3500m"})
    verdict = quota.charge(found, PODS, None, pod({"cpu": "500m"}))
    assert verdict == quota.Charge({"pods": "10", "requests.cpu": "4"})


@pytest.mark.parametrize(
    ("hard", "used", "new", "message"),
    [
        (
            {"pods": "1"},
            {"pods": "1"},
            pod(),
            "exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1",
        ),
        (
            {"requests.memory": "1Gi", "cpu": "1", "pods": "5"},
            {"requests.memory": "512Mi"},
            pod({"cpu": "2", "memory": "600Mi"}),
            "exceeded quota: q, requested: cpu=2,requests.memory=600Mi, used: cpu=0,requests.memory=512Mi, "
            "limited: cpu=1,requests.memory=1Gi",
        ),
        (
            {"requests.cpu": "1", "limits.memory": "1Gi"},
            {},
            pod(),
            "failed quota: q: must specify limits.memory for: c; requests.cpu for: c",
        ),
        ({"cpu": "1"}, {}, pod(), "failed quota: q: must specify cpu for: c"),
    ],
)
def test_refusals(hard: dict[str, str], used: dict[str, str], new: Object, message: str) -> None:
    assert quota.charge(a_quota(hard, used), PODS, None, new).refused == message


def test_what_only_shrinks_or_ends_is_never_refused() -> None:
    full = a_quota({"pods": "1", "cpu": "1"}, {"pods": "2", "cpu": "2"})
    assert quota.charge(full, PODS, pod({"cpu": "1"}), None).used == {"pods": "1", "cpu": "1"}
    ended = pod({"cpu": "1"}, phase="Succeeded")
    assert quota.charge(full, PODS, pod({"cpu": "1"}), ended).used == {"pods": "1", "cpu": "1"}
    assert quota.charge(full, PODS, pod({"cpu": "1"}), pod({"cpu": "1"}, phase="Running")) == quota.Charge()
    assert quota.charge(a_quota({"pods": "1"}), PODS, pod(), None).used == {"pods": "0"}


def test_growing_is_judged() -> None:
    found = a_quota({"cpu": "2"}, {"cpu": "1"})
    grown = quota.charge(found, PODS, pod({"cpu": "1"}), pod({"cpu": "3"}))
    assert grown.refused == "exceeded quota: q, requested: cpu=2, used: cpu=1, limited: cpu=2"
    assert quota.charge(found, PODS, pod({"cpu": "1"}), pod({"cpu": "2"})).used == {"cpu": "2"}


def test_a_quota_that_was_never_counted_limits_nothing_yet() -> None:
    found = a_quota({"pods": "0"})
    del found["status"]
    assert quota.charge(found, PODS, None, pod()) == quota.Charge()
    assert not quota.is_settled(found)


def test_scopes_keep_others_out() -> None:
    found = a_quota({"pods": "0"}, scopes=["BestEffort"])
    assert quota.charge(found, PODS, None, pod({"cpu": "1"})) == quota.Charge()
    assert quota.charge(found, PODS, None, pod()).refused


def test_counting_from_scratch() -> None:
    found = a_quota({"pods": "5", "requests.cpu": "4", "count/widgets.example.com": "1", "nonsense": "1"})
    other = pod({"cpu": "1"}) | {"metadata": {"name": "o", "namespace": "other"}}
    objects = {PODS: [pod({"cpu": "250m"}), pod({"cpu": "1"}), pod(phase="Failed"), other]}
    assert quota.counted_kinds(found) == [PODS, ("example.com", "widgets")]
    used = quota.recount(found, lambda kind: objects.get(kind, []))
    assert used == {"pods": "2", "requests.cpu": "1250m", "count/widgets.example.com": "0", "nonsense": "0"}
    assert quota.is_settled(quota.settled(found, used))


AMOUNTS = st.sampled_from(["100m", "0.5", "1", "1500m", "2"])
PODS_MADE = st.builds(
    lambda cpu, phase, deadline: (
        pod({"cpu": cpu}, phase=phase)
        | ({"spec": pod({"cpu": cpu})["spec"] | {"activeDeadlineSeconds": 5}} if deadline else {})
    ),
    AMOUNTS,
    st.sampled_from(["Pending", "Running", "Succeeded"]),
    st.booleans(),
)


@given(
    st.lists(st.tuples(st.integers(0, 4), st.none() | PODS_MADE), max_size=30),
    st.sampled_from([{}, {"scopes": ["Terminating"]}]),
)
def test_charges_add_up_to_a_recount(writes: list[tuple[int, Object | None]], spec: dict[str, Any]) -> None:
    found = a_quota({"pods": "3", "cpu": "4", "count/pods": "4"}, **spec)
    there: dict[int, Object] = {}
    for number, new in writes:
        verdict = quota.charge(found, PODS, there.get(number), new)
        if verdict.refused:
            continue
        if verdict.used:
            found = found | {"status": found["status"] | {"used": verdict.used}}
        if new is None:
            there.pop(number, None)
        else:
            there[number] = new
        assert found["status"]["used"] == quota.recount(found, lambda kind: there.values())
