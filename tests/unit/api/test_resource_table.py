"""The table of resources is complete, unambiguous, and agrees with the schemas."""

from __future__ import annotations

import collections

from bamikube.api import schema, table

ROWS = table.TABLE


def test_every_row_has_a_definition_that_says_the_same_kind() -> None:
    for row in ROWS:
        kinds = schema.definition(row.definition)["x-kubernetes-group-version-kind"]
        assert {"group": row.group, "version": row.version, "kind": row.kind} in kinds, row.definition


def test_every_stable_kind_of_the_schemas_has_a_row() -> None:
    subresources = {"TokenRequest", "Scale", "Eviction"}
    meta = {
        "APIGroup",
        "APIGroupList",
        "APIResourceList",
        "APIVersions",
        "DeleteOptions",
        "Status",
        "WatchEvent",
    }
    known = {(row.api_version, row.kind) for row in ROWS}
    for name in schema.definition_names():
        for each in schema.definition(name).get("x-kubernetes-group-version-kind", ()):
            api_version = f"{each['group']}/{each['version']}" if each["group"] else each["version"]
            if each["version"] not in ("v1", "v2") or each["kind"].endswith("List"):
                continue
            if each["kind"] not in subresources | meta:
                assert (api_version, each["kind"]) in known


def test_paths_kinds_and_short_names_are_unambiguous() -> None:
    assert len({(row.group, row.version, row.plural) for row in ROWS}) == len(ROWS)
    owners = collections.defaultdict(set)
    for row in ROWS:
        for short in row.short_names:
            owners[short].add(row.plural)
    assert all(len(plurals) == 1 for plurals in owners.values()), owners


def test_lookups() -> None:
    assert table.by_name("deployments.apps").kind == "Deployment"
    assert table.by_name("horizontalpodautoscalers.autoscaling").version == "v2"
    assert table.find("", "v1", "pods") is table.by_kind("v1", "Pod")
    assert table.find("apps", "v1beta1", "deployments") is None


def test_events_share_one_storage_and_autoscalers_one_version() -> None:
    event = table.by_name("events.events.k8s.io")
    assert event.storage_key == ("", "events")
    assert table.storage_row(event) is table.by_name("events")
    old = table.find("autoscaling", "v1", "horizontalpodautoscalers")
    assert old is not None and table.storage_row(old).version == "v2"
    pods = table.by_name("pods")
    assert table.storage_row(pods) is pods


def test_get_all_shows_what_kubernetes_shows() -> None:
    shown = {row.plural for row in ROWS if "all" in row.categories}
    assert shown == {
        "pods",
        "replicationcontrollers",
        "services",
        "daemonsets",
        "deployments",
        "replicasets",
        "statefulsets",
        "horizontalpodautoscalers",
        "cronjobs",
        "jobs",
    }
