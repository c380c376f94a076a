"""Parameters of reads, forms of answers, and the small print of HTTP, over real etcd."""

from __future__ import annotations

import struct
from typing import Any

import orjson
import pytest

from bamikube.api import protobuf
from bamikube.kit.http import Response, Stream

from .conftest import Api

CMS = "/api/v1/namespaces/default/configmaps"
JOBS = "/apis/batch/v1/namespaces/default/jobs"
PARTIAL = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
PARTIALS = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
TABLE = "application/json;as=Table;g=meta.k8s.io;v=v1"
PROTOBUF = "application/vnd.kubernetes.protobuf"


def cm(name: str, **fields: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}} | fields


async def compact(api: Api) -> None:
    """Make everything before now unreadable."""
    await api.store.compact(await api.store.revision())


async def test_a_list_goes_on_after_its_revision_is_compacted(api: Api) -> None:
    for number in range(5):
        await api.post(CMS, cm(f"c{number}"))
    first = await api.get(f"{CMS}?limit=2")
    await api.post(CMS, cm("c10"))  # shows up on the second page: this list is inconsistent
    await api.delete(f"{CMS}/c3")
    await api.get(
        f"{CMS}/c3", 404
    )  # until the cache sees the changes it can tell what was before, which is no error
    await compact(api)
    expired = await api.get(f"{CMS}?limit=2&continue={first['metadata']['continue']}", 410)
    assert expired["reason"] == "Expired" and "results in an inconsistent list" in expired["message"]
    token = expired["metadata"]["continue"]
    names = []
    while token:
        page = await api.get(f"{CMS}?limit=2&continue={token}")
        names += [each["metadata"]["name"] for each in page["items"]]
        token = page["metadata"].get("continue")
    assert names == ["c10", "c2", "c4"]
    old = first["metadata"]["resourceVersion"]
    gone = await api.get(f"{CMS}?resourceVersion={old}&resourceVersionMatch=Exact", 410)
    assert gone["message"] == "The resourceVersion for the provided list is too old."
    assert gone["metadata"] == {}


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("resourceVersionMatch=Foo&resourceVersion=1", 'Unsupported value: "Foo": supported values: "Exact", "NotOlderThan", ""'),
        ("resourceVersionMatch=Exact&resourceVersion=0", 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'),
        ("resourceVersionMatch=Exact&resourceVersion=5&continue=x", "resourceVersionMatch is forbidden when continue is provided"),
        ("sendInitialEvents=true", "sendInitialEvents is forbidden for list"),
        ("watch=1&sendInitialEvents=true", "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"),
        ("watch=1&resourceVersionMatch=NotOlderThan", "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"),
        ("watch=1&sendInitialEvents=true&resourceVersionMatch=Exact", 'Unsupported value: "Exact": supported values: "NotOlderThan"'),
    ],
)  # fmt: skip
async def test_parameters_that_do_not_go_together(api: Api, query: str, said: str) -> None:
    refused = await api.get(f"{CMS}?{query}", 422)
    assert (
        refused["message"].startswith('ListOptions.meta.k8s.io "" is invalid: ')
        and said in refused["message"]
    )


async def test_metadata_alone_for_lists_and_watches(api: Api) -> None:
    await api.post(CMS, cm("m", data={"k": "v"}))
    listed = await api.get(CMS, accept=PARTIALS)
    assert (listed["kind"], listed["apiVersion"]) == ("PartialObjectMetadataList", "meta.k8s.io/v1")
    assert all("data" not in each for each in listed["items"])
    one = await api.get(f"{CMS}/m", accept=PARTIAL)
    assert (one["kind"], one["metadata"]["name"], "data" in one) == ("PartialObjectMetadata", "m", False)
    query = "resourceVersion=0&fieldSelector=metadata.name%3Dm&allowWatchBookmarks=true"
    watch = await api.watch(f"{CMS}?{query}", accept=PARTIAL)
    event = await watch.next()
    assert (event["type"], event["object"]["kind"]) == ("ADDED", "PartialObjectMetadata")
    await watch.close()


async def test_tables_for_lists_and_watches(api: Api) -> None:
    await api.post(CMS, cm("t", data={"k": "v"}))
    whole = await api.get(f"{CMS}/t?includeObject=Object", accept=TABLE)
    assert whole["rows"][0]["object"]["data"] == {"k": "v"}
    bare = await api.get(f"{CMS}?includeObject=None", accept=TABLE)
    assert all("object" not in row for row in bare["rows"])
    watch = await api.watch(f"{CMS}?resourceVersion=0&fieldSelector=metadata.name%3Dt", accept=TABLE)
    event = await watch.next()
    assert event["object"]["kind"] == "Table" and event["object"]["rows"][0]["cells"][:2] == ["t", 1]
    await watch.close()


async def test_protobuf_lists_and_watches(api: Api) -> None:
    await api.post(CMS, cm("p", data={"k": "v"}))
    answer = await api.raw("GET", CMS, accept=PROTOBUF)
    listed = protobuf.decode(answer.joined())
    assert answer.content_type == PROTOBUF and listed["kind"] == "ConfigMapList"
    assert [each["data"] for each in listed["items"] if each["metadata"]["name"] == "p"] == [{"k": "v"}]
    query = "watch=true&resourceVersion=0&fieldSelector=metadata.name%3Dp"
    stream = await api.raw("GET", f"{CMS}?{query}", accept=PROTOBUF)
    assert isinstance(stream, Stream) and stream.content_type == f"{PROTOBUF};stream=watch"
    chunk = await anext(stream.chunks)  # type: ignore[call-overload]
    (length,) = struct.unpack(">I", chunk[:4])
    assert len(chunk) >= length + 4 and b"ADDED" in chunk
    await stream.chunks.aclose()  # type: ignore[attr-defined]


