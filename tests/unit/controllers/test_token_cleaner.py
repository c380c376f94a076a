"""Which auto-generated tokens are marked invalid, and which are deleted."""

from __future__ import annotations

from typing import Any

from bamikube.api.times import seconds
from bamikube.controllers.tokencleaner import INVALID_SINCE, LAST_USED, plan

Object = dict[str, Any]

YEAR = 365 * 86_400.0
NOW = seconds("2026-06-15T10:00:00Z")
ACCOUNT: Object = {"metadata": {"name": "bot", "namespace": "web", "uid": "a1"}, "secrets": [{"name": "t"}]}


def secret(name: str = "t", created: str = "2020-01-01T00:00:00Z", uid: str = "a1", **labels: str) -> Object:
    notes = {"kubernetes.io/service-account.name": "bot", "kubernetes.io/service-account.uid": uid}
    metadata = {"name": name, "namespace": "web", "creationTimestamp": created, "annotations": notes}
    if labels:
        metadata["labels"] = {label.replace("_", "-"): value for label, value in labels.items()}
    return {"metadata": metadata, "type": "kubernetes.io/service-account-token"}


def names(found: tuple[Object, ...]) -> list[str]:
    return [one["metadata"]["name"] for one in found]


def decided(
    made: Object, *, since: str = "2025-01-01", pods: tuple[Object, ...] = ()
) -> tuple[list[str], list[str]]:
    found = plan([made], {"web/bot": ACCOUNT}, pods, since, NOW, YEAR)
    return names(found.mark), names(found.delete)


def labelled(**labels: str) -> Object:
    known = {"used": LAST_USED, "invalid": INVALID_SINCE}
    made = secret()
    made["metadata"]["labels"] = {known[key]: value for key, value in labels.items()}
    return made


def test_old_unused_tokens_are_marked_and_a_year_later_deleted() -> None:
    assert decided(secret()) == (["t"], [])
    assert decided(labelled(used="2025-06-14")) == (["t"], [])
    assert decided(labelled(invalid="yesterday")) == (["t"], [])
    assert decided(labelled(invalid="2025-06-15")) == ([], [])
    assert decided(labelled(invalid="2025-06-14")) == ([], ["t"])
    assert decided(labelled(invalid="2025-06-14", used="2025-01-01")) == ([], ["t"])


def test_what_may_still_be_used_is_left_alone() -> None:
    mounting = {
        "metadata": {"name": "p", "namespace": "web"},
        "spec": {"volumes": [{"name": "v", "secret": {"secretName": "t"}}]},
    }
    nothing: tuple[list[str], list[str]] = ([], [])
    assert decided(secret(), pods=(mounting,)) == nothing
    assert decided(labelled(used="2025-06-15")) == nothing
    assert decided(labelled(used="long ago")) == nothing
    assert decided(secret(created="2025-07-01T00:00:00Z")) == nothing
    assert decided(secret("manual")) == nothing
    assert decided(secret(uid="a0")) == nothing
    assert decided({**secret(), "type": "Opaque"}) == nothing


def test_nothing_happens_before_uses_have_been_tracked_long_enough() -> None:
    assert decided(secret(), since="2025-06-13") == (["t"], [])
    assert decided(secret(), since="2025-06-15") == ([], [])
    assert decided(secret(), since="some day") == ([], [])
