"""Input nobody should send: never a 5xx, always a Status, and the code Kubernetes answers.

Two answers of Kubernetes are 504 and 503 by design and are asserted as such: a resourceVersion that has not happened
yet (clients know its cause and try again), and a proxied service without endpoints.
"""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from tests.support.kubectl import Kubectl

from .conftest import Wire

MAPS = "/api/v1/namespaces/default/configmaps"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
JSON_PATCH = {"Content-Type": "application/json-patch+json"}
MERGE = {"Content-Type": "application/merge-patch+json"}
APPLY = {"Content-Type": "application/apply-patch+yaml"}
STRATEGIC = {"Content-Type": "application/strategic-merge-patch+json"}
YAML = {"Content-Type": "application/yaml"}
PROTOBUF = {"Content-Type": "application/vnd.kubernetes.protobuf"}

POD_SPEC: dict[str, Any] = {"containers": [{"name": "c", "image": "i"}]}
DEPLOYMENT: dict[str, Any] = {
    "metadata": {"name": "victim"},
    "spec": {
        "replicas": 1,
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": POD_SPEC},
    },
}


@pytest.fixture(scope="module")
def victim(wire: Wire) -> str:
    """A deployment without replicas' worries and a config map, to be attacked."""
    wire.send("POST", DEPLOYMENTS, DEPLOYMENT).must(201)
    wire.send("POST", MAPS, {"metadata": {"name": "victim"}, "data": {"a": "b"}}).must(201)
    return f"{DEPLOYMENTS}/victim"


BODIES: dict[str, tuple[bytes, int]] = {
    "malformed": (b'{"a":', 400),
    "empty": (b"", 400),
    "array": (b"[]", 400),
    "null": (b"null", 422),
    "text": (b'"x"', 400),
    "number": (b"1", 400),
    "nul bytes": (b"\0\0", 400),
    "not utf-8": (b'{"metadata":{"name":"\xff"}}', 400),
    "half a surrogate": (b'{"metadata":{"name":"x"},"data":{"a":"\\ud800"}}', 400),
    "beyond int64": (b'{"metadata":{"name":"x","generation":99999999999999999999999}}', 400),
    "beyond double": (b'{"metadata":{"name":"x","generation":1e400}}', 400),
    "not a number": (b'{"metadata":{"name":"x","generation":NaN}}', 400),
    "900 objects deep": (b'{"metadata":{"name":"x"},"data":' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"}", 400),
    "10 000 objects deep": (b'{"a":' * 10000 + b"1" + b"}" * 10000, 400),
    "10 000 arrays deep": (b'{"metadata":{"name":"x"},"data":{"a":' + b"[" * 10000 + b"]" * 10000 + b"}}", 400),
    "metadata is text": (b'{"metadata":"x"}', 400),
    "metadata is null": (b'{"metadata":null}', 422),
    "name is a number": (b'{"metadata":{"name":1}}', 400),
    "labels are a list": (b'{"metadata":{"name":"x","labels":[1]}}', 400),
    "value is a number": (b'{"metadata":{"name":"x"},"data":{"a":1}}', 400),
    "other kind": (b'{"kind":"Pod","apiVersion":"v1","metadata":{"name":"x"}}', 400),
    "kind is a number": (b'{"kind":1,"metadata":{"name":"x"}}', 400),
    "other version": (b'{"kind":"ConfigMap","apiVersion":"v9","metadata":{"name":"x"}}', 400),
    "bad time": (b'{"metadata":{"name":"x","creationTimestamp":"yesterday"}}', 400),
    "bad base64": (b'{"metadata":{"name":"x"},"binaryData":{"a":"!!"}}', 400),
    "has a version": (b'{"metadata":{"name":"x","resourceVersion":"5"}}', 400),
    "other namespace": (b'{"metadata":{"name":"x","namespace":"other"}}', 400),
    "name too long": (b'{"metadata":{"name":"' + b"a" * 300 + b'"}}', 422),
    "name with a slash": (b'{"metadata":{"name":"a/b"}}', 422),
    "name with nul": (b'{"metadata":{"name":"a\\u0000b"}}', 422),
    "data too large": (b'{"metadata":{"name":"x"},"data":{"a":"' + b"a" * 2_000_000 + b'"}}', 422),
    "over the limit": (b'{"metadata":{"name":"x"},"data":{"a":"' + b"a" * 4_000_000 + b'"}}', 413),
}  # fmt: skip