async def test_metadata_alone_in_protobuf(api: Api) -> None:
    """As Go's metadata client asks: protobuf first, JSON when that cannot be had. Custom resources have no message of
    their own, but their metadata has."""

    def accept(kind: str) -> str:
        return ",".join(f"{media};as={kind};g=meta.k8s.io;v=v1" for media in (PROTOBUF, "application/json"))

    await api.post(CMS, cm("pm", data={"k": "v"}))
    one = await api.raw("GET", f"{CMS}/pm", accept=accept("PartialObjectMetadata"))
    decoded = protobuf.decode(one.joined())
    assert (one.content_type, decoded["kind"], decoded["apiVersion"]) == (
        PROTOBUF,
        "PartialObjectMetadata",
        "meta.k8s.io/v1",
    )
    assert decoded["metadata"]["name"] == "pm" and "data" not in decoded
    listed = protobuf.decode((await api.raw("GET", CMS, accept=accept("PartialObjectMetadataList"))).joined())
    assert (listed["kind"], "pm" in [each["metadata"]["name"] for each in listed["items"]]) == (
        "PartialObjectMetadataList",
        True,
    )
    query = "watch=true&resourceVersion=0&fieldSelector=metadata.name%3Dpm"
    stream = await api.raw("GET", f"{CMS}?{query}", accept=accept("PartialObjectMetadata"))
    chunk = await anext(stream.chunks)
    envelope = chunk.index(protobuf.MAGIC)
    (length,) = struct.unpack(">I", chunk[:4])
    assert protobuf.decode(chunk[envelope : length + 4])["kind"] == "PartialObjectMetadata"
    await stream.chunks.aclose()
    tables = f"{PROTOBUF};as=Table;g=meta.k8s.io;v=v1,{TABLE}"
    assert (await api.raw("GET", CMS, accept=tables)).content_type == "application/json"


async def test_forms_nobody_can_give(api: Api) -> None:
    refused = await api.raw("GET", f"{CMS}?watch=true", accept="application/yaml")
    assert refused.status == 406 and b"application/json;stream=watch" in refused.joined()
    stream = await api.raw("GET", f"{CMS}?watch=true", accept="application/yaml, application/json")
    assert isinstance(stream, Stream)
    await stream.chunks.aclose()  # type: ignore[attr-defined]


async def test_answers_for_people_are_indented(api: Api) -> None:
    made = await api.post(CMS, cm("read"))
    for headers, query, pretty in (
        ({"user_agent": "curl/8.0"}, "", True),
        ({"user_agent": "curl/8.0"}, "?pretty=false", False),
        ({"user_agent": "Go-http-client/2.0"}, "", False),
        ({}, "?pretty=true", True),
    ):
        answer = await api.raw("GET", f"{CMS}/read{query}", **headers)
        assert answer.joined().startswith(b'{\n  "' if pretty else b'{"')
        assert orjson.loads(answer.joined()) == made
        assert answer.headers["Cache-Control"] == "no-cache, private"


@pytest.mark.parametrize(
    ("method", "target", "allowed"),
    [
        ("PUT", CMS, "GET, HEAD, POST, DELETE"),
        ("POST", f"{CMS}/x", "GET, HEAD, PUT, PATCH, DELETE"),
        ("DELETE", "/api/v1/namespaces", "GET, HEAD, POST"),
        ("DELETE", "/apis/apps/v1/namespaces/default/deployments/x/status", "GET, HEAD, PUT, PATCH"),
        ("GET", "/api/v1/namespaces/default/pods/x/eviction", "POST"),
        ("GET", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "POST"),
        ("POST", "/version", "GET, HEAD"),
    ],
)
async def test_methods_that_are_not_allowed(api: Api, method: str, target: str, allowed: str) -> None:
    answer = await api.raw(method, target, {} if method != "GET" else None)
    assert isinstance(answer, Response) and answer.status == 405, answer.joined()
    assert answer.headers["Allow"] == allowed
    assert orjson.loads(answer.joined())["reason"] == "MethodNotAllowed"


async def test_keys_that_a_patch_gives_twice(api: Api) -> None:
    await api.post(CMS, cm("d"))
    body = b'{"data":{"k":"1","k":"2"}}'
    kind = "application/merge-patch+json"
    answer = await api.raw("PATCH", f"{CMS}/d", body, content_type=kind)
    assert answer.status == 200 and 'duplicate field \\"data.k\\"' in answer.headers["Warning"]
    strict = await api.raw("PATCH", f"{CMS}/d?fieldValidation=Strict", body, content_type=kind)
    assert strict.status == 422 and b'duplicate field \\"data.k\\"' in strict.joined()


async def test_jobs_leave_their_pods_unless_told_otherwise(api: Api) -> None:
    spec = {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}
    for name in ("stays", "goes"):
        await api.post(JOBS, {"metadata": {"name": name}, "spec": spec})
    answer = await api.raw("DELETE", f"{JOBS}/stays")
    assert "child pods are preserved by default when jobs are deleted" in answer.headers["Warning"]
    assert orjson.loads(answer.joined())["metadata"]["finalizers"] == ["orphan"]
    answer = await api.raw("DELETE", f"{JOBS}/goes?propagationPolicy=Background")
    assert "Warning" not in answer.headers
    assert orjson.loads(answer.joined())["status"] == "Success"
