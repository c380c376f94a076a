"""Since when what stands behind a Service is different."""

from __future__ import annotations

from typing import Any

from bamikube.controllers import endpoints, endpoints_model, endpointslice
from bamikube.controllers.triggertimes import ANNOTATION, TriggerTimes, annotated

BORN, EARLY, LATE = "2026-01-01T10:00:00Z", "2026-01-01T11:00:00Z", "2026-01-01T12:00:00Z"


def service(made: str = BORN) -> dict[str, Any]:
    meta = {"name": "s", "namespace": "default", "uid": "u", "creationTimestamp": made}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta,
        "spec": {"selector": {"a": "b"}, "ports": [{"port": 80}], "clusterIP": "1.1.1.1"},
    }


def pod(name: str, since: str, ready: bool = True) -> dict[str, Any]:
    turned = {"type": "Ready", "status": str(ready), "lastTransitionTime": since}
    return {
        "metadata": {"name": name, "namespace": "default", "uid": name, "labels": {"a": "b"}},
        "spec": {},
        "status": {"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}], "conditions": [turned]},
    }


def test_a_service_seen_for_the_first_time_says_when_it_was_made() -> None:
    times = TriggerTimes()
    assert times.changed("k", service(), [pod("a", EARLY)]) == BORN
    assert times.changed("k", service(), [pod("a", EARLY)]) == ""
    times.forget("k")
    assert times.changed("k", service(), [pod("a", EARLY)]) == BORN


def test_the_earliest_of_what_is_new_counts() -> None:
    times = TriggerTimes()
    times.changed("k", service(), [pod("a", EARLY)])
    assert (
        times.changed("k", service(), [pod("a", LATE), pod("b", "2026-01-01T11:30:00Z")])
        == "2026-01-01T11:30:00Z"
    )
    assert (
        times.changed("k", service(), [pod("b", "2026-01-01T11:30:00Z")]) == ""
    )  # one that went changed nothing
    assert times.changed("k", service(LATE), []) == LATE  # another of the same name
    assert times.changed("k", service(LATE), [{"metadata": {"name": "c"}}]) == ""


def test_what_is_written_says_the_moment_and_a_write_for_another_reason_takes_it_off() -> None:
    found = endpoints_model.backends(service(), [pod("a", EARLY)])
    made = endpoints.plan(service(), found, None, EARLY)
    assert made is not None and made["metadata"]["annotations"] == {ANNOTATION: EARLY}
    assert endpoints.plan(service(), found, made, "") is None  # nothing to write: the annotation stays
    labelled = service()
    labelled["metadata"]["labels"] = {"x": "y"}
    again = endpoints.plan(labelled, found, made, "")
    assert again is not None and again["metadata"]["annotations"] == {}

    (slice_,) = endpointslice.plan(service(), found, [], {}, EARLY).create
    assert slice_["metadata"]["annotations"] == {ANNOTATION: EARLY}
    slice_["metadata"]["name"] = "x"
    assert endpointslice.plan(service(), found, [slice_], {}, "").update == []
    turned = endpoints_model.backends(service(), [pod("a", LATE, ready=False)])
    (written,) = endpointslice.plan(service(), turned, [slice_], {}, LATE).update
    assert written["metadata"]["annotations"] == {ANNOTATION: LATE}
    assert annotated({"a": "b", ANNOTATION: EARLY}, "") == {"a": "b"}