@pytest.mark.parametrize("case", BODIES)
def test_bad_json_bodies(wire: Wire, case: str) -> None:
    body, code = BODIES[case]
    wire.send("POST", f"{MAPS}?dryRun=All", body).must(code)


_BOMB = "\n".join(
    [f"a0: &a0 [{', '.join('x' * 9)}]"]
    + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
).encode()

YAMLS: dict[str, bytes] = {
    "malformed": b"a: [",
    "bomb of aliases": _BOMB,
    "contains itself": b"a: &a [*a]",
    "unknown alias": b"a: *b",
    "python object": b'!!python/object/apply:os.system ["id"]',
    "two documents": b"a: 1\n---\nb: 2\n",
    "10 000 deep": b"a: " + b"[" * 10000 + b"]" * 10000,
    "tab": b"\ta: 1",
    "control character": b"a: \x01",
    "binary": b"metadata: {name: y}\ndata: {a: !!binary aGk=}",
    "set": b"metadata: {name: y}\ndata: !!set {a}",
}


@pytest.mark.parametrize("case", YAMLS)
def test_bad_yaml_bodies(wire: Wire, case: str) -> None:
    wire.send("POST", f"{MAPS}?dryRun=All", YAMLS[case], YAML).must(400)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"abc",
        b"k8s\0",
        b"k8s\0\x0a\xff\xff",
        b"k8s\0" + bytes(range(256)),
        b"k8s\0" + b"\xff" * 40,
        b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x7f" + b"\x0a\x7e" * 60,
        b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x04\x0a\x02\x0a\xff",
    ],
)
def test_bad_protobuf_bodies(wire: Wire, body: bytes) -> None:
    wire.send("POST", f"{MAPS}?dryRun=All", body, PROTOBUF).must(400, "(must be of type ConfigMap)")


def test_an_object_too_large_for_the_store(wire: Wire) -> None:
    big = json.loads(json.dumps(DEPLOYMENT))
    big["metadata"]["name"] = "big"
    big["spec"]["template"]["spec"]["containers"][0]["args"] = ["x" * 2_000_000]
    wire.send("POST", DEPLOYMENTS, big).must(413)


@pytest.mark.parametrize("media", ["text/plain", "application/xml", "garbage", "application/cbor", "a, b"])
def test_content_types_that_are_not_spoken(wire: Wire, media: str) -> None:
    wire.send("POST", MAPS, b"{}", {"Content-Type": media}).must(415, "application/json")


@pytest.mark.parametrize(
    "accept",
    ["text/html", "*/*;q=0", ";;;,,", "application/json;as=Foo;g=meta.k8s.io;v=v1",
     "application/json;as=Table;g=meta.k8s.io;v=v9"],
)  # fmt: skip
def test_answers_nobody_can_give(wire: Wire, accept: str) -> None:
    wire.send("GET", MAPS, None, {"Accept": accept}).must(406, "application/json")


def test_repeated_keys_are_said(wire: Wire) -> None:
    body = b'{"metadata":{"name":"dup"},"data":{"a":"1","a":"2"}}'
    answer = wire.send("POST", f"{MAPS}?dryRun=All", body)
    assert answer.must(201)["data"] == {"a": "2"}
    assert 'duplicate field \\"data.a\\"' in answer.headers["Warning"]
    strict = f"{MAPS}?dryRun=All&fieldValidation=Strict"
    wire.send("POST", strict, body).must(400, 'strict decoding error: duplicate field "data.a"')
    yaml = b'metadata: {name: dup}\ndata:\n  a: "1"\n  a: "2"\n'
    wire.send("POST", strict, yaml, YAML).must(400, 'line 4: key "a" already set in map')
    assert "Warning" not in wire.send("POST", f"{MAPS}?dryRun=All&fieldValidation=Ignore", body).headers


