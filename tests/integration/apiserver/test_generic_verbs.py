"""The generic verbs over real etcd."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bamikube.apiserver.server import ApiServer
from bamikube.kit.http import Response

from .conftest import Api

CMS = "/api/v1/namespaces/default/configmaps"


def cm(name: str, **more: Any) -> dict[str, Any]:
    metadata = {"name": name, **more.pop("metadata", {})}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, **more}


def version(obj: dict[str, Any]) -> int:
    return int(obj["metadata"]["resourceVersion"])


async def test_create_read_update_delete_tell_one_story(api: Api) -> None:
    made = await api.post(CMS, cm("a", data={"k": "1"}))
    assert made["metadata"]["uid"] and made["metadata"]["creationTimestamp"].endswith("Z")
    assert await api.get(f"{CMS}/a") == made
    changed = await api.put(f"{CMS}/a", made | {"data": {"k": "2"}})
    assert version(changed) > version(made)
    stale = await api.put(f"{CMS}/a", made | {"data": {"k": "3"}}, 409)
    assert stale["reason"] == "Conflict"
    again = await api.post(CMS, cm("a"), 409)
    assert again["reason"] == "AlreadyExists" and again["message"] == 'configmaps "a" already exists'
    gone = await api.delete(f"{CMS}/a")
    assert gone["status"] == "Success" and gone["details"]["uid"] == made["metadata"]["uid"]
    missing = await api.get(f"{CMS}/a", 404)
    assert missing["message"] == 'configmaps "a" not found'


async def test_an_update_that_changes_nothing_is_not_written(api: Api) -> None:
    made = await api.post(CMS, cm("same", data={"k": "1"}))
    assert version(await api.put(f"{CMS}/same", cm("same", data={"k": "1"}))) == version(made)
    assert version(await api.patch(f"{CMS}/same", {"data": {"k": "1"}})) == version(made)


async def test_generated_names_are_unique(api: Api) -> None:
    body = {"metadata": {"generateName": "job-"}}
    names = {(await api.post(CMS, body))["metadata"]["name"] for _ in range(20)}
    assert len(names) == 20 and all(name.startswith("job-") and len(name) == 9 for name in names)


async def test_when_no_name_is_left_the_client_may_try_again(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.server.world.chance, "suffix", lambda length: "a" * length)
    body = {"metadata": {"generateName": "same-"}}
    await api.post(CMS, body)
    refused = await api.post(CMS, body, 409)
    assert refused["message"] == (
        'configmaps "same-aaaaa" already exists, the server was not able to generate a unique name for the object'
    )
    assert (refused["reason"], refused["details"]["retryAfterSeconds"]) == ("AlreadyExists", 1)


async def test_concurrent_patches_all_arrive(api: Api) -> None:
    await api.post(CMS, cm("busy", data={}))
    await asyncio.gather(*(api.patch(f"{CMS}/busy", {"data": {f"k{i}": "x"}}) for i in range(8)))
    assert len((await api.get(f"{CMS}/busy"))["data"]) == 8


async def test_dry_run_writes_nothing(api: Api) -> None:
    assert (await api.post(f"{CMS}?dryRun=All", cm("dry")))["metadata"]["name"] == "dry"
    await api.get(f"{CMS}/dry", 404)
    wrong = await api.post(f"{CMS}?dryRun=Some", cm("dry"), 422)
    assert wrong["reason"] == "Invalid"


async def test_field_validation(api: Api) -> None:
    body = cm("odd") | {"surprise": 1}
    refused = await api.post(f"{CMS}?fieldValidation=Strict", body, 400)
    assert 'unknown field "surprise"' in refused["message"]
    answer = await api.raw("POST", CMS, body)
    assert isinstance(answer, Response) and answer.status == 201
    assert answer.headers["Warning"] == '299 - "unknown field \\"surprise\\""'


async def test_lists_are_paged_at_one_revision(api: Api) -> None:
    for i in range(7):
        await api.post(CMS, cm(f"p{i}"))
    first = await api.get(f"{CMS}?limit=3")
    assert first["metadata"]["remainingItemCount"] == 4
    await api.post(CMS, cm("p00"))  # between the pages: must not show up in the second
    second = await api.get(f"{CMS}?limit=3&continue={first['metadata']['continue']}")
    third = await api.get(f"{CMS}?limit=3&continue={second['metadata']['continue']}")
    names = [item["metadata"]["name"] for page in (first, second, third) for item in page["items"]]
    assert names == [f"p{i}" for i in range(7)]
    assert first["metadata"]["resourceVersion"] == third["metadata"]["resourceVersion"]
    assert "continue" not in third["metadata"]


async def test_an_exact_revision_is_read_from_history(api: Api) -> None:
    made = await api.post(CMS, cm("past", data={"k": "old"}))
    await api.put(f"{CMS}/past", cm("past", data={"k": "new"}))
    query = f"resourceVersion={version(made)}&resourceVersionMatch=Exact"
    listed = await api.get(f"{CMS}?{query}")
    assert [item["data"]["k"] for item in listed["items"] if item["metadata"]["name"] == "past"] == ["old"]
    future = await api.get(f"{CMS}?resourceVersion={version(made) + 10**6}", 504)
    assert "Too large resource version" in future["message"]
    bad = await api.get(f"{CMS}?resourceVersionMatch=Exact", 422)
    assert "resourceVersionMatch is forbidden unless resourceVersion is provided" in bad["message"]


async def test_selectors(api: Api) -> None:
    await api.post(CMS, cm("red", metadata={"labels": {"c": "red"}}))
    await api.post(CMS, cm("blue", metadata={"labels": {"c": "blue"}}))

    async def names(query: str) -> list[str]:
        return [item["metadata"]["name"] for item in (await api.get(f"{CMS}?{query}"))["items"]]

    assert await names("labelSelector=c%3Dred") == ["red"]
    assert await names("labelSelector=c%20in%20(red,blue)") == ["blue", "red"]
    assert await names("fieldSelector=metadata.name%3Dblue") == ["blue"]
    assert (await api.get(f"{CMS}?fieldSelector=data.k%3D1", 400))[
        "message"
    ] == '"data.k" is not a known field selector: only "metadata.name", "metadata.namespace"'


async def test_a_watch_sees_everything_in_order_and_resumes(api: Api) -> None:
    listed = await api.get(CMS)
    start = listed["metadata"]["resourceVersion"]
    watch = await api.watch(f"{CMS}?resourceVersion={start}")
    made = await api.post(CMS, cm("w", data={"k": "1"}))
    await api.patch(f"{CMS}/w", {"data": {"k": "2"}})
    await api.delete(f"{CMS}/w")
    seen = [await watch.next() for _ in range(3)]
    assert [event["type"] for event in seen] == ["ADDED", "MODIFIED", "DELETED"]
    revisions = [version(event["object"]) for event in seen]
    assert revisions == sorted(set(revisions))
    assert seen[2]["object"]["data"] == {"k": "2"}
    await watch.close()
    resumed = await api.watch(f"{CMS}?resourceVersion={version(made)}")
    assert await resumed.take(2) == [("MODIFIED", "w"), ("DELETED", "w")]
    await resumed.close()


async def test_a_selector_turns_changes_into_added_and_deleted(api: Api) -> None:
    watch = await api.watch(f"{CMS}?labelSelector=on%3Dyes&resourceVersion=0")
    await api.post(CMS, cm("t"))
    await api.patch(f"{CMS}/t", {"metadata": {"labels": {"on": "yes"}}})
    await api.patch(f"{CMS}/t", {"data": {"k": "v"}})
    await api.patch(f"{CMS}/t", {"metadata": {"labels": {"on": None}}})
    assert await watch.take(3) == [("ADDED", "t"), ("MODIFIED", "t"), ("DELETED", "t")]
    await watch.close()


async def test_initial_events_end_with_a_bookmark(api: Api) -> None:
    await api.post(CMS, cm("i"))
    query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    watch = await api.watch(f"{CMS}?{query}")
    while (event := await watch.next())["type"] == "ADDED":
        pass
    assert event["type"] == "BOOKMARK"
    assert event["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"] == "true"
    await watch.close()


async def test_a_revision_out_of_the_window_is_expired(api: Api) -> None:
    api.server.cache.slot(("", "configmaps")).window.floor = 10**9
    listed = await api.get(CMS)
    watch = await api.watch(f"{CMS}?resourceVersion={listed['metadata']['resourceVersion']}")
    event = await watch.next()
    assert (
        event["type"] == "ERROR" and event["object"]["code"] == 410 and event["object"]["reason"] == "Expired"
    )


async def test_finalizers_hold_and_let_go(api: Api) -> None:
    await api.post(CMS, cm("held", metadata={"finalizers": ["example.com/wait"]}))
    held = await api.delete(f"{CMS}/held")
    assert held["metadata"]["deletionTimestamp"]
    assert (await api.get(f"{CMS}/held"))["metadata"]["finalizers"] == ["example.com/wait"]
    await api.patch(f"{CMS}/held", {"metadata": {"finalizers": None}})
    await api.get(f"{CMS}/held", 404)


async def test_propagation_is_written_down_as_finalizers(api: Api) -> None:
    for policy, finalizer in (("Orphan", "orphan"), ("Foreground", "foregroundDeletion")):
        await api.post(CMS, cm(finalizer.lower()))
        marked = await api.delete(f"{CMS}/{finalizer.lower()}", {"propagationPolicy": policy})
        assert marked["metadata"]["finalizers"] == [finalizer]


async def test_another_object_than_meant(api: Api) -> None:
    made = await api.post(CMS, cm("meant"))
    uid, at = made["metadata"]["uid"], made["metadata"]["resourceVersion"]
    stored = (
        'Operation cannot be fulfilled on configmaps "{}": StorageError: invalid object, Code: 4, Key: {}, '
    )
    stored += (
        "ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: other, UID in "
    )
    stored += "object meta: {}"
    for name, there, target in (("meant", uid, "meant"), ("gone", "", "gone")):
        wrong = await api.put(f"{CMS}/{target}", cm(name, metadata={"uid": "other"}), 409)
        assert wrong["message"] == stored.format(name, f"/registry/configmaps/default/{name}", there)
        assert wrong["details"] == {"name": name, "kind": "configmaps"}
    leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
    lease = {"metadata": {"name": "gone", "uid": "other"}, "spec": {}}
    await api.put(f"{leases}/gone", lease, 409)  # though an update creates leases
    frozen = await api.patch(f"{CMS}/meant", {"metadata": {"uid": "other"}}, 422)
    assert frozen["message"].endswith('is invalid: metadata.uid: Invalid value: "other": field is immutable')
    record = 'Operation cannot be fulfilled on ConfigMap "meant": the {0} in the precondition (5) does not match the '
    record += "{0} in record ({1}). The object might have been {2}"
    for field, name, there, perhaps in (
        ("uid", "UID", uid, "deleted and then recreated"),
        ("resourceVersion", "ResourceVersion", at, "modified"),
    ):
        wrong = await api.call("DELETE", f"{CMS}/meant", {"preconditions": {field: "5"}}, 409)
        assert wrong["message"] == record.format(name, there, perhaps)
        assert wrong["details"]["kind"] == "ConfigMap"


async def test_a_collection_is_deleted_by_selector(api: Api) -> None:
    for i in range(30):
        await api.post(CMS, cm(f"c{i}", metadata={"labels": {"app": "load" if i % 3 else "keep"}}))
    await api.delete(f"{CMS}?labelSelector=app%3Dload")
    left = await api.get(f"{CMS}?labelSelector=app")
    assert [item["metadata"]["labels"]["app"] for item in left["items"]] == ["keep"] * 10


async def test_foreign_writes_move_the_revision_without_hurting(api: Api) -> None:
    from bamikube.store.port import Put

    await api.post(CMS, cm("mine"))
    for i in range(5):
        await api.store.txn([], [Put(b"/elsewhere/%d" % i, b"not json")])
    await api.store.txn([], [Put(b"/registry/configmaps/default/broken", b"{not json")])
    assert [item["metadata"]["name"] for item in (await api.get(CMS))["items"]] == ["mine"]


@pytest.mark.parametrize(
    ("method", "target", "body", "code"),
    [
        ("GET", "/api/v1/nothing", None, 404),
        ("GET", "/apis/nobody.io/v1/things", None, 404),
        ("POST", "/api/v1/configmaps", {}, 405),
        ("POST", CMS, b"{", 400),
        ("POST", CMS, [], 400),
        ("POST", CMS, {"kind": "Secret"}, 400),
        ("POST", CMS, {"metadata": "text"}, 400),
        ("POST", CMS, {"metadata": {"name": "x", "namespace": "other"}}, 400),
        ("POST", CMS, {"metadata": {"name": "No Good"}}, 422),
        ("POST", CMS, {"metadata": {}}, 422),
        ("GET", f"{CMS}?labelSelector=%3D%3D", None, 400),
        ("GET", f"{CMS}?limit=-1", None, 400),
        ("GET", f"{CMS}?continue=garbage", None, 400),
        ("GET", f"{CMS}?resourceVersion=x", None, 400),
        ("PATCH", f"{CMS}/x", {}, 415),
        ("OPTIONS", CMS, None, 405),
    ],
)
async def test_mistakes_are_never_a_5xx(api: Api, method: str, target: str, body: Any, code: int) -> None:
    await api.call(method, target, body, code)


async def test_media_types(api: Api) -> None:
    made = await api.raw(
        "POST", CMS, b"metadata: {name: y}\ndata: {when: '1'}\n", content_type="application/yaml"
    )
    assert made.status == 201
    refused = await api.raw("POST", CMS, b"x", content_type="text/csv")
    assert refused.status == 415
    assert (await api.raw("GET", f"{CMS}/y", accept="text/csv")).status == 406
    shown = await api.raw("GET", f"{CMS}/y", accept="application/yaml")
    assert shown.joined().startswith(b"apiVersion: v1\n")
    table = await api.get(CMS, accept="application/json;as=Table;v=v1;g=meta.k8s.io")
    assert table["kind"] == "Table" and table["rows"][0]["cells"][0] == "y"
    partial = await api.get(CMS, accept="application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io")
    assert partial["kind"] == "PartialObjectMetadataList" and "data" not in partial["items"][0]
    binary = await api.raw("GET", f"{CMS}/y", accept="application/vnd.kubernetes.protobuf")
    assert binary.joined().startswith(b"k8s\0")


async def test_who_may_not_is_told_so(api: Api) -> None:
    answer = await api.get(CMS, 403, x_test_user="eve")
    assert (
        answer["reason"] == "Forbidden"
        and 'User "eve" cannot list resource "configmaps"' in answer["message"]
    )


async def test_scale_reads_and_writes_replicas(api: Api) -> None:
    spec = {
        "replicas": 2,
        "selector": {"matchLabels": {"a": "b"}},
        "template": {
            "metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "nginx"}]},
        },
    }
    where = "/apis/apps/v1/namespaces/default/deployments"
    await api.post(where, {"metadata": {"name": "d"}, "spec": spec})
    scale = await api.get(f"{where}/d/scale")
    assert scale["spec"] == {"replicas": 2} and scale["status"]["selector"] == "a=b"
    scale["spec"]["replicas"] = 5
    assert (await api.put(f"{where}/d/scale", scale))["spec"]["replicas"] == 5
    assert (await api.patch(f"{where}/d/scale", {"spec": {"replicas": 0}}))["spec"] == {}
    shown = await api.get(f"{where}/d")
    assert shown["spec"]["replicas"] == 0 and shown["metadata"]["generation"] == 3


async def test_status_and_spec_are_kept_apart(api: Api) -> None:
    node = {"metadata": {"name": "n"}, "spec": {"podCIDR": "10.244.9.0/24"}}
    await api.post("/api/v1/nodes", node)
    body = {"metadata": {"name": "n", "labels": {"x": "y"}}, "status": {"phase": "Running"}}
    updated = await api.put("/api/v1/nodes/n/status", body)
    assert updated["spec"]["podCIDR"] == "10.244.9.0/24" and updated["status"]["phase"] == "Running"


def test_the_server_is_one_value() -> None:
    assert ApiServer.name == "apiserver"