QUERIES: dict[str, tuple[int, str]] = {
    "labelSelector=a%20in": (400, "labelSelector"),
    "labelSelector=%3D%3D": (400, "labelSelector"),
    "labelSelector=a%20in%20(": (400, "labelSelector"),
    "labelSelector=%00": (400, "labelSelector"),
    "labelSelector=%ff": (400, "labelSelector"),
    "labelSelector=a,,b": (400, "labelSelector"),
    "labelSelector=a%3D" + "b" * 70: (400, "labelSelector"),
    "fieldSelector=foo%3Dbar": (400, '"foo" is not a known field selector'),
    "fieldSelector=metadata.name": (400, "fieldSelector"),
    "fieldSelector=a%3D%5C": (400, "fieldSelector"),
    "continue=abc": (400, "continue"),
    "continue=%ff": (400, "continue"),
    "continue=" + "A" * 5000: (400, "continue"),
    "continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6LTUsInN0YXJ0IjoiYSJ9": (400, "continue"),
    "resourceVersion=abc": (400, "resourceVersion"),
    "resourceVersion=-1": (400, "resourceVersion"),
    "resourceVersion=%C2%B2": (400, "resourceVersion"),  # a superscript is a digit to some
    "resourceVersion=99999999999999999999999": (400, "resourceVersion"),
    "resourceVersionMatch=Foo": (422, "resourceVersionMatch"),
    "resourceVersionMatch=Exact": (422, "resourceVersionMatch"),
    "limit=abc": (400, "limit"),
    "limit=1e3": (400, "limit"),
    "limit=99999999999999999999999999": (400, "limit"),
    "timeoutSeconds=abc": (400, "timeoutSeconds"),
    "timeoutSeconds=99999999999999999999": (400, "timeoutSeconds"),
    "sendInitialEvents=true": (422, "sendInitialEvents"),
    "includeObject=Foo": (400, "includeObject"),
    "watch=1&resourceVersion=abc": (400, "resourceVersion"),
    "watch=1&resourceVersionMatch=Exact": (422, "resourceVersionMatch"),
    "watch=1&timeoutSeconds=abc": (400, "timeoutSeconds"),
    "watch=1&sendInitialEvents=true": (422, "sendInitialEvents"),
    "watch=1&labelSelector=(": (400, "labelSelector"),
}


@pytest.mark.parametrize("query", QUERIES)
def test_bad_parameters_are_named(wire: Wire, query: str) -> None:
    code, word = QUERIES[query]
    wire.send("GET", f"{MAPS}?{query}").must(code, word)


@pytest.mark.parametrize("query", ["%=%", "&&&=", "a=b;c=d", "pretty=zz", "dryRun=foo"])
def test_parameters_that_mean_nothing_here(wire: Wire, query: str) -> None:
    wire.send("GET", f"{MAPS}?{query}").must(200)


def test_a_version_that_has_not_happened(wire: Wire) -> None:
    answer = wire.send("GET", f"{MAPS}?resourceVersion=9000000000000000000")
    assert answer.status == 504
    causes = answer.json["details"]["causes"]
    assert causes == [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]


@pytest.mark.parametrize(
    "path",
    ["%2F", "..", "%2e%2e", "%00", "%", "%zz", "%ff", "a%2Fb", "a" * 5000, "%E2%80%AE", "x/foo", "x/status"],
)
def test_odd_names_in_paths(wire: Wire, path: str) -> None:
    for method in ("GET", "DELETE", "PUT", "PATCH"):
        body = {"metadata": {"name": "x"}} if method in ("PUT", "PATCH") else None
        headers = MERGE if method == "PATCH" else None
        answer = wire.send(method, f"{MAPS}/{path}", body, headers)
        answer.check()
        if method == "GET" and path != "%2F":
            assert answer.status == 404


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "PROPFIND", "FOO", "get", "CONNECT", "LOCK"])
def test_unknown_verbs(wire: Wire, method: str) -> None:
    for path in (
        MAPS,
        f"{MAPS}/x",
        "/",
        "/version",
        "/apis/apps/v1",
        "/api/v1/namespaces/default/pods/x/exec",
    ):
        answer = wire.send(method, path)
        answer.check()
        assert answer.status in (400, 404, 405)


def test_verbs_in_the_wrong_place(wire: Wire) -> None:
    for method, path in [
        ("PUT", MAPS), ("PATCH", MAPS), ("PUT", "/api/v1/pods"), ("POST", "/api/v1/pods"),
        ("GET", "/apis/authorization.k8s.io/v1/subjectaccessreviews"),
        ("GET", "/api/v1/namespaces/default/bindings"),
        ("DELETE", "/api/v1/namespaces/default/pods/x/exec"), ("POST", "/version"),
    ]:  # fmt: skip
        wire.send(method, path, None, MERGE if method == "PATCH" else None).must(405)


REJECTED = "the server rejected our request due to an error in our request"
PATCHES: list[tuple[dict[str, str], Any, int, str]] = [
    (JSON_PATCH, {}, 400, "error decoding patch: json: cannot unmarshal object into Go value"),
    (JSON_PATCH, [1], 400, "cannot unmarshal number"),
    (JSON_PATCH, [{}], 422, REJECTED),
    (JSON_PATCH, [{"op": "foo", "path": "/a"}], 422, REJECTED),
    (JSON_PATCH, [{"op": "test", "path": "/spec/replicas", "value": 9}], 422, REJECTED),
    (JSON_PATCH, [{"op": "test", "path": "/nope", "value": 1}], 422, REJECTED),
    (JSON_PATCH, [{"op": "remove", "path": "/spec/nope"}], 422, REJECTED),
    (JSON_PATCH, [{"op": "add", "path": "/spec/a/b/c", "value": 1}], 422, REJECTED),
    (JSON_PATCH, [{"op": "add", "path": "/spec/template/spec/containers/99", "value": {}}], 422, REJECTED),
    (JSON_PATCH, [{"op": "move", "from": "/spec", "path": "/spec/x"}], 422, REJECTED),
    (JSON_PATCH, [{"op": "remove", "path": "/metadata"}], 400, "name must be provided"),
    (JSON_PATCH, [{"op": "replace", "path": "/metadata", "value": "x"}], 422, "metadata"),
    (JSON_PATCH, [{"op": "replace", "path": "/metadata/name", "value": "x"}], 400, "name"),
    (JSON_PATCH, [{"op": "replace", "path": "/metadata/uid", "value": "x"}], 422, "field is immutable"),
    (JSON_PATCH, [{"op": "replace", "path": "/metadata/resourceVersion", "value": "1"}], 409, "modified"),
    (JSON_PATCH, [{"op": "replace", "path": "/kind", "value": "Pod"}], 422, 'no kind "Pod" is registered for version "apps/v1"'),
    (JSON_PATCH, [{"op": "replace", "path": "/spec/replicas", "value": 2**70}], 422, "int32"),
    (JSON_PATCH, [{"op": "replace", "path": "/spec/replicas", "value": 1.5}], 422, "int32"),
    (JSON_PATCH, [{"op": "remove", "path": "/spec"}], 422, "spec.selector"),
    (JSON_PATCH, [{"op": "test", "path": "/kind", "value": "Deployment"}] * 10001, 413, "10000"),
    (MERGE, [], 400, "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}"),
    (MERGE, {"metadata": None}, 400, "name must be provided"),
    (MERGE, {"metadata": {"namespace": "y"}}, 400, "does not match the namespace sent on the request"),
    (MERGE, {"metadata": {"name": "y"}}, 400, "name"),
    (MERGE, {"spec": 1}, 422, "spec"),
    (MERGE, {"spec": {"template": {"spec": {"containers": [1]}}}}, 422, "containers"),
    (MERGE, {"apiVersion": "v2"}, 422, 'no kind "Deployment" is registered for version "v2"'),
    (MERGE, {"apiVersion": "v1", "kind": "Pod"}, 422, "converting (v1.Pod) to (apps.Deployment): unknown conversion"),
    (MERGE, {"kind": 7}, 422, "cannot unmarshal number into Go struct field .kind of type string"),
    (MERGE, b'{"metadata":{"annotations":' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"}}", 400, ""),
    (MERGE, b"{", 400, "error decoding patch: unexpected end of JSON input"),
    (MERGE, b"", 400, "error decoding patch: unexpected end of JSON input"),
    (STRATEGIC, [], 400, "json: cannot unmarshal array into Go value of type map[string]interface {}"),
    (STRATEGIC, b"{x", 400, "invalid character 'x' looking for beginning of object key string"),
    (STRATEGIC, {"$patch": "foo"}, 400, "foo"),
    (STRATEGIC, {"$patch": "delete"}, 400, "name must be provided"),
    (STRATEGIC, {"spec": {"$retainKeys": 1}}, 400, "retainKeys"),
    (STRATEGIC, {"spec": {"template": {"spec": {"$setElementOrder/containers": 1}}}}, 400, "invalid patch format of setElementOrder list"),
    (STRATEGIC, {"spec": {"template": {"spec": {"containers": [{"image": "x"}]}}}}, 400, "merge key: name"),
    (STRATEGIC, {"metadata": {"$deleteFromPrimitiveList/finalizers": "x"}}, 400, "invalid patch format of primitive list"),
    ({"Content-Type": "application/json"}, {}, 415, "415: Unsupported Media Type"),
    (APPLY, {}, 422, "fieldManager: Required value: is required for apply patch"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(PATCHES)))
def test_bad_patches(wire: Wire, victim: str, number: int) -> None:
    headers, patch, code, word = PATCHES[number]
    wire.send("PATCH", f"{victim}?dryRun=All", patch, headers).must(code, word)


def test_a_patch_that_does_not_fit_says_why(wire: Wire, victim: str, kubectl: Kubectl) -> None:
    """The Status is Kubernetes', word for word; what is wrong with the patch stands in a warning."""
    told = wire.send("PATCH", victim, [{"op": "test", "path": "/spec/replicas", "value": 9}], JSON_PATCH)
    assert told.must(422) == {
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": REJECTED,
        "reason": "Invalid", "details": {}, "code": 422,
    }  # fmt: skip
    assert told.headers["Warning"] == '299 - "testing value /spec/replicas failed: test failed"'
    patch = '[{"op":"remove","path":"/spec/a/b"}]'
    refused = kubectl.within("default").run("patch", "deployment", "victim", "--type=json", f"-p={patch}")
    assert refused.stderr.splitlines() == [
        'Warning: remove operation does not apply: doc is missing path: "/spec/a/b": missing value',
        f"The request is invalid: {REJECTED}",
    ]


SCALES: list[tuple[Any, int]] = [
    ({"spec": 7}, 400),
    ({"spec": {"replicas": "x"}}, 400),
    ({"spec": {"replicas": 2**40}}, 400),
    ({"spec": {"replicas": 2**80}}, 400),
    ({"spec": {"replicas": -5}}, 422),
    ({"metadata": [], "spec": {"replicas": 1}}, 400),
    ({"metadata": {"name": "zz"}, "spec": {"replicas": 1}}, 400),
    ({"metadata": {"name": "victim", "resourceVersion": "1"}, "spec": {"replicas": 1}}, 409),
    ({"kind": "Pod", "spec": {"replicas": 1}}, 400),
]


@pytest.mark.parametrize("number", range(len(SCALES)))
def test_bad_scales(wire: Wire, victim: str, number: int) -> None:
    body, code = SCALES[number]
    wire.send("PUT", f"{victim}/scale?dryRun=All", body).must(code)
    if number < 5:
        # Of what a patch comes to, Kubernetes says that the patch is invalid.
        wire.send("PATCH", f"{victim}/scale?dryRun=All", body, MERGE).must(422)


def test_bad_replacements(wire: Wire, victim: str) -> None:
    target = f"{MAPS}/victim?dryRun=All"
    wire.send("PUT", target, {"metadata": {"name": "other"}}).must(400, "does not match the name on the URL")
    wire.send("PUT", target, {"data": {}}).must(400, "name must be provided")
    wire.send("PUT", target, {"metadata": {"name": "victim", "uid": "x"}}).must(409, "UID")
    for version in ("1", "x", "9" * 40):
        body = {"metadata": {"name": "victim", "resourceVersion": version}}
        wire.send("PUT", target, body).must(409, "modified")
    wire.send("PUT", f"{MAPS}/absent", {"metadata": {"name": "absent"}}).must(404)


DELETES: list[tuple[Any, int]] = [
    (b"{", 400),
    (b"[]", 400),
    ({"kind": "Pod"}, 400),
    ({"gracePeriodSeconds": "x"}, 400),
    ({"gracePeriodSeconds": 2**70}, 400),
    ({"gracePeriodSeconds": 2**62}, 400),
    ({"gracePeriodSeconds": 1.5}, 400),
    ({"propagationPolicy": "Foo"}, 422),
    ({"propagationPolicy": 5}, 400),
    ({"orphanDependents": "x"}, 400),
    ({"orphanDependents": True, "propagationPolicy": "Orphan"}, 422),
    ({"preconditions": 1}, 400),
    ({"preconditions": {"uid": 5}}, 400),
    ({"preconditions": {"uid": "x"}}, 409),
    ({"preconditions": {"resourceVersion": "1"}}, 409),
    ({"dryRun": ["x"]}, 422),
    ({"dryRun": "All"}, 400),
]


@pytest.mark.parametrize("number", range(len(DELETES)))
def test_bad_delete_options(wire: Wire, victim: str, number: int) -> None:
    body, code = DELETES[number]
    wire.send("DELETE", f"{MAPS}/victim?dryRun=All", body).must(code)


@pytest.mark.parametrize(
    "query", ["gracePeriodSeconds=x", "gracePeriodSeconds=" + "9" * 30, "propagationPolicy=x", "dryRun=x"]
)
def test_bad_delete_parameters(wire: Wire, victim: str, query: str) -> None:
    answer = wire.send("DELETE", f"{MAPS}/victim?{query}")
    answer.check()
    assert answer.status in (400, 422)
    assert query.partition("=")[0] in answer.message


HOST = b"Host: x\r\n"
POST = b"POST /api/v1/namespaces HTTP/1.1\r\n" + HOST
RAW: dict[str, tuple[bytes, bytes]] = {
    "no HTTP at all": (b"\x00\x01\x02\r\n\r\n", b"400"),
    "HTTP/2 by prior knowledge": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"400"),
    "HTTP/3.0": (b"GET /api HTTP/3.0\r\n" + HOST + b"\r\n", b"400"),
    "no host": (b"GET /version HTTP/1.1\r\n\r\n", b"400"),
    "target without a slash": (b"GET ?x HTTP/1.1\r\n" + HOST + b"\r\n", b"400"),
    "huge target": (b"GET /" + b"a" * 1_100_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", b"431"),
    "huge header": (b"GET /version HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 70000 + b"\r\n\r\n", b"431"),
    "20 000 headers": (
        b"GET /version HTTP/1.1\r\n" + HOST + b"".join(b"X-%d: a\r\n" % n for n in range(20000)) + b"\r\n",
        b"431",
    ),
    "header without colon": (b"GET /version HTTP/1.1\r\n" + HOST + b"foo\r\n\r\n", b"400"),
    "nul in a header": (b"GET /version HTTP/1.1\r\n" + HOST + b"foo: a\0b\r\n\r\n", b"400"),
    "negative length": (POST + b"Content-Length: -1\r\n\r\n", b"400"),
    "length of no number": (POST + b"Content-Length: abc\r\n\r\n", b"400"),
    "length beyond 64 bits": (POST + b"Content-Length: " + b"9" * 26 + b"\r\n\r\n", b"400"),
    "announced too large": (POST + b"Content-Length: 99999999999\r\n\r\n", b"413"),
    "two lengths": (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
    "bad chunk": (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n", b"400"),
    "unknown encoding of the transfer": (POST + b"Transfer-Encoding: foo\r\n\r\n{}", b"400"),
    "too large in chunks": (
        POST + b"Transfer-Encoding: chunked\r\n\r\n" + (b"10000\r\n" + b"a" * 65536 + b"\r\n") * 64 + b"0\r\n\r\n",
        b"413",
    ),
    "not gzip": (POST + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", b"400"),
}  # fmt: skip


@pytest.mark.parametrize("case", RAW)
def test_raw_bytes(wire: Wire, case: str) -> None:
    data, code = RAW[case]
    got = wire.bytes(data)
    head, _, body = got.partition(b"\r\n\r\n")
    assert head.split(b" ")[1] == code, got[:600]
    status = json.loads(body)
    assert (status["kind"], status["code"]) == ("Status", int(code))


def test_a_gzip_bomb(wire: Wire) -> None:
    packed = gzip.compress(b"a" * 50_000_000)
    head = POST + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    assert wire.bytes(head + packed).split(b" ")[1] == b"413"


@pytest.mark.parametrize(
    "header",
    [b"Impersonate-User: \xff\xfe", b"Authorization: Bearer \xff.\xfe.a", b"Audit-Id: \xff", b"X-Remote-User: \xff",
     b"Impersonate-Group: a", b"Impersonate-Uid: 5", b"Impersonate-Extra-%zz: a"],
)  # fmt: skip
def test_odd_identities(wire: Wire, header: bytes) -> None:
    path = b"/apis/authentication.k8s.io/v1/selfsubjectreviews"
    body = b"{}"
    request = b"POST %b HTTP/1.1\r\n%b%b\r\nContent-Length: %d\r\n\r\n%b" % (
        path, HOST, header, len(body), body,
    )  # fmt: skip
    got = wire.bytes(request)
    assert got.split(b" ")[1][:1] in (b"2", b"4"), got[:1000]


def test_the_server_is_well_after_all_this(wire: Wire) -> None:
    assert wire.send("GET", "/readyz").body == b"ok"
    assert "Traceback" not in wire.api.log("apiserver")
